//! One passage at a time, and what another thread did just before it.

extern crate std;

use std::cell::Cell;
use std::sync::Arc;

use maple_tree::EpochRcu;

use super::Liveness;
use crate::paging::path::Place;
use crate::paging::tables::Put;
use crate::paging::{
    Arena, ArenaLayout, Attributes, Beside, Content, Entry, FlushRange, FrameSize, Leaf, LeafFlags,
    NewPage, NoTlb, PageKind, PageTables, PagingError, PhysMemory, Resolved, Sharing, Tiny,
    TlbFlusher, validate_family,
};

#[cfg(not(miri))]
type Lock = parking_lot::RawMutex;
#[cfg(miri)]
type Lock = spin::Mutex<()>;

type Memory = Arc<Arena<Lock>>;
type Tables = PageTables<Tiny<2>, Memory, Beside<EpochRcu>>;

const READ: LeafFlags = LeafFlags::READ.union(LeafFlags::USER);

fn memory() -> Memory {
    Arc::new(Arena::new(ArenaLayout::of_frames(64)).expect("the host has memory"))
}

fn tables(memory: &Memory) -> Tables {
    let company = Beside::new(EpochRcu);
    Tables::with_company(Arc::clone(memory), company).expect("a frame for the root")
}

/// Maps a private page at 0.
fn map(tables: &Tables, rights: LeafFlags) -> Result<(), PagingError> {
    let memory = tables.memory();
    let frame = memory.allocate(FrameSize::SMALL, Content::Zeroed)?;
    let attributes = Attributes::new(PageKind::Anon, rights);
    let page = NewPage { frame, attributes };
    let mapped = tables.map(0, page, &mut tables.gather(NoTlb));
    mapped.map_err(|error| {
        memory.release(error.frame);
        error.kind
    })
}

fn leaf(place: Place<'_>) -> Leaf {
    match place.entry::<Tiny<2>>() {
        Entry::Leaf(leaf) => leaf,
        entry => panic!("{entry:?}"),
    }
}

#[test]
fn a_page_that_a_fork_shares_since_somebody_looked_is_not_written() {
    let memory = memory();
    let tables = tables(&memory);
    map(&tables, READ).expect("memory");
    let looked = leaf(tables.find(0, 0));
    let mut child = self::tables(&memory);
    let mut gather = tables.gather(NoTlb);
    tables.share_all(&mut child, &mut gather).expect("it can");
    let place = tables.own_leaf(0, &mut gather).expect("memory");
    let allowed = tables.allow((place, looked), (Sharing::Private, Liveness::SURE));
    assert_eq!(allowed, Put::Lost);
    drop(gather);
    tables.barrier();
    assert_eq!(validate_family(&[&tables, &child], |_| 0), Ok(()));
}

/// Asks, when it is to flush, whether the page may be reached.
struct Witness<'t> {
    tables: &'t Tables,
    flushed: &'t Cell<u32>,
}

impl TlbFlusher for Witness<'_> {
    fn range(&self, _: &FlushRange) {
        panic!("the old table would be found again, which leads to the old page");
    }

    fn freed_tables(&self, range: &FlushRange) {
        let entry = self.tables.find(range.addresses.start, 0);
        if entry.level == 0 && entry.entry::<Tiny<2>>() == Entry::Empty {
            self.flushed.set(self.flushed.get() + 1);
        }
    }

    fn full(&self) {}
}

#[test]
fn nobody_reads_the_old_page_when_somebody_may_write_the_new_one() {
    let memory = memory();
    let tables = tables(&memory);
    map(&tables, READ).expect("memory");
    let mut child = self::tables(&memory);
    let shared = tables.share_all(&mut child, &mut tables.gather(NoTlb));
    shared.expect("it can");
    let flushed = Cell::new(0);
    let witness = Witness {
        tables: &tables,
        flushed: &flushed,
    };
    let resolved = tables.resolve_write(0, Sharing::Private, &mut tables.gather(witness));
    assert_eq!((resolved, flushed.get()), (Ok(Resolved::Copied), 1));
}

#[test]
fn each_frame_that_is_missing_is_provided_or_refused() {
    // The page, and two tables.
    for left in 0..4 {
        let memory = memory();
        let tables = tables(&memory);
        let all = core::iter::from_fn(|| memory.allocate(FrameSize::SMALL, Content::Any).ok());
        let mut taken: std::vec::Vec<_> = all.collect();
        for frame in taken.drain(..left) {
            memory.release(frame);
        }
        let before = memory.in_use();
        let mapped = map(&tables, READ);
        if left < 3 {
            assert_eq!(mapped, Err(PagingError::OutOfFrames));
            assert_eq!((memory.in_use(), tables.pgtables_bytes()), (before, 0));
        } else {
            assert_eq!(mapped, Ok(()));
            assert_eq!(memory.in_use(), before + 3);
        }
        assert_eq!(validate_family(&[&tables], |_| 0), Ok(()));
        taken.into_iter().for_each(|frame| memory.release(frame));
    }
}

#[test]
fn a_huge_page_is_not_mapped_where_a_table_is() {
    let memory = memory();
    let tables = tables(&memory);
    map(&tables, READ).expect("memory");
    let zapped = tables.zap(0..4096, &mut tables.gather(NoTlb));
    zapped.expect("nothing is cut");
    assert!(!tables.may_map_huge(0..4 * 4096));
    assert!(tables.may_map_huge(4 * 4096..8 * 4096));
}
