//! Checks of the tracked files themselves: licenses, their shape, and paths that belong elsewhere.

use crate::ci::{Checked, Outcome};
use crate::code::tracked;
use crate::run::top;
use std::fs;

/// A file past this length has more than one job.
const LINES_MOST: usize = 800;

/// Both licenses are there.
pub(crate) fn licenses() -> Checked {
    for (file, words) in [
        ("LICENSE-MIT", "Permission is hereby granted"),
        ("LICENSE-APACHE", "Apache License"),
    ] {
        let text =
            fs::read_to_string(top().join(file)).map_err(|error| format!("{file}: {error}"))?;
        if !text.contains(words) {
            return Err(format!("{file} does not say \"{words}\""));
        }
    }
    Ok(Outcome::Passed)
}

/// Every source file says what it is for, and is short enough to have one job.
pub(crate) fn shape() -> Checked {
    let mut wrong = Vec::new();
    for file in tracked(".rs")? {
        let lines = file.text.lines().count();
        if lines > LINES_MOST {
            wrong.push(format!(
                "{}: {lines} lines, {LINES_MOST} is the most",
                file.path
            ));
        }
        // An inner attribute may come first: `#![no_std]`, `#![cfg(…)]`.
        let mut code = file.text.lines().filter(|line| !line.trim().is_empty());
        if !code
            .by_ref()
            .find(|line| !line.starts_with("#!"))
            .is_some_and(|line| line.starts_with("//!"))
        {
            wrong.push(format!(
                "{}: no `//!` header that says what it is for",
                file.path
            ));
        }
    }
    none(&wrong)
}

/// No tracked file names a place that exists on one machine only.
pub(crate) fn machine_paths() -> Checked {
    // Put together here, so that this file does not name them either.
    let places = [
        ["/wo", "rk"],
        ["/ro", "ot"],
        ["/tmp/sp", "ec"],
        ["/ho", "me/"],
    ]
    .map(|parts| parts.concat());
    let mut wrong = Vec::new();
    for file in tracked("")? {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(place) = places.iter().find(|place| names(line, place)) {
                wrong.push(format!("{}:{}: names {place}", file.path, number + 1));
            }
        }
    }
    none(&wrong)
}

/// Whether `line` names the place itself or something below it, and not `…/workspace` or `a/root`.
fn names(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + place.len()..].chars().next();
        let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        !before.is_some_and(|c| part(c) || matches!(c, '/' | '}' | '*'))
            && (place.ends_with('/') || !after.is_some_and(part))
    })
}

fn none(wrong: &[String]) -> Checked {
    match wrong {
        [] => Ok(Outcome::Passed),
        _ => Err(format!("\n  {}", wrong.join("\n  "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_whole() {
        let place = ["/wo", "rk"].concat();
        for line in ["at {}", "`{}`", "see {}/main", "\"{}/x\""] {
            assert!(names(&line.replace("{}", &place), &place), "{line}");
        }
        for line in ["a{}", "{}space", "../{}", "frame{}s"] {
            assert!(!names(&line.replace("{}", &place), &place), "{line}");
        }
    }
}
