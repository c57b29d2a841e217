//! Taking memory away: pages go, and tables where no neighbour needs them.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use crate::common::paged::{Space, check, frames, get, set, space};
use crate::common::{map, page};
use maple_mm::paging::PhysMemory;
use maple_mm::{Invalidation, MmapRequest, RangeNotifier, abi::*};

const RW: u64 = PROT_READ | PROT_WRITE;
const TABLE: u64 = 2 << 20;

fn map_at(space: &mut Space, addr: u64, pages: u64) {
    let request = MmapRequest {
        addr,
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
        ..MmapRequest::anonymous(pages * PAGE_SIZE, RW)
    };
    assert_eq!(space.mmap(request), Ok(addr));
}

/// Maps one page at each address, and writes to it.
fn pages_at(space: &mut Space, addresses: &[u64]) {
    for &addr in addresses {
        map_at(space, addr, 1);
        set(space, addr, addr);
    }
}

fn tables(space: &Space) -> u64 {
    space.statistics().pgtables_bytes / PAGE_SIZE
}

#[test]
fn memory_that_comes_again_is_zero() {
    let memory = frames(64);
    let mut space = space(&memory);
    map(&mut space, 0, 4);
    for (step, index) in [0, 1, 2, 3].into_iter().enumerate() {
        set(&mut space, page(index), step as u64 + 1);
    }
    space.munmap(page(0), PAGE_SIZE).unwrap();
    map(&mut space, 0, 2);
    space.madvise(page(2), PAGE_SIZE, MADV_DONTNEED).unwrap();
    space.madvise(page(3), PAGE_SIZE, MADV_FREE).unwrap();
    let seen = [0, 1, 2, 3].map(|index| get(&mut space, page(index)));
    assert_eq!(seen, [0; 4]);
    assert_eq!(space.statistics().resident.anon, 0);
    check(&[&space]);
}

#[test]
fn a_heap_that_shrinks_loses_its_pages() {
    let memory = frames(64);
    let mut space = space(&memory);
    let start = space.layout().start_brk;
    space.brk(start + 4 * PAGE_SIZE);
    set(&mut space, start + 3 * PAGE_SIZE, 7);
    space.brk(start + PAGE_SIZE);
    assert_eq!(space.statistics().resident.anon, 0);
    space.brk(start + 4 * PAGE_SIZE);
    assert_eq!(get(&mut space, start + 3 * PAGE_SIZE), 0);
    check(&[&space]);
}

/// Two mappings in one lowest table, the lower one touched. Rounding the bound between them down
/// to what a table maps would leave the tables behind.
#[test]
fn the_upper_neighbour_keeps_a_table_and_not_for_longer() {
    let memory = frames(64);
    let mut space = space(&memory);
    pages_at(&mut space, &[TABLE]);
    map_at(&mut space, TABLE + 2 * PAGE_SIZE, 4);
    space.munmap(TABLE, PAGE_SIZE).unwrap();
    assert_eq!(tables(&space), 3);
    space.munmap(TABLE + 2 * PAGE_SIZE, 4 * PAGE_SIZE).unwrap();
    assert_eq!(tables(&space), 0);
    // The root.
    assert_eq!(memory.in_use(), 1);
}

#[test]
fn an_end_frees_all_tables_whatever_was_touched() {
    let memory = frames(64);
    let mut space = space(&memory);
    pages_at(
        &mut space,
        &[TABLE, 3 * TABLE - PAGE_SIZE, 1 << 39, (1 << 46) + TABLE],
    );
    map_at(&mut space, TABLE + 2 * PAGE_SIZE, 4);
    drop(space);
    assert_eq!(memory.in_use(), 0);
}

#[test]
fn tables_are_freed_up_to_the_neighbours_that_stay() {
    let memory = frames(64);
    let mut space = space(&memory);
    let [low, middle, high] = [TABLE + 511 * PAGE_SIZE, 2 * TABLE, 4 * TABLE - PAGE_SIZE];
    pages_at(&mut space, &[low, middle, middle + PAGE_SIZE, high]);
    assert_eq!(tables(&space), 2 + 3);
    space.munmap(middle, 2 * PAGE_SIZE).unwrap();
    assert_eq!(tables(&space), 2 + 2);
    assert_eq!((get(&mut space, low), get(&mut space, high)), (low, high));
    check(&[&space]);
}

#[test]
fn mappings_far_apart_go_together_with_the_tables_between_them() {
    let memory = frames(64);
    let mut space = space(&memory);
    pages_at(
        &mut space,
        &[TABLE, 2 * TABLE + PAGE_SIZE, 1 << 30, 1 << 39],
    );
    space.munmap(0x10_0000, (1 << 40) - 0x10_0000).unwrap();
    assert_eq!((tables(&space), memory.in_use()), (0, 1));
}

#[test]
fn a_child_that_unmaps_leaves_the_parent_its_pages() {
    let memory = frames(64);
    let mut parent = space(&memory);
    map(&mut parent, 0, 8);
    for index in 0..8 {
        set(&mut parent, page(index), index + 1);
    }
    let mut child = parent.fork().unwrap();
    child.munmap(page(2), 3 * PAGE_SIZE).unwrap();
    child.madvise(page(5), PAGE_SIZE, MADV_DONTNEED).unwrap();
    child.mprotect(page(6), PAGE_SIZE, PROT_READ).unwrap();
    check(&[&parent, &child]);
    assert_eq!(child.statistics().resident.anon, 4);
    let seen = [0, 1, 5, 6, 7].map(|index| get(&mut child, page(index)));
    assert_eq!(seen, [1, 2, 0, 7, 8]);
    let seen = [0, 1, 2, 3, 4, 5, 6, 7].map(|index| get(&mut parent, page(index)));
    assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7, 8]);
    drop(parent);
    drop(child);
    assert_eq!(memory.in_use(), 0);
}

#[derive(Debug, Default)]
struct Log(Mutex<Vec<(bool, Range<u64>, Invalidation)>>);

impl RangeNotifier for Log {
    fn begin(&self, range: &Range<u64>, why: Invalidation) {
        self.0.lock().unwrap().push((true, range.clone(), why));
    }

    fn end(&self, range: &Range<u64>, why: Invalidation) {
        self.0.lock().unwrap().push((false, range.clone(), why));
    }
}

#[test]
fn a_notifier_is_told_of_every_change_before_and_after() {
    let memory = frames(64);
    let mut space = space(&memory);
    map(&mut space, 0, 8);
    set(&mut space, page(0), 1);
    let log = Arc::new(Log::default());
    space.page_side_mut().set_notifier(Some(log.clone()));
    let expect = |range: Range<u64>, why| {
        let told = std::mem::take(&mut *log.0.lock().unwrap());
        let range = page(range.start)..page(range.end);
        assert_eq!(told, [(true, range.clone(), why), (false, range, why)]);
    };
    // What was not there needs no notice.
    set(&mut space, page(1), 1);
    assert_eq!(log.0.lock().unwrap().len(), 0);
    space.mprotect(page(4), PAGE_SIZE, PROT_READ).unwrap();
    expect(4..5, Invalidation::Protected);
    space.madvise(page(5), PAGE_SIZE, MADV_DONTNEED).unwrap();
    expect(5..6, Invalidation::Unmapped);
    space.munmap(page(6), PAGE_SIZE).unwrap();
    expect(6..7, Invalidation::Unmapped);
    let child = space.fork().unwrap();
    let told = std::mem::take(&mut *log.0.lock().unwrap());
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].2, Invalidation::WriteProtected);
    set(&mut space, page(0), 2);
    expect(0..1, Invalidation::Replaced);
    drop(child);
    space
        .mremap(maple_mm::MremapRequest {
            addr: page(0),
            old_len: PAGE_SIZE,
            new_len: PAGE_SIZE,
            flags: MREMAP_MAYMOVE | MREMAP_FIXED,
            new_addr: page(20),
        })
        .unwrap();
    let told: Vec<_> = std::mem::take(&mut *log.0.lock().unwrap());
    let whys: Vec<_> = told.iter().map(|(begin, _, why)| (*begin, *why)).collect();
    let begins = &whys[whys.len() - 4..whys.len() - 2];
    assert_eq!(
        begins,
        [(true, Invalidation::Moved), (true, Invalidation::Unmapped)]
    );
    drop(space);
    let told = std::mem::take(&mut *log.0.lock().unwrap());
    assert_eq!(told[0].2, Invalidation::Ended);
}
