//! Address spaces in one memory that wait for their readers in different ways.

use std::sync::Arc;
use std::thread;

use crate::common::eager_rcu::EagerRcu;
use crate::common::paged::{
    Memory, REGULAR, Shared, SideBeside, contents, frames, opened, shared, space_beside,
};
use crate::common::{memory, of_file, page};
use maple_mm::paging::PhysMemory;
use maple_mm::{FileRef, MmapRequest, SharedAddressSpace, abi::*};
use maple_tree::{EpochRcu, Rcu};

const RW: u64 = PROT_READ | PROT_WRITE;
/// Pages of private memory, and of a file that all families map, which come first.
const PAGES: u64 = 16;

type Of<T, R> = SharedAddressSpace<SideBeside<Memory, T>, R, parking_lot::RawMutex>;

/// What the tests do with a family, whatever it waits for. `T` is for tables, `R` for mappings.
struct Family<T, R>(Of<T, R>)
where
    T: Rcu + Clone + Send + Sync + 'static,
    R: Rcu + Clone + Send + Sync + 'static;

impl<T, R> Family<T, R>
where
    T: Rcu + Clone + Send + Sync + 'static,
    R: Rcu + Clone + Send + Sync + 'static,
{
    fn new(space: Of<T, R>, file: &FileRef) -> Self {
        let of_file = MmapRequest {
            prot: RW,
            flags: MAP_SHARED | MAP_FIXED,
            ..of_file(file, 0..PAGES, 0)
        };
        for request in [of_file, memory(PAGES, 2 * PAGES, RW)] {
            space.lock().mmap(request).unwrap();
        }
        let family = Self(space);
        (PAGES..2 * PAGES).for_each(|index| family.set(index, index));
        family
    }

    fn word(&self, index: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read(page(index), &mut bytes).unwrap();
        u64::from_ne_bytes(bytes)
    }

    fn set(&self, index: u64, word: u64) {
        self.0.write(page(index), &word.to_ne_bytes()).unwrap();
    }

    /// A child with some tables of its own, and others that it shares.
    fn child(&self) -> Self {
        let child = Self(self.0.fork().unwrap());
        child.set(PAGES, 7);
        child
    }

    /// Both kinds of memory are what they were.
    fn check(&self) {
        for index in 0..2 * PAGES {
            assert_eq!(self.word(index), index);
        }
    }
}

/// Frames with a file in them whose pages begin with their numbers.
fn ground() -> (Memory, FileRef) {
    let memory = frames(1024);
    let file = opened(1, REGULAR, &contents(&memory, PAGES, 0));
    (memory, file)
}

#[test]
fn a_child_is_held_back_by_readers_of_its_own_flavour_only() {
    let (memory, file) = ground();
    let eager: Shared<_, _> = shared(&memory, Arc::new(EagerRcu::new()));
    let eager = Family::new(eager, &file);
    let epochs = Family::new(shared(&memory, EpochRcu), &file);
    // Pages of the file are brought in where they are read.
    eager.check();
    epochs.check();
    let used = memory.in_use();

    let reader = epochs.0.mappings();
    let found = reader.vma_at(page(0)).unwrap();
    drop(eager.child());
    assert_eq!(memory.in_use(), used, "nobody looks at them");
    assert!(found.contains(page(0)) && reader.vma_at(page(PAGES)).is_some());
    drop(reader);

    let reader = eager.0.mappings();
    drop(epochs.child());
    EpochRcu.barrier();
    assert_eq!(memory.in_use(), used, "nobody looks at them");
    // Its tables are of the flavour that is looked at.
    drop(eager.child());
    assert!(memory.in_use() > used);
    assert!(reader.vma_at(page(0)).is_some());
    drop(reader);
    assert_eq!(memory.in_use(), used);
    eager.check();
    epochs.check();
}

#[test]
fn children_go_while_others_read_whatever_each_waits_for() {
    let (memory, file) = ground();
    let waiting = Arc::new(EagerRcu::new());
    let eager = Family::new(shared(&memory, Arc::clone(&waiting)), &file);
    let epochs = Family::new(shared(&memory, EpochRcu), &file);
    // Tables wait in one way, mappings in another.
    let mixed = space_beside(&memory, waiting);
    let mixed = Family::new(SharedAddressSpace::new(mixed, EpochRcu).unwrap(), &file);
    let checks: [&(dyn Fn() + Sync); 3] =
        [&|| eager.check(), &|| epochs.check(), &|| mixed.check()];
    let rounds = thread::scope(|scope| {
        let readers = checks.map(|check| scope.spawn(move || (0..4000).for_each(|_| check())));
        let mut rounds = 0;
        while rounds == 0 || !readers.iter().all(thread::ScopedJoinHandle::is_finished) {
            let children = (eager.child(), epochs.child(), mixed.child());
            // What the fork took from the parents is had again: the right to write, and tables.
            eager.set(PAGES + 1, PAGES + 1);
            epochs.set(PAGES + 1, PAGES + 1);
            mixed.set(PAGES + 1, PAGES + 1);
            drop(children.1);
            assert_eq!((children.0.word(PAGES), children.2.word(PAGES)), (7, 7));
            rounds += 1;
        }
        rounds
    });
    println!("{rounds} rounds");
    assert_eq!(eager.0.lock().validate_pages(), Ok(()));
    assert_eq!(epochs.0.lock().validate_pages(), Ok(()));
    assert_eq!(mixed.0.lock().validate_pages(), Ok(()));
    drop((eager, epochs, mixed, file));
    EpochRcu.barrier();
    assert_eq!(memory.in_use(), 0, "frames were leaked");
}
