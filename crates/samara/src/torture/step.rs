//! What happens in a life, and how it ends.

use std::fmt;

use super::conditions::Limit;
use super::target::Raw;
use crate::call::{Call, CallKind};
use crate::ptrace::Tid;
use crate::verdict::LinePair;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The number of the process, by when it was forked.
    pub(crate) by: u32,
    pub(crate) action: Action,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Call(Raw),
    /// The child gets this number.
    Fork(u32),
    Exit,
    Limit(Limit),
    /// Mappings of one page each are made, until there are so many.
    Fill(usize),
}

impl Step {
    /// A number that differs where steps do.
    pub(crate) fn fingerprint(&self) -> u64 {
        let fold =
            |sum: u64, word: u64| (sum.rotate_left(7) ^ word).wrapping_mul(0xd134_2543_de82_ef95);
        let words = match self.action {
            Action::Call(raw) => {
                let words = [raw.number].into_iter().chain(raw.args).chain(raw.payload);
                words.fold(1, fold)
            }
            Action::Fork(child) => fold(2, child.into()),
            Action::Exit => 3,
            Action::Fill(count) => fold(5, count as u64),
            Action::Limit(limit) => [limit.resource as u64, limit.soft, limit.hard]
                .into_iter()
                .fold(4, fold),
        };
        fold(words, self.by.into())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.by)?;
        match self.action {
            Action::Call(raw) => raw.fmt(f),
            Action::Fork(child) => write!(f, "fork() makes {child}"),
            Action::Exit => f.write_str("exit"),
            Action::Fill(count) => write!(f, "calls that make {count} mappings"),
            Action::Limit(limit) => write!(f, "prlimit({:?}, {:#x})", limit.resource, limit.soft),
        }
    }
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The model and the kernel agree; what kind of call it was.
    Same(CallKind),
    /// It could not be made: there is no such process, or the call is not made where things stand.
    Skipped,
    Diverged(Difference),
}

/// Where the model and the kernel do not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) pid: Tid,
    pub(crate) call: String,
    pub(crate) predicted: String,
    pub(crate) actual: String,
    pub(crate) lines: Vec<LinePair>,
}

/// What is compared, by its name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Named {
    Call(Call),
    Look(&'static str),
}

impl Named {
    pub(crate) const fn kind(&self) -> CallKind {
        match self {
            Self::Call(call) => call.kind(),
            Self::Look(_) => CallKind::Fork,
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(call) => call.fmt(f),
            Self::Look(what) => f.write_str(what),
        }
    }
}

/// A prediction and what came of it.
pub(crate) struct Compared {
    pub(crate) call: Named,
    pub(crate) predicted: i64,
    pub(crate) result: i64,
}

impl Compared {
    pub(crate) const fn look(what: &'static str) -> Self {
        Self {
            call: Named::Look(what),
            predicted: 0,
            result: 0,
        }
    }
}
