//! Who has an address space: one alone, or several threads at once.

use std::ops::{Deref, DerefMut};

use maple_mm::{
    Access, AddressSpace, Errno, Fault, ForkPlan, GuestMemory, PageSide, SharedAddressSpace,
    Unfinished,
};
use maple_tree::Rcu;
use parking_lot::lock_api::RawMutex;

/// What makes calls on an address space and uses its memory. Calls of one that is shared take its
/// lock; accesses do so only where they must.
pub(crate) trait Owner: Sized {
    type Pages: PageSide;

    /// Whether others may look meanwhile: what they saw is not taken back.
    const IS_SHARED: bool;

    fn space(&self) -> impl Deref<Target = AddressSpace<Self::Pages>>;

    fn space_mut(&mut self) -> impl DerefMut<Target = AddressSpace<Self::Pages>>;

    fn fault(&mut self, addr: u64, access: Access) -> Result<(), Fault>;

    fn read(&mut self, addr: u64, buffer: &mut [u8]) -> Result<(), Unfinished>
    where
        Self::Pages: GuestMemory;

    fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Unfinished>
    where
        Self::Pages: GuestMemory;

    fn copy_within(&mut self, from: u64, to: u64, len: usize) -> Result<(), Unfinished>
    where
        Self::Pages: GuestMemory;

    fn fork_with(
        &mut self,
        plan: ForkPlan,
        is_cancelled: impl FnMut() -> bool,
    ) -> Result<Self, Errno>;

    /// Waits until everything is back that was given up.
    fn settle(&self);
}

impl<P: PageSide> Owner for AddressSpace<P> {
    type Pages = P;

    const IS_SHARED: bool = false;

    fn space(&self) -> impl Deref<Target = Self> {
        self
    }

    fn space_mut(&mut self) -> impl DerefMut<Target = Self> {
        self
    }

    fn fault(&mut self, addr: u64, access: Access) -> Result<(), Fault> {
        Self::fault(self, addr, access)
    }

    fn read(&mut self, addr: u64, buffer: &mut [u8]) -> Result<(), Unfinished>
    where
        P: GuestMemory,
    {
        Self::read(self, addr, buffer)
    }

    fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Unfinished>
    where
        P: GuestMemory,
    {
        Self::write(self, addr, bytes)
    }

    fn copy_within(&mut self, from: u64, to: u64, len: usize) -> Result<(), Unfinished>
    where
        P: GuestMemory,
    {
        Self::copy_within(self, from, to, len)
    }

    fn fork_with(
        &mut self,
        plan: ForkPlan,
        is_cancelled: impl FnMut() -> bool,
    ) -> Result<Self, Errno> {
        Self::fork_with(self, plan, is_cancelled)
    }

    /// Nothing waits.
    fn settle(&self) {}
}

impl<P, R, L> Owner for SharedAddressSpace<P, R, L>
where
    P: PageSide + Clone,
    R: Rcu + Clone + Send + Sync + 'static,
    L: RawMutex,
{
    type Pages = P;

    const IS_SHARED: bool = true;

    fn space(&self) -> impl Deref<Target = AddressSpace<P>> {
        self.lock()
    }

    fn space_mut(&mut self) -> impl DerefMut<Target = AddressSpace<P>> {
        self.lock()
    }

    fn fault(&mut self, addr: u64, access: Access) -> Result<(), Fault> {
        Self::fault(self, addr, access)
    }

    fn read(&mut self, addr: u64, buffer: &mut [u8]) -> Result<(), Unfinished>
    where
        P: GuestMemory,
    {
        Self::read(self, addr, buffer)
    }

    fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Unfinished>
    where
        P: GuestMemory,
    {
        Self::write(self, addr, bytes)
    }

    fn copy_within(&mut self, from: u64, to: u64, len: usize) -> Result<(), Unfinished>
    where
        P: GuestMemory,
    {
        Self::copy_within(self, from, to, len)
    }

    fn fork_with(
        &mut self,
        plan: ForkPlan,
        is_cancelled: impl FnMut() -> bool,
    ) -> Result<Self, Errno> {
        Self::fork_with(self, plan, is_cancelled)
    }

    fn settle(&self) {
        self.barrier();
    }
}
