//! Huge pages that come while somebody changes a part of them.

use std::sync::Arc;

use maple_mm::paging::LeafFlags;
use maple_mm::{Access, Fault, MmapRequest, System, SystemSettings, abi::*};

use crate::hook::{HookMemory, Other, Progress, elsewhere, place};
use crate::{HUGE, START, STEPS_MOST, Shared, end, entry, fixed, map_huge, space, space_on};

/// A fault that maps a huge page stands still at its `step`th step, while another thread sets
/// `prot` for the second half of the page. Whether that had to wait for the fault, and the page
/// came; `None` if the fault has fewer steps.
fn protects_half(prot: u64, step: usize) -> Option<bool> {
    let memory = HookMemory::new(2048 + 512);
    let space = space(&memory);
    map_huge(&space);
    // Calls that change other mappings, so that the fault looks its own up before it ends.
    let (here, there) = (Arc::clone(&space), Arc::clone(&space));
    let mut seen = 0;
    let counts = move |_| {
        if seen < step {
            let space = Arc::clone(&there);
            elsewhere(move || {
                let request = MmapRequest::anonymous(PAGE_SIZE, PROT_READ);
                space.lock().mmap(request).map(drop)
            })
            .expect("room");
        }
        seen += 1;
        true
    };
    let (fault, protect) = place(
        (step, counts),
        || space.fault(START, Access::Write),
        move || Other::start(move || here.lock().mprotect(START + HUGE / 2, HUGE / 2, prot)),
    );
    assert_eq!(fault, Ok(()), "step {step}");
    let is_met = protect.map(|protect| {
        let waited = protect.progress == Progress::Waits;
        assert_eq!(protect.join(), Ok(()), "step {step}");
        assert_half(&space, prot, step);
        waited && entry(&space, START + PAGE_SIZE).is_some()
    });
    end(space, &memory);
    is_met
}

/// The first half of the page may be used as ever, and the second as `prot` says.
#[track_caller]
fn assert_half(space: &Shared, prot: u64, step: usize) {
    let valid = space.lock().validate_pages();
    assert_eq!(valid, Ok(()), "step {step}");
    let first = Arc::clone(space);
    // A page that can never be made ready would be tried for ever.
    let (written, read) = elsewhere(move || {
        let written = first.write(START, b"first");
        (written, first.read(START, &mut [0; 5]))
    });
    assert_eq!((written, read), (Ok(()), Ok(())), "step {step}");
    let second = space.write(START + HUGE / 2, b"second");
    let refused = second.map_err(|end| end.fault);
    assert_eq!(refused, Err(Fault::NotAllowed), "step {step}");
    let read = space.read(START + HUGE / 2, &mut [0; 6]);
    assert_eq!(read.is_ok(), prot != PROT_NONE, "step {step}");
}

#[track_caller]
fn assert_half_changes(prot: u64) {
    let mut met = 0;
    for step in 0..STEPS_MOST {
        match protects_half(prot, step) {
            Some(is_met) => met += u32::from(is_met),
            None => {
                assert!(met > 0, "no huge page came after the call had begun");
                return;
            }
        }
    }
    panic!("a fault does not end");
}

#[test]
fn half_of_a_page_that_comes_huge_meanwhile_can_be_made_read_only() {
    assert_half_changes(PROT_READ);
}

#[test]
fn half_of_a_page_that_comes_huge_meanwhile_can_be_closed() {
    assert_half_changes(PROT_NONE);
}

/// An explicitly huge page takes the place of a huge one that a write is about to split, because
/// a child has it, too. Where it came while the write stood still; `None` if that has fewer steps.
fn replaces_page_to_split(step: usize) -> Option<Progress> {
    let memory = HookMemory::new(8 * 512);
    let settings = SystemSettings {
        huge_pages: 2,
        ..SystemSettings::default()
    };
    let system = Arc::new(System::new(settings));
    let space = space_on(&memory, &system);
    map_huge(&space);
    space.write(START, b"x").unwrap();
    let child = space.fork().unwrap();
    // From here on its tables are its own, and the pages are not.
    space.write(START + 2 * HUGE + PAGE_SIZE, b"y").unwrap();
    let here = Arc::clone(&space);
    let replace = move || {
        here.lock().munmap(START, HUGE).unwrap();
        let request = fixed(START, HUGE);
        let request = MmapRequest {
            flags: request.flags | MAP_HUGETLB,
            ..request
        };
        assert_eq!(here.lock().mmap(request), Ok(START));
        here.write(START, b"explicit").unwrap();
    };
    let (written, replaced) = place(
        (step, |_| true),
        || space.write(START + 2 * PAGE_SIZE, b"z"),
        move || Other::start(replace),
    );
    let progress = replaced.map(|replaced| {
        let progress = replaced.progress;
        replaced.join();
        // It may find nothing mapped, for a moment.
        let written = written.map_err(|end| end.fault);
        assert!(
            matches!(written, Ok(()) | Err(Fault::NotMapped)),
            "{written:?}"
        );
        assert_explicit(&space, step);
        progress
    });
    assert_eq!(space.lock().munmap(START, HUGE), Ok(()), "step {step}");
    drop(child);
    space.barrier();
    let pool = system.huge_pages();
    assert_eq!((pool.total, pool.free), (2, 2), "step {step}");
    end(space, &memory);
    progress
}

/// The page at `START` is explicitly huge, and whole.
#[track_caller]
fn assert_explicit(space: &Shared, step: usize) {
    let page = entry(space, START).expect("it was written");
    assert_eq!(page.size, HUGE, "step {step}");
    let flags = page.leaf.attributes.flags;
    assert!(flags.contains(LeafFlags::EXPLICIT), "step {step}");
    let mut found = [0; 8];
    assert_eq!(space.read(START, &mut found), Ok(()), "step {step}");
    assert_eq!(&found, b"explicit", "step {step}");
}

#[test]
fn an_explicitly_huge_page_is_never_split_in_the_place_of_another() {
    let mut replaced = 0;
    for step in 0..STEPS_MOST {
        match replaces_page_to_split(step) {
            Some(progress) => replaced += u32::from(progress == Progress::Ended),
            None => {
                assert!(replaced > 0, "the page was never replaced before the split");
                return;
            }
        }
    }
    panic!("a write does not end");
}
