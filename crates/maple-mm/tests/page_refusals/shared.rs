//! The same calls and forks of address spaces that are shared, where what readers may have seen
//! stays; and sharing one.

use std::sync::Arc;

use maple_mm::paging::{Beside, NoTlb};
use maple_mm::{AddressSpace, Errno, MappedPages, SharedAddressSpace, TreeNodes};
use maple_tree::GlobalNodes;

use crate::allocator::{Refuse, live, refusing};
use crate::build::{Build, Ground, Made, huge, inherited, mixed};
use crate::calls::Call;
use crate::common::eager_rcu::EagerRcu;
use crate::common::paged::{Shared, SideBeside};
use crate::family::Family;
use crate::forks::{Care, fork_each};
use crate::points::{Kind, Points};
use crate::scarce::Scarce;
use crate::{OF_PAGES, SEED, all, coin, fail_each, same};

/// What waits does so only while somebody looks, and takes no memory of its own.
type Waiting = Arc<EagerRcu>;
type Side = SideBeside<Scarce, Waiting>;
type Ours = Shared<Scarce, Waiting>;

fn waiting() -> Waiting {
    Arc::new(EagerRcu::new())
}

impl Made for Side {
    fn made(memory: Scarce) -> Self {
        let nodes = TreeNodes::new(&GlobalNodes);
        let company = Beside::new(waiting()).with_nodes(nodes);
        let side = MappedPages::beside(memory, NoTlb, company).expect("a frame for the root");
        Self::new(side).expect("memory")
    }
}

impl Family<AddressSpace<Side>> {
    fn shared(self) -> Family<Ours> {
        let Self {
            space,
            others,
            pool,
            memory,
            tables,
        } = self;
        let share = |space| SharedAddressSpace::new(space, waiting()).expect("nodes");
        Family {
            space: share(space),
            others: others.into_iter().map(share).collect(),
            pool,
            memory,
            tables,
        }
    }
}

fn fail(name: &str, build: Build<Ours>, calls: &[Call<Ours>]) {
    println!("each alone or with all that follow, seed {SEED:#x}");
    fail_each(name, build, (calls, &[coin])).assert_cover(OF_PAGES);
}

/// Each third, where all take long.
fn some(calls: Vec<Call<Ours>>) -> Vec<Call<Ours>> {
    calls.into_iter().step_by(3).collect()
}

#[test]
fn calls_on_shared_address_spaces_survive_every_refusal() {
    fail("shared", |ground| mixed::<Side>(ground).shared(), &all());
}

#[test]
fn calls_on_shared_address_spaces_amid_those_that_share_survive_every_refusal() {
    let build = |ground| inherited::<Side>(ground).shared();
    fail("shared, inherited", build, &some(all()));
}

/// Frames for huge pages that may come to lie over an edge are refused, too.
#[test]
fn calls_amid_huge_pages_in_shared_address_spaces_survive_every_refusal() {
    let build = |ground| huge::<Side>(ground).shared();
    fail("shared, huge", build, &crate::huge::all());
}

#[test]
fn forks_of_shared_address_spaces_survive_every_refusal_and_cancel() {
    let care = Care::Quick { seed: SEED };
    fork_each("shared", |ground| mixed::<Side>(ground).shared(), care);
    let build = |ground| inherited::<Side>(ground).shared();
    fork_each("shared, inherited", build, care);
}

#[test]
fn an_address_space_that_cannot_be_shared_ends() {
    let mut tried = Points::default();
    for at in 0.. {
        let ground = Ground::new();
        let alive = live();
        let mut parent = mixed::<Side>(ground);
        // What was written hangs on a chain from the first fork on.
        drop(parent.space.fork());
        parent.pool.release_reserve();
        let (before, rcu) = (parent.strict(), waiting());
        // It has no nodes left over from calls.
        let child = parent.space.fork().expect("memory");
        let share = || SharedAddressSpace::new(child, rcu);
        let (shared, refused): (Result<Ours, Errno>, _) = refusing(Refuse::Once(at), share);
        refused.first.into_iter().for_each(|kind| tried.add(kind));
        let is_shared = shared.map(drop);
        same(&parent.strict(), &before, "what it shared with");
        parent.check();
        drop(before);
        parent.end(alive);
        if is_shared.is_ok() {
            assert_eq!(refused.times, 0);
            break;
        }
        assert_eq!((is_shared, refused.times), (Err(Errno::ENOMEM), 1));
    }
    println!("sharing: {tried}");
    assert!(tried.total() >= 2 && tried.of(Kind::Node) == tried.total());
}
