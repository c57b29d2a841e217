//! [`SharedAddressSpace`]: an address space that many threads use at once.

mod facts;
mod fault;
mod locked;
mod look;
#[cfg(test)]
pub(crate) mod tests;

use alloc::sync::Arc;
use core::fmt;

use lock_api::{Mutex, RawMutex};
use maple_tree::{Published, Rcu};

pub(crate) use facts::Beside;
use facts::Facts;
pub use locked::Locked;
pub use look::MappingReader;

use crate::errno::Errno;
use crate::fork::{ForkPlan, ForkStrategy};
use crate::memory::{TreeNodes, VmaRef};
use crate::page_side::PageSide;
use crate::profile::LinuxProfile;
use crate::space::AddressSpace;
use crate::system::System;

/// An address space that many threads use at once: calls that change mappings come one after the
/// other, behind one lock, and those that look take none.
///
/// [`lock`](Self::lock) lends the [`AddressSpace`], with all its calls. Beside whoever has it,
/// without waiting:
///
/// - [`mappings`](Self::mappings) looks mappings up, each look-up at some moment of its own;
/// - [`check_range`](Self::check_range) asks whether a program may use a buffer;
/// - [`moment`](Self::moment) is all mappings, the layout and the counters of one moment, from
///   which `maps`, `smaps` and `status` are written and gaps are searched while others map;
/// - [`statistics`](Self::statistics) are the counters;
/// - [`fault`](Self::fault) makes a page ready, [`read`](Self::read) and [`write`](Self::write) use
///   memory, [`translate`](Self::translate) tells where it is. They wait for each other, and for
///   calls, only at one table of pages, and as long as a call needs all pages as they are: a fork
///   that shares tables, for a moment; one that copies pages ([`PageStrategy::Copy`](crate::PageStrategy)), `mremap`
///   that moves pages, and `MADV_GUARD_INSTALL`, from before the first page to after the last.
///
/// `P` is what the mappings lead to: [`NoPages`](crate::NoPages), or a [`Counted`](crate::Counted)
/// page side, which is what counts as its clone. If that is not one for several threads
/// ([`Beside`](crate::paging::Beside)), faults, reads and writes take the lock. `R` is how memory
/// waits for readers, `L` the lock; kernels bring their own of both.
///
/// # What a reader may see
///
/// A mapping that it finds was mapped at some moment of the look-up. A call changes mappings one
/// by one, and a look-up may fall between them: where `mprotect` splits a mapping, it finds the
/// old one or a new one; where `MAP_FIXED` replaces, the old or the new, or neither. An iteration may
/// meet a mapping and behind it one that takes a part of its place. Mappings never change, so what
/// it found stays what it was. A moment falls between calls, never into one.
///
/// # Where it differs from an address space on its own
///
/// A first write that finds no memory for its page leaves its anon_vma behind, and a stack stays
/// grown: readers may have seen it. (LINUX: so it is there.)
///
/// # Examples
///
/// ```
/// use std::thread;
/// use maple_mm::{Access, AddressSpace, MmapRequest, SharedAddressSpace, abi::*};
/// use maple_tree::EpochRcu;
///
/// let space = AddressSpace::empty();
/// let shared = SharedAddressSpace::<_, _, parking_lot::RawMutex>::new(space, EpochRcu)?;
/// let buffer = shared.lock().mmap(MmapRequest::anonymous(8192, PROT_READ | PROT_WRITE))?;
/// thread::scope(|scope| {
///     scope.spawn(|| {
///         for _ in 0..100 {
///             let addr = shared.lock().mmap(MmapRequest::anonymous(4096, PROT_READ)).unwrap();
///             shared.lock().munmap(addr, 4096).unwrap();
///         }
///     });
///     for _ in 0..100 {
///         assert_eq!(shared.check_range(buffer..buffer + 8192, Access::Write), Ok(()));
///         let mut text = String::new();
///         shared.moment().write_maps(&mut text).unwrap();
///         assert!(text.contains(&format!("{:08x} rw-p", buffer + 8192)));
///     }
/// });
/// assert_eq!(shared.into_inner().map_count(), 1);
/// # Ok::<(), maple_mm::Errno>(())
/// ```
pub struct SharedAddressSpace<P, R, L>
where
    P: PageSide + Clone,
    R: Rcu + Send + Sync + 'static,
    L: RawMutex,
{
    owner: Mutex<L, AddressSpace<P>>,
    mappings: Published<VmaRef, R, TreeNodes>,
    facts: Facts,
    pages: P,
    profile: LinuxProfile,
    system: Arc<System>,
}

impl<P, R, L> SharedAddressSpace<P, R, L>
where
    P: PageSide + Clone,
    R: Rcu + Send + Sync + 'static,
    L: RawMutex,
{
    /// Shares `space`; `rcu` is how its memory waits for readers.
    ///
    /// # Complexity
    ///
    /// O(1); takes two nodes.
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`] without nodes; the address space is dropped, as by exit.
    ///
    /// # Examples
    ///
    /// See [`SharedAddressSpace`].
    pub fn new(mut space: AddressSpace<P>, rcu: R) -> Result<Self, Errno> {
        Ok(Self {
            mappings: space.tree.open(rcu)?,
            facts: Facts::new(&space.beside()),
            profile: space.profile,
            pages: space.pages.clone(),
            system: Arc::clone(&space.system),
            owner: Mutex::new(space),
        })
    }

    /// Waits for the lock, and lends the address space with all its calls. What they change is
    /// seen at once by look-ups, and by [`moment`](Self::moment) when the lock is given back.
    ///
    /// What is lent is this address space: another must not be put in its place. Who has a
    /// [`MappingReader`] must not ask for more than look-ups: without memory a call may wait for
    /// readers.
    ///
    /// # Examples
    ///
    /// See [`SharedAddressSpace`].
    pub fn lock(&self) -> Locked<'_, P, R, L> {
        Locked::new(self, self.owner.lock())
    }

    /// As [`lock`](Self::lock), if nobody has it.
    #[must_use]
    pub fn try_lock(&self) -> Option<Locked<'_, P, R, L>> {
        Some(Locked::new(self, self.owner.try_lock()?))
    }

    /// The address space for its only owner: from now on it changes in place again.
    ///
    /// # Panics
    ///
    /// If another address space was put in the place of this one.
    ///
    /// # Examples
    ///
    /// See [`SharedAddressSpace`].
    #[must_use]
    pub fn into_inner(self) -> AddressSpace<P> {
        let mut space = self.owner.into_inner();
        space.tree.close(self.mappings);
        space
    }

    /// Makes the address space of a forked child, as [`AddressSpace::fork`] does: it is one moment
    /// of this one.
    ///
    /// # Errors
    ///
    /// As there; nothing is left of the child.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, SharedAddressSpace, abi::PROT_READ};
    /// use maple_tree::EpochRcu;
    /// let space = AddressSpace::empty();
    /// let parent = SharedAddressSpace::<_, _, parking_lot::RawMutex>::new(space, EpochRcu)?;
    /// let addr = parent.lock().mmap(MmapRequest::anonymous(4096, PROT_READ))?;
    /// let child = parent.fork()?;
    /// parent.lock().munmap(addr, 4096)?;
    /// assert!(child.find_vma(addr).is_some() && parent.find_vma(addr).is_none());
    /// # Ok::<(), maple_mm::Errno>(())
    /// ```
    pub fn fork(&self) -> Result<Self, Errno>
    where
        R: Clone,
    {
        self.fork_with(ForkStrategy::Snapshot, || false)
    }

    /// As [`AddressSpace::fork_with`].
    ///
    /// # Errors
    ///
    /// As there, and [`Errno::ENOMEM`] without the nodes that readers of the child need; nothing is
    /// left of the child.
    pub fn fork_with(
        &self,
        plan: impl Into<ForkPlan>,
        is_cancelled: impl FnMut() -> bool,
    ) -> Result<Self, Errno>
    where
        R: Clone,
    {
        let child = self.lock().fork_with(plan, is_cancelled)?;
        Self::new(child, self.mappings.rcu().clone())
    }

    /// Waits until the memory of all mappings and nodes is back that were gone before. Not to be
    /// called by who has the lock or a [`MappingReader`].
    pub fn barrier(&self) {
        self.lock().tree.hand_over();
        self.mappings.barrier();
        self.pages.barrier();
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
}

impl<P, R, L> fmt::Debug for SharedAddressSpace<P, R, L>
where
    P: PageSide + Clone,
    R: Rcu + Send + Sync + 'static,
    L: RawMutex,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedAddressSpace")
            .field("mappings", &self.mappings)
            .finish_non_exhaustive()
    }
}

impl<P: PageSide> AddressSpace<P> {
    /// What belongs to it beside its mappings.
    pub(crate) fn beside(&self) -> Beside {
        Beside {
            layout: self.layout.clone(),
            sums: self.tally.statistics,
            peak_vm: self.peak_vm,
            switches: self.process.flags,
        }
    }
}
