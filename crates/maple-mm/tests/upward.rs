//! The layout that hands addresses out from below (`ADDR_COMPAT_LAYOUT`).

mod common;

use common::{file, page};
use maple_mm::{
    AddressSpace, Direction, Errno, FileAccess, Layout, MmapFile, MmapRequest, Setup, abi::*,
};

const RW: u64 = PROT_READ | PROT_WRITE;
const BASE: u64 = 0x2aaa_aaaa_b000;

fn upward() -> AddressSpace {
    let layout = Layout {
        direction: Direction::BottomUp,
        legacy_base: BASE,
        mmap_base: BASE,
        ..Layout::default()
    };
    let setup = Setup {
        layout,
        ..Setup::default()
    };
    AddressSpace::from_layout(setup, []).unwrap()
}

fn map_more(space: &mut AddressSpace, len: u64, flags: u64) -> u64 {
    let request = MmapRequest {
        flags: MAP_PRIVATE | MAP_ANONYMOUS | flags,
        ..MmapRequest::anonymous(len, RW)
    };
    space.mmap(request).unwrap()
}

fn hint(space: &mut AddressSpace, addr: u64, len: u64, flags: u64) -> Result<u64, Errno> {
    let request = MmapRequest {
        addr,
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags,
        ..MmapRequest::anonymous(len, PROT_NONE)
    };
    space.mmap(request)
}

#[test]
fn the_lowest_hole_above_the_base_is_taken() {
    let mut space = upward();
    let places: Vec<u64> = (0..3).map(|_| map_more(&mut space, PAGE_SIZE, 0)).collect();
    assert_eq!(places, [BASE, BASE + PAGE_SIZE, BASE + 2 * PAGE_SIZE]);
    space.munmap(BASE + PAGE_SIZE, PAGE_SIZE).unwrap();
    assert_eq!(map_more(&mut space, 2 * PAGE_SIZE, 0), BASE + 3 * PAGE_SIZE);
    assert_eq!(map_more(&mut space, PAGE_SIZE, 0), BASE + PAGE_SIZE);
}

#[test]
fn whole_huge_pages_go_to_the_first_boundary_with_one_to_spare() {
    let mut space = upward();
    map_more(&mut space, PAGE_SIZE, 0);
    let first = (BASE + PAGE_SIZE).next_multiple_of(HUGE_PAGE_SIZE);
    assert_eq!(map_more(&mut space, HUGE_PAGE_SIZE, 0), first);
    assert_eq!(
        map_more(&mut space, HUGE_PAGE_SIZE, 0),
        first + HUGE_PAGE_SIZE
    );
    // What is no multiple fills the hole below.
    assert_eq!(map_more(&mut space, PAGE_SIZE, 0), BASE + PAGE_SIZE);
}

#[test]
fn a_place_on_a_boundary_already_is_not_moved_up() {
    let mut space = upward();
    let boundary = BASE.next_multiple_of(HUGE_PAGE_SIZE);
    map_more(&mut space, boundary - BASE, 0);
    assert_eq!(map_more(&mut space, HUGE_PAGE_SIZE, 0), boundary);
}

#[test]
fn a_file_is_aligned_by_its_offset() {
    let mut space = upward();
    let request = MmapRequest {
        flags: MAP_PRIVATE,
        file: MmapFile::Open(file(1, FileAccess::READ)),
        offset: PAGE_SIZE,
        ..MmapRequest::anonymous(2 * HUGE_PAGE_SIZE, PROT_READ)
    };
    let addr = space.mmap(request).unwrap();
    assert_eq!(addr, BASE.next_multiple_of(HUGE_PAGE_SIZE) + PAGE_SIZE);
}

#[test]
fn a_stack_keeps_its_gap_below() {
    let mut space = upward();
    let gap = 256 * PAGE_SIZE;
    let stack = map_more(&mut space, PAGE_SIZE, MAP_GROWSDOWN);
    assert_eq!(stack, BASE);
    let high = BASE + gap + 2 * PAGE_SIZE;
    hint(&mut space, high, PAGE_SIZE, MAP_GROWSDOWN | MAP_FIXED).unwrap();
    // One page fits between both, and not a second one.
    assert_eq!(map_more(&mut space, PAGE_SIZE, 0), BASE + PAGE_SIZE);
    assert_eq!(map_more(&mut space, PAGE_SIZE, 0), high + PAGE_SIZE);
}

#[test]
fn a_hint_is_rounded_up_and_taken_if_free_even_below_the_base() {
    let mut space = upward();
    assert_eq!(hint(&mut space, page(3) - 1, PAGE_SIZE, 0), Ok(page(2)));
    assert_eq!(hint(&mut space, page(2), PAGE_SIZE, 0), Ok(BASE));
}

#[test]
fn a_low_hint_may_be_longer_than_where_the_search_begins_leaves() {
    for mut space in [upward(), AddressSpace::empty()] {
        let low = 0x1_0000;
        assert_eq!(hint(&mut space, low, 0x5000_0000, MAP_32BIT), Ok(low));
        let beyond = hint(&mut space, 0x6000_0000, 0x3000_0000, MAP_32BIT);
        assert_eq!(beyond, Err(Errno::ENOMEM));
    }
}

#[test]
fn there_is_nothing_below_the_base_to_fall_back_to() {
    let mut space = upward();
    let task_size = space.layout().task_size;
    assert_eq!(hint(&mut space, 0, task_size - BASE, 0), Ok(BASE));
    assert_eq!(hint(&mut space, 0, PAGE_SIZE, 0), Err(Errno::ENOMEM));
    assert_eq!(hint(&mut space, page(0), PAGE_SIZE, 0), Ok(page(0)));
}

#[test]
fn a_search_below_2_gib_ends_there() {
    let mut space = upward();
    assert_eq!(map_more(&mut space, PAGE_SIZE, MAP_32BIT), 0x4000_0000);
    let request = MmapRequest {
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT | MAP_NORESERVE,
        ..MmapRequest::anonymous(0x4000_0000, RW)
    };
    assert_eq!(space.mmap(request), Err(Errno::ENOMEM));
}
