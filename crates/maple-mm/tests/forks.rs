//! All ways to fork end in the same, whatever the parent looks like, and go on the same.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::random::{Calls, portrait};
use common::{BASE, file, map, map_as, memory, of_file, page, ranges, state, write};
use maple_mm::{
    AddressSpace, Errno, FileAccess, ForkStrategy, Layout, MappingHooks, Mappings, Overcommit,
    Setup, System, SystemSettings, VmaPool, VmaRef, abi::*,
};
use testkit::SplitMix;

const SEEDS: u64 = 120;

fn space_on(system: System) -> AddressSpace {
    let layout = Layout {
        start_brk: BASE - 64 * PAGE_SIZE,
        brk: BASE - 64 * PAGE_SIZE,
        ..Layout::default()
    };
    let setup = Setup {
        system: Arc::new(system),
        layout,
        ..Setup::default()
    };
    AddressSpace::from_layout(setup, []).unwrap()
}

fn empty() -> AddressSpace {
    space_on(System::new(SystemSettings::default()))
}

/// A space on a machine of its own after `steps` calls drawn from `seed`, with forks on the way.
fn lived(seed: u64, steps: u64, strategy: ForkStrategy) -> AddressSpace {
    let mut calls = Calls::new(seed);
    let mut space = empty();
    for _ in 0..steps {
        calls.step(&mut space);
        if calls.rng().one_in(30) {
            space = space.fork_with(strategy, || false).unwrap();
        }
    }
    space
}

/// The portraits of both sides of a fork, and of what further calls on both make of them.
fn both_lives(seed: u64, strategy: ForkStrategy) -> Vec<String> {
    let mut parent = lived(seed, 40 + seed % 60, strategy);
    let mut child = parent.fork_with(strategy, || false).unwrap();
    let mut seen = vec![portrait(&parent), portrait(&child)];
    let mut calls = Calls::new(!seed);
    for step in 0..40 {
        let side = if calls.rng().one_in(2) {
            &mut child
        } else {
            &mut parent
        };
        seen.push(calls.step(side));
        if step % 4 == 0 {
            seen.extend([portrait(&parent), portrait(&child)]);
        }
    }
    seen.push(portrait(&child.fork_with(strategy, || false).unwrap()));
    seen.push(format!("{}", child.system().committed()));
    seen
}

#[test]
fn every_strategy_makes_the_same_child_and_both_go_on_the_same() {
    for seed in 0..SEEDS {
        let expected = both_lives(seed, ForkStrategy::StoreEach);
        for strategy in &ForkStrategy::ALL[1..] {
            let seen = both_lives(seed, *strategy);
            for (step, (seen, expected)) in seen.iter().zip(&expected).enumerate() {
                assert_eq!(
                    seen,
                    expected,
                    "seed {seed}, {}, step {step}",
                    strategy.name()
                );
            }
        }
    }
}

#[test]
fn strategies_mix_over_generations() {
    for seed in 0..SEEDS {
        let mut rng = SplitMix::new(seed);
        let mut expected = empty();
        let mut mixed = empty();
        for _ in 0..6 {
            let strategy = rng.pick(&ForkStrategy::ALL);
            expected = expected
                .fork_with(ForkStrategy::StoreEach, || false)
                .unwrap();
            mixed = mixed.fork_with(strategy, || false).unwrap();
            let (mut left, mut right) = (Calls::new(rng.next_u64()), None);
            for _ in 0..20 {
                let right = right.get_or_insert_with(|| left.clone());
                assert_eq!(
                    right.step(&mut mixed),
                    left.step(&mut expected),
                    "seed {seed}"
                );
                assert_eq!(portrait(&mixed), portrait(&expected), "seed {seed}");
            }
        }
    }
}

/// What the child of `parent` makes of `calls`, in mapped ranges, whatever the strategy.
#[track_caller]
fn child_after(parent: fn(&mut AddressSpace), calls: fn(&mut AddressSpace)) -> String {
    let lives = ForkStrategy::ALL.map(|strategy| {
        let mut space = empty();
        parent(&mut space);
        let mut child = space.fork_with(strategy, || false).unwrap();
        calls(&mut child);
        (strategy, ranges(&child))
    });
    for (strategy, seen) in &lives {
        assert_eq!(*seen, lives[0].1, "{}", strategy.name());
    }
    lives[0].1.clone()
}

fn protect(space: &mut AddressSpace, pages: std::ops::Range<u64>, prot: u64) {
    let len = (pages.end - pages.start) * PAGE_SIZE;
    space.mprotect(page(pages.start), len, prot).unwrap();
}

#[test]
fn unwritten_memory_joins_nothing_inherited_on_either_side() {
    let parent = |space: &mut AddressSpace| {
        map(space, 0, 1);
        map_as(space, memory(1, 2, PROT_READ));
        map(space, 2, 3);
        write(space, 0);
        write(space, 2);
    };
    let seen = child_after(parent, |child| protect(child, 1..2, PROT_READ | PROT_WRITE));
    assert_eq!(seen, "0-1 1-2 2-3");
}

#[test]
fn an_inherited_mapping_joins_its_own_parts_again() {
    let parent = |space: &mut AddressSpace| {
        map(space, 0, 6);
        write(space, 0);
    };
    let seen = child_after(parent, |child| {
        protect(child, 2..4, PROT_READ);
        assert_eq!(ranges(child), "0-2 2-4 4-6");
        protect(child, 2..4, PROT_READ | PROT_WRITE);
    });
    assert_eq!(seen, "0-6");
}

#[test]
fn a_hole_in_an_inherited_mapping_is_not_closed_by_fresh_memory() {
    let parent = |space: &mut AddressSpace| {
        map(space, 0, 6);
        write(space, 0);
    };
    let seen = child_after(parent, |child| {
        child.munmap(page(2), 2 * PAGE_SIZE).unwrap();
        map(child, 2, 4);
    });
    assert_eq!(seen, "0-2 2-4 4-6");
}

#[test]
fn parts_the_parent_split_stay_apart_in_the_child() {
    let parent = |space: &mut AddressSpace| {
        map(space, 0, 4);
        write(space, 0);
        protect(space, 0..2, PROT_READ);
    };
    let seen = child_after(parent, |child| protect(child, 0..2, PROT_READ | PROT_WRITE));
    assert_eq!(seen, "0-2 2-4");
}

#[test]
fn what_the_parent_did_not_write_merges_freely_in_the_child() {
    let parent = |space: &mut AddressSpace| {
        map(space, 0, 2);
        map_as(space, memory(2, 4, PROT_READ));
    };
    let seen = child_after(parent, |child| protect(child, 2..4, PROT_READ | PROT_WRITE));
    assert_eq!(seen, "0-4");
}

#[test]
fn a_grandchild_inherits_what_its_parent_only_inherited() {
    for strategy in ForkStrategy::ALL {
        let mut space = empty();
        map(&mut space, 0, 2);
        write(&mut space, 0);
        for _ in 0..3 {
            space = space.fork_with(strategy, || false).unwrap();
            assert!(space.anon(space.vma_at(page(0)).unwrap()).is_forked());
        }
        map(&mut space, 2, 4);
        assert_eq!(ranges(&space), "0-2 2-4", "{}", strategy.name());
    }
}

#[test]
fn history_is_kept_from_a_child_and_by_one() {
    for strategy in ForkStrategy::ALL {
        let mut space = empty();
        for first in [0, 4, 8] {
            map(&mut space, first, first + 2);
            write(&mut space, first);
        }
        let mut older = space.fork_with(strategy, || false).unwrap();
        protect(&mut older, 4..5, PROT_READ);
        // Another child, which does not know of the first mapping.
        let mut again = older.fork_with(strategy, || false).unwrap();
        older.munmap(page(0), 2 * PAGE_SIZE).unwrap();
        again.keep_history(&older).unwrap();
        for index in [0, 4, 5, 8] {
            assert!(again.anon(again.vma_at(page(index)).unwrap()).is_forked());
        }
        // What `older` could join, the other can now.
        protect(&mut again, 4..5, PROT_READ | PROT_WRITE);
        assert_eq!(ranges(&again), "0-2 4-6 8-10", "{}", strategy.name());
    }
}

#[test]
fn the_parent_goes_on_as_if_it_had_not_forked() {
    for strategy in ForkStrategy::ALL {
        let mut space = empty();
        map(&mut space, 0, 2);
        write(&mut space, 0);
        let child = space.fork_with(strategy, || false).unwrap();
        map(&mut space, 2, 4);
        assert_eq!(
            (ranges(&space).as_str(), ranges(&child).as_str()),
            ("0-4", "0-2")
        );
    }
}

/// 21 mappings of every kind.
fn assorted() -> AddressSpace {
    let mut space = empty();
    let files = [
        file(1, FileAccess::READ),
        file(2, FileAccess::READ | FileAccess::HOOKED),
    ];
    for index in 0..21 {
        let first = 3 * index;
        match index % 7 {
            0..3 => map(&mut space, first, first + 2),
            3 => map_as(&mut space, of_file(&files[0], first..first + 2, 5)),
            4 => map_as(&mut space, of_file(&files[1], first..first + 2, 5)),
            5 => {
                let mut shared = memory(first, first + 2, PROT_READ | PROT_WRITE);
                shared.flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED;
                map_as(&mut space, shared);
            }
            _ => map_as(&mut space, memory(first, first + 2, PROT_READ)),
        }
        if index % 7 < 2 {
            write(&mut space, first);
        }
    }
    space.madvise(page(0), PAGE_SIZE, MADV_DONTFORK).unwrap();
    space.madvise(page(3), PAGE_SIZE, MADV_WIPEONFORK).unwrap();
    space.mlock(page(21), 2 * PAGE_SIZE).unwrap();
    space.mlock(page(24), PAGE_SIZE).unwrap();
    space
}

#[test]
fn a_cancelled_fork_leaves_nothing() {
    for strategy in ForkStrategy::ALL {
        let mut parent = assorted();
        let before = state(&parent);
        let mut tried = 0;
        loop {
            let mut left = tried;
            let cancel = || {
                left -= i32::from(left >= 0);
                left < 0
            };
            let Err(errno) = parent.fork_with(strategy, cancel) else {
                break;
            };
            assert_eq!(errno, Errno::EINTR);
            assert_eq!(state(&parent), before, "{} at {tried}", strategy.name());
            tried += 1;
        }
        let least = if strategy.is_eager() {
            parent.map_count()
        } else {
            4
        };
        assert!(
            tried as usize >= least,
            "{}: asked {tried} times",
            strategy.name()
        );
    }
}

#[test]
fn a_fork_beyond_the_commit_limit_leaves_nothing() {
    let pages = assorted().statistics().committed - 2;
    let mut tried = 0;
    for strategy in ForkStrategy::ALL {
        for room in 0..=pages {
            // The sum must stay below the limit.
            let overcommit = Overcommit::Never {
                limit_pages: 2 * pages + 2 + 1 - room,
                admin_reserve_pages: 0,
                user_reserve_pages: 0,
            };
            let settings = SystemSettings {
                overcommit,
                ..SystemSettings::default()
            };
            let mut parent = space_on(System::new(settings));
            map(&mut parent, 0, 2);
            for first in 1..=pages / 2 {
                map(&mut parent, 4 * first, 4 * first + 2);
            }
            parent
                .madvise(page(0), 2 * PAGE_SIZE, MADV_DONTFORK)
                .unwrap();
            let before = state(&parent);
            let forked = parent.fork_with(strategy, || false);
            assert_eq!(forked.is_ok(), room == 0, "{}, {room}", strategy.name());
            assert!(forked.is_ok_and(|child| child.statistics().committed == pages) || room > 0);
            assert_eq!(state(&parent), before);
            tried += 1;
        }
    }
    println!("{tried} commit limits tried");
}

#[test]
fn guessing_refuses_only_a_mapping_larger_than_all_memory() {
    for strategy in ForkStrategy::ALL {
        let settings = SystemSettings {
            ram_pages: 10,
            ..SystemSettings::default()
        };
        let mut parent = space_on(System::new(settings));
        map(&mut parent, 0, 8);
        map(&mut parent, 20, 28);
        assert_eq!(parent.fork_with(strategy, || false).unwrap().map_count(), 2);
        // It grew in steps that were small enough.
        map(&mut parent, 8, 12);
        let before = state(&parent);
        assert_eq!(
            parent.fork_with(strategy, || false).unwrap_err(),
            Errno::ENOMEM
        );
        assert_eq!(state(&parent), before);
    }
}

/// Counts the mappings that are open.
#[derive(Debug, Default)]
struct Open {
    now: AtomicUsize,
    opened: AtomicUsize,
    forks: AtomicUsize,
}

impl MappingHooks for Open {
    fn open(&self, _: &VmaRef) {
        self.now.fetch_add(1, Ordering::Relaxed);
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    fn close(&self, _: &VmaRef) {
        let before = self.now.fetch_sub(1, Ordering::Relaxed);
        assert_ne!(before, 0, "closed twice");
    }

    fn after_fork(&self, parent: &Mappings, child: Result<&Mappings, Errno>) {
        self.forks.fetch_add(1, Ordering::Relaxed);
        if let Ok(child) = child {
            // Others may be alive.
            assert!(open_among(parent) + open_among(child) <= self.now.load(Ordering::Relaxed));
        }
    }
}

fn open_in(space: &AddressSpace) -> usize {
    open_among(space.tree())
}

fn open_among(mappings: &Mappings) -> usize {
    let is_hooked = |vma: &&VmaRef| {
        vma.file()
            .is_some_and(|file| file.access.contains(FileAccess::HOOKED))
    };
    mappings.iter().filter(|(_, vma)| is_hooked(vma)).count()
}

#[test]
fn mappings_with_hooks_are_closed_as_often_as_opened() {
    for strategy in ForkStrategy::ALL {
        let hooks: &'static Open = Box::leak(Box::default());
        let now = || hooks.now.load(Ordering::Relaxed);
        for seed in 0..20 {
            let mut calls = Calls::new(seed);
            let system = System::new(SystemSettings::default()).with_hooks(hooks);
            let mut space = space_on(system);
            for _ in 0..60 {
                calls.step(&mut space);
                assert_eq!(now(), open_in(&space), "seed {seed}");
            }
            let mut child = space.fork_with(strategy, || false).unwrap();
            for _ in 0..20 {
                calls.step(&mut child);
                assert_eq!(now(), open_in(&space) + open_in(&child), "seed {seed}");
            }
            let mut left = 3;
            let refused = space.fork_with(strategy, || {
                left -= 1;
                left < 0
            });
            drop(refused);
            assert_eq!(now(), open_in(&space) + open_in(&child), "seed {seed}");
            let copy = child.snapshot();
            assert_eq!(now(), open_in(&space) + 2 * open_in(&copy));
            drop((copy, space, child));
            assert_eq!(now(), 0, "seed {seed}");
        }
        assert!(hooks.opened.load(Ordering::Relaxed) > 100);
        assert_eq!(hooks.forks.load(Ordering::Relaxed), 40);
    }
}

#[test]
fn children_live_and_end_on_other_threads() {
    static POOL: VmaPool = VmaPool::new(&maple_mm::HeapChunks::new(1024));
    let mut parent = space_on(System::new(SystemSettings::default()).with_pool(&POOL));
    for index in 0..30 {
        map(&mut parent, 2 * index, 2 * index + 1);
        write(&mut parent, 2 * index);
    }
    std::thread::scope(|scope| {
        for round in 0..24 {
            let strategy = ForkStrategy::ALL[round % ForkStrategy::ALL.len()];
            let mut child = parent.fork_with(strategy, || false).unwrap();
            scope.spawn(move || {
                let mut calls = Calls::new(round as u64);
                for _ in 0..50 {
                    calls.step(&mut child);
                }
                drop(child.fork_with(strategy, || false).unwrap());
            });
            write(&mut parent, 2 * round as u64);
            parent.munmap(page(2 * round as u64), PAGE_SIZE).unwrap();
        }
    });
    parent.validate().unwrap();
    assert_eq!(POOL.in_use(), parent.map_count());
    let committed = parent.statistics().committed;
    assert_eq!(parent.system().committed(), committed);
}

#[test]
fn eager_strategies_make_every_mapping_and_a_snapshot_only_what_differs() {
    static POOL: VmaPool = VmaPool::new(&maple_mm::HeapChunks::new(4096));
    let system = System::new(SystemSettings::default()).with_pool(&POOL);
    let mut parent = space_on(system);
    for index in 0..10 {
        map(&mut parent, 2 * index, 2 * index + 1);
        write(&mut parent, 2 * index);
    }
    parent.mlock(page(0), PAGE_SIZE).unwrap();
    for strategy in ForkStrategy::ALL {
        let child = parent.fork_with(strategy, || false).unwrap();
        let made = if strategy.is_eager() { 10 } else { 1 };
        assert_eq!(POOL.in_use(), 10 + made, "{}", strategy.name());
        drop(child);
        assert_eq!(POOL.in_use(), 10);
    }
    drop(parent);
    POOL.release_reserve();
    assert_eq!(POOL.in_use(), 0);
}
