//! `process_madvise`: several ranges at once, and partial results.

mod common;

use common::{flags, map, map_as, memory, page, ranges, state};
use maple_mm::{AddressSpace, AdvisedRange, Adviser, Errno, LinuxProfile, Setup, VmFlags, abi::*};

const RW: u64 = PROT_READ | PROT_WRITE;

const fn at(index: u64, len: u64) -> AdvisedRange {
    AdvisedRange {
        addr: page(index),
        len,
    }
}

fn space() -> AddressSpace {
    let mut space = AddressSpace::empty();
    map(&mut space, 0, 4);
    map(&mut space, 6, 8);
    space
}

fn advise(space: &mut AddressSpace, ranges: &[AdvisedRange], advice: i32) -> Result<u64, Errno> {
    let result = space.process_madvise(Adviser::Itself, ranges, advice);
    space.validate().unwrap();
    result
}

#[test]
fn bytes_are_counted_as_passed_and_advised_in_whole_pages() {
    let mut space = space();
    let ranges_given = [at(0, PAGE_SIZE + 1), at(6, 1)];
    let advised = advise(&mut space, &ranges_given, MADV_DONTFORK);
    assert_eq!(advised, Ok(PAGE_SIZE + 2));
    assert_eq!(ranges(&space), "0-2 2-4 6-7 7-8");
}

#[test]
fn what_precedes_a_refusal_counts_and_only_the_first_range_tells_why() {
    let mut space = space();
    let hole = at(5, PAGE_SIZE);
    let unaligned = AdvisedRange {
        addr: page(0) + 1,
        len: PAGE_SIZE,
    };
    let one = at(0, PAGE_SIZE);
    let dump = |space: &mut AddressSpace, list: &[AdvisedRange]| advise(space, list, MADV_DONTDUMP);
    assert_eq!(dump(&mut space, &[hole]), Err(Errno::ENOMEM));
    assert_eq!(dump(&mut space, &[unaligned]), Err(Errno::EINVAL));
    assert_eq!(
        dump(&mut space, &[one, hole, at(1, PAGE_SIZE)]),
        Ok(PAGE_SIZE)
    );
    assert_eq!(dump(&mut space, &[one, unaligned]), Ok(PAGE_SIZE));
    assert_eq!(ranges(&space), "0-1 1-4 6-8");
    // Part of the range that is refused is advised, but does not count.
    let reaches_out = at(3, 2 * PAGE_SIZE);
    assert_eq!(dump(&mut space, &[one, reaches_out]), Ok(PAGE_SIZE));
    assert!(flags(&space, 3).contains(VmFlags::DONTDUMP));
}

#[test]
fn an_empty_range_is_only_looked_at_in_first_place() {
    let mut space = space();
    let nowhere = AdvisedRange { addr: 1, len: 0 };
    let one = at(0, PAGE_SIZE);
    assert_eq!(advise(&mut space, &[], MADV_DONTFORK), Ok(0));
    assert_eq!(advise(&mut space, &[], 99), Ok(0));
    assert_eq!(advise(&mut space, &[nowhere], 99), Ok(0));
    assert_eq!(
        advise(&mut space, &[at(0, 0), one], MADV_NORMAL),
        Ok(PAGE_SIZE)
    );
    assert_eq!(
        advise(&mut space, &[nowhere, one], MADV_NORMAL),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        advise(&mut space, &[one, nowhere, one], MADV_NORMAL),
        Ok(2 * PAGE_SIZE)
    );
}

#[test]
fn the_vector_is_checked_before_anything_is_advised() {
    let mut space = space();
    let before = state(&space);
    let one = at(0, PAGE_SIZE);
    let end = space.layout().task_size;
    let refused = |space: &mut AddressSpace, list: &[AdvisedRange]| {
        advise(space, list, MADV_DONTFORK).unwrap_err()
    };
    assert_eq!(refused(&mut space, &[one, at(0, 1 << 63)]), Errno::EINVAL);
    assert_eq!(refused(&mut space, &[one; 1025]), Errno::EINVAL);
    assert_eq!(refused(&mut space, &[one, at(0, end)]), Errno::EFAULT);
    let beyond = AdvisedRange { addr: end, len: 1 };
    assert_eq!(refused(&mut space, &[one, beyond]), Errno::EFAULT);
    assert_eq!(refused(&mut space, &[beyond]), Errno::EFAULT);
    assert_eq!(state(&space), before);
    // A single one is cut to 2 GiB before it is looked at.
    assert_eq!(refused(&mut space, &[at(0, end)]), Errno::ENOMEM);
}

#[test]
fn no_more_than_2_gib_are_advised_about() {
    let mut space = AddressSpace::empty();
    let most = 0x7fff_f000;
    map_as(&mut space, memory(0, (3 << 30) / PAGE_SIZE, PROT_NONE));
    let all = [at(0, 1 << 30), at(1 << 18, 2 << 30)];
    assert_eq!(advise(&mut space, &all, MADV_DONTFORK), Ok(most));
    assert_eq!(space.vma_at(page(0)).unwrap().len_bytes(), most);
}

#[test]
fn another_process_may_only_move_pages() {
    let mut space = space();
    let mut other = |advice| space.process_madvise(Adviser::Another, &[at(0, 4096)], advice);
    for advice in [MADV_WILLNEED, MADV_COLD, MADV_PAGEOUT] {
        assert_eq!(other(advice), Ok(PAGE_SIZE));
    }
    for advice in [
        MADV_DONTNEED,
        MADV_DONTFORK,
        MADV_NORMAL,
        MADV_GUARD_INSTALL,
        99,
    ] {
        assert_eq!(other(advice), Err(Errno::EINVAL));
    }
}

#[test]
fn up_to_6_12_one_s_own_memory_is_no_exception() {
    let profile = LinuxProfile::V6_12;
    let setup = Setup {
        profile,
        ..Setup::default()
    };
    let mut space = AddressSpace::from_layout(setup, []).unwrap();
    map_as(&mut space, memory(0, 1, RW));
    assert_eq!(
        advise(&mut space, &[at(0, 1)], MADV_DONTFORK),
        Err(Errno::EINVAL)
    );
    assert_eq!(advise(&mut space, &[], 99), Err(Errno::EINVAL));
    assert_eq!(advise(&mut space, &[at(0, 1)], MADV_COLD), Ok(1));
}
