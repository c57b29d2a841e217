//! The line that moves while a program runs, if standard error is a terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress line, or nothing.
///
/// Where the program writes to the same terminal the line could cover what it wrote, so it comes
/// late and moves once a second; a program that is quick, or waits for its user, never sees it.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    every: Duration,
    next: Instant,
}

impl Progress {
    /// Shows one on standard error if that is a terminal.
    pub(crate) fn new() -> Self {
        let shared = std::io::stdout().is_terminal();
        let every = Duration::from_millis(if shared { 1000 } else { 100 });
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} samara {elapsed} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        let next = Instant::now() + every;
        Self { bar, every, next }
    }

    /// Updates the line if it is time to.
    pub(crate) fn show(&mut self, comparisons: u64, processes: u64, divergences: u64) {
        let Some(bar) = &self.bar else { return };
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + self.every;
        let state = if divergences == 0 {
            "identical so far"
        } else {
            "DIVERGED"
        };
        bar.set_message(format!(
            "{processes} processes, {comparisons} comparisons, {state}"
        ));
        bar.tick();
    }

    /// Removes the line.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar for work that comes in `count` steps; nothing where standard error is no terminal.
pub(crate) fn steps(count: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("samara {wide_bar} {percent}% {msg} {eta}") {
        bar.set_style(style);
    }
    bar
}
