//! Page tables without an address space, for what no call does: entries changed one by one, and
//! what the processor notes in them.

use maple_mm::FilePagesRef;
use maple_mm::FileRef;
use maple_mm::paging::{
    Attributes, Content, FlagChange, Frame, FrameSize, LeafFlags, NewPage, PageKind, PageTables,
    PhysMemory, Resolved, Sharing, validate_family,
};

use crate::common::paged::{Memory, Quad};
use crate::guest;
use crate::host::{Case, DATA, HUGE, Host, PAGE, REFUSED_READ, REFUSED_WRITE, case};
use crate::machine::{Exit, Fault, Machine, Processor, Routine};
use crate::tlb::GuestTlb;

pub(crate) fn all() -> Vec<Case> {
    vec![
        case("a page that becomes the kernel's", becomes_the_kernels),
        case("the processor's notes", notes),
        case("the processor's notes in shared tables", shared_notes),
        case("an explicitly huge page is copied whole", explicitly_huge),
    ]
}

const READ_WRITE: LeafFlags = LeafFlags::READ
    .union(LeafFlags::WRITE)
    .union(LeafFlags::USER);
const NOTES: LeafFlags = LeafFlags::ACCESSED.union(LeafFlags::DIRTY);

/// Tables with the kernel half and the routines.
struct Bare {
    tables: PageTables<Quad, Memory>,
    processor: Processor,
    tlb: GuestTlb,
}

impl Bare {
    fn new(host: &Host) -> Self {
        let mut bare = Self::empty(host);
        let text = FileRef::pages(&host.text).expect("it has pages");
        let flags = LeafFlags::READ | LeafFlags::EXECUTE | LeafFlags::USER;
        bare.map(
            guest::TEXT,
            NewPage {
                frame: text.page(0).expect("its only page"),
                attributes: Attributes::new(PageKind::File, flags),
            },
        );
        bare
    }

    fn empty(host: &Host) -> Self {
        let tables = PageTables::new(Memory::clone(&host.memory)).expect("a frame");
        let processor = Processor::clone(&host.processor);
        processor.borrow().guest().enter_into(&tables);
        let mut tlb = GuestTlb::new(&processor);
        tlb.belong_to(tables.root());
        Self {
            tables,
            processor,
            tlb,
        }
    }

    fn map(&mut self, addr: u64, page: NewPage) {
        let mut gather = self.tables.gather(&self.tlb);
        self.tables.map(addr, page, &mut gather).expect("a place");
    }

    /// Maps a private page of zeroes.
    fn map_new(&mut self, size: FrameSize, flags: LeafFlags) {
        let frame: Frame = self
            .tables
            .memory()
            .allocate(size, Content::Zeroed)
            .expect("a frame");
        let attributes = Attributes::new(PageKind::Anon, flags);
        self.map(DATA, NewPage { frame, attributes });
    }

    fn share_with(&mut self, child: &mut Self) {
        let mut gather = self.tables.gather(&self.tlb);
        let shared = self.tables.share_all(&mut child.tables, &mut gather);
        shared.expect("it has no tables yet");
    }

    fn clear(&mut self, flags: LeafFlags) {
        let change = FlagChange {
            set: LeafFlags::empty(),
            clear: flags,
        };
        let mut gather = self.tables.gather(&self.tlb);
        let changed = self.tables.set_flags(DATA, change, &mut gather);
        changed.expect("it is mapped");
    }

    fn resolve_write(&mut self, addr: u64) -> Resolved {
        let mut gather = self.tables.gather(&self.tlb);
        let resolved = self
            .tables
            .resolve_write(addr, Sharing::Private, &mut gather);
        resolved.expect("frames enough")
    }

    fn noted(&self) -> LeafFlags {
        let page = self.tables.entry(DATA).expect("it is mapped");
        page.leaf.attributes.flags & NOTES
    }

    fn load(&mut self, addr: u64) -> Exit {
        self.run((guest::LOAD, addr, 0))
    }

    fn store(&mut self, addr: u64, value: u64) -> Exit {
        self.run((guest::STORE, addr, value))
    }

    fn run(&mut self, (rip, rbx, rax): (u64, u64, u64)) -> Exit {
        let routine = Routine {
            rip,
            rbx,
            rax,
            rcx: 0,
        };
        Machine::run(
            &mut self.processor.borrow_mut(),
            self.tables.root(),
            routine,
        )
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        Machine::leave(&mut self.processor.borrow_mut(), self.tables.root());
    }
}

#[track_caller]
fn check(host: &Host, all: &[&Bare]) {
    let text: &FilePagesRef = FileRef::pages(&host.text).expect("it has pages");
    let text = text.page(0).expect("its only page");
    let at = text.addr();
    host.memory.release(text);
    let tables: Vec<_> = all.iter().map(|bare| &bare.tables).collect();
    assert_eq!(
        validate_family(&tables, |addr| u32::from(addr == at)),
        Ok(())
    );
}

const fn refused(addr: u64, code: u64) -> Exit {
    Exit::Fault(Fault { addr, code })
}

fn becomes_the_kernels(host: &Host) {
    let mut bare = Bare::new(host);
    bare.map_new(FrameSize::SMALL, READ_WRITE);
    assert_eq!(bare.store(DATA, 1), Exit::Called(1));
    bare.clear(LeafFlags::USER);
    assert_eq!(bare.load(DATA), refused(DATA, REFUSED_READ));
    assert_eq!(bare.store(DATA, 2), refused(DATA, REFUSED_WRITE));
    check(host, &[&bare]);
}

fn notes(host: &Host) {
    let mut bare = Bare::new(host);
    bare.map_new(FrameSize::SMALL, READ_WRITE);
    assert_eq!(bare.noted(), LeafFlags::empty());
    assert_eq!(bare.load(DATA), Exit::Called(0));
    assert_eq!(bare.noted(), LeafFlags::ACCESSED);
    assert_eq!(bare.store(DATA, 1), Exit::Called(1));
    assert_eq!(bare.noted(), NOTES);
    bare.clear(NOTES);
    assert_eq!(bare.noted(), LeafFlags::empty());
    assert_eq!(bare.store(DATA, 2), Exit::Called(2));
    assert_eq!(bare.noted(), NOTES);
}

fn shared_notes(host: &Host) {
    let mut parent = Bare::new(host);
    parent.map_new(FrameSize::SMALL, READ_WRITE);
    let mut child = Bare::empty(host);
    parent.share_with(&mut child);
    assert_eq!(parent.noted(), LeafFlags::empty());
    assert_eq!(child.load(DATA), Exit::Called(0));
    assert_eq!(parent.noted(), LeafFlags::ACCESSED, "it is the same entry");
    assert_eq!(child.store(DATA, 2), refused(DATA, REFUSED_WRITE));
    assert_eq!(parent.noted(), LeafFlags::ACCESSED, "nothing was written");
    check(host, &[&parent, &child]);
}

fn explicitly_huge(host: &Host) {
    let mut parent = Bare::new(host);
    parent.map_new(FrameSize::HUGE, READ_WRITE | LeafFlags::EXPLICIT);
    let last = DATA + HUGE - PAGE;
    assert_eq!(parent.store(last, 1), Exit::Called(1));
    let mut child = Bare::empty(host);
    parent.share_with(&mut child);
    assert_eq!(child.store(DATA, 2), refused(DATA, REFUSED_WRITE));
    assert_eq!(child.resolve_write(DATA), Resolved::Copied);
    assert_eq!(child.store(DATA, 2), Exit::Called(2));
    // No fault for the other parts, and their contents are there.
    assert_eq!(child.load(last), Exit::Called(1));
    assert_eq!(child.store(last, 3), Exit::Called(3));
    assert_eq!(
        (parent.load(DATA), parent.load(last)),
        (Exit::Called(0), Exit::Called(1))
    );
    assert_eq!(child.tables.entry(DATA).expect("it is mapped").size, HUGE);
    assert_eq!(parent.resolve_write(last), Resolved::Reused);
    assert_eq!(parent.store(DATA, 4), Exit::Called(4));
    assert_eq!(child.load(DATA), Exit::Called(2));
    check(host, &[&parent, &child]);
}
