//! `lowest_gap`, `highest_gap`, and what a `GapRequest` can ask for.

use crate::tree_of;
use maple_tree::{Alignment, GapRequest, IndexRange, MapleTree};
use std::num::NonZeroU64;
use testkit::range;

fn request(length: u64) -> GapRequest {
    GapRequest::new(NonZeroU64::new(length).unwrap())
}

/// ```text
///  0123456789abcdef
///  ..AAAA..BB....C.
/// ```
fn sample() -> MapleTree<char> {
    tree_of(&[(2, 5, 'A'), (8, 9, 'B'), (14, 14, 'C')])
}

#[test]
fn the_lowest_fit_may_be_a_part_of_a_longer_gap() {
    let tree = sample();
    assert_eq!(tree.lowest_gap(&request(2)), Some(range(0, 1)));
    assert_eq!(tree.lowest_gap(&request(3)), Some(range(10, 12)));
    assert_eq!(tree.lowest_gap(&request(5)), Some(range(15, 19)));
}

#[test]
fn the_highest_fit_ends_at_the_end_of_its_gap() {
    let tree = sample();
    let low = range(0, 15);
    assert_eq!(
        tree.highest_gap(&request(2)),
        Some(range(u64::MAX - 1, u64::MAX))
    );
    assert_eq!(
        tree.highest_gap(&request(1).within(low)),
        Some(range(15, 15))
    );
    assert_eq!(
        tree.highest_gap(&request(2).within(low)),
        Some(range(12, 13))
    );
    assert_eq!(tree.highest_gap(&request(5).within(low)), None);
}

#[test]
fn a_window_cuts_gaps_at_both_ends() {
    let tree = sample();
    let window = range(11, 12);
    assert_eq!(tree.lowest_gap(&request(2).within(window)), Some(window));
    assert_eq!(tree.highest_gap(&request(2).within(window)), Some(window));
    assert_eq!(tree.lowest_gap(&request(3).within(window)), None);
    assert_eq!(tree.highest_gap(&request(3).within(window)), None);
}

#[test]
fn a_window_inside_an_entry_holds_nothing() {
    let tree = sample();
    for window in [range(3, 4), range(2, 5), range(14, 14)] {
        assert_eq!(tree.lowest_gap(&request(1).within(window)), None);
        assert_eq!(tree.highest_gap(&request(1).within(window)), None);
    }
}

#[test]
fn an_aligned_fit_begins_at_a_multiple() {
    let tree = sample();
    let aligned = request(3).aligned(Alignment::new(4).unwrap());
    assert_eq!(tree.lowest_gap(&aligned), Some(range(16, 18)));
    assert_eq!(
        tree.highest_gap(&aligned),
        Some(range(u64::MAX - 3, u64::MAX - 1))
    );
    assert_eq!(
        tree.highest_gap(&aligned.within(range(0, 18))),
        Some(range(16, 18))
    );
    assert_eq!(tree.highest_gap(&aligned.within(range(0, 17))), None);
}

#[test]
fn an_offset_moves_the_multiples() {
    let tree = sample();
    let alignment = Alignment::new(4).unwrap();
    let at_two = request(2).aligned(alignment.with_offset(2));
    assert_eq!(tree.lowest_gap(&at_two), Some(range(6, 7)));
    assert_eq!(
        tree.highest_gap(&at_two.within(range(0, 15))),
        Some(range(10, 11))
    );
    let reduced = request(2).aligned(alignment.with_offset(6));
    assert_eq!(tree.lowest_gap(&reduced), Some(range(6, 7)));
}

#[test]
fn an_alignment_is_a_power_of_two() {
    assert!(
        [0, 3, 6, u64::MAX]
            .into_iter()
            .all(|align| Alignment::new(align).is_none())
    );
    assert!(
        [1, 2, 1 << 63]
            .into_iter()
            .all(|align| Alignment::new(align).is_some())
    );
}

#[test]
fn the_greatest_alignment_leaves_two_places() {
    let tree = MapleTree::<char>::with_gaps();
    let aligned = request(1).aligned(Alignment::new(1 << 63).unwrap());
    assert_eq!(tree.lowest_gap(&aligned), Some(range(0, 0)));
    assert_eq!(tree.highest_gap(&aligned), Some(range(1 << 63, 1 << 63)));
    assert_eq!(
        tree.lowest_gap(&aligned.within(range(1, u64::MAX))),
        Some(range(1 << 63, 1 << 63))
    );
}

#[test]
fn an_empty_tree_has_room_for_everything_but_its_own_count() {
    for tree in [MapleTree::<char>::new(), MapleTree::with_gaps()] {
        assert_eq!(
            tree.lowest_gap(&request(u64::MAX)),
            Some(range(0, u64::MAX - 1))
        );
        assert_eq!(
            tree.highest_gap(&request(u64::MAX)),
            Some(range(1, u64::MAX))
        );
        assert_eq!(
            tree.lowest_gap(&request(u64::MAX).within(range(2, u64::MAX))),
            None
        );
    }
}

#[test]
fn a_full_tree_has_room_for_nothing() {
    let tree = tree_of(&[(0, 99, 'A'), (100, u64::MAX, 'B')]);
    assert_eq!(
        (tree.lowest_gap(&request(1)), tree.highest_gap(&request(1))),
        (None, None)
    );
}

#[test]
fn the_very_last_index_is_a_place() {
    let tree = tree_of(&[(0, u64::MAX - 1, 'A')]);
    let last = Some(IndexRange::single(u64::MAX));
    assert_eq!(
        (tree.lowest_gap(&request(1)), tree.highest_gap(&request(1))),
        (last, last)
    );
    assert_eq!(tree.lowest_gap(&request(2)), None);
}

#[test]
fn a_tree_without_gap_tracking_gives_the_same_answers() {
    let (mut tracked, mut walked) = (MapleTree::with_gaps(), MapleTree::new());
    for place in 0..1500_u64 {
        let entry = range(20 * place, 20 * place + 19 - place * 7 % 19);
        tracked.insert(entry, place).unwrap();
        walked.insert(entry, place).unwrap();
    }
    for length in 1..20 {
        for first in (0..30_000).step_by(997) {
            let request = request(length).within(range(first, first + 400));
            assert_eq!(tracked.lowest_gap(&request), walked.lowest_gap(&request));
            assert_eq!(tracked.highest_gap(&request), walked.highest_gap(&request));
        }
    }
}
