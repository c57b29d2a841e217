//! Requests to end: Ctrl-C and the like, looked at between lives instead of ending us at once.

use std::cell::Cell;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What is taken for a request. The last says that the processor time is used up.
const REQUESTS: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGXCPU,
];

/// Requests, taken for us from its making to its end.
#[derive(Debug)]
pub(crate) struct Requests {
    signals: SignalFd,
    /// What was blocked before.
    before: SigSet,
    was_asked: Cell<bool>,
}

impl Requests {
    /// Takes them from now on. Threads that are started later get none.
    ///
    /// # Errors
    ///
    /// If there are too many open files.
    pub(crate) fn take() -> Result<Self> {
        let asked = SigSet::from_iter(REQUESTS);
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&asked, flags).context("cannot listen for signals")?;
        let before = asked.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self {
            signals,
            before,
            was_asked: Cell::new(false),
        })
    }

    /// Whether there was one since the beginning.
    pub(crate) fn is_asked(&self) -> bool {
        while let Ok(Some(_)) = self.signals.read_signal() {
            self.was_asked.set(true);
        }
        self.was_asked.get()
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // What came already was heard, and is not to end us a second time.
        self.is_asked();
        let _ = self.before.thread_set_mask();
    }
}
