//! What is counted: pages by class, locked and promised pages, and the limits on them.

use alloc::sync::Arc;

use crate::abi::PAGE_SIZE;
use crate::charge::Charge;
use crate::errno::Errno;
use crate::flags::VmFlags;
use crate::fork::UNLIKE;
use crate::layout::{Capabilities, Limits};
use crate::page_side::{PageSide, Usage};
use crate::paging::Resident;
use crate::space::AddressSpace;
use crate::system::Asker;
use crate::vma::Vma;

/// The counters of one address space, in pages unless they say otherwise.
///
/// The last three are those of the page side: zero where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Statistics {
    /// All mapped pages.
    pub total_vm: u64,
    /// Private writable pages that are no stack.
    pub data_vm: u64,
    /// Executable pages that are not writable.
    pub exec_vm: u64,
    /// Pages of stacks.
    pub stack_vm: u64,
    /// Pages that stay in memory.
    pub locked_vm: u64,
    /// Pages charged against the commit limit.
    pub committed: u64,
    /// The most `total_vm` ever was; Linux's `VmPeak`.
    pub peak_vm: u64,
    /// Pages that are there, by kind.
    pub resident: Resident,
    /// The most that was resident, explicitly huge pages aside; Linux's `VmHWM`.
    pub peak_resident: u64,
    /// Bytes of page tables below the root; Linux's `VmPTE`.
    pub pgtables_bytes: u64,
}

impl Statistics {
    /// Those of mappings, and those of pages.
    pub(crate) const fn new(sums: &Sums, peak_vm: u64, usage: Usage) -> Self {
        Self {
            total_vm: sums.total_vm,
            data_vm: sums.data_vm,
            exec_vm: sums.exec_vm,
            stack_vm: sums.stack_vm,
            locked_vm: sums.locked_vm,
            committed: sums.committed,
            peak_vm,
            resident: usage.resident,
            peak_resident: usage.peak_resident,
            pgtables_bytes: usage.pgtables_bytes,
        }
    }
}

/// What the mappings of an address space sum up to, in pages; see [`Statistics`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Sums {
    pub(crate) total_vm: u64,
    pub(crate) data_vm: u64,
    pub(crate) exec_vm: u64,
    pub(crate) stack_vm: u64,
    pub(crate) locked_vm: u64,
    pub(crate) committed: u64,
}

/// Whether pages with these flags count as data.
pub(crate) const fn is_data(flags: VmFlags) -> bool {
    let relevant = VmFlags::WRITE
        .union(VmFlags::SHARED)
        .union(VmFlags::GROWSDOWN);
    flags.intersection(relevant).bits() == VmFlags::WRITE.bits()
}

fn is_exec(flags: VmFlags) -> bool {
    let relevant = VmFlags::EXEC
        .union(VmFlags::WRITE)
        .union(VmFlags::GROWSDOWN);
    let is_code = flags.intersection(relevant).bits() == VmFlags::EXEC.bits();
    is_code || planted!(CountCode) && flags.contains(VmFlags::EXEC)
}

impl Sums {
    /// The sums that `pages` pages with `flags` make, and nothing else.
    pub(crate) fn of(flags: VmFlags, pages: u64) -> Self {
        let is_stack = flags.intersects(VmFlags::GROWSDOWN.union(VmFlags::SHADOW_STACK));
        Self {
            total_vm: pages,
            exec_vm: if is_exec(flags) { pages } else { 0 },
            stack_vm: if !is_exec(flags) && is_stack {
                pages
            } else {
                0
            },
            data_vm: if !is_stack && is_data(flags) {
                pages
            } else {
                0
            },
            locked_vm: if flags.contains(VmFlags::LOCKED) {
                pages
            } else {
                0
            },
            committed: if flags.contains(VmFlags::ACCOUNT) {
                pages
            } else {
                0
            },
        }
    }

    /// Both together; counters wrap, so that a difference can be added later.
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            total_vm: self.total_vm.wrapping_add(other.total_vm),
            data_vm: self.data_vm.wrapping_add(other.data_vm),
            exec_vm: self.exec_vm.wrapping_add(other.exec_vm),
            stack_vm: self.stack_vm.wrapping_add(other.stack_vm),
            locked_vm: self.locked_vm.wrapping_add(other.locked_vm),
            committed: self.committed.wrapping_add(other.committed),
        }
    }

    /// This without the other.
    pub(crate) const fn minus(self, other: Self) -> Self {
        Self {
            total_vm: self.total_vm.wrapping_sub(other.total_vm),
            data_vm: self.data_vm.wrapping_sub(other.data_vm),
            exec_vm: self.exec_vm.wrapping_sub(other.exec_vm),
            stack_vm: self.stack_vm.wrapping_sub(other.stack_vm),
            locked_vm: self.locked_vm.wrapping_sub(other.locked_vm),
            committed: self.committed.wrapping_sub(other.committed),
        }
    }
}

/// All sums an address space keeps over its mappings, in pages.
///
/// Beside the counters, those that say whether `fork` finds work, without looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) statistics: Sums,
    /// What a child does not get as it is: `DONTCOPY`, `WIPEONFORK`, watched or locked.
    pub(crate) unlike_child: u64,
    /// Charged pages that a child does not get at all: `DONTCOPY`.
    pub(crate) kept_from_child: u64,
    /// What hooks are told about.
    pub(crate) hooked: u64,
}

impl Tally {
    /// What `pages` pages of `vma` add.
    pub(crate) fn of(vma: &Vma, pages: u64) -> Self {
        let flags = vma.flags();
        let pages_if = |condition: bool| if condition { pages } else { 0 };
        Self {
            statistics: Sums::of(flags, pages),
            unlike_child: pages_if(flags.intersects(UNLIKE)),
            kept_from_child: pages_if(flags.contains(VmFlags::DONTCOPY | VmFlags::ACCOUNT)),
            hooked: pages_if(vma.has_hooks()),
        }
    }

    /// Both together, wrapping.
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            statistics: self.statistics.plus(other.statistics),
            unlike_child: self.unlike_child.wrapping_add(other.unlike_child),
            kept_from_child: self.kept_from_child.wrapping_add(other.kept_from_child),
            hooked: self.hooked.wrapping_add(other.hooked),
        }
    }

    /// This without the other, wrapping.
    pub(crate) const fn minus(self, other: Self) -> Self {
        Self {
            statistics: self.statistics.minus(other.statistics),
            unlike_child: self.unlike_child.wrapping_sub(other.unlike_child),
            kept_from_child: self.kept_from_child.wrapping_sub(other.kept_from_child),
            hooked: self.hooked.wrapping_sub(other.hooked),
        }
    }
}

impl<P: PageSide> AddressSpace<P> {
    /// The counters.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// assert_eq!(space.vma_at(addr).unwrap().pages(), space.statistics().total_vm);
    /// ```
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics::new(&self.tally.statistics, self.peak_vm, self.pages.usage())
    }

    /// Whether `pages` more pages with `flags` stay within `RLIMIT_AS` and `RLIMIT_DATA`.
    pub(crate) fn may_expand(&self, flags: VmFlags, pages: u64) -> bool {
        let limits = self.limits;
        let total = self.tally.statistics.total_vm.saturating_add(pages);
        let least = u64::from(planted!(LimitAddressSpace));
        if total > (limits.address_space / PAGE_SIZE).saturating_sub(least) {
            return false;
        }
        let data = self.tally.statistics.data_vm.saturating_add(pages);
        // LINUX: a soft data limit of 0 (Valgrind sets it) lets the hard limit count.
        !is_data(flags)
            || planted!(LimitData)
            || data <= limits.data / PAGE_SIZE
            || (limits.data == 0 && data <= limits.data_max / PAGE_SIZE)
    }

    /// Promises `pages` to this address space.
    pub(crate) fn charge(&self, pages: u64) -> Result<Charge, Errno> {
        if pages == 0 {
            return Ok(Charge::NONE);
        }
        self.system.charge(pages, self.asker())?;
        Ok(Charge::new(Arc::clone(&self.system), pages))
    }

    pub(crate) fn asker(&self) -> Asker {
        Asker {
            is_admin: self.capabilities.contains(Capabilities::SYS_ADMIN),
            total_pages: self.tally.statistics.total_vm,
        }
    }

    /// Whether this process may lock memory at all.
    pub(crate) fn can_lock(&self) -> bool {
        self.limits.memlock != 0 || self.capabilities.contains(Capabilities::IPC_LOCK)
    }

    /// Whether `bytes` more locked bytes stay within `RLIMIT_MEMLOCK`.
    pub(crate) fn may_lock(&self, bytes: u64) -> bool {
        let locked = self
            .tally
            .statistics
            .locked_vm
            .saturating_add(bytes / PAGE_SIZE);
        locked <= self.limits.memlock / PAGE_SIZE + u64::from(planted!(LimitLocked))
            || self.capabilities.contains(Capabilities::IPC_LOCK)
    }

    /// Whether one more mapping may be made by a split.
    pub(crate) fn may_split(&self) -> Result<(), Errno> {
        if self.map_count() >= self.system.max_map_count() {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// Replaces the limits, as `setrlimit` does.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The limits in force.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }
}
