//! Every allocation of every call on address spaces with pages refused in turn: nodes, mappings,
//! frames, tables, lists. What fails leaves mappings, counters and contents as they were, to the
//! byte, in the address space and in those that share with it; nothing leaks.

#[path = "../refusals/allocator.rs"]
mod allocator;
mod build;
#[path = "../refusals/call.rs"]
mod call;
mod calls;
#[path = "../common/mod.rs"]
mod common;
mod explicit;
mod family;
mod forks;
mod huge;
#[path = "../refusals/points.rs"]
mod points;
mod promises;
mod scarce;
mod shared;

use std::collections::BTreeSet;

use allocator::{Refuse, live, refusing};
use build::{Build, Ground, huge_inherited, inherited, many, mixed, plain};
use call::Leaves;
use calls::{Act, Call, advise, changes, maps, on_kinds, remaps, straddling, touches};
use common::page;
use common::paged::get;
use family::{Caller, Family};
use maple_mm::{Access, Fault, abi::MADV_GUARD_INSTALL};
use points::{Kind, Points};
use scarce::noting;

/// What a call does when it gets all its memory, and what it may leave when it does not.
struct Expected {
    result: u64,
    after: String,
    partly: Vec<String>,
    /// Which of its allocations are tables.
    tables: BTreeSet<u64>,
}

fn expected<O: Caller>(build: Build<O>, ground: Ground, call: &Call<O>) -> Expected {
    let mut family = build(ground);
    ground.pool.release_reserve();
    let act = || refusing(Refuse::None, || (call.act)(&mut family.space)).0;
    let (result, taken) = noting(act);
    let result = result.unwrap_or_else(|errno| panic!("{}: {errno:?}", call.name));
    let tables = family.tables_among(&taken, None);
    let after = family.visible();
    let visible_after = |part: &Act<O>| {
        let mut family = build(ground);
        part(&mut family.space).unwrap();
        family.visible()
    };
    let nothing: Act<O> = Box::new(|_| Ok(0));
    let parts = match call.leaves {
        Leaves::Parts | Leaves::Mappings => call.parts.iter().chain([&nothing]),
        _ => [].iter().chain([&nothing]),
    };
    Expected {
        result,
        after,
        partly: parts.map(visible_after).collect(),
        tables,
    }
}

/// A call, and what is known of it.
struct Trial<'c, O> {
    build: Build<O>,
    call: &'c Call<O>,
    expected: Expected,
}

impl<O: Caller> Trial<'_, O> {
    /// Makes the call once. Says what was refused first.
    fn refuse(&self, at: u64, refuse: Refuse) -> Option<Kind> {
        let (call, ground) = (self.call, Ground::new());
        let alive = live();
        let mut family = (self.build)(ground);
        let (before, bystanders) = (family.strict(), family.bystanders());
        let resident = family.resident();
        ground.pool.release_reserve();
        let (result, refused) = refusing(refuse, || (call.act)(&mut family.space));
        let context = format!("{} with {refuse:?}", call.name);
        family.check();
        match result {
            Ok(value) => assert_eq!(value, self.expected.result, "{context}"),
            Err(errno) => {
                assert!(refused.times > 0, "{context}: {errno:?}");
                assert!(call.errnos.contains(&errno), "{context}: {errno:?}");
                if call.leaves == Leaves::Nothing {
                    same(&family.strict(), &before, &context);
                }
                if call.leaves == Leaves::Mappings {
                    assert_eq!(family.resident(), resident, "{context}");
                }
                assert_eq!(family.bystanders(), bystanders, "{context}");
                self.check_rest(&family.visible(), &context);
                let again = (call.act)(&mut family.space);
                assert_eq!(again, Ok(self.expected.result), "{context}, then again");
            }
        }
        if call.leaves != Leaves::Anything {
            // LINUX: what could not be brought in does not count; programs see no difference.
            same(&family.visible(), &self.expected.after, &context);
        }
        assert_eq!(family.bystanders(), bystanders, "{context}");
        family.check();
        drop((before, bystanders, context));
        family.end(alive);
        refused.first.map(|kind| self.kind(at, kind))
    }

    /// What programs see of a call that failed.
    fn check_rest(&self, seen: &str, context: &str) {
        let is_expected = self.expected.partly.iter().any(|part| part == seen);
        if !is_expected && self.call.leaves != Leaves::Anything {
            let untouched = self.expected.partly.last().expect("nothing is a part, too");
            same(seen, untouched, context);
        }
    }

    fn kind(&self, at: u64, kind: Kind) -> Kind {
        table_or(kind, at, &self.expected.tables)
    }
}

/// Tables are frames, too: they are told by their number.
fn table_or(kind: Kind, at: u64, tables: &BTreeSet<u64>) -> Kind {
    if kind == Kind::Frame && tables.contains(&at) {
        Kind::Table
    } else {
        kind
    }
}

/// Compares line by line, and shows the first that differs.
#[track_caller]
fn same(seen: &str, expected: &str, context: &str) {
    for (seen, expected) in seen.lines().zip(expected.lines()) {
        assert_eq!(seen, expected, "{context}");
    }
    assert_eq!(seen.len(), expected.len(), "{context}");
}

/// Which allocations are refused, from a number on.
type Mode = fn(u64) -> Refuse;

const MODES: [Mode; 2] = [Refuse::Once, Refuse::From];

/// One of both, as a coin falls.
fn either(seed: u64, at: u64) -> &'static [Mode] {
    let coin = (at ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63;
    &MODES[coin as usize..][..1]
}

const SEED: u64 = 0x5eed;

/// As a coin falls, for what takes long.
fn coin(at: u64) -> Refuse {
    either(SEED, at)[0](at)
}

const OF_PAGES: &[Kind] = &[Kind::Node, Kind::Vma, Kind::Frame, Kind::Table, Kind::Other];

fn fail_all(name: &str, build: Build, calls: &[Call]) {
    fail_in(name, build, (calls, &MODES)).assert_cover(OF_PAGES);
}

fn fail_in(name: &str, build: Build, (calls, modes): (&[Call], &[Mode])) -> Points {
    fail_each(name, build, (calls, modes))
}

fn fail_each<O: Caller>(
    name: &str,
    build: Build<O>,
    (calls, modes): (&[Call<O>], &[Mode]),
) -> Points {
    let mut tried = Points::default();
    for call in calls {
        let trial = Trial {
            build,
            call,
            expected: expected(build, Ground::new(), call),
        };
        for mode in modes {
            let points = (0..).map_while(|at| trial.refuse(at, mode(at)));
            points.for_each(|kind| tried.add(kind));
        }
    }
    testkit::report(&format!("calls, {name}: {tried}"));
    assert!(tried.total() > 200, "that shows little");
    tried
}

/// The calls on private memory, and on mappings wherever they are.
fn anywhere<O: Caller>() -> Vec<Call<O>> {
    let parts = [maps(), changes(), touches(), remaps()];
    parts.into_iter().flatten().collect()
}

fn all<O: Caller>() -> Vec<Call<O>> {
    let mut calls = anywhere();
    calls.push(straddling());
    calls.extend(on_kinds());
    calls
}

#[test]
fn calls_on_plain_mappings_survive_every_refusal() {
    let mut calls = anywhere();
    calls.push(straddling());
    fail_all("plain", plain, &calls);
}

#[test]
fn calls_on_mixed_mappings_survive_every_refusal() {
    fail_all("mixed", mixed, &all());
}

#[test]
fn calls_amid_those_that_share_survive_every_refusal() {
    fail_all("inherited", inherited, &all());
}

#[test]
fn calls_amid_huge_pages_survive_every_refusal() {
    fail_all("huge", build::huge, &huge::all());
}

#[test]
fn calls_amid_huge_pages_that_are_shared_survive_every_refusal() {
    println!("each alone or with all that follow, seed {SEED:#x}");
    let calls = huge::all();
    fail_in("huge, inherited", huge_inherited, (&calls, &[coin])).assert_cover(OF_PAGES);
}

/// The pages were taken before the mapping was marked, for which there was no memory then.
#[test]
fn a_guard_that_cannot_be_installed_loses_no_page() {
    for at in 0.. {
        let mut family: Family = plain(Ground::new());
        let guard = advise((0, 10), MADV_GUARD_INSTALL);
        let (result, _) = refusing(Refuse::Once(at), || guard(&mut family.space));
        if result.is_ok() {
            let seen = family.space.fault(page(5), Access::Read);
            assert_eq!(seen, Err(Fault::NotMapped));
            assert!(at > 0, "nothing was refused");
            break;
        }
        assert_eq!(get(&mut family.space, page(5) + 64), 5);
    }
}

/// Calls amid 1,621 mappings, in the same address space again and again: it is as before, each
/// time that one fails.
#[test]
fn calls_amid_many_mappings_survive_every_refusal() {
    let mut tried = Points::default();
    let mut calls = anywhere();
    calls.extend(on_kinds());
    // So much may not be locked.
    calls.retain(|call| call.name != "mlockall");
    for call in &calls {
        let points = match call.leaves {
            Leaves::Nothing => refuse_in_one(call),
            _ => refuse_in_each(call),
        };
        tried.add_all(points);
    }
    testkit::report(&format!(
        "calls, many, each alone or with all that follow, seed {SEED:#x}: {tried}"
    ));
    tried.assert_cover(OF_PAGES);
}

/// A call that leaves nothing where it fails, in one address space until it succeeds.
fn refuse_in_one(call: &Call) -> Points {
    let (ground, mut points) = (Ground::new(), Points::default());
    let alive = live();
    let mut family: Family = many(ground);
    let (before, imprint) = (family.strict(), family.imprint());
    let mut kinds = Vec::new();
    for at in 0.. {
        ground.pool.release_reserve();
        let act = || refusing(coin(at), || (call.act)(&mut family.space));
        let ((result, refused), taken) = noting(act);
        kinds.extend(refused.first);
        if let Err(errno) = result {
            let is_documented = refused.times > 0 && call.errnos.contains(&errno);
            assert!(is_documented, "{} at {at}: {errno:?}", call.name);
            if family.imprint() != imprint {
                same(&family.strict(), &before, call.name);
                panic!("{} at {at}: something changed", call.name);
            }
            continue;
        }
        let tables = family.tables_among(&taken, None);
        for (at, kind) in (0..).zip(kinds.drain(..)) {
            points.add(table_or(kind, at, &tables));
        }
        break;
    }
    family.check();
    drop((before, kinds));
    family.end(alive);
    points
}

/// A call that leaves something, in a new address space each time.
fn refuse_in_each(call: &Call) -> Points {
    let mut points = Points::default();
    for at in 0.. {
        let ground = Ground::new();
        let alive = live();
        let mut family: Family = many(ground);
        ground.pool.release_reserve();
        let act = || refusing(coin(at), || (call.act)(&mut family.space));
        let ((result, refused), taken) = noting(act);
        let tables = family.tables_among(&taken, None);
        if let Err(errno) = result {
            let is_documented = refused.times > 0 && call.errnos.contains(&errno);
            assert!(is_documented, "{} at {at}: {errno:?}", call.name);
        }
        family.check();
        drop((tables, taken));
        family.end(alive);
        match refused.first {
            Some(kind) => points.add(kind),
            None => break,
        }
    }
    points
}
