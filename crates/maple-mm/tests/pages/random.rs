//! Random lives of address spaces, with the host as the processor; and that pages change nothing
//! about mappings.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::common::eager_rcu::EagerRcu;
use crate::common::owner::Owner;
use crate::common::paged::{
    Memory, Paging, REGULAR, Shared, check, contents, frames, layout, opened, plans, shared, space,
};
use crate::common::random::{Calls, portrait};
use crate::world::{ARENA, Program, World};
use maple_mm::paging::PhysMemory;
use maple_mm::{AddressSpace, Fault, ForkPlan, PageStrategy, Setup};
use maple_tree::{EpochRcu, Rcu};

impl<O> Program for O
where
    O: Owner<Pages: Paging<Memory = Memory>>,
{
    type Pages = O::Pages;

    fn space(&self) -> impl Deref<Target = AddressSpace<O::Pages>> {
        Owner::space(self)
    }

    fn space_mut(&mut self) -> impl DerefMut<Target = AddressSpace<O::Pages>> {
        Owner::space_mut(self)
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

    fn settle(&self) {
        Owner::settle(self);
    }
}

/// A life on a memory of its own, of which nothing may be left.
fn live<O>(first: fn(&Memory) -> O, (seed, plan): (u64, Option<ForkPlan>)) -> Vec<String>
where
    O: Owner<Pages: Paging<Memory = Memory>>,
{
    let memory = frames(8192);
    let log = World::new(seed, plan, first(&memory)).run(500);
    if O::IS_SHARED {
        EpochRcu.barrier();
    }
    assert_eq!(memory.in_use(), 0, "frames were leaked");
    log
}

/// One where nothing waits that nobody looks at.
fn eager(memory: &Memory) -> Shared<Memory, Arc<EagerRcu>> {
    shared(memory, Arc::new(EagerRcu::new()))
}

/// One where everything waits for a while.
fn epochs(memory: &Memory) -> Shared {
    shared(memory, EpochRcu)
}

/// Each time in another way, or always so.
pub(crate) fn ways_to_fork() -> [Option<ForkPlan>; 3] {
    [None, Some(PageStrategy::Copy), Some(PageStrategy::Share)].map(|pages| {
        let pages = pages?;
        Some(ForkPlan {
            pages,
            ..ForkPlan::default()
        })
    })
}

/// Lives a life as another one was, whose log this is.
fn live_as<O>(expected: &[String], first: fn(&Memory) -> O, life: (u64, Option<ForkPlan>))
where
    O: Owner<Pages: Paging<Memory = Memory>>,
{
    let (seed, plan) = life;
    let run = std::panic::catch_unwind(|| live(first, life));
    let Ok(log) = run else {
        panic!("seed {seed}, {plan:?}");
    };
    for (step, (log, expected)) in log.iter().zip(expected).enumerate() {
        assert_eq!(log, expected, "seed {seed}, {plan:?}, step {step}");
    }
}

#[test]
fn random_lives_are_what_the_model_says_however_they_fork() {
    for seed in 0..60 {
        let [first, others @ ..] = ways_to_fork();
        let expected = live(space, (seed, first));
        for plan in others {
            live_as(&expected, space, (seed, plan));
        }
    }
}

/// The same calls come to the same where tables have locks, memory waits for readers, and nothing
/// but calls waits for the lock of the address space.
#[test]
fn random_lives_are_the_same_in_shared_address_spaces() {
    for seed in 0..40 {
        let expected = live(space, (seed, None));
        for plan in ways_to_fork() {
            live_as(&expected, eager, (seed, plan));
        }
        if seed % 8 == 0 {
            live_as(&expected, epochs, (seed, None));
        }
    }
}

/// Files with pages and without are the same to mappings, and so are address spaces: how many
/// calls showed it.
fn compare_with_bare<O>(first: fn(&Memory) -> O, seeds: u64) -> u64
where
    O: Owner<Pages: Paging>,
{
    let mut compared = 0;
    for seed in 0..seeds {
        let memory = frames(4096);
        let setup = || Setup {
            layout: layout(),
            ..Setup::default()
        };
        let mut bare = AddressSpace::from_layout(setup(), []).expect("an empty layout");
        let mut paged = first(&memory);
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
            let seen = portrait(&Owner::space(&paged));
            assert_eq!(seen, portrait(&bare), "seed {seed}, step {step}");
            if calls.rng().one_in(30) {
                again.rng().one_in(30);
                let plan = plans().nth(calls.rng().index(12)).expect("twelve plans");
                bare = bare.fork_with(plan, || false).expect("memory");
                paged = paged.fork_with(plan, || false).expect("memory");
            }
        }
        Owner::settle(&paged);
        check(&[&Owner::space(&paged)]);
    }
    compared
}

#[test]
fn pages_change_nothing_about_mappings() {
    let compared = compare_with_bare(space, 120);
    assert!(compared > 120 * 150, "only {compared} calls were compared");
}

#[test]
fn shared_pages_change_nothing_about_mappings() {
    let compared = compare_with_bare(eager, 60);
    assert!(compared > 60 * 150, "only {compared} calls were compared");
}
