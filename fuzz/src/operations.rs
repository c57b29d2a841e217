//! Any operation on any of a few live trees, held against the models.

use crate::script::Script;
use crate::trial::{STEPS_MOST, Trial, population};
use maple_tree::HeapNodes;
use std::sync::Arc;
use testkit::{FailingNodes, Gaps, Model, Op, Part, Step, TestNodes, TestValue, Token};

/// The most trees alive at once.
const TREES_MOST: usize = 4;

/// Runs a script of operations; after each one the trees are validated and compared with models.
///
/// # Panics
///
/// If a tree is not valid, differs from its model, or loses or doubles a value or a node.
pub fn operations(data: &[u8]) {
    let mut script = Script::new(data);
    let choice = script.byte();
    let gaps = match choice % 2 {
        0 => Gaps::Tracked,
        _ => Gaps::Untracked,
    };
    // Counted values find leaks; heap values on plain nodes let an address sanitizer look on.
    match choice / 2 % 4 {
        0 | 1 => run::<Token, FailingNodes>(gaps, script),
        2 => run::<Box<u32>, HeapNodes>(gaps, script),
        _ => run::<Arc<u32>, HeapNodes>(gaps, script),
    }
}

fn run<T: TestValue, S: TestNodes>(gaps: Gaps, mut script: Script<'_>) {
    let mut trial = Trial::<T, S>::new(gaps);
    if let Some(entries) = population(&mut script) {
        trial.apply(&entries);
    }
    for _ in 0..STEPS_MOST {
        if script.is_over() {
            break;
        }
        let op = op(&mut script, trial.model(), trial.live());
        trial.apply(&op);
    }
    trial.finish();
}

fn op(script: &mut Script<'_>, model: &Model<u32>, live: usize) -> Op {
    match script.below(64) {
        0..32 => Op::Write(script.write(model)),
        32..35 => Op::Preallocated(list(script, |script| script.write(model))),
        35..38 => Op::Set(script.index(model), script.value()),
        38..42 => Op::Look(script.index(model)),
        42 => Op::Vacant(script.range(model)),
        43..46 => Op::Walk(script.range(model), script.word()),
        46 => Op::Lowest(script.request(model)),
        47 => Op::Highest(script.request(model)),
        48..53 => Op::Cursor(
            script.index(model),
            list(script, |script| step(script, model)),
        ),
        53 => Op::Extend(list(script, |script| (script.range(model), script.value()))),
        54 => Op::Clear,
        55..57 => Op::Fail(u32::from(script.below(12))),
        57..60 => Op::Focus(script.byte()),
        60 => Op::Drop(script.byte()),
        _ if live < TREES_MOST => copy(script),
        _ => Op::Drop(script.byte()),
    }
}

fn copy(script: &mut Script<'_>) -> Op {
    match script.below(4) {
        0 | 1 => Op::Snapshot,
        2 => Op::Duplicate,
        _ => Op::DuplicateWith(u32::from(script.below(4)), u32::from(script.byte())),
    }
}

/// One to eight elements.
fn list<R>(script: &mut Script<'_>, mut element: impl FnMut(&mut Script<'_>) -> R) -> Vec<R> {
    let count = 1 + script.below(8);
    (0..count).map(|_| element(script)).collect()
}

fn step(script: &mut Script<'_>, model: &Model<u32>) -> Step {
    match script.below(16) {
        0..3 => Step::Next,
        3..6 => Step::Previous,
        6 => Step::NextEntry,
        7 => Step::PreviousEntry,
        8 => Step::Seek(script.index(model)),
        9 => Step::Insert(script.range(model), script.value()),
        10 => Step::Store(script.range(model), script.value()),
        11 => Step::Remove(script.range(model)),
        12 | 13 => Step::Overwrite(part(script), script.value()),
        14 => Step::Erase,
        _ => Step::Set(script.value()),
    }
}

fn part(script: &mut Script<'_>) -> Part {
    match script.below(3) {
        0 => Part::Whole,
        1 => Part::Head,
        _ => Part::Tail,
    }
}
