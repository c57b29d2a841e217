//! `fork`: the child's address space, made in one of six ways that end in the same.

use alloc::sync::Arc;

use maple_tree::{DuplicateError, IndexRange, OutOfNodes, SortedError, StoreError};

use crate::accounting::Tally;
use crate::anon::{Anon, AnonId, AnonOrigin};
use crate::charge::Charge;
use crate::errno::Errno;
use crate::flags::VmFlags;
use crate::huge_pages::OwnPromises;
use crate::memory::{Batch, VmaRef};
use crate::page_side::{Alike, Inheritance, PageSide, PageStrategy};
use crate::space::{AddressSpace, Mappings, Offsets};
use crate::system::Overcommit;
use crate::userfault::UserfaultFeatures;

/// How `fork` makes the child's tree of mappings.
///
/// All end in the same address space. All but `Snapshot` make a new mapping for each one that is
/// inherited, as Linux does; they differ in how these get into a tree.
///
/// # Examples
///
/// ```
/// use maple_mm::{AddressSpace, ForkStrategy, MmapRequest, abi::*};
/// let mut parent = AddressSpace::empty();
/// parent.mmap(MmapRequest::anonymous(4096, PROT_READ | PROT_WRITE))?;
/// for strategy in ForkStrategy::ALL {
///     assert_eq!(parent.fork_with(strategy, || false)?.map_count(), 1);
/// }
/// # Ok::<(), maple_mm::Errno>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForkStrategy {
    /// Stores one mapping after the other into an empty tree.
    StoreEach,
    /// Fills an empty tree in ascending order, each node once. (LINUX: up to 6.7.)
    Bulk,
    /// Copies the tree node by node, then stores each new mapping over the inherited one.
    DuplicateThenStore,
    /// Copies the tree node by node, then puts each new mapping in the place of the inherited one.
    /// (LINUX: from 6.8.)
    DuplicateThenReplace,
    /// Copies the tree in one pass that makes the new mappings on the way.
    DuplicateWith,
    /// Shares the tree; mappings are shared too until either side changes them.
    Snapshot,
}

impl ForkStrategy {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::StoreEach,
        Self::Bulk,
        Self::DuplicateThenStore,
        Self::DuplicateThenReplace,
        Self::DuplicateWith,
        Self::Snapshot,
    ];

    /// A short name for tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StoreEach => "store-each",
            Self::Bulk => "bulk",
            Self::DuplicateThenStore => "duplicate+store",
            Self::DuplicateThenReplace => "duplicate+replace",
            Self::DuplicateWith => "duplicate-with",
            Self::Snapshot => "snapshot",
        }
    }

    /// Whether each inherited mapping is made anew at once.
    #[must_use]
    pub const fn is_eager(self) -> bool {
        !matches!(self, Self::Snapshot)
    }
}

/// How `fork` makes the child's mappings, and how its pages.
///
/// # Examples
///
/// ```
/// use maple_mm::{ForkPlan, ForkStrategy, PageStrategy};
/// let plan = ForkPlan::from(ForkStrategy::Bulk);
/// assert_eq!(plan.pages, PageStrategy::Share);
/// assert_eq!(ForkPlan::default().mappings, ForkStrategy::Snapshot);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForkPlan {
    /// The tree of mappings.
    pub mappings: ForkStrategy,
    /// The pages.
    pub pages: PageStrategy,
}

impl Default for ForkPlan {
    /// What shares most.
    fn default() -> Self {
        Self::from(ForkStrategy::Snapshot)
    }
}

impl From<ForkStrategy> for ForkPlan {
    /// With shared pages.
    fn from(mappings: ForkStrategy) -> Self {
        let pages = PageStrategy::Share;
        Self { mappings, pages }
    }
}

/// Makes what the child gets of each mapping.
///
/// # Invariants
///
/// - **FK1** `tally` is what the child's mappings will sum up to: the parent's sums, changed for
///   each mapping met that is not inherited as it is.
struct Heir<'p, P: PageSide, C> {
    parent: &'p AddressSpace<P>,
    is_cancelled: C,
    batch: Batch,
    tally: Tally,
    /// Identities reserved for the child's mappings: the next, and how many are left.
    next_anon: AnonId,
    reserved_anons: u64,
}

impl<'p, P: PageSide, C: FnMut() -> bool> Heir<'p, P, C> {
    /// Reserves identities and memory for `copies` new mappings.
    fn new(parent: &'p AddressSpace<P>, copies: usize, is_cancelled: C) -> Self {
        let mut tally = parent.tally;
        // What is locked without a mapping that says so stays with the parent.
        tally.statistics.locked_vm -= parent.stray_locked;
        Self {
            parent,
            is_cancelled,
            batch: Batch::new(parent.system.pool(), copies),
            tally,
            next_anon: parent.system.new_anons(copies as u64),
            reserved_anons: copies as u64,
        }
    }

    fn check_cancelled(&mut self) -> Result<(), Errno> {
        if (self.is_cancelled)() {
            Err(Errno::EINTR)
        } else {
            Ok(())
        }
    }

    /// What the child gets of `vma`; `None` if nothing.
    #[inline]
    fn inherit(&mut self, vma: &VmaRef) -> Result<Option<VmaRef>, Errno> {
        self.check_cancelled()?;
        let mut flags = vma.flags();
        let mut is_kept = vma.anon().is_faulted();
        let is_watched = flags.intersects(VmFlags::UFFD_ANY);
        if flags.intersects(UNLIKE) {
            self.tally = self.tally.minus(Tally::of(vma, vma.pages()));
            if flags.contains(VmFlags::DONTCOPY) && !planted!(ForkAll) {
                return Ok(None);
            }
            if !planted!(ForkLocked) {
                flags -= VmFlags::LOCKED_ANY;
            }
            is_kept &= !flags.contains(VmFlags::WIPEONFORK);
            // INVARIANT: FK1; only the flags count.
            let inherited = vma
                .with_flags(flags)
                .kept_watched(UserfaultFeatures::EVENT_FORK)?;
            self.tally = self.tally.plus(Tally::of(&inherited, vma.pages()));
        }
        let anon = if is_kept {
            Anon::forked(self.new_anon())
        } else {
            Anon::UNFAULTED
        };
        let mut child = vma.of_child(flags, anon);
        if is_watched {
            child = child.kept_watched(UserfaultFeatures::EVENT_FORK)?;
        }
        VmaRef::new_from(child, &mut self.batch).map(Some)
    }

    fn new_anon(&mut self) -> AnonId {
        match self.reserved_anons.checked_sub(1) {
            Some(left) => {
                self.reserved_anons = left;
                let id = self.next_anon;
                self.next_anon.0 += 1;
                id
            }
            None => self.parent.system.new_anon(),
        }
    }

    fn tree(&mut self, strategy: ForkStrategy) -> Result<Mappings, Errno> {
        match strategy {
            ForkStrategy::StoreEach => self.store_each(),
            ForkStrategy::Bulk => self.bulk(),
            ForkStrategy::DuplicateThenStore => self.duplicate_then_store(),
            ForkStrategy::DuplicateThenReplace => self.duplicate_then_replace(),
            ForkStrategy::DuplicateWith => self.duplicate_with(),
            ForkStrategy::Snapshot => self.snapshot(),
        }
    }

    fn empty_tree(&self) -> Mappings {
        Mappings::with_gaps_in(self.parent.system.nodes())
    }

    fn store_each(&mut self) -> Result<Mappings, Errno> {
        let mut tree = self.empty_tree();
        for (range, vma) in self.parent.tree() {
            if let Some(copy) = self.inherit(vma)? {
                tree.store(range, copy)?;
            }
        }
        Ok(tree)
    }

    fn bulk(&mut self) -> Result<Mappings, Errno> {
        let mut tree = self.empty_tree();
        let mut left = self.parent.tree.iter();
        let mut refused = Ok(());
        let items = core::iter::from_fn(|| {
            loop {
                let (range, vma) = left.next()?;
                match self.inherit(vma) {
                    Ok(Some(copy)) => return Some((range, copy)),
                    Ok(None) => {}
                    Err(errno) => {
                        refused = Err(errno);
                        return None;
                    }
                }
            }
        });
        let loaded = tree.bulk_load(items);
        refused?;
        loaded?;
        Ok(tree)
    }

    fn duplicate_then_store(&mut self) -> Result<Mappings, Errno> {
        let mut tree = self.parent.tree.duplicate()?;
        for (range, vma) in self.parent.tree() {
            put(&mut tree, range, self.inherit(vma)?)?;
        }
        Ok(tree)
    }

    fn duplicate_then_replace(&mut self) -> Result<Mappings, Errno> {
        let mut tree = self.parent.tree.duplicate()?;
        let mut outcome = Ok(());
        tree.for_each_mut(.., |_, vma| {
            if outcome.is_err() {
                return;
            }
            match self.inherit(vma) {
                Ok(Some(copy)) => *vma = copy,
                // Taken out below.
                Ok(None) => {}
                Err(errno) => outcome = Err(errno),
            }
        })?;
        outcome?;
        if self.parent.tally.unlike_child > 0 {
            self.remove_what_stays(&mut tree)?;
        }
        Ok(tree)
    }

    /// Takes out what the child does not get.
    fn remove_what_stays(&self, tree: &mut Mappings) -> Result<(), Errno> {
        for (range, vma) in self.parent.tree() {
            if vma.flags().contains(VmFlags::DONTCOPY) {
                tree.remove(range)?;
            }
        }
        Ok(())
    }

    fn duplicate_with(&mut self) -> Result<Mappings, Errno> {
        let parent = self.parent;
        let duplicate = parent.tree.duplicate_with(|_, vma| self.inherit(vma));
        duplicate.map_err(|error| match error {
            DuplicateError::Refused(errno) => errno,
            DuplicateError::OutOfNodes => Errno::ENOMEM,
        })
    }

    fn snapshot(&mut self) -> Result<Mappings, Errno> {
        self.check_cancelled()?;
        let mut tree = self.parent.tree.snapshot();
        if self.parent.tally.unlike_child > 0 {
            for (range, vma) in self.parent.tree() {
                if vma.flags().intersects(UNLIKE) {
                    put(&mut tree, range, self.inherit(vma)?)?;
                }
            }
        }
        Ok(tree)
    }
}

/// The flags of mappings that a child does not get as they are.
pub(crate) const UNLIKE: VmFlags = VmFlags::DONTCOPY
    .union(VmFlags::WIPEONFORK)
    .union(VmFlags::UFFD_ANY)
    .union(VmFlags::LOCKED_ANY);

/// Stores over exactly the range of an entry, or empties it.
fn put(tree: &mut Mappings, range: IndexRange, vma: Option<VmaRef>) -> Result<(), Errno> {
    match vma {
        Some(vma) => tree.store(range, vma)?,
        None => tree.remove(range)?,
    }
    Ok(())
}

impl From<OutOfNodes> for Errno {
    fn from(_: OutOfNodes) -> Self {
        Self::ENOMEM
    }
}

impl<T> From<StoreError<T>> for Errno {
    /// Nothing in an address space is stored where something must not be.
    fn from(_: StoreError<T>) -> Self {
        Self::ENOMEM
    }
}

impl From<SortedError> for Errno {
    /// A tree's entries come in order.
    fn from(_: SortedError) -> Self {
        Self::ENOMEM
    }
}

impl<P: PageSide> AddressSpace<P> {
    /// Makes the address space of a forked child, in the fastest way:
    /// [`ForkStrategy::Snapshot`], not to be cancelled. See [`fork_with`](Self::fork_with).
    ///
    /// # Errors
    ///
    /// As for [`fork_with`](Self::fork_with).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{Access, AddressSpace, Errno, MmapRequest, abi::*};
    /// let mut parent = AddressSpace::empty();
    /// let addr = parent.mmap(MmapRequest::anonymous(4096, PROT_READ | PROT_WRITE))?;
    /// parent.fault(addr, Access::Write).unwrap();
    /// let child = parent.fork()?;
    /// assert!(child.anon(child.vma_at(addr).unwrap()).is_forked());
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn fork(&mut self) -> Result<Self, Errno> {
        self.fork_with(ForkStrategy::Snapshot, || false)
    }

    /// Makes the address space of a forked child; `is_cancelled` is asked between mappings. It
    /// must not look at memory of this address space, nor wait for who does: while pages are
    /// copied ([`PageStrategy::Copy`]) those wait for the fork.
    ///
    /// Mappings marked `MADV_DONTFORK` are left out, those marked `MADV_WIPEONFORK` begin
    /// unwritten, nothing is locked, and what the parent had written hangs on a chain from now on.
    /// A [`ForkStrategy`] alone shares the pages.
    ///
    /// # Complexity
    ///
    /// O(n). [`ForkStrategy::Snapshot`] with [`PageStrategy::Share`]: O(1) if no mapping is marked
    /// with one of both or locked and none has hooks, and what the parent was promised is no more
    /// than memory and swap; else O(n + m log n) for m such mappings. [`PageStrategy::Copy`]: and
    /// O(p) for p pages of written mappings.
    ///
    /// # Errors
    ///
    /// - [`Errno::ENOMEM`]: memory may not be promised twice, or there is none for the child.
    /// - [`Errno::EINTR`]: `is_cancelled` said so.
    /// - What [`before_fork`](crate::MappingHooks::before_fork) says.
    ///
    /// Nothing is left of the child, no mapping of it was opened, and the parent is unchanged, but
    /// that its pages may have lost the right to write, which the next write gives back.
    ///
    /// LINUX: charges and refuses mapping by mapping; the sum is the same, and so is what is
    /// refused.
    pub fn fork_with(
        &mut self,
        plan: impl Into<ForkPlan>,
        is_cancelled: impl FnMut() -> bool,
    ) -> Result<Self, Errno> {
        let plan = plan.into();
        let Some(hooks) = self.system.hooks() else {
            return self.make_child(plan, is_cancelled);
        };
        hooks.before_fork(&self.tree)?;
        let outcome = self.make_child(plan, is_cancelled);
        if let Ok(child) = &outcome {
            child.open_all();
        }
        let child = outcome.as_ref().map(Self::tree);
        hooks.after_fork(&self.tree, child.map_err(|errno| *errno));
        outcome
    }

    fn make_child(
        &mut self,
        plan: ForkPlan,
        is_cancelled: impl FnMut() -> bool,
    ) -> Result<Self, Errno> {
        let charge = self.charge_child()?;
        let copies = if plan.mappings.is_eager() {
            self.map_count()
        } else {
            0
        };
        let mut heir = Heir::new(self, copies, is_cancelled);
        let anon_origin = AnonOrigin(heir.next_anon);
        let tree = heir.tree(plan.mappings)?;
        let Heir {
            tally,
            mut is_cancelled,
            ..
        } = heir;
        let pages = self.pages.fork(Inheritance {
            mappings: &self.tree,
            strategy: plan.pages,
            alike: if self.tally.unlike_child > 0 {
                Alike::Some
            } else {
                Alike::All
            },
            is_cancelled: &mut is_cancelled,
        })?;
        charge.keep();
        Ok(Self {
            system: Arc::clone(&self.system),
            profile: self.profile,
            layout: self.layout.clone(),
            limits: self.limits,
            capabilities: self.capabilities,
            process: self.process.of_child(),
            tree: tree.into(),
            tally,
            anon_origin,
            // LINUX: what private mappings were promised stays the parent's.
            promises: OwnPromises::none(&self.system),
            // `mlockall(MCL_FUTURE)` is not inherited.
            default_flags: self.default_flags & VmFlags::NOHUGEPAGE,
            stray_locked: 0,
            // What was moved and is wiped keeps its old offset.
            offsets: Offsets::MayBeStale,
            peak_vm: tally.statistics.total_vm,
            missing_pages: None,
            pages,
        })
    }

    /// Promises the child what it will have.
    fn charge_child(&self) -> Result<Charge, Errno> {
        let pages = self.tally.statistics.committed - self.tally.kept_from_child;
        let settings = self.system.settings();
        let is_guess = settings.overcommit == Overcommit::Guess;
        let all = settings.ram_pages.saturating_add(settings.swap_pages);
        if !is_guess || pages <= all {
            return self.charge(pages);
        }
        // Each mapping is asked for on its own, and only one that is too large is refused.
        let is_refused = |vma: &VmaRef| {
            let flags = vma.flags();
            let is_charged = flags.contains(VmFlags::ACCOUNT) && !flags.contains(VmFlags::DONTCOPY);
            is_charged && vma.pages() > all
        };
        if self.vmas().any(is_refused) {
            return Err(Errno::ENOMEM);
        }
        self.system.charge_unchecked(pages);
        Ok(Charge::new(Arc::clone(&self.system), pages))
    }
}
