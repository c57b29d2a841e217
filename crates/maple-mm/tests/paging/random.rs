//! Random operations on up to four address spaces, against the model.
//!
//! `MAPLE_MM_PAGING_SEED` and `MAPLE_MM_PAGING_STEPS` choose another run. A run that fails is
//! printed as the shortest list of operations that still fails.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use crate::model::{Op, POOL, SPACES, What, World};
use crate::support::{Memory, PAGE, memory};
use maple_mm::paging::{Arch, LeafFlags, MoveRange, Tiny, X86_64};
use testkit::SplitMix;

/// Pages where something happens: around the boundaries of tables of every level.
fn places<A: Arch>() -> Vec<u64> {
    if A::USER_END <= 512 * PAGE {
        return (0..A::USER_END).step_by(PAGE as usize).collect();
    }
    let mut places: Vec<u64> = (0..A::LEVELS)
        .map(|level| A::span(level))
        .chain([0, 5 * A::span(1), A::USER_END])
        .flat_map(|at| (0..6).map(move |page| (at + page * PAGE).saturating_sub(3 * PAGE)))
        .filter(|&addr| addr < A::USER_END)
        .collect();
    places.sort_unstable();
    places.dedup();
    places
}

struct Generator {
    rng: SplitMix,
    places: Vec<u64>,
    marks: u64,
}

impl Generator {
    fn place(&mut self) -> u64 {
        let index = self.rng.index(self.places.len());
        self.places[index]
    }

    fn range(&mut self) -> std::ops::Range<u64> {
        let (a, b) = (self.place(), self.place());
        let near = self.places.iter().filter(|&&place| place >= a).nth(3);
        match near {
            // Mostly small ranges.
            Some(&near) if !self.rng.one_in(3) => a..near,
            _ => a.min(b)..a.max(b) + PAGE,
        }
    }

    fn what(&mut self) -> What {
        self.marks += 2;
        let mark = self.marks;
        match self.rng.below(16) {
            0..8 => What::Anon(mark),
            8..10 => What::Shmem(self.rng.index(POOL)),
            10..12 => What::File(self.rng.index(POOL)),
            12..14 => What::Zero,
            14 => What::Huge(mark),
            _ => What::Explicit(mark),
        }
    }

    fn map<A: Arch>(&mut self, space: usize) -> Op {
        let what = self.what();
        let addr = self.place();
        match what {
            What::Huge(_) | What::Explicit(_) => Op::Map(space, addr & !(A::span(1) - 1), what),
            _ => Op::Map(space, addr, what),
        }
    }

    fn shift<A: Arch>(&mut self, space: usize) -> Op {
        let range = self.range();
        let len = range.end - range.start;
        let to = match self.rng.below(3) {
            // By a whole number of tables, so that these move.
            0 => {
                let table = A::span(1 + self.rng.index(A::LEVELS - 2));
                (range.start + table * self.rng.below(8)).min(A::USER_END - PAGE)
            }
            _ => self.place(),
        };
        let len = len.min(A::USER_END - to);
        let from = range.start;
        Op::Move(space, MoveRange { from, to, len })
    }

    fn op<A: Arch>(&mut self) -> Op {
        let space = self.rng.index(SPACES);
        let other = self.rng.index(SPACES);
        match self.rng.below(40) {
            0..12 => self.map::<A>(space),
            12..23 => {
                self.marks += 2;
                let mark = self.marks + self.rng.below(2);
                Op::Write(space, self.place(), mark)
            }
            23..25 => {
                let rights = [
                    LeafFlags::empty(),
                    LeafFlags::READ,
                    LeafFlags::READ | LeafFlags::WRITE,
                    LeafFlags::RIGHTS,
                ];
                let rights = self.rng.pick(&rights);
                Op::Protect(space, self.range(), rights)
            }
            25..27 => Op::Zap(space, self.range()),
            27..29 => Op::Unmap(space, self.range()),
            29..32 => self.shift::<A>(space),
            32..34 => Op::Copy(space, other),
            34..38 => Op::Share(space, other),
            38 => Op::Drop(space),
            _ => Op::Clear(space),
        }
    }
}

/// What is done when an operation runs out of frames.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frames {
    /// It does not happen.
    Enough,
    /// Each operation is tried with one more allocation granted, until it succeeds.
    OneMoreEachTime,
}

/// Runs `ops` and checks after each; how many failures were survived.
pub(crate) fn run<A: Arch>(memory: &Memory, ops: &[Op], frames: Frames) -> u64 {
    let mut world = World::<A>::new(memory);
    let mut survived = 0;
    for op in ops {
        let mut granted = 0;
        loop {
            if frames == Frames::OneMoreEachTime {
                memory.fail_after(Some(granted));
            }
            let done = world.apply(op);
            memory.fail_after(None);
            world.check();
            if done.is_ok() {
                break;
            }
            assert!(frames == Frames::OneMoreEachTime, "{op:?}: {done:?}");
            granted += 1;
            survived += 1;
        }
    }
    world.end();
    survived
}

/// Runs random operations; panics with the shortest trace found that fails.
pub(crate) fn try_seed<A: Arch>(seed: u64, steps: usize, frames: Frames) -> u64 {
    let mut generator = Generator {
        rng: SplitMix::new(seed),
        places: places::<A>(),
        marks: 0x100,
    };
    let ops: Vec<Op> = (0..steps).map(|_| generator.op::<A>()).collect();
    let attempt = |ops: &[Op]| {
        let memory = &memory(if A::USER_END <= 512 * PAGE {
            4096
        } else {
            32 * 1024
        });
        catch_unwind(AssertUnwindSafe(|| run::<A>(memory, ops, frames)))
    };
    match attempt(&ops) {
        Ok(survived) => survived,
        Err(_) => {
            let hook = take_hook();
            set_hook(Box::new(|_| {}));
            let shortest = shrink(ops, |ops| attempt(ops).is_err());
            set_hook(hook);
            eprintln!(
                "seed {seed:#x}, {} operations: {shortest:#x?}",
                shortest.len()
            );
            run::<A>(&memory(32 * 1024), &shortest, frames);
            panic!("it failed before, and not now");
        }
    }
}

/// Leaves out what is not needed to fail, in halves, quarters, and so on.
fn shrink(ops: Vec<Op>, fails: impl Fn(&[Op]) -> bool) -> Vec<Op> {
    let mut ops = ops;
    let mut chunk = ops.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + chunk).min(ops.len()));
            if fails(&fewer) {
                ops = fewer;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    ops
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

pub(crate) fn seeds<A: Arch>(usual: std::ops::Range<u64>, steps: usize, frames: Frames) -> u64 {
    // Under Miri every operation takes a thousand times as long.
    let (usual, steps) = if cfg!(miri) {
        (usual.start..usual.start + 1, 12)
    } else {
        (usual, steps)
    };
    let steps = setting("MAPLE_MM_PAGING_STEPS").map_or(steps, |steps| steps as usize);
    let seeds = setting("MAPLE_MM_PAGING_SEED").map_or(usual, |seed| seed..seed + 1);
    println!("seeds {seeds:?}, {steps} operations each");
    seeds.map(|seed| try_seed::<A>(seed, steps, frames)).sum()
}

#[test]
fn tables_of_four_entries() {
    seeds::<Tiny<2>>(0..60, 300, Frames::Enough);
}

#[test]
fn tables_of_eight_entries() {
    seeds::<Tiny<3>>(100..120, 300, Frames::Enough);
}

#[test]
fn real_tables_of_four_levels() {
    seeds::<X86_64<4>>(200..206, 150, Frames::Enough);
}

#[test]
fn real_tables_of_five_levels() {
    seeds::<X86_64<5>>(300..303, 150, Frames::Enough);
}
