//! Several address spaces on the processor in turn: copies, shared tables, random runs.

use maple_mm::paging::{CopyRange, Cow, LeafFlags, Resolved, validate_family};
use testkit::SplitMix;

use crate::cases::{
    ABSENT_READ, Case, DATA, HUGE, PAGE, READ_WRITE, REFUSED_WRITE, expect, on_machine,
};
use crate::machine::Machine;
use crate::process::Process;

pub(crate) const ALL: &[Case] = &[
    ("copy on write after an eager fork", || {
        copy_on_write(Fork::Copy);
    }),
    ("copy on write after sharing tables", || {
        copy_on_write(Fork::Share);
    }),
    ("the upper level forbids writing", upper_level_forbids),
    (
        "the processor's notes in shared tables",
        notes_in_shared_tables,
    ),
    ("a huge page in shared tables", huge_page_in_shared_tables),
    ("unmapping one side of shared tables", unmapping_one_side),
    ("random accesses of a family, eager", || {
        random(Fork::Copy);
    }),
    ("random accesses of a family, shared", || {
        random(Fork::Share);
    }),
    ("random accesses of a family, mixed", || {
        random(Fork::Either);
    }),
];

/// How a child gets its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fork {
    Copy,
    Share,
    /// The one or the other, at random.
    Either,
}

fn fork<'m>(parent: &mut Process<'m>, machine: &mut Machine<'m>, how: Fork) -> Process<'m> {
    let mut child = Process {
        tables: maple_mm::paging::PageTables::new(machine.memory).expect("a frame"),
        areas: parent.areas.clone(),
    };
    child.adopt_kernel(machine);
    parent.with_tlb(machine, |tables, gather| {
        let forked = if how == Fork::Share {
            tables.share_all(&mut child.tables, gather)
        } else {
            let copy = CopyRange {
                addresses: 0..1 << 47,
                cow: Cow::Private,
            };
            tables.copy_range(&mut child.tables, &copy, gather)
        };
        forked.expect("frames enough");
    });
    child
}

#[track_caller]
fn check(machine: &Machine<'_>, processes: &[&Process<'_>]) {
    let tables: Vec<_> = processes.iter().map(|process| &process.tables).collect();
    let routines = machine.guest().routines.addr();
    let held = |addr| u32::from(addr == routines);
    assert_eq!(validate_family(&tables, held), Ok(()));
}

fn copy_on_write(how: Fork) {
    on_machine(|machine| {
        let mut parent = Process::new(machine);
        parent.area(DATA..DATA + HUGE, READ_WRITE);
        expect(&parent.store(machine, DATA, 1), Some(1), &[0b110]);
        let mut child = fork(&mut parent, machine, how);
        check(machine, &[&parent, &child]);
        expect(&child.load(machine, DATA), Some(1), &[]);
        expect(&parent.load(machine, DATA), Some(1), &[]);
        let written = child.store(machine, DATA, 2);
        expect(&written, Some(2), &[REFUSED_WRITE]);
        assert_eq!(written.resolved, [Resolved::Copied]);
        check(machine, &[&parent, &child]);
        expect(&parent.load(machine, DATA), Some(1), &[]);
        let written = parent.store(machine, DATA, 3);
        expect(&written, Some(3), &[REFUSED_WRITE]);
        assert_eq!(written.resolved, [Resolved::Reused]);
        expect(&parent.store(machine, DATA, 4), Some(4), &[]);
        expect(&child.load(machine, DATA), Some(2), &[]);
        // What only one side maps now stays its own.
        expect(&child.store(machine, DATA + PAGE, 5), Some(5), &[0b110]);
        expect(&parent.load(machine, DATA + PAGE), Some(0), &[ABSENT_READ]);
        check(machine, &[&parent, &child]);
    });
}

fn upper_level_forbids() {
    on_machine(|machine| {
        let mut parent = Process::new(machine);
        parent.area(DATA..DATA + HUGE, READ_WRITE);
        parent.store(machine, DATA, 1);
        let child = fork(&mut parent, machine, Fork::Share);
        let entry = parent.tables.entry(DATA).expect("it is mapped");
        assert!(entry.leaf.is_writable(), "the leaf allows it");
        assert!(!entry.is_writable(), "the way does not");
        parent.areas.clear();
        expect(&parent.store(machine, DATA, 2), None, &[REFUSED_WRITE]);
        drop(child);
        // Nobody else is there; the right comes back with the next fault.
        expect(&parent.store(machine, DATA, 2), None, &[REFUSED_WRITE]);
        parent.area(DATA..DATA + HUGE, READ_WRITE);
        let written = parent.store(machine, DATA, 2);
        expect(&written, Some(2), &[REFUSED_WRITE]);
        assert_eq!(written.resolved, [Resolved::Reused]);
        assert!(
            parent
                .tables
                .entry(DATA)
                .expect("it is mapped")
                .is_writable()
        );
    });
}

fn notes_in_shared_tables() {
    on_machine(|machine| {
        let mut parent = Process::new(machine);
        parent.area(DATA..DATA + HUGE, READ_WRITE);
        parent.store(machine, DATA, 1);
        parent.with_tlb(machine, |tables, gather| {
            let change = maple_mm::paging::FlagChange {
                set: LeafFlags::empty(),
                clear: LeafFlags::ACCESSED | LeafFlags::DIRTY,
            };
            tables
                .set_flags(DATA, change, gather)
                .expect("frames enough");
        });
        let mut child = fork(&mut parent, machine, Fork::Share);
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
        assert_eq!(noted(&parent), LeafFlags::empty());
        expect(&child.load(machine, DATA), Some(1), &[]);
        assert_eq!(noted(&parent), LeafFlags::ACCESSED, "it is the same entry");
        child.areas.clear();
        expect(&child.store(machine, DATA, 2), None, &[REFUSED_WRITE]);
        assert_eq!(noted(&parent), LeafFlags::ACCESSED, "nothing was written");
        check(machine, &[&parent, &child]);
    });
}

fn huge_page_in_shared_tables() {
    on_machine(|machine| {
        let mut parent = Process::new(machine);
        parent.huge_area(DATA..DATA + HUGE, READ_WRITE);
        for page in 0..512 {
            parent.store(machine, DATA + page * PAGE, page + 1);
        }
        let mut child = fork(&mut parent, machine, Fork::Share);
        let written = child.store(machine, DATA + 9 * PAGE, 99);
        expect(&written, Some(99), &[REFUSED_WRITE]);
        assert_eq!(written.resolved, [Resolved::Copied]);
        for page in 0..512 {
            let expected = if page == 9 { 99 } else { page + 1 };
            expect(
                &child.load(machine, DATA + page * PAGE),
                Some(expected),
                &[],
            );
            expect(
                &parent.load(machine, DATA + page * PAGE),
                Some(page + 1),
                &[],
            );
        }
        check(machine, &[&parent, &child]);
    });
}

fn unmapping_one_side() {
    on_machine(|machine| {
        let mut parent = Process::new(machine);
        parent.area(DATA..DATA + 4 * HUGE, READ_WRITE);
        for page in 0..8 {
            parent.store(machine, DATA + page * HUGE / 2, page + 1);
        }
        let mut child = fork(&mut parent, machine, Fork::Share);
        for side in [&mut parent, &mut child] {
            for page in 0..8 {
                expect(
                    &side.load(machine, DATA + page * HUGE / 2),
                    Some(page + 1),
                    &[],
                );
            }
        }
        // A part of one table, and all of the next.
        let range = DATA + HUGE / 2..DATA + 2 * HUGE;
        child.with_tlb(machine, |tables, gather| {
            tables.zap(range.clone(), gather).expect("frames enough");
        });
        child.areas.clear();
        for page in 0..8 {
            let addr = DATA + page * HUGE / 2;
            if range.contains(&addr) {
                expect(&child.load(machine, addr), None, &[ABSENT_READ]);
            } else {
                expect(&child.load(machine, addr), Some(page + 1), &[]);
            }
            expect(&parent.load(machine, addr), Some(page + 1), &[]);
        }
        check(machine, &[&parent, &child]);
    });
}

/// Three processes write, read, unmap, fork and exit at random; each sees its own memory.
fn random(how: Fork) {
    on_machine(|machine| {
        let mut rng = SplitMix::new(0x6b76_6d00 + how as u64);
        let mut first = Process::new(machine);
        first.area(DATA..DATA + 4 * HUGE, READ_WRITE);
        let mut processes = vec![(first, [0_u64; 16])];
        for step in 1..=1500 {
            let at = rng.index(processes.len());
            let page = rng.index(16);
            let addr = DATA + page as u64 * (HUGE / 4) + (page as u64 % 3) * PAGE;
            let count = processes.len();
            let (process, words) = &mut processes[at];
            match rng.below(16) {
                0 if count < 3 => {
                    let how = match how {
                        Fork::Either => rng.pick(&[Fork::Copy, Fork::Share]),
                        _ => how,
                    };
                    let child = fork(process, machine, how);
                    let words = *words;
                    processes.push((child, words));
                }
                1 if count > 1 => drop(exit(&mut processes, at, machine)),
                2 => {
                    process.with_tlb(machine, |tables, gather| {
                        tables
                            .zap(addr..addr + PAGE, gather)
                            .expect("frames enough");
                    });
                    words[page] = 0;
                }
                3..8 => {
                    let written = process.store(machine, addr, step);
                    assert_eq!(written.value, Some(step), "{written:?}");
                    words[page] = step;
                }
                _ => {
                    let read = process.load(machine, addr);
                    assert_eq!(read.value, Some(words[page]), "step {step}: {read:?}");
                }
            }
            let all: Vec<_> = processes.iter().map(|(process, _)| process).collect();
            check(machine, &all);
        }
    });
}

/// Takes a process out; the processor goes on with another one's tables first.
fn exit<'m>(
    processes: &mut Vec<(Process<'m>, [u64; 16])>,
    at: usize,
    machine: &mut Machine<'m>,
) -> Process<'m> {
    let (process, _) = processes.swap_remove(at);
    let (next, _) = &mut processes[0];
    next.load(machine, DATA);
    process
}
