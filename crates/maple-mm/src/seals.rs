//! The seals of a `memfd`, as far as its mappings feel them.

use crate::file::{File, FileAccess};
use crate::flags::VmFlags;
use crate::page_side::PageSide;
use crate::space::AddressSpace;

bitflags::bitflags! {
    /// What `fcntl(F_GET_SEALS)` says of a file in memory.
    ///
    /// Only `WRITE` and `FUTURE_WRITE` concern mappings: a shared one may not become writable any
    /// more, and `MADV_REMOVE` is refused. Private mappings feel nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::Seals;
    /// assert!(Seals::FUTURE_WRITE.refuses_writing());
    /// assert!(!(Seals::SHRINK | Seals::GROW | Seals::EXEC).refuses_writing());
    /// ```
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Seals: u32 {
        /// No seal may be added.
        const SEAL = 1;
        /// The file may not become shorter.
        const SHRINK = 2;
        /// The file may not become longer.
        const GROW = 4;
        /// Nobody may write; asked for while a shared mapping may be writable, it is refused.
        const WRITE = 8;
        /// Only mappings that are there already may be written through.
        const FUTURE_WRITE = 0x10;
        /// It may not become executable. LINUX: on an executable file it brings `SHRINK`, `GROW`,
        /// `WRITE` and `FUTURE_WRITE` with it.
        const EXEC = 0x20;
    }
}

impl Seals {
    /// Whether new shared mappings may never be written through.
    #[must_use]
    pub const fn refuses_writing(self) -> bool {
        self.intersects(Self::WRITE.union(Self::FUTURE_WRITE))
    }
}

impl File {
    /// The file with these seals in place of those it had.
    ///
    /// Mappings that are there learn of it by [`AddressSpace::set_file`]; new ones by what is
    /// passed to [`AddressSpace::mmap`].
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Errno, File, FileId, FileRef, MmapFile, MmapRequest, Seals};
    /// use maple_mm::abi::*;
    /// let mut space = AddressSpace::empty();
    /// let memfd = File { inode: 7, ..File::shared_anonymous(FileId(1))? };
    /// let sealed = FileRef::new(memfd.with_seals(Seals::WRITE))?;
    /// let writable = MmapRequest {
    ///     flags: MAP_SHARED,
    ///     file: MmapFile::Open(sealed),
    ///     ..MmapRequest::anonymous(4096, PROT_READ | PROT_WRITE)
    /// };
    /// assert_eq!(space.mmap(writable), Err(Errno::EPERM));
    /// # Ok::<(), Errno>(())
    /// ```
    #[must_use]
    pub fn with_seals(mut self, seals: Seals) -> Self {
        self.access
            .set(FileAccess::WRITE_SEALED, seals.refuses_writing());
        self
    }
}

impl<P: PageSide> AddressSpace<P> {
    /// How many shared mappings of an inode are writable or may become so: as long as there is
    /// one in any address space, the kernel refuses `F_SEAL_WRITE` with `EBUSY`.
    ///
    /// # Complexity
    ///
    /// O(n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::AddressSpace;
    /// assert_eq!(AddressSpace::empty().writable_mappings((0, 1), 7), 0);
    /// ```
    #[must_use]
    pub fn writable_mappings(&self, device: (u32, u32), inode: u64) -> usize {
        let of_inode = |file: &File| file.device == device && file.inode == inode;
        let both = VmFlags::SHARED | VmFlags::MAYWRITE;
        self.vmas()
            .filter(|vma| vma.flags().contains(both))
            .filter(|vma| vma.file().is_some_and(|file| of_inode(file)))
            .count()
    }
}
