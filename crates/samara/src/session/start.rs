//! Where address spaces come from: exec, fork, and a second look after a surprise.

use std::collections::HashMap;

use anyhow::Context;

use super::call::LINES_AT_ONCE;
use super::past::Past;
use super::{Leaving, Pending, Ranges, Session, Space};
use crate::call::CallKind;
use crate::compare::Comparison;
use crate::engine::{MmId, Place};
use crate::event::{Event, StartFacts};
use crate::facts::{self, Handles, Memory};
use crate::kernel;
use crate::mirror::{Mirror, Saved};
use crate::observe;
use crate::procfs::MapLine;
use crate::ptrace::Tid;

impl Session {
    /// Mirrors a new program; `left` is what its task had asked of the address space it left.
    pub(super) fn begin(&mut self, place: Place, left: Option<Leaving>) -> anyhow::Result<()> {
        let handles = Handles::open(place.tid)?;
        let mut memory = Collector {
            session: self,
            handles: &handles,
            exec_files: HashMap::new(),
        };
        let facts = facts::at_exec(place, &mut memory)?;
        self.install(place.tid, handles, facts)?;
        // The first program's was asked by whoever runs us.
        let process = left.map_or_else(kernel::own_process, |left| left.process);
        let process = process.of_program();
        if let Some(space) = self.spaces.get_mut(&place.mm) {
            space.unseen = left.and_then(|left| left.unseen);
        }
        let facts = facts::process(place.tid, process.flags.bits())?;
        self.learn(&Event::Process {
            mm: place.mm,
            facts,
        });
        Ok(())
    }

    /// Mirrors a program that has been running for a while.
    pub(super) fn begin_joined(&mut self, place: Place) -> anyhow::Result<()> {
        let handles = Handles::open(place.tid)?;
        let mut memory = Collector {
            session: self,
            handles: &handles,
            exec_files: HashMap::new(),
        };
        let facts = facts::at_join(place, &mut memory)?;
        self.install(place.tid, handles, facts)?;
        let facts = facts::process(place.tid, 0)?;
        self.has_personality = facts.personality != 0;
        let mm = place.mm;
        self.learn(&Event::Process { mm, facts });
        if let Some(space) = self.spaces.get_mut(&mm) {
            space.past = Past::Unknown;
        }
        Ok(())
    }

    pub(super) fn install(
        &mut self,
        tid: Tid,
        handles: Handles,
        facts: StartFacts,
    ) -> anyhow::Result<()> {
        let (mm, layout) = (facts.mm, facts.layout);
        let event = Event::Start(Box::new(facts));
        self.recorder.event(&event);
        self.mirror.apply(&event)?;
        self.spaces.insert(
            mm,
            Space {
                handles,
                tid,
                layout,
                pending: None,
                lines_left: LINES_AT_ONCE,
                past: Past::Known,
                unordered: Vec::new(),
                unwitnessed: Vec::new(),
                unseen: None,
                is_blurred: false,
            },
        );
        Ok(())
    }

    /// Looks at an address space through one of `others` from now on, if it was looked at through
    /// the task that has left: `/proc` shows what a task uses, and others may use it longer.
    pub(super) fn keep_sight(&mut self, left: Place, others: &[Tid]) {
        let space = self.spaces.get_mut(&left.mm);
        let Some(space) = space.filter(|space| space.tid == left.tid) else {
            return;
        };
        // Whose exec is under way may have other memory by now, and not have said so.
        let (leave, stay): (Vec<Tid>, Vec<Tid>) = others
            .iter()
            .partition(|tid| self.leaving.contains_key(tid));
        for &tid in stay.iter().chain(&leave) {
            if let Ok(handles) = Handles::open(tid)
                && observe::is_in_sight(&handles)
            {
                (space.handles, space.tid) = (handles, tid);
                return;
            }
        }
    }

    /// Makes the model follow the kernel after something it could not predict.
    pub(super) fn resync(&mut self, place: Place) {
        let Some(space) = self.spaces.remove(&place.mm) else {
            return;
        };
        let Space {
            handles,
            tid,
            layout,
            past,
            unordered,
            unwitnessed,
            unseen,
            ..
        } = space;
        let mut memory = Collector {
            session: self,
            handles: &handles,
            exec_files: HashMap::new(),
        };
        let facts = facts::at_resync(place, &mut memory, layout);
        let done = facts.and_then(|facts| self.install(tid, handles, facts));
        let done = done.and_then(|()| {
            let process = self.mirror.process_of(place.mm).unwrap_or_default();
            let facts = facts::process(place.tid, process.flags.bits())?;
            let mm = place.mm;
            self.learn(&Event::Process { mm, facts });
            let is_blurred = self.is_changed_from_elsewhere(mm);
            if let Some(space) = self.spaces.get_mut(&mm) {
                space.past = past;
                space.unordered = unordered;
                space.unwitnessed = unwitnessed;
                space.unseen = unseen;
                space.is_blurred = is_blurred;
            }
            Ok(())
        });
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

    pub(super) fn forget(&mut self, mm: MmId, why: &str) {
        self.spaces.remove(&mm);
        self.mirror.remove(mm);
        self.verdict.count_not_modelled(why);
    }

    pub(super) fn fork_call(&mut self, place: Place, child: Place) {
        let Some(Pending::Fork { before }) = self.take_pending(place) else {
            // Not through the ordinary entry: the child is not mirrored, and the verdict says so.
            self.verdict
                .count_not_modelled("a fork through the 32-bit or x32 entry");
            return;
        };
        self.verdict.count_call(CallKind::Fork);
        if let Err(error) = self.fork_model(place, child, before) {
            self.note(format!("{error:#}"));
            self.forget(child.mm, "a fork that could not be followed");
        }
    }

    pub(super) fn fork_model(
        &mut self,
        place: Place,
        child: Place,
        before: Saved,
    ) -> anyhow::Result<()> {
        let space = self
            .spaces
            .get(&place.mm)
            .context("the parent is not mirrored")?;
        let (layout, past, unordered) = (space.layout, space.past, space.unordered.clone());
        let (unwitnessed, unseen) = (space.unwitnessed.clone(), space.unseen);
        let handles = Handles::open(child.tid)?;
        self.mirror.fork(place.mm, child.mm)?;
        let space = Space {
            handles,
            tid: child.tid,
            layout,
            pending: None,
            lines_left: LINES_AT_ONCE,
            past,
            unordered,
            unwitnessed,
            unseen,
            is_blurred: false,
        };
        self.spaces.insert(child.mm, space);
        if self.learn_from_child(place, child, before) {
            self.mirror.fork(place.mm, child.mm)?;
        }
        self.recorder.event(&Event::Fork {
            parent: place.mm,
            child: child.mm,
        });
        self.learn_limits(child);
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
    pub(super) fn learn_from_child(&mut self, place: Place, child: Place, before: Saved) -> bool {
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
            self.learn(&Event::Write { mm: place.mm, addr });
        }
        self.learn_stacks(place.mm, &Ranges::All);
        true
    }
}

/// Answers the questions of [`facts`] while an address space is read.
struct Collector<'a> {
    session: &'a mut Session,
    handles: &'a Handles,
    /// By device, inode and, for attaches of a segment, where the attach begins.
    exec_files: HashMap<((u32, u32), u64, u64), u64>,
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
        let attach = if line.name.starts_with("/SYSV") {
            line.start.wrapping_sub(line.offset)
        } else {
            0
        };
        let file = (line.device, line.inode, attach);
        if let Some(&id) = self.exec_files.get(&file) {
            return id;
        }
        let facts = self.session.files.unopened(place.tid, line);
        let id = facts.id;
        self.exec_files.insert(file, id);
        self.session.learn(&Event::File(facts));
        id
    }

    fn is_written(&mut self, place: Place, line: &MapLine) -> bool {
        let range = (line.start, line.end);
        self.session.mirror.is_written_at(place.mm, line.start)
            || !observe::written_pages(self.handles, &[range]).is_empty()
            // LINUX: anonymous memory was prepared for pages when it got its guards.
            || !line.has_file() && observe::is_guarded(self.handles, range)
    }

    fn page_offset(&self, mm: MmId, line: &MapLine) -> Option<u64> {
        self.session.mirror.page_offset_at(mm, line.start)
    }
}
