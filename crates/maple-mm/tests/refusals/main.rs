//! Every allocation of every call refused in turn: the call ends in the documented error and
//! leaves what Linux leaves, which mostly is nothing; memory is never a reason to abort.
//!
//! Each mapping and each node is an allocation of its own here, and the allocator of this program
//! refuses the k-th of a call, or all from the k-th on, for every k.

mod allocator;
mod call;
mod calls;
#[path = "../common/mod.rs"]
mod common;
mod forks;
mod limits;
mod points;
mod spaces;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use allocator::{Refuse, live, refusing};
use call::Leaves;
use calls::{Act, Call};
use maple_mm::{AddressSpace, Errno, LayoutError, Setup, VmaSpec};
use points::{Kind, Points};
use spaces::{
    Build, Machine, assorted, empty, end, inherited, mixed, new_machine, plain, prepare, same,
};

/// What the call does when it gets all its memory, and what it may leave when it does not.
struct Expected {
    result: Result<u64, Errno>,
    after: String,
    partly: Vec<String>,
}

fn expected(build: Build, call: &Call, machine: Machine) -> Expected {
    let run = |act: &Act| {
        let mut family = build(machine);
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

/// Makes `call` once with `refuse`. Says what was refused first.
fn try_once(build: Build, call: &Call, expected: &Expected, refuse: Refuse) -> Option<Kind> {
    let machine = new_machine();
    let live = live();
    let mut family = build(machine);
    prepare(&mut family.space);
    let before = family.strict();
    let ever = machine.hooks.ever.load(Ordering::Relaxed);
    machine.pool.release_reserve();
    let (result, refused) = refusing(refuse, || (call.act)(&mut family.space));
    let context = format!("{} with {refuse:?}", call.name);
    if refused.times == 0 {
        assert_eq!(result, expected.result, "{context}");
    }
    match (result, call.leaves) {
        (Ok(_), Leaves::Anything) => family.space.validate().unwrap(),
        // LINUX: what could not be brought in does not count; programs see no difference.
        (Ok(_), _) => same(&family.visible(), &expected.after, &context),
        (Err(errno), leaves) => {
            assert!(call.errnos.contains(&errno), "{context}: {errno:?}");
            if leaves == Leaves::Nothing && call.name != "keep_history" {
                assert_eq!(
                    machine.hooks.ever.load(Ordering::Relaxed),
                    ever,
                    "{context}"
                );
            }
            if leaves == Leaves::Nothing {
                same(&family.strict(), &before, &context);
            } else {
                family.space.validate().unwrap();
                assert!(expected.partly.contains(&family.visible()), "{context}");
            }
            assert_eq!(
                (call.act)(&mut family.space),
                expected.result,
                "{context}, then again"
            );
            same(&family.visible(), &expected.after, &context);
        }
    }
    drop((before, context));
    end(family, live);
    refused.first
}

fn fail_all(name: &str, build: Build) {
    let mut tried = Points::default();
    for call in &calls::all() {
        let expected = expected(build, call, new_machine());
        for refuse in [Refuse::Once as fn(u64) -> Refuse, Refuse::From] {
            let points = (0..).map_while(|at| try_once(build, call, &expected, refuse(at)));
            points.for_each(|kind| tried.add(kind));
        }
    }
    testkit::report(&format!("calls, {name}: {tried}"));
    tried.assert_cover(&[Kind::Node, Kind::Vma, Kind::Other]);
    assert!(tried.total() > 200, "that shows little");
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
    let machine = new_machine();
    let template = assorted(machine, 20);
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
    let system = empty(machine).system().clone();
    let setup = || Setup {
        system: Arc::clone(&system),
        ..Setup::default()
    };
    for at in 0.. {
        let setup = setup();
        machine.pool.release_reserve();
        let (made, refused) = refusing(Refuse::Once(at), || {
            AddressSpace::from_layout(setup, specs())
        });
        if refused.times == 0 {
            testkit::report(&format!("a layout: {at} failure points"));
            assert_eq!(made.unwrap().map_count(), 21);
            break;
        }
        assert!(made.is_err_and(|error| error == LayoutError::OutOfNodes));
        assert_eq!((machine.pool.in_use(), system.committed()), (21, 0));
    }
}
