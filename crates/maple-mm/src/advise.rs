//! `madvise`: advice that changes flags, and the argument checks of the rest.

use crate::abi::{
    HUGE_PAGE_SIZE, MADV_COLD, MADV_COLLAPSE, MADV_DODUMP, MADV_DOFORK, MADV_DONTDUMP,
    MADV_DONTFORK, MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_FREE, MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE, MADV_HUGEPAGE, MADV_HWPOISON, MADV_KEEPONFORK, MADV_MERGEABLE,
    MADV_NOHUGEPAGE, MADV_NORMAL, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE,
    MADV_RANDOM, MADV_REMOVE, MADV_SEQUENTIAL, MADV_SOFT_OFFLINE, MADV_UNMERGEABLE, MADV_WILLNEED,
    MADV_WIPEONFORK, is_page_aligned, page_ceil,
};
use crate::errno::Errno;
use crate::fault::Access;
use crate::file::{FileAccess, FileRef};
use crate::flags::VmFlags;
use crate::huge_pages::is_within_huge_page;
use crate::layout::Capabilities;
use crate::modify::{Holes, Part};
use crate::page_side::{Guards, PageChange, PageSide};
use crate::profile::LinuxProfile;
use crate::seal;
use crate::space::AddressSpace;
use crate::vma::Vma;

impl<P: PageSide> AddressSpace<P> {
    /// Advises about every page of `addr..addr + len`.
    ///
    /// Advice that changes flags may split and merge mappings; `MADV_POPULATE_WRITE` writes;
    /// `MADV_POPULATE_READ` reads; `MADV_GUARD_INSTALL` prepares anonymous memory for written
    /// pages. `MADV_DONTNEED`, `MADV_DONTNEED_LOCKED`, `MADV_FREE` and `MADV_GUARD_INSTALL` take
    /// the pages there are, `MADV_REMOVE` makes those of the file zero. The rest is only checked.
    ///
    /// Where there are pages, every access to a guard is a [`Fault::NotMapped`](crate::Fault),
    /// until `MADV_GUARD_REMOVE` or until it is unmapped: guards move with their mapping, go to
    /// children, and outlast `mprotect`, `MADV_DONTNEED` and the end of a file.
    ///
    /// # Complexity
    ///
    /// O(m log n) for m mappings in the range.
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`]: unknown advice, an `addr` that is no page boundary, a range that
    ///   wraps, or a mapping for which the advice makes no sense.
    /// - [`Errno::EPERM`]: a seal forbids it.
    /// - [`Errno::EAGAIN`]: `max_map_count` is reached, or there is no memory to take a part of
    ///   shared tables.
    /// - [`Errno::ENOMEM`]: no memory for guards, or a hole. LINUX: what is mapped around the hole is advised all the same.
    ///
    /// LINUX: what precedes a mapping that refuses is advised.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Errno, MmapRequest, abi::*};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ))?;
    /// space.madvise(addr, 4096, MADV_DONTFORK)?;
    /// assert_eq!(space.map_count(), 2);
    /// assert_eq!(space.fork()?.map_count(), 1);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn madvise(&mut self, addr: u64, len: u64, advice: i32) -> Result<(), Errno> {
        if !is_known(&self.profile, advice) || !is_page_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        let rounded = page_ceil(len);
        if len != 0 && rounded == 0 {
            return Err(Errno::EINVAL);
        }
        let end = addr.wrapping_add(rounded);
        if end < addr {
            return Err(Errno::EINVAL);
        }
        if end == addr {
            return Ok(());
        }
        match advice {
            MADV_HWPOISON | MADV_SOFT_OFFLINE => self.poison(),
            MADV_POPULATE_READ | MADV_POPULATE_WRITE => self.advise_populate(addr..end, advice),
            _ => self.advise_range(addr..end, advice),
        }
    }

    fn poison(&self) -> Result<(), Errno> {
        if self.capabilities.contains(Capabilities::SYS_ADMIN) {
            // Failing real memory is beyond a model.
            return Err(Errno::EINVAL);
        }
        Err(Errno::EPERM)
    }

    fn advise_range(&mut self, range: core::ops::Range<u64>, advice: i32) -> Result<(), Errno> {
        let holes = self.walk(range, |space, part| space.advise_part(part, advice))?;
        if holes == Holes::Some {
            Err(Errno::ENOMEM)
        } else {
            Ok(())
        }
    }

    fn advise_part(&mut self, part: Part, advice: i32) -> Result<(), Errno> {
        if seal::forbids(&part.vma, advice) {
            return Err(Errno::EPERM);
        }
        match advice {
            MADV_GUARD_INSTALL => return self.install_guard(&part),
            MADV_COLLAPSE if self.refuses_huge_pages() => return Err(Errno::EINVAL),
            MADV_COLLAPSE => return check_collapse(&part),
            MADV_WILLNEED | MADV_COLD | MADV_PAGEOUT => {
                return check_content_advice(&part.vma, advice);
            }
            MADV_GUARD_REMOVE => {
                check_guarded(&self.profile, &part.vma)?;
                return self.remove_guards(&part);
            }
            MADV_DONTNEED | MADV_DONTNEED_LOCKED | MADV_FREE => {
                check_content_advice(&part.vma, advice)?;
                return self.discard_part(&part);
            }
            MADV_REMOVE => {
                check_content_advice(&part.vma, advice)?;
                return self.punch(&part);
            }
            _ => {}
        }
        let flags = advised_flags(&part.vma, advice)?;
        if flags == part.vma.flags() {
            return Ok(());
        }
        // LINUX: the limit on mappings shows as EAGAIN here.
        self.modify(part.with_flags(flags))
            .map_err(|errno| match errno {
                Errno::ENOMEM => Errno::EAGAIN,
                errno => errno,
            })
    }

    /// Takes the pages of a part out. Of explicitly huge pages only whole ones.
    ///
    /// LINUX: `MADV_FREE` takes pages only when memory is short; who asks for it must expect them
    /// to be gone at once. Of huge pages, a part that begins within one is refused, one that ends there is cut short.
    fn discard_part(&mut self, part: &Part) -> Result<(), Errno> {
        let mut range = part.start..part.end;
        if part.vma.flags().contains(VmFlags::HUGETLB) {
            if is_within_huge_page(&part.vma, range.start) {
                return Err(Errno::EINVAL);
            }
            range.end &= !(HUGE_PAGE_SIZE - 1);
        }
        if range.is_empty() {
            return Ok(());
        }
        let guards = Guards::of(&part.vma);
        let discard = PageChange::Discard {
            range: range.clone(),
            guards,
        };
        // LINUX: cannot fail, because tables are not shared there.
        self.change_pages(discard).map_err(|_| Errno::EAGAIN)?;
        if P::HAS_PAGES {
            self.renew_promise(&part.vma, range);
        }
        Ok(())
    }

    /// Changes pages where what is mapped stays.
    fn change_pages(&mut self, change: PageChange) -> Result<(), Errno> {
        if !P::HAS_PAGES {
            return Ok(());
        }
        let change = [change];
        let prepared = self.pages.prepare(&change)?;
        self.pages.carry_out(&change, prepared);
        Ok(())
    }

    /// Makes a part of a file zero.
    fn punch(&mut self, part: &Part) -> Result<(), Errno> {
        let first = part.vma.page_offset_at(part.start);
        let pages = Self::pages(part.end - part.start);
        match part.vma.file().and_then(FileRef::pages) {
            Some(contents) => contents.punch(first..first.saturating_add(pages)),
            None => Ok(()),
        }
    }

    fn install_guard(&mut self, part: &Part) -> Result<(), Errno> {
        check_guard(&self.profile, &part.vma)?;
        // LINUX: 6.18 marks a file's mapping and leaves it unwritten.
        if part.vma.is_anonymous() {
            self.prepare_anon(&part.vma)?;
        }
        let range = part.start..part.end;
        let Some(vma) = self.local_at(part.start) else {
            return Ok(());
        };
        if vma.flags().contains(VmFlags::MAYBE_GUARD) {
            return self.change_pages(PageChange::Guard(range));
        }
        // The whole mapping is marked; it is never split for it.
        let mut edits = self.edits();
        edits.put(vma.with_flags(vma.flags() | VmFlags::MAYBE_GUARD))?;
        edits.guard(range);
        self.commit(edits)
    }

    fn remove_guards(&mut self, part: &Part) -> Result<(), Errno> {
        match Guards::of(&part.vma) {
            Guards::None => Ok(()),
            Guards::Perhaps => self.change_pages(PageChange::Unguard(part.start..part.end)),
        }
    }

    fn advise_populate(&mut self, range: core::ops::Range<u64>, advice: i32) -> Result<(), Errno> {
        let is_write = advice == MADV_POPULATE_WRITE;
        let mut at = range.start;
        while at < range.end {
            let vma = self.vma_at(at).cloned().ok_or(Errno::ENOMEM)?;
            let flags = vma.flags();
            let needed = if is_write {
                VmFlags::WRITE
            } else {
                VmFlags::READ
            };
            let is_special = flags.intersects(VmFlags::IO | VmFlags::PFNMAP);
            if is_special || !flags.contains(needed) {
                return Err(Errno::EINVAL);
            }
            let end = vma.end().min(range.end);
            let access = if is_write {
                Access::Write
            } else {
                Access::Read
            };
            self.prepare_and_bring_in(&vma, at..end, access)?;
            at = end;
        }
        Ok(())
    }
}

fn is_known(profile: &LinuxProfile, advice: i32) -> bool {
    match advice {
        MADV_NORMAL..=MADV_DONTNEED | MADV_FREE..=MADV_DOFORK => true,
        MADV_MERGEABLE | MADV_UNMERGEABLE => profile.ksm.is_yes(),
        MADV_HUGEPAGE | MADV_NOHUGEPAGE | MADV_COLLAPSE => profile.transparent_huge_pages.is_yes(),
        MADV_DONTDUMP..=MADV_DONTNEED_LOCKED => true,
        MADV_HWPOISON | MADV_SOFT_OFFLINE => profile.memory_failure.is_yes(),
        MADV_GUARD_INSTALL | MADV_GUARD_REMOVE => profile.guard_pages.is_yes(),
        _ => false,
    }
}

/// The flags a mapping has after advice that changes flags.
fn advised_flags(vma: &Vma, advice: i32) -> Result<VmFlags, Errno> {
    let old = vma.flags();
    let refuse_if = |condition: bool| {
        if condition {
            Err(Errno::EINVAL)
        } else {
            Ok(())
        }
    };
    let without = |flags| old - flags;
    Ok(match advice {
        MADV_NORMAL => without(VmFlags::RAND_READ | VmFlags::SEQ_READ),
        MADV_SEQUENTIAL if planted!(Sequential) => old | VmFlags::SEQ_READ,
        MADV_SEQUENTIAL => without(VmFlags::RAND_READ) | VmFlags::SEQ_READ,
        MADV_RANDOM => without(VmFlags::SEQ_READ) | VmFlags::RAND_READ,
        MADV_DONTFORK => old | VmFlags::DONTCOPY,
        MADV_DOFORK => {
            refuse_if(old.contains(VmFlags::IO))?;
            without(VmFlags::DONTCOPY)
        }
        MADV_WIPEONFORK => {
            refuse_if(vma.file().is_some() || old.contains(VmFlags::SHARED))?;
            old | VmFlags::WIPEONFORK
        }
        MADV_KEEPONFORK => {
            refuse_if(old.contains(VmFlags::DROPPABLE))?;
            without(VmFlags::WIPEONFORK)
        }
        MADV_DONTDUMP => old | VmFlags::DONTDUMP,
        MADV_DODUMP => {
            let is_special = old.intersects(VmFlags::SPECIAL) && !old.contains(VmFlags::HUGETLB);
            refuse_if(is_special || old.contains(VmFlags::DROPPABLE))?;
            without(VmFlags::DONTDUMP)
        }
        MADV_HUGEPAGE => without(VmFlags::NOHUGEPAGE) | VmFlags::HUGEPAGE,
        MADV_NOHUGEPAGE => without(VmFlags::HUGEPAGE) | VmFlags::NOHUGEPAGE,
        MADV_MERGEABLE if can_share_equal_pages(old) => old | VmFlags::MERGEABLE,
        MADV_UNMERGEABLE => without(VmFlags::MERGEABLE),
        _ => old,
    })
}

/// Whether same-page merging takes the mapping; others are passed over without an error.
pub(crate) fn can_share_equal_pages(flags: VmFlags) -> bool {
    let refused = VmFlags::SHARED
        | VmFlags::MAYSHARE
        | VmFlags::SPECIAL
        | VmFlags::HUGETLB
        | VmFlags::DROPPABLE;
    !flags.intersects(refused)
}

fn check_guard(profile: &LinuxProfile, vma: &Vma) -> Result<(), Errno> {
    if vma.flags().contains(VmFlags::LOCKED) {
        return Err(Errno::EINVAL);
    }
    check_guarded(profile, vma)
}

/// Whether a mapping is of a kind that has guards.
fn check_guarded(profile: &LinuxProfile, vma: &Vma) -> Result<(), Errno> {
    let is_special = vma.flags().intersects(VmFlags::SPECIAL | VmFlags::HUGETLB);
    let is_private = vma.is_anonymous() && vma.flags().contains(VmFlags::MAYWRITE);
    if is_special || !is_private && !profile.file_guards.is_yes() {
        Err(Errno::EINVAL)
    } else {
        Ok(())
    }
}

/// The checks of advice that only concerns the pages.
fn check_content_advice(vma: &Vma, advice: i32) -> Result<(), Errno> {
    let flags = vma.flags();
    let frames = VmFlags::PFNMAP | VmFlags::HUGETLB;
    let is_refused = match advice {
        MADV_FREE => !vma.is_anonymous() || flags.intersects(VmFlags::LOCKED | frames),
        MADV_DONTNEED if planted!(DontNeedLocked) => flags.contains(VmFlags::PFNMAP),
        MADV_DONTNEED => flags.intersects(VmFlags::LOCKED | VmFlags::PFNMAP),
        MADV_DONTNEED_LOCKED => flags.contains(VmFlags::PFNMAP),
        MADV_COLD | MADV_PAGEOUT => flags.intersects(VmFlags::LOCKED | frames),
        MADV_REMOVE => return check_remove(vma),
        _ => false,
    };
    if is_refused {
        Err(Errno::EINVAL)
    } else {
        Ok(())
    }
}

/// LINUX: more is refused, by what the pages are and by what kind of memory it is; the model grants
/// all that has room for a huge page.
fn check_collapse(part: &Part) -> Result<(), Errno> {
    let has_room = part
        .start
        .checked_next_multiple_of(HUGE_PAGE_SIZE)
        .is_some_and(|first| first < part.end & !(HUGE_PAGE_SIZE - 1));
    let is_explicit = part.vma.flags().contains(VmFlags::HUGETLB);
    if has_room && !is_explicit {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

fn check_remove(vma: &Vma) -> Result<(), Errno> {
    let flags = vma.flags();
    if flags.contains(VmFlags::LOCKED) || vma.file().is_none() {
        return Err(Errno::EINVAL);
    }
    // LINUX: who may make it writable need not do so.
    if !flags.contains(VmFlags::SHARED | VmFlags::MAYWRITE) {
        return Err(Errno::EACCES);
    }
    // LINUX: a mapping from before `F_SEAL_FUTURE_WRITE` may be written but not emptied.
    let is_sealed = |file: &FileRef| file.access.contains(FileAccess::WRITE_SEALED);
    if vma.file().is_some_and(is_sealed) {
        return Err(Errno::EPERM);
    }
    Ok(())
}
