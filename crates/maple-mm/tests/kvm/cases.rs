//! One address space on the processor: demand mapping, protection, huge pages, flushing.

use maple_mm::paging::{
    Attributes, Content, FlagChange, FrameSize, LeafFlags, NewPage, PageKind, PhysMemory,
    Protection, Resolved, TableRange, X86_64,
};

use crate::guest;
use crate::machine::{Machine, Memory, memory};
use crate::process::{Outcome, Process};

pub(crate) const DATA: u64 = 0x7000_0000_0000;
pub(crate) const PAGE: u64 = 4096;
pub(crate) const HUGE: u64 = 2 << 20;
pub(crate) const READ_WRITE: LeafFlags = LeafFlags::READ.union(LeafFlags::WRITE);

/// What the processor reports: user mode always, and what else.
pub(crate) const ABSENT_READ: u64 = 0b0_0100;
pub(crate) const ABSENT_WRITE: u64 = 0b0_0110;
pub(crate) const ABSENT_FETCH: u64 = 0b1_0100;
pub(crate) const REFUSED_READ: u64 = 0b0_0101;
pub(crate) const REFUSED_WRITE: u64 = 0b0_0111;
pub(crate) const REFUSED_FETCH: u64 = 0b1_0101;

pub(crate) type Case = (&'static str, fn());

pub(crate) const ALL: &[Case] = &[
    ("demand mapping", demand_mapping),
    ("protection", protection),
    ("pages of the kernel", pages_of_the_kernel),
    ("executing what was written", executing),
    ("a huge page", a_huge_page),
    ("a zap is seen after a flush", a_zap_is_seen),
    (
        "tables that were freed are not used",
        freed_tables_are_not_used,
    ),
    ("the processor's notes", notes_of_the_processor),
    ("moved pages", moved_pages),
];

/// Runs a case on a machine of its own; nothing may be left of it.
pub(crate) fn on_machine(case: impl for<'m> FnOnce(&mut Machine<'m>)) {
    let memory: Memory = memory(16 * 1024);
    let mut machine = Machine::new(&memory);
    case(&mut machine);
    drop(machine);
    assert_eq!(memory.in_use(), 0, "frames were leaked");
}

#[track_caller]
pub(crate) fn expect(outcome: &Outcome, value: Option<u64>, codes: &[u64]) {
    assert_eq!(
        (outcome.value, &outcome.codes[..]),
        (value, codes),
        "{outcome:?}"
    );
}

fn demand_mapping() {
    on_machine(|machine| {
        let mut process = Process::new(machine);
        process.area(DATA..DATA + HUGE, READ_WRITE);
        let addr = DATA + 5 * PAGE + 8;
        expect(&process.load(machine, addr), Some(0), &[ABSENT_READ]);
        let written = process.store(machine, addr, 42);
        expect(&written, Some(42), &[REFUSED_WRITE]);
        assert_eq!(written.resolved, [Resolved::Zeroed]);
        expect(&process.load(machine, addr), Some(42), &[]);
        expect(
            &process.store(machine, addr + PAGE, 43),
            Some(43),
            &[ABSENT_WRITE],
        );
        expect(&process.load(machine, addr + PAGE), Some(43), &[]);
        expect(&process.load(machine, DATA - 8), None, &[ABSENT_READ]);
        assert_eq!(process.tables.resident().anon, 2);
        assert_eq!(
            process.tables.fetch_u64(addr),
            Ok(42),
            "the host sees it, too"
        );
    });
}

fn protection() {
    on_machine(|machine| {
        let mut process = Process::new(machine);
        process.area(DATA..DATA + HUGE, READ_WRITE);
        process.store(machine, DATA, 1);
        change_rights(&mut process, machine, LeafFlags::READ);
        expect(&process.load(machine, DATA), Some(1), &[]);
        expect(&process.store(machine, DATA, 2), None, &[REFUSED_WRITE]);
        expect(&process.jump(machine, DATA), None, &[REFUSED_FETCH]);
        expect(&process.jump(machine, DATA + PAGE), None, &[ABSENT_FETCH]);
        change_rights(&mut process, machine, LeafFlags::empty());
        expect(&process.load(machine, DATA), None, &[ABSENT_READ]);
        expect(&process.store(machine, DATA, 2), None, &[ABSENT_WRITE]);
        assert_eq!(process.tables.resident().anon, 1);
        change_rights(&mut process, machine, READ_WRITE);
        expect(&process.load(machine, DATA), Some(1), &[]);
        let written = process.store(machine, DATA, 3);
        expect(&written, Some(3), &[REFUSED_WRITE]);
        assert_eq!(written.resolved, [Resolved::Reused]);
    });
}

fn change_rights<'m>(process: &mut Process<'m>, machine: &mut Machine<'m>, rights: LeafFlags) {
    process.areas[0].rights = rights;
    let range = process.areas[0].addresses.clone();
    let protection = Protection { rights, key: None };
    process.with_tlb(machine, |tables, gather| {
        tables
            .protect(range, protection, gather)
            .expect("frames enough");
    });
}

fn pages_of_the_kernel() {
    on_machine(|machine| {
        let mut process = Process::new(machine);
        process.area(DATA..DATA + PAGE, READ_WRITE);
        process.store(machine, DATA, 1);
        process.areas.clear();
        process.with_tlb(machine, |tables, gather| {
            let change = FlagChange {
                set: LeafFlags::empty(),
                clear: LeafFlags::USER,
            };
            tables
                .set_flags(DATA, change, gather)
                .expect("frames enough");
        });
        expect(&process.load(machine, DATA), None, &[REFUSED_READ]);
        expect(
            &process.load(machine, guest::STACK_TOP - 8),
            None,
            &[REFUSED_READ],
        );
        expect(&process.jump(machine, guest::CODE), None, &[REFUSED_FETCH]);
    });
}

fn executing() {
    on_machine(|machine| {
        let mut process = Process::new(machine);
        process.area(DATA..DATA + PAGE, LeafFlags::RIGHTS);
        process.store(machine, DATA, guest::THROUGH_WORD);
        expect(&process.jump(machine, DATA), Some(0), &[]);
    });
}

fn a_huge_page() {
    on_machine(|machine| {
        let mut process = Process::new(machine);
        process.huge_area(DATA..DATA + HUGE, READ_WRITE);
        expect(
            &process.store(machine, DATA + HUGE - 8, 7),
            Some(7),
            &[ABSENT_WRITE],
        );
        for page in 0..512 {
            let addr = DATA + page * PAGE;
            expect(&process.store(machine, addr, page), Some(page), &[]);
        }
        let entry = process.tables.entry(DATA).expect("it is mapped");
        assert_eq!(entry.size, HUGE);
        assert!(entry.leaf.attributes.flags.contains(LeafFlags::DIRTY));
        process.areas.clear();
        process.with_tlb(machine, |tables, gather| {
            tables
                .zap(DATA + PAGE..DATA + 3 * PAGE, gather)
                .expect("frames enough");
        });
        expect(&process.load(machine, DATA), Some(0), &[]);
        expect(&process.load(machine, DATA + PAGE), None, &[ABSENT_READ]);
        expect(
            &process.load(machine, DATA + 2 * PAGE),
            None,
            &[ABSENT_READ],
        );
        expect(&process.load(machine, DATA + 3 * PAGE), Some(3), &[]);
        expect(&process.load(machine, DATA + HUGE - 8), Some(7), &[]);
        assert_eq!(process.tables.resident().anon, 510);
    });
}

fn a_zap_is_seen() {
    on_machine(|machine| {
        let mut process = Process::new(machine);
        process.area(DATA..DATA + HUGE, READ_WRITE);
        for (pages, how) in [(1, "pages"), (33, "pages"), (34, "all")] {
            let range = DATA..DATA + pages * PAGE;
            for addr in range.clone().step_by(PAGE as usize) {
                process.store(machine, addr, addr);
            }
            let log = process.with_tlb(machine, |tables, gather| {
                tables.zap(range.clone(), gather).expect("frames enough");
            });
            assert_eq!(log, [how]);
            for addr in range.step_by(PAGE as usize) {
                expect(&process.load(machine, addr), Some(0), &[ABSENT_READ]);
            }
            process.with_tlb(machine, |tables, gather| {
                tables
                    .zap(DATA..DATA + HUGE, gather)
                    .expect("frames enough");
            });
        }
    });
}

/// The processor remembers tables of upper levels: they are reused for other things at once.
fn freed_tables_are_not_used() {
    on_machine(|machine| {
        let mut process = Process::new(machine);
        process.area(DATA..DATA + HUGE, READ_WRITE);
        for round in 1..20 {
            expect(
                &process.store(machine, DATA, round),
                Some(round),
                &[ABSENT_WRITE],
            );
            let log = process.with_tlb(machine, |tables, gather| {
                tables
                    .zap(DATA..DATA + PAGE, gather)
                    .expect("frames enough");
                let range = TableRange {
                    addresses: DATA..DATA + PAGE,
                    ..TableRange::all::<X86_64<4>>()
                };
                tables.free_tables(&range, gather);
            });
            assert_eq!(log, ["all"]);
            assert_eq!(process.tables.pgtables_bytes(), 3 * PAGE);
            // What was a table has ones in it now, which would map anything.
            let wild: Vec<_> = (0..8)
                .map(|_| {
                    machine
                        .memory
                        .allocate(FrameSize::SMALL, Content::Any)
                        .expect("a frame")
                })
                .inspect(|frame| machine.memory.fill(frame.addr(), frame.size(), !0 >> 1))
                .collect();
            expect(&process.load(machine, DATA), Some(0), &[ABSENT_READ]);
            process.with_tlb(machine, |tables, gather| {
                tables
                    .zap(DATA..DATA + PAGE, gather)
                    .expect("frames enough");
            });
            wild.into_iter()
                .for_each(|frame| machine.memory.release(frame));
        }
    });
}

fn notes_of_the_processor() {
    on_machine(|machine| {
        let mut process = Process::new(machine);
        let page = NewPage {
            frame: machine
                .memory
                .allocate(FrameSize::SMALL, Content::Zeroed)
                .expect("a frame"),
            attributes: Attributes::new(PageKind::Anon, READ_WRITE | LeafFlags::USER),
        };
        process.with_tlb(machine, |tables, gather| {
            tables.map(DATA, page, gather).expect("a place");
        });
        let noted = |process: &Process<'_>| {
            let flags = process
                .tables
                .entry(DATA)
                .expect("it is mapped")
                .leaf
                .attributes
                .flags;
            flags & (LeafFlags::ACCESSED | LeafFlags::DIRTY)
        };
        assert_eq!(noted(&process), LeafFlags::empty());
        process.load(machine, DATA);
        assert_eq!(noted(&process), LeafFlags::ACCESSED);
        expect(&process.store(machine, DATA, 1), Some(1), &[]);
        assert_eq!(noted(&process), LeafFlags::ACCESSED | LeafFlags::DIRTY);
        process.with_tlb(machine, |tables, gather| {
            let change = FlagChange {
                set: LeafFlags::empty(),
                clear: LeafFlags::ACCESSED | LeafFlags::DIRTY,
            };
            tables
                .set_flags(DATA, change, gather)
                .expect("frames enough");
        });
        assert_eq!(noted(&process), LeafFlags::empty());
        process.store(machine, DATA, 2);
        assert_eq!(noted(&process), LeafFlags::ACCESSED | LeafFlags::DIRTY);
    });
}

fn moved_pages() {
    on_machine(|machine| {
        let mut process = Process::new(machine);
        process.area(DATA..DATA + HUGE, READ_WRITE);
        for page in 0..40 {
            process.store(machine, DATA + page * PAGE, page + 1);
        }
        process.areas.clear();
        // By table, then entry by entry.
        let places = [DATA, DATA + 3 * HUGE, DATA + 7 * HUGE + PAGE];
        for (from, to) in [(places[0], places[1]), (places[1], places[2])] {
            process.with_tlb(machine, |tables, gather| {
                let range = maple_mm::paging::MoveRange {
                    from,
                    to,
                    len: HUGE,
                };
                tables.move_range(range, gather).expect("frames enough");
            });
            for page in 0..40 {
                expect(
                    &process.load(machine, from + page * PAGE),
                    None,
                    &[ABSENT_READ],
                );
                expect(
                    &process.load(machine, to + page * PAGE),
                    Some(page + 1),
                    &[],
                );
            }
        }
    });
}
