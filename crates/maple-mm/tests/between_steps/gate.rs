//! Who is inside the gate, and who waits before it.

use std::sync::Arc;

use maple_mm::{Access, ForkPlan, MmapRequest, MremapRequest, PageStrategy, Unfinished, abi::*};

use crate::hook::{HookMemory, Other, Progress, Step, place};
use crate::{START, STEPS_MOST, Shared, end, fixed, map, space};

/// What goes through the gate.
type Visit = fn(&Shared) -> Result<(), Unfinished>;

fn read(space: &Shared) -> Result<(), Unfinished> {
    space.read(START, &mut [0; 8])
}

fn write(space: &Shared) -> Result<(), Unfinished> {
    space.write(START, b"again")
}

fn read_what_is_not_there(space: &Shared) -> Result<(), Unfinished> {
    space.read(START + PAGE_SIZE, &mut [0; 8])
}

fn write_what_is_not_there(space: &Shared) -> Result<(), Unfinished> {
    space.write(START + PAGE_SIZE, b"new")
}

fn write_shared_memory(space: &Shared) -> Result<(), Unfinished> {
    space.write(START + 2 * PAGE_SIZE, b"new")
}

/// An `Rcu` may free what others gave up when a thread comes that has no guard, or goes. It takes
/// as long as it takes: a fork must not wait for that.
#[test]
fn a_fork_waits_for_nobody_who_frees_what_others_gave_up() {
    let visits: [Visit; 5] = [
        read,
        write,
        read_what_is_not_there,
        write_what_is_not_there,
        write_shared_memory,
    ];
    for visit in visits {
        for pages in PageStrategy::ALL {
            let mut step = 0;
            while forks_beside(visit, pages, step) {
                step += 1;
                assert!(step < STEPS_MOST, "a visit does not end");
            }
            assert!(step > 0, "no guard was ever taken");
        }
    }
}

/// Whether `visit` takes or gives back so many guards that are the only ones of its thread.
fn forks_beside(visit: Visit, pages: PageStrategy, number: usize) -> bool {
    let memory = HookMemory::new(128);
    let space = space(&memory);
    map(&space, START, 2 * PAGE_SIZE);
    let object = fixed(START + 2 * PAGE_SIZE, PAGE_SIZE);
    let object = MmapRequest {
        flags: object.flags ^ MAP_PRIVATE ^ MAP_SHARED,
        ..object
    };
    space.lock().mmap(object).unwrap();
    space.write(START, b"there").unwrap();
    let here = Arc::clone(&space);
    let plan = ForkPlan {
        pages,
        ..ForkPlan::default()
    };
    let fork = move || here.fork_with(plan, || false).map(drop);
    let may_free = |step| matches!(step, Step::Enter(1) | Step::Leave(1));
    let (visited, forked) = place(
        (number, may_free),
        || visit(&space),
        move || Other::start(fork),
    );
    assert_eq!(visited, Ok(()));
    let is_met = forked.is_some();
    if let Some(forked) = forked {
        assert_eq!(forked.progress, Progress::Ended, "guard {number}");
        assert_eq!(forked.join(), Ok(()));
    }
    end(space, &memory);
    is_met
}

/// A processor may find a page still where it was before, until it is told. Whoever writes to the
/// page where it is now, a copy because a child has it as well, gives it up; then the child does.
#[test]
fn nobody_uses_a_page_that_moved_before_processors_forget_where_it_was() {
    let moved = MremapRequest {
        addr: START,
        old_len: 2 * PAGE_SIZE,
        new_len: 2 * PAGE_SIZE,
        flags: MREMAP_MAYMOVE | MREMAP_FIXED,
        new_addr: 2 * START,
    };
    let shrunk = MremapRequest {
        new_len: PAGE_SIZE,
        ..moved
    };
    let left_mapped = MremapRequest {
        flags: moved.flags | MREMAP_DONTUNMAP,
        ..moved
    };
    for request in [moved, shrunk, left_mapped] {
        moves_beside_writer(request);
    }
}

#[track_caller]
fn moves_beside_writer(request: MremapRequest) {
    let memory = HookMemory::new(128);
    let space = space(&memory);
    let (from, to) = (request.addr, request.new_addr);
    map(&space, from, request.old_len);
    // There is something in the way, too.
    map(&space, to, PAGE_SIZE);
    space.write(to, b"in the way").unwrap();
    space.write(from, b"moves").unwrap();
    let child = space.fork().unwrap();
    let here = Arc::clone(&space);
    let mut owner = space.lock();
    let side = owner.page_side().clone();
    let has_moved = move |step| step == Step::Flush && side.tables().entry(from).is_none();
    let (moved, writer) = place(
        (0, has_moved),
        || owner.mremap(request),
        move || Other::start(move || here.write(to, b"wrote")),
    );
    drop(owner);
    assert_eq!(moved, Ok(to));
    let writer = writer.expect("processors are told when a page has moved");
    assert_eq!(writer.progress, Progress::Waits, "{request:?}");
    assert_eq!(writer.join(), Ok(()));
    let mut bytes = [0; 5];
    assert_eq!(space.read(to, &mut bytes), Ok(()));
    assert_eq!(&bytes, b"wrote");
    assert_eq!(child.read(from, &mut bytes), Ok(()));
    assert_eq!(&bytes, b"moves");
    assert_eq!(child.fault(from, Access::Write), Ok(()));
    drop(child);
    end(space, &memory);
}
