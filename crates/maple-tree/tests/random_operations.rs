//! Random operations on trees and on the reference model, compared after each: five million in all.
//!
//! A failure prints the seed and the smallest trace it was shrunk to; the trace goes into
//! `traces.rs` as a test of its own.

use maple_tree::HeapNodes;
use std::sync::Arc;
use testkit::{
    FailingNodes, Failures, Gaps, Mix, Plan, TestNodes, TestValue, Token, fresh_seed, run_seed,
};

/// Small trees, everything checked after every operation.
const SMALL: Mix = Mix {
    entries: 40,
    trees: 4,
    failures: Failures::Sometimes,
};
/// Trees of a few levels, everything checked now and then.
const LARGE: Mix = Mix {
    entries: 1500,
    trees: 2,
    failures: Failures::Sometimes,
};
/// Trees of very few entries, in which the root changes all the time.
const TINY: Mix = Mix {
    entries: 4,
    trees: 4,
    failures: Failures::Sometimes,
};

/// Runs `operations` from each seed and returns the most levels that any tree had.
fn run<T: TestValue, S: TestNodes>(
    plan: Plan,
    seeds: impl IntoIterator<Item = u64>,
) -> (usize, u64) {
    let mut seen = (0, 0);
    for seed in seeds {
        for gaps in [Gaps::Tracked, Gaps::Untracked] {
            let report = run_seed::<T, S>(Plan { seed, gaps, ..plan });
            seen = (seen.0.max(report.tallest), seen.1 + report.failures);
        }
    }
    seen
}

fn plan(mix: Mix, operations: usize, check_every: usize) -> Plan {
    Plan {
        seed: 0,
        operations,
        mix,
        gaps: Gaps::Tracked,
        check_every,
    }
}

#[test]
fn small_trees_of_numbers_agree_with_the_model() {
    run::<u64, HeapNodes>(plan(SMALL, 200_000, 1), 1..=4);
}

#[test]
fn small_trees_of_counted_values_agree_with_the_model_while_allocations_fail() {
    let (_, failures) = run::<Token, FailingNodes>(plan(SMALL, 150_000, 1), 11..=14);
    assert!(
        failures > 100,
        "only {failures} allocations failed: the test shows little"
    );
}

#[test]
fn small_trees_of_shared_pointers_agree_with_the_model() {
    run::<Arc<u32>, HeapNodes>(plan(SMALL, 80_000, 1), 21..=24);
}

#[test]
fn tiny_trees_of_boxes_agree_with_the_model() {
    run::<Box<u32>, FailingNodes>(plan(TINY, 200_000, 1), 31..=34);
}

#[test]
fn large_trees_agree_with_the_model() {
    let (tallest, _) = run::<Token, FailingNodes>(plan(LARGE, 60_000, 64), 41..=44);
    assert!(tallest >= 3, "the tallest tree had {tallest} levels");
}

#[test]
fn trees_from_a_fresh_seed_agree_with_the_model() {
    let seed = fresh_seed("random_operations");
    run::<Token, FailingNodes>(plan(SMALL, 100_000, 1), [seed]);
}

mod strategies {
    use super::*;
    use testkit::proptest::prelude::{ProptestConfig, TestCaseError, proptest};
    use testkit::proptest::test_runner::{RngAlgorithm, RngSeed};
    use testkit::{replay_ops, strategy};

    fn config() -> ProptestConfig {
        ProptestConfig {
            cases: 1500,
            rng_algorithm: RngAlgorithm::ChaCha,
            rng_seed: RngSeed::Fixed(51),
            failure_persistence: None,
            ..ProptestConfig::default()
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn traces_agree_with_the_model(ops in strategy::trace(120)) {
            for gaps in [Gaps::Tracked, Gaps::Untracked] {
                replay_ops::<Token, FailingNodes>(gaps, &ops).map_err(TestCaseError::fail)?;
            }
        }
    }
}
