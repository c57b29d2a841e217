//! `mprotect`: new access, mapping by mapping.

use crate::abi::{
    PROT_EXEC, PROT_GROWSDOWN, PROT_GROWSUP, PROT_READ, PROT_SEM, PROT_WRITE, is_page_aligned,
    page_ceil,
};
use crate::errno::Errno;
use crate::flags::VmFlags;
use crate::modify::{Change, Holes, Part};
use crate::page_side::PageSide;
use crate::space::AddressSpace;
use crate::vma::Vma;

impl<P: PageSide> AddressSpace<P> {
    /// Changes the access of every page of `addr..addr + len`.
    ///
    /// # Complexity
    ///
    /// O(m log n) for m mappings in the range.
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`]: `addr` is no page boundary, unknown bits in `prot`,
    ///   `PROT_GROWSDOWN` where no stack is, or an explicitly huge page would be cut.
    /// - [`Errno::ENOMEM`]: the range wraps or has a hole, or a limit is reached.
    /// - [`Errno::EACCES`]: a mapping may never have that access.
    /// - [`Errno::EPERM`]: a mapping is sealed.
    ///
    /// LINUX (all versions): the mappings before the one that refuses are changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Errno, MmapRequest, abi::*};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(4096, PROT_READ))?;
    /// assert_eq!(space.mprotect(addr, 8192, PROT_NONE), Err(Errno::ENOMEM));
    /// assert!(space.vma_at(addr).unwrap().flags().access().is_empty());
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn mprotect(&mut self, addr: u64, len: u64, prot: u64) -> Result<(), Errno> {
        let grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
        if grows == PROT_GROWSDOWN | PROT_GROWSUP || !is_page_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let end = addr.wrapping_add(page_ceil(len));
        if end <= addr {
            return Err(Errno::ENOMEM);
        }
        let prot = prot & !grows;
        if prot & !(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM) != 0 {
            return Err(Errno::EINVAL);
        }
        let start = self.protect_start(addr..end, grows)?;
        self.protect_range(start..end, VmFlags::from_protection(prot))
    }

    /// Does what `pkey_mprotect` does with the keys -1 (none) and 0 (the default one).
    ///
    /// # Errors
    ///
    /// [`Errno::EINVAL`] for another key: none is allocated. Else as [`mprotect`](Self::mprotect).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// let none = maple_mm::KeyedProtection { prot: 0, key: -1 };
    /// space.pkey_mprotect(addr, 4096, none).unwrap();
    /// assert_eq!(space.map_count(), 2);
    /// ```
    pub fn pkey_mprotect(
        &mut self,
        addr: u64,
        len: u64,
        protection: KeyedProtection,
    ) -> Result<(), Errno> {
        let KeyedProtection { prot, key } = protection;
        if matches!(key, -1 | 0) || len == 0 && is_page_aligned(addr) {
            return self.mprotect(addr, len, prot);
        }
        // The argument checks that come before the key's.
        self.mprotect(addr, 0, prot)?;
        if addr.wrapping_add(page_ceil(len)) <= addr {
            Err(Errno::ENOMEM)
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// Where the change begins: at the address, or at the start of the stack it lies in.
    fn protect_start(&self, range: core::ops::Range<u64>, grows: u64) -> Result<u64, Errno> {
        let vma = self.find_vma(range.start).ok_or(Errno::ENOMEM)?;
        if grows & PROT_GROWSDOWN != 0 {
            if vma.start() >= range.end {
                return Err(Errno::ENOMEM);
            }
            let is_stack = vma.flags().contains(VmFlags::GROWSDOWN);
            return if is_stack {
                Ok(vma.start())
            } else {
                Err(Errno::EINVAL)
            };
        }
        if vma.start() > range.start {
            return Err(Errno::ENOMEM);
        }
        // x86 has no mapping that grows up.
        if grows == 0 {
            Ok(range.start)
        } else {
            Err(Errno::EINVAL)
        }
    }

    fn protect_range(
        &mut self,
        range: core::ops::Range<u64>,
        access: VmFlags,
    ) -> Result<(), Errno> {
        if planted!(ProtectHole) && self.walk(range.clone(), |_, _| Ok(()))? == Holes::Some {
            return Err(Errno::ENOMEM);
        }
        let mut at = range.start;
        while at < range.end {
            let vma = self.local_at(at).ok_or(Errno::ENOMEM)?;
            let end = vma.end().min(range.end);
            self.protect_part(
                &Part {
                    vma,
                    start: at,
                    end,
                },
                access,
            )?;
            at = end;
        }
        Ok(())
    }

    fn protect_part(&mut self, part: &Part, access: VmFlags) -> Result<(), Errno> {
        let old = part.vma.flags();
        let may = VmFlags::from_bits_retain((old & VmFlags::MAY_ACCESS).bits() >> 4);
        if !may.contains(access) {
            return Err(Errno::EACCES);
        }
        if old.contains(VmFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        let new = (old - VmFlags::ACCESS) | access;
        if new == old {
            return Ok(());
        }
        let change = self.accounted(part, new)?;
        let becomes_writable = new.contains(VmFlags::WRITE) && !old.contains(VmFlags::WRITE);
        let is_private = !old.contains(VmFlags::SHARED);
        self.modify(change)?;
        // Locked private pages are copied now rather than at the first write.
        if becomes_writable && is_private && old.contains(VmFlags::LOCKED) {
            self.populate(part.start, part.end);
        }
        Ok(())
    }

    /// The change with what it charges or gives back.
    fn accounted(&self, part: &Part, new: VmFlags) -> Result<Change, Errno> {
        let old = part.vma.flags();
        let pages = Self::pages(part.end - part.start);
        let mut change = part.clone().with_flags(new);
        if new.contains(VmFlags::WRITE) {
            // Only a change of class can exceed a limit.
            if !self.may_expand(new, pages) && self.may_expand(old, pages) {
                return Err(Errno::ENOMEM);
            }
            let never_charged = VmFlags::ACCOUNT
                | VmFlags::WRITE
                | VmFlags::HUGETLB
                | VmFlags::SHARED
                | VmFlags::NORESERVE;
            if !old.intersects(never_charged) && !planted!(ProtectAccount) {
                change.charge = self.charge(pages)?;
                change.flags |= VmFlags::ACCOUNT;
            }
        } else if old.contains(VmFlags::ACCOUNT) && is_unwritten_memory(&part.vma) {
            change.flags -= VmFlags::ACCOUNT;
        }
        Ok(change)
    }
}

fn is_unwritten_memory(vma: &Vma) -> bool {
    vma.is_anonymous() && !vma.anon().is_faulted()
}

/// The arguments `pkey_mprotect` adds to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedProtection {
    /// `PROT_` bits.
    pub prot: u64,
    /// The protection key; -1 for none.
    pub key: i32,
}
