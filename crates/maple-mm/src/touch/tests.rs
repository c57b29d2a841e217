//! Faults and accesses beside one who changes mappings: maps, unmaps, moves, protects, discards,
//! lays guards and forks.

extern crate std;

use std::boxed::Box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::vec::Vec;

use maple_tree::{EpochRcu, Rcu};
use testkit::{FailingNodes, SplitMix, TestNodes};

use crate::abi::{
    HUGE_PAGE_SIZE, MADV_DONTNEED, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE, MADV_HUGEPAGE,
    MAP_ANONYMOUS, MAP_FIXED, MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED, MREMAP_FIXED, MREMAP_MAYMOVE,
    PAGE_SIZE, PROT_READ, PROT_WRITE,
};
use crate::errno::Errno;
use crate::fault::{Access, Fault};
use crate::file::{File, FileId, FileRef, MmapFile};
use crate::file_pages::{BusError, FilePages, FilePagesRef};
use crate::flags::VmFlags;
use crate::fork::ForkPlan;
use crate::huge_file::HugeObject;
use crate::map::MmapRequest;
use crate::mapped_pages::MappedPages;
use crate::memory::{TreeNodes, VmaRef};
use crate::memory_file::MemoryFile;
use crate::page_side::{Inheritance, PageChange, PageSide, PageStrategy, Touch, Touched, Usage};
use crate::paging::{
    Arena, ArenaLayout, Beside, Frame, Liveness, Mapped, NoTlb, PhysMemory, Reserve, X86_64,
    validate_family,
};
use crate::profile::Configured;
use crate::remap::MremapRequest;
use crate::space::{AddressSpace, Mappings, Setup};
use crate::system::{System, SystemSettings};
use crate::teardown::Teardown;
use crate::validate_pages::wrong;

#[cfg(not(miri))]
type Lock = parking_lot::RawMutex;
#[cfg(miri)]
type Lock = spin::Mutex<()>;

type Memory = Arc<Arena<Lock>>;
type Side = MappedPages<X86_64<4>, Memory, NoTlb, Beside<EpochRcu>>;

/// A page side that threads reach beside its address space.
#[derive(Clone, Debug)]
struct Handle(Arc<Side>);

impl PageSide for Handle {
    const HAS_PAGES: bool = true;

    const BESIDE: bool = true;

    const ADDRESSES_END: u64 = Side::ADDRESSES_END;

    type Prepared<'a> = Reserve<'a, X86_64<4>, Memory, Beside<EpochRcu>>;

    fn prepare(&self, changes: &[PageChange]) -> Result<Self::Prepared<'_>, Errno> {
        self.0.prepare(changes)
    }

    fn carry_out(&self, changes: &[PageChange], prepared: Self::Prepared<'_>) {
        self.0.carry_out(changes, prepared);
    }

    fn touch(&self, touch: &Touch<'_>) -> Result<Touched, Fault> {
        self.0.touch(touch)
    }

    fn is_guarded(&self, addr: u64) -> bool {
        self.0.is_guarded(addr)
    }

    fn fork(&self, inheritance: Inheritance<'_>) -> Result<Self, Errno> {
        self.0.fork(inheritance).map(|side| Self(Arc::new(side)))
    }

    fn shared_memory(&self, bytes: u64, system: &System) -> Result<Option<FilePagesRef>, Errno> {
        self.0.shared_memory(bytes, system)
    }

    fn huge_memory(&self, object: HugeObject) -> Result<Option<FilePagesRef>, Errno> {
        self.0.huge_memory(object)
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }

    fn tear_down(&self, teardown: &Teardown) {
        self.0.tear_down(teardown);
    }
}

type Space = AddressSpace<Handle>;

const START: u64 = 0x4000_0000;
/// Where pages move to.
const ELSEWHERE: u64 = 0x7000_0000_1000;
const PAGES: u64 = 1024;
const READERS: u64 = 3;
const STEPS: u64 = if cfg!(miri) { 10 } else { 1000 };
const WRITABLE: u64 = PROT_READ | PROT_WRITE;

/// What faults find beside the one who changes mappings.
struct World {
    side: Arc<Side>,
    /// Odd while mappings change.
    sequence: AtomicU64,
    mappings: Mutex<Mappings>,
    is_done: AtomicBool,
}

impl World {
    /// The mapping at `addr`, and the number of the moment.
    fn look(&self, addr: u64) -> (u64, Option<VmaRef>) {
        let sequence = self.sequence.load(Ordering::Acquire);
        let mappings = self.mappings.lock().unwrap();
        let vma = mappings.entry(addr).map(|(_, vma)| vma.clone());
        (sequence, vma)
    }

    /// A fault as it is beside others; `None` where the one who may change mappings is to be asked.
    fn fault(&self, addr: u64, access: Access) -> Option<Result<(), Fault>> {
        let (sequence, vma) = self.look(addr);
        let Some(vma) = vma else {
            return Some(Err(Fault::NotMapped));
        };
        let may = match access {
            Access::Write => VmFlags::WRITE,
            _ => VmFlags::READ,
        };
        if !vma.flags().contains(may) {
            return Some(Err(Fault::NotAllowed));
        }
        let is_shared = vma.flags().contains(VmFlags::SHARED);
        if access == Access::Write && !is_shared && !vma.anon().is_faulted() {
            return None;
        }
        let is_live =
            || sequence.is_multiple_of(2) && self.sequence.load(Ordering::Acquire) == sequence;
        let huge = match vma.flags().contains(VmFlags::HUGEPAGE) {
            true => Configured::Yes,
            false => Configured::No,
        };
        let touched = self.side.touch(&Touch {
            vma: &vma,
            addr,
            access,
            huge,
            explicit: None,
            live: Liveness::asked(&is_live),
        });
        match touched {
            Ok(Touched::Ready) => Some(Ok(())),
            Ok(Touched::Stale) => None,
            Err(fault) => Some(Err(fault)),
        }
    }

    /// Faults and accesses until the other is done. Words that are the thread's own must be what
    /// it wrote, or zero where they were given up.
    fn live(&self, thread: u64) {
        let mut random = SplitMix::new(thread);
        while !self.is_done.load(Ordering::Relaxed) {
            let addr = START + random.below(PAGES) * PAGE_SIZE;
            match random.below(4) {
                0 => drop(self.fault(addr, Access::Read)),
                1 => drop(self.fault(addr, Access::Write)),
                2 => drop(self.side.tables().translate(addr, Access::Write)),
                _ => self.write_own(addr + thread * 8, addr | thread),
            }
        }
    }

    fn write_own(&self, addr: u64, tag: u64) {
        let tables = self.side.tables();
        if tables.write(addr, &tag.to_ne_bytes()).is_err() {
            let _ = self.fault(addr, Access::Write);
        }
        if let Ok(found) = tables.fetch_u64(addr) {
            assert!(found == 0 || found == tag, "{found:#x} at {addr:#x}");
        }
    }
}

/// Lets the threads end, whatever becomes of the writer.
struct Done<'w>(&'w AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Writer<'w> {
    world: &'w World,
    space: Space,
    random: SplitMix,
    file: FileRef,
    contents: FilePagesRef,
    /// The page sides of children that are gone.
    children: Vec<Arc<Side>>,
}

impl Writer<'_> {
    /// Makes a change as who has the lock does.
    fn change(&mut self, act: impl FnOnce(&mut Space, &mut SplitMix)) {
        self.world.sequence.fetch_add(1, Ordering::AcqRel);
        act(&mut self.space, &mut self.random);
        *self.world.mappings.lock().unwrap() = self.space.tree().snapshot();
        self.world.sequence.fetch_add(1, Ordering::Release);
    }

    fn step(&mut self) {
        let first = self.random.below(PAGES);
        let pages = 1 + self.random.below(PAGES - first);
        let (addr, len) = (START + first * PAGE_SIZE, pages * PAGE_SIZE);
        let kind = self.random.below(13);
        let file = MmapFile::Open(self.file.clone());
        let map = |space: &mut Space, request: MmapRequest| {
            let flags = request.flags | MAP_FIXED;
            space
                .mmap(MmapRequest {
                    addr,
                    flags,
                    ..request
                })
                .is_ok()
        };
        let anonymous = MmapRequest {
            flags: MAP_PRIVATE | MAP_ANONYMOUS,
            ..MmapRequest::anonymous(len, WRITABLE)
        };
        // Each page of the file has one address.
        let of_file = |flags| MmapRequest {
            flags,
            file: file.clone(),
            offset: first * PAGE_SIZE,
            ..MmapRequest::anonymous(len, WRITABLE)
        };
        let mut born = None;
        self.change(|space, random| {
            let _: bool = match kind {
                0 => space.munmap(addr, len).is_ok(),
                1 | 2 => map(space, anonymous) && space.fault(addr, Access::Write).is_ok(),
                3 => map(space, of_file(MAP_SHARED)),
                12 => map(space, of_file(MAP_PRIVATE)) && space.fault(addr, Access::Write).is_ok(),
                4 => space.mprotect(addr, len, PROT_READ).is_ok(),
                5 => space.mprotect(addr, len, WRITABLE).is_ok(),
                6 => space.madvise(addr, len, MADV_DONTNEED).is_ok(),
                7 => space.madvise(addr, len, MADV_GUARD_INSTALL).is_ok(),
                8 => space.madvise(addr, len, MADV_GUARD_REMOVE).is_ok(),
                9 => space.madvise(addr, len, MADV_HUGEPAGE).is_ok(),
                10 => {
                    let move_to = |from, to| MremapRequest {
                        addr: from,
                        old_len: len,
                        new_len: len,
                        flags: MREMAP_MAYMOVE | MREMAP_FIXED,
                        new_addr: to,
                    };
                    // What a refusal left there would come back into holes of this range.
                    space.munmap(ELSEWHERE, PAGES * PAGE_SIZE).is_ok()
                        && space.mremap(move_to(addr, ELSEWHERE)).is_ok()
                        && space.mremap(move_to(ELSEWHERE, addr)).is_ok()
                }
                _ => {
                    let pages = match random.below(2) {
                        0 => PageStrategy::Copy,
                        _ => PageStrategy::Share,
                    };
                    let plan = ForkPlan {
                        pages,
                        ..ForkPlan::default()
                    };
                    space.fork_with(plan, || false).is_ok_and(|child| {
                        born = Some(Arc::clone(&child.page_side().0));
                        check_child(&child)
                    })
                }
            };
        });
        self.children.extend(born);
        self.check();
    }

    /// Every invariant between mappings and pages, and the counters: with the gate closed nothing
    /// changes.
    fn check(&self) {
        let tables = self.world.side.tables();
        let _closed = tables.close_gate();
        check_pages(&self.space, tables.pages(0..Side::ADDRESSES_END));
        assert_eq!(tables.check_sums(), Ok(()));
    }

    /// Makes the file shorter, and longer again.
    fn truncate(&mut self, pages: u64) {
        let contents = self.contents.clone();
        let truncated = crate::truncate(&contents, pages * PAGE_SIZE, &mut [&mut self.space]);
        if truncated.is_ok() {
            let tables = self.world.side.tables();
            let _closed = tables.close_gate();
            for page in tables.pages(0..Side::ADDRESSES_END) {
                let vma = self.space.vma_at(page.start).unwrap();
                let is_beyond = vma.page_offset_at(page.start) >= pages;
                let may_stay = vma.file().is_none() || page.is_guard();
                assert!(may_stay || !is_beyond, "{:#x}", page.start);
            }
        }
        contents.set_bytes(PAGES * PAGE_SIZE).unwrap();
    }
}

fn check_pages(space: &Space, pages: impl Iterator<Item = Mapped>) {
    for page in pages {
        let mut at = page.start;
        while at < page.start + page.size {
            let vma = space.vma_at(at).expect("PG1");
            assert_eq!(wrong(page, vma), None, "{at:#x}");
            at = vma.end();
        }
    }
}

/// What is in a child of one moment is the parent's of that moment, and counted.
fn check_child(child: &Space) -> bool {
    let tables = child.page_side().0.tables();
    check_pages(child, tables.pages(0..Side::ADDRESSES_END));
    assert_eq!(tables.check_sums(), Ok(()));
    for page in tables.pages(START..START + PAGES * PAGE_SIZE) {
        for thread in 0..READERS {
            let Ok(found) = tables.fetch_u64(page.start + thread * 8) else {
                continue;
            };
            let own = found == 0 || found % PAGE_SIZE == thread;
            assert!(own, "{found:#x} at {:#x}", page.start);
        }
    }
    true
}

fn lives(seed: u64, frames: u32, mut refuse: impl FnMut(u64, &FailingNodes)) -> Memory {
    let nodes: &FailingNodes = Box::leak(Box::default());
    let arena = Arena::new(ArenaLayout::of_frames(frames)).expect("the host has memory");
    let memory: Memory = Arc::new(arena);
    let company = Beside::new(EpochRcu).with_nodes(TreeNodes::new(nodes));
    let side = Side::beside(Arc::clone(&memory), NoTlb, company).expect("a frame for the root");
    let side = Arc::new(side);
    let settings = SystemSettings {
        huge_pages_if_advised: Configured::Yes,
        ..SystemSettings::default()
    };
    let setup = Setup {
        system: Arc::new(System::new(settings)),
        ..Setup::default()
    };
    let contents = MemoryFile::new(Arc::clone(&memory), PAGES * PAGE_SIZE);
    let contents = FilePagesRef::new(contents).unwrap();
    let file = File::shared_anonymous(FileId(1)).unwrap();
    let file = FileRef::with_pages(file, contents.clone()).unwrap();
    let space = Space::with_pages(setup, Handle(Arc::clone(&side)));
    let world = World {
        side,
        sequence: AtomicU64::new(0),
        mappings: Mutex::new(space.tree().snapshot()),
        is_done: AtomicBool::new(false),
    };
    let random = SplitMix::new(seed);
    let mut writer = Writer {
        world: &world,
        space,
        random,
        file,
        contents,
        children: Vec::new(),
    };
    thread::scope(|scope| {
        for thread in 0..READERS {
            let world = &world;
            scope.spawn(move || world.live(thread));
        }
        let _done = Done(&world.is_done);
        for step in 0..STEPS {
            refuse(step, nodes);
            writer.step();
            if step % 16 == 0 {
                let pages = writer.random.below(PAGES);
                writer.truncate(pages);
            }
        }
    });
    nodes.fail_after(None);
    writer.check();
    for side in writer.children.iter().chain([&world.side]) {
        // What waits has references to what is shared.
        side.barrier();
    }
    let cached: Vec<_> = (0..PAGES)
        .filter_map(|index| writer.contents.page_at_hand(index))
        .map(|frame| {
            let addr = frame.addr();
            memory.release(frame);
            addr
        })
        .collect();
    let held = |addr| u32::from(cached.contains(&addr));
    assert_eq!(validate_family(&[world.side.tables()], held), Ok(()));
    drop(writer);
    world.side.barrier();
    drop(world);
    nodes.assert_settled();
    memory
}

#[test]
fn faults_beside_every_change_leave_nothing_wrong() {
    for seed in 0..4 {
        let memory = lives(seed, 8192, |_, _| {});
        assert_eq!(memory.in_use(), 0);
    }
}

#[test]
fn refused_frames_and_nodes_are_survived_beside_every_change() {
    for seed in 0..4 {
        // Fewer frames than pages, and times without nodes.
        let refuse = |step: u64, nodes: &FailingNodes| {
            nodes.fail_after((step / 8 % 2 == 1).then_some(step % 3));
        };
        let memory = lives(seed, 700, refuse);
        assert_eq!(memory.in_use(), 0);
    }
}

/// A page side that has nothing, and its memory.
fn side() -> (Side, Memory) {
    let arena = Arena::new(ArenaLayout::of_frames(64)).expect("the host has memory");
    let memory: Memory = Arc::new(arena);
    let side = Side::beside(Arc::clone(&memory), NoTlb, Beside::new(EpochRcu));
    (side.expect("a frame for the root"), memory)
}

/// Shared memory of `file`, or private memory that was written.
fn mapping(file: Option<FileRef>) -> VmaRef {
    let mut space = AddressSpace::empty();
    let (flags, file) = match file {
        Some(file) => (MAP_SHARED, MmapFile::Open(file)),
        None => (MAP_PRIVATE | MAP_ANONYMOUS, MmapFile::None),
    };
    let request = MmapRequest {
        addr: START,
        flags: flags | MAP_FIXED,
        file,
        ..MmapRequest::anonymous(PAGE_SIZE, WRITABLE)
    };
    space.mmap(request).unwrap();
    space.fault(START, Access::Write).unwrap();
    space.vma_at(START).unwrap().clone()
}

fn touch<'v>(vma: &'v VmaRef, access: Access, live: Liveness<'v>) -> Touch<'v> {
    Touch {
        vma,
        addr: START,
        access,
        huge: Configured::No,
        explicit: None,
        live,
    }
}

#[test]
fn nothing_comes_to_a_mapping_that_went_not_even_a_table() {
    let (side, memory) = side();
    let vma = mapping(None);
    let is_live = || false;
    for access in [Access::Read, Access::Write] {
        let touched = side.touch(&touch(&vma, access, Liveness::asked(&is_live)));
        assert_eq!(touched, Ok(Touched::Stale));
        assert_eq!((memory.in_use(), side.usage()), (1, Usage::default()));
    }
}

#[test]
fn a_page_is_not_written_where_its_mapping_went() {
    let (side, _memory) = side();
    let vma = mapping(None);
    let read = side.touch(&touch(&vma, Access::Read, Liveness::SURE));
    assert_eq!(read, Ok(Touched::Ready));
    let is_live = || false;
    let written = side.touch(&touch(&vma, Access::Write, Liveness::asked(&is_live)));
    assert_eq!(written, Ok(Touched::Stale));
    assert!(side.tables().translate(START, Access::Write).is_err());
    assert_eq!(side.usage().resident.anon, 0);
}

/// A file that becomes shorter when a page was asked for.
#[derive(Debug)]
struct Shrinking(MemoryFile<Memory>);

impl FilePages for Shrinking {
    fn page(&self, index: u64) -> Result<Frame, BusError> {
        let page = self.0.page(index);
        self.0.set_bytes(0).unwrap();
        page
    }

    fn generation(&self) -> u64 {
        self.0.generation()
    }
}

#[test]
fn a_page_is_not_mapped_beyond_an_end_that_came_meanwhile() {
    let (side, memory) = side();
    let file = Shrinking(MemoryFile::new(Arc::clone(&memory), PAGE_SIZE));
    let pages = FilePagesRef::new(file).unwrap();
    let file = File::shared_anonymous(FileId(1)).unwrap();
    let vma = mapping(Some(FileRef::with_pages(file, pages).unwrap()));
    let touched = side.touch(&touch(&vma, Access::Write, Liveness::SURE));
    assert_eq!(touched, Err(Fault::Bus));
    assert_eq!((memory.in_use(), side.usage()), (1, Usage::default()));
}

#[test]
fn explicitly_huge_pages_go_back_to_their_pool_when_nobody_looks() {
    let arena = Arena::new(ArenaLayout::of_frames(4096)).expect("the host has memory");
    let memory: Memory = Arc::new(arena);
    let side = Side::beside(Arc::clone(&memory), NoTlb, Beside::new(EpochRcu));
    let side = Arc::new(side.expect("a frame for the root"));
    let settings = SystemSettings {
        huge_pages: 4,
        ..SystemSettings::default()
    };
    let system = Arc::new(System::new(settings));
    let setup = Setup {
        system: Arc::clone(&system),
        ..Setup::default()
    };
    let mut space = Space::with_pages(setup, Handle(Arc::clone(&side)));
    let request = MmapRequest {
        addr: START,
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED,
        ..MmapRequest::anonymous(2 * HUGE_PAGE_SIZE, WRITABLE)
    };
    space.mmap(request).unwrap();
    for addr in [START, START + HUGE_PAGE_SIZE] {
        space.fault(addr, Access::Write).unwrap();
    }
    let child = space.fork().unwrap();
    let childs = Arc::clone(&child.page_side().0);
    let reader = EpochRcu.read_lock();
    drop((space, child));
    assert_eq!(system.huge_pages().free, 2);
    drop(reader);
    side.barrier();
    childs.barrier();
    assert_eq!(system.huge_pages().free, 4);
    drop((side, childs));
    assert_eq!(memory.in_use(), 0);
}
