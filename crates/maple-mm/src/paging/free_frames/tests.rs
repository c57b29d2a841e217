//! What magazines promise: no frame twice, none lost, and none held back when it is needed.

extern crate std;

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use testkit::SplitMix;

use super::super::buddy::History;
use super::*;

#[cfg(not(miri))]
type Lock = parking_lot::RawMutex;
#[cfg(miri)]
type Lock = spin::Mutex<()>;

const FRAMES: u32 = 2048;

fn fresh() -> FreeFrames<Lock> {
    FreeFrames::new(FRAMES, History::Untouched).expect("memory")
}

fn blocks(free: &FreeFrames<Lock>) -> Vec<usize> {
    free.buddies.0.lock().free_blocks().into()
}

/// Takes `count` single frames in a thread of its own.
fn take_elsewhere(free: &FreeFrames<Lock>, count: usize) -> Vec<u32> {
    let take = || (0..count).map(|_| free.take(0).expect("a frame").0);
    thread::scope(|scope| {
        let taken = scope.spawn(|| take().collect());
        taken.join().expect("no panic")
    })
}

#[test]
fn a_thread_takes_frames_side_by_side() {
    let free = fresh();
    // Unless its stack ends here, and goes on where another magazine is.
    let taken: Vec<_> = (0..64).map(|_| free.take(0).expect("a frame").0).collect();
    let steps = taken.windows(2).filter(|pair| pair[0] + 1 == pair[1]);
    assert_eq!(steps.count(), 63);
    assert_eq!(free.count(), FRAMES as usize - 64);
    free.check();
}

#[test]
fn what_is_given_back_side_by_side_becomes_one_block_again() {
    let free = fresh();
    let whole = blocks(&free);
    let taken: Vec<_> = (0..100).map(|_| free.take(0).expect("a frame").0).collect();
    for frame in taken {
        free.give(frame, 0);
        free.check();
    }
    assert_eq!(free.count(), FRAMES as usize);
    let whole_again = || {
        let mut buddies = free.buddies.0.lock();
        free.empty_magazines(&mut buddies);
        buddies.free_blocks()
    };
    assert_eq!(whole_again()[..], whole);
    free.check();
}

#[test]
fn the_last_frame_is_found_in_whichever_magazine_it_is() {
    let free = fresh();
    let mut elsewhere = Vec::new();
    for _ in 0..8 {
        elsewhere.extend(take_elsewhere(&free, 1));
    }
    let mut here = Vec::new();
    here.extend(core::iter::from_fn(|| free.take(0)).map(|(frame, _)| frame));
    assert_eq!(free.count(), 0);
    free.check();
    here.extend(elsewhere);
    here.sort_unstable();
    assert!(here.into_iter().eq(0..FRAMES));
}

#[test]
fn a_large_block_is_found_though_parts_of_it_are_in_magazines() {
    let free = fresh();
    for _ in 0..8 {
        for frame in take_elsewhere(&free, 3) {
            free.give(frame, 0);
        }
    }
    let large: Vec<_> = core::iter::from_fn(|| free.take(9)).collect();
    assert_eq!(large.len(), FRAMES as usize / 512);
    assert_eq!((free.count(), free.take(0)), (0, None));
    free.check();
}

#[test]
fn what_nobody_had_is_still_known_for_it() {
    let free = fresh();
    assert!((0..40).all(|_| free.take(0).expect("a frame").1 == History::Untouched));
    free.give(3, 0);
    let used = core::iter::from_fn(|| free.take(0)).find(|taken| taken.0 == 3);
    assert_eq!(used, Some((3, History::Used)));
}

#[test]
fn few_frames_have_no_magazines() {
    let free = FreeFrames::<Lock>::new(MIN_FRAMES - 1, History::Used).expect("memory");
    let (first, _) = free.take(0).expect("a frame");
    free.give(first, 0);
    assert_eq!(free.buddies.0.lock().count(), MIN_FRAMES as usize - 1);
}

#[test]
#[should_panic(expected = "FF1")]
fn a_frame_that_is_free_twice_is_found() {
    let free = fresh();
    let (frame, _) = free.take(0).expect("a frame");
    let next = Run::of_frame(frame + 1);
    free.magazines[0].0.returned.exchange(next);
    free.check();
}

/// Takes and gives back at random, and says whether anybody else had the same frame.
fn live(free: &FreeFrames<Lock>, taken: &[AtomicBool], mut random: SplitMix) {
    let steps = if cfg!(miri) { 100 } else { 50_000 };
    let mut mine: Vec<(u32, u32)> = vec![];
    let mark = |(first, order): (u32, u32), now: bool| {
        for frame in &taken[first as usize..][..1 << order] {
            // Relaxed: what orders them is what is tested.
            assert_ne!(frame.swap(now, Ordering::Relaxed), now);
        }
    };
    for _ in 0..steps {
        if random.below(2) == 0 {
            let order = match random.below(50) {
                0 => 9,
                1 => 3,
                _ => 0,
            };
            if let Some((first, _)) = free.take(order) {
                mark((first, order), true);
                mine.push((first, order));
            }
        } else if let Some(last) = mine.len().checked_sub(1) {
            let which = random.below(mine.len() as u64) as usize;
            let which = if random.below(2) == 0 { which } else { last };
            let block = mine.swap_remove(which);
            mark(block, false);
            free.give(block.0, block.1);
        }
        assert!(free.count() <= FRAMES as usize);
    }
    for block in mine {
        mark(block, false);
        free.give(block.0, block.1);
    }
}

#[test]
fn threads_never_have_the_same_frame_and_none_is_lost() {
    let free = fresh();
    let whole = blocks(&free);
    let taken: Vec<_> = (0..FRAMES).map(|_| AtomicBool::new(false)).collect();
    thread::scope(|scope| {
        for seed in 0..4 {
            let (free, taken) = (&free, &taken);
            scope.spawn(move || live(free, taken, SplitMix::new(seed)));
        }
    });
    assert_eq!(free.count(), FRAMES as usize);
    free.check();
    let large: Vec<_> = core::iter::from_fn(|| free.take(9)).collect();
    assert_eq!(large.len(), whole[9]);
}
