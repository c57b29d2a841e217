//! When mappings become one: pure functions over neighbours.
//!
//! ```text
//!   prev      range      next
//!   PPPPPPPP  RRRRRRRRRR NNNNNNN      all adjacent
//! ```
//! A *new* range lies in a hole (`mmap`, `brk`, the target of `mremap`); an *existing* range is
//! part of a mapping whose flags change (`mprotect`, `madvise`, `mlock`, `mseal`). Each neighbour
//! must have the same flags and backing, an offset in line, and a compatible anon_vma. Whoever
//! asks makes all of them its own first (`Local`), so that identities can be compared.

use crate::anon::Anon;
use crate::flags::VmFlags;
use crate::held::Held;
use crate::profile::{AnonMergeRule, LinuxProfile};
use crate::vma::{Content, Vma};

/// A range that could join its neighbours, with what it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) content: &'a Content,
    /// Whether the anon_vma it brings came through a fork.
    pub(crate) is_forked: bool,
}

/// The mappings that touch a candidate; `None` where there is a hole or no mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbours<'a> {
    pub(crate) prev: Option<&'a Vma>,
    pub(crate) next: Option<&'a Vma>,
}

/// Which neighbours a range joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joined {
    Prev,
    Next,
    Both,
}

/// The flags that never keep mappings apart.
const fn ignored(profile: &LinuxProfile) -> VmFlags {
    if profile.guard_pages.is_yes() {
        VmFlags::SOFTDIRTY.union(VmFlags::MAYBE_GUARD)
    } else {
        VmFlags::SOFTDIRTY
    }
}

/// The flags a merged mapping has as soon as one of its parts has them.
fn sticky(profile: &LinuxProfile) -> VmFlags {
    if profile.guard_pages.is_yes() && !planted!(MergeGuard) {
        ignored(profile)
    } else {
        VmFlags::empty()
    }
}

/// Whether two adjacent mappings may hang their written pages on one anon_vma: equal but for
/// their access.
pub(crate) fn may_share_anon(profile: &LinuxProfile, lower: &Vma, upper: &Vma) -> bool {
    let differing = lower.flags() ^ upper.flags();
    lower.end() == upper.start()
        && lower.backing().is_same(upper.backing())
        && lower.attributes().policy == upper.attributes().policy
        && (differing - VmFlags::ACCESS - ignored(profile)).is_empty()
        && lower.page_offset_at(lower.end()) == upper.page_offset()
}

/// One profile's rules, applied to one candidate.
#[derive(Clone, Copy)]
struct Rules<'a> {
    profile: &'a LinuxProfile,
    candidate: Candidate<'a>,
}

impl Rules<'_> {
    fn is_mergeable(&self, neighbour: &Vma) -> bool {
        if planted!(MergeRule) {
            return false;
        }
        let content = self.candidate.content;
        let differing = neighbour.flags() ^ content.flags;
        (differing - ignored(self.profile)).is_empty()
            && self.has_same_backing(neighbour)
            && self.has_compatible_anon(neighbour.anon())
    }

    fn has_same_backing(&self, neighbour: &Vma) -> bool {
        let own = &self.candidate.content.held;
        let is_file = own.backing().file().is_some() && neighbour.file().is_some();
        if planted!(MergeFile) && is_file {
            return true;
        }
        neighbour.held().is_same(own)
    }

    fn has_compatible_anon(&self, neighbour: Anon) -> bool {
        if planted!(MergeAnon) {
            return true;
        }
        let own = self.candidate.content.anon;
        match self.profile.anon_merge {
            AnonMergeRule::EitherSide => match (neighbour.is_faulted(), own.is_faulted()) {
                (false, true) => !self.candidate.is_forked || planted!(MergeForked),
                (true, false) => !neighbour.is_forked() || planted!(MergeForked),
                _ => neighbour.id() == own.id(),
            },
            AnonMergeRule::NeighbourMustBeWritten => {
                let one_missing = !(neighbour.is_faulted() && own.is_faulted());
                (one_missing && neighbour.is_singular()) || neighbour.id() == own.id()
            }
        }
    }

    fn joins_prev(&self, prev: &Vma) -> bool {
        prev.end() == self.candidate.start
            && self.is_mergeable(prev)
            && (prev.page_offset_at(prev.end()) == self.candidate.content.page_offset
                || planted!(MergeOffset))
    }

    fn joins_next(&self, next: &Vma) -> bool {
        let pages = (self.candidate.end - self.candidate.start) / crate::abi::PAGE_SIZE;
        next.start() == self.candidate.end
            && self.is_mergeable(next)
            && self.candidate.content.page_offset.wrapping_add(pages) == next.page_offset()
    }

    fn joined(&self, around: Neighbours<'_>) -> Option<Joined> {
        if self.candidate.content.flags.intersects(VmFlags::SPECIAL) {
            return None;
        }
        let prev = around.prev.filter(|prev| self.joins_prev(prev));
        // Each side may be compatible with the range and still not with the other side.
        let next = around
            .next
            .filter(|next| self.joins_next(next))
            .filter(|next| {
                prev.is_none_or(|prev| prev.anon().is_compatible(next.anon()))
                    || planted!(MergeThree)
            });
        match (prev, next) {
            (Some(_), Some(next)) if next.has_hooks() => Some(Joined::Prev),
            (Some(_), Some(_)) => Some(Joined::Both),
            (Some(_), None) => Some(Joined::Prev),
            (None, Some(_)) => Some(Joined::Next),
            (None, None) => None,
        }
    }
}

/// What the survivor of a merge is made of.
struct Union<'a> {
    profile: &'a LinuxProfile,
    candidate: Candidate<'a>,
    around: Neighbours<'a>,
    joined: Joined,
}

impl Union<'_> {
    fn prev(&self) -> Option<&Vma> {
        self.around.prev.filter(|_| self.joined != Joined::Next)
    }

    fn next(&self) -> Option<&Vma> {
        self.around.next.filter(|_| self.joined != Joined::Prev)
    }

    fn anon(&self) -> Anon {
        let survivor = self.prev().or(self.next());
        let own = self.candidate.content.anon;
        let others = [
            survivor.map(Vma::anon),
            self.next().map(Vma::anon),
            Some(own),
        ];
        others
            .into_iter()
            .flatten()
            .find(|anon| anon.is_faulted())
            .unwrap_or_default()
    }

    fn flags(&self) -> VmFlags {
        let own = self.candidate.content.flags;
        [self.prev(), self.next()]
            .into_iter()
            .flatten()
            .fold(own, |flags, vma| {
                flags | (vma.flags() & sticky(self.profile))
            })
    }

    fn held(&self) -> Held {
        let survivor = self.prev().or(self.next());
        survivor
            .map_or(&self.candidate.content.held, Vma::held)
            .clone()
    }

    /// The mapping that covers the range and the neighbours it joins.
    fn into_vma(self) -> Option<Vma> {
        let start = self.prev().map_or(self.candidate.start, Vma::start);
        let end = self.next().map_or(self.candidate.end, Vma::end);
        let page_offset = self
            .prev()
            .map_or(self.candidate.content.page_offset, Vma::page_offset);
        let content = Content {
            flags: self.flags(),
            page_offset,
            held: self.held(),
            anon: self.anon(),
        };
        Vma::new(start, end, content)
    }
}

/// The mapping a new range becomes part of; `None` when it stands alone.
pub(crate) fn merge_new<'a>(
    profile: &'a LinuxProfile,
    candidate: Candidate<'a>,
    around: Neighbours<'a>,
) -> Option<Vma> {
    let joined = Rules { profile, candidate }.joined(around)?;
    Union {
        profile,
        candidate,
        around,
        joined,
    }
    .into_vma()
}

/// The mapping that part of `middle` becomes part of; `None` when it stands alone.
///
/// The candidate is `middle`, or a part of it at either end, with its new content. What is left
/// of `middle` outside the result keeps its own.
pub(crate) fn merge_existing<'a>(
    profile: &'a LinuxProfile,
    middle: &Vma,
    candidate: Candidate<'a>,
    around: Neighbours<'a>,
) -> Option<Vma> {
    let at_start = candidate.start == middle.start();
    let at_end = candidate.end == middle.end();
    // A mapping whose end is an event may not vanish.
    if at_start && at_end && middle.has_hooks() {
        return None;
    }
    let around = Neighbours {
        prev: around.prev.filter(|_| at_start),
        next: around.next.filter(|_| at_end),
    };
    merge_new(profile, candidate, around)
}
