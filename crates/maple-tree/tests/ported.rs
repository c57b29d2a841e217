//! Properties that years of use of range trees in kernels have shown to matter, in our own data:
//! roots that grow and collapse, gaps that join across nodes, spans that leave little on either
//! side, windows of gap searches, and boundaries that move.

use maple_tree::{GapRequest, IndexRange, MapleTree, Segment};
use std::num::NonZeroU64;
use testkit::{Model, ModelGapRequest, SplitMix, assert_holds, assert_valid, range};

/// `entries` entries of `width` indices, one every ten.
fn spaced(entries: u64, width: u64) -> MapleTree<u64> {
    let mut tree = MapleTree::with_gaps();
    for place in 0..entries {
        tree.insert(range(10 * place, 10 * place + width - 1), place)
            .unwrap();
    }
    tree
}

fn fit(length: u64, window: IndexRange) -> GapRequest {
    GapRequest::new(NonZeroU64::new(length).unwrap()).within(window)
}

mod roots {
    use super::*;

    #[test]
    fn a_first_entry_of_any_shape_makes_a_tree_of_one_level() {
        for (first, last) in [
            (0, 0),
            (0, 9),
            (5, 9),
            (5, u64::MAX),
            (0, u64::MAX),
            (u64::MAX, u64::MAX),
        ] {
            let mut tree = MapleTree::new();
            tree.store(range(first, last), 'A').unwrap();
            assert_holds(&tree, &[(first, last, 'A')]);
            assert_eq!(tree.height(), 1);
            tree.remove(range(first, last)).unwrap();
            assert_holds(&tree, &[]);
        }
    }

    #[test]
    fn removing_from_an_empty_tree_is_nothing() {
        let mut tree = MapleTree::<char>::new();
        for (first, last) in [(0, 0), (3, 9), (0, u64::MAX)] {
            tree.remove(range(first, last)).unwrap();
            assert_holds(&tree, &[]);
        }
    }

    #[test]
    fn a_tall_tree_collapses_when_one_entry_is_left() {
        for survivor in [0, 1, 999, 1000, 1999] {
            let mut tree = spaced(2000, 5);
            if survivor > 0 {
                tree.remove(range(0, 10 * survivor - 1)).unwrap();
                assert_valid(&tree);
            }
            tree.remove(range(10 * survivor + 5, u64::MAX)).unwrap();
            assert_holds(&tree, &[(10 * survivor, 10 * survivor + 4, survivor)]);
            assert_eq!(tree.height(), 1);
        }
    }

    #[test]
    fn a_store_over_everything_but_the_edges_collapses_the_tree() {
        let mut tree = spaced(2000, 5);
        tree.store(range(2, 19_992), 7777).unwrap();
        assert_holds(
            &tree,
            &[(0, 1, 0), (2, 19_992, 7777), (19_993, 19_994, 1999)],
        );
        assert_eq!(tree.height(), 1);
    }
}

mod orders_of_insertion {
    use super::*;

    /// Inserts single indices in `order` and looks all of them up after each.
    fn insert_in(order: impl Iterator<Item = u64>) -> MapleTree<u64> {
        let mut tree = MapleTree::with_gaps();
        let mut model = Model::new();
        for index in order {
            tree.insert(IndexRange::single(index), index).unwrap();
            assert!(model.insert(IndexRange::single(index), index));
            let known = model.entries().iter().copied();
            assert!(tree.iter().map(|(range, &value)| (range, value)).eq(known));
            assert_valid(&tree);
        }
        assert!(
            model
                .entries()
                .iter()
                .all(|(entry, value)| tree.get(entry.first()) == Some(value))
        );
        tree
    }

    #[test]
    fn ascending_descending_and_alternating_orders_give_the_same_content() {
        let ascending = insert_in(0..600);
        let descending = insert_in((0..600).rev());
        let outside_in = insert_in((0..300).flat_map(|index| [index, 599 - index]));
        let inside_out = insert_in((0..300).rev().flat_map(|index| [index, 599 - index]));
        for other in [descending, outside_in, inside_out] {
            assert!(ascending.iter().eq(other.iter()));
        }
    }

    #[test]
    fn ascending_entries_fill_their_nodes() {
        let tree = insert_in(0..600);
        let bytes_an_entry = tree.memory_usage() / tree.len();
        assert!(
            cfg!(small_nodes) || bytes_an_entry <= 40,
            "{bytes_an_entry} bytes an entry"
        );
    }

    #[test]
    fn powers_of_two_are_split_apart_correctly() {
        insert_in((0..64).map(|shift| 1 << shift));
        insert_in((0..64).rev().map(|shift| u64::MAX - (1 << shift)));
        insert_in((0..63).flat_map(|shift| [1 << shift, u64::MAX - (1 << shift)]));
    }
}

mod spans {
    use super::*;

    /// The most entries for which every pair of places is tried.
    const PAIRS_OF: u64 = if cfg!(small_nodes) { 60 } else { 130 };

    /// Applies `write` from the middle of every entry to the middle of every later one and compares
    /// with the model: whatever is left on the two sides has to find room with a relative, at every
    /// level.
    fn from_every_entry_to_every_other(
        write: fn(&mut MapleTree<u64>, &mut Model<u64>, IndexRange),
    ) {
        let full = spaced(PAIRS_OF, 5);
        let mut known = Model::new();
        for (entry, &value) in &full {
            assert!(known.insert(entry, value));
        }
        for from in 0..PAIRS_OF {
            for to in from..PAIRS_OF {
                let (mut tree, mut model) = (full.snapshot(), known.clone());
                write(&mut tree, &mut model, range(10 * from + 2, 10 * to + 2));
                let entries = tree.iter().map(|(range, &value)| (range, value));
                assert!(entries.eq(model.entries().iter().copied()), "{from}..={to}");
                assert_valid(&tree);
            }
        }
        assert_eq!(full.len() as u64, PAIRS_OF);
        assert_valid(&full);
    }

    #[test]
    fn a_removal_may_begin_and_end_in_any_two_entries() {
        from_every_entry_to_every_other(|tree, model, span| {
            tree.remove(span).unwrap();
            model.remove(span);
        });
    }

    #[test]
    fn a_store_may_begin_and_end_in_any_two_entries() {
        from_every_entry_to_every_other(|tree, model, span| {
            tree.store(span, 7777).unwrap();
            model.store(span, 7777);
        });
    }

    #[test]
    fn a_removal_of_whole_entries_may_begin_and_end_at_any_two() {
        from_every_entry_to_every_other(|tree, model, span| {
            let span = range(span.first() - 2, span.last() + 2);
            tree.remove(span).unwrap();
            model.remove(span);
        });
    }

    #[test]
    fn a_removal_across_thousands_of_entries_keeps_both_sides() {
        let mut tree = spaced(6000, 5);
        let mut removed = 0_u64;
        tree.remove_with(range(1003, 58_991), |_, _| removed += 1)
            .unwrap();
        assert_eq!((removed, tree.len()), (5800, 101 + 101));
        assert_eq!(tree.find(30_000), Segment::Gap(range(1003, 58_991)));
        assert_valid(&tree);
    }

    #[test]
    fn a_store_over_the_last_leaf_reaches_the_end_of_the_index_space() {
        for from in (0..2000).step_by(13) {
            let mut tree = spaced(2000, 10);
            tree.store(range(10 * from + 3, u64::MAX), 7777).unwrap();
            assert_eq!(tree.last(), Some((range(10 * from + 3, u64::MAX), &7777)));
            assert_eq!(tree.len() as u64, from + 2);
            assert_valid(&tree);
        }
    }
}

mod gaps {
    use super::*;

    #[test]
    fn gaps_join_across_entries_leaves_and_levels() {
        let mut tree = spaced(1500, 10);
        let all = range(0, 14_999);
        for place in 400..1200_u64 {
            tree.erase(10 * place + 5).unwrap();
            let joined = range(4000, 10 * place + 9);
            let length = joined.count().unwrap();
            assert_eq!(tree.lowest_gap(&fit(length, all)), Some(joined));
            assert_eq!(tree.highest_gap(&fit(length, all)), Some(joined));
            assert_eq!(tree.lowest_gap(&fit(length + 1, all)), None);
        }
        assert_valid(&tree);
    }

    #[test]
    fn the_greatest_gap_is_found_wherever_it_lies() {
        for hole in (0..1000_u64).step_by(3) {
            let mut tree = spaced(1000, 9);
            tree.erase(10 * hole).unwrap();
            let first = if hole == 0 { 0 } else { 10 * hole - 1 };
            let length = 10 * hole + 10 - first;
            let found = Some(range(first, 10 * hole + 9));
            let all = range(0, 9998);
            let expected = if hole == 999 { None } else { found };
            assert_eq!(
                tree.lowest_gap(&fit(length, all)),
                expected,
                "hole at {hole}"
            );
            assert_eq!(
                tree.highest_gap(&fit(length, all)),
                expected,
                "hole at {hole}"
            );
        }
    }

    #[test]
    fn a_tree_is_filled_from_below_and_from_above() {
        let window = range(100, 100 + 7 * 500 - 1);
        let mut from_below = MapleTree::with_gaps();
        let mut from_above = MapleTree::with_gaps();
        for place in 0..500_u64 {
            let low = from_below.lowest_gap(&fit(7, window)).unwrap();
            assert_eq!(low, range(100 + 7 * place, 106 + 7 * place));
            from_below.insert(low, place).unwrap();
            let high = from_above.highest_gap(&fit(7, window)).unwrap();
            assert_eq!(high, range(3593 - 7 * place, 3599 - 7 * place));
            from_above.insert(high, 499 - place).unwrap();
        }
        assert_eq!(from_below.lowest_gap(&fit(1, window)), None);
        assert_eq!(from_above.highest_gap(&fit(1, window)), None);
        assert!(from_below.iter().eq(from_above.iter()));
        assert_valid(&from_below);
        assert_valid(&from_above);
    }

    /// The layout of a small program: code and data low, libraries and a stack high.
    #[test]
    fn an_address_space_is_searched_as_a_kernel_does() {
        let areas: [(u64, u64); 8] = [
            (0x5555_5555_4000, 0x5555_5557_0fff),
            (0x5555_5557_1000, 0x5555_5557_3fff),
            (0x5555_5558_0000, 0x5555_555a_0fff),
            (0x7fff_f7c0_0000, 0x7fff_f7dd_ffff),
            (0x7fff_f7de_0000, 0x7fff_f7de_8fff),
            (0x7fff_f7fb_0000, 0x7fff_f7fb_3fff),
            (0x7fff_f7fc_1000, 0x7fff_f7ff_dfff),
            (0x7fff_fffd_e000, 0x7fff_ffff_efff),
        ];
        let mut tree = MapleTree::with_gaps();
        for (first, last) in areas {
            tree.insert(range(first, last), ()).unwrap();
        }
        let window = range(0x1_0000, 0x7fff_f7ff_efff);
        let highest = |length| tree.highest_gap(&fit(length, window));
        assert_eq!(
            highest(0x1000),
            Some(range(0x7fff_f7ff_e000, 0x7fff_f7ff_efff))
        );
        assert_eq!(
            highest(0xd000),
            Some(range(0x7fff_f7fb_4000, 0x7fff_f7fc_0fff))
        );
        assert_eq!(
            highest(0xe000),
            Some(range(0x7fff_f7fa_2000, 0x7fff_f7fa_ffff))
        );
        assert_eq!(
            highest(0x20_0000),
            Some(range(0x7fff_f7a0_0000, 0x7fff_f7bf_ffff))
        );
        let lowest = tree.lowest_gap(&fit(0x1000, range(0x5555_5555_4000, u64::MAX)));
        assert_eq!(lowest, Some(range(0x5555_5557_4000, 0x5555_5557_4fff)));
    }

    #[test]
    fn every_window_gives_what_the_model_gives() {
        let mut rng = SplitMix::new(77);
        let (mut tree, mut model) = (MapleTree::with_gaps(), Model::new());
        for value in 0..400_u64 {
            let first = rng.below(6000);
            let entry = range(first, first + rng.below(12));
            tree.store(entry, value).unwrap();
            model.store(entry, value);
        }
        for _ in 0..20_000 {
            let first = rng.below(6100);
            let window = range(first, first + rng.below(300));
            let length = NonZeroU64::new(1 + rng.below(20)).unwrap();
            let request = GapRequest::new(length).within(window);
            let of_model = ModelGapRequest {
                length,
                within: window,
                alignment: 1,
                offset: 0,
            };
            assert_eq!(tree.lowest_gap(&request), model.lowest_gap(&of_model));
            assert_eq!(tree.highest_gap(&request), model.highest_gap(&of_model));
        }
    }
}

mod boundaries {
    use super::*;

    #[test]
    fn the_boundary_of_two_touching_entries_moves_both_ways() {
        let mut tree = spaced(300, 10);
        let nodes = tree.memory_usage();
        for place in 0..299_u64 {
            let border = 10 * place + 10;
            tree.store(range(border - 3, border - 1), place + 1)
                .unwrap();
            tree.store(range(border - 3, border + 9), place + 1)
                .unwrap();
            assert_eq!(
                tree.entry(border),
                Some((range(border - 3, border + 9), &(place + 1)))
            );
            tree.store(range(border - 3, border - 1), place).unwrap();
            tree.store(range(10 * place, border - 1), place).unwrap();
            assert_valid(&tree);
        }
        assert!(tree.iter().map(|(_, &value)| value).eq(0..300));
        assert!(cfg!(small_nodes) || tree.memory_usage() <= 2 * nodes);
    }

    #[test]
    fn an_entry_grows_into_the_gap_behind_it_and_shrinks_again() {
        let mut tree = spaced(300, 5);
        for place in 0..300_u64 {
            let first = 10 * place;
            tree.store(range(first, first + 9), place).unwrap();
            assert_eq!(
                tree.entry(first + 9),
                Some((range(first, first + 9), &place))
            );
            tree.remove(range(first + 5, first + 9)).unwrap();
            assert_eq!(tree.entry(first), Some((range(first, first + 4), &place)));
            assert_valid(&tree);
        }
        assert!(tree.iter().eq(spaced(300, 5).iter()));
    }

    #[test]
    fn removing_what_touches_a_gap_makes_one_gap_of_both() {
        let mut tree = spaced(400, 5);
        for place in (1..399_u64).rev() {
            let first = 10 * place;
            tree.remove(range(first, first + 4)).unwrap();
            assert_eq!(tree.find(first), Segment::Gap(range(first - 5, 3989)));
        }
        assert_eq!(tree.len(), 2);
        assert_valid(&tree);
    }

    #[test]
    fn neighbours_are_walked_off_both_ends_and_back() {
        let tree = spaced(500, 5);
        let mut index = 0;
        let mut up = 0;
        while let Some((entry, _)) = tree.after(index) {
            (index, up) = (entry.last(), up + 1);
        }
        assert_eq!(
            (up, tree.after(index), tree.after(u64::MAX)),
            (499, None, None)
        );
        let mut down = 0;
        while let Some((entry, _)) = tree.before(index) {
            (index, down) = (entry.first(), down + 1);
        }
        assert_eq!((down, index, tree.before(0)), (499, 0, None));
    }
}

mod copies {
    use super::*;

    /// What a fork does: copy the tree, then put another value over exactly each entry.
    #[test]
    fn every_entry_of_a_copy_can_be_replaced_in_place() {
        let tree = spaced(1000, 5);
        let mut copy = tree.duplicate().unwrap();
        let (height, memory) = (copy.height(), copy.memory_usage());
        for (entry, &value) in &tree {
            copy.store(entry, value + 5000).unwrap();
        }
        assert_eq!(copy.height(), height);
        assert!(copy.memory_usage() <= memory + 16 * 256);
        assert!(copy.iter().map(|(_, &value)| value).eq(5000..6000));
        assert!(tree.iter().map(|(_, &value)| value).eq(0..1000));
        assert_valid(&copy);
    }

    #[test]
    fn a_copy_made_entry_by_entry_is_equal() {
        for entries in [0, 1, 14, 15, 16, 17, 250, 3000] {
            let tree = spaced(entries, 5);
            let mut copy = MapleTree::with_gaps();
            for (entry, &value) in &tree {
                copy.insert(entry, value).unwrap();
            }
            assert!(copy.iter().eq(tree.iter()));
            assert_valid(&copy);
        }
    }
}

#[test]
fn a_tree_that_grows_and_shrinks_for_long_stays_sound() {
    let mut rng = SplitMix::new(4);
    let (mut tree, mut model) = (MapleTree::with_gaps(), Model::new());
    for round in 0..40_u64 {
        for _ in 0..60 {
            let index = rng.below(2000);
            if round % 2 == 0 {
                let entry = range(index, index + rng.below(4));
                assert_eq!(
                    tree.insert(entry, round).is_ok(),
                    model.insert(entry, round)
                );
            } else {
                assert_eq!(tree.erase(index).unwrap(), model.erase(index));
            }
        }
        assert!(
            tree.iter()
                .map(|(range, &value)| (range, value))
                .eq(model.entries().iter().copied())
        );
        assert_valid(&tree);
    }
}
