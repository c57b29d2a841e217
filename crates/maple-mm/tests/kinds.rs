//! Mappings of other kinds: pages that may vanish, sealed files, System V segments, shared files
//! mapped in another order. Pages are counted from a base.
//!
//! The rules are those of 6.18; each was observed on that kernel.

mod common;
#[path = "kinds/of_files.rs"]
mod of_files;

use common::{flags, map_as, memory, of_file, page, ranges};
use maple_mm::{
    Access, AddressSpace, Errno, File, FileAccess, FileId, FileKind, FileRef, MmapRequest,
    MremapRequest, RemapPages, Seals, Segment, SegmentAccess, VmFlags, abi::*,
};

const RW: u64 = PROT_READ | PROT_WRITE;

fn words(space: &AddressSpace, index: u64) -> String {
    flags(space, index).mnemonics().trim_end().to_owned()
}

/// A file in memory, opened for reading and writing.
fn memfd(id: u64) -> File {
    File {
        inode: 9,
        ..File::shared_anonymous(FileId(id)).unwrap()
    }
}

fn shared(file: &FileRef, pages: std::ops::Range<u64>, prot: u64) -> MmapRequest {
    let offset = pages.start;
    MmapRequest {
        flags: MAP_SHARED | MAP_FIXED,
        prot,
        ..of_file(file, pages, offset)
    }
}

mod droppable {
    use super::*;

    fn droppable(first: u64, end: u64) -> MmapRequest {
        MmapRequest {
            flags: MAP_DROPPABLE | MAP_ANONYMOUS | MAP_FIXED,
            ..memory(first, end, RW)
        }
    }

    #[test]
    fn it_is_not_reserved_wiped_on_fork_and_not_dumped() {
        let mut space = AddressSpace::empty();
        map_as(&mut space, droppable(0, 1));
        assert_eq!(words(&space, 0), "rd wr mr mw me nr wf dd dp");
        assert_eq!(space.statistics().committed, 0);
    }

    #[test]
    fn it_cannot_be_locked_huge_a_stack_or_a_file() {
        let mut space = AddressSpace::empty();
        for flag in [MAP_LOCKED, MAP_HUGETLB, MAP_GROWSDOWN] {
            let mut request = droppable(0, 512);
            request.flags |= flag;
            assert_eq!(space.mmap(request), Err(Errno::EINVAL), "{flag:#x}");
        }
        let mut of_memfd = shared(&FileRef::new(memfd(1)).unwrap(), 0..1, RW);
        of_memfd.flags = MAP_DROPPABLE | MAP_FIXED;
        assert_eq!(space.mmap(of_memfd), Err(Errno::EINVAL));
    }

    #[test]
    fn locking_passes_it_over_without_an_error() {
        let mut space = AddressSpace::empty();
        map_as(&mut space, droppable(0, 2));
        space.mlock(page(0), PAGE_SIZE).unwrap();
        space.mlockall(MCL_FUTURE).unwrap();
        map_as(&mut space, droppable(2, 4));
        assert_eq!(space.statistics().locked_vm, 0);
        // It loses the lock only after it was compared with its neighbours.
        assert_eq!(ranges(&space), "0-2 2-4");
    }

    #[test]
    fn what_it_is_made_of_cannot_be_advised_away() {
        let mut space = AddressSpace::empty();
        map_as(&mut space, droppable(0, 2));
        for advice in [MADV_KEEPONFORK, MADV_DODUMP] {
            let refused = space.madvise(page(0), PAGE_SIZE, advice);
            assert_eq!(refused, Err(Errno::EINVAL), "{advice}");
        }
        space.madvise(page(0), PAGE_SIZE, MADV_MERGEABLE).unwrap();
        assert_eq!(ranges(&space), "0-2");
    }

    #[test]
    fn a_child_has_it_unwritten_and_it_joins_what_the_child_makes() {
        let mut parent = AddressSpace::empty();
        map_as(&mut parent, droppable(0, 1));
        parent.fault(page(0), Access::Write).unwrap();
        let mut child = parent.fork().unwrap();
        assert_eq!(words(&child, 0), "rd wr mr mw me nr wf dd dp");
        map_as(&mut child, droppable(1, 2));
        assert_eq!(ranges(&child), "0-2");
    }
}

mod strict_flags {
    use super::*;

    fn strict(flag: u64, kind: FileKind) -> Result<u64, Errno> {
        let file = FileRef::new(File { kind, ..memfd(1) }).unwrap();
        let mut request = shared(&file, 0..1, PROT_READ);
        request.flags = MAP_SHARED_VALIDATE | flag;
        AddressSpace::empty().mmap(request)
    }

    #[test]
    fn every_old_flag_is_known() {
        let old = [
            MAP_LOCKED,
            MAP_NORESERVE,
            MAP_POPULATE,
            MAP_NONBLOCK,
            MAP_STACK,
            MAP_ABOVE4G,
            MAP_32BIT,
            MAP_DENYWRITE,
            MAP_EXECUTABLE,
            MAP_UNINITIALIZED,
            1 << 27,
            1 << 28,
            1 << 29,
            1 << 30,
        ];
        for flag in old {
            assert!(strict(flag, FileKind::Shmem).is_ok(), "{flag:#x}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_and_without_validation_dropped() {
        for flag in [1 << 9, 1 << 10, 1 << 21, 1 << 22, 1 << 25, 1 << 31, 1 << 40] {
            let refused = strict(flag, FileKind::Shmem);
            assert_eq!(refused, Err(Errno::EOPNOTSUPP), "{flag:#x}");
        }
        assert_eq!(
            strict(MAP_FIXED_NOREPLACE, FileKind::Shmem),
            Err(Errno::EOPNOTSUPP)
        );
        let file = FileRef::new(memfd(1)).unwrap();
        let mut plain = shared(&file, 0..1, PROT_READ);
        plain.flags |= 1 << 22 | 1 << 40;
        assert!(AddressSpace::empty().mmap(plain).is_ok());
    }

    #[test]
    fn sync_is_dropped_by_memory_and_refused_by_a_disk_without_dax() {
        let disk = FileKind::Regular { huge_aligned: true };
        assert_eq!(strict(MAP_SYNC, FileKind::Shmem), Err(Errno::EOPNOTSUPP));
        assert_eq!(strict(MAP_SYNC, disk), Err(Errno::EOPNOTSUPP));
        let mut space = AddressSpace::empty();
        let mut request = memory(0, 1, RW);
        request.flags |= MAP_SYNC;
        map_as(&mut space, request);
        assert_eq!(words(&space, 0), "rd wr mr mw me ac sf");
    }

    #[test]
    fn anonymous_memory_is_not_validated_at_all() {
        let mut request = memory(0, 1, RW);
        request.flags = MAP_SHARED_VALIDATE | MAP_ANONYMOUS;
        assert_eq!(AddressSpace::empty().mmap(request), Err(Errno::EINVAL));
    }

    #[test]
    fn above_4g_finds_no_hole_below() {
        let mut space = AddressSpace::empty();
        let (start, end) = (1 << 32, space.layout().mmap_base);
        let all = MmapRequest {
            addr: start,
            flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
            ..MmapRequest::anonymous(end - start, PROT_NONE)
        };
        space.mmap(all).unwrap();
        let mut request = MmapRequest::anonymous(PAGE_SIZE, RW);
        assert!(space.mmap(request.clone()).unwrap() < start);
        request.flags |= MAP_ABOVE4G;
        // From below, above what searches from above may give.
        assert!(space.mmap(request).unwrap() >= end);
    }

    #[test]
    fn above_4g_moves_a_search_and_not_a_hint() {
        let mut space = AddressSpace::empty();
        let mut request = MmapRequest::anonymous(PAGE_SIZE, RW);
        request.flags |= MAP_ABOVE4G;
        assert!(space.mmap(request.clone()).unwrap() >= 1 << 32);
        request.addr = 0x1000_0000;
        assert_eq!(space.mmap(request), Ok(0x1000_0000));
    }
}

mod sealed {
    use super::*;

    fn sealed(seals: Seals) -> FileRef {
        FileRef::new(memfd(1).with_seals(seals)).unwrap()
    }

    #[test]
    fn a_shared_mapping_may_not_be_written_and_never_become_writable() {
        for seals in [Seals::WRITE, Seals::FUTURE_WRITE] {
            let mut space = AddressSpace::empty();
            let file = sealed(seals);
            assert_eq!(space.mmap(shared(&file, 0..1, RW)), Err(Errno::EPERM));
            map_as(&mut space, shared(&file, 0..1, PROT_READ));
            assert_eq!(words(&space, 0), "rd sh mr me ms");
            let refused = space.mprotect(page(0), PAGE_SIZE, RW);
            assert_eq!(refused, Err(Errno::EACCES));
        }
    }

    #[test]
    fn who_may_not_write_is_told_so_before_the_seal() {
        let mut file = memfd(1).with_seals(Seals::WRITE);
        file.access -= FileAccess::WRITE;
        let file = FileRef::new(file).unwrap();
        let mut space = AddressSpace::empty();
        assert_eq!(space.mmap(shared(&file, 0..1, RW)), Err(Errno::EACCES));
        map_as(&mut space, shared(&file, 0..1, PROT_READ));
        assert_eq!(words(&space, 0), "rd mr me ms");
    }

    #[test]
    fn a_private_mapping_feels_nothing() {
        let mut space = AddressSpace::empty();
        let mut request = of_file(&sealed(Seals::WRITE), 0..1, 0);
        request.prot = RW;
        map_as(&mut space, request);
        assert_eq!(words(&space, 0), "rd wr mr mw me ac");
    }

    #[test]
    fn seals_on_the_length_and_on_execution_concern_no_mapping() {
        let mut space = AddressSpace::empty();
        let file = sealed(Seals::SEAL | Seals::SHRINK | Seals::GROW | Seals::EXEC);
        map_as(&mut space, shared(&file, 0..1, RW | PROT_EXEC));
        assert_eq!(words(&space, 0), "rd wr ex sh mr mw me ms");
    }

    #[test]
    fn what_may_be_made_writable_may_be_emptied() {
        let mut space = AddressSpace::empty();
        map_as(&mut space, shared(&sealed(Seals::empty()), 0..1, PROT_READ));
        assert_eq!(space.madvise(page(0), PAGE_SIZE, MADV_REMOVE), Ok(()));
    }

    #[test]
    fn a_mapping_from_before_the_seal_stays_writable_and_does_not_join_one_from_after() {
        let mut space = AddressSpace::empty();
        map_as(&mut space, shared(&sealed(Seals::empty()), 0..1, PROT_READ));
        let now = sealed(Seals::FUTURE_WRITE);
        space.set_file(FileId(1), &now).unwrap();
        map_as(&mut space, shared(&now, 1..2, PROT_READ));
        assert_eq!(ranges(&space), "0-1 1-2");
        let both = space.mprotect(page(0), 2 * PAGE_SIZE, RW);
        assert_eq!(both, Err(Errno::EACCES));
        assert_eq!(words(&space, 0), "rd wr sh mr mw me ms");
        assert_eq!(space.writable_mappings((0, 1), 9), 1);
        let emptied = space.madvise(page(0), PAGE_SIZE, MADV_REMOVE);
        assert_eq!(emptied, Err(Errno::EPERM));
    }
}

mod segments {
    use super::*;

    const BOTH: SegmentAccess = SegmentAccess::READ.union(SegmentAccess::WRITE);

    fn segment(pages: u64) -> Segment {
        Segment {
            id: 11,
            key: 0x1234,
            bytes: pages * PAGE_SIZE - 100,
            device: (0, 1),
            permitted: BOTH,
            pages: None,
        }
    }

    /// A space with the segment of four pages attached at page 0.
    fn attached() -> AddressSpace {
        let mut space = AddressSpace::empty();
        let at = space.shmat(Ok(&segment(4)), page(0), 0);
        assert_eq!(at, Ok(page(0)));
        space
    }

    #[test]
    fn the_flags_say_what_may_be_done() {
        let all = Segment {
            permitted: SegmentAccess::all(),
            ..segment(4)
        };
        for (flags, expected) in [
            (0, "rd wr sh mr mw me ms"),
            (SHM_RDONLY, "rd mr me ms"),
            (SHM_EXEC, "rd wr ex sh mr mw me ms"),
            (SHM_RDONLY | SHM_EXEC, "rd ex mr me ms"),
            (0xffff_0fff, "rd wr sh mr mw me ms"),
        ] {
            let mut space = AddressSpace::empty();
            space.shmat(Ok(&all), page(0), flags).unwrap();
            assert_eq!(words(&space, 0), expected, "{flags:#x}");
        }
    }

    #[test]
    fn permissions_are_asked_after_the_address_and_before_what_is_mapped() {
        let mut space = attached();
        let readable = Segment {
            permitted: SegmentAccess::READ,
            ..segment(4)
        };
        let mut at = |addr, flags| space.shmat(Ok(&readable), addr, flags);
        assert_eq!(at(page(0) + 1, 0), Err(Errno::EINVAL));
        assert_eq!(at(page(0), 0), Err(Errno::EACCES));
        assert_eq!(at(page(0), SHM_RDONLY | SHM_EXEC), Err(Errno::EACCES));
        assert_eq!(at(page(0), SHM_RDONLY), Err(Errno::EINVAL));
        assert_eq!(at(page(4), SHM_RDONLY), Ok(page(4)));
        let gone = space.shmat(Err(Errno::EIDRM), page(20), 0);
        assert_eq!(gone, Err(Errno::EIDRM));
    }

    #[test]
    fn an_address_is_rounded_down_only_if_asked_and_never_to_nothing_that_is_replaced() {
        let mut space = AddressSpace::empty();
        space.set_capabilities(maple_mm::Capabilities::SYS_RAWIO);
        let segment = segment(1);
        let mut at = |addr, flags| space.shmat(Ok(&segment), addr, flags);
        assert_eq!(at(page(0) + 1, 0), Err(Errno::EINVAL));
        assert_eq!(at(page(0) + 4095, SHM_RND), Ok(page(0)));
        assert_eq!(at(0, SHM_REMAP), Err(Errno::EINVAL));
        assert_eq!(at(100, SHM_RND | SHM_REMAP), Err(Errno::EINVAL));
        assert_eq!(at(100, SHM_RND), Ok(0));
        assert_eq!(at(100, SHM_RND), Ok(0), "page 0 is replaced unasked");
    }

    #[test]
    fn what_is_mapped_is_in_the_way_unless_it_is_to_be_replaced() {
        let mut space = attached();
        map_as(&mut space, memory(6, 9, RW));
        let segment = segment(4);
        let mut at = |first, flags| space.shmat(Ok(&segment), page(first), flags);
        assert_eq!(at(3, 0), Err(Errno::EINVAL));
        assert_eq!(at(5, 0), Err(Errno::EINVAL));
        assert_eq!(at(5, SHM_REMAP), Ok(page(5)));
        assert_eq!(ranges(&space), "0-4 5-9");
        let last = space.shmat(Ok(&segment), u64::MAX - 4095, 0);
        assert_eq!(last, Err(Errno::EINVAL), "the end wraps");
        let beyond = space.shmat(Ok(&segment), 0x7fff_ffff_e000, 0);
        assert_eq!(beyond, Err(Errno::ENOMEM));
    }

    #[test]
    fn attaches_never_join_and_each_is_counted() {
        let mut space = attached();
        space.shmat(Ok(&segment(4)), page(4), 0).unwrap();
        assert_eq!(ranges(&space), "0-4 4-8");
        assert_eq!(space.attaches(11), 2);
        space.mprotect(page(1), PAGE_SIZE, PROT_READ).unwrap();
        assert_eq!(space.attaches(11), 4);
        assert_eq!(space.fork().unwrap().attaches(11), 4);
        space.madvise(page(0), PAGE_SIZE, MADV_DONTFORK).unwrap();
        assert_eq!(space.fork().unwrap().attaches(11), 3);
    }

    #[test]
    fn pieces_join_only_where_none_of_them_vanishes() {
        let mut space = attached();
        let mut protect = |first: u64, end: u64, prot| {
            let len = (end - first) * PAGE_SIZE;
            space.mprotect(page(first), len, prot).unwrap();
            ranges(&space)
        };
        assert_eq!(protect(0, 1, PROT_READ), "0-1 1-4");
        assert_eq!(protect(0, 2, PROT_READ), "0-2 2-4");
        assert_eq!(protect(0, 4, RW), "0-2 2-4");
    }

    #[test]
    fn detaching_takes_every_piece_that_was_not_moved() {
        let mut space = attached();
        space.mprotect(page(1), PAGE_SIZE, PROT_READ).unwrap();
        space.munmap(page(2), PAGE_SIZE).unwrap();
        assert_eq!(space.shmdt(page(1)), Err(Errno::EINVAL));
        assert_eq!(space.shmdt(page(0) + 1), Err(Errno::EINVAL));
        space.shmdt(page(0)).unwrap();
        assert_eq!(ranges(&space), "");
        assert_eq!(space.shmdt(page(0)), Err(Errno::EINVAL));
    }

    #[test]
    fn what_is_left_of_an_attach_is_found_from_where_it_began() {
        let mut space = attached();
        space.munmap(page(0), PAGE_SIZE).unwrap();
        assert_eq!(space.shmdt(page(1)), Err(Errno::EINVAL));
        space.shmdt(page(0)).unwrap();
        assert_eq!(ranges(&space), "");
    }

    #[test]
    fn a_piece_that_was_moved_belongs_to_another_place() {
        let mut space = attached();
        let moved = MremapRequest {
            addr: page(2),
            old_len: 2 * PAGE_SIZE,
            new_len: 2 * PAGE_SIZE,
            flags: MREMAP_MAYMOVE | MREMAP_FIXED,
            new_addr: page(8),
        };
        space.mremap(moved).unwrap();
        space.shmdt(page(0)).unwrap();
        assert_eq!(ranges(&space), "8-10");
        assert_eq!(space.shmdt(page(8)), Err(Errno::EINVAL));
        space.shmdt(page(6)).unwrap();
        assert_eq!(ranges(&space), "");
    }

    #[test]
    fn what_grew_is_taken_whole_and_another_attach_within_stays() {
        let mut space = attached();
        let grown = MremapRequest {
            addr: page(0),
            old_len: 4 * PAGE_SIZE,
            new_len: 6 * PAGE_SIZE,
            flags: 0,
            new_addr: 0,
        };
        space.mremap(grown).unwrap();
        space.shmdt(page(0)).unwrap();
        assert_eq!(ranges(&space), "");
        let mut space = attached();
        space.shmat(Ok(&segment(4)), page(1), SHM_REMAP).unwrap();
        space.shmdt(page(0)).unwrap();
        assert_eq!(ranges(&space), "1-5");
    }

    #[test]
    fn sealed_pieces_stay_without_an_error() {
        let mut space = attached();
        space.mseal(page(1), PAGE_SIZE, 0).unwrap();
        space.shmdt(page(0)).unwrap();
        assert_eq!(ranges(&space), "1-2");
        assert_eq!(space.shmdt(page(0)), Ok(()));
        assert_eq!(ranges(&space), "1-2");
    }

    #[test]
    fn limits_are_those_of_a_mapping() {
        let mut space = AddressSpace::empty();
        space.set_limits(maple_mm::Limits {
            address_space: 3 * PAGE_SIZE,
            ..maple_mm::Limits::default()
        });
        assert_eq!(space.shmat(Ok(&segment(4)), 0, 0), Err(Errno::ENOMEM));
        space.mlockall(MCL_FUTURE).unwrap();
        space.shmat(Ok(&segment(3)), page(0), 0).unwrap();
        assert_eq!(space.statistics().locked_vm, 3);
        assert_eq!(space.statistics().committed, 0);
    }
}

mod another_order {
    use super::*;

    fn mapped(prot: u64) -> AddressSpace {
        let mut space = AddressSpace::empty();
        let file = FileRef::new(memfd(1)).unwrap();
        map_as(&mut space, shared(&file, 0..8, prot));
        space
    }

    fn remap(
        space: &mut AddressSpace,
        pages: std::ops::Range<u64>,
        page_offset: u64,
    ) -> Result<(), Errno> {
        space.remap_file_pages(RemapPages {
            start: page(pages.start),
            size: (pages.end - pages.start) * PAGE_SIZE,
            prot: 0,
            page_offset,
            flags: 0,
        })
    }

    #[test]
    fn another_part_takes_the_place_and_the_first_one_joins_again() {
        let mut space = mapped(RW);
        remap(&mut space, 1..3, 5).unwrap();
        assert_eq!(ranges(&space), "0-1 1-3 3-8");
        assert_eq!(space.vma_at(page(1)).unwrap().page_offset(), 5);
        remap(&mut space, 1..3, 1).unwrap();
        assert_eq!(ranges(&space), "0-8");
    }

    #[test]
    fn start_and_size_are_rounded_down_and_flags_but_one_mean_nothing() {
        let mut space = mapped(RW);
        let request = RemapPages {
            start: page(0) + 1,
            size: 5000,
            prot: 0,
            page_offset: 3,
            flags: 0xffff_ffff,
        };
        space.remap_file_pages(request).unwrap();
        assert_eq!(ranges(&space), "0-1 1-8");
        let short = RemapPages {
            size: 100,
            ..request
        };
        assert_eq!(space.remap_file_pages(short), Err(Errno::EINVAL));
        let protected = RemapPages { prot: 1, ..request };
        assert_eq!(space.remap_file_pages(protected), Err(Errno::EINVAL));
    }

    #[test]
    fn only_shared_mappings_without_a_hole_of_one_file_and_with_the_same_flags() {
        let mut space = mapped(RW);
        assert_eq!(remap(&mut space, 6..10, 20), Err(Errno::EINVAL));
        space.mprotect(page(2), PAGE_SIZE, PROT_READ).unwrap();
        assert_eq!(remap(&mut space, 0..4, 20), Err(Errno::EINVAL));
        space.mprotect(page(2), PAGE_SIZE, RW).unwrap();
        space.munmap(page(4), PAGE_SIZE).unwrap();
        assert_eq!(remap(&mut space, 2..6, 40), Err(Errno::EINVAL));
        let other = FileRef::new(memfd(2)).unwrap();
        map_as(&mut space, shared(&other, 4..5, RW));
        assert_eq!(remap(&mut space, 2..6, 40), Err(Errno::EINVAL));
        map_as(&mut space, memory(10, 12, RW));
        assert_eq!(remap(&mut space, 10..11, 1), Err(Errno::EINVAL));
        assert_eq!(remap(&mut space, 20..21, 1), Err(Errno::EINVAL));
    }

    #[test]
    fn several_mappings_that_differ_in_their_offsets_become_one() {
        let mut space = mapped(RW);
        remap(&mut space, 4..8, 20).unwrap();
        assert_eq!(ranges(&space), "0-4 4-8");
        remap(&mut space, 2..6, 40).unwrap();
        assert_eq!(ranges(&space), "0-2 2-6 6-8");
    }

    #[test]
    fn offsets_end_where_those_of_files_do() {
        let mut space = mapped(RW);
        assert_eq!(remap(&mut space, 0..1, u64::MAX), Err(Errno::EINVAL));
        for offset in [(1 << 52) - 1, 1 << 52, 1 << 51, (1 << 51) - 1] {
            let refused = remap(&mut space, 0..1, offset);
            assert_eq!(refused, Err(Errno::EOVERFLOW), "{offset:#x}");
        }
        remap(&mut space, 0..1, (1 << 51) - 2).unwrap();
    }

    #[test]
    fn locks_stay_and_what_advice_set_is_lost() {
        let mut space = mapped(PROT_READ);
        space.mlock2(page(0), 2 * PAGE_SIZE, MLOCK_ONFAULT).unwrap();
        remap(&mut space, 1..2, 9).unwrap();
        assert_eq!(words(&space, 0), "rd sh mr mw me ms lo lf");
        assert_eq!(words(&space, 1), "rd sh mr mw me ms lo");
        space.munlockall().unwrap();
        space
            .madvise(page(0), 8 * PAGE_SIZE, MADV_DONTFORK)
            .unwrap();
        remap(&mut space, 3..4, 9).unwrap();
        assert_eq!(words(&space, 2), "rd sh mr mw me ms dc");
        assert_eq!(words(&space, 3), "rd sh mr mw me ms");
    }

    #[test]
    fn shared_anonymous_memory_is_remapped_without_being_charged_again() {
        let mut space = AddressSpace::empty();
        let mut request = memory(0, 4, RW);
        request.flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED;
        map_as(&mut space, request);
        space.set_limits(maple_mm::Limits {
            address_space: 4 * PAGE_SIZE,
            ..maple_mm::Limits::default()
        });
        remap(&mut space, 0..1, 1).unwrap();
        assert_eq!(ranges(&space), "0-1 1-4");
        let names: Vec<_> = space.vmas().map(|vma| vma.name()).collect();
        assert_eq!(names, [Some("/dev/zero (deleted)"); 2]);
    }

    #[test]
    fn a_read_only_descriptor_makes_no_shared_mapping() {
        let mut file = memfd(1);
        file.access -= FileAccess::WRITE;
        let file = FileRef::new(file).unwrap();
        let mut space = AddressSpace::empty();
        map_as(&mut space, shared(&file, 0..2, PROT_READ));
        assert!(!flags(&space, 0).contains(VmFlags::SHARED));
        assert_eq!(remap(&mut space, 0..1, 1), Err(Errno::EINVAL));
    }

    #[test]
    fn a_seal_on_memory_keeps_it_and_one_on_the_file_refuses_what_is_writable() {
        let mut space = mapped(RW);
        let sealed = FileRef::new(memfd(1).with_seals(Seals::FUTURE_WRITE)).unwrap();
        space.set_file(FileId(1), &sealed).unwrap();
        assert_eq!(remap(&mut space, 0..1, 3), Err(Errno::EPERM));
        assert_eq!(ranges(&space), "0-8");
        let mut space = mapped(PROT_READ);
        space.mseal(page(0), PAGE_SIZE, 0).unwrap();
        assert_eq!(remap(&mut space, 0..1, 3), Err(Errno::EPERM));
    }

    #[test]
    fn huge_pages_are_refused_before_and_after_the_range_is_emptied() {
        const HUGE: u64 = HUGE_PAGE_SIZE;
        let start = 16 * HUGE;
        let huge = MmapRequest {
            addr: start,
            flags: MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB | MAP_NORESERVE,
            ..MmapRequest::anonymous(2 * HUGE, RW)
        };
        let outcome = |size, page_offset, limit| {
            let mut space = AddressSpace::empty();
            space.mmap(huge.clone()).unwrap();
            space.mlockall(MCL_FUTURE).unwrap();
            space.set_limits(maple_mm::Limits {
                memlock: limit,
                ..maple_mm::Limits::default()
            });
            let refused = space.remap_file_pages(RemapPages {
                start,
                size,
                prot: 0,
                page_offset,
                flags: 0,
            });
            (refused.unwrap_err(), space.vma_at(start).is_some())
        };
        let within = HUGE - PAGE_SIZE;
        assert_eq!(outcome(within, 0, u64::MAX), (Errno::EINVAL, true));
        assert_eq!(outcome(HUGE, 10, HUGE - 1), (Errno::EAGAIN, true));
        assert_eq!(outcome(HUGE, 10, u64::MAX), (Errno::EINVAL, false));
        assert_eq!(outcome(HUGE, 512, u64::MAX), (Errno::ENOMEM, false));
    }

    #[test]
    fn a_remapped_piece_of_a_segment_is_not_detached() {
        let mut space = AddressSpace::empty();
        let segment = Segment {
            id: 3,
            key: 0,
            bytes: 8 * PAGE_SIZE,
            device: (0, 1),
            permitted: SegmentAccess::all(),
            pages: None,
        };
        space.shmat(Ok(&segment), page(0), 0).unwrap();
        remap(&mut space, 1..3, 5).unwrap();
        space.shmdt(page(0)).unwrap();
        assert_eq!(ranges(&space), "1-3");
    }
}

mod seals_of_memory {
    use super::*;

    #[test]
    fn what_is_sealed_and_read_only_is_not_wiped_and_what_is_writable_is() {
        for (prot, expected) in [(PROT_READ, Err(Errno::EPERM)), (RW, Ok(()))] {
            let mut space = AddressSpace::empty();
            map_as(&mut space, memory(0, 1, prot));
            space.mseal(page(0), PAGE_SIZE, 0).unwrap();
            for advice in [MADV_WIPEONFORK, MADV_DONTFORK, MADV_DONTNEED] {
                let advised = space.madvise(page(0), PAGE_SIZE, advice);
                assert_eq!(advised, expected, "{advice}");
            }
        }
    }
}
