//! Touching memory: what a first write leaves behind, and stacks that grow.

use crate::abi::{HUGE_PAGE_SIZE, PAGE_SIZE, page_floor};
use crate::charge::Charge;
use crate::errno::Errno;
use crate::flags::VmFlags;
use crate::memory::VmaRef;
use crate::space::AddressSpace;
use crate::vma::Vma;

/// How memory is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// Why an access fails, as the signal's code tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `SEGV_MAPERR`: nothing is mapped there, and no stack can grow to it.
    NotMapped,
    /// `SEGV_ACCERR`: what is mapped there does not allow it.
    NotAllowed,
    /// No memory for the model's own tree.
    OutOfMemory,
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotMapped => "nothing is mapped at the address",
            Self::NotAllowed => "the mapping at the address does not allow the access",
            Self::OutOfMemory => "no memory to record the access",
        })
    }
}

impl core::error::Error for Fault {}

fn allows(flags: VmFlags, access: Access) -> bool {
    match access {
        // x86: a page that may be written or executed may be read, unless protection keys say
        // otherwise; the kernel maps it so when any access is allowed.
        Access::Read => flags.intersects(VmFlags::ACCESS),
        Access::Write => flags.contains(VmFlags::WRITE),
        Access::Execute => flags.contains(VmFlags::EXEC),
    }
}

impl AddressSpace {
    /// Touches the byte at `addr`.
    ///
    /// The first write to a private mapping gives it an anon_vma; reading does so only where it
    /// brings a huge page in. Below a stack the stack grows to the page touched.
    ///
    /// LINUX: that is an aligned 2 MiB of anonymous memory with `MADV_HUGEPAGE`, all in one mapping,
    /// in which no page was touched before. The model knows no pages and takes every read for the
    /// first.
    ///
    /// # Complexity
    ///
    /// O(log n).
    ///
    /// # Errors
    ///
    /// A [`Fault`] says which signal code the program gets. `maps` does not change; a stack that
    /// may not grow for its size has an anon_vma afterwards.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{Access, AddressSpace, Fault, MmapRequest, abi::*};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(4096, PROT_READ | PROT_WRITE)).unwrap();
    /// space.fault(addr, Access::Read)?;
    /// assert!(!space.vma_at(addr).unwrap().anon().is_faulted());
    /// space.fault(addr, Access::Write)?;
    /// assert!(space.vma_at(addr).unwrap().anon().is_faulted());
    /// assert_eq!(space.fault(addr + 4096, Access::Read), Err(Fault::NotMapped));
    /// # Ok::<(), Fault>(())
    /// ```
    pub fn fault(&mut self, addr: u64, access: Access) -> Result<(), Fault> {
        let above = self.find_vma(addr).cloned().ok_or(Fault::NotMapped)?;
        let vma = if above.contains(addr) {
            above
        } else {
            self.grow_stack(&above, addr)?
        };
        if !allows(vma.flags(), access) {
            return Err(Fault::NotAllowed);
        }
        if access == Access::Write || self.reads_huge_page(&vma, addr..addr + 1) {
            self.prepare_anon(&vma).map_err(|_| Fault::OutOfMemory)?;
        }
        Ok(())
    }

    /// Whether reading `range`, which lies in `vma`, brings a huge page in.
    pub(crate) fn reads_huge_page(&self, vma: &Vma, range: core::ops::Range<u64>) -> bool {
        let is_wanted = self.system.settings().huge_pages_if_advised.is_yes()
            && self.profile.transparent_huge_pages.is_yes()
            && vma.flags().contains(VmFlags::HUGEPAGE)
            && vma.is_anonymous();
        let first_in_vma = vma.start().checked_next_multiple_of(HUGE_PAGE_SIZE);
        let end_in_vma = vma.end() & !(HUGE_PAGE_SIZE - 1);
        is_wanted
            && first_in_vma.is_some_and(|first| range.start.max(first) < range.end.min(end_in_vma))
    }

    /// Extends a stack down to the page of `addr`.
    fn grow_stack(&mut self, stack: &VmaRef, addr: u64) -> Result<VmaRef, Fault> {
        if !stack.flags().contains(VmFlags::GROWSDOWN) {
            return Err(Fault::NotMapped);
        }
        let start = page_floor(addr);
        self.check_distance(stack, start)
            .map_err(|_| Fault::NotMapped)?;
        // LINUX: growing prepares the stack for written pages, whatever the access, and before
        // the limits are checked.
        self.prepare_anon(stack).map_err(|_| Fault::OutOfMemory)?;
        let charge = self
            .charge_growth(stack, start)
            .map_err(|_| Fault::NotMapped)?;
        let current = self.local_at(stack.start()).ok_or(Fault::NotMapped)?;
        let larger = current
            .with_range(start, stack.end())
            .ok_or(Fault::NotMapped)?;
        self.store_grown(larger, charge)
            .map_err(|_| Fault::OutOfMemory)
    }

    fn store_grown(&mut self, larger: Vma, charge: Charge) -> Result<VmaRef, Errno> {
        let larger = VmaRef::new(larger, self.system.pool())?;
        let mut edits = self.edits();
        edits.put_ref(larger.clone())?;
        self.commit_charged(edits, charge)?;
        Ok(larger)
    }

    /// Whether a stack that begins at `start` is far enough from what lies below.
    fn check_distance(&self, stack: &Vma, start: u64) -> Result<(), Errno> {
        if start < self.system.lowest_address() {
            return Err(Errno::EPERM);
        }
        let Some(below) = self.vma_before(stack.start()) else {
            return Ok(());
        };
        let flags = below.flags();
        let keeps_distance =
            !flags.contains(VmFlags::GROWSDOWN) && flags.intersects(VmFlags::ACCESS);
        // A stack may come close to another stack and to memory nobody can touch.
        let gap = if keeps_distance {
            self.system.stack_guard_gap()
        } else {
            0
        };
        if start < below.end() || start - below.end() < gap {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// Checks the limits of a stack that begins at `start`, and charges what it grows by.
    fn charge_growth(&self, stack: &Vma, start: u64) -> Result<Charge, Errno> {
        let grown = (stack.start() - start) / PAGE_SIZE;
        let is_locked = stack.flags().contains(VmFlags::LOCKED);
        if stack.page_offset() < grown
            || !self.may_expand(stack.flags(), grown)
            || stack.end() - start > self.limits.stack
            || is_locked && !self.may_lock(stack.start() - start)
        {
            return Err(Errno::ENOMEM);
        }
        let charged = if stack.flags().contains(VmFlags::ACCOUNT) {
            grown
        } else {
            0
        };
        self.charge(charged)
    }

    /// Brings the pages of `start..end` in, as `MAP_POPULATE` and locking do: private writable
    /// memory is written, other memory read. What cannot be brought in is left out.
    pub(crate) fn populate(&mut self, start: u64, end: u64) {
        let outcome = self.walk(start..end, |space, part| {
            let flags = part.vma.flags();
            let is_written = flags.contains(VmFlags::WRITE) && !flags.contains(VmFlags::SHARED);
            let is_lazy = flags.contains(VmFlags::LOCKONFAULT);
            let is_special = flags.intersects(VmFlags::IO | VmFlags::PFNMAP);
            let is_read = flags.intersects(VmFlags::ACCESS)
                && space.reads_huge_page(&part.vma, part.start..part.end);
            if (is_written || is_read) && !is_lazy && !is_special {
                space.prepare_anon(&part.vma)
            } else {
                Ok(())
            }
        });
        // LINUX: mmap, brk, mremap and the mlock family succeed although pages could not be
        // brought in; here only memory for the tree can be missing, and the mappings stand.
        let _: Result<_, Errno> = outcome.map(|_| ());
    }
}
