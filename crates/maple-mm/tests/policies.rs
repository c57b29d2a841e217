//! What memory policies make of mappings. Pages are counted from a base.
//!
//! The rules are those of 6.18; each was observed on that kernel (with one node).

mod common;

use common::{map, page, ranges, write};
use maple_mm::{AddressSpace, BindRequest, Capabilities, Errno, MremapRequest, abi::*};

fn request(pages: std::ops::Range<u64>, mode: u64) -> BindRequest {
    BindRequest {
        addr: page(pages.start),
        len: (pages.end - pages.start) * PAGE_SIZE,
        mode,
        nodes: 1,
        allowed: 1,
        flags: 0,
    }
}

fn default(pages: std::ops::Range<u64>) -> BindRequest {
    BindRequest {
        nodes: 0,
        ..request(pages, MPOL_DEFAULT)
    }
}

fn bind(space: &mut AddressSpace, pages: std::ops::Range<u64>) {
    space.mbind(request(pages, MPOL_BIND)).unwrap();
}

fn mapped(end: u64) -> AddressSpace {
    let mut space = AddressSpace::empty();
    map(&mut space, 0, end);
    space
}

#[test]
fn equal_policies_join_and_different_ones_do_not() {
    let mut space = mapped(8);
    bind(&mut space, 1..3);
    bind(&mut space, 3..5);
    assert_eq!(ranges(&space), "0-1 1-5 5-8");
    space.mbind(request(5..6, MPOL_INTERLEAVE)).unwrap();
    assert_eq!(ranges(&space), "0-1 1-5 5-6 6-8");
    space.mbind(default(0..8)).unwrap();
    assert_eq!(ranges(&space), "0-8");
}

#[test]
fn how_nodes_are_to_be_understood_is_part_of_a_policy() {
    let mut space = mapped(8);
    space
        .mbind(request(0..2, MPOL_BIND | MPOL_F_STATIC_NODES))
        .unwrap();
    bind(&mut space, 2..4);
    space
        .mbind(request(4..6, MPOL_BIND | MPOL_F_RELATIVE_NODES))
        .unwrap();
    assert_eq!(ranges(&space), "0-2 2-4 4-6 6-8");
}

#[test]
fn modes_say_how_many_nodes_they_take() {
    let mut space = mapped(2);
    let mut asked = |mode, nodes| {
        let request = BindRequest {
            nodes,
            ..request(0..2, mode)
        };
        space.mbind(request)
    };
    for mode in 0..9 {
        let takes_none = matches!(mode, MPOL_DEFAULT | MPOL_PREFERRED | MPOL_LOCAL);
        let takes_one = !matches!(mode, MPOL_DEFAULT | MPOL_LOCAL | 7 | 8);
        assert_eq!(asked(mode, 0).is_ok(), takes_none, "{mode}");
        assert_eq!(asked(mode, 1).is_ok(), takes_one, "{mode}");
        assert_eq!(asked(mode, 2), Err(Errno::EINVAL), "{mode}");
        assert_eq!(asked(mode, 3).is_ok(), takes_one, "{mode}");
        let balanced = asked(mode | MPOL_F_NUMA_BALANCING, 1).is_ok();
        let may_balance = matches!(mode, MPOL_BIND | MPOL_PREFERRED_MANY);
        assert_eq!(balanced, may_balance, "{mode}");
        let both = mode | MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES;
        assert_eq!(asked(both, 1), Err(Errno::EINVAL), "{mode}");
    }
}

#[test]
fn flags_are_known_and_one_asks_for_a_privilege() {
    let mut space = mapped(2);
    let mut asked = |flags| {
        space.mbind(BindRequest {
            flags,
            ..request(0..2, MPOL_BIND)
        })
    };
    assert_eq!(asked(MPOL_MF_STRICT | MPOL_MF_MOVE), Ok(()));
    assert_eq!(asked(MPOL_MF_MOVE_ALL), Err(Errno::EPERM));
    assert_eq!(asked(8), Err(Errno::EINVAL));
    space.set_capabilities(Capabilities::SYS_NICE);
    let all = BindRequest {
        flags: MPOL_MF_MOVE_ALL,
        ..request(0..2, MPOL_BIND)
    };
    assert_eq!(space.mbind(all), Ok(()));
}

#[test]
fn a_policy_wants_no_hole_and_the_default_wants_one_mapping() {
    let mut space = mapped(8);
    bind(&mut space, 0..8);
    assert_eq!(space.mbind(request(6..10, MPOL_LOCAL)), Err(Errno::EINVAL));
    for pages in [6..10, 20..22] {
        let refused = space.mbind(request(pages, MPOL_INTERLEAVE));
        assert_eq!(refused, Err(Errno::EFAULT));
    }
    assert_eq!(ranges(&space), "0-8");
    assert_eq!(space.mbind(default(20..22)), Err(Errno::EFAULT));
    space.mbind(default(6..10)).unwrap();
    assert_eq!(ranges(&space), "0-6 6-8");
}

#[test]
fn ranges_begin_at_a_page_and_may_wrap_to_nothing() {
    let mut space = mapped(2);
    let mut asked = |addr, len| {
        space.mbind(BindRequest {
            addr,
            len,
            ..request(0..2, MPOL_BIND)
        })
    };
    assert_eq!(asked(page(0) + 1, PAGE_SIZE), Err(Errno::EINVAL));
    assert_eq!(asked(page(0), u64::MAX), Ok(()));
    assert_eq!(asked(page(0), u64::MAX - 2 * PAGE_SIZE), Err(Errno::EINVAL));
    assert_eq!(asked(page(0), 0), Ok(()));
}

#[test]
fn fresh_memory_has_none_and_what_moves_or_is_inherited_keeps_it() {
    let mut space = mapped(4);
    bind(&mut space, 0..4);
    map(&mut space, 4, 6);
    assert_eq!(ranges(&space), "0-4 4-6");
    let moved = MremapRequest {
        addr: page(0),
        old_len: 2 * PAGE_SIZE,
        new_len: 2 * PAGE_SIZE,
        flags: MREMAP_MAYMOVE | MREMAP_FIXED,
        new_addr: page(20),
    };
    space.mremap(moved).unwrap();
    map(&mut space, 22, 24);
    assert_eq!(ranges(&space), "2-4 4-6 20-22 22-24");
    bind(&mut space, 22..24);
    assert_eq!(ranges(&space), "2-4 4-6 20-24");
    let mut child = space.fork().unwrap();
    map(&mut child, 24, 25);
    assert_eq!(ranges(&child), "2-4 4-6 20-24 24-25");
    bind(&mut child, 24..25);
    assert_eq!(ranges(&child), "2-4 4-6 20-25");
}

#[test]
fn written_neighbours_with_other_policies_do_not_share_their_history() {
    let mut space = mapped(4);
    bind(&mut space, 0..2);
    write(&mut space, 0);
    write(&mut space, 2);
    space.mbind(default(0..4)).unwrap();
    assert_eq!(ranges(&space), "0-2 2-4");
}

#[test]
fn a_home_node_is_for_policies_that_name_several() {
    let mut space = mapped(8);
    bind(&mut space, 0..4);
    let mut home = |first, pages: u64| space.set_home_node(page(first), pages * PAGE_SIZE, 0);
    assert_eq!(home(4, 1), Err(Errno::ENOENT));
    assert_eq!(home(20, 1), Err(Errno::ENOENT));
    assert_eq!(home(0, 0), Ok(()));
    assert_eq!(home(0, 2), Ok(()));
    assert_eq!(ranges(&space), "0-2 2-4 4-8");
    let unaligned = space.set_home_node(page(0) + 1, PAGE_SIZE, 0);
    assert_eq!(unaligned, Err(Errno::EINVAL));
    space.set_home_node(page(0), 8 * PAGE_SIZE, 0).unwrap();
    assert_eq!(ranges(&space), "0-4 4-8");
    space.mbind(request(4..6, MPOL_INTERLEAVE)).unwrap();
    let mixed = space.set_home_node(page(0), 8 * PAGE_SIZE, 0);
    assert_eq!(mixed, Err(Errno::EOPNOTSUPP));
}
