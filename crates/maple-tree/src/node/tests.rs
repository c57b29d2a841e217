//! Counts of links that no test could reach by making as many.

use core::sync::atomic::Ordering;

use super::REFS_SATURATED;
use crate::{IndexRange, MapleTree};

#[test]
fn a_count_that_is_saturated_is_never_lowered_again() {
    let tree: MapleTree<u64> = (0..9).map(|i| (IndexRange::single(3 * i), i)).collect();
    let refs = &tree.root.link().unwrap().node().refs;
    refs.store(REFS_SATURATED - 1, Ordering::Relaxed);
    let snapshots = [(); 3].map(|()| tree.snapshot());
    assert_eq!(refs.load(Ordering::Relaxed), REFS_SATURATED);
    for snapshot in snapshots {
        assert_eq!(snapshot.get(24), Some(&8));
        drop(snapshot);
        assert_eq!(refs.load(Ordering::Relaxed), REFS_SATURATED);
        assert_eq!(tree.get(24), Some(&8), "the root is not freed");
    }
    tree.validate().unwrap();
    // Or the root would leak, as it should.
    refs.store(1, Ordering::Relaxed);
}
