//! `IndexRange`.

use maple_tree::{EmptyRange, IndexRange, NoExclusiveEnd, NotSingle};
use std::ops::{Bound, Range, RangeInclusive};
use testkit::range;

#[test]
fn a_range_has_its_bounds_in_order() {
    assert_eq!(IndexRange::new(5, 4), None);
    let single = IndexRange::new(5, 5).unwrap();
    assert_eq!(
        (single, single.first(), single.last()),
        (IndexRange::single(5), 5, 5)
    );
}

#[test]
fn the_full_range_has_more_indices_than_a_u64_counts() {
    assert_eq!(IndexRange::FULL, range(0, u64::MAX));
    assert_eq!(IndexRange::FULL.count(), None);
    assert_eq!(range(1, u64::MAX).count(), Some(u64::MAX));
    assert_eq!(IndexRange::single(u64::MAX).count(), Some(1));
}

#[test]
fn bounds_of_every_kind_become_inclusive_ones() {
    assert_eq!(IndexRange::from_bounds(3..6), Some(range(3, 5)));
    assert_eq!(IndexRange::from_bounds(3..=6), Some(range(3, 6)));
    assert_eq!(IndexRange::from_bounds(..6), Some(range(0, 5)));
    assert_eq!(IndexRange::from_bounds(3..), Some(range(3, u64::MAX)));
    assert_eq!(IndexRange::from_bounds(..), Some(IndexRange::FULL));
    let excluded = (Bound::Excluded(3), Bound::Excluded(6));
    assert_eq!(IndexRange::from_bounds(excluded), Some(range(4, 5)));
}

#[test]
#[expect(
    clippy::reversed_empty_ranges,
    reason = "an empty range is what the test is about"
)]
fn empty_bounds_are_no_range() {
    assert_eq!(IndexRange::from_bounds(3..3), None);
    assert_eq!(IndexRange::from_bounds(..0), None);
    assert_eq!(IndexRange::from_bounds(4..=3), None);
    assert_eq!(
        IndexRange::from_bounds((Bound::Excluded(u64::MAX), Bound::Unbounded)),
        None
    );
    assert_eq!(IndexRange::try_from(3..3), Err(EmptyRange));
    assert_eq!(IndexRange::try_from(4..=3), Err(EmptyRange));
}

#[test]
fn conversions_keep_the_indices() {
    assert_eq!(IndexRange::from(7), IndexRange::single(7));
    assert_eq!(IndexRange::try_from(3..6), Ok(range(3, 5)));
    assert_eq!(IndexRange::try_from(0..=u64::MAX), Ok(IndexRange::FULL));
    assert_eq!(IndexRange::try_from(..6), Ok(range(0, 5)));
    assert_eq!(IndexRange::try_from(..0), Err(EmptyRange));
    assert_eq!(IndexRange::from(..), IndexRange::FULL);
    assert_eq!(IndexRange::from(..=0), IndexRange::single(0));
    assert_eq!(IndexRange::from(3..), range(3, u64::MAX));
    assert_eq!(IndexRange::from(u64::MAX..), IndexRange::single(u64::MAX));
}

#[test]
fn a_range_becomes_one_of_core_where_that_can_express_it() {
    assert_eq!(Range::try_from(range(3, 5)), Ok(3..6));
    assert_eq!(Range::try_from(range(3, u64::MAX - 1)), Ok(3..u64::MAX));
    assert_eq!(Range::try_from(range(3, u64::MAX)), Err(NoExclusiveEnd));
    assert_eq!(RangeInclusive::from(IndexRange::FULL), 0..=u64::MAX);
    assert_eq!(u64::try_from(range(7, 7)), Ok(7));
    assert_eq!(u64::try_from(range(7, 8)), Err(NotSingle));
    for error in [NoExclusiveEnd.to_string(), NotSingle.to_string()] {
        assert!(error.contains("; "), "it says what to do: {error}");
    }
}

/// ```text
///  0123456789abcdef
///  ...aaaa.........
///  .....bbbb.......
///  .......ccc......
/// ```
#[test]
fn ranges_overlap_where_they_share_an_index() {
    let (a, b, c) = (range(3, 6), range(5, 8), range(7, 9));
    assert!(a.overlaps(b) && b.overlaps(a) && !a.overlaps(c));
    assert_eq!(a.intersection(b), Some(range(5, 6)));
    assert_eq!(a.intersection(c), None);
    assert!(a.contains(3) && a.contains(6) && !a.contains(7));
    assert!(a.contains_range(a) && a.contains_range(range(4, 6)) && !a.contains_range(b));
}

#[test]
fn a_range_is_displayed_in_hexadecimal() {
    assert_eq!(range(16, 31).to_string(), "0x10..=0x1f");
}
