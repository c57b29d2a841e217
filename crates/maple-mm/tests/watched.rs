//! What `userfaultfd` registration makes of mappings. Pages are counted from a base.
//!
//! The rules are those of 6.18; each was observed on that kernel.

mod common;

use common::{file, flags, map, map_as, memory, of_file, page, ranges, write};
use maple_mm::{
    AddressSpace, Backing, Errno, File, FileAccess, FileId, FileRef, ForkStrategy, MmapRequest,
    MremapRequest, Segment, SegmentAccess, Setup, Special, UserfaultFeatures, Userfaultfd, VmFlags,
    VmaSpec, abi::*,
};

const RW: u64 = PROT_READ | PROT_WRITE;
const MISSING: u64 = UFFDIO_REGISTER_MODE_MISSING;
const WP: u64 = UFFDIO_REGISTER_MODE_WP;
const MINOR: u64 = UFFDIO_REGISTER_MODE_MINOR;

const fn watcher(id: u64) -> Userfaultfd {
    Userfaultfd {
        id,
        features: UserfaultFeatures::empty(),
    }
}

const ONE: Userfaultfd = watcher(1);
const TWO: Userfaultfd = watcher(2);

fn register(
    space: &mut AddressSpace,
    watcher: Userfaultfd,
    pages: std::ops::Range<u64>,
    mode: u64,
) -> Result<(), Errno> {
    space.uffd_register(watcher, page(pages.start)..page(pages.end), mode)
}

fn unregister(
    space: &mut AddressSpace,
    watcher: Userfaultfd,
    pages: std::ops::Range<u64>,
) -> Result<(), Errno> {
    space.uffd_unregister(watcher, page(pages.start)..page(pages.end))
}

/// Ranges, each watched one marked with who watches it.
fn watched(space: &AddressSpace) -> String {
    let _ = ranges(space);
    let pages = |addr: u64| (addr - common::BASE) / PAGE_SIZE;
    let texts: Vec<String> = space
        .vmas()
        .map(|vma| {
            let is_flagged = vma.flags().intersects(VmFlags::UFFD_ANY);
            assert_eq!(is_flagged, vma.watcher().is_some());
            let by = vma.watcher().map(|by| format!("@{}", by.id));
            let (start, end) = (pages(vma.start()), pages(vma.end()));
            format!("{start}-{end}{}", by.unwrap_or_default())
        })
        .collect();
    texts.join(" ")
}

fn words(space: &AddressSpace, index: u64) -> String {
    flags(space, index).mnemonics().trim_end().to_owned()
}

fn mapped(end: u64) -> AddressSpace {
    let mut space = AddressSpace::empty();
    map(&mut space, 0, end);
    space
}

mod registration {
    use super::*;

    #[test]
    fn parts_are_split_off_and_join_with_what_the_same_one_watches() {
        let mut space = mapped(8);
        register(&mut space, ONE, 1..3, MISSING).unwrap();
        assert_eq!(words(&space, 1), "rd wr mr mw me um ac");
        register(&mut space, ONE, 3..5, MISSING).unwrap();
        assert_eq!(watched(&space), "0-1 1-5@1 5-8");
        register(&mut space, TWO, 5..7, MISSING).unwrap();
        assert_eq!(watched(&space), "0-1 1-5@1 5-7@2 7-8");
    }

    #[test]
    fn nobody_takes_over_what_another_watches() {
        let mut space = mapped(4);
        register(&mut space, TWO, 2..3, MISSING).unwrap();
        assert_eq!(register(&mut space, ONE, 0..4, MISSING), Err(Errno::EBUSY));
        assert_eq!(unregister(&mut space, ONE, 0..4), Err(Errno::EINVAL));
        assert_eq!(watched(&space), "0-2 2-3@2 3-4");
    }

    #[test]
    fn a_mode_replaces_another_unless_it_is_part_of_it() {
        let mut space = mapped(4);
        register(&mut space, ONE, 0..4, MISSING).unwrap();
        register(&mut space, ONE, 0..4, WP).unwrap();
        assert_eq!(words(&space, 0), "rd wr mr mw me uw ac");
        register(&mut space, ONE, 1..2, MISSING | WP).unwrap();
        assert_eq!(words(&space, 1), "rd wr mr mw me um uw ac");
        register(&mut space, ONE, 0..4, WP).unwrap();
        assert_eq!(watched(&space), "0-1@1 1-2@1 2-4@1");
    }

    #[test]
    fn ranges_are_whole_pages_of_the_address_space_with_something_in_it() {
        let mut space = mapped(4);
        let mut refused = |range: std::ops::Range<u64>| {
            assert_eq!(
                space.uffd_register(ONE, range.clone(), MISSING),
                Err(Errno::EINVAL)
            );
            assert_eq!(space.uffd_unregister(ONE, range), Err(Errno::EINVAL));
        };
        refused(page(0) + 1..page(1) + 1);
        refused(page(0)..page(0) + 100);
        refused(page(0)..page(0));
        refused(page(4)..page(6));
        refused(page(0)..0x7fff_ffff_f000 + PAGE_SIZE);
        assert_eq!(register(&mut space, ONE, 0..1, 0), Err(Errno::EINVAL));
        assert_eq!(register(&mut space, ONE, 0..1, 8), Err(Errno::EINVAL));
    }

    #[test]
    fn the_lowest_addresses_are_watched_too() {
        let mut space = mapped(2);
        space.uffd_register(ONE, 0..page(1), MISSING).unwrap();
        assert_eq!(watched(&space), "0-1@1 1-2");
    }

    #[test]
    fn holes_are_passed_over() {
        let mut space = mapped(2);
        map_as(&mut space, memory(4, 6, PROT_READ));
        register(&mut space, ONE, 0..6, MISSING).unwrap();
        assert_eq!(watched(&space), "0-2@1 4-6@1");
        unregister(&mut space, ONE, 0..8).unwrap();
        assert_eq!(watched(&space), "0-2 4-6");
    }

    #[test]
    fn a_refusal_changes_nothing() {
        let mut space = mapped(2);
        let on_disk = file(7, FileAccess::READ);
        map_as(&mut space, of_file(&on_disk, 2..4, 0));
        assert_eq!(register(&mut space, ONE, 0..4, MISSING), Err(Errno::EINVAL));
        assert_eq!(watched(&space), "0-2 2-4");
        register(&mut space, ONE, 0..2, MISSING).unwrap();
        assert_eq!(unregister(&mut space, ONE, 0..4), Err(Errno::EINVAL));
        unregister(&mut space, ONE, 0..2).unwrap();
    }

    #[test]
    fn seals_do_not_hinder_it() {
        let mut space = mapped(4);
        space.mseal(page(0), 4 * PAGE_SIZE, 0).unwrap();
        register(&mut space, ONE, 1..2, MISSING).unwrap();
        assert_eq!(words(&space, 1), "rd wr mr mw me um ac sl");
        unregister(&mut space, ONE, 1..2).unwrap();
        assert_eq!(ranges(&space), "0-4");
    }

    #[test]
    fn a_split_beyond_the_limit_leaves_what_precedes() {
        let system = maple_mm::SystemSettings {
            max_map_count: 3,
            ..maple_mm::SystemSettings::default()
        };
        let setup = Setup {
            system: std::sync::Arc::new(maple_mm::System::new(system)),
            ..Setup::default()
        };
        let mut space = AddressSpace::from_layout(setup, []).unwrap();
        map(&mut space, 0, 2);
        map_as(&mut space, memory(2, 4, PROT_READ));
        map_as(&mut space, memory(4, 8, PROT_NONE));
        assert_eq!(register(&mut space, ONE, 0..6, MISSING), Err(Errno::ENOMEM));
        assert_eq!(watched(&space), "0-2@1 2-4@1 4-8");
    }
}

mod kinds {
    use super::*;

    #[track_caller]
    fn asked(request: MmapRequest, mode: u64) -> Result<String, Errno> {
        let mut space = AddressSpace::empty();
        space.mmap(request).unwrap();
        register(&mut space, ONE, 0..2, mode)?;
        Ok(words(&space, 0))
    }

    fn memfd(access: FileAccess) -> FileRef {
        let file = File {
            access,
            ..File::shared_anonymous(FileId(5)).unwrap()
        };
        FileRef::new(file).unwrap()
    }

    #[test]
    fn anonymous_memory_has_no_minor_faults() {
        assert_eq!(
            asked(memory(0, 2, RW), MISSING | WP).unwrap(),
            "rd wr mr mw me um uw ac"
        );
        assert_eq!(asked(memory(0, 2, RW), MINOR), Err(Errno::EINVAL));
        assert_eq!(asked(memory(0, 2, RW), MISSING | MINOR), Err(Errno::EINVAL));
        let mut droppable = memory(0, 2, RW);
        droppable.flags = MAP_DROPPABLE | MAP_ANONYMOUS | MAP_FIXED;
        assert_eq!(asked(droppable, MISSING), Err(Errno::EINVAL));
    }

    #[test]
    fn memory_files_have_all_three_shared_or_private() {
        let both = FileAccess::READ | FileAccess::WRITE;
        let mut request = of_file(&memfd(both), 0..2, 0);
        let all = MISSING | WP | MINOR;
        assert_eq!(asked(request.clone(), all).unwrap(), "rd mr mw me um uw ui");
        request.flags = MAP_SHARED | MAP_FIXED;
        assert_eq!(asked(request, all).unwrap(), "rd sh mr mw me ms um uw ui");
    }

    #[test]
    fn what_can_never_be_written_is_not_watched() {
        let mut request = of_file(&memfd(FileAccess::READ), 0..2, 0);
        assert!(asked(request.clone(), MISSING).is_ok());
        request.flags = MAP_SHARED | MAP_FIXED;
        assert_eq!(asked(request, MISSING), Err(Errno::EPERM));
    }

    #[test]
    fn files_on_disk_and_segments_are_watched_only_for_writes_without_waiting() {
        let asynchronous = Userfaultfd {
            id: 1,
            features: UserfaultFeatures::WP_ASYNC,
        };
        let on_disk = file(7, FileAccess::READ);
        assert_eq!(asked(of_file(&on_disk, 0..2, 0), WP), Err(Errno::EINVAL));
        let mut space = AddressSpace::empty();
        map_as(&mut space, of_file(&on_disk, 0..2, 0));
        let segment = Segment {
            id: 1,
            key: 0,
            bytes: 2 * PAGE_SIZE,
            device: (0, 1),
            permitted: SegmentAccess::all(),
            pages: None,
        };
        space.shmat(Ok(&segment), page(2), 0).unwrap();
        assert_eq!(register(&mut space, ONE, 2..4, WP), Err(Errno::EINVAL));
        let missing = register(&mut space, asynchronous, 0..4, MISSING | WP);
        assert_eq!(missing, Err(Errno::EINVAL));
        register(&mut space, asynchronous, 0..4, WP).unwrap();
        assert_eq!(watched(&space), "0-2@1 2-4@1");
        unregister(&mut space, asynchronous, 0..4).unwrap();
        assert_eq!(watched(&space), "0-2 2-4");
    }

    #[test]
    fn pages_of_the_kernels_own_are_never_watched() {
        let asynchronous = Userfaultfd {
            id: 1,
            features: UserfaultFeatures::WP_ASYNC,
        };
        let vdso = VmaSpec {
            start: page(0),
            end: page(2),
            flags: VmFlags::from_mnemonics("rd ex mr mw me de").unwrap(),
            page_offset: 0,
            backing: Backing::Special(Special::new("[vdso]").unwrap()),
            written: false,
        };
        let mut space = AddressSpace::from_layout(Setup::default(), [vdso]).unwrap();
        let refused = register(&mut space, asynchronous, 0..2, WP);
        assert_eq!(refused, Err(Errno::EINVAL));
        assert_eq!(
            unregister(&mut space, asynchronous, 0..2),
            Err(Errno::EINVAL)
        );
    }

    #[test]
    fn explicitly_huge_pages_are_watched_whole() {
        const HUGE: u64 = HUGE_PAGE_SIZE;
        let start = 16 * HUGE;
        let request = MmapRequest {
            addr: start,
            flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB | MAP_NORESERVE,
            ..MmapRequest::anonymous(2 * HUGE, RW)
        };
        let mut space = AddressSpace::empty();
        space.mmap(request).unwrap();
        let mut asked = |first: u64, end: u64| {
            space.uffd_register(ONE, start + first..start + end, MISSING | WP | MINOR)
        };
        assert_eq!(asked(0, PAGE_SIZE), Err(Errno::EINVAL));
        assert_eq!(asked(PAGE_SIZE, HUGE), Err(Errno::EINVAL));
        asked(HUGE, 2 * HUGE).unwrap();
        let flags = space.vma_at(start + HUGE).unwrap().flags();
        assert!(flags.contains(VmFlags::UFFD_ANY));
    }
}

mod neighbours {
    use super::*;

    #[test]
    fn fresh_memory_does_not_join_what_is_watched() {
        let mut space = mapped(2);
        register(&mut space, ONE, 0..2, MISSING).unwrap();
        map(&mut space, 2, 4);
        assert_eq!(watched(&space), "0-2@1 2-4");
    }

    #[test]
    fn pieces_join_again_when_nobody_watches_any_more() {
        let mut space = mapped(8);
        register(&mut space, ONE, 1..3, MISSING).unwrap();
        register(&mut space, TWO, 4..6, WP).unwrap();
        space.uffd_close(ONE).unwrap();
        assert_eq!(watched(&space), "0-4 4-6@2 6-8");
        space.uffd_close(TWO).unwrap();
        assert_eq!(watched(&space), "0-8");
    }

    #[test]
    fn two_that_watch_do_not_join_when_protection_makes_them_equal() {
        let mut space = mapped(4);
        register(&mut space, ONE, 0..2, MISSING).unwrap();
        register(&mut space, TWO, 2..4, MISSING).unwrap();
        space.mprotect(page(0), 4 * PAGE_SIZE, PROT_READ).unwrap();
        assert_eq!(watched(&space), "0-2@1 2-4@2");
    }

    #[test]
    fn what_is_mapped_over_it_is_not_watched() {
        let mut space = mapped(4);
        register(&mut space, ONE, 0..4, MISSING).unwrap();
        map(&mut space, 1, 2);
        space.munmap(page(3), PAGE_SIZE).unwrap();
        assert_eq!(watched(&space), "0-1@1 1-2 2-3@1");
    }

    #[test]
    fn advice_and_locks_split_it_as_other_memory() {
        let mut space = mapped(4);
        register(&mut space, ONE, 0..4, MISSING).unwrap();
        space.madvise(page(1), PAGE_SIZE, MADV_DONTFORK).unwrap();
        assert_eq!(watched(&space), "0-1@1 1-2@1 2-4@1");
        space.madvise(page(1), PAGE_SIZE, MADV_DOFORK).unwrap();
        assert_eq!(watched(&space), "0-4@1");
    }
}

mod moves {
    use super::*;

    fn moved(space: &mut AddressSpace, pages: std::ops::Range<u64>, to: u64, flags: u64) {
        let len = (pages.end - pages.start) * PAGE_SIZE;
        let request = MremapRequest {
            addr: page(pages.start),
            old_len: len,
            new_len: len,
            flags: MREMAP_MAYMOVE | MREMAP_FIXED | flags,
            new_addr: page(to),
        };
        space.mremap(request).unwrap();
    }

    #[test]
    fn what_grows_in_place_is_watched_and_what_moves_is_not() {
        let mut space = mapped(2);
        register(&mut space, ONE, 0..2, MISSING).unwrap();
        let grown = MremapRequest {
            addr: page(0),
            old_len: 2 * PAGE_SIZE,
            new_len: 4 * PAGE_SIZE,
            flags: 0,
            new_addr: 0,
        };
        space.mremap(grown).unwrap();
        assert_eq!(watched(&space), "0-4@1");
        moved(&mut space, 1..3, 10, 0);
        assert_eq!(watched(&space), "0-1@1 3-4@1 10-12");
    }

    #[test]
    fn a_neighbour_that_a_moved_one_joins_is_not_watched_any_more() {
        for to in [12, 8] {
            let mut space = mapped(2);
            map(&mut space, 10, 12);
            register(&mut space, ONE, 0..12, MISSING).unwrap();
            moved(&mut space, 0..2, to, 0);
            let joined = format!("{}-{}", to.min(10), to.max(10) + 2);
            assert_eq!(watched(&space), joined);
        }
    }

    #[test]
    fn it_joins_what_is_watched_and_not_what_it_becomes_equal_to() {
        let mut space = mapped(2);
        map(&mut space, 10, 12);
        map(&mut space, 14, 16);
        register(&mut space, ONE, 0..2, MISSING).unwrap();
        register(&mut space, ONE, 14..16, MISSING).unwrap();
        moved(&mut space, 0..2, 12, 0);
        assert_eq!(watched(&space), "10-12 12-16");
    }

    #[test]
    fn the_part_beside_which_it_comes_to_lie_is_not_watched_any_more() {
        let mut space = mapped(4);
        register(&mut space, ONE, 0..4, MISSING).unwrap();
        moved(&mut space, 1..2, 4, 0);
        assert_eq!(watched(&space), "0-1 2-5");
    }

    #[test]
    fn what_stays_is_watched_and_its_copy_is_not() {
        let mut space = mapped(4);
        register(&mut space, ONE, 0..4, MISSING).unwrap();
        moved(&mut space, 0..4, 12, MREMAP_DONTUNMAP);
        assert_eq!(watched(&space), "0-4@1 12-16");
        let mut space = mapped(4);
        register(&mut space, ONE, 0..4, MISSING).unwrap();
        moved(&mut space, 0..4, 4, MREMAP_DONTUNMAP);
        assert_eq!(watched(&space), "0-8");
    }

    #[test]
    fn it_stays_watched_where_that_was_agreed() {
        let agreed = Userfaultfd {
            id: 1,
            features: UserfaultFeatures::EVENT_REMAP,
        };
        let mut space = mapped(4);
        register(&mut space, agreed, 0..4, MISSING).unwrap();
        moved(&mut space, 0..4, 12, 0);
        assert_eq!(watched(&space), "12-16@1");
    }

    #[test]
    fn it_is_not_moved_together_with_others() {
        let mut space = mapped(2);
        map_as(&mut space, memory(2, 4, PROT_READ));
        register(&mut space, ONE, 2..3, MISSING).unwrap();
        let request = MremapRequest {
            addr: page(0),
            old_len: 4 * PAGE_SIZE,
            new_len: 4 * PAGE_SIZE,
            flags: MREMAP_MAYMOVE | MREMAP_FIXED,
            new_addr: page(12),
        };
        assert_eq!(space.mremap(request), Err(Errno::EFAULT));
        assert_eq!(watched(&space), "2-3@1 3-4 12-14");
    }
}

mod children {
    use super::*;

    #[test]
    fn a_child_is_not_watched_and_its_pieces_stay_apart() {
        let mut parent = mapped(4);
        write(&mut parent, 0);
        register(&mut parent, ONE, 1..2, MISSING).unwrap();
        for strategy in ForkStrategy::ALL {
            let child = parent.fork_with(strategy, || false).unwrap();
            assert_eq!(watched(&child), "0-1 1-2 2-4", "{strategy:?}");
        }
        assert_eq!(watched(&parent), "0-1 1-2@1 2-4");
    }

    #[test]
    fn a_child_is_watched_where_that_was_agreed() {
        let agreed = Userfaultfd {
            id: 1,
            features: UserfaultFeatures::EVENT_FORK,
        };
        let mut parent = mapped(4);
        register(&mut parent, agreed, 1..2, MISSING).unwrap();
        let mut child = parent.fork().unwrap();
        assert_eq!(watched(&child), "0-1 1-2@1 2-4");
        child.uffd_close(agreed).unwrap();
        assert_eq!(ranges(&child), "0-4");
        assert_eq!(watched(&parent), "0-1 1-2@1 2-4");
    }

    /// The address space with all that the kernel shows of it.
    fn read_again(space: &AddressSpace) -> AddressSpace {
        let specs = space.vmas().map(|vma| VmaSpec {
            start: vma.start(),
            end: vma.end(),
            flags: vma.flags(),
            page_offset: vma.page_offset(),
            backing: vma.backing().clone(),
            written: false,
        });
        AddressSpace::from_layout(Setup::default(), specs).unwrap()
    }

    #[test]
    fn reading_an_address_space_again_keeps_who_watches() {
        let mut space = mapped(4);
        register(&mut space, ONE, 1..2, MISSING).unwrap();
        let mut again = read_again(&space);
        again.keep_history(&space).unwrap();
        assert_eq!(watched(&again), "0-1 1-2@1 2-4");
    }

    #[test]
    fn what_nobody_is_known_to_watch_is_given_up_by_whoever_asks() {
        let mut space = mapped(4);
        register(&mut space, ONE, 1..2, MISSING).unwrap();
        let mut again = read_again(&space);
        again.uffd_close(TWO).unwrap();
        assert_eq!(ranges(&again), "0-1 1-2 2-4");
        unregister(&mut again, ONE, 1..2).unwrap();
        assert_eq!(watched(&again), "0-4");
    }
}
