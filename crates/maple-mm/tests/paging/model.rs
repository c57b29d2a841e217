//! A few address spaces over one arena, beside what a plain map says is in them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;

use crate::support::{Memory, PAGE, Tables, USER};
use crate::tlb::Tlb;

use maple_mm::paging::{
    Arch, Attributes, Content, CopyRange, Cow, Frame, FrameSize, LeafFlags, MapError, MoveRange,
    NewPage, PageKind, PageTables, PagingError, PhysAddr, PhysMemory, Protection, Sharing,
    TableRange,
};

/// The first and the last word of a page.
pub(crate) type Words = [u64; 2];

pub(crate) const OFFSETS: [u64; 2] = [0, PAGE - 8];
pub(crate) const SPACES: usize = 4;
pub(crate) const POOL: usize = 3;

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Own(Words),
    /// A page of the pool of shared memory.
    Shmem(usize),
    /// A page of a file, mapped privately.
    File(usize),
    Zero,
}

/// What may be done with a page, as its mapping says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) value: Value,
    pub(crate) rights: LeafFlags,
    /// A part of an explicitly huge page.
    pub(crate) is_explicit: bool,
}

/// What to map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Anon(u64),
    Shmem(usize),
    File(usize),
    Zero,
    Huge(u64),
    Explicit(u64),
}

/// One operation; ranges are whole pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Map(usize, u64, What),
    Write(usize, u64, u64),
    Protect(usize, Range<u64>, LeafFlags),
    Zap(usize, Range<u64>),
    Unmap(usize, Range<u64>),
    Move(usize, MoveRange),
    Copy(usize, usize),
    Share(usize, usize),
    Clear(usize),
    Drop(usize),
}

pub(crate) type Pages = BTreeMap<u64, Page>;

pub(crate) struct Space<'m, A: Arch> {
    pub(crate) tables: Tables<'m, A>,
    pub(crate) pages: Pages,
    pub(crate) tlb: Tlb,
}

/// The pages that are mapped by who has them besides: a file's, and shared memory.
pub(crate) struct Pool {
    frames: Vec<Frame>,
    pub(crate) words: Vec<Cell<Words>>,
}

impl Pool {
    fn new(memory: &Memory, first: u64) -> Self {
        let words = (0..POOL as u64).map(|index| Cell::new([first + index; 2]));
        let frames = (0..POOL as u64)
            .map(|index| crate::support::frame(memory, FrameSize::SMALL, first + index));
        Self {
            frames: frames.collect(),
            words: words.collect(),
        }
    }

    pub(crate) fn holds(&self, addr: PhysAddr) -> bool {
        self.frames.iter().any(|frame| frame.addr() == addr)
    }
}

pub(crate) struct World<'m, A: Arch> {
    memory: &'m Memory,
    pub(crate) spaces: [Option<Space<'m, A>>; SPACES],
    pub(crate) shmem: Pool,
    pub(crate) file: Pool,
}

impl<'m, A: Arch> World<'m, A> {
    pub(crate) fn new(memory: &'m Memory) -> Self {
        Self {
            memory,
            spaces: [const { None }; SPACES],
            shmem: Pool::new(memory, 0x5_0000),
            file: Pool::new(memory, 0xf_0000),
        }
    }

    /// Does `op` on both sides. On error the model has not changed, and memory is to hold what it
    /// says.
    pub(crate) fn apply(&mut self, op: &Op) -> Result<(), PagingError> {
        match *op {
            Op::Map(space, addr, what) => self.map(space, addr, what),
            Op::Write(space, addr, mark) => self.write(space, addr, mark),
            Op::Protect(space, ref range, rights) => self.protect(space, range, rights),
            Op::Zap(space, ref range) => self.zap(space, range, Tablewise::Keep),
            Op::Unmap(space, ref range) => self.zap(space, range, Tablewise::Free),
            Op::Move(space, range) => self.shift(space, range),
            Op::Copy(from, to) => self.fork(from, to, Self::copy),
            Op::Share(from, to) => self.fork(from, to, Self::share),
            Op::Clear(space) => {
                let space = self.space(space)?;
                let Space { tables, pages, tlb } = space;
                let mut gather = tables.gather(tlb.clone());
                tables.clear(&mut gather);
                assert_eq!(tables.pgtables_bytes(), 0);
                pages.clear();
                Ok(())
            }
            Op::Drop(space) => {
                self.spaces[space] = None;
                Ok(())
            }
        }
    }

    /// The space with a number; it is made if it is not there.
    fn space(&mut self, number: usize) -> Result<&mut Space<'m, A>, PagingError> {
        let slot = &mut self.spaces[number];
        if slot.is_none() {
            *slot = Some(Space {
                tables: PageTables::new(self.memory)?,
                pages: Pages::new(),
                tlb: Tlb::default(),
            });
        }
        Ok(slot.as_mut().expect("it was just made"))
    }

    fn map(&mut self, number: usize, addr: u64, what: What) -> Result<(), PagingError> {
        let memory = self.memory;
        let (frame, kind, extra) = self.frame_for(what)?;
        let is_huge = matches!(what, What::Huge(_) | What::Explicit(_));
        let span = A::span(usize::from(is_huge));
        let space = match self.space(number) {
            Ok(space) => space,
            Err(error) => {
                if let Some(frame) = frame {
                    memory.release(frame);
                }
                return Err(error);
            }
        };
        let mut gather = space.tables.gather(space.tlb.clone());
        let flags = match kind {
            PageKind::File | PageKind::Special => USER - LeafFlags::WRITE,
            PageKind::Anon | PageKind::Shmem => USER | extra,
        };
        let attributes = Attributes::new(kind, flags);
        let mapped = match frame {
            None => space.tables.map_zero_page(addr, flags, &mut gather),
            Some(frame) => {
                let page = NewPage { frame, attributes };
                let mapped = space.tables.map(addr, page, &mut gather);
                mapped.map_err(|MapError { kind, frame }| {
                    memory.release(frame);
                    kind
                })
            }
        };
        let addresses = addr..addr + span;
        if mapped != Err(PagingError::OutOfFrames) {
            let is_free = space.pages.range(addresses.clone()).next().is_none();
            assert_eq!(mapped.is_ok(), is_free, "{mapped:?}");
        }
        if mapped.is_ok() {
            let page = |piece| Page {
                value: value_of(what, piece),
                rights: LeafFlags::RIGHTS,
                is_explicit: extra == LeafFlags::EXPLICIT,
            };
            let pages = addresses.step_by(PAGE as usize).zip(0..);
            space
                .pages
                .extend(pages.map(|(addr, piece)| (addr, page(piece))));
        }
        out_of_frames_only(mapped)
    }

    /// A reference to the frame to be mapped, with the contents it is to have.
    fn frame_for(&self, what: What) -> Result<(Option<Frame>, PageKind, LeafFlags), PagingError> {
        let none = LeafFlags::empty();
        let (order, mark, extra) = match what {
            What::Zero => return Ok((None, PageKind::Special, none)),
            What::Shmem(index) => {
                let frame = self.memory.share(&self.shmem.frames[index]);
                return Ok((Some(frame), PageKind::Shmem, none));
            }
            What::File(index) => {
                let frame = self.memory.share(&self.file.frames[index]);
                return Ok((Some(frame), PageKind::File, none));
            }
            What::Anon(mark) => (0, mark, none),
            What::Huge(mark) => (A::INDEX_BITS, mark, none),
            What::Explicit(mark) => (A::INDEX_BITS, mark, LeafFlags::EXPLICIT),
        };
        let size = FrameSize::of_order(order).expect("at most 2 MiB");
        let frame = self.memory.allocate(size, Content::Any)?;
        for piece in 0..size.frames() as u64 {
            let addr = frame.addr().plus(piece * PAGE);
            self.memory
                .fill(addr, FrameSize::SMALL, mark_of(mark, piece));
        }
        Ok((Some(frame), PageKind::Anon, extra))
    }

    /// Writes as a program does: the write faults, is resolved if the mapping allows it, goes on.
    fn write(&mut self, number: usize, addr: u64, mark: u64) -> Result<(), PagingError> {
        let which = usize::from(mark % 2 == 1);
        let page = match &self.spaces[number] {
            Some(space) => space.pages.get(&addr).copied(),
            None => return Ok(()),
        };
        let Space { tables, tlb, .. } = self.space(number)?;
        let bytes = mark.to_ne_bytes();
        let at = addr + OFFSETS[which];
        let Some(page) = page.filter(|page| page.rights.contains(LeafFlags::WRITE)) else {
            assert!(
                tables.write(at, &bytes).is_err(),
                "nobody allowed to write at {addr:#x}"
            );
            return Ok(());
        };
        let sharing = match page.value {
            Value::Shmem(_) => Sharing::Shared,
            _ => Sharing::Private,
        };
        tables.write_with(at, &bytes, |tables, fault| {
            let mut gather = tables.gather(tlb.clone());
            tables
                .resolve_write(fault.addr, sharing, &mut gather)
                .map(|_| ())
        })?;
        let file = |index: usize| self.file.words[index].get();
        let mut words = match page.value {
            Value::Own(words) => words,
            Value::Zero => [0; 2],
            Value::File(index) => file(index),
            Value::Shmem(index) => self.shmem.words[index].get(),
        };
        words[which] = mark;
        if let Value::Shmem(index) = page.value {
            self.shmem.words[index].set(words);
            return Ok(());
        }
        let value = Value::Own(words);
        self.space(number)?
            .pages
            .insert(addr, Page { value, ..page });
        Ok(())
    }

    fn protect(
        &mut self,
        number: usize,
        range: &Range<u64>,
        rights: LeafFlags,
    ) -> Result<(), PagingError> {
        let space = self.space(number)?;
        let Space { tables, pages, tlb } = space;
        let mut gather = tables.gather(tlb.clone());
        let protection = Protection { rights, key: None };
        let done = tables.protect(range.clone(), protection, &mut gather);
        if expect_cut::<A>(pages, range, done)? == Cut::Explicit {
            return Ok(());
        }
        for (_, page) in pages.range_mut(range.clone()) {
            page.rights = rights;
        }
        Ok(())
    }

    fn zap(
        &mut self,
        number: usize,
        range: &Range<u64>,
        tablewise: Tablewise,
    ) -> Result<(), PagingError> {
        let space = self.space(number)?;
        let Space { tables, pages, tlb } = space;
        let mut gather = tables.gather(tlb.clone());
        let done = tables.zap(range.clone(), &mut gather);
        if expect_cut::<A>(pages, range, done)? == Cut::Explicit {
            return Ok(());
        }
        pages.retain(|addr, _| !range.contains(addr));
        if tablewise == Tablewise::Free {
            let below = pages.range(..range.start).next_back();
            let above = pages.range(range.end..).next();
            let range = TableRange {
                addresses: range.clone(),
                floor: below.map_or(0, |(addr, _)| addr + PAGE),
                ceiling: above.map_or(0, |(&addr, _)| addr),
            };
            tables.free_tables(&range, &mut gather);
        }
        Ok(())
    }

    fn shift(&mut self, number: usize, range: MoveRange) -> Result<(), PagingError> {
        let space = self.space(number)?;
        let Space { tables, pages, tlb } = space;
        let mut gather = tables.gather(tlb.clone());
        let MoveRange { from, to, len } = range;
        let done = tables.move_range(range, &mut gather);
        let is_blocked = from.abs_diff(to) < len || pages.range(to..to + len).next().is_some();
        if is_blocked {
            assert_eq!(done, Err(PagingError::Occupied));
            return Ok(());
        }
        // A move that is not aligned takes explicitly huge pages apart, too.
        let misaligned = (from ^ to) % A::span(1) != 0
            && pages
                .range(from..from + len)
                .any(|(_, page)| page.is_explicit);
        if misaligned && done != Err(PagingError::OutOfFrames) {
            assert_eq!(done, Err(PagingError::Unsplittable));
            return Ok(());
        }
        if expect_cut::<A>(pages, &(from..from + len), done)? == Cut::Explicit {
            return Ok(());
        }
        let moved: Vec<_> = pages
            .range(from..from + len)
            .map(|(&a, &p)| (a, p))
            .collect();
        pages.retain(|addr, _| !(from..from + len).contains(addr));
        pages.extend(
            moved
                .into_iter()
                .map(|(addr, page)| (addr - from + to, page)),
        );
        Ok(())
    }

    fn fork(
        &mut self,
        from: usize,
        to: usize,
        how: impl FnOnce(&mut Space<'m, A>, &mut Tables<'m, A>) -> Result<(), PagingError>,
    ) -> Result<(), PagingError> {
        if from == to || self.spaces[to].is_some() {
            return Ok(());
        }
        let mut child = PageTables::new(self.memory)?;
        let parent = self.space(from)?;
        how(parent, &mut child)?;
        let pages = parent.pages.clone();
        self.spaces[to] = Some(Space {
            tables: child,
            pages,
            tlb: Tlb::default(),
        });
        Ok(())
    }

    /// Copies one run of pages after the other that are handed on in the same way.
    fn copy(parent: &mut Space<'m, A>, child: &mut Tables<'m, A>) -> Result<(), PagingError> {
        let cow = |page: &Page| match page.value {
            Value::Shmem(_) => Cow::Shared,
            _ => Cow::Private,
        };
        let mut runs: Vec<CopyRange> = Vec::new();
        for (&addr, page) in &parent.pages {
            let cow = cow(page);
            match runs.last_mut() {
                Some(run) if run.cow == cow => run.addresses.end = addr + PAGE,
                _ => runs.push(CopyRange {
                    addresses: addr..addr + PAGE,
                    cow,
                }),
            }
        }
        let mut gather = parent.tables.gather(parent.tlb.clone());
        for run in runs {
            let before = (child.resident(), child.pgtables_bytes());
            let copied = parent.tables.copy_range(child, &run, &mut gather);
            if copied.is_err() {
                assert_eq!((child.resident(), child.pgtables_bytes()), before);
            }
            copied?;
        }
        Ok(())
    }

    fn share(parent: &mut Space<'m, A>, child: &mut Tables<'m, A>) -> Result<(), PagingError> {
        let mut gather = parent.tables.gather(parent.tlb.clone());
        parent.tables.share_all(child, &mut gather)
    }

    /// Drops all; nothing may be left.
    pub(crate) fn end(mut self) {
        for number in 0..SPACES {
            if self.spaces[number].is_some() && number % 2 == 0 {
                self.apply(&Op::Clear(number)).expect("it cannot fail");
            }
            self.spaces[number] = None;
            self.check();
        }
        for frame in self
            .shmem
            .frames
            .drain(..)
            .chain(self.file.frames.drain(..))
        {
            self.memory.release(frame);
        }
        assert_eq!(self.memory.in_use(), 0, "frames were leaked");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tablewise {
    Keep,
    Free,
}

/// Whether a range has only a part of an explicitly huge page, which refuses the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Nowhere,
    Explicit,
}

fn expect_cut<A: Arch>(
    pages: &Pages,
    range: &Range<u64>,
    done: Result<(), PagingError>,
) -> Result<Cut, PagingError> {
    let is_cut = [range.start, range.end].into_iter().any(|edge| {
        edge % A::span(1) != 0 && pages.get(&edge).is_some_and(|page| page.is_explicit)
    });
    match done {
        Err(PagingError::OutOfFrames) => Err(PagingError::OutOfFrames),
        _ if is_cut && !range.is_empty() => {
            assert_eq!(done, Err(PagingError::Unsplittable));
            Ok(Cut::Explicit)
        }
        _ => {
            assert_eq!(done, Ok(()));
            Ok(Cut::Nowhere)
        }
    }
}

/// What a piece of a page begins and ends with: huge pages are not the same all over.
const fn mark_of(mark: u64, piece: u64) -> u64 {
    mark + (piece << 32)
}

fn value_of(what: What, piece: u64) -> Value {
    match what {
        What::Anon(mark) | What::Huge(mark) | What::Explicit(mark) => {
            Value::Own([mark_of(mark, piece); 2])
        }
        What::Shmem(index) => Value::Shmem(index),
        What::File(index) => Value::File(index),
        What::Zero => Value::Zero,
    }
}

fn out_of_frames_only(done: Result<(), PagingError>) -> Result<(), PagingError> {
    match done {
        Err(PagingError::OutOfFrames) => done,
        _ => Ok(()),
    }
}
