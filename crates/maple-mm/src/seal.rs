//! `mseal`: freezing boundaries and protection.

use crate::abi::{MADV_DONTFORK, MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_FREE, MADV_REMOVE};
use crate::abi::{MADV_GUARD_INSTALL, MADV_WIPEONFORK, is_page_aligned, page_ceil};
use crate::errno::Errno;
use crate::flags::VmFlags;
use crate::modify::Holes;
use crate::page_side::PageSide;
use crate::space::AddressSpace;
use crate::vma::Vma;

impl<P: PageSide> AddressSpace<P> {
    /// Seals every mapping of `addr..addr + len`; parts of mappings are split off for it.
    ///
    /// # Complexity
    ///
    /// O(m log n) for m mappings in the range.
    ///
    /// # Errors
    ///
    /// - [`Errno::ENOSYS`]: a kernel without the call.
    /// - [`Errno::EINVAL`]: any flag, an `addr` that is no page boundary, a range that wraps.
    /// - [`Errno::ENOMEM`]: a hole; nothing is sealed. Or `max_map_count` is reached; what
    ///   precedes is sealed.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Errno, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(4096, PROT_READ))?;
    /// space.mseal(addr, 4096, 0)?;
    /// assert_eq!(space.munmap(addr, 4096), Err(Errno::EPERM));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn mseal(&mut self, addr: u64, len: u64, flags: u64) -> Result<(), Errno> {
        if !self.profile.mseal.is_yes() {
            return Err(Errno::ENOSYS);
        }
        if flags != 0 || !is_page_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        let rounded = page_ceil(len);
        if len != 0 && rounded == 0 {
            return Err(Errno::EINVAL);
        }
        let end = addr.checked_add(rounded).ok_or(Errno::EINVAL)?;
        if end == addr {
            return Ok(());
        }
        if self.walk(addr..end, |_, _| Ok(()))? == Holes::Some {
            return Err(Errno::ENOMEM);
        }
        self.walk(addr..end, |space, part| {
            let flags = part.vma.flags() | VmFlags::SEALED;
            if flags == part.vma.flags() {
                Ok(())
            } else {
                space.modify(part.with_flags(flags))
            }
        })?;
        Ok(())
    }
}

/// Whether a seal forbids this advice: it would throw away content nobody may write.
pub(crate) fn forbids(vma: &Vma, advice: i32) -> bool {
    let discards = matches!(
        advice,
        MADV_FREE
            | MADV_DONTNEED
            | MADV_DONTNEED_LOCKED
            | MADV_REMOVE
            | MADV_DONTFORK
            | MADV_WIPEONFORK
            | MADV_GUARD_INSTALL
    );
    let flags = vma.flags();
    if !discards || !flags.contains(VmFlags::SEALED) {
        return false;
    }
    // LINUX: 6.18 lets a file's private pages be thrown away, even written ones.
    let is_private = vma.is_anonymous() && !flags.contains(VmFlags::SHARED);
    is_private && !flags.contains(VmFlags::WRITE)
}
