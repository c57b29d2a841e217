//! A live run: predicts each call on the model, lets the kernel do it, compares.
//!
//! A call goes like this. At its entry the model predicts it on a copy to learn which ranges it
//! touches; the kernel is asked which of the mappings there were written since (merging depends
//! on it and `maps` does not show it); if that was news, the copy is thrown away and the call
//! predicted again. At its end result and mappings are compared. A mismatch may mean that another
//! thread wrote, or a stack grew, between the question and the call: the kernel is asked again
//! and the call predicted once more from the same copy. What still differs is a divergence.

use std::collections::{BTreeSet, HashMap};

use anyhow::Context;

use crate::call::{Call, CallFile, CallKind, result_text};
use crate::compare::{self, Comparison};
use crate::decode::{self, AnonymousNames, Request, Sharing};
use crate::engine::{Handling, MmId, Place, Watcher, is_foreign};
use crate::event::{Event, FileFacts, LayoutFacts, StartFacts};
use crate::facts::{self, Handles, Memory};
use crate::files::{FileTable, Identified};
use crate::mirror::{Mirror, Saved};
use crate::observe;
use crate::procfs::MapLine;
use crate::progress::Progress;
use crate::ptrace::{self, Registers};
use crate::recorder::Recorder;
use crate::verdict::{Divergence, Verdict, differing_lines};

/// Results in this range mean that a signal came first and the call will be made again.
const RESTARTS: std::ops::RangeInclusive<i64> = -516..=-512;
/// In an address space of more mappings than this, most comparisons look at the neighbourhood.
const ORDINARY_VMAS: usize = 2000;
/// And every so many calls at everything.
const FULL_EVERY: u32 = 200;

/// An address space that is mirrored.
#[derive(Debug)]
struct Space {
    handles: Handles,
    /// Its `brk` follows the kernel's answers.
    layout: LayoutFacts,
    pending: Option<Pending>,
    calls_since_full: u32,
}

/// What is under way inside an address space.
#[derive(Debug)]
enum Pending {
    Call(UnderWay),
    Fork { before: Saved },
    NotModelled(&'static str),
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
    spaces: HashMap<MmId, Space>,
    recorder: Recorder,
    verdict: Verdict,
    progress: Progress,
    /// What was learned about the mapping a call makes, to be recorded after the call.
    late: Option<Event>,
    /// Why nothing can be traced at all, if so.
    fatal: Option<String>,
}

/// What a finished run leaves.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) fatal: Option<String>,
    pub(crate) recorded: anyhow::Result<()>,
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
        let names = if crate::kernel::names_anonymous_memory() {
            AnonymousNames::Supported
        } else {
            AnonymousNames::Absent
        };
        let mut session = Self {
            mirror: Mirror::default(),
            files: FileTable::new(1),
            names,
            spaces: HashMap::new(),
            recorder,
            verdict: Verdict {
                program,
                processes: 1,
                ..Verdict::default()
            },
            progress,
            late: None,
            fatal: None,
        };
        session.learn(Event::System(facts::system()?));
        Ok(session)
    }

    /// Ends the run.
    pub(crate) fn finish(self) -> Outcome {
        self.progress.finish();
        Outcome {
            verdict: self.verdict,
            fatal: self.fatal,
            recorded: self.recorder.finish(),
        }
    }

    /// Applies an event to the model and records it.
    fn learn(&mut self, event: Event) -> bool {
        let applied = self.mirror.apply(&event);
        self.recorder.event(&event);
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

    // ----- what the kernel knows and `maps` does not show ------------------------------------

    /// Asks which of the mappings that can decide a call were written, and tells the model of
    /// those that are news. Says whether there were any.
    fn learn_writes(&mut self, mm: MmId, ranges: &Ranges) -> bool {
        let candidates = match ranges {
            Ranges::Near(ranges) => self.mirror.unwritten_near(mm, ranges),
            Ranges::All => self.mirror.unwritten(mm),
        };
        let Some(space) = self.spaces.get(&mm) else {
            return false;
        };
        let pages = observe::written_pages(&space.handles, &candidates);
        for &addr in &pages {
            self.verdict.learned.writes += 1;
            self.learn(Event::Write { mm, addr });
        }
        !pages.is_empty()
    }

    /// Lets the model's stacks grow to where the kernel's have. Says whether any did.
    fn learn_stacks(&mut self, mm: MmId) -> bool {
        let Some(space) = self.spaces.get(&mm) else {
            return false;
        };
        let grown: Vec<u64> = self
            .mirror
            .stacks(mm)
            .into_iter()
            .filter_map(|(start, end)| {
                let kernel_start = observe::start_of_mapping(&space.handles, end - 1)?;
                (kernel_start < start).then_some(kernel_start)
            })
            .collect();
        for &addr in &grown {
            self.verdict.learned.stack_growths += 1;
            self.learn(Event::Write { mm, addr });
        }
        !grown.is_empty()
    }

    /// Reads the rights of a thread again before a call that asks for them.
    fn learn_rights(&mut self, place: Place, call: &Call) {
        const LOWEST: u64 = 1 << 20;
        let asks = match *call {
            Call::Mlock { .. } | Call::Mlock2 { .. } | Call::Mlockall { .. } => true,
            Call::Mmap { addr, flags, .. } => {
                flags & libc::MAP_LOCKED as u64 != 0
                    || flags & libc::MAP_FIXED as u64 != 0 && addr < LOWEST
            }
            _ => false,
        };
        if !asks {
            return;
        }
        if let Ok(capabilities) = facts::capabilities(place.tid)
            && self.mirror.capabilities(place.mm) != Some(capabilities)
        {
            self.verdict.learned.limits += 1;
            self.learn(Event::Capabilities {
                mm: place.mm,
                capabilities,
            });
        }
    }

    /// The kernel draws the start of a search below 2 GiB anew each time, up to 32 MiB above
    /// 1 GiB. The result tells as much of it as can be told.
    fn learn_low_base(&mut self, mm: MmId, call: &Call, result: i64) {
        const HIGHEST: u64 = 0x4200_0000;
        let Call::Mmap { flags, .. } = *call else {
            return;
        };
        let low = flags & libc::MAP_32BIT as u64 != 0 && flags & libc::MAP_FIXED as u64 == 0;
        if let (true, Some(addr)) = (low, address(result)) {
            self.verdict.learned.limits += 1;
            self.learn(Event::LowBase {
                mm,
                addr: addr.min(HIGHEST),
            });
        }
    }

    fn learn_limits(&mut self, place: Place) {
        if let Ok(limits) = facts::limits(place.tid)
            && self.mirror.limits(place.mm) != Some(limits)
        {
            self.verdict.learned.limits += 1;
            self.learn(Event::Limits {
                mm: place.mm,
                limits,
            });
        }
    }

    /// Replaces a descriptor by the identity of its open file.
    fn bind_file(&mut self, place: Place, call: Call, fd: Option<i32>) -> Call {
        let (
            Call::Mmap {
                addr,
                len,
                prot,
                flags,
                offset,
                ..
            },
            Some(fd),
        ) = (call, fd)
        else {
            return call;
        };
        let file = match self.files.identify(place.tid, fd) {
            Identified::Bad => CallFile::Bad,
            Identified::Known(id) => CallFile::Open(id),
            Identified::New(facts) => {
                let id = facts.id;
                self.verdict.learned.files += 1;
                self.learn(Event::File(facts));
                CallFile::Open(id)
            }
        };
        Call::Mmap {
            addr,
            len,
            prot,
            flags,
            offset,
            file,
        }
    }

    /// The kernel's own words about the file of a new mapping: identity, not prediction.
    fn learn_identity(&mut self, mm: MmId, call: &Call, result: i64) {
        let Call::Mmap { .. } = call else { return };
        let Some(addr) = address(result) else { return };
        let Some(known) = self.mirror.file_at(mm, addr) else {
            return;
        };
        let shared_anonymous = Mirror::is_shared_anonymous(known.id);
        // Its inode is learned once: a later change would be a divergence.
        let told = if shared_anonymous {
            known.inode != 0
        } else {
            self.files.is_confirmed(known.id)
        };
        if told {
            return;
        }
        let Some(space) = self.spaces.get(&mm) else {
            return;
        };
        let Some(kernel) = observe::mapping_at(&space.handles, addr) else {
            return;
        };
        let (device, inode, name) = (kernel.device, kernel.inode, kernel.name);
        let same = (known.device, known.inode, &known.name) == (device, inode, &name);
        let facts = FileFacts {
            device,
            inode,
            name,
            ..known
        };
        if shared_anonymous {
            self.verdict.learned.files += 1;
            let event = Event::SharedInode { mm, addr, facts };
            // It speaks of a mapping that the call makes: recorded after the call.
            self.mirror.apply(&event).unwrap_or_default();
            self.late = Some(event);
            return;
        }
        self.files.confirm(facts.id);
        if !same {
            self.learn(Event::File(facts));
        }
    }

    /// Learns names of files that were renamed or deleted, if that is all that differs.
    fn learn_names(&mut self, mm: MmId, kernel: &str, model: &str) -> bool {
        let Some(renamed) = compare::renamed(kernel, model) else {
            return false;
        };
        let mut learned = false;
        for line in renamed {
            let Some(known) = self.mirror.file_at(mm, line.start) else {
                return false;
            };
            if known.name != line.name {
                self.verdict.learned.renames += 1;
                learned |= self.learn(Event::File(FileFacts {
                    name: line.name,
                    ..known
                }));
            }
        }
        learned
    }

    // ----- a call ----------------------------------------------------------------------------

    fn predict(&mut self, mm: MmId, call: Call) -> Option<UnderWay> {
        /// News can lead to other neighbours, whose writes are news again.
        const ROUNDS: usize = 4;
        let mut asked = BTreeSet::new();
        let mut round = 0;
        loop {
            round += 1;
            let before = self.mirror.save(mm)?;
            let old_break = self.mirror.brk(mm).unwrap_or(0);
            let predicted = self.mirror.call(mm, &call)?;
            let near = ranges_of(&call, predicted, old_break);
            if round == ROUNDS || !asked.insert(near.clone()) {
                return Some(UnderWay {
                    call,
                    before,
                    predicted,
                    near,
                });
            }
            let after = self.mirror.replace(mm, before)?;
            if !self.learn_writes(mm, &near) {
                let before = self.mirror.replace(mm, after)?;
                return Some(UnderWay {
                    call,
                    before,
                    predicted,
                    near,
                });
            }
        }
    }

    fn enter_call(&mut self, place: Place, call: Call) {
        self.learn_rights(place, &call);
        self.learn_stacks(place.mm);
        let Some(under_way) = self.predict(place.mm, call) else {
            return;
        };
        if let Some(space) = self.spaces.get_mut(&place.mm) {
            space.pending = Some(Pending::Call(under_way));
        }
    }

    fn finish_call(&mut self, place: Place, under_way: UnderWay, result: i64) {
        let UnderWay {
            call,
            before,
            mut predicted,
            near,
        } = under_way;
        let mm = place.mm;
        if RESTARTS.contains(&result) {
            self.mirror.replace(mm, before);
            return;
        }
        self.verdict.count_call(call.kind());
        self.late = None;
        self.learn_identity(mm, &call, result);
        let mut seen = self.compare(mm, &near);
        if predicted != result || seen.is_different() {
            // Another thread may have written, or a stack grown, after the kernel was asked.
            self.mirror.replace(mm, before);
            self.late = None;
            self.learn_stacks(mm);
            self.learn_writes(mm, &near);
            self.learn_low_base(mm, &call, result);
            predicted = self.mirror.call(mm, &call).unwrap_or(predicted);
            self.learn_identity(mm, &call, result);
            seen = self.compare(mm, &near);
        }
        self.recorder.event(&Event::Call { mm, call, result });
        if let (Call::Brk { .. }, Some(space)) = (call, self.spaces.get_mut(&mm)) {
            space.layout.brk = result.cast_unsigned();
        }
        if let Some(event) = self.late.take() {
            self.recorder.event(&event);
        }
        self.conclude(
            place,
            &Compared {
                call: call.to_string(),
                predicted,
                result,
            },
            seen,
        );
        let mirror = &self.mirror;
        self.files.retain(|id| mirror.is_mapped(id));
    }

    /// Compares everything where no call changed anything.
    fn look(&mut self, place: Place, what: &str) {
        if self
            .spaces
            .get(&place.mm)
            .is_none_or(|space| space.pending.is_some())
        {
            return;
        }
        let mut seen = self.compare_all(place.mm);
        if seen.is_different() && self.learn_stacks(place.mm) {
            seen = self.compare_all(place.mm);
        }
        let compared = Compared {
            call: what.to_owned(),
            predicted: 0,
            result: 0,
        };
        self.conclude(place, &compared, seen);
    }

    /// Counts a comparison, and reports and repairs a divergence.
    fn conclude(&mut self, place: Place, compared: &Compared, seen: Comparison) {
        let (kernel, model, text) = match seen {
            Comparison::Gone => return,
            Comparison::Same(text) => (String::new(), String::new(), text),
            Comparison::Different { kernel, model } => (kernel, model, None),
        };
        self.verdict.comparisons += 1;
        self.verdict.peak_vmas = self.verdict.peak_vmas.max(self.mirror.vma_count(place.mm));
        let lines = differing_lines(&kernel, &model);
        if lines.is_empty() && compared.predicted == compared.result {
            if let Some(text) = text {
                self.recorder.event(&Event::State { mm: place.mm, text });
            }
            return;
        }
        self.verdict.diverged(Divergence {
            process: place.tid,
            comparison: self.verdict.comparisons,
            call: compared.call.clone(),
            predicted: result_text(compared.predicted),
            actual: result_text(compared.result),
            lines,
        });
        self.resync(place);
    }

    /// Compares the whole text, or in a very large address space the mappings around `near`.
    fn compare(&mut self, mm: MmId, near: &Ranges) -> Comparison {
        let count = self.mirror.vma_count(mm);
        let Some(space) = self.spaces.get_mut(&mm) else {
            return Comparison::Gone;
        };
        space.calls_since_full += 1;
        if count > ORDINARY_VMAS
            && space.calls_since_full < FULL_EVERY
            && let Ranges::Near(near) = near
        {
            return compare::neighbourhood(&self.mirror, mm, &space.handles, near);
        }
        self.compare_all(mm)
    }

    fn compare_all(&mut self, mm: MmId) -> Comparison {
        let Some(space) = self.spaces.get_mut(&mm) else {
            return Comparison::Gone;
        };
        space.calls_since_full = 0;
        let Ok(kernel) = observe::maps_text(&space.handles) else {
            return Comparison::Gone;
        };
        let Some(mut model) = self.mirror.text(mm) else {
            return Comparison::Gone;
        };
        if kernel.is_empty() {
            return Comparison::Gone;
        }
        if kernel != model && self.learn_names(mm, &kernel, &model) {
            model = self.mirror.text(mm).unwrap_or_default();
        }
        if kernel == model {
            Comparison::Same(Some(kernel))
        } else {
            Comparison::Different { kernel, model }
        }
    }

    // ----- starting and repairing ------------------------------------------------------------

    fn begin(&mut self, place: Place) -> anyhow::Result<()> {
        let handles = Handles::open(place.tid)?;
        let mut memory = Collector {
            session: self,
            handles: &handles,
            exec_files: HashMap::new(),
        };
        let facts = facts::at_exec(place, &mut memory)?;
        self.install(handles, facts)
    }

    fn install(&mut self, handles: Handles, facts: StartFacts) -> anyhow::Result<()> {
        let (mm, layout) = (facts.mm, facts.layout);
        let event = Event::Start(Box::new(facts));
        self.recorder.event(&event);
        self.mirror.apply(&event)?;
        self.spaces.insert(
            mm,
            Space {
                handles,
                layout,
                pending: None,
                calls_since_full: 0,
            },
        );
        Ok(())
    }

    /// Makes the model follow the kernel after something it could not predict.
    fn resync(&mut self, place: Place) {
        let Some(space) = self.spaces.remove(&place.mm) else {
            return;
        };
        let Space {
            handles, layout, ..
        } = space;
        let mut memory = Collector {
            session: self,
            handles: &handles,
            exec_files: HashMap::new(),
        };
        let facts = facts::at_resync(place, &mut memory, layout);
        let done = facts.and_then(|facts| self.install(handles, facts));
        if let Err(error) = done {
            self.forget(
                place.mm,
                &format!("an address space could not be read again: {error:#}"),
            );
            return;
        }
        if let Comparison::Same(Some(text)) = self.compare_all(place.mm) {
            self.recorder.event(&Event::State { mm: place.mm, text });
        }
    }

    fn forget(&mut self, mm: MmId, why: &str) {
        self.spaces.remove(&mm);
        self.mirror.remove(mm);
        self.verdict.count_not_modelled(why);
    }

    fn fork_call(&mut self, place: Place, child: Place) {
        let Some(Pending::Fork { before }) = self.take_pending(place.mm) else {
            return;
        };
        self.verdict.count_call(CallKind::Fork);
        if let Err(error) = self.fork_model(place, child, before) {
            self.note(format!("{error:#}"));
            self.forget(child.mm, "a fork that could not be followed");
        }
    }

    fn fork_model(&mut self, place: Place, child: Place, before: Saved) -> anyhow::Result<()> {
        let space = self
            .spaces
            .get(&place.mm)
            .context("the parent is not mirrored")?;
        let layout = space.layout;
        let handles = Handles::open(child.tid)?;
        self.mirror.fork(place.mm, child.mm)?;
        let space = Space {
            handles,
            layout,
            pending: None,
            calls_since_full: 0,
        };
        self.spaces.insert(child.mm, space);
        if self.learn_from_child(place, child, before) {
            self.mirror.fork(place.mm, child.mm)?;
        }
        self.recorder.event(&Event::Fork {
            parent: place.mm,
            child: child.mm,
        });
        let both = [
            (place, "fork(), seen in the parent"),
            (child, "fork(), seen in the child"),
        ];
        for (place, what) in both {
            self.look(place, what);
        }
        Ok(())
    }

    /// A child has not run yet: private pages it has came from its parent, where they may have
    /// been written after the kernel was asked. If so the parent is put back before the fork, the
    /// writes are learned, and the fork must be done again.
    fn learn_from_child(&mut self, place: Place, child: Place, before: Saved) -> bool {
        let candidates = self.mirror.unwritten(child.mm);
        let Some(space) = self.spaces.get(&child.mm) else {
            return false;
        };
        let pages = observe::written_pages(&space.handles, &candidates);
        if pages.is_empty() && !self.compare_all(child.mm).is_different() {
            return false;
        }
        self.mirror.replace(place.mm, before);
        for addr in pages {
            self.verdict.learned.writes += 1;
            self.learn(Event::Write { mm: place.mm, addr });
        }
        self.learn_stacks(place.mm);
        true
    }

    fn take_pending(&mut self, mm: MmId) -> Option<Pending> {
        self.spaces.get_mut(&mm)?.pending.take()
    }
}

/// What was compared, for the report.
struct Compared {
    call: String,
    predicted: i64,
    result: i64,
}

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

fn ranges_of(call: &Call, result: i64, old_break: u64) -> Ranges {
    const PAGE: u64 = 4096;
    match call {
        Call::Mlockall { .. } | Call::Munlockall => Ranges::All,
        Call::Brk { addr } => {
            // Its neighbours at both the old and the new end.
            let (low, high) = (old_break.min(*addr).max(PAGE), old_break.max(*addr));
            if *addr == 0 {
                Ranges::Near(Vec::new())
            } else {
                Ranges::Near(vec![(low - PAGE, high)])
            }
        }
        _ => Ranges::Near(call.ranges(address(result))),
    }
}

/// Answers the questions of [`facts`] while an address space is read.
struct Collector<'a> {
    session: &'a mut Session,
    handles: &'a Handles,
    exec_files: HashMap<((u32, u32), u64), u64>,
}

impl Memory for Collector<'_> {
    fn file(&mut self, place: Place, line: &MapLine) -> u64 {
        // After a resync the model still knows which open file it was. The objects it named itself
        // get a name of ours, by their inode: a replay may count them differently.
        if let Some(known) = self.session.mirror.file_at(place.mm, line.start)
            && !Mirror::is_shared_anonymous(known.id)
            && known.inode == line.inode
            && known.device == line.device
        {
            return known.id;
        }
        if let Some(&id) = self.exec_files.get(&(line.device, line.inode)) {
            return id;
        }
        let facts = self.session.files.unopened(line);
        let id = facts.id;
        self.exec_files.insert((line.device, line.inode), id);
        self.session.learn(Event::File(facts));
        id
    }

    fn is_written(&mut self, place: Place, line: &MapLine) -> bool {
        self.session.mirror.is_written_at(place.mm, line.start)
            || !observe::written_pages(self.handles, &[(line.start, line.end)]).is_empty()
    }

    fn page_offset(&self, mm: MmId, line: &MapLine) -> Option<u64> {
        self.session.mirror.page_offset_at(mm, line.start)
    }
}

impl Watcher for Session {
    fn classify(&mut self, place: Place, tag: u32, registers: &Registers) -> Handling {
        let mirrored = self.spaces.contains_key(&place.mm);
        if is_foreign(tag) {
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
            Request::Memory(..) | Request::NotModelled(_) => Handling::Exclusive,
            Request::Limits => Handling::Observe,
            Request::Exec => {
                self.look(place, "before exec");
                Handling::Ignore
            }
            Request::Harmless => Handling::Ignore,
        }
    }

    fn enter(&mut self, place: Place, registers: &Registers) {
        if !self.spaces.contains_key(&place.mm) {
            return;
        }
        let request = match ptrace::is_64_bit(place.tid) {
            true => decode::request(place.tid, registers, self.names),
            false => Request::NotModelled("a 32-bit call"),
        };
        let pending = match request {
            Request::Memory(call, fd) => {
                let call = self.bind_file(place, call, fd);
                return self.enter_call(place, call);
            }
            Request::Fork => {
                self.learn_stacks(place.mm);
                self.learn_writes(place.mm, &Ranges::All);
                let Some(before) = self.mirror.save(place.mm) else {
                    return;
                };
                Pending::Fork { before }
            }
            Request::NotModelled(name) => Pending::NotModelled(name),
            _ => Pending::NotModelled("a call through another entry"),
        };
        if let Some(space) = self.spaces.get_mut(&place.mm) {
            space.pending = Some(pending);
        }
    }

    fn leave(&mut self, place: Place, result: i64) {
        match self.take_pending(place.mm) {
            Some(Pending::Call(under_way)) => self.finish_call(place, under_way, result),
            Some(Pending::NotModelled(name)) => {
                self.verdict.count_not_modelled(name);
                self.recorder.event(&Event::NotModelled {
                    mm: place.mm,
                    name: name.to_owned(),
                });
                self.resync(place);
            }
            // A fork the kernel refused changes nothing.
            Some(Pending::Fork { .. }) => {}
            None => {
                if self.spaces.contains_key(&place.mm) {
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
        })) = self.take_pending(place.mm)
        else {
            return;
        };
        // Killed inside: the call either took place as predicted or not at all.
        match self.compare_all(place.mm) {
            Comparison::Same(_) => {
                self.recorder.event(&Event::Call {
                    mm: place.mm,
                    call,
                    result: predicted,
                });
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

    fn exec(&mut self, place: Place) {
        self.verdict.execs += 1;
        if !ptrace::is_64_bit(place.tid) {
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
        match self.begin(place) {
            Ok(()) => {
                self.verdict.count_call(CallKind::Exec);
                self.look(place, "exec, the first look");
            }
            Err(error) => {
                let why = format!("{error:#}");
                self.forget(place.mm, "a program whose address space could not be read");
                self.note(why);
            }
        }
    }

    fn ending(&mut self, place: Place) {
        self.look(place, "at exit");
    }

    fn gone(&mut self, mm: MmId) {
        if self.spaces.remove(&mm).is_some() {
            self.learn(Event::Gone { mm });
            let mirror = &self.mirror;
            self.files.retain(|id| mirror.is_mapped(id));
        }
    }

    fn spawned(&mut self, sharing: Option<Sharing>) {
        match sharing {
            Some(Sharing::Thread) => self.verdict.threads += 1,
            Some(Sharing::Process) | None => self.verdict.processes += 1,
        }
    }

    fn tick(&mut self) {
        let calls = self.verdict.comparisons;
        self.progress
            .show(calls, self.verdict.processes, self.verdict.divergences);
    }
}
