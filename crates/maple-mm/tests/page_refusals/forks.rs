//! Every allocation of every fork refused in turn, and every fork cancelled wherever it asks.

use std::collections::BTreeSet;

use maple_mm::paging::PhysMemory;
use maple_mm::{Errno, ForkPlan, PageStrategy};

use crate::allocator::{Refuse, live, refusing};
use crate::build::{Build, Ground, huge, inherited, many, mixed, plain};
use crate::common::paged::plans;
use crate::family::{Caller, Family};
use crate::points::{Kind, Points};
use crate::scarce::noting;
use crate::{MODES, Mode, either, same, table_or};

/// How closely is looked at what a failure leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// At everything, every time; each allocation is refused alone, and with all that follow.
    Full,
    /// At the contents of pages now and then, and where it is pages or tables that are refused:
    /// the parent is the same all the time, so what one failure spoils is seen later. Each
    /// allocation is refused in one of both ways, as a coin falls.
    Quick { seed: u64 },
}

impl Care {
    fn modes(self, at: u64) -> &'static [Mode] {
        match self {
            Self::Full => &MODES,
            Self::Quick { seed } => either(seed, at),
        }
    }

    fn looks_at_pages(self, at: u64, kind: Option<Kind>) -> bool {
        let is_seldom = matches!(kind, None | Some(Kind::Node | Kind::Vma));
        self == Self::Full || at.is_multiple_of(64) || !is_seldom
    }
}

/// A parent, how it is now, and what its child is like.
struct Trial<O> {
    family: Family<O>,
    plan: ForkPlan,
    strict: String,
    imprint: u64,
    of_mappings: u64,
    used: usize,
    child: String,
    tables: BTreeSet<u64>,
}

/// What a child shows that was made some other way.
fn portrait<O: Caller>(child: &O) -> String {
    let child = child.space();
    let lines = child
        .vmas()
        .map(|vma| format!("{} {:?}\n", child.maps_line(vma), vma.flags()));
    let text: String = lines.collect();
    format!("{text}{:?}", child.statistics())
}

impl<O: Caller> Trial<O> {
    fn new(mut family: Family<O>, plan: ForkPlan) -> Self {
        family.pool.release_reserve();
        let fork = || refusing(Refuse::None, || family.space.fork_with(plan, || false)).0;
        let (child, taken) = noting(fork);
        let child = child.expect("there is memory");
        let tables = family.tables_among(&taken, Some(&child));
        family.check_with(Some(&child));
        let text = portrait(&child);
        drop(child);
        Self {
            strict: family.strict(),
            imprint: family.imprint(),
            of_mappings: family.imprint_of_mappings(),
            used: family.memory.in_use(),
            child: text,
            family,
            plan,
            tables,
        }
    }

    #[track_caller]
    fn check_parent(&self, context: (u64, &str), looks_at_pages: bool) {
        let (at, why) = context;
        let is_same = self.family.imprint_of_mappings() == self.of_mappings
            && self.family.memory.in_use() == self.used
            && (!looks_at_pages || self.family.imprint() == self.imprint);
        if !is_same {
            let context = format!("{:?}, {why} at {at}", self.plan);
            same(&self.family.strict(), &self.strict, &context);
            panic!("{context}: something changed");
        }
    }

    /// Says what was refused first.
    fn refuse(&mut self, at: u64, mode: Mode, care: Care) -> Option<Kind> {
        self.family.pool.release_reserve();
        let (plan, space) = (self.plan, &mut self.family.space);
        let (forked, refused) = refusing(mode(at), || space.fork_with(plan, || false));
        match forked {
            // A tree asks for more nodes than it needs, and makes do with fewer.
            Ok(child) if care.looks_at_pages(at, None) => {
                same(&portrait(&child), &self.child, "a child");
                self.family.check_with(Some(&child));
            }
            Ok(child) => assert_eq!(child.space().validate(), Ok(())),
            Err(errno) => assert_eq!((errno, refused.times > 0), (Errno::ENOMEM, true)),
        }
        let kind = refused.first.map(|kind| table_or(kind, at, &self.tables));
        self.check_parent((at, "refused"), care.looks_at_pages(at, kind));
        if care == Care::Full {
            self.family.check();
        }
        kind
    }

    /// Says whether there was anything left to cancel.
    fn cancel(&mut self, at: u64, care: Care) -> bool {
        let (plan, space) = (self.plan, &mut self.family.space);
        let mut asked = 0;
        let forked = space.fork_with(plan, || {
            asked += 1;
            asked > at
        });
        let forked = forked.map(drop);
        match forked {
            Ok(()) => assert!(asked <= at, "{plan:?}: asked {asked} times, in vain"),
            Err(errno) => assert_eq!((errno, asked), (Errno::EINTR, at + 1), "{plan:?}"),
        }
        self.check_parent((at, "cancelled"), care.looks_at_pages(at, None));
        forked.is_err()
    }

    fn end(self, alive: i64) {
        let Self {
            family,
            strict,
            child,
            tables,
            ..
        } = self;
        family.check();
        same(&family.strict(), &strict, "in the end");
        drop((strict, child, tables));
        family.end(alive);
    }
}

fn refuse_each<O: Caller>(trial: &mut Trial<O>, care: Care) -> Points {
    let mut points = Points::default();
    for at in 0.. {
        let before = points.total();
        for mode in care.modes(at) {
            if let Some(kind) = trial.refuse(at, *mode, care) {
                points.add(kind);
            }
        }
        if points.total() == before {
            break;
        }
    }
    points
}

pub(crate) fn fork_all(name: &str, build: Build, care: Care) {
    fork_each(name, build, care);
}

pub(crate) fn fork_each<O: Caller>(name: &str, build: Build<O>, care: Care) {
    fork_by(plans(), name, build, care);
}

fn fork_by<O: Caller>(
    plans: impl Iterator<Item = ForkPlan>,
    name: &str,
    build: Build<O>,
    care: Care,
) {
    let mut all = Points::default();
    for plan in plans {
        let ground = Ground::new();
        let alive = live();
        let mut trial = Trial::new(build(ground), plan);
        let points = refuse_each(&mut trial, care);
        let cancelled = (0..).take_while(|at| trial.cancel(*at, care)).count();
        let mappings = trial.family.space.space().map_count();
        trial.end(alive);
        let (mapped, pages) = (plan.mappings.name(), plan.pages.name());
        println!("fork, {name}, {mapped} + {pages}: {points}; cancelled {cancelled} times");
        if plan.mappings.is_eager() {
            points.assert_cover(&[Kind::Node, Kind::Vma]);
            assert!(cancelled >= mappings, "it is asked at each of {mappings}");
        }
        assert!(cancelled > 0);
        all.add_all(points);
    }
    testkit::report(&format!("forks, {name}, {care:?}: {all}"));
    all.assert_cover(&[Kind::Node, Kind::Vma, Kind::Table]);
}

#[test]
fn forks_of_plain_mappings_survive_every_refusal_and_cancel() {
    fork_all("plain", plain, Care::Full);
}

#[test]
fn forks_of_mixed_mappings_survive_every_refusal_and_cancel() {
    fork_all("mixed", mixed, Care::Full);
}

#[test]
fn forks_amid_those_that_share_survive_every_refusal_and_cancel() {
    fork_all("inherited", inherited, Care::Full);
}

#[test]
fn forks_of_huge_pages_survive_every_refusal_and_cancel() {
    fork_all("huge", huge, Care::Full);
}

/// They take the longest of all, so there are two for the processors to share.
fn fork_many(pages: PageStrategy) {
    let plans = plans().filter(|plan| plan.pages == pages);
    let build: Build = many;
    fork_by(plans, "many", build, Care::Quick { seed: 0x5eed });
}

#[test]
fn forks_of_many_mappings_survive_every_refusal_and_cancel_where_pages_are_copied() {
    fork_many(PageStrategy::Copy);
}

#[test]
fn forks_of_many_mappings_survive_every_refusal_and_cancel_where_tables_are_shared() {
    fork_many(PageStrategy::Share);
}
