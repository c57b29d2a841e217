//! The lines of `smaps` and `status` that follow from mappings.

mod common;

use common::{file, map, map_as, memory, of_file, page};
use maple_mm::{AddressSpace, FileAccess, Gate, Layout, MmapRequest, Setup, abi::*};

fn space(layout: Layout) -> AddressSpace {
    let setup = Setup {
        layout,
        ..Setup::default()
    };
    AddressSpace::from_layout(setup, []).unwrap()
}

fn smaps(space: &AddressSpace) -> String {
    let mut text = String::new();
    space.write_smaps(&mut text).unwrap();
    text
}

/// The value of a line of `status`, in kB.
#[track_caller]
fn status(space: &AddressSpace, name: &str) -> u64 {
    let mut text = String::new();
    space.write_status(&mut text).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn sizes_and_flags_stand_below_the_line_of_maps() {
    let mut space = space(Layout::default());
    map(&mut space, 0, 3);
    let expected = "\
00100000-00103000 rw-p 00000000 00:00 0 
Size:                 12 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
VmFlags: rd wr mr mw me ac 
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
Size:                  4 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
VmFlags: ex 
";
    assert_eq!(smaps(&space), expected);
}

#[test]
fn an_explicitly_huge_mapping_has_pages_of_2_mib() {
    let mut space = space(Layout {
        gate: Gate::Absent,
        ..Layout::default()
    });
    let request = MmapRequest {
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE,
        ..MmapRequest::anonymous(HUGE_PAGE_SIZE, PROT_READ)
    };
    space.mmap(request).unwrap();
    let text = smaps(&space);
    assert!(text.contains("\nSize:               2048 kB\nKernelPageSize:     2048 kB\n"));
    assert!(text.contains("\nMMUPageSize:        2048 kB\nVmFlags: rd mr mw me de nr ht \n"));
}

#[test]
fn status_tells_the_classes_apart() {
    let mut space = space(Layout::default());
    map(&mut space, 0, 3);
    let stack = MmapRequest {
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN,
        ..memory(600, 605, PROT_READ | PROT_WRITE)
    };
    map_as(&mut space, stack);
    space.mlock(page(0), PAGE_SIZE).unwrap();
    space.munmap(page(2), PAGE_SIZE).unwrap();
    let kib = |name| status(&space, name);
    assert_eq!((kib("VmPeak"), kib("VmSize")), (32, 28));
    assert_eq!((kib("VmLck"), kib("VmPin")), (4, 0));
    assert_eq!((kib("VmData"), kib("VmStk")), (8, 20));
}

#[test]
fn code_is_the_programs_up_to_what_is_executable_and_the_rest_libraries() {
    let layout = Layout {
        start_code: page(0) + 0x40,
        end_code: page(1) + 1,
        ..Layout::default()
    };
    let mut space = space(layout);
    let code = |pages| MmapRequest {
        prot: PROT_READ | PROT_EXEC,
        ..of_file(&file(1, FileAccess::READ), pages, 0)
    };
    map_as(&mut space, code(0..1));
    assert_eq!((status(&space, "VmExe"), status(&space, "VmLib")), (4, 0));
    map_as(&mut space, code(10..14));
    assert_eq!((status(&space, "VmExe"), status(&space, "VmLib")), (8, 12));
}
