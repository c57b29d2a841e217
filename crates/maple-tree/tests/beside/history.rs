//! [`History`]: every state that a tree went through, to hold what readers saw against.

use std::sync::Mutex;

use maple_tree::{IndexRange, Segment};

/// For each index below the span the number that was stored there, or 0. Every
/// store has a number of its own, so a run of one number is one entry.
type State = Vec<u32>;

/// The states of a tree, one for each write, in order.
#[derive(Debug)]
pub(crate) struct History {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    states: Vec<State>,
    /// The newest state that the tree is known to have reached.
    reached: usize,
}

/// A moment: what is seen after it is of its state, or of a later one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(usize);

impl Moment {
    /// Before the first write.
    pub(crate) const BEGIN: Self = Self(0);
}

impl History {
    pub(crate) fn new(span: u64) -> Self {
        let inner = Inner {
            states: vec![vec![0; span as usize]],
            reached: 0,
        };
        Self {
            inner: Mutex::new(inner),
        }
    }

    /// Forgets all states but the newest.
    pub(crate) fn begin_here(&self) {
        let mut inner = self.inner.lock().unwrap();
        let newest = inner.states.len() - 1;
        inner.states.drain(..newest);
        inner.reached = 0;
    }

    /// Notes that `range` is about to be filled with `number`, or emptied by 0. To be
    /// called under the tree's lock, as is [`reached`](Self::reached).
    pub(crate) fn will_fill(&self, range: IndexRange, number: u32) {
        self.will_fill_at_once([(range, number)]);
    }

    /// As [`will_fill`](Self::will_fill), several ranges that are not to be seen apart.
    pub(crate) fn will_fill_at_once(&self, fills: impl IntoIterator<Item = (IndexRange, u32)>) {
        let mut inner = self.inner.lock().unwrap();
        let mut state = inner.states.last().unwrap().clone();
        for (range, number) in fills {
            state[range.first() as usize..=range.last() as usize].fill(number);
        }
        inner.states.push(state);
    }

    /// Notes that all that was to be written is.
    pub(crate) fn reached(&self) {
        let mut inner = self.inner.lock().unwrap();
        inner.reached = inner.states.len() - 1;
    }

    /// This moment.
    pub(crate) fn now(&self) -> Moment {
        Moment(self.inner.lock().unwrap().reached)
    }

    /// The entry or gap around `index` as it is to be now, and its number.
    pub(crate) fn newest(&self, index: u64) -> (IndexRange, u32) {
        let inner = self.inner.lock().unwrap();
        let state = inner.states.last().unwrap();
        (run(state, index), at(state, index))
    }

    /// Asserts that the tree held this entry or gap, with these very bounds, at or
    /// after `since`.
    #[track_caller]
    pub(crate) fn assert_held(&self, since: Moment, seen: (IndexRange, u32)) {
        let (range, number) = seen;
        let is_there = |state: &State| at(state, range.first()) == number;
        let held = |state: &State| is_there(state) && run(state, range.first()) == range;
        assert!(
            self.any(since, held),
            "{range} was never {number}: {self:?}"
        );
    }

    /// Asserts that `index` held `number` at or after `since`. Returns the first such
    /// moment: a later look does not see an earlier state.
    #[track_caller]
    pub(crate) fn assert_value(&self, since: Moment, index: u64, number: u32) -> Moment {
        let inner = self.inner.lock().unwrap();
        let later = &inner.states[since.0..];
        let first = later.iter().position(|state| at(state, index) == number);
        let Some(first) = first else {
            panic!("{index} was never {number} since {since:?}: {inner:?}");
        };
        Moment(since.0 + first)
    }

    /// Asserts that all of `segments` are of one state, at or after `since`.
    #[track_caller]
    pub(crate) fn assert_state(&self, since: Moment, segments: &[(IndexRange, u32)]) {
        let is_whole = |state: &State| {
            let held = |&(range, number): &(IndexRange, u32)| {
                at(state, range.first()) == number && run(state, range.first()) == range
            };
            segments.iter().all(held)
        };
        assert!(
            self.any(since, is_whole),
            "{segments:?} was never all there was: {self:?}"
        );
    }

    fn any(&self, since: Moment, holds: impl Fn(&State) -> bool) -> bool {
        let inner = self.inner.lock().unwrap();
        inner.states[since.0..].iter().any(holds)
    }

    /// Asserts that `segments` come one behind the other from the one around `from`,
    /// whose beginning may be cut off, each as the tree held it at or after `since`.
    #[track_caller]
    pub(crate) fn assert_ascend<'a, T: 'a>(
        &self,
        (since, from): (Moment, u64),
        segments: impl Iterator<Item = Segment<'a, T>>,
        number: impl Fn(&T) -> u32,
    ) {
        let mut next = from;
        for (met, segment) in segments.enumerate() {
            let (range, value) = match segment {
                Segment::Entry(range, value) => (range, number(value)),
                Segment::Gap(range) => (range, 0),
            };
            assert!(range.contains(next), "an index was left out");
            assert!(met == 0 || range.first() == next, "an index was met twice");
            if met == 0 && range.first() == from {
                let rest = |state: &State| run(state, from).last() == range.last();
                let held = |state: &State| at(state, from) == value;
                assert!(
                    self.any(since, |state| held(state) && rest(state)),
                    "{range} was never the rest of {value}: {self:?}"
                );
            } else {
                self.assert_held(since, (range, value));
            }
            next = range.last().wrapping_add(1);
        }
        assert_eq!(next, 0, "all indices are met");
    }

    /// Asserts of entries in descending order what holds of each alone, and that the
    /// indices between them were vacant at some time.
    #[track_caller]
    pub(crate) fn assert_descend(
        &self,
        since: Moment,
        entries: impl Iterator<Item = (IndexRange, u32)>,
    ) {
        let span = self.inner.lock().unwrap().states[0].len() as u64;
        let mut end = span;
        for (range, number) in entries {
            assert!(range.last() < end, "an index was met twice");
            self.assert_held(since, (range, number));
            for index in range.last() + 1..end {
                self.assert_value(since, index, 0);
            }
            end = range.first();
        }
        for index in 0..end {
            self.assert_value(since, index, 0);
        }
    }
}

fn at(state: &State, index: u64) -> u32 {
    state.get(index as usize).copied().unwrap_or(0)
}

/// The entry or gap around `index`.
fn run(state: &State, index: u64) -> IndexRange {
    let (number, span) = (at(state, index), state.len() as u64);
    let mut first = index.min(span - 1);
    if at(state, first) != number {
        // A gap that begins where the span ends.
        return IndexRange::new(span, u64::MAX).unwrap();
    }
    while first > 0 && at(state, first - 1) == number {
        first -= 1;
    }
    let mut last = index;
    while last < span && at(state, last) == number {
        last += 1;
    }
    let last = if last >= span && number == 0 {
        u64::MAX
    } else {
        last - 1
    };
    IndexRange::new(first, last).unwrap()
}
