//! The examples of the tree: each asserts its own results, and the README shows what one prints.

use crate::ci::{Checked, Outcome};
use crate::run::{command, run, top};
use std::fs;
use std::path::Path;

/// Runs every example; what the README says that one prints is what it prints.
pub(crate) fn all() -> Checked {
    let readme = fs::read_to_string(top().join("README.md")).map_err(|error| error.to_string())?;
    for name in names(&top().join("crates/maple-tree/examples"))? {
        let arguments = [
            "run",
            "-q",
            "-p",
            "maple-tree",
            "--all-features",
            "--example",
        ];
        let ran = run(command(env!("CARGO"), &arguments).arg(&name))?;
        if !ran.status.success() {
            return Err(format!("the example `{name}` ended with {}", ran.status));
        }
        if shown(&readme, &name).is_some_and(|shown| shown != ran.stdout) {
            return Err(format!(
                "README.md does not show what the example `{name}` prints"
            ));
        }
    }
    Ok(Outcome::Passed)
}

/// Files and folders of `place`, without `.rs`.
fn names(place: &Path) -> Result<Vec<String>, String> {
    let found = fs::read_dir(place).map_err(|error| format!("{}: {error}", place.display()))?;
    let mut names: Vec<String> = found
        .filter_map(|file| file.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    if names.is_empty() {
        return Err(format!("{} holds no example", place.display()));
    }
    Ok(names)
}

/// The ```` ```text ```` block that follows a line `<!-- output of NAME -->`.
fn shown<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<!-- output of {name} -->"))?;
    let (_, block) = rest.split_once("```text\n")?;
    Some(block.split_once("```")?.0)
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_block_belongs_to_the_line_before_it() {
        let text = "```text\nno\n```\n<!-- output of a -->\n```text\nyes\n```\n";
        assert_eq!(shown(text, "a"), Some("yes\n"));
        assert_eq!(shown(text, "b"), None);
    }
}
