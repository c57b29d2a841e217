//! What a case runs on: memory, a machine, a file with the routines; and what must be left of it.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use maple_mm::paging::PhysMemory;
use maple_mm::{
    FilePagesRef, FileRef, HeapChunks, MemoryFile, MmapFile, MmapRequest, Setup, System,
    SystemSettings, TreeNodes, VmaPool, abi::*,
};
use maple_tree::GlobalNodes;

use crate::common::paged::{Memory, REGULAR, frames, layout, opened};
use crate::guest;
use crate::machine::{Machine, Processor};

/// Where cases map, aligned for huge pages and far from everything else.
pub(crate) const DATA: u64 = 0x7000_0000_0000;
pub(crate) const PAGE: u64 = PAGE_SIZE;
pub(crate) const HUGE: u64 = HUGE_PAGE_SIZE;
pub(crate) const RW: u64 = PROT_READ | PROT_WRITE;

/// What the processor reports: user mode always, and what else.
pub(crate) const ABSENT_READ: u64 = 0b0_0100;
pub(crate) const ABSENT_WRITE: u64 = 0b0_0110;
pub(crate) const ABSENT_FETCH: u64 = 0b1_0100;
pub(crate) const REFUSED_READ: u64 = 0b0_0101;
pub(crate) const REFUSED_WRITE: u64 = 0b0_0111;
pub(crate) const REFUSED_FETCH: u64 = 0b1_0101;

/// A claim, and what shows it.
pub(crate) struct Case {
    pub(crate) name: String,
    run: Box<dyn Fn(&Host)>,
}

pub(crate) fn case(name: impl Into<String>, run: impl Fn(&Host) + 'static) -> Case {
    Case {
        name: name.into(),
        run: Box::new(run),
    }
}

impl Case {
    /// Runs it on a host of its own, of which nothing may be left.
    pub(crate) fn run(&self) {
        let host = Host::new();
        (self.run)(&host);
        host.end();
    }
}

pub(crate) struct Host {
    pub(crate) memory: Memory,
    pub(crate) processor: Processor,
    pub(crate) system: Arc<System>,
    /// The file that all programs run.
    pub(crate) text: FileRef,
    pool: &'static VmaPool,
}

impl Host {
    fn new() -> Self {
        let memory = frames(8192);
        let processor = Rc::new(RefCell::new(Machine::new(&memory)));
        // A pool and nodes of its own: what is kept for later would look like a leak.
        static CHUNKS: HeapChunks = HeapChunks::new(4096);
        let pool: &'static VmaPool = Box::leak(Box::new(VmaPool::new(&CHUNKS)));
        let system = System::new(SystemSettings::default())
            .with_pool(pool)
            .with_nodes(TreeNodes::new(&GlobalNodes));
        let text = MemoryFile::new_in(Arc::clone(&memory), PAGE, system.nodes());
        text.write(0, &guest::routines()).expect("a frame");
        let text = FilePagesRef::new(text).expect("memory for a file");
        Self {
            memory,
            processor,
            system: Arc::new(system),
            text: opened(u64::MAX, REGULAR, &text),
            pool,
        }
    }

    /// What a program starts with.
    pub(crate) fn setup(&self) -> Setup {
        Setup {
            system: Arc::clone(&self.system),
            layout: layout(),
            ..Setup::default()
        }
    }

    /// Every program is gone: so are its frames, tables, mappings, promises and open files.
    #[track_caller]
    fn end(self) {
        assert_eq!(FileRef::count(&self.text), 1, "the text is mapped");
        assert_eq!(self.pool.in_use(), 0, "mappings were leaked");
        assert_eq!(self.system.committed(), 0, "promised pages");
        let memory = Arc::clone(&self.memory);
        drop(self);
        assert_eq!(memory.in_use(), 0, "frames were leaked");
    }
}

/// Private memory at `range`.
pub(crate) fn anonymous(range: Range<u64>, prot: u64) -> MmapRequest {
    MmapRequest {
        addr: range.start,
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
        ..MmapRequest::anonymous(range.end - range.start, prot)
    }
}

/// A file from its begin on at `range`; `share` is `MAP_PRIVATE` or `MAP_SHARED`.
pub(crate) fn of_file(range: Range<u64>, file: &FileRef, share: u64) -> MmapRequest {
    MmapRequest {
        flags: share | MAP_FIXED,
        file: MmapFile::Open(file.clone()),
        ..anonymous(range, RW)
    }
}
