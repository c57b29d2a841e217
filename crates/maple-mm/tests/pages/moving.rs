//! Pages go where their mapping goes.

use crate::common::paged::{Space, check, frames, get, set, space};
use crate::common::{map, page};
use maple_mm::{MmapRequest, MremapRequest, abi::*};

const RW: u64 = PROT_READ | PROT_WRITE;
const FIXED: u64 = MREMAP_MAYMOVE | MREMAP_FIXED;

fn remap(space: &mut Space, from: (u64, u64), to: (u64, u64), flags: u64) -> u64 {
    let request = MremapRequest {
        addr: from.0,
        old_len: from.1,
        new_len: to.1,
        flags,
        new_addr: to.0,
    };
    let addr = space.mremap(request).unwrap();
    check(&[space]);
    addr
}

fn fill(space: &mut Space, pages: std::ops::Range<u64>) {
    for index in pages {
        set(space, page(index), 100 + index);
    }
}

fn seen(space: &mut Space, pages: std::ops::Range<u64>) -> Vec<u64> {
    pages.map(|index| get(space, page(index))).collect()
}

#[test]
fn a_move_takes_the_pages_along_and_over_what_was_there() {
    let memory = frames(128);
    let mut space = space(&memory);
    map(&mut space, 0, 8);
    map(&mut space, 20, 28);
    fill(&mut space, 0..8);
    fill(&mut space, 20..28);
    remap(
        &mut space,
        (page(2), 3 * PAGE_SIZE),
        (page(22), 3 * PAGE_SIZE),
        FIXED,
    );
    assert_eq!(
        seen(&mut space, 20..28),
        [120, 121, 102, 103, 104, 125, 126, 127]
    );
    assert_eq!(space.statistics().resident.anon, 13);
    assert!(space.read(page(2), &mut [0]).is_err());
}

#[test]
fn what_grows_elsewhere_and_what_shrinks_keep_their_pages() {
    let memory = frames(128);
    let mut space = space(&memory);
    map(&mut space, 0, 4);
    map(&mut space, 4, 5);
    space.mprotect(page(4), PAGE_SIZE, PROT_READ).unwrap();
    fill(&mut space, 0..4);
    let len = 4 * PAGE_SIZE;
    let addr = remap(&mut space, (page(0), len), (0, 2 * len), MREMAP_MAYMOVE);
    let words: Vec<u64> = (0..8)
        .map(|index| get(&mut space, addr + index * PAGE_SIZE))
        .collect();
    assert_eq!(words, [100, 101, 102, 103, 0, 0, 0, 0]);
    remap(&mut space, (addr, 2 * len), (page(0), 2 * PAGE_SIZE), FIXED);
    assert_eq!(seen(&mut space, 0..2), [100, 101]);
    assert_eq!(space.statistics().resident.anon, 2);
}

#[test]
fn an_old_mapping_that_stays_is_empty() {
    let memory = frames(128);
    let mut space = space(&memory);
    map(&mut space, 0, 4);
    fill(&mut space, 0..4);
    let flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
    let len = 4 * PAGE_SIZE;
    let addr = remap(&mut space, (page(0), len), (0, len), flags);
    assert_eq!(seen(&mut space, 0..4), [0; 4]);
    assert_eq!(get(&mut space, addr + 3 * PAGE_SIZE), 103);
    set(&mut space, page(0), 1);
    assert_eq!(get(&mut space, addr), 100);
    check(&[&space]);
}

#[test]
fn an_unwritten_mapping_moves_next_to_itself() {
    let memory = frames(128);
    let mut space = space(&memory);
    map(&mut space, 0, 4);
    assert_eq!(get(&mut space, page(1)), 0);
    remap(
        &mut space,
        (page(0), 2 * PAGE_SIZE),
        (page(4), 2 * PAGE_SIZE),
        FIXED,
    );
    assert_eq!(seen(&mut space, 2..6), [0; 4]);
    check(&[&space]);
}

#[test]
fn a_duplicate_of_shared_memory_shows_the_same() {
    let memory = frames(128);
    let mut space = space(&memory);
    let request = MmapRequest {
        flags: MAP_SHARED | MAP_ANONYMOUS,
        ..MmapRequest::anonymous(2 * PAGE_SIZE, RW)
    };
    let first = space.mmap(request).unwrap();
    set(&mut space, first + PAGE_SIZE, 7);
    let second = remap(&mut space, (first, 0), (0, 2 * PAGE_SIZE), MREMAP_MAYMOVE);
    assert_eq!(get(&mut space, second + PAGE_SIZE), 7);
    set(&mut space, second, 8);
    assert_eq!(get(&mut space, first), 8);
    check(&[&space]);
}

#[test]
fn huge_pages_stay_huge_where_they_are_aligned() {
    const HUGE: u64 = 2 << 20;
    let memory = frames(4096);
    let mut space = space(&memory);
    let addr = space.mmap(MmapRequest::anonymous(4 * HUGE, RW)).unwrap();
    space.madvise(addr, 4 * HUGE, MADV_HUGEPAGE).unwrap();
    set(&mut space, addr + 8, 7);
    set(&mut space, addr + HUGE + 8, 8);
    let to = 1 << 40;
    remap(&mut space, (addr, HUGE), (to, HUGE), FIXED);
    let entry = |space: &Space, addr| space.page_side().tables().entry(addr).unwrap().size;
    assert_eq!((entry(&space, to), get(&mut space, to + 8)), (HUGE, 7));
    let to = to + HUGE + PAGE_SIZE;
    remap(&mut space, (addr + HUGE, HUGE), (to, HUGE), FIXED);
    assert_eq!((entry(&space, to), get(&mut space, to + 8)), (PAGE_SIZE, 8));
    assert_eq!(space.statistics().resident.anon, 1024);
}

#[test]
fn moving_in_a_child_leaves_the_parent_as_it_is() {
    let memory = frames(256);
    let mut parent = space(&memory);
    map(&mut parent, 0, 8);
    fill(&mut parent, 0..8);
    let mut child = parent.fork().unwrap();
    let request = MremapRequest {
        addr: page(2),
        old_len: 2 * PAGE_SIZE,
        new_len: 2 * PAGE_SIZE,
        flags: FIXED,
        new_addr: page(600),
    };
    child.mremap(request).unwrap();
    check(&[&parent, &child]);
    assert_eq!(seen(&mut child, 600..602), [102, 103]);
    assert_eq!(seen(&mut parent, 0..4), [100, 101, 102, 103]);
}
