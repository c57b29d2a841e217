//! Touching memory: what a first write leaves behind, and stacks that grow.

use crate::abi::{HUGE_PAGE_SIZE, PAGE_SIZE, page_floor};
use crate::charge::Charge;
use crate::errno::Errno;
use crate::flags::VmFlags;
use crate::huge_rules::HugeRules;
use crate::memory::VmaRef;
use crate::modify::{Holes, Part};
use crate::page_side::{PageSide, Touch, Touched};
use crate::paging::Liveness;
use crate::profile::Configured;
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
    /// `SIGBUS`: the mapping has no page there; its file is too short, or not known, or there is
    /// no explicitly huge page left.
    Bus,
    /// No memory for the page, or for the model's own tree.
    OutOfMemory,
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotMapped => "nothing is mapped at the address",
            Self::NotAllowed => "the mapping at the address does not allow the access",
            Self::Bus => "nothing stands behind the mapping at the address",
            Self::OutOfMemory => "no memory for the page, or to record the access",
        })
    }
}

impl core::error::Error for Fault {}

impl From<Fault> for Errno {
    /// What a call ends with that touches memory for a program.
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::OutOfMemory => Self::ENOMEM,
            Fault::NotMapped | Fault::NotAllowed | Fault::Bus => Self::EFAULT,
        }
    }
}

pub(crate) fn allows(flags: VmFlags, access: Access) -> bool {
    match access {
        // x86: a page that may be written or executed may be read, unless protection keys say
        // otherwise; the kernel maps it so when any access is allowed.
        Access::Read => flags.intersects(VmFlags::ACCESS),
        Access::Write => flags.contains(VmFlags::WRITE),
        Access::Execute => flags.contains(VmFlags::EXEC),
    }
}

impl<P: PageSide> AddressSpace<P> {
    /// Touches the byte at `addr`.
    ///
    /// The first write to a private mapping gives it an anon_vma; reading does so only where it
    /// brings a huge page in, or tries to bring an explicitly huge one in. Below a stack the stack grows to the page touched.
    ///
    /// LINUX: that is an aligned 2 MiB of anonymous memory with `MADV_HUGEPAGE`, all in one mapping,
    /// in which no page was touched before. The model takes every read for the first.
    ///
    /// Where there are pages, afterwards one is there that allows the access: the zero page, the
    /// page of a file, or one of its own. Where a file is read, pages around it that are
    /// [at hand](crate::FilePages::page_at_hand) are there, too: up to 16, in the mapping.
    ///
    /// # Complexity
    ///
    /// O(log n).
    ///
    /// # Errors
    ///
    /// A [`Fault`] says which signal code the program gets. A stack that may not grow for its size
    /// has an anon_vma afterwards, and one that does not allow the access has grown all the same.
    /// Where a page could not be had, nothing has changed, unless readers may have seen it
    /// ([`SharedAddressSpace`](crate::SharedAddressSpace)). (LINUX: the anon_vma stays, and the
    /// stack stays grown.)
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
        let changes_mappings = !above.contains(addr) || !above.anon().is_faulted();
        let is_explicit = above.flags().contains(VmFlags::HUGETLB);
        let only_looks = access == Access::Execute && !is_explicit && above.contains(addr);
        if !P::HAS_PAGES || !changes_mappings || only_looks || self.tree.is_open() {
            return self.touch(above, addr, access);
        }
        let savepoint = self.savepoint();
        let touched = self.touch(above, addr, access);
        let is_missing = is_explicit && touched == Err(Fault::Bus);
        if touched == Err(Fault::OutOfMemory) || is_missing {
            self.return_to(savepoint);
        }
        touched
    }

    /// Touches `addr`, which lies in `above` or below it.
    fn touch(&mut self, above: VmaRef, addr: u64, access: Access) -> Result<(), Fault> {
        let vma = if above.contains(addr) {
            above
        } else {
            self.grow_stack(&above, addr)?
        };
        if !allows(vma.flags(), access) {
            return Err(Fault::NotAllowed);
        }
        let is_written =
            access == Access::Write || self.huge_rules().reads_own_page(&vma, addr..addr + 1);
        if is_written && !self.is_guarded(&vma, page_floor(addr)) {
            self.prepare_anon(&vma).map_err(|_| Fault::OutOfMemory)?;
        }
        let page = page_floor(addr);
        self.bring_in(&vma, page..page + PAGE_SIZE, access)
    }

    fn touch_page(
        &mut self,
        vma: &Vma,
        (addr, access): (u64, Access),
        huge: Configured,
    ) -> Result<(), Fault> {
        let explicit = vma
            .flags()
            .contains(VmFlags::HUGETLB)
            .then(|| self.promises.source(&self.system, vma));
        let touched = self.pages.touch(&Touch {
            vma,
            addr,
            access,
            huge,
            explicit,
            live: Liveness::SURE,
        })?;
        debug_assert_eq!(touched, Touched::Ready, "nobody else changes mappings");
        Ok(())
    }

    /// Touches each page of `range`, which lies in `vma` and allows it; as far as there is memory.
    fn bring_in(
        &mut self,
        vma: &Vma,
        range: core::ops::Range<u64>,
        access: Access,
    ) -> Result<(), Fault> {
        if self.lacks_huge_pages(vma) {
            return Err(Fault::Bus);
        }
        if !P::HAS_PAGES {
            return match self.missing_page(range) {
                _ if planted!(MissingPage) => Ok(()),
                Some(page) if page.is_guard => Err(Fault::NotMapped),
                Some(_) => Err(Fault::Bus),
                None => Ok(()),
            };
        }
        let huge = self.huge_rules().wants(vma);
        let page = if vma.flags().contains(VmFlags::HUGETLB) {
            HUGE_PAGE_SIZE
        } else {
            PAGE_SIZE
        };
        let first = range.start & !(page - 1);
        for addr in (first..range.end).step_by(page as usize) {
            self.touch_page(vma, (addr, access), huge)?;
        }
        Ok(())
    }

    /// Whether a guard stands at the page `addr` of `vma`.
    ///
    /// LINUX: it is noticed before anything is prepared for a written page.
    fn is_guarded(&self, vma: &Vma, addr: u64) -> bool {
        let missing = || self.missing_page(addr..addr + PAGE_SIZE);
        vma.flags().contains(VmFlags::MAYBE_GUARD)
            && !planted!(GuardAnon)
            && (self.pages.is_guarded(addr) || missing().is_some_and(|page| page.is_guard))
    }

    /// When an access brings a huge page in.
    fn huge_rules(&self) -> HugeRules<'_> {
        HugeRules {
            system: &self.system,
            profile: &self.profile,
            switches: self.process.flags,
        }
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
            || stack.end() - start > self.limits.stack && !planted!(LimitStack)
            || is_locked && !self.may_lock(stack.start() - start)
        {
            return Err(Errno::ENOMEM);
        }
        // LINUX: there must be memory for it whether or not it counts. (6.18 then counts it for the
        // machine, and never takes it back.)
        let charge = self.charge(grown)?;
        if stack.flags().contains(VmFlags::ACCOUNT) {
            return Ok(charge);
        }
        Ok(Charge::NONE)
    }

    /// Brings the pages of `start..end` in, as `MAP_POPULATE` and locking do: private writable
    /// memory is written, other memory read. What cannot be brought in is left out.
    ///
    /// LINUX: mmap, brk, mremap and mlockall succeed although pages could not be brought in; the
    /// mappings stand.
    pub(crate) fn populate(&mut self, start: u64, end: u64) {
        let outcome = self.walk(start..end, |space, part| {
            // LINUX: goes on with the next mapping.
            let _: Result<(), Errno> = space.populate_part(&part);
            Ok(())
        });
        // Nothing above can refuse, and holes are no error here.
        let _: Result<Holes, Errno> = outcome;
    }

    /// As [`populate`](Self::populate), up to the first page that cannot be brought in.
    pub(crate) fn try_populate(&mut self, start: u64, end: u64) -> Result<(), Errno> {
        let outcome = self.walk(start..end, |space, part| space.populate_part(&part));
        outcome.map(|_| ())
    }

    fn populate_part(&mut self, part: &Part) -> Result<(), Errno> {
        let flags = part.vma.flags();
        let is_written = flags.contains(VmFlags::WRITE) && !flags.contains(VmFlags::SHARED);
        let is_lazy = flags.contains(VmFlags::LOCKONFAULT);
        let is_special = flags.intersects(VmFlags::IO | VmFlags::PFNMAP);
        if is_lazy || is_special || !flags.intersects(VmFlags::ACCESS) {
            return Ok(());
        }
        let access = if is_written {
            Access::Write
        } else {
            Access::Read
        };
        self.prepare_and_bring_in(&part.vma, part.start..part.end, access)
    }

    /// Touches each page of `range`, which lies in `vma` and allows it. What will have written pages
    /// is prepared for them.
    pub(crate) fn prepare_and_bring_in(
        &mut self,
        vma: &Vma,
        range: core::ops::Range<u64>,
        access: Access,
    ) -> Result<(), Errno> {
        let is_written =
            access == Access::Write || self.huge_rules().reads_own_page(vma, range.clone());
        if is_written && !self.is_guarded(vma, range.start) {
            self.prepare_anon(vma)?;
        }
        Ok(self.bring_in(vma, range, access)?)
    }
}
