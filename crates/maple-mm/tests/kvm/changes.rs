//! Calls that change mappings while the processor has the old translations: it must not use them.

use maple_mm::Fault::{NotAllowed, NotMapped};
use maple_mm::paging::{Content, FrameSize, PhysMemory};
use maple_mm::{MremapRequest, abi::*};

use crate::host::{
    ABSENT_READ, ABSENT_WRITE, Case, DATA, HUGE, Host, PAGE, REFUSED_FETCH, REFUSED_WRITE, RW,
    anonymous, case,
};
use crate::program::{Program, check};
use crate::tlb::Flush;

pub(crate) fn all() -> Vec<Case> {
    vec![
        case("what madvise takes out is gone", discarded),
        case("what munmap takes out is gone", unmapped),
        case("tables that were freed are not used", freed_tables),
        case("a mapping over another", mapped_over),
        case("rights that mprotect takes are gone", protected),
        case("pages that mremap moves", moved),
        case("pages that stay where mremap leaves them", stayed),
    ]
}

/// A program with `pages` pages from `DATA` on, each of which has its address plus one in it.
fn written(host: &Host, pages: u64) -> Program {
    let mut program = Program::new(host);
    program.mmap(anonymous(DATA..DATA + pages * PAGE, RW));
    write_all(&mut program, pages);
    program.flushes();
    program
}

fn write_all(program: &mut Program, pages: u64) {
    for addr in (DATA..DATA + pages * PAGE).step_by(PAGE as usize) {
        assert_eq!(program.store(addr, addr + 1).result, Ok(addr + 1));
    }
}

/// Page by page up to what x86 kernels do, then all at once.
const FLUSHES: [(u64, Flush); 3] = [
    (1, Flush::Pages(1)),
    (33, Flush::Pages(33)),
    (34, Flush::All),
];

fn discarded(host: &Host) {
    let mut program = written(host, 40);
    for (pages, how) in FLUSHES {
        let range = DATA + PAGE..DATA + (1 + pages) * PAGE;
        let advised = program
            .space
            .madvise(range.start, pages * PAGE, MADV_DONTNEED);
        assert_eq!((advised, program.flushes()), (Ok(()), vec![how]));
        for addr in range.clone().step_by(PAGE as usize) {
            program.load(addr).is(Ok(0), &[ABSENT_READ]);
        }
        for addr in [range.start - PAGE, range.end] {
            program.load(addr).is(Ok(addr + 1), &[]);
        }
        write_all(&mut program, 40);
        program.flushes();
    }
    check(&[&program]);
}

fn unmapped(host: &Host) {
    let mut program = written(host, 40);
    for (pages, how) in FLUSHES {
        let range = DATA + PAGE..DATA + (1 + pages) * PAGE;
        let unmapped = program.space.munmap(range.start, pages * PAGE);
        assert_eq!((unmapped, program.flushes()), (Ok(()), vec![how]));
        for addr in range.clone().step_by(PAGE as usize) {
            program.load(addr).is(Err(NotMapped), &[ABSENT_READ]);
        }
        program
            .store(range.start, 1)
            .is(Err(NotMapped), &[ABSENT_WRITE]);
        for addr in [range.start - PAGE, range.end] {
            program.load(addr).is(Ok(addr + 1), &[]);
        }
        program.mmap(anonymous(range, RW));
        write_all(&mut program, 40);
        program.flushes();
    }
    check(&[&program]);
    program.unmap_all();
    assert_eq!(program.flushes(), [Flush::All]);
}

/// The processor remembers tables of upper levels: they are used for other things at once.
fn freed_tables(host: &Host) {
    let mut program = Program::new(host);
    for round in 1..20 {
        program.mmap(anonymous(DATA..DATA + PAGE, RW));
        program.store(DATA, round).is(Ok(round), &[ABSENT_WRITE]);
        let tables = program.space.statistics().pgtables_bytes;
        program.flushes();
        assert_eq!(program.space.munmap(DATA, PAGE), Ok(()));
        assert_eq!(program.flushes(), [Flush::All]);
        assert_eq!(program.space.statistics().pgtables_bytes, tables - 3 * PAGE);
        // What was a table has ones in it now, which would map anything.
        let memory = &host.memory;
        let frame = |_| {
            memory
                .allocate(FrameSize::SMALL, Content::Any)
                .expect("a frame")
        };
        let wild: Vec<_> = (0..8)
            .map(frame)
            .inspect(|frame| memory.fill(frame.addr(), frame.size(), !0 >> 1))
            .collect();
        program.load(DATA).is(Err(NotMapped), &[ABSENT_READ]);
        wild.into_iter().for_each(|frame| memory.release(frame));
    }
}

fn mapped_over(host: &Host) {
    let mut program = written(host, 4);
    program.mmap(anonymous(DATA + PAGE..DATA + 3 * PAGE, PROT_READ));
    program.load(DATA + PAGE).is(Ok(0), &[ABSENT_READ]);
    program
        .store(DATA + 2 * PAGE, 1)
        .is(Err(NotAllowed), &[ABSENT_WRITE]);
    for addr in [DATA, DATA + 3 * PAGE] {
        program.load(addr).is(Ok(addr + 1), &[]);
    }
    check(&[&program]);
}

fn protected(host: &Host) {
    let mut program = written(host, 40);
    let last = DATA + 39 * PAGE;
    let protect = |program: &mut Program, addr: u64, pages: u64, prot: u64| {
        assert_eq!(program.space.mprotect(addr, pages * PAGE, prot), Ok(()));
        program.flushes()
    };
    let flushes = protect(&mut program, DATA, 1, PROT_READ);
    assert_eq!(flushes, [Flush::Pages(1)]);
    program.load(DATA).is(Ok(DATA + 1), &[]);
    program.store(DATA, 1).is(Err(NotAllowed), &[REFUSED_WRITE]);
    program.jump(DATA).is(Err(NotAllowed), &[REFUSED_FETCH]);
    program.store(DATA + PAGE, 1).is(Ok(1), &[]);
    // Mapping by mapping.
    let flushes = protect(&mut program, DATA, 40, PROT_NONE);
    assert_eq!(flushes, [Flush::Pages(1), Flush::All]);
    program.load(DATA).is(Err(NotAllowed), &[ABSENT_READ]);
    program.store(last, 1).is(Err(NotAllowed), &[ABSENT_WRITE]);
    protect(&mut program, DATA, 40, RW);
    program.load(DATA).is(Ok(DATA + 1), &[]);
    program.load(last).is(Ok(last + 1), &[]);
    // Its owner did not change meanwhile.
    program.store(last, 2).is(Ok(2), &[REFUSED_WRITE]);
    program.store(last, 3).is(Ok(3), &[]);
    assert_eq!(program.space.statistics().resident.anon, 40);
    check(&[&program]);
}

fn moved(host: &Host) {
    let mut program = written(host, 512);
    // By table, then entry by entry, to a place that is in use, to a larger one.
    let places = [
        (DATA, HUGE),
        (DATA + 3 * HUGE, HUGE),
        (DATA + 7 * HUGE + PAGE, HUGE),
        (DATA + 9 * HUGE, 2 * HUGE),
    ];
    program.mmap(anonymous(DATA + 9 * HUGE..DATA + 10 * HUGE, RW));
    program.store(DATA + 9 * HUGE, 1).is(Ok(1), &[ABSENT_WRITE]);
    for pair in places.windows(2) {
        let [(from, old_len), (to, new_len)] = [pair[0], pair[1]];
        // It is known there, too.
        program.load(to);
        let moved = program.space.mremap(MremapRequest {
            addr: from,
            old_len,
            new_len,
            flags: MREMAP_MAYMOVE | MREMAP_FIXED,
            new_addr: to,
        });
        assert_eq!(moved, Ok(to));
        for page in [0, 1, 7, 511] {
            let offset = page * PAGE;
            program
                .load(from + offset)
                .is(Err(NotMapped), &[ABSENT_READ]);
            program.load(to + offset).is(Ok(DATA + offset + 1), &[]);
        }
        check(&[&program]);
    }
    program.load(DATA + 10 * HUGE).is(Ok(0), &[ABSENT_READ]);
    program.unmap_all();
}

fn stayed(host: &Host) {
    let mut program = written(host, 8);
    let mut request = MremapRequest {
        addr: DATA,
        old_len: 8 * PAGE,
        new_len: 12 * PAGE,
        flags: 0,
        new_addr: 0,
    };
    assert_eq!(program.space.mremap(request), Ok(DATA));
    program.load(DATA).is(Ok(DATA + 1), &[]);
    program.load(DATA + 11 * PAGE).is(Ok(0), &[ABSENT_READ]);
    (request.old_len, request.new_len) = (12 * PAGE, 4 * PAGE);
    assert_eq!(program.space.mremap(request), Ok(DATA));
    program
        .load(DATA + 3 * PAGE)
        .is(Ok(DATA + 3 * PAGE + 1), &[]);
    program
        .load(DATA + 4 * PAGE)
        .is(Err(NotMapped), &[ABSENT_READ]);
    // The mapping stays, its pages go.
    let to = DATA + HUGE;
    let moved = program.space.mremap(MremapRequest {
        addr: DATA,
        old_len: 4 * PAGE,
        new_len: 4 * PAGE,
        flags: MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
        new_addr: to,
    });
    assert_eq!(moved, Ok(to));
    program.load(to + PAGE).is(Ok(DATA + PAGE + 1), &[]);
    program.load(DATA + PAGE).is(Ok(0), &[ABSENT_READ]);
    program.store(DATA + 2 * PAGE, 9).is(Ok(9), &[ABSENT_WRITE]);
    program.load(to + 2 * PAGE).is(Ok(DATA + 2 * PAGE + 1), &[]);
    check(&[&program]);
}
