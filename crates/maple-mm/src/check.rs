//! Whether a program may use a buffer: what a kernel asks in every call that is given one.

use core::fmt;
use core::ops::Range;

use maple_tree::IndexRange;

use crate::fault::{Access, Fault, allows};
use crate::memory::VmaRef;
use crate::page_side::PageSide;
use crate::space::AddressSpace;

/// The first byte of a range that may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The byte.
    pub addr: u64,
    /// Why: [`Fault::NotMapped`] or [`Fault::NotAllowed`].
    pub fault: Fault,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { addr, fault } = self;
        write!(f, "{fault}: {addr:#x}")
    }
}

impl core::error::Error for Refused {}

/// Whether the mappings, ascending and those that overlap `range`, cover it and allow the access.
pub(crate) fn check<'v>(
    mappings: impl Iterator<Item = (IndexRange, &'v VmaRef)>,
    range: &Range<u64>,
    access: Access,
) -> Result<(), Refused> {
    let mut addr = range.start;
    // A buffer that wraps around.
    if range.end < addr {
        let fault = Fault::NotMapped;
        return Err(Refused { addr, fault });
    }
    for (indices, vma) in mappings {
        if addr < indices.first() {
            break;
        }
        if !allows(vma.flags(), access) {
            let fault = Fault::NotAllowed;
            return Err(Refused { addr, fault });
        }
        // Of a mapping that is being replaced a reader may find what is left.
        addr = indices.last().saturating_add(1);
    }
    if addr < range.end {
        let fault = Fault::NotMapped;
        return Err(Refused { addr, fault });
    }
    Ok(())
}

impl<P: PageSide> AddressSpace<P> {
    /// Whether the mappings allow the access to every byte of `range` (end exclusive); an empty
    /// range is allowed, one that ends before it begins is not, as a buffer that wraps around
    /// does. Nothing is brought in: a file may still turn out to be too short, and a
    /// stack that could grow to an address is not there yet.
    ///
    /// # Complexity
    ///
    /// O(log n + m) for m mappings in the range, up to the first that refuses.
    ///
    /// # Errors
    ///
    /// [`Refused`] names the first byte that may not be used.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{Access, AddressSpace, Fault, MmapRequest, abi::*};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ | PROT_WRITE))?;
    /// space.mprotect(addr + 4096, 4096, PROT_READ)?;
    /// assert_eq!(space.check_range(addr..addr + 8192, Access::Read), Ok(()));
    /// let refused = space.check_range(addr + 9..addr + 5000, Access::Write).unwrap_err();
    /// assert_eq!((refused.addr, refused.fault), (addr + 4096, Fault::NotAllowed));
    /// let refused = space.check_range(addr..addr + 8193, Access::Read).unwrap_err();
    /// assert_eq!((refused.addr, refused.fault), (addr + 8192, Fault::NotMapped));
    /// assert!(space.check_range(addr..addr.wrapping_add(u64::MAX), Access::Read).is_err());
    /// # Ok::<(), maple_mm::Errno>(())
    /// ```
    #[doc(alias = "access_ok")]
    pub fn check_range(&self, range: Range<u64>, access: Access) -> Result<(), Refused> {
        check(self.tree.range(range.clone()), &range, access)
    }
}
