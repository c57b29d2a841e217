//! Taking mappings away: `munmap`, and the part of it that fixed mappings and moves share.

use alloc::vec::Vec;

use crate::abi::{is_page_aligned, page_ceil};
use crate::edit::{Edit, outer_pieces, split_at};
use crate::errno::Errno;
use crate::file::Backing;
use crate::flags::VmFlags;
use crate::space::AddressSpace;

/// What makes room in a range, and how much it frees.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Stores the outer parts of what is cut, then empties the range.
    pub(crate) edits: Vec<Edit>,
    /// Stores the parts of what is cut, and empties nothing: what a later failure leaves.
    pub(crate) splits: Vec<Edit>,
    /// Pages that go away.
    pub(crate) pages: u64,
    /// Those of them that were charged.
    pub(crate) charged_pages: u64,
}

impl AddressSpace {
    /// Unmaps every page of `addr..addr + len`; holes are no error.
    ///
    /// # Complexity
    ///
    /// O(log n + m) for m mappings in the range.
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`] if `addr` is no page boundary, the range is empty or leaves the
    ///   address space, or it would cut a mapping of the kernel's.
    /// - [`Errno::ENOMEM`] if cutting one mapping in two would exceed `max_map_count`.
    /// - [`Errno::EPERM`] if a mapping in the range is sealed.
    ///
    /// Nothing is unmapped on error.
    ///
    /// LINUX: 6.18 splits the first mapping before it looks at the following ones, and does not
    /// join the parts again when one of those refuses.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Errno, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(3 * 4096, PROT_READ))?;
    /// space.munmap(addr + 4096, 4096)?;
    /// assert_eq!(space.map_count(), 2);
    /// assert_eq!(space.munmap(addr + 1, 4096), Err(Errno::EINVAL));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn munmap(&mut self, addr: u64, len: u64) -> Result<(), Errno> {
        let result = self.unmap(addr, len);
        #[cfg(planted_mistakes)]
        let result = result.map_err(crate::planted::errno);
        result
    }

    pub(crate) fn unmap(&mut self, addr: u64, len: u64) -> Result<(), Errno> {
        let task_size = self.layout.task_size;
        if !is_page_aligned(addr) || addr > task_size || len > task_size - addr {
            return Err(Errno::EINVAL);
        }
        let len = page_ceil(len);
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let room = self.make_room(addr, addr + len)?;
        self.commit(room.edits)
    }

    /// Plans how `start..end` becomes empty.
    ///
    /// On error the splits Linux has already made are made.
    pub(crate) fn make_room(&mut self, start: u64, end: u64) -> Result<Room, Errno> {
        let (room, outcome) = self.plan_room(start, end);
        match outcome {
            Ok(()) => Ok(room),
            Err(errno) => {
                self.commit(room.splits)?;
                Err(errno)
            }
        }
    }

    fn plan_room(&self, start: u64, end: u64) -> (Room, Result<(), Errno>) {
        let mut room = Room::default();
        let Some(range) = Self::index_range(start, end) else {
            return (room, Ok(()));
        };
        for vma in self.vmas_in(start..end) {
            let (cuts_start, cuts_end) = (vma.start() < start, end < vma.end());
            if cuts_start && cuts_end && self.may_split().is_err() {
                return (room, Err(Errno::ENOMEM));
            }
            if vma.flags().contains(VmFlags::SEALED) {
                return (room, Err(Errno::EPERM));
            }
            if (cuts_start || cuts_end) && matches!(vma.backing(), Backing::Special(_)) {
                return (room, Err(Errno::EINVAL));
            }
            let inside = (vma.start().max(start), vma.end().min(end));
            let pages = Self::pages(inside.1 - inside.0);
            room.pages += pages;
            if vma.flags().contains(VmFlags::ACCOUNT) {
                room.charged_pages += pages;
            }
            room.edits.extend(outer_pieces(vma, start, end));
            room.splits.extend(three_pieces(vma, start, end));
        }
        if room.pages > 0 {
            room.edits.push(Edit::Clear(range));
        }
        (room, Ok(()))
    }
}

/// The pieces of `vma` below, in and above `start..end`; nothing when it is not cut.
fn three_pieces(vma: &crate::vma::Vma, start: u64, end: u64) -> Vec<Edit> {
    let cuts_start = vma.start() < start && start < vma.end();
    let cuts_end = vma.start() < end && end < vma.end();
    match (cuts_start, cuts_end) {
        (false, false) => Vec::new(),
        (true, false) => split_at(vma, start).collect(),
        (false, true) => split_at(vma, end).collect(),
        (true, true) => outer_pieces(vma, start, end)
            .chain(vma.with_range(start, end).map(Edit::put))
            .collect(),
    }
}
