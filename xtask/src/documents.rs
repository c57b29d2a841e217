//! What the documents promise, held against the code: commands, the unsafe boundary, invariants.

use crate::ci::{Checked, Outcome};
use crate::code::{has_word, tracked, without_comments};
use crate::run::{command, run, top};
use std::collections::BTreeSet;
use std::fs;

/// Runs the commands of the README that are marked with `<!-- run -->`, as they stand there.
///
/// Among them must be the two that the README promises: one for the tests, one for the main job.
pub(crate) fn readme_commands() -> Checked {
    let commands = marked_commands(&read("README.md")?);
    for promised in [
        "cargo test --workspace --all-features",
        "cargo run --release",
    ] {
        if !commands.iter().any(|line| line.starts_with(promised)) {
            let mark = "an ```sh block behind a line `<!-- run -->`";
            return Err(format!("README.md has no `{promised} …` in {mark}"));
        }
    }
    for line in commands {
        let ran = run(&mut command("bash", &["-euo", "pipefail", "-c", &line]))?;
        if !ran.status.success() {
            return Err(format!("README.md: `{line}` ended with {}", ran.status));
        }
    }
    Ok(Outcome::Passed)
}

/// The lines of every ```` ```sh ```` block that follows a line `<!-- run -->`, without comments.
fn marked_commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while lines.by_ref().any(|line| line == "<!-- run -->") {
        let mut block = lines.by_ref().skip_while(|line| line.is_empty());
        if block.next() != Some("```sh") {
            continue;
        }
        let body = block.take_while(|line| !line.starts_with("```"));
        let command = |line: &&str| !line.is_empty() && !line.starts_with('#');
        commands.extend(body.filter(command).map(str::to_owned));
    }
    commands
}

/// `unsafe` occurs in exactly the files that ARCHITECTURE.md lists.
pub(crate) fn unsafe_boundary() -> Checked {
    let listed: BTreeSet<String> = marked("unsafe")?
        .iter()
        .flat_map(|line| in_backticks(line))
        .filter(|name| name.ends_with(".rs"))
        .collect();
    let files = tracked(".rs")?;
    let uses = |text: &str| has_word(&without_comments(text), "unsafe");
    let found: BTreeSet<String> = files
        .into_iter()
        .filter(|file| uses(&file.text))
        .map(|file| file.path)
        .collect();
    let unlisted = found
        .difference(&listed)
        .map(|path| format!("{path} uses `unsafe`, unlisted"));
    let idle = listed
        .difference(&found)
        .map(|path| format!("{path} is listed, but has no `unsafe`"));
    agree(
        "ARCHITECTURE.md's list of unsafe files",
        unlisted.chain(idle),
    )
}

/// The invariants that ARCHITECTURE.md lists are those that the code states, as `- **ID**`.
pub(crate) fn invariants() -> Checked {
    let listed: BTreeSet<String> = marked("invariants")?
        .iter()
        .flat_map(|line| ids(line))
        .collect();
    if listed.is_empty() {
        return Err("ARCHITECTURE.md lists no invariant as **ID**".to_owned());
    }
    let files = tracked(".rs")?;
    let stated: BTreeSet<String> = files
        .iter()
        .filter(|file| file.path.starts_with("crates/") && file.path.contains("/src/"))
        .flat_map(|file| file.text.lines().filter_map(stated_id))
        .collect();
    let missing = listed
        .difference(&stated)
        .map(|id| format!("{id} is listed, but no code states it"));
    let unlisted = stated
        .difference(&listed)
        .map(|id| format!("{id} is stated in code, unlisted"));
    agree(
        "ARCHITECTURE.md's list of invariants",
        missing.chain(unlisted),
    )
}

/// The ID of a comment line `- **ID** …`, which is how a type states an invariant.
fn stated_id(line: &str) -> Option<String> {
    let comment = line
        .trim_start()
        .strip_prefix("//")?
        .trim_start_matches(['/', '!']);
    ids(comment.trim_start().strip_prefix("- ")?)
        .into_iter()
        .next()
}

/// The words in `**…**` that look like an ID: letters, then digits.
fn ids(line: &str) -> Vec<String> {
    let bold = line.split("**").skip(1).step_by(2);
    bold.filter(|word| is_id(word)).map(str::to_owned).collect()
}

fn is_id(word: &str) -> bool {
    let digits = word.trim_start_matches(|c: char| c.is_ascii_uppercase());
    let letters = word.len() - digits.len();
    (1..=2).contains(&letters)
        && digits.starts_with(|c: char| c.is_ascii_digit())
        && digits
            .chars()
            .all(|c| c.is_ascii_digit() || c.is_ascii_lowercase())
}

fn in_backticks(line: &str) -> Vec<String> {
    line.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The lines of ARCHITECTURE.md between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.
fn marked(name: &str) -> Result<Vec<String>, String> {
    let text = read("ARCHITECTURE.md")?;
    let (begin, end) = (
        format!("<!-- {name}:begin -->"),
        format!("<!-- {name}:end -->"),
    );
    let inside = text
        .split_once(&begin)
        .and_then(|(_, rest)| rest.split_once(&end));
    let (inside, _) = inside.ok_or_else(|| format!("ARCHITECTURE.md has no {begin} … {end}"))?;
    Ok(inside.lines().map(str::to_owned).collect())
}

fn read(name: &str) -> Result<String, String> {
    fs::read_to_string(top().join(name)).map_err(|error| format!("{name}: {error}"))
}

fn agree(what: &str, differences: impl Iterator<Item = String>) -> Checked {
    let differences: Vec<String> = differences.collect();
    match differences.as_slice() {
        [] => Ok(Outcome::Passed),
        _ => Err(format!(
            "{what} and the code differ:\n  {}",
            differences.join("\n  ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marked_blocks_are_commands() {
        let text = "```sh\nnot this\n```\n<!-- run -->\n\n```sh\n# a comment\none\n\ntwo\n```\n\
                    <!-- run -->\n```text\nnor this\n```\n<!-- run -->\n```sh\nthree\n```\n";
        assert_eq!(marked_commands(text), ["one", "two", "three"]);
    }

    #[test]
    fn ids_are_letters_and_digits() {
        assert_eq!(
            ids("- **R1** ordered; **R2a**, **not**, **1R**, **LONG1**"),
            ["R1", "R2a"]
        );
        assert_eq!(
            stated_id("    /// - **N3** pivots ascend"),
            Some("N3".to_owned())
        );
        assert_eq!(stated_id("    /// as **N3** says"), None);
    }
}
