//! How memory is promised: the three modes, their limits, changes on the way.

mod common;

use std::sync::Arc;

use common::{map_as, memory, page};
use maple_mm::{
    Access, AddressSpace, Capabilities, CommitBound, Errno, Fault, Limits, MmapRequest, Overcommit,
    Setup, System, SystemSettings, VmFlags, abi::*,
};

const RW: u64 = PROT_READ | PROT_WRITE;

fn space(overcommit: Overcommit, capabilities: Capabilities) -> AddressSpace {
    let settings = SystemSettings {
        overcommit,
        ram_pages: 1000,
        swap_pages: 10,
        ..SystemSettings::default()
    };
    let setup = Setup {
        system: Arc::new(System::new(settings)),
        capabilities,
        ..Setup::default()
    };
    AddressSpace::from_layout(setup, []).unwrap()
}

const fn never(limit_pages: u64) -> Overcommit {
    Overcommit::Never {
        limit_pages,
        admin_reserve_pages: 20,
        user_reserve_pages: 7,
    }
}

fn promise(space: &mut AddressSpace, pages: u64) -> Result<u64, Errno> {
    space.mmap(MmapRequest::anonymous(pages * PAGE_SIZE, RW))
}

#[test]
fn guessing_refuses_what_is_larger_than_memory_and_swap() {
    let mut space = space(Overcommit::Guess, Capabilities::empty());
    assert_eq!(promise(&mut space, 1011), Err(Errno::ENOMEM));
    for _ in 0..3 {
        promise(&mut space, 1010).unwrap();
    }
}

#[test]
fn a_stack_grows_by_no_more_than_there_is_memory_for_whether_or_not_it_counts() {
    for prot in [PROT_READ, RW] {
        let mut space = space(Overcommit::Guess, Capabilities::empty());
        space.set_limits(Limits {
            stack: u64::MAX,
            ..Limits::default()
        });
        let request = MmapRequest {
            flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN,
            ..memory(5000, 5001, prot)
        };
        map_as(&mut space, request);
        let grown_by = |pages| page(5000) - pages * PAGE_SIZE;
        let refused = space.fault(grown_by(1011), Access::Read);
        assert_eq!(refused, Err(Fault::NotMapped));
        assert_eq!(space.statistics().total_vm, 1);
        space.fault(grown_by(1010), Access::Read).unwrap();
        assert_eq!(space.statistics().total_vm, 1011);
        let counted = if prot == RW { 1011 } else { 0 };
        assert_eq!(space.system().committed(), counted);
    }
}

#[test]
fn always_refuses_nothing() {
    let mut space = space(Overcommit::Always, Capabilities::empty());
    promise(&mut space, 1 << 33).unwrap();
}

#[test]
fn the_sum_stays_below_the_limit_without_both_reserves() {
    let mut admin = space(never(100), Capabilities::SYS_ADMIN);
    assert_eq!(promise(&mut admin, 100), Err(Errno::ENOMEM));
    promise(&mut admin, 99).unwrap();
    let mut user = space(never(100), Capabilities::empty());
    assert_eq!(promise(&mut user, 80), Err(Errno::ENOMEM));
    promise(&mut user, 79).unwrap();
}

#[test]
fn the_users_reserve_is_a_32nd_of_what_is_mapped_up_to_its_bound() {
    for (mapped, reserve) in [
        (31, 0),
        (32, 1),
        (32 * 6 + 31, 6),
        (32 * 7, 7),
        (32 * 50, 7),
    ] {
        let mut space = space(never(100), Capabilities::SYS_ADMIN);
        map_as(&mut space, memory(0, mapped, PROT_NONE));
        assert_eq!(promise(&mut space, 100 - reserve), Err(Errno::ENOMEM));
        promise(&mut space, 99 - reserve).unwrap();
    }
}

#[test]
fn memory_that_reserves_nothing_is_promised_all_the_same() {
    let mut space = space(never(100), Capabilities::SYS_ADMIN);
    let free = MmapRequest {
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
        ..memory(0, 1, RW)
    };
    map_as(&mut space, free);
    let flags = space.vma_at(page(0)).unwrap().flags();
    assert!(flags.contains(VmFlags::ACCOUNT) && !flags.contains(VmFlags::NORESERVE));
}

#[test]
fn the_limit_is_a_part_of_memory_or_a_number_with_all_swap() {
    let settings = SystemSettings {
        ram_pages: 2000,
        swap_pages: 10,
        huge_pages: 2,
        ..SystemSettings::default()
    };
    let limit = |bound: CommitBound| bound.limit_pages(&settings);
    // Two huge pages are no memory to promise.
    assert_eq!(limit(CommitBound::Percent(50)), (2000 - 1024) / 2 + 10);
    assert_eq!(limit(CommitBound::Percent(0)), 10);
    assert_eq!(limit(CommitBound::KiB(403)), 100 + 10);
}

#[test]
fn a_change_counts_from_the_next_call_on_and_takes_nothing_back() {
    let mut space = space(Overcommit::Always, Capabilities::SYS_ADMIN);
    promise(&mut space, 5000).unwrap();
    let system = Arc::clone(space.system());
    system.set_overcommit(never(5100));
    assert_eq!(system.settings().overcommit, never(5100));
    // What is mapped costs seven pages of reserve.
    assert_eq!(promise(&mut space, 93), Err(Errno::ENOMEM));
    promise(&mut space, 92).unwrap();
    system.set_overcommit(Overcommit::Guess);
    promise(&mut space, 1010).unwrap();
    assert_eq!(system.committed(), 5000 + 92 + 1010);
}

#[test]
fn a_lower_number_of_mappings_counts_from_the_next_call_on() {
    let mut space = space(Overcommit::Guess, Capabilities::empty());
    for index in 0..6 {
        map_as(&mut space, memory(2 * index, 2 * index + 1, RW));
    }
    space.system().set_max_map_count(5);
    assert_eq!(space.system().settings().max_map_count, 5);
    assert_eq!(promise(&mut space, 1), Err(Errno::ENOMEM));
    space.munmap(page(0), PAGE_SIZE).unwrap();
    promise(&mut space, 1).unwrap();
}
