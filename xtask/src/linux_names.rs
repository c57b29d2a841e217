//! Whoever types a name of Linux's maple tree into the search of the documentation finds something:
//! each name in the table of `compat` is an alias of an item that its line names.

use crate::ci::{Checked, Outcome};
use crate::code::tracked;
use std::collections::{BTreeMap, BTreeSet};

/// Where the table is.
const TABLE: &str = "crates/maple-tree/src/compat.rs";

/// Where the items are.
const SOURCES: &str = "crates/maple-tree/src/";

/// What a name leads to that has no item: the page with the table.
const PAGE: &str = "compat";

/// The words that begin an item.
const ITEMS: [&str; 6] = ["fn", "struct", "trait", "enum", "type", "mod"];

/// The items that have an alias, by alias.
type Aliases = BTreeMap<String, BTreeSet<String>>;

/// Every name of the table is an alias of an item on its line, or of the page if it has none.
pub(crate) fn aliased() -> Checked {
    let files = tracked(".rs")?;
    let ours = files.iter().filter(|file| file.path.starts_with(SOURCES));
    let mut aliases = Aliases::new();
    ours.for_each(|file| collect(&file.text, &mut aliases));
    let table = files.iter().find(|file| file.path == TABLE);
    let table = table.ok_or_else(|| format!("{TABLE} does not exist"))?;
    match missing(&table.text, &aliases)?.as_slice() {
        [] => Ok(Outcome::Passed),
        missing => Err(format!("{TABLE}:\n  {}", missing.join("\n  "))),
    }
}

/// The names of the table that are aliases of none of the items they should be.
fn missing(table: &str, aliases: &Aliases) -> Result<Vec<String>, String> {
    let rows: Vec<_> = table.lines().filter_map(row).collect();
    if rows.is_empty() {
        return Err(format!("{TABLE} has no table of names"));
    }
    let mut missing = Vec::new();
    for (names, mut targets) in rows {
        if targets.is_empty() {
            targets.push(PAGE.to_owned());
        }
        for name in names {
            let has = aliases.get(&name);
            if !has.is_some_and(|has| targets.iter().any(|target| has.contains(target))) {
                let targets = targets.join("` or `");
                missing.push(format!("`{name}` is no alias of `{targets}`"));
            }
        }
    }
    Ok(missing)
}

/// The names on the left of a line of the table, and the items on its right.
fn row(line: &str) -> Option<(Vec<String>, Vec<String>)> {
    let mut cells = line.strip_prefix("//! |")?.split('|');
    let (left, right) = (cells.next()?, cells.next()?);
    let names: Vec<String> = in_backticks(left).collect();
    // What Linux has and this has not may still name what takes its place.
    let right = if right.trim_start().starts_with("none") {
        ""
    } else {
        right
    };
    let items = in_backticks(right).filter_map(|path| item(&path));
    (!names.is_empty()).then(|| (names, items.collect()))
}

fn in_backticks(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The last part of a path; nothing for what is no path, such as a command.
fn item(path: &str) -> Option<String> {
    let last = path.rsplit("::").next()?;
    is_word(last).then(|| last.to_owned())
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Adds the aliases in a source file: those before an item are its own, `#![…]` are the page's.
fn collect(text: &str, aliases: &mut Aliases) {
    let mut waiting = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(alias) = alias(line, "#![doc(alias") {
            aliases.entry(alias).or_default().insert(PAGE.to_owned());
        } else if let Some(alias) = alias(line, "#[doc(alias") {
            waiting.push(alias);
        } else if let Some(item) = begun(line).filter(|_| !line.starts_with("//")) {
            for alias in waiting.drain(..) {
                aliases.entry(alias).or_default().insert(item.clone());
            }
        }
    }
}

fn alias(line: &str, attribute: &str) -> Option<String> {
    let rest = line.strip_prefix(attribute)?;
    rest.split('"').nth(1).map(str::to_owned)
}

/// The name of the item that begins on `line`.
fn begun(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    words.by_ref().find(|word| ITEMS.contains(word))?;
    let name = words
        .next()?
        .split(|c: char| !(c.is_alphanumeric() || c == '_'));
    name.into_iter().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
//! | Linux | here | what to know |
//! |---|---|---|
//! | `mt_one`, `mt_two` (*new*) | [`get`](MapleTree::get), `RcuMapleTree::put` | not `that` |
//! | `mt_three` | none | see [`get`](MapleTree::get) |
//! | `mt_four` | `cargo test` | |
";

    fn aliases(source: &str) -> Aliases {
        let mut aliases = Aliases::new();
        collect(source, &mut aliases);
        aliases
    }

    #[test]
    fn every_name_has_to_be_an_alias_of_an_item_on_its_line() {
        let source = "\
#![doc(alias = \"mt_three\")]
#![doc(alias = \"mt_four\")]
#[doc(alias = \"mt_one\")]
#[expect(
    lint,
)]
pub const fn get<T>(&self) {}
    #[doc(alias = \"mt_two\")]
    pub fn put(&mut self) {}
";
        assert_eq!(missing(TABLE, &aliases(source)), Ok(vec![]));
        for (right, wrong) in [
            ("\"mt_one\"", "\"mt_on\""),
            ("fn put", "fn that"),
            ("#![doc(alias = \"mt_three\")]", ""),
            (
                "#![doc(alias = \"mt_four\")]\n",
                "#[doc(alias = \"mt_four\")]\n",
            ),
        ] {
            let source = source.replace(right, wrong);
            assert_eq!(
                missing(TABLE, &aliases(&source)).unwrap().len(),
                1,
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_file_without_a_table_is_a_failure() {
        assert!(missing("//! nothing", &Aliases::new()).is_err());
    }
}
