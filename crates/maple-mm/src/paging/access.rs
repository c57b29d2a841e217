//! Reading and writing memory through page tables, as a processor in user mode does.

use core::fmt;
use core::ops::Range;
use core::sync::atomic::Ordering;

use super::arch::{Arch, LeafFlags};
use super::company::{Company, State as _};
use super::error::PageFault;
use super::memory::{FRAME_BYTES, PhysMemory, Words};
use super::resolve::is_still;
use super::sync;
use super::table;
use super::tables::PageTables;
use crate::fault::Access;

const WORD: usize = 8;

/// An access that a page fault ended early: resolve it, and go on with what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// The fault; its address is that of the first byte that is left.
    pub fault: PageFault,
    /// How many bytes were read or written before.
    pub done: usize,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, after {} bytes", self.fault, self.done)
    }
}

impl core::error::Error for Interrupted {}

impl<A: Arch, M: PhysMemory, C: Company<M>> PageTables<A, M, C> {
    /// Reads the bytes from `addr` on into `buffer`, and notes that their pages were used.
    ///
    /// Each aligned word is read at once; others may write meanwhile.
    ///
    /// # Complexity
    ///
    /// O(bytes + pages × levels).
    ///
    /// # Errors
    ///
    /// [`Interrupted`] at the first page that may not be read.
    pub fn read(&self, addr: u64, buffer: &mut [u8]) -> Result<(), Interrupted> {
        self.pieces((addr, Access::Read), buffer.len(), |words, at, done| {
            let len = at.len();
            read_bytes(words, at, &mut buffer[done..done + len]);
        })
    }

    /// Writes `bytes` from `addr` on, and notes that their pages were used and written.
    ///
    /// # Complexity
    ///
    /// O(bytes + pages × levels).
    ///
    /// # Errors
    ///
    /// [`Interrupted`] at the first page that may not be written.
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), Interrupted> {
        self.pieces((addr, Access::Write), bytes.len(), |words, at, done| {
            let len = at.len();
            write_bytes(words, at, &bytes[done..done + len]);
        })
    }

    /// Reads the word at `addr`, in the machine's order of bytes.
    ///
    /// # Errors
    ///
    /// [`Interrupted`], as [`read`](Self::read).
    pub fn fetch_u64(&self, addr: u64) -> Result<u64, Interrupted> {
        let mut bytes = [0; WORD];
        self.read(addr, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// As [`write`](Self::write); each fault goes to `resolve`, which lets the page be written or
    /// refuses: whatever it resolves is tried again.
    ///
    /// # Errors
    ///
    /// What `resolve` refuses with.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::paging::*;
    /// let arena = Arena::<parking_lot::RawMutex>::new(ArenaLayout::of_frames(64))?;
    /// let tables = PageTables::<X86_64<4>, _>::new(&arena)?;
    /// tables.write_with(0x7ffe, b"seed", |tables, fault| -> Result<(), PagingError> {
    ///     let mut gather = tables.gather(NoTlb);
    ///     let page = NewPage {
    ///         frame: arena.allocate(FrameSize::SMALL, Content::Zeroed)?,
    ///         attributes: Attributes::new(PageKind::Anon, LeafFlags::RIGHTS | LeafFlags::USER),
    ///     };
    ///     tables.map(fault.addr & !4095, page, &mut gather).map_err(|error| {
    ///         arena.release(error.frame);
    ///         error.kind
    ///     })
    /// })?;
    /// assert_eq!(tables.resident().anon, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_with<E>(
        &self,
        addr: u64,
        bytes: &[u8],
        mut resolve: impl FnMut(&Self, PageFault) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut done = 0;
        while let Err(interrupted) = self.write(addr + done as u64, &bytes[done..]) {
            done += interrupted.done;
            resolve(self, interrupted.fault)?;
        }
        Ok(())
    }

    /// Visits the 4 KiB pieces of `addr..addr + len`: their words, which bytes of them, and how
    /// many bytes came before.
    fn pieces(
        &self,
        (addr, access): (u64, Access),
        len: usize,
        mut visit: impl FnMut(&Words, Range<usize>, usize),
    ) -> Result<(), Interrupted> {
        let mut done = 0;
        while done < len {
            // Beyond the end of the address space nothing is mapped; it does not wrap around.
            let at = addr.saturating_add(done as u64);
            let interrupted = |fault| Interrupted { fault, done };
            let first = (at % FRAME_BYTES) as usize;
            let piece = (FRAME_BYTES as usize - first).min(len - done);
            let visit = |words: &Words| visit(words, first..first + piece, done);
            self.with_page((at, access), visit).map_err(interrupted)?;
            done += piece;
        }
        Ok(())
    }

    /// Shows the 4 KiB of the byte at `addr`, if it may be used so, and notes in the entry that it
    /// was.
    ///
    /// Beside others that is inside the gate and with the table locked, so that the page stays
    /// what it is: it is not freed, nor copied for another, nor lost to a fork.
    fn with_page(
        &self,
        (addr, access): (u64, Access),
        visit: impl FnOnce(&Words),
    ) -> Result<(), PageFault> {
        let _inside = self.company.enter(&self.memory, addr / A::span(1));
        loop {
            let (place, leaf, frame) = self.reach(addr, access)?;
            let held = C::BESIDE.then(|| self.hold(place.table));
            if let Some(held) = &held
                && (held.is_dead() || !is_still::<A, C>(held, (place, leaf)))
            {
                continue;
            }
            let used = match access {
                Access::Write => LeafFlags::ACCESSED | LeafFlags::DIRTY,
                Access::Read | Access::Execute => LeafFlags::ACCESSED,
            };
            table::update_leaf::<A>(place.word(), place.level, |leaf| leaf.with(used));
            visit(self.memory.words(frame));
            return Ok(());
        }
    }
}

pub(crate) fn read_bytes(words: &Words, at: Range<usize>, to: &mut [u8]) {
    let mut at = at.start;
    let mut left = to;
    while !left.is_empty() {
        let word = sync::read(&words[at / WORD]).to_ne_bytes();
        let part = &word[at % WORD..];
        let len = part.len().min(left.len());
        left[..len].copy_from_slice(&part[..len]);
        left = &mut left[len..];
        at += len;
    }
}

pub(crate) fn write_bytes(words: &Words, at: Range<usize>, from: &[u8]) {
    let mut at = at.start;
    let mut left = from;
    while !left.is_empty() {
        let word = &words[at / WORD];
        let first = at % WORD;
        let len = (WORD - first).min(left.len());
        let merge = |old: u64| {
            let mut bytes = old.to_ne_bytes();
            bytes[first..first + len].copy_from_slice(&left[..len]);
            u64::from_ne_bytes(bytes)
        };
        if len == WORD {
            sync::write(word, merge(0));
        } else {
            // The other bytes of the word may be written by somebody else meanwhile. Relaxed: as in
            // `sync::read`.
            let changed = |old| Some(merge(old));
            let merged = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
            debug_assert!(merged.is_ok(), "it is never refused");
        }
        left = &left[len..];
        at += len;
    }
}
