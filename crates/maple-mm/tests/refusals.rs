//! Every allocation of every call refused in turn: the call ends in the documented error and
//! leaves what Linux leaves, which mostly is nothing; memory is never a reason to abort.
//!
//! Each mapping and each node is an allocation of its own here, and the allocator of this program
//! refuses the k-th of a call, or all from the k-th on, for every k.
mod common;
#[path = "common/refusing.rs"]
mod refusing;

use std::fmt::Write;
use std::sync::Arc;

use common::random::portrait;
use common::{BASE, file, map, map_as, memory, of_file, page, state, write};
use maple_mm::{
    Access, AddressSpace, Errno, FileAccess, FileRef, ForkStrategy, HeapChunks, LayoutError,
    MmapRequest, MremapRequest, Setup, System, SystemSettings, TreeNodes, VmaPool, VmaRef, VmaSpec,
    abi::*,
};
use maple_tree::GlobalNodes;
use refusing::{LIVE, Refuse, Refusing, refusing};

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// A space, and others that share with it and must not notice anything.
struct Family {
    space: AddressSpace,
    others: Vec<AddressSpace>,
    pool: &'static VmaPool,
}

impl Family {
    /// Everything a refused call must leave as it was.
    fn strict(&self) -> String {
        let mut text = String::new();
        for space in self.others.iter().chain([&self.space]) {
            space.validate().unwrap();
            text += &state(space);
            for vma in space.vmas() {
                let file = vma.file().map(FileRef::count);
                writeln!(text, "{} {file:?}", VmaRef::count(vma)).unwrap();
            }
        }
        writeln!(text, "{}", self.pool.in_use()).unwrap();
        text
    }

    /// What programs see, and the counters.
    fn visible(&self) -> String {
        let mut text = String::new();
        for vma in self.space.vmas() {
            let (line, flags) = (self.space.maps_line(vma), vma.flags());
            writeln!(text, "{line} {flags:?} {}", vma.page_offset()).unwrap();
        }
        let (statistics, brk) = (self.space.statistics(), self.space.layout().brk);
        let committed = self.space.system().committed();
        writeln!(text, "{statistics:?} {brk:#x} {committed}").unwrap();
        text
    }
}

type Build = fn(&'static VmaPool) -> Family;

fn alone(space: AddressSpace, pool: &'static VmaPool) -> Family {
    Family {
        space,
        others: Vec::new(),
        pool,
    }
}

fn empty(pool: &'static VmaPool) -> AddressSpace {
    let system = System::new(SystemSettings::default())
        .with_pool(pool)
        .with_nodes(TreeNodes::new(&GlobalNodes));
    let layout = maple_mm::Layout {
        start_brk: BASE - 64 * PAGE_SIZE,
        brk: BASE - 60 * PAGE_SIZE,
        ..maple_mm::Layout::default()
    };
    let setup = Setup {
        system: Arc::new(system),
        layout,
        ..Setup::default()
    };
    AddressSpace::from_layout(setup, []).unwrap()
}

/// 21 private mappings, every other one written.
fn plain(pool: &'static VmaPool) -> Family {
    let mut space = empty(pool);
    place(&mut space, BASE - 64 * PAGE_SIZE, 4, MAP_PRIVATE);
    for index in 0..20 {
        map(&mut space, 12 * index, 12 * index + 10);
        if index % 2 == 0 {
            write(&mut space, 12 * index);
        }
    }
    assert_eq!(space.map_count(), 21);
    alone(space, pool)
}

fn place(space: &mut AddressSpace, addr: u64, pages: u64, kind: u64) {
    let request = MmapRequest {
        addr,
        flags: kind | MAP_ANONYMOUS | MAP_FIXED,
        ..MmapRequest::anonymous(pages * PAGE_SIZE, PROT_READ | PROT_WRITE)
    };
    space.mmap(request).unwrap();
}

/// Mappings of `count` kinds in turn, ten pages each, two free behind each.
fn assorted(pool: &'static VmaPool, count: u64) -> AddressSpace {
    let mut space = empty(pool);
    place(&mut space, BASE - 64 * PAGE_SIZE, 4, MAP_PRIVATE);
    let both = FileAccess::READ | FileAccess::WRITE;
    let files = [file(1, both), file(2, both | FileAccess::HOOKED)];
    for index in 0..count {
        let pages = 12 * index..12 * index + 10;
        match index % 8 {
            3 => map_as(&mut space, of_file(&files[0], pages.clone(), 5)),
            4 => map_as(&mut space, of_file(&files[1], pages.clone(), 5)),
            5 => place(&mut space, page(pages.start), 10, MAP_SHARED),
            6 => map_as(&mut space, memory(pages.start, pages.end, PROT_READ)),
            _ => place(&mut space, page(pages.start), 10, MAP_PRIVATE),
        }
        if index % 8 < 3 {
            write(&mut space, pages.start);
        }
        let (addr, len) = (page(pages.start), 10 * PAGE_SIZE);
        match index % 24 {
            8 => space.madvise(addr, len, MADV_DONTFORK).unwrap(),
            9 => space.madvise(addr, len, MADV_WIPEONFORK).unwrap(),
            15 => space.mlock(addr, len).unwrap(),
            _ => {}
        }
    }
    space
}

/// 21 mappings of all kinds.
fn mixed(pool: &'static VmaPool) -> Family {
    alone(assorted(pool, 20), pool)
}

/// As `mixed`, in a child that shares everything with its parent.
fn inherited(pool: &'static VmaPool) -> Family {
    let mut parent = assorted(pool, 20);
    Family {
        space: parent.fork().unwrap(),
        others: vec![parent],
        pool,
    }
}

type Act = Box<dyn Fn(&mut AddressSpace) -> Result<u64, Errno>>;

/// A call, what it ends in without memory, and what it may leave behind then.
struct Call {
    name: &'static str,
    act: Act,
    errno: Errno,
    /// Calls that do the parts which stay; none where nothing stays.
    parts: Vec<Act>,
    leaves: Leaves,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// Nothing changes.
    Nothing,
    /// What one of the parts does, to what programs see.
    Parts,
    /// Something, and the call does not even fail.
    Anything,
}

fn call(
    name: &'static str,
    act: impl Fn(&mut AddressSpace) -> Result<u64, Errno> + 'static,
) -> Call {
    Call {
        name,
        act: Box::new(act),
        errno: Errno::ENOMEM,
        parts: Vec::new(),
        leaves: Leaves::Nothing,
    }
}

impl Call {
    fn ending_in(self, errno: Errno) -> Self {
        Self { errno, ..self }
    }

    fn leaving(mut self, part: impl Fn(&mut AddressSpace) -> Result<u64, Errno> + 'static) -> Self {
        self.parts.push(Box::new(part));
        self.leaves = Leaves::Parts;
        self
    }

    fn leaving_anything(self) -> Self {
        Self {
            leaves: Leaves::Anything,
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
    let one = file(7, FileAccess::READ);
    let anywhere = MmapRequest::anonymous(LEN, PROT_READ);
    let over = memory(5, 30, PROT_READ | PROT_WRITE);
    let middle = memory(3, 5, PROT_READ);
    let mut shared = memory(10, 12, PROT_READ);
    shared.flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED;
    let mut populated = memory(10, 12, PROT_READ | PROT_WRITE);
    populated.flags |= MAP_POPULATE;
    let of_file = of_file(&one, 10..25, 0);
    let map = |request: MmapRequest| move |space: &mut AddressSpace| space.mmap(request.clone());
    vec![
        call("mmap anywhere", map(anywhere)),
        call("mmap over several", map(over)),
        call("mmap into one", map(middle)),
        call("mmap shared", map(shared)),
        call("mmap of a file", map(of_file)),
        call("mmap populated", map(populated)),
        call("munmap in one", |space| {
            done(space.munmap(page(2), 4 * PAGE_SIZE))
        }),
        call("munmap of several", |space| {
            done(space.munmap(page(5), 25 * PAGE_SIZE))
        }),
        call("munmap of one", |space| done(space.munmap(page(0), LEN))),
        call("brk up", |space| {
            let to = BASE - 50 * PAGE_SIZE;
            is_at(space.brk(to), to)
        }),
        call("brk down", |space| {
            let to = BASE - 62 * PAGE_SIZE;
            is_at(space.brk(to), to)
        }),
    ]
}

fn changes() -> Vec<Call> {
    let none = |_: &mut AddressSpace| Ok(0);
    let fault = |index, access| {
        move |space: &mut AddressSpace| {
            let touched = space.fault(page(index), access);
            touched.map(|()| 0).map_err(|_| Errno::ENOMEM)
        }
    };
    let lock = |index, pages| {
        move |space: &mut AddressSpace| done(space.mlock(page(index), pages * PAGE_SIZE))
    };
    let protect = |pages| {
        move |space: &mut AddressSpace| done(space.mprotect(page(0), pages * PAGE_SIZE, PROT_NONE))
    };
    let advise = |pages, advice| {
        move |space: &mut AddressSpace| done(space.madvise(page(0), pages * PAGE_SIZE, advice))
    };
    vec![
        call("mprotect of the middle", |space| {
            done(space.mprotect(page(3), 2 * PAGE_SIZE, PROT_READ))
        }),
        // Split before: five mappings in ten pages.
        call("mprotect of several", |space| {
            done(space.mprotect(page(0), LEN, PROT_NONE))
        })
        .leaving(protect(2))
        .leaving(protect(4))
        .leaving(protect(6))
        .leaving(protect(8)),
        call("madvise of the middle", |space| {
            done(space.madvise(page(3), PAGE_SIZE, MADV_DONTDUMP))
        })
        .ending_in(Errno::EAGAIN),
        call("madvise of several", advise(10, MADV_DONTFORK))
            .ending_in(Errno::EAGAIN)
            .leaving(advise(2, MADV_DONTFORK))
            .leaving(advise(4, MADV_DONTFORK))
            .leaving(advise(6, MADV_DONTFORK))
            .leaving(advise(8, MADV_DONTFORK)),
        call("madvise to populate", advise(2, MADV_POPULATE_WRITE)),
        call("madvise to guard", advise(2, MADV_GUARD_INSTALL)).leaving(none),
        call("mlock of the middle", lock(27, 2)),
        call("mlock of several", lock(0, 10))
            .leaving(lock(0, 2))
            .leaving(lock(0, 4))
            .leaving(lock(0, 6))
            .leaving(lock(0, 8))
            .leaving(lock(0, 10)),
        call("munlock", |space| {
            done(space.munlock(page(0), 2 * PAGE_SIZE))
        }),
        call("mlockall", |space| done(space.mlockall(MCL_CURRENT))).leaving_anything(),
        call("munlockall", |space| done(space.munlockall())).leaving_anything(),
        call("mseal", |space| done(space.mseal(page(3), PAGE_SIZE, 0))),
        call("msync", |space| done(space.msync(page(0), LEN, MS_SYNC))),
        call("a write", fault(12, Access::Write)),
        call("a write elsewhere", fault(0, Access::Write)),
        call("a stack that grows", fault(990, Access::Write)).leaving(none),
    ]
}

fn remaps() -> Vec<Call> {
    let remap = |old_pages, new_pages, to: Option<u64>, flags| {
        move |space: &mut AddressSpace| {
            space.mremap(MremapRequest {
                addr: page(24),
                old_len: old_pages * PAGE_SIZE,
                new_len: new_pages * PAGE_SIZE,
                flags,
                new_addr: to.map_or(0, page),
            })
        }
    };
    let fixed = MREMAP_MAYMOVE | MREMAP_FIXED;
    let cleared = |from, pages: u64| {
        move |space: &mut AddressSpace| done(space.munmap(page(from), pages * PAGE_SIZE))
    };
    vec![
        call("mremap in place", remap(10, 12, None, 0)),
        call("mremap to shrink", remap(10, 4, None, 0)),
        call("mremap elsewhere", remap(10, 20, None, MREMAP_MAYMOVE)),
        call("mremap of the head", remap(3, 8, None, MREMAP_MAYMOVE)),
        call("mremap over others", remap(10, 10, Some(51), fixed)).leaving(cleared(51, 10)),
        call("mremap to shrink over others", remap(8, 4, Some(51), fixed))
            .leaving(cleared(51, 4))
            .leaving(move |space| {
                cleared(51, 4)(space)?;
                cleared(28, 4)(space)
            }),
        call(
            "mremap with both kept",
            remap(10, 10, None, MREMAP_MAYMOVE | MREMAP_DONTUNMAP),
        ),
    ]
}

fn bookkeeping() -> Vec<Call> {
    let other = file(1, FileAccess::READ);
    vec![
        call("set_file", move |space| {
            done(space.set_file(other.id, &other))
        }),
        call("mark_written", |space| {
            done(space.mark_written(page(12)..page(13)))
        }),
        call("keep_history", |space| {
            let older = space.snapshot();
            done(space.keep_history(&older))
        }),
        call("snapshot", |space| {
            let copy = space.snapshot();
            Ok(copy.map_count() as u64)
        }),
    ]
}

/// Splits the first mapping and adds a stack, so that each call finds what it is about.
fn prepare(space: &mut AddressSpace) {
    for (first, prot) in [(2, PROT_READ), (6, PROT_READ)] {
        space.mprotect(page(first), 2 * PAGE_SIZE, prot).unwrap();
    }
    let mut stack = memory(1000, 1004, PROT_READ | PROT_WRITE);
    stack.flags |= MAP_GROWSDOWN;
    map_as(space, stack);
}

fn new_pool() -> &'static VmaPool {
    static EACH: HeapChunks = HeapChunks::new(0);
    Box::leak(Box::new(VmaPool::new(&EACH)))
}

/// What the call does when it gets all its memory, and what it may leave when it does not.
struct Expected {
    result: Result<u64, Errno>,
    after: String,
    partly: Vec<String>,
}

fn expected(build: Build, call: &Call, pool: &'static VmaPool) -> Expected {
    let run = |act: &Act| {
        let mut family = build(pool);
        prepare(&mut family.space);
        let result = act(&mut family.space);
        (result, family.visible())
    };
    let (result, after) = run(&call.act);
    assert!(result.is_ok(), "{}: {result:?}", call.name);
    let nothing: Act = Box::new(|_| Ok(0));
    let parts = call.parts.iter().chain([&nothing]);
    Expected {
        result,
        after,
        partly: parts.map(|part| run(part).1).collect(),
    }
}

/// Makes `call` once with `refuse`. Says whether anything was refused.
fn try_once(build: Build, call: &Call, expected: &Expected, refuse: Refuse) -> bool {
    let pool = new_pool();
    let live = LIVE.get();
    let mut family = build(pool);
    prepare(&mut family.space);
    let before = family.strict();
    pool.release_reserve();
    let (result, refused) = refusing(refuse, || (call.act)(&mut family.space));
    let context = format!("{} with {refuse:?}", call.name);
    if refused == 0 {
        assert_eq!(result, expected.result, "{context}");
    }
    match (result, call.leaves) {
        (Ok(_), Leaves::Anything) => family.space.validate().unwrap(),
        // LINUX: what could not be brought in does not count; programs see no difference.
        (Ok(_), _) => assert_eq!(family.visible(), expected.after, "{context}"),
        (Err(errno), leaves) => {
            assert_eq!(errno, call.errno, "{context}");
            if leaves == Leaves::Nothing {
                assert_eq!(family.strict(), before, "{context}");
            } else {
                family.space.validate().unwrap();
                assert!(expected.partly.contains(&family.visible()), "{context}");
            }
            assert_eq!(
                (call.act)(&mut family.space),
                expected.result,
                "{context}, then again"
            );
            assert_eq!(family.visible(), expected.after, "{context}, then again");
        }
    }
    drop((before, context));
    end(family, live);
    refused > 0
}

/// Ends all spaces without any memory, and checks that nothing is left.
#[track_caller]
fn end(family: Family, live: i64) {
    let pool = family.pool;
    let ((), refused) = refusing(Refuse::From(0), || drop(family));
    assert_eq!(refused, 0, "an end must not need memory");
    pool.release_reserve();
    assert_eq!(pool.in_use(), 0, "mappings were leaked");
    assert_eq!(LIVE.get(), live, "memory was leaked");
}

fn fail_all(name: &str, build: Build) {
    let mut tried = 0;
    let calls = [maps(), changes(), remaps(), bookkeeping()];
    for call in calls.iter().flatten() {
        let expected = expected(build, call, new_pool());
        for refuse in [Refuse::Once as fn(u64) -> Refuse, Refuse::From] {
            let points = (0..)
                .take_while(|&at| try_once(build, call, &expected, refuse(at)))
                .count();
            tried += points;
        }
    }
    println!("{name}: {tried} failure points");
    assert!(
        tried > 200,
        "only {tried} allocations were refused: the test shows little"
    );
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
fn calls_in_a_child_survive_every_refusal_and_the_parent_notices_nothing() {
    fail_all("inherited", inherited);
}

#[test]
fn a_layout_survives_every_refusal() {
    let pool = new_pool();
    let template = assorted(pool, 20);
    let specs = || {
        template.vmas().map(|vma| VmaSpec {
            start: vma.start(),
            end: vma.end(),
            flags: vma.flags(),
            page_offset: vma.page_offset(),
            backing: vma.backing().clone(),
            written: vma.anon().is_faulted(),
        })
    };
    let system = empty(pool).system().clone();
    let setup = || Setup {
        system: Arc::clone(&system),
        ..Setup::default()
    };
    for at in 0.. {
        let setup = setup();
        pool.release_reserve();
        let (made, refused) = refusing(Refuse::Once(at), || {
            AddressSpace::from_layout(setup, specs())
        });
        if refused == 0 {
            assert_eq!(made.unwrap().map_count(), 21);
            break;
        }
        assert!(made.is_err_and(|error| error == LayoutError::OutOfNodes));
        assert_eq!((pool.in_use(), system.committed()), (21, 0));
    }
}

/// Forks with every `stride`-th allocation refused. Returns how many were.
fn fork_each(build: Build, strategy: ForkStrategy, stride: usize) -> usize {
    let pool = new_pool();
    let live = LIVE.get();
    let mut family = build(pool);
    let before = family.strict();
    let child = family.space.fork_with(strategy, || false).unwrap();
    let expected = portrait(&child);
    drop(child);
    let mut tried = 0;
    for refuse in [Refuse::Once as fn(u64) -> Refuse, Refuse::From] {
        for at in (0..).step_by(stride) {
            pool.release_reserve();
            let (forked, refused) =
                refusing(refuse(at), || family.space.fork_with(strategy, || false));
            let Err(errno) = forked else {
                // A tree asks for more nodes than it needs, and makes do with fewer.
                assert_eq!(portrait(&forked.unwrap()), expected);
                if refused == 0 {
                    break;
                }
                continue;
            };
            assert_eq!(errno, Errno::ENOMEM);
            assert_eq!(family.strict(), before, "{} at {at}", strategy.name());
            tried += 1;
        }
    }
    drop((before, expected));
    end(family, live);
    tried
}

fn fork_all(name: &str, build: Build, stride: usize) {
    for strategy in ForkStrategy::ALL {
        let tried = fork_each(build, strategy, stride);
        println!("fork, {name}, {}: {tried} failure points", strategy.name());
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
    fork_all("many", |pool| alone(assorted(pool, 1620), pool), 41);
}
