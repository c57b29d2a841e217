//! What the tests by behaviour share.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fmt::Write;

/// Nothing waits where nobody looks, and nothing is allocated.
#[path = "../../../maple-tree/tests/beside/eager_rcu.rs"]
pub(crate) mod eager_rcu;
pub(crate) mod imprint;
pub(crate) mod owner;
pub(crate) mod paged;
pub(crate) mod random;

use maple_mm::{
    Access, AddressSpace, File, FileAccess, FileId, FileKind, FileRef, MmapFile, MmapRequest,
    PageSide, VmFlags, abi::*,
};

/// Where the tests map; pages are counted from here.
pub(crate) const BASE: u64 = 0x10_0000;

/// Everything about a space that a call could change, as text.
pub(crate) fn state<P: PageSide>(space: &AddressSpace<P>) -> String {
    let mut text = String::new();
    for vma in space.vmas() {
        writeln!(text, "{vma:?}").unwrap();
    }
    writeln!(text, "{:?} {:?}", space.statistics(), space.layout()).unwrap();
    let system = space.system();
    writeln!(
        text,
        "{:?} {} {:?}",
        space.default_flags(),
        system.committed(),
        system.huge_pages()
    )
    .unwrap();
    text
}

/// The address of page `index`.
pub(crate) const fn page(index: u64) -> u64 {
    BASE + index * PAGE_SIZE
}

/// Private memory over pages `first..end`.
pub(crate) fn memory(first: u64, end: u64, prot: u64) -> MmapRequest {
    MmapRequest {
        addr: page(first),
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
        ..MmapRequest::anonymous((end - first) * PAGE_SIZE, prot)
    }
}

/// Readable and writable private memory over pages `first..end`.
#[track_caller]
pub(crate) fn map<P: PageSide>(space: &mut AddressSpace<P>, first: u64, end: u64) {
    map_as(space, memory(first, end, PROT_READ | PROT_WRITE));
}

#[track_caller]
pub(crate) fn map_as<P: PageSide>(space: &mut AddressSpace<P>, request: MmapRequest) {
    space.mmap(request).unwrap();
    space.validate().unwrap();
}

/// Writes to page `index`.
#[track_caller]
pub(crate) fn write<P: PageSide>(space: &mut AddressSpace<P>, index: u64) {
    space.fault(page(index), Access::Write).unwrap();
}

/// The mapped ranges in pages from `BASE`, `3-5` for pages 3 and 4.
#[track_caller]
pub(crate) fn ranges<P: PageSide>(space: &AddressSpace<P>) -> String {
    space.validate().unwrap();
    let pages = |addr: u64| (addr - BASE) / PAGE_SIZE;
    let texts: Vec<String> = space
        .vmas()
        .map(|vma| format!("{}-{}", pages(vma.start()), pages(vma.end())))
        .collect();
    texts.join(" ")
}

/// The flags of the mapping at page `index`.
#[track_caller]
pub(crate) fn flags<P: PageSide>(space: &AddressSpace<P>, index: u64) -> VmFlags {
    space.vma_at(page(index)).unwrap().flags()
}

/// An open file on disk.
pub(crate) fn file(id: u64, access: FileAccess) -> FileRef {
    FileRef::new(File {
        id: FileId(id),
        device: (0xfe, 1),
        inode: 77,
        name: "/tmp/file".into(),
        kind: FileKind::Regular { huge_aligned: true },
        access,
    })
    .unwrap()
}

/// A mapping of `file` over pages `first..end`, from the file's page `offset` on.
pub(crate) fn of_file(file: &FileRef, pages: std::ops::Range<u64>, offset: u64) -> MmapRequest {
    MmapRequest {
        flags: MAP_PRIVATE | MAP_FIXED,
        file: MmapFile::Open(file.clone()),
        offset: offset * PAGE_SIZE,
        ..memory(pages.start, pages.end, PROT_READ)
    }
}
