//! Taking mappings away: `munmap`, and the part of it that fixed mappings and moves share.

use crate::abi::{is_page_aligned, page_ceil};
use crate::edit::Edits;
use crate::errno::Errno;
use crate::file::Backing;
use crate::flags::VmFlags;
use crate::huge_pages::is_within_huge_page;
use crate::page_side::PageSide;
use crate::space::AddressSpace;
use crate::vma::Vma;

/// What makes room in a range, and how much it frees.
#[derive(Debug)]
pub(crate) struct Room {
    /// Stores the outer parts of what is cut, then empties the range.
    pub(crate) edits: Edits,
    /// Pages that go away.
    pub(crate) pages: u64,
    /// Those of them that were charged.
    pub(crate) charged_pages: u64,
}

impl<P: PageSide> AddressSpace<P> {
    /// Unmaps every page of `addr..addr + len`; holes are no error.
    ///
    /// # Complexity
    ///
    /// O(log n + m) for m mappings in the range.
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`] if `addr` is no page boundary, the range is empty or leaves the
    ///   address space, or it would cut a mapping of the kernel's or an explicitly huge page.
    /// - [`Errno::ENOMEM`] if cutting one mapping in two would exceed `max_map_count`.
    /// - [`Errno::EPERM`] if a mapping in the range is sealed.
    ///
    /// Nothing is unmapped on error.
    ///
    /// LINUX: 6.18 splits the first mapping at `addr` before it looks at its end and at the
    /// following ones, and does not join the parts again when one of those refuses.
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
        match result {
            Err(Errno::EINVAL) if planted!(Errno) => Err(Errno::EFAULT),
            result => result,
        }
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
        self.check_room(start, end)?;
        self.plan_room(start, end)
    }

    /// Whether every mapping of `start..end` may go; if not, what precedes the one that refuses
    /// is split.
    fn check_room(&mut self, start: u64, end: u64) -> Result<(), Errno> {
        let refusing = self.vmas_in(start..end).find_map(|vma| {
            let errno = self.refuses_to_go(vma, start, end)?;
            // LINUX: a mapping that cannot be split at `end` was split at `start`.
            let is_split = errno == Errno::EINVAL && !cannot_be_split(vma, start);
            Some((errno, if is_split { vma.end() } else { vma.start() }))
        });
        match refusing {
            Some((errno, reached)) => {
                if start < reached {
                    self.split_for(start, reached)?;
                }
                Err(errno)
            }
            None => Ok(()),
        }
    }

    fn refuses_to_go(&self, vma: &Vma, start: u64, end: u64) -> Option<Errno> {
        let (cuts_start, cuts_end) = (vma.start() < start, end < vma.end());
        if cuts_start && cuts_end && self.may_split().is_err() {
            return Some(Errno::ENOMEM);
        }
        if vma.flags().contains(VmFlags::SEALED) && !planted!(Sealed) {
            return Some(Errno::EPERM);
        }
        let is_refused =
            cuts_start && cannot_be_split(vma, start) || cuts_end && cannot_be_split(vma, end);
        is_refused.then_some(Errno::EINVAL)
    }

    fn plan_room(&self, start: u64, end: u64) -> Result<Room, Errno> {
        let mut room = Room {
            edits: self.edits(),
            pages: 0,
            charged_pages: 0,
        };
        for vma in self.vmas_in(start..end) {
            let inside = (vma.start().max(start), vma.end().min(end));
            let pages = Self::pages(inside.1 - inside.0);
            room.pages += pages;
            if vma.flags().contains(VmFlags::ACCOUNT) {
                room.charged_pages += pages;
            }
            if inside != (vma.start(), vma.end()) {
                let vma = self.local(vma);
                room.edits.outer_pieces(&vma, start, end)?;
            }
        }
        if room.pages > 0
            && let Some(range) = Self::index_range(start, end)
        {
            room.edits.clear(range)?;
        }
        Ok(room)
    }

    /// Splits what `start` and `end` cut, and empties nothing: what a failure leaves.
    pub(crate) fn split_for(&mut self, start: u64, end: u64) -> Result<(), Errno> {
        let mut edits = self.edits();
        let cut_at_start = self.local_at(start).filter(|vma| vma.start() < start);
        if let Some(vma) = &cut_at_start
            && end < vma.end()
        {
            edits.outer_pieces(vma, start, end)?;
            edits.put_some(vma.with_range(start, end))?;
            return self.commit(edits);
        }
        if let Some(vma) = &cut_at_start {
            edits.split_at(vma, start)?;
        }
        if let Some(vma) = self.local_at(end) {
            edits.split_at(&vma, end)?;
        }
        self.commit(edits)
    }
}

/// Whether a mapping cannot end or begin at `at`: the kernel's own are whole, and so are
/// explicitly huge pages.
pub(crate) fn cannot_be_split(vma: &Vma, at: u64) -> bool {
    matches!(vma.backing(), Backing::Special(_)) || is_within_huge_page(vma, at)
}
