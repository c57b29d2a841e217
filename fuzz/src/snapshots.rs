//! Snapshots of snapshots: writes on every side, drops in any order, failing allocations.

use crate::script::Script;
use crate::trial::{STEPS_MOST, Trial, population};
use testkit::{FailingNodes, Gaps, Model, Op, Token};

/// The most trees alive at once.
const TREES_MOST: usize = 6;

/// Runs a script that writes to several trees which share nodes; every tree is compared with its
/// own model after every step, and the reference counts with the number of owners.
///
/// # Panics
///
/// If a write on one side shows on another, or a value or node is lost or doubled.
pub fn snapshots(data: &[u8]) {
    let mut script = Script::new(data);
    let gaps = match script.below(2) {
        0 => Gaps::Tracked,
        _ => Gaps::Untracked,
    };
    let mut trial = Trial::<Token, FailingNodes>::new(gaps);
    if let Some(entries) = population(&mut script) {
        trial.apply(&entries);
    }
    trial.apply(&Op::Snapshot);
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
    match script.below(32) {
        0..14 => Op::Write(script.write(model)),
        14 => Op::Preallocated(vec![script.write(model), script.write(model)]),
        15 | 16 => Op::Set(script.index(model), script.value()),
        17 => Op::Clear,
        18 | 19 => Op::Fail(u32::from(script.below(12))),
        20..26 => Op::Focus(script.byte()),
        26..28 => Op::Drop(script.byte()),
        _ if live < TREES_MOST => Op::Snapshot,
        _ => Op::Drop(script.byte()),
    }
}
