//! Coming back to the mappings of a moment ago: for what changes them before its pages fail.

use crate::accounting::Tally;
use crate::page_side::PageSide;
use crate::space::{AddressSpace, Mappings};

/// The mappings of an address space at one moment.
#[derive(Debug)]
pub(crate) struct Savepoint {
    tree: Mappings,
    tally: Tally,
    peak_vm: u64,
}

impl<P: PageSide> AddressSpace<P> {
    /// To be taken before mappings change and pages may be missing afterwards.
    ///
    /// PERF: a counted root; writes after it copy what they touch.
    pub(crate) fn savepoint(&self) -> Savepoint {
        Savepoint {
            tree: self.tree.snapshot(),
            tally: self.tally,
            peak_vm: self.peak_vm,
        }
    }

    /// Takes back what changed since, which only added: a history, or pages of a stack. Where
    /// readers may have seen it, it stays.
    ///
    /// LINUX: it always stays.
    pub(crate) fn return_to(&mut self, savepoint: Savepoint) {
        let Some(current) = self.tree.get_mut() else {
            return;
        };
        let Savepoint {
            tree,
            tally,
            peak_vm,
        } = savepoint;
        let added = self
            .tally
            .statistics
            .committed
            .wrapping_sub(tally.statistics.committed);
        let undone = core::mem::replace(current, tree);
        self.tally = tally;
        self.peak_vm = peak_vm;
        self.system.uncharge(added);
        if self.tally.hooked > 0
            && let Some(all) = Self::index_range(0, u64::MAX)
        {
            self.tell_change(&undone, all);
        }
    }
}
