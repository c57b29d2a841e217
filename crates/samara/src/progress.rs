//! The line that moves while a program runs, if standard error is a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A progress line, or nothing.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Shows one on standard error if that is a terminal.
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} samara {elapsed} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar }
    }

    /// Updates the line; indicatif draws at most 20 times a second.
    pub(crate) fn show(&self, comparisons: u64, processes: u64, divergences: u64) {
        const EVERY: u64 = 16;
        if let Some(bar) = &self.bar
            && comparisons.is_multiple_of(EVERY)
        {
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
    }

    /// Removes the line.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
