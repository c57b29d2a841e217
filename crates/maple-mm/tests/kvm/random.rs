//! Random lives, loads and stores made by the guest: the model of what is where is the one that
//! the host's own accesses are held against.

use maple_mm::{ForkPlan, PageStrategy};

use crate::host::{Case, Host, case};
use crate::program::Program;
use crate::world::World;

const SEEDS: u64 = 3;
const STEPS: u32 = 400;

pub(crate) fn all() -> Vec<Case> {
    let plans = [
        ("copy", Some(PageStrategy::Copy)),
        ("share", Some(PageStrategy::Share)),
        ("however they fork", None),
    ];
    let mut cases = Vec::new();
    for seed in 0x6b76..0x6b76 + SEEDS {
        for (name, pages) in plans {
            let name = format!("a random life with seed {seed:#x}, {name}");
            cases.push(case(name, move |host| live(host, seed, pages)));
        }
    }
    cases
}

fn live(host: &Host, seed: u64, pages: Option<PageStrategy>) {
    let plan = pages.map(|pages| ForkPlan {
        pages,
        ..ForkPlan::default()
    });
    World::new(seed, plan, Program::new(host)).run(STEPS);
}
