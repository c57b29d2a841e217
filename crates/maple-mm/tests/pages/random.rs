//! Random lives of address spaces, with the host as the processor; and that pages change nothing
//! about mappings.

use crate::common::paged::{REGULAR, Space, check, contents, frames, layout, opened, plans, space};
use crate::common::random::{Calls, portrait};
use crate::world::{ARENA, Program, World};
use maple_mm::paging::{NoTlb, PhysMemory};
use maple_mm::{AddressSpace, Fault, ForkPlan, PageStrategy, Setup};

impl Program for Space {
    type Flusher = NoTlb;

    fn space(&self) -> &Space {
        self
    }

    fn space_mut(&mut self) -> &mut Space {
        self
    }

    fn load(&mut self, addr: u64) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        let read = self.read(addr, &mut bytes);
        read.map(|()| u64::from_ne_bytes(bytes))
            .map_err(|end| end.fault)
    }

    fn store(&mut self, addr: u64, word: u64) -> Result<(), Fault> {
        self.write(addr, &word.to_ne_bytes())
            .map_err(|end| end.fault)
    }

    fn fork(&mut self, plan: ForkPlan) -> Self {
        self.fork_with(plan, || false).expect("memory")
    }
}

/// A life on a memory of its own, of which nothing may be left.
fn live(seed: u64, plan: Option<ForkPlan>) -> Vec<String> {
    let memory = frames(8192);
    let log = World::new(seed, plan, space(&memory)).run(500);
    assert_eq!(memory.in_use(), 0, "frames were leaked");
    log
}

#[test]
fn random_lives_are_what_the_model_says_however_they_fork() {
    let plans = [None, Some(PageStrategy::Copy), Some(PageStrategy::Share)];
    for seed in 0..60 {
        let mut expected: Option<Vec<String>> = None;
        for pages in plans {
            let plan = pages.map(|pages| ForkPlan {
                pages,
                ..ForkPlan::default()
            });
            let run = std::panic::catch_unwind(|| live(seed, plan));
            let Ok(log) = run else {
                panic!("seed {seed}, {plan:?}");
            };
            let expected = expected.get_or_insert_with(|| log.clone());
            for (step, (log, expected)) in log.iter().zip(expected.iter()).enumerate() {
                assert_eq!(log, expected, "seed {seed}, {plan:?}, step {step}");
            }
        }
    }
}

/// Files with pages and without are the same to mappings, and so are address spaces.
#[test]
fn pages_change_nothing_about_mappings() {
    let mut compared = 0;
    for seed in 0..120 {
        let memory = frames(4096);
        let setup = || Setup {
            layout: layout(),
            ..Setup::default()
        };
        let mut bare = AddressSpace::from_layout(setup(), []).expect("an empty layout");
        let mut paged = space(&memory);
        let files = [1, 2, 3].map(|id| {
            let pages = contents(&memory, ARENA, 0);
            opened(id, REGULAR, &pages)
        });
        let mut calls = Calls::with_files(seed, files.to_vec());
        for step in 0..200 {
            let mut again = calls.clone();
            let expected = again.step(&mut bare);
            let seen = calls.step(&mut paged);
            // Shared memory that grew ends where it ended when it was made, and guards are met;
            // only pages show that.
            let is_by_pages = ["Err(Bus)", "Err(NotMapped)", "Err(EFAULT)", "Err(ENOMEM)"];
            if expected == "Ok(())" && is_by_pages.contains(&seen.as_str()) {
                break;
            }
            assert_eq!(seen, expected, "seed {seed}, step {step}");
            compared += 1;
            assert_eq!(
                portrait(&paged),
                portrait(&bare),
                "seed {seed}, step {step}"
            );
            if calls.rng().one_in(30) {
                again.rng().one_in(30);
                let plan = plans().nth(calls.rng().index(12)).expect("twelve plans");
                bare = bare.fork_with(plan, || false).expect("memory");
                paged = paged.fork_with(plan, || false).expect("memory");
            }
        }
        check(&[&paged]);
    }
    assert!(compared > 120 * 150, "only {compared} calls were compared");
}
