//! [`Stage`]: address spaces of four pages, and what threads do to them.

use std::sync::{Arc, OnceLock};

use loom::sync::atomic::{AtomicBool, Ordering};
use maple_mm::paging::{
    Attributes, Beside, Content, FRAME_BYTES, FaultCause, FrameSize, LeafFlags, Liveness, MapError,
    NewPage, NoTlb, PageKind, PageTables, PagingError, PhysMemory, Protection, Sharing, TableRange,
    validate_family,
};

use crate::checker;
use crate::memory::{LoomMemory, Next, Small};
use crate::rcu::{LoomRcu, Patience};

pub(crate) type Tables = PageTables<Small, &'static LoomMemory, Beside<Arc<LoomRcu>>>;

const PAGES: u64 = 4;

const USER: LeafFlags = LeafFlags::RIGHTS.union(LeafFlags::USER);

/// So often a write may fault: what one fault resolves others may undo.
const FAULTS: usize = 8;

/// What threads found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Done {
    Yes,
    /// The mapping of the page is not there any more.
    NotMapped,
}

/// Whether who faults asks again, with the table held, if its mapping is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    Again,
    /// To see that it is found.
    Once,
}

/// A parent, and its child once it has one.
pub(crate) struct Stage {
    pub(crate) memory: &'static LoomMemory,
    patience: Patience,
    pub(crate) parent: Tables,
    child: OnceLock<Tables>,
    /// What a tree of mappings says, for each page.
    mappings: [AtomicBool; PAGES as usize],
    asks: Asks,
    /// What one thread found in pages, for when all is over.
    noted: OnceLock<[Option<u64>; 2]>,
}

impl Stage {
    pub(crate) fn new(next: Next, patience: Patience, asks: Asks) -> Self {
        let memory = LoomMemory::begin(next);
        let rcu = Arc::new(LoomRcu::new(patience));
        let parent = Tables::with_company(memory, Beside::new(rcu));
        Self {
            memory,
            parent: parent.expect("a frame for the root"),
            patience,
            child: OnceLock::new(),
            mappings: [(); PAGES as usize].map(|()| AtomicBool::new(true)),
            asks,
            noted: OnceLock::new(),
        }
    }

    /// Lets loom know of the words that stay where they are.
    pub(crate) fn introduce(&self) {
        for tables in [Some(&self.parent), self.child.get()].into_iter().flatten() {
            for page in 0..PAGES {
                let _ = read(tables, page);
            }
            let _ = (tables.resident(), tables.pgtables_bytes(), tables.pending());
        }
    }

    pub(crate) fn child(&self) -> &Tables {
        self.child.get().expect("it was forked")
    }

    /// What the parent is not, if there is such a one.
    fn spaces(&self) -> Vec<&Tables> {
        let all = [Some(&self.parent), self.child.get()];
        all.into_iter().flatten().collect()
    }

    /// Maps a page that is not there, as a fault does; whoever was faster.
    pub(crate) fn fault(&self, tables: &Tables, page: u64) -> Done {
        // What orders it is the lock of the table.
        let is_mapped = || self.mappings[page as usize].load(Ordering::Relaxed);
        if !is_mapped() {
            return Done::NotMapped;
        }
        let frame = self.memory.allocate(FrameSize::SMALL, Content::Zeroed);
        let new = NewPage {
            frame: frame.expect("there are enough"),
            attributes: Attributes::new(PageKind::Anon, USER),
        };
        let mut gather = tables.gather(NoTlb);
        let at = (page * FRAME_BYTES, self.live(&is_mapped));
        let Err(MapError { kind, frame }) = tables.map_live(at, new, &mut gather) else {
            return Done::Yes;
        };
        self.memory.release(frame);
        match kind {
            PagingError::Occupied => Done::Yes,
            PagingError::Stale => Done::NotMapped,
            other => panic!("{other:?}"),
        }
    }

    fn live<'l>(&self, is_mapped: &'l dyn Fn() -> bool) -> Liveness<'l> {
        match self.asks {
            Asks::Again => Liveness::asked(is_mapped),
            Asks::Once => Liveness::SURE,
        }
    }

    /// Writes to a page as a program does, which faults where it has to.
    pub(crate) fn write(&self, tables: &Tables, page: u64, number: u64) -> Done {
        for _ in 0..FAULTS {
            let written = tables.write(page * FRAME_BYTES, &number.to_ne_bytes());
            let Err(interrupted) = written else {
                return Done::Yes;
            };
            let done = match interrupted.fault.cause {
                FaultCause::NotPresent => self.fault(tables, page),
                FaultCause::Protection => self.resolve(tables, page),
            };
            if done == Done::NotMapped {
                return done;
            }
        }
        panic!("it faults for ever");
    }

    /// Lets a page be written.
    pub(crate) fn resolve(&self, tables: &Tables, page: u64) -> Done {
        let is_mapped = || self.mappings[page as usize].load(Ordering::Relaxed);
        if !is_mapped() {
            return Done::NotMapped;
        }
        let at = (page * FRAME_BYTES, self.live(&is_mapped));
        let mut gather = tables.gather(NoTlb);
        match tables.resolve_live(at, Sharing::Private.into(), &mut gather) {
            // It went: to be mapped anew, or not.
            Ok(_) | Err(PagingError::NotMapped) => Done::Yes,
            Err(PagingError::Stale) => Done::NotMapped,
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Takes the mapping of a page out, then the page; and its table, if no mapping is left
    /// between `floor` and `ceiling`.
    pub(crate) fn unmap(&self, page: u64, neighbours: (u64, u64)) {
        // What orders it are the locks of the tables.
        self.mappings[page as usize].store(false, Ordering::Relaxed);
        let start = page * FRAME_BYTES;
        let addresses = start..start + FRAME_BYTES;
        let mut gather = self.parent.gather(NoTlb);
        let zapped = self.parent.zap(addresses.clone(), &mut gather);
        zapped.expect("there are enough frames");
        let tables = TableRange {
            addresses,
            floor: neighbours.0 * FRAME_BYTES,
            ceiling: neighbours.1 * FRAME_BYTES,
        };
        self.parent.free_tables(&tables, &mut gather);
    }

    /// Takes the right to write from the mapping of a page, then from the page.
    pub(crate) fn protect(&self, page: u64) {
        // What orders it are the locks of the tables.
        self.mappings[page as usize].store(false, Ordering::Relaxed);
        let start = page * FRAME_BYTES;
        let only = Protection {
            rights: LeafFlags::READ,
            key: None,
        };
        let mut gather = self.parent.gather(NoTlb);
        let protected = self
            .parent
            .protect(start..start + FRAME_BYTES, only, &mut gather);
        protected.expect("there are enough frames");
    }

    /// Gives a page a mapping, with all rights.
    pub(crate) fn allow(&self, page: u64) {
        self.mappings[page as usize].store(true, Ordering::Relaxed);
    }

    /// Takes all mappings out, then all that is there.
    pub(crate) fn exit(&self, tables: &Tables) {
        if std::ptr::eq(tables, &self.parent) {
            for mapping in &self.mappings {
                mapping.store(false, Ordering::Relaxed);
            }
        }
        tables.clear(&mut tables.gather(NoTlb));
    }

    pub(crate) fn note(&self, pages: [Option<u64>; 2]) {
        self.noted.get_or_init(|| pages);
    }

    pub(crate) fn noted(&self) -> Option<[Option<u64>; 2]> {
        self.noted.get().copied()
    }

    /// Gives the parent a child.
    pub(crate) fn fork(&self) -> &Tables {
        // Readers of its own, so that these do not order what nothing else does.
        let rcu = Arc::new(LoomRcu::new(self.patience));
        let child = Tables::with_company(self.memory, Beside::new(rcu));
        let mut child = child.expect("a frame for the root");
        let mut gather = self.parent.gather(NoTlb);
        let shared = self.parent.share_all(&mut child, &mut gather);
        shared.expect("the processor can");
        self.child.get_or_init(|| child)
    }

    /// All is over: what is there is sound, and nothing is left when it goes.
    pub(crate) fn settle(self) {
        checker::stop_watching();
        for tables in self.spaces() {
            tables.barrier();
        }
        let sound = validate_family(&self.spaces(), |_| 0);
        assert_eq!(sound, Ok(()), "was not kept");
        let Self { parent, child, .. } = self;
        drop((parent, child));
        assert_eq!(self.memory.in_use(), 0, "frames were leaked");
    }
}

/// What a page holds, if there is one.
pub(crate) fn read(tables: &Tables, page: u64) -> Option<u64> {
    let mut word = [0; 8];
    let done = tables.read(page * FRAME_BYTES, &mut word);
    done.ok().map(|()| u64::from_ne_bytes(word))
}
