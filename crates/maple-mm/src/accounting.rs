//! What is counted: pages by class, locked and promised pages, and the limits on them.

use crate::abi::PAGE_SIZE;
use crate::errno::Errno;
use crate::flags::VmFlags;
use crate::layout::{Capabilities, Limits};
use crate::space::AddressSpace;
use crate::system::Asker;

/// The counters of one address space, all in pages.
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
}

/// Whether pages with these flags count as data.
pub(crate) const fn is_data(flags: VmFlags) -> bool {
    let relevant = VmFlags::WRITE
        .union(VmFlags::SHARED)
        .union(VmFlags::GROWSDOWN);
    flags.intersection(relevant).bits() == VmFlags::WRITE.bits()
}

const fn is_exec(flags: VmFlags) -> bool {
    let relevant = VmFlags::EXEC
        .union(VmFlags::WRITE)
        .union(VmFlags::GROWSDOWN);
    flags.intersection(relevant).bits() == VmFlags::EXEC.bits()
}

impl Statistics {
    /// The counters that `pages` pages with `flags` make, and nothing else.
    pub(crate) const fn of(flags: VmFlags, pages: u64) -> Self {
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

impl AddressSpace {
    /// Whether `pages` more pages with `flags` stay within `RLIMIT_AS` and `RLIMIT_DATA`.
    pub(crate) fn may_expand(&self, flags: VmFlags, pages: u64) -> bool {
        let limits = self.limits;
        let total = self.statistics.total_vm.saturating_add(pages);
        if total > limits.address_space / PAGE_SIZE {
            return false;
        }
        let data = self.statistics.data_vm.saturating_add(pages);
        // LINUX: a soft data limit of 0 (Valgrind sets it) lets the hard limit count.
        !is_data(flags)
            || data <= limits.data / PAGE_SIZE
            || (limits.data == 0 && data <= limits.data_max / PAGE_SIZE)
    }

    /// Promises `pages` to this address space.
    pub(crate) fn charge(&self, pages: u64) -> Result<(), Errno> {
        if pages == 0 {
            return Ok(());
        }
        let asker = Asker {
            is_admin: self.capabilities.contains(Capabilities::SYS_ADMIN),
            total_pages: self.statistics.total_vm,
        };
        self.system.charge(pages, asker)
    }

    /// Whether this process may lock memory at all.
    pub(crate) fn can_lock(&self) -> bool {
        self.limits.memlock != 0 || self.capabilities.contains(Capabilities::IPC_LOCK)
    }

    /// Whether `bytes` more locked bytes stay within `RLIMIT_MEMLOCK`.
    pub(crate) fn may_lock(&self, bytes: u64) -> bool {
        let locked = self.statistics.locked_vm.saturating_add(bytes / PAGE_SIZE);
        locked <= self.limits.memlock / PAGE_SIZE
            || self.capabilities.contains(Capabilities::IPC_LOCK)
    }

    /// Whether one more mapping may be made by a split.
    pub(crate) fn may_split(&self) -> Result<(), Errno> {
        if self.map_count() >= self.system.settings().max_map_count {
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
