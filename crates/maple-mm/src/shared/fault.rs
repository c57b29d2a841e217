//! Faults, reads and writes beside who changes mappings, without the lock.
//!
//! ```text
//!  look       the sequence, then the mapping             under a guard of the tree
//!  decide     refused: if the sequence is even still     mappings would change: with the lock
//!  touch      look, get, install; with the table locked: the same sequence, or the same mapping?
//! ```
//!
//! Who changes mappings publishes the tree first, and then changes each table under its lock. A
//! fault that had the table before left a page that is found there; one that has it after sees the
//! tree as it is by then. So no page stays where its mapping is gone, nor with more rights.
//! Where a mapping takes the place of another, the old one goes first, with its pages.

use lock_api::RawMutex;
use maple_tree::Rcu;

use super::SharedAddressSpace;
use crate::fault::{Access, Fault, allows};
use crate::flags::VmFlags;
use crate::guest::{self, Guest, GuestMemory, Unfinished};
use crate::huge_rules::HugeRules;
use crate::memory::VmaRef;
use crate::page_side::{PageSide, Touch, Touched};
use crate::paging::sync::broken;
use crate::paging::{Liveness, PhysAddr};
use crate::vma::Vma;

/// How often a fault is tried beside calls before it waits for them.
const ROUNDS: u32 = 3;

/// What became of a fault without the lock.
enum Attempt {
    Over(Result<(), Fault>),
    /// A call changed what it had found, or might have.
    Changed,
    /// It changes mappings itself, or counts what has no other lock.
    NeedsLock,
}

impl<P, R, L> SharedAddressSpace<P, R, L>
where
    P: PageSide + Clone,
    R: Rcu + Send + Sync + 'static,
    L: RawMutex,
{
    /// As [`AddressSpace::fault`](crate::AddressSpace::fault), beside calls and other faults.
    ///
    /// It takes the lock where mappings change: at the first write to a private mapping, where
    /// nothing is mapped below a stack, which may grow; for explicitly huge pages; where calls changed its mapping three times
    /// meanwhile; and always if the page side is not made for several threads
    /// ([`PageSide::BESIDE`]). So it is not for who has the lock, or a
    /// [`MappingReader`](super::MappingReader). While the page of a file is asked for it is no
    /// reader of the `Rcu`.
    ///
    /// # Complexity
    ///
    /// O(log n).
    ///
    /// # Errors
    ///
    /// As there; what refuses it was so at one moment between two calls. A page that could not be
    /// had leaves the anon_vma of its mapping, and a stack that has grown.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{Access, AddressSpace, Counted, Fault, MappedPages, MmapRequest, Setup};
    /// use maple_mm::{SharedAddressSpace, abi::*};
    /// use maple_mm::paging::{Arena, ArenaLayout, Beside, NoTlb, X86_64};
    /// use maple_tree::EpochRcu;
    /// use std::sync::Arc;
    /// let arena = Arc::new(Arena::<parking_lot::RawMutex>::new(ArenaLayout::of_frames(64))?);
    /// let side = MappedPages::<X86_64<4>, _, _, _>::beside(arena, NoTlb, Beside::new(EpochRcu))?;
    /// let space = AddressSpace::with_pages(Setup::default(), Counted::new(side)?);
    /// let space = SharedAddressSpace::<_, _, parking_lot::RawMutex>::new(space, EpochRcu)?;
    /// let addr = space.lock().mmap(MmapRequest::anonymous(8192, PROT_READ | PROT_WRITE))?;
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| space.write(addr, b"seed"));
    ///     scope.spawn(|| space.fault(addr + 4096, Access::Write));
    /// });
    /// let mut seen = [0; 4];
    /// space.read(addr, &mut seen)?;
    /// assert_eq!(&seen, b"seed");
    /// assert_eq!(space.statistics().resident.anon, 2);
    /// assert_eq!(space.fault(addr, Access::Execute), Err(Fault::NotAllowed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fault(&self, addr: u64, access: Access) -> Result<(), Fault> {
        if P::BESIDE {
            for _ in 0..ROUNDS {
                match self.attempt(addr, access) {
                    Attempt::Over(result) => return result,
                    Attempt::Changed => {}
                    Attempt::NeedsLock => break,
                }
            }
        }
        self.lock().fault(addr, access)
    }

    fn attempt(&self, addr: u64, access: Access) -> Attempt {
        let reader = self.mappings.read();
        // Before the look-up: what was published before it is over is found.
        let sequence = self.mappings.sequence();
        // A call may have taken a mapping out to put another in its place.
        let refused = |fault| match self.is_at(sequence) || broken!(Refused) {
            true => Attempt::Over(Err(fault)),
            false => Attempt::Changed,
        };
        let Some(vma) = reader.get(addr) else {
            let above = reader.at_or_after(addr);
            return match above.is_some_and(|(_, vma)| vma.flags().contains(VmFlags::GROWSDOWN)) {
                true => Attempt::NeedsLock,
                false => refused(Fault::NotMapped),
            };
        };
        if !allows(vma.flags(), access) {
            return refused(Fault::NotAllowed);
        }
        if self.changes_more_than_pages(vma, (addr, access)) {
            return Attempt::NeedsLock;
        }
        if vma.file().is_none() {
            return self.touch(vma, (addr, access), sequence);
        }
        // A file may take its time.
        let vma = vma.clone();
        drop(reader);
        self.touch(&vma, (addr, access), sequence)
    }

    /// Whether an access that `vma` allows changes mappings, or what the lock protects.
    fn changes_more_than_pages(&self, vma: &Vma, (addr, access): (u64, Access)) -> bool {
        let has_history = vma.anon().is_faulted() || vma.flags().contains(VmFlags::SHARED);
        let rules = self.huge_rules();
        vma.flags().contains(VmFlags::HUGETLB)
            || !has_history
                && (access == Access::Write || rules.reads_own_page(vma, addr..addr + 1))
    }

    /// Makes the page ready if `vma`, which was found at `sequence` or later, is the mapping at
    /// `addr` still when its table is locked.
    fn touch(&self, vma: &VmaRef, (addr, access): (u64, Access), sequence: u64) -> Attempt {
        #[cfg(test)]
        super::tests::pause();
        let is_live = || {
            let is_same = |now| VmaRef::ptr_eq(now, vma);
            broken!(Live)
                || planted!(Liveness)
                || self.is_at(sequence)
                || self.mappings.read().get(addr).is_some_and(is_same)
        };
        let touched = self.pages.touch(&Touch {
            vma,
            addr,
            access,
            huge: self.huge_rules().wants(vma),
            explicit: None,
            live: Liveness::asked(&is_live),
        });
        match touched {
            Ok(Touched::Ready) => Attempt::Over(Ok(())),
            Ok(Touched::Stale) => Attempt::Changed,
            Err(fault) => Attempt::Over(Err(fault)),
        }
    }

    fn huge_rules(&self) -> HugeRules<'_> {
        HugeRules {
            system: &self.system,
            profile: &self.profile,
            switches: self.facts.switches(),
        }
    }
}

impl<P, R, L> SharedAddressSpace<P, R, L>
where
    P: GuestMemory + Clone,
    R: Rcu + Send + Sync + 'static,
    L: RawMutex,
{
    /// As [`AddressSpace::read`](crate::AddressSpace::read), beside calls, faults, and other reads
    /// and writes. Each aligned word is read at once.
    ///
    /// # Complexity
    ///
    /// O(bytes + pages × levels), and a fault for each page that is not there. Where a page cannot
    /// be used three times although it was ready, the next fault takes the lock.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Examples
    ///
    /// See [`fault`](Self::fault).
    pub fn read(&self, addr: u64, buffer: &mut [u8]) -> Result<(), Unfinished> {
        if !P::BESIDE {
            return self.lock().read(addr, buffer);
        }
        guest::read(&mut Visitor::of(self), addr, buffer)
    }

    /// As [`AddressSpace::write`](crate::AddressSpace::write), as [`read`](Self::read). Each
    /// aligned word is written at once, parts of it without touching the rest.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Examples
    ///
    /// See [`fault`](Self::fault).
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), Unfinished> {
        if !P::BESIDE {
            return self.lock().write(addr, bytes);
        }
        guest::write(&mut Visitor::of(self), addr, bytes)
    }

    /// As [`AddressSpace::copy_within`](crate::AddressSpace::copy_within), as
    /// [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn copy_within(&self, from: u64, to: u64, len: usize) -> Result<(), Unfinished> {
        if !P::BESIDE {
            return self.lock().copy_within(from, to, len);
        }
        guest::copy_within(&mut Visitor::of(self), (from, to), len)
    }

    /// As [`AddressSpace::translate`](crate::AddressSpace::translate), beside calls. As soon as it
    /// returns the page may be another's: who uses the frame must be told of changes before they
    /// are made ([`RangeNotifier`](crate::RangeNotifier)), as a processor is.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn translate(&self, addr: u64, access: Access) -> Result<PhysAddr, Fault> {
        if !P::BESIDE {
            return self.lock().translate(addr, access);
        }
        guest::translate(&mut Visitor::of(self), addr, access)
    }
}

/// Who uses memory without the lock.
struct Visitor<'s, P, R, L>
where
    P: GuestMemory + Clone,
    R: Rcu + Send + Sync + 'static,
    L: RawMutex,
{
    space: &'s SharedAddressSpace<P, R, L>,
    /// The byte that the last fault was about, and how many there were in a row.
    last: (u64, u32),
}

impl<'s, P, R, L> Visitor<'s, P, R, L>
where
    P: GuestMemory + Clone,
    R: Rcu + Send + Sync + 'static,
    L: RawMutex,
{
    const fn of(space: &'s SharedAddressSpace<P, R, L>) -> Self {
        let last = (0, 0);
        Self { space, last }
    }
}

impl<P, R, L> Guest for Visitor<'_, P, R, L>
where
    P: GuestMemory + Clone,
    R: Rcu + Send + Sync + 'static,
    L: RawMutex,
{
    type Pages = P;

    fn pages(&self) -> &P {
        &self.space.pages
    }

    fn resolve(&mut self, addr: u64, access: Access) -> Result<(), Fault> {
        let (last, times) = self.last;
        self.last = (addr, if addr == last { times + 1 } else { 0 });
        if self.last.1 < ROUNDS {
            return self.space.fault(addr, access);
        }
        // A call has given rights to a mapping, and not to its pages yet; or pages go as often as
        // they come. Who has the lock has seen the call through.
        self.space.lock().fault(addr, access)
    }
}

#[cfg(test)]
mod tests;
