//! Who gets the last frames, where two want some.

use std::ops::Range;
use std::sync::Arc;

use maple_mm::{Access, Errno, Fault, MremapRequest, abi::*};

use crate::hook::{HookMemory, Other, Progress, place};
use crate::{HUGE, START, STEPS_MOST, Space, end, fixed, map, map_huge, space};

/// What is done to the second half of a page.
type Call = fn(&mut Space, Range<u64>) -> Result<(), Errno>;

fn unmap(space: &mut Space, range: Range<u64>) -> Result<(), Errno> {
    space.munmap(range.start, range.end - range.start)
}

fn close(space: &mut Space, range: Range<u64>) -> Result<(), Errno> {
    space.mprotect(range.start, range.end - range.start, PROT_NONE)
}

fn discard(space: &mut Space, range: Range<u64>) -> Result<(), Errno> {
    space.madvise(range.start, range.end - range.start, MADV_DONTNEED)
}

fn replace(space: &mut Space, range: Range<u64>) -> Result<(), Errno> {
    let request = fixed(range.start, range.end - range.start);
    space.mmap(request).map(drop)
}

fn take_away(space: &mut Space, range: Range<u64>) -> Result<(), Errno> {
    let moved = space.mremap(MremapRequest {
        addr: range.start,
        old_len: range.end - range.start,
        new_len: range.end - range.start,
        flags: MREMAP_MAYMOVE | MREMAP_FIXED,
        new_addr: 2 * START,
    });
    moved.map(drop)
}

/// `call` is made for half of a huge page, which comes at the `step`th step of the call; from then
/// on there are no frames. Whether the page came, and what became of the call; `None` if that has
/// fewer steps.
fn changes_half(call: Call, step: usize) -> Option<(bool, Result<(), Errno>)> {
    let memory = HookMemory::new(2048 + 512);
    let space = space(&memory);
    map_huge(&space);
    let half = START + HUGE / 2..START + HUGE;
    let (here, frames) = (Arc::clone(&space), memory.clone());
    let come = move || {
        let fault = Other::start(move || here.fault(START, Access::Write));
        frames.fail_after(Some(0));
        fault
    };
    let mut owner = space.lock();
    let (changed, fault) = place((step, |_| true), || call(&mut owner, half.clone()), come);
    drop(owner);
    let met = fault.map(|fault| {
        let came = fault.progress == Progress::Ended;
        let fault = fault.join();
        (came && fault == Ok(()), changed)
    });
    memory.fail_after(None);
    if changed.is_err() {
        // LINUX: `madvise` tells of want of memory by `EAGAIN`.
        let refusal = [Err(Errno::ENOMEM), Err(Errno::EAGAIN)];
        assert!(refusal.contains(&changed), "step {step}: {changed:?}");
        assert_eq!(space.lock().validate_pages(), Ok(()), "step {step}");
        assert_eq!(call(&mut space.lock(), half), Ok(()), "step {step}");
    }
    assert_eq!(space.write(START, b"stays"), Ok(()), "step {step}");
    end(space, &memory);
    met
}

#[test]
fn what_was_prepared_is_carried_out_where_a_huge_page_comes_over_an_edge() {
    let calls: [Call; 5] = [unmap, close, discard, replace, take_away];
    for call in calls {
        let (mut step, mut refused, mut done) = (0, 0, 0);
        while let Some((came, changed)) = changes_half(call, step) {
            refused += u32::from(came && changed.is_err());
            done += u32::from(came && changed.is_ok());
            step += 1;
            assert!(step < STEPS_MOST, "a call does not end");
        }
        assert!(
            refused > 0,
            "the page always came too late for want of frames"
        );
        assert!(
            done > 0,
            "the page always came too early for frames set aside"
        );
    }
}

/// A write to a page that is not there stands still at its `step`th step, while another thread
/// writes to the same page; there is one frame. What became of the other; `None` if the first has
/// fewer steps.
fn wants_the_same(step: usize) -> Option<Result<(), Fault>> {
    let memory = HookMemory::new(64);
    let space = space(&memory);
    map(&space, START, 2 * PAGE_SIZE);
    // The tables are there, and the history of the mapping.
    space.write(START + PAGE_SIZE, b"beside").unwrap();
    memory.fail_after(Some(1));
    let here = Arc::clone(&space);
    let (first, second) = place(
        (step, |_| true),
        || space.write(START, b"here"),
        move || Other::start(move || here.write(START + 8, b"there")),
    );
    assert_eq!(first, Ok(()), "step {step}");
    let second = second.map(|second| second.join().map_err(|end| end.fault));
    memory.fail_after(None);
    let mut bytes = [0; 4];
    assert_eq!(space.read(START, &mut bytes), Ok(()));
    assert_eq!(&bytes, b"here", "step {step}");
    assert_eq!(space.statistics().resident.anon, 2);
    end(space, &memory);
    second
}

#[test]
fn the_last_frame_is_for_the_page_that_both_want() {
    let (mut shared, mut refused) = (0, 0);
    for step in 0..STEPS_MOST {
        match wants_the_same(step) {
            Some(Ok(())) => shared += 1,
            // The first one had the frame by then, and had not mapped it.
            Some(Err(fault)) => {
                assert_eq!(fault, Fault::OutOfMemory);
                refused += 1;
            }
            None => {
                assert!(
                    shared > 0 && refused > 0,
                    "both before and after: {shared}, {refused}"
                );
                return;
            }
        }
    }
    panic!("a write does not end");
}
