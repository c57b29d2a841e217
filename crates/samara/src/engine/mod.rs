//! The tracing engine: follows every task of the program and knows which address space it uses.
//!
//! It decides nothing about memory: a [`Watcher`] is told what happens. What it guarantees:
//! calls that change one address space come one at a time (a task that arrives while another is
//! inside is held at its entry), a fork without `CLONE_VM` counts as such a call, a suspended
//! vfork parent holds nothing, and signals and job control reach the program untouched.

mod join;
mod orphans;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;

use crate::decode::Sharing;
use crate::patience::Patience;
use crate::ptrace::{self, Registers, Stop, Tid, Until, Waited};
use crate::seccomp;

pub(crate) use join::Member;

/// An address space's identity: new at each exec and fork, shared by whoever shares memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MmId(pub(crate) u32);

/// A task and the address space it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) tid: Tid,
    pub(crate) mm: MmId,
}

/// How the engine treats a call a watcher was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handling {
    /// Let it run; its end does not matter.
    Ignore,
    /// Nobody else may be inside: ask again with [`Watcher::enter`] when the turn comes.
    Exclusive,
    /// As [`Handling::Exclusive`], and it makes a new address space.
    Fork,
    /// It makes a task that shares this address space.
    Share(Sharing),
    /// Its end is reported with [`Watcher::leave`], but it excludes nobody.
    Observe,
}

/// What the engine tells.
pub(crate) trait Watcher {
    /// A call is about to begin; nothing is decided yet.
    fn classify(&mut self, place: Place, tag: u32, registers: &Registers) -> Handling;
    /// An exclusive call begins now.
    fn enter(&mut self, place: Place, registers: &Registers);
    /// A call entered (or observed) before has ended with this result.
    fn leave(&mut self, place: Place, result: i64);
    /// The task died inside its call: whether the call took place is unknown.
    fn lost(&mut self, place: Place);
    /// The fork entered before has made `child`, which has not run yet.
    fn forked(&mut self, place: Place, child: Place);
    /// A new program is in place; `place.mm` is new.
    fn exec(&mut self, place: Place, former: Tid);
    /// The last task of an address space is about to end; the memory is still there.
    fn ending(&mut self, place: Place);
    /// A task uses this address space no more, or is about to end; `others` go on.
    fn left(&mut self, place: Place, others: &[Tid]);
    /// Nobody uses this address space any more.
    fn gone(&mut self, mm: MmId);
    /// A new task, thread or process.
    fn spawned(&mut self, sharing: Option<Sharing>);
    /// A new process whose memory is a copy of nobody knows whose: who made it was killed meanwhile.
    fn unannounced(&mut self);
    /// A process that has been running for a while stands still to be looked at; it may be waiting for
    /// its `vfork` child.
    fn joined(&mut self, place: Place);
    /// All that use the address space stand still, and will run on without being watched.
    fn let_go(&mut self, place: Place);
    /// Something was let run: a moment to show progress.
    fn tick(&mut self) {}
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Created, its first stop not seen yet.
    Starting,
    Running,
    /// Held at the entry of an exclusive call until the one inside has left.
    Held(Registers, Handling),
    /// Inside an exclusive call.
    Inside(Handling),
    /// Inside an observed call.
    Observed,
    /// Inside a call that makes a task sharing memory.
    Spawning(Sharing),
    /// In a call through another entry that may make a task, and is not looked at further.
    Foreign,
    /// Its end was announced.
    Ending,
}

#[derive(Debug)]
struct Task {
    process: Tid,
    mm: MmId,
    phase: Phase,
}

#[derive(Debug, Default)]
struct Space {
    users: usize,
    inside: Option<Tid>,
    waiting: VecDeque<Tid>,
}

/// How the traced program's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited(i32),
    Killed(i32),
    /// It was let go, and runs on.
    LetGo,
}

/// The engine's state. See the module's description.
#[derive(Debug)]
pub(crate) struct Engine<W> {
    watcher: W,
    root: Tid,
    /// How far a task runs that is in no call that matters: a filter stops it before the next one,
    /// or, where it has none, every call does.
    onward: Until,
    ended: Option<Ended>,
    tasks: HashMap<Tid, Task>,
    spaces: HashMap<MmId, Space>,
    /// Tasks whose first stop came before the event that announces them, and who may have made them.
    early: HashMap<Tid, HashSet<Tid>>,
    /// Tasks that were announced while their process was joined: nobody saw who made them how.
    made_before: HashSet<Tid>,
    next_mm: u32,
    patience: Patience,
}

impl<W: Watcher> Engine<W> {
    /// Follows the seized task `root`, which has not run the program yet.
    pub(crate) fn new(root: Tid, watcher: W) -> Self {
        let mut engine = Self::empty(root, watcher, Until::NextCall);
        let mm = engine.new_space();
        engine.add_task(
            root,
            Task {
                process: root,
                mm,
                phase: Phase::Running,
            },
        );
        engine
    }

    fn empty(root: Tid, watcher: W, onward: Until) -> Self {
        Self {
            watcher,
            root,
            onward,
            ended: None,
            tasks: HashMap::new(),
            spaces: HashMap::new(),
            early: HashMap::new(),
            made_before: HashSet::new(),
            next_mm: 0,
            patience: Patience::new(),
        }
    }

    /// Runs until no task is left, or until we are asked to let them go; gives the watcher back and
    /// says how the program ended.
    ///
    /// # Errors
    ///
    /// What `waitpid` says. When this process ends then, a program that it started is killed and
    /// one that it joined runs on.
    pub(crate) fn run(mut self) -> io::Result<(W, Option<Ended>)> {
        loop {
            match ptrace::wait(&mut self.patience)? {
                Waited::Stopped(tid, stop) => self.handle(tid, stop),
                Waited::Interrupted => {}
                Waited::NoneLeft => break,
            }
            if ptrace::is_asked_to_let_go() {
                self.let_all_go()?;
                self.ended = Some(Ended::LetGo);
                break;
            }
            self.watcher.tick();
        }
        Ok((self.watcher, self.ended))
    }

    fn handle(&mut self, tid: Tid, stop: Stop) {
        if !self.tasks.contains_key(&tid) && !matches!(stop, Stop::Exec(_)) {
            match stop {
                // A new task's first stop, before its maker's event.
                Stop::Group(_) => self.park(tid),
                Stop::Exited(_) | Stop::Killed(_) => {
                    self.early.remove(&tid);
                    self.made_before.remove(&tid);
                }
                _ => ptrace::resume(tid, self.onward, 0),
            }
            return;
        }
        match stop {
            Stop::Entry(tag, registers) => self.entry(tid, tag, registers),
            Stop::Exit(result) => self.exit(tid, result),
            Stop::OtherCall => ptrace::resume(tid, self.onward, 0),
            Stop::NewTask(Some(child)) => self.new_task(tid, child),
            // What it has made is known when it ends.
            Stop::NewTask(None) => ptrace::resume(tid, self.onward, 0),
            Stop::Exec(former) => self.exec(tid, former),
            Stop::Ending => self.ending(tid),
            Stop::Group(signal) => self.group(tid, signal),
            Stop::Signal(signal) => self.go(tid, signal),
            Stop::Exited(status) => self.gone(tid, Ended::Exited(status)),
            Stop::Killed(signal) => self.gone(tid, Ended::Killed(signal)),
        }
    }

    fn place(&self, tid: Tid) -> Option<Place> {
        self.tasks.get(&tid).map(|task| Place { tid, mm: task.mm })
    }

    fn set_phase(&mut self, tid: Tid, phase: Phase) {
        if let Some(task) = self.tasks.get_mut(&tid) {
            task.phase = phase;
        }
    }

    /// Lets a stopped task run as far as its phase wants to see it.
    fn go(&self, tid: Tid, signal: i32) {
        let until = match self.tasks.get(&tid).map(|task| task.phase) {
            Some(Phase::Inside(_) | Phase::Observed) => Until::CallEnd,
            _ => self.onward,
        };
        ptrace::resume(tid, until, signal);
    }

    fn entry(&mut self, tid: Tid, tag: u32, registers: Registers) {
        let Some(place) = self.place(tid) else {
            return;
        };
        // The call before, if it made a task, has said so.
        self.makes_no_more(tid);
        let handling = self.watcher.classify(place, tag, &registers);
        match handling {
            Handling::Ignore if is_foreign(tag) && seccomp::may_make_task(registers.number) => {
                self.set_phase(tid, Phase::Foreign);
            }
            Handling::Ignore => self.set_phase(tid, Phase::Running),
            Handling::Share(sharing) => self.set_phase(tid, Phase::Spawning(sharing)),
            Handling::Observe => self.set_phase(tid, Phase::Observed),
            Handling::Exclusive | Handling::Fork => {
                self.set_phase(tid, Phase::Held(registers, handling));
                let space = self.spaces.entry(place.mm).or_default();
                space.waiting.push_back(tid);
                return self.admit(place.mm);
            }
        }
        self.go(tid, 0);
    }

    /// Lets the next waiting task of an address space in, if nobody is inside.
    fn admit(&mut self, mm: MmId) {
        loop {
            let Some(space) = self.spaces.get_mut(&mm) else {
                return;
            };
            if space.inside.is_some() {
                return;
            }
            let Some(tid) = space.waiting.pop_front() else {
                return;
            };
            let Some(Phase::Held(registers, handling)) = self.tasks.get(&tid).map(|t| t.phase)
            else {
                continue;
            };
            space.inside = Some(tid);
            self.set_phase(tid, Phase::Inside(handling));
            self.watcher.enter(Place { tid, mm }, &registers);
            return self.go(tid, 0);
        }
    }

    /// A task is no longer inside or waiting; the next one may come in.
    fn release(&mut self, tid: Tid, mm: MmId) {
        if let Some(space) = self.spaces.get_mut(&mm) {
            space.waiting.retain(|&waiting| waiting != tid);
            if space.inside == Some(tid) {
                space.inside = None;
            }
        }
        self.admit(mm);
    }

    /// Tells of the end of the call that a task is in, if it matters; says where the task stood.
    fn leave(&mut self, tid: Tid, result: Option<i64>) -> Option<(Place, Phase)> {
        let place = self.place(tid)?;
        let phase = self.tasks.get(&tid)?.phase;
        self.set_phase(tid, Phase::Running);
        match (phase, result) {
            (Phase::Inside(_) | Phase::Observed, Some(result)) => {
                self.watcher.leave(place, result);
            }
            (Phase::Inside(_) | Phase::Observed, None) => self.watcher.lost(place),
            _ => {}
        }
        Some((place, phase))
    }

    fn exit(&mut self, tid: Tid, result: Option<i64>) {
        let Some((place, phase)) = self.leave(tid, result) else {
            return;
        };
        // The task runs on only after the others had no chance to change what was compared.
        ptrace::resume(tid, self.onward, 0);
        if matches!(phase, Phase::Inside(_)) {
            self.release(tid, place.mm);
        }
        self.makes_no_more(tid);
    }

    fn new_task(&mut self, tid: Tid, child: Tid) {
        let Some((place, phase)) = self.know(tid, child) else {
            return;
        };
        self.set_phase(tid, Phase::Running);
        ptrace::resume(tid, self.onward, 0);
        if matches!(phase, Phase::Inside(_)) {
            self.release(tid, place.mm);
        }
        if self.early.remove(&child).is_some() {
            self.go(child, 0);
        }
        self.makes_no_more(tid);
    }

    /// Knows a task that another one has made; says where that one stood.
    fn know(&mut self, tid: Tid, child: Tid) -> Option<(Place, Phase)> {
        let place = self.place(tid)?;
        let task = self.tasks.get(&tid)?;
        let (process, phase) = (task.process, task.phase);
        let first_phase = if self.early.contains_key(&child) {
            Phase::Running
        } else {
            Phase::Starting
        };
        match phase {
            // It was there when its process was joined, before its maker said so; or another thread
            // of a process that ends was taken for its maker.
            _ if self.place(child).is_some_and(|known| known.mm == place.mm) => {}
            Phase::Spawning(sharing) => {
                let process = if sharing == Sharing::Thread {
                    process
                } else {
                    child
                };
                self.add_task(
                    child,
                    Task {
                        process,
                        mm: place.mm,
                        phase: first_phase,
                    },
                );
                self.watcher.spawned(Some(sharing));
            }
            _ => {
                let mm = self.new_space();
                self.add_task(
                    child,
                    Task {
                        process: child,
                        mm,
                        phase: first_phase,
                    },
                );
                self.watcher.spawned(None);
                self.watcher.forked(place, Place { tid: child, mm });
            }
        }
        Some((place, phase))
    }

    /// A job-control stop, the first stop of a new task, or a restart after a stop.
    fn group(&mut self, tid: Tid, signal: i32) {
        if self
            .tasks
            .get(&tid)
            .is_some_and(|task| task.phase == Phase::Starting)
        {
            self.set_phase(tid, Phase::Running);
        }
        if signal == libc::SIGTRAP {
            self.go(tid, 0);
        } else {
            ptrace::listen(tid);
        }
    }

    /// The other threads of the process are gone, and a thread that was not the leader has
    /// taken over the leader's id.
    fn exec(&mut self, tid: Tid, former: Tid) {
        let place = self.replaced(tid, former);
        self.watcher.exec(place, former);
        self.go(tid, 0);
    }

    /// Knows the task that runs a new program, and none of the others of its process.
    fn replaced(&mut self, tid: Tid, former: Tid) -> Place {
        let others: Vec<Tid> = self
            .tasks
            .iter()
            .filter(|&(&other, task)| other == former || task.process == tid)
            .map(|(&other, _)| other)
            .collect();
        // First the one under whose id the new memory shows.
        for other in std::iter::once(tid).chain(others) {
            self.forget(other);
        }
        let mm = self.new_space();
        self.add_task(
            tid,
            Task {
                process: tid,
                mm,
                phase: Phase::Running,
            },
        );
        Place { tid, mm }
    }

    fn ending(&mut self, tid: Tid) {
        self.announce_for(tid);
        let phase = self.tasks.get(&tid).map(|task| task.phase);
        if phase == Some(Phase::Ending) {
            // LINUX: nobody ends twice: this was another thread, which was killed as its new program
            // began, under the id of the first one, and has not announced that.
            self.replaced(tid, tid);
        }
        if let Some(place) = self.place(tid) {
            let phase = self.tasks.get(&tid).map(|task| task.phase);
            if matches!(phase, Some(Phase::Inside(_))) {
                self.watcher.lost(place);
            }
            self.set_phase(tid, Phase::Ending);
            let has_others = self.tell_others(place);
            self.release(tid, place.mm);
            if !has_others {
                self.watcher.ending(place);
            }
        }
        self.makes_no_more(tid);
        ptrace::resume(tid, self.onward, 0);
    }

    /// Tells that a task has left those who go on in its address space. Says whether there are any.
    fn tell_others(&mut self, place: Place) -> bool {
        let goes_on = |task: &Task| task.mm == place.mm && task.phase != Phase::Ending;
        let others = self.tasks.iter().filter(|(_, task)| goes_on(task));
        let others: Vec<Tid> = others.map(|(&tid, _)| tid).collect();
        if !others.is_empty() {
            self.watcher.left(place, &others);
        }
        !others.is_empty()
    }

    fn gone(&mut self, tid: Tid, how: Ended) {
        if tid == self.root {
            self.ended = Some(how);
        }
        self.forget(tid);
    }

    fn forget(&mut self, tid: Tid) {
        self.early.remove(&tid);
        let Some(task) = self.tasks.remove(&tid) else {
            return;
        };
        let place = Place { tid, mm: task.mm };
        self.tell_others(place);
        if matches!(task.phase, Phase::Inside(_)) {
            self.watcher.lost(place);
        }
        self.release(tid, task.mm);
        if let Some(space) = self.spaces.get_mut(&task.mm) {
            space.users -= 1;
            if space.users == 0 {
                self.spaces.remove(&task.mm);
                self.watcher.gone(task.mm);
            }
        }
        self.makes_no_more(tid);
    }

    fn new_space(&mut self) -> MmId {
        let mm = MmId(self.next_mm);
        self.next_mm += 1;
        self.spaces.insert(mm, Space::default());
        mm
    }

    fn add_task(&mut self, tid: Tid, task: Task) {
        self.spaces.entry(task.mm).or_default().users += 1;
        self.tasks.insert(tid, task);
    }
}

/// Whether a stop's tag says that the call came through a 32-bit or x32 entry.
pub(crate) const fn is_foreign(tag: u32) -> bool {
    tag == seccomp::FOREIGN
}
