//! Names of anonymous memory, on a kernel that has them.

mod common;

use common::{file, map, map_as, memory, of_file, page, ranges, write};
use maple_mm::{
    AddressSpace, Configured, Errno, FileAccess, Layout, LinuxProfile, MmapRequest, MremapRequest,
    Setup, System, SystemSettings, abi::*,
};

const RW: u64 = PROT_READ | PROT_WRITE;

fn with(layout: Layout, max_map_count: usize) -> AddressSpace {
    let settings = SystemSettings {
        max_map_count,
        ..SystemSettings::default()
    };
    let setup = Setup {
        system: std::sync::Arc::new(System::new(settings)),
        profile: LinuxProfile {
            anon_vma_name: Configured::Yes,
            ..LinuxProfile::V6_18
        },
        layout,
        ..Setup::default()
    };
    AddressSpace::from_layout(setup, []).unwrap()
}

fn space() -> AddressSpace {
    with(Layout::default(), 65_530)
}

fn name(space: &mut AddressSpace, pages: std::ops::Range<u64>, text: &str) -> Result<(), Errno> {
    let len = (pages.end - pages.start) * PAGE_SIZE;
    let result = space.name_anonymous(page(pages.start), len, Some(text.as_bytes()));
    space.validate().unwrap();
    result
}

fn shown(space: &AddressSpace, index: u64) -> String {
    let vma = space.vma_at(page(index)).unwrap();
    space.name_of(vma).to_owned()
}

#[test]
fn a_kernel_without_names_refuses_everything() {
    let mut space = AddressSpace::empty();
    map(&mut space, 0, 1);
    assert_eq!(name(&mut space, 0..1, "a"), Err(Errno::EINVAL));
    assert_eq!(name(&mut space, 5..5, "a"), Err(Errno::EINVAL));
}

#[test]
fn a_name_splits_and_the_same_name_joins() {
    let mut space = space();
    map(&mut space, 0, 4);
    name(&mut space, 1..2, "a").unwrap();
    assert_eq!(ranges(&space), "0-1 1-2 2-4");
    name(&mut space, 2..3, "a").unwrap();
    assert_eq!(ranges(&space), "0-1 1-3 3-4");
    name(&mut space, 2..3, "b").unwrap();
    assert_eq!(ranges(&space), "0-1 1-2 2-3 3-4");
    assert_eq!(shown(&space, 2), "[anon:b]");
    let all = 4 * PAGE_SIZE;
    space.name_anonymous(page(0), all, None).unwrap();
    assert_eq!(ranges(&space), "0-4");
}

#[test]
fn new_memory_has_no_name_and_joins_no_named_one() {
    let mut space = space();
    map(&mut space, 0, 1);
    name(&mut space, 0..1, "a").unwrap();
    map(&mut space, 1, 2);
    assert_eq!(ranges(&space), "0-1 1-2");
    assert_eq!(shown(&space, 1), "");
}

#[test]
fn what_is_split_moved_and_forked_keeps_its_name() {
    let mut space = space();
    map(&mut space, 0, 3);
    write(&mut space, 0);
    name(&mut space, 0..3, "a").unwrap();
    space.mprotect(page(1), PAGE_SIZE, PROT_READ).unwrap();
    let request = MremapRequest {
        addr: page(2),
        old_len: PAGE_SIZE,
        new_len: PAGE_SIZE,
        flags: MREMAP_MAYMOVE | MREMAP_FIXED,
        new_addr: page(9),
    };
    space.mremap(request).unwrap();
    let child = space.fork().unwrap();
    for space in [&space, &child] {
        assert!([0, 1, 9].iter().all(|&at| shown(space, at) == "[anon:a]"));
    }
    space.mprotect(page(1), PAGE_SIZE, RW).unwrap();
    assert_eq!(ranges(&space), "0-2 9-10");
}

#[test]
fn shared_memory_is_named_otherwise_and_files_are_refused_after_what_precedes() {
    let mut space = space();
    let shared = MmapRequest {
        flags: MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
        ..memory(0, 1, RW)
    };
    map_as(&mut space, shared);
    map_as(&mut space, of_file(&file(1, FileAccess::READ), 1..2, 0));
    map(&mut space, 2, 3);
    assert_eq!(name(&mut space, 0..3, "a"), Err(Errno::EBADF));
    assert_eq!(shown(&space, 0), "[anon_shmem:a]");
    assert_eq!(shown(&space, 1), "/tmp/file");
    assert_eq!(shown(&space, 2), "");
}

#[test]
fn heap_and_stack_win_over_a_name() {
    let mut space = with(
        Layout {
            start_brk: page(0),
            brk: page(1),
            start_stack: page(5),
            ..Layout::default()
        },
        65_530,
    );
    map(&mut space, 0, 1);
    map(&mut space, 4, 5);
    name(&mut space, 0..1, "a").unwrap();
    name(&mut space, 4..5, "a").unwrap();
    assert_eq!(shown(&space, 0), "[heap]");
    assert_eq!(shown(&space, 4), "[stack]");
}

#[test]
fn a_named_heap_is_not_extended() {
    let mut space = with(
        Layout {
            start_brk: page(0),
            brk: page(0),
            ..Layout::default()
        },
        65_530,
    );
    space.brk(page(1));
    name(&mut space, 0..1, "a").unwrap();
    space.brk(page(2));
    assert_eq!(ranges(&space), "0-1 1-2");
}

#[test]
fn names_have_79_printable_bytes_but_for_five() {
    let mut space = space();
    map(&mut space, 0, 1);
    let longest = "x".repeat(79);
    assert_eq!(name(&mut space, 0..1, &longest), Ok(()));
    assert_eq!(shown(&space, 0), format!("[anon:{longest}]"));
    assert_eq!(name(&mut space, 0..1, &"x".repeat(80)), Err(Errno::EINVAL));
    for bad in ["a\\", "`", "$", "[", "]", "\x1f", "\x7f", "é"] {
        assert_eq!(name(&mut space, 0..1, bad), Err(Errno::EINVAL), "{bad}");
    }
    assert_eq!(
        space.name_anonymous(page(0), 1, Some(&[0xff])),
        Err(Errno::EINVAL)
    );
    assert_eq!(name(&mut space, 0..1, " ~!"), Ok(()));
    assert_eq!(name(&mut space, 0..1, ""), Ok(()));
    assert_eq!(shown(&space, 0), "[anon:]");
}

#[test]
fn the_name_is_looked_at_before_the_range() {
    let mut space = space();
    map(&mut space, 0, 1);
    let set = |space: &mut AddressSpace, addr, len, text: &[u8]| {
        space.name_anonymous(addr, len, Some(text))
    };
    assert_eq!(set(&mut space, page(0), 0, b"$"), Err(Errno::EINVAL));
    assert_eq!(set(&mut space, page(0), 0, b"a"), Ok(()));
    assert_eq!(set(&mut space, page(0) + 1, 1, b"a"), Err(Errno::EINVAL));
    assert_eq!(set(&mut space, page(0), u64::MAX, b"a"), Err(Errno::EINVAL));
    assert_eq!(
        set(&mut space, page(0), 1 << 63 | 1 << 62, b"a"),
        Err(Errno::ENOMEM)
    );
}

#[test]
fn a_hole_is_reported_at_the_end_and_the_limit_as_busy() {
    let mut space = with(Layout::default(), 3);
    map(&mut space, 0, 1);
    map(&mut space, 2, 3);
    assert_eq!(name(&mut space, 0..3, "a"), Err(Errno::ENOMEM));
    assert_eq!(shown(&space, 2), "[anon:a]");
    map(&mut space, 5, 8);
    assert_eq!(name(&mut space, 6..7, "a"), Err(Errno::EAGAIN));
}
