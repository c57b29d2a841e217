//! Random lives on processors that go on using the translations they have cached until they are
//! told to forget just them: a flush that is missing, or too narrow, shows in what they read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut, Range};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::eager_rcu::EagerRcu;
use crate::common::paged::{Memory, Quad, frames, layout};
use crate::random::ways_to_fork;
use crate::world::{self, World};
use maple_mm::paging::{
    Beside, Company, FlushRange, OutOfFrames, PhysAddr, PhysMemory, TlbFlusher,
};
use maple_mm::{Access, AddressSpace, Fault, ForkPlan, MappedPages, Setup, abi::PAGE_SIZE};

/// What a processor keeps of one page.
#[derive(Clone, Copy, Debug)]
struct Cached {
    frame: PhysAddr,
    is_writable: bool,
}

/// The translations of one address space on one processor, by page.
#[derive(Debug, Default)]
struct Cache(RefCell<BTreeMap<u64, Cached>>);

impl Cache {
    fn forget(&self, addresses: &Range<u64>) {
        let stays = |page: u64| page + PAGE_SIZE <= addresses.start || addresses.end <= page;
        self.0.borrow_mut().retain(|&page, _| stays(page));
    }
}

/// Those of all processors: two threads of a program take turns.
#[derive(Clone, Debug, Default)]
struct Tlb(Rc<[Cache; 2]>);

impl Tlb {
    fn forget(&self, addresses: &Range<u64>) {
        self.0.iter().for_each(|cache| cache.forget(addresses));
    }
}

impl TlbFlusher for Tlb {
    fn range(&self, range: &FlushRange) {
        self.forget(&range.addresses);
    }

    fn freed_tables(&self, range: &FlushRange) {
        self.forget(&range.addresses);
    }

    fn full(&self) {
        self.forget(&(0..u64::MAX));
    }
}

type Side<C> = MappedPages<Quad, Memory, Tlb, C>;

struct Program<C: Company<Memory>> {
    space: AddressSpace<Side<C>>,
    tlb: Tlb,
    /// The processor of the last access.
    processor: usize,
}

impl<C: Company<Memory>> Program<C> {
    fn new(side: impl FnOnce(Tlb) -> Result<Side<C>, OutOfFrames>) -> Self {
        let tlb = Tlb::default();
        let side = side(tlb.clone()).expect("a frame");
        let setup = Setup {
            layout: layout(),
            ..Setup::default()
        };
        let space = AddressSpace::with_pages(setup, side);
        Self {
            space,
            tlb,
            processor: 0,
        }
    }

    fn cache(&self) -> &Cache {
        &self.tlb.0[self.processor]
    }

    /// The word at `addr`, through what is cached if that allows the access.
    fn word(&mut self, addr: u64, access: Access) -> Result<&AtomicU64, Fault> {
        self.processor = (self.processor + 1) % self.tlb.0.len();
        let page = addr & !(PAGE_SIZE - 1);
        let cached = self.cache().0.borrow().get(&page).copied();
        let frame = match cached {
            Some(cached) if cached.is_writable || access == Access::Read => cached.frame,
            _ => self.walk(page, access)?,
        };
        let words = self.space.page_side().tables().memory().words(frame);
        Ok(&words[(addr - page) as usize / 8])
    }

    /// Walks the tables, with a fault if they do not allow the access, and caches what is there.
    fn walk(&mut self, page: u64, access: Access) -> Result<PhysAddr, Fault> {
        loop {
            let tables = self.space.page_side().tables();
            if let Ok(frame) = tables.translate(page, access) {
                let is_writable = tables.translate(page, Access::Write).is_ok();
                let cached = Cached { frame, is_writable };
                self.cache().0.borrow_mut().insert(page, cached);
                return Ok(frame);
            }
            // A processor forgets the page that it faults on.
            self.cache().forget(&(page..page + PAGE_SIZE));
            self.space.fault(page, access)?;
        }
    }
}

impl<C: Company<Memory>> world::Program for Program<C> {
    type Pages = Side<C>;

    fn space(&self) -> impl Deref<Target = AddressSpace<Self::Pages>> {
        &self.space
    }

    fn space_mut(&mut self) -> impl DerefMut<Target = AddressSpace<Self::Pages>> {
        &mut self.space
    }

    fn load(&mut self, addr: u64) -> Result<u64, Fault> {
        let word = self.word(addr, Access::Read)?;
        Ok(word.load(Ordering::Relaxed))
    }

    fn store(&mut self, addr: u64, value: u64) -> Result<(), Fault> {
        let word = self.word(addr, Access::Write)?;
        word.store(value, Ordering::Relaxed);
        Ok(())
    }

    fn fork(&mut self, plan: ForkPlan) -> Self {
        let mut space = self.space.fork_with(plan, || false).expect("memory");
        let tlb = Tlb::default();
        *space.page_side_mut().flusher_mut() = tlb.clone();
        Self {
            space,
            tlb,
            processor: 0,
        }
    }

    /// Nothing waits where nobody looks.
    fn settle(&self) {}
}

/// Lives of programs with such pages, of which nothing may be left.
fn live<C: Company<Memory>>(
    seeds: Range<u64>,
    side: fn(&Memory, Tlb) -> Result<Side<C>, OutOfFrames>,
) {
    for seed in seeds {
        for plan in ways_to_fork() {
            let memory = frames(8192);
            let program = || Program::new(|tlb| side(&memory, tlb));
            let life = || World::new(seed, plan, program()).run(500);
            let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(life));
            assert!(run.is_ok(), "seed {seed}, {plan:?}");
            assert_eq!(memory.in_use(), 0, "frames were leaked");
        }
    }
}

#[test]
fn processors_that_forget_only_what_they_are_told_to_see_the_same() {
    live(1000..1020, |memory, tlb| {
        MappedPages::new(Arc::clone(memory), tlb)
    });
}

#[test]
fn processors_see_the_same_where_tables_have_locks() {
    live(1000..1008, |memory, tlb| {
        MappedPages::beside(
            Arc::clone(memory),
            tlb,
            Beside::new(Arc::new(EagerRcu::new())),
        )
    });
}
