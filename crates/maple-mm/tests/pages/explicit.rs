//! Explicitly huge pages: where they come from, who sees them, and where they go.

use std::sync::Arc;

use crate::common::paged::{Memory, Space, check, frames, get, plans, set, space_in};
use maple_mm::paging::{LeafFlags, NoTlb, PhysMemory, Tiny};
use maple_mm::{
    Access, AddressSpace, Fault, HugePages, MappedPages, MmapFile, MmapRequest, MremapRequest,
    Setup, System, SystemSettings, abi::*,
};

const RW: u64 = PROT_READ | PROT_WRITE;
const H: u64 = HUGE_PAGE_SIZE;
const BASE: u64 = 0x20_0000_0000;
const PRIVATE: u64 = MAP_PRIVATE;
const FREE: u64 = MAP_NORESERVE;

const fn at(index: u64) -> u64 {
    BASE + index * H
}

fn setup(huge_pages: u32) -> Setup {
    let settings = SystemSettings {
        huge_pages,
        ..SystemSettings::default()
    };
    Setup {
        system: Arc::new(System::new(settings)),
        ..Setup::default()
    }
}

/// Memory for `frames` huge pages and what else is needed, and an address space in it whose
/// machine has a pool of `pool` pages.
fn machine(huge_frames: u32, pool: u32) -> (Memory, Space) {
    let memory = frames(512 * (huge_frames + 1) + 256);
    let space = space_in(&memory, setup(pool));
    (memory, space)
}

#[track_caller]
fn map(space: &mut Space, flags: u64, pages: std::ops::Range<u64>) {
    let request = MmapRequest {
        addr: at(pages.start),
        flags: flags | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED,
        ..MmapRequest::anonymous((pages.end - pages.start) * H, RW)
    };
    space.mmap(request).unwrap();
}

/// Free and reserved pages of the pool.
fn stock(space: &Space) -> (u64, u64) {
    let HugePages { free, reserved, .. } = space.system().huge_pages();
    (free, reserved)
}

/// Nothing is left of anything.
#[track_caller]
fn end(memory: &Memory, spaces: Vec<Space>) {
    let system = Arc::clone(spaces[0].system());
    drop(spaces);
    assert_eq!(memory.in_use(), 0, "frames were leaked");
    let HugePages {
        total,
        free,
        reserved,
    } = system.huge_pages();
    assert_eq!(
        (free, reserved),
        (total, 0),
        "pages of the pool were leaked"
    );
}

#[test]
fn a_touch_brings_one_huge_page_in_and_counts_it_apart() {
    for access in [Access::Read, Access::Write] {
        let (memory, mut space) = machine(2, 2);
        map(&mut space, PRIVATE, 0..2);
        let used = memory.in_use();
        space.fault(at(0) + 5 * 4096, access).unwrap();
        assert_eq!(stock(&space), (1, 1));
        let resident = space.statistics().resident;
        assert_eq!((resident.explicit, resident.anon), (512, 0));
        assert_eq!(space.statistics().peak_resident, 0);
        let page = space.page_side().tables().entry(at(0)).unwrap();
        assert_eq!((page.start, page.size), (at(0), H));
        assert!(page.leaf.attributes.flags.contains(LeafFlags::EXPLICIT));
        set(&mut space, at(1) - 8, 7);
        assert_eq!(get(&mut space, at(1) - 8), 7);
        assert_eq!(memory.in_use() - used, 512 + 2);
        check(&[&space]);
        end(&memory, vec![space]);
    }
}

#[test]
fn a_pool_that_is_empty_is_a_bus_error_and_nothing_changes() {
    for flags in [PRIVATE | FREE, MAP_SHARED | FREE] {
        let (memory, mut space) = machine(3, 1);
        map(&mut space, flags, 0..2);
        set(&mut space, at(0), 1);
        let before = crate::common::state(&space);
        for access in [Access::Read, Access::Write] {
            assert_eq!(space.fault(at(1), access), Err(Fault::Bus));
            assert_eq!(crate::common::state(&space), before);
        }
        space.madvise(at(0), H, MADV_DONTNEED).unwrap();
        // What all share is the object's still.
        let expected = if flags & MAP_PRIVATE == 0 {
            Err(Fault::Bus)
        } else {
            Ok(())
        };
        assert_eq!(space.fault(at(1), Access::Write), expected);
        check(&[&space]);
        end(&memory, vec![space]);
    }
}

#[test]
fn a_memory_without_a_huge_frame_is_a_bus_error_too() {
    for flags in [PRIVATE, MAP_SHARED] {
        let memory = frames(300);
        let mut space = space_in(&memory, setup(2));
        map(&mut space, flags, 0..2);
        let before = crate::common::state(&space);
        assert_eq!(space.fault(at(0), Access::Write), Err(Fault::Bus));
        assert_eq!(crate::common::state(&space), before);
        assert_eq!(stock(&space), (2, 2));
        end(&memory, vec![space]);
    }
}

/// Others find nothing that was promised.
#[test]
fn a_promise_is_kept_against_all_others() {
    let (memory, mut space) = machine(2, 2);
    map(&mut space, PRIVATE, 0..2);
    map(&mut space, PRIVATE | FREE, 4..5);
    assert_eq!(space.fault(at(4), Access::Write), Err(Fault::Bus));
    for index in 0..2 {
        set(&mut space, at(index), index);
    }
    assert_eq!(stock(&space), (0, 0));
    end(&memory, vec![space]);
}

#[test]
fn discarded_pages_are_promised_anew() {
    let (memory, mut space) = machine(2, 2);
    map(&mut space, PRIVATE, 0..2);
    map(&mut space, PRIVATE | FREE, 4..5);
    for index in 0..2 {
        set(&mut space, at(index), 5);
    }
    space.madvise(at(0), H + 4096, MADV_DONTNEED).unwrap();
    assert_eq!(stock(&space), (1, 1));
    assert_eq!(space.fault(at(4), Access::Write), Err(Fault::Bus));
    assert_eq!((get(&mut space, at(0)), get(&mut space, at(1))), (0, 5));
    check(&[&space]);
    end(&memory, vec![space]);
}

#[test]
fn every_way_to_fork_ends_in_the_same_contents() {
    for plan in plans() {
        let (memory, mut parent) = machine(6, 6);
        map(&mut parent, PRIVATE, 0..2);
        map(&mut parent, MAP_SHARED, 2..4);
        for index in [0, 2] {
            set(&mut parent, at(index), 10 + index);
        }
        assert_eq!(stock(&parent), (4, 2));
        let mut child = parent.fork_with(plan, || false).unwrap();
        // The child writes what is private to itself, and what is shared to both.
        for index in 0..4 {
            set(&mut child, at(index) + 64, 20 + index);
        }
        let seen = |space: &mut Space| {
            let word =
                |space: &mut Space, index| (get(space, at(index)), get(space, at(index) + 64));
            (0..4).map(|index| word(space, index)).collect::<Vec<_>>()
        };
        let childs = [(10, 20), (0, 21), (12, 22), (0, 23)];
        assert_eq!(seen(&mut child), childs, "{plan:?}");
        let parents = [(10, 0), (0, 0), (12, 22), (0, 23)];
        assert_eq!(seen(&mut parent), parents, "{plan:?}");
        check(&[&parent, &child]);
        // Two of each privately, two shared.
        assert_eq!(stock(&parent), (0, 0), "{plan:?}");
        drop(child);
        assert_eq!(stock(&parent), (2, 0), "{plan:?}");
        check(&[&parent]);
        end(&memory, vec![parent]);
    }
}

#[test]
fn a_sole_owner_writes_in_place() {
    for plan in plans() {
        let (memory, mut parent) = machine(1, 1);
        map(&mut parent, PRIVATE, 0..1);
        set(&mut parent, at(0), 1);
        let mut child = parent.fork_with(plan, || false).unwrap();
        assert_eq!(child.fault(at(0), Access::Write), Err(Fault::Bus));
        assert_eq!(parent.fault(at(0), Access::Write), Err(Fault::Bus));
        assert_eq!(get(&mut child, at(0)), 1);
        drop(parent);
        assert_eq!(stock(&child), (0, 0));
        set(&mut child, at(0), 2);
        check(&[&child]);
        end(&memory, vec![child]);
    }
}

#[test]
fn a_child_finds_what_nobody_was_promised() {
    for plan in plans() {
        let (memory, mut parent) = machine(3, 3);
        map(&mut parent, PRIVATE, 0..2);
        set(&mut parent, at(0), 1);
        let mut child = parent.fork_with(plan, || false).unwrap();
        set(&mut child, at(0), 2);
        assert_eq!(child.fault(at(1), Access::Write), Err(Fault::Bus));
        set(&mut parent, at(1), 3);
        assert_eq!((get(&mut parent, at(0)), get(&mut child, at(0))), (1, 2));
        check(&[&parent, &child]);
        end(&memory, vec![child, parent]);
    }
}

#[test]
fn a_child_that_is_not_given_them_has_none() {
    for plan in plans() {
        let (memory, mut parent) = machine(2, 2);
        map(&mut parent, PRIVATE, 0..2);
        set(&mut parent, at(0), 1);
        set(&mut parent, at(1), 2);
        parent.madvise(at(0), H, MADV_DONTFORK).unwrap();
        let mut child = parent.fork_with(plan, || false).unwrap();
        assert_eq!(child.fault(at(0), Access::Read), Err(Fault::NotMapped));
        assert_eq!(get(&mut child, at(1)), 2);
        check(&[&parent, &child]);
        end(&memory, vec![parent, child]);
    }
}

#[test]
fn pages_move_whole_with_their_promises() {
    let (memory, mut space) = machine(3, 3);
    map(&mut space, PRIVATE, 0..3);
    set(&mut space, at(0), 1);
    set(&mut space, at(1), 2);
    let moved = MremapRequest {
        addr: at(1),
        old_len: 4096,
        new_len: 4096,
        flags: MREMAP_MAYMOVE | MREMAP_FIXED,
        new_addr: at(9),
    };
    space.mremap(moved).unwrap();
    assert_eq!(get(&mut space, at(9)), 2);
    assert_eq!(stock(&space), (1, 1));
    check(&[&space]);
    space.munmap(at(9), H).unwrap();
    assert_eq!(stock(&space), (2, 1));
    space.munmap(at(0), 3 * H).unwrap();
    assert_eq!(stock(&space), (3, 0));
    assert_eq!(space.statistics().pgtables_bytes, 0);
    end(&memory, vec![space]);
}

#[test]
fn a_cut_within_a_page_leaves_it_as_it_is() {
    let (memory, mut space) = machine(1, 1);
    map(&mut space, PRIVATE, 0..1);
    set(&mut space, at(0), 1);
    let tables = space.statistics().pgtables_bytes;
    assert!(space.munmap(at(0) + 4096, 4096).is_err());
    assert!(space.mprotect(at(0), 4096, PROT_READ).is_err());
    assert!(space.madvise(at(0), 4096, MADV_DONTDUMP).is_err());
    assert_eq!(space.madvise(at(0), 4096, MADV_DONTNEED), Ok(()));
    assert_eq!(get(&mut space, at(0)), 1);
    assert_eq!(space.statistics().pgtables_bytes, tables);
    check(&[&space]);
    end(&memory, vec![space]);
}

#[test]
fn rights_change_for_whole_pages() {
    let (memory, mut space) = machine(2, 2);
    map(&mut space, PRIVATE, 0..2);
    set(&mut space, at(0), 1);
    space.mprotect(at(0), H, PROT_READ).unwrap();
    assert_eq!(space.fault(at(0), Access::Write), Err(Fault::NotAllowed));
    space.mprotect(at(0), H, RW).unwrap();
    // The pool is not asked: the page has one owner.
    set(&mut space, at(1), 1);
    set(&mut space, at(0), 2);
    assert_eq!(stock(&space), (0, 0));
    check(&[&space]);
    end(&memory, vec![space]);
}

#[test]
fn populating_brings_all_in_that_there_are() {
    let (memory, mut space) = machine(3, 3);
    map(&mut space, PRIVATE | MAP_POPULATE, 0..2);
    map(&mut space, MAP_SHARED | FREE | MAP_POPULATE, 4..6);
    assert_eq!(stock(&space), (0, 0));
    assert_eq!(space.statistics().resident.explicit, 3 * 512);
    let populated = space.madvise(at(5) + 4096, 4096, MADV_POPULATE_WRITE);
    assert!(populated.is_err());
    assert_eq!(
        space.madvise(at(1) + 4096, 4096, MADV_POPULATE_WRITE),
        Ok(())
    );
    end(&memory, vec![space]);
}

#[test]
fn a_hole_in_what_is_shared_is_zero_for_all() {
    let (memory, mut parent) = machine(2, 2);
    map(&mut parent, MAP_SHARED, 0..2);
    for offset in [0, 4096, H] {
        set(&mut parent, at(0) + offset, 9);
    }
    let mut child = parent.fork().unwrap();
    parent.madvise(at(0) + 4096, H, MADV_REMOVE).unwrap();
    let seen = [0, 4096, H].map(|offset| get(&mut child, at(0) + offset));
    assert_eq!(seen, [9, 0, 0]);
    check(&[&parent, &child]);
    end(&memory, vec![parent, child]);
}

#[test]
fn what_is_shared_outlives_who_made_it() {
    let (memory, mut parent) = machine(2, 2);
    map(&mut parent, MAP_SHARED, 0..2);
    set(&mut parent, at(0), 1);
    let mut child = parent.fork().unwrap();
    drop(parent);
    assert_eq!(get(&mut child, at(0)), 1);
    set(&mut child, at(1), 2);
    assert_eq!(stock(&child), (0, 0));
    end(&memory, vec![child]);
}

#[test]
fn its_object_has_no_small_pages() {
    let (memory, mut space) = machine(1, 1);
    map(&mut space, MAP_SHARED, 0..1);
    let object = space.vma_at(BASE).unwrap().file().unwrap().clone();
    let small = MmapRequest {
        flags: MAP_SHARED,
        file: MmapFile::Open(object),
        ..MmapRequest::anonymous(4096, RW)
    };
    let addr = space.mmap(small).unwrap();
    assert_eq!(space.fault(addr, Access::Read), Err(Fault::Bus));
    end(&memory, vec![space]);
}

#[test]
fn a_processor_with_other_huge_pages_has_none_of_these() {
    let memory = frames(64);
    let side = MappedPages::<Tiny<5>, _, _>::new(memory, NoTlb).unwrap();
    let setup = setup(1);
    let layout = maple_mm::Layout::default();
    let mut space = AddressSpace::with_pages(Setup { layout, ..setup }, side);
    let request = MmapRequest {
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
        ..MmapRequest::anonymous(H, RW)
    };
    let addr = space.mmap(request).unwrap();
    assert_eq!(space.fault(addr, Access::Write), Err(Fault::Bus));
}

#[test]
fn pages_that_are_replaced_give_the_pool_its_own_back() {
    let memory = frames(4096);
    let side = || MappedPages::new(memory.clone(), NoTlb).unwrap();
    let setup = setup(2);
    let system = Arc::clone(&setup.system);
    let mut space = Space::with_pages(setup, side());
    let request = MmapRequest {
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
        ..MmapRequest::anonymous(HUGE_PAGE_SIZE, PROT_READ | PROT_WRITE)
    };
    let addr = space.mmap(request).unwrap();
    space.write(addr, &[1]).unwrap();
    *space.page_side_mut() = side();
    drop(space);
    assert_eq!(memory.in_use(), 0);
    let left = system.huge_pages();
    assert_eq!((left.total, left.free, left.reserved), (2, 2, 0));
}
