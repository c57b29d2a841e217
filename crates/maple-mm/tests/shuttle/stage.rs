//! [`Stage`]: a shared address space, and what threads did to it.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use maple_mm::paging::{Beside, NoTlb, validate_family};
use maple_mm::{
    AddressSpace, Counted, Layout, MappedPages, Setup, SharedAddressSpace, TreeNodes,
    abi::PAGE_SIZE,
};
use maple_tree::GlobalNodes;
use testkit::SplitMix;

use crate::checker;
use crate::lock::CheckedLock;
use crate::memory::{Memory, Small};
use crate::operation::{Answer, Mix, Operation, addr, bytes_of, portrait, shown, write_to_child};
use crate::order::{Done, Seen, assert_unused, find};
use crate::rcu::{EagerRcu, Patience};

type Readers = Arc<EagerRcu>;
type Side = Counted<MappedPages<Small, &'static Memory, NoTlb, Beside<Readers>>>;
type Space = AddressSpace<Side>;
type Shared = SharedAddressSpace<Side, Readers, CheckedLock>;

/// The memory of this test, and that of what it is checked against.
#[derive(Clone, Copy)]
pub(crate) struct Memories {
    shared: &'static Memory,
    alone: &'static Memory,
}

thread_local! {
    static MEMORIES: Memories = Memories {
        shared: Memory::leak(),
        alone: Memory::leak(),
    };
}

/// A heap of no length below the pages.
pub(crate) fn setup() -> Setup {
    let heap = addr(0) - 8 * PAGE_SIZE;
    Setup {
        layout: Layout {
            start_brk: heap,
            brk: heap,
            ..Layout::default()
        },
        ..Setup::default()
    }
}

pub(crate) struct Stage {
    memories: Memories,
    // After a panic threads hold tables for ever, so nothing is taken down then.
    space: ManuallyDrop<Shared>,
    /// A child of each fork, with when that was.
    children: ManuallyDrop<Mutex<Vec<(u64, Space)>>>,
    clock: AtomicU64,
    done: Mutex<Vec<Done>>,
}

impl Stage {
    pub(crate) fn new(broken: Option<maple_mm::paging::sync::Rule>) -> Self {
        let memories = MEMORIES.with(|memories| *memories);
        memories.shared.begin();
        memories.alone.begin();
        checker::begin(memories.shared, broken);
        let rcu = Arc::new(EagerRcu::new(Patience::WaitsForReaders));
        // Nodes that are kept for later would look like a leak.
        let company = Beside::new(rcu.clone()).with_nodes(TreeNodes::new(&GlobalNodes));
        let side = MappedPages::beside(memories.shared, NoTlb, company);
        let side = Counted::new(side.expect("a frame for the root")).expect("memory");
        let space = AddressSpace::with_pages(setup(), side);
        Self {
            memories,
            space: ManuallyDrop::new(Shared::new(space, rcu).expect("nodes")),
            children: ManuallyDrop::default(),
            clock: AtomicU64::new(0),
            done: Mutex::default(),
        }
    }

    /// A time that never was before.
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// A random operation, noted when it is over.
    pub(crate) fn act(&self, mix: &Mix, rng: &mut SplitMix) {
        let number = 1 + self.now();
        self.take(mix.random(rng, number));
    }

    pub(crate) fn take(&self, operation: Operation) {
        let (begun, answer) = if operation.is_call() {
            self.call(&operation)
        } else {
            (self.now(), self.look(&operation))
        };
        let done = Done {
            operation,
            begun,
            ended: self.now(),
            answer,
        };
        self.done.lock().unwrap().push(done);
    }

    fn call(&self, operation: &Operation) -> (u64, Answer) {
        let mut space = self.space.lock();
        let begun = self.now();
        let mut children = ManuallyDrop::new(Vec::new());
        let mut answer = operation.call(&mut space, &mut children);
        drop(space);
        if let Some(child) = children.last_mut() {
            answer += &write_to_child(operation, child);
        }
        let forked = ManuallyDrop::into_inner(children).into_iter();
        let forked = forked.map(|child| (begun, child));
        self.children.lock().unwrap().extend(forked);
        (begun, answer)
    }

    /// Without the lock.
    fn look(&self, operation: &Operation) -> Answer {
        match *operation {
            Operation::Write(page, number) => {
                format!("{:?}", self.space.write(addr(page), &number.to_ne_bytes()))
            }
            Operation::Read(page) => {
                let mut bytes = [0; 8];
                let answer = self.space.read(addr(page), &mut bytes);
                format!("{:?}", answer.map(|()| u64::from_ne_bytes(bytes)))
            }
            Operation::Fault(page, access) => {
                format!("{:?}", self.space.fault(addr(page), access))
            }
            Operation::Check(page, access) => {
                format!("{:?}", self.space.check_range(bytes_of(page), access))
            }
            _ => shown(&self.space.moment()),
        }
    }

    /// All is over: what is there is sound, it is what an address space on its own would have come
    /// to, and nothing is left when it goes.
    pub(crate) fn settle(self) {
        self.space.barrier();
        checker::stop_watching();
        let space = ManuallyDrop::into_inner(self.space).into_inner();
        let children = ManuallyDrop::into_inner(self.children).into_inner();
        let mut children = children.unwrap();
        children.sort_by_key(|&(forked, _)| forked);
        let children = children.into_iter().map(|(_, child)| child);
        let spaces: Vec<Space> = std::iter::once(space).chain(children).collect();
        let mut spaces = ManuallyDrop::new(spaces);
        validate(&spaces);
        let mut done = self.done.into_inner().unwrap();
        done.sort_by_key(|done| done.ended);
        let seen = Seen {
            done,
            portraits: spaces.iter_mut().map(portrait).collect(),
        };
        let order = find(&seen, self.memories.alone);
        assert!(
            order.is_some(),
            "no order of these gives what was seen:\n{}",
            told(&seen)
        );
        assert_unused(self.memories.alone);
        drop(ManuallyDrop::into_inner(spaces));
        assert_unused(self.memories.shared);
        assert_eq!(checker::nodes(), 0, "nodes were leaked");
    }
}

/// What was seen, a line each.
pub(crate) fn told(seen: &Seen) -> String {
    let mut lines: Vec<String> = Vec::new();
    for done in &seen.done {
        let Done {
            operation,
            begun,
            ended,
            answer,
        } = done;
        lines.push(format!("{begun}..{ended}: {operation:?}: {answer}"));
    }
    lines.extend(seen.portraits.iter().cloned());
    lines.join("\n")
}

fn validate(spaces: &[Space]) {
    let mut tables = Vec::new();
    for space in spaces {
        assert_eq!(space.validate_pages(), Ok(()), "was not kept");
        let of_space = (**space.page_side()).tables();
        of_space.barrier();
        tables.push(of_space);
    }
    assert_eq!(validate_family(&tables, |_| 0), Ok(()), "was not kept");
}
