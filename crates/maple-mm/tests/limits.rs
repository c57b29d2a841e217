//! The order of refusals and each limit with its own off-by-one.

mod common;

use std::sync::Arc;

use common::{file, flags, map, map_as, memory, of_file, page, ranges, state, write};
use maple_mm::{
    Access, AddressSpace, Capabilities, Errno, Fault, File, FileAccess, FileKind, Limits, MmapFile,
    MmapRequest, MremapRequest, Setup, System, SystemSettings, VmFlags, abi::*,
};

const RW: u64 = PROT_READ | PROT_WRITE;

fn with_map_limit(max_map_count: usize) -> AddressSpace {
    let settings = SystemSettings {
        max_map_count,
        ..SystemSettings::default()
    };
    let system = Arc::new(System::new(settings));
    AddressSpace::from_layout(
        Setup {
            system,
            ..Setup::default()
        },
        [],
    )
    .unwrap()
}

fn with_limits(limits: Limits) -> AddressSpace {
    AddressSpace::from_layout(
        Setup {
            limits,
            ..Setup::default()
        },
        [],
    )
    .unwrap()
}

/// Found by `samara torture`: a device was taken to have no last offset at all.
#[test]
fn a_device_ends_with_its_last_offset_of_64_bits_and_a_file_with_that_of_63() {
    let last_of = |kind| {
        let all = File {
            kind,
            ..(*file(1, FileAccess::READ)).clone()
        };
        let all = maple_mm::FileRef::new(all).unwrap();
        let mut space = AddressSpace::empty();
        let mut mapped = |offset: u64| space.mmap(of_file(&all, 0..1, offset)).map(|_| ());
        // The mapping's end is one byte too far where its last page is the last there could be.
        let last = (1_u64 << 52) - 1;
        [last / 2, last / 2 - 1, last, last - 1].map(|offset| mapped(offset).err())
    };
    let beyond = Some(Errno::EOVERFLOW);
    let regular = FileKind::Regular {
        huge_aligned: false,
    };
    assert_eq!(last_of(FileKind::DevZero), [None, None, beyond, None]);
    assert_eq!(last_of(regular), [beyond, None, beyond, beyond]);
}

mod map_count {
    use super::*;

    #[test]
    fn mmap_goes_one_beyond_the_limit() {
        let mut space = with_map_limit(4);
        for index in 0..5 {
            map(&mut space, index * 2, index * 2 + 1);
        }
        assert_eq!(space.map_count(), 5);
        assert_eq!(space.mmap(memory(20, 21, RW)), Err(Errno::ENOMEM));
    }

    #[test]
    fn a_split_stops_at_the_limit() {
        let mut space = with_map_limit(2);
        map(&mut space, 0, 3);
        map(&mut space, 5, 6);
        let before = state(&space);
        assert_eq!(space.munmap(page(1), PAGE_SIZE), Err(Errno::ENOMEM));
        assert_eq!(
            space.mprotect(page(1), PAGE_SIZE, PROT_READ),
            Err(Errno::ENOMEM)
        );
        assert_eq!(
            space.madvise(page(1), PAGE_SIZE, MADV_DONTFORK),
            Err(Errno::EAGAIN)
        );
        assert_eq!(state(&space), before);
        // Cutting at an edge needs no further mapping.
        space.munmap(page(0), PAGE_SIZE).unwrap();
        assert_eq!(ranges(&space), "1-3 5-6");
    }

    #[test]
    fn the_first_of_two_splits_stays_when_the_second_is_refused() {
        let mut space = with_map_limit(2);
        map(&mut space, 0, 3);
        assert_eq!(
            space.mprotect(page(1), PAGE_SIZE, PROT_READ),
            Err(Errno::ENOMEM)
        );
        assert_eq!(ranges(&space), "0-1 1-3");
    }

    #[test]
    fn a_move_keeps_room_for_its_splits() {
        let mut space = with_map_limit(8);
        for index in 0..5 {
            map(&mut space, index * 2, index * 2 + 1);
        }
        let request = MremapRequest {
            addr: page(0),
            old_len: PAGE_SIZE,
            new_len: 2 * PAGE_SIZE,
            flags: MREMAP_MAYMOVE,
            new_addr: 0,
        };
        map(&mut space, 1, 2);
        assert_eq!(ranges(&space), "0-3 4-5 6-7 8-9");
        map_as(&mut space, memory(3, 4, PROT_NONE));
        assert_eq!(space.mremap(request), Err(Errno::ENOMEM));
    }
}

mod order_of_mmap {
    use super::*;

    fn errno(space: &mut AddressSpace, request: MmapRequest) -> Errno {
        let before = state(space);
        let errno = space.mmap(request).unwrap_err();
        assert_eq!(state(space), before);
        errno
    }

    #[test]
    fn each_check_comes_before_the_next() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        let bad = |flags, len, offset| MmapRequest {
            len,
            flags,
            offset,
            file: MmapFile::Bad,
            ..memory(0, 1, RW)
        };
        assert_eq!(errno(&mut space, bad(0, 0, 1)), Errno::EINVAL);
        assert_eq!(errno(&mut space, bad(0, 0, 0)), Errno::EBADF);
        let anonymous = MAP_ANONYMOUS;
        assert_eq!(errno(&mut space, bad(anonymous, 0, 0)), Errno::EINVAL);
        assert_eq!(
            errno(&mut space, bad(anonymous, u64::MAX, 0)),
            Errno::ENOMEM
        );
        // The type is checked after the address is chosen and found occupied.
        let occupied = anonymous | MAP_FIXED_NOREPLACE;
        assert_eq!(errno(&mut space, bad(occupied, 4096, 0)), Errno::EEXIST);
        assert_eq!(errno(&mut space, bad(anonymous, 4096, 0)), Errno::EINVAL);
    }

    #[test]
    fn locking_is_checked_before_the_file() {
        let mut space = with_limits(Limits {
            memlock: 0,
            ..Limits::default()
        });
        let write_only = file(1, FileAccess::WRITE);
        let mut request = of_file(&write_only, 0..1, 0);
        assert_eq!(errno(&mut space, request.clone()), Errno::EACCES);
        request.flags |= MAP_LOCKED;
        assert_eq!(errno(&mut space, request.clone()), Errno::EPERM);
        space.set_limits(Limits {
            memlock: 100,
            ..Limits::default()
        });
        assert_eq!(errno(&mut space, request), Errno::EAGAIN);
    }

    #[test]
    fn a_file_refuses_what_its_opening_does_not_allow() {
        let mut space = AddressSpace::empty();
        let read_only = file(1, FileAccess::READ);
        let mut request = of_file(&read_only, 0..1, 0);
        request.prot = RW;
        request.flags = MAP_SHARED | MAP_FIXED;
        assert_eq!(errno(&mut space, request.clone()), Errno::EACCES);
        request.prot = PROT_READ;
        request.flags = MAP_SHARED_VALIDATE | MAP_FIXED | 1 << 22;
        assert_eq!(errno(&mut space, request.clone()), Errno::EOPNOTSUPP);
        request.flags = MAP_PRIVATE | MAP_FIXED | MAP_GROWSDOWN;
        assert_eq!(errno(&mut space, request.clone()), Errno::EINVAL);
        request.flags = MAP_SHARED | MAP_FIXED | 1 << 22;
        space.mmap(request).unwrap();
        // Shared, but never to be written: printed as shared, counted as private.
        let flags = flags(&space, 0);
        assert!(flags.contains(VmFlags::MAYSHARE));
        assert!(!flags.intersects(VmFlags::SHARED | VmFlags::MAYWRITE));
        assert_eq!(space.mprotect(page(0), PAGE_SIZE, RW), Err(Errno::EACCES));
    }

    #[test]
    fn a_mount_without_execution_and_an_unmappable_file_refuse() {
        let mut space = AddressSpace::empty();
        let no_exec = file(1, FileAccess::READ | FileAccess::NO_EXEC);
        let mut request = of_file(&no_exec, 0..1, 0);
        request.prot = PROT_READ | PROT_EXEC;
        assert_eq!(errno(&mut space, request), Errno::EPERM);
        let pipe = maple_mm::FileRef::new(File {
            kind: FileKind::Device,
            ..(*file(2, FileAccess::READ | FileAccess::NO_MMAP)).clone()
        })
        .unwrap();
        assert_eq!(errno(&mut space, of_file(&pipe, 0..1, 0)), Errno::ENODEV);
    }

    #[test]
    fn low_addresses_need_the_privilege_and_hints_move_up() {
        let mut space = AddressSpace::empty();
        let at = |addr| MmapRequest {
            addr,
            ..memory(0, 1, RW)
        };
        assert_eq!(errno(&mut space, at(0)), Errno::EPERM);
        assert_eq!(space.mmap(at(0x1000)), Ok(0x1000));
        let hint = |addr| MmapRequest {
            addr,
            ..MmapRequest::anonymous(4096, RW)
        };
        assert_eq!(space.mmap(hint(0x2000)), Ok(0x1_0000));
        space.set_capabilities(Capabilities::SYS_RAWIO);
        assert_eq!(space.mmap(at(0)), Ok(0));
    }
}

mod memory_limits {
    use super::*;

    #[test]
    fn address_space_counts_what_a_fixed_range_replaces() {
        let mut space = with_limits(Limits {
            address_space: 4 * 4096,
            ..Limits::default()
        });
        map(&mut space, 0, 4);
        assert_eq!(space.mmap(memory(4, 5, RW)), Err(Errno::ENOMEM));
        map_as(&mut space, memory(0, 4, PROT_READ));
        assert_eq!(space.statistics().total_vm, 4);
    }

    #[test]
    fn a_refused_fixed_range_keeps_the_old_mapping_but_cut() {
        let mut space = with_limits(Limits {
            address_space: 4 * 4096,
            ..Limits::default()
        });
        map(&mut space, 0, 4);
        assert_eq!(space.mmap(memory(3, 5, RW)), Err(Errno::ENOMEM));
        assert_eq!(ranges(&space), "0-3 3-4");
    }

    #[test]
    fn becoming_writable_counts_against_data() {
        let mut space = with_limits(Limits {
            data: 4096,
            ..Limits::default()
        });
        map_as(&mut space, memory(0, 2, PROT_READ));
        assert_eq!(space.mprotect(page(0), 2 * 4096, RW), Err(Errno::ENOMEM));
        space.mprotect(page(0), 4096, RW).unwrap();
        assert_eq!(space.statistics().data_vm, 1);
    }

    #[test]
    fn one_request_beyond_all_memory_is_refused_unless_it_reserves_none() {
        let mut space = AddressSpace::empty();
        let huge = MmapRequest::anonymous(1 << 40, RW);
        assert_eq!(space.mmap(huge.clone()), Err(Errno::ENOMEM));
        let flags = huge.flags | MAP_NORESERVE;
        assert!(
            space
                .mmap(MmapRequest {
                    flags,
                    ..huge.clone()
                })
                .is_ok()
        );
        assert!(
            space
                .mmap(MmapRequest {
                    prot: PROT_NONE,
                    ..huge
                })
                .is_ok()
        );
        assert_eq!(space.system().committed(), 0);
    }

    #[test]
    fn locking_has_three_refusals() {
        let mut space = with_limits(Limits {
            memlock: 2 * 4096,
            ..Limits::default()
        });
        map(&mut space, 0, 4);
        assert_eq!(space.mlock(page(0), 3 * 4096), Err(Errno::ENOMEM));
        space.mlock(page(0), 2 * 4096).unwrap();
        // What is locked already does not count twice.
        space.mlock(page(0), 2 * 4096).unwrap();
        let mut request = memory(8, 9, RW);
        request.flags |= MAP_LOCKED;
        assert_eq!(space.mmap(request), Err(Errno::EAGAIN));
        space.set_limits(Limits {
            memlock: 0,
            ..Limits::default()
        });
        assert_eq!(space.mlock(page(0), 4096), Err(Errno::EPERM));
    }

    #[test]
    fn holes_stop_locking_and_protecting_after_what_precedes() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        map(&mut space, 2, 3);
        assert_eq!(space.mlock(page(0), 3 * 4096), Err(Errno::ENOMEM));
        assert!(flags(&space, 0).contains(VmFlags::LOCKED));
        assert!(!flags(&space, 2).contains(VmFlags::LOCKED));
        assert_eq!(
            space.mprotect(page(0), 3 * 4096, PROT_READ),
            Err(Errno::ENOMEM)
        );
        assert_eq!(flags(&space, 0).access(), VmFlags::READ);
        assert!(flags(&space, 2).contains(VmFlags::WRITE));
        // Advice goes on behind the hole; sealing does nothing at all.
        assert_eq!(
            space.madvise(page(0), 3 * 4096, MADV_DONTFORK),
            Err(Errno::ENOMEM)
        );
        assert!(flags(&space, 2).contains(VmFlags::DONTCOPY));
        assert_eq!(space.mseal(page(0), 3 * 4096, 0), Err(Errno::ENOMEM));
        assert!(!flags(&space, 0).contains(VmFlags::SEALED));
    }
}

mod stacks {
    use super::*;

    fn stack(space: &mut AddressSpace, first: u64, end: u64) {
        let mut request = memory(first, end, RW);
        request.flags |= MAP_GROWSDOWN;
        map_as(space, request);
    }

    #[test]
    fn growth_keeps_256_pages_from_accessible_memory() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        stack(&mut space, 1000, 1001);
        assert_eq!(space.fault(page(256), Access::Write), Err(Fault::NotMapped));
        space.fault(page(257), Access::Write).unwrap();
        assert_eq!(ranges(&space), "0-1 257-1001");
    }

    #[test]
    fn growth_touches_memory_nobody_can_access() {
        let mut space = AddressSpace::empty();
        map_as(&mut space, memory(0, 1, PROT_NONE));
        stack(&mut space, 1000, 1001);
        space.fault(page(1), Access::Read).unwrap();
        assert_eq!(ranges(&space), "0-1 1-1001");
    }

    #[test]
    fn growth_ends_at_the_stack_limit_inclusive() {
        let mut space = with_limits(Limits {
            stack: 10 * 4096,
            ..Limits::default()
        });
        stack(&mut space, 1000, 1001);
        assert_eq!(space.fault(page(990), Access::Write), Err(Fault::NotMapped));
        space.fault(page(991), Access::Write).unwrap();
        assert_eq!(space.statistics().stack_vm, 10);
    }

    #[test]
    fn a_refused_growth_still_prepares_the_stack() {
        // Found by the comparison with the kernel: `ac` stayed after mprotect(PROT_NONE).
        let mut space = with_limits(Limits {
            stack: 10 * 4096,
            ..Limits::default()
        });
        stack(&mut space, 1000, 1001);
        assert_eq!(space.fault(page(900), Access::Read), Err(Fault::NotMapped));
        assert!(space.vma_at(page(1000)).unwrap().anon().is_faulted());
    }

    #[test]
    fn searches_stay_below_the_gap_of_a_stack() {
        let mut space = AddressSpace::empty();
        let top = space.layout().mmap_base;
        let request = MmapRequest {
            addr: top - 0x10_0000,
            flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN,
            ..MmapRequest::anonymous(0x10_0000, RW)
        };
        map_as(&mut space, request);
        let found = space.mmap(MmapRequest::anonymous(4096, RW)).unwrap();
        assert_eq!(found, top - 0x20_0000 - 4096);
    }
}

mod placement {
    use super::*;

    fn anonymous(space: &mut AddressSpace, len: u64) -> u64 {
        space.mmap(MmapRequest::anonymous(len, PROT_READ)).unwrap()
    }

    #[test]
    fn whole_huge_pages_are_aligned_and_others_are_not() {
        let mut space = AddressSpace::empty();
        assert_eq!(anonymous(&mut space, 2 << 20) % HUGE_PAGE_SIZE, 0);
        assert_eq!(anonymous(&mut space, 4 << 20) % HUGE_PAGE_SIZE, 0);
        assert_ne!(anonymous(&mut space, (2 << 20) + 4096) % HUGE_PAGE_SIZE, 0);
    }

    #[test]
    fn a_granted_hint_is_not_aligned() {
        let mut space = AddressSpace::empty();
        let hint = 0x5000_0000_1000;
        let request = MmapRequest {
            addr: hint,
            ..MmapRequest::anonymous(2 << 20, PROT_READ)
        };
        assert_eq!(space.mmap(request), Ok(hint));
    }

    #[test]
    fn a_hint_may_touch_the_mapping_below_but_not_overlap_the_one_above() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        map(&mut space, 3, 4);
        let hint = |pages| MmapRequest {
            addr: page(1),
            ..MmapRequest::anonymous(pages * PAGE_SIZE, PROT_READ)
        };
        assert_ne!(space.mmap(hint(3)), Ok(page(1)));
        assert_eq!(space.mmap(hint(2)), Ok(page(1)));
    }

    #[test]
    fn large_files_are_aligned_by_their_offset() {
        let mut space = AddressSpace::empty();
        let large = file(1, FileAccess::READ);
        let request = |offset| MmapRequest {
            flags: MAP_PRIVATE,
            file: MmapFile::Open(large.clone()),
            offset,
            ..MmapRequest::anonymous(4 << 20, PROT_READ)
        };
        let addr = space.mmap(request(0x5000)).unwrap();
        assert_eq!(addr % HUGE_PAGE_SIZE, 0x5000);
    }

    #[test]
    fn an_exact_hole_is_passed_over_by_huge_pages() {
        let mut space = AddressSpace::empty();
        let top = space.layout().mmap_base;
        let blocker = MmapRequest {
            addr: top - (3 << 20) - 4096,
            flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
            ..MmapRequest::anonymous(4096, RW)
        };
        map_as(&mut space, blocker);
        assert!(anonymous(&mut space, 2 << 20) < top - (3 << 20));
        assert_eq!(anonymous(&mut space, 3 << 20), top - (3 << 20));
    }
}

mod seals {
    use super::*;

    #[test]
    fn a_seal_refuses_every_change_of_its_range() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 3);
        space.mseal(page(1), PAGE_SIZE, 0).unwrap();
        assert_eq!(ranges(&space), "0-1 1-2 2-3");
        assert_eq!(space.munmap(page(1), PAGE_SIZE), Err(Errno::EPERM));
        assert_eq!(
            space.mprotect(page(1), PAGE_SIZE, PROT_READ),
            Err(Errno::EPERM)
        );
        assert_eq!(space.mmap(memory(1, 2, RW)), Err(Errno::EPERM));
        let request = MremapRequest {
            addr: page(1),
            old_len: PAGE_SIZE,
            new_len: PAGE_SIZE,
            flags: MREMAP_MAYMOVE,
            new_addr: 0,
        };
        assert_eq!(space.mremap(request), Err(Errno::EPERM));
        // Writable memory may be thrown away, and locked.
        space.madvise(page(1), PAGE_SIZE, MADV_DONTNEED).unwrap();
        space.mlock(page(1), PAGE_SIZE).unwrap();
    }

    #[test]
    fn a_seal_protects_the_content_of_read_only_memory() {
        let mut space = AddressSpace::empty();
        map_as(&mut space, memory(0, 1, PROT_READ));
        space.mseal(page(0), PAGE_SIZE, 0).unwrap();
        for advice in [MADV_DONTNEED, MADV_FREE, MADV_DONTFORK, MADV_GUARD_INSTALL] {
            assert_eq!(space.madvise(page(0), PAGE_SIZE, advice), Err(Errno::EPERM));
        }
        space.madvise(page(0), PAGE_SIZE, MADV_DONTDUMP).unwrap();
    }

    #[test]
    fn a_split_made_before_a_seal_refuses_stays() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 2);
        map(&mut space, 2, 3);
        map_as(&mut space, memory(2, 3, PROT_READ));
        space.mseal(page(2), PAGE_SIZE, 0).unwrap();
        assert_eq!(space.munmap(page(1), 2 * PAGE_SIZE), Err(Errno::EPERM));
        assert_eq!(ranges(&space), "0-1 1-2 2-3");
    }
}

#[test]
fn a_snapshot_is_the_same_space_at_that_moment() {
    let mut space = AddressSpace::empty();
    map(&mut space, 0, 2);
    write(&mut space, 0);
    let before = space.snapshot();
    space.munmap(page(0), PAGE_SIZE).unwrap();
    assert_eq!(ranges(&before), "0-2");
    assert_eq!(ranges(&space), "1-2");
    drop(space);
    assert_eq!(before.system().committed(), 2);
}
