//! Address spaces with pages, and what they are checked against.

use std::collections::BTreeSet;
use std::sync::Arc;

use maple_mm::paging::{
    Arena, ArenaLayout, Beside, Company, NoTlb, PageKind, PageTables, PhysAddr, PhysMemory,
    TlbFlusher, X86_64, validate_family,
};
use maple_mm::{
    AddressSpace, Counted, File, FileAccess, FileId, FileKind, FilePagesRef, FileRef, ForkPlan,
    ForkStrategy, GuestMemory, Layout, MappedPages, MemoryFile, PageStrategy, Setup,
    SharedAddressSpace, TreeNodes, abi::*,
};
use maple_tree::{EpochRcu, GlobalNodes, Rcu};

use super::BASE;

pub(crate) type Memory = Arc<Arena<parking_lot::RawMutex>>;
pub(crate) type Quad = X86_64<4>;
pub(crate) type Side<M = Memory, F = NoTlb> = MappedPages<Quad, M, F>;
pub(crate) type Space<M = Memory, F = NoTlb> = AddressSpace<Side<M, F>>;

/// The same for several threads at once.
pub(crate) type SideBeside<M = Memory, R = EpochRcu> =
    Counted<MappedPages<Quad, M, NoTlb, Beside<R>>>;
pub(crate) type Shared<M = Memory, R = EpochRcu> =
    SharedAddressSpace<SideBeside<M, R>, R, parking_lot::RawMutex>;

/// Pages that page tables lead to.
pub(crate) trait Paging: GuestMemory {
    type Memory: PhysMemory + Clone + Send + 'static;
    type Company: Company<Self::Memory>;

    fn tables(&self) -> &PageTables<Quad, Self::Memory, Self::Company>;
}

impl<M, F, C> Paging for MappedPages<Quad, M, F, C>
where
    M: PhysMemory + Clone + Send + 'static,
    F: TlbFlusher + Clone,
    C: Company<M>,
{
    type Memory = M;
    type Company = C;

    fn tables(&self) -> &PageTables<Quad, M, C> {
        self.tables()
    }
}

impl<P: Paging> Paging for Counted<P> {
    type Memory = P::Memory;
    type Company = P::Company;

    fn tables(&self) -> &PageTables<Quad, P::Memory, P::Company> {
        (**self).tables()
    }
}

/// Frames whose addresses do not begin at zero.
pub(crate) fn frames(frames: u32) -> Memory {
    let base = PhysAddr::new(0x4000_0000);
    Arc::new(Arena::new(ArenaLayout { frames, base }).expect("the host has memory"))
}

/// A heap of no length below the pages that tests map.
pub(crate) fn layout() -> Layout {
    Layout {
        start_brk: BASE - 64 * PAGE_SIZE,
        brk: BASE - 64 * PAGE_SIZE,
        ..Layout::default()
    }
}

pub(crate) fn space_in<M: PhysMemory + Clone + Send + 'static>(
    memory: &M,
    setup: Setup,
) -> Space<M> {
    let side = MappedPages::new(memory.clone(), NoTlb).expect("a frame for the root");
    let layout = layout();
    AddressSpace::with_pages(Setup { layout, ..setup }, side)
}

pub(crate) fn space(memory: &Memory) -> Space {
    space_in(memory, Setup::default())
}

/// An address space that is shared from the beginning; who waits does so for `rcu`.
pub(crate) fn shared<M, R>(memory: &M, rcu: R) -> Shared<M, R>
where
    M: PhysMemory + Clone + Send + 'static,
    R: Rcu + Clone + Send + Sync + 'static,
{
    let space = space_beside(memory, rcu.clone());
    SharedAddressSpace::new(space, rcu).expect("nodes")
}

/// One to share; tables wait for `rcu`.
pub(crate) fn space_beside<M, R>(memory: &M, rcu: R) -> AddressSpace<SideBeside<M, R>>
where
    M: PhysMemory + Clone + Send + 'static,
    R: Rcu + Clone + Send + Sync + 'static,
{
    // Nodes that are kept for later would look like a leak.
    let company = Beside::new(rcu).with_nodes(TreeNodes::new(&GlobalNodes));
    let side = MappedPages::beside(memory.clone(), NoTlb, company).expect("a frame for the root");
    let setup = Setup {
        layout: layout(),
        ..Setup::default()
    };
    AddressSpace::with_pages(setup, Counted::new(side).expect("memory"))
}

/// All ways to fork.
pub(crate) fn plans() -> impl Iterator<Item = ForkPlan> {
    ForkStrategy::ALL.into_iter().flat_map(|mappings| {
        PageStrategy::ALL
            .into_iter()
            .map(move |pages| ForkPlan { mappings, pages })
    })
}

/// An open file with these pages.
pub(crate) fn opened(id: u64, kind: FileKind, pages: &FilePagesRef) -> FileRef {
    let file = File {
        id: FileId(id),
        device: (0xfe, 1),
        inode: id,
        name: "/tmp/file".into(),
        kind,
        access: FileAccess::READ | FileAccess::WRITE,
    };
    FileRef::with_pages(file, pages.clone()).expect("memory for a file")
}

/// A file of `pages` pages; each begins with its number plus `mark`.
pub(crate) fn contents<M: PhysMemory + Clone + Send + 'static>(
    memory: &M,
    pages: u64,
    mark: u64,
) -> FilePagesRef {
    // Nodes that are kept for later would look like a leak.
    let nodes = TreeNodes::new(&GlobalNodes);
    let file = MemoryFile::new_in(memory.clone(), pages * PAGE_SIZE, nodes);
    for index in 0..pages {
        let bytes = (mark + index).to_ne_bytes();
        file.write(index * PAGE_SIZE, &bytes).expect("a frame");
    }
    FilePagesRef::new(file).expect("memory for a file")
}

pub(crate) const REGULAR: FileKind = FileKind::Regular { huge_aligned: true };

/// Everything that must hold for address spaces that share one memory with nobody else. Nobody
/// uses them meanwhile, and what they gave up is back.
#[track_caller]
pub(crate) fn check<P: Paging>(spaces: &[&AddressSpace<P>]) {
    // A page cache has one reference to each page of a file.
    let mut cached = BTreeSet::new();
    for space in spaces {
        assert_eq!(space.validate_pages(), Ok(()));
        for page in space.page_side().tables().pages(0..1 << 47) {
            if matches!(page.leaf.attributes.kind, PageKind::File | PageKind::Shmem) {
                cached.insert(page.leaf.frame);
            }
        }
    }
    let tables: Vec<_> = spaces
        .iter()
        .map(|space| space.page_side().tables())
        .collect();
    let held = |addr| u32::from(cached.contains(&addr));
    assert_eq!(validate_family(&tables, held), Ok(()));
}

/// The word at `addr`, as the program reads it.
#[track_caller]
pub(crate) fn get<P: GuestMemory>(space: &mut AddressSpace<P>, addr: u64) -> u64 {
    let mut bytes = [0; 8];
    space.read(addr, &mut bytes).expect("it can be read");
    u64::from_ne_bytes(bytes)
}

/// Stores a word at `addr`, as the program does.
#[track_caller]
pub(crate) fn set<P: GuestMemory>(space: &mut AddressSpace<P>, addr: u64, word: u64) {
    space
        .write(addr, &word.to_ne_bytes())
        .expect("it can be written");
}
