//! What is asked of an address space that many threads use, and the two that are asked.

use anyhow::anyhow;
use maple_mm::paging::{Arena, ArenaLayout, Beside, Content, FrameSize, NoTlb, PhysMemory, X86_64};
use maple_mm::{
    Access, AddressSpace, Counted, Fault, MappedPages, PageSide, Setup, SharedAddressSpace,
    Statistics,
};
use maple_tree::EpochRcu;
use parking_lot::{RawMutex, RwLock};
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

type Memory = Arc<Arena<RawMutex>>;

/// Frames, all of which were in use before: each is zeroed when it is handed out, and none has to
/// be got from the host.
pub(crate) fn memory(frames: u64) -> anyhow::Result<Memory> {
    let layout = ArenaLayout::of_frames(u32::try_from(frames)?);
    // A thread that waits for one that has no processor gives it its own.
    let arena = Arena::new(layout)?.with_relax(|spins| match spins {
        0..100 => std::hint::spin_loop(),
        _ => thread::yield_now(),
    });
    let mut taken = Vec::new();
    while let Ok(frame) = arena.allocate(FrameSize::SMALL, Content::Any) {
        arena.fill(frame.addr(), FrameSize::SMALL, 1);
        taken.push(frame);
    }
    taken.into_iter().for_each(|frame| arena.release(frame));
    Ok(Arc::new(arena))
}

/// An address space for many threads.
pub(crate) trait Space: Send + Sync + Sized + 'static {
    type Pages: PageSide;

    fn new(memory: Memory) -> anyhow::Result<Self>;

    /// Calls that change mappings, with the lock; and how long was waited for it.
    fn change<T>(&self, calls: impl FnOnce(&mut AddressSpace<Self::Pages>) -> T) -> (T, Duration);

    fn fault(&self, addr: u64, access: Access) -> Result<(), Fault>;

    /// Where the mapping at or behind `addr` begins.
    fn find(&self, addr: u64) -> Option<u64>;

    fn may_read(&self, range: Range<u64>) -> bool;

    /// Writes the text of maps. What was written follows from one moment; how long it took to
    /// have that, if it can be had by itself.
    fn maps(&self, text: &mut String) -> Option<Duration>;

    fn statistics(&self) -> Statistics;
}

/// An address space made for it.
pub(crate) type Shared = SharedAddressSpace<
    Counted<MappedPages<X86_64<4>, Memory, NoTlb, Beside<EpochRcu>>>,
    EpochRcu,
    RawMutex,
>;

impl Space for Shared {
    type Pages = Counted<MappedPages<X86_64<4>, Memory, NoTlb, Beside<EpochRcu>>>;

    fn new(memory: Memory) -> anyhow::Result<Self> {
        let side = MappedPages::beside(memory, NoTlb, Beside::new(EpochRcu))?;
        let side = Counted::new(side).map_err(|error| anyhow!("{error}"))?;
        let space = AddressSpace::with_pages(Setup::default(), side);
        Self::new(space, EpochRcu).map_err(|error| anyhow!("{error}"))
    }

    fn change<T>(&self, calls: impl FnOnce(&mut AddressSpace<Self::Pages>) -> T) -> (T, Duration) {
        if let Some(mut space) = self.try_lock() {
            return (calls(&mut space), Duration::ZERO);
        }
        let begin = Instant::now();
        let mut space = self.lock();
        let waited = begin.elapsed();
        (calls(&mut space), waited)
    }

    fn fault(&self, addr: u64, access: Access) -> Result<(), Fault> {
        self.fault(addr, access)
    }

    fn find(&self, addr: u64) -> Option<u64> {
        self.mappings().find_vma(addr).map(|vma| vma.start())
    }

    fn may_read(&self, range: Range<u64>) -> bool {
        self.check_range(range, Access::Read).is_ok()
    }

    fn maps(&self, text: &mut String) -> Option<Duration> {
        let begin = Instant::now();
        let moment = self.moment();
        let taken = begin.elapsed();
        text.clear();
        moment.write_maps(text).ok()?;
        Some(taken)
    }

    fn statistics(&self) -> Statistics {
        self.statistics()
    }
}

/// One for a single thread, behind a lock that lets those in together who only look.
pub(crate) type Locked = RwLock<AddressSpace<MappedPages<X86_64<4>, Memory, NoTlb>>>;

impl Space for Locked {
    type Pages = MappedPages<X86_64<4>, Memory, NoTlb>;

    fn new(memory: Memory) -> anyhow::Result<Self> {
        let side = MappedPages::new(memory, NoTlb)?;
        Ok(Self::new(AddressSpace::with_pages(Setup::default(), side)))
    }

    fn change<T>(&self, calls: impl FnOnce(&mut AddressSpace<Self::Pages>) -> T) -> (T, Duration) {
        if let Some(mut space) = self.try_write() {
            return (calls(&mut space), Duration::ZERO);
        }
        let begin = Instant::now();
        let mut space = self.write();
        let waited = begin.elapsed();
        (calls(&mut space), waited)
    }

    fn fault(&self, addr: u64, access: Access) -> Result<(), Fault> {
        self.write().fault(addr, access)
    }

    fn find(&self, addr: u64) -> Option<u64> {
        self.read().find_vma(addr).map(|vma| vma.start())
    }

    fn may_read(&self, range: Range<u64>) -> bool {
        self.read().check_range(range, Access::Read).is_ok()
    }

    fn maps(&self, text: &mut String) -> Option<Duration> {
        text.clear();
        let space = self.read();
        // A string takes everything.
        let _: Result<(), _> = space.write_maps(text);
        None
    }

    fn statistics(&self) -> Statistics {
        self.read().statistics()
    }
}
