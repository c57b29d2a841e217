//! [`find`]: an order in which an address space on its own would have answered as a shared one did.
//!
//! What was over before another operation began comes before it, and calls come in the order in
//! which they had the lock. All else is tried.
//!
//! A call that changes several pages changes one after the other, so what takes no lock may find
//! one page changed and then another not. That is the only order in time that need not be kept: of
//! two operations on two pages of one call, beside it, the first may come after the call and the
//! second before it.
//!
//! A write that was refused may have brought its page in before, when it still was allowed to; so a
//! few writes may do that at a time of their own.

use maple_mm::paging::{NoTlb, PhysMemory};
use maple_mm::{Access, AddressSpace, MappedPages};

use crate::memory::{Memory, Small};
use crate::operation::{Answer, Operation, portrait, write_to_child};
use crate::stage::setup;

/// So many times an operation is tried on an address space of its own before it is given up.
const ATTEMPTS: usize = 200_000;

/// An operation that is over. Times are unique.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) operation: Operation,
    /// When it began: for a call, to have the lock.
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) answer: Answer,
}

/// What was seen.
pub(crate) struct Seen {
    pub(crate) done: Vec<Done>,
    /// The portraits of the address space, and of its children as they were forked.
    pub(crate) portraits: Vec<String>,
}

type Alone = AddressSpace<MappedPages<Small, &'static Memory, NoTlb>>;

/// An address space that one thread has, and its children.
struct Owner {
    space: Alone,
    children: Vec<Alone>,
}

impl Owner {
    fn new(memory: &'static Memory) -> Self {
        let side = MappedPages::new(memory, NoTlb).expect("a frame for the root");
        Self {
            space: AddressSpace::with_pages(setup(), side),
            children: Vec::new(),
        }
    }

    fn call(&mut self, operation: &Operation) -> Answer {
        let mut answer = operation.call(&mut self.space, &mut self.children);
        if let Some(child) = self.children.last_mut() {
            answer += &write_to_child(operation, child);
        }
        answer
    }

    fn portraits(&mut self) -> Vec<String> {
        let children = self.children.iter_mut();
        let children: Vec<_> = children.map(portrait).collect();
        [vec![portrait(&mut self.space)], children].concat()
    }
}

/// A step of an order: an operation, or the page of a write that is brought in before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    which: usize,
    is_early: bool,
}

struct Search<'s> {
    seen: &'s Seen,
    memory: &'static Memory,
    /// As they are to be tried.
    steps: Vec<Step>,
    left: usize,
}

/// Such an order, in numbers of operations.
pub(crate) fn find(seen: &Seen, memory: &'static Memory) -> Option<Vec<usize>> {
    let mut search = Search {
        seen,
        memory,
        steps: Vec::new(),
        left: ATTEMPTS,
    };
    let is_write = |&at: &usize| matches!(seen.done[at].operation, Operation::Write(..));
    let writes: Vec<usize> = (0..seen.done.len()).filter(is_write).collect();
    let one = writes.iter().map(|&write| vec![write]);
    let pairs = writes
        .iter()
        .flat_map(|&first| writes.iter().map(move |&second| vec![first, second]));
    let mut earlier = std::iter::once(Vec::new()).chain(one).chain(pairs);
    earlier.find_map(|early| search.with(&early))
}

impl Search<'_> {
    /// An order with the pages of these writes brought in before.
    fn with(&mut self, early: &[usize]) -> Option<Vec<usize>> {
        let step = |is_early| move |which| Step { which, is_early };
        let early = early.iter().copied().map(step(true));
        self.steps = early
            .chain((0..self.seen.done.len()).map(step(false)))
            .collect();
        // Most take effect shortly before they end.
        self.steps
            .sort_by_key(|step| (self.seen.done[step.which].ended, !step.is_early));
        let mut order = Vec::new();
        let is_found = self.extend(&mut order, Owner::new(self.memory));
        let of_operations = order
            .into_iter()
            .filter(|&at| !self.steps[at].is_early)
            .map(|at| self.steps[at].which);
        is_found.then(|| of_operations.collect())
    }

    /// Completes `order`, which `owner` has gone through.
    fn extend(&mut self, order: &mut Vec<usize>, mut owner: Owner) -> bool {
        if order.len() == self.steps.len() {
            return owner.portraits() == self.seen.portraits;
        }
        let mut owner = Some(owner);
        for next in 0..self.steps.len() {
            if !self.may_follow(order, next) {
                continue;
            }
            assert!(self.left > 0, "too many orders:\n{:#?}", self.seen.done);
            self.left -= 1;
            let mut here = owner.take().unwrap_or_else(|| self.replay(order));
            if self.take(next, &mut here) {
                order.push(next);
                if self.extend(order, here) {
                    return true;
                }
                order.pop();
            }
        }
        false
    }

    fn replay(&self, order: &[usize]) -> Owner {
        let mut owner = Owner::new(self.memory);
        for &at in order {
            self.take(at, &mut owner);
        }
        owner
    }

    /// Takes a step: whether it answers as it did.
    fn take(&self, at: usize, owner: &mut Owner) -> bool {
        let Step { which, is_early } = self.steps[at];
        let done = &self.seen.done[which];
        match done.operation {
            Operation::Write(page, _) if is_early => {
                owner.call(&Operation::Fault(page, Access::Write));
                true
            }
            _ => owner.call(&done.operation) == done.answer,
        }
    }

    fn done(&self, at: usize) -> &Done {
        &self.seen.done[self.steps[at].which]
    }

    /// Whether `next` may come when just the steps in `order` were taken.
    fn may_follow(&self, order: &[usize], next: usize) -> bool {
        if order.contains(&next) {
            return false;
        }
        let calls = order.iter().rposition(|&at| self.is_call(at));
        let last_call = calls.map(|place| order[place]);
        // Those before the last call, and after the one before it.
        let before_it = match calls {
            Some(place) => {
                let start = order[..place].iter().rposition(|&at| self.is_call(at));
                start.map_or(0, |start| start + 1)..place
            }
            None => 0..0,
        };
        let is_in_time = order.iter().enumerate().all(|(place, &at)| {
            !self.precedes(next, at)
                || before_it.contains(&place)
                    && last_call.is_some_and(|call| self.may_pass(next, at, call))
        });
        let left = || (0..self.steps.len()).filter(|at| !order.contains(at));
        let next_call = left()
            .filter(|&at| self.is_call(at))
            .min_by_key(|&at| self.done(at).begun);
        is_in_time
            && left().all(|other| {
                other == next
                    || !self.precedes(other, next)
                    || next_call.is_some_and(|call| self.may_pass(other, next, call))
            })
    }

    fn is_call(&self, at: usize) -> bool {
        self.done(at).operation.is_call()
    }

    /// Whether `first` comes before `second`, but for what may pass a call.
    fn precedes(&self, first: usize, second: usize) -> bool {
        let (one, other) = (self.steps[first], self.steps[second]);
        if one.which == other.which {
            return one.is_early && (!other.is_early || first < second);
        }
        let (first, second) = (self.done(first), self.done(second));
        let are_calls = first.operation.is_call() && second.operation.is_call();
        first.ended < second.begun || are_calls && first.begun < second.begun
    }

    /// Whether `first` may come after `call`, and `second`, which began later, before it.
    fn may_pass(&self, first: usize, second: usize, call: usize) -> bool {
        let (first, second, call) = (self.done(first), self.done(second), self.done(call));
        let is_beside = call.begun < first.ended && second.begun < call.ended;
        match (
            first.operation.page(),
            second.operation.page(),
            call.operation.changed(),
        ) {
            (Some(one), Some(other), Some(pages)) => {
                is_beside && one != other && pages.contains(&one) && pages.contains(&other)
            }
            _ => false,
        }
    }
}

/// Frames of `memory` are all back.
pub(crate) fn assert_unused(memory: &Memory) {
    assert_eq!(memory.in_use(), 0, "frames were leaked");
}
