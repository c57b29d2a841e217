//! Parents, children and grandchildren on the processor in turn, however they were forked.

use maple_mm::Fault::{NotAllowed, NotMapped};
use maple_mm::{FileRef, ForkPlan, MmapRequest, PageStrategy, abi::*};

use crate::common::paged::{REGULAR, contents, opened, plans};
use crate::host::{
    ABSENT_READ, ABSENT_WRITE, Case, DATA, HUGE, Host, PAGE, REFUSED_WRITE, RW, anonymous, case,
    of_file,
};
use crate::program::{Program, check};

pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for plan in plans() {
        let (mappings, pages) = (plan.mappings.name(), plan.pages.name());
        let mut add = |what: &str, run: fn(&Host, ForkPlan)| {
            let name = format!("{what}, {mappings} and {pages}");
            cases.push(case(name, move |host| run(host, plan)));
        };
        add("copy on write in a family", family);
        add("what a child does not get", not_inherited);
    }
    for pages in PageStrategy::ALL {
        let plan = ForkPlan {
            pages,
            ..ForkPlan::default()
        };
        let name = format!("changes on one side, {}", pages.name());
        cases.push(case(name, move |host| one_side(host, plan)));
    }
    cases.push(case("the upper level forbids", upper_level_forbids));
    cases.push(case("a line of forks in many ways", line_of_forks));
    cases
}

/// Where the mappings of [`parent`] begin.
const PRIVATE: u64 = DATA;
const SHARED: u64 = DATA + HUGE;
const FILE: u64 = DATA + 2 * HUGE;
const SHARED_FILE: u64 = FILE + 4 * PAGE;

/// A program with mappings of four kinds, of four pages each; the first page of each is 1, the
/// second was read.
fn parent(host: &Host, file: &FileRef) -> Program {
    let mut program = Program::new(host);
    let range = |start: u64| start..start + 4 * PAGE;
    program.mmap(anonymous(range(PRIVATE), RW));
    program.mmap(MmapRequest {
        flags: MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
        ..anonymous(range(SHARED), RW)
    });
    program.mmap(of_file(range(FILE), file, MAP_PRIVATE));
    program.mmap(of_file(range(SHARED_FILE), file, MAP_SHARED));
    for start in [PRIVATE, SHARED, FILE, SHARED_FILE] {
        program.store(start, 1).is(Ok(1), &[ABSENT_WRITE]);
        assert!(program.load(start + PAGE).result.is_ok());
    }
    program
}

fn family(host: &Host, plan: ForkPlan) {
    let file = opened(1, REGULAR, &contents(&host.memory, 4, 100));
    let mut parent = parent(host, &file);
    let mut child = parent.fork(plan);
    check(&[&parent, &child]);
    for program in [&mut child, &mut parent] {
        for start in [PRIVATE, SHARED, FILE, SHARED_FILE] {
            assert_eq!(program.load(start).result, Ok(1));
        }
    }
    for start in [PRIVATE, FILE] {
        private_to_each(start, &mut parent, &mut child);
    }
    for start in [SHARED, SHARED_FILE] {
        seen_by_both(start, &mut parent, &mut child);
    }
    check(&[&parent, &child]);
    let mut grandchild = child.fork(plan);
    grandchild.store(PRIVATE, 7).is(Ok(7), &[REFUSED_WRITE]);
    child.load(PRIVATE).is(Ok(2), &[]);
    parent.load(PRIVATE).is(Ok(4), &[]);
    check(&[&parent, &child, &grandchild]);
    drop(child);
    assert_eq!(grandchild.load(FILE).result, Ok(2));
    assert_eq!(grandchild.store(SHARED, 8).result, Ok(8));
    assert_eq!(parent.load(SHARED).result, Ok(8));
    drop(parent);
    grandchild.load(PRIVATE).is(Ok(7), &[]);
    grandchild.store(PRIVATE, 9).is(Ok(9), &[]);
    check(&[&grandchild]);
    grandchild.unmap_all();
}

/// The child writes 2, the parent 3 and 4; a page that only one has stays its own.
fn private_to_each(start: u64, parent: &mut Program, child: &mut Program) {
    child.store(start, 2).is(Ok(2), &[REFUSED_WRITE]);
    child.store(start, 2).is(Ok(2), &[]);
    parent.load(start).is(Ok(1), &[]);
    let anon = |program: &Program| program.space.statistics().resident.anon;
    let before = (anon(parent), anon(child));
    parent.store(start, 3).is(Ok(3), &[REFUSED_WRITE]);
    parent.store(start, 4).is(Ok(4), &[]);
    child.load(start).is(Ok(2), &[]);
    assert_eq!((anon(parent), anon(child)), before);
    child.store(start + 2 * PAGE, 5).is(Ok(5), &[ABSENT_WRITE]);
    assert_ne!(parent.load(start + 2 * PAGE).result, Ok(5));
    // What both only read.
    assert_eq!(child.store(start + PAGE, 6).result, Ok(6));
    assert_ne!(parent.load(start + PAGE).result, Ok(6));
}

fn seen_by_both(start: u64, parent: &mut Program, child: &mut Program) {
    assert_eq!(child.store(start, 2).result, Ok(2));
    assert_eq!(parent.load(start).result, Ok(2));
    assert_eq!(parent.store(start, 3).result, Ok(3));
    assert_eq!(child.load(start).result, Ok(3));
    assert_eq!(parent.store(start + 3 * PAGE, 4).result, Ok(4));
    assert_eq!(child.load(start + 3 * PAGE).result, Ok(4));
}

fn not_inherited(host: &Host, plan: ForkPlan) {
    let mut parent = Program::new(host);
    parent.mmap(anonymous(DATA..DATA + 12 * PAGE, RW));
    for page in 0..12 {
        let addr = DATA + page * PAGE;
        parent
            .store(addr, page + 1)
            .is(Ok(page + 1), &[ABSENT_WRITE]);
    }
    let (left_out, wiped) = (DATA + 2 * PAGE, DATA + 6 * PAGE);
    for (addr, advice) in [(left_out, MADV_DONTFORK), (wiped, MADV_WIPEONFORK)] {
        assert_eq!(parent.space.madvise(addr, 2 * PAGE, advice), Ok(()));
    }
    let mut child = parent.fork(plan);
    check(&[&parent, &child]);
    for page in 0..12 {
        let addr = DATA + page * PAGE;
        match page {
            2 | 3 => child.load(addr).is(Err(NotMapped), &[ABSENT_READ]),
            6 | 7 => child.load(addr).is(Ok(0), &[ABSENT_READ]),
            _ => child.load(addr).is(Ok(page + 1), &[]),
        }
        parent.load(addr).is(Ok(page + 1), &[]);
    }
    child.store(wiped, 99).is(Ok(99), &[REFUSED_WRITE]);
    child
        .store(left_out, 99)
        .is(Err(NotMapped), &[ABSENT_WRITE]);
    assert_eq!(parent.store(wiped, 7).result, Ok(7));
    parent.load(left_out).is(Ok(3), &[]);
    // It is wiped again, whatever the child has there.
    let mut grandchild = child.fork(plan);
    grandchild.load(wiped).is(Ok(0), &[ABSENT_READ]);
    grandchild.load(DATA).is(Ok(1), &[]);
    child.load(wiped).is(Ok(99), &[]);
    check(&[&parent, &child, &grandchild]);
}

/// Each side unmaps, protects and moves what the other goes on using.
fn one_side(host: &Host, plan: ForkPlan) {
    let mut parent = Program::new(host);
    parent.mmap(anonymous(DATA..DATA + 4 * HUGE, RW));
    let addr = |index: u64| DATA + index * (HUGE / 2);
    for index in 0..8 {
        parent
            .store(addr(index), index + 1)
            .is(Ok(index + 1), &[ABSENT_WRITE]);
    }
    let mut child = parent.fork(plan);
    for index in 0..8 {
        for side in [&mut parent, &mut child] {
            side.load(addr(index)).is(Ok(index + 1), &[]);
        }
    }
    // A part of one table, and all of the next.
    assert_eq!(child.space.munmap(addr(1), 3 * HUGE / 2), Ok(()));
    // A part of one, on the other side; and one that the child has lost.
    assert_eq!(parent.space.mprotect(addr(2), HUGE / 2, PROT_READ), Ok(()));
    assert_eq!(parent.space.mprotect(addr(7), HUGE / 2, PROT_NONE), Ok(()));
    check(&[&parent, &child]);
    for index in 0..8 {
        let word = Ok(index + 1);
        match index {
            1..4 => child.load(addr(index)).is(Err(NotMapped), &[ABSENT_READ]),
            _ => child.load(addr(index)).is(word, &[]),
        }
        match index {
            7 => parent.load(addr(7)).is(Err(NotAllowed), &[ABSENT_READ]),
            _ => parent.load(addr(index)).is(word, &[]),
        }
    }
    parent
        .store(addr(2), 99)
        .is(Err(NotAllowed), &[REFUSED_WRITE]);
    assert_eq!(parent.store(addr(3), 99).result, Ok(99));
    assert_eq!(child.store(addr(7), 99).result, Ok(99));
    let moved = child.space.mremap(maple_mm::MremapRequest {
        addr: addr(4),
        old_len: HUGE,
        new_len: HUGE,
        flags: MREMAP_MAYMOVE | MREMAP_FIXED,
        new_addr: addr(2),
    });
    assert_eq!(moved, Ok(addr(2)));
    child.load(addr(2)).is(Ok(5), &[]);
    child.store(addr(3), 98).is(Ok(98), &[REFUSED_WRITE]);
    parent.load(addr(4)).is(Ok(5), &[]);
    parent.load(addr(5)).is(Ok(6), &[]);
    check(&[&parent, &child]);
    child.unmap_all();
    parent.load(addr(6)).is(Ok(7), &[]);
    parent.unmap_all();
}

fn upper_level_forbids(host: &Host) {
    let mut parent = Program::new(host);
    parent.mmap(anonymous(DATA..DATA + HUGE, RW));
    parent.store(DATA, 1).is(Ok(1), &[ABSENT_WRITE]);
    let page = |program: &Program| {
        let tables = program.space.page_side().tables();
        tables.entry(DATA).expect("it is mapped")
    };
    let child = parent.fork(ForkPlan::default());
    assert!(page(&parent).leaf.is_writable(), "the leaf allows it");
    assert!(!page(&parent).is_writable(), "the way does not");
    drop(child);
    // Nobody else is there; the right comes back with the next fault, and the page is the same.
    let frame = page(&parent).leaf.frame;
    parent.store(DATA, 2).is(Ok(2), &[REFUSED_WRITE]);
    assert!(page(&parent).is_writable());
    assert_eq!(page(&parent).leaf.frame, frame);
}

/// Each forks the next one, goes on writing, and sees its own memory at the end.
fn line_of_forks(host: &Host) {
    let mut line = vec![Program::new(host)];
    line[0].mmap(anonymous(DATA..DATA + 64 * PAGE, RW));
    let count = plans().count() as u64;
    for (turn, plan) in (0..).zip(plans()) {
        let last = line.last_mut().expect("one at least");
        let own = DATA + turn * PAGE;
        last.store(own, turn + 1).is(Ok(turn + 1), &[ABSENT_WRITE]);
        let child = last.fork(plan);
        last.store(own, turn + 100)
            .is(Ok(turn + 100), &[REFUSED_WRITE]);
        line.push(child);
    }
    check(&line.iter().collect::<Vec<_>>());
    for (index, program) in (0..).zip(&mut line) {
        for turn in 0..count {
            let word = match turn {
                _ if turn < index => turn + 1,
                _ if turn == index => turn + 100,
                _ => 0,
            };
            assert_eq!(program.load(DATA + turn * PAGE).result, Ok(word));
        }
    }
    // They end from the middle outwards.
    while !line.is_empty() {
        line.remove(line.len() / 2);
        check(&line.iter().collect::<Vec<_>>());
    }
}
