//! What the kernel knows and `maps` does not show: who wrote, how stacks grew, which file it is.

use super::{Ranges, Session, address};
use crate::call::Call;
use crate::compare;
use crate::engine::{MmId, Place};
use crate::event::{Event, FileFacts, ProcessFacts, SystemFacts};
use crate::facts;
use crate::mirror::Mirror;
use crate::observe;
use maple_mm::abi::PAGE_SIZE;

impl Session {
    /// Asks which of the mappings that can decide a call were written, and tells the model of
    /// those that are news. Says whether there were any.
    pub(super) fn learn_writes(&mut self, mm: MmId, ranges: &Ranges) -> bool {
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
            self.learn(&Event::Write { mm, addr });
        }
        self.note_order(mm, &candidates, &pages);
        !pages.is_empty()
    }

    /// Lets the model's stacks that can decide a call grow to where the kernel's have. Says whether
    /// any did.
    pub(super) fn learn_stacks(&mut self, mm: MmId, ranges: &Ranges) -> bool {
        let stacks = match ranges {
            Ranges::Near(ranges) => self.mirror.stacks_near(mm, ranges),
            Ranges::All => self.mirror.stacks(mm),
        };
        let Some(space) = self.spaces.get(&mm) else {
            return false;
        };
        let grown: Vec<u64> = stacks
            .into_iter()
            .filter_map(|(start, end)| {
                let kernel_start = observe::start_of_mapping(&space.handles, end - 1)?;
                // What it has joined below is no growth.
                let is_free = !self.mirror.is_mapped_at(mm, kernel_start);
                (kernel_start < start && is_free).then_some(kernel_start)
            })
            .collect();
        if !grown.is_empty() {
            // A locked one may have needed a right.
            let tid = space.tid;
            self.learn_capabilities(Place { tid, mm });
        }
        for &addr in &grown {
            self.verdict.learned.stack_growths += 1;
            self.learn(&Event::Write { mm, addr });
        }
        !grown.is_empty()
    }

    /// Lets the stacks of all address spaces grow to where the kernel's are, before limits become
    /// others: they may be another process's. Where a call is under way it comes first.
    pub(super) fn learn_idle_stacks(&mut self) {
        let idle = self
            .spaces
            .iter()
            .filter(|(_, space)| space.pending.is_none());
        let idle: Vec<MmId> = idle.map(|(&mm, _)| mm).collect();
        for mm in idle {
            self.learn_stacks(mm, &Ranges::All);
        }
    }

    /// Reads the rights of a thread again before a call that asks for them.
    pub(super) fn learn_rights(&mut self, place: Place, call: &Call) {
        const LOWEST: u64 = 1 << 20;
        let asks = match *call {
            Call::Mlock { .. } | Call::Mlock2 { .. } | Call::Mlockall { .. } => true,
            Call::Mbind { flags, .. } => flags & maple_mm::abi::MPOL_MF_MOVE_ALL != 0,
            Call::Mmap { addr, flags, .. } => {
                flags & libc::MAP_LOCKED as u64 != 0
                    || flags & libc::MAP_FIXED as u64 != 0 && addr < LOWEST
            }
            Call::Process(call) => call.sets_addresses(),
            _ => false,
        };
        if asks {
            self.learn_capabilities(place);
        }
    }

    /// Reads the rights of a thread again: nothing that the tracer stops at changes them, so any
    /// call may be the first to show that they are others.
    pub(super) fn learn_capabilities(&mut self, place: Place) {
        if let Ok(capabilities) = facts::capabilities(place.tid)
            && self.mirror.capabilities(place.mm) != Some(capabilities)
        {
            self.verdict.learned.limits += 1;
            self.learn(&Event::Capabilities {
                mm: place.mm,
                capabilities,
            });
        }
    }

    /// Reads how a thread is run before a call that depends on it: threads may differ.
    pub(super) fn learn_personality(&mut self, place: Place, call: &Call) {
        let depends = matches!(
            call,
            Call::Mmap { .. }
                | Call::Mprotect { .. }
                | Call::PkeyMprotect { .. }
                | Call::Brk { .. }
                | Call::Process(_)
        );
        if !depends || !self.has_personality {
            return;
        }
        let personality = facts::personality(place.tid);
        let Some(known) = self.mirror.process_facts(place.mm) else {
            return;
        };
        if known.personality != personality {
            let facts = ProcessFacts {
                personality,
                ..known
            };
            let mm = place.mm;
            self.learn(&Event::Process { mm, facts });
        }
    }

    /// The kernel draws the start of a search below 2 GiB anew each time, up to 32 MiB above
    /// 1 GiB. The result tells as much of it as can be told.
    pub(super) fn learn_low_base(&mut self, mm: MmId, call: &Call, result: i64) {
        const HIGHEST: u64 = 0x4200_0000;
        const PAGE: u64 = 4096;
        let Call::Mmap { flags, .. } = *call else {
            return;
        };
        let low = flags & libc::MAP_32BIT as u64 != 0 && flags & libc::MAP_FIXED as u64 == 0;
        // The highest start leaves the least room.
        if low && result == -i64::from(libc::ENOMEM) {
            self.verdict.learned.limits += 1;
            let addr = HIGHEST - PAGE;
            self.learn(&Event::LowBase { mm, addr });
        }
        let Some(result) = address(result).filter(|_| low) else {
            return;
        };
        if let Some(base) = self.mirror.low_base(mm, call, result) {
            self.verdict.learned.limits += 1;
            let addr = base.min(HIGHEST);
            self.learn(&Event::LowBase { mm, addr });
        }
    }

    /// Where searches from above begin shows only in what was placed there: at the start nothing may
    /// lie there, or not any more. What is placed higher than the model thought possible ends there.
    pub(super) fn learn_base(&mut self, mm: MmId, call: &Call, result: i64) {
        let Some(start) = address(result) else {
            return;
        };
        if let Some(addr) = self.mirror.base_above(mm, call, start) {
            self.verdict.learned.limits += 1;
            self.learn(&Event::Base { mm, addr });
        }
    }

    /// Where a call that has failed for want of a page did not find it.
    pub(super) fn missing_page(&self, mm: MmId, call: &Call, results: Results) -> Option<Event> {
        let errno = |errno: i32| results.actual == -i64::from(errno);
        let is_refused = match call {
            Call::Mlock { .. } | Call::Mlock2 { .. } => errno(libc::ENOMEM),
            Call::Madvise { .. } => call.populates().is_some() && errno(libc::EFAULT),
            // What was done before is its result.
            _ => call.populates().is_some() && results.actual != results.predicted,
        };
        if !is_refused {
            return None;
        }
        let handles = &self.spaces.get(&mm)?.handles;
        let addr = observe::first_missing_page(handles, &self.mirror.brought_in(mm, call))?;
        let is_guard = observe::is_guarded(handles, (addr, addr + PAGE_SIZE));
        Some(Event::MissingPage { mm, addr, is_guard })
    }

    /// Tells the model of the guards that a call will meet without a word of it.
    pub(super) fn learn_guards(&mut self, mm: MmId, call: &Call) {
        let (Some(model), Some(space)) = (self.mirror.space(mm), self.spaces.get(&mm)) else {
            return;
        };
        for addr in observe::guards_met(&space.handles, model, call) {
            let is_guard = true;
            self.learn(&Event::MissingPage { mm, addr, is_guard });
        }
    }

    /// Reads again what all others were promised, where that counts: before a call, for the
    /// kernel's sum has the call in it later.
    pub(super) fn learn_promises(&mut self) {
        if self.system.is_some_and(|known| is_strict(&known)) {
            self.learn_settings(Sum::Others);
        }
    }

    /// Reads the settings again that may have been changed since, after a call with this result.
    pub(super) fn learn_system(&mut self, result: i64) {
        let sum = match self.system {
            Some(known) if is_strict(&known) => Sum::AsKnown,
            // What was granted is in the sum, whatever others have; the next call asks again.
            _ if address(result).is_some() => Sum::Nothing,
            _ => Sum::Others,
        };
        self.learn_settings(sum);
    }

    fn learn_settings(&mut self, sum: Sum) {
        let (Some(known), Ok(read)) = (self.system, facts::system()) else {
            return;
        };
        // What was promised to the traced programs is no one else's.
        let ours = self.mirror.committed();
        let facts = SystemFacts {
            max_map_count: read.max_map_count,
            overcommit_mode: read.overcommit_mode,
            overcommit_ratio: read.overcommit_ratio,
            overcommit_pages: read.overcommit_pages,
            admin_reserve_pages: read.admin_reserve_pages,
            user_reserve_pages: read.user_reserve_pages,
            committed_pages: match sum {
                Sum::Others => read.committed_pages.saturating_sub(ours),
                Sum::AsKnown => known.committed_pages,
                Sum::Nothing => 0,
            },
            ..known
        };
        let same_promises = SystemFacts {
            committed_pages: known.committed_pages,
            ..facts
        };
        if facts == known || (same_promises == known && !is_strict(&facts)) {
            return;
        }
        self.verdict.learned.limits += 1;
        self.system = Some(facts);
        self.learn(&Event::System(facts));
    }

    pub(super) fn learn_limits(&mut self, place: Place) {
        if let Ok(limits) = facts::limits(place.tid)
            && self.mirror.limits(place.mm) != Some(limits)
        {
            self.verdict.learned.limits += 1;
            self.learn(&Event::Limits {
                mm: place.mm,
                limits,
            });
        }
    }

    /// The kernel's own words about the file of a new mapping: identity, not prediction.
    pub(super) fn learn_identity(&mut self, mm: MmId, call: &Call, result: i64) {
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
        let Some((kernel, name)) = observe::named_mapping_at(&space.handles, addr) else {
            return;
        };
        let (device, inode) = (kernel.device, kernel.inode);
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
            self.learn(&Event::File(facts));
        }
    }

    /// Learns names of files that were renamed or deleted, if that is all that differs.
    pub(super) fn learn_names(&mut self, mm: MmId, kernel: &str, model: &str) -> bool {
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
                learned |= self.learn(&Event::File(FileFacts {
                    name: line.name,
                    ..known
                }));
            }
        }
        learned
    }
}

/// How a call ended, in the model and in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Results {
    pub(super) predicted: i64,
    pub(super) actual: i64,
}

/// What the kernel's sum of promised pages is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sum {
    /// The model's and all others'.
    Others,
    /// What it was taken for before: the call under way may be part of it.
    AsKnown,
    /// Nothing.
    Nothing,
}

/// Whether the sum of what is promised is bounded.
const fn is_strict(facts: &SystemFacts) -> bool {
    facts.overcommit_mode == 2
}
