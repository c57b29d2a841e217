//! Every allocation of every call on address spaces with pages refused in turn: nodes, mappings,
//! frames, tables, heap. What fails leaves mappings, counters and contents as they were, to the
//! byte, in the address space and in those that share with it; nothing leaks.

#[path = "../refusals/allocator.rs"]
mod allocator;
mod calls;
#[path = "../common/mod.rs"]
mod common;
mod family;
mod huge;
mod scarce;

use allocator::{Refuse, live, refusing};
use calls::{Call, LEN, Leaves, call, changes, done, maps, remaps, touches};
use common::paged::{check, plans, set};
use common::{map_as, memory, page};
use family::{Build, Family, Ground, Paged, inherited, many, mixed, plain};
use maple_mm::paging::PhysMemory;
use maple_mm::{Access, Errno, ForkPlan, MmapRequest, MremapRequest, Overcommit, abi::*};

const RW: u64 = PROT_READ | PROT_WRITE;

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
    let alive = live();
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
    family.end(alive);
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

/// Calls amid 1,621 mappings, with every third allocation refused, in the same address space
/// again and again: it is as before, each time.
#[test]
fn calls_amid_many_mappings_survive_refusals() {
    let mut tried = 0;
    let calls = [maps(), changes(), touches(), remaps()];
    let strict = |call: &&Call| call.leaves == Leaves::Nothing && !call.name.contains("two tables");
    for call in calls.iter().flatten().filter(strict) {
        let ground = Ground::new();
        let alive = live();
        let mut family = many(ground);
        let before = family.strict();
        for at in (0..).step_by(3) {
            ground.pool.release_reserve();
            let act = || (call.act)(&mut family.space);
            let (result, refused) = refusing(Refuse::Once(at), act);
            if result.is_ok() || refused == 0 {
                break;
            }
            assert_eq!(family.strict(), before, "{} at {at}", call.name);
            tried += 1;
        }
        family.check();
        drop(before);
        family.end(alive);
    }
    println!("many: {tried} failure points, every 3");
    assert!(tried > 40);
}

/// Forks with every `stride`-th allocation refused. Returns how many were.
fn fork_each(build: Build, plan: ForkPlan, stride: usize) -> usize {
    let ground = Ground::new();
    let alive = live();
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
    family.end(alive);
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
    fork_all("many", many, 41);
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
}
