//! What an address space tells the guest's processor to forget.

use std::cell::RefCell;
use std::rc::Rc;

use maple_mm::paging::{FlushRange, PhysAddr, TlbFlusher};

use crate::machine::{Before, Machine, Processor};

/// How translations were forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// So many pages, one by one.
    Pages(u64),
    All,
}

/// The processor, for the owner of one root.
#[derive(Clone)]
pub(crate) struct GuestTlb {
    processor: Processor,
    root: PhysAddr,
    log: Rc<RefCell<Vec<Flush>>>,
}

impl GuestTlb {
    /// For an address space that no processor uses yet.
    pub(crate) fn new(processor: &Processor) -> Self {
        Self {
            processor: Processor::clone(processor),
            // The arena begins above.
            root: PhysAddr::new(0),
            log: Rc::default(),
        }
    }

    /// For the tables with that root from now on; a child's flusher begins as its parent's.
    pub(crate) fn belong_to(&mut self, root: PhysAddr) {
        *self = Self {
            root,
            ..Self::new(&self.processor)
        };
    }

    /// What was flushed since the last call.
    pub(crate) fn take_log(&self) -> Vec<Flush> {
        self.log.take()
    }

    fn forget(&self, how: Before, noted: Flush) {
        self.log.borrow_mut().push(noted);
        Machine::forget(&mut self.processor.borrow_mut(), self.root, how);
    }
}

impl TlbFlusher for GuestTlb {
    fn range(&self, range: &FlushRange) {
        if range.is_worth_full_flush() {
            self.full();
            return;
        }
        let how = Before::Forget {
            start: range.addresses.start,
            pages: (range.addresses.end - range.addresses.start) / 4096,
        };
        self.forget(how, Flush::Pages(range.pages()));
    }

    fn freed_tables(&self, _: &FlushRange) {
        self.full();
    }

    fn full(&self) {
        self.forget(Before::Load(self.root), Flush::All);
    }
}
