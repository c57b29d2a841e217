//! The model against answers worked out by hand.

use super::*;

fn range(first: u64, last: u64) -> IndexRange {
    IndexRange::new(first, last).unwrap()
}

/// ```text
///  0123456789abcdef
///  ..AAAA..BB....C.
/// ```
fn sample() -> Model<char> {
    let mut model = Model::new();
    for (first, last, value) in [(2, 5, 'A'), (8, 9, 'B'), (14, 14, 'C')] {
        assert!(model.insert(range(first, last), value));
    }
    model
}

fn request(length: u64, within: IndexRange, alignment: u64, offset: u64) -> ModelGapRequest {
    let length = NonZeroU64::new(length).unwrap();
    ModelGapRequest {
        length,
        within,
        alignment,
        offset,
    }
}

#[test]
fn a_store_inside_an_entry_leaves_both_outer_parts() {
    let mut model = sample();
    assert_eq!(model.store(range(3, 4), 'D'), [(range(3, 4), 'A')]);
    let expected = [
        (2, 2, 'A'),
        (3, 4, 'D'),
        (5, 5, 'A'),
        (8, 9, 'B'),
        (14, 14, 'C'),
    ];
    assert_eq!(
        model.entries(),
        expected.map(|(first, last, v)| (range(first, last), v))
    );
}

#[test]
fn a_remove_across_entries_clips_what_it_displaces() {
    let mut model = sample();
    assert_eq!(
        model.remove(range(5, 8)),
        [(range(5, 5), 'A'), (range(8, 8), 'B')]
    );
    assert_eq!(model.find(6), ModelSegment::Gap(range(5, 8)));
}

#[test]
fn an_insert_is_refused_when_one_index_is_taken() {
    let mut model = sample();
    assert!(!model.insert(range(6, 8), 'D'));
    assert_eq!(model, sample());
    assert!(model.insert(range(6, 7), 'D'));
}

#[test]
fn neighbours_of_an_index() {
    let model = sample();
    assert_eq!(model.at_or_after(5).unwrap().1, 'A');
    assert_eq!(model.at_or_after(6).unwrap().1, 'B');
    assert_eq!(model.after(2).unwrap().1, 'B');
    assert_eq!(model.before(8).unwrap().1, 'A');
    assert_eq!(model.at_or_before(8).unwrap().1, 'B');
    assert_eq!(model.before(5), None);
    assert_eq!(model.after(14), None);
}

#[test]
fn segments_cover_the_bounds_and_keep_entries_whole() {
    let segments = sample().segments(range(4, 11));
    let expected = [
        ModelSegment::Entry(range(2, 5), 'A'),
        ModelSegment::Gap(range(6, 7)),
        ModelSegment::Entry(range(8, 9), 'B'),
        ModelSegment::Gap(range(10, 11)),
    ];
    assert_eq!(segments, expected);
}

#[test]
fn fits_are_the_outermost_ones_that_are_aligned() {
    let model = sample();
    let whole = range(0, 15);
    assert_eq!(
        model.lowest_gap(&request(2, whole, 1, 0)),
        Some(range(0, 1))
    );
    assert_eq!(
        model.highest_gap(&request(2, whole, 1, 0)),
        Some(range(12, 13))
    );
    assert_eq!(
        model.lowest_gap(&request(3, whole, 4, 3)),
        Some(range(11, 13))
    );
    assert_eq!(
        model.highest_gap(&request(2, whole, 4, 2)),
        Some(range(10, 11))
    );
    assert_eq!(model.lowest_gap(&request(5, whole, 1, 0)), None);
}

#[test]
fn an_empty_model_is_one_gap_up_to_the_last_index() {
    let model = Model::<char>::new();
    assert_eq!(model.find(7), ModelSegment::Gap(IndexRange::FULL));
    let all_but_one = request(u64::MAX, IndexRange::FULL, 1, 0);
    assert_eq!(model.lowest_gap(&all_but_one), Some(range(0, u64::MAX - 1)));
    assert_eq!(model.highest_gap(&all_but_one), Some(range(1, u64::MAX)));
}
