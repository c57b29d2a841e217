//! Shared address spaces under shuttle: whole operations of several threads, in thousands of random
//! orders.
//!
//! ```text
//! cargo xtask shuttle
//! ```
//!
//! What is left in the end, and every answer on the way, has to be what an address space on its own
//! gives in some order: see `order`. Each test prints its seed; `SAMARA_SEED` repeats it.
#![cfg(shuttle)]

mod checker;
#[path = "../../../maple-tree/tests/loom/lock.rs"]
mod lock;
mod memory;
mod operation;
mod order;
#[path = "../../../maple-tree/tests/shuttle/rcu.rs"]
mod rcu;
mod stage;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use maple_mm::abi::{PROT_READ, PROT_WRITE};
use maple_mm::paging::sync::Rule;
use shuttle::rand::{RngCore, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, sync, thread};
use testkit::{SplitMix, fresh_seed};

use operation::{Kind, Mix, Operation, PAGES};
use stage::Stage;

/// How many orders of each kind.
const ORDERS: usize = 1000;

/// Who is there, and what is broken.
#[derive(Clone, Copy)]
struct Cast {
    threads: usize,
    operations: usize,
    mix: Mix,
    broken: Option<Rule>,
}

const ALL: Mix = Mix {
    pages: PAGES,
    kinds: &[
        Kind::Map,
        Kind::Map,
        Kind::Unmap,
        Kind::Protect,
        Kind::Protect,
        Kind::Discard,
        Kind::Fork,
        Kind::Fork,
        Kind::Write,
        Kind::Write,
        Kind::Write,
        Kind::Read,
        Kind::Read,
        Kind::Fault,
        Kind::Check,
        Kind::Moment,
    ],
};

/// Two pages in one table, which comes and goes.
const TABLE: Mix = Mix {
    pages: 2,
    kinds: &[
        Kind::Map,
        Kind::Unmap,
        Kind::Unmap,
        Kind::Write,
        Kind::Write,
        Kind::Fault,
    ],
};

/// Two pages that are shared with children.
const SHARED: Mix = Mix {
    pages: 2,
    kinds: &[
        Kind::Fork,
        Kind::Write,
        Kind::Write,
        Kind::Discard,
        Kind::Read,
    ],
};

/// Mappings that take the place of others.
const REPLACED: Mix = Mix {
    pages: 2,
    kinds: &[Kind::Map, Kind::Map, Kind::Write, Kind::Write],
};

/// Calls that show, and who looks.
const SHOWN: Mix = Mix {
    pages: PAGES,
    kinds: &[Kind::Map, Kind::Unmap, Kind::Moment, Kind::Moment],
};

const TWO: Cast = Cast {
    threads: 2,
    operations: 5,
    mix: ALL,
    broken: None,
};

const THREE: Cast = Cast {
    threads: 3,
    operations: 3,
    ..TWO
};

fn play(cast: Cast) {
    let stage = Arc::new(Stage::new(cast.broken));
    stage.take(Operation::Map(0..cast.mix.pages, PROT_READ | PROT_WRITE));
    let start = |_| {
        let stage = stage.clone();
        let mut rng = SplitMix::new(thread_rng().next_u64());
        thread::spawn(move || (0..cast.operations).for_each(|_| stage.act(&cast.mix, &mut rng)))
    };
    let threads: Vec<_> = (0..cast.threads).map(start).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    Arc::into_inner(stage)
        .expect("all threads have ended")
        .settle();
}

/// Goes through orders, and counts them.
fn run(cast: Cast, scheduler: impl Scheduler + 'static, orders: Arc<AtomicUsize>) {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    Runner::new(scheduler, config).run(move || {
        orders.fetch_add(1, Ordering::Relaxed);
        play(cast);
    });
}

/// Random orders, and those that find a mistake of few interruptions with a known probability.
fn run_all(cast: Cast, seed: u64, orders: &Arc<AtomicUsize>) {
    let random = RandomScheduler::new_from_seed(seed, ORDERS);
    run(cast, random, orders.clone());
    for depth in [2, 4] {
        let few = PctScheduler::new_from_seed(seed, depth, ORDERS / 2);
        run(cast, few, orders.clone());
    }
}

fn check(name: &str, cast: Cast) {
    let seed = fresh_seed(name);
    let began = Instant::now();
    let orders = Arc::default();
    run_all(cast, seed, &orders);
    let orders = orders.load(Ordering::Relaxed);
    let seconds = began.elapsed().as_secs_f32();
    println!("{name}: {orders} schedules, {seconds:.1} s");
}

#[test]
fn two_threads_come_to_what_one_would() {
    check("two threads", TWO);
}

#[test]
fn three_threads_come_to_what_one_would() {
    check("three threads", THREE);
}

#[test]
fn pages_whose_table_comes_and_goes() {
    check(
        "a table",
        Cast {
            mix: TABLE,
            ..THREE
        },
    );
}

#[test]
fn pages_that_are_shared_with_children() {
    check(
        "children",
        Cast {
            mix: SHARED,
            ..THREE
        },
    );
}

#[test]
fn what_is_written_to_a_mapping_that_replaces_another_stays() {
    check(
        "replaced",
        Cast {
            mix: REPLACED,
            ..TWO
        },
    );
}

#[test]
fn moments_beside_calls() {
    check("moments", Cast { mix: SHOWN, ..TWO });
}

mod planted {
    use super::*;

    /// So often all schedules are gone through before it counts as not found.
    const ROUNDS: u64 = 4;

    /// What a check says of one of these.
    const REPORTS: [&str; 6] = [
        "gives what was seen",
        "that was freed",
        "is freed twice",
        "was not kept",
        "were leaked",
        "is there already",
    ];

    /// It is found in time.
    #[track_caller]
    fn assert_found(name: &str, cast: Cast) {
        // The same orders each time: a fresh seed could go by it.
        let seed = 1;
        let began = Instant::now();
        let orders = Arc::default();
        let rounds = || (0..ROUNDS).for_each(|round| run_all(cast, seed ^ round, &orders));
        let broken = AssertUnwindSafe(rounds);
        let report = catch_unwind(broken).expect_err("nothing was found");
        let words = report.downcast_ref::<String>().map(String::as_str);
        let words = words.or(report.downcast_ref::<&str>().copied()).unwrap();
        let is_one = REPORTS.iter().any(|report| words.contains(report));
        let seconds = began.elapsed().as_secs_f32();
        let orders = orders.load(Ordering::Relaxed);
        println!("{name}: found in schedule {orders}, {seconds:.1} s");
        assert!(is_one, "{words}");
    }

    #[track_caller]
    fn assert_broken(rule: Rule, mix: Mix) {
        let cast = Cast {
            mix,
            broken: Some(rule),
            ..TWO
        };
        assert_found(&format!("{rule:?}"), cast);
    }

    #[test]
    fn that_an_entry_is_looked_at_again() {
        assert_broken(Rule::Still, ALL);
    }

    #[test]
    fn that_owners_are_counted_again() {
        assert_broken(Rule::Own, ALL);
    }

    #[test]
    fn that_who_enters_looks_at_the_gate() {
        assert_broken(Rule::Gate, ALL);
    }

    #[test]
    fn that_who_closes_it_waits() {
        assert_broken(Rule::Inside, ALL);
    }

    #[test]
    fn that_a_mapping_is_looked_up_again() {
        assert_broken(Rule::Live, TABLE);
    }

    #[test]
    fn that_what_refuses_a_fault_was_between_two_calls() {
        assert_broken(Rule::Refused, TABLE);
    }

    #[test]
    fn that_a_moment_is_between_two_calls() {
        assert_broken(Rule::Moment, SHOWN);
    }
}
