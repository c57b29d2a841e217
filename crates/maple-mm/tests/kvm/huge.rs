//! Pages of 2 MiB: brought in whole, cut where a part goes or another owner writes.

use maple_mm::Fault::{NotAllowed, NotMapped};
use maple_mm::paging::{LeafFlags, Mapped};
use maple_mm::{ForkPlan, MremapRequest, PageStrategy, abi::*};

use crate::host::{
    ABSENT_READ, ABSENT_WRITE, Case, DATA, HUGE, Host, PAGE, REFUSED_WRITE, RW, anonymous, case,
};
use crate::program::{Program, check};

pub(crate) fn all() -> Vec<Case> {
    let mut cases = vec![
        case("a huge page", whole),
        case("a part of a huge page goes", part_goes),
        case("rights of a part of a huge page", part_protected),
        case("huge pages that move", moved),
    ];
    for pages in PageStrategy::ALL {
        let plan = ForkPlan {
            pages,
            ..ForkPlan::default()
        };
        let name = format!("a huge page in a family, {}", pages.name());
        cases.push(case(name, move |host| family(host, plan)));
    }
    cases
}

/// A program with a huge page at `DATA`, each part of which has its number plus one in it.
fn written(host: &Host) -> Program {
    let mut program = Program::new(host);
    program.mmap(anonymous(DATA..DATA + 2 * HUGE, RW));
    let advised = program.space.madvise(DATA, 2 * HUGE, MADV_HUGEPAGE);
    assert_eq!(advised, Ok(()));
    program.store(DATA + HUGE - 8, 7).is(Ok(7), &[ABSENT_WRITE]);
    for part in 0..512 {
        let stored = program.store(DATA + part * PAGE, part + 1);
        stored.is(Ok(part + 1), &[]);
    }
    program.flushes();
    program
}

fn mapped(program: &Program, addr: u64) -> Option<Mapped> {
    program.space.page_side().tables().entry(addr)
}

/// The parts are what they were, but for those that `other` tells of.
#[track_caller]
fn holds(program: &mut Program, start: u64, other: impl Fn(u64) -> Option<u64>) {
    for part in 0..512 {
        let expected = other(part).unwrap_or(part + 1);
        let seen = program.load(start + part * PAGE).result;
        assert_eq!(seen, Ok(expected), "part {part}");
    }
}

fn whole(host: &Host) {
    let mut program = written(host);
    let page = mapped(&program, DATA).expect("it is there");
    assert_eq!((page.start, page.size), (DATA, HUGE));
    assert!(page.leaf.attributes.flags.contains(LeafFlags::DIRTY));
    assert_eq!(program.space.statistics().resident.anon, 512);
    // Two tables for the page, three for the text.
    assert_eq!(program.space.statistics().pgtables_bytes, 5 * PAGE);
    holds(&mut program, DATA, |_| None);
    // What was read first is a small page, and so is its neighbour.
    program.load(DATA + HUGE).is(Ok(0), &[ABSENT_READ]);
    program
        .store(DATA + HUGE + PAGE, 1)
        .is(Ok(1), &[ABSENT_WRITE]);
    let page = mapped(&program, DATA + HUGE + PAGE).expect("it is there");
    assert_eq!(page.size, PAGE);
    check(&[&program]);
    program.unmap_all();
}

fn part_goes(host: &Host) {
    let mut program = written(host);
    assert_eq!(program.space.munmap(DATA + PAGE, 2 * PAGE), Ok(()));
    let advised = program.space.madvise(DATA + 9 * PAGE, PAGE, MADV_DONTNEED);
    assert_eq!(advised, Ok(()));
    for part in 0..512 {
        let load = program.load(DATA + part * PAGE);
        match part {
            1 | 2 => load.is(Err(NotMapped), &[ABSENT_READ]),
            9 => load.is(Ok(0), &[ABSENT_READ]),
            _ => load.is(Ok(part + 1), &[]),
        }
    }
    program.load(DATA + HUGE - 8).is(Ok(7), &[]);
    assert_eq!(program.space.statistics().resident.anon, 509);
    check(&[&program]);
    // All of what is left, and a huge page again.
    assert_eq!(program.space.munmap(DATA, HUGE), Ok(()));
    program.load(DATA).is(Err(NotMapped), &[ABSENT_READ]);
    program.store(DATA + HUGE, 1).is(Ok(1), &[ABSENT_WRITE]);
    program.store(DATA + 2 * HUGE - 8, 2).is(Ok(2), &[]);
    let advised = program.space.madvise(DATA + HUGE, HUGE, MADV_DONTNEED);
    assert_eq!(advised, Ok(()));
    program.load(DATA + 2 * HUGE - 8).is(Ok(0), &[ABSENT_READ]);
    check(&[&program]);
}

fn part_protected(host: &Host) {
    let mut program = written(host);
    let part = DATA + 100 * PAGE;
    assert_eq!(program.space.mprotect(part, PAGE, PROT_READ), Ok(()));
    program.store(part, 1).is(Err(NotAllowed), &[REFUSED_WRITE]);
    program.load(part).is(Ok(101), &[]);
    for beside in [part - PAGE, part + PAGE] {
        assert_eq!(program.store(beside, 5).result, Ok(5));
    }
    let is_beside = |at: u64| (at == 99 || at == 101).then_some(5);
    holds(&mut program, DATA, is_beside);
    check(&[&program]);
    // The whole of the next one, which stays whole.
    let next = DATA + HUGE;
    program.store(next, 1).is(Ok(1), &[ABSENT_WRITE]);
    assert_eq!(program.space.mprotect(next, HUGE, PROT_NONE), Ok(()));
    program.load(next).is(Err(NotAllowed), &[ABSENT_READ]);
    assert_eq!(program.space.mprotect(next, HUGE, RW), Ok(()));
    program.load(next).is(Ok(1), &[]);
    program
        .store(next + HUGE - 8, 2)
        .is(Ok(2), &[REFUSED_WRITE]);
    program.store(next, 3).is(Ok(3), &[]);
    assert_eq!(mapped(&program, next).expect("it is there").size, HUGE);
    check(&[&program]);
}

fn moved(host: &Host) {
    let mut program = written(host);
    // To a place where it fits as it is, then to one where it does not.
    let places = [
        (DATA, HUGE),
        (DATA + 8 * HUGE, HUGE),
        (DATA + 20 * HUGE + PAGE, PAGE),
    ];
    for pair in places.windows(2) {
        let [(from, _), (to, size)] = [pair[0], pair[1]];
        let moved = program.space.mremap(MremapRequest {
            addr: from,
            old_len: HUGE,
            new_len: HUGE,
            flags: MREMAP_MAYMOVE | MREMAP_FIXED,
            new_addr: to,
        });
        assert_eq!(moved, Ok(to));
        program.load(from).is(Err(NotMapped), &[ABSENT_READ]);
        program
            .load(from + HUGE - 8)
            .is(Err(NotMapped), &[ABSENT_READ]);
        holds(&mut program, to, |_| None);
        assert_eq!(mapped(&program, to).expect("it is there").size, size);
        check(&[&program]);
    }
    program.unmap_all();
}

fn family(host: &Host, plan: ForkPlan) {
    let mut parent = written(host);
    let mut child = parent.fork(plan);
    check(&[&parent, &child]);
    holds(&mut child, DATA, |_| None);
    child
        .store(DATA + 9 * PAGE, 99)
        .is(Ok(99), &[REFUSED_WRITE]);
    let is_childs = |part: u64| (part == 9).then_some(99);
    holds(&mut child, DATA, is_childs);
    holds(&mut parent, DATA, |_| None);
    check(&[&parent, &child]);
    let mut grandchild = child.fork(plan);
    grandchild
        .store(DATA + 10 * PAGE, 100)
        .is(Ok(100), &[REFUSED_WRITE]);
    parent
        .store(DATA + 9 * PAGE, 98)
        .is(Ok(98), &[REFUSED_WRITE]);
    assert_eq!(child.space.munmap(DATA + 256 * PAGE, HUGE / 2), Ok(()));
    child
        .load(DATA + HUGE - PAGE)
        .is(Err(NotMapped), &[ABSENT_READ]);
    holds(&mut parent, DATA, |part| (part == 9).then_some(98));
    let is_grandchilds = |part: u64| match part {
        9 => Some(99),
        10 => Some(100),
        _ => None,
    };
    holds(&mut grandchild, DATA, is_grandchilds);
    check(&[&parent, &child, &grandchild]);
    drop(parent);
    holds(&mut grandchild, DATA, is_grandchilds);
    drop(child);
    for part in 0..512 {
        let stored = grandchild.store(DATA + part * PAGE, part);
        assert_eq!(stored.result, Ok(part));
    }
    holds(&mut grandchild, DATA, Some);
    check(&[&grandchild]);
    grandchild.unmap_all();
}
