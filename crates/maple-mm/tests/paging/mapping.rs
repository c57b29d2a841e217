//! Mapping, looking up, protecting, moving, huge pages.

use std::cell::RefCell;

use crate::support::{
    PAGE, Told, USER, Witness, check, map, map_huge, mark_at, memory, page, silent, space,
};
use maple_mm::Access;
use maple_mm::paging::{
    Attributes, FaultCause, FlagChange, FrameSize, Gather, LeafFlags, MapError, MoveRange, NewPage,
    PageKind, PagingError, PhysMemory, Protection, ProtectionKey, TableRange, Tiny, X86_64,
};

type Quad = X86_64<4>;
const HUGE: u64 = 2 << 20;

#[test]
fn a_page_is_found_where_it_was_mapped_and_nowhere_else() {
    let memory = &memory(64);
    let mut tables = space::<X86_64<5>>(memory);
    map(&mut tables, 0x00ab_cdef_1234_5000, 7);
    assert_eq!(mark_at(&tables, 0x00ab_cdef_1234_5ff8), 7);
    for other in [
        0x00ab_cdef_1234_4000,
        0x00ab_cdef_1234_6000,
        0x5000,
        1 << 56,
        u64::MAX,
    ] {
        let fault = tables.translate(other, Access::Read).unwrap_err();
        assert_eq!(fault.cause, FaultCause::NotPresent, "{other:#x}");
    }
    assert_eq!(tables.pgtables_bytes(), 3 * PAGE);
    assert_eq!(tables.resident().anon, 1);
    check(&[&tables]);
    drop(tables);
    assert_eq!(memory.in_use(), 0);
}

#[test]
fn mapping_what_is_mapped_or_does_not_fit_hands_the_frame_back() {
    let memory = &memory(2048);
    let mut tables = space::<Quad>(memory);
    let mut gather = silent(&memory);
    map(&mut tables, 0x20_0000, 1);
    map_huge(&mut tables, 0x40_0000, LeafFlags::empty());
    let in_use = memory.in_use();
    for (addr, order, expected) in [
        (0x20_0000, 0, PagingError::Occupied),
        (0x20_0000, 9, PagingError::Occupied),
        (0x40_1000, 0, PagingError::Occupied),
        (0x20_0001, 0, PagingError::Misaligned),
        (0x20_1000, 9, PagingError::Misaligned),
        (0x80_0000, 3, PagingError::Misaligned),
        (1 << 47, 0, PagingError::OutOfRange),
        (u64::MAX - 4095, 0, PagingError::OutOfRange),
    ] {
        let mut page = page(memory, 0, PageKind::Anon);
        memory.release(std::mem::replace(
            &mut page.frame,
            memory
                .allocate(
                    FrameSize::of_order(order).unwrap(),
                    maple_mm::paging::Content::Any,
                )
                .unwrap(),
        ));
        let error = tables.map(addr, page, &mut gather).unwrap_err();
        assert_eq!(error.kind, expected, "{addr:#x}");
        memory.release(error.frame);
    }
    assert_eq!(memory.in_use(), in_use);
    check(&[&tables]);
}

fn protect(tables: &mut crate::support::Tables<'_, Quad>, rights: LeafFlags) {
    let mut gather = silent(tables.memory());
    let key = ProtectionKey::new(5);
    let protection = Protection { rights, key };
    tables
        .protect(0x1000..0x2000, protection, &mut gather)
        .unwrap();
}

#[test]
fn rights_decide_which_access_faults() {
    let memory = &memory(64);
    let mut tables = space::<Quad>(memory);
    let mut gather = silent(&memory);
    map(&mut tables, 0x1000, 1);
    let causes = |tables: &crate::support::Tables<'_, Quad>| {
        [Access::Read, Access::Write, Access::Execute].map(|access| {
            tables
                .translate(0x1000, access)
                .err()
                .map(|fault| fault.cause)
        })
    };
    let (absent, refused) = (Some(FaultCause::NotPresent), Some(FaultCause::Protection));
    assert_eq!(causes(&tables), [None, None, None]);
    protect(&mut tables, LeafFlags::READ | LeafFlags::WRITE);
    assert_eq!(causes(&tables), [None, None, refused]);
    protect(&mut tables, LeafFlags::empty());
    assert_eq!(causes(&tables), [absent, absent, absent]);
    assert_eq!(tables.resident().anon, 1, "the page is still there");
    protect(&mut tables, LeafFlags::RIGHTS);
    assert_eq!(
        causes(&tables),
        [None, refused, None],
        "writing is not given back"
    );
    let change = |set, clear| FlagChange { set, clear };
    let write = change(LeafFlags::WRITE, LeafFlags::empty());
    tables.set_flags(0x1000, write, &mut gather).unwrap();
    assert_eq!(causes(&tables), [None, None, None]);
    let supervisor = change(LeafFlags::empty(), LeafFlags::USER);
    tables.set_flags(0x1000, supervisor, &mut gather).unwrap();
    assert_eq!(causes(&tables), [refused, refused, refused]);
    let leaf = tables.entry(0x1fff).unwrap().leaf;
    assert_eq!(leaf.attributes.key.number(), 5);
}

#[test]
fn the_zero_page_reads_as_zero_counts_nothing_and_is_never_writable() {
    let memory = &memory(64);
    let tables = space::<Quad>(memory);
    let mut gather = silent(&memory);
    tables.map_zero_page(0x7000, USER, &mut gather).unwrap();
    assert_eq!(mark_at(&tables, 0x7000), 0);
    assert_eq!(tables.resident(), maple_mm::paging::Resident::default());
    let fault = tables.write(0x7000, &[1]).unwrap_err();
    assert_eq!(fault.fault.cause, FaultCause::Protection);
    let write = FlagChange {
        set: LeafFlags::WRITE,
        clear: LeafFlags::empty(),
    };
    let refused = tables.set_flags(0x7000, write, &mut gather);
    assert_eq!(refused, Err(PagingError::NotExclusive));
    tables.zap(0x7000..0x8000, &mut gather).unwrap();
    gather.flush();
    assert_eq!(tables.entry(0x7000), None);
    check(&[&tables]);
}

#[test]
fn a_private_page_with_other_owners_is_mapped_without_the_right_to_write() {
    let memory = &memory(64);
    let tables = space::<Quad>(memory);
    let mut gather = silent(&memory);
    let mut first = page(memory, 1, PageKind::Anon);
    let second = memory.share(&first.frame);
    first.attributes.kind = PageKind::Special;
    let MapError { kind, frame } = tables.map(0x5000, first, &mut gather).unwrap_err();
    assert_eq!(kind, PagingError::WrongKind);
    for (addr, frame) in [(0x5000, frame), (0x6000, second)] {
        let attributes = Attributes::new(PageKind::Anon, USER);
        let page = NewPage { frame, attributes };
        tables.map(addr, page, &mut gather).unwrap();
        assert!(tables.write(addr, &[1]).is_err());
    }
    check(&[&tables]);
}

#[test]
fn reading_and_writing_cross_pages_and_keep_other_bytes() {
    let memory = &memory(64);
    let mut tables = space::<Quad>(memory);
    map(&mut tables, 0x1000, u64::MAX);
    map(&mut tables, 0x2000, u64::MAX);
    let text = b"the winged seed of a maple";
    tables.write(0x1ff3, text).unwrap();
    let mut back = [0; 30];
    tables.read(0x1ff1, &mut back).unwrap();
    assert_eq!(&back[..2], [0xff; 2]);
    assert_eq!(&back[2..28], text);
    assert_eq!(&back[28..], [0xff; 2]);
    let interrupted = tables.read(0x2ffe, &mut back).unwrap_err();
    assert_eq!((interrupted.done, interrupted.fault.addr), (2, 0x3000));
    let flags = tables.entry(0x1000).unwrap().leaf.attributes.flags;
    assert!(flags.contains(LeafFlags::ACCESSED | LeafFlags::DIRTY));
    assert_eq!(tables.read(u64::MAX, &mut back).unwrap_err().done, 0);
}

#[test]
fn a_zap_flushes_before_it_frees() {
    let memory = &memory(1024);
    let mut tables = space::<Quad>(memory);
    for index in 0..300 {
        map(&mut tables, 0x10_0000 + index * PAGE, index);
    }
    let in_use = memory.in_use();
    let witness = Witness {
        memory,
        told: RefCell::default(),
    };
    let mut gather = Gather::new(&memory, &witness);
    tables.zap(0x10_0000..0x22_c000, &mut gather).unwrap();
    tables.free_tables(&TableRange::all::<Quad>(), &mut gather);
    gather.finish();
    assert_eq!(tables.pgtables_bytes(), 0);
    assert_eq!(memory.in_use(), 1);
    // The first batch was full after 256 pages.
    let told = witness.told.into_inner();
    let [(Told::Range(first), all), (Told::Tables(second), fewer)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!((*all, *fewer), (in_use, in_use - 256));
    assert_eq!(first.addresses, 0x10_0000..0x10_0000 + 256 * PAGE);
    assert_eq!(
        second.addresses,
        0..1 << 39,
        "the tables taken out mapped that"
    );
    assert!(first.is_worth_full_flush());
}

mod huge {
    use super::*;

    #[test]
    fn a_huge_page_is_one_entry_and_counts_all_its_pages() {
        let memory = &memory(2048);
        let mut tables = space::<Quad>(memory);
        map_huge(&mut tables, HUGE, LeafFlags::empty());
        assert_eq!(tables.resident().anon, 512);
        assert_eq!(tables.pgtables_bytes(), 2 * PAGE);
        assert_eq!(mark_at(&tables, HUGE + 0x12_3458), HUGE);
        let mut gather = silent(&memory);
        tables.zap(HUGE..2 * HUGE, &mut gather).unwrap();
        gather.finish();
        assert_eq!(tables.resident().anon, 0);
        assert_eq!(memory.in_use(), 3);
    }

    #[test]
    fn zapping_a_part_splits_it_and_frees_that_part() {
        let memory = &memory(2048);
        let mut tables = space::<Quad>(memory);
        map_huge(&mut tables, HUGE, LeafFlags::empty());
        let in_use = memory.in_use();
        let mut gather = silent(&memory);
        tables
            .zap(HUGE + PAGE..HUGE + 3 * PAGE, &mut gather)
            .unwrap();
        gather.flush();
        assert_eq!(tables.resident().anon, 510);
        assert_eq!(memory.in_use(), in_use - 2 + 1);
        assert_eq!(mark_at(&tables, HUGE), HUGE);
        assert_eq!(mark_at(&tables, HUGE + 3 * PAGE), HUGE);
        check(&[&tables]);
        drop(tables);
        assert_eq!(memory.in_use(), 0);
    }

    #[test]
    fn an_explicit_one_is_never_split() {
        let memory = &memory(2048);
        let mut tables = space::<Quad>(memory);
        map_huge(&mut tables, HUGE, LeafFlags::EXPLICIT);
        let resident = tables.resident();
        assert_eq!((resident.anon, resident.explicit), (0, 512));
        let mut gather = silent(&memory);
        let part = HUGE..HUGE + PAGE;
        let protection = Protection {
            rights: LeafFlags::READ,
            key: None,
        };
        let refused = [
            tables.zap(part.clone(), &mut gather),
            tables.protect(part, protection, &mut gather),
            tables.move_range(
                MoveRange {
                    from: HUGE,
                    to: 4 * HUGE,
                    len: PAGE,
                },
                &mut gather,
            ),
        ];
        assert_eq!(refused, [Err(PagingError::Unsplittable); 3]);
        assert_eq!(tables.resident(), resident);
        assert_eq!(tables.pgtables_bytes(), 2 * PAGE);
        check(&[&tables]);
    }
}

mod moving {
    use super::*;

    fn three_pages(base: u64) -> (crate::support::Memory, [u64; 3]) {
        (memory(4096), [base, base + PAGE, base + 511 * PAGE])
    }

    #[test]
    fn aligned_ranges_move_by_table() {
        let (memory, pages) = three_pages(4 * HUGE);
        let memory = &memory;
        let mut tables = space::<Quad>(memory);
        for addr in pages {
            map(&mut tables, addr, addr);
        }
        let witness = Witness {
            memory,
            told: RefCell::default(),
        };
        let mut gather = Gather::new(&memory, &witness);
        let range = MoveRange {
            from: 4 * HUGE,
            to: 9 * HUGE,
            len: HUGE,
        };
        tables.move_range(range, &mut gather).unwrap();
        gather.finish();
        assert_eq!(tables.pgtables_bytes(), 3 * PAGE, "no table was made");
        for addr in pages {
            assert_eq!(tables.entry(addr), None);
            assert_eq!(mark_at(&tables, addr + 5 * HUGE), addr);
        }
        assert!(matches!(
            &witness.told.into_inner()[..],
            [(Told::Tables(_), _)]
        ));
        check(&[&tables]);
    }

    #[test]
    fn others_move_entry_by_entry() {
        let (memory, pages) = three_pages(4 * HUGE);
        let memory = &memory;
        let mut tables = space::<Quad>(memory);
        for addr in pages {
            map(&mut tables, addr, addr);
        }
        let mut gather = silent(&memory);
        let to = 9 * HUGE + 3 * PAGE;
        let range = MoveRange {
            from: 4 * HUGE,
            to,
            len: HUGE,
        };
        tables.move_range(range, &mut gather).unwrap();
        for addr in pages {
            assert_eq!(tables.entry(addr), None);
            assert_eq!(mark_at(&tables, addr - 4 * HUGE + to), addr);
        }
        assert_eq!(tables.resident().anon, 3);
        check(&[&tables]);
    }

    #[test]
    fn a_huge_page_moves_whole_or_is_split() {
        let memory = &memory(4096);
        let mut tables = space::<Quad>(memory);
        let mut gather = silent(&memory);
        map_huge(&mut tables, HUGE, LeafFlags::empty());
        let range = MoveRange {
            from: HUGE,
            to: 3 * HUGE,
            len: HUGE,
        };
        tables.move_range(range, &mut gather).unwrap();
        assert_eq!(tables.entry(3 * HUGE).unwrap().size, HUGE);
        let range = MoveRange {
            from: 3 * HUGE,
            to: 6 * HUGE + PAGE,
            len: HUGE,
        };
        tables.move_range(range, &mut gather).unwrap();
        assert_eq!(tables.entry(6 * HUGE + PAGE).unwrap().size, PAGE);
        assert_eq!(mark_at(&tables, 7 * HUGE), HUGE);
        assert_eq!(tables.resident().anon, 512);
        check(&[&tables]);
    }

    #[test]
    fn what_is_in_the_way_or_overlaps_is_refused() {
        let memory = &memory(64);
        let mut tables = space::<Tiny<2>>(memory);
        let mut gather = silent(&memory);
        map(&mut tables, 0, 1);
        map(&mut tables, 9 * PAGE, 2);
        for (to, len) in [(8 * PAGE, 2 * PAGE), (PAGE, 2 * PAGE), (0, PAGE)] {
            let range = MoveRange { from: 0, to, len };
            assert_eq!(
                tables.move_range(range, &mut gather),
                Err(PagingError::Occupied)
            );
        }
        let range = MoveRange {
            from: 0,
            to: 63 * PAGE,
            len: 2 * PAGE,
        };
        assert_eq!(
            tables.move_range(range, &mut gather),
            Err(PagingError::OutOfRange)
        );
        assert_eq!(mark_at(&tables, 0), 1);
        check(&[&tables]);
    }
}

/// Emptied tables below an entry that tables move to: they went one by one, and then the entry
/// above was found free, too.
#[test]
fn tables_move_to_where_only_empty_ones_are() {
    const HUGE: u64 = 2 << 20;
    const GIGA: u64 = 1 << 30;
    let memory = &memory(64);
    let mut tables = space::<X86_64<4>>(memory);
    let mut gather = silent(&memory);
    for addr in [4 * GIGA, 4 * GIGA + HUGE] {
        map(&mut tables, addr, 1);
    }
    tables.zap(4 * GIGA..5 * GIGA, &mut gather).unwrap();
    for addr in [GIGA, GIGA + HUGE] {
        map(&mut tables, addr, addr);
    }
    let range = MoveRange {
        from: GIGA,
        to: 4 * GIGA,
        len: GIGA,
    };
    tables.move_range(range, &mut gather).unwrap();
    gather.flush();
    check(&[&tables]);
    assert_eq!(mark_at(&tables, 4 * GIGA + HUGE), GIGA + HUGE);
}

/// LINUX: the fourth level from below is not counted.
#[test]
fn three_levels_of_tables_are_counted() {
    let memory = &memory(64);
    let mut tables = space::<X86_64<5>>(memory);
    map(&mut tables, PAGE, 1);
    assert_eq!(tables.pgtables_bytes(), 3 * PAGE);
    check(&[&tables]);
    tables.zap(0..2 * PAGE, &mut silent(&memory)).unwrap();
    let everything = TableRange {
        addresses: 0..2 * PAGE,
        floor: 0,
        ceiling: 0,
    };
    tables.free_tables(&everything, &mut silent(&memory));
    assert_eq!(tables.pgtables_bytes(), 0);
    assert_eq!(memory.in_use(), 1);
}
