//! Readers of the lock-free face that stay inside while a writer writes, driven by a script.
//!
//! Everything is on one thread: a script says which iterator goes one step on and which write comes
//! next, so that every interleaving of whole calls can be tried and repeated. (What happens inside
//! a call while another thread writes is for the tests of threads, for loom and the sanitizers.)

mod stage;
mod walker;

use crate::script::Script;
use stage::Stage;
use walker::Walker;

/// The most readers inside at once.
const DEPTH_MOST: usize = 4;

/// Runs a script of writes and of readers that look on meanwhile.
///
/// # Panics
///
/// If a reader sees what no index held since it came, meets an index twice or leaves out one that
/// never changed, or finds something freed; if the writer's tree differs from its model; if
/// something is not freed in the end.
pub fn concurrent(data: &[u8]) {
    let mut script = Script::new(data);
    let stage = Stage::new(&mut script);
    while stage.goes_on(&script) {
        match script.below(4) {
            0..3 => stage.write(&mut script),
            _ => inside(&stage, &mut script, &mut Outer::Nobody),
        }
    }
    stage.finish();
}

/// The readers that came before, whose iterators still go on.
enum Outer<'o> {
    Nobody,
    Readers(&'o mut dyn FnMut(&mut Script<'_>), usize),
}

impl Outer<'_> {
    fn depth(&self) -> usize {
        match self {
            Self::Nobody => 0,
            Self::Readers(_, depth) => *depth,
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        if let Self::Readers(step, _) = self {
            step(script);
        }
    }
}

/// A reader comes, looks, lets others write and come, and leaves.
fn inside(stage: &Stage, script: &mut Script<'_>, outer: &mut Outer<'_>) {
    stage.say("a reader comes");
    let reader = stage.tree.read();
    let mut walkers: Vec<Walker<'_>> = Vec::new();
    let mut found = Vec::new();
    let depth = outer.depth() + 1;
    while stage.goes_on(script) {
        match script.below(16) {
            0..5 => stage.write(script),
            5..7 => found.extend(stage.look(&reader, script)),
            7..9 => walkers.push(Walker::new(stage, &reader, script)),
            9..12 => step_one(&mut walkers, script),
            12 => outer.step(script),
            13 | 14 if depth < DEPTH_MOST => {
                let mut step = |script: &mut Script<'_>| match script.below(2) {
                    0 => step_one(&mut walkers, script),
                    _ => outer.step(script),
                };
                inside(stage, script, &mut Outer::Readers(&mut step, depth));
            }
            _ => break,
        }
    }
    found.extend(walkers.into_iter().flat_map(Walker::into_found));
    for (value, id) in found {
        // A clone of a dead token is entered in the ledger, which is checked after every write.
        assert_eq!(value.clone().id(), id, "what a reader found changed");
    }
    stage.check_values();
    stage.say("the reader leaves");
}

fn step_one(walkers: &mut [Walker<'_>], script: &mut Script<'_>) {
    let place = script.place(walkers.len());
    if let Some(walker) = walkers.get_mut(place) {
        walker.step(script);
    }
}
