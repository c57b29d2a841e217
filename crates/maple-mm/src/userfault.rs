//! `userfaultfd`: whose faults are told to whom. Only what mappings show of it: the faults
//! themselves are answered as if nobody was told.

use crate::abi::{
    HUGE_PAGE_SIZE, UFFDIO_REGISTER_MODE_MINOR, UFFDIO_REGISTER_MODE_MISSING,
    UFFDIO_REGISTER_MODE_WP, is_page_aligned,
};
use crate::errno::Errno;
use crate::flags::VmFlags;
use crate::held::Attributes;
use crate::memory::VmaRef;
use crate::modify::{Change, Part};
use crate::page_side::PageSide;
use crate::space::AddressSpace;
use crate::vma::Vma;

bitflags::bitflags! {
    /// What was agreed with `UFFDIO_API`, as far as mappings feel it; other bits mean nothing.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct UserfaultFeatures: u64 {
        /// `UFFD_FEATURE_EVENT_FORK`: a child's mappings are watched too.
        const EVENT_FORK = 1 << 1;
        /// `UFFD_FEATURE_EVENT_REMAP`: what moves stays watched.
        const EVENT_REMAP = 1 << 2;
        /// `UFFD_FEATURE_WP_ASYNC`: every kind of memory may be write-protected.
        const WP_ASYNC = 1 << 15;
    }
}

/// One userfaultfd: neighbours that different ones watch never become one mapping.
///
/// # Examples
///
/// ```
/// use maple_mm::{AddressSpace, MmapRequest, Userfaultfd, UserfaultFeatures, VmFlags, abi::*};
/// let mut space = AddressSpace::empty();
/// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ | PROT_WRITE))?;
/// let watcher = Userfaultfd { id: 1, features: UserfaultFeatures::empty() };
/// space.uffd_register(watcher, addr..addr + 4096, UFFDIO_REGISTER_MODE_MISSING)?;
/// assert_eq!(space.map_count(), 2);
/// assert_eq!(space.vma_at(addr).unwrap().watcher(), Some(watcher));
/// space.uffd_close(watcher)?;
/// assert_eq!(space.map_count(), 1);
/// # Ok::<(), maple_mm::Errno>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Userfaultfd {
    /// Which one, unique in the address space that it watches.
    pub id: u64,
    /// What was agreed.
    pub features: UserfaultFeatures,
}

impl<P: PageSide> AddressSpace<P> {
    /// `UFFDIO_REGISTER`: has `watcher` told of the faults in `range` that `mode` names.
    ///
    /// What it watches with at least that mode already stays as it is; a mode that is not
    /// contained in the old one replaces it. Holes are passed over.
    ///
    /// # Complexity
    ///
    /// O(m log n) for m mappings in the range.
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`]: no or unknown bits in `mode`; a range that is empty, not made of
    ///   pages, beyond the end or without any mapping; memory of a kind that cannot be watched so;
    ///   or a part of an explicitly huge page.
    /// - [`Errno::EPERM`]: a mapping may never become writable.
    /// - [`Errno::EBUSY`]: another one watches a part of it.
    /// - [`Errno::ENOMEM`]: `max_map_count` is reached; what precedes is watched.
    ///
    /// But for the last, nothing changed on error.
    ///
    /// # Examples
    ///
    /// See [`Userfaultfd`].
    pub fn uffd_register(
        &mut self,
        watcher: Userfaultfd,
        range: core::ops::Range<u64>,
        mode: u64,
    ) -> Result<(), Errno> {
        let flags = watched_flags(mode).ok_or(Errno::EINVAL)?;
        self.check_watched_range(&range)?;
        for vma in self.vmas_in(range.clone()) {
            check_watchable(vma, watcher, flags)?;
            let cuts = range.end < vma.end() && !range.end.is_multiple_of(HUGE_PAGE_SIZE);
            if cuts && vma.flags().contains(VmFlags::HUGETLB) {
                return Err(Errno::EINVAL);
            }
            if vma.watcher().is_some_and(|other| other != watcher) {
                return Err(Errno::EBUSY);
            }
        }
        self.walk(range, |space, part| {
            let old = part.vma.flags();
            if part.vma.watcher() == Some(watcher) && old.contains(flags) {
                return Ok(());
            }
            let flags = (old - VmFlags::UFFD_ANY) | flags;
            space.modify(part.watched_by(Some(watcher), flags)?)
        })?;
        Ok(())
    }

    /// `UFFDIO_UNREGISTER`: nobody is told of faults in `range` any more.
    ///
    /// What was built from outside with flags of watched memory ([`VmaSpec`](crate::VmaSpec)) is
    /// taken for watched by `watcher`: the kernel does not show who watches, and refuses others.
    ///
    /// # Complexity
    ///
    /// O(m log n) for m mappings in the range.
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`]: a bad range as for [`uffd_register`](Self::uffd_register), memory that
    ///   cannot be watched, or another one watches a part of it.
    /// - [`Errno::ENOMEM`]: `max_map_count` is reached; what precedes is not watched any more.
    ///
    /// But for the last, nothing changed on error.
    ///
    /// # Examples
    ///
    /// See [`Userfaultfd`].
    pub fn uffd_unregister(
        &mut self,
        watcher: Userfaultfd,
        range: core::ops::Range<u64>,
    ) -> Result<(), Errno> {
        self.check_watched_range(&range)?;
        for vma in self.vmas_in(range.clone()) {
            let is_others = vma.watcher().is_some_and(|other| other != watcher);
            let flags = vma.flags() & VmFlags::UFFD_ANY;
            if is_others || !can_be_watched(vma, watcher, flags) {
                return Err(Errno::EINVAL);
            }
        }
        // Where it is not known who watches, it is who may ask.
        self.stop_watching(range, |by| by.is_none_or(|by| by == watcher))
    }

    /// The last descriptor of `watcher` is closed: it watches nothing any more.
    ///
    /// # Complexity
    ///
    /// O(n log n).
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`] if the tree cannot be written; some mappings are watched still, and it
    /// can be asked for again.
    ///
    /// # Examples
    ///
    /// See [`Userfaultfd`].
    pub fn uffd_close(&mut self, watcher: Userfaultfd) -> Result<(), Errno> {
        self.stop_watching(0..u64::MAX, |by| by == Some(watcher))
    }

    fn stop_watching(
        &mut self,
        range: core::ops::Range<u64>,
        is_over: impl Fn(Option<Userfaultfd>) -> bool,
    ) -> Result<(), Errno> {
        self.walk(range, |space, part| {
            let is_watched = part.vma.flags().intersects(VmFlags::UFFD_ANY);
            if !is_watched || !is_over(part.vma.watcher()) {
                return Ok(());
            }
            let flags = part.vma.flags() - VmFlags::UFFD_ANY;
            space.modify(part.watched_by(None, flags)?)
        })?;
        Ok(())
    }

    fn check_watched_range(&self, range: &core::ops::Range<u64>) -> Result<(), Errno> {
        let is_malformed = !is_page_aligned(range.start | range.end)
            || range.is_empty()
            || range.end > self.layout.task_size;
        if is_malformed {
            return Err(Errno::EINVAL);
        }
        let first = self.vmas_in(range.clone()).next().ok_or(Errno::EINVAL)?;
        let is_huge = first.flags().contains(VmFlags::HUGETLB);
        if is_huge && !range.start.is_multiple_of(HUGE_PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }
}

impl Part {
    fn watched_by(self, watcher: Option<Userfaultfd>, flags: VmFlags) -> Result<Change, Errno> {
        let attributes = Attributes {
            watch: watcher,
            ..self.vma.attributes()
        };
        let held = self.vma.held().with_attributes(attributes)?;
        Ok(Change {
            held: Some(held),
            ..self.with_flags(flags)
        })
    }
}

impl Vma {
    /// Who is told of its faults.
    #[must_use]
    pub fn watcher(&self) -> Option<Userfaultfd> {
        self.attributes().watch
    }

    /// What becomes of it when it is inherited or moved: watched still if that was agreed.
    pub(crate) fn kept_watched(self, agreed: UserfaultFeatures) -> Result<Self, Errno> {
        match self.watcher() {
            Some(watcher) if !watcher.features.contains(agreed) => {
                let attributes = Attributes {
                    watch: None,
                    ..self.attributes()
                };
                let held = self.held().with_attributes(attributes)?;
                let flags = self.flags() - VmFlags::UFFD_ANY;
                Ok(self.with_flags(flags).with_held(held))
            }
            _ => Ok(self),
        }
    }
}

/// The flags of what is watched in this mode; `None` for no mode.
fn watched_flags(mode: u64) -> Option<VmFlags> {
    let modes = [
        (UFFDIO_REGISTER_MODE_MISSING, VmFlags::UFFD_MISSING),
        (UFFDIO_REGISTER_MODE_WP, VmFlags::UFFD_WP),
        (UFFDIO_REGISTER_MODE_MINOR, VmFlags::UFFD_MINOR),
    ];
    let known = modes.iter().fold(0, |all, (bit, _)| all | bit);
    let asked = modes.into_iter().filter(|(bit, _)| mode & bit != 0);
    (mode != 0 && mode & !known == 0).then(|| asked.map(|(_, flag)| flag).collect())
}

fn check_watchable(vma: &VmaRef, watcher: Userfaultfd, flags: VmFlags) -> Result<(), Errno> {
    if !can_be_watched(vma, watcher, flags) {
        return Err(Errno::EINVAL);
    }
    if !vma.flags().contains(VmFlags::MAYWRITE) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Whether memory of this kind can be watched with these flags.
fn can_be_watched(vma: &Vma, watcher: Userfaultfd, flags: VmFlags) -> bool {
    let is_shmem = vma.file().is_some_and(|file| file.is_shmem());
    // A pool's pages are those of a file too.
    let is_of_file = is_shmem || vma.flags().contains(VmFlags::HUGETLB);
    let is_special = vma.flags().intersects(VmFlags::SPECIAL) && !is_of_file;
    if is_special || vma.flags().contains(VmFlags::DROPPABLE) {
        return false;
    }
    if flags.contains(VmFlags::UFFD_MINOR) && !is_of_file {
        return false;
    }
    let is_asynchronous =
        flags == VmFlags::UFFD_WP && watcher.features.contains(UserfaultFeatures::WP_ASYNC);
    is_asynchronous || is_of_file || vma.is_anonymous()
}
