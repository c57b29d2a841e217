//! The tree's tests under miri, which sees undefined behaviour of every kind.

use crate::ci::{Checked, Outcome};
use crate::nightly::{self, Selector};
use crate::run::{succeed, target};
use crate::sanitizers::reader_tests;

/// The schedules that the tests of threads run under: each seed is another one, in which loads may
/// also see older values.
const SEEDS: &str = "-Zmiri-many-seeds=0..24";

/// Fewer for the tests of readers, which take longer. The lists inside `crossbeam-epoch` follow the
/// rules of tree borrows, and not those of stacked borrows; what it keeps for threads that have
/// ended and lists of its own is never freed. The tests count what is ours.
const READER_SEEDS: &str = "-Zmiri-many-seeds=0..2 -Zmiri-tree-borrows -Zmiri-ignore-leaks";

/// The unit tests break trees on purpose, and leak what they broke.
const LEAKS_ALLOWED: &str = "-Zmiri-ignore-leaks";

/// The unit tests, as every run of the checks has them.
pub(crate) fn quick() -> Checked {
    with_miri(units)
}

fn units(selector: Selector) -> Result<(), String> {
    test(selector, LEAKS_ALLOWED, &["--lib"])
}

/// The unit tests, the operations one by one, and the tests of threads with many seeds.
pub(crate) fn full() -> Checked {
    with_miri(|selector| {
        units(selector)?;
        test(selector, "", &["--test", "surface", "--test", "traces"])?;
        for name in reader_tests()? {
            test(selector, READER_SEEDS, &["--test", &name])?;
        }
        for name in ["races", "slab"] {
            test(selector, SEEDS, &["--test", name])?;
        }
        Ok(())
    })
}

fn with_miri(run: impl FnOnce(Selector) -> Result<(), String>) -> Checked {
    let found = nightly::selector().and_then(|selector| {
        nightly::needs_subcommand(selector, "miri")?;
        Ok(selector)
    });
    match found {
        Ok(selector) => run(selector).map(|()| Outcome::Passed),
        Err(absent) => Ok(Outcome::Skipped(absent)),
    }
}

fn test(selector: Selector, flags: &str, tests: &[&str]) -> Result<(), String> {
    let mut cargo = nightly::cargo(selector);
    cargo
        .args(["miri", "test", "-p", "maple-tree", "--all-features"])
        .args(tests)
        .env("MIRIFLAGS", flags)
        .env("CARGO_TARGET_DIR", target().join("miri"));
    succeed(&mut cargo)
}
