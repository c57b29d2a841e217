//! Every allocation of every call on address spaces with pages refused in turn: nodes, mappings,
//! frames, tables, heap. What fails leaves mappings, counters and contents as they were, to the
//! byte, in the address space and in those that share with it; nothing leaks.

mod common;
#[path = "common/refusing.rs"]
mod refusing;

use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::paged::{
    Memory, REGULAR, Space, check, contents, frames, get, opened, plans, set, space_in,
};
use common::{map_as, memory, of_file, page, state};
use maple_mm::paging::{
    Content, Frame, FrameInfo, FrameSize, OutOfFrames, Parts, PhysAddr, PhysMemory, Words,
};
use maple_mm::{
    Access, Errno, FileAccess, FileRef, ForkPlan, HeapChunks, MmapRequest, MremapRequest,
    Overcommit, Setup, System, SystemSettings, TreeNodes, VmaPool, VmaRef, abi::*,
};
use maple_tree::GlobalNodes;
use refusing::{LIVE, Refuse, Refusing, is_refused, refusing};

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

const RW: u64 = PROT_READ | PROT_WRITE;

/// Frames that are refused in turn with everything else.
#[derive(Clone)]
struct Scarce(Memory);

impl PhysMemory for Scarce {
    fn allocate(&self, size: FrameSize, content: Content) -> Result<Frame, OutOfFrames> {
        if is_refused() {
            return Err(OutOfFrames);
        }
        self.0.allocate(size, content)
    }

    fn free(&self, addr: PhysAddr) {
        self.0.free(addr);
    }

    fn words(&self, addr: PhysAddr) -> &Words {
        self.0.words(addr)
    }

    fn info(&self, addr: PhysAddr) -> &FrameInfo {
        self.0.info(addr)
    }

    fn zero_page(&self) -> PhysAddr {
        self.0.zero_page()
    }

    fn contains(&self, addr: PhysAddr) -> bool {
        self.0.contains(addr)
    }

    fn in_use(&self) -> usize {
        self.0.in_use()
    }

    fn split(&self, addr: PhysAddr) -> Parts {
        self.0.split(addr)
    }
}

type Paged = Space<Scarce>;

/// An address space, and others that share with it and must not notice anything.
struct Family {
    space: Paged,
    others: Vec<Paged>,
    pool: &'static VmaPool,
    memory: Memory,
}

impl Family {
    fn all(&self) -> impl Iterator<Item = &Paged> {
        self.others.iter().chain([&self.space])
    }

    /// Everything a refused call must leave as it was.
    fn strict(&self) -> String {
        let mut text = String::new();
        for space in self.all() {
            text += &state(space);
            for vma in space.vmas() {
                let file = vma.file().map(FileRef::count);
                writeln!(text, "{} {file:?}", VmaRef::count(vma)).unwrap();
            }
            self.write_pages(space, &mut text);
        }
        writeln!(text, "{}", self.pool.in_use()).unwrap();
        text
    }

    /// The contents of all pages.
    fn write_pages(&self, space: &Paged, text: &mut String) {
        for mapped in space.page_side().tables().pages(0..1 << 47) {
            let mut hash = DefaultHasher::new();
            for piece in 0..mapped.size / PAGE_SIZE {
                let addr = mapped.leaf.frame.plus(piece * PAGE_SIZE);
                for word in self.memory.words(addr) {
                    hash.write_u64(word.load(Ordering::Relaxed));
                }
            }
            let kind = mapped.leaf.attributes.kind;
            writeln!(text, "{:x} {kind:?} {:x}", mapped.start, hash.finish()).unwrap();
        }
    }

    #[track_caller]
    fn check(&self) {
        check(&self.all().collect::<Vec<_>>());
    }

    /// Ends all spaces without any memory, and checks that nothing is left.
    #[track_caller]
    fn end(self, live: i64) {
        let Self {
            space,
            others,
            pool,
            memory,
        } = self;
        let ((), refused) = refusing(Refuse::From(0), || drop((space, others)));
        assert_eq!(refused, 0, "an end must not need memory");
        assert_eq!(memory.in_use(), 0, "frames were leaked");
        drop(memory);
        pool.release_reserve();
        assert_eq!(pool.in_use(), 0, "mappings were leaked");
        assert_eq!(LIVE.get(), live, "memory was leaked");
    }
}

/// What an address space begins with.
#[derive(Clone, Copy)]
struct Ground {
    pool: &'static VmaPool,
    overcommit: Overcommit,
}

impl Ground {
    fn new() -> Self {
        static EACH: HeapChunks = HeapChunks::new(0);
        Self {
            pool: Box::leak(Box::new(VmaPool::new(&EACH))),
            overcommit: Overcommit::Guess,
        }
    }

    fn empty(self, memory: &Memory) -> Paged {
        let settings = SystemSettings {
            overcommit: self.overcommit,
            ..SystemSettings::default()
        };
        let system = System::new(settings)
            .with_pool(self.pool)
            .with_nodes(TreeNodes::new(&GlobalNodes));
        let system = Arc::new(system);
        let setup = Setup {
            system,
            ..Setup::default()
        };
        space_in(&Scarce(memory.clone()), setup)
    }
}

type Build = fn(Ground) -> Family;

fn alone(ground: Ground, memory: Memory, space: Paged) -> Family {
    Family {
        space,
        others: Vec::new(),
        pool: ground.pool,
        memory,
    }
}

/// A heap, a stack, and `count` mappings of all kinds in turn: ten pages each, two free behind
/// each. Of those that are touched, pages 0 and 5 are written, or read, and page 7 is read.
fn assorted(ground: Ground, count: u64, is_touched: fn(u64) -> bool) -> Family {
    let memory = frames(if count > 100 { 8192 } else { 512 });
    let mut space = ground.empty(&memory);
    let heap = space.layout().start_brk;
    space.brk(heap + 4 * PAGE_SIZE);
    set(&mut space, heap, 1);
    let pages = contents(&Scarce(memory.clone()), 20, 1000);
    let file = opened(1, REGULAR, &pages);
    for index in 0..count {
        let at = 12 * index..12 * index + 10;
        map_as(&mut space, request(index, &file, at.clone()));
        if is_touched(index) {
            touch(&mut space, at.start);
        }
        let (addr, len) = (page(at.start), 10 * PAGE_SIZE);
        match index % 24 {
            8 => space.madvise(addr, len, MADV_DONTFORK).unwrap(),
            9 => space.madvise(addr, len, MADV_WIPEONFORK).unwrap(),
            15 if index < 24 => space.mlock(addr, len).unwrap(),
            _ => {}
        }
    }
    alone(ground, memory, space)
}

fn request(index: u64, file: &FileRef, at: std::ops::Range<u64>) -> MmapRequest {
    let plain = memory(at.start, at.end, RW);
    let of_file = MmapRequest {
        prot: RW,
        ..of_file(file, at.clone(), 3)
    };
    match index % 8 {
        3 => of_file,
        4 => MmapRequest {
            flags: MAP_SHARED | MAP_FIXED,
            ..of_file
        },
        5 => MmapRequest {
            flags: MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
            ..plain
        },
        6 => memory(at.start, at.end, PROT_READ),
        _ => plain,
    }
}

fn touch(space: &mut Paged, first: u64) {
    for offset in [0, 5] {
        if space.fault(page(first + offset), Access::Write).is_ok() {
            set(space, page(first + offset) + 64, first + offset);
        }
    }
    get(space, page(first + 7));
}

/// 21 private mappings with the heap, every other one touched.
fn plain(ground: Ground) -> Family {
    let memory = frames(512);
    let mut space = ground.empty(&memory);
    let heap = space.layout().start_brk;
    space.brk(heap + 4 * PAGE_SIZE);
    for index in 0..20 {
        map_as(&mut space, common::memory(12 * index, 12 * index + 10, RW));
        if index % 2 == 0 {
            touch(&mut space, 12 * index);
        }
    }
    assert_eq!(space.map_count(), 21);
    alone(ground, memory, space)
}

/// 21 mappings of all kinds.
fn mixed(ground: Ground) -> Family {
    assorted(ground, 20, |index| index % 5 != 2)
}

/// As `mixed`, in a child that shares everything with its parent, and with a child of its own.
fn inherited(ground: Ground) -> Family {
    let mut family = mixed(ground);
    let mut space = family.space.fork().unwrap();
    let child = space.fork().unwrap();
    let parent = std::mem::replace(&mut family.space, space);
    family.others = vec![parent, child];
    family
}

fn many(ground: Ground) -> Family {
    assorted(ground, 1620, |index| index % 2 == 0)
}

type Act = Box<dyn Fn(&mut Paged) -> Result<u64, Errno>>;

/// A call, what it may end in without memory, and whether it may leave something then.
struct Call {
    name: &'static str,
    act: Act,
    errnos: &'static [Errno],
    leaves: Leaves,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Nothing,
    /// What Linux leaves, too; or the call does not even fail.
    Something,
}

fn call(name: &'static str, act: impl Fn(&mut Paged) -> Result<u64, Errno> + 'static) -> Call {
    Call {
        name,
        act: Box::new(act),
        errnos: &[Errno::ENOMEM],
        leaves: Leaves::Nothing,
    }
}

impl Call {
    fn ending_in(self, errnos: &'static [Errno]) -> Self {
        Self { errnos, ..self }
    }

    fn leaving_something(self) -> Self {
        Self {
            leaves: Leaves::Something,
            ..self
        }
    }
}

fn done(result: Result<(), Errno>) -> Result<u64, Errno> {
    result.map(|()| 0)
}

fn is_at(result: u64, wanted: u64) -> Result<u64, Errno> {
    if result == wanted {
        Ok(result)
    } else {
        Err(Errno::ENOMEM)
    }
}

const LEN: u64 = 10 * PAGE_SIZE;

fn maps() -> Vec<Call> {
    let map = |request: MmapRequest| move |space: &mut Paged| space.mmap(request.clone());
    let shared = MmapRequest {
        flags: MAP_SHARED | MAP_ANONYMOUS,
        ..MmapRequest::anonymous(LEN, RW)
    };
    let mut populated = memory(10, 12, RW);
    populated.flags |= MAP_POPULATE;
    let unmap = |first, pages: u64| {
        move |space: &mut Paged| done(space.munmap(page(first), pages * PAGE_SIZE))
    };
    let brk = |pages: u64| {
        move |space: &mut Paged| {
            let to = space.layout().start_brk + pages * PAGE_SIZE;
            is_at(space.brk(to), to)
        }
    };
    vec![
        call("mmap anywhere", map(MmapRequest::anonymous(LEN, PROT_READ))),
        call("mmap over several", map(memory(5, 30, RW))),
        call("mmap over touched pages", map(memory(0, 1, RW))),
        call("mmap into one", map(memory(3, 6, PROT_READ))),
        call("mmap shared", map(shared)),
        call("mmap populated", map(populated)).leaving_something(),
        call("munmap in one", unmap(2, 5)),
        call("munmap of several", unmap(5, 100)),
        call("munmap of one", unmap(0, 10)),
        call("munmap of everything", unmap(0, 300)),
        call("brk up", brk(9)),
        call("brk down", brk(0)),
    ]
}

fn changes() -> Vec<Call> {
    let advise = |first, pages: u64, advice| {
        move |space: &mut Paged| done(space.madvise(page(first), pages * PAGE_SIZE, advice))
    };
    let protect = |first, pages: u64, prot| {
        move |space: &mut Paged| done(space.mprotect(page(first), pages * PAGE_SIZE, prot))
    };
    const AGAIN: &[Errno] = &[Errno::EAGAIN];
    const EITHER: &[Errno] = &[Errno::EAGAIN, Errno::ENOMEM];
    vec![
        call("mprotect of the middle", protect(3, 4, PROT_READ)),
        call("mprotect of one", protect(0, 10, PROT_NONE)),
        call("mprotect to run", protect(48, 10, PROT_READ | PROT_EXEC)),
        call("madvise of the middle", advise(3, 1, MADV_DONTDUMP)).ending_in(AGAIN),
        call("madvise to discard", advise(5, 3, MADV_DONTNEED)).ending_in(AGAIN),
        call("madvise to free", advise(0, 1, MADV_FREE)).ending_in(AGAIN),
        call("madvise to populate", advise(0, 10, MADV_POPULATE_WRITE)).leaving_something(),
        call("madvise to read", advise(12, 10, MADV_POPULATE_READ)).leaving_something(),
        call("madvise to guard", advise(0, 10, MADV_GUARD_INSTALL))
            .ending_in(EITHER)
            .leaving_something(),
        call("mlock", |space| done(space.mlock(page(0), LEN)))
            .ending_in(EITHER)
            .leaving_something(),
        call("mlockall", |space| done(space.mlockall(MCL_CURRENT))).leaving_something(),
    ]
}

static BYTES: [u8; 5 * 4096] = [7; 5 * 4096];

fn touches() -> Vec<Call> {
    let fault = |index: u64, access| {
        move |space: &mut Paged| {
            space
                .fault(page(index), access)
                .map_err(Errno::from)
                .map(|()| 0)
        }
    };
    let write = |index: u64, len: usize| {
        move |space: &mut Paged| {
            let written = space.write(page(index), &BYTES[..len]);
            written.map(|()| 0).map_err(|end| end.fault.into())
        }
    };
    use Access::{Read, Write};
    vec![
        call("a write to a page of its own", fault(0, Write)),
        call("a write to nothing", fault(1, Write)),
        call("a write to the zero page", fault(7, Write)),
        call("a first write", fault(28, Write)),
        call("a read", fault(13, Read)),
        call("a read of a file", fault(38, Read)),
        call("a private write to a file", fault(39, Write)),
        call("a private write to a page that was read", fault(43, Write)),
        call("a shared write to a file", fault(50, Write)),
        call("a write to shared memory", fault(62, Write)),
        call("a stack that grows", fault(990, Write)),
        call("bytes in one page", write(1, 100)),
        call("bytes in five pages", write(1, 5 * 4096)).leaving_something(),
        call("a copy", |space| {
            let copied = space.copy_within(page(5) + 64, page(8), 100);
            copied.map(|()| 0).map_err(|end| end.fault.into())
        })
        .leaving_something(),
    ]
}

fn remaps() -> Vec<Call> {
    let remap = |old_pages, new_pages, to: Option<u64>, flags| {
        move |space: &mut Paged| {
            space.mremap(MremapRequest {
                addr: page(0),
                old_len: old_pages * PAGE_SIZE,
                new_len: new_pages * PAGE_SIZE,
                flags,
                new_addr: to.map_or(0, page),
            })
        }
    };
    let fixed = MREMAP_MAYMOVE | MREMAP_FIXED;
    let both = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
    vec![
        call("mremap in place", remap(10, 12, None, 0)),
        call("mremap to shrink", remap(10, 4, None, 0)),
        call("mremap elsewhere", remap(10, 20, None, MREMAP_MAYMOVE)),
        call("mremap of the head", remap(3, 8, None, MREMAP_MAYMOVE)),
        call("mremap far away", remap(10, 10, Some(1 << 25), fixed)),
        call("mremap over others", remap(10, 10, Some(51), fixed)).leaving_something(),
        call("mremap with both kept", remap(10, 10, None, both)),
    ]
}

/// Adds a stack with a page.
fn prepare(space: &mut Paged) {
    let mut stack = memory(1000, 1004, RW);
    stack.flags |= MAP_GROWSDOWN;
    map_as(space, stack);
    set(space, page(1003), 5);
}

/// Makes `call` once with `refuse`. Says whether anything was refused.
fn try_once(build: Build, call: &Call, refuse: Refuse) -> bool {
    let ground = Ground::new();
    let live = LIVE.get();
    let mut family = build(ground);
    prepare(&mut family.space);
    let before = family.strict();
    ground.pool.release_reserve();
    let (result, refused) = refusing(refuse, || (call.act)(&mut family.space));
    let context = format!("{} with {refuse:?}", call.name);
    family.check();
    match result {
        Ok(_) => {}
        Err(errno) => {
            assert!(refused > 0, "{context}: {errno:?}");
            assert!(call.errnos.contains(&errno), "{context}: {errno:?}");
            if call.leaves == Leaves::Nothing {
                assert_eq!(family.strict(), before, "{context}");
            }
            let again = (call.act)(&mut family.space);
            assert!(again.is_ok(), "{context}, then again: {again:?}");
            family.check();
        }
    }
    drop((before, context));
    family.end(live);
    refused > 0
}

fn fail_all(name: &str, build: Build) {
    let mut tried = 0;
    for call in [maps(), changes(), touches(), remaps()].iter().flatten() {
        for refuse in [Refuse::Once as fn(u64) -> Refuse, Refuse::From] {
            tried += (0..)
                .take_while(|&at| try_once(build, call, refuse(at)))
                .count();
        }
    }
    println!("{name}: {tried} failure points");
    assert!(tried > 200, "only {tried} allocations were refused");
}

#[test]
fn calls_on_plain_mappings_survive_every_refusal() {
    fail_all("plain", plain);
}

#[test]
fn calls_on_mixed_mappings_survive_every_refusal() {
    fail_all("mixed", mixed);
}

#[test]
fn calls_amid_those_that_share_survive_every_refusal() {
    fail_all("inherited", inherited);
}

/// Forks with every `stride`-th allocation refused. Returns how many were.
fn fork_each(build: Build, plan: ForkPlan, stride: usize) -> usize {
    let ground = Ground::new();
    let live = LIVE.get();
    let mut family = build(ground);
    let before = family.strict();
    let mut tried = 0;
    for refuse in [Refuse::Once as fn(u64) -> Refuse, Refuse::From] {
        for at in (0..).step_by(stride) {
            ground.pool.release_reserve();
            let used = family.memory.in_use();
            let (forked, refused) = refusing(refuse(at), || family.space.fork_with(plan, || false));
            tried += usize::from(forked.is_err());
            if let Ok(child) = forked {
                let all = family.all().chain([&child]);
                check(&all.collect::<Vec<_>>());
            } else {
                assert_eq!(forked.map(drop), Err(Errno::ENOMEM));
                assert_eq!(family.memory.in_use(), used, "{plan:?} at {at}");
            }
            assert_eq!(family.strict(), before, "{plan:?} at {at}");
            if refused == 0 {
                break;
            }
        }
    }
    family.check();
    drop(before);
    family.end(live);
    tried
}

fn fork_all(name: &str, build: Build, stride: usize) {
    for plan in plans() {
        let tried = fork_each(build, plan, stride);
        let (mappings, pages) = (plan.mappings.name(), plan.pages.name());
        println!("fork, {name}, {mappings} + {pages}: {tried} failure points, every {stride}");
        assert!(tried > 0);
    }
}

#[test]
fn forks_of_few_mappings_survive_every_refusal() {
    fork_all("plain", plain, 1);
    fork_all("mixed", mixed, 1);
    fork_all("inherited", inherited, 1);
}

#[test]
fn forks_of_many_mappings_survive_refusals() {
    fork_all("many", many, 67);
}

/// Nothing more may be promised.
fn at_the_limit(build: Build) -> Family {
    let mut ground = Ground::new();
    let limit = |limit_pages| Overcommit::Never {
        limit_pages,
        admin_reserve_pages: 0,
        user_reserve_pages: 0,
    };
    ground.overcommit = limit(1 << 30);
    let mut family = build(ground);
    prepare(&mut family.space);
    let committed = family.space.system().committed();
    drop(family);
    ground.overcommit = limit(committed + 1);
    let mut family = build(ground);
    prepare(&mut family.space);
    family
}

#[test]
fn a_promise_that_is_refused_changes_nothing() {
    let fork = |plan| {
        move |space: &mut Paged| {
            let forked = space.fork_with(plan, || false);
            forked.map(|child| child.map_count() as u64)
        }
    };
    let mut calls: Vec<Call> = plans().map(|plan| call("fork", fork(plan))).collect();
    calls.extend(maps().into_iter().filter(|call| call.name == "brk up"));
    calls.push(call("mmap", |space| {
        space.mmap(MmapRequest::anonymous(PAGE_SIZE, RW))
    }));
    calls.push(call("mprotect", |space| {
        done(space.mprotect(page(72), LEN, RW))
    }));
    let grow = MremapRequest {
        addr: page(0),
        old_len: LEN,
        new_len: 2 * LEN,
        flags: MREMAP_MAYMOVE,
        new_addr: 0,
    };
    calls.push(call("mremap", move |space| space.mremap(grow)));
    calls.push(call("a stack", |space| {
        let grown = space.fault(page(990), Access::Write);
        grown.map(|()| 0).map_err(|_| Errno::ENOMEM)
    }));
    let mut family = at_the_limit(mixed);
    for call in &calls {
        let before = family.strict();
        assert_eq!(
            (call.act)(&mut family.space),
            Err(Errno::ENOMEM),
            "{}",
            call.name
        );
        assert_eq!(family.strict(), before, "{}", call.name);
    }
    family.check();
    println!("{} promises refused", calls.len());
    let _ = FileAccess::READ;
}
