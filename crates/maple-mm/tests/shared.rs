//! A shared address space answers as one on its own, and shows its readers whole moments only.

mod common;

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use common::paged::{self, Memory, Side, frames};
use common::random::{Calls, portrait};
use common::{map, page};
use maple_mm::paging::{NoTlb, PhysMemory, Resident};
use maple_mm::{
    Access, AddressSpace, Counted, Fault, MmapRequest, Moment, NoPages, Setup, SharedAddressSpace,
    Statistics, VmaRef, abi::*,
};
use maple_tree::EpochRcu;
use testkit::{SplitMix, fresh_seed};

type Lock = parking_lot::RawMutex;
type Shared<P = NoPages> = SharedAddressSpace<P, EpochRcu, Lock>;

fn shared(space: AddressSpace) -> Shared {
    Shared::new(space, EpochRcu).expect("nodes")
}

/// What belongs to mappings, of both a moment and an address space.
fn counted(statistics: &Statistics) -> Statistics {
    Statistics {
        resident: Resident::default(),
        peak_resident: 0,
        pgtables_bytes: 0,
        ..*statistics
    }
}

fn texts(moment: &Moment) -> String {
    let mut text = String::new();
    moment.write_maps(&mut text).unwrap();
    moment.write_smaps(&mut text).unwrap();
    moment.write_status(&mut text).unwrap();
    text
}

/// What a child shows as its parent does.
fn without_peak(moment: &Moment) -> String {
    let text = texts(moment);
    text.lines()
        .filter(|line| !line.starts_with("VmPeak"))
        .collect()
}

/// Mappings in order, apart from each other, and as many pages as are counted.
fn assert_whole(moment: &Moment) {
    let (mut end, mut total, mut locked) = (0, 0, 0);
    for vma in moment.vmas() {
        assert!(end <= vma.start() && vma.start() < vma.end());
        end = vma.end();
        total += vma.pages();
        if vma.flags().contains(maple_mm::VmFlags::LOCKED) {
            locked += vma.pages();
        }
    }
    let counted = moment.statistics();
    assert_eq!(total, counted.total_vm);
    // What moved away from a locked mapping still counts.
    assert!(locked <= counted.locked_vm);
    assert!(counted.total_vm <= counted.peak_vm);
    assert_eq!(moment.tree().len(), moment.vmas().count());
}

/// The very same mapping.
fn same(one: Option<&VmaRef>, other: Option<&VmaRef>) -> bool {
    one.map(|vma| &raw const **vma) == other.map(|vma| &raw const **vma)
}

fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn it_belongs_to_many_threads() {
    is_send_and_sync::<Shared>();
    is_send_and_sync::<Shared<Counted<Side>>>();
    is_send_and_sync::<Moment>();
}

#[test]
fn calls_end_as_without_readers() {
    for number in 0..40 {
        let mut alone = AddressSpace::empty();
        let setup = Setup {
            layout: paged::layout(),
            ..Setup::default()
        };
        alone.set_layout(paged::layout());
        let beside = shared(AddressSpace::with_pages(setup, NoPages));
        let mut calls = [Calls::new(number), Calls::new(number)];
        for step in 0..150 {
            let expected = calls[0].step(&mut alone);
            let found = calls[1].step(&mut *beside.lock());
            assert_eq!(expected, found, "seed {number}, step {step}");
            let portraits = [portrait(&alone), portrait(&beside.lock())];
            assert_eq!(portraits[0], portraits[1], "seed {number}, step {step}");
            let moment = beside.try_moment().expect("nobody is inside");
            assert_eq!(texts(&moment), texts(&alone.moment()));
            assert_eq!(counted(&beside.statistics()), counted(&alone.statistics()));
            assert_eq!(moment.layout(), alone.layout());
            let addr = page(calls[0].rng().below(44));
            calls[1].rng().below(44);
            let reader = beside.mappings();
            assert!(same(reader.vma_at(addr), beside.lock().vma_at(addr)));
            assert!(same(reader.find_vma(addr), beside.lock().find_vma(addr)));
            let below = beside
                .lock()
                .vmas()
                .rfind(|vma| vma.start() <= addr)
                .cloned();
            assert!(same(reader.find_vma_before(addr), below.as_ref()));
            let both = |range: std::ops::Range<u64>| {
                let in_lock: Vec<VmaRef> = beside.lock().vmas_in(range.clone()).cloned().collect();
                let found: Vec<_> = reader.vmas_in(range).collect();
                assert_eq!(found.len(), in_lock.len());
                assert!(
                    found
                        .iter()
                        .zip(&in_lock)
                        .all(|(a, b)| same(Some(a), Some(b)))
                );
            };
            both(addr..addr + 3 * PAGE_SIZE);
            both(0..u64::MAX);
            for access in [Access::Read, Access::Write, Access::Execute] {
                for range in [addr..addr + 3 * PAGE_SIZE, addr + 7..addr + 8, 0..u64::MAX] {
                    assert_eq!(
                        beside.check_range(range.clone(), access),
                        alone.check_range(range, access)
                    );
                }
            }
        }
        let back = beside.into_inner();
        assert_eq!(portrait(&back), portrait(&alone));
    }
}

#[test]
fn a_buffer_is_checked_to_its_last_byte() {
    let mut space = AddressSpace::empty();
    map(&mut space, 0, 4);
    space.mprotect(page(2), PAGE_SIZE, PROT_NONE).unwrap();
    let refused = |range, access| {
        let refused = space.check_range(range, access).unwrap_err();
        (refused.addr, refused.fault)
    };
    assert_eq!(space.check_range(page(0)..page(2), Access::Write), Ok(()));
    assert_eq!(space.check_range(page(3)..page(4), Access::Read), Ok(()));
    for empty in [page(0)..page(0), 0..0, u64::MAX..u64::MAX, page(9)..page(9)] {
        assert_eq!(space.check_range(empty, Access::Execute), Ok(()));
    }
    let barred = (page(2), Fault::NotAllowed);
    assert_eq!(refused(page(1) + 5..page(2) + 1, Access::Read), barred);
    assert_eq!(refused(page(2)..page(9), Access::Read), barred);
    let inside = (page(2) + 9, Fault::NotAllowed);
    assert_eq!(refused(page(2) + 9..page(2) + 10, Access::Read), inside);
    assert_eq!(
        refused(page(0)..page(1), Access::Execute).1,
        Fault::NotAllowed
    );
    let behind = (page(4), Fault::NotMapped);
    assert_eq!(refused(page(3)..page(4) + 1, Access::Read), behind);
    assert_eq!(refused(0..page(1), Access::Read), (0, Fault::NotMapped));
    let last = u64::MAX - 1;
    assert_eq!(
        refused(last..u64::MAX, Access::Read),
        (last, Fault::NotMapped)
    );
}

/// Readers look as often as they can while one thread makes random calls.
#[test]
fn a_moment_is_one_between_calls_and_a_buffer_that_stays_is_always_there() {
    let seed = fresh_seed("shared readers");
    let layout = paged::layout();
    let setup = Setup {
        layout,
        ..Setup::default()
    };
    let beside = shared(AddressSpace::with_pages(setup, NoPages));
    let stable = beside
        .lock()
        .mmap(MmapRequest::anonymous(3 * PAGE_SIZE, PROT_READ))
        .unwrap();
    let buffer = stable..stable + 3 * PAGE_SIZE;
    let states = Mutex::new(HashSet::from([texts(&beside.moment())]));
    let (is_over, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let reader = |reader: u64| {
            let (beside, states, is_over, looks, buffer) =
                (&beside, &states, &is_over, &looks, &buffer);
            scope.spawn(move || {
                let mut rng = SplitMix::new(seed ^ reader);
                while !is_over.load(Ordering::Relaxed) {
                    let moment = beside.moment();
                    assert_whole(&moment);
                    assert!(states.lock().unwrap().contains(&texts(&moment)));
                    for _ in 0..50 {
                        assert_eq!(beside.check_range(buffer.clone(), Access::Read), Ok(()));
                        let addr = page(rng.below(48)) + rng.below(PAGE_SIZE);
                        let reader = beside.mappings();
                        let found = reader.vma_at(addr);
                        assert!(found.is_none_or(|vma| vma.contains(addr)));
                        let next = reader.find_vma(addr).expect("the buffer is above");
                        assert!(addr < next.end());
                        let met: Vec<_> = reader.vmas().collect();
                        assert!(met.last().is_some_and(|vma| vma.contains(buffer.start)));
                    }
                    let statistics = beside.statistics();
                    assert!(3 <= statistics.total_vm && statistics.total_vm <= statistics.peak_vm);
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let readers = [reader(0), reader(1), reader(2)];
        let mut calls = Calls::new(seed);
        for step in 0..3000 {
            let mut space = beside.lock();
            let result = calls.step(&mut *space);
            space
                .validate()
                .unwrap_or_else(|broken| panic!("{step} {result}: {broken:?}"));
            states.lock().unwrap().insert(texts(&space.moment()));
        }
        // On one processor they may not have had a turn yet.
        let failed = || readers.iter().any(thread::ScopedJoinHandle::is_finished);
        while looks.load(Ordering::Relaxed) < 20 && !failed() {
            thread::yield_now();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_whole(&beside.moment());
}

#[test]
fn a_child_is_one_moment_of_its_parent() {
    let seed = fresh_seed("shared forks");
    let layout = paged::layout();
    let setup = Setup {
        layout,
        ..Setup::default()
    };
    let parent = shared(AddressSpace::with_pages(setup, NoPages));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut calls = Calls::new(seed | 1);
            for _ in 0..4000 {
                calls.step(&mut *parent.lock());
            }
            is_over.store(true, Ordering::Relaxed);
        });
        for _ in 0..50 {
            let child = parent.fork().unwrap();
            assert_whole(&child.moment());
            child.lock().validate().unwrap();
            let before = without_peak(&child.moment());
            let grandchild = child.fork().unwrap();
            child.lock().munmap(0, page(1000)).unwrap();
            let another = child.fork().unwrap();
            assert_eq!(
                without_peak(&another.moment()),
                without_peak(&child.moment())
            );
            drop(child);
            assert_eq!(without_peak(&grandchild.moment()), before);
            grandchild.lock().validate().unwrap();
        }
        while !is_over.load(Ordering::Relaxed) {
            thread::yield_now();
        }
    });
}

#[test]
fn pages_are_the_same_with_and_without_the_lock() {
    let memory: Memory = frames(512);
    let side = Counted::new(Side::new(memory.clone(), NoTlb).unwrap()).unwrap();
    let layout = paged::layout();
    let space = AddressSpace::with_pages(
        Setup {
            layout,
            ..Setup::default()
        },
        side,
    );
    let parent = Shared::new(space, EpochRcu).unwrap();
    let request = MmapRequest::anonymous(64 * PAGE_SIZE, PROT_READ | PROT_WRITE);
    let addr = parent.lock().mmap(request).unwrap();
    for index in 0..64_u64 {
        parent
            .lock()
            .write(addr + index * PAGE_SIZE, &index.to_le_bytes())
            .unwrap();
        assert_eq!(parent.statistics().resident.anon, index + 1);
        assert_eq!(parent.moment().statistics().resident.anon, index + 1);
    }
    let child = parent.fork().unwrap();
    for index in 0..64_u64 {
        child
            .lock()
            .write(addr + index * PAGE_SIZE, &(index + 100).to_le_bytes())
            .unwrap();
    }
    for (space, added) in [(&parent, 0), (&child, 100)] {
        for index in 0..64_u64 {
            let mut bytes = [0; 8];
            space
                .lock()
                .read(addr + index * PAGE_SIZE, &mut bytes)
                .unwrap();
            assert_eq!(u64::from_le_bytes(bytes), index + added);
        }
        assert_eq!(space.statistics(), space.lock().statistics());
        space.lock().validate().unwrap();
    }
    drop((parent, child));
    Shared::<NoPages>::new(AddressSpace::empty(), EpochRcu)
        .unwrap()
        .barrier();
    assert_eq!(memory.in_use(), 0);
}
