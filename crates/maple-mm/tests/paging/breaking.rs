//! Each invariant broken once, by writing entries and counting references by hand: `validate_family`
//! names it.

use std::sync::atomic::Ordering;

use crate::support::{Memory, PAGE, Tables, map, memory, page, silent, space};
use maple_mm::paging::{
    Arch, Attributes, Content, Entry, FrameSize, Leaf, LeafFlags, PageKind, PhysAddr, PhysMemory,
    Tiny, Writable, validate_family,
};

type A = Tiny<2>;

#[track_caller]
fn assert_breaks(spaces: &[&Tables<'_, A>], id: &str) {
    let violation = validate_family(spaces, |_| 0).expect_err("an invariant is broken");
    assert_eq!(violation.id, id, "{violation}");
}

/// The table that an entry leads to.
fn below(memory: &Memory, table: PhysAddr, index: usize, level: usize) -> PhysAddr {
    let raw = memory.words(table)[index].load(Ordering::Relaxed);
    match A::decode(raw, level) {
        Entry::Table(child, _) => child,
        other => panic!("{other:?} is no table"),
    }
}

/// The table of level 0 that maps the first pages.
fn lowest(memory: &Memory, tables: &Tables<'_, A>) -> PhysAddr {
    let middle = below(memory, tables.root(), 0, 2);
    below(memory, middle, 0, 1)
}

fn put(memory: &Memory, table: PhysAddr, index: usize, (entry, level): (Entry, usize)) {
    memory.words(table)[index].store(A::encode(entry, level), Ordering::Relaxed);
}

const fn leaf(frame: PhysAddr, kind: PageKind, flags: LeafFlags) -> (Entry, usize) {
    let attributes = Attributes::new(kind, flags);
    (Entry::Leaf(Leaf { frame, attributes }), 0)
}

/// What is broken cannot be taken down: it is left to the arena.
fn leak(tables: Tables<'_, A>) {
    std::mem::forget(tables);
}

#[test]
fn pt1_a_shared_table_that_may_be_written() {
    let memory = &memory(64);
    let mut parent = space::<A>(memory);
    map(&mut parent, 0, 1);
    let mut child = space(memory);
    parent.share_all(&mut child, &mut silent(&memory)).unwrap();
    let shared = below(memory, parent.root(), 0, 2);
    put(
        memory,
        parent.root(),
        0,
        (Entry::Table(shared, Writable::Yes), 2),
    );
    assert_breaks(&[&parent, &child], "PT1");
    leak(parent);
    leak(child);
}

#[test]
fn pt2_a_private_page_with_two_owners_that_may_be_written() {
    let memory = &memory(64);
    let mut tables = space::<A>(memory);
    map(&mut tables, 0, 1);
    let frame = tables.entry(0).unwrap().leaf.frame;
    memory.info(frame).retain();
    assert_breaks(&[&tables], "PT2");
    leak(tables);
}

#[test]
fn pt3_a_reference_that_nobody_has() {
    let memory = &memory(64);
    let tables = space::<A>(memory);
    let page = page(memory, 1, PageKind::File);
    let frame = page.frame.addr();
    tables.map(0, page, &mut silent(&memory)).unwrap();
    memory.info(frame).retain();
    assert_breaks(&[&tables], "PT3");
    leak(tables);
}

#[test]
fn pt4_an_entry_that_was_not_counted() {
    let memory = &memory(64);
    let mut tables = space::<A>(memory);
    map(&mut tables, 0, 1);
    let zero = leaf(memory.zero_page(), PageKind::Special, LeafFlags::READ);
    put(memory, lowest(memory, &tables), 1, zero);
    assert_breaks(&[&tables], "PT4");
    leak(tables);
}

#[test]
fn pt5_a_table_that_was_not_counted() {
    let memory = &memory(64);
    let tables = space::<A>(memory);
    let table = memory
        .allocate(FrameSize::SMALL, Content::Zeroed)
        .unwrap()
        .into_addr();
    put(
        memory,
        tables.root(),
        1,
        (Entry::Table(table, Writable::Yes), 2),
    );
    assert_breaks(&[&tables], "PT5");
    leak(tables);
}

#[test]
fn pt6_pages_elsewhere_and_a_zero_page_that_may_be_written() {
    let memory = &memory(64);
    let elsewhere = PhysAddr::new(memory.base().as_u64() + memory.size());
    let read_write = LeafFlags::READ | LeafFlags::WRITE;
    for wrong in [
        leaf(elsewhere, PageKind::Anon, LeafFlags::READ),
        leaf(memory.zero_page(), PageKind::Special, read_write),
        leaf(memory.zero_page(), PageKind::Anon, LeafFlags::READ),
    ] {
        let mut tables = space::<A>(memory);
        map(&mut tables, 0, 1);
        put(memory, lowest(memory, &tables), 1, wrong);
        assert_breaks(&[&tables], "PT6");
        leak(tables);
    }
    let mut tables = space::<A>(memory);
    map(&mut tables, 0, 1);
    put(
        memory,
        tables.root(),
        1,
        (Entry::Table(elsewhere, Writable::No), 2),
    );
    assert_breaks(&[&tables], "PT6");
    leak(tables);
}

#[test]
fn pt7_a_table_that_is_somebodys_page() {
    let memory = &memory(64);
    let mut tables = space::<A>(memory);
    map(&mut tables, 0, 1);
    let table = lowest(memory, &tables);
    put(
        memory,
        table,
        1,
        leaf(table, PageKind::Shmem, LeafFlags::READ),
    );
    assert_breaks(&[&tables], "PT7");
    let middle = below(memory, tables.root(), 0, 2);
    put(memory, table, 1, (Entry::Empty, 0));
    put(memory, middle, 1, (Entry::Table(middle, Writable::No), 1));
    assert_breaks(&[&tables], "PT7");
    leak(tables);
}

#[test]
fn what_is_sound_is_not_complained_about() {
    let memory = &memory(64);
    let mut tables = space::<A>(memory);
    map(&mut tables, 3 * PAGE, 1);
    let table = lowest(memory, &tables);
    assert_eq!(memory.info(table).count(), 1);
    assert_eq!(validate_family(&[&tables], |_| 0), Ok(()));
}
