//! What belongs together is shown together, however long showing it takes.

extern crate std;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use maple_tree::EpochRcu;

use super::SharedAddressSpace;
use crate::abi::*;
use crate::layout::Layout;
use crate::map::MmapRequest;
use crate::space::AddressSpace;

/// Lets others go on now and then, where what they may do is to be found by tests.
pub(crate) fn pause() {
    static TURN: AtomicU64 = AtomicU64::new(0);
    if TURN.fetch_add(1, Ordering::Relaxed).is_multiple_of(11) {
        thread::yield_now();
    }
}

#[test]
fn layout_mappings_and_counters_belong_together() {
    const ROUNDS: u64 = 500;
    let space = AddressSpace::empty();
    let beside = SharedAddressSpace::<_, _, parking_lot::RawMutex>::new(space, EpochRcu).unwrap();
    let is_over = AtomicBool::new(false);
    let met = thread::scope(|scope| {
        let readers = [0, 1].map(|_| {
            scope.spawn(|| {
                let mut met = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let Some(moment) = beside.try_moment() else {
                        continue;
                    };
                    let Layout {
                        start_code,
                        env_end,
                        brk,
                        start_data,
                        arg_end,
                        ..
                    } = *moment.layout();
                    assert_eq!((start_code, start_code), (env_end, brk));
                    assert_eq!(start_data, arg_end);
                    let starts: Vec<u64> = moment.vmas().map(|vma| vma.start()).collect();
                    assert!(start_code == 0 || starts == [start_code], "{starts:x?}");
                    let pages = moment.vmas().map(|vma| vma.pages()).sum::<u64>();
                    assert_eq!(pages, moment.statistics().total_vm);
                    assert!(beside.statistics().total_vm <= 8);
                    met += 1;
                }
                met
            })
        });
        for round in 1..=ROUNDS {
            let mut space = beside.lock();
            let here = round << 16;
            space.munmap(0, here).unwrap();
            let request = MmapRequest {
                addr: here,
                flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                ..MmapRequest::anonymous((1 + round % 8) * PAGE_SIZE, PROT_READ)
            };
            space.mmap(request).unwrap();
            let mut layout = space.layout().clone();
            (layout.start_code, layout.brk, layout.env_end) = (here, here, here);
            space.set_layout(layout);
            drop(space);
            // And a call that changes no mapping.
            let mut space = beside.lock();
            let mut layout = space.layout().clone();
            (layout.start_data, layout.arg_end) = (round, round);
            space.set_layout(layout);
        }
        is_over.store(true, Ordering::Relaxed);
        readers.map(|reader| reader.join().unwrap())
    });
    std::println!("{met:?} moments met");
}
