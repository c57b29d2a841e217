//! Plants one mistake after another in the model and expects `samara trace` to find each.

use crate::cargo::{cfg_target, with_cfg};
use crate::ci::{Checked, Outcome};
use crate::programs::path_of;
use crate::run::{command, run, succeed};

/// A mistake by its name, a program that meets the rule, and the call that must be named.
struct Mistake {
    name: &'static str,
    program: &'static [&'static str],
    call: &'static str,
}

const CFG: &str = "planted_mistakes";

const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "merge",
        program: &["merge"],
        call: "mprotect",
    },
    Mistake {
        name: "gap",
        program: &["gap"],
        call: "mmap",
    },
    Mistake {
        name: "errno",
        program: &["errno"],
        call: "munmap",
    },
];

/// Each mistake makes the trace diverge, and the verdict names the call.
pub(crate) fn all() -> Checked {
    succeed(&mut with_cfg(
        CFG,
        &["build", "-p", "samara", "--bins", "--examples"],
    ))?;
    for mistake in MISTAKES {
        found(mistake).map_err(|reason| format!("{}: {reason}", mistake.name))?;
    }
    Ok(Outcome::Passed)
}

fn found(mistake: &Mistake) -> Result<(), String> {
    let samara = path_of(&cfg_target(CFG).join("debug/samara"));
    let traced =
        run(command(&samara, &["trace", "--plant", mistake.name, "--"]).args(mistake.program))?;
    if traced.status.code() != Some(1) {
        return Err(format!(
            "expected exit status 1, a divergence, and got {}",
            traced.status
        ));
    }
    if !traced.stderr.contains(mistake.call) {
        return Err(format!("the divergence does not name `{}`", mistake.call));
    }
    Ok(())
}
