//! Steps of one thread placed between those of another, at each place in turn: what must hold
//! wherever another call, or another fault, comes between.

mod frames;
mod gate;
mod hook;
mod huge;

use std::sync::Arc;

use hook::{HookMemory, HookRcu, HookTlb};
use maple_mm::paging::{Beside, Mapped, PhysMemory, X86_64};
use maple_mm::{
    AddressSpace, Counted, MappedPages, MmapRequest, Setup, SharedAddressSpace, System,
    SystemSettings, TreeNodes, abi::*,
};
use maple_tree::GlobalNodes;

type Side = Counted<MappedPages<X86_64<4>, HookMemory, HookTlb, Beside<HookRcu>>>;
type Space = AddressSpace<Side>;
type Shared = Arc<SharedAddressSpace<Side, HookRcu, parking_lot::RawMutex>>;

const WRITABLE: u64 = PROT_READ | PROT_WRITE;
const HUGE: u64 = HUGE_PAGE_SIZE;
/// Where tests map.
const START: u64 = 1 << 32;
/// More steps than anything here has.
const STEPS_MOST: usize = 2000;

fn space(memory: &HookMemory) -> Shared {
    space_on(memory, &Arc::new(System::new(SystemSettings::default())))
}

fn space_on(memory: &HookMemory, system: &Arc<System>) -> Shared {
    // Nodes that are kept for later would look like a leak.
    let company = Beside::new(HookRcu).with_nodes(TreeNodes::new(&GlobalNodes));
    let side = MappedPages::beside(memory.clone(), HookTlb, company).expect("a frame for the root");
    let setup = Setup {
        system: Arc::clone(system),
        ..Setup::default()
    };
    let space = AddressSpace::with_pages(setup, Counted::new(side).expect("memory"));
    Arc::new(SharedAddressSpace::new(space, HookRcu).expect("nodes"))
}

/// Private memory at `addr`, in the place of what is there.
fn fixed(addr: u64, bytes: u64) -> MmapRequest {
    MmapRequest {
        addr,
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
        ..MmapRequest::anonymous(bytes, WRITABLE)
    }
}

#[track_caller]
fn map(space: &Shared, addr: u64, bytes: u64) {
    assert_eq!(space.lock().mmap(fixed(addr, bytes)), Ok(addr));
}

/// ```text
///  START     + HUGE    + 2 HUGE
///  |         |         |xxxxxxxxx|      x = a huge page that is there; more may come
/// ```
#[track_caller]
fn map_huge(space: &Shared) {
    map(space, START, 3 * HUGE);
    let advised = space.lock().madvise(START, 3 * HUGE, MADV_HUGEPAGE);
    assert_eq!(advised, Ok(()));
    // The table that they all are in is there, and so is the history of the mapping.
    assert_eq!(space.write(START + 2 * HUGE, b"x"), Ok(()));
    assert_eq!(space.statistics().resident.anon, HUGE / PAGE_SIZE);
}

fn entry(space: &Shared, addr: u64) -> Option<Mapped> {
    space.lock().page_side().tables().entry(addr)
}

/// Ends `space`, after which all of `memory` is free.
#[track_caller]
fn end(space: Shared, memory: &HookMemory) {
    assert_eq!(space.lock().validate(), Ok(()));
    assert_eq!(space.lock().validate_pages(), Ok(()));
    assert!(Arc::into_inner(space).is_some(), "nobody else has it");
    self::space(memory).barrier();
    assert_eq!(memory.in_use(), 0, "frames leaked");
}
