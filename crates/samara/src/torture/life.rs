//! One life: a family of processes and their models, and calls made in both one after another.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result, bail};
use maple_mm::abi::{MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, PAGE_SIZE, PROT_READ};
use maple_mm::{AddressSpace, AdvisedRange, FileId, MapsLine, abi};

use super::conditions::{Conditions, Limit};
use super::eyes::{Depth, Eyes, Seen};
use super::guard::{self, Grounds};
use super::kinds::{self, Kinds};
use super::target::{Member, PROTECTED, Pool, Purpose, Raw, Target};
use crate::call::{Call, CallFile, CallKind, Touch, result_text};
use crate::decode::{self, AnonymousNames, Request};
use crate::engine::{MmId, Place};
use crate::event::{Cause, Event, FileFacts, LayoutFacts, SystemFacts};
use crate::facts::{self, Memory};
use crate::files::{FileTable, Identified};
use crate::kernel;
use crate::mirror::Mirror;
use crate::process_call::{ADDRESSES, ProcessCall, Ranges};
use crate::procfs::{self, MapLine};
use crate::ptrace::{Registers, Tid};
use crate::recorder::Recorder;
use crate::verdict::LinePair;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The number of the process, by when it was forked.
    pub(crate) by: u32,
    pub(crate) action: Action,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Call(Raw),
    /// The child gets this number.
    Fork(u32),
    Exit,
    Limit(Limit),
    /// Mappings of one page each are made, until there are so many.
    Fill(usize),
}

impl Step {
    /// A number that differs where steps do.
    pub(crate) fn fingerprint(&self) -> u64 {
        let fold =
            |sum: u64, word: u64| (sum.rotate_left(7) ^ word).wrapping_mul(0xd134_2543_de82_ef95);
        let words = match self.action {
            Action::Call(raw) => {
                let words = [raw.number].into_iter().chain(raw.args).chain(raw.payload);
                words.fold(1, fold)
            }
            Action::Fork(child) => fold(2, child.into()),
            Action::Exit => 3,
            Action::Fill(count) => fold(5, count as u64),
            Action::Limit(limit) => [limit.resource as u64, limit.soft, limit.hard]
                .into_iter()
                .fold(4, fold),
        };
        fold(words, self.by.into())
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.by)?;
        match self.action {
            Action::Call(raw) => raw.fmt(f),
            Action::Fork(child) => write!(f, "fork() makes {child}"),
            Action::Exit => f.write_str("exit"),
            Action::Fill(count) => write!(f, "calls that make {count} mappings"),
            Action::Limit(limit) => write!(f, "prlimit({:?}, {:#x})", limit.resource, limit.soft),
        }
    }
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The model and the kernel agree; what kind of call it was.
    Same(CallKind),
    /// It could not be made: there is no such process, or the call is not made where things stand.
    Skipped,
    Diverged(Difference),
}

/// Where the model and the kernel do not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) pid: Tid,
    pub(crate) call: String,
    pub(crate) predicted: String,
    pub(crate) actual: String,
    pub(crate) lines: Vec<LinePair>,
}

/// What a call means to the model.
enum Meaning {
    Call(Call),
    NotModelled(&'static str),
    /// It is not about memory.
    Nothing,
}

/// One process and what the kernel shows of it.
#[derive(Debug)]
struct Side {
    number: u32,
    member: Member,
    eyes: Eyes,
    /// Calls since its flags were compared.
    since_whole: u32,
}

impl Side {
    const fn mm(&self) -> MmId {
        MmId(self.number)
    }
}

/// A file of the pool as the model knows it.
#[derive(Clone, Copy, Debug)]
struct Known {
    purpose: Purpose,
    descriptor: u64,
    file: CallFile,
}

/// How often flags are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// After every few calls.
    Now,
    /// After every call.
    Closely,
}

/// A life that is being led.
#[derive(Debug)]
pub(crate) struct Life {
    target: Target,
    mirror: Mirror,
    sides: Vec<Side>,
    files: Vec<Known>,
    descriptors: Vec<(Purpose, u64)>,
    recorder: Recorder,
    watch: Watch,
    seen: Seen,
    has_hugetlb_pool: bool,
    grounds: Grounds,
    kinds: Kinds,
}

/// The flags of so many mappings are compared after each call,
pub(crate) const FEW: usize = 32;
/// and of more after every so many.
pub(crate) const FLAGS_EVERY: u32 = 4;
/// Of even more only the neighbourhood of a call is compared,
const MANY: usize = 2000;
/// and everything after every so many.
const ALL_EVERY: u32 = 100;
/// Where many mappings are made.
const FILLED: u64 = 0x40_0000_0000;

impl Life {
    /// Starts a process, and its model.
    ///
    /// # Errors
    ///
    /// If a process can't be started, or does not do what it is told.
    pub(crate) fn start(
        pool: &Pool,
        system: &SystemFacts,
        conditions: &Conditions,
        recorder: Recorder,
    ) -> Result<Self> {
        conditions.lay_out()?;
        let (target, member) = Target::start(pool)?;
        let eyes = Eyes::open(member.pid)?;
        let side = Side {
            number: 0,
            member,
            eyes,
            since_whole: 0,
        };
        let mut life = Self {
            target,
            mirror: Mirror::default(),
            sides: vec![side],
            files: Vec::new(),
            descriptors: Vec::new(),
            recorder,
            watch: Watch::Now,
            seen: Seen::default(),
            has_hugetlb_pool: system.hugetlb_pages > 0,
            grounds: Grounds::default(),
            kinds: Kinds::default(),
        };
        let place = life.place(0);
        let layout = facts::at_exec(place, &mut Nothing)?.layout;
        life.clear(&layout)?;
        life.learn_watchers()?;
        conditions.impose(&mut life.target, &life.sides[0].member)?;
        let pid = life.sides[0].member.pid;
        life.kinds.learn_segments(pid, pool.segments())?;
        life.learn(&Event::PredictReads)?;
        life.learn(&Event::System(*system))?;
        life.learn_files(pool)?;
        let mut start = facts::at_resync(place, &mut Nothing, layout)?;
        start.cause = Cause::Exec;
        life.learn(&Event::Start(Box::new(start)))?;
        let inherited = kernel::own_process().of_program();
        let facts = facts::process(place.tid, inherited.flags.bits())?;
        let mm = place.mm;
        life.learn(&Event::Process { mm, facts })?;
        if let Outcome::Diverged(difference) = life.compare(0, &Compared::look("the beginning"))? {
            bail!("a fresh process is not understood: {difference:?}");
        }
        Ok(life)
    }

    /// Compares flags after every call from now on.
    pub(crate) fn watch_closely(&mut self) {
        self.watch = Watch::Closely;
    }

    /// Completes the recording.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub(crate) fn finish(self) -> Result<()> {
        self.recorder.finish()
    }

    /// The processes that are alive, by their numbers.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.sides.iter().map(|side| side.number)
    }

    /// The model of a process.
    pub(crate) fn space(&self, number: u32) -> Option<&AddressSpace> {
        self.mirror.space(MmId(number))
    }

    /// The descriptors of the pool, and what each is good for.
    pub(crate) fn descriptors(&self) -> &[(Purpose, u64)] {
        &self.descriptors
    }

    /// The userfaultfds that process `number` has for itself.
    pub(crate) fn watchers(&self, number: u32) -> Vec<u64> {
        if number == 0 {
            self.kinds.watchers().collect()
        } else {
            Vec::new()
        }
    }

    /// Whether there is room for one more process.
    pub(crate) fn may_fork(&self) -> bool {
        self.target.may_fork()
    }

    /// The mappings of the largest address space.
    pub(crate) fn peak_vmas(&self) -> usize {
        let counts = self
            .sides
            .iter()
            .map(|side| self.mirror.vma_count(side.mm()));
        counts.max().unwrap_or(0)
    }

    fn place(&self, index: usize) -> Place {
        let side = &self.sides[index];
        Place {
            tid: side.member.pid,
            mm: side.mm(),
        }
    }

    fn learn(&mut self, event: &Event) -> Result<()> {
        self.recorder.event(event);
        self.mirror.apply(event)
    }

    /// The first process makes its userfaultfds, while it may.
    fn learn_watchers(&mut self) -> Result<()> {
        let mut kinds = std::mem::take(&mut self.kinds);
        kinds.make_watchers(|raw| self.kernel(0, raw))?;
        self.kinds = kinds;
        Ok(())
    }

    fn kernel(&mut self, index: usize, raw: &Raw) -> Result<i64> {
        let member = &self.sides[index].member;
        self.target
            .call(member, &self.kinds.real(raw))
            .context("a process to torture ended")
    }

    // ----- the beginning ---------------------------------------------------------------------

    /// Unmaps what the executor does not need: all but its two pages, the stack, and what is the
    /// kernel's own.
    fn clear(&mut self, layout: &LayoutFacts) -> Result<()> {
        self.kernel(0, &Raw::new(libc::SYS_brk, [layout.start_brk]))?;
        let maps = procfs::read(self.sides[0].member.pid, "maps")?;
        let lines = maps.lines().filter_map(MapLine::parse);
        let is_needed = |line: &MapLine| {
            PROTECTED.contains(&line.start) || line.name.starts_with('[') && line.name != "[heap]"
        };
        for line in lines.filter(|line| !is_needed(line)) {
            let range = [line.start, line.end - line.start];
            let result = self.kernel(0, &Raw::new(libc::SYS_munmap, range))?;
            if result != 0 {
                bail!(
                    "{:#x} cannot be unmapped: {}",
                    line.start,
                    result_text(result)
                );
            }
        }
        Ok(())
    }

    /// Makes the pool's files known, each mapped once to see how the kernel names it.
    fn learn_files(&mut self, pool: &Pool) -> Result<()> {
        use std::os::fd::AsRawFd;
        let mut table = FileTable::new(1);
        for (index, (purpose, file)) in pool.iter().enumerate() {
            let descriptor = Target::descriptor(index);
            self.descriptors.push((purpose, descriptor));
            let file = match table.identify(std::process::id() as Tid, file.as_raw_fd()) {
                Identified::New(facts) => {
                    let facts = self.named(facts, descriptor)?;
                    self.learn(&Event::File(facts.clone()))?;
                    CallFile::Open(facts.id)
                }
                Identified::Known(id) => CallFile::Open(id),
                Identified::Bad => CallFile::Bad,
                Identified::NotModelled(why) => bail!("a file of the pool is not modelled: {why}"),
            };
            self.files.push(Known {
                purpose,
                descriptor,
                file,
            });
        }
        Ok(())
    }

    /// A file's facts with the device, the inode and the name that `maps` shows.
    fn named(&mut self, facts: FileFacts, descriptor: u64) -> Result<FileFacts> {
        let private = MAP_PRIVATE;
        let at = self.kernel(
            0,
            &Raw::new(libc::SYS_mmap, [0, 4096, 1, private, descriptor, 0]),
        )?;
        if at < 0 {
            // It is not open for reading, or can't be mapped.
            return Ok(facts);
        }
        let at = at.cast_unsigned();
        let maps = procfs::read(self.sides[0].member.pid, "maps")?;
        self.kernel(0, &Raw::new(libc::SYS_munmap, [at, 4096]))?;
        let mut lines = maps.lines().filter_map(|line| MapsLine::parse(line).ok());
        let line = lines.find(|line| line.start <= at && at < line.end);
        let line = line.context("a mapping is not in maps")?;
        Ok(FileFacts {
            device: line.device,
            inode: line.inode,
            name: line.name.to_owned(),
            ..facts
        })
    }

    // ----- steps -----------------------------------------------------------------------------

    /// What `raw` means to the model.
    fn meaning(&self, raw: &Raw) -> Meaning {
        let number = raw.number.cast_signed();
        if let Some(pointing) = self.kinds.pointing(raw) {
            return pointing.map_or(Meaning::Nothing, Meaning::Call);
        }
        let [a, b, c, ..] = raw.args;
        let touch = |purpose, addr, how| {
            let known = self.files.iter().find(|known| known.descriptor == a);
            match known {
                Some(known) if known.purpose == purpose => Meaning::Call(Call::Touch { addr, how }),
                _ => Meaning::NotModelled("a call on a file of another kind"),
            }
        };
        match number {
            libc::SYS_read => return touch(Purpose::Zero, b, Touch::Write),
            libc::SYS_pwrite64 => return touch(Purpose::Memory, b, Touch::Read),
            libc::SYS_msync => {
                return Meaning::Call(Call::Msync {
                    addr: a,
                    len: b,
                    flags: c & 0xffff_ffff,
                });
            }
            _ => {}
        }
        if let Some(call) = with_payload(raw) {
            return Meaning::Call(Call::Process(call));
        }
        let registers = Registers {
            number: raw.number,
            arguments: raw.args,
            result: 0,
        };
        match decode::request(0, &registers, AnonymousNames::Absent) {
            Request::Memory(call, None) => Meaning::Call(self.kinds.bind(call)),
            Request::Memory(call, Some(descriptor)) => Meaning::Call(self.bind(call, descriptor)),
            Request::NotModelled(_) if number == libc::SYS_mmap && !self.has_hugetlb_pool => {
                // Nobody has pages that could be promised, so it is known who gets any.
                Meaning::Call(unreserved(raw))
            }
            Request::NotModelled(name) => Meaning::NotModelled(name),
            _ => Meaning::NotModelled("a call of another kind"),
        }
    }

    /// Replaces a descriptor by the identity of its open file.
    fn bind(&self, call: Call, descriptor: i32) -> Call {
        let Call::Mmap {
            addr,
            len,
            prot,
            flags,
            offset,
            ..
        } = call
        else {
            return call;
        };
        let is_it = |known: &&Known| i32::try_from(known.descriptor) == Ok(descriptor);
        let known = self.files.iter().find(is_it);
        let file = known.map_or(CallFile::Bad, |known| known.file);
        Call::Mmap {
            addr,
            len,
            prot,
            flags,
            offset,
            file,
        }
    }

    /// Whether `raw` would be made by process `number` as things stand; the name of a call that
    /// the model does not know.
    pub(crate) fn would_make(&self, number: u32, raw: &Raw) -> Result<bool, &'static str> {
        match self.meaning(raw) {
            Meaning::NotModelled(name) => Err(name),
            Meaning::Nothing => Ok(false),
            Meaning::Call(call) => {
                let space = self.space(number);
                Ok(space.is_some_and(|space| guard::allows(space, &self.grounds, &call)))
            }
        }
    }

    /// Makes a step in the kernel and in the model, and compares.
    ///
    /// # Errors
    ///
    /// If a process is gone.
    pub(crate) fn step(&mut self, step: &Step) -> Result<Outcome> {
        let Some(index) = self.sides.iter().position(|side| side.number == step.by) else {
            return Ok(Outcome::Skipped);
        };
        match step.action {
            Action::Call(raw) => match self.meaning(&raw) {
                Meaning::Call(call) => self.call(index, &raw, call),
                Meaning::NotModelled(_) | Meaning::Nothing => Ok(Outcome::Skipped),
            },
            Action::Fork(child) => self.fork(index, child),
            Action::Exit => self.exit(index),
            Action::Limit(limit) => self.limit(index, limit),
            Action::Fill(count) => self.fill(index, count),
        }
    }

    /// Maps pages nobody can touch, and makes every second one readable.
    fn fill(&mut self, index: usize, count: usize) -> Result<Outcome> {
        let mm = self.sides[index].mm();
        let missing = count.saturating_sub(self.mirror.vma_count(mm)) as u64;
        if missing == 0 {
            return Ok(Outcome::Skipped);
        }
        self.grounds.filled = missing;
        for raws in filling(missing).chunks(64) {
            let results = self.target.calls(&self.sides[index].member, raws);
            let results = results.context("a process to torture ended")?;
            for (raw, result) in raws.iter().zip(results) {
                let Meaning::Call(call) = self.meaning(raw) else {
                    continue;
                };
                let predicted = self.mirror.call(mm, &call);
                let predicted = predicted.context("a process without a model")?;
                self.recorder.event(&Event::Call { mm, call, result });
                if predicted != result {
                    let compared = Compared {
                        call: Named::Call(call),
                        predicted,
                        result,
                    };
                    return self.compare(index, &compared);
                }
            }
        }
        self.compare(index, &Compared::look("many mappings"))
    }

    fn call(&mut self, index: usize, raw: &Raw, call: Call) -> Result<Outcome> {
        let mm = self.sides[index].mm();
        let space = self.mirror.space(mm).context("a process without a model")?;
        let is_others = kinds::watching(raw).is_some() && self.sides[index].number != 0;
        if is_others || !guard::allows(space, &self.grounds, &call) {
            return Ok(Outcome::Skipped);
        }
        let result = self.kernel(index, raw)?;
        // A model that breaks its own promises shall not end the run.
        let predicted = catch_unwind(AssertUnwindSafe(|| self.mirror.call(mm, &call)));
        let Ok(predicted) = predicted else {
            return Ok(Outcome::Diverged(Difference {
                pid: self.sides[index].member.pid,
                call: call.to_string(),
                predicted: "a panic".to_owned(),
                actual: result_text(result),
                lines: Vec::new(),
            }));
        };
        let predicted = predicted.context("a process without a model")?;
        self.recorder.event(&Event::Call { mm, call, result });
        if let Call::Mmap { len, .. } = call {
            self.learn_object(index, result, len)?;
        }
        let compared = Compared {
            call: Named::Call(call),
            predicted,
            result,
        };
        self.compare(index, &compared)
    }

    /// The inode of shared memory that a call made is the kernel's to choose; its length is told.
    fn learn_object(&mut self, index: usize, result: i64, len: u64) -> Result<()> {
        let mm = self.sides[index].mm();
        let addr = result.cast_unsigned();
        let known = self.mirror.file_at(mm, addr);
        let Some(known) =
            known.filter(|file| Mirror::is_shared_anonymous(file.id) && file.inode == 0)
        else {
            return Ok(());
        };
        self.grounds
            .objects
            .insert(FileId(known.id), len.div_ceil(4096));
        let maps = procfs::read(self.sides[index].member.pid, "maps")?;
        let mut lines = maps.lines().filter_map(|line| MapsLine::parse(line).ok());
        let Some(line) = lines.find(|line| line.start <= addr && addr < line.end) else {
            return Ok(());
        };
        let facts = FileFacts {
            device: line.device,
            inode: line.inode,
            ..known
        };
        self.learn(&Event::SharedInode { mm, addr, facts })
    }

    fn fork(&mut self, index: usize, number: u32) -> Result<Outcome> {
        let forked = self
            .target
            .fork(&self.sides[index].member)
            .context("a process to torture ended")?;
        let member = match forked {
            None => return Ok(Outcome::Skipped),
            Some(Err(result)) => bail!("the kernel refuses a fork: {}", result_text(result)),
            Some(Ok(member)) => member,
        };
        let eyes = Eyes::open(member.pid)?;
        self.sides.push(Side {
            number,
            member,
            eyes,
            since_whole: FLAGS_EVERY,
        });
        let (parent, child) = (self.sides[index].mm(), MmId(number));
        let event = Event::Fork { parent, child };
        self.recorder.event(&event);
        if let Err(error) = self.mirror.apply(&event) {
            return Ok(Outcome::Diverged(Difference {
                pid: self.sides[index].member.pid,
                call: "fork()".to_owned(),
                predicted: format!("{error:#}"),
                actual: "a child".to_owned(),
                lines: Vec::new(),
            }));
        }
        let child = self.sides.len() - 1;
        let outcome = self.compare(child, &Compared::look("fork(), seen in the child"))?;
        if outcome != Outcome::Same(CallKind::Fork) {
            return Ok(outcome);
        }
        self.compare(index, &Compared::look("fork(), seen in the parent"))
    }

    /// The first process stays: the others are its descendants.
    fn exit(&mut self, index: usize) -> Result<Outcome> {
        if index == 0 {
            return Ok(Outcome::Skipped);
        }
        let side = self.sides.remove(index);
        self.target.end(&side.member)?;
        self.learn(&Event::Gone { mm: side.mm() })?;
        Ok(Outcome::Same(CallKind::Fork))
    }

    fn limit(&mut self, index: usize, limit: Limit) -> Result<Outcome> {
        let result = self.kernel(index, &limit.call())?;
        if result < 0 {
            // Only who may raises a hard limit: that is not about memory.
            return Ok(Outcome::Skipped);
        }
        let side = &self.sides[index];
        let (mm, limits) = (side.mm(), facts::limits(side.member.pid)?);
        self.learn(&Event::Limits { mm, limits })?;
        self.compare(index, &Compared::look("prlimit()"))
    }

    // ----- comparing -------------------------------------------------------------------------

    fn compare(&mut self, index: usize, compared: &Compared) -> Result<Outcome> {
        let depth = self.depth(index, compared);
        let side = &self.sides[index];
        let mm = side.mm();
        let lines = side
            .eyes
            .compare(&depth, (&self.mirror, mm), &mut self.seen)?;
        if self.recorder.is_on() {
            self.record(mm);
        }
        if lines.is_empty() && compared.predicted == compared.result {
            let space = self.mirror.space(mm);
            let space = space.filter(|_| !matches!(depth, Depth::Near(_)));
            let broken = space.and_then(|space| space.validate().err());
            return Ok(match broken {
                None => Outcome::Same(compared.call.kind()),
                Some(violation) => {
                    Outcome::Diverged(self.difference(index, compared, violation.to_string()))
                }
            });
        }
        let mut difference = self.difference(index, compared, result_text(compared.predicted));
        difference.lines = lines;
        Ok(Outcome::Diverged(difference))
    }

    /// How much of a process is compared this time.
    fn depth(&mut self, index: usize, compared: &Compared) -> Depth {
        let count = self.mirror.vma_count(self.sides[index].mm());
        let side = &mut self.sides[index];
        side.since_whole += 1;
        let near = match compared.call {
            Named::Call(call) if count > MANY => call.ranges(u64::try_from(compared.result).ok()),
            _ => Vec::new(),
        };
        if !near.is_empty() && side.since_whole < ALL_EVERY {
            return Depth::Near(near);
        }
        let is_due = count <= FEW || side.since_whole >= FLAGS_EVERY;
        if is_due || self.watch == Watch::Closely {
            side.since_whole = 0;
            Depth::Whole
        } else {
            Depth::Maps
        }
    }

    fn difference(&self, index: usize, compared: &Compared, predicted: String) -> Difference {
        Difference {
            pid: self.sides[index].member.pid,
            call: compared.call.to_string(),
            predicted,
            actual: result_text(compared.result),
            lines: Vec::new(),
        }
    }

    /// Records what was seen, be it the same or not: a replay must find the same.
    fn record(&mut self, mm: MmId) {
        if let Some(text) = self.seen.maps.clone() {
            self.recorder.event(&Event::State { mm, text });
        }
        if let Some(text) = self.seen.flags.clone() {
            self.recorder.event(&Event::Flags { mm, text });
        }
        if let Some(counters) = self.seen.counters {
            self.recorder.event(&Event::Counters { mm, counters });
        }
    }
}

/// What is compared, by its name.
#[derive(Clone, Copy, Debug)]
enum Named {
    Call(Call),
    Look(&'static str),
}

impl Named {
    const fn kind(&self) -> CallKind {
        match self {
            Self::Call(call) => call.kind(),
            Self::Look(_) => CallKind::Fork,
        }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Call(call) => call.fmt(f),
            Self::Look(what) => f.write_str(what),
        }
    }
}

/// A prediction and what came of it.
struct Compared {
    call: Named,
    predicted: i64,
    result: i64,
}

impl Compared {
    const fn look(what: &'static str) -> Self {
        Self {
            call: Named::Look(what),
            predicted: 0,
            result: 0,
        }
    }
}

/// The calls that make so many mappings: one, and every second page of it readable.
fn filling(pages: u64) -> Vec<Raw> {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    let whole = [FILLED, pages * PAGE_SIZE, 0, flags, u64::MAX, 0];
    let every_second = (1..pages).step_by(2).map(|page| {
        let addr = FILLED + page * PAGE_SIZE;
        Raw::new(libc::SYS_mprotect, [addr, PAGE_SIZE, PROT_READ])
    });
    let all = [Raw::new(libc::SYS_mmap, whole)].into_iter();
    all.chain(every_second).collect()
}

/// A mapping of explicitly huge pages, of a pool that is empty.
fn unreserved(raw: &Raw) -> Call {
    let [addr, len, prot, flags, _, offset] = raw.args;
    Call::Mmap {
        addr,
        len,
        prot,
        flags,
        offset,
        file: if crate::call::maps_a_file(flags) {
            CallFile::Bad
        } else {
            CallFile::Anonymous
        },
    }
}

/// Answers for a process that has no files mapped and wrote what is private.
struct Nothing;

impl Memory for Nothing {
    fn file(&mut self, _: Place, _: &MapLine) -> u64 {
        0
    }

    fn is_written(&mut self, _: Place, _: &MapLine) -> bool {
        true
    }

    fn page_offset(&self, _: MmId, _: &MapLine) -> Option<u64> {
        None
    }
}

/// A call whose arguments lie in memory, as `calls::process` makes it.
fn with_payload(raw: &Raw) -> Option<ProcessCall> {
    let [a, b, c, d, ..] = raw.args;
    match raw.number.cast_signed() {
        libc::SYS_process_madvise => {
            let words = raw.payload.chunks_exact(2).take(c as usize);
            let list: Vec<AdvisedRange> = words
                .map(|words| AdvisedRange {
                    addr: words[0],
                    len: words[1],
                })
                .collect();
            let ranges = Ranges::new(&list)?;
            let advice = d as i32;
            Some(ProcessCall::Advise { ranges, advice })
        }
        libc::SYS_prctl if (a, b) == (abi::PR_SET_MM.into(), abi::PR_SET_MM_MAP) => {
            let (addresses, _) = raw.payload.split_first_chunk::<ADDRESSES>()?;
            Some(ProcessCall::Addresses(*addresses))
        }
        _ => None,
    }
}
