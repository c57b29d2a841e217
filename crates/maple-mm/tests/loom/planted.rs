//! What is broken on purpose is found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use maple_mm::paging::sync::Rule;

use crate::checker::Weakened;
use crate::models::{faulting, forking, freeing, unmapping, unsharing};
use crate::rcu::Patience;
use crate::stage::Asks;
use crate::{Model, Planted, SOUND, run};

/// What loom, or a check, says of one of these that is broken.
const REPORTS: [&str; 10] = [
    "Causality violation",
    "that was freed",
    "where no mapping is",
    "that its mapping has not",
    "was written to",
    "was not kept",
    "is there already",
    "are in use",
    "was lost",
    "lost what was written",
];

/// It is found in each of `models`.
#[track_caller]
fn assert_found(models: &[Model], planted: Planted) {
    for &model in models {
        let broken = AssertUnwindSafe(|| run(model, planted));
        let Err(report) = catch_unwind(broken) else {
            panic!("nothing was found in {}", model.name);
        };
        let words = report.downcast_ref::<String>().map(String::as_str);
        let words = words.or(report.downcast_ref::<&str>().copied()).unwrap();
        let is_one = REPORTS.iter().any(|report| words.contains(report));
        assert!(is_one, "{}: {words}", model.name);
    }
}

#[track_caller]
fn assert_weakened(models: &[Model], weakened: Weakened) {
    assert_found(models, Planted { weakened, ..SOUND });
}

#[track_caller]
fn assert_broken(models: &[Model], rule: Rule) {
    assert_weakened(models, Weakened::Broken(rule));
}

mod an_ordering {
    use super::*;

    /// Writers and faults are ordered by nothing else.
    const LOCKED: [Model; 4] = [
        unmapping::FAULT,
        unmapping::TABLE,
        unmapping::PERMIT,
        faulting::PAGE,
    ];

    /// A table is reached that another thread made.
    const REACHED: [Model; 3] = [unmapping::COPY, unmapping::TABLE, faulting::TABLE];

    #[test]
    fn of_who_locks_a_table() {
        assert_weakened(&LOCKED, Weakened::Lock);
    }

    #[test]
    fn of_who_unlocks_it() {
        assert_weakened(&LOCKED, Weakened::Unlock);
    }

    #[test]
    fn of_who_writes_an_entry() {
        assert_weakened(&REACHED, Weakened::Publish);
    }

    #[test]
    fn of_who_reads_one() {
        assert_weakened(&REACHED, Weakened::Follow);
    }

    #[test]
    fn of_the_two_looks_at_the_gate() {
        assert_weakened(&[forking::FAULT, forking::WRITE], Weakened::Looks);
    }

    #[test]
    fn of_who_leaves() {
        assert_weakened(&[forking::FAULT, forking::TABLE], Weakened::Leave);
    }

    #[test]
    fn of_who_opens_the_gate() {
        assert_weakened(&[forking::FAULT, forking::WRITE], Weakened::Open);
    }

    #[test]
    fn of_who_gives_up_a_page() {
        assert_weakened(&[unsharing::PAGES, unsharing::EXIT], Weakened::GiveUp);
    }

    #[test]
    fn of_who_asks_whether_it_is_the_only_owner() {
        assert_weakened(&[unsharing::PAGES], Weakened::Alone);
    }
}

mod a_rule {
    use super::*;

    #[test]
    fn that_a_table_taken_out_is_dead() {
        assert_broken(&[unmapping::DEAD], Rule::Dead);
    }

    #[test]
    fn that_who_finds_an_entry_empty_has_held_its_table() {
        assert_broken(&[unmapping::TABLE], Rule::Empty);
    }

    #[test]
    fn that_an_entry_is_looked_at_again() {
        assert_broken(&[unmapping::COPY, faulting::PAGE], Rule::Still);
    }

    #[test]
    fn that_owners_are_counted_again() {
        assert_broken(&[forking::PERMIT], Rule::Own);
    }

    #[test]
    fn that_a_mapping_is_looked_up_again() {
        let planted = Planted {
            asks: Asks::Once,
            ..SOUND
        };
        assert_found(
            &[
                unmapping::FAULT,
                unmapping::TABLE,
                unmapping::PERMIT,
                unmapping::EXIT,
            ],
            planted,
        );
    }

    #[test]
    fn that_who_enters_looks_at_the_gate() {
        assert_broken(&[forking::FAULT, forking::WRITE], Rule::Gate);
    }

    #[test]
    fn that_who_closes_it_waits() {
        assert_broken(&[forking::FAULT, forking::WRITE], Rule::Inside);
    }

    #[test]
    fn that_what_is_copied_is_pinned() {
        assert_broken(&[unsharing::PIN], Rule::Pin);
    }

    #[test]
    fn that_a_table_is_freed_when_nobody_is_on_the_way_to_it() {
        let planted = Planted {
            patience: Patience::FreesAtOnce,
            ..SOUND
        };
        assert_found(
            &[freeing::WALKER, freeing::SHARED, unmapping::DEAD],
            planted,
        );
    }
}
