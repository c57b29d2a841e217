//! Every allocation of every fork refused in turn.

use std::sync::atomic::Ordering;

use maple_mm::{Errno, ForkStrategy};

use crate::allocator::{Refuse, live, refusing};
use crate::common::random::portrait;
use crate::points::{Kind, Points};
use crate::spaces::{
    Build, Family, alone, assorted, end, inherited, mixed, new_machine, plain, same,
};

/// How each allocation is refused.
#[derive(Clone, Copy, Debug)]
enum Modes {
    /// Alone, and with all that follow.
    Both,
    /// One of both, as a coin falls.
    Either { seed: u64 },
}

impl Modes {
    fn at(self, at: u64) -> Vec<Refuse> {
        match self {
            Self::Both => vec![Refuse::Once(at), Refuse::From(at)],
            Self::Either { seed } => {
                let coin = (at ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63;
                vec![[Refuse::Once(at), Refuse::From(at)][coin as usize]]
            }
        }
    }
}

/// A family that forks, and how it is now.
struct Trial {
    family: Family,
    strict: String,
    imprint: u64,
    child: String,
}

impl Trial {
    fn new(mut family: Family, strategy: ForkStrategy) -> Self {
        let child = family.space.fork_with(strategy, || false).unwrap();
        let child_text = portrait(&child);
        drop(child);
        Self {
            strict: family.strict(),
            imprint: family.imprint(),
            child: child_text,
            family,
        }
    }

    /// Says what was refused first.
    fn fork(&mut self, strategy: ForkStrategy, refuse: Refuse) -> Option<Kind> {
        let machine = self.family.machine;
        machine.pool.release_reserve();
        let ever = machine.hooks.ever.load(Ordering::Relaxed);
        let act = || self.family.space.fork_with(strategy, || false);
        let (forked, refused) = refusing(refuse, act);
        match forked {
            // A tree asks for more nodes than it needs, and makes do with fewer.
            Ok(child) => {
                same(&portrait(&child), &self.child, strategy.name());
            }
            Err(errno) => {
                assert_eq!((errno, refused.times > 0), (Errno::ENOMEM, true));
                assert_eq!(machine.hooks.ever.load(Ordering::Relaxed), ever);
            }
        }
        if self.family.imprint() != self.imprint {
            let context = format!("{} with {refuse:?}", strategy.name());
            same(&self.family.strict(), &self.strict, &context);
            panic!("{context}: something changed");
        }
        refused.first
    }
}

fn fork_each(build: Build, strategy: ForkStrategy, modes: Modes) -> Points {
    let machine = new_machine();
    let alive = live();
    let mut trial = Trial::new(build(machine), strategy);
    let mut points = Points::default();
    for at in 0.. {
        let refused: Vec<_> = modes
            .at(at)
            .into_iter()
            .filter_map(|refuse| trial.fork(strategy, refuse))
            .collect();
        refused.iter().for_each(|kind| points.add(*kind));
        if refused.is_empty() {
            break;
        }
    }
    let Trial {
        family,
        strict,
        child,
        ..
    } = trial;
    same(&family.strict(), &strict, strategy.name());
    drop((strict, child));
    end(family, alive);
    points
}

fn fork_all(name: &str, build: Build, modes: Modes) {
    for strategy in ForkStrategy::ALL {
        let points = fork_each(build, strategy, modes);
        testkit::report(&format!(
            "fork, {name}, {}, {modes:?}: {points}",
            strategy.name()
        ));
        if strategy.is_eager() {
            points.assert_cover(&[Kind::Node, Kind::Vma]);
        }
    }
}

#[test]
fn forks_of_few_mappings_survive_every_refusal() {
    fork_all("plain", plain, Modes::Both);
    fork_all("mixed", mixed, Modes::Both);
    fork_all("inherited", inherited, Modes::Both);
}

#[test]
fn forks_of_many_mappings_survive_every_refusal() {
    let many: Build = |machine| alone(assorted(machine, 1620), machine);
    fork_all("many", many, Modes::Either { seed: 0x5eed });
}
