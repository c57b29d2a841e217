//! The list of structures, and what can be made of each by name.

use crate::beside::{Beside, Locked};
use crate::fixture::{Age, Fixture};
use crate::heap;
use crate::structure::{RangeMap, Structure};
use crate::structures::{
    BTree, Imbl, Maple, MapleGaps, MapleRcu, Nodit, RangeMapCrate, RcuTree, Skip, SkipMap,
};
use crate::subject::{Bench, Subject};
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

/// Makes a structure that two threads may use at once.
pub(crate) type MakeShared = fn(&Fixture, Age) -> Box<dyn Beside>;

/// A structure by name.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) why_not: fn(Work) -> Option<&'static str>,
    pub(crate) subject: fn(&Rc<Fixture>, Age) -> Box<dyn Subject>,
    /// Only in a process of its own, which has measured nothing before.
    pub(crate) bytes: fn(&Fixture, Age) -> Bytes,
    pub(crate) shared: Option<MakeShared>,
}

/// Every structure in Rust. The names of the tree's own faces begin with `maple`.
pub(crate) const KINDS: [Kind; 8] = [
    kind::<Maple>(),
    kind::<MapleGaps>(),
    shared::<MapleRcu>(|fixture, age| Box::new(fixture.map::<u64, RcuTree<u64>>(age))),
    shared::<BTree>(locked::<BTree>),
    shared::<RangeMapCrate>(locked::<RangeMapCrate>),
    kind::<Nodit>(),
    kind::<Imbl>(),
    shared::<Skip>(|fixture, age| Box::new(fixture.map::<u64, SkipMap<u64>>(age))),
];

/// Whether a column of this name is one of the tree's own faces.
pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with("maple")
}

const fn kind<S: Structure>() -> Kind {
    Kind {
        name: S::NAME,
        why_not: S::why_not,
        subject: |fixture, age| Box::new(Bench::<S>::new(fixture, age)),
        bytes: bytes::<S>,
        shared: None,
    }
}

const fn shared<S: Structure>(make: MakeShared) -> Kind {
    Kind {
        shared: Some(make),
        ..kind::<S>()
    }
}

/// A map behind a lock that lets several readers in.
fn locked<S: Structure<Map<u64>: Send + Sync>>(fixture: &Fixture, age: Age) -> Box<dyn Beside> {
    Box::new(Locked::<S::Map<u64>>::new(fixture.map(age)))
}

fn bytes<S: Structure>(fixture: &Fixture, age: Age) -> Bytes {
    let (map, counted) = heap::count(|| {
        let map: S::Map<u64> = fixture.map(age);
        map.settle();
        map
    });
    let each = |bytes: f64| bytes / fixture.n() as f64;
    Bytes {
        counted: each(counted as f64),
        own: map.memory_usage().map(|bytes| each(bytes as f64)),
    }
}
