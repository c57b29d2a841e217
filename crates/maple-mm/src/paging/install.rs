//! Mapping pages and resolving writes beside others: what can fail or takes long comes first, then
//! one passage through the gate.
//!
//! ```text
//!  look       the page as it is, without a lock; what is to be copied is pinned
//!  get        frames, the copy                            nothing is held, or waited for
//!  pass       gate, way down, table locked: still so, still live? installed, unlocked, out
//! ```
//!
//! Where the way needs a frame that is not there, the passage ends, one is provided, and it begins
//! anew.
//!
//! A writer changes the mappings first, and then each table under its lock (W); a fault looks a
//! mapping up, and installs its page under the same lock (F). If F comes first, W finds the page.
//! If W does, F asks under the lock whether its mapping is [live](Liveness), and sees all that was
//! done before W. So a page is never left where its mapping is gone, nor with more rights.

use core::fmt;

use super::arch::{Arch, Entry, Leaf, PageKind};
use super::company::{Company, State};
use super::error::PagingError;
use super::gather::{FlushRange, Gather, TlbFlusher};
use super::memory::{Content, Frame, FrameSize, PhysMemory};
use super::path::Place;
use super::resolve::{NewPrivate, Plan, Resolved, WRITTEN, Written, is_still, page_of, page_size};
use super::subtree::{is_counted, note_dirty};
use super::sync::broken;
use super::tables::{PageTables, Put, region};
use super::tally::Class;

/// Whether what was looked up is so still: that a mapping is the one at its address, that a file
/// did not become shorter.
///
/// It is asked with a table locked, inside the gate, so it takes no time: a look-up in a tree, a
/// number that is compared.
#[derive(Clone, Copy)]
pub struct Liveness<'l>(Option<&'l dyn Fn() -> bool>);

impl<'l> Liveness<'l> {
    /// Nothing changes meanwhile: who asks is the one who would.
    pub const SURE: Self = Self(None);

    /// What `is_live` says.
    #[must_use]
    pub const fn asked(is_live: &'l dyn Fn() -> bool) -> Self {
        Self(Some(is_live))
    }

    /// Whether it is so.
    #[must_use]
    pub fn is_live(self) -> bool {
        self.0.is_none_or(|is_live| is_live())
    }
}

impl fmt::Debug for Liveness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            None => "Sure",
            Some(_) => "Asked",
        })
    }
}

/// What a write to a page takes, as it was when somebody looked.
enum Look {
    Reuse(Leaf),
    Split,
    /// A frame takes the place of the page, with its contents if it is pinned.
    Replace(Leaf, Replacement),
}

struct Replacement {
    size: FrameSize,
    resolved: Resolved,
}

impl<A: Arch, M: PhysMemory, C: Company<M>> PageTables<A, M, C> {
    /// Does `act` inside the gate. What it cannot have there is provided, and it is done anew.
    pub(super) fn pass<F: TlbFlusher, T>(
        &self,
        addr: u64,
        gather: &mut Gather<'_, A, M, F, C>,
        mut act: impl FnMut(&mut Gather<'_, A, M, F, C>) -> Result<T, PagingError>,
    ) -> Result<T, PagingError> {
        if !C::BESIDE {
            return act(gather);
        }
        loop {
            let inside = self.company.enter(&self.memory, addr / A::span(1));
            let done = gather.inside(&mut act);
            drop(inside);
            match done {
                Err(PagingError::OutOfFrames) => gather.provide(&self.company)?,
                done => return done,
            }
        }
    }

    /// Lets a page be written, see [`resolve_write`](Self::resolve_write).
    pub(super) fn resolve_beside<F: TlbFlusher>(
        &self,
        (addr, live): (u64, Liveness<'_>),
        written: Written,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<Resolved, PagingError> {
        loop {
            let resolved = match self.look(addr, written)? {
                None => continue,
                Some(Look::Split) => {
                    self.pass(addr, gather, |gather| {
                        let place = self.own_leaf(addr, gather)?;
                        match place.level {
                            // Another thread did.
                            0 => Ok(()),
                            _ => match self.split(place, addr, gather) {
                                // An explicitly huge one came in its place: looked at anew.
                                Err(PagingError::Unsplittable) => Ok(()),
                                split => split,
                            },
                        }
                    })?;
                    continue;
                }
                Some(Look::Reuse(leaf)) => {
                    let allowed = self.pass(addr, gather, |gather| {
                        let place = self.own_leaf(addr, gather)?;
                        Ok(self.allow((place, leaf), (written.sharing, live)))
                    });
                    (allowed?, Resolved::Reused)
                }
                Some(Look::Replace(leaf, by)) => {
                    let resolved = by.resolved;
                    (self.replace((addr, live), (leaf, by), gather)?, resolved)
                }
            };
            match resolved {
                (Put::Done, resolved) => return Ok(resolved),
                (Put::Stale, _) => return Err(PagingError::Stale),
                (Put::Lost, _) => {}
            }
        }
    }

    /// What a write to the page at `addr` takes; `None` where others are changing it just now. A
    /// page that is to be copied has one reference more, so that it stays what it is.
    fn look(&self, addr: u64, written: Written) -> Result<Option<Look>, PagingError> {
        let _guard = self.company.guard();
        if addr >= A::USER_END {
            return Err(PagingError::NotMapped);
        }
        let place = self.find(addr, 0);
        let held = self.hold(place.table);
        if held.is_dead() {
            return Ok(None);
        }
        let Some(leaf) = page_of(held.entry::<A>(place.index, place.level)) else {
            return Err(PagingError::NotMapped);
        };
        let (size, resolved) = match self.write_plan(place.level, leaf, written.sharing) {
            Plan::Reuse => return Ok(Some(Look::Reuse(leaf))),
            Plan::Split => return Ok(Some(Look::Split)),
            _ if written.new_page == NewPrivate::Refused => return Err(PagingError::NotExclusive),
            Plan::Zero => (FrameSize::SMALL, Resolved::Zeroed),
            Plan::Copy => (page_size::<A>(place.level)?, Resolved::Copied),
        };
        if resolved == Resolved::Copied && !broken!(Pin) {
            self.memory.info(leaf.frame).retain();
        }
        Ok(Some(Look::Replace(leaf, Replacement { size, resolved })))
    }

    /// Puts a page of its own in the place of one that was looked at, and lets that go.
    fn replace<F: TlbFlusher>(
        &self,
        (addr, live): (u64, Liveness<'_>),
        (leaf, by): (Leaf, Replacement),
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<Put, PagingError> {
        let replaced = self.copy_of(leaf, &by).and_then(|new| {
            let put = self.pass(addr, gather, |gather| {
                let place = self.own_leaf(addr, gather)?;
                let new = Leaf {
                    frame: new.addr(),
                    ..leaf
                };
                Ok(self.put_private((addr, place, live), (leaf, new), gather))
            });
            if put != Ok(Put::Done) {
                self.memory.release(new);
            }
            put
        });
        if by.resolved == Resolved::Copied && !broken!(Pin) {
            gather.release(leaf.frame);
        }
        match replaced {
            // It went meanwhile.
            Err(PagingError::NotMapped) => Ok(Put::Lost),
            replaced => replaced,
        }
    }

    fn copy_of(&self, leaf: Leaf, by: &Replacement) -> Result<Frame, PagingError> {
        let content = match by.resolved {
            Resolved::Copied => Content::Any,
            _ => Content::Zeroed,
        };
        let new = self.memory.allocate(by.size, content)?;
        if by.resolved == Resolved::Copied {
            self.copy_page(leaf, &new);
        }
        Ok(new)
    }

    /// Puts a private page in the place of one that has other owners, if that is still what it
    /// was. Nobody reads the old one any more when somebody may write the new one: this flushes
    /// with the table locked (K2 has the exception).
    pub(super) fn put_private<F: TlbFlusher>(
        &self,
        (addr, place, live): (u64, Place<'_>, Liveness<'_>),
        (old, new): (Leaf, Leaf),
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Put {
        let mut held = self.hold(place.table);
        if held.is_dead() || !is_still::<A, C>(&held, (place, old)) {
            return Put::Lost;
        }
        if !live.is_live() {
            return Put::Stale;
        }
        let mut new = new.with(WRITTEN);
        new.attributes.kind = PageKind::Anon;
        let new = Entry::Leaf(new);
        // With what a processor noted in it since it was looked at.
        let before = held.take::<A>(place.index, place.level);
        gather.flush_now(&FlushRange {
            addresses: region::<A>(addr, place.level),
            stride: A::span(place.level),
        });
        if let Some(class) = Class::of(new) {
            self.count_in(addr, (class, place.level), 1);
        }
        held.put::<A>(place.index, place.level, new);
        drop(held);
        if let Some(class) = Class::of(before) {
            self.count_off(addr, (class, place.level), 1);
        }
        if let Entry::Leaf(before) = before
            && is_counted(before)
        {
            note_dirty(&self.memory, before);
            gather.frame(before.frame);
        }
        Put::Done
    }
}

#[cfg(test)]
mod tests;
