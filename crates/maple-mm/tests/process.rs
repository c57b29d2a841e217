//! What a process asks of its address space as a whole: `personality` and switches of `prctl`.

mod common;

use common::{file, flags, map, map_as, memory, of_file, page, ranges, state, write};
use maple_mm::{
    Access, AddressSpace, Capabilities, Configured, Errno, File, FileAccess, FileId, FileKind,
    FileRef, Layout, Limits, LinuxProfile, MmapFile, MmapRequest, Process, ProcessFlags,
    ProgramAddresses, Setup, VmFlags, abi::*,
};

const RW: u64 = PROT_READ | PROT_WRITE;
const RX: u64 = PROT_READ | PROT_EXEC;
const RWX: u64 = RW | PROT_EXEC;

fn with(process: Process) -> AddressSpace {
    let setup = Setup {
        process,
        ..Setup::default()
    };
    AddressSpace::from_layout(setup, []).unwrap()
}

fn of_profile(profile: LinuxProfile) -> AddressSpace {
    let setup = Setup {
        profile,
        ..Setup::default()
    };
    AddressSpace::from_layout(setup, []).unwrap()
}

#[track_caller]
fn prctl(space: &mut AddressSpace, option: u32, argument: u64) -> Result<u64, Errno> {
    let before = state(space);
    let result = space.prctl(option, [argument, 0, 0, 0]);
    space.validate().unwrap();
    if result.is_err() {
        assert_eq!(state(space), before, "a refusal changes nothing");
    }
    result
}

fn names(space: &AddressSpace) -> String {
    let mut text = String::new();
    space.write_maps(&mut text).unwrap();
    text
}

mod write_exec {
    use super::*;

    fn refusing() -> AddressSpace {
        let mut space = AddressSpace::empty();
        prctl(&mut space, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN).unwrap();
        space
    }

    #[test]
    fn what_was_set_is_told_and_cannot_be_changed() {
        let mut space = AddressSpace::empty();
        assert_eq!(prctl(&mut space, PR_GET_MDWE, 0), Ok(0));
        assert_eq!(prctl(&mut space, PR_SET_MDWE, 0), Ok(0));
        assert_eq!(prctl(&mut space, PR_SET_MDWE, 3), Ok(0));
        assert_eq!(prctl(&mut space, PR_GET_MDWE, 0), Ok(3));
        assert_eq!(prctl(&mut space, PR_SET_MDWE, 3), Ok(0));
        for other in [0, PR_MDWE_REFUSE_EXEC_GAIN] {
            assert_eq!(prctl(&mut space, PR_SET_MDWE, other), Err(Errno::EPERM));
        }
    }

    #[test]
    fn bits_that_make_no_sense_are_refused_before_what_is_set() {
        let mut space = refusing();
        for bits in [PR_MDWE_NO_INHERIT, 4, 5, 1 << 32 | 1] {
            assert_eq!(prctl(&mut space, PR_SET_MDWE, bits), Err(Errno::EINVAL));
        }
        for args in [[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]] {
            assert_eq!(space.prctl(PR_SET_MDWE, args), Err(Errno::EINVAL));
        }
        assert_eq!(prctl(&mut space, PR_GET_MDWE, 1), Err(Errno::EINVAL));
    }

    #[test]
    fn nothing_new_is_writable_and_executable() {
        let mut space = refusing();
        for prot in [RWX, PROT_WRITE | PROT_EXEC] {
            assert_eq!(space.mmap(memory(0, 1, prot)), Err(Errno::EACCES));
        }
        for prot in [RX, PROT_EXEC] {
            space.mmap(memory(0, 1, prot)).unwrap();
        }
    }

    #[test]
    fn what_is_not_executable_never_becomes_so() {
        let mut space = AddressSpace::empty();
        map_as(&mut space, memory(0, 1, RWX));
        map_as(&mut space, memory(2, 3, RW));
        prctl(&mut space, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN).unwrap();
        let protect =
            |space: &mut AddressSpace, index, prot| space.mprotect(page(index), PAGE_SIZE, prot);
        // Even what it has already.
        assert_eq!(protect(&mut space, 0, RWX), Err(Errno::EACCES));
        assert_eq!(protect(&mut space, 2, RX), Err(Errno::EACCES));
        for prot in [RX, PROT_EXEC, PROT_READ] {
            assert_eq!(protect(&mut space, 0, prot), Ok(()));
        }
        assert_eq!(protect(&mut space, 0, RX), Err(Errno::EACCES));
    }

    #[test]
    fn it_is_refused_after_arguments_room_and_locks_and_before_seals_and_limits() {
        let mut space = refusing();
        let unaligned = MmapRequest {
            addr: 1,
            ..memory(0, 1, RWX)
        };
        assert_eq!(space.mmap(unaligned), Err(Errno::EINVAL));
        let endless = MmapRequest::anonymous(1 << 47, RWX);
        assert_eq!(space.mmap(endless), Err(Errno::ENOMEM));
        map_as(&mut space, memory(0, 1, RX));
        let taken = MmapRequest {
            flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
            ..memory(0, 1, RWX)
        };
        assert_eq!(space.mmap(taken), Err(Errno::EEXIST));
        space.mseal(page(0), PAGE_SIZE, 0).unwrap();
        assert_eq!(space.mmap(memory(0, 1, RWX)), Err(Errno::EACCES));
        let sealed = |space: &mut AddressSpace, prot| space.mprotect(page(0), PAGE_SIZE, prot);
        assert_eq!(sealed(&mut space, RWX), Err(Errno::EACCES));
        assert_eq!(sealed(&mut space, PROT_READ), Err(Errno::EPERM));
        space.set_limits(Limits {
            address_space: PAGE_SIZE,
            memlock: PAGE_SIZE,
            ..Limits::default()
        });
        let locked = MmapRequest {
            flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED,
            ..MmapRequest::anonymous(2 * PAGE_SIZE, RWX)
        };
        assert_eq!(space.mmap(locked), Err(Errno::EAGAIN));
        assert_eq!(space.mmap(memory(5, 7, RWX)), Err(Errno::EACCES));
    }

    #[test]
    fn a_child_and_a_program_inherit_it_unless_told_not_to() {
        let mut space = refusing();
        assert_eq!(prctl(&mut space.fork().unwrap(), PR_GET_MDWE, 0), Ok(1));
        assert_eq!(space.process().of_program(), space.process());
        let mut space = AddressSpace::empty();
        prctl(&mut space, PR_SET_MDWE, 3).unwrap();
        assert_eq!(prctl(&mut space.fork().unwrap(), PR_GET_MDWE, 0), Ok(0));
        assert_eq!(space.process().of_program(), Process::default());
    }
}

mod read_implies_exec {
    use super::*;

    fn implying() -> AddressSpace {
        with(Process {
            personality: READ_IMPLIES_EXEC,
            ..Process::default()
        })
    }

    #[test]
    fn what_can_be_read_can_be_executed() {
        let mut space = implying();
        let cases = [(PROT_READ, RX), (RW, RWX), (PROT_WRITE, PROT_WRITE), (0, 0)];
        for (prot, given) in cases {
            map_as(&mut space, memory(0, 1, prot));
            assert_eq!(flags(&space, 0).access().bits(), given);
            map_as(&mut space, memory(0, 1, PROT_NONE));
            space.mprotect(page(0), PAGE_SIZE, prot).unwrap();
            assert_eq!(flags(&space, 0).access().bits(), given);
        }
    }

    #[test]
    fn a_file_that_must_not_run_is_only_read() {
        let mut space = implying();
        let quiet = file(1, FileAccess::READ | FileAccess::NO_EXEC);
        map_as(&mut space, of_file(&quiet, 0..1, 0));
        assert_eq!(flags(&space, 0).access(), VmFlags::READ);
        space.mprotect(page(0), PAGE_SIZE, PROT_READ).unwrap();
        assert_eq!(flags(&space, 0).access(), VmFlags::READ);
        map_as(&mut space, of_file(&file(2, FileAccess::READ), 0..1, 0));
        assert_eq!(flags(&space, 0).access().bits(), RX);
    }

    #[test]
    fn the_heap_becomes_executable_from_where_it_grows() {
        let layout = Layout {
            start_brk: page(0),
            brk: page(0),
            ..Layout::default()
        };
        let setup = Setup {
            layout,
            ..Setup::default()
        };
        let mut space = AddressSpace::from_layout(setup, []).unwrap();
        space.brk(page(2));
        assert_eq!(space.personality(u64::from(READ_IMPLIES_EXEC)), 0);
        space.brk(page(4));
        assert_eq!(ranges(&space), "0-2 2-4");
        assert_eq!(flags(&space, 2).access().bits(), RWX);
    }

    #[test]
    fn a_heap_may_be_executable_where_mappings_may_not() {
        let mut space = implying();
        prctl(&mut space, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN).unwrap();
        assert_eq!(space.mmap(memory(0, 1, RW)), Err(Errno::EACCES));
        space.mmap(memory(0, 1, PROT_READ)).unwrap();
        let heap = page(100);
        let layout = Layout {
            start_brk: heap,
            brk: heap,
            ..space.layout().clone()
        };
        space.set_layout(layout);
        assert_eq!(space.brk(heap + 1), heap + 1);
    }

    #[test]
    fn asking_changes_nothing_and_a_program_starts_without() {
        let mut space = AddressSpace::empty();
        let persona = READ_IMPLIES_EXEC | ADDR_COMPAT_LAYOUT;
        assert_eq!(space.personality(persona.into()), 0);
        assert_eq!(space.personality(0xffff_ffff), persona.into());
        assert_eq!(space.personality(u64::MAX), persona.into());
        assert_eq!(space.process().of_child().personality, persona);
        let program = space.process().of_program();
        assert_eq!(program.personality, ADDR_COMPAT_LAYOUT);
    }
}

mod memory_merge {
    use super::*;

    fn device(kind: FileKind) -> FileRef {
        FileRef::new(File {
            id: FileId(9),
            device: (0, 6),
            inode: 4,
            name: "/dev/zero".into(),
            kind,
            access: FileAccess::READ | FileAccess::WRITE,
        })
        .unwrap()
    }

    fn merging() -> AddressSpace {
        let mut space = AddressSpace::empty();
        prctl(&mut space, PR_SET_MEMORY_MERGE, 1).unwrap();
        space
    }

    fn is_marked(space: &AddressSpace, index: u64) -> bool {
        flags(space, index).contains(VmFlags::MERGEABLE)
    }

    #[test]
    fn what_is_there_is_marked_where_it_may_be_and_does_not_merge_for_it() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 3);
        space.madvise(page(1), PAGE_SIZE, MADV_MERGEABLE).unwrap();
        let shared = MmapRequest {
            flags: MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
            ..memory(10, 11, RW)
        };
        map_as(&mut space, shared);
        assert_eq!(prctl(&mut space, PR_SET_MEMORY_MERGE, 2), Ok(0));
        assert_eq!(prctl(&mut space, PR_GET_MEMORY_MERGE, 0), Ok(1));
        assert_eq!(ranges(&space), "0-1 1-2 2-3 10-11");
        assert!((0..3).all(|index| is_marked(&space, index)));
        assert!(!is_marked(&space, 10));
        prctl(&mut space, PR_SET_MEMORY_MERGE, 0).unwrap();
        assert_eq!(ranges(&space), "0-1 1-2 2-3 10-11");
        assert!(!(0..3).any(|index| is_marked(&space, index)));
    }

    #[test]
    fn what_is_asked_for_again_changes_nothing() {
        let mut space = AddressSpace::empty();
        map(&mut space, 0, 1);
        space.madvise(page(0), PAGE_SIZE, MADV_MERGEABLE).unwrap();
        prctl(&mut space, PR_SET_MEMORY_MERGE, 0).unwrap();
        assert!(is_marked(&space, 0));
        prctl(&mut space, PR_SET_MEMORY_MERGE, 1).unwrap();
        space.madvise(page(0), PAGE_SIZE, MADV_UNMERGEABLE).unwrap();
        prctl(&mut space, PR_SET_MEMORY_MERGE, 1).unwrap();
        assert!(!is_marked(&space, 0));
    }

    #[test]
    fn a_new_mapping_joins_marked_neighbours_only() {
        let mut space = merging();
        map(&mut space, 0, 1);
        map(&mut space, 1, 2);
        assert_eq!(ranges(&space), "0-2");
        space
            .madvise(page(0), 2 * PAGE_SIZE, MADV_UNMERGEABLE)
            .unwrap();
        map(&mut space, 2, 3);
        assert_eq!(ranges(&space), "0-2 2-3");
    }

    #[test]
    fn a_mapping_of_a_device_joins_unmarked_neighbours_and_is_marked_alone() {
        let mut space = merging();
        let zero = device(FileKind::DevZero);
        map_as(&mut space, of_file(&zero, 0..1, 0));
        map_as(&mut space, of_file(&zero, 1..2, 1));
        assert_eq!(ranges(&space), "0-1 1-2");
        assert!(is_marked(&space, 0) && is_marked(&space, 1));
        space.madvise(page(1), PAGE_SIZE, MADV_UNMERGEABLE).unwrap();
        map_as(&mut space, of_file(&zero, 2..3, 2));
        assert_eq!(ranges(&space), "0-1 1-3");
        assert!(!is_marked(&space, 2));
    }

    #[test]
    fn up_to_6_16_a_new_mapping_joins_no_marked_one_and_marks_what_it_joins() {
        let mut space = of_profile(LinuxProfile::V6_12);
        map(&mut space, 0, 1);
        prctl(&mut space, PR_SET_MEMORY_MERGE, 1).unwrap();
        map(&mut space, 1, 2);
        assert_eq!(ranges(&space), "0-1 1-2");
        space.madvise(page(1), PAGE_SIZE, MADV_UNMERGEABLE).unwrap();
        map(&mut space, 2, 3);
        assert_eq!(ranges(&space), "0-1 1-3");
        assert!(is_marked(&space, 1));
    }

    #[test]
    fn the_heap_is_marked_from_where_it_grows_and_children_go_on() {
        let mut space = merging();
        let layout = Layout {
            start_brk: page(0),
            brk: page(0),
            ..Layout::default()
        };
        space.set_layout(layout);
        space.brk(page(1));
        let mut child = space.fork().unwrap();
        child.brk(page(2));
        assert_eq!(ranges(&child), "0-2");
        assert!(is_marked(&child, 1));
        assert_eq!(space.process().of_program(), space.process());
    }

    #[test]
    fn arguments_that_are_not_used_must_be_0_and_a_kernel_without_has_no_such_option() {
        let mut space = AddressSpace::empty();
        let set = |space: &mut AddressSpace, args| space.prctl(PR_SET_MEMORY_MERGE, args);
        assert_eq!(set(&mut space, [1, 1, 0, 0]), Err(Errno::EINVAL));
        assert_eq!(set(&mut space, [0, 0, 0, 1]), Err(Errno::EINVAL));
        assert_eq!(
            prctl(&mut space, PR_GET_MEMORY_MERGE, 1),
            Err(Errno::EINVAL)
        );
        let mut space = of_profile(LinuxProfile {
            ksm: Configured::No,
            ..LinuxProfile::V6_18
        });
        for option in [PR_SET_MEMORY_MERGE, PR_GET_MEMORY_MERGE] {
            assert_eq!(prctl(&mut space, option, 0), Err(Errno::EINVAL));
        }
    }
}

mod huge_pages_off {
    use super::*;

    #[test]
    fn anything_but_0_switches_off_and_the_exception_is_remembered() {
        let mut space = AddressSpace::empty();
        let off = |space: &mut AddressSpace, args| {
            let set = space.prctl(PR_SET_THP_DISABLE, args);
            set.and_then(|_| space.prctl(PR_GET_THP_DISABLE, [0; 4]))
        };
        assert_eq!(off(&mut space, [5, 0, 0, 0]), Ok(1));
        assert_eq!(off(&mut space, [1, 2, 0, 0]), Ok(3));
        for args in [
            [0, 2, 0, 0],
            [1, 1, 0, 0],
            [1, 3, 0, 0],
            [1, 2, 1, 0],
            [0, 0, 0, 1],
        ] {
            assert_eq!(off(&mut space, args), Err(Errno::EINVAL));
        }
        assert_eq!(space.process().of_child(), space.process());
        assert_eq!(space.process().of_program(), space.process());
        assert_eq!(off(&mut space, [0, 0, 0, 0]), Ok(0));
        let mut older = of_profile(LinuxProfile::V6_12);
        assert_eq!(off(&mut older, [1, 2, 0, 0]), Err(Errno::EINVAL));
    }

    #[test]
    fn a_read_of_advised_memory_brings_no_huge_page_in() {
        let mut space = AddressSpace::empty();
        let addr = space
            .mmap(MmapRequest::anonymous(2 * HUGE_PAGE_SIZE, RW))
            .unwrap();
        space
            .madvise(addr, 2 * HUGE_PAGE_SIZE, MADV_HUGEPAGE)
            .unwrap();
        prctl(&mut space, PR_SET_THP_DISABLE, 1).unwrap();
        space.fault(addr, Access::Read).unwrap();
        assert!(!space.vma_at(addr).unwrap().anon().is_faulted());
        let collapse = space.madvise(addr, HUGE_PAGE_SIZE, MADV_COLLAPSE);
        assert_eq!(collapse, Err(Errno::EINVAL));
        space.set_process(Process {
            flags: ProcessFlags::HUGE_PAGES_IF_ADVISED,
            ..Process::default()
        });
        space.fault(addr, Access::Read).unwrap();
        assert!(space.vma_at(addr).unwrap().anon().is_faulted());
    }
}

mod program_addresses {
    use super::*;

    const HEAP: u64 = 0x4000_0000;

    fn program(capabilities: Capabilities) -> AddressSpace {
        let layout = Layout {
            start_code: page(0),
            end_code: page(1),
            start_data: page(2),
            end_data: page(3),
            start_brk: HEAP,
            brk: HEAP,
            start_stack: page(90),
            arg_start: page(91),
            arg_end: page(92),
            env_start: page(92),
            env_end: page(93),
            ..Layout::default()
        };
        let setup = Setup {
            layout,
            capabilities,
            ..Setup::default()
        };
        let mut space = AddressSpace::from_layout(setup, []).unwrap();
        map(&mut space, 80, 100);
        space
    }

    fn privileged() -> AddressSpace {
        program(Capabilities::SYS_RESOURCE)
    }

    fn set(space: &mut AddressSpace, option: u64, addr: u64) -> Result<u64, Errno> {
        let before = state(space);
        let result = space.prctl(PR_SET_MM, [option, addr, 0, 0]);
        assert!(result.is_ok() || state(space) == before);
        result
    }

    fn addresses(space: &AddressSpace) -> ProgramAddresses {
        ProgramAddresses::of(space.layout())
    }

    #[test]
    fn arguments_come_before_the_privilege_and_that_before_the_address() {
        let mut space = program(Capabilities::empty());
        let call = |space: &mut AddressSpace, args| space.prctl(PR_SET_MM, args);
        assert_eq!(
            call(&mut space, [PR_SET_MM_BRK, HEAP, 1, 0]),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            call(&mut space, [PR_SET_MM_BRK, HEAP, 0, 1]),
            Err(Errno::EINVAL)
        );
        assert_eq!(set(&mut space, PR_SET_MM_BRK, 0), Err(Errno::EPERM));
        assert_eq!(set(&mut space, 99, HEAP), Err(Errno::EPERM));
        let mut space = privileged();
        assert_eq!(set(&mut space, PR_SET_MM_BRK, 0), Err(Errno::EINVAL));
        assert_eq!(set(&mut space, 99, HEAP), Err(Errno::EINVAL));
        assert_eq!(set(&mut space, PR_SET_MM_BRK, HEAP), Ok(0));
    }

    #[test]
    fn addresses_lie_between_the_lowest_and_the_highest() {
        let mut space = privileged();
        let task_size = space.layout().task_size;
        for addr in [0xffff, task_size, u64::MAX] {
            assert_eq!(
                set(&mut space, PR_SET_MM_END_CODE, addr),
                Err(Errno::EINVAL)
            );
        }
        assert_eq!(set(&mut space, PR_SET_MM_START_CODE, 0x1_0000), Ok(0));
        assert_eq!(set(&mut space, PR_SET_MM_END_CODE, task_size - 1), Ok(0));
    }

    #[test]
    fn only_the_code_may_not_be_empty() {
        let mut space = privileged();
        assert_eq!(
            set(&mut space, PR_SET_MM_START_CODE, page(1)),
            Err(Errno::EINVAL)
        );
        assert_eq!(set(&mut space, PR_SET_MM_START_CODE, page(1) - 1), Ok(0));
        let ends = [
            (PR_SET_MM_END_DATA, page(2)),
            (PR_SET_MM_BRK, HEAP),
            (PR_SET_MM_ARG_END, page(91)),
            (PR_SET_MM_ENV_END, page(92)),
        ];
        for (option, start) in ends {
            assert_eq!(set(&mut space, option, start - 1), Err(Errno::EINVAL));
            assert_eq!(set(&mut space, option, start), Ok(0));
        }
    }

    #[test]
    fn stack_arguments_and_environment_lie_below_the_end_of_some_mapping() {
        let mut space = privileged();
        for option in [PR_SET_MM_START_STACK, PR_SET_MM_ARG_END, PR_SET_MM_ENV_END] {
            assert_eq!(set(&mut space, option, page(100)), Err(Errno::EFAULT));
            assert_eq!(set(&mut space, option, page(100) - 1), Ok(0));
        }
        assert_eq!(
            set(&mut space, PR_SET_MM_ARG_END, page(100)),
            Err(Errno::EFAULT)
        );
        assert_eq!(set(&mut space, PR_SET_MM_END_DATA, page(100)), Ok(0));
        // All at once are not asked where they lie.
        let all = ProgramAddresses {
            start_stack: page(200),
            ..addresses(&space)
        };
        assert_eq!(space.set_program_addresses(&all), Ok(()));
    }

    #[test]
    fn the_heap_goes_on_where_it_is_said_to_lie() {
        let mut space = program(Capabilities::empty());
        let all = ProgramAddresses {
            start_brk: page(20),
            brk: page(20) + 0x123,
            start_stack: page(95),
            ..addresses(&space)
        };
        space.set_program_addresses(&all).unwrap();
        assert_eq!(space.brk(0), page(20) + 0x123);
        assert_eq!(space.brk(page(22)), page(22));
        assert_eq!(ranges(&space), "21-22 80-100");
        let text = names(&space);
        assert!(text.lines().next().unwrap().ends_with("[heap]"));
        assert!(text.lines().nth(1).unwrap().ends_with("[stack]"));
        assert_eq!(space.fork().unwrap().brk(0), page(22));
    }

    #[test]
    fn heap_and_data_together_stay_within_the_data_limit() {
        let mut space = privileged();
        space.set_limits(Limits {
            data: 3 * PAGE_SIZE,
            ..Limits::default()
        });
        let two_more = HEAP + 2 * PAGE_SIZE;
        assert_eq!(set(&mut space, PR_SET_MM_BRK, two_more), Ok(0));
        assert_eq!(
            set(&mut space, PR_SET_MM_BRK, two_more + 1),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            set(&mut space, PR_SET_MM_END_DATA, page(3) + 1),
            Err(Errno::EINVAL)
        );
    }
}

#[test]
fn an_unknown_option_is_refused() {
    let mut space = AddressSpace::empty();
    map(&mut space, 0, 1);
    write(&mut space, 0);
    assert_eq!(prctl(&mut space, 0, 0), Err(Errno::EINVAL));
    let bad = MmapRequest {
        flags: MAP_PRIVATE,
        file: MmapFile::Bad,
        ..memory(0, 1, RW)
    };
    assert_eq!(space.mmap(bad), Err(Errno::EBADF));
}

#[test]
fn pages_are_taken_out_of_use_with_a_right_and_where_the_kernel_can() {
    for advice in [MADV_HWPOISON, MADV_SOFT_OFFLINE] {
        for (memory_failure, of_nothing, of_a_page) in [
            (Configured::Yes, Ok(()), Err(Errno::EPERM)),
            (Configured::No, Err(Errno::EINVAL), Err(Errno::EINVAL)),
        ] {
            let mut space = of_profile(LinuxProfile {
                memory_failure,
                ..LinuxProfile::V6_18
            });
            space.set_capabilities(Capabilities::empty());
            map(&mut space, 0, 4);
            let addr = page(0);
            assert_eq!(space.madvise(addr, 0, advice), of_nothing);
            assert_eq!(space.madvise(addr, PAGE_SIZE, advice), of_a_page);
        }
    }
}

#[test]
fn a_file_that_only_grows_is_not_shared_by_who_may_write_it() {
    let append = FileAccess::APPEND_ONLY;
    let all = FileAccess::READ | FileAccess::WRITE | append;
    for (access, is_shared, prot, expected) in [
        (FileAccess::READ | append, true, PROT_READ, true),
        (FileAccess::READ | append, true, RW, false),
        (all, true, PROT_READ, false),
        (all, true, RW, false),
        (all, false, RW, true),
        (FileAccess::WRITE | append, false, PROT_READ, false),
    ] {
        let mut space = of_profile(LinuxProfile::V6_18);
        let file = file(1, access);
        let mut request = of_file(&file, 0..1, 0);
        request.prot = prot;
        if is_shared {
            request.flags = request.flags & !MAP_PRIVATE | MAP_SHARED;
        }
        let found = space.mmap(request);
        assert_eq!(found.is_ok(), expected, "{access:?} {prot} {is_shared}");
        if !expected {
            assert_eq!(found, Err(Errno::EACCES));
        }
    }
}
