//! Rules that depend on a file's file system.

use super::*;

/// Found with files of overlayfs, in every container: they were taken for those of a disk.
mod files_below {
    use super::*;

    fn handed_on(kind: FileKind) -> FileRef {
        let both = FileAccess::READ | FileAccess::WRITE;
        FileRef::new(File {
            kind,
            access: both | FileAccess::FILE_BELOW | FileAccess::SYNC_REFUSED,
            ..memfd(1)
        })
        .unwrap()
    }

    const DISK: FileKind = FileKind::Regular { huge_aligned: true };

    #[test]
    fn a_new_mapping_joins_none_and_a_changed_one_does() {
        let file = handed_on(DISK);
        let mut space = AddressSpace::empty();
        map_as(&mut space, of_file(&file, 0..1, 0));
        map_as(&mut space, of_file(&file, 2..3, 2));
        map_as(&mut space, of_file(&file, 1..2, 1));
        assert_eq!(ranges(&space), "0-1 1-2 2-3");
        space.mprotect(page(1), PAGE_SIZE, PROT_NONE).unwrap();
        space.mprotect(page(1), PAGE_SIZE, PROT_READ).unwrap();
        assert_eq!(ranges(&space), "0-3");
    }

    #[test]
    fn what_is_moved_or_put_in_another_order_joins() {
        let file = handed_on(DISK);
        let mut space = AddressSpace::empty();
        map_as(&mut space, of_file(&file, 0..1, 0));
        map_as(&mut space, of_file(&file, 5..6, 1));
        let to_the_first = MremapRequest {
            addr: page(5),
            old_len: PAGE_SIZE,
            new_len: PAGE_SIZE,
            flags: MREMAP_MAYMOVE | MREMAP_FIXED,
            new_addr: page(1),
        };
        assert_eq!(space.mremap(to_the_first), Ok(page(1)));
        assert_eq!(ranges(&space), "0-2");
        let mut space = AddressSpace::empty();
        map_as(&mut space, shared(&file, 0..1, RW));
        map_as(&mut space, shared(&file, 1..2, RW));
        let again = RemapPages {
            start: page(1),
            size: PAGE_SIZE,
            prot: 0,
            page_offset: 1,
            flags: 0,
        };
        assert_eq!(ranges(&space), "0-1 1-2");
        space.remap_file_pages(again).unwrap();
        assert_eq!(ranges(&space), "0-2");
    }

    #[test]
    fn the_file_below_says_where_it_moves_but_not_where_it_is_made() {
        const LEN: u64 = 4 * HUGE_PAGE_SIZE + PAGE_SIZE;
        for kind in [DISK, FileKind::HugeShmem] {
            let file = handed_on(kind);
            let mut space = AddressSpace::empty();
            let request = MmapRequest {
                addr: 0,
                len: LEN,
                flags: MAP_PRIVATE,
                ..of_file(&file, 0..1, 0)
            };
            let made = space.mmap(request).unwrap();
            assert!(!made.is_multiple_of(HUGE_PAGE_SIZE));
            let moved = MremapRequest {
                addr: made,
                old_len: LEN,
                new_len: LEN,
                flags: MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
                new_addr: 0,
            };
            let moved = space.mremap(moved).unwrap();
            assert!(moved.is_multiple_of(HUGE_PAGE_SIZE), "{kind:?}");
        }
    }

    #[test]
    fn sync_is_unknown_above_and_refused_below() {
        let file = handed_on(DISK);
        let mut space = AddressSpace::empty();
        let sync = |kind| MmapRequest {
            flags: kind | MAP_FIXED | MAP_SYNC,
            ..of_file(&file, 0..1, 0)
        };
        map_as(&mut space, memory(0, 1, RW));
        let refused = space.mmap(sync(MAP_SHARED_VALIDATE));
        assert_eq!(refused, Err(Errno::EOPNOTSUPP));
        assert_eq!(ranges(&space), "0-1");
        // Too late: what was there is gone.
        assert_eq!(space.mmap(sync(MAP_PRIVATE)), Err(Errno::EOPNOTSUPP));
        assert_eq!(ranges(&space), "");
    }
}

/// Linux 6.13 and 6.14 know guards in anonymous memory only.
mod guards_of_files {
    use super::*;

    #[test]
    fn files_have_them_since_6_15() {
        for (minor, expected) in [(14, Err(Errno::EINVAL)), (15, Ok(()))] {
            let profile = maple_mm::LinuxProfile::of_version((6, minor));
            let setup = maple_mm::Setup {
                profile,
                ..maple_mm::Setup::default()
            };
            let mut space = AddressSpace::from_layout(setup, []).unwrap();
            map_as(&mut space, memory(0, 1, RW));
            map_as(
                &mut space,
                shared(&FileRef::new(memfd(1)).unwrap(), 1..2, RW),
            );
            for advice in [MADV_GUARD_INSTALL, MADV_GUARD_REMOVE] {
                assert_eq!(space.madvise(page(0), PAGE_SIZE, advice), Ok(()));
                let of_file = space.madvise(page(1), PAGE_SIZE, advice);
                assert_eq!(of_file, expected, "6.{minor}: {advice}");
            }
        }
    }
}

/// Found with a tmpfs mounted with `huge=always`, with erofs and with fuse.
mod large_files {
    use super::*;

    fn of_kind(kind: FileKind) -> FileRef {
        FileRef::new(File { kind, ..memfd(1) }).unwrap()
    }

    fn placed(kind: FileKind, offset: u64, len: u64) -> u64 {
        let file = of_kind(kind);
        let request = MmapRequest {
            addr: 0,
            len,
            flags: MAP_SHARED,
            ..of_file(&file, 0..1, offset)
        };
        AddressSpace::empty().mmap(request).unwrap()
    }

    #[test]
    fn memory_with_huge_pages_lies_so_that_they_fit() {
        const LEN: u64 = 2 * HUGE_PAGE_SIZE + PAGE_SIZE;
        let within = |addr: u64| addr % HUGE_PAGE_SIZE;
        assert_ne!(within(placed(FileKind::Shmem, 0, LEN)), 0);
        assert_eq!(within(placed(FileKind::HugeShmem, 0, LEN)), 0);
        assert_eq!(within(placed(FileKind::HugeShmem, 3, LEN)), 3 * PAGE_SIZE);
        // Too short for a whole one.
        let short = placed(FileKind::HugeShmem, 0, HUGE_PAGE_SIZE - PAGE_SIZE);
        let plain = placed(FileKind::Shmem, 0, HUGE_PAGE_SIZE - PAGE_SIZE);
        assert_eq!(short, plain);
        let short = placed(FileKind::HugeShmem, 1, HUGE_PAGE_SIZE);
        assert_eq!(short, placed(FileKind::Shmem, 1, HUGE_PAGE_SIZE));
    }

    #[test]
    fn a_disk_that_does_not_know_sync_drops_it() {
        let file = of_kind(FileKind::Regular { huge_aligned: true });
        let mut space = AddressSpace::empty();
        let sync = |kind| MmapRequest {
            flags: kind | MAP_FIXED | MAP_SYNC,
            ..of_file(&file, 0..1, 0)
        };
        let refused = space.mmap(sync(MAP_SHARED_VALIDATE));
        assert_eq!(refused, Err(Errno::EOPNOTSUPP));
        assert!(space.mmap(sync(MAP_PRIVATE)).is_ok());
    }
}
