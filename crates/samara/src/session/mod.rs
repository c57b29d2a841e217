//! A live run: predicts each call on the model, lets the kernel do it, compares.
//!
//! A call goes like this. At its entry the model predicts it on a copy to learn which ranges it
//! touches; the kernel is asked which of the mappings there were written since (merging depends
//! on it and `maps` does not show it); if that was news, the copy is thrown away and the call
//! predicted again. At its end result and mappings are compared. A mismatch may mean that another
//! thread wrote, or a stack grew, between the question and the call: the kernel is asked again
//! and the call predicted once more from the same copy. What still differs is a divergence.

mod bind;
mod call;
mod learn;
mod past;
mod start;

use std::collections::{HashMap, HashSet};

use maple_mm::Process;

use crate::call::{Call, CallKind};
use crate::compare::Comparison;
use crate::convert;
use crate::decode::{self, AnonymousNames, Request, Sharing, Unseen};
use crate::engine::{Handling, MmId, Place, Watcher, is_foreign};
use crate::event::{Event, LayoutFacts, SystemFacts};
use crate::facts::{self, Handles};
use crate::files::FileTable;
use crate::mirror::{Mirror, Saved};
use crate::observe;
use crate::probe;
use crate::progress::Progress;
use crate::ptrace::{self, Registers, Tid};
use crate::recorder::Recorder;
use crate::verdict::Verdict;
use past::Past;

/// An address space that is mirrored.
#[derive(Debug)]
struct Space {
    handles: Handles,
    /// The task it began with.
    tid: Tid,
    /// Its `brk` follows the kernel's answers.
    layout: LayoutFacts,
    /// Of the task that made the call.
    pending: Option<(Tid, Pending)>,
    /// Of `maps`, that may still be compared.
    lines_left: usize,
    past: Past,
    /// Where neighbours were written, nobody knows which first: ends exclusive.
    unordered: Vec<(u64, u64)>,
    /// Where a call may have taken away the only page that a thread wrote meanwhile.
    unwitnessed: Vec<(u64, u64)>,
    /// What may change it unseen.
    unseen: Option<Unseen>,
    /// It was read while another process may have changed it.
    is_blurred: bool,
}

/// What an address space that a task leaves for another program bequeaths to that.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    process: Process,
    unseen: Option<Unseen>,
}

/// What is under way inside an address space.
#[derive(Debug)]
enum Pending {
    Call(UnderWay),
    Fork {
        before: Saved,
    },
    NotModelled(&'static str),
    /// What was to be asked before it was asked.
    NoChange,
    Hides(Unseen),
    /// About another address space, in which somebody may be inside a call of their own.
    Elsewhere(MmId, Call),
}

/// A call with what its arguments stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    call: Call,
    /// The address space it is about.
    mm: MmId,
}

/// A predicted call that the kernel is carrying out.
#[derive(Debug)]
struct UnderWay {
    call: Call,
    /// The address space before it.
    before: Saved,
    predicted: i64,
    /// What can decide it.
    near: Ranges,
}

/// A live run. See the module's description.
#[derive(Debug)]
pub(crate) struct Session {
    mirror: Mirror,
    files: FileTable,
    names: AnonymousNames,
    /// The machine's settings as they were last seen.
    system: Option<SystemFacts>,
    /// Whether limits were set in the run, and whether processes share an address space.
    has_set_limits: bool,
    has_sharers: bool,
    spaces: HashMap<MmId, Space>,
    recorder: Recorder,
    verdict: Verdict,
    progress: Progress,
    /// The userfaultfds that were seen, and whose memory each watches.
    watchers: HashMap<u64, MmId>,
    /// Those that were made, and who made them: a child uses its parent's for its parent.
    makers: HashMap<u64, MmId>,
    /// Tasks that are making one.
    making: HashSet<Tid>,
    /// What was learned about the mapping a call makes, to be recorded after the call.
    late: Option<Event>,
    /// Tasks whose present call came through the 32-bit or x32 entry.
    foreign: HashSet<Tid>,
    /// What tasks that go on to another program had asked of their address space.
    leaving: HashMap<Tid, Leaving>,
    /// Whether some task has a personality of its own, so that others' must be asked for.
    has_personality: bool,
    /// Why nothing can be traced at all, if so.
    fatal: Option<String>,
}

/// What a finished run leaves.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) fatal: Option<String>,
    /// What was recorded, to be completed.
    pub(crate) recorder: Recorder,
}

impl Session {
    /// A run that has not begun.
    ///
    /// # Errors
    ///
    /// If the machine's settings can't be read.
    pub(crate) fn new(
        program: String,
        recorder: Recorder,
        progress: Progress,
    ) -> anyhow::Result<Self> {
        let mut facts = facts::system()?;
        let probed = probe::probe(facts.version);
        facts.lsm_mmap_min_addr = probed.lowest_hint.unwrap_or(facts.lsm_mmap_min_addr);
        let names = if probed.profile.anon_vma_name.is_yes() {
            AnonymousNames::Supported
        } else {
            AnonymousNames::Absent
        };
        let mut session = Self {
            mirror: Mirror::default(),
            files: FileTable::new(1),
            names,
            system: None,
            has_set_limits: false,
            has_sharers: false,
            spaces: HashMap::new(),
            recorder,
            verdict: Verdict {
                program,
                processes: 1,
                ..Verdict::default()
            },
            progress,
            watchers: HashMap::new(),
            makers: HashMap::new(),
            making: HashSet::new(),
            late: None,
            foreign: HashSet::new(),
            leaving: HashMap::new(),
            has_personality: false,
            fatal: None,
        };
        session.system = Some(facts);
        session.learn(&Event::System(facts));
        session.learn(&Event::Profile(convert::profile_facts(&probed.profile)));
        if let Some(note) = probe::note(facts.version) {
            session.note(note);
        }
        Ok(session)
    }

    /// Ends the run.
    pub(crate) fn finish(self) -> Outcome {
        self.progress.finish();
        Outcome {
            verdict: self.verdict,
            fatal: self.fatal,
            recorder: self.recorder,
        }
    }

    /// Applies an event to the model and records it.
    fn learn(&mut self, event: &Event) -> bool {
        let applied = self.mirror.apply(event);
        self.recorder.event(event);
        match applied {
            Ok(()) => true,
            Err(error) => {
                self.note(format!("{error:#}"));
                false
            }
        }
    }

    fn note(&mut self, note: String) {
        const MOST: usize = 8;
        if self.verdict.notes.len() < MOST && !self.verdict.notes.contains(&note) {
            self.verdict.notes.push(note);
        }
    }

    /// Counts a call that is not modelled, and follows the kernel.
    fn pass_over(&mut self, place: Place, name: &str) {
        self.verdict.count_not_modelled(name);
        self.recorder.event(&Event::NotModelled {
            mm: place.mm,
            name: name.to_owned(),
        });
        self.resync(place);
    }

    /// After a call with this result the address space may be changed unseen.
    fn hide(&mut self, place: Place, unseen: Unseen, result: i64) {
        if address(result).is_none() {
            return;
        }
        self.pass_over(place, unseen.call());
        if let Some(space) = self.spaces.get_mut(&place.mm) {
            // A listener outlives a program, and so says more.
            space.unseen = space.unseen.filter(|&known| known == Unseen::Listener);
            space.unseen.get_or_insert(unseen);
        }
    }

    /// Counts a difference that may come from what goes unseen, and follows the kernel. Says whether
    /// that may be.
    fn pass_over_unseen(&mut self, place: Place) -> bool {
        let unseen = self.spaces.get(&place.mm).and_then(|space| space.unseen);
        let others = || self.is_changed_from_elsewhere(place.mm).then_some(BESIDE);
        let name = unseen.map(Unseen::outcome).or_else(others);
        if let Some(name) = name {
            self.verdict.comparisons += 1;
            self.pass_over(place, name);
        }
        name.is_some()
    }

    /// Whether somebody is in a call on a userfaultfd that is about this address space and not their
    /// own.
    fn is_changed_from_elsewhere(&self, mm: MmId) -> bool {
        let is_about =
            |pending: &Pending| matches!(pending, Pending::Elsewhere(of, _) if *of == mm);
        let mut pending = self
            .spaces
            .values()
            .filter_map(|space| space.pending.as_ref());
        pending.any(|(_, pending)| is_about(pending))
    }

    /// The end of a call through a userfaultfd that was about another address space than its own.
    fn finish_elsewhere(&mut self, mm: MmId, call: Call, result: i64) {
        let name = "ioctl(userfaultfd) for another process";
        let Some(space) = self.spaces.get_mut(&mm) else {
            // Nobody uses it any more: nothing was done.
            return self.verdict.count_not_modelled(name);
        };
        let place = Place { tid: space.tid, mm };
        let Some((tid, _)) = space.pending.take() else {
            if space.is_blurred {
                self.pass_over(place, name);
            } else if let Some(under_way) = self.predict(mm, call) {
                self.finish_call(place, under_way, result);
            }
            return;
        };
        // Which of the two came first is not known, and what there is now is shown when the other is
        // over, too.
        self.verdict.count_not_modelled(name);
        if let Some(space) = self.spaces.get_mut(&mm) {
            space.pending = Some((tid, Pending::NotModelled(BESIDE)));
        }
    }

    /// What this very task has under way. Calls that only read limits run beside others.
    fn take_pending(&mut self, place: Place) -> Option<Pending> {
        let pending = &mut self.spaces.get_mut(&place.mm)?.pending;
        let own = pending.take_if(|(tid, _)| *tid == place.tid);
        own.map(|(_, pending)| pending)
    }
}

/// What a difference comes from that another process may have made.
const BESIDE: &str = "a call beside ioctl(userfaultfd) of another process";

/// The addresses that can decide a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ranges {
    Near(Vec<(u64, u64)>),
    All,
}

/// The address in a result, if it is one.
fn address(result: i64) -> Option<u64> {
    (!(-4095..0).contains(&result)).then_some(result.cast_unsigned())
}

impl Watcher for Session {
    fn classify(&mut self, place: Place, tag: u32, registers: &Registers) -> Handling {
        let mirrored = self.spaces.contains_key(&place.mm);
        self.foreign.remove(&place.tid);
        if is_foreign(tag) {
            self.foreign.insert(place.tid);
            return if mirrored {
                Handling::Exclusive
            } else {
                Handling::Ignore
            };
        }
        match decode::request(place.tid, registers, self.names) {
            Request::Fork => Handling::Fork,
            Request::Share { thread } => Handling::Share(thread),
            _ if !mirrored => Handling::Ignore,
            Request::Memory(..)
            | Request::NotModelled(_)
            | Request::MovesPages(_)
            | Request::Hides(_) => Handling::Exclusive,
            Request::Limits => {
                self.learn_idle_stacks();
                Handling::Observe
            }
            Request::NewWatcher => {
                self.making.insert(place.tid);
                Handling::Observe
            }
            Request::Exec => {
                self.look(place, "before exec");
                self.look_closely(place, "before exec, smaps and status");
                if let Some(process) = self.mirror.process_of(place.mm) {
                    let unseen = self.spaces.get(&place.mm).and_then(|space| space.unseen);
                    // A ring is closed with the descriptors; a filter stays.
                    let unseen = unseen.filter(|&unseen| unseen == Unseen::Listener);
                    self.leaving.insert(place.tid, Leaving { process, unseen });
                }
                Handling::Ignore
            }
            Request::Harmless => Handling::Ignore,
        }
    }

    fn enter(&mut self, place: Place, registers: &Registers) {
        if !self.spaces.contains_key(&place.mm) {
            return;
        }
        let request = if self.foreign.contains(&place.tid) {
            Request::NotModelled("a call through the 32-bit or x32 entry")
        } else {
            decode::request(place.tid, registers, self.names)
        };
        let pending = match request {
            Request::Memory(call, fd) => match self.bind(place, call, fd) {
                Ok(Bound { call, mm }) if mm == place.mm => return self.enter_call(place, call),
                Ok(Bound { call, mm }) => Pending::Elsewhere(mm, call),
                Err(why) => Pending::NotModelled(why),
            },
            Request::Fork => {
                self.learn_promises();
                self.learn_closed(place.mm);
                self.learn_stacks(place.mm, &Ranges::All);
                self.learn_writes(place.mm, &Ranges::All);
                let Some(before) = self.mirror.save(place.mm) else {
                    return;
                };
                Pending::Fork { before }
            }
            Request::NotModelled(name) => Pending::NotModelled(name),
            Request::Hides(unseen) => Pending::Hides(unseen),
            Request::MovesPages(range) => {
                self.learn_writes(place.mm, &Ranges::Near(vec![range]));
                Pending::NoChange
            }
            _ => Pending::NotModelled("a call of another kind"),
        };
        if let Some(space) = self.spaces.get_mut(&place.mm) {
            space.pending = Some((place.tid, pending));
        }
    }

    fn leave(&mut self, place: Place, result: i64) {
        match self.take_pending(place) {
            Some(Pending::Call(under_way)) => self.finish_call(place, under_way, result),
            Some(Pending::NotModelled(name)) => self.pass_over(place, name),
            Some(Pending::Elsewhere(mm, call)) => self.finish_elsewhere(mm, call, result),
            // A fork the kernel refused changes nothing.
            Some(Pending::Fork { .. } | Pending::NoChange) => {}
            Some(Pending::Hides(unseen)) => self.hide(place, unseen, result),
            None if self.making.remove(&place.tid) => self.learn_maker(place, result),
            None => {
                self.has_set_limits = true;
                // Limits may be set for another process.
                let mms: Vec<Place> = self
                    .spaces
                    .iter()
                    .map(|(&mm, space)| Place { tid: space.tid, mm })
                    .collect();
                for place in mms {
                    self.learn_limits(place);
                }
            }
        }
    }

    fn lost(&mut self, place: Place) {
        let Some(Pending::Call(UnderWay {
            call,
            before,
            predicted,
            ..
        })) = self.take_pending(place)
        else {
            return;
        };
        // Killed inside: the call either took place as predicted or not at all.
        self.late = None;
        let made = address(predicted).and_then(|addr| self.mirror.file_at(place.mm, addr));
        if made.is_some_and(|file| Mirror::is_shared_anonymous(file.id)) {
            // Its inode is in the text.
            self.learn_identity(place.mm, &call, predicted);
        }
        match self.compare_all(place.mm) {
            Comparison::Same(_) => {
                self.recorder.event(&Event::Call {
                    mm: place.mm,
                    call,
                    result: predicted,
                });
                if let Some(event) = self.late.take() {
                    self.recorder.event(&event);
                }
            }
            _ => _ = self.mirror.replace(place.mm, before),
        }
    }

    fn forked(&mut self, place: Place, child: Place) {
        self.verdict.forks += 1;
        if self.spaces.contains_key(&place.mm) {
            self.fork_call(place, child);
        }
    }

    fn exec(&mut self, place: Place, former: Tid) {
        self.verdict.execs += 1;
        let left = self.leaving.remove(&former);
        let Some(is_64_bit) = ptrace::is_64_bit(place.tid) else {
            // It was killed meanwhile, and ends before its first instruction.
            return;
        };
        if !is_64_bit {
            if self.verdict.execs == 1 {
                self.fatal = Some(
                    "this is a 32-bit program; samara mirrors 64-bit x86 programs only: \
                     use a 64-bit build of it"
                        .to_owned(),
                );
                ptrace::kill(place.tid);
            }
            return self.verdict.count_not_modelled("a 32-bit program");
        }
        match self.begin(place, left) {
            Ok(()) => {
                self.verdict.count_call(CallKind::Exec);
                self.look(place, "exec, the first look");
            }
            Err(_) if !observe::has_memory(place.tid) => {
                self.spaces.remove(&place.mm);
                self.mirror.remove(place.mm);
            }
            Err(error) => {
                let why = format!("{error:#}");
                self.forget(place.mm, "a program whose address space could not be read");
                self.note(why);
            }
        }
    }

    fn ending(&mut self, place: Place) {
        self.making.remove(&place.tid);
        let space = self.spaces.get(&place.mm);
        let shows_other = |space: &Space| observe::has_other_memory(&space.handles, place.tid);
        if self.leaving.remove(&place.tid).is_some() && space.is_some_and(shows_other) {
            // LINUX: who was killed as its new program began does not announce that. What it had
            // before is gone, and the program has done nothing.
            return;
        }
        self.look(place, "at exit");
        self.look_closely(place, "at exit, smaps and status");
    }

    fn left(&mut self, place: Place, others: &[Tid]) {
        self.keep_sight(place, others);
    }

    fn gone(&mut self, mm: MmId) {
        if self.spaces.remove(&mm).is_some() {
            self.learn(&Event::Gone { mm });
            self.watchers.retain(|_, watched| *watched != mm);
            let mirror = &self.mirror;
            self.files.retain(|id| mirror.is_mapped(id));
        }
    }

    fn spawned(&mut self, sharing: Option<Sharing>) {
        match sharing {
            Some(Sharing::Thread) => self.verdict.threads += 1,
            Some(Sharing::Process) => {
                self.has_sharers = true;
                self.verdict.processes += 1;
            }
            None => self.verdict.processes += 1,
        }
    }

    fn unannounced(&mut self) {
        self.verdict
            .count_not_modelled("a child that was not announced");
    }

    fn joined(&mut self, place: Place) {
        match self.begin_joined(place) {
            Ok(()) => self.look(place, "the first look"),
            Err(error) => self.fatal = Some(format!("{error:#}")),
        }
    }

    fn let_go(&mut self, place: Place) {
        self.look(place, "when it was let go");
        self.look_closely(place, "when it was let go, smaps and status");
    }

    fn tick(&mut self) {
        let calls = self.verdict.comparisons;
        self.progress
            .show(calls, self.verdict.processes, self.verdict.divergences);
    }
}
