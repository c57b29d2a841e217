//! The tree under shuttle: whole operations in thousands of random orders.

use crate::cargo::with_cfgs;
use crate::ci::{Checked, Outcome};
use crate::run::succeed;

/// The tests at both sizes of nodes.
pub(crate) fn schedules() -> Checked {
    let arguments = [
        "test",
        "-p",
        "maple-tree",
        "--features",
        "rcu",
        "--test",
        "shuttle",
    ];
    for cfgs in [&["shuttle"][..], &["shuttle", "small_nodes"]] {
        succeed(&mut with_cfgs(cfgs, &arguments))?;
    }
    Ok(Outcome::Passed)
}
