//! What was kept of an address space says the same whatever becomes of it.

mod common;

use std::sync::mpsc;
use std::thread;

use common::paged::{frames, set, space};
use common::{BASE, file, map, map_as, memory, of_file, page};
use maple_mm::{
    AddressSpace, FileAccess, Gate, Layout, MmapRequest, Moment, PageSide, Setup, Statistics,
    abi::*,
};

/// All texts, and the counters.
fn texts<P: PageSide>(space: &AddressSpace<P>) -> (String, Statistics) {
    let mut text = String::new();
    space.write_maps(&mut text).unwrap();
    space.write_smaps(&mut text).unwrap();
    space.write_status(&mut text).unwrap();
    (text, space.statistics())
}

fn kept(moment: &Moment) -> (String, Statistics) {
    let mut text = String::new();
    moment.write_maps(&mut text).unwrap();
    moment.write_smaps(&mut text).unwrap();
    moment.write_status(&mut text).unwrap();
    (text, *moment.statistics())
}

/// A heap, a stack, a file, locked memory and more mappings than one node holds.
fn assorted() -> AddressSpace {
    let layout = Layout {
        start_brk: page(0) + 16,
        brk: page(2),
        start_stack: page(500),
        gate: Gate::Readable,
        start_code: page(10),
        end_code: page(11),
        ..Layout::default()
    };
    let setup = Setup {
        layout,
        ..Setup::default()
    };
    let mut space = AddressSpace::from_layout(setup, []).unwrap();
    map(&mut space, 0, 2);
    map(&mut space, 499, 501);
    let code = MmapRequest {
        prot: PROT_READ | PROT_EXEC,
        ..of_file(&file(1, FileAccess::READ), 10..12, 3)
    };
    map_as(&mut space, code);
    for first in (20..120).step_by(2) {
        map_as(&mut space, memory(first, first + 1, PROT_READ));
    }
    space.mlock(page(0), PAGE_SIZE).unwrap();
    space
}

#[test]
fn a_moment_says_what_the_address_space_said_then() {
    let mut space = assorted();
    let (before, moment) = (texts(&space), space.moment());
    assert_eq!(kept(&moment), before);
    space.munmap(page(20), 200 * PAGE_SIZE).unwrap();
    space.mprotect(page(0), PAGE_SIZE, PROT_NONE).unwrap();
    space.brk(page(3));
    assert_ne!(texts(&space), before);
    assert_eq!(kept(&moment), before);
    drop(space);
    assert_eq!(kept(&moment), before);
}

#[test]
fn a_moment_can_be_looked_at() {
    let space = assorted();
    let moment = space.moment();
    assert_eq!(moment.vmas().count(), space.map_count());
    assert_eq!(moment.tree().len(), space.map_count());
    assert_eq!(moment.layout(), space.layout());
    let of = |vma| (space.maps_line(vma), space.name_of(vma));
    for vma in moment.vmas() {
        assert_eq!((moment.maps_line(vma), moment.name_of(vma)), of(vma));
    }
}

#[test]
fn the_counters_of_pages_are_those_of_the_moment() {
    let memory = frames(64);
    let mut space = space(&memory);
    space
        .mmap(MmapRequest {
            addr: BASE,
            flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
            ..MmapRequest::anonymous(2 * PAGE_SIZE, PROT_READ | PROT_WRITE)
        })
        .unwrap();
    set(&mut space, BASE, 1);
    let moment = space.moment();
    set(&mut space, BASE + PAGE_SIZE, 2);
    assert_eq!(moment.statistics().resident.anon, 1);
    assert_eq!(space.statistics().resident.anon, 2);
}

#[test]
fn another_thread_writes_the_text_while_mappings_change() {
    let (sender, moments) = mpsc::channel::<(Moment, String)>();
    let writer = thread::spawn(move || {
        for (moment, expected) in moments {
            let mut text = String::new();
            moment.write_maps(&mut text).unwrap();
            assert_eq!(text, expected);
        }
    });
    let mut space = assorted();
    for step in 0..50 {
        let mut text = String::new();
        space.write_maps(&mut text).unwrap();
        sender.send((space.moment(), text)).unwrap();
        space.munmap(page(20 + 2 * step), PAGE_SIZE).unwrap();
    }
    drop(sender);
    writer.join().unwrap();
    assert_eq!(space.validate(), Ok(()));
}
