//! Which structural paths of the write pipeline are reached, with nodes so small that a few tens of
//! entries make a tree of four levels. Built under `--cfg small_nodes` only.
#![cfg(small_nodes)]

use maple_tree::paths;
use testkit::{FailingNodes, Failures, Gaps, Mix, Plan, Token, run_seed};

/// A few tens of entries: what matters is that every path is reached by trees of this size.
const TENS: Mix = Mix {
    entries: 80,
    trees: 3,
    failures: Failures::Never,
};

#[test]
fn every_path_of_a_write_is_reached_by_trees_of_a_few_tens_of_entries() {
    paths::reset();
    let mut tallest = 0;
    for seed in 201..=216 {
        for gaps in [Gaps::Tracked, Gaps::Untracked] {
            let plan = Plan {
                seed,
                operations: 12_000,
                mix: TENS,
                gaps,
                check_every: 1,
            };
            tallest = tallest.max(run_seed::<Token, FailingNodes>(plan).tallest);
        }
    }
    let report = paths::report();
    for (name, reached) in &report {
        println!("{name:<32} {reached:>10}");
    }
    let missed: Vec<_> = report.iter().filter(|(_, reached)| *reached == 0).collect();
    assert!(
        missed.is_empty(),
        "paths that no operation took: {missed:?}"
    );
    assert!(!report.is_empty(), "the tree lists its paths");
    assert!(tallest >= 4, "the tallest tree had {tallest} levels");
}
