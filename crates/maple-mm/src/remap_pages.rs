//! `remap_file_pages`: another part of a shared file in the place of what is mapped of it.

use core::ops::Range;

use crate::abi::{
    HUGE_PAGE_SIZE, MAP_FIXED, MAP_LOCKED, MAP_NONBLOCK, MAP_POPULATE, MAP_SHARED, PAGE_SIZE,
    page_floor,
};
use crate::errno::Errno;
use crate::file::{FileRef, MmapFile};
use crate::flags::VmFlags;
use crate::map::{Face, MmapRequest};
use crate::page_side::PageSide;
use crate::space::AddressSpace;

/// What a program passes to `remap_file_pages`, as it passes it.
///
/// # Examples
///
/// ```
/// use maple_mm::{AddressSpace, Errno, MmapRequest, RemapPages, abi::*};
/// let mut space = AddressSpace::empty();
/// let shared = MmapRequest {
///     flags: MAP_SHARED | MAP_ANONYMOUS,
///     ..MmapRequest::anonymous(4 * 4096, PROT_READ)
/// };
/// let start = space.mmap(shared)?;
/// let second = RemapPages { start, size: 4096, prot: 0, page_offset: 2, flags: 0 };
/// space.remap_file_pages(second)?;
/// assert_eq!(space.vma_at(start).unwrap().page_offset(), 2);
/// assert_eq!(space.map_count(), 2);
/// # Ok::<(), Errno>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemapPages {
    /// Where the range begins, in bytes; rounded down to a page.
    pub start: u64,
    /// Its length in bytes; rounded down to pages.
    pub size: u64,
    /// Must be 0: the protection stays.
    pub prot: u64,
    /// The offset into the file that is to begin there, in pages.
    pub page_offset: u64,
    /// `MAP_NONBLOCK` brings no pages in; other bits mean nothing.
    pub flags: u64,
}

impl<P: PageSide> AddressSpace<P> {
    /// Maps another part of the same shared file over a range.
    ///
    /// LINUX: from 4.0 on this is a fixed `mmap` with the protection of what is there: flags that
    /// only advice sets are lost, and so is `MAP_NORESERVE`.
    ///
    /// # Complexity
    ///
    /// That of [`mmap`](Self::mmap).
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`]: `prot` is not 0, the range is empty or wraps, or it is not wholly
    ///   mapped, shared, from one open file and with the same flags all over.
    /// - What [`mmap`](Self::mmap) says.
    ///
    /// LINUX: explicitly huge pages are asked for anew after the range was emptied. The model
    /// says `ENOMEM` then, as a machine with an empty pool does.
    ///
    /// # Examples
    ///
    /// See [`RemapPages`].
    pub fn remap_file_pages(&mut self, request: RemapPages) -> Result<(), Errno> {
        let start = page_floor(request.start);
        let size = page_floor(request.size);
        let end = start.wrapping_add(size);
        let last = request.page_offset.checked_add(size / PAGE_SIZE);
        if request.prot != 0 || end <= start || last.is_none() {
            return Err(Errno::EINVAL);
        }
        let (flags, file) = self.remapped_file(start, end).ok_or(Errno::EINVAL)?;
        if flags.contains(VmFlags::HUGETLB) {
            let flags = flags | self.implied_exec(flags, Some(&file));
            let room = file.max_bytes().saturating_sub(size) / PAGE_SIZE;
            return self.remap_huge(start..end, (request.page_offset, flags), room);
        }
        let locked = if flags.contains(VmFlags::LOCKED) {
            MAP_LOCKED
        } else {
            0
        };
        let again = MmapRequest {
            addr: start,
            len: size,
            prot: flags.protection(),
            flags: MAP_SHARED | MAP_FIXED | MAP_POPULATE | locked | request.flags & MAP_NONBLOCK,
            file: MmapFile::None,
            // What does not fit lies beyond the end of every file, as the highest page does.
            offset: request
                .page_offset
                .checked_mul(PAGE_SIZE)
                .unwrap_or(page_floor(u64::MAX)),
        };
        let mapped = self.mmap_file(&again, Some(&file), Face::Mapped);
        mapped.map(|_| ())
    }

    /// The flags and the file of the mappings that cover `start..end`, if all have the same.
    fn remapped_file(&self, start: u64, end: u64) -> Option<(VmFlags, FileRef)> {
        let first = self.vma_at(start)?;
        let file = first.file()?;
        let mut reached = start;
        for vma in self.vmas_in(start..end) {
            let is_same = vma.flags() == first.flags()
                && vma.file().is_some_and(|other| other.id == file.id)
                && vma.start() <= reached;
            if !is_same {
                return None;
            }
            reached = vma.end();
        }
        let is_shared = first.flags().contains(VmFlags::SHARED);
        (is_shared && end <= reached).then(|| (first.flags(), file.clone()))
    }

    /// `room` is the last offset that the file reaches from, in pages.
    fn remap_huge(
        &mut self,
        range: Range<u64>,
        (page_offset, flags): (u64, VmFlags),
        room: u64,
    ) -> Result<(), Errno> {
        let (start, size) = (range.start, range.end - range.start);
        if !(start | size).is_multiple_of(HUGE_PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        if self.map_count() > self.system.settings().max_map_count {
            return Err(Errno::ENOMEM);
        }
        if self.default_flags.contains(VmFlags::LOCKED) && !self.may_lock(size) {
            return Err(Errno::EAGAIN);
        }
        if page_offset > room {
            return Err(Errno::EOVERFLOW);
        }
        self.check_exec_gain(flags, flags)?;
        // What comes takes the place of as much, but the limit may have been lowered.
        if !self.may_expand(VmFlags::SHARED, 0) {
            return Err(Errno::ENOMEM);
        }
        self.unmap(start, size)?;
        let is_whole = page_offset.is_multiple_of(HUGE_PAGE_SIZE / PAGE_SIZE);
        Err(if is_whole {
            Errno::ENOMEM
        } else {
            Errno::EINVAL
        })
    }
}
