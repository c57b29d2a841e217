//! Random lives on processors that go on using the translations they have cached until they are
//! told to forget just them: a flush that is missing, or too narrow, shows in what they read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::paged::{Memory, Space, frames, layout};
use crate::world::{self, World};
use maple_mm::paging::{FlushRange, PhysAddr, PhysMemory, TlbFlusher};
use maple_mm::{
    Access, AddressSpace, Fault, ForkPlan, MappedPages, PageStrategy, Setup, abi::PAGE_SIZE,
};

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

struct Program {
    space: Space<Memory, Tlb>,
    tlb: Tlb,
    /// The processor of the last access.
    processor: usize,
}

impl Program {
    fn new(memory: &Memory) -> Self {
        let tlb = Tlb::default();
        let side = MappedPages::new(Arc::clone(memory), tlb.clone()).expect("a frame");
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

impl world::Program for Program {
    type Flusher = Tlb;

    fn space(&self) -> &Space<Memory, Tlb> {
        &self.space
    }

    fn space_mut(&mut self) -> &mut Space<Memory, Tlb> {
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
}

#[test]
fn processors_that_forget_only_what_they_are_told_to_see_the_same() {
    let plans = [None, Some(PageStrategy::Copy), Some(PageStrategy::Share)];
    for seed in 1000..1020 {
        for pages in plans {
            let plan = pages.map(|pages| ForkPlan {
                pages,
                ..ForkPlan::default()
            });
            let memory = frames(8192);
            let life = || World::new(seed, plan, Program::new(&memory)).run(500);
            let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(life));
            assert!(run.is_ok(), "seed {seed}, {plan:?}");
            assert_eq!(memory.in_use(), 0, "frames were leaked");
        }
    }
}
