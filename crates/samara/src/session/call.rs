//! One call: predicted, carried out by the kernel, compared, and reported if it differs.

use std::collections::BTreeSet;
use std::fmt::Display;

use super::learn::Results;
use super::{Pending, Ranges, Session, UnderWay, address};
use crate::call::{Call, result_text};
use crate::compare::{self, Comparison};
use crate::details;
use crate::engine::{MmId, Place};
use crate::event::Event;
use crate::observe;
use crate::procfs;
use crate::verdict::{Divergence, differing_lines};

/// Results in this range mean that a signal came first and the call will be made again.
const RESTARTS: std::ops::RangeInclusive<i64> = -516..=-512;
/// So many lines of `maps` an address space may have compared at once: enough for all of them
/// after each call of most programs.
pub(super) const LINES_AT_ONCE: usize = 100_000;
/// And so many more for each call of those that go on. Where they don't suffice for a whole text,
/// a comparison looks at the neighbourhood of the call.
const LINES_A_CALL: usize = 2;

/// What was compared, for the report.
pub(super) struct Compared<'a> {
    pub(super) call: &'a dyn Display,
    pub(super) predicted: i64,
    pub(super) result: i64,
}

impl Session {
    pub(super) fn predict(&mut self, mm: MmId, call: Call) -> Option<UnderWay> {
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
            if !(self.learn_stacks(mm, &near) | self.learn_writes(mm, &near)) {
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

    pub(super) fn enter_call(&mut self, place: Place, call: Call) {
        self.learn_promises();
        // Processes that share an address space have limits of their own.
        if self.has_set_limits && self.has_sharers {
            self.learn_limits(place);
        }
        self.learn_rights(place, &call);
        self.learn_personality(place, &call);
        self.learn_closed(place.mm);
        self.learn_guards(place.mm, &call);
        if self.will_compare_all(place.mm) {
            // Those that decide nothing show, too.
            self.learn_stacks(place.mm, &Ranges::All);
        }
        let pending = match self.predict(place.mm, call) {
            Some(under_way) => Pending::Call(under_way),
            None => Pending::NotModelled("a call in an address space without a model"),
        };
        if let Some(space) = self.spaces.get_mut(&place.mm) {
            space.pending = Some((place.tid, pending));
        }
    }

    pub(super) fn finish_call(&mut self, place: Place, under_way: UnderWay, result: i64) {
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
        if let Call::Process(call) = call {
            self.has_personality |= call.sets_personality();
        }
        self.late = None;
        self.learn_identity(mm, &call, result);
        let mut before = before;
        let results = Results {
            predicted,
            actual: result,
        };
        if let Some(missing) = self.missing_page(mm, &call, results) {
            self.mirror.replace(mm, before);
            self.learn(&missing);
            let Some(again) = self.mirror.save(mm) else {
                return;
            };
            before = again;
            predicted = self.mirror.call(mm, &call).unwrap_or(predicted);
        }
        let mut seen = self.compare(mm, &near);
        if predicted != result || seen.is_different() {
            // Another thread may have written, or a stack grown, after the kernel was asked.
            self.mirror.replace(mm, before);
            self.late = None;
            // Or somebody else changed a setting or a limit, or the thread its rights.
            self.learn_system(result);
            self.learn_limits(place);
            self.learn_capabilities(place);
            self.learn_closed(mm);
            self.learn_stacks(mm, &Ranges::All);
            if self.learn_writes(mm, &near) {
                self.note_race(mm);
            }
            self.learn_base(mm, &call, result);
            self.learn_low_base(mm, &call, result);
            self.learn_break(mm, &call, result);
            predicted = self.mirror.call(mm, &call).unwrap_or(predicted);
            self.learn_identity(mm, &call, result);
            seen = self.compare_all(mm);
        }
        if (predicted != result || seen.is_different()) && self.pass_over_unseen(place) {
            return;
        }
        self.recorder.event(&Event::Call { mm, call, result });
        let brk = match call {
            Call::Brk { .. } => Some(result.cast_unsigned()),
            Call::Process(call) if call.sets_addresses() => self.mirror.brk(mm),
            _ => None,
        };
        if let (Some(brk), Some(space)) = (brk, self.spaces.get_mut(&mm)) {
            space.layout.brk = brk;
        }
        if let Some(event) = self.late.take() {
            self.recorder.event(&event);
        }
        self.conclude(
            place,
            &Compared {
                call: &call,
                predicted,
                result,
            },
            seen,
        );
        self.learn_races(mm, &call, &near);
        let mirror = &self.mirror;
        self.files.retain(|id| mirror.is_mapped(id));
    }

    /// Compares everything where no call changed anything.
    pub(super) fn look(&mut self, place: Place, what: &str) {
        if self
            .spaces
            .get(&place.mm)
            .is_none_or(|space| space.pending.is_some())
        {
            return;
        }
        let mut seen = self.compare_all(place.mm);
        if seen.is_different()
            && (self.learn_closed(place.mm) | self.learn_stacks(place.mm, &Ranges::All))
        {
            seen = self.compare_all(place.mm);
        }
        if seen.is_different() && self.pass_over_unseen(place) {
            return;
        }
        let compared = Compared {
            call: &what,
            predicted: 0,
            result: 0,
        };
        self.conclude(place, &compared, seen);
    }

    /// Compares what `smaps` and `status` tell beyond `maps`, where no call changed anything.
    pub(super) fn look_closely(&mut self, place: Place, what: &str) {
        let is_idle = self
            .spaces
            .get(&place.mm)
            .is_some_and(|space| space.pending.is_none());
        // A process that is gone by now is no divergence.
        let (Ok(smaps), Ok(status)) = (
            procfs::read(place.tid, "smaps"),
            procfs::read(place.tid, "status"),
        ) else {
            return;
        };
        let Some(mut model) = self.mirror.details(place.mm).filter(|_| is_idle) else {
            return;
        };
        if smaps.is_empty() {
            return;
        }
        let kernel = details::digest(&smaps, &status);
        // What is no longer watched shows even where nothing merges.
        if kernel != model
            && self.learn_closed(place.mm)
            && let Some(again) = self.mirror.details(place.mm)
        {
            model = again;
        }
        if kernel != model && !observe::has_memory(place.tid) {
            // It was killed meanwhile.
            return;
        }
        self.verdict.comparisons += 1;
        if kernel != model
            && (self.learn_promised(place, &kernel, &model) || self.pass_over_unseen(place))
        {
            return;
        }
        self.recorder.event(&Event::Details {
            mm: place.mm,
            text: kernel.clone(),
        });
        if kernel == model {
            return;
        }
        self.verdict.diverged(Divergence {
            process: place.tid,
            comparison: self.verdict.comparisons,
            call: what.to_owned(),
            predicted: result_text(0),
            actual: result_text(0),
            lines: differing_lines(&kernel, &model),
        });
        self.resync(place);
    }

    /// Counts a comparison, and reports and repairs a divergence.
    fn conclude(&mut self, place: Place, compared: &Compared<'_>, seen: Comparison) {
        if self.learn_borders(place, compared, &seen) {
            return;
        }
        let (text, lines) = match seen {
            Comparison::Gone => return self.count_unseen(place),
            Comparison::Same(text) => (text, Vec::new()),
            Comparison::Different { kernel, model } => {
                let lines = differing_lines(&kernel, &model);
                (Some(kernel), lines)
            }
        };
        self.verdict.comparisons += 1;
        self.verdict.of_neighbourhoods += u64::from(text.is_none());
        self.verdict.peak_vmas = self.verdict.peak_vmas.max(self.mirror.vma_count(place.mm));
        // Also where it differs: a replay must find the same.
        if let Some(text) = text {
            self.recorder.event(&Event::State { mm: place.mm, text });
        }
        if lines.is_empty() && compared.predicted == compared.result {
            return;
        }
        self.verdict.diverged(Divergence {
            process: place.tid,
            comparison: self.verdict.comparisons,
            call: compared.call.to_string(),
            predicted: result_text(compared.predicted),
            actual: result_text(compared.result),
            lines,
        });
        self.resync(place);
    }

    /// Counts a comparison that could not be made. Nobody misses the outcome of a call in which its
    /// task was killed with all others.
    fn count_unseen(&mut self, place: Place) {
        if observe::has_memory(place.tid) {
            let unseen = "a call whose outcome could not be looked at";
            self.verdict.count_not_modelled(unseen);
        }
    }

    /// Whether the whole text will be compared after the next call.
    fn will_compare_all(&self, mm: MmId) -> bool {
        let count = self.mirror.vma_count(mm);
        let space = self.spaces.get(&mm);
        space.is_some_and(|space| space.lines_left + LINES_A_CALL >= count)
    }

    /// Compares the whole text, or where that would take too long the mappings around `near`.
    fn compare(&mut self, mm: MmId, near: &Ranges) -> Comparison {
        let count = self.mirror.vma_count(mm);
        let Some(space) = self.spaces.get_mut(&mm) else {
            return Comparison::Gone;
        };
        space.lines_left = (space.lines_left + LINES_A_CALL).min(LINES_AT_ONCE);
        if space.lines_left < count
            && let Ranges::Near(near) = near
            && compare::is_same_near(&self.mirror, mm, &space.handles, near)
        {
            return Comparison::Same(None);
        }
        space.lines_left = space.lines_left.saturating_sub(count);
        self.compare_all(mm)
    }

    pub(super) fn compare_all(&mut self, mm: MmId) -> Comparison {
        let Some(space) = self.spaces.get(&mm) else {
            return Comparison::Gone;
        };
        let kernel = match observe::maps_text(&space.handles) {
            Ok(kernel) => kernel,
            Err(error) => {
                self.note(format!("the kernel's maps could not be read: {error:#}"));
                return Comparison::Gone;
            }
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
            return Comparison::Same(Some(kernel));
        }
        let space = self.spaces.get(&mm);
        // Its text ends early where the last task is killed meanwhile.
        if space.is_none_or(|space| !observe::is_in_sight(&space.handles)) {
            return Comparison::Gone;
        }
        Comparison::Different { kernel, model }
    }
}

fn ranges_of(call: &Call, result: i64, old_break: u64) -> Ranges {
    const PAGE: u64 = 4096;
    match call {
        Call::Mlockall { .. } | Call::Munlockall | Call::Shmdt { .. } => Ranges::All,
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
