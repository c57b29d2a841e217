//! The process that this kernel forks, seen from `samara`: started, asked, ended.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::clock::Burst;
use crate::cli::Touched;
use crate::means;

/// A running `samara spawn-parent`; ended when this is dropped, and by itself when we end.
#[derive(Debug)]
pub(crate) struct KernelProcess {
    process: Child,
    /// `None` only while it is being ended.
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// How many mappings it has: as many as asked for, or what any process has if that is more.
    pub(crate) vmas: u32,
}

impl KernelProcess {
    /// Starts it with `vmas` mappings.
    ///
    /// # Errors
    ///
    /// If it can't be started or can't make them; it says why on standard error.
    pub(crate) fn start(vmas: u32, touched: Touched) -> Result<Self> {
        let mut process = Command::new("/proc/self/exe")
            .arg("spawn-parent")
            .args([vmas.to_string(), touched.percent().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| means::not_started("the process that the kernel forks", error))?;
        let questions = process.stdin.take();
        let answers = process.stdout.take().context("no pipe to the process")?;
        let mut started = Self {
            process,
            questions,
            answers: BufReader::new(answers),
            vmas,
        };
        let ready = started.answer()?;
        let count = ready.strip_prefix("ready ");
        started.vmas = count.context("the forked process is not ready")?.parse()?;
        Ok(started)
    }

    /// Has the kernel fork it for `time`.
    ///
    /// # Errors
    ///
    /// If the kernel does not fork; the process is gone then.
    pub(crate) fn forks_within(&mut self, time: Duration) -> Result<Burst> {
        let questions = self.questions.as_mut().context("the process was ended")?;
        let asked = writeln!(questions, "{}", time.as_nanos());
        asked.context("the forked process is gone")?;
        let answer = self.answer()?;
        let (forks, nanoseconds) = answer.split_once(' ').context("half an answer")?;
        Ok(Burst {
            forks: forks.parse()?,
            processor_time: Duration::from_nanos(nanoseconds.parse()?),
        })
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            let status = self.process.wait()?;
            bail!("the process that the kernel forks ended early, with {status}");
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for KernelProcess {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.questions.take());
        let _ = self.process.wait();
    }
}

/// The most mappings that a process may have on this machine, if the kernel tells.
pub(crate) fn max_map_count() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_known() {
        assert!(max_map_count().is_some_and(|limit| limit > 100));
    }
}
