//! The rules of explicitly huge mappings (`MAP_HUGETLB`), and of the pool they are promised pages
//! of. What each says was seen on Linux 6.18; `samara torture` compares.

#[path = "common/mod.rs"]
mod common;

use std::sync::Arc;

use common::{file, of_file, state};
use maple_mm::{
    Access, AddressSpace, Errno, Fault, FileAccess, ForkStrategy, Limits, MmapRequest,
    MremapRequest, Overcommit, RemapPages, Setup, System, SystemSettings, VmFlags, abi::*,
};

const RW: u64 = PROT_READ | PROT_WRITE;
const H: u64 = HUGE_PAGE_SIZE;
const BASE: u64 = 0x20_0000_0000;

/// Huge page `index` of the arena.
const fn at(index: u64) -> u64 {
    BASE + index * H
}

fn space_with(huge_pages: u32) -> AddressSpace {
    let settings = SystemSettings {
        huge_pages,
        ..SystemSettings::default()
    };
    space_on(settings)
}

fn space_on(settings: SystemSettings) -> AddressSpace {
    let system = Arc::new(System::new(settings));
    let setup = Setup {
        system,
        ..Setup::default()
    };
    AddressSpace::from_layout(setup, []).unwrap()
}

fn anywhere(flags: u64, pages: u64) -> MmapRequest {
    MmapRequest {
        flags: flags | MAP_ANONYMOUS | MAP_HUGETLB,
        ..MmapRequest::anonymous(pages * H, RW)
    }
}

fn fixed(flags: u64, pages: std::ops::Range<u64>) -> MmapRequest {
    MmapRequest {
        addr: at(pages.start),
        ..anywhere(flags | MAP_FIXED, pages.end - pages.start)
    }
}

/// Four huge pages of private memory that are promised to nobody.
fn four() -> AddressSpace {
    let mut space = space_with(0);
    space
        .mmap(fixed(MAP_PRIVATE | MAP_NORESERVE, 0..4))
        .unwrap();
    space
}

/// The mapped ranges in huge pages of the arena, fractions with a dot.
fn ranges(space: &AddressSpace) -> String {
    space.validate().unwrap();
    let number = |addr: u64| (addr as i64 - BASE as i64) as f64 / H as f64;
    let texts: Vec<String> = space
        .vmas()
        .map(|vma| format!("{}-{}", number(vma.start()), number(vma.end())))
        .collect();
    texts.join(" ")
}

/// `call` ends in `errno`, and leaves everything as it was.
#[track_caller]
fn refuses<T: std::fmt::Debug + PartialEq>(
    space: &mut AddressSpace,
    errno: Errno,
    call: impl FnOnce(&mut AddressSpace) -> Result<T, Errno>,
) {
    let before = state(space);
    assert_eq!(call(space), Err(errno));
    assert_eq!(state(space), before);
}

fn stock(space: &AddressSpace) -> (u64, u64, u64) {
    let pages = space.system().huge_pages();
    (pages.total, pages.free, pages.reserved)
}

mod mapping {
    use super::*;

    #[test]
    fn lengths_are_rounded_up_to_huge_pages() {
        let mut space = space_with(0);
        let request = MmapRequest {
            len: 4096,
            ..fixed(MAP_PRIVATE | MAP_NORESERVE, 0..1)
        };
        space.mmap(request).unwrap();
        assert_eq!(ranges(&space), "0-1");
        assert_eq!(space.statistics().total_vm, 512);
    }

    #[test]
    fn a_length_that_wraps_is_invalid() {
        let mut space = space_with(0);
        for (len, errno) in [
            (0, Errno::EINVAL),
            (u64::MAX, Errno::EINVAL),
            (H.wrapping_neg(), Errno::ENOMEM),
            (1 << 47, Errno::ENOMEM),
        ] {
            let request = MmapRequest {
                len,
                ..anywhere(MAP_PRIVATE | MAP_NORESERVE, 1)
            };
            refuses(&mut space, errno, |space| space.mmap(request));
        }
    }

    #[test]
    fn flags_say_what_it_is_and_nothing_is_charged() {
        let space = four();
        let vma = space.vma_at(BASE).unwrap();
        assert_eq!(vma.flags().mnemonics(), "rd wr mr mw me de nr ht ");
        assert_eq!(vma.name(), Some("/anon_hugepage (deleted)"));
        let statistics = space.statistics();
        assert_eq!((statistics.committed, statistics.data_vm), (0, 2048));
    }

    #[test]
    fn a_promised_one_is_not_charged_either() {
        let mut space = space_with(4);
        let addr = space.mmap(anywhere(MAP_PRIVATE, 4)).unwrap();
        let flags = space.vma_at(addr).unwrap().flags();
        assert!(!flags.intersects(VmFlags::ACCOUNT | VmFlags::NORESERVE));
        assert_eq!(space.statistics().committed, 0);
    }

    #[test]
    fn noreserve_counts_even_where_nothing_is_promised_freely() {
        let mut space = space_on(SystemSettings {
            overcommit: Overcommit::Never {
                limit_pages: 1 << 20,
                admin_reserve_pages: 0,
                user_reserve_pages: 0,
            },
            ..SystemSettings::default()
        });
        let addr = space.mmap(anywhere(MAP_PRIVATE | MAP_NORESERVE, 1));
        let flags = space.vma_at(addr.unwrap()).unwrap().flags();
        assert!(flags.contains(VmFlags::NORESERVE));
    }

    #[test]
    fn a_fixed_address_within_a_huge_page_is_invalid() {
        let mut space = space_with(0);
        let request = MmapRequest {
            addr: BASE + 4096,
            ..fixed(MAP_PRIVATE | MAP_NORESERVE, 0..1)
        };
        refuses(&mut space, Errno::EINVAL, |space| space.mmap(request));
    }

    #[test]
    fn a_hint_is_rounded_up() {
        let mut space = space_with(0);
        for hint in [BASE - 4096, BASE - H + 4096, BASE] {
            let request = MmapRequest {
                addr: hint,
                ..anywhere(MAP_PRIVATE | MAP_NORESERVE, 1)
            };
            assert_eq!(space.mmap(request), Ok(BASE));
            space.munmap(BASE, H).unwrap();
        }
    }

    #[test]
    fn places_are_aligned_and_as_high_as_can_be() {
        let mut space = space_with(0);
        let request = anywhere(MAP_PRIVATE | MAP_NORESERVE, 1);
        let first = space.mmap(request.clone()).unwrap();
        let second = space.mmap(request).unwrap();
        assert!(first.is_multiple_of(H));
        assert_eq!(second, first - H);
    }

    /// The padding that makes any place alignable has to fit, too.
    #[test]
    fn a_hole_of_exactly_its_length_is_passed_over() {
        let mut space = space_with(0);
        let three = space
            .mmap(anywhere(MAP_PRIVATE | MAP_NORESERVE, 3))
            .unwrap();
        space.munmap(three + H, H).unwrap();
        let next = space.mmap(anywhere(MAP_PRIVATE | MAP_NORESERVE, 1));
        assert_eq!(next, Ok(three - H));
    }

    #[test]
    fn sizes_that_no_pool_has_are_refused() {
        let mut space = space_with(0);
        for (size, errno) in [
            (30, Errno::ENOMEM),
            (22, Errno::EINVAL),
            (63, Errno::EINVAL),
        ] {
            let flags = MAP_PRIVATE | MAP_NORESERVE | size << MAP_HUGE_SHIFT;
            refuses(&mut space, errno, |space| space.mmap(anywhere(flags, 1)));
        }
        let named = MAP_PRIVATE | MAP_NORESERVE | 21 << MAP_HUGE_SHIFT;
        assert!(space.mmap(anywhere(named, 1)).is_ok());
    }

    #[test]
    fn types_and_offsets_are_checked_as_for_files() {
        let mut space = space_with(0);
        for flags in [0, MAP_DROPPABLE, MAP_PRIVATE | MAP_GROWSDOWN] {
            let request = fixed(flags | MAP_NORESERVE, 0..1);
            refuses(&mut space, Errno::EINVAL, |space| space.mmap(request));
        }
        let strict = fixed(MAP_SHARED_VALIDATE | MAP_SYNC | MAP_NORESERVE, 0..1);
        refuses(&mut space, Errno::EOPNOTSUPP, |space| space.mmap(strict));
        let shared = fixed(MAP_SHARED_VALIDATE | MAP_NORESERVE, 0..1);
        assert_eq!(space.mmap(shared), Ok(BASE));
        let further = MmapRequest {
            offset: H,
            ..fixed(MAP_PRIVATE | MAP_NORESERVE, 0..1)
        };
        assert_eq!(space.mmap(further), Ok(BASE));
        assert_eq!(space.vma_at(BASE).unwrap().page_offset(), 512);
    }

    #[test]
    fn a_file_that_is_not_of_huge_pages_cannot_be_mapped_so() {
        let mut space = space_with(0);
        let mut request = of_file(&file(1, FileAccess::READ), 0..1, 0);
        request.flags |= MAP_HUGETLB;
        refuses(&mut space, Errno::EINVAL, |space| space.mmap(request));
    }

    #[test]
    fn what_a_late_refusal_had_emptied_stays_empty() {
        for late in [
            fixed(MAP_PRIVATE, 1..2),
            MmapRequest {
                offset: 4096,
                ..fixed(MAP_PRIVATE | MAP_NORESERVE, 1..2)
            },
        ] {
            let mut space = space_with(0);
            let small = MmapRequest {
                addr: BASE,
                flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                ..MmapRequest::anonymous(4 * H, RW)
            };
            space.mmap(small).unwrap();
            assert!(space.mmap(late).is_err());
            assert_eq!(ranges(&space), "0-1 2-4");
        }
    }

    #[test]
    fn neighbours_never_merge() {
        let mut space = four();
        space
            .mmap(fixed(MAP_PRIVATE | MAP_NORESERVE, 4..8))
            .unwrap();
        assert_eq!(ranges(&space), "0-4 4-8");
        space.mprotect(at(1), H, PROT_READ).unwrap();
        space.mprotect(at(1), H, RW).unwrap();
        assert_eq!(ranges(&space), "0-1 1-2 2-4 4-8");
    }

    #[test]
    fn locks_are_dropped() {
        let mut space = space_with(0);
        space.set_limits(Limits {
            memlock: u64::MAX,
            ..space.limits()
        });
        let flags = MAP_PRIVATE | MAP_NORESERVE | MAP_LOCKED;
        space.mmap(fixed(flags, 0..1)).unwrap();
        assert_eq!(space.statistics().locked_vm, 0);
        // No page can be brought in.
        refuses(&mut space, Errno::ENOMEM, |space| space.mlock(BASE, H));
        assert_eq!(space.munlock(BASE, H), Ok(()));
    }
}

mod cutting {
    use super::*;

    #[test]
    fn unmapping_part_of_a_page_is_invalid() {
        let mut space = four();
        for (addr, len) in [(at(0), 4096), (at(0) + 4096, 3 * H), (at(0), H + 4096)] {
            refuses(&mut space, Errno::EINVAL, |space| space.munmap(addr, len));
        }
        space.munmap(at(1), H).unwrap();
        assert_eq!(ranges(&space), "0-1 2-4");
        assert_eq!(space.vma_at(at(2)).unwrap().page_offset(), 1024);
    }

    /// A cut at the start, which is possible, comes first and stays.
    #[test]
    fn a_first_cut_stays_where_the_second_is_refused() {
        type Act = fn(&mut AddressSpace) -> Result<(), Errno>;
        let calls: [Act; 5] = [
            |space| space.munmap(at(1), H + 4096),
            |space| space.mprotect(at(1), 4096, PROT_READ),
            |space| space.madvise(at(1), 4096, MADV_DONTDUMP),
            |space| space.mseal(at(1), 4096, 0),
            |space| {
                let small = MmapRequest {
                    addr: at(1),
                    flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                    ..MmapRequest::anonymous(4096, RW)
                };
                space.mmap(small).map(drop)
            },
        ];
        for call in calls {
            let mut space = four();
            assert_eq!(call(&mut space), Err(Errno::EINVAL));
            assert_eq!(ranges(&space), "0-1 1-4");
        }
    }

    #[test]
    fn what_precedes_a_refusal_is_cut() {
        let mut space = four();
        let small = MmapRequest {
            addr: BASE - 2 * H,
            flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
            ..MmapRequest::anonymous(2 * H, RW)
        };
        space.mmap(small).unwrap();
        assert_eq!(space.munmap(BASE - H, H + 4096), Err(Errno::EINVAL));
        assert_eq!(ranges(&space), "-2--1 -1-0 0-4");
    }

    #[test]
    fn rights_change_by_whole_pages() {
        let mut space = four();
        refuses(&mut space, Errno::EINVAL, |space| {
            space.mprotect(at(0), 4096, PROT_READ)
        });
        // Nothing to change, nothing to cut.
        assert_eq!(space.mprotect(at(0) + 4096, 8192, RW), Ok(()));
        assert_eq!(ranges(&space), "0-4");
    }

    #[test]
    fn advice_that_changes_flags_is_for_whole_pages() {
        let mut space = four();
        for advice in [MADV_RANDOM, MADV_DONTFORK, MADV_DONTDUMP, MADV_HUGEPAGE] {
            refuses(&mut space, Errno::EINVAL, |space| {
                space.madvise(at(0), 4096, advice)
            });
        }
        space.madvise(at(0), H, MADV_HUGEPAGE).unwrap();
        let flags = space.vma_at(BASE).unwrap().flags();
        assert!(flags.contains(VmFlags::HUGEPAGE));
    }

    #[test]
    fn discarding_begins_at_a_page_and_is_cut_short() {
        let mut space = four();
        for advice in [MADV_DONTNEED, MADV_DONTNEED_LOCKED] {
            assert_eq!(space.madvise(at(1), 4096, advice), Ok(()));
            assert_eq!(space.madvise(at(1), H + 4096, advice), Ok(()));
            refuses(&mut space, Errno::EINVAL, |space| {
                space.madvise(at(1) + 4096, H, advice)
            });
        }
    }

    #[test]
    fn advice_for_other_memory_is_refused() {
        let mut space = four();
        for (advice, errno) in [
            (MADV_FREE, Errno::EINVAL),
            (MADV_REMOVE, Errno::EACCES),
            (MADV_WIPEONFORK, Errno::EINVAL),
            (MADV_COLD, Errno::EINVAL),
            (MADV_PAGEOUT, Errno::EINVAL),
            (MADV_COLLAPSE, Errno::EINVAL),
            (MADV_GUARD_INSTALL, Errno::EINVAL),
            (MADV_GUARD_REMOVE, Errno::EINVAL),
        ] {
            refuses(&mut space, errno, |space| {
                space.madvise(at(0), 4 * H, advice)
            });
        }
        for advice in [MADV_POPULATE_READ, MADV_POPULATE_WRITE] {
            let populated = space.madvise(at(0), 4096, advice);
            assert_eq!(populated, Err(Errno::EFAULT));
        }
        for advice in [MADV_WILLNEED, MADV_MERGEABLE, MADV_DOFORK, MADV_DODUMP] {
            assert_eq!(space.madvise(at(0) + 4096, 4096, advice), Ok(()));
        }
    }
}

mod moving {
    use super::*;

    fn remap(addr: u64, lens: (u64, u64), flags: u64, new_addr: u64) -> MremapRequest {
        MremapRequest {
            addr,
            old_len: lens.0,
            new_len: lens.1,
            flags,
            new_addr,
        }
    }

    const MOVE: u64 = MREMAP_MAYMOVE | MREMAP_FIXED;

    #[test]
    fn it_does_not_grow_nor_is_kept_nor_moved_by_parts() {
        let mut space = four();
        for request in [
            remap(at(0), (4 * H, 8 * H), MREMAP_MAYMOVE, 0),
            remap(at(0), (4 * H, 4 * H + 4096), MREMAP_MAYMOVE, 0),
            remap(at(0), (0, 4 * H), MREMAP_MAYMOVE, 0),
            remap(at(0) + 4096, (H, H), MREMAP_MAYMOVE, 0),
            remap(at(0) + 4096, (4 * H, 4 * H), 0, 0),
            remap(at(0), (4 * H, 3 * H), 0, 4096),
            remap(at(0), (4096, 4096), MOVE, at(8) + 4096),
            remap(at(0), (4 * H, 4 * H), MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0),
        ] {
            refuses(&mut space, Errno::EINVAL, |space| space.mremap(request));
        }
    }

    #[test]
    fn it_shrinks_by_whole_pages() {
        let mut space = four();
        let nearly = remap(at(0), (4 * H, 3 * H + 4096), 0, 0);
        assert_eq!(space.mremap(nearly), Ok(at(0)));
        assert_eq!(ranges(&space), "0-4");
        let shorter = remap(at(0), (4 * H, 3 * H), 0, 0);
        assert_eq!(space.mremap(shorter), Ok(at(0)));
        assert_eq!(ranges(&space), "0-3");
    }

    #[test]
    fn it_moves_by_whole_pages() {
        let mut space = four();
        let one = remap(at(1), (4096, 4096), MOVE, at(8));
        assert_eq!(space.mremap(one), Ok(at(8)));
        assert_eq!(ranges(&space), "0-1 2-4 8-9");
        assert_eq!(space.vma_at(at(8)).unwrap().page_offset(), 512);
    }

    #[test]
    fn it_moves_in_company() {
        let mut space = four();
        let small = MmapRequest {
            addr: at(4),
            flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
            ..MmapRequest::anonymous(2 * H, RW)
        };
        space.mmap(small).unwrap();
        let both = remap(at(0), (6 * H, 6 * H), MOVE, at(8));
        assert_eq!(space.mremap(both), Ok(at(8)));
        assert_eq!(ranges(&space), "8-12 12-14");
    }
}

mod pool {
    use super::*;

    #[test]
    fn a_mapping_is_promised_its_pages_or_refused() {
        let mut space = space_with(4);
        space.mmap(fixed(MAP_PRIVATE, 0..3)).unwrap();
        assert_eq!(stock(&space), (4, 4, 3));
        refuses(&mut space, Errno::ENOMEM, |space| {
            space.mmap(fixed(MAP_SHARED, 4..6))
        });
        space.mmap(fixed(MAP_SHARED, 4..5)).unwrap();
        assert_eq!(stock(&space), (4, 4, 4));
    }

    #[test]
    fn without_a_promise_it_may_be_of_any_length() {
        let mut space = space_with(1);
        space
            .mmap(fixed(MAP_PRIVATE | MAP_NORESERVE, 0..100))
            .unwrap();
        assert_eq!(stock(&space), (1, 1, 0));
    }

    #[test]
    fn unmapping_gives_private_promises_back_page_by_page() {
        let mut space = space_with(4);
        space.mmap(fixed(MAP_PRIVATE, 0..4)).unwrap();
        space.munmap(at(1), H).unwrap();
        assert_eq!(stock(&space), (4, 4, 3));
        space.mmap(fixed(MAP_PRIVATE, 2..3)).unwrap();
        assert_eq!(stock(&space), (4, 4, 3));
        space.munmap(at(0), 4 * H).unwrap();
        assert_eq!(stock(&space), (4, 4, 0));
    }

    /// They are the object's.
    #[test]
    fn shared_promises_stay_until_all_of_it_is_unmapped() {
        let mut space = space_with(4);
        space.mmap(fixed(MAP_SHARED, 0..4)).unwrap();
        let child = space.fork().unwrap();
        space.munmap(at(0), 4 * H).unwrap();
        assert_eq!(stock(&space), (4, 4, 4));
        drop(child);
        assert_eq!(stock(&space), (4, 4, 0));
    }

    #[test]
    fn promises_move_with_their_mapping() {
        let mut space = space_with(4);
        space.mmap(fixed(MAP_PRIVATE, 0..4)).unwrap();
        let moved = MremapRequest {
            addr: at(1),
            old_len: 2 * H,
            new_len: H,
            flags: MREMAP_MAYMOVE | MREMAP_FIXED,
            new_addr: at(8),
        };
        space.mremap(moved).unwrap();
        assert_eq!(ranges(&space), "0-1 3-4 8-9");
        assert_eq!(stock(&space), (4, 4, 3));
        space.munmap(at(8), H).unwrap();
        assert_eq!(stock(&space), (4, 4, 2));
    }

    #[test]
    fn a_child_has_no_promise_and_takes_none_away() {
        for strategy in ForkStrategy::ALL {
            let mut space = space_with(4);
            space.mmap(fixed(MAP_PRIVATE, 0..4)).unwrap();
            let mut child = space.fork_with(strategy, || false).unwrap();
            child.munmap(at(0), H).unwrap();
            assert_eq!(stock(&space), (4, 4, 4));
            let refused = child.mmap(fixed(MAP_PRIVATE, 8..9));
            assert_eq!(refused, Err(Errno::ENOMEM));
            drop(space);
            assert_eq!(stock(&child), (4, 4, 0));
            child.mmap(fixed(MAP_PRIVATE, 8..9)).unwrap();
            assert_eq!(stock(&child), (4, 4, 1));
            child.munmap(at(8), H).unwrap();
            assert_eq!(stock(&child), (4, 4, 0));
        }
    }

    #[test]
    fn an_end_gives_everything_back() {
        let mut space = space_with(8);
        space.mmap(fixed(MAP_PRIVATE, 0..3)).unwrap();
        space.mmap(fixed(MAP_SHARED, 4..6)).unwrap();
        let system = Arc::clone(space.system());
        let copy = space.snapshot();
        drop(space);
        assert_eq!(system.huge_pages().reserved, 2);
        drop(copy);
        assert_eq!(system.huge_pages().reserved, 0);
    }

    #[test]
    fn without_any_page_a_touch_is_a_bus_error() {
        let mut space = four();
        for access in [Access::Read, Access::Write] {
            assert_eq!(space.fault(at(0), access), Err(Fault::Bus));
        }
        assert_eq!(space.fault(at(0), Access::Execute), Err(Fault::NotAllowed));
    }

    #[test]
    fn what_a_file_turns_out_to_be_keeps_its_promise() {
        let mut space = space_with(4);
        space.mmap(fixed(MAP_PRIVATE, 0..4)).unwrap();
        let object = space.vma_at(BASE).unwrap().file().unwrap().clone();
        let known = maple_mm::File {
            inode: 7,
            ..(*object).clone()
        };
        let known = maple_mm::FileRef::new(known).unwrap();
        space.set_file(object.id, &known).unwrap();
        drop(object);
        assert_eq!(stock(&space), (4, 4, 4));
        space.munmap(at(0), H).unwrap();
        assert_eq!(stock(&space), (4, 4, 3));
    }
}

#[test]
fn an_offset_beyond_the_file_and_a_lowered_limit_refuse_before_anything_is_unmapped() {
    let mut space = space_with(0);
    let request = MmapRequest {
        addr: at(0),
        flags: MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE | MAP_HUGETLB,
        ..MmapRequest::anonymous(4 * H, RW)
    };
    space.mmap(request).unwrap();
    let before = state(&space);
    for page_offset in [1 << 52, (1 << 51) - 2, (1 << 51) - 512] {
        let refused = space.remap_file_pages(RemapPages {
            start: at(1),
            size: H,
            prot: 0,
            page_offset,
            flags: 0,
        });
        assert_eq!(refused, Err(Errno::EOVERFLOW), "{page_offset:#x}");
        assert_eq!(state(&space), before);
    }
    space.set_limits(Limits {
        address_space: 0,
        ..Limits::default()
    });
    let refused = space.remap_file_pages(RemapPages {
        start: at(1),
        size: H,
        prot: 0,
        page_offset: 2,
        flags: 0,
    });
    assert_eq!((refused, state(&space)), (Err(Errno::ENOMEM), before));
}

#[test]
fn an_exec_right_that_may_not_be_gained_refuses_before_anything_is_unmapped() {
    let mut space = space_with(0);
    let request = MmapRequest {
        addr: at(0),
        flags: MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE | MAP_HUGETLB,
        ..MmapRequest::anonymous(H, RW)
    };
    space.mmap(request).unwrap();
    space.personality(READ_IMPLIES_EXEC.into());
    let before = state(&space);
    let remap = RemapPages {
        start: at(0),
        size: H,
        prot: 0,
        page_offset: 1,
        flags: 0,
    };
    let (option, bits) = (PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN);
    assert_eq!(space.prctl(option, [bits, 0, 0, 0]), Ok(0));
    assert_eq!(space.remap_file_pages(remap), Err(Errno::EACCES));
    assert_eq!(state(&space), before);
}

#[test]
fn the_last_pages_of_the_largest_file_are_placed_as_huge_ones() {
    let mut space = space_with(0);
    let offset = (i64::MAX as u64 >> 12) - 1;
    let request = MmapRequest {
        addr: 0,
        flags: MAP_SHARED,
        ..of_file(&file(1, FileAccess::READ), 0..1, offset)
    };
    let addr = space.mmap(request).unwrap();
    assert_eq!(addr % H, offset * PAGE_SIZE % H);
}
