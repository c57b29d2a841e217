//! The calls that are made, a file for each group of them.
//!
//! To add a call: a `Kind` in the list of its group's file, or a file with a new group in
//! [`Group::ALL`]. The tracer's decoder says what the call means to the model; what it does not
//! know is not made, and the verdict names it.

mod advise;
mod file;
mod heap;
mod huge;
mod kinds;
mod lock;
mod map;
mod process;
mod protect;
mod remap;
mod seal;
mod touch;

use super::chooser::Chooser;
use super::target::Raw;

/// A way to make a call.
pub(crate) struct Kind {
    /// How often, among the calls of its group.
    weight: u32,
    make: fn(&mut Chooser<'_>) -> Raw,
}

/// Calls that have to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Map,
    File,
    Huge,
    Protect,
    Remap,
    Advise,
    Lock,
    Heap,
    Seal,
    Touch,
    Process,
    Kinds,
}

impl Group {
    /// All groups.
    pub(crate) const ALL: [Self; 12] = [
        Self::Map,
        Self::File,
        Self::Huge,
        Self::Protect,
        Self::Remap,
        Self::Advise,
        Self::Lock,
        Self::Heap,
        Self::Seal,
        Self::Touch,
        Self::Process,
        Self::Kinds,
    ];

    const fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Map => map::KINDS,
            Self::File => file::KINDS,
            Self::Huge => huge::KINDS,
            Self::Protect => protect::KINDS,
            Self::Remap => remap::KINDS,
            Self::Advise => advise::KINDS,
            Self::Lock => lock::KINDS,
            Self::Heap => heap::KINDS,
            Self::Seal => seal::KINDS,
            Self::Touch => touch::KINDS,
            Self::Process => process::KINDS,
            Self::Kinds => kinds::KINDS,
        }
    }

    /// Makes a call of the group.
    pub(crate) fn draw(self, chooser: &mut Chooser<'_>) -> Raw {
        let kinds = self.kinds();
        let place = chooser.rng.weighted(kinds.iter().map(|kind| kind.weight));
        (kinds[place].make)(chooser)
    }
}

/// The bits of a list of flags and rarities, each set once in so many times.
fn rarely(chooser: &mut Chooser<'_>, flags: &[(u64, u64)]) -> u64 {
    let mut all = 0;
    for &(flag, rarity) in flags {
        if chooser.rng.one_in(rarity) {
            all |= flag;
        }
    }
    all
}

/// A call on a range and nothing else.
fn ranged(chooser: &mut Chooser<'_>, number: i64) -> Raw {
    let (addr, len) = chooser.range();
    Raw::new(number, [addr, len])
}

/// A call on a range with one more argument.
fn ranged_with(chooser: &mut Chooser<'_>, number: i64, argument: u64) -> Raw {
    let (addr, len) = chooser.range();
    Raw::new(number, [addr, len, argument])
}
