//! Lists of known exceptions in the repository: one a line, `PLACE -- REASON`.
//!
//! A place is named by its text, not by a line number, so that it stays found when the file around
//! it changes.

use crate::run::top;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// What separates a place from its reason.
const SEPARATOR: &str = " -- ";

/// The exceptions of one list.
pub(crate) struct Reasons {
    file: &'static str,
    by_place: BTreeMap<String, String>,
}

impl Reasons {
    /// Reads the list at `file`, from the top of the repository. Empty lines and lines that begin
    /// with `#` are skipped.
    ///
    /// # Errors
    ///
    /// A line without a reason, or a file that cannot be read; one that does not exist is not
    /// taken for an empty one, as its name may just be wrong.
    pub(crate) fn read(file: &'static str) -> Result<Self, String> {
        match fs::read_to_string(top().join(file)) {
            Ok(text) => Self::parse(file, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(format!(
                "{file} does not exist: it lists the known exceptions, one a line, \
                 `PLACE{SEPARATOR}REASON`; where there are none it holds a comment"
            )),
            Err(error) => Err(format!("{file}: {error}")),
        }
    }

    fn parse(file: &'static str, text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim);
        let listed = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let pair = |line: &str| match line.rsplit_once(SEPARATOR) {
            Some((place, reason)) => Ok((place.trim().to_owned(), reason.trim().to_owned())),
            None => Err(format!(
                "{file}: `{line}` has no reason behind `{SEPARATOR}`"
            )),
        };
        Ok(Self {
            file,
            by_place: listed.map(pair).collect::<Result<_, _>>()?,
        })
    }

    /// Why `place` is excepted, if it is.
    pub(crate) fn of(&self, place: &str) -> Option<&str> {
        self.by_place.get(place).map(String::as_str)
    }

    /// Prints each place with its reason, and what is listed but no longer found. Returns the
    /// number of places without a reason.
    pub(crate) fn print(&self, places: &BTreeSet<String>) -> usize {
        for place in places {
            let reason = self.of(place).unwrap_or("NOT LISTED");
            println!("  {place}{SEPARATOR}{reason}");
        }
        for place in self
            .by_place
            .keys()
            .filter(|place| !places.contains(*place))
        {
            println!(
                "  listed in {}, but not found this time: {place}",
                self.file
            );
        }
        places
            .iter()
            .filter(|place| self.of(place).is_none())
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_stands_behind_the_last_separator() {
        let text = "# comment\n\n a.rs: x -- y -- because \n";
        let reasons = Reasons::parse("list", text).unwrap();
        assert_eq!(reasons.of("a.rs: x -- y"), Some("because"));
        assert_eq!(reasons.of("a.rs: x"), None);
    }

    #[test]
    fn a_line_without_a_reason_is_refused() {
        assert!(Reasons::parse("list", "a.rs: x").is_err());
    }

    #[test]
    fn a_list_that_does_not_exist_is_named() {
        let error = Reasons::read("no/such/list.txt").err().unwrap();
        assert!(error.contains("no/such/list.txt does not exist"), "{error}");
    }

    #[test]
    fn the_lists_that_the_documents_name_can_be_read() {
        for file in [
            "crates/maple-tree/uncovered.txt",
            "crates/maple-tree/surviving-mutants.txt",
        ] {
            assert!(Reasons::read(file).is_ok(), "{file}");
        }
    }
}
