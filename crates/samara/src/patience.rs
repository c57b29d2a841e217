//! Whether to look for the next stop for a while, or to sleep until it comes.
//!
//! A thread that runs on another processor stops again soon, and waking us from there takes longer
//! than its call; so it pays to look. Where other programs want the processors, too, who looks keeps
//! the thread from running. Nobody tells which is so, and it changes: both ways are tried, and the
//! quicker one is kept until the next trial.

use std::time::{Duration, Instant};

/// How often each way looks before it sleeps.
const LOOKS: [usize; 2] = [0, 100];
/// So many stops are taken together.
const BLOCK: u32 = 512;
/// One block of so many tries the slower way.
const TRIAL: u32 = 8;
/// What takes longer than this from one stop to the next is the program's own affair, or others'.
const LONGEST: Duration = Duration::from_millis(1);

/// How we wait, and how long it took.
#[derive(Debug)]
pub(crate) struct Patience {
    has_others: bool,
    /// Which of the ways is taken in this block.
    way: usize,
    /// How long a block takes in each of them; recent ones count more.
    taken: [Duration; 2],
    blocks: u32,
    /// The stops in this block, how long they took, and the last one.
    stops: u32,
    spent: Duration,
    last: Option<Instant>,
}

impl Patience {
    /// Before the first wait. Nothing is gained by looking where there is one processor.
    pub(crate) fn new() -> Self {
        let processors = std::thread::available_parallelism();
        Self::with_others(processors.is_ok_and(|processors| processors.get() > 1))
    }

    const fn with_others(has_others: bool) -> Self {
        Self {
            has_others,
            way: 0,
            taken: [Duration::ZERO; 2],
            blocks: 0,
            stops: 0,
            spent: Duration::ZERO,
            last: None,
        }
    }

    /// How often to look before the next sleep.
    pub(crate) const fn looks(&self) -> usize {
        LOOKS[self.way]
    }

    /// Takes a stop into account. What we do between two waits counts, too: who looks long has used
    /// up time that is missing then.
    pub(crate) fn note_stop(&mut self) {
        if !self.has_others {
            return;
        }
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.note(now - last);
        }
    }

    fn note(&mut self, since_last: Duration) {
        self.stops += 1;
        self.spent += since_last.min(LONGEST);
        if self.stops < BLOCK {
            return;
        }
        let taken = &mut self.taken[self.way];
        *taken = if taken.is_zero() {
            self.spent
        } else {
            (*taken + self.spent) / 2
        };
        self.blocks += 1;
        // One that was never tried took nothing.
        let quicker = usize::from(self.taken[1] < self.taken[0]);
        let is_trial = self.blocks.is_multiple_of(TRIAL);
        self.way = if is_trial { 1 - quicker } else { quicker };
        (self.stops, self.spent) = (0, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `blocks` blocks look, where it takes so many microseconds to the next stop in each
    /// way.
    fn looking(patience: &mut Patience, blocks: u32, micros: [u64; 2]) -> u32 {
        let mut looking = 0;
        for _ in 0..blocks {
            let way = usize::from(patience.looks() > 0);
            looking += way as u32;
            for _ in 0..BLOCK {
                patience.note(Duration::from_micros(micros[way]));
            }
        }
        looking
    }

    #[test]
    fn the_quicker_way_is_found_again_when_it_changes() {
        let mut patience = Patience::with_others(true);
        assert!(looking(&mut patience, 80, [20, 10]) > 60);
        assert!(looking(&mut patience, 80, [20, 90]) < 20);
        assert!(looking(&mut patience, 80, [20, 10]) > 40);
    }

    #[test]
    fn nobody_looks_where_there_is_one_processor() {
        let mut patience = Patience::with_others(false);
        (0..4 * BLOCK).for_each(|_| patience.note_stop());
        assert_eq!((patience.looks(), patience.blocks), (0, 0));
    }

    #[test]
    fn a_program_that_waits_itself_decides_nothing() {
        let mut patience = Patience::with_others(true);
        assert!(looking(&mut patience, 8, [20, 10]) > 5);
        patience.note(Duration::from_secs(3600));
        assert!(looking(&mut patience, 8, [20, 10]) > 5);
    }
}
