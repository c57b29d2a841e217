//! What an access brings in, and what it is refused for.

use crate::common::paged::{REGULAR, Space, check, contents, frames, get, opened, set, space};
use crate::common::{map, map_as, memory, of_file, page, state, write};
use maple_mm::paging::{Arch, NoTlb, PhysMemory, Tiny};
use maple_mm::{
    Access, AddressSpace, Errno, Fault, Layout, MappedPages, MmapRequest, Setup, abi::*,
};

const RW: u64 = PROT_READ | PROT_WRITE;

fn anon(space: &Space) -> u64 {
    space.statistics().resident.anon
}

#[test]
fn reading_memory_maps_the_zero_page_and_counts_nothing() {
    let memory = frames(64);
    let mut space = space(&memory);
    map(&mut space, 0, 4);
    let tables = memory.in_use();
    assert_eq!(get(&mut space, page(1)), 0);
    assert_eq!(anon(&space), 0);
    assert!(!space.vma_at(page(1)).unwrap().anon().is_faulted());
    // Three tables, no page.
    assert_eq!(memory.in_use(), tables + 3);
    assert_eq!(space.statistics().pgtables_bytes, 3 * PAGE_SIZE);
    check(&[&space]);
}

#[test]
fn writing_gives_a_page_and_an_anon_vma_even_after_reading() {
    let memory = frames(64);
    let mut space = space(&memory);
    map(&mut space, 0, 4);
    get(&mut space, page(1));
    set(&mut space, page(1), 7);
    set(&mut space, page(2), 8);
    assert_eq!((get(&mut space, page(1)), get(&mut space, page(2))), (7, 8));
    assert_eq!(anon(&space), 2);
    assert!(space.vma_at(page(1)).unwrap().anon().is_faulted());
    check(&[&space]);
}

#[test]
fn what_is_refused_is_told_apart() {
    let memory = frames(64);
    let mut space = space(&memory);
    map_as(&mut space, memory_of(0, PROT_READ));
    map_as(&mut space, memory_of(1, PROT_NONE));
    let tried = [
        (page(0), Access::Write),
        (page(0), Access::Execute),
        (page(1), Access::Read),
        (page(2), Access::Read),
        (u64::MAX, Access::Read),
    ];
    let faults = tried.map(|(addr, access)| space.fault(addr, access).unwrap_err());
    use Fault::{NotAllowed, NotMapped};
    assert_eq!(
        faults,
        [NotAllowed, NotAllowed, NotAllowed, NotMapped, NotMapped]
    );
    assert_eq!(space.statistics().pgtables_bytes, 0);
}

fn memory_of(index: u64, prot: u64) -> MmapRequest {
    memory(index, index + 1, prot)
}

#[test]
fn an_access_ends_where_memory_ends_and_says_how_far_it_came() {
    let memory = frames(64);
    let mut space = space(&memory);
    map(&mut space, 0, 2);
    map_as(&mut space, memory_of(2, PROT_READ));
    let bytes: Vec<u8> = (0..=255).cycle().take(3 * 4096).collect();
    let end = space.write(page(0) + 100, &bytes).unwrap_err();
    assert_eq!((end.fault, end.done), (Fault::NotAllowed, 2 * 4096 - 100));
    assert_eq!(end.addr, page(2));
    let mut seen = vec![0; bytes.len()];
    let end = space.read(page(0) + 100, &mut seen[..]).unwrap_err();
    assert_eq!((end.fault, end.done), (Fault::NotMapped, 3 * 4096 - 100));
    assert_eq!(seen[..2 * 4096 - 100], bytes[..2 * 4096 - 100]);
    assert!(seen[2 * 4096 - 100..].iter().all(|byte| *byte == 0));
    check(&[&space]);
}

#[test]
fn a_stack_grows_with_its_pages() {
    let memory = frames(64);
    let mut space = space(&memory);
    let mut stack = memory_of(1000, RW);
    stack.flags |= MAP_GROWSDOWN;
    map_as(&mut space, stack);
    set(&mut space, page(995) + 16, 5);
    assert_eq!(space.vma_at(page(1000)).unwrap().start(), page(995));
    assert_eq!(anon(&space), 1);
    check(&[&space]);
}

#[test]
fn rights_come_and_go_and_the_contents_stay() {
    let memory = frames(64);
    let mut space = space(&memory);
    map(&mut space, 0, 4);
    set(&mut space, page(1), 7);
    for prot in [PROT_NONE, PROT_READ, PROT_NONE, PROT_READ | PROT_EXEC] {
        space.mprotect(page(0), 4 * PAGE_SIZE, prot).unwrap();
        check(&[&space]);
        let refused = space.write(page(1), &[1]).unwrap_err();
        assert_eq!(refused.fault, Fault::NotAllowed);
        let read = space.read(page(1), &mut [0]);
        assert_eq!(read.is_ok(), prot != PROT_NONE);
        let run = space.fault(page(1), Access::Execute);
        assert_eq!(run.is_ok(), prot & PROT_EXEC != 0);
    }
    space.mprotect(page(0), 4 * PAGE_SIZE, RW).unwrap();
    assert_eq!(get(&mut space, page(1)), 7);
    set(&mut space, page(1), 8);
    assert_eq!((get(&mut space, page(1)), anon(&space)), (8, 1));
}

#[test]
fn a_page_of_a_file_is_counted_as_one_until_it_is_written_in_private() {
    let memory = frames(64);
    let mut space = space(&memory);
    let pages = contents(&memory, 4, 100);
    let file = opened(1, REGULAR, &pages);
    let mut request = of_file(&file, 0..4, 1);
    request.prot = RW;
    map_as(&mut space, request);
    // Written before it was read.
    set(&mut space, page(1) + 8, 8);
    assert_eq!(get(&mut space, page(0)), 101);
    // With the third page, which was at hand.
    let resident = space.statistics().resident;
    assert_eq!((resident.file, resident.anon), (2, 1));
    set(&mut space, page(0), 7);
    let resident = space.statistics().resident;
    assert_eq!((resident.file, resident.anon), (1, 2));
    assert_eq!(
        (get(&mut space, page(0)), get(&mut space, page(1))),
        (7, 102)
    );
    // The file ends after three of the four pages.
    assert_eq!(space.fault(page(3), Access::Read), Err(Fault::Bus));
    assert_eq!(space.fault(page(3), Access::Write), Err(Fault::Bus));
    check(&[&space]);
}

#[test]
fn a_file_that_is_not_known_is_a_bus_error() {
    let memory = frames(64);
    let mut space = space(&memory);
    let file = crate::common::file(1, maple_mm::FileAccess::READ);
    map_as(&mut space, of_file(&file, 0..1, 0));
    assert_eq!(space.fault(page(0), Access::Read), Err(Fault::Bus));
}

#[test]
fn locking_and_populating_bring_pages_in() {
    let memory = frames(64);
    let mut space = space(&memory);
    let mut populated = crate::common::memory(0, 3, RW);
    populated.flags |= MAP_POPULATE;
    map_as(&mut space, populated);
    assert_eq!(anon(&space), 3);
    map(&mut space, 10, 14);
    space.mlock(page(10), 2 * PAGE_SIZE).unwrap();
    assert_eq!(anon(&space), 5);
    space
        .madvise(page(12), PAGE_SIZE, MADV_POPULATE_WRITE)
        .unwrap();
    assert_eq!(anon(&space), 6);
    space
        .madvise(page(13), PAGE_SIZE, MADV_POPULATE_READ)
        .unwrap();
    assert_eq!(anon(&space), 6);
    let end = space.brk(page(0) - 62 * PAGE_SIZE);
    assert_eq!(end, page(0) - 62 * PAGE_SIZE);
    assert_eq!(anon(&space), 6);
    check(&[&space]);
}

const HUGE: u64 = 2 << 20;

/// 6 MiB from a multiple of 2 MiB on, that want huge pages.
fn huge(space: &mut Space) -> u64 {
    let addr = space.mmap(MmapRequest::anonymous(3 * HUGE, RW)).unwrap();
    space.madvise(addr, 3 * HUGE, MADV_HUGEPAGE).unwrap();
    assert_eq!(addr % HUGE, 0);
    addr
}

#[test]
fn memory_that_wants_them_gets_huge_pages_where_they_fit() {
    let memory = frames(4096);
    let mut space = space(&memory);
    let addr = huge(&mut space);
    set(&mut space, addr + HUGE + 5000, 7);
    assert_eq!(anon(&space), 512);
    let leaf = space.page_side().tables().entry(addr + HUGE).unwrap();
    assert_eq!(leaf.size, HUGE);
    // A page was read there: too late.
    get(&mut space, addr);
    set(&mut space, addr, 8);
    assert_eq!(anon(&space), 513);
    check(&[&space]);
}

#[test]
fn a_huge_page_is_split_where_it_is_cut() {
    let memory = frames(4096);
    let mut space = space(&memory);
    let addr = huge(&mut space);
    set(&mut space, addr, 7);
    set(&mut space, addr + HUGE - 8, 8);
    space.munmap(addr + PAGE_SIZE, PAGE_SIZE).unwrap();
    assert_eq!(anon(&space), 511);
    check(&[&space]);
    let mut child = space.fork().unwrap();
    set(&mut child, addr, 9);
    check(&[&space, &child]);
    assert_eq!(get(&mut space, addr), 7);
    assert_eq!(get(&mut child, addr + HUGE - 8), 8);
}

#[test]
fn without_a_huge_frame_small_ones_do() {
    let memory = frames(400);
    let mut space = space(&memory);
    let addr = huge(&mut space);
    set(&mut space, addr, 7);
    assert_eq!(anon(&space), 1);
    check(&[&space]);
}

#[test]
fn without_frames_nothing_changes() {
    let memory = frames(64);
    let mut space = space(&memory);
    map(&mut space, 0, 4);
    let mut stack = memory_of(1000, RW);
    stack.flags |= MAP_GROWSDOWN;
    map_as(&mut space, stack);
    let before = state(&space);
    memory.fail_after(Some(0));
    assert_eq!(space.fault(page(0), Access::Write), Err(Fault::OutOfMemory));
    assert_eq!(space.fault(page(0), Access::Read), Err(Fault::OutOfMemory));
    assert_eq!(
        space.fault(page(990), Access::Write),
        Err(Fault::OutOfMemory)
    );
    memory.fail_after(None);
    assert_eq!(state(&space), before);
    write(&mut space, 0);
    check(&[&space]);
}

#[test]
fn peaks_stay_when_memory_goes() {
    let memory = frames(64);
    let mut space = space(&memory);
    map(&mut space, 0, 8);
    for index in 0..5 {
        write(&mut space, index);
    }
    space.munmap(page(0), 6 * PAGE_SIZE).unwrap();
    let now = space.statistics();
    assert_eq!((now.total_vm, now.peak_vm), (2, 8));
    assert_eq!((now.resident.anon, now.peak_resident), (0, 5));
    let child = space.fork().unwrap();
    assert_eq!(
        (child.statistics().peak_vm, child.statistics().peak_resident),
        (2, 0)
    );
}

/// A stack that is executed below its end grew for a page that there was no frame for.
#[test]
fn a_stack_that_cannot_be_fetched_from_for_want_of_frames_is_as_before() {
    for access in [Access::Execute, Access::Read, Access::Write] {
        let memory_of_frames = frames(64);
        let mut space = space(&memory_of_frames);
        let mut stack = memory(200, 204, RW | PROT_EXEC);
        stack.flags |= MAP_GROWSDOWN;
        space.mmap(stack).unwrap();
        let before = state(&space);
        memory_of_frames.fail_after(Some(0));
        assert_eq!(space.fault(page(190), access), Err(Fault::OutOfMemory));
        assert_eq!(state(&space), before, "{access:?}");
        memory_of_frames.fail_after(None);
        assert_eq!(space.fault(page(190), access), Ok(()));
        check(&[&space]);
    }
}

/// LINUX: a stack grows before it is seen that it does not allow the access.
#[test]
fn a_stack_grows_for_an_access_that_it_does_not_allow() {
    let memory_of_frames = frames(64);
    let mut space = space(&memory_of_frames);
    let mut stack = memory(200, 204, RW);
    stack.flags |= MAP_GROWSDOWN;
    space.mmap(stack).unwrap();
    let fetched = space.fault(page(190), Access::Execute);
    assert_eq!(fetched, Err(Fault::NotAllowed));
    assert_eq!(space.vma_at(page(190)).unwrap().pages(), 14);
}

#[test]
fn a_copy_that_overlaps_itself_is_what_the_source_was() {
    let memory = frames(64);
    let mut space = space(&memory);
    map(&mut space, 0, 4);
    let source: Vec<u8> = (0..13_000_u32)
        .map(|at| (at * 7 + at / 256) as u8)
        .collect();
    for len in [1, 255, 256, 257, 1500, 5000] {
        for distance in [-4000, -256, -255, -1, 0, 1, 8, 100, 255, 256, 300, 3900_i64] {
            space.write(page(0), &source).unwrap();
            let from = 4000_usize;
            let to = from.strict_add_signed(distance as isize);
            space
                .copy_within(page(0) + from as u64, page(0) + to as u64, len)
                .unwrap();
            let mut expected = source.clone();
            expected.copy_within(from..from + len, to);
            let mut seen = vec![0; source.len()];
            space.read(page(0), &mut seen).unwrap();
            assert!(seen == expected, "{len} bytes by {distance}");
        }
    }
}

#[test]
fn a_copy_ends_where_it_cannot_go_on() {
    let memory = frames(64);
    let mut space = space(&memory);
    map(&mut space, 0, 2);
    let ends = |space: &mut Space, from: u64, to: u64, len: usize| {
        let end = space.copy_within(from, to, len).unwrap_err();
        (end.fault, end.addr, end.done)
    };
    let wanted = (Fault::NotMapped, page(2), 4096);
    assert_eq!(ends(&mut space, page(1), page(0), 5000), wanted);
    // From the end on, because the target begins within the source.
    let wanted = (Fault::NotMapped, page(2), 0);
    assert_eq!(ends(&mut space, page(1), page(1) + 100, 4000), wanted);
    for far in [0, u64::MAX, u64::MAX - 3, 1 << 47, 1 << 63] {
        for (from, to) in [(page(0), far), (far, page(0))] {
            let end = space.copy_within(from, to, usize::MAX).unwrap_err();
            assert_eq!(end.done, 0);
        }
        assert_eq!(space.copy_within(far, far, 0), Ok(()));
    }
}

/// Page tables that reach less far than the layout: what they cannot map is not handed out.
#[test]
fn mappings_end_where_page_tables_end() {
    let memory = frames(64);
    let side = MappedPages::<Tiny<2>, _, _>::new(memory.clone(), NoTlb).unwrap();
    let mut small = AddressSpace::with_pages(Setup::default(), side);
    let last = Tiny::<2>::USER_END - PAGE_SIZE;
    assert_eq!(small.mmap(MmapRequest::anonymous(PAGE_SIZE, RW)), Ok(last));
    assert_eq!(small.write(last, &[1]), Ok(()));
    assert_eq!(small.munmap(last, PAGE_SIZE), Ok(()));
    let too_much = MmapRequest::anonymous(Tiny::<2>::USER_END + PAGE_SIZE, RW);
    assert_eq!(small.mmap(too_much), Err(Errno::ENOMEM));
    small.set_layout(Layout::default());
    assert_eq!(small.layout().task_size, Tiny::<2>::USER_END);

    let large = Layout {
        task_size: 1 << 56,
        ..Layout::default()
    };
    let mut space = space(&memory);
    space.set_layout(large);
    let beyond = MmapRequest {
        addr: 1 << 50,
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
        ..MmapRequest::anonymous(PAGE_SIZE, RW)
    };
    assert_eq!(space.mmap(beyond), Err(Errno::ENOMEM));
}
