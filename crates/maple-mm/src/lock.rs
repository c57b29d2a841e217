//! `mlock` and its family.

use core::ops::Range;

use crate::abi::{
    MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, MLOCK_ONFAULT, MS_ASYNC, MS_INVALIDATE, MS_SYNC,
    PAGE_SIZE, is_page_aligned, page_ceil, page_floor,
};
use crate::errno::Errno;
use crate::file::Backing;
use crate::flags::VmFlags;
use crate::layout::Capabilities;
use crate::modify::{Holes, Part};
use crate::page_side::PageSide;
use crate::space::AddressSpace;
use crate::vma::Vma;

impl<P: PageSide> AddressSpace<P> {
    /// Locks every page that `addr..addr + len` touches and brings it in.
    ///
    /// # Complexity
    ///
    /// O(m log n) for m mappings in the range.
    ///
    /// # Errors
    ///
    /// - [`Errno::EPERM`]: `RLIMIT_MEMLOCK` is 0 and there is no privilege.
    /// - [`Errno::ENOMEM`]: beyond the limit, or a hole. LINUX: what precedes the hole is locked.
    /// - [`Errno::EINVAL`]: the range wraps.
    /// - [`Errno::EAGAIN`]: what is locked now cannot be read or written at all.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Errno, MmapRequest, abi::{PROT_READ, PROT_WRITE}};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ | PROT_WRITE))?;
    /// space.mlock(addr + 5000, 1)?;
    /// assert_eq!(space.statistics().locked_vm, 1);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn mlock(&mut self, addr: u64, len: u64) -> Result<(), Errno> {
        self.lock_range(addr, len, VmFlags::LOCKED)
    }

    /// As [`mlock`](Self::mlock); with `MLOCK_ONFAULT` pages are locked when first touched.
    ///
    /// # Errors
    ///
    /// [`Errno::EINVAL`] for an unknown flag; else as [`mlock`](Self::mlock).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// space.mlock2(addr, 1, maple_mm::abi::MLOCK_ONFAULT).unwrap();
    /// assert!(space.vma_at(addr).unwrap().flags().contains(maple_mm::VmFlags::LOCKONFAULT));
    /// ```
    pub fn mlock2(&mut self, addr: u64, len: u64, flags: u64) -> Result<(), Errno> {
        match flags {
            0 => self.lock_range(addr, len, VmFlags::LOCKED),
            MLOCK_ONFAULT => self.lock_range(addr, len, VmFlags::LOCKED_ANY),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Unlocks every page that `addr..addr + len` touches.
    ///
    /// # Errors
    ///
    /// - [`Errno::ENOMEM`]: a hole. LINUX: what precedes it is unlocked.
    /// - [`Errno::EINVAL`]: the range wraps.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// space.mlock(addr, 8192).unwrap();
    /// space.munlock(addr, 1).unwrap();
    /// assert_eq!(space.statistics().locked_vm, 1);
    /// ```
    pub fn munlock(&mut self, addr: u64, len: u64) -> Result<(), Errno> {
        let len = page_ceil(len.wrapping_add(addr & (PAGE_SIZE - 1)));
        self.apply_lock(page_floor(addr), len, VmFlags::empty())
    }

    /// Locks all that is mapped, all that will be, or both (`MCL_` flags).
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`]: no or unknown flags, or `MCL_ONFAULT` alone.
    /// - [`Errno::EPERM`]: `RLIMIT_MEMLOCK` is 0 and there is no privilege.
    /// - [`Errno::ENOMEM`]: what is mapped exceeds the limit.
    ///
    /// Nothing changed on error.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// space.mlockall(maple_mm::abi::MCL_CURRENT).unwrap();
    /// assert_eq!(space.statistics().locked_vm, 2);
    /// # let _ = addr;
    /// ```
    pub fn mlockall(&mut self, flags: u64) -> Result<(), Errno> {
        let known = MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT;
        if flags == 0 || flags & !known != 0 || flags == MCL_ONFAULT {
            return Err(Errno::EINVAL);
        }
        if !self.can_lock() {
            return Err(Errno::EPERM);
        }
        let is_privileged = self.capabilities.contains(Capabilities::IPC_LOCK);
        let is_beyond = self.tally.statistics.total_vm > self.limits.memlock / PAGE_SIZE;
        if flags & MCL_CURRENT != 0 && is_beyond && !is_privileged {
            return Err(Errno::ENOMEM);
        }
        let lock = if flags & MCL_ONFAULT != 0 {
            VmFlags::LOCKED_ANY
        } else {
            VmFlags::LOCKED
        };
        self.default_flags -= VmFlags::LOCKED_ANY;
        if flags & MCL_FUTURE != 0 && !planted!(LockFuture) {
            self.default_flags |= lock;
        }
        if flags & MCL_CURRENT != 0 {
            self.lock_everything(lock);
            self.populate(0, self.layout.task_size);
        }
        Ok(())
    }

    /// Unlocks all that is mapped and all that will be.
    ///
    /// # Errors
    ///
    /// None; the result is there to look like its siblings.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// space.mlockall(maple_mm::abi::MCL_CURRENT).unwrap();
    /// space.munlockall().unwrap();
    /// assert_eq!(space.statistics().locked_vm, 0);
    /// # let _ = addr;
    /// ```
    pub fn munlockall(&mut self) -> Result<(), Errno> {
        self.default_flags -= VmFlags::LOCKED_ANY;
        self.lock_everything(VmFlags::empty());
        Ok(())
    }

    /// Checks what `msync` checks; it changes no mapping.
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`]: unknown flags, both `MS_SYNC` and `MS_ASYNC`, or an `addr` that is no
    ///   page boundary.
    /// - [`Errno::EBUSY`]: locked pages cannot be invalidated.
    /// - [`Errno::ENOMEM`]: the range wraps or has a hole.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// let sync = maple_mm::abi::MS_SYNC;
    /// assert_eq!(space.msync(addr, 8192, sync), Ok(()));
    /// assert_eq!(space.msync(addr, 3 * 4096, sync), Err(maple_mm::Errno::ENOMEM));
    /// ```
    pub fn msync(&mut self, addr: u64, len: u64, flags: u64) -> Result<(), Errno> {
        let is_both = flags & MS_SYNC != 0 && flags & MS_ASYNC != 0;
        let is_unknown = flags & !(MS_ASYNC | MS_INVALIDATE | MS_SYNC) != 0;
        if is_unknown || !is_page_aligned(addr) || is_both {
            return Err(Errno::EINVAL);
        }
        let end = addr.wrapping_add(page_ceil(len));
        if end < addr {
            return Err(Errno::ENOMEM);
        }
        let holes = self.walk(addr..end, |_, part| {
            let is_locked = part.vma.flags().contains(VmFlags::LOCKED);
            if flags & MS_INVALIDATE != 0 && is_locked && !planted!(SyncBusy) {
                Err(Errno::EBUSY)
            } else {
                Ok(())
            }
        })?;
        if holes == Holes::Some {
            Err(Errno::ENOMEM)
        } else {
            Ok(())
        }
    }

    fn lock_range(&mut self, addr: u64, len: u64, lock: VmFlags) -> Result<(), Errno> {
        if !self.can_lock() {
            return Err(Errno::EPERM);
        }
        let len = page_ceil(len.wrapping_add(addr & (PAGE_SIZE - 1)));
        let start = page_floor(addr);
        let limit = self.limits.memlock / PAGE_SIZE;
        let mut locked = self
            .tally
            .statistics
            .locked_vm
            .saturating_add(len / PAGE_SIZE);
        if locked > limit && !self.capabilities.contains(Capabilities::IPC_LOCK) {
            // What is locked already does not count twice.
            if !planted!(LimitTwice) {
                locked -= self.locked_pages(start..start.saturating_add(len));
            }
            if locked > limit {
                return Err(Errno::ENOMEM);
            }
        }
        self.apply_lock(start, len, lock)?;
        self.check_reachable(start..start + len)
    }

    fn locked_pages(&self, range: Range<u64>) -> u64 {
        self.vmas_in(range.clone())
            .filter(|vma| vma.flags().contains(VmFlags::LOCKED))
            .map(|vma| Self::pages(vma.end().min(range.end) - vma.start().max(range.start)))
            .sum()
    }

    /// Changes the lock flags of `start..start + len`, up to the first hole.
    fn apply_lock(&mut self, start: u64, len: u64, lock: VmFlags) -> Result<(), Errno> {
        let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
        if end == start {
            return Ok(());
        }
        let mut at = start;
        while at < end {
            let vma = self.local_at(at).ok_or(Errno::ENOMEM)?;
            let part_end = vma.end().min(end);
            self.lock_part(
                Part {
                    vma,
                    start: at,
                    end: part_end,
                },
                lock,
            )?;
            at = part_end;
        }
        Ok(())
    }

    fn lock_part(&mut self, part: Part, lock: VmFlags) -> Result<(), Errno> {
        let old = part.vma.flags();
        let new = (old - VmFlags::LOCKED_ANY) | lock;
        if new == old || is_never_locked(&part.vma) {
            return Ok(());
        }
        self.modify(part.with_flags(new))
    }

    fn lock_everything(&mut self, lock: VmFlags) {
        let task_size = self.layout.task_size;
        let outcome = self.walk(0..task_size, |space, part| {
            // LINUX: mlockall goes on where one mapping refuses.
            let _: Result<(), Errno> = space.lock_part(part, lock);
            Ok(())
        });
        // Nothing above can refuse, and holes are no error here.
        let _: Result<Holes, Errno> = outcome;
    }

    /// Brings locked pages in and says whether that is possible at all.
    ///
    /// LINUX: pages without any access cannot be brought in: `ENOMEM`, with the locks in place.
    fn check_reachable(&mut self, range: Range<u64>) -> Result<(), Errno> {
        let mut outcome = Ok(());
        let mut reached = range.start;
        for vma in self.vmas_in(range.clone()) {
            let flags = vma.flags();
            let is_lazy = flags.contains(VmFlags::LOCKONFAULT);
            if flags.intersects(VmFlags::IO | VmFlags::PFNMAP) {
                reached = vma.end();
                continue;
            }
            if !flags.intersects(VmFlags::ACCESS) && !is_lazy {
                outcome = Err(Errno::ENOMEM);
                break;
            }
            reached = vma.end();
        }
        let end = reached.min(range.end).max(range.start);
        let populated = self.try_populate(range.start, end);
        // LINUX: beyond the end of a file, at a guard, without an explicitly huge page.
        if populated == Err(Errno::EFAULT) {
            return Err(Errno::ENOMEM);
        }
        // LINUX: without memory for a page: `EAGAIN`.
        if P::HAS_PAGES && outcome.is_ok() && populated == Err(Errno::ENOMEM) {
            return Err(Errno::EAGAIN);
        }
        outcome
    }
}

/// Mappings that locking passes over.
pub(crate) fn is_never_locked(vma: &Vma) -> bool {
    let never = VmFlags::SPECIAL | VmFlags::HUGETLB | VmFlags::DROPPABLE;
    vma.flags().intersects(never) || matches!(vma.backing(), Backing::Special(_))
}
