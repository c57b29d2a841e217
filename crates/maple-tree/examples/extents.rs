//! The extents of a file: where its blocks lie on disk, with snapshots that cost nothing to
//! take, and what has changed between two of them.

use std::error::Error;
use std::ops::Range;

use maple_tree::{IndexRange, MapleTree, Overlaid};

/// How far a block is moved from its place in the file to that on disk, wrapped round.
///
/// The same for all blocks of an extent: so one that is cut in two needs no mending, and two
/// are continuous where they touch and are equal.
type Shift = u64;

/// A file whose blocks are never overwritten: each write goes to fresh ones.
struct File {
    extents: MapleTree<Shift>,
    /// The first disk block that was never used.
    fresh: u64,
}

impl File {
    fn write(&mut self, blocks: Range<u64>) -> Result<(), Box<dyn Error>> {
        let range = IndexRange::try_from(blocks.clone())?;
        let shift = self.fresh.wrapping_sub(blocks.start);
        self.fresh += blocks.end - blocks.start;
        self.extents.store_coalescing(range, shift)?;
        Ok(())
    }

    /// Gives blocks back: they read as zeroes.
    fn punch(&mut self, blocks: Range<u64>) -> Result<(), Box<dyn Error>> {
        Ok(self.extents.remove(IndexRange::try_from(blocks)?)?)
    }

    fn disk_block(&self, block: u64) -> Option<u64> {
        let shift = self.extents.get(block)?;
        Some(block.wrapping_add(*shift))
    }

    fn print(&self, name: &str) {
        println!("{name}:");
        for (range, &shift) in &self.extents {
            let (first, last) = (range.first(), range.last());
            let disk = first.wrapping_add(shift);
            println!("  blocks {first:>3}..={last:<3} at {disk}");
        }
    }
}

/// What an incremental backup has to carry.
fn changes(old: &MapleTree<Shift>, new: &MapleTree<Shift>) -> Vec<(IndexRange, &'static str)> {
    let change = |(range, found)| match found {
        Overlaid::Both(old, new) if old == new => None,
        Overlaid::Both(..) => Some((range, "written again")),
        Overlaid::Left(_) => Some((range, "gone")),
        Overlaid::Right(_) => Some((range, "new")),
    };
    old.overlay(new).filter_map(change).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut file = File {
        extents: MapleTree::new(),
        fresh: 1000,
    };
    // Two writes, one after the other in the file and on disk: one extent.
    file.write(0..60)?;
    file.write(60..100)?;
    assert_eq!(file.extents.len(), 1);

    let monday = file.extents.snapshot();
    file.write(40..50)?;
    file.write(120..128)?;
    file.punch(90..100)?;
    file.print("the file");
    assert_eq!(file.disk_block(39), Some(1039));
    assert_eq!(file.disk_block(40), Some(1100));
    assert_eq!(file.disk_block(50), Some(1050)); // behind the cut, where it was
    assert_eq!(file.disk_block(95), None);

    println!("since Monday:");
    let changes = changes(&monday, &file.extents);
    for (range, what) in &changes {
        println!("  blocks {:>3}..={:<3} {what}", range.first(), range.last());
    }
    assert_eq!(changes.len(), 3);
    assert_eq!(changes[1].1, "gone");

    // Back to Monday: the snapshot is a tree like any other.
    file.extents = monday.snapshot();
    assert_eq!(file.disk_block(95), Some(1095));
    MapleTree::validate_family(&[&file.extents, &monday])?;
    println!("back to Monday: {} extent", file.extents.len());
    Ok(())
}
