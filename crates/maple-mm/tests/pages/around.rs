//! Reading a file maps what is at hand around it.

use crate::common::paged::{
    Memory, REGULAR, Space, check, contents, frames, get, opened, set, space,
};
use crate::common::{map_as, of_file, page};
use maple_mm::paging::{Frame, Mapped, PhysMemory};
use maple_mm::{
    Access, BusError, FileKind, FilePages, FilePagesRef, FileRef, MemoryFile, MmapRequest, abi::*,
};

const RW: u64 = PROT_READ | PROT_WRITE;

/// The page that an entry of a table is for, in the tables of `BASE`.
const fn entry(index: u64) -> u64 {
    256 + index
}

/// The pages that are there, counted from `first`.
fn present(space: &Space, first: u64) -> Vec<u64> {
    let pages = space.page_side().tables().pages(0..1 << 47);
    pages
        .map(|mapped| (mapped.start - page(first)) / PAGE_SIZE)
        .collect()
}

fn mapped(space: &Space, index: u64) -> Mapped {
    space.page_side().tables().entry(page(index)).unwrap()
}

fn shared(file: &FileRef, pages: std::ops::Range<u64>) -> MmapRequest {
    MmapRequest {
        flags: MAP_SHARED | MAP_FIXED,
        prot: RW,
        ..of_file(file, pages, 0)
    }
}

#[test]
fn the_window_is_clipped_as_the_kernel_clips_it() {
    // The entry that the mapping begins at, its length, its place in a file of 128 pages, the
    // page read: what Linux 6.18 has mapped then.
    let cases = [
        ((0, 100, 3, 20), 16..32),
        ((5, 100, 0, 0), 0..16),
        ((5, 100, 0, 3), 0..16),
        ((5, 100, 0, 20), 11..27),
        ((5, 4, 0, 1), 0..4),
        ((0, 20, 0, 18), 16..20),
        ((505, 40, 0, 3), 0..7),
        ((505, 40, 0, 10), 7..23),
        ((503, 40, 0, 2), 0..9),
        ((0, 40, 120, 4), 0..8),
        ((0, 40, 105, 20), 16..23),
    ];
    let memory = frames(256);
    let pages = contents(&memory, 128, 100);
    let file = opened(1, REGULAR, &pages);
    for ((begin, len, offset, read), expected) in cases {
        let mut space = space(&memory);
        let first = entry(begin);
        map_as(&mut space, of_file(&file, first..first + len, offset));
        assert_eq!(get(&mut space, page(first + read)), 100 + offset + read);
        let seen = present(&space, first);
        assert_eq!(seen, expected.clone().collect::<Vec<_>>());
        let resident = space.statistics().resident;
        assert_eq!((resident.file, resident.anon), (seen.len() as u64, 0));
        for index in expected {
            assert_eq!(get(&mut space, page(first + index)), 100 + offset + index);
        }
        check(&[&space]);
    }
}

/// Two spaces that map the 16 pages of a file, shared and as copies, and wrote to the fifth.
fn written(memory: &Memory, pages: &FilePagesRef) -> [Space; 2] {
    let file = opened(1, REGULAR, pages);
    let copies = MmapRequest {
        prot: RW,
        ..of_file(&file, 0..16, 0)
    };
    [shared(&file, 0..16), copies].map(|request| {
        let mut space = space(memory);
        map_as(&mut space, request);
        set(&mut space, page(4) + 8, 7);
        space
    })
}

#[test]
fn writing_maps_one_page() {
    let memory = frames(64);
    let pages = contents(&memory, 16, 100);
    for space in written(&memory, &pages) {
        assert_eq!(present(&space, 0), [4]);
    }
}

#[test]
fn a_fetch_is_a_read_and_shared_memory_counts_as_such() {
    let memory = frames(64);
    let pages = contents(&memory, 16, 100);
    let file = opened(1, FileKind::Shmem, &pages);
    let mut space = space(&memory);
    let mut request = of_file(&file, 0..10, 0);
    request.prot = PROT_READ | PROT_EXEC;
    map_as(&mut space, request);
    space.fault(page(4), Access::Execute).unwrap();
    let resident = space.statistics().resident;
    assert_eq!((resident.shmem, resident.file), (10, 0));
    check(&[&space]);
}

#[test]
fn what_is_there_already_stays_as_it_is() {
    let memory = frames(64);
    let pages = contents(&memory, 16, 100);
    for mut space in written(&memory, &pages) {
        let written = mapped(&space, 4);
        space.fault(page(6), Access::Read).unwrap();
        assert_eq!(present(&space, 0), (0..16).collect::<Vec<_>>());
        assert_eq!(mapped(&space, 4), written);
        // The first write to a page is to be seen.
        assert!(written.is_writable() && !mapped(&space, 5).is_writable());
        check(&[&space]);
    }
}

#[test]
fn only_what_is_at_hand_is_mapped_and_nothing_is_allocated() {
    let memory = frames(64);
    let file = MemoryFile::new(memory.clone(), 40 * PAGE_SIZE);
    for index in [2, 5, 20] {
        file.write(index * PAGE_SIZE, &[1]).unwrap();
    }
    let pages = FilePagesRef::new(file).unwrap();
    let mut space = space(&memory);
    map_as(
        &mut space,
        of_file(&opened(1, REGULAR, &pages), entry(0)..entry(40), 0),
    );
    let used = memory.in_use();
    space.fault(page(entry(4)), Access::Read).unwrap();
    assert_eq!(present(&space, entry(0)), [2, 4, 5]);
    // Three tables, and the page that was read.
    assert_eq!(memory.in_use(), used + 4);
}

#[test]
fn the_last_frames_suffice_for_a_read() {
    let memory = frames(64);
    let pages = contents(&memory, 40, 100);
    let mut space = space(&memory);
    let file = opened(1, REGULAR, &pages);
    map_as(&mut space, of_file(&file, 250..290, 0));
    let mut kept = Vec::new();
    while let Ok(frame) = memory.allocate(
        maple_mm::paging::FrameSize::SMALL,
        maple_mm::paging::Content::Any,
    ) {
        kept.push(frame);
    }
    for frame in kept.drain(..3) {
        memory.release(frame);
    }
    // Three tables for the first page; there is none for what lies behind their end.
    assert_eq!(get(&mut space, page(252)), 102);
    assert_eq!(present(&space, 250), (0..6).collect::<Vec<_>>());
    let beyond = space.fault(page(256), Access::Read);
    assert_eq!(beyond, Err(maple_mm::Fault::OutOfMemory));
    assert_eq!(present(&space, 250), (0..6).collect::<Vec<_>>());
    for frame in kept {
        memory.release(frame);
    }
    check(&[&space]);
}

/// A file that is not asked for its neighbours.
#[derive(Debug)]
struct OneByOne<F>(F);

impl<F: FilePages> FilePages for OneByOne<F> {
    fn page(&self, index: u64) -> Result<Frame, BusError> {
        self.0.page(index)
    }
}

#[test]
fn a_file_that_has_nothing_at_hand_is_mapped_page_by_page() {
    let memory = frames(64);
    let file = MemoryFile::new(memory.clone(), 16 * PAGE_SIZE);
    file.write(0, &[1; 16 * 4096]).unwrap();
    let pages = FilePagesRef::new(OneByOne(file)).unwrap();
    let mut space = space(&memory);
    map_as(
        &mut space,
        of_file(&opened(1, REGULAR, &pages), entry(0)..entry(16), 0),
    );
    for index in [3, 9] {
        space.fault(page(entry(index)), Access::Read).unwrap();
    }
    assert_eq!(present(&space, entry(0)), [3, 9]);
}

#[test]
fn neighbours_come_into_a_table_that_was_shared_a_moment_ago() {
    let memory = frames(64);
    let pages = contents(&memory, 16, 100);
    let file = opened(1, REGULAR, &pages);
    let mut parent = space(&memory);
    map_as(&mut parent, shared(&file, 0..16));
    set(&mut parent, page(4) + 8, 7);
    let mut child = parent.fork().unwrap();
    child.fault(page(1), Access::Read).unwrap();
    assert_eq!(present(&child, 0), (0..16).collect::<Vec<_>>());
    assert_eq!(present(&parent, 0), [4]);
    check(&[&parent, &child]);
}
