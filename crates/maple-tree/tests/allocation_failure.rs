//! Every write with every one of its allocations failing: the tree is as before, and the value back.
//!
//! The harness does the comparing: after [`Op::Fail`] it expects the next write to end in
//! `OutOfNodes` with its value handed back and nothing visited, compares all contents, validates,
//! and then repeats the write, which must succeed.

use maple_tree::{DuplicateError, IndexRange, MapleTree, OutOfNodes, StoreErrorKind};
use testkit::{FailingNodes, Harness, Ledger, Op, TestNodes, Token, Write, assert_valid, range};

type Trial = Harness<Token, FailingNodes>;

/// So many allocations of one operation are made to fail one after another; a copy of a tall tree
/// needs more, and of those every seventh.
const ONE_BY_ONE: u32 = 60;

#[track_caller]
fn apply(trial: &mut Trial, op: &Op) {
    if let Err(mismatch) = trial.apply(op) {
        panic!("`{op}`: {mismatch}");
    }
}

#[track_caller]
fn check(trial: &mut Trial, op: &Op) {
    if let Err(mismatch) = trial.check() {
        panic!("after `{op}`: {mismatch}");
    }
}

/// A tree of `entries` entries, every third one touching the one before (one sign is 4 indices).
///
/// ```text
///  0123012301230123
///  .AAABBBB.CCC.DDDEEEE.FFF
/// ```
fn tree_of(entries: u64, mut trial: Trial) -> Trial {
    for place in 0..entries {
        let first = 16 * place + if place % 3 == 1 { 0 } else { 4 };
        let entry = range(first, 16 * place + 15);
        apply(&mut trial, &Op::Write(Write::Insert(entry, place as u32)));
    }
    trial
}

/// Every kind of write, at the ends and in the middle of a tree of `entries` entries.
fn writes(entries: u64) -> Vec<Op> {
    let end = 16 * entries;
    let middle = (end / 2) & !15;
    let mut ops = Vec::new();
    for at in [0, middle, end - 16] {
        let around = [
            range(at, at + 2),
            range(at + 6, at + 9),
            range(at + 4, at + 15),
            range(at, (at + 40).max(end)),
            range(at / 2, at + 20),
        ];
        for range in around {
            ops.push(Op::Write(Write::Store(range, 900)));
            ops.push(Op::Write(Write::StoreWith(range, 901)));
            ops.push(Op::Write(Write::Insert(range, 902)));
            ops.push(Op::Write(Write::Remove(range)));
            ops.push(Op::Write(Write::RemoveWith(range)));
        }
        ops.push(Op::Write(Write::Erase(at + 8)));
        ops.push(Op::Set(at + 8, 903));
        let preallocated = [
            Write::Store(range(at + 6, at + 9), 904),
            Write::Erase(at + 8),
        ];
        ops.push(Op::Preallocated(preallocated.to_vec()));
    }
    ops.push(Op::Extend(vec![
        (range(middle + 6, middle + 9), 907),
        (range(3, end - 3), 908),
        (range(end + 5, end + 9), 909),
    ]));
    ops.push(Op::Write(Write::Store(IndexRange::FULL, 905)));
    ops.push(Op::Write(Write::Remove(IndexRange::FULL)));
    ops.push(Op::Write(Write::Insert(range(end + 5, u64::MAX), 906)));
    ops.extend([
        Op::Duplicate,
        Op::DuplicateWith(0, u32::MAX),
        Op::DuplicateWith(2, u32::MAX),
    ]);
    ops
}

/// Runs `op` on a copy of the tree in place 0 with the first, then the second … allocation failing,
/// until it needs no more. Returns how many of its allocations were made to fail.
#[track_caller]
fn fail_each(trial: &mut Trial, copy: &Op, op: &Op) -> u32 {
    let later = (ONE_BY_ONE..).step_by(7);
    for (tried, failing) in (0..ONE_BY_ONE).chain(later).enumerate() {
        let failures = trial.failures();
        apply(trial, copy);
        apply(trial, &Op::Focus(1));
        apply(trial, &Op::Fail(failing));
        apply(trial, op);
        check(trial, op);
        while trial.live() > 1 {
            apply(trial, &Op::Drop(1));
        }
        apply(trial, &Op::Focus(0));
        if trial.failures() == failures {
            return tried as u32;
        }
    }
    unreachable!("every operation ends once no allocation of it fails");
}

/// Fails every allocation of every write on a tree of `entries` entries.
///
/// A duplicate shares no node, a snapshot every node.
#[track_caller]
fn fail_all(entries: u64, height: usize, empty: Trial) {
    let mut trial = tree_of(entries, empty);
    assert_eq!(
        trial.tree().height(),
        height,
        "the test is about trees of this height"
    );
    let mut failed = 0;
    for op in writes(entries) {
        for copy in [Op::Duplicate, Op::Snapshot] {
            failed += fail_each(&mut trial, &copy, &op);
        }
    }
    assert!(
        failed >= 100,
        "only {failed} allocations failed: the test shows little"
    );
    trial
        .finish()
        .unwrap_or_else(|mismatch| panic!("{mismatch}"));
}

/// Numbers of entries that make trees of one level, two, three and four.
const SIZES: [u64; 4] = if cfg!(small_nodes) {
    [3, 9, 30, 80]
} else {
    [8, 60, 800, 6000]
};

#[test]
fn a_tree_of_one_leaf_survives_every_failure() {
    fail_all(SIZES[0], 1, Trial::new());
    fail_all(SIZES[0], 1, Trial::with_gaps());
}

#[test]
fn a_tree_of_two_levels_survives_every_failure() {
    fail_all(SIZES[1], 2, Trial::new());
    fail_all(SIZES[1], 2, Trial::with_gaps());
}

#[test]
fn a_tree_of_three_levels_survives_every_failure() {
    fail_all(SIZES[2], 3, Trial::new());
    fail_all(SIZES[2], 3, Trial::with_gaps());
}

#[test]
fn a_tree_of_four_levels_survives_every_failure() {
    fail_all(SIZES[3], 4, Trial::new());
}

#[test]
fn a_tree_of_four_levels_with_gaps_survives_every_failure() {
    let entries = if cfg!(small_nodes) { SIZES[3] } else { 3000 };
    fail_all(entries, 4, Trial::with_gaps());
}

#[test]
fn the_first_store_into_an_empty_tree_hands_the_value_back() {
    let (ledger, nodes) = (Ledger::new(), FailingNodes::new());
    let mut tree = MapleTree::new_in(nodes.clone());
    nodes.fail_after(Some(0));

    let refused = tree.insert(range(3, 5), ledger.token(7)).unwrap_err();

    assert_eq!(refused.kind, StoreErrorKind::OutOfNodes);
    assert_eq!(refused.value.id(), 7);
    assert!(tree.is_empty());
    assert_valid(&tree);
    drop((refused, tree));
    ledger.assert_settled();
    nodes.assert_settled();
}

#[test]
fn a_reservation_fails_whole_and_leaves_the_tree_usable() {
    let nodes = FailingNodes::new();
    let mut tree = MapleTree::<u64, _>::new_in(nodes.clone());
    nodes.fail_after(Some(0));
    assert_eq!(tree.preallocate(3).map(drop), Err(OutOfNodes));
    nodes.fail_after(None);

    tree.insert(range(1, 2), 1).unwrap();

    assert_eq!(tree.get(2), Some(&1));
    drop(tree);
    nodes.assert_settled();
}

#[test]
fn a_duplicate_that_runs_out_of_nodes_leaves_none_behind() {
    let (ledger, nodes) = (Ledger::new(), FailingNodes::new());
    let mut tree = MapleTree::with_gaps_in(nodes.clone());
    for place in 0..200_u32 {
        let index = 10 * u64::from(place);
        tree.insert(range(index, index + 4), ledger.token(place))
            .unwrap();
    }
    let before = nodes.live();
    for failing in 0.. {
        nodes.fail_after(Some(failing));
        let result = tree.duplicate_with(|_, value| Ok::<_, ()>(Some(value.clone())));
        nodes.fail_after(None);
        match result {
            Ok(_) => break,
            Err(error) => assert_eq!(error, DuplicateError::OutOfNodes),
        }
        assert_eq!(nodes.live(), before);
        assert_eq!(ledger.live(), 200);
    }
    drop(tree);
    ledger.assert_settled();
    nodes.assert_settled();
}

/// Makes `change` at every entry of a tree, each time in a copy that has no free node at hand, while
/// no node can be allocated. Every leaf has more entries than it needs.
#[track_caller]
fn without_memory(change: impl Fn(&mut MapleTree<u64, FailingNodes>, u64)) {
    let nodes = FailingNodes::new();
    let empty = [
        MapleTree::new_in(nodes.clone()),
        MapleTree::with_gaps_in(nodes.clone()),
    ];
    for mut tree in empty {
        let entries = (0..400).map(|place| (range(10 * place, 10 * place + 6), place));
        tree.bulk_load(entries).unwrap();
        for place in 0..400 {
            let mut copy = tree.duplicate().unwrap();
            copy.shrink_to_fit();
            nodes.fail_after(Some(0));
            change(&mut copy, place);
            nodes.fail_after(None);
            assert_valid(&copy);
        }
    }
    nodes.assert_settled();
}

#[test]
fn another_value_for_an_entry_needs_no_memory() {
    without_memory(|tree, place| {
        tree.store(range(10 * place, 10 * place + 6), 7).unwrap();
        assert_eq!(tree.get(10 * place + 6), Some(&7));
    });
}

#[test]
fn erasing_from_a_full_leaf_needs_no_memory() {
    without_memory(|tree, place| {
        let erased = tree.erase(10 * place).unwrap();
        assert_eq!(erased, Some((range(10 * place, 10 * place + 6), place)));
    });
}

#[test]
fn shortening_an_entry_needs_no_memory() {
    without_memory(|tree, place| {
        tree.remove(range(10 * place + 4, 10 * place + 6)).unwrap();
        assert_eq!(tree.get(10 * place + 3), Some(&place));
        assert_eq!(tree.get(10 * place + 4), None);
    });
}

#[test]
fn emptying_what_is_empty_needs_no_memory_even_in_nodes_that_are_shared() {
    without_memory(|tree, place| {
        let snapshot = tree.snapshot();
        tree.remove(range(10 * place + 7, 10 * place + 9)).unwrap();
        assert_eq!(*tree, snapshot);
    });
}

#[test]
fn entries_side_by_side_take_one_slot_of_a_leaf_each() {
    let slots = if cfg!(small_nodes) { 5 } else { 15 };
    let entry = |place: u64| range(10 * place, 10 * place + 9);
    for (first, second) in [(0, 1), (1, 0)] {
        let nodes = FailingNodes::new();
        let mut tree = MapleTree::new_in(nodes.clone());
        let places = |from| (from..slots).step_by(2);
        tree.bulk_load(places(first).map(|place| (entry(place), place)))
            .unwrap();
        tree.shrink_to_fit();
        nodes.fail_after(Some(0));
        for place in places(second) {
            tree.insert(entry(place), place).unwrap();
            assert_valid(&tree);
        }
        assert_eq!((tree.len() as u64, tree.height()), (slots, 1));
    }
}

#[test]
fn a_leaf_gives_up_all_but_the_fewest_entries_in_place() {
    let (slots, least) = if cfg!(small_nodes) { (5, 2) } else { (15, 4) };
    for length in [10, 7] {
        // Side by side, and with holes between.
        let entry = |place: u64| range(10 * place, 10 * place + length - 1);
        let nodes = FailingNodes::new();
        let mut tree = MapleTree::new_in(nodes.clone());
        tree.bulk_load((0..4 * slots).map(|place| (entry(place), place)))
            .unwrap();
        let in_first = first_leaf_len(&tree);
        tree.shrink_to_fit();
        nodes.fail_after(Some(0));
        for place in 1..=in_first - least {
            tree.erase(10 * place).unwrap();
            assert_valid(&tree);
        }
        assert_eq!(first_leaf_len(&tree), least);
    }
}

#[test]
fn changing_a_shared_entry_takes_a_node_for_each_that_is_shared() {
    let nodes = FailingNodes::new();
    let mut tree = MapleTree::new_in(nodes.clone());
    tree.bulk_load((0..400).map(|place| (range(10 * place, 10 * place + 6), place)))
        .unwrap();
    let _snapshot = tree.snapshot();
    let height = tree.height() as u64;
    assert!(height >= 3);
    // The second time the root is the tree's own already.
    for (index, shared) in [(0, height), (3990, height - 1)] {
        tree.shrink_to_fit();
        nodes.fail_after(Some(shared - 1));
        assert_eq!(tree.get_mut(index).map(drop), Err(OutOfNodes));
        tree.shrink_to_fit();
        nodes.fail_after(Some(shared));
        *tree.get_mut(index).unwrap().unwrap() += 1;
        nodes.fail_after(None);
        assert_valid(&tree);
    }
}

/// The number of entries in the first leaf, as the dump shows it.
fn first_leaf_len(tree: &MapleTree<u64, FailingNodes>) -> u64 {
    let dump = format!("{:?}", tree.dump());
    let lines = dump.lines().map(str::trim_start);
    let leaf = lines.skip_while(|line| !line.contains("leaf")).skip(1);
    leaf.take_while(|line| !line.contains("leaf"))
        .filter(|line| line.contains("entry"))
        .count() as u64
}
