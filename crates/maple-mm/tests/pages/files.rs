//! Pages of files: seen by all, written by some, and gone when the file ends before them.

use std::sync::Arc;

use crate::common::paged::{
    REGULAR, Space, check, contents, frames, get, opened, set, space, space_in,
};
use crate::common::{map_as, of_file, page};
use maple_mm::paging::PhysMemory;
use maple_mm::{
    Access, Fault, FileKind, MmapFile, MmapRequest, Segment, SegmentAccess, Setup, abi::*, truncate,
};

const RW: u64 = PROT_READ | PROT_WRITE;

fn as_shared(request: MmapRequest) -> MmapRequest {
    MmapRequest {
        flags: MAP_SHARED | MAP_FIXED,
        prot: RW,
        ..request
    }
}

fn as_private(request: MmapRequest) -> MmapRequest {
    MmapRequest {
        prot: RW,
        ..request
    }
}

fn family(memory: &crate::common::paged::Memory) -> [Space; 2] {
    let system = Arc::new(maple_mm::System::new(maple_mm::SystemSettings::default()));
    let setup = || Setup {
        system: system.clone(),
        ..Setup::default()
    };
    [space_in(memory, setup()), space_in(memory, setup())]
}

/// `shmdt` takes all pieces out that an attached segment fell into, and their pages.
#[test]
fn a_segment_in_pieces_is_detached_as_a_whole() {
    let memory = frames(128);
    let mut space = space(&memory);
    let pages = contents(&memory, 5, 100);
    let segment = Segment {
        id: 5,
        key: 0x1234,
        bytes: 5 * PAGE_SIZE,
        device: (0, 1),
        permitted: SegmentAccess::READ | SegmentAccess::WRITE,
        pages: Some(pages),
    };
    let addr = space.shmat(Ok(&segment), 0, 0).unwrap();
    for index in 0..5 {
        assert_eq!(get(&mut space, addr + index * PAGE_SIZE), 100 + index);
    }
    let piece = addr + 2 * PAGE_SIZE;
    space.mprotect(piece, PAGE_SIZE, PROT_READ).unwrap();
    assert_eq!(space.map_count(), 3);
    check(&[&space]);
    space.shmdt(addr).unwrap();
    assert_eq!(space.map_count(), 0);
    assert_eq!(space.statistics().resident.shmem, 0);
    check(&[&space]);
    drop((space, segment));
    assert_eq!(memory.in_use(), 0);
}

#[test]
fn what_one_writes_to_a_shared_mapping_all_see() {
    let memory = frames(128);
    let [mut one, mut two] = family(&memory);
    let pages = contents(&memory, 4, 100);
    let (first, second) = (opened(1, REGULAR, &pages), opened(2, REGULAR, &pages));
    map_as(&mut one, as_shared(of_file(&first, 0..4, 0)));
    map_as(&mut two, as_shared(of_file(&second, 0..4, 0)));
    map_as(&mut two, as_private(of_file(&second, 10..14, 0)));
    assert_eq!(get(&mut two, page(11)), 101);
    set(&mut two, page(12), 5);
    set(&mut one, page(1), 7);
    set(&mut one, page(2), 8);
    assert_eq!((get(&mut two, page(1)), get(&mut two, page(2))), (7, 8));
    // A private page that was only read is the file's; a written one is not.
    assert_eq!((get(&mut two, page(11)), get(&mut two, page(12))), (7, 5));
    check(&[&one, &two]);
    let resident = one.statistics().resident;
    assert_eq!((resident.file, resident.shmem, resident.anon), (2, 0, 0));
}

#[test]
fn shared_memory_outlives_who_made_it() {
    let memory = frames(128);
    let mut parent = space(&memory);
    let addr = parent
        .mmap(MmapRequest {
            flags: MAP_SHARED | MAP_ANONYMOUS,
            ..MmapRequest::anonymous(4 * PAGE_SIZE, RW)
        })
        .unwrap();
    set(&mut parent, addr, 7);
    let mut child = parent.fork().unwrap();
    set(&mut child, addr + PAGE_SIZE, 8);
    assert_eq!(get(&mut parent, addr + PAGE_SIZE), 8);
    assert_eq!(parent.statistics().resident.shmem, 2);
    check(&[&parent, &child]);
    drop(parent);
    assert_eq!(get(&mut child, addr), 7);
    drop(child);
    assert_eq!(memory.in_use(), 0);
}

#[test]
fn a_shorter_file_is_unmapped_everywhere() {
    let memory = frames(256);
    let [mut one, mut two] = family(&memory);
    let pages = contents(&memory, 8, 100);
    let file = opened(1, FileKind::Shmem, &pages);
    for (space, first) in [(&mut one, 0), (&mut two, 100)] {
        // More mappings than one batch takes.
        for index in 0..11 {
            let range = first + 8 * index..first + 8 * index + 8;
            map_as(space, as_shared(of_file(&file, range.clone(), 0)));
            let request = MmapRequest {
                prot: if index % 2 == 0 { RW } else { PROT_READ },
                ..as_shared(of_file(&file, range.clone(), 0))
            };
            map_as(space, request);
            space.fault(page(range.start + 6), Access::Read).unwrap();
        }
        map_as(space, as_private(of_file(&file, first + 90..first + 98, 0)));
        set(space, page(first + 96), 5);
        set(space, page(first + 92), 6);
    }
    let mut child = two.fork().unwrap();
    let bytes = 4 * PAGE_SIZE + 4;
    truncate(&pages, bytes, &mut [&mut one, &mut two, &mut child]).unwrap();
    check(&[&one, &two, &child]);
    for (space, first) in [(&mut one, 0), (&mut two, 100), (&mut child, 100)] {
        assert_eq!(space.fault(page(first + 6), Access::Read), Err(Fault::Bus));
        assert_eq!(space.fault(page(first + 96), Access::Read), Err(Fault::Bus));
        assert_eq!(get(space, page(first + 92)), 6);
        // The rest of the last page is zero.
        assert_eq!(get(space, page(first + 4)), 104);
    }
    // Longer again: what was cut off is zero.
    truncate(&pages, 8 * PAGE_SIZE, &mut [&mut one, &mut two, &mut child]).unwrap();
    assert_eq!(get(&mut one, page(6)), 0);
    assert_eq!(get(&mut two, page(196)), 0);
    drop((one, two, child, pages, file));
    assert_eq!(memory.in_use(), 0);
}

#[test]
fn a_file_that_cannot_be_cut_for_lack_of_memory_stays_whole() {
    let memory = frames(256);
    let mut parent = space(&memory);
    let pages = contents(&memory, 8, 100);
    let file = opened(1, FileKind::Shmem, &pages);
    map_as(&mut parent, as_shared(of_file(&file, 0..8, 0)));
    set(&mut parent, page(6), 7);
    let mut child = parent.fork().unwrap();
    for granted in 0.. {
        memory.fail_after(Some(granted));
        let done = truncate(&pages, PAGE_SIZE, &mut [&mut parent, &mut child]);
        memory.fail_after(None);
        check(&[&parent, &child]);
        if done.is_ok() {
            break;
        }
        assert_eq!(done, Err(maple_mm::Errno::ENOMEM));
        assert_eq!(
            (get(&mut parent, page(6)), get(&mut child, page(6))),
            (7, 7)
        );
    }
    assert_eq!(child.fault(page(6), Access::Read), Err(Fault::Bus));
}

#[test]
fn a_hole_in_a_file_is_zero_for_all() {
    let memory = frames(128);
    let [mut one, mut two] = family(&memory);
    let pages = contents(&memory, 4, 100);
    let file = opened(1, FileKind::Shmem, &pages);
    map_as(&mut one, as_shared(of_file(&file, 0..4, 0)));
    map_as(&mut two, as_shared(of_file(&file, 0..4, 0)));
    assert_eq!(get(&mut two, page(1)), 101);
    one.madvise(page(1), 2 * PAGE_SIZE, MADV_REMOVE).unwrap();
    let seen = [0, 1, 2, 3].map(|index| get(&mut two, page(index)));
    assert_eq!(seen, [100, 0, 0, 103]);
    check(&[&one, &two]);
}

#[test]
fn a_private_mapping_gives_its_copies_up_when_told() {
    let memory = frames(128);
    let mut space = space(&memory);
    let pages = contents(&memory, 4, 100);
    let file = opened(1, REGULAR, &pages);
    map_as(&mut space, as_private(of_file(&file, 0..4, 0)));
    set(&mut space, page(1), 7);
    space
        .madvise(page(0), 4 * PAGE_SIZE, MADV_DONTNEED)
        .unwrap();
    assert_eq!(get(&mut space, page(1)), 101);
}

#[test]
fn a_name_that_is_learned_keeps_the_pages() {
    let memory = frames(128);
    let mut space = space(&memory);
    let pages = contents(&memory, 4, 100);
    let file = opened(1, REGULAR, &pages);
    map_as(&mut space, as_private(of_file(&file, 0..4, 0)));
    let learned = crate::common::file(1, file.access);
    space.set_file(file.id, &learned).unwrap();
    assert_eq!(get(&mut space, page(1)), 101);
    let MmapFile::Open(_) = of_file(&file, 0..1, 0).file else {
        unreachable!("it names the file");
    };
}
