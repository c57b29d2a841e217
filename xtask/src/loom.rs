//! The tree under loom: every order of a writer's and its readers' steps.

use crate::cargo::with_cfgs;
use crate::ci::{Checked, Outcome};
use crate::run::succeed;

/// The models, with small nodes: a few entries make a tree of two levels then.
pub(crate) fn models() -> Checked {
    let arguments = [
        "test",
        "-p",
        "maple-tree",
        "--features",
        "rcu",
        "--test",
        "loom",
    ];
    succeed(&mut with_cfgs(&["loom", "small_nodes"], &arguments))?;
    Ok(Outcome::Passed)
}
