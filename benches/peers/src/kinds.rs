//! The list of structures, and what can be made of each by name.

use crate::beside::{Beside, Locked, Pair, beside};
use crate::fixture::{Age, Fixture};
use crate::heap;
use crate::structure::{RangeMap, Structure};
use crate::structures::{BTree, Imbl, Maple, MapleGaps, Nodit, RangeMapCrate, Skip, SkipMap};
use crate::subject::{Bench, Subject};
use crate::verify;
use crate::work::Work;
use std::rc::Rc;

/// What a structure takes, each.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Bytes {
    /// Bytes of heap an entry, by the counting allocator.
    pub(crate) counted: f64,
    /// The same as the structure itself accounts for it, if it does.
    pub(crate) own: Option<f64>,
}

/// Runs a reader beside a writer on a structure made for that.
pub(crate) type RunPair = fn(&Fixture, Age, Pair) -> Result<Beside, String>;

/// A structure by name.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) why_not: fn(Work) -> Option<&'static str>,
    pub(crate) verify: fn(&Fixture, Age) -> Result<(), String>,
    pub(crate) subject: fn(&Rc<Fixture>, Age) -> Box<dyn Subject>,
    /// Only in a process of its own, which has measured nothing before.
    pub(crate) bytes: fn(&Fixture, Age) -> Bytes,
    pub(crate) pair: Option<RunPair>,
}

/// Every structure in Rust. The names of the tree's own faces begin with `maple`.
pub(crate) const KINDS: [Kind; 7] = [
    kind::<Maple>(),
    kind::<MapleGaps>(),
    shared::<BTree>(|fixture, age, pair| {
        beside(
            &Locked::<<BTree as Structure>::Map<u64>>::new(fixture.map(age)),
            fixture,
            pair,
        )
    }),
    shared::<RangeMapCrate>(|fixture, age, pair| {
        let locked = Locked::<<RangeMapCrate as Structure>::Map<u64>>::new(fixture.map(age));
        beside(&locked, fixture, pair)
    }),
    kind::<Nodit>(),
    kind::<Imbl>(),
    shared::<Skip>(|fixture, age, pair| {
        beside(&fixture.map::<u64, SkipMap<u64>>(age), fixture, pair)
    }),
];

/// Whether a column of this name is one of the tree's own faces.
pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with("maple")
}

const fn kind<S: Structure>() -> Kind {
    Kind {
        name: S::NAME,
        why_not: S::why_not,
        verify: verify::structure::<S>,
        subject: |fixture, age| Box::new(Bench::<S>::new(fixture, age)),
        bytes: bytes::<S>,
        pair: None,
    }
}

const fn shared<S: Structure>(pair: RunPair) -> Kind {
    Kind {
        pair: Some(pair),
        ..kind::<S>()
    }
}

fn bytes<S: Structure>(fixture: &Fixture, age: Age) -> Bytes {
    let (map, counted) = heap::count(|| fixture.map::<u64, S::Map<u64>>(age));
    let each = |bytes: f64| bytes / fixture.n() as f64;
    Bytes {
        counted: each(counted as f64),
        own: map.memory_usage().map(|bytes| each(bytes as f64)),
    }
}
