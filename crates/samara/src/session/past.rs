//! What nobody saw: a process that was joined has done things before that nothing shows.
//!
//! Whether a mapping ever held private data, which of two mappings had it from the same place,
//! where a mapping lay before it was moved: Linux joins neighbours by such things. So where two
//! mappings that are alike meet, the kernel may see a border and the model none, or the other way
//! round. In such an address space that is learned; anything else that differs is a divergence.

use super::call::Compared;
use super::{Session, address};
use crate::call::Call;
use crate::compare::{self, Comparison};
use crate::engine::{MmId, Place};
use crate::event::Event;

/// What is known of an address space before it was mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// Everything: it has been mirrored since its program began.
    Known,
    /// Nothing but what `/proc` shows.
    Unknown,
}

const PAGE: u64 = 4096;

impl Session {
    fn has_unknown_past(&self, mm: MmId) -> bool {
        let space = self.spaces.get(&mm);
        space.is_some_and(|space| space.past == Past::Unknown)
    }

    /// `/proc` shows the page that the break lies in; what a call returns shows the rest.
    pub(super) fn learn_break(&mut self, mm: MmId, call: &Call, result: i64) {
        let known = self.mirror.brk(mm).unwrap_or(0);
        if !matches!(call, Call::Brk { .. }) || !self.has_unknown_past(mm) {
            return;
        }
        if let Some(addr) = address(result)
            && addr != known
            && addr.div_ceil(PAGE) == known.div_ceil(PAGE)
        {
            self.verdict.learned.history += 1;
            self.learn(&Event::Break { mm, addr });
        }
    }

    /// Follows the kernel where nothing differs but borders that depend on what nobody saw. Says
    /// whether that was so.
    pub(super) fn learn_borders(
        &mut self,
        place: Place,
        compared: &Compared,
        seen: &Comparison,
    ) -> bool {
        let mm = place.mm;
        if !seen.is_different()
            || compared.predicted != compared.result
            || !self.has_unknown_past(mm)
        {
            return false;
        }
        let Comparison::Different { kernel, model, .. } = self.compare_all(mm) else {
            return false;
        };
        if !compare::differ_in_borders(&kernel, &model) {
            return false;
        }
        self.verdict.learned.history += 1;
        self.verdict.comparisons += 1;
        self.resync(place);
        true
    }
}
