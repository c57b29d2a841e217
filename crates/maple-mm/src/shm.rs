//! System V shared memory: `shmat` and `shmdt`. Which segments there are is the caller's.

use alloc::string::String;
use core::fmt::Write;

use crate::abi::{
    MAP_FIXED, MAP_SHARED, PAGE_SIZE, PROT_EXEC, PROT_READ, PROT_WRITE, SHM_EXEC, SHM_RDONLY,
    SHM_REMAP, SHM_RND, is_page_aligned, page_ceil, page_floor,
};
use crate::errno::Errno;
use crate::file::{File, FileAccess, FileKind, FileRef, MmapFile};
use crate::file_pages::FilePagesRef;
use crate::flags::VmFlags;
use crate::map::MmapRequest;
use crate::memory::VmaRef;
use crate::page_side::PageSide;
use crate::space::AddressSpace;
use crate::vma::Vma;

bitflags::bitflags! {
    /// What the permissions of a segment grant to whoever attaches it, in the bits of a mode.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct SegmentAccess: u32 {
        /// May be attached with `SHM_EXEC`.
        const EXEC = 1;
        /// May be attached without `SHM_RDONLY`.
        const WRITE = 2;
        /// May be attached.
        const READ = 4;
    }
}

impl SegmentAccess {
    /// What `shmat` with these flags asks for.
    fn asked(flags: u64) -> Self {
        let mut asked = Self::READ;
        asked.set(Self::WRITE, flags & SHM_RDONLY == 0);
        asked.set(Self::EXEC, flags & SHM_EXEC != 0);
        asked
    }
}

/// A System V shared memory segment, as `shmget` made it.
///
/// # Examples
///
/// ```
/// use maple_mm::{AddressSpace, Errno, Segment, SegmentAccess};
/// let segment = Segment {
///     id: 5,
///     key: 0x1234,
///     bytes: 10_000,
///     device: (0, 1),
///     permitted: SegmentAccess::READ | SegmentAccess::WRITE,
///     pages: None,
/// };
/// let mut space = AddressSpace::empty();
/// let addr = space.shmat(Ok(&segment), 0, 0)?;
/// assert_eq!(space.vma_at(addr).unwrap().name(), Some("/SYSV00001234 (deleted)"));
/// space.shmdt(addr)?;
/// assert_eq!(space.map_count(), 0);
/// # Ok::<(), Errno>(())
/// ```
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its identifier, which is its inode too.
    pub id: u32,
    /// The key it was made with; 0 is `IPC_PRIVATE`.
    pub key: u32,
    /// Its length in bytes.
    pub bytes: u64,
    /// Major and minor number of the kernel's own tmpfs.
    pub device: (u32, u32),
    /// What the process that attaches it may do.
    pub permitted: SegmentAccess,
    /// What is in it, for address spaces with pages.
    pub pages: Option<FilePagesRef>,
}

impl Segment {
    /// What one attach maps.
    fn open(&self, id: crate::FileId, flags: u64) -> Result<FileRef, Errno> {
        let mut access = FileAccess::READ;
        access.set(FileAccess::WRITE, flags & SHM_RDONLY == 0);
        let file = File {
            id,
            device: self.device,
            inode: self.id.into(),
            name: self.name()?.into_boxed_str(),
            kind: FileKind::SystemV { bytes: self.bytes },
            access,
        };
        match &self.pages {
            Some(pages) => FileRef::with_pages(file, pages.clone()),
            None => FileRef::new(file),
        }
    }

    fn name(&self) -> Result<String, Errno> {
        const LENGTH: usize = "/SYSV01234567 (deleted)".len();
        let mut name = String::new();
        name.try_reserve_exact(LENGTH).map_err(|_| Errno::ENOMEM)?;
        write!(name, "/SYSV{:08x} (deleted)", self.key).map_err(|_| Errno::ENOMEM)?;
        Ok(name)
    }
}

impl<P: PageSide> AddressSpace<P> {
    /// Attaches a segment and says where. `segment` is what its identifier led to: `EINVAL` for
    /// none, `EIDRM` for one that was removed.
    ///
    /// Each attach is an open file of its own, so no two become one mapping.
    ///
    /// # Complexity
    ///
    /// That of [`mmap`](Self::mmap).
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`]: `addr` is no page boundary and `SHM_RND` is not set, `SHM_REMAP`
    ///   without an address, or something is mapped there and `SHM_REMAP` is not set.
    /// - What `segment` says.
    /// - [`Errno::EACCES`]: its permissions do not allow it.
    /// - What [`mmap`](Self::mmap) says of a shared file mapping, fixed if there is an address.
    ///
    /// # Examples
    ///
    /// See [`Segment`].
    pub fn shmat(
        &mut self,
        segment: Result<&Segment, Errno>,
        addr: u64,
        flags: u64,
    ) -> Result<u64, Errno> {
        let to = attach_address(addr, flags)?;
        let segment = segment?;
        if !segment.permitted.contains(SegmentAccess::asked(flags)) {
            return Err(Errno::EACCES);
        }
        // LINUX: an address that is rounded down to 0 is fixed, and replaces what is there.
        if to != 0 && flags & SHM_REMAP == 0 {
            let end = to.checked_add(segment.bytes).ok_or(Errno::EINVAL)?;
            if self.vmas_in(to..end).next().is_some() {
                return Err(Errno::EINVAL);
            }
        }
        let file = segment.open(self.system.new_file(), flags)?;
        let fixed = if addr == 0 { 0 } else { MAP_FIXED };
        self.mmap(MmapRequest {
            addr: to,
            flags: MAP_SHARED | fixed,
            file: MmapFile::Open(file),
            ..MmapRequest::anonymous(segment.bytes, protection(flags))
        })
    }

    /// Takes an attach away: every mapping of it that is where the attach put it, of the first
    /// attach that has one at or above `addr`.
    ///
    /// LINUX: pieces that were moved stay, pieces whose lower neighbours are gone are found all
    /// the same, and those with a seal stay without an error.
    ///
    /// # Complexity
    ///
    /// O(log n + m) for m mappings above `addr` that are looked at.
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`]: `addr` is no page boundary, or no attach was made there.
    /// - [`Errno::ENOMEM`]: the tree cannot be written; nothing changed.
    ///
    /// # Examples
    ///
    /// See [`Segment`].
    pub fn shmdt(&mut self, addr: u64) -> Result<(), Errno> {
        if !is_page_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        let mut above = self.vmas_in(addr..u64::MAX);
        let first = above
            .find(|vma| is_piece_at(vma, addr))
            .ok_or(Errno::EINVAL)?;
        let file = first.file().ok_or(Errno::EINVAL)?;
        let end = addr.saturating_add(page_ceil(attached_bytes(file)));
        let others = above
            .take_while(|vma| vma.end() <= end)
            .filter(|vma| is_piece_at(vma, addr))
            .filter(|vma| vma.file().is_some_and(|other| other.id == file.id));
        let mut edits = self.edits();
        for vma in core::iter::once(first).chain(others) {
            if !vma.flags().contains(VmFlags::SEALED) {
                edits.clear(vma.index_range())?;
            }
        }
        self.commit(edits)
    }

    /// How many attaches of the segment `id` this address space counts for: each mapping is one.
    ///
    /// # Complexity
    ///
    /// O(n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::AddressSpace;
    /// assert_eq!(AddressSpace::empty().attaches(5), 0);
    /// ```
    #[must_use]
    pub fn attaches(&self, id: u32) -> usize {
        let is_of = |vma: &&VmaRef| {
            vma.file()
                .is_some_and(|file| file.is_segment() && file.inode == u64::from(id))
        };
        self.vmas().filter(is_of).count()
    }
}

/// The address an attach is asked for, 0 for anywhere.
fn attach_address(addr: u64, flags: u64) -> Result<u64, Errno> {
    if addr == 0 {
        return if flags & SHM_REMAP == 0 {
            Ok(0)
        } else {
            Err(Errno::EINVAL)
        };
    }
    if is_page_aligned(addr) {
        return Ok(addr);
    }
    let rounded = page_floor(addr);
    if flags & SHM_RND == 0 || (rounded == 0 && flags & SHM_REMAP != 0) {
        return Err(Errno::EINVAL);
    }
    Ok(rounded)
}

const fn protection(flags: u64) -> u64 {
    let write = if flags & SHM_RDONLY == 0 {
        PROT_WRITE
    } else {
        0
    };
    let exec = if flags & SHM_EXEC == 0 { 0 } else { PROT_EXEC };
    PROT_READ | write | exec
}

const fn attached_bytes(file: &File) -> u64 {
    match file.kind {
        FileKind::SystemV { bytes } => bytes,
        _ => 0,
    }
}

/// Whether `vma` is where an attach at `addr` put it.
fn is_piece_at(vma: &Vma, addr: u64) -> bool {
    let is_attached = vma.file().is_some_and(|file| file.is_segment());
    let pages = vma.start().checked_sub(addr).map(|bytes| bytes / PAGE_SIZE);
    is_attached && pages == Some(vma.page_offset())
}
