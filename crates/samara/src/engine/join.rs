//! Joining a process that has been running for a while, and letting it go.
//!
//! Both stand on one moment in which no task runs: what `/proc` says then is true for all of them.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use super::{Engine, MmId, Phase, Place, Task, Watcher};
use crate::decode::{self, Sharing};
use crate::procfs;
use crate::ptrace::{self, Stop, Tid, Until, Waited};

/// A task that cannot be stopped sooner (it waits for a disk) is left alone: it does nothing
/// meanwhile. One that waits for its `vfork` child is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A task that was seized, and its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) tid: Tid,
    pub(crate) process: Tid,
}

impl<W: Watcher> Engine<W> {
    /// Follows seized tasks that run already and share one address space; `root` is among them.
    ///
    /// `shares` says whether a task has the address space of `root`.
    ///
    /// # Errors
    ///
    /// What `waitpid` says; the tasks run on when this process ends.
    pub(crate) fn join(
        (root, members): (Tid, &[Member]),
        watcher: W,
        shares: impl Fn(Tid) -> Option<Member>,
    ) -> io::Result<Self> {
        let mut engine = Self::empty(root, watcher, Until::CallEnd);
        let mm = engine.new_space();
        for member in members {
            engine.add_member(*member, mm);
        }
        let still = engine.stand_still()?;
        for &tid in still.keys() {
            engine.made_before.remove(&tid);
            match shares(tid) {
                Some(member) if !engine.tasks.contains_key(&tid) => engine.add_member(member, mm),
                Some(_) => {}
                // Forked, or gone on to another program, before we were there.
                None => {
                    engine.forget(tid);
                    ptrace::detach(tid, pending(still.get(&tid)));
                }
            }
        }
        engine.introduce(&still);
        for (tid, stop) in still {
            if engine.tasks.contains_key(&tid) {
                engine.set_phase(tid, Phase::Running);
                engine.handle(tid, stop);
            }
        }
        Ok(engine)
    }

    /// Tells of the tasks that were there, and of their memory by one that stands still.
    fn introduce(&mut self, still: &BTreeMap<Tid, Stop>) {
        for (&tid, task) in self.tasks.iter().filter(|&(&tid, _)| tid != self.root) {
            let sharing = if task.process == tid {
                Sharing::Process
            } else {
                Sharing::Thread
            };
            self.watcher.spawned(Some(sharing));
        }
        let stands = |tid: &&Tid| still.contains_key(tid) || waits_for_child(**tid);
        // Rather than a `vfork` child, which soon has other memory.
        let shown = self.tasks.keys().filter(stands);
        let shown = shown.max_by_key(|&&tid| tid == self.root);
        if let Some(place) = shown.and_then(|&tid| self.place(tid)) {
            self.watcher.joined(place);
        }
    }

    fn add_member(&mut self, member: Member, mm: MmId) {
        let Member { tid, process } = member;
        let phase = Phase::Starting;
        self.add_task(tid, Task { process, mm, phase });
    }

    /// Stops all tasks and waits until they stand. What each stopped for is handed back and is not
    /// dealt with; tasks that are held at the entry of a call stand anyway.
    fn stand_still(&mut self) -> io::Result<BTreeMap<Tid, Stop>> {
        for (&tid, task) in &self.tasks {
            if !task.is_held() {
                ptrace::interrupt(tid);
            }
        }
        let mut still = BTreeMap::new();
        let begun = Instant::now();
        while self.has_moving(&still) && begun.elapsed() < PATIENCE {
            ptrace::wake_in_a_second();
            match ptrace::wait(&mut self.patience)? {
                Waited::Stopped(tid, stop) => self.note_stop(tid, stop, &mut still),
                Waited::Interrupted => {}
                Waited::NoneLeft => break,
            }
        }
        Ok(still)
    }

    fn has_moving(&self, still: &BTreeMap<Tid, Stop>) -> bool {
        let stands = |tid, task: &Task| task.is_held() || still.contains_key(&tid);
        let mut tasks = self.tasks.iter();
        tasks.any(|(&tid, task)| !stands(tid, task) && !waits_for_child(tid))
    }

    /// Keeps what a task stands still for. The events on the way to a call's end are passed over:
    /// the task has yet to stop as it was told to.
    fn note_stop(&mut self, tid: Tid, stop: Stop, still: &mut BTreeMap<Tid, Stop>) {
        match stop {
            Stop::Exited(_) | Stop::Killed(_) => {
                still.remove(&tid);
                self.handle(tid, stop);
            }
            Stop::Ending => self.handle(tid, stop),
            Stop::Exec(former) => {
                still.remove(&former);
                self.replaced(tid, former);
                ptrace::resume(tid, self.onward, 0);
            }
            Stop::NewTask(child) => {
                self.made_before.extend(child);
                ptrace::resume(tid, self.onward, 0);
            }
            Stop::OtherCall => ptrace::resume(tid, self.onward, 0),
            Stop::Entry(..) | Stop::Exit(_) | Stop::Group(_) | Stop::Signal(_) => {
                still.insert(tid, stop);
            }
        }
    }

    /// Lets all tasks go after a last look at the address spaces that stand still as a whole. A
    /// task that does not stop is let go when this process ends.
    ///
    /// # Errors
    ///
    /// What `waitpid` says.
    pub(super) fn let_all_go(&mut self) -> io::Result<()> {
        let still = self.stand_still()?;
        for (&tid, stop) in &still {
            if let Stop::Exit(result) = *stop {
                self.leave(tid, result);
            }
        }
        for place in self.standing(&still) {
            self.watcher.let_go(place);
        }
        let held = self.tasks.iter().filter(|(_, task)| task.is_held());
        for &tid in held.map(|(tid, _)| tid).chain(self.early.keys()) {
            ptrace::detach(tid, 0);
        }
        for (&tid, stop) in &still {
            ptrace::detach(tid, pending(Some(stop)));
        }
        Ok(())
    }

    /// A task of each address space none of whose tasks moves.
    fn standing(&self, still: &BTreeMap<Tid, Stop>) -> Vec<Place> {
        let mut spaces: BTreeMap<MmId, Option<Tid>> = BTreeMap::new();
        for (&tid, task) in &self.tasks {
            let stands = task.is_held() || still.contains_key(&tid) || waits_for_child(tid);
            let known = spaces.entry(task.mm).or_insert(Some(tid));
            *known = known.filter(|_| stands);
        }
        let place = |(mm, tid): (MmId, Option<Tid>)| tid.map(|tid| Place { tid, mm });
        spaces.into_iter().filter_map(place).collect()
    }
}

impl Task {
    /// Whether it stands before a call until another one is over.
    const fn is_held(&self) -> bool {
        matches!(self.phase, Phase::Held(..))
    }
}

/// Whether a task waits for its `vfork` child: it cannot be stopped, and does nothing until the child
/// has ended or runs another program.
fn waits_for_child(tid: Tid) -> bool {
    let status = procfs::read(tid, "status").unwrap_or_default();
    // Before it has said that the child is there it runs, or stands to say so.
    if !procfs::field(&status, "State:").is_some_and(|state| state.starts_with('D')) {
        return false;
    }
    let call = procfs::read(tid, "syscall").unwrap_or_default();
    procfs::parse_call(&call).is_some_and(|call| decode::waits_for_child(tid, &call))
}

/// The signal that a task is about to get, or 0.
const fn pending(stop: Option<&Stop>) -> i32 {
    match stop {
        Some(Stop::Signal(signal)) => *signal,
        _ => 0,
    }
}
