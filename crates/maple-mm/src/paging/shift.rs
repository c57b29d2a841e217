//! Moving pages to other addresses: by table where both sides are aligned, else one by one.

use core::ops::Range;

use super::arch::{Arch, Entry};
use super::company::Company;
use super::error::PagingError;
use super::free::TableRange;
use super::gather::{Gather, TlbFlusher};
use super::install::Liveness;
use super::memory::{FRAME_BYTES, PhysMemory};
use super::path::Place;
use super::tables::{PageTables, region};

/// Where pages are, and where they are to be: `from..from + len` and `to..to + len`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveRange {
    /// The first address now.
    pub from: u64,
    /// The first address then.
    pub to: u64,
    /// How many bytes.
    pub len: u64,
}

impl MoveRange {
    /// What is left behind the first `len` bytes.
    const fn after(self, len: u64) -> Self {
        Self {
            from: self.from + len,
            to: self.to + len,
            len: self.len - len,
        }
    }

    const fn source(&self) -> Range<u64> {
        self.from..self.from + self.len
    }

    const fn target(&self) -> Range<u64> {
        self.to..self.to + self.len
    }
}

/// What to do with the first part of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing is mapped there.
    Skip(u64),
    /// A huge page is there that cannot be moved whole.
    Split,
    /// One entry of this level moves, with all that is below it.
    Entry(usize),
    /// Entries of level 0 move, from one table to one other.
    Run(u64),
}

impl<A: Arch, M: PhysMemory, C: Company<M>> PageTables<A, M, C> {
    /// Moves all pages of a range to one that nothing is mapped in.
    ///
    /// # Complexity
    ///
    /// O(tables) where both addresses are aligned to what a table maps; O(pages) elsewhere.
    ///
    /// # Errors
    ///
    /// [`PagingError::Occupied`] if something is mapped where the pages are to be, or the ranges
    /// overlap; [`PagingError::OutOfFrames`], [`PagingError::Unsplittable`],
    /// [`PagingError::Misaligned`], [`PagingError::OutOfRange`]. Nothing was moved, and no tables
    /// were added.
    pub fn move_range<F: TlbFlusher>(
        &self,
        range: MoveRange,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        self.prepare_move(range, gather)?;
        let mut left = range;
        while left.len > 0 {
            let step = self.next_step(left);
            let len = match step {
                Step::Skip(len) => len,
                Step::Run(len) => {
                    self.move_run(MoveRange { len, ..left });
                    gather.changed(left.from..left.from + len, 0);
                    len
                }
                Step::Entry(level) => {
                    self.move_entry(left, level);
                    gather.tables_changed(region::<A>(left.from, level));
                    A::span(level)
                }
                Step::Split => unreachable!("prepare_move split what had to be"),
            };
            left = left.after(len);
        }
        Ok(())
    }

    /// Does all of [`move_range`](Self::move_range) that can fail: it does not then, unless pages
    /// are mapped or tables shared in between.
    ///
    /// # Errors
    ///
    /// As [`move_range`](Self::move_range).
    pub fn prepare_move<F: TlbFlusher>(
        &self,
        range: MoveRange,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        let MoveRange { from, to, len } = range;
        if from.checked_add(len).is_none() || to.checked_add(len).is_none() {
            return Err(PagingError::OutOfRange);
        }
        Self::check_range(&range.source())?;
        Self::check_range(&range.target())?;
        if from.abs_diff(to) < len || self.leaves(&range.target()).next().is_some() {
            return Err(PagingError::Occupied);
        }
        self.prepare_steps(range, gather).inspect_err(|_| {
            let made = TableRange {
                addresses: range.target(),
                floor: 0,
                ceiling: 0,
            };
            self.free_empty(&made, gather);
        })
    }

    fn prepare_steps<F: TlbFlusher>(
        &self,
        range: MoveRange,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        let mut left = range;
        while left.len > 0 {
            let step = self.next_step(left);
            let (level, len) = match step {
                Step::Skip(len) => {
                    left = left.after(len);
                    continue;
                }
                Step::Split => {
                    let place = self.own(left.from, gather, |_| true)?;
                    self.split(place, left.from, gather)?;
                    continue;
                }
                Step::Run(len) => (0, len),
                Step::Entry(level) => (level, A::span(level)),
            };
            self.own(left.from, gather, |at| at > level)?;
            let target = self.own_or_create((left.to, Liveness::SURE), level, gather)?;
            if target.entry::<A>() != Entry::Empty && level > 0 {
                self.free_below((region::<A>(left.to, level), level), gather)?;
            }
            left = left.after(len);
        }
        Ok(())
    }

    /// Frees the tables below the entry of `level` that maps all of `addresses`; they are empty.
    fn free_below<F: TlbFlusher>(
        &self,
        (addresses, level): (Range<u64>, usize),
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        self.own_all(&addresses, gather)?;
        let tables = TableRange {
            floor: addresses.start,
            ceiling: addresses.end,
            addresses,
        };
        let addr = tables.addresses.start;
        self.free_empty(&tables, gather);
        match self.find(addr, level).entry::<A>() {
            Entry::Empty => Ok(()),
            // It is empty, but there is no memory to note it for who may be on the way to it.
            _ => Err(PagingError::OutOfFrames),
        }
    }

    /// What to do next. The same before and after [`prepare_steps`](Self::prepare_steps), which
    /// splits huge pages, makes tables for the target and copies shared ones: this depends on the
    /// addresses, and on where in the source pages are.
    fn next_step(&self, left: MoveRange) -> Step {
        let level = Self::move_level(left);
        let source = self.find(left.from, level);
        let rest = (region::<A>(left.from, source.level).end - left.from).min(left.len);
        match source.entry::<A>() {
            Entry::Empty if source.level > 0 => Step::Skip(rest),
            Entry::Leaf(_) if source.level > level => Step::Split,
            _ if level > 0 => Step::Entry(level),
            _ => self.run(left, source),
        }
    }

    /// The highest level at which the first part of a move is one entry.
    fn move_level(left: MoveRange) -> usize {
        let fits = |level: &usize| {
            let span = A::span(*level);
            left.len >= span && left.from.is_multiple_of(span) && left.to.is_multiple_of(span)
        };
        (1..A::LEVELS - 1).rev().find(fits).unwrap_or(0)
    }

    fn run(&self, left: MoveRange, source: Place<'_>) -> Step {
        let room = |addr: u64| region::<A>(addr, 1).end - addr;
        let len = room(left.from).min(room(left.to)).min(left.len);
        let first = source.index;
        let pages = (len / FRAME_BYTES) as usize;
        let is_empty =
            (first..first + pages).all(|index| source.table.entry::<A>(index, 0) == Entry::Empty);
        if is_empty {
            Step::Skip(len)
        } else {
            Step::Run(len)
        }
    }

    fn move_entry(&self, left: MoveRange, level: usize) {
        let source = self.find(left.from, level);
        let target = self.find(left.to, level);
        self.move_word(source, target);
    }

    fn move_run(&self, run: MoveRange) {
        let source = self.find(run.from, 0);
        let target = self.find(run.to, 0);
        for offset in 0..(run.len / FRAME_BYTES) as usize {
            let later = |place: Place<'_>| place.index + offset;
            self.move_word(
                Place {
                    index: later(source),
                    ..source
                },
                Place {
                    index: later(target),
                    ..target
                },
            );
        }
    }

    /// Moves one entry. The tables are held one after the other: they may be the same.
    fn move_word(&self, source: Place<'_>, target: Place<'_>) {
        debug_assert_eq!(source.level, target.level);
        let entry = self
            .hold(source.table)
            .take::<A>(source.index, source.level);
        if entry != Entry::Empty {
            self.hold(target.table)
                .put::<A>(target.index, target.level, entry);
        }
    }
}
