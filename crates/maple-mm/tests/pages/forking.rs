//! Every way to fork ends in the same contents, and costs what it should.

use std::thread;

use crate::common::paged::{
    Memory, REGULAR, Space, check, contents, frames, get, opened, plans, set, space,
};
use crate::common::{map, map_as, of_file, page};
use maple_mm::paging::PhysMemory;
use maple_mm::{Errno, ForkPlan, ForkStrategy, MmapRequest, PageStrategy, abi::*};

const RW: u64 = PROT_READ | PROT_WRITE;

fn plan(pages: PageStrategy) -> ForkPlan {
    ForkPlan {
        pages,
        ..ForkPlan::default()
    }
}

/// Private, shared, of files, left out, wiped, locked, read only; ten pages each, with gaps.
fn assorted(memory: &Memory) -> Space {
    let mut space = space(memory);
    let pages = contents(memory, 10, 1000);
    let file = opened(1, REGULAR, &pages);
    for index in 0..14 {
        let (first, end) = (20 * index, 20 * index + 10);
        match index % 7 {
            4 => map_as(
                &mut space,
                MmapRequest {
                    prot: RW,
                    ..of_file(&file, first..end, 0)
                },
            ),
            5 => map_as(
                &mut space,
                MmapRequest {
                    prot: RW,
                    flags: MAP_SHARED | MAP_FIXED,
                    ..of_file(&file, first..end, 0)
                },
            ),
            6 => map_as(
                &mut space,
                MmapRequest {
                    flags: MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
                    ..crate::common::memory(first, end, RW)
                },
            ),
            _ => map(&mut space, first, end),
        }
        let (addr, len) = (page(first), 10 * PAGE_SIZE);
        match index % 7 {
            1 => space.madvise(addr, len, MADV_DONTFORK).unwrap(),
            2 => space.madvise(addr, len, MADV_WIPEONFORK).unwrap(),
            3 => space.mlock(addr, len).unwrap(),
            _ => {}
        }
        for offset in [0, 3, 9] {
            set(&mut space, page(first + offset) + 8, 1 + first + offset);
        }
        get(&mut space, page(first + 5));
    }
    space
}

fn words(space: &mut Space) -> Vec<Option<u64>> {
    (0..290)
        .map(|index| {
            let mut bytes = [0; 8];
            let read = space.read(page(index) + 8, &mut bytes);
            read.ok().map(|()| u64::from_ne_bytes(bytes))
        })
        .collect()
}

fn maps(space: &Space) -> String {
    let mut text = String::new();
    space.write_maps(&mut text).unwrap();
    text
}

#[test]
fn every_plan_ends_in_the_same_maps_counters_and_contents() {
    let memory = frames(2048);
    let mut expected = None;
    for plan in plans() {
        let mut parent = assorted(&memory);
        let before = words(&mut parent);
        let mut child = parent.fork_with(plan, || false).unwrap();
        check(&[&parent, &child]);
        let text = maps(&child);
        let sums = child.statistics();
        let seen = words(&mut child);
        assert_eq!(words(&mut parent), before, "{plan:?}");
        // Both have touched everything now.
        let touched = child.statistics().resident;
        for index in (0..290).step_by(3) {
            let _: Result<_, _> = child.write(page(index) + 16, &[1]);
        }
        check(&[&parent, &child]);
        // Shared memory apart.
        let kept = words(&mut parent);
        assert_eq!(kept, before, "{plan:?}");
        let sums = (sums.total_vm, sums.data_vm, sums.locked_vm, sums.committed);
        let outcome = (text, sums, seen, touched, child.statistics().resident);
        assert_eq!(
            *expected.get_or_insert(outcome.clone()),
            outcome,
            "{plan:?}"
        );
        drop((parent, child));
        assert_eq!(memory.in_use(), 0);
    }
}

#[test]
fn what_is_left_out_and_what_is_wiped_has_no_page_in_the_child() {
    for pages in PageStrategy::ALL {
        let memory = frames(256);
        let mut parent = space(&memory);
        for first in [0, 10, 20] {
            map(&mut parent, first, first + 5);
            set(&mut parent, page(first), 7);
        }
        parent
            .madvise(page(0), 5 * PAGE_SIZE, MADV_DONTFORK)
            .unwrap();
        parent
            .madvise(page(10), 5 * PAGE_SIZE, MADV_WIPEONFORK)
            .unwrap();
        let mut child = parent.fork_with(plan(pages), || false).unwrap();
        assert_eq!(child.statistics().resident.anon, 1);
        assert!(child.read(page(0), &mut [0]).is_err());
        assert_eq!(
            (get(&mut child, page(10)), get(&mut child, page(20))),
            (0, 7)
        );
        assert_eq!(get(&mut parent, page(10)), 7);
        check(&[&parent, &child]);
    }
}

#[test]
fn sharing_takes_one_frame_whatever_is_mapped() {
    let memory = frames(4096);
    let mut parent = space(&memory);
    map(&mut parent, 0, 2000);
    for index in 0..2000 {
        set(&mut parent, page(index), index);
    }
    let before = memory.in_use();
    let child = parent.fork().unwrap();
    assert_eq!(memory.in_use(), before + 1);
    assert_eq!(child.statistics().resident.anon, 2000);
    drop(child);
    assert_eq!(memory.in_use(), before);
    let copy = parent
        .fork_with(plan(PageStrategy::Copy), || false)
        .unwrap();
    assert_eq!(copy.statistics().resident.anon, 2000);
    check(&[&parent, &copy]);
}

#[test]
fn a_copy_leaves_out_what_faults_can_rebuild() {
    let memory = frames(256);
    let mut parent = space(&memory);
    let pages = contents(&memory, 4, 100);
    let file = opened(1, REGULAR, &pages);
    map_as(&mut parent, of_file(&file, 0..4, 0));
    map(&mut parent, 10, 14);
    get(&mut parent, page(0));
    get(&mut parent, page(10));
    let child = parent
        .fork_with(plan(PageStrategy::Copy), || false)
        .unwrap();
    assert_eq!(child.statistics().pgtables_bytes, 0);
}

#[test]
fn the_last_owner_of_a_page_writes_without_a_copy() {
    for pages in PageStrategy::ALL {
        let memory = frames(256);
        let mut parent = space(&memory);
        map(&mut parent, 0, 4);
        set(&mut parent, page(0), 7);
        let child = parent.fork_with(plan(pages), || false).unwrap();
        drop(child);
        let before = memory.in_use();
        set(&mut parent, page(0), 8);
        assert_eq!(memory.in_use(), before);
        check(&[&parent]);
    }
}

#[test]
fn a_cancelled_fork_leaves_nothing() {
    for plan in plans() {
        let memory = frames(2048);
        let mut parent = assorted(&memory);
        let contents = words(&mut parent);
        let (before, used) = (crate::common::state(&parent), memory.in_use());
        let mut cancelled = 0;
        for after in 0.. {
            let mut left = after;
            let forked = parent.fork_with(plan, || {
                left -= 1;
                left < 0
            });
            let Err(errno) = forked else { break };
            assert_eq!(errno, Errno::EINTR);
            assert_eq!(crate::common::state(&parent), before, "{plan:?}");
            assert_eq!(memory.in_use(), used, "{plan:?}");
            cancelled += 1;
        }
        assert!(cancelled > 0);
        assert_eq!(words(&mut parent), contents);
        check(&[&parent]);
    }
}

#[test]
fn a_parent_goes_on_while_its_child_reads() {
    for plan in plans() {
        let memory = frames(8192);
        let mut parent = space(&memory);
        map(&mut parent, 0, 1200);
        for index in 0..1200 {
            set(&mut parent, page(index), index + 1);
        }
        let mut child = parent.fork_with(plan, || false).unwrap();
        let mut other = child.fork_with(plan, || false).unwrap();
        thread::scope(|scope| {
            for child in [&mut child, &mut other] {
                scope.spawn(|| {
                    for round in 0..3 {
                        for index in 0..1200 {
                            assert_eq!(get(child, page(index)), index + 1, "round {round}");
                        }
                    }
                });
            }
            for round in 0..4 {
                for index in (round..1200).step_by(7) {
                    // Some are not there any more, or may not be written.
                    let _: Result<_, _> = parent.write(page(index), &[0; 8]);
                }
                let first = 200 * round;
                parent.munmap(page(first), 90 * PAGE_SIZE).unwrap();
                map(&mut parent, first, first + 40);
                let tail = page(first + 100);
                parent.mprotect(tail, 10 * PAGE_SIZE, PROT_READ).unwrap();
            }
        });
        check(&[&parent, &child, &other]);
        drop((parent, child, other));
        assert_eq!(memory.in_use(), 0);
    }
}

#[test]
fn generations_share_until_each_has_written() {
    let memory = frames(4096);
    let mut generations = vec![space(&memory)];
    map(&mut generations[0], 0, 20);
    for depth in 0..10_u64 {
        let plan = plans().nth(depth as usize).unwrap_or_default();
        let parent = generations.last_mut().unwrap();
        set(parent, page(depth), depth + 1);
        let child = parent.fork_with(plan, || false).unwrap();
        set(parent, page(19), depth);
        generations.push(child);
    }
    check(&generations.iter().collect::<Vec<_>>());
    for (depth, space) in generations.iter_mut().enumerate() {
        for index in 0..10 {
            let expected = if index <= depth as u64 && index < 10 {
                index + 1
            } else {
                0
            };
            assert_eq!(get(space, page(index)), expected, "generation {depth}");
        }
    }
    // From the middle outwards.
    while !generations.is_empty() {
        generations.remove(generations.len() / 2);
        check(&generations.iter().collect::<Vec<_>>());
    }
    assert_eq!(memory.in_use(), 0);
    let _ = ForkStrategy::ALL;
}
