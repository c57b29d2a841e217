//! Which mappings become one. Pages are counted from a base: `map(space, 0, 3)` is pages 0 to 2.
//!
//! The rules are those of 6.18 unless a test says otherwise; each was observed on that kernel.

mod common;

use common::{file, flags, map, map_as, memory, of_file, page, ranges, write};
use maple_mm::{
    AddressSpace, FileAccess, LinuxProfile, MissingPage, MmapRequest, MremapRequest, Setup,
    VmFlags, abi::*,
};

const RW: u64 = PROT_READ | PROT_WRITE;

fn protect(space: &mut AddressSpace, first: u64, end: u64, prot: u64) {
    space
        .mprotect(page(first), (end - first) * PAGE_SIZE, prot)
        .unwrap();
}

fn unmap(space: &mut AddressSpace, first: u64, end: u64) {
    space
        .munmap(page(first), (end - first) * PAGE_SIZE)
        .unwrap();
}

mod new_ranges {
    use super::*;

    #[test]
    fn three_adjacent_pieces_become_one() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        map(&mut space, 2, 3);
        assert_eq!(ranges(&space), "0-1 2-3");
        map(&mut space, 1, 2);
        assert_eq!(ranges(&space), "0-3");
    }

    #[test]
    fn a_range_between_two_written_ones_joins_the_left_one_only() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        map(&mut space, 2, 3);
        write(&mut space, 0);
        write(&mut space, 2);
        map(&mut space, 1, 2);
        assert_eq!(ranges(&space), "0-2 2-3");
    }

    #[test]
    fn noreserve_memory_does_not_join_charged_memory() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        let mut request = memory(1, 2, RW);
        request.flags |= MAP_NORESERVE;
        map_as(&mut space, request);
        assert_eq!(ranges(&space), "0-1 1-2");
    }

    #[test]
    fn stacks_asked_for_do_not_join_plain_memory() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        let mut request = memory(1, 2, RW);
        request.flags |= MAP_STACK;
        map_as(&mut space, request);
        assert_eq!(ranges(&space), "0-1 1-2");
        assert!(flags(&space, 1).contains(VmFlags::NOHUGEPAGE));
    }

    #[test]
    fn shared_anonymous_mappings_never_join() {
        let mut space = AddressSpace::empty();
        for first in 0..2 {
            let mut request = memory(first, first + 1, RW);
            request.flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED;
            map_as(&mut space, request);
        }
        assert_eq!(ranges(&space), "0-1 1-2");
    }

    #[test]
    fn one_open_file_in_line_joins_and_a_second_open_does_not() {
        let mut space = AddressSpace::empty();
        let (first, second) = (file(1, FileAccess::READ), file(2, FileAccess::READ));
        map_as(&mut space, of_file(&first, 0..1, 0));
        map_as(&mut space, of_file(&first, 1..2, 1));
        assert_eq!(ranges(&space), "0-2");
        map_as(&mut space, of_file(&second, 2..3, 2));
        assert_eq!(ranges(&space), "0-2 2-3");
        map_as(&mut space, of_file(&first, 3..4, 9));
        map_as(&mut space, of_file(&first, 4..5, 11));
        assert_eq!(ranges(&space), "0-2 2-3 3-4 4-5");
    }

    #[test]
    fn a_fixed_range_inside_a_mapping_can_join_what_it_cut() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 5);
        map(&mut space, 2, 3);
        assert_eq!(ranges(&space), "0-5");
        map_as(&mut space, memory(2, 3, PROT_READ));
        assert_eq!(ranges(&space), "0-2 2-3 3-5");
    }

    /// Seen where the break is not randomised: it begins at the end of the bss.
    #[test]
    fn the_heap_stands_apart_from_what_ends_where_it_begins() {
        let layout = maple_mm::Layout {
            start_brk: page(5),
            brk: page(5),
            ..maple_mm::Layout::default()
        };
        let setup = Setup {
            layout,
            ..Setup::default()
        };
        let mut space = AddressSpace::from_layout(setup, []).unwrap();
        map(&mut space, 3, 5);
        assert_eq!(space.brk(page(7)), page(7));
        assert_eq!(ranges(&space), "3-5 5-7");
        // Once it is there it grows as one.
        assert_eq!(space.brk(page(9)), page(9));
        assert_eq!(ranges(&space), "3-5 5-9");
    }

    #[test]
    fn the_heap_never_joins_what_lies_above() {
        let layout = maple_mm::Layout {
            start_brk: page(0),
            brk: page(0),
            ..maple_mm::Layout::default()
        };
        let setup = Setup {
            layout,
            ..Setup::default()
        };
        let mut space = AddressSpace::from_layout(setup, []).unwrap();
        map(&mut space, 20, 21);
        // One page must stay free.
        assert_eq!(space.brk(page(20)), page(0));
        assert_eq!(space.brk(page(19)), page(19));
        assert_eq!(ranges(&space), "0-19 20-21");
    }
}

mod changed_ranges {
    use super::*;

    #[test]
    fn a_change_in_the_middle_splits_and_its_undoing_joins() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 3);
        protect(&mut space, 1, 2, PROT_READ);
        assert_eq!(ranges(&space), "0-1 1-2 2-3");
        protect(&mut space, 1, 2, RW);
        assert_eq!(ranges(&space), "0-3");
    }

    #[test]
    fn unwritten_memory_made_read_only_loses_its_charge_and_joins_fresh_memory() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        protect(&mut space, 0, 1, PROT_READ);
        assert!(!flags(&space, 0).contains(VmFlags::ACCOUNT));
        map_as(&mut space, memory(1, 2, PROT_READ));
        assert_eq!(ranges(&space), "0-2");
        assert_eq!(space.system().committed(), 0);
    }

    #[test]
    fn written_memory_made_read_only_keeps_its_charge_and_stays_apart() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        write(&mut space, 0);
        protect(&mut space, 0, 1, PROT_READ);
        assert!(flags(&space, 0).contains(VmFlags::ACCOUNT));
        map_as(&mut space, memory(1, 2, PROT_READ));
        assert_eq!(ranges(&space), "0-1 1-2");
    }

    #[test]
    fn part_of_a_mapping_moves_to_either_neighbour() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 2);
        map_as(&mut space, memory(2, 6, PROT_NONE));
        map(&mut space, 6, 8);
        protect(&mut space, 2, 3, RW);
        assert_eq!(ranges(&space), "0-3 3-6 6-8");
        protect(&mut space, 5, 6, RW);
        assert_eq!(ranges(&space), "0-3 3-5 5-8");
        protect(&mut space, 3, 5, RW);
        assert_eq!(ranges(&space), "0-8");
    }

    #[test]
    fn advice_without_an_undoing_stays_split() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 3);
        let at = page(1);
        space.madvise(at, PAGE_SIZE, MADV_HUGEPAGE).unwrap();
        space.madvise(at, PAGE_SIZE, MADV_NOHUGEPAGE).unwrap();
        assert_eq!(ranges(&space), "0-1 1-2 2-3");
        space.madvise(at, PAGE_SIZE, MADV_NORMAL).unwrap();
        assert_eq!(ranges(&space), "0-1 1-2 2-3");
    }

    #[test]
    fn guards_mark_the_whole_mapping_and_never_keep_it_apart() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 3);
        space
            .madvise(page(1), PAGE_SIZE, MADV_GUARD_INSTALL)
            .unwrap();
        assert_eq!(ranges(&space), "0-3");
        map(&mut space, 3, 4);
        assert_eq!(ranges(&space), "0-4");
        assert!(flags(&space, 3).contains(VmFlags::MAYBE_GUARD));
        protect(&mut space, 0, 1, PROT_READ);
        assert!(flags(&space, 0).contains(VmFlags::MAYBE_GUARD | VmFlags::ACCOUNT));
    }

    /// The guards are known from outside, as a tracer knows them.
    #[test]
    fn what_begins_with_a_guard_is_not_prepared_by_what_passes_over_it() {
        let both = |is_guard| [0, 2].map(|at| (page(at), is_guard));
        let missing = |(addr, is_guard)| MissingPage { addr, is_guard };
        // Where a file ends is noticed later.
        for (is_guard, expected) in [(true, "0-4"), (false, "0-2 2-4")] {
            let known = both(is_guard).map(missing);
            let mut space = AddressSpace::empty();
            let request = of_file(&file(1, FileAccess::READ), 0..4, 0);
            map_as(
                &mut space,
                MmapRequest {
                    prot: RW,
                    ..request
                },
            );
            space
                .madvise(page(0), 4 * PAGE_SIZE, MADV_GUARD_INSTALL)
                .unwrap();
            space
                .madvise(page(0), 2 * PAGE_SIZE, MADV_DONTDUMP)
                .unwrap();
            space.set_missing_pages(Some(known.into()));
            space.mlockall(MCL_CURRENT).unwrap();
            space.set_missing_pages(None);
            space.madvise(page(0), 2 * PAGE_SIZE, MADV_DODUMP).unwrap();
            assert_eq!(ranges(&space), expected);
        }
    }

    #[test]
    fn unlocking_everything_joins_again() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        space.mlockall(MCL_FUTURE).unwrap();
        map(&mut space, 1, 2);
        assert_eq!(ranges(&space), "0-1 1-2");
        space.munlockall().unwrap();
        assert_eq!(ranges(&space), "0-2");
    }
}

/// The cases of the kernel's own `merge.c` self test.
mod written_and_unwritten {
    use super::*;

    /// Three read-write pages apart, some written, joined by making the middle read-write.
    fn joined(written: &[u64], profile: LinuxProfile) -> String {
        let setup = Setup {
            profile,
            ..Setup::default()
        };
        let mut space = AddressSpace::from_layout(setup, []).unwrap();
        map(&mut space, 0, 1);
        map_as(&mut space, memory(1, 2, PROT_READ));
        map(&mut space, 2, 3);
        if written.contains(&1) {
            protect(&mut space, 1, 2, RW | PROT_EXEC);
            write(&mut space, 1);
            // A neighbour's anon_vma would be taken where both could be one; there was none.
        }
        for index in written.iter().filter(|index| **index != 1) {
            write(&mut space, *index);
        }
        protect(&mut space, 1, 2, RW);
        ranges(&space)
    }

    #[test]
    fn an_unwritten_range_joins_written_neighbours() {
        for profile in [LinuxProfile::V6_18, LinuxProfile::V6_12] {
            assert_eq!(joined(&[0], profile), "0-3");
            assert_eq!(joined(&[2], profile), "0-3");
            assert_eq!(joined(&[], profile), "0-3");
            assert_eq!(joined(&[0, 2], profile), "0-2 2-3");
        }
    }

    #[test]
    fn a_written_range_joins_unwritten_neighbours_from_6_16_on() {
        assert_eq!(joined(&[1], LinuxProfile::V6_18), "0-3");
        assert_eq!(joined(&[1], LinuxProfile::V6_12), "0-1 1-2 2-3");
    }

    #[test]
    fn a_first_write_takes_the_neighbours_anon_vma() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        map_as(&mut space, memory(1, 2, PROT_READ | PROT_WRITE | PROT_EXEC));
        write(&mut space, 0);
        write(&mut space, 1);
        let id = |index| space.anon(space.vma_at(page(index)).unwrap()).id();
        assert!(id(0).is_some());
        assert_eq!(id(0), id(1));
    }

    #[test]
    fn reads_write_nothing() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        space.fault(page(0), maple_mm::Access::Read).unwrap();
        assert!(!space.vma_at(page(0)).unwrap().anon().is_faulted());
    }
}

mod forks {
    use super::*;

    #[test]
    fn what_the_parent_wrote_never_joins_fresh_memory_in_the_child() {
        let mut parent = AddressSpace::empty();
        map(&mut parent, 0, 1);
        write(&mut parent, 0);
        let mut child = parent.fork().unwrap();
        map(&mut child, 1, 2);
        assert_eq!(ranges(&child), "0-1 1-2");
        map(&mut parent, 1, 2);
        assert_eq!(ranges(&parent), "0-2");
    }

    #[test]
    fn what_the_parent_did_not_write_joins_in_the_child() {
        let mut parent = AddressSpace::empty();
        map(&mut parent, 0, 1);
        let mut child = parent.fork().unwrap();
        map(&mut child, 1, 2);
        assert_eq!(ranges(&child), "0-2");
    }

    #[test]
    fn parts_of_one_forked_mapping_join_again() {
        let mut parent = AddressSpace::empty();
        map(&mut parent, 0, 3);
        write(&mut parent, 0);
        let mut child = parent.fork().unwrap();
        protect(&mut child, 1, 2, PROT_READ);
        protect(&mut child, 1, 2, RW);
        assert_eq!(ranges(&child), "0-3");
        unmap(&mut child, 1, 2);
        map(&mut child, 1, 2);
        assert_eq!(ranges(&child), "0-1 1-2 2-3");
        unmap(&mut parent, 1, 2);
        map(&mut parent, 1, 2);
        assert_eq!(ranges(&parent), "0-3");
    }

    #[test]
    fn the_child_gets_what_the_advice_says() {
        let mut parent = AddressSpace::empty();
        map(&mut parent, 0, 1);
        map(&mut parent, 2, 3);
        map(&mut parent, 4, 5);
        write(&mut parent, 2);
        write(&mut parent, 4);
        parent.madvise(page(0), PAGE_SIZE, MADV_DONTFORK).unwrap();
        parent.madvise(page(2), PAGE_SIZE, MADV_WIPEONFORK).unwrap();
        parent.mlock(page(4), PAGE_SIZE).unwrap();
        parent.mlockall(MCL_FUTURE).unwrap();
        let child = parent.fork().unwrap();
        assert_eq!(ranges(&child), "2-3 4-5");
        let wiped = child.vma_at(page(2)).unwrap();
        assert!(wiped.flags().contains(VmFlags::WIPEONFORK) && !wiped.anon().is_faulted());
        assert!(!flags(&child, 4).contains(VmFlags::LOCKED));
        assert!(child.default_flags().is_empty());
        assert_eq!(child.statistics().total_vm, 2);
        assert_eq!(child.statistics().locked_vm, 0);
        assert_eq!(parent.system().committed(), 5);
        drop(child);
        assert_eq!(parent.system().committed(), 3);
    }
}

mod moves {
    use super::*;

    fn moved(space: &mut AddressSpace, from: u64, to: u64, pages: u64) -> u64 {
        let request = MremapRequest {
            addr: page(from),
            old_len: pages * PAGE_SIZE,
            new_len: pages * PAGE_SIZE,
            flags: MREMAP_MAYMOVE | MREMAP_FIXED,
            new_addr: page(to),
        };
        (space.mremap(request).unwrap() - common::BASE) / PAGE_SIZE
    }

    #[test]
    fn unwritten_memory_joins_where_it_arrives() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        map(&mut space, 5, 6);
        assert_eq!(moved(&mut space, 5, 1, 1), 1);
        assert_eq!(ranges(&space), "0-2");
    }

    #[test]
    fn written_memory_joins_only_where_its_offsets_line_up() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 2);
        write(&mut space, 0);
        moved(&mut space, 1, 5, 1);
        assert_eq!(ranges(&space), "0-1 5-6");
        map(&mut space, 6, 7);
        assert_eq!(ranges(&space), "0-1 5-6 6-7");
        moved(&mut space, 5, 1, 1);
        assert_eq!(ranges(&space), "0-2 6-7");
    }

    #[test]
    fn several_mappings_move_with_their_distances() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        map_as(&mut space, memory(1, 2, PROT_READ));
        map(&mut space, 3, 4);
        moved(&mut space, 0, 10, 4);
        assert_eq!(ranges(&space), "10-11 11-12 13-14");
    }

    #[test]
    fn unwritten_memory_left_behind_joins_its_own_copy() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 2);
        let request = MremapRequest {
            addr: page(0),
            old_len: 2 * PAGE_SIZE,
            new_len: 2 * PAGE_SIZE,
            flags: MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
            new_addr: page(2),
        };
        space.mremap(request).unwrap();
        assert_eq!(ranges(&space), "0-4");
    }

    #[test]
    fn memory_left_behind_keeps_its_old_offset() {
        // A written mapping moved from 0 to 10 and left behind there does not join fresh memory.
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 2);
        write(&mut space, 0);
        moved(&mut space, 0, 10, 2);
        let request = MremapRequest {
            addr: page(10),
            old_len: 2 * PAGE_SIZE,
            new_len: 2 * PAGE_SIZE,
            flags: MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
            new_addr: page(20),
        };
        space.mremap(request).unwrap();
        map(&mut space, 12, 13);
        assert_eq!(ranges(&space), "10-12 12-13 20-22");
    }

    #[test]
    fn growing_in_place_swallows_what_it_reaches() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        map(&mut space, 3, 4);
        let request = MremapRequest {
            addr: page(0),
            old_len: PAGE_SIZE,
            new_len: 3 * PAGE_SIZE,
            flags: 0,
            new_addr: 0,
        };
        assert_eq!(space.mremap(request).unwrap(), page(0));
        assert_eq!(ranges(&space), "0-4");
    }

    #[test]
    fn an_unlocked_source_stays_counted_as_locked() {
        // `VmLck` of 6.18 keeps counting what MREMAP_DONTUNMAP unlocked.
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 2);
        write(&mut space, 0);
        space.mlock(page(0), 2 * PAGE_SIZE).unwrap();
        let request = MremapRequest {
            addr: page(0),
            old_len: 2 * PAGE_SIZE,
            new_len: 2 * PAGE_SIZE,
            flags: MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
            new_addr: page(10),
        };
        space.mremap(request).unwrap();
        assert!(!flags(&space, 0).contains(VmFlags::LOCKED));
        assert_eq!(space.statistics().locked_vm, 4);
    }
}

mod huge_pages {
    use super::*;
    use maple_mm::{Access, MmapRequest};

    /// Pages in a huge page.
    const HUGE: u64 = HUGE_PAGE_SIZE / PAGE_SIZE;

    /// Pages are counted from a boundary of 2 MiB here.
    const fn page(index: u64) -> u64 {
        super::page(0).next_multiple_of(HUGE_PAGE_SIZE) + index * PAGE_SIZE
    }

    fn advised(first: u64, end: u64) -> AddressSpace {
        let mut space = AddressSpace::empty();
        let request = memory(0, 4 * HUGE, RW);
        map_as(
            &mut space,
            MmapRequest {
                addr: page(0),
                ..request
            },
        );
        advise(&mut space, first, end, MADV_HUGEPAGE);
        space
    }

    fn advise(space: &mut AddressSpace, first: u64, end: u64, advice: i32) {
        let len = (end - first) * PAGE_SIZE;
        space.madvise(page(first), len, advice).unwrap();
    }

    fn is_written(space: &AddressSpace, index: u64) -> bool {
        space.vma_at(page(index)).unwrap().anon().is_faulted()
    }

    #[test]
    fn reading_a_huge_page_prepares_for_writing_and_so_keeps_from_merging() {
        let mut space = advised(0, 2 * HUGE);
        space.fault(page(0), Access::Read).unwrap();
        space.fault(page(3 * HUGE), Access::Write).unwrap();
        advise(&mut space, 2 * HUGE, 4 * HUGE, MADV_HUGEPAGE);
        assert_eq!(space.map_count(), 2);
    }

    #[test]
    fn populating_for_reading_prepares_what_holds_a_huge_page() {
        let mut space = advised(0, 2 * HUGE);
        advise(&mut space, 1, HUGE, MADV_POPULATE_READ);
        assert!(is_written(&space, 0));
    }

    #[test]
    fn reading_prepares_nothing_without_room_for_a_huge_page_or_without_advice() {
        let mut space = advised(1, 2 * HUGE);
        space.fault(page(1), Access::Read).unwrap();
        advise(&mut space, 1, HUGE, MADV_POPULATE_READ);
        space.fault(page(3 * HUGE), Access::Read).unwrap();
        assert!(!is_written(&space, 1));
        assert!(!is_written(&space, 3 * HUGE));
        space.fault(page(HUGE), Access::Read).unwrap();
        assert!(is_written(&space, 1));
    }

    #[test]
    fn collapsing_needs_room_for_a_huge_page() {
        let mut space = advised(0, 2 * HUGE);
        let mut collapse =
            |first, pages| space.madvise(page(first), pages * PAGE_SIZE, MADV_COLLAPSE);
        assert_eq!(collapse(1, HUGE), Err(maple_mm::Errno::EINVAL));
        assert_eq!(collapse(0, HUGE), Ok(()));
    }
}
