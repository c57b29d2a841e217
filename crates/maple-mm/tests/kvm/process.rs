//! A process of the guest: page tables, what may be mapped where, and the resolver of its faults.

use std::ops::Range;
use std::sync::atomic::Ordering;

use maple_mm::paging::{
    Attributes, Content, FlushRange, Frame, FrameSize, Gather, LeafFlags, NewPage, PageKind,
    PageTables, PhysMemory, Resolved, Sharing, TlbFlusher, X86_64,
};

use crate::guest;
use crate::machine::{Before, Exit, Fault, Machine, Memory, Routine};

pub(crate) type Tables<'m> = PageTables<X86_64<4>, &'m Memory>;

/// What an address is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) addresses: Range<u64>,
    pub(crate) rights: LeafFlags,
    pub(crate) size: FrameSize,
}

/// What an access came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// RAX at the end; `None` if the last fault was refused.
    pub(crate) value: Option<u64>,
    /// The codes of the faults on the way, the routines' own page aside.
    pub(crate) codes: Vec<u64>,
    /// How write faults on present pages were resolved.
    pub(crate) resolved: Vec<Resolved>,
}

pub(crate) struct Process<'m> {
    pub(crate) tables: Tables<'m>,
    pub(crate) areas: Vec<Area>,
}

/// Tells the guest's processor what to forget, if these are the tables it uses.
pub(crate) struct GuestTlb<'a, 'm> {
    pub(crate) machine: &'a mut Machine<'m>,
    pub(crate) root: u64,
    pub(crate) log: Vec<&'static str>,
}

impl GuestTlb<'_, '_> {
    fn forget(&mut self, before: Before, how: &'static str) {
        self.log.push(how);
        // Without process identifiers, loading another root forgets all.
        if self.machine.root == self.root {
            let idle = Routine {
                rip: guest::IDLE,
                ..Routine::default()
            };
            let exit = self.machine.go(idle, before);
            assert!(matches!(exit, Exit::Called(_)), "{exit:?}");
        }
    }
}

impl TlbFlusher for GuestTlb<'_, '_> {
    fn range(&mut self, range: &FlushRange) {
        if range.is_worth_full_flush() {
            self.full();
            return;
        }
        let before = Before {
            root: 0,
            start: range.addresses.start,
            pages: (range.addresses.end - range.addresses.start) / 4096,
        };
        self.forget(before, "pages");
    }

    fn freed_tables(&mut self, _: &FlushRange) {
        self.full();
    }

    fn full(&mut self) {
        let root = self.root;
        self.forget(
            Before {
                root,
                ..Before::default()
            },
            "all",
        );
    }
}

/// Why an access is refused.
struct Refused;

const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 4;
const PRESENT: u64 = 1;

impl<'m> Process<'m> {
    /// A process that has its routines mapped, and the kernel's half.
    pub(crate) fn new(machine: &mut Machine<'m>) -> Self {
        let mut process = Self {
            tables: PageTables::new(machine.memory).expect("a frame"),
            areas: Vec::new(),
        };
        process.adopt_kernel(machine);
        let page = NewPage {
            frame: machine.memory.share(&machine.guest().routines),
            attributes: Attributes::new(
                PageKind::File,
                LeafFlags::READ | LeafFlags::EXECUTE | LeafFlags::USER,
            ),
        };
        process.with_tlb(machine, |tables, gather| {
            tables
                .map(guest::USER, page, gather)
                .expect("a place for the routines");
        });
        if machine.root == 0 {
            machine.load_root(process.tables.root());
        }
        process
    }

    pub(crate) fn adopt_kernel(&self, machine: &Machine<'_>) {
        let entries = self.tables.kernel_entries();
        entries[255].store(machine.guest().root_entry, Ordering::Relaxed);
    }

    pub(crate) fn area(&mut self, addresses: Range<u64>, rights: LeafFlags) {
        self.areas.push(Area {
            addresses,
            rights,
            size: FrameSize::SMALL,
        });
    }

    pub(crate) fn huge_area(&mut self, addresses: Range<u64>, rights: LeafFlags) {
        self.areas.push(Area {
            addresses,
            rights,
            size: FrameSize::HUGE,
        });
    }

    /// Changes the tables, and lets the processor forget what changed: the log of that.
    pub(crate) fn with_tlb(
        &mut self,
        machine: &mut Machine<'m>,
        change: impl FnOnce(&mut Tables<'m>, &mut Gather<X86_64<4>, &'m Memory, &mut GuestTlb<'_, 'm>>),
    ) -> Vec<&'static str> {
        let mut tlb = GuestTlb {
            root: self.tables.root().as_u64(),
            log: Vec::new(),
            machine,
        };
        let memory = *self.tables.memory();
        let mut gather = Gather::new(memory, &mut tlb);
        change(&mut self.tables, &mut gather);
        gather.finish();
        tlb.log
    }

    pub(crate) fn load(&mut self, machine: &mut Machine<'m>, addr: u64) -> Outcome {
        self.run(machine, (guest::LOAD, addr, 0))
    }

    pub(crate) fn store(&mut self, machine: &mut Machine<'m>, addr: u64, value: u64) -> Outcome {
        self.run(machine, (guest::STORE, addr, value))
    }

    pub(crate) fn jump(&mut self, machine: &mut Machine<'m>, addr: u64) -> Outcome {
        self.run(machine, (guest::JUMP, addr, 0))
    }

    fn run(&mut self, machine: &mut Machine<'m>, (rip, rbx, rax): (u64, u64, u64)) -> Outcome {
        let routine = Routine { rip, rax, rbx };
        let mut outcome = Outcome {
            value: None,
            codes: Vec::new(),
            resolved: Vec::new(),
        };
        for _ in 0..8 {
            let root = self.tables.root().as_u64();
            let before = Before {
                root: if machine.root == root { 0 } else { root },
                ..Before::default()
            };
            match machine.go(routine, before) {
                Exit::Called(value) => {
                    outcome.value = Some(value);
                    return outcome;
                }
                Exit::Fault(fault) => {
                    outcome.codes.push(fault.code);
                    if self.resolve(machine, fault, &mut outcome.resolved).is_err() {
                        return outcome;
                    }
                }
            }
        }
        panic!("it faults for ever: {outcome:?}");
    }

    fn resolve(
        &mut self,
        machine: &mut Machine<'m>,
        fault: Fault,
        resolved: &mut Vec<Resolved>,
    ) -> Result<(), Refused> {
        let area = self
            .areas
            .iter()
            .find(|area| area.addresses.contains(&fault.addr));
        let area = area.ok_or(Refused)?.clone();
        let needed = match fault.code & (WRITE | FETCH) {
            0 => LeafFlags::READ,
            WRITE => LeafFlags::WRITE,
            _ => LeafFlags::EXECUTE,
        };
        if !area.rights.contains(needed) {
            return Err(Refused);
        }
        let start = fault.addr & !(area.size.bytes() - 1);
        self.with_tlb(machine, |tables, gather| {
            if fault.code & PRESENT != 0 {
                let done = tables.resolve_write(fault.addr, Sharing::Private, gather);
                resolved.push(done.expect("frames enough"));
            } else if needed == LeafFlags::READ && area.size == FrameSize::SMALL {
                let flags = area.rights | LeafFlags::USER;
                tables.map_zero_page(start, flags, gather).expect("a place");
            } else {
                let page = fresh(tables, &area);
                tables.map(start, page, gather).expect("a place");
            }
        });
        Ok(())
    }
}

fn fresh(tables: &Tables<'_>, area: &Area) -> NewPage {
    let frame: Frame = tables
        .memory()
        .allocate(area.size, Content::Zeroed)
        .expect("frames enough");
    NewPage {
        frame,
        attributes: Attributes::new(PageKind::Anon, area.rights | LeafFlags::USER),
    }
}
