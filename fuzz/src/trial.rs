//! Runs operations on a harness, everything checked after each, and keeps the trace for a failure.

use crate::script::Script;
use maple_tree::IndexRange;
use std::mem::ManuallyDrop;
use testkit::{Gaps, Harness, Mismatch, Model, Op, TestNodes, TestValue};

/// The most operations of one script.
pub(crate) const STEPS_MOST: usize = 250;

/// The sizes that a tree can have before the script begins; the larger ones are of several levels.
const SIZES: [u64; 8] = [0, 0, 3, 10, 24, 48, 90, 180];

/// A harness and what was done with it.
pub(crate) struct Trial<T: TestValue, S: TestNodes> {
    /// Not dropped where a check failed: the trees may be in any state then.
    harness: ManuallyDrop<Harness<T, S>>,
    trace: Trace,
}

/// The operations so far, printed if a panic passes by.
struct Trace {
    gaps: Gaps,
    ops: Vec<Op>,
}

impl<T: TestValue, S: TestNodes> Trial<T, S> {
    pub(crate) fn new(gaps: Gaps) -> Self {
        let harness = match gaps {
            Gaps::Tracked => Harness::with_gaps(),
            Gaps::Untracked => Harness::new(),
        };
        Self {
            harness: ManuallyDrop::new(harness),
            trace: Trace {
                gaps,
                ops: Vec::new(),
            },
        }
    }

    /// The model of the tree in focus.
    pub(crate) fn model(&self) -> &Model<u32> {
        self.harness.model()
    }

    /// The number of live trees.
    pub(crate) fn live(&self) -> usize {
        self.harness.live()
    }

    /// Runs `op` and checks everything.
    pub(crate) fn apply(&mut self, op: &Op) {
        self.trace.ops.push(op.clone());
        let applied = self.harness.apply(op);
        let checked = applied.and_then(|()| self.harness.check());
        self.trace.judge(checked);
    }

    /// Drops all trees and checks that every value and node came back.
    pub(crate) fn finish(self) {
        let Self { harness, mut trace } = self;
        trace.judge(ManuallyDrop::into_inner(harness).finish());
    }
}

impl Trace {
    #[track_caller]
    fn judge(&mut self, result: Result<(), Mismatch>) {
        if let Err(mismatch) = result {
            self.print();
            self.ops.clear();
            panic!("{mismatch}");
        }
    }

    fn print(&self) {
        eprintln!("trace, gaps {:?}:", self.gaps);
        for op in &self.ops {
            eprintln!("{op}");
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.ops.is_empty() {
            self.print();
        }
    }
}

/// The entries that a tree begins with: a size and a pattern that the script chooses.
pub(crate) fn population(script: &mut Script<'_>) -> Option<Op> {
    let choice = script.byte();
    let size = SIZES[usize::from(choice % 8)];
    let spacing = [1, 2, 16, 4096][usize::from(choice / 8 % 4)];
    // Every entry touches the next, or each third does, or none does.
    let touches = |place: u64| match choice / 32 % 3 {
        0 => false,
        1 => place.is_multiple_of(3),
        _ => true,
    };
    let entry = |place: u64| {
        let first = place * spacing;
        let hole = if touches(place) { 0 } else { spacing / 2 };
        let range = IndexRange::new(first, first + spacing - 1 - hole)?;
        Some((range, script.value()))
    };
    let entries: Vec<_> = (0..size).filter_map(entry).collect();
    (!entries.is_empty()).then_some(Op::Extend(entries))
}
