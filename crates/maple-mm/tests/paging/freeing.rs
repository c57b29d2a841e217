//! Freeing tables between neighbours: the bounds, and the trap in rounding them.

use crate::support::{PAGE, check, map, memory, silent, space};
use maple_mm::paging::{Arch, PhysMemory, TableRange, TableRanges, Tiny, X86_64};

type Quad = X86_64<4>;
const HUGE: u64 = 2 << 20;

/// A mapping at `0x20_0000..0x20_1000` that was copied, and one from `0x20_2000` on that was not:
/// freeing with the second one's start as the ceiling leaves all three tables behind.
#[test]
fn a_ceiling_that_nothing_is_mapped_above_leaks_the_tables_below_it() {
    let memory = &memory(64);
    let mut tables = space::<Quad>(memory);
    let mut gather = silent(&memory);
    map(&mut tables, 0x20_0000, 1);
    tables.zap(0x20_0000..0x20_1000, &mut gather).unwrap();
    let mut range = TableRange {
        addresses: 0x20_0000..0x20_1000,
        floor: 0,
        ceiling: 0x20_2000,
    };
    tables.free_tables(&range, &mut gather);
    assert_eq!(tables.pgtables_bytes(), 3 * PAGE);
    range.ceiling = 0;
    tables.free_tables(&range, &mut gather);
    gather.finish();
    assert_eq!(tables.pgtables_bytes(), 0);
    assert_eq!(memory.in_use(), 1);
}

/// What `free_pgd_range` frees, step by step as the kernel rounds: the ranges of the tables.
///
/// For each level, from the lowest: the addresses that one of its tables maps.
fn rounded<A: Arch>(range: &TableRange) -> Vec<(usize, u64)> {
    let mut freed = Vec::new();
    let lowest = A::span(1);
    let (mut start, mut end) = (range.addresses.start & !(lowest - 1), range.addresses.end);
    if start < range.floor {
        start += lowest;
    }
    let ceiling = range.ceiling & !(lowest - 1);
    if range.ceiling != 0 && ceiling == 0 {
        return freed;
    }
    // All comparisons are of last addresses, so that zero means the top.
    if end.wrapping_sub(1) > ceiling.wrapping_sub(1) {
        end = end.wrapping_sub(lowest);
    }
    if start > end.wrapping_sub(1) {
        return freed;
    }
    for level in 0..A::LEVELS - 1 {
        let span = A::span(level + 1);
        let mut table = start & !(span - 1);
        while table < end {
            let next = end.min(table + span);
            let top = range.ceiling & !(span - 1);
            let above = range.ceiling != 0 && top == 0;
            let kept = level > 0
                && (table < range.floor || above || next.wrapping_sub(1) > top.wrapping_sub(1));
            if !kept {
                freed.push((level, table));
            }
            table += span;
        }
    }
    freed
}

/// All ranges, floors and ceilings on a small address space, against the kernel's rounding.
#[test]
fn every_pair_of_bounds_frees_what_the_kernel_frees() {
    type A = Tiny<2>;
    let memory = &memory(512);
    let pages = |page: u64| page * PAGE;
    let mut tried = 0;
    // Bounds at and around boundaries of both upper levels.
    let marks = [0, 1, 3, 4, 5, 15, 16, 17, 20, 31, 32, 33, 48, 63, 64];
    for (at, &start) in marks.iter().enumerate() {
        for &end in &marks[at + 1..] {
            for &floor in marks.iter().filter(|&&floor| floor <= start) {
                for &ceiling in marks
                    .iter()
                    .filter(|&&ceiling| ceiling == 0 || ceiling >= end)
                {
                    let range = TableRange {
                        addresses: pages(start)..pages(end),
                        floor: pages(floor),
                        ceiling: pages(ceiling),
                    };
                    one_pair::<A>(memory, &range);
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 1000, "{tried}");
}

fn one_pair<A: Arch>(memory: &crate::support::Memory, range: &TableRange) {
    let mut tables = space::<A>(memory);
    let mut gather = silent(&memory);
    // Empty tables everywhere.
    for page in (0..A::USER_END).step_by(A::span(1) as usize) {
        map(&mut tables, page, page);
    }
    tables.zap(0..A::USER_END, &mut gather).unwrap();
    let before = tables.pgtables_bytes() / PAGE;
    tables.free_tables(range, &mut gather);
    let freed = before - tables.pgtables_bytes() / PAGE;
    let mut expected = rounded::<A>(range);
    // An upper table whose lower ones are kept holds them still: the kernel's caller sees to that
    // by bounds that are the neighbours'.
    expected.retain(|&(level, start)| level == 0 || is_emptied::<A>(range, start, level));
    assert_eq!(freed, expected.len() as u64, "{range:x?} {expected:x?}");
    check(&[&tables]);
}

/// Whether all tables below the one of `level` at `start` go, too.
fn is_emptied<A: Arch>(range: &TableRange, start: u64, level: usize) -> bool {
    let freed = rounded::<A>(range);
    let below = (start..start + A::span(level + 1)).step_by(A::span(level) as usize);
    below
        .into_iter()
        .all(|start| freed.contains(&(level - 1, start)))
}

#[test]
fn tables_that_hold_something_are_kept_whatever_the_bounds() {
    let memory = &memory(64);
    let mut tables = space::<Quad>(memory);
    let mut gather = silent(&memory);
    map(&mut tables, HUGE, 1);
    map(&mut tables, 3 * HUGE, 2);
    tables.zap(HUGE..HUGE + PAGE, &mut gather).unwrap();
    tables.free_tables(&TableRange::all::<Quad>(), &mut gather);
    assert_eq!(tables.pgtables_bytes(), 3 * PAGE);
    check(&[&tables]);
}

#[test]
fn near_mappings_are_freed_in_one_go_and_the_second_go_frees_upper_tables() {
    let ranges = |mappings: [std::ops::Range<u64>; 2]| -> Vec<TableRange> {
        let bounds = TableRange {
            addresses: 0..0,
            floor: 0,
            ceiling: 0,
        };
        TableRanges::<Quad, _>::new(mappings, &bounds).collect()
    };
    let first = 8 * HUGE..8 * HUGE + PAGE;
    let near = first.end + HUGE..first.end + HUGE + PAGE;
    assert_eq!(ranges([first.clone(), near]).len(), 1);
    let far = first.end + HUGE + PAGE..first.end + HUGE + 2 * PAGE;
    let two = ranges([first.clone(), far.clone()]);
    assert_eq!(two.len(), 2);

    let memory = &memory(64);
    let mut tables = space::<Quad>(memory);
    let mut gather = silent(&memory);
    map(&mut tables, first.start, 1);
    map(&mut tables, far.start, 2);
    tables.zap(first.start..far.end, &mut gather).unwrap();
    tables.free_tables(&two[0], &mut gather);
    assert_eq!(
        tables.pgtables_bytes(),
        3 * PAGE,
        "the ceiling keeps upper tables"
    );
    tables.free_tables(&two[1], &mut gather);
    assert_eq!(tables.pgtables_bytes(), 0, "the floor is the first one's");
}
