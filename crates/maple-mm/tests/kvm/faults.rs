//! What an access brings in, and the signal where it is refused: told by the processor's codes.

use std::ops::Range;

use maple_mm::Fault::{Bus, NotAllowed, NotMapped};
use maple_mm::{FilePagesRef, MemoryFile, MmapRequest, abi::*, truncate};

use crate::common::paged::{Memory, REGULAR, contents, opened};
use crate::guest;
use crate::host::{
    ABSENT_FETCH, ABSENT_READ, ABSENT_WRITE, Case, DATA, HUGE, Host, PAGE, REFUSED_FETCH,
    REFUSED_READ, REFUSED_WRITE, RW, anonymous, case, of_file,
};
use crate::program::{Program, check};

pub(crate) fn all() -> Vec<Case> {
    vec![
        case("demand paging", demand_paging),
        case("an access across two pages", across_two_pages),
        case("private pages of a file", private_file),
        case("a shared file in two address spaces", shared_file),
        case("the end of a file, and truncation", end_of_a_file),
        case("protection faults are told apart", told_apart),
        case("the kernel's pages", kernel_pages),
        case("executing what was written", executing),
        case("a stack that grows under pushes", growing_stack),
        case("a heap that grows and shrinks", heap),
    ]
}

fn demand_paging(host: &Host) {
    let mut program = Program::new(host);
    program.mmap(anonymous(DATA..DATA + HUGE, RW));
    let addr = DATA + 5 * PAGE + 8;
    program.load(addr).is(Ok(0), &[ABSENT_READ]);
    assert_eq!(program.space.statistics().resident.anon, 0);
    program.store(addr, 42).is(Ok(42), &[REFUSED_WRITE]);
    program.load(addr).is(Ok(42), &[]);
    program.store(addr + PAGE, 43).is(Ok(43), &[ABSENT_WRITE]);
    program.load(addr + PAGE).is(Ok(43), &[]);
    program.load(DATA - 8).is(Err(NotMapped), &[ABSENT_READ]);
    program.load(DATA + HUGE).is(Err(NotMapped), &[ABSENT_READ]);
    assert_eq!(program.space.statistics().resident.anon, 2);
    // The host sees it, and is seen.
    let mut seen = [0; 8];
    program.space.read(addr, &mut seen).expect("it is there");
    assert_eq!(u64::from_le_bytes(seen), 42);
    let written = program.space.write(addr + 2 * PAGE, &44_u64.to_le_bytes());
    assert_eq!(written, Ok(()));
    program.load(addr + 2 * PAGE).is(Ok(44), &[]);
    check(&[&program]);
    program.unmap_all();
}

fn across_two_pages(host: &Host) {
    let mut program = Program::new(host);
    program.mmap(anonymous(DATA..DATA + 4 * PAGE, RW));
    let edge = DATA + PAGE - 4;
    program.load(edge).is(Ok(0), &[ABSENT_READ, ABSENT_READ]);
    let both = [REFUSED_WRITE, REFUSED_WRITE];
    program
        .store(edge, 0x1122_3344_5566_7788)
        .is(Ok(0x1122_3344_5566_7788), &both);
    program.load(DATA + PAGE).is(Ok(0x1122_3344), &[]);
    // Half of it may be written: nothing is.
    let beyond = program.store(DATA + 4 * PAGE - 4, 7);
    assert_eq!(beyond.result, Err(NotMapped));
    program.load(DATA + 4 * PAGE - 8).is(Ok(0), &[]);
}

const FILE: Range<u64> = DATA..DATA + 4 * PAGE;

fn private_file(host: &Host) {
    let pages = contents(&host.memory, 4, 100);
    let file = opened(1, REGULAR, &pages);
    let mut program = Program::new(host);
    program.mmap(of_file(FILE, &file, MAP_PRIVATE));
    program.load(DATA).is(Ok(100), &[ABSENT_READ]);
    program.store(DATA, 7).is(Ok(7), &[REFUSED_WRITE]);
    program.store(DATA + PAGE + 8, 8).is(Ok(8), &[ABSENT_WRITE]);
    program.load(DATA + PAGE).is(Ok(101), &[]);
    let resident = program.space.statistics().resident;
    // The text is a page of a file, too.
    assert_eq!((resident.anon, resident.file), (2, 1));
    let mut other = Program::new(host);
    other.mmap(of_file(FILE, &file, MAP_PRIVATE));
    other.load(DATA).is(Ok(100), &[ABSENT_READ]);
    other.load(DATA + PAGE + 8).is(Ok(0), &[ABSENT_READ]);
    check(&[&program, &other]);
}

fn shared_file(host: &Host) {
    let pages = contents(&host.memory, 4, 100);
    let file = opened(1, REGULAR, &pages);
    let [mut left, mut right, mut private] = std::array::from_fn(|_| Program::new(host));
    left.mmap(of_file(FILE, &file, MAP_SHARED));
    // The same pages at other addresses.
    right.mmap(of_file(
        DATA + HUGE..DATA + HUGE + 4 * PAGE,
        &file,
        MAP_SHARED,
    ));
    private.mmap(of_file(FILE, &file, MAP_PRIVATE));
    let page = DATA + PAGE;
    left.load(page).is(Ok(101), &[ABSENT_READ]);
    private.load(page).is(Ok(101), &[ABSENT_READ]);
    right.store(page + HUGE, 7).is(Ok(7), &[ABSENT_WRITE]);
    left.load(page).is(Ok(7), &[]);
    private.load(page).is(Ok(7), &[]);
    left.store(page, 8).is(Ok(8), &[REFUSED_WRITE]);
    private.store(page, 9).is(Ok(9), &[REFUSED_WRITE]);
    right.store(page + HUGE + 8, 10).is(Ok(10), &[]);
    left.load(page + 8).is(Ok(10), &[]);
    right.load(page + HUGE).is(Ok(8), &[]);
    private.load(page).is(Ok(9), &[]);
    private.load(page + 8).is(Ok(0), &[]);
    check(&[&left, &right, &private]);
    left.unmap_all();
    right.load(page + HUGE).is(Ok(8), &[]);
}

fn end_of_a_file(host: &Host) {
    let file = MemoryFile::new_in(
        Memory::clone(&host.memory),
        2 * PAGE + 100,
        host.system.nodes(),
    );
    let pages = FilePagesRef::new(file).expect("memory for a file");
    let file = opened(1, REGULAR, &pages);
    let mut shared = Program::new(host);
    shared.mmap(of_file(FILE, &file, MAP_SHARED));
    let mut private = Program::new(host);
    private.mmap(of_file(FILE, &file, MAP_PRIVATE));
    for program in [&mut shared, &mut private] {
        program.store(DATA + PAGE, 6).is(Ok(6), &[ABSENT_WRITE]);
        // The rest of the last page is there.
        program
            .store(DATA + 2 * PAGE + 200, 7)
            .is(Ok(7), &[ABSENT_WRITE]);
        program.load(DATA + 3 * PAGE).is(Err(Bus), &[ABSENT_READ]);
        program
            .store(DATA + 3 * PAGE, 1)
            .is(Err(Bus), &[ABSENT_WRITE]);
    }
    resize(&pages, PAGE, &mut [&mut shared, &mut private]);
    for program in [&mut shared, &mut private] {
        program.load(DATA).is(Ok(0), &[ABSENT_READ]);
        program.load(DATA + PAGE).is(Err(Bus), &[ABSENT_READ]);
        program
            .store(DATA + 2 * PAGE, 1)
            .is(Err(Bus), &[ABSENT_WRITE]);
    }
    resize(&pages, 4 * PAGE, &mut [&mut shared, &mut private]);
    for program in [&mut shared, &mut private] {
        program.load(DATA + PAGE).is(Ok(0), &[ABSENT_READ]);
        program.load(DATA + 3 * PAGE).is(Ok(0), &[ABSENT_READ]);
    }
    check(&[&shared, &private]);
}

fn resize(file: &FilePagesRef, bytes: u64, programs: &mut [&mut Program]) {
    let spaces = programs.iter_mut().map(|program| &mut program.space);
    let mut spaces: Vec<_> = spaces.collect();
    truncate(file, bytes, &mut spaces).expect("frames enough");
}

fn told_apart(host: &Host) {
    let mut program = Program::new(host);
    let page = |index: u64| DATA + index * PAGE..DATA + (index + 1) * PAGE;
    for (index, prot) in [PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC]
        .into_iter()
        .enumerate()
    {
        program.mmap(anonymous(page(index as u64), prot));
    }
    let [none, read, write, execute, nothing] = [0, 1, 2, 3, 4].map(|index| page(index).start);
    program.load(none).is(Err(NotAllowed), &[ABSENT_READ]);
    program.store(none, 1).is(Err(NotAllowed), &[ABSENT_WRITE]);
    program.jump(none).is(Err(NotAllowed), &[ABSENT_FETCH]);
    program.store(read, 1).is(Err(NotAllowed), &[ABSENT_WRITE]);
    program.load(read).is(Ok(0), &[ABSENT_READ]);
    program.store(read, 1).is(Err(NotAllowed), &[REFUSED_WRITE]);
    program.jump(read).is(Err(NotAllowed), &[REFUSED_FETCH]);
    program.load(write).is(Ok(0), &[ABSENT_READ]);
    program.jump(write).is(Err(NotAllowed), &[REFUSED_FETCH]);
    program.store(write, 1).is(Ok(1), &[REFUSED_WRITE]);
    program
        .store(execute, 1)
        .is(Err(NotAllowed), &[ABSENT_WRITE]);
    program.load(execute).is(Ok(0), &[ABSENT_READ]);
    program.load(nothing).is(Err(NotMapped), &[ABSENT_READ]);
    program
        .store(nothing, 1)
        .is(Err(NotMapped), &[ABSENT_WRITE]);
    program.jump(nothing).is(Err(NotMapped), &[ABSENT_FETCH]);
    program.store(guest::TEXT, 1).is(Err(NotAllowed), &[]);
    check(&[&program]);
}

fn kernel_pages(host: &Host) {
    let mut program = Program::new(host);
    let stack = guest::STACK_TOP - 8;
    program.load(stack).is(Err(NotMapped), &[REFUSED_READ]);
    program.store(stack, 1).is(Err(NotMapped), &[REFUSED_WRITE]);
    program
        .jump(guest::CODE)
        .is(Err(NotMapped), &[REFUSED_FETCH]);
    program.unmap_all();
    // The routines are gone, and the kernel is there to tell.
    program.load(DATA).is(Err(NotMapped), &[]);
}

fn executing(host: &Host) {
    let mut program = Program::new(host);
    let page = DATA..DATA + PAGE;
    program.mmap(anonymous(page.clone(), RW));
    program
        .store(DATA, guest::THROUGH_WORD)
        .is(Ok(guest::THROUGH_WORD), &[ABSENT_WRITE]);
    program.jump(DATA).is(Err(NotAllowed), &[REFUSED_FETCH]);
    let protected = program.space.mprotect(DATA, PAGE, PROT_READ | PROT_EXEC);
    assert_eq!(protected, Ok(()));
    program.jump(DATA).is(Ok(0), &[]);
    program.store(DATA, 1).is(Err(NotAllowed), &[REFUSED_WRITE]);
    let mut child = program.fork(maple_mm::ForkPlan::default());
    child.jump(DATA).is(Ok(0), &[]);
    let protected = child.space.mprotect(DATA, PAGE, PROT_READ);
    assert_eq!(protected, Ok(()));
    child.jump(DATA).is(Err(NotAllowed), &[REFUSED_FETCH]);
    program.jump(DATA).is(Ok(0), &[]);
    check(&[&program, &child]);
}

fn growing_stack(host: &Host) {
    let mut program = Program::new(host);
    let top = DATA + 16 * HUGE;
    program.mmap(MmapRequest {
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN,
        ..anonymous(top - PAGE..top, RW)
    });
    // Three pages and a bit.
    let words = 3 * PAGE / 8 + 10;
    let pushed = program.push(top, (5, words));
    pushed.is(Ok(5), &[ABSENT_WRITE; 4]);
    program.load(top - words * 8).is(Ok(5), &[]);
    program.load(top - words * 8 - 8).is(Ok(0), &[]);
    let stack = program.space.vma_at(top - 1).expect("the stack");
    assert_eq!(stack.start(), top - 4 * PAGE);
    // The child's grows on its own.
    let mut child = program.fork(maple_mm::ForkPlan::default());
    let deeper = top - 4 * PAGE;
    child.push(deeper, (6, 1)).is(Ok(6), &[ABSENT_WRITE]);
    child.push(top, (7, 1)).is(Ok(7), &[REFUSED_WRITE]);
    program.load(top - 8).is(Ok(5), &[]);
    assert!(program.space.vma_at(deeper - 8).is_none());
    // Beyond its limit, it does not.
    let limit = maple_mm::Limits::default().stack;
    program
        .push(top - limit, (8, 1))
        .is(Err(NotMapped), &[ABSENT_WRITE]);
    check(&[&program, &child]);
}

fn heap(host: &Host) {
    let mut program = Program::new(host);
    let start = program.space.layout().start_brk;
    program.store(start, 1).is(Err(NotMapped), &[ABSENT_WRITE]);
    assert_eq!(program.space.brk(start + 2 * PAGE), start + 2 * PAGE);
    program.store(start, 1).is(Ok(1), &[ABSENT_WRITE]);
    program.store(start + PAGE, 2).is(Ok(2), &[ABSENT_WRITE]);
    assert_eq!(program.space.brk(start + PAGE), start + PAGE);
    program.load(start).is(Ok(1), &[]);
    program
        .load(start + PAGE)
        .is(Err(NotMapped), &[ABSENT_READ]);
    assert_eq!(program.space.brk(start + 2 * PAGE), start + 2 * PAGE);
    program.load(start + PAGE).is(Ok(0), &[ABSENT_READ]);
    check(&[&program]);
}
