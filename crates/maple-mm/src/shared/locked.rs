//! [`Locked`]: who changes an address space that others look at.

use core::fmt;
use core::ops::{Deref, DerefMut};

use lock_api::{MutexGuard, RawMutex};
use maple_tree::Rcu;

use super::SharedAddressSpace;
use crate::page_side::PageSide;
use crate::space::AddressSpace;

/// An [`AddressSpace`] that others look at meanwhile, lent by [`SharedAddressSpace::lock`].
///
/// What was done with it is one change to who asks for a [`Moment`](crate::Moment).
pub struct Locked<'s, P, R, L>
where
    P: PageSide + Clone,
    R: Rcu + Send + Sync + 'static,
    L: RawMutex,
{
    shared: &'s SharedAddressSpace<P, R, L>,
    owner: MutexGuard<'s, L, AddressSpace<P>>,
}

impl<'s, P, R, L> Locked<'s, P, R, L>
where
    P: PageSide + Clone,
    R: Rcu + Send + Sync + 'static,
    L: RawMutex,
{
    pub(super) const fn new(
        shared: &'s SharedAddressSpace<P, R, L>,
        owner: MutexGuard<'s, L, AddressSpace<P>>,
    ) -> Self {
        Self { shared, owner }
    }
}

impl<P, R, L> Drop for Locked<'_, P, R, L>
where
    P: PageSide + Clone,
    R: Rcu + Send + Sync + 'static,
    L: RawMutex,
{
    /// Shows what was done, and gives the lock back.
    fn drop(&mut self) {
        let beside = self.owner.beside();
        if self.shared.facts.differ_from(&beside) {
            self.owner.tree.begin();
            self.shared.facts.store(&beside);
        }
        // INVARIANT: SF1, from here on.
        self.owner.tree.end();
    }
}

impl<P, R, L> Deref for Locked<'_, P, R, L>
where
    P: PageSide + Clone,
    R: Rcu + Send + Sync + 'static,
    L: RawMutex,
{
    type Target = AddressSpace<P>;

    fn deref(&self) -> &AddressSpace<P> {
        &self.owner
    }
}

impl<P, R, L> DerefMut for Locked<'_, P, R, L>
where
    P: PageSide + Clone,
    R: Rcu + Send + Sync + 'static,
    L: RawMutex,
{
    fn deref_mut(&mut self) -> &mut AddressSpace<P> {
        &mut self.owner
    }
}

impl<P, R, L> fmt::Debug for Locked<'_, P, R, L>
where
    P: PageSide + Clone + fmt::Debug,
    R: Rcu + Send + Sync + 'static,
    L: RawMutex,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
