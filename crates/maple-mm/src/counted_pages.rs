//! A page side that has more than one owner: [`Counted`].

use crate::counted::Counted;
use crate::errno::Errno;
use crate::fault::Fault;
use crate::file_pages::FilePagesRef;
use crate::huge_file::HugeObject;
use crate::page_side::{Inheritance, PageChange, PageSide, Touch, Touched, Usage};
use crate::system::System;
use crate::teardown::Teardown;

/// Pages for a [`SharedAddressSpace`](crate::SharedAddressSpace): who has the lock and who has not
/// reach the same. A child has its own.
///
/// # Examples
///
/// ```
/// use maple_mm::{Access, AddressSpace, Counted, MappedPages, MmapRequest, Setup};
/// use maple_mm::{SharedAddressSpace, abi::*};
/// use maple_mm::paging::{Arena, ArenaLayout, NoTlb, X86_64};
/// use maple_tree::EpochRcu;
/// use std::sync::Arc;
/// let arena = Arena::<parking_lot::RawMutex>::new(ArenaLayout::of_frames(64))?;
/// let pages = Counted::new(MappedPages::<X86_64<4>, _, _>::new(Arc::new(arena), NoTlb)?)?;
/// let space = AddressSpace::with_pages(Setup::default(), pages);
/// let shared = SharedAddressSpace::<_, _, parking_lot::RawMutex>::new(space, EpochRcu)?;
/// let addr = shared.lock().mmap(MmapRequest::anonymous(8192, PROT_READ | PROT_WRITE))?;
/// shared.lock().write(addr, b"seen by the child")?;
/// let child = shared.fork()?;
/// shared.lock().write(addr, b"not seen by it   ")?;
/// let mut seen = [0; 17];
/// child.lock().read(addr, &mut seen)?;
/// assert_eq!(&seen, b"seen by the child");
/// assert_eq!(shared.statistics().resident.anon, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<P: PageSide> PageSide for Counted<P> {
    const HAS_PAGES: bool = P::HAS_PAGES;

    const BESIDE: bool = P::BESIDE;

    const ADDRESSES_END: u64 = P::ADDRESSES_END;

    type Prepared<'a>
        = P::Prepared<'a>
    where
        Self: 'a;

    fn prepare(&self, changes: &[PageChange]) -> Result<Self::Prepared<'_>, Errno> {
        (**self).prepare(changes)
    }

    fn carry_out(&self, changes: &[PageChange], prepared: Self::Prepared<'_>) {
        (**self).carry_out(changes, prepared);
    }

    fn touch(&self, touch: &Touch<'_>) -> Result<Touched, Fault> {
        (**self).touch(touch)
    }

    fn fork(&self, inheritance: Inheritance<'_>) -> Result<Self, Errno> {
        Self::new((**self).fork(inheritance)?)
    }

    fn shared_memory(&self, bytes: u64, system: &System) -> Result<Option<FilePagesRef>, Errno> {
        (**self).shared_memory(bytes, system)
    }

    fn huge_memory(&self, object: HugeObject) -> Result<Option<FilePagesRef>, Errno> {
        (**self).huge_memory(object)
    }

    fn relax(&self, spins: u32) {
        (**self).relax(spins);
    }

    fn is_guarded(&self, addr: u64) -> bool {
        (**self).is_guarded(addr)
    }

    fn usage(&self) -> Usage {
        (**self).usage()
    }

    fn tear_down(&self, teardown: &Teardown) {
        (**self).tear_down(teardown);
    }

    fn barrier(&self) {
        (**self).barrier();
    }
}
