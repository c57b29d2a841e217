//! Guards: what gets past them, and what they outlast. As seen on Linux 6.18.

use crate::common::paged::{
    REGULAR, Space, check, contents, frames, get, opened, plans, set, space,
};
use crate::common::{map, map_as, of_file, page, ranges};
use maple_mm::paging::PhysMemory;
use maple_mm::{Access, Errno, Fault, MmapRequest, MremapRequest, abi::*, truncate};

const RW: u64 = PROT_READ | PROT_WRITE;

/// Eight pages, each with its number, of which the second and the third become guards.
fn guarded(space: &mut Space) {
    map(space, 0, 8);
    for index in 0..8 {
        set(space, page(index), index);
    }
    assert_eq!(guard(space, 1, 2), Ok(()));
}

fn guard(space: &mut Space, first: u64, pages: u64) -> Result<(), Errno> {
    space.madvise(page(first), pages * PAGE_SIZE, MADV_GUARD_INSTALL)
}

fn unguard(space: &mut Space, first: u64, pages: u64) -> Result<(), Errno> {
    space.madvise(page(first), pages * PAGE_SIZE, MADV_GUARD_REMOVE)
}

/// The pages from `first` on that fault as if nothing were mapped.
#[track_caller]
fn missing(space: &mut Space, first: u64, pages: u64) -> Vec<u64> {
    check(&[space]);
    let is_missing = |index: &u64| {
        let seen = space.fault(page(*index), Access::Read);
        assert!(matches!(seen, Ok(()) | Err(Fault::NotMapped)), "{seen:?}");
        seen.is_err()
    };
    (first..first + pages).filter(is_missing).collect()
}

#[test]
fn no_access_gets_past_a_guard() {
    let memory = frames(128);
    let mut space = space(&memory);
    guarded(&mut space);
    for access in [Access::Read, Access::Write] {
        assert_eq!(space.fault(page(1), access), Err(Fault::NotMapped));
    }
    let read = space.read(page(1) - 4, &mut [0; 8]).unwrap_err();
    assert_eq!(read.fault, Fault::NotMapped);
    assert_eq!(
        space.write(page(2), &[1]).unwrap_err().fault,
        Fault::NotMapped
    );
    assert_eq!(space.statistics().resident.anon, 6);
    assert_eq!(missing(&mut space, 0, 8), [1, 2]);
}

#[test]
fn what_was_behind_a_guard_is_gone() {
    let memory = frames(128);
    let mut space = space(&memory);
    guarded(&mut space);
    assert_eq!(unguard(&mut space, 0, 8), Ok(()));
    let seen = [0, 1, 2, 3].map(|index| get(&mut space, page(index)));
    assert_eq!(seen, [0, 0, 0, 3]);
    check(&[&space]);
}

#[test]
fn guards_outlast_what_takes_pages_and_rights() {
    let memory = frames(128);
    let mut space = space(&memory);
    guarded(&mut space);
    for advice in [MADV_DONTNEED, MADV_FREE] {
        assert_eq!(space.madvise(page(0), 4 * PAGE_SIZE, advice), Ok(()));
        assert_eq!(missing(&mut space, 0, 8), [1, 2]);
    }
    assert_eq!(space.mprotect(page(0), 8 * PAGE_SIZE, PROT_NONE), Ok(()));
    assert_eq!(space.fault(page(1), Access::Read), Err(Fault::NotAllowed));
    assert_eq!(space.mprotect(page(0), 8 * PAGE_SIZE, PROT_READ), Ok(()));
    assert_eq!(missing(&mut space, 0, 8), [1, 2]);
    assert_eq!(space.fault(page(1), Access::Write), Err(Fault::NotAllowed));
    // Unmapping takes them out.
    assert_eq!(space.munmap(page(0), 8 * PAGE_SIZE), Ok(()));
    map(&mut space, 0, 8);
    assert_eq!(missing(&mut space, 0, 8), []);
}

#[test]
fn memory_is_not_brought_in_past_a_guard() {
    let memory = frames(128);
    let mut space = space(&memory);
    guarded(&mut space);
    for advice in [MADV_POPULATE_READ, MADV_POPULATE_WRITE] {
        let brought = space.madvise(page(0), 8 * PAGE_SIZE, advice);
        assert_eq!(brought, Err(Errno::EFAULT));
    }
    assert_eq!(space.mlock(page(0), 8 * PAGE_SIZE), Err(Errno::ENOMEM));
    // Locked all the same, and so it stays.
    assert_eq!(guard(&mut space, 4, 1), Err(Errno::EINVAL));
    assert_eq!(unguard(&mut space, 1, 1), Ok(()));
    assert_eq!(missing(&mut space, 0, 8), [2]);
}

#[test]
fn guards_move_with_their_mapping() {
    let memory = frames(128);
    let mut space = space(&memory);
    guarded(&mut space);
    let request = MremapRequest {
        addr: page(0),
        old_len: 8 * PAGE_SIZE,
        new_len: 8 * PAGE_SIZE,
        flags: MREMAP_MAYMOVE | MREMAP_FIXED,
        new_addr: page(600),
    };
    assert_eq!(space.mremap(request), Ok(page(600)));
    assert_eq!(missing(&mut space, 600, 8), [601, 602]);
    assert_eq!(get(&mut space, page(603)), 3);
}

#[test]
fn children_have_the_guards_of_all_that_is_not_wiped() {
    for plan in plans() {
        let memory = frames(256);
        let pages = contents(&memory, 4, 100);
        let file = opened(1, REGULAR, &pages);
        let mut space = space(&memory);
        guarded(&mut space);
        let shared = MmapRequest {
            flags: MAP_SHARED | MAP_FIXED,
            ..of_file(&file, 10..14, 0)
        };
        map_as(&mut space, of_file(&file, 20..24, 0));
        map_as(&mut space, shared);
        map(&mut space, 30, 34);
        for first in [11, 21, 31] {
            assert_eq!(guard(&mut space, first, 1), Ok(()));
        }
        let wiped = space.madvise(page(30), 4 * PAGE_SIZE, MADV_WIPEONFORK);
        assert_eq!(wiped, Ok(()));
        let mut child = space.fork_with(plan, || false).unwrap();
        check(&[&space, &child]);
        // What the child takes out stays here.
        assert_eq!(unguard(&mut child, 2, 1), Ok(()));
        let seen = |space: &mut Space| {
            let areas = [(0, 8), (10, 4), (20, 4), (30, 4)];
            areas.map(|(first, pages)| {
                let is_missing =
                    |index: &u64| space.fault(page(*index), Access::Read) == Err(Fault::NotMapped);
                (first..first + pages)
                    .filter(is_missing)
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(seen(&mut child), [vec![1], vec![11], vec![21], vec![]]);
        assert_eq!(seen(&mut space), [vec![1, 2], vec![11], vec![21], vec![31]]);
        check(&[&space, &child]);
    }
}

#[test]
fn a_file_that_ends_leaves_its_guards() {
    let memory = frames(128);
    let pages = contents(&memory, 4, 100);
    let file = opened(1, REGULAR, &pages);
    let mut space = space(&memory);
    map_as(&mut space, of_file(&file, 0..4, 0));
    assert_eq!(guard(&mut space, 1, 1), Ok(()));
    assert_eq!(truncate(&pages, 0, &mut [&mut space]), Ok(()));
    let faults = [0, 1].map(|index| space.fault(page(index), Access::Read));
    assert_eq!(faults, [Err(Fault::Bus), Err(Fault::NotMapped)]);
    check(&[&space]);
}

/// Written pages of one's own would keep the halves apart.
#[test]
fn what_begins_with_a_guard_is_not_prepared_by_what_meets_it() {
    let meet: [fn(&mut Space); 3] = [
        |space| assert_eq!(space.mlockall(MCL_CURRENT), Ok(())),
        |space| assert_eq!(space.fault(page(2), Access::Write), Err(Fault::NotMapped)),
        |space| {
            let populate = |first| space.madvise(page(first), PAGE_SIZE, MADV_POPULATE_WRITE);
            assert_eq!([0, 2].map(populate), [Err(Errno::EFAULT); 2]);
        },
    ];
    for meet in meet {
        let memory = frames(128);
        let file = opened(1, REGULAR, &contents(&memory, 4, 100));
        let mut space = space(&memory);
        let request = of_file(&file, 0..4, 0);
        map_as(
            &mut space,
            MmapRequest {
                prot: RW,
                ..request
            },
        );
        assert_eq!(guard(&mut space, 0, 4), Ok(()));
        assert_eq!(space.madvise(page(0), 2 * PAGE_SIZE, MADV_DONTDUMP), Ok(()));
        meet(&mut space);
        assert_eq!(space.madvise(page(0), 2 * PAGE_SIZE, MADV_DODUMP), Ok(()));
        assert!(!space.vma_at(page(0)).unwrap().anon().is_faulted());
        assert_eq!(ranges(&space), "0-4");
        check(&[&space]);
    }
}

#[test]
fn a_hole_is_noticed_after_guards_on_both_sides() {
    let memory = frames(128);
    let mut space = space(&memory);
    map(&mut space, 0, 2);
    map(&mut space, 3, 5);
    assert_eq!(guard(&mut space, 1, 3), Err(Errno::ENOMEM));
    assert_eq!(missing(&mut space, 0, 5), [1, 2, 3]);
}

#[test]
fn a_huge_page_makes_place_for_guards() {
    const HUGE: u64 = 512;
    let memory = frames(2048);
    let mut space = space(&memory);
    let first = HUGE - in_huge_page();
    map(&mut space, first, first + HUGE);
    let addr = page(first);
    assert!(addr.is_multiple_of(HUGE_PAGE_SIZE));
    space.madvise(addr, HUGE_PAGE_SIZE, MADV_HUGEPAGE).unwrap();
    set(&mut space, addr + 5 * PAGE_SIZE, 5);
    set(&mut space, addr + 7 * PAGE_SIZE, 7);
    assert_eq!(guard(&mut space, first + 5, 2), Ok(()));
    assert_eq!(missing(&mut space, first, HUGE), [first + 5, first + 6]);
    assert_eq!(get(&mut space, addr + 7 * PAGE_SIZE), 7);
    drop(space);
    assert_eq!(memory.in_use(), 0);
}

/// The place of the first page in its 2 MiB.
fn in_huge_page() -> u64 {
    page(0) / PAGE_SIZE % 512
}

#[test]
fn guards_lie_among_written_pages_whatever_comes() {
    let memory = frames(128);
    let mut space = space(&memory);
    let request = MmapRequest {
        addr: page(0),
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
        ..MmapRequest::anonymous(8 * PAGE_SIZE, RW)
    };
    space.mmap(request).unwrap();
    // Nothing was there: tables are made, and go again.
    assert_eq!(guard(&mut space, 0, 8), Ok(()));
    assert!(space.statistics().pgtables_bytes > 0);
    assert_eq!(missing(&mut space, 0, 8).len(), 8);
    space.munmap(page(0), 8 * PAGE_SIZE).unwrap();
    assert_eq!(space.statistics().pgtables_bytes, 0);
}
