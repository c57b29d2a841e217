//! Who changes the pages of an address space at once: one thread ([`Alone`]), or several
//! ([`Beside`]).

use maple_tree::Rcu;

pub(super) use self::sealed::{Keeps, Kind, State};
use super::limbo::Waiting;
use super::memory::{OutOfFrames, PhysMemory};
use super::stripes::Crowd;
use super::tally::Counters;
use crate::counted::Counted;
use crate::memory::TreeNodes;

/// Whether several threads change the pages of one address space at once: [`Alone`] or
/// [`Beside`].
///
/// `M` is the memory of the tables.
pub trait Company<M>: Keeps<M> {}

/// One thread at a time: no lock is taken, no table is looked at again, and what is taken out is
/// freed at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alone;

/// One thread that changes mappings, and any number that fault, read and write beside it.
///
/// Beside each other are [`map`](super::PageTables::map), [`resolve_write`], [`read`], [`write`],
/// [`translate`], [`entry`], [`pages`], and their likes. All else is for one thread at a time,
/// which holds no guard of `R`: it may wait until those are gone.
///
/// [`resolve_write`]: super::PageTables::resolve_write
/// [`read`]: super::PageTables::read
/// [`write`]: super::PageTables::write
/// [`translate`]: super::PageTables::translate
/// [`entry`]: super::PageTables::entry
/// [`pages`]: super::PageTables::pages
///
/// `R` says when those have left that went through a table: it is freed then. An `Rcu` that is
/// shared by several address spaces is a `&'static`, or an `Arc`. Its
/// [`call_rcu`](Rcu::call_rcu) is called by functions that it runs, too.
///
/// # Examples
///
/// ```
/// use maple_mm::MappedPages;
/// use maple_mm::paging::{Arena, ArenaLayout, Beside, NoTlb, X86_64};
/// use maple_tree::EpochRcu;
/// use std::sync::Arc;
/// let arena = Arc::new(Arena::<parking_lot::RawMutex>::new(ArenaLayout::of_frames(64))?);
/// let side = MappedPages::<X86_64<4>, _, _, _>::beside(arena, NoTlb, Beside::new(EpochRcu))?;
/// assert_eq!(side.tables().pgtables_bytes(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Beside<R> {
    pub(super) rcu: R,
    pub(super) nodes: TreeNodes,
}

impl<R: Rcu> Beside<R> {
    /// With `rcu`.
    #[must_use]
    pub const fn new(rcu: R) -> Self {
        let nodes = TreeNodes::HEAP;
        Self { rcu, nodes }
    }

    /// What waits to be freed is noted in nodes of `nodes`.
    #[must_use]
    pub fn with_nodes(self, nodes: TreeNodes) -> Self {
        Self { nodes, ..self }
    }
}

impl<M: PhysMemory> Company<M> for Alone {}

impl Kind for Alone {
    const BESIDE: bool = false;
}

impl<M: PhysMemory> Keeps<M> for Alone {
    type State = Counters;

    fn state(self) -> Result<Counters, OutOfFrames> {
        Ok(Counters::default())
    }
}

impl<M, R> Company<M> for Beside<R>
where
    M: PhysMemory + Clone + Send + 'static,
    R: Rcu + Clone + Send + Sync + 'static,
{
}

impl<R> Kind for Beside<R> {
    const BESIDE: bool = true;
}

impl<M, R> Keeps<M> for Beside<R>
where
    M: PhysMemory + Clone + Send + 'static,
    R: Rcu + Clone + Send + Sync + 'static,
{
    type State = Crowd<R>;

    fn state(self) -> Result<Crowd<R>, OutOfFrames> {
        let waiting = Counted::new(Waiting::default()).map_err(|_| OutOfFrames)?;
        Ok(Crowd::new(self, waiting))
    }
}

mod sealed {
    use alloc::sync::Arc;

    use super::super::arch::Arch;
    use super::super::memory::{OutOfFrames, PhysAddr, PhysMemory};
    use super::super::tally::{Class, Counters};
    use crate::system::System;

    /// What does not depend on the memory.
    pub trait Kind {
        /// Whether there are others beside the one that changes something.
        const BESIDE: bool;
    }

    pub trait Keeps<M>: Kind + Sized {
        type State: State<M>;

        /// What the tables of one address space keep for their company.
        fn state(self) -> Result<Self::State, OutOfFrames>;
    }

    /// What the tables of one address space keep for who uses them at once: counters, who is
    /// inside, and how they wait for each other.
    pub trait State<M>: Sized {
        /// Who holds one finds no table freed that it came by.
        type Guard<'a>
        where
            Self: 'a;

        /// See `enter`.
        type Inside<'a>
        where
            Self: 'a;

        /// See `close`.
        type Closed<'a>
        where
            Self: 'a;

        /// Tables that were taken out.
        type Retired;

        const NONE_RETIRED: Self::Retired;

        /// For the tables of a child.
        fn heir(&self) -> Result<Self, OutOfFrames>;

        /// Where what happens in `block` is counted: blocks are what a lowest table maps.
        fn counters(&self, block: u64) -> &Counters;

        /// What is counted everywhere.
        fn sum(&self, class: Class) -> u64;

        /// Makes all sums those of `other`.
        fn copy_from(&self, other: &Self);

        /// Makes all sums zero.
        fn clear(&self);

        fn guard(&self) -> Self::Guard<'_>;

        /// Begins a change to what is mapped in `block`, or an access to it; waits while the gate
        /// is closed. Until what is returned goes away nothing is allocated, flushed or asked of a
        /// file.
        fn enter<'a>(&'a self, memory: &M, block: u64) -> Self::Inside<'a>;

        /// Closes the gate until what is returned goes away, and waits for who is inside. There
        /// is one who does so at a time: who may change mappings.
        fn close<'a>(&'a self, memory: &M) -> Self::Closed<'a>;

        /// Makes sure that the next table that is taken out has a place.
        fn reserve(&self, memory: &M, retired: &mut Self::Retired) -> Result<(), OutOfFrames>;

        /// Whether it has one already.
        fn has_room(retired: &Self::Retired) -> bool;

        /// Takes over the reference to a table that was taken out: whether it has a place. If not,
        /// the caller keeps it until this is settled.
        fn retire(&self, retired: &mut Self::Retired, table: (PhysAddr, usize)) -> bool;

        /// Waits, where a table had no place, until nobody looks.
        fn settle(retired: &mut Self::Retired);

        /// Has all tables freed when nobody looks any more.
        fn hand_over<A: Arch>(retired: &mut Self::Retired);

        /// How many times something was handed over that is not freed.
        fn pending(&self) -> usize;

        /// Waits until nothing is pending.
        fn barrier(&self);

        /// Tells whose pool explicitly huge pages go back to.
        fn set_pool(&self, system: &Arc<System>);
    }

    /// One thread: nobody to wait for.
    impl<M: PhysMemory> State<M> for Counters {
        type Guard<'a> = ();
        type Inside<'a> = ();
        type Closed<'a> = ();
        type Retired = ();

        const NONE_RETIRED: () = ();

        fn heir(&self) -> Result<Self, OutOfFrames> {
            Ok(Self::default())
        }

        fn counters(&self, _: u64) -> &Counters {
            self
        }

        fn sum(&self, class: Class) -> u64 {
            self.get(class)
        }

        fn copy_from(&self, other: &Self) {
            for class in Class::ALL {
                self.set(class, other.get(class));
            }
        }

        fn clear(&self) {
            for class in Class::ALL {
                self.set(class, 0);
            }
        }

        fn guard(&self) {}

        fn enter(&self, _: &M, _: u64) {}

        fn close(&self, _: &M) {}

        fn reserve(&self, _: &M, (): &mut ()) -> Result<(), OutOfFrames> {
            Ok(())
        }

        fn has_room((): &()) -> bool {
            true
        }

        /// Nobody looks, so nothing has to wait.
        fn retire(&self, (): &mut (), _: (PhysAddr, usize)) -> bool {
            false
        }

        fn settle((): &mut ()) {}

        fn hand_over<A: Arch>((): &mut ()) {}

        fn pending(&self) -> usize {
            0
        }

        fn barrier(&self) {}

        fn set_pool(&self, _: &Arc<System>) {}
    }
}
