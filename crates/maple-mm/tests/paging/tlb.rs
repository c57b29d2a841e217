//! A processor's cache of translations that forgets nothing by itself: whatever an operation
//! changes must be flushed, or the cache shows it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use crate::support::{PAGE, Tables};
use maple_mm::Access;
use maple_mm::paging::{Arch, FlushRange, PhysAddr, TlbFlusher};

/// What a processor keeps of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cached {
    frame: PhysAddr,
    is_writable: bool,
    is_executable: bool,
}

/// The translations that one address space's processor has cached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tlb(Rc<RefCell<BTreeMap<u64, Cached>>>);

fn look_up<A: Arch>(tables: &Tables<'_, A>, addr: u64) -> Option<Cached> {
    let may = |access| tables.translate(addr, access).is_ok();
    Some(Cached {
        frame: tables.translate(addr, Access::Read).ok()?,
        is_writable: may(Access::Write),
        is_executable: may(Access::Execute),
    })
}

impl Tlb {
    /// Everything that is cached is what the tables say now, or less.
    pub(crate) fn check<A: Arch>(&self, tables: &Tables<'_, A>) {
        for (&addr, cached) in self.0.borrow().iter() {
            let now = look_up(tables, addr);
            let holds = now.is_some_and(|now| {
                now.frame == cached.frame
                    && now.is_writable >= cached.is_writable
                    && now.is_executable >= cached.is_executable
            });
            assert!(
                holds,
                "{addr:#x} was not flushed: {cached:x?}, now {now:x?}"
            );
        }
    }

    /// Caches all there is.
    pub(crate) fn fill<A: Arch>(&self, tables: &Tables<'_, A>, pages: impl Iterator<Item = u64>) {
        let cached = pages.filter_map(|addr| Some((addr, look_up(tables, addr)?)));
        self.0.borrow_mut().extend(cached);
    }

    fn forget(&self, addresses: Range<u64>) {
        self.0
            .borrow_mut()
            .retain(|&addr, _| addr + PAGE <= addresses.start || addresses.end <= addr);
    }
}

impl TlbFlusher for Tlb {
    fn range(&self, range: &FlushRange) {
        self.forget(range.addresses.clone());
    }

    fn freed_tables(&self, range: &FlushRange) {
        self.forget(range.addresses.clone());
    }

    fn full(&self) {
        self.forget(0..u64::MAX);
    }
}
