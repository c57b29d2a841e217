//! Reads operations back from their text.

use crate::op::{FitRequest, Op, Part, Step, Write};
use maple_tree::IndexRange;
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// A line that is not an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseOpError {
    line: String,
    expected: &'static str,
}

impl fmt::Display for ParseOpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not an operation: expected {}",
            self.line, self.expected
        )
    }
}

impl std::error::Error for ParseOpError {}

/// Reads a trace: one operation a line; empty lines and lines that begin with `#` are skipped.
///
/// # Errors
///
/// The first line that is not an operation.
pub fn parse_trace(text: &str) -> Result<Vec<Op>, ParseOpError> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::parse)
        .collect()
}

impl FromStr for Op {
    type Err = ParseOpError;

    fn from_str(line: &str) -> Result<Self, ParseOpError> {
        let fail = |expected| ParseOpError {
            line: line.to_owned(),
            expected,
        };
        let mut words = Words { rest: line };
        match words.next() {
            "clear" => Some(Self::Clear),
            "snapshot" => Some(Self::Snapshot),
            "duplicate" => Some(Self::Duplicate),
            "focus" => words.number().map(Self::Focus),
            "drop" => words.number().map(Self::Drop),
            "fail" => words.number().map(Self::Fail),
            "look" => words.number().map(Self::Look),
            "vacant" => words.range().map(Self::Vacant),
            "set" => words
                .number()
                .zip(words.number())
                .map(|(i, v)| Self::Set(i, v)),
            "walk" => words
                .range()
                .zip(words.number())
                .map(|(r, p)| Self::Walk(r, p)),
            "duplicate-with" => words
                .number()
                .zip(words.number())
                .map(|(d, r)| Self::DuplicateWith(d, r)),
            "lowest" => words.request().map(Self::Lowest),
            "highest" => words.request().map(Self::Highest),
            "preallocated" => words.list(Words::write).map(Self::Preallocated),
            "extend" => words.list(Words::pair).map(Self::Extend),
            "cursor" => words
                .number()
                .zip(words.list(Words::step))
                .map(|(i, s)| Self::Cursor(i, s)),
            _ => Words { rest: line }.write().map(Self::Write),
        }
        .ok_or_else(|| fail("a known name and its numbers, as `Op` documents them"))
    }
}

/// The words of a line that are still to be read.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    /// The next word, without a colon that ends it; empty at the end of the line.
    fn next(&mut self) -> &'a str {
        let text = self.rest.trim_start();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        self.rest = rest;
        word.trim_end_matches(':')
    }

    fn number<N: TryFrom<u64>>(&mut self) -> Option<N> {
        N::try_from(number(self.next())?).ok()
    }

    fn range(&mut self) -> Option<IndexRange> {
        let (first, last) = self.next().split_once("..=")?;
        IndexRange::new(number(first)?, number(last)?)
    }

    fn pair(&mut self) -> Option<(IndexRange, u32)> {
        self.range().zip(self.number())
    }

    fn request(&mut self) -> Option<FitRequest> {
        let length = NonZeroU64::new(self.number()?)?;
        let within = self.after("within")?.range()?;
        let alignment = self.after("align")?.number()?;
        let offset = self.after("offset")?.number()?;
        Some(FitRequest {
            length,
            within,
            alignment,
            offset,
        })
    }

    fn after(&mut self, word: &str) -> Option<&mut Self> {
        (self.next() == word).then_some(self)
    }

    fn write(&mut self) -> Option<Write> {
        match self.next() {
            "insert" => self
                .pair()
                .map(|(range, value)| Write::Insert(range, value)),
            "store" => self.pair().map(|(range, value)| Write::Store(range, value)),
            "store-with" => self
                .pair()
                .map(|(range, value)| Write::StoreWith(range, value)),
            "erase" => self.number().map(Write::Erase),
            "remove" => self.range().map(Write::Remove),
            "remove-with" => self.range().map(Write::RemoveWith),
            _ => None,
        }
    }

    fn step(&mut self) -> Option<Step> {
        match self.next() {
            "next" => Some(Step::Next),
            "previous" => Some(Step::Previous),
            "next-entry" => Some(Step::NextEntry),
            "previous-entry" => Some(Step::PreviousEntry),
            "seek" => self.number().map(Step::Seek),
            "insert" => self.pair().map(|(range, value)| Step::Insert(range, value)),
            "store" => self.pair().map(|(range, value)| Step::Store(range, value)),
            "remove" => self.range().map(Step::Remove),
            "overwrite" => self
                .part()
                .zip(self.number())
                .map(|(part, value)| Step::Overwrite(part, value)),
            "erase" => Some(Step::Erase),
            "set" => self.number().map(Step::Set),
            _ => None,
        }
    }

    fn part(&mut self) -> Option<Part> {
        match self.next() {
            "whole" => Some(Part::Whole),
            "head" => Some(Part::Head),
            "tail" => Some(Part::Tail),
            _ => None,
        }
    }

    /// The rest of the line as a list with semicolons between its elements.
    fn list<T>(&mut self, read: fn(&mut Words<'a>) -> Option<T>) -> Option<Vec<T>> {
        self.rest
            .split(';')
            .map(|part| read(&mut Words { rest: part }))
            .collect()
    }
}

fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Generator, Mix, Model};

    #[test]
    fn every_generated_operation_survives_its_text() {
        let mut generator = Generator::new(1, Mix::default());
        let mut model = Model::new();
        for _ in 0..5000 {
            let op = generator.draw(&model, 3);
            if let Op::Write(Write::Store(range, value)) = op {
                model.store(range, value);
            }
            assert_eq!(op.to_string().parse(), Ok(op));
        }
    }

    #[test]
    fn a_line_that_is_no_operation_is_named() {
        for line in [
            "",
            "stor 0x1..=0x2 3",
            "store 0x2..=0x1 3",
            "focus 256",
            "look",
        ] {
            assert_eq!(line.parse::<Op>().unwrap_err().line, line);
        }
    }
}
