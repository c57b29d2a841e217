//! Every promise of memory refused in turn: the commit limit of overcommit mode 2.

use maple_mm::{Errno, ForkPlan, Overcommit};

use crate::allocator::live;
use crate::build::{Build, Ground, inherited, many, mixed, plain};
use crate::call::Leaves;
use crate::calls::Call;
use crate::common::paged::plans;
use crate::family::Family;
use crate::points::{Kind, Points};
use crate::{all, anywhere, same};

/// What lets a family be promised what it has, and `room` pages more.
fn with_room(build: Build, room: u64) -> Ground {
    let mut ground = Ground::new();
    let limit = |limit_pages| Overcommit::Never {
        limit_pages,
        admin_reserve_pages: 0,
        user_reserve_pages: 0,
    };
    ground.overcommit = limit(1 << 40);
    let committed = build(ground).space.system().committed();
    ground.pool.release_reserve();
    // The sum must stay below the limit.
    ground.overcommit = limit(committed + room + 1);
    ground
}

/// Makes `call` with room for more and more pages, until it succeeds.
fn refuse_each(build: Build, call: &Call) -> Points {
    let mut points = Points::default();
    for room in 0.. {
        let mut family = build(with_room(build, room));
        let before = family.strict();
        let Err(errno) = (call.act)(&mut family.space) else {
            family.check();
            return points;
        };
        // LINUX: a stack that cannot grow ends the program with a signal.
        let is_stack = call.name.starts_with("a stack");
        let expected = if is_stack {
            Errno::EFAULT
        } else {
            Errno::ENOMEM
        };
        let context = format!("{} with room for {room}", call.name);
        assert_eq!(errno, expected, "{context}");
        if call.name.starts_with("mmap") {
            // LINUX: a fixed range leaves the mappings split that it had cut.
            let untouched = build(Ground::new()).visible_joined();
            same(&family.visible_joined(), &untouched, &context);
        } else if call.leaves == Leaves::Nothing {
            same(&family.strict(), &before, &context);
        } else {
            check_parts(build, call, &mut family);
        }
        family.check();
        points.add(Kind::Charge);
        assert!(room < 1000, "{context}: it never succeeds");
    }
    points
}

/// What programs see is what one of the call's parts does, or what was before.
fn check_parts(build: Build, call: &Call, family: &mut Family) {
    let seen = family.visible();
    let is_like = |act: &dyn Fn(&mut Family)| {
        let mut other = build(Ground::new());
        act(&mut other);
        other.visible() == seen
    };
    let is_part = |part: &crate::calls::Act| {
        is_like(&|other| {
            let _: Result<u64, Errno> = part(&mut other.space);
        })
    };
    let is_expected = is_like(&|_| {}) || call.parts.iter().any(is_part);
    assert!(is_expected, "{}:\n{seen}", call.name);
}

fn promise_all(name: &str, build: Build, calls: &[Call]) {
    let mut tried = Points::default();
    let mut count = 0;
    for call in calls {
        let points = refuse_each(build, call);
        count += usize::from(points.total() > 0);
        tried.add_all(points);
    }
    testkit::report(&format!("promises to {count} calls, {name}: {tried}"));
    assert!(count > 5);
}

#[test]
fn a_promise_that_is_refused_changes_nothing() {
    promise_all("plain", plain, &anywhere());
    promise_all("mixed", mixed, &all());
    promise_all("inherited", inherited, &all());
}

/// Forks with room for one page less than the child needs, and for none; then with enough.
fn fork_at(build: Build, plan: ForkPlan) -> Points {
    let mut points = Points::default();
    let mut unlimited = build(Ground::new());
    let child = unlimited.space.fork_with(plan, || false).unwrap();
    let needed = child.statistics().committed;
    drop((unlimited, child));
    for room in [0, needed / 2, needed - 1] {
        let ground = with_room(build, room);
        let alive = live();
        let mut family = build(ground);
        let before = family.strict();
        let forked = family.space.fork_with(plan, || false);
        assert_eq!(forked.map(drop), Err(Errno::ENOMEM), "{plan:?}");
        same(&family.strict(), &before, "fork");
        drop(before);
        family.end(alive);
        points.add(Kind::Charge);
    }
    let mut family = build(with_room(build, needed));
    let child = family.space.fork_with(plan, || false).unwrap();
    family.check_with(Some(&child));
    points
}

#[test]
fn a_fork_that_is_promised_too_little_leaves_nothing() {
    let builds: [(&str, Build); 4] = [
        ("plain", plain),
        ("mixed", mixed),
        ("inherited", inherited),
        ("many", many),
    ];
    for (name, build) in builds {
        let mut tried = Points::default();
        plans().for_each(|plan| tried.add_all(fork_at(build, plan)));
        testkit::report(&format!("promises to forks, {name}: {tried}"));
    }
}
