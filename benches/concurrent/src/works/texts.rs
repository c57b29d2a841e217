//! Maps texts, while somebody maps and unmaps.

use super::mapper::{self, Times, micros};
use super::{Subject, map_all};
use crate::args::Effort;
use crate::crew;
use crate::measure::{longest, median};
use crate::space::{self, Space};
use crate::work::Figure;
use maple_mm::abi::PAGE_SIZE;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Of a mapping.
const LEN: u64 = 4 * PAGE_SIZE;

pub(crate) struct Texts<S> {
    spaces: Vec<S>,
    lines: u64,
    turn: Duration,
}

/// What one thread did.
enum Done {
    /// Microseconds of texts, and of the moments that they are made of.
    Read(Vec<f64>, Vec<f64>),
    Mapped(Times),
}

impl<S: Space> Texts<S> {
    pub(crate) fn new(spaces: usize, effort: &Effort) -> anyhow::Result<Self> {
        let make = |_| {
            let space = S::new(space::memory(64)?)?;
            map_all(&space, effort.lines, LEN)?;
            Ok(space)
        };
        Ok(Self {
            spaces: (0..spaces).map(make).collect::<anyhow::Result<_>>()?,
            lines: effort.lines,
            turn: effort.turn * 10,
        })
    }

    fn read(&self, space: &S, is_over: &AtomicBool) -> Result<Done, String> {
        let (mut texts, mut moments) = (Vec::new(), Vec::new());
        // What a line takes, and more.
        let mut text = String::with_capacity(self.lines as usize * 128);
        // Relaxed: it only says when to stop.
        while texts.is_empty() || !is_over.load(Ordering::Relaxed) {
            let begin = Instant::now();
            let moment = space.maps(&mut text);
            texts.push(micros(begin.elapsed()));
            moments.extend(moment.map(micros));
        }
        let lines = text.lines().count() as u64;
        // The gate has one, and the mapper at times.
        if lines != self.lines + 1 && lines != self.lines + 2 {
            return Err(format!("{lines} lines, not {}", self.lines));
        }
        Ok(Done::Read(texts, moments))
    }
}

impl<S: Space> Subject for Texts<S> {
    fn turn(&mut self, threads: usize) -> Result<Vec<(Figure, f64)>, String> {
        let shares = crew::for_a_while((threads + 1, self.turn), |thread, is_over| {
            let space = &self.spaces[thread % self.spaces.len()];
            if thread == threads {
                return mapper::time(space, is_over).map(Done::Mapped);
            }
            self.read(space, is_over)
        });
        let (mut texts, mut moments, mut figures) = (Vec::new(), Vec::new(), Vec::new());
        for share in shares {
            let seconds = share.seconds();
            match share.done? {
                Done::Read(of_texts, of_moments) => {
                    texts.extend(of_texts);
                    moments.extend(of_moments);
                }
                Done::Mapped(times) => figures.extend(times.figures(seconds)),
            }
        }
        figures.push((Figure::TextTime, median(texts) / 1e3));
        if !moments.is_empty() {
            figures.push((Figure::LongestMoment, longest(&moments)));
            figures.push((Figure::MomentTime, median(moments)));
        }
        Ok(figures)
    }
}
