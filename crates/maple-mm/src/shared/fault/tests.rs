//! Threads that fault, read and write a shared address space beside each other and beside calls.

extern crate std;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use maple_tree::{EpochRcu, GlobalNodes};
use testkit::{SplitMix, fresh_seed};

use crate::abi::*;
use crate::counted::Counted;
use crate::errno::Errno;
use crate::fault::{Access, Fault};
use crate::fork::ForkPlan;
use crate::map::MmapRequest;
use crate::mapped_pages::MappedPages;
use crate::memory::TreeNodes;
use crate::page_side::PageStrategy;
use crate::paging::{Arena, ArenaLayout, Beside, NoTlb, PhysMemory, X86_64};
use crate::shared::SharedAddressSpace;
use crate::space::{AddressSpace, Setup};

#[cfg(not(miri))]
type Lock = parking_lot::RawMutex;
#[cfg(miri)]
type Lock = spin::Mutex<()>;

type Memory = Arc<Arena<Lock>>;
type Side = MappedPages<X86_64<4>, Memory, NoTlb, Beside<EpochRcu>>;
type Shared = SharedAddressSpace<Counted<Side>, EpochRcu, Lock>;

const WRITABLE: u64 = PROT_READ | PROT_WRITE;
const THREADS: u64 = 3;
/// Pages of each thread; they take turns.
const PAGES: u64 = 24;

fn frames(frames: u32) -> Memory {
    Arc::new(Arena::new(ArenaLayout::of_frames(frames)).expect("the host has memory"))
}

fn space(memory: &Memory) -> Shared {
    // Nodes that are kept for later would look like a leak.
    let company = Beside::new(EpochRcu).with_nodes(TreeNodes::new(&GlobalNodes));
    let side = Side::beside(memory.clone(), NoTlb, company).expect("a frame for the root");
    let side = Counted::new(side).expect("memory");
    let space = AddressSpace::with_pages(Setup::default(), side);
    Shared::new(space, EpochRcu).expect("nodes")
}

fn mapped(space: &Shared, pages: u64) -> u64 {
    let request = MmapRequest::anonymous(pages * PAGE_SIZE, WRITABLE);
    space.lock().mmap(request).expect("room")
}

/// The same at `addr`, in the place of what is there.
fn fixed(addr: u64, pages: u64, prot: u64) -> MmapRequest {
    let request = MmapRequest::anonymous(pages * PAGE_SIZE, prot);
    MmapRequest {
        addr,
        flags: request.flags | MAP_FIXED,
        ..request
    }
}

fn with(pages: PageStrategy) -> ForkPlan {
    ForkPlan {
        pages,
        ..ForkPlan::default()
    }
}

fn word(space: &Shared, addr: u64) -> Result<u64, Fault> {
    let mut bytes = [0; 8];
    let read = space.read(addr, &mut bytes);
    read.map(|()| u64::from_ne_bytes(bytes))
        .map_err(|end| end.fault)
}

fn set(space: &Shared, addr: u64, word: u64) -> Result<(), Fault> {
    space
        .write(addr, &word.to_ne_bytes())
        .map_err(|end| end.fault)
}

/// What a thread knows of a page of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    word: u64,
    prot: u64,
}

impl Page {
    const FRESH: Self = Self {
        word: 0,
        prot: WRITABLE,
    };
}

/// A thread that uses and changes its pages, which lie between those of others: mappings split
/// and join all the time.
struct Worker<'s> {
    space: &'s Shared,
    rng: SplitMix,
    start: u64,
    /// Which pages: every [`THREADS`]th from here on.
    first: u64,
    pages: [Page; PAGES as usize],
}

impl Worker<'_> {
    fn addr(&self, index: usize) -> u64 {
        self.start + (index as u64 * THREADS + self.first) * PAGE_SIZE + 8 * self.first
    }

    fn check(&self, space: &Shared, index: usize) {
        let expected = match self.pages[index] {
            Page { prot: 0, .. } => Err(Fault::NotAllowed),
            Page { word, .. } => Ok(word),
        };
        assert_eq!(word(space, self.addr(index)), expected, "page {index}");
    }

    fn step(&mut self, step: u64) {
        let index = self.rng.index(PAGES as usize);
        let (addr, page) = (self.addr(index), self.pages[index]);
        let start = addr & !(PAGE_SIZE - 1);
        let range = start..start + PAGE_SIZE;
        match self.rng.below(16) {
            0..5 => {
                let written = set(self.space, addr, step);
                if page.prot == WRITABLE {
                    assert_eq!(written, Ok(()));
                    self.pages[index].word = step;
                } else {
                    assert_eq!(written, Err(Fault::NotAllowed));
                }
            }
            5..9 => self.check(self.space, index),
            9 => {
                let access = [Access::Read, Access::Write, Access::Execute];
                let access = access[self.rng.index(3)];
                let is_allowed = match access {
                    Access::Read => page.prot != PROT_NONE,
                    Access::Write => page.prot == WRITABLE,
                    Access::Execute => false,
                };
                let expected = is_allowed.then_some(()).ok_or(Fault::NotAllowed);
                assert_eq!(self.space.fault(addr, access), expected);
                let checked = self.space.check_range(range, access);
                assert_eq!(checked.map_err(|refused| refused.fault), expected);
            }
            10..12 => {
                let prot = [PROT_NONE, PROT_READ, WRITABLE, WRITABLE][self.rng.index(4)];
                let changed = self.space.lock().mprotect(start, PAGE_SIZE, prot);
                assert_eq!(changed, Ok(()));
                self.pages[index].prot = prot;
            }
            12 => {
                let advised = self.space.lock().madvise(start, PAGE_SIZE, MADV_DONTNEED);
                assert_eq!(advised, Ok(()));
                self.pages[index].word = 0;
            }
            13 => {
                let request = fixed(start, 1, WRITABLE);
                assert_eq!(self.space.lock().mmap(request), Ok(start));
                self.pages[index] = Page::FRESH;
            }
            14 => {
                assert_eq!(self.space.lock().munmap(start, PAGE_SIZE), Ok(()));
                assert_eq!(word(self.space, addr), Err(Fault::NotMapped));
                assert_eq!(set(self.space, addr, 1), Err(Fault::NotMapped));
                let request = fixed(start, 1, WRITABLE);
                assert_eq!(self.space.lock().mmap(request), Ok(start));
                self.pages[index] = Page::FRESH;
            }
            _ if self.rng.one_in(4) => self.fork(),
            _ => {}
        }
    }

    /// A child has what this thread wrote before, and nothing that it writes after.
    fn fork(&mut self) {
        let strategy = PageStrategy::ALL[self.rng.index(2)];
        let child = self.space.fork_with(with(strategy), || false);
        let child = child.expect("memory");
        for index in 0..PAGES as usize {
            let addr = self.addr(index);
            if self.pages[index].prot == WRITABLE && self.rng.one_in(2) {
                set(self.space, addr, u64::MAX).expect("it may be written");
                self.check(&child, index);
                set(&child, addr, 7).expect("it may be written");
                assert_eq!(word(&child, addr), Ok(7));
                self.pages[index].word = u64::MAX;
            } else {
                self.check(&child, index);
            }
        }
        child.lock().validate().expect("a child is whole");
    }
}

fn is_all_back(memory: &Memory) -> bool {
    space(memory).barrier();
    memory.in_use() == 0
}

#[test]
fn each_thread_finds_what_it_wrote_where_mappings_split_and_join() {
    let seed = fresh_seed("shared pages");
    let memory = frames(4096);
    let beside = space(&memory);
    let start = mapped(&beside, THREADS * PAGES);
    thread::scope(|scope| {
        for first in 0..THREADS {
            let space = &beside;
            scope.spawn(move || {
                let mut worker = Worker {
                    space,
                    rng: SplitMix::new(seed ^ first),
                    start,
                    first,
                    pages: [Page::FRESH; PAGES as usize],
                };
                for step in 1..3000 {
                    worker.step(step);
                }
                for index in 0..PAGES as usize {
                    worker.check(space, index);
                }
            });
        }
    });
    assert_eq!(beside.lock().validate_pages(), Ok(()));
    assert_eq!(beside.lock().validate(), Ok(()));
    drop(beside);
    assert!(is_all_back(&memory), "{} frames leaked", memory.in_use());
}

/// Each thread has a word in every page, and all come to a page at once.
#[test]
fn no_write_is_lost_where_threads_fault_on_one_page() {
    let memory = frames(1024);
    let parent = space(&memory);
    let start = mapped(&parent, 64);
    for round in 1..40_u64 {
        // Every other time the pages are a child's, to be copied first.
        let child = parent.fork().unwrap();
        let (beside, other) = match round % 2 {
            0 => (&child, &parent),
            _ => (&parent, &child),
        };
        thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || {
                    for page in 0..64 {
                        let addr = start + page * PAGE_SIZE + 8 * thread;
                        set(beside, addr, round).unwrap();
                    }
                });
            }
        });
        for page in 0..64 {
            for thread in 0..THREADS {
                let addr = start + page * PAGE_SIZE + 8 * thread;
                assert_eq!(word(beside, addr), Ok(round));
                assert!(word(other, addr).unwrap() < round);
            }
        }
        assert_eq!(beside.statistics().resident.anon, 64);
        assert_eq!(beside.lock().validate_pages(), Ok(()));
        if round % 2 == 0 {
            set(&parent, start, 0).unwrap();
        }
    }
    drop(parent);
    assert!(is_all_back(&memory), "{} frames leaked", memory.in_use());
}

/// One mapping takes the place of another, page by page and as a whole; it can be read always.
#[test]
fn nothing_is_refused_for_what_is_so_only_within_a_call() {
    let memory = frames(1024);
    let beside = space(&memory);
    let start = mapped(&beside, 16);
    let is_over = AtomicBool::new(false);
    let looks = AtomicU64::new(0);
    thread::scope(|scope| {
        for first in 0..2 {
            let (beside, is_over, looks) = (&beside, &is_over, &looks);
            scope.spawn(move || {
                let mut rng = SplitMix::new(first);
                while !is_over.load(Ordering::Relaxed) {
                    let addr = start + rng.below(16) * PAGE_SIZE;
                    let whole = start..start + 16 * PAGE_SIZE;
                    assert_eq!(beside.check_range(whole, Access::Read), Ok(()));
                    assert_eq!(beside.fault(addr, Access::Read), Ok(()));
                    assert_eq!(word(beside, addr), Ok(0));
                    assert!(beside.translate(addr, Access::Read).is_ok());
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut round = 0_u64;
        while round < 2000 || looks.load(Ordering::Relaxed) < 100 {
            let prot = [PROT_READ, WRITABLE][(round % 2) as usize];
            let (first, pages) = match round % 3 {
                0 => (0, 16),
                1 => (5, 7),
                _ => (round % 16, 1),
            };
            let mut request = fixed(start + first * PAGE_SIZE, pages, prot);
            if round.is_multiple_of(5) {
                request.flags ^= MAP_PRIVATE | MAP_SHARED;
            }
            beside.lock().mmap(request).unwrap();
            round += 1;
        }
        is_over.store(true, Ordering::Relaxed);
    });
    drop(beside);
    assert!(is_all_back(&memory), "{} frames leaked", memory.in_use());
}

#[test]
fn nobody_finds_anything_after_exit() {
    for round in 0..50 {
        let memory = frames(2048);
        let beside = space(&memory);
        let start = mapped(&beside, 1024);
        let child = (round % 2 == 0).then(|| beside.fork().unwrap());
        let is_gone = AtomicBool::new(false);
        thread::scope(|scope| {
            for first in 0..2 {
                let (beside, is_gone) = (&beside, &is_gone);
                scope.spawn(move || {
                    let mut rng = SplitMix::new(first ^ round);
                    loop {
                        let was_gone = is_gone.load(Ordering::Acquire);
                        let addr = start + rng.below(1024) * PAGE_SIZE;
                        let found = set(beside, addr, 1).and_then(|()| word(beside, addr));
                        match found {
                            Ok(word) => assert!(word == 1 && !was_gone),
                            Err(fault) => {
                                assert_eq!(fault, Fault::NotMapped);
                                break;
                            }
                        }
                    }
                });
            }
            while beside.statistics().resident.anon < round * 4 {
                thread::yield_now();
            }
            beside.lock().exit();
            is_gone.store(true, Ordering::Release);
        });
        assert_eq!(beside.moment().statistics().total_vm, 0);
        assert_eq!(beside.statistics().resident.anon, 0);
        assert_eq!(beside.lock().validate_pages(), Ok(()));
        // Another program begins.
        let again = mapped(&beside, 1);
        assert_eq!(set(&beside, again, 5), Ok(()));
        assert_eq!(beside.lock().munmap(again, PAGE_SIZE), Ok(()));
        drop((beside, child));
        assert!(is_all_back(&memory), "{} frames leaked", memory.in_use());
    }
}

#[test]
fn a_page_that_cannot_be_had_is_told_and_others_go_on() {
    let memory = frames(64);
    let beside = space(&memory);
    let start = mapped(&beside, 128);
    let written = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..2 {
            let (beside, written) = (&beside, &written);
            scope.spawn(move || {
                for page in 0..64 {
                    let addr = start + (page * 2 + thread) * PAGE_SIZE;
                    match set(beside, addr, page + 1) {
                        Ok(()) => {
                            written.fetch_add(1, Ordering::Relaxed);
                            assert_eq!(word(beside, addr), Ok(page + 1));
                        }
                        Err(fault) => assert_eq!(fault, Fault::OutOfMemory),
                    }
                }
            });
        }
    });
    let written = written.into_inner();
    assert!(written > 32 && written < 64, "{written} pages");
    assert_eq!(beside.statistics().resident.anon, written);
    assert_eq!(beside.lock().validate_pages(), Ok(()));
    let refused = beside
        .fork_with(with(PageStrategy::Copy), || false)
        .map(drop);
    assert_eq!(refused, Err(Errno::ENOMEM));
    beside.lock().exit();
    assert!(is_all_back(&memory) || memory.in_use() == 1);
}
