//! Models, operations, failing allocators and drop counters shared by Samara's tests.
//!
//! The pieces, from the bottom up:
//!
//! - [`Model`]: a range map as a sorted vector, slow and obviously right.
//! - [`Op`]: one operation on a tree, written as one line of text, so that a failing trace can be
//!   pasted from a report into a test.
//! - [`Generator`]: draws operations from a [`SplitMix`] seed, near what the model holds.
//! - [`Harness`]: applies an operation to a tree and to its model and compares everything.
//! - [`run_seed`] and [`replay`]: run many operations, and shrink what fails to its smallest trace.
//! - [`FailingNodes`]: a node source that fails on command and counts what it handed out.
//! - [`Ledger`] and [`Token`]: values whose every clone and drop is accounted for.
//!
//! Nothing published depends on this crate.

mod assertions;
mod generate;
mod harness;
mod model;
mod nodes;
mod op;
mod parse;
mod rng;
mod runner;
mod token;

pub mod strategy;

pub use assertions::{assert_holds, assert_valid, range};
pub use generate::{Failures, Generator, Mix};
pub use harness::{Harness, Mismatch};
pub use model::{Displaced, Model, ModelEntry, ModelGapRequest, ModelSegment};
pub use nodes::{FailingNodes, TestNodes};
pub use op::{FitRequest, Op, Part, Step, Write};
pub use parse::{ParseOpError, parse_trace};
pub use proptest;
pub use rng::SplitMix;
pub use runner::{Gaps, Plan, Report, fresh_seed, replay, replay_ops, report, run_seed};
pub use token::{Ledger, TestValue, Token};
