//! The address space: its state, how it starts and ends, and how it is looked at.

use alloc::sync::Arc;
use core::ops::Range;

use maple_tree::{IndexRange, MapleTree, Publisher};

use crate::abi::PAGE_SIZE;
use crate::accounting::Tally;
use crate::anon::{Anon, AnonOrigin};
use crate::errno::Errno;
use crate::file::{Backing, FileId, FileRef};
use crate::flags::VmFlags;
use crate::history::MissingPage;
use crate::huge_pages::OwnPromises;
use crate::layout::{Capabilities, Layout, LayoutError, Limits, VmaSpec};
use crate::memory::{TreeNodes, VmaRef};
use crate::merge;
use crate::page_side::{NoPages, PageSide};
use crate::process::Process;
use crate::profile::LinuxProfile;
use crate::system::System;
use crate::teardown::Teardown;
use crate::vma::{Content, Vma};

/// The mappings of an address space as a tree, keyed by byte addresses, ends inclusive.
pub type Mappings = MapleTree<VmaRef, TreeNodes>;

/// An address space as Linux keeps it: mappings, break, limits and counters.
///
/// Every call takes the raw numbers user space passes and never panics. What a refused call
/// leaves behind is what Linux leaves behind; where that is not "nothing", the call says so.
///
/// `P` is what the mappings lead to: [`NoPages`], nothing at no cost, or page tables and frames
/// ([`MappedPages`](crate::MappedPages)).
///
/// # Invariants
///
/// [`validate`](Self::validate) checks them; they are listed there.
///
/// # Examples
///
/// ```
/// use maple_mm::{AddressSpace, MmapRequest, abi::*};
/// let mut space = AddressSpace::empty();
/// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ | PROT_WRITE))?;
/// space.mprotect(addr, 4096, PROT_READ)?;
/// assert_eq!(space.map_count(), 2);
/// space.munmap(addr, 8192)?;
/// assert_eq!(space.map_count(), 0);
/// # Ok::<(), maple_mm::Errno>(())
/// ```
#[derive(Debug)]
pub struct AddressSpace<P: PageSide = NoPages> {
    pub(crate) system: Arc<System>,
    pub(crate) profile: LinuxProfile,
    pub(crate) layout: Layout,
    pub(crate) limits: Limits,
    pub(crate) capabilities: Capabilities,
    pub(crate) process: Process,
    /// Lock-free readers may look at it, if it is part of a shared address space.
    pub(crate) tree: Publisher<VmaRef, TreeNodes>,
    pub(crate) tally: Tally,
    /// What it inherited and what it wrote itself.
    pub(crate) anon_origin: AnonOrigin,
    /// Which explicitly huge pages it was promised.
    pub(crate) promises: OwnPromises,
    /// Flags every new mapping gets: set by `mlockall(MCL_FUTURE)`.
    pub(crate) default_flags: VmFlags,
    /// Pages that count as locked although no mapping says so.
    ///
    /// LINUX: 6.18 does not take the pages of a mapping that `MREMAP_DONTUNMAP` unlocks out of
    /// the count; they stay in it as long as the address space lives.
    pub(crate) stray_locked: u64,
    pub(crate) offsets: Offsets,
    /// The most `total_vm` ever was.
    pub(crate) peak_vm: u64,
    /// Pages that cannot be brought in, as an onlooker knows.
    pub(crate) missing_pages: Option<Arc<[MissingPage]>>,
    pub(crate) pages: P,
}

/// What the offset of unwritten anonymous memory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offsets {
    /// Always its own address.
    Own,
    /// It may be where the memory was before it moved.
    ///
    /// LINUX: 6.18 takes the anon_vma of a moved mapping away (`MREMAP_DONTUNMAP`, or the child
    /// of a mapping with `MADV_WIPEONFORK`) and leaves its offset as it is, so that it does not
    /// merge with fresh memory beside it.
    MayBeStale,
}

/// What an address space starts with, apart from its mappings.
///
/// # Examples
///
/// ```
/// use maple_mm::{AddressSpace, Setup};
/// let space = AddressSpace::from_layout(Setup::default(), []).unwrap();
/// assert_eq!(space.map_count(), 0);
/// ```
#[derive(Clone, Debug)]
pub struct Setup {
    /// The machine.
    pub system: Arc<System>,
    /// The Linux version.
    pub profile: LinuxProfile,
    /// Where the program's parts lie.
    pub layout: Layout,
    /// What it may use.
    pub limits: Limits,
    /// Its privileges.
    pub capabilities: Capabilities,
    /// What was asked of it as a whole.
    pub process: Process,
}

impl Default for Setup {
    /// A machine of its own with default settings, the newest profile, an empty layout, no
    /// privileges.
    fn default() -> Self {
        Self {
            system: Arc::new(System::new(crate::system::SystemSettings::default())),
            profile: LinuxProfile::default(),
            layout: Layout::default(),
            limits: Limits::default(),
            capabilities: Capabilities::empty(),
            process: Process::default(),
        }
    }
}

impl AddressSpace {
    /// An address space with no mapping and default settings.
    #[must_use]
    pub fn empty() -> Self {
        Self::with_pages(Setup::default(), NoPages)
    }

    /// Starts with the given mappings, in ascending order: what `exec` does, or a
    /// resynchronisation with a running process.
    ///
    /// Neighbours that were written and could have become two by a split get one anon_vma, as a
    /// split or a first write next to a written neighbour leaves them; every other written
    /// mapping gets its own. Nothing in `/proc` tells more.
    ///
    /// # Complexity
    ///
    /// O(n log n) for n mappings.
    ///
    /// # Errors
    ///
    /// A [`LayoutError`] naming the first mapping that is malformed or out of order.
    pub fn from_layout(
        setup: Setup,
        vmas: impl IntoIterator<Item = VmaSpec>,
    ) -> Result<Self, LayoutError> {
        let mut space = Self::with_pages(setup, NoPages);
        space.adopt_all(vmas)?;
        Ok(space)
    }

    /// The same address space at this moment, with the same anon_vma identities: to come back
    /// to, not a fork. Its promised pages count twice in the machine's counter until one of both
    /// is dropped; explicitly huge pages stay promised to the original.
    ///
    /// # Complexity
    ///
    /// O(1); later writes on either side copy what they touch.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// let before = space.snapshot();
    /// space.munmap(addr, 8192).unwrap();
    /// assert_eq!((before.map_count(), space.map_count()), (1, 0));
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Self {
        self.system
            .charge_unchecked(self.tally.statistics.committed);
        let copy = Self {
            system: Arc::clone(&self.system),
            profile: self.profile,
            layout: self.layout.clone(),
            limits: self.limits,
            capabilities: self.capabilities,
            process: self.process,
            tree: self.tree.snapshot().into(),
            tally: self.tally,
            anon_origin: self.anon_origin,
            promises: OwnPromises::none(&self.system),
            default_flags: self.default_flags,
            stray_locked: self.stray_locked,
            offsets: self.offsets,
            peak_vm: self.peak_vm,
            missing_pages: self.missing_pages.clone(),
            pages: NoPages,
        };
        copy.open_all();
        copy
    }
}

impl<P: PageSide> AddressSpace<P> {
    /// An address space with no mapping, whose pages are kept by `pages`, which has none yet. A
    /// layout that is too large for them is cut: mappings end where page tables end.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MappedPages, MmapRequest, Setup, abi::*};
    /// use maple_mm::paging::{Arena, ArenaLayout, NoTlb, X86_64};
    /// use std::sync::Arc;
    /// let arena = Arena::<parking_lot::RawMutex>::new(ArenaLayout::of_frames(64))?;
    /// let pages = MappedPages::<X86_64<4>, _, _>::new(Arc::new(arena), NoTlb)?;
    /// let mut parent = AddressSpace::with_pages(Setup::default(), pages);
    /// let addr = parent.mmap(MmapRequest::anonymous(8192, PROT_READ | PROT_WRITE))?;
    /// parent.write(addr + 4090, b"across two pages")?;
    ///
    /// let mut child = parent.fork()?;
    /// child.write(addr + 4090, b"mine")?;
    /// let mut seen = [0; 16];
    /// parent.read(addr + 4090, &mut seen)?;
    /// assert_eq!(&seen, b"across two pages");
    /// assert_eq!(parent.statistics().resident.anon, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_pages(setup: Setup, pages: P) -> Self {
        let nodes = setup.system.nodes();
        Self {
            promises: OwnPromises::none(&setup.system),
            system: setup.system,
            profile: setup.profile,
            layout: setup.layout.within(P::ADDRESSES_END),
            limits: setup.limits,
            capabilities: setup.capabilities,
            process: setup.process,
            tree: Mappings::with_gaps_in(nodes).into(),
            tally: Tally::default(),
            anon_origin: AnonOrigin::ROOT,
            default_flags: VmFlags::empty(),
            stray_locked: 0,
            offsets: Offsets::Own,
            peak_vm: 0,
            missing_pages: None,
            pages,
        }
    }

    /// What keeps the pages.
    #[must_use]
    pub const fn page_side(&self) -> &P {
        &self.pages
    }

    /// What keeps the pages, to be told of flushers and notifiers.
    pub const fn page_side_mut(&mut self) -> &mut P {
        &mut self.pages
    }

    /// Adds the given mappings, in ascending order, above all that are there; as
    /// [`from_layout`](AddressSpace::from_layout).
    ///
    /// # Errors
    ///
    /// A [`LayoutError`] naming the first mapping that is malformed or out of order. Those before
    /// it are there.
    pub fn adopt_all(
        &mut self,
        vmas: impl IntoIterator<Item = VmaSpec>,
    ) -> Result<(), LayoutError> {
        let mut before = self.vma_before(u64::MAX).cloned();
        for spec in vmas {
            let vma = self.adopt(spec, before.as_deref())?;
            let stored = self.adopt_one(vma);
            before = Some(stored.map_err(|_| LayoutError::OutOfNodes)?);
        }
        Ok(())
    }

    fn adopt_one(&mut self, vma: Vma) -> Result<VmaRef, Errno> {
        let vma = VmaRef::new(vma, self.system.pool())?;
        let mut edits = self.edits();
        edits.put_ref(vma.clone())?;
        self.commit(edits)?;
        Ok(vma)
    }

    fn adopt(&self, spec: VmaSpec, before: Option<&Vma>) -> Result<Vma, LayoutError> {
        let VmaSpec {
            start,
            end,
            flags,
            page_offset,
            backing,
            written,
        } = spec;
        if before.is_some_and(|before| start < before.end()) {
            return Err(LayoutError::Overlap { start });
        }
        if end > self.layout.task_size {
            return Err(LayoutError::BeyondEnd { end });
        }
        let content = Content {
            flags,
            page_offset,
            held: backing.into(),
            anon: Anon::UNFAULTED,
        };
        let vma = Vma::new(start, end, content).ok_or(LayoutError::NotPages { start, end })?;
        if !written {
            return Ok(vma);
        }
        let shared = before.filter(|before| merge::may_share_anon(&self.profile, before, &vma));
        let anon = match shared {
            Some(before) if before.anon().is_faulted() => before.anon(),
            _ => Anon::new(self.system.new_anon()),
        };
        Ok(vma.with_anon(anon))
    }

    /// The machine.
    #[must_use]
    pub const fn system(&self) -> &Arc<System> {
        &self.system
    }

    /// The Linux version it behaves as.
    #[must_use]
    pub const fn profile(&self) -> &LinuxProfile {
        &self.profile
    }

    /// Where the program's parts lie; `brk` is the current break.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Replaces the layout: what `prctl(PR_SET_MM)` changes, or what was learned late. It is cut
    /// to what page tables can map.
    pub fn set_layout(&mut self, layout: Layout) {
        self.layout = layout.within(P::ADDRESSES_END);
    }

    /// Replaces the privileges, as a change of credentials does.
    pub const fn set_capabilities(&mut self, capabilities: Capabilities) {
        self.capabilities = capabilities;
    }

    /// The privileges.
    #[must_use]
    pub const fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// The flags new mappings get beyond what a call asks for (`mlockall(MCL_FUTURE)`).
    #[must_use]
    pub const fn default_flags(&self) -> VmFlags {
        self.default_flags
    }

    /// The number of mappings; the gate page does not count.
    #[must_use]
    pub fn map_count(&self) -> usize {
        self.tree.len()
    }

    /// The tree, keyed by byte addresses (inclusive).
    #[must_use]
    pub fn tree(&self) -> &Mappings {
        &self.tree
    }

    /// All mappings in ascending order.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// assert_eq!(space.vmas().next().unwrap().start(), addr);
    /// ```
    pub fn vmas(&self) -> impl DoubleEndedIterator<Item = &VmaRef> {
        self.tree.iter().map(|(_, vma)| vma)
    }

    /// The mappings that overlap `range` (bytes, end exclusive), whole, in ascending order.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// assert_eq!(space.vmas_in(addr..addr + 1).count(), 1);
    /// assert_eq!(space.vmas_in(addr + 8192..u64::MAX).count(), 0);
    /// ```
    pub fn vmas_in(&self, range: Range<u64>) -> impl DoubleEndedIterator<Item = &VmaRef> {
        self.tree.range(range).map(|(_, vma)| vma)
    }

    /// The first mapping that ends above `addr`: the one at `addr`, else the next.
    ///
    /// # Complexity
    ///
    /// O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// assert_eq!(space.find_vma(0).unwrap().start(), addr);
    /// assert!(space.find_vma(addr + 8192).is_none());
    /// ```
    #[must_use]
    pub fn find_vma(&self, addr: u64) -> Option<&VmaRef> {
        self.tree.at_or_after(addr).map(|(_, vma)| vma)
    }

    /// The mapping that contains `addr`.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// assert_eq!(space.vma_at(addr + 5000).unwrap().pages(), 2);
    /// assert!(space.vma_at(addr - 1).is_none());
    /// ```
    #[must_use]
    pub fn vma_at(&self, addr: u64) -> Option<&VmaRef> {
        self.tree.entry(addr).map(|(_, vma)| vma)
    }

    /// The last mapping that ends at or below `addr`.
    pub(crate) fn vma_before(&self, addr: u64) -> Option<&VmaRef> {
        addr.checked_sub(1)
            .and_then(|last| self.tree.at_or_before(last))
            .map(|(_, vma)| vma)
            .filter(|vma| vma.end() <= addr)
    }

    /// Gives every mapping of the open file `id` what is now known about that file: a new name
    /// after a rename or deletion, or the inode of shared anonymous memory.
    ///
    /// # Complexity
    ///
    /// O(n).
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`] if the tree cannot be written; nothing changed.
    pub fn set_file(&mut self, id: FileId, file: &FileRef) -> Result<(), Errno> {
        let of_file = |vma: &&VmaRef| vma.file().is_some_and(|file| file.id == id);
        let mut edits = self.edits();
        let mut learned = None;
        for vma in self.vmas().filter(of_file) {
            let file = match (&learned, vma.file()) {
                (None, Some(known)) => learned.insert(file.with_pages_of(known)?),
                (None, None) => file,
                (Some(learned), _) => learned,
            };
            edits.put(self.local(vma).with_backing(Backing::File(file.clone()))?)?;
        }
        self.commit(edits)
    }

    /// Unmaps everything and gives back what was promised, as the end of a process does, or the
    /// beginning of another program: nothing refuses, seals do not, and nobody is waited for.
    /// What is set beside mappings stays: the layout, limits, the highest counts.
    ///
    /// Where others fault and read meanwhile ([`SharedAddressSpace`](crate::SharedAddressSpace)),
    /// they find nothing from now on. The memory is back when nobody is on the way to it any more;
    /// [`barrier`](crate::SharedAddressSpace::barrier) waits for that. Tables go in pieces of 512
    /// steps, each of which waits anew; the nodes and mappings of the tree in one, O(n).
    ///
    /// # Complexity
    ///
    /// O(pages and tables of its own + nodes), and O(n) if there are mappings with hooks or promises
    /// of explicitly huge pages. Shared pages and tables are given up at the root.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ))?;
    /// space.mseal(addr, 8192, 0)?;
    /// space.exit();
    /// assert_eq!((space.map_count(), space.statistics().total_vm), (0, 0));
    /// assert_eq!(space.statistics().peak_vm, 2);
    /// # Ok::<(), maple_mm::Errno>(())
    /// ```
    #[doc(alias = "exit_mmap")]
    pub fn exit(&mut self) {
        self.close_all();
        let promised = self.promises.is_expected().then(|| self.tree.snapshot());
        // Before pages and tables go: who faults beside finds no mapping for a page.
        self.tree.clear();
        self.pages.tear_down(&Teardown::everything());
        if let Some(mappings) = promised {
            self.give_up_promises(&mappings);
        }
        self.system.uncharge(self.tally.statistics.committed);
        self.tally = Tally::default();
        self.stray_locked = 0;
    }

    /// The range of the tree that `start..end` bytes cover.
    pub(crate) fn index_range(start: u64, end: u64) -> Option<IndexRange> {
        IndexRange::new(start, end.checked_sub(1)?)
    }

    /// `bytes` in whole pages.
    pub(crate) const fn pages(bytes: u64) -> u64 {
        bytes / PAGE_SIZE
    }
}

impl<P: PageSide> Drop for AddressSpace<P> {
    /// As [`exit`](AddressSpace::exit).
    ///
    /// PERF: nobody looks any more, so the tree goes by itself: 8 % of a fork with its end.
    fn drop(&mut self) {
        self.close_all();
        self.pages.tear_down(&Teardown::everything());
        if self.promises.is_expected() {
            self.give_up_promises(&self.tree);
        }
        self.system.uncharge(self.tally.statistics.committed);
    }
}
