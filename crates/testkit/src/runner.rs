//! Runs many operations from a seed; what fails is shrunk to its smallest trace and printed.

use crate::generate::{Generator, Mix};
use crate::harness::{Harness, Mismatch};
use crate::nodes::TestNodes;
use crate::op::Op;
use crate::parse::parse_trace;
use crate::token::TestValue;
use std::any::Any;
use std::cell::Cell;
use std::hash::{BuildHasher, Hasher};
use std::io::Write as _;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::{Duration, Instant};

/// How long shrinking may take before the best trace so far is printed.
const SHRINKING: Duration = Duration::from_secs(30);

/// Whether the trees of a run track gaps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gaps {
    /// Gap searches are logarithmic.
    Tracked,
    /// Gap searches walk.
    Untracked,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything random follows from it.
    pub seed: u64,
    /// The number of operations.
    pub operations: usize,
    /// What is drawn.
    pub mix: Mix,
    /// Whether the trees track gaps.
    pub gaps: Gaps,
    /// Whole contents are compared after every so many operations, and at the end.
    pub check_every: usize,
}

/// What a run that found nothing has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// The number of operations.
    pub operations: usize,
    /// How many writes ran out of nodes and were repeated.
    pub failures: u64,
    /// The greatest height of a tree.
    pub tallest: usize,
}

/// Runs a plan.
///
/// # Panics
///
/// If tree and model differ, or the tree panics: with the seed and the smallest trace found.
#[track_caller]
pub fn run_seed<T: TestValue, S: TestNodes>(plan: Plan) -> Report {
    let mut trace = Vec::new();
    let mut generator = Generator::new(plan.seed, plan.mix);
    let result = guarded::<T, S, Report>(plan.gaps, |harness| {
        for done in 1..=plan.operations {
            let op = generator.draw(harness.model(), harness.live());
            trace.push(op.clone());
            harness.apply(&op)?;
            if done % plan.check_every == 0 || done == plan.operations {
                harness.check()?;
            }
        }
        let (failures, tallest) = (harness.failures(), harness.tallest());
        Ok(Report {
            operations: plan.operations,
            failures,
            tallest,
        })
    });
    result.unwrap_or_else(|first| {
        fail::<T, S>(&format!("seed {:#x}", plan.seed), plan, trace, &first)
    })
}

/// Runs a trace as a failing run prints it.
///
/// # Panics
///
/// If the trace is not one, or if tree and model differ.
#[track_caller]
pub fn replay<T: TestValue, S: TestNodes>(gaps: Gaps, trace: &str) {
    let ops = parse_trace(trace).unwrap_or_else(|error| panic!("{error}"));
    if let Err(text) = replay_ops::<T, S>(gaps, &ops) {
        panic!("{text}");
    }
}

/// Runs operations with every check after each.
///
/// # Errors
///
/// The first difference between tree and model, or the panic of the tree, in words.
pub fn replay_ops<T: TestValue, S: TestNodes>(gaps: Gaps, ops: &[Op]) -> Result<(), String> {
    attempt::<T, S>(gaps, ops).map_err(|mismatched| mismatched.0)
}

/// A seed that no run had before, printed past the test harness's capture so that it survives even
/// a run that ends in an abort.
#[must_use]
pub fn fresh_seed(test: &str) -> u64 {
    let hasher = std::collections::hash_map::RandomState::new().build_hasher();
    let seed = match std::env::var("SAMARA_SEED") {
        Ok(text) => parse_seed(&text),
        Err(_) => hasher.finish(),
    };
    report(&format!(
        "{test}: fresh seed, repeat with SAMARA_SEED={seed:#x}"
    ));
    seed
}

/// Prints a line past the test harness's capture: how much a test that passed has tried.
pub fn report(line: &str) {
    // A closed standard error is no reason to fail a test.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn parse_seed(text: &str) -> u64 {
    let parsed = text
        .strip_prefix("0x")
        .map_or_else(|| text.parse(), |h| u64::from_str_radix(h, 16));
    parsed.unwrap_or_else(|_| panic!("SAMARA_SEED={text} is not a number"))
}

/// Why a trace failed: a difference or a panic, in words.
struct Mismatched(String);

impl From<Mismatch> for Mismatched {
    fn from(mismatch: Mismatch) -> Self {
        Self(mismatch.to_string())
    }
}

/// Runs a trace with every check after every operation.
fn attempt<T: TestValue, S: TestNodes>(gaps: Gaps, ops: &[Op]) -> Result<(), Mismatched> {
    guarded::<T, S, ()>(gaps, |harness| {
        for op in ops {
            harness.apply(op)?;
            harness.check()?;
        }
        Ok(())
    })
}

/// Runs `act` on a new harness and ends it; a panic is caught and becomes a mismatch.
fn guarded<T: TestValue, S: TestNodes, R>(
    gaps: Gaps,
    act: impl FnOnce(&mut Harness<T, S>) -> Result<R, Mismatch>,
) -> Result<R, Mismatched> {
    // What a failed operation left behind is not to be dropped: it may be in any state.
    let mut harness = ManuallyDrop::new(match gaps {
        Gaps::Tracked => Harness::<T, S>::with_gaps(),
        Gaps::Untracked => Harness::new(),
    });
    let result = quietly(|| act(&mut harness))??;
    let harness = ManuallyDrop::into_inner(harness);
    quietly(|| harness.finish())??;
    Ok(result)
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static LAST_PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

/// Runs `act`; a panic of it is not printed but returned, with its place.
fn quietly<R>(act: impl FnOnce() -> R) -> Result<R, Mismatched> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let outer = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match QUIET.get() {
            true => LAST_PANIC.set(Some(info.to_string())),
            false => outer(info),
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(act));
    QUIET.set(false);
    result.map_err(|payload| Mismatched(LAST_PANIC.take().unwrap_or_else(|| words(&*payload))))
}

fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

#[track_caller]
fn fail<T: TestValue, S: TestNodes>(
    origin: &str,
    plan: Plan,
    trace: Vec<Op>,
    first: &Mismatched,
) -> ! {
    let drawn = trace.len();
    let (smallest, last) = shrink(trace, |ops| attempt::<T, S>(plan.gaps, ops));
    let lines = smallest
        .iter()
        .map(|op| format!("{op}\n"))
        .collect::<String>();
    let reason = last.map_or_else(
        || {
            format!(
                "{}\n(a replay of the trace does not fail: see the first failure)",
                first.0
            )
        },
        |mismatched| mismatched.0,
    );
    panic!(
        "{origin}, operation {drawn}, gaps {:?}: {reason}\n\nsmallest trace, {} operations:\n{lines}",
        plan.gaps,
        smallest.len(),
    );
}

/// A trace and how it fails.
struct Failing<E> {
    trace: Vec<Op>,
    error: E,
}

/// Makes a failing trace smaller for as long as it still fails. Returns the trace and how it failed
/// last, or `None` if it did not fail at all.
fn shrink<E>(
    trace: Vec<Op>,
    mut attempt: impl FnMut(&[Op]) -> Result<(), E>,
) -> (Vec<Op>, Option<E>) {
    let deadline = Instant::now() + SHRINKING;
    let Err(error) = attempt(&trace) else {
        return (trace, None);
    };
    let mut failing = Failing { trace, error };
    let mut attempt = |candidate: Vec<Op>| match attempt(&candidate) {
        Err(error) if Instant::now() < deadline => Some(Failing {
            trace: candidate,
            error,
        }),
        _ => None,
    };
    let mut run = failing.trace.len().div_ceil(2).max(1);
    loop {
        let before = failing.trace.len();
        without_runs(&mut failing, run, &mut attempt);
        if run == 1 && failing.trace.len() == before {
            break;
        }
        run = (run / 2).max(1);
    }
    // Lists inside operations go last: by then few operations are left.
    shorter_lists(&mut failing, &mut attempt);
    (failing.trace, Some(failing.error))
}

/// Takes runs of `run` operations out, the last ones first.
fn without_runs<E>(
    failing: &mut Failing<E>,
    run: usize,
    attempt: &mut impl FnMut(Vec<Op>) -> Option<Failing<E>>,
) {
    let mut end = failing.trace.len();
    while end > 0 {
        let start = end.saturating_sub(run);
        let candidate = [&failing.trace[..start], &failing.trace[end..]].concat();
        if let Some(smaller) = attempt(candidate) {
            *failing = smaller;
        }
        end = start;
    }
}

/// Takes elements out of the lists that operations hold.
fn shorter_lists<E>(
    failing: &mut Failing<E>,
    attempt: &mut impl FnMut(Vec<Op>) -> Option<Failing<E>>,
) {
    for place in 0..failing.trace.len() {
        let with = |op: Op, trace: &[Op]| {
            let mut candidate = trace.to_vec();
            candidate[place] = op;
            candidate
        };
        while let Some(smaller) = failing.trace[place]
            .shorter()
            .into_iter()
            .find_map(|op| attempt(with(op, &failing.trace)))
        {
            *failing = smaller;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Step;

    /// Fails once a clear comes somewhere behind a snapshot.
    fn picky(ops: &[Op]) -> Result<(), ()> {
        let snapshot = ops.iter().position(|op| *op == Op::Snapshot);
        let clear = ops.iter().rposition(|op| *op == Op::Clear);
        if snapshot
            .zip(clear)
            .is_some_and(|(snapshot, clear)| snapshot < clear)
        {
            Err(())
        } else {
            Ok(())
        }
    }

    #[test]
    fn shrinking_keeps_only_what_the_failure_needs() {
        let mut trace = (0..200).map(Op::Look).collect::<Vec<_>>();
        trace[40] = Op::Snapshot;
        trace[171] = Op::Clear;
        let (smallest, last) = shrink(trace, picky);
        assert_eq!((smallest, last), (vec![Op::Snapshot, Op::Clear], Some(())));
    }

    #[test]
    fn shrinking_takes_elements_out_of_lists() {
        let steps = [Step::Next, Step::Erase, Step::Previous];
        let erases = |ops: &[Op]| match ops.iter().any(|op| op.to_string().contains("erase")) {
            true => Err(()),
            false => Ok(()),
        };
        let (smallest, _) = shrink(vec![Op::Clear, Op::Cursor(7, steps.to_vec())], erases);
        assert_eq!(smallest, [Op::Cursor(7, vec![Step::Erase])]);
    }

    #[test]
    fn a_trace_that_does_not_fail_is_left_alone() {
        assert_eq!(shrink(vec![Op::Clear], picky), (vec![Op::Clear], None));
    }
}
