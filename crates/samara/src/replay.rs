//! Checks a recorded run against the model, without a kernel.

use std::collections::BTreeSet;
use std::io::Read;

use crate::call::{CallKind, result_text};
use crate::engine::MmId;
use crate::event::{Cause, Event};
use crate::mirror::Mirror;
use crate::trace_file::{Reader, TraceError};
use crate::verdict::{Divergence, Verdict, differing_lines};

/// A prediction whose state has not been checked yet.
struct Compared {
    call: String,
    predicted: i64,
    result: i64,
}

struct Replay {
    mirror: Mirror,
    verdict: Verdict,
    last: Option<(MmId, Compared)>,
    /// The call that was checked last, to be named if what follows differs.
    latest: String,
    /// Address spaces that diverged and were not read again since.
    lost: BTreeSet<MmId>,
}

/// Replays a trace.
///
/// # Errors
///
/// What is wrong with the trace.
pub(crate) fn replay(input: impl Read, name: String) -> Result<Verdict, TraceError> {
    let mut reader = Reader::new(input)?;
    let mut replay = Replay {
        mirror: Mirror::default(),
        verdict: Verdict {
            program: name,
            processes: 1,
            ..Verdict::default()
        },
        last: None,
        latest: String::new(),
        lost: BTreeSet::new(),
    };
    let mut number = 0;
    while let Some(event) = reader.next_event()? {
        number += 1;
        replay.event(event).map_err(|error| {
            TraceError::Read(format!("event {number} makes no sense: {error:#}"))
        })?;
    }
    replay.check_last(None);
    Ok(replay.verdict)
}

impl Replay {
    fn event(&mut self, event: Event) -> anyhow::Result<()> {
        if space_of(&event).is_some_and(|mm| self.lost.contains(&mm)) {
            return Ok(());
        }
        match event {
            Event::Call { mm, call, result } => {
                self.check_last(None);
                self.verdict.count_call(call.kind());
                let predicted = self.mirror.call(mm, &call);
                let predicted = predicted
                    .ok_or_else(|| anyhow::anyhow!("address space {} is unknown", mm.0))?;
                let compared = Compared {
                    call: call.to_string(),
                    predicted,
                    result,
                };
                self.last = Some((mm, compared));
            }
            Event::State { mm, text } => self.state(mm, &text),
            Event::Details { mm, text } => self.details(mm, &text),
            Event::Flags { mm, text } => {
                let model = self.mirror.flags(mm).unwrap_or_default();
                self.beside(mm, &text, &model);
            }
            Event::Counters { mm, counters } => {
                let model = self.mirror.counters(mm).map(|model| model.to_string());
                self.beside(mm, &counters.to_string(), &model.unwrap_or_default());
            }
            event => {
                self.count(&event);
                let applied = self.mirror.apply(&event);
                // What the model has put elsewhere cannot be told of; the state tells.
                let is_lost = matches!(event, Event::SharedInode { .. }) && self.has_strayed();
                if !is_lost {
                    applied?;
                }
            }
        }
        Ok(())
    }

    /// Whether the last call ended in another way than predicted.
    fn has_strayed(&self) -> bool {
        let last = self.last.as_ref();
        last.is_some_and(|(_, compared)| compared.predicted != compared.result)
    }

    fn count(&mut self, event: &Event) {
        let verdict = &mut self.verdict;
        match event {
            Event::Start(facts) => {
                self.lost.remove(&facts.mm);
                if facts.cause == Cause::Exec {
                    verdict.execs += 1;
                    verdict.count_call(CallKind::Exec);
                }
            }
            Event::Fork { .. } => {
                verdict.forks += 1;
                verdict.processes += 1;
                verdict.count_call(CallKind::Fork);
            }
            Event::NotModelled { name, .. } => verdict.count_not_modelled(name),
            Event::Write { .. } => verdict.learned.writes += 1,
            Event::File(_) | Event::SharedInode { .. } => verdict.learned.files += 1,
            Event::Limits { .. }
            | Event::Capabilities { .. }
            | Event::LowBase { .. }
            | Event::Base { .. } => {
                verdict.learned.limits += 1;
            }
            Event::Break { .. } => verdict.learned.history += 1,
            _ => {}
        }
    }

    fn state(&mut self, mm: MmId, recorded: &str) {
        let of_call = self.last.as_ref().is_some_and(|(of, _)| *of == mm);
        if of_call {
            return self.check_last(Some(recorded));
        }
        self.check_last(None);
        let call = "a recorded state".to_owned();
        self.last = Some((
            mm,
            Compared {
                call,
                predicted: 0,
                result: 0,
            },
        ));
        self.check_last(Some(recorded));
    }

    /// Checks what `smaps` and `status` said.
    fn details(&mut self, mm: MmId, recorded: &str) {
        self.check_last(None);
        let model = self.mirror.details(mm).unwrap_or_default();
        self.verdict.comparisons += 1;
        if recorded == model {
            return;
        }
        self.verdict.diverged(Divergence {
            process: 0,
            comparison: self.verdict.comparisons,
            call: "recorded lines of smaps and status".to_owned(),
            predicted: result_text(0),
            actual: result_text(0),
            lines: differing_lines(recorded, &model),
        });
        self.lost.insert(mm);
    }

    /// Checks what was recorded of the last call's outcome beside the mappings.
    fn beside(&mut self, mm: MmId, recorded: &str, model: &str) {
        let lines = differing_lines(recorded, model);
        if lines.is_empty() {
            return;
        }
        let call = match &self.last {
            Some((of, compared)) if *of == mm => compared.call.clone(),
            _ => self.latest.clone(),
        };
        self.check_last(None);
        if !self.lost.insert(mm) {
            return;
        }
        self.verdict.diverged(Divergence {
            process: 0,
            comparison: self.verdict.comparisons,
            call,
            predicted: "flags or counters of its own".to_owned(),
            actual: "others".to_owned(),
            lines,
        });
    }

    /// Checks the last call's result, and the state after it if one was recorded.
    fn check_last(&mut self, recorded: Option<&str>) {
        let Some((mm, compared)) = self.last.take() else {
            return;
        };
        let model = recorded
            .and_then(|_| self.mirror.text(mm))
            .unwrap_or_default();
        let lines = differing_lines(recorded.unwrap_or_default(), &model);
        self.verdict.comparisons += 1;
        self.verdict.peak_vmas = self.verdict.peak_vmas.max(self.mirror.vma_count(mm));
        self.latest.clone_from(&compared.call);
        if lines.is_empty() && compared.predicted == compared.result {
            return;
        }
        self.verdict.diverged(Divergence {
            process: 0,
            comparison: self.verdict.comparisons,
            call: compared.call,
            predicted: result_text(compared.predicted),
            actual: result_text(compared.result),
            lines,
        });
        self.lost.insert(mm);
    }
}

/// The address space an event needs to be intact.
fn space_of(event: &Event) -> Option<MmId> {
    match event {
        Event::Limits { mm, .. }
        | Event::Capabilities { mm, .. }
        | Event::LowBase { mm, .. }
        | Event::Base { mm, .. }
        | Event::Break { mm, .. }
        | Event::MissingPage { mm, .. }
        | Event::Write { mm, .. }
        | Event::WatcherClosed { mm, .. }
        | Event::SharedInode { mm, .. }
        | Event::Process { mm, .. }
        | Event::Details { mm, .. }
        | Event::Call { mm, .. }
        | Event::State { mm, .. }
        | Event::Flags { mm, .. }
        | Event::Counters { mm, .. } => Some(*mm),
        _ => None,
    }
}
