//! Snapshots: both sides write, neither sees the other, in any order and on any thread.

use maple_tree::{HeapNodes, MapleTree};
use std::sync::Arc;
use std::thread;
use testkit::{
    FailingNodes, Failures, Gaps, Ledger, Mix, Plan, SplitMix, TestNodes, Token, assert_valid,
    range, run_seed,
};

/// Many live trees, most of them snapshots of each other.
const SHARING: Mix = Mix {
    entries: 80,
    trees: 10,
    failures: Failures::Sometimes,
};

#[test]
fn snapshots_of_snapshots_written_at_random_agree_with_their_models() {
    for seed in 101..=104 {
        for gaps in [Gaps::Tracked, Gaps::Untracked] {
            let plan = Plan {
                seed,
                operations: 10_000,
                mix: SHARING,
                gaps,
                check_every: 2,
            };
            run_seed::<Token, FailingNodes>(plan);
        }
    }
}

#[test]
fn a_snapshot_shares_every_node_and_a_write_copies_one_path() {
    let nodes = FailingNodes::new();
    let mut tree = MapleTree::new_in(nodes.clone());
    for index in 0..5000_u64 {
        tree.insert(range(10 * index, 10 * index + 5), index)
            .unwrap();
    }
    let before = nodes.live().unwrap();

    let snapshot = tree.snapshot();
    assert_eq!(nodes.live().unwrap(), before, "a snapshot needs no node");
    tree.store(range(20_001, 20_002), 9).unwrap();

    let copied = nodes.live().unwrap() - before;
    let most = 3 * tree.height() + 8;
    assert!(
        copied <= most,
        "{copied} nodes for one write, {most} are plenty"
    );
    assert_valid(&tree);
    assert_valid(&snapshot);
    drop((tree, snapshot));
    nodes.assert_settled();
}

#[test]
fn snapshots_can_be_dropped_in_any_order() {
    for order in 0..120_usize {
        let (ledger, nodes) = (Ledger::new(), FailingNodes::new());
        let mut tree = MapleTree::new_in(nodes.clone());
        let mut alive = Vec::new();
        for round in 0..5_u32 {
            for place in 0..30_u32 {
                let first = u64::from(7 * place + 3 * round);
                tree.store(range(first, first + 4), ledger.token(place))
                    .unwrap();
            }
            alive.push(tree.snapshot());
        }
        let mut order = order;
        while !alive.is_empty() {
            drop(alive.remove(order % alive.len()));
            order /= 5;
            alive.iter().for_each(assert_valid);
        }
        drop(tree);
        ledger.assert_settled();
        nodes.assert_settled();
    }
}

#[test]
fn a_snapshot_on_another_thread_stays_what_it_was() {
    let mut tree: MapleTree<Arc<u64>, HeapNodes> = MapleTree::with_gaps();
    for index in 0..1000_u64 {
        tree.insert(range(10 * index, 10 * index + 5), Arc::new(index))
            .unwrap();
    }
    let snapshot = tree.snapshot();
    let reader = thread::spawn(move || {
        for _ in 0..200 {
            let values = snapshot.iter().map(|(_, value)| **value);
            assert!(values.eq(0..1000));
        }
        assert_valid(&snapshot);
    });
    let mut rng = SplitMix::new(5);
    for _ in 0..20_000 {
        let first = rng.below(10_000);
        tree.store(range(first, first + rng.below(30)), Arc::new(0))
            .unwrap();
    }
    reader.join().unwrap();
    assert_valid(&tree);
}

#[test]
fn two_threads_can_write_to_snapshots_of_one_tree() {
    let (ledger, nodes) = (Ledger::new(), FailingNodes::new());
    let mut tree = MapleTree::with_gaps_in(nodes.clone());
    for place in 0..500_u32 {
        let first = 10 * u64::from(place);
        tree.insert(range(first, first + 9), ledger.token(place))
            .unwrap();
    }
    let writers: Vec<_> = (0..4_u64)
        .map(|seed| (seed, tree.snapshot()))
        .map(|(seed, mut mine)| {
            let ledger = ledger.clone();
            thread::spawn(move || {
                let mut rng = SplitMix::new(seed);
                for _ in 0..3000 {
                    let first = rng.below(5000);
                    mine.store(range(first, first + rng.below(40)), ledger.token(1000))
                        .unwrap();
                    let kept = mine.snapshot();
                    drop(kept);
                }
                assert_valid(&mine);
            })
        })
        .collect();
    assert!(tree.iter().map(|(_, value)| value.id()).eq(0..500));
    drop(tree);
    for writer in writers {
        writer.join().unwrap();
    }
    ledger.assert_settled();
    nodes.assert_settled();
}
