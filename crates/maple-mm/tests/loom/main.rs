//! Page tables under loom: every order of the steps of threads that are beside each other in them,
//! and every value that the memory model lets each load return.
//!
//! ```text
//! cargo xtask loom
//! ```
//!
//! It is the page tables themselves that run, with two levels of two entries: see `checker` for how
//! loom gets to know of their words. A tree of mappings is a flag for each page, which a writer
//! clears before it takes the page out, and a fault looks up before it maps one, and asks again.
#![cfg(loom)]

mod checker;
mod memory;
mod models;
#[path = "../../../maple-tree/tests/loom/rcu.rs"]
mod rcu;
mod stage;

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use loom::model::Builder;
use loom::thread;

use checker::{Counters, Weakened, shadowed};
use memory::Next;
use rcu::Patience;
use stage::{Asks, Stage};

/// So many steps are more than any order has, unless a thread waits for ever.
const STEPS: usize = 20_000;

/// What is done in every order.
#[derive(Clone, Copy)]
struct Model {
    name: &'static str,
    before: fn(&Stage),
    /// What each thread does.
    threads: &'static [fn(&Stage)],
    after: fn(&Stage),
    counters: Counters,
    next: Next,
    /// How often a thread is interrupted where it would not have to wait, in one order; `None`
    /// where every order is gone through.
    preemptions: Option<usize>,
}

/// What is broken, to see that it is found.
#[derive(Clone, Copy)]
struct Planted {
    weakened: Weakened,
    patience: Patience,
    asks: Asks,
}

const SOUND: Planted = Planted {
    weakened: Weakened::Nothing,
    patience: Patience::WaitsForReaders,
    asks: Asks::Again,
};

fn run(model: Model, planted: Planted) -> usize {
    let mut builder = Builder::new();
    builder.preemption_bound = model.preemptions;
    builder.max_branches = STEPS;
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = orders.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        shadowed((planted.weakened, model.counters), || {
            let stage = Stage::new(model.next, planted.patience, planted.asks);
            // Words stay where they are from here on. After a panic threads hold tables for ever,
            // so nothing is taken down then.
            let stage = Arc::new(ManuallyDrop::new(stage));
            (model.before)(&stage);
            stage.introduce();
            let (first, others) = model.threads.split_first().unwrap();
            let spawn = |act: &'static fn(&Stage)| {
                let stage = stage.clone();
                thread::spawn(move || act(&stage))
            };
            let others: Vec<_> = others.iter().map(spawn).collect();
            first(&stage);
            for thread in others {
                thread.join().unwrap();
            }
            (model.after)(&stage);
            let stage = Arc::into_inner(stage).expect("all threads have ended");
            ManuallyDrop::into_inner(stage).settle();
        });
    });
    orders.load(Ordering::Relaxed)
}

#[track_caller]
fn check(model: Model) {
    let began = Instant::now();
    let orders = run(model, SOUND);
    let Model {
        name, preemptions, ..
    } = model;
    let seconds = began.elapsed().as_secs_f32();
    let which = preemptions.map_or_else(
        || "any number of preemptions".to_owned(),
        |most| format!("at most {most} preemptions"),
    );
    println!("{name}: {orders} schedules, {which}, {seconds:.1} s");
}

mod planted;
