//! Tasks that nobody announces.
//!
//! LINUX: who has a fatal signal pending (`SIGKILL`, or that another thread of the process exits or
//! goes on to another program) passes over the stop that names the task it has just made. That task
//! is there all the same, and stands in its first stop until somebody lets it run.

use std::collections::HashSet;

use super::{Engine, Handling, Phase, Task, Watcher};
use crate::decode::Sharing;
use crate::kernel;
use crate::procfs;
use crate::ptrace::{self, Tid};

impl<W: Watcher> Engine<W> {
    /// Keeps a task in its first stop until it is announced, or nobody is left who could.
    pub(super) fn park(&mut self, child: Tid) {
        let makers = self.tasks.iter().filter(|(_, task)| task.phase.may_make());
        let makers: HashSet<Tid> = makers.map(|(&tid, _)| tid).collect();
        if makers.is_empty() || self.made_before.contains(&child) {
            return self.adopt(child);
        }
        self.early.insert(child, makers);
    }

    /// A task makes no other any more: what is still parked is not its.
    pub(super) fn makes_no_more(&mut self, maker: Tid) {
        let mut orphans = Vec::new();
        for (&child, makers) in &mut self.early {
            if makers.remove(&maker) && makers.is_empty() {
                orphans.push(child);
            }
        }
        for child in orphans {
            self.adopt(child);
        }
    }

    /// Knows what a task that is about to end has made and will not announce.
    pub(super) fn announce_for(&mut self, maker: Tid) {
        let phase = self.tasks.get(&maker).map(|task| task.phase);
        let kind = match phase {
            Some(Phase::Spawning(sharing)) => Some(sharing),
            Some(Phase::Inside(Handling::Fork)) => None,
            _ => return,
        };
        for child in made_by(maker, kind) {
            if !self.tasks.contains_key(&child) && procfs::is_traced_by_us(child) {
                self.know(maker, child);
                self.set_phase(maker, Phase::Running);
                if self.early.remove(&child).is_some() {
                    self.go(child, 0);
                }
                return;
            }
        }
    }

    /// Follows a task of which nobody says who made it.
    fn adopt(&mut self, child: Tid) {
        self.early.remove(&child);
        let process = procfs::process_of(child).unwrap_or(child);
        let shares = |other: Tid| kernel::same_memory(child, other) == Ok(true);
        let sharer = self.tasks.iter().find(|&(&other, _)| shares(other));
        let sharer = sharer.map(|(_, task)| task.mm);
        if self.made_before.remove(&child) && sharer.is_none() {
            // Forked before we were there.
            return ptrace::detach(child, 0);
        }
        let mm = sharer.unwrap_or_else(|| self.new_space());
        let phase = Phase::Running;
        self.add_task(child, Task { process, mm, phase });
        match (process == child, sharer) {
            // It is ended with the others.
            (false, _) => self.watcher.spawned(Some(Sharing::Thread)),
            (true, Some(_)) => self.watcher.spawned(Some(Sharing::Process)),
            (true, None) => {
                self.watcher.spawned(None);
                self.watcher.unannounced();
            }
        }
        self.go(child, 0);
    }
}

impl Phase {
    /// Whether a task may be making another one. A call of any kind that is not modelled may.
    const fn may_make(self) -> bool {
        matches!(self, Self::Inside(_) | Self::Spawning(_) | Self::Foreign)
    }
}

/// The children of a thread, or the threads of its process. Where the kernel does not say, nobody.
fn made_by(maker: Tid, kind: Option<Sharing>) -> Vec<Tid> {
    if kind == Some(Sharing::Thread) {
        return procfs::tasks(maker);
    }
    let children = procfs::read(maker, &format!("task/{maker}/children")).unwrap_or_default();
    let words = children.split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}
