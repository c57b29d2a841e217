//! Copies and shared tables: who sees which page, what is counted, what a change copies.

use std::cell::RefCell;

use crate::support::{
    PAGE, Tables, Told, USER, Witness, check, frame, map, map_huge, mark_at, memory, page, silent,
    space,
};
use maple_mm::paging::{
    Arch, Attributes, CopyRange, Cow, Entry, FlagChange, FrameSize, Gather, LeafFlags, NewPage,
    PageKind, PagingError, PhysMemory, Resolved, Sharing, TableRange, Tiny, X86_64,
};

type Quad = X86_64<4>;
const HUGE: u64 = 2 << 20;
const ALL: std::ops::Range<u64> = 0..1 << 47;

fn copied<'m>(parent: &mut Tables<'m, Quad>, cow: Cow) -> Tables<'m, Quad> {
    let memory = *parent.memory();
    let mut child = space(memory);
    let mut gather = silent(&memory);
    let copy = CopyRange {
        addresses: ALL,
        cow,
    };
    parent.copy_range(&mut child, &copy, &mut gather).unwrap();
    child
}

fn shared<'m>(parent: &mut Tables<'m, Quad>) -> Tables<'m, Quad> {
    let memory = *parent.memory();
    let mut child = space(memory);
    parent.share_all(&mut child, &mut silent(&memory)).unwrap();
    child
}

#[track_caller]
fn resolve(tables: &mut Tables<'_, Quad>, addr: u64) -> Resolved {
    let mut gather = silent(tables.memory());
    tables
        .resolve_write(addr, Sharing::Private, &mut gather)
        .unwrap()
}

mod copying {
    use super::*;

    #[test]
    fn both_sides_lose_the_right_to_write_and_the_last_owner_needs_no_copy() {
        let memory = &memory(64);
        let mut parent = space::<Quad>(memory);
        map(&mut parent, 0x5000, 1);
        let mut child = copied(&mut parent, Cow::Private);
        check(&[&parent, &child]);
        for side in [&parent, &child] {
            assert!(side.write(0x5000, &[9]).is_err());
            assert_eq!(side.resident().anon, 1);
        }
        assert_eq!(resolve(&mut child, 0x5000), Resolved::Copied);
        assert_eq!(resolve(&mut parent, 0x5000), Resolved::Reused);
        child.write(0x5000, &[9; 8]).unwrap();
        assert_eq!(mark_at(&parent, 0x5000), 1);
        check(&[&parent, &child]);
    }

    #[test]
    fn the_right_to_write_cannot_be_set_while_others_see_the_page() {
        let memory = &memory(64);
        let mut parent = space::<Quad>(memory);
        map(&mut parent, 0x5000, 1);
        let child = copied(&mut parent, Cow::Private);
        let mut gather = silent(&memory);
        let write = FlagChange {
            set: LeafFlags::WRITE,
            clear: LeafFlags::empty(),
        };
        let refused = parent.set_flags(0x5000, write, &mut gather);
        assert_eq!(refused, Err(PagingError::NotExclusive));
        drop(child);
        assert_eq!(parent.set_flags(0x5000, write, &mut gather), Ok(()));
        parent.write(0x5000, &[1]).unwrap();
    }

    #[test]
    fn entries_of_the_child_are_not_accessed_and_shared_ones_are_clean() {
        let memory = &memory(64);
        let mut parent = space::<Quad>(memory);
        let mut gather = silent(&memory);
        let page = page(memory, 3, PageKind::Shmem);
        parent.map(0x5000, page, &mut gather).unwrap();
        parent.write(0x5000, &[1]).unwrap();
        let child = copied(&mut parent, Cow::Shared);
        let flags = child.entry(0x5000).unwrap().leaf.attributes.flags;
        assert_eq!(flags, USER);
        child.write(0x5000, &[7; 8]).unwrap();
        assert_eq!(mark_at(&parent, 0x5000), u64::from_ne_bytes([7; 8]));
        assert_eq!(child.resident().shmem, 1);
        check(&[&parent, &child]);
    }

    #[test]
    fn only_what_was_writable_is_flushed() {
        let memory = &memory(64);
        let mut parent = space::<Quad>(memory);
        let mut gather = silent(&memory);
        map(&mut parent, 0x5000, 1);
        parent.map_zero_page(0x9000, USER, &mut gather).unwrap();
        let witness = Witness {
            memory,
            told: RefCell::default(),
        };
        for _ in 0..2 {
            let mut child = space::<Quad>(memory);
            let mut gather = Gather::new(&memory, &witness);
            let copy = CopyRange {
                addresses: ALL,
                cow: Cow::Private,
            };
            parent.copy_range(&mut child, &copy, &mut gather).unwrap();
        }
        let told = witness.told.into_inner();
        let [(Told::Range(range), _)] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(range.addresses, 0x5000..0x6000);
    }

    #[test]
    fn a_child_that_has_pages_there_is_refused() {
        let memory = &memory(64);
        let mut parent = space::<Quad>(memory);
        let mut child = space::<Quad>(memory);
        map(&mut parent, 0x5000, 1);
        map(&mut child, 0x6000, 2);
        let copy = CopyRange {
            addresses: 0x5000..0x7000,
            cow: Cow::Private,
        };
        let refused = parent.copy_range(&mut child, &copy, &mut silent(&memory));
        assert_eq!(refused, Err(PagingError::Occupied));
        assert_eq!(mark_at(&child, 0x6000), 2);
    }

    #[test]
    fn an_explicitly_huge_page_is_copied_whole_and_another_is_split() {
        for extra in [LeafFlags::EXPLICIT, LeafFlags::empty()] {
            let memory = &memory(4096);
            let mut parent = space::<Quad>(memory);
            map_huge(&mut parent, HUGE, extra);
            let mut child = copied(&mut parent, Cow::Private);
            assert_eq!(resolve(&mut child, HUGE + 5 * PAGE), Resolved::Copied);
            child.write(HUGE + 5 * PAGE, &[1; 8]).unwrap();
            assert_eq!(mark_at(&parent, HUGE + 5 * PAGE), HUGE);
            assert_eq!(mark_at(&child, HUGE + 6 * PAGE), HUGE);
            let size = child.entry(HUGE + 5 * PAGE).unwrap().size;
            assert_eq!(size == HUGE, extra == LeafFlags::EXPLICIT);
            assert_eq!(child.resident(), parent.resident());
            check(&[&parent, &child]);
            drop((parent, child));
            assert_eq!(memory.in_use(), 0);
        }
    }
}

#[test]
fn a_page_that_was_copied_is_flushed_before_it_is_given_up() {
    let memory = &memory(64);
    let mut parent = space::<Quad>(memory);
    map(&mut parent, 0x5000, 1);
    let child = copied(&mut parent, Cow::Private);
    let witness = Witness {
        memory,
        told: RefCell::default(),
    };
    let mut gather = Gather::new(&memory, &witness);
    let resolved = child.resolve_write(0x5000, Sharing::Private, &mut gather);
    assert_eq!(resolved, Ok(Resolved::Copied));
    drop(parent);
    let in_use = memory.in_use();
    gather.finish();
    let told = witness.told.into_inner();
    let [(Told::Range(range), before)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(range.addresses, 0x5000..0x6000);
    assert_eq!((*before, memory.in_use()), (in_use, in_use - 1));
}

mod sharing {
    use super::*;

    #[test]
    fn sharing_takes_one_root_whatever_is_mapped() {
        let memory = &memory(4096);
        let mut parent = space::<Quad>(memory);
        for index in 0..1000 {
            map(&mut parent, index * HUGE, index);
        }
        let in_use = memory.in_use();
        let child = shared(&mut parent);
        assert_eq!(memory.in_use(), in_use + 1);
        assert_eq!(child.resident(), parent.resident());
        assert_eq!(child.pgtables_bytes(), parent.pgtables_bytes());
        assert_eq!(mark_at(&child, 999 * HUGE), 999);
        check(&[&parent, &child]);
        drop(child);
        check(&[&parent]);
    }

    #[test]
    fn a_write_copies_one_table_a_level_and_one_page() {
        let memory = &memory(4096);
        let mut parent = space::<Quad>(memory);
        for index in 0..100 {
            map(&mut parent, index * HUGE, index);
        }
        let mut child = shared(&mut parent);
        let in_use = memory.in_use();
        assert_eq!(resolve(&mut child, 7 * HUGE), Resolved::Copied);
        assert_eq!(memory.in_use(), in_use + 4);
        check(&[&parent, &child]);
        // The parent is alone with the lowest table and the page by now, but not above.
        assert_eq!(resolve(&mut parent, 7 * HUGE), Resolved::Reused);
        assert_eq!(memory.in_use(), in_use + 4);
        check(&[&parent, &child]);
        child.write(7 * HUGE, &[1; 8]).unwrap();
        assert_eq!(mark_at(&parent, 7 * HUGE), 7);
        assert_eq!(child.pgtables_bytes(), parent.pgtables_bytes());
    }

    #[test]
    fn who_is_left_alone_gets_the_right_to_write_back_lazily() {
        let memory = &memory(64);
        let mut parent = space::<Quad>(memory);
        map(&mut parent, 0x5000, 1);
        drop(shared(&mut parent));
        let entry = parent.entry(0x5000).unwrap();
        assert!(entry.leaf.is_writable() && !entry.is_writable());
        let in_use = memory.in_use();
        assert_eq!(resolve(&mut parent, 0x5000), Resolved::Reused);
        assert_eq!(memory.in_use(), in_use);
        parent.write(0x5000, &[1]).unwrap();
    }

    #[test]
    fn pages_of_files_stay_shared_and_writable_through_a_copied_table() {
        let memory = &memory(64);
        let mut parent = space::<Quad>(memory);
        let mut gather = silent(&memory);
        let page = page(memory, 3, PageKind::Shmem);
        let cached = memory.share(&page.frame);
        parent.map(0x5000, page, &mut gather).unwrap();
        map(&mut parent, 0x6000, 4);
        let child = shared(&mut parent);
        assert!(child.write(0x5000, &[1]).is_err(), "the table is shared");
        let resolved = child.resolve_write(0x5000, Sharing::Shared, &mut gather);
        assert_eq!(resolved, Ok(Resolved::Reused));
        child.write(0x5000, &[1; 8]).unwrap();
        assert_eq!(mark_at(&parent, 0x5000), u64::from_ne_bytes([1; 8]));
        assert!(
            child.write(0x6000, &[1]).is_err(),
            "the private page is not the child's"
        );
        assert_eq!(memory.info(cached.addr()).count(), 3);
        assert!(!memory.info(cached.addr()).is_dirty());
        drop((child, gather));
        assert!(
            memory.info(cached.addr()).take_dirty(),
            "the child's entry was written through"
        );
        parent.write(0x5000, &[2]).unwrap_err();
        let mut gather = silent(&memory);
        parent
            .resolve_write(0x5000, Sharing::Shared, &mut gather)
            .unwrap();
        parent.zap(0x5000..0x6000, &mut gather).unwrap();
        drop((parent, gather));
        assert!(memory.info(cached.addr()).take_dirty());
        memory.release(cached);
        assert_eq!(memory.in_use(), 0);
    }

    #[test]
    fn a_zap_drops_whole_shared_tables_and_copies_those_it_cuts() {
        let memory = &memory(4096);
        let mut parent = space::<Quad>(memory);
        for index in 0..600 {
            map(&mut parent, index * HUGE, index);
            map(&mut parent, index * HUGE + PAGE, index);
        }
        let child = shared(&mut parent);
        let in_use = memory.in_use();
        let mut gather = silent(&memory);
        // One page of region 3 is left, regions 4 to 598 go, one page of region 599 is left.
        child
            .zap(3 * HUGE + PAGE..599 * HUGE + PAGE, &mut gather)
            .unwrap();
        gather.flush();
        assert_eq!(child.resident().anon, 2 * 3 + 1 + 1);
        // Copied: the top table, two middle ones, two lowest ones.
        assert_eq!(memory.in_use(), in_use + 5);
        check(&[&parent, &child]);
        assert_eq!(mark_at(&parent, 300 * HUGE), 300);
        assert_eq!(child.pages(ALL).count(), 8);
    }

    #[test]
    fn clearing_one_side_leaves_the_other_whole() {
        let memory = &memory(256);
        let mut parent = space::<Quad>(memory);
        for index in 0..50 {
            map(&mut parent, index * HUGE, index);
        }
        let child = shared(&mut parent);
        let witness = Witness {
            memory,
            told: RefCell::default(),
        };
        let mut gather = Gather::new(&memory, &witness);
        let in_use = memory.in_use();
        parent.clear(&mut gather);
        gather.finish();
        assert_eq!(witness.told.into_inner(), [(Told::Full, in_use)]);
        assert_eq!(memory.in_use(), in_use, "all of it is the child's");
        assert_eq!(parent.pgtables_bytes(), 0);
        assert_eq!(mark_at(&child, 49 * HUGE), 49);
        check(&[&parent, &child]);
        drop(child);
        assert_eq!(memory.in_use(), 1);
    }

    #[test]
    fn a_child_of_a_child_shares_what_neither_changed() {
        let memory = &memory(256);
        let mut parent = space::<Quad>(memory);
        map(&mut parent, 0x5000, 1);
        map(&mut parent, 0x8000, 2);
        let mut child = shared(&mut parent);
        resolve(&mut child, 0x5000);
        child.write(0x5000, &11_u64.to_ne_bytes()).unwrap();
        let mut grandchild = shared(&mut child);
        check(&[&parent, &child, &grandchild]);
        resolve(&mut grandchild, 0x8000);
        grandchild.write(0x8000, &22_u64.to_ne_bytes()).unwrap();
        check(&[&parent, &child, &grandchild]);
        let seen = [&parent, &child, &grandchild]
            .map(|side| [0x5000, 0x8000].map(|addr| mark_at(side, addr)));
        assert_eq!(seen, [[1, 2], [11, 2], [11, 22]]);
        drop(child);
        check(&[&parent, &grandchild]);
    }

    #[test]
    fn a_moved_table_stays_shared() {
        let memory = &memory(256);
        let mut parent = space::<Quad>(memory);
        map(&mut parent, 4 * HUGE, 1);
        let mut child = shared(&mut parent);
        let in_use = memory.in_use();
        let mut gather = silent(&memory);
        let range = maple_mm::paging::MoveRange {
            from: 4 * HUGE,
            to: 8 * HUGE,
            len: HUGE,
        };
        child.move_range(range, &mut gather).unwrap();
        gather.flush();
        assert_eq!(
            memory.in_use(),
            in_use + 2,
            "the two tables above were copied"
        );
        assert_eq!(mark_at(&parent, 4 * HUGE), 1);
        assert_eq!(mark_at(&child, 8 * HUGE), 1);
        assert_eq!(child.entry(4 * HUGE), None);
        check(&[&parent, &child]);
        resolve(&mut child, 8 * HUGE);
        check(&[&parent, &child]);
    }

    #[test]
    fn freeing_tables_looks_at_none_that_is_shared() {
        let memory = &memory(256);
        let mut parent = space::<Quad>(memory);
        map(&mut parent, 4 * HUGE, 1);
        let child = shared(&mut parent);
        child.free_tables(&TableRange::all::<Quad>(), &mut silent(&memory));
        assert_eq!(mark_at(&child, 4 * HUGE), 1);
        check(&[&parent, &child]);
    }

    #[test]
    fn only_an_empty_child_can_share() {
        let memory = &memory(64);
        let parent = space::<Quad>(memory);
        let mut child = space::<Quad>(memory);
        map(&mut child, 0x5000, 1);
        let refused = parent.share_all(&mut child, &mut silent(&memory));
        assert_eq!(refused, Err(PagingError::Occupied));
    }

    #[test]
    fn a_huge_page_in_a_shared_table_is_split_for_one_side() {
        let memory = &memory(4096);
        let mut parent = space::<Quad>(memory);
        map_huge(&mut parent, HUGE, LeafFlags::empty());
        let mut child = shared(&mut parent);
        assert_eq!(resolve(&mut child, HUGE + PAGE), Resolved::Copied);
        check(&[&parent, &child]);
        assert_eq!(parent.entry(HUGE).unwrap().size, HUGE);
        assert_eq!(child.entry(HUGE).unwrap().size, PAGE);
        // The parent writes while the child has the other 511 parts: split and copied, too.
        assert_eq!(resolve(&mut parent, HUGE), Resolved::Copied);
        check(&[&parent, &child]);
        drop((parent, child));
        assert_eq!(memory.in_use(), 0);
    }
}

#[test]
fn a_private_page_of_a_file_becomes_anonymous_when_written() {
    let memory = &memory(64);
    let tables = space::<Quad>(memory);
    let mut gather = silent(&memory);
    let cached = frame(memory, FrameSize::SMALL, 5);
    let page = NewPage {
        frame: memory.share(&cached),
        attributes: Attributes::new(PageKind::File, USER - LeafFlags::WRITE),
    };
    tables.map(0x5000, page, &mut gather).unwrap();
    assert_eq!(tables.resident().file, 1);
    let resolved = tables.resolve_write(0x5000, Sharing::Private, &mut gather);
    assert_eq!(resolved, Ok(Resolved::Copied));
    gather.flush();
    let resident = tables.resident();
    assert_eq!((resident.file, resident.anon), (0, 1));
    assert_eq!(memory.info(cached.addr()).count(), 1);
    let resolved = tables.resolve_write(0x5000, Sharing::Private, &mut gather);
    assert_eq!(resolved, Ok(Resolved::Reused));
    let missing = tables.resolve_write(0x6000, Sharing::Private, &mut gather);
    assert_eq!(missing, Err(PagingError::NotMapped));
    memory.release(cached);
}

/// A processor whose upper entries cannot forbid writing; otherwise as `Tiny<2>`.
#[derive(Debug)]
struct LeavesOnly;

impl Arch for LeavesOnly {
    const LEVELS: usize = Tiny::<2>::LEVELS;
    const INDEX_BITS: u32 = Tiny::<2>::INDEX_BITS;
    const USER_END: u64 = Tiny::<2>::USER_END;
    const UPPER_WRITE_PROTECT: bool = false;

    fn decode(raw: u64, level: usize) -> Entry {
        Tiny::<2>::decode(raw, level)
    }

    fn encode(entry: Entry, level: usize) -> u64 {
        Tiny::<2>::encode(entry, level)
    }
}

#[test]
fn where_the_top_cannot_forbid_writing_tables_are_copied() {
    let memory = &memory(64);
    let mut parent = space::<LeavesOnly>(memory);
    map(&mut parent, 0x5000, 1);
    let mut child = space(memory);
    let mut gather = silent(&memory);
    let refused = parent.share_all(&mut child, &mut gather);
    assert_eq!(refused, Err(PagingError::Unsupported));
    let copy = CopyRange {
        addresses: 0..LeavesOnly::USER_END,
        cow: Cow::Private,
    };
    parent.copy_range(&mut child, &copy, &mut gather).unwrap();
    assert_eq!(mark_at(&child, 0x5000), 1);
    check(&[&parent, &child]);
}
