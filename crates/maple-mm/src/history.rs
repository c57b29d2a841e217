//! Which private memory was written: learned from calls, from outside, or from an older model.

use alloc::sync::Arc;
use core::ops::Range;

use crate::anon::{Anon, AnonId, AnonOrigin, Local};
use crate::errno::Errno;
use crate::flags::VmFlags;
use crate::held::Attributes;
use crate::memory::VmaRef;
use crate::merge;
use crate::page_side::PageSide;
use crate::space::{AddressSpace, Offsets};
use crate::vma::{Content, Vma};

/// A page that cannot be brought in, as an onlooker knows: [`AddressSpace::set_missing_pages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissingPage {
    /// Where it would be, a page boundary.
    pub addr: u64,
    /// Whether a guard stands there. Otherwise the file ends before it, or nobody answers for it.
    ///
    /// LINUX: a guard is noticed before anything is prepared for a written page, the rest after.
    pub is_guard: bool,
}

impl<P: PageSide> AddressSpace<P> {
    /// Takes over from `older`, a model of the same address space some calls ago, what `/proc`
    /// does not tell: the anon_vma chains and offsets of private memory that was there already,
    /// the flags new mappings get, and what was asked of the whole.
    ///
    /// # Complexity
    ///
    /// O(n log n).
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`] if the tree cannot be written; nothing changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{Access, AddressSpace, MmapRequest, Setup, VmaSpec, abi::*};
    /// let mut parent = AddressSpace::empty();
    /// let addr = parent.mmap(MmapRequest::anonymous(4096, PROT_READ | PROT_WRITE)).unwrap();
    /// parent.fault(addr, Access::Write).unwrap();
    /// let child = parent.fork().unwrap();
    /// let specs = child.vmas().map(|vma| VmaSpec {
    ///     start: vma.start(),
    ///     end: vma.end(),
    ///     flags: vma.flags(),
    ///     page_offset: vma.page_offset(),
    ///     backing: vma.backing().clone(),
    ///     written: true,
    /// });
    /// let mut again = AddressSpace::from_layout(Setup::default(), specs).unwrap();
    /// again.keep_history(&child).unwrap();
    /// assert!(again.anon(again.vma_at(addr).unwrap()).is_forked());
    /// ```
    pub fn keep_history(&mut self, older: &Self) -> Result<(), Errno> {
        let mut edits = self.edits();
        let mut asked = None;
        let has_history = |vma: &&VmaRef| {
            let flags = vma.flags();
            !flags.contains(VmFlags::SHARED)
                || flags.intersects(VmFlags::UFFD_ANY)
                || older.has_policy(vma.start())
        };
        for vma in self.vmas().filter(has_history) {
            let known = older
                .vma_at(vma.start())
                .filter(|known| known.backing().is_same(vma.backing()));
            match (self.local(vma), known) {
                (local, Some(known)) => {
                    let anon = if local.anon().is_faulted() && known.anon().is_faulted() {
                        self.anon_of_older(older, known, &mut asked)
                    } else {
                        local.anon()
                    };
                    edits.put_some(with_history(&local, known, anon)?)?;
                }
                (Local::Renewed(renewed), None) => edits.put(renewed)?,
                (Local::Stored(_), None) => {}
            }
        }
        // Everything has its identity now, older ones among them.
        let origin = core::mem::replace(&mut self.anon_origin, AnonOrigin::ROOT);
        if let Err(errno) = self.commit(edits) {
            self.anon_origin = origin;
            return Err(errno);
        }
        self.default_flags = older.default_flags;
        self.process = older.process;
        self.offsets = Offsets::MayBeStale;
        Ok(())
    }

    fn has_policy(&self, addr: u64) -> bool {
        self.vma_at(addr)
            .is_some_and(|vma| vma.attributes().policy.is_some())
    }

    /// The anon_vma that `known`, a mapping of `older`, has there.
    ///
    /// Several mappings may come from one of `older`'s, one after another; `last` is the one
    /// asked for before, so that they share what has no number yet.
    fn anon_of_older<'a>(
        &self,
        older: &Self,
        known: &'a VmaRef,
        last: &mut Option<(&'a VmaRef, Anon)>,
    ) -> Anon {
        if let Some((_, anon)) = last.filter(|(vma, _)| VmaRef::ptr_eq(vma, known)) {
            return anon;
        }
        // What `older` inherited gets its number from this machine.
        let inherited = older.anon_origin.is_inherited(known.anon());
        let anon = if inherited {
            Anon::forked(self.system.new_anon())
        } else {
            known.anon()
        };
        if let Some(id) = anon.id() {
            self.system.skip_anon(id);
        }
        *last = Some((known, anon));
        anon
    }

    /// Takes over counters that no mapping tells: the most pages there ever were (`VmPeak`), and
    /// how many are locked (`VmLck`), some perhaps in no mapping any more.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// space.keep_counters(100, 3);
    /// assert_eq!((space.statistics().peak_vm, space.statistics().locked_vm), (100, 3));
    /// ```
    pub fn keep_counters(&mut self, peak_pages: u64, locked_pages: u64) {
        self.peak_vm = self.peak_vm.max(peak_pages);
        let locked = self.tally.statistics.locked_vm;
        let stray = locked_pages.saturating_sub(locked.saturating_sub(self.stray_locked));
        self.tally.statistics.locked_vm = locked - self.stray_locked + stray;
        self.stray_locked = stray;
    }

    /// Says that these pages, in ascending order, cannot be brought in, or with `None` that every
    /// page can: what is known from outside where there are no pages. What touches, locks or
    /// populates stops there, each mapping's part at the first of them in it.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{Access, AddressSpace, Errno, Fault, MissingPage, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// let missing = MissingPage { addr: addr + 4096, is_guard: true };
    /// space.set_missing_pages(Some([missing].into()));
    /// assert_eq!(space.fault(addr + 4096, Access::Read), Err(Fault::NotMapped));
    /// assert_eq!(space.mlock(addr, 8192), Err(Errno::ENOMEM));
    /// // LINUX: locked it is.
    /// assert_eq!(space.statistics().locked_vm, 2);
    /// ```
    pub fn set_missing_pages(&mut self, pages: Option<Arc<[MissingPage]>>) {
        self.missing_pages = pages;
    }

    /// The first page of `range` that cannot be brought in, as far as it was told.
    pub(crate) fn missing_page(&self, range: Range<u64>) -> Option<MissingPage> {
        let all = self.missing_pages.as_deref()?;
        let first = all.partition_point(|page| page.addr < range.start);
        all.get(first).copied().filter(|page| page.addr < range.end)
    }

    /// Marks every private mapping that overlaps `range` as written: what is known from outside
    /// (`pagemap`, `smaps`) where the writes themselves were not seen.
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`] if the tree cannot be written; mappings before that are marked.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// space.mark_written(addr..addr + 1).unwrap();
    /// assert!(space.vma_at(addr).unwrap().anon().is_faulted());
    /// ```
    pub fn mark_written(&mut self, range: Range<u64>) -> Result<(), Errno> {
        let mut at = range.start;
        while let Some(vma) = self
            .find_vma(at)
            .filter(|vma| vma.start() < range.end)
            .cloned()
        {
            at = vma.end();
            self.prepare_anon(&vma)?;
        }
        Ok(())
    }

    /// Gives a mapping an anon_vma if it has none: a neighbour's where both could be one, else a
    /// new one.
    pub(crate) fn prepare_anon(&mut self, vma: &Vma) -> Result<(), Errno> {
        if vma.anon().is_faulted() || vma.flags().contains(VmFlags::SHARED) {
            return Ok(());
        }
        let shared = self.neighbour_anon(vma);
        let id: AnonId = shared.unwrap_or_else(|| self.system.new_anon());
        self.commit_put(vma.with_anon(Anon::new(id)))
    }

    fn neighbour_anon(&self, vma: &Vma) -> Option<AnonId> {
        // LINUX: the next mapping is asked before the previous one.
        let next = self.vma_at(vma.end()).filter(|next| {
            self.anon(next).is_singular() && merge::may_share_anon(&self.profile, vma, next)
        });
        let prev = || {
            self.vma_before(vma.start()).filter(|prev| {
                self.anon(prev).is_singular() && merge::may_share_anon(&self.profile, prev, vma)
            })
        };
        next.or_else(prev)
            .and_then(|neighbour| neighbour.anon().id())
    }
}

/// `vma` with what is known about its part of `known`; `anon` is what it has now.
fn with_history(vma: &Vma, known: &Vma, anon: Anon) -> Result<Option<Vma>, Errno> {
    let is_moved = anon.is_faulted() && vma.file().is_none();
    let page_offset = if is_moved {
        known.page_offset_at(vma.start())
    } else {
        vma.page_offset()
    };
    let is_watched = vma.flags().intersects(VmFlags::UFFD_ANY);
    let attributes = Attributes {
        watch: known.watcher().filter(|_| is_watched),
        policy: known.attributes().policy,
        ..vma.attributes()
    };
    let content = Content {
        anon,
        page_offset,
        held: vma.held().with_attributes(attributes)?,
        ..vma.content()
    };
    Ok(Vma::new(vma.start(), vma.end(), content))
}
