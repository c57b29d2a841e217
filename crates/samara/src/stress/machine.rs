//! The machine of one round: frames, nodes, mappings, and the address space that all threads use.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result, anyhow};
use maple_mm::abi::{MAP_FIXED, PAGE_SIZE, PROT_READ, PROT_WRITE};
use maple_mm::paging::{
    Arena, ArenaLayout, Beside, Content, Frame, FrameSize, NoTlb, PhysAddr, PhysMemory, X86_64,
};
use maple_mm::{
    AddressSpace, Counted, Gate, HeapChunks, Layout, MappedPages, MmapRequest, Setup,
    SharedAddressSpace, System, SystemSettings, TreeNodes, VmaPool,
};
use maple_tree::EpochRcu;
use parking_lot::Mutex;

use super::commons::Common;
use super::conditions::Conditions;
use super::nodes::CountedNodes;
use super::places::{self, RUNGS};
use super::watch::Watch;

pub(super) type Memory = Arena<parking_lot::RawMutex>;
pub(super) type Side = Counted<MappedPages<X86_64<4>, Arc<Memory>, NoTlb, Beside<EpochRcu>>>;
pub(super) type Space = SharedAddressSpace<Side, EpochRcu, parking_lot::RawMutex>;

/// The mappings of all rounds: none is left between two.
pub(super) static POOL: VmaPool = VmaPool::new(&HeapChunks::new(VmaPool::CHUNK_MAX));
/// The nodes of all rounds.
pub(super) static NODES: CountedNodes = CountedNodes::new();

/// What the threads of a round share.
pub(super) struct Machine {
    pub(super) seed: u64,
    pub(super) round: u64,
    pub(super) threads: u8,
    pub(super) conditions: Conditions,
    pub(super) memory: Arc<Memory>,
    /// What nobody else may have.
    taken: Vec<Frame>,
    pub(super) system: Arc<System>,
    pub(super) space: Arc<Space>,
    pub(super) watch: Arc<Watch>,
    pub(super) commons: Vec<Common>,
    /// How often each thread raised its words, all of them.
    pub(super) raised: Vec<AtomicU64>,
    /// Where each thread changes mappings right now: the first byte, and how many pages.
    pub(super) hot: Vec<AtomicU64>,
    /// A child of each thread that others may look into.
    pub(super) children: Vec<Mutex<Option<Arc<Space>>>>,
}

impl Machine {
    /// Makes it, with what all threads use mapped.
    ///
    /// # Errors
    ///
    /// If this program has no memory for it.
    pub(super) fn new(
        (seed, round): (u64, u64),
        conditions: Conditions,
        watch: &Arc<Watch>,
        threads: u8,
    ) -> Result<Self> {
        let settings = SystemSettings {
            max_map_count: conditions.mappings,
            ..SystemSettings::default()
        };
        NODES.limit(usize::MAX);
        let nodes = TreeNodes::new(&NODES);
        let system = System::new(settings).with_pool(&POOL).with_nodes(nodes);
        let system = Arc::new(system);
        let memory = Arc::new(memory(conditions.frames)?);
        let space = space(&memory, &system)?;
        NODES.limit(NODES.in_use().saturating_add(conditions.nodes));
        let take = |_| memory.allocate(FrameSize::SMALL, Content::Any);
        // Some are tables of what was just mapped.
        let taken = (0..conditions.taken)
            .map_while(|at| take(at).ok())
            .collect();
        Ok(Self {
            seed,
            round,
            threads,
            conditions,
            memory,
            taken,
            system,
            space: Arc::new(space),
            watch: Arc::clone(watch),
            commons: places::commons()
                .step_by(PAGE_SIZE as usize)
                .map(|addr| Common::new(addr, threads))
                .collect(),
            raised: (0..threads).map(|_| AtomicU64::new(0)).collect(),
            hot: (0..threads).map(|_| AtomicU64::new(0)).collect(),
            children: (0..threads).map(|_| Mutex::new(None)).collect(),
        })
    }

    /// Gives back what nobody else could have.
    pub(super) fn give_back(self) {
        for frame in self.taken {
            self.memory.release(frame);
        }
    }
}

/// Frames that are poisoned when they are freed.
fn memory(frames: u32) -> Result<Memory> {
    let base = PhysAddr::new(1 << 30);
    let memory = Memory::new(ArenaLayout { frames, base })?;
    // There may be more threads than processors: who is waited for may have to run first.
    let relax = |spins| match spins {
        0..50 => std::hint::spin_loop(),
        _ => std::thread::yield_now(),
    };
    Ok(memory.with_poison().with_relax(relax))
}

fn space(memory: &Arc<Memory>, system: &Arc<System>) -> Result<Space> {
    let company = Beside::new(EpochRcu).with_nodes(system.nodes());
    let side = MappedPages::beside(Arc::clone(memory), NoTlb, company)
        .map_err(|_| anyhow!("no frame for a table"))?;
    let setup = Setup {
        system: Arc::clone(system),
        // It would be a line of maps that is no mapping.
        layout: Layout {
            gate: Gate::Absent,
            ..Layout::default()
        },
        ..Setup::default()
    };
    let side = Counted::new(side).context("cannot make an address space")?;
    let mut space = AddressSpace::with_pages(setup, side);
    let rungs = (0..RUNGS).map(|number| places::rung(number)..places::rung(number) + PAGE_SIZE);
    for range in rungs.chain([places::commons()]) {
        let request = MmapRequest {
            addr: range.start,
            flags: MmapRequest::anonymous(0, 0).flags | MAP_FIXED,
            ..MmapRequest::anonymous(range.end - range.start, PROT_READ | PROT_WRITE)
        };
        space.mmap(request).context("cannot map what is shared")?;
    }
    Space::new(space, EpochRcu).context("cannot share an address space")
}
