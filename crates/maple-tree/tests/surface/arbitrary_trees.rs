//! The `arbitrary` feature.

use arbitrary::{Arbitrary, Unstructured};
use maple_tree::{Alignment, GapRequest, IndexRange, MapleTree};
use testkit::{SplitMix, assert_valid};

/// What `draw` makes of 300 inputs of `length` random bytes.
fn drawn<T>(length: usize, draw: impl Fn(&mut Unstructured<'_>) -> T) -> Vec<T> {
    let mut rng = SplitMix::new(7);
    let mut one = || {
        let bytes: Vec<u8> = (0..length).map(|_| rng.next_u64() as u8).collect();
        draw(&mut Unstructured::new(&bytes))
    };
    (0..300).map(|_| one()).collect()
}

#[test]
fn trees_are_valid_and_of_many_shapes() {
    let trees = drawn(4000, |u| MapleTree::<u8>::arbitrary(u).unwrap());
    trees.iter().for_each(assert_valid);
    let count = |is: fn(&MapleTree<u8>) -> bool| trees.iter().filter(|tree| is(tree)).count();
    let touching =
        |tree: &MapleTree<u8>| tree.iter().count() > 1 && tree.gaps(..).count() < tree.len();
    for several in [
        count(MapleTree::is_empty),
        count(|tree| tree.len() > 2),
        count(MapleTree::tracks_gaps),
        count(|tree| !tree.tracks_gaps()),
        count(touching),
    ] {
        assert!(several > 10, "only {several} of 300");
    }
}

#[test]
fn no_bytes_make_an_empty_tree() {
    let tree = MapleTree::<u8>::arbitrary(&mut Unstructured::new(&[])).unwrap();
    assert!(tree.is_empty());
}

#[test]
fn many_bytes_of_ones_make_a_tall_tree_that_ends() {
    // `1`: another entry, right behind the one before, of two indices.
    let bytes = [1; 4000];
    let tree = MapleTree::<u8>::arbitrary(&mut Unstructured::new(&bytes)).unwrap();
    assert!(tree.len() > 900 && tree.height() > 1);
    assert_valid(&tree);
    // `0xff`: as long as can be.
    let bytes = [0xff; 4000];
    let tree = MapleTree::<u8>::arbitrary(&mut Unstructured::new(&bytes)).unwrap();
    assert_eq!(tree.last().unwrap().0, IndexRange::FULL);
    assert_valid(&tree);
}

#[test]
fn requests_are_served_by_an_empty_tree_or_do_not_fit_their_window() {
    let tree = MapleTree::<u8>::with_gaps();
    let requests = drawn(64, |u| GapRequest::arbitrary(u).unwrap());
    let served = requests
        .iter()
        .filter(|request| tree.lowest_gap(request).is_some());
    let served = served.count();
    assert!((100..300).contains(&served), "{served} of 300 served");
}

#[test]
fn ranges_and_alignments_differ() {
    let ranges = drawn(17, |u| IndexRange::arbitrary(u).unwrap());
    assert!(ranges.iter().all(|range| range.first() <= range.last()));
    assert!(ranges.windows(2).all(|pair| pair[0] != pair[1]));
    let alignments = drawn(10, |u| Alignment::arbitrary(u).unwrap());
    assert!(alignments.iter().any(|&it| it != alignments[0]));
}

#[test]
fn hints_hold() {
    assert_eq!(IndexRange::size_hint(0), (9, Some(17)));
    assert!(GapRequest::size_hint(0).0 >= 1 && Alignment::size_hint(0).0 >= 1);
    assert_eq!(MapleTree::<u8>::size_hint(0).1, None);
}
