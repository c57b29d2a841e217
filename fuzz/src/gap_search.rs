//! Lowest and highest fit, on a tree that tracks gaps and on one that does not, held against a
//! linear scan.

use crate::script::Script;
use crate::trial::{STEPS_MOST, Trial, population};
use maple_tree::HeapNodes;
use testkit::{FitRequest, Gaps, Model, ModelGapRequest, Op, Write};

/// Runs a script of writes and gap searches; often what a search found is taken at once.
///
/// # Panics
///
/// If a search differs from the linear scan, or a tree is not valid: its gaps are not exact then.
pub fn gap_search(data: &[u8]) {
    let mut script = Script::new(data);
    let mut trials = [Gaps::Tracked, Gaps::Untracked].map(Trial::<u64, HeapNodes>::new);
    let mut apply_all = |op: Op| {
        trials.iter_mut().for_each(|trial| trial.apply(&op));
        trials[0].model().clone()
    };
    let mut model = population(&mut script).map_or_else(Model::new, &mut apply_all);
    for _ in 0..STEPS_MOST {
        if script.is_over() {
            break;
        }
        for op in step(&mut script, &model) {
            model = apply_all(op);
        }
    }
    trials.into_iter().for_each(Trial::finish);
}

/// A write, a search, or a search and a store where it found room.
fn step(script: &mut Script<'_>, model: &Model<u32>) -> Vec<Op> {
    let choice = script.below(16);
    if choice < 6 {
        return vec![Op::Write(script.write(model))];
    }
    let request = script.request(model);
    let asked = ModelGapRequest {
        length: request.length,
        within: request.within,
        alignment: request.alignment,
        offset: request.offset,
    };
    let (search, found) = match choice % 2 {
        0 => (Op::Lowest as fn(FitRequest) -> Op, model.lowest_gap(&asked)),
        _ => (
            Op::Highest as fn(FitRequest) -> Op,
            model.highest_gap(&asked),
        ),
    };
    let taken = found.filter(|_| choice >= 10);
    let take = taken.map(|place| Op::Write(Write::Insert(place, script.value())));
    std::iter::once(search(request)).chain(take).collect()
}
