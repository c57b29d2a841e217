//! The text of `/proc/PID/maps`, byte for byte.

mod common;

use common::{file, map, map_as, memory, of_file, page};
use maple_mm::{
    AddressSpace, Backing, FileAccess, FileId, Gate, Layout, LayoutError, MapsLine, MapsLineError,
    MmapRequest, Setup, VmFlags, VmaSpec, abi::*,
};

fn text(space: &AddressSpace) -> String {
    let mut text = String::new();
    space.write_maps(&mut text).unwrap();
    text
}

fn with_layout(layout: Layout) -> AddressSpace {
    AddressSpace::from_layout(
        Setup {
            layout,
            ..Setup::default()
        },
        [],
    )
    .unwrap()
}

#[test]
fn names_begin_in_column_73_and_nameless_lines_end_in_one_space() {
    let mut space = with_layout(Layout {
        gate: Gate::Absent,
        ..Layout::default()
    });
    map_as(&mut space, of_file(&file(1, FileAccess::READ), 0..1, 3));
    map(&mut space, 1, 2);
    let expected = "\
00100000-00101000 r--p 00003000 fe:01 77                                 /tmp/file
00101000-00102000 rw-p 00000000 00:00 0 \n";
    assert_eq!(text(&space), expected);
    assert_eq!(expected.find('/'), Some(73));
}

#[test]
fn the_gate_page_comes_last() {
    let space = with_layout(Layout::default());
    let xonly =
        "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";
    assert_eq!(text(&space), xonly);
    let space = with_layout(Layout {
        gate: Gate::Readable,
        ..Layout::default()
    });
    assert_eq!(text(&space), xonly.replace("--x", "r-x"));
}

#[test]
fn heap_and_stack_are_named_by_where_they_lie() {
    let layout = Layout {
        start_brk: page(0) + 16,
        brk: page(2),
        start_stack: page(9),
        gate: Gate::Absent,
        ..Layout::default()
    };
    let mut space = with_layout(layout);
    map(&mut space, 0, 1);
    // A piece of the heap, whatever its access, and memory that only overlaps it.
    map_as(&mut space, memory(1, 3, PROT_READ));
    map(&mut space, 3, 4);
    // It ends exactly at the initial stack pointer.
    map(&mut space, 8, 9);
    let names: Vec<&str> = space.vmas().map(|vma| space.name_of(vma)).collect();
    assert_eq!(names, ["[heap]", "[heap]", "", "[stack]"]);
}

#[test]
fn shared_memory_prints_its_object() {
    let mut space = with_layout(Layout {
        gate: Gate::Absent,
        ..Layout::default()
    });
    let mut request = memory(0, 1, PROT_READ);
    request.flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED;
    map_as(&mut space, request);
    let object = space.vma_at(page(0)).unwrap().file().unwrap().clone();
    assert_ne!(object.id.0 & FileId::MODEL_BIT, 0);
    let known = maple_mm::File {
        inode: 1029,
        ..(*object).clone()
    };
    space
        .set_file(object.id, &maple_mm::FileRef::new(known).unwrap())
        .unwrap();
    let expected = "00100000-00101000 r--s 00000000 00:01 1029                               \
                    /dev/zero (deleted)\n";
    assert_eq!(text(&space), expected);
}

#[test]
fn lines_read_back_and_write_the_same() {
    for line in [
        "00001000-00009000 rw-p 00000000 00:00 0 ",
        "7fc2ca40b000-7fc2ca431000 r--p 00000000 fe:00 326279                     /usr/lib/libc.so.6",
        "7ffcd6edc000-7ffcd6f20000 rw-p 00000000 00:00 0                          [stack]",
        "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]",
        "7f0000000000-7f0000001000 -w-s 123456789000 103:0a 18446744073709551615  /a b\\012c (deleted)",
    ] {
        assert_eq!(MapsLine::parse(line).unwrap().to_string(), line);
    }
}

#[test]
fn malformed_lines_name_the_field() {
    let error = |line| MapsLine::parse(line).unwrap_err();
    assert_eq!(error(""), MapsLineError::Missing("permissions"));
    assert_eq!(error("1000 rw-p 0 00:00 0 "), MapsLineError::Missing("end"));
    assert_eq!(
        error("1000-2000 rwp 0 00:00 0 "),
        MapsLineError::Malformed("permissions")
    );
    assert_eq!(
        error("1000-2000 rw-p x 00:00 0 "),
        MapsLineError::Malformed("offset")
    );
    assert_eq!(
        error("1000-2000 rw-p 0 00:00 x "),
        MapsLineError::Malformed("inode")
    );
}

#[test]
fn a_layout_that_makes_no_sense_is_named() {
    let spec = |start, end| VmaSpec {
        start,
        end,
        flags: VmFlags::READ,
        page_offset: start / PAGE_SIZE,
        backing: Backing::Anonymous,
        written: false,
    };
    let start = |specs: Vec<VmaSpec>| {
        AddressSpace::from_layout(Setup::default(), specs)
            .map(|_| ())
            .unwrap_err()
    };
    let (first, second) = (page(0), page(1));
    assert_eq!(
        start(vec![spec(second, first)]),
        LayoutError::NotPages {
            start: second,
            end: first
        }
    );
    assert_eq!(
        start(vec![spec(first, page(2)), spec(second, page(3))]),
        LayoutError::Overlap { start: second }
    );
    assert_eq!(
        start(vec![spec(first, 1 << 47)]),
        LayoutError::BeyondEnd { end: 1 << 47 }
    );
}

#[test]
fn pieces_that_one_write_may_have_marked_share_their_anon_vma() {
    let spec = |first, end, flags| VmaSpec {
        start: page(first),
        end: page(end),
        flags,
        page_offset: page(first) / PAGE_SIZE,
        backing: Backing::Anonymous,
        written: true,
    };
    let may = VmFlags::MAY_ACCESS | VmFlags::ACCOUNT;
    let rw = VmFlags::READ | VmFlags::WRITE | may;
    let specs = [
        spec(0, 1, rw),
        spec(1, 2, VmFlags::READ | may),
        spec(3, 4, rw),
    ];
    let mut space = AddressSpace::from_layout(Setup::default(), specs).unwrap();
    space.validate().unwrap();
    space
        .mprotect(page(1), PAGE_SIZE, PROT_READ | PROT_WRITE)
        .unwrap();
    assert_eq!(space.map_count(), 2);
    let request = MmapRequest {
        ..memory(2, 3, PROT_READ | PROT_WRITE)
    };
    space.mmap(request).unwrap();
    assert_eq!(space.map_count(), 2, "two written sides never become one");
}
