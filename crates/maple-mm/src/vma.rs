//! One mapping as an immutable value.

use crate::abi::{PAGE_SIZE, is_page_aligned};
use crate::anon::Anon;
use crate::errno::Errno;
use crate::file::{Backing, FileKind, FileRef};
use crate::flags::VmFlags;
use crate::held::{Attributes, Held};
use maple_tree::IndexRange;

/// One mapping: a range of pages with the same flags, backing and history.
///
/// A change never alters a `Vma`; it stores a new one. So whoever holds a
/// [`VmaRef`](crate::VmaRef) keeps what was true at that moment.
///
/// # Invariants
///
/// - **V1** `start < end`.
/// - **V2** both are multiples of the page size.
#[derive(Clone, Debug)]
pub struct Vma {
    start: u64,
    end: u64,
    flags: VmFlags,
    page_offset: u64,
    held: Held,
    anon: Anon,
}

// PERF: with its count it fills one cache line.
const _: () = assert!(size_of::<Vma>() == 56);

impl Vma {
    /// Makes a mapping of `start..end` bytes, or says `None` when V1 or V2 would not hold.
    #[must_use]
    pub(crate) fn new(start: u64, end: u64, content: Content) -> Option<Self> {
        let aligned = is_page_aligned(start) && is_page_aligned(end);
        // INVARIANT: V1 and V2 are checked here and kept by every method that changes a bound.
        (start < end && aligned).then_some(Self {
            start,
            end,
            flags: content.flags,
            page_offset: content.page_offset,
            held: content.held,
            anon: content.anon,
        })
    }

    /// Breaks V1 or V2, for those who test that it is noticed.
    #[cfg(test)]
    pub(crate) fn with_end_unchecked(self, end: u64) -> Self {
        Self { end, ..self }
    }

    /// The first byte.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// The byte after the last.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// The length in bytes.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.end - self.start
    }

    /// The length in pages.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.len_bytes() / PAGE_SIZE
    }

    /// What the kernel remembers about it.
    #[must_use]
    pub const fn flags(&self) -> VmFlags {
        self.flags
    }

    /// The offset of its first page, in pages: into the file, or where anonymous memory was born.
    #[must_use]
    pub const fn page_offset(&self) -> u64 {
        self.page_offset
    }

    /// What stands behind it.
    #[must_use]
    pub fn backing(&self) -> &Backing {
        self.held.backing()
    }

    /// What few mappings have besides.
    pub(crate) fn attributes(&self) -> Attributes {
        self.held.attributes()
    }

    /// What stands behind it, with its attributes.
    pub(crate) const fn held(&self) -> &Held {
        &self.held
    }

    /// The open file behind it.
    #[must_use]
    pub fn file(&self) -> Option<&FileRef> {
        self.backing().file()
    }

    /// Which private pages were written, and by whom.
    #[must_use]
    pub const fn anon(&self) -> Anon {
        self.anon
    }

    /// Whether somebody is told when it begins and ends.
    #[must_use]
    pub(crate) fn has_hooks(&self) -> bool {
        self.file().is_some_and(|file| file.has_close())
    }

    /// The name of its file or of the kernel's page; heap and stack are named by the address
    /// space.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self.backing() {
            Backing::Anonymous => None,
            Backing::File(file) => Some(&file.name),
            Backing::Special(special) => Some(special.name()),
        }
    }

    /// The range as the tree stores it.
    #[must_use]
    pub fn index_range(&self) -> IndexRange {
        // V1 makes `end - 1` at least `start`, so the fallback is never taken.
        IndexRange::new(self.start, self.end - 1).unwrap_or(IndexRange::single(self.start))
    }

    /// Whether `addr` lies in it.
    #[must_use]
    pub const fn contains(&self, addr: u64) -> bool {
        self.start <= addr && addr < self.end
    }

    /// Whether its memory is anonymous to the kernel: nothing behind it, or a private `/dev/zero`.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        match self.backing() {
            Backing::Anonymous => true,
            Backing::File(file) => {
                file.kind == FileKind::DevZero && !self.flags.contains(VmFlags::SHARED)
            }
            Backing::Special(_) => false,
        }
    }

    /// The lowest address that counts as taken for others: a stack keeps `gap` bytes below it.
    #[must_use]
    pub const fn guarded_start(&self, gap: u64) -> u64 {
        if self.flags.contains(VmFlags::GROWSDOWN) {
            self.start.saturating_sub(gap)
        } else {
            self.start
        }
    }

    /// The page offset that the byte `addr` has (or would have) in this mapping.
    #[must_use]
    pub(crate) const fn page_offset_at(&self, addr: u64) -> u64 {
        let pages = addr.wrapping_sub(self.start) as i64 / PAGE_SIZE as i64;
        self.page_offset.wrapping_add(pages as u64)
    }

    /// What it holds, without its range.
    pub(crate) fn content(&self) -> Content {
        Content {
            flags: self.flags,
            page_offset: self.page_offset,
            held: self.held.clone(),
            anon: self.anon,
        }
    }

    /// The same mapping over `start..end`, page offsets kept in line; `None` if that is no range.
    pub(crate) fn with_range(&self, start: u64, end: u64) -> Option<Self> {
        let content = Content {
            page_offset: self.page_offset_at(start),
            ..self.content()
        };
        Self::new(start, end, content)
    }

    /// What a forked child has of it.
    #[inline]
    pub(crate) fn of_child(&self, flags: VmFlags, anon: Anon) -> Self {
        Self {
            flags,
            anon,
            held: self.held.clone(),
            ..*self
        }
    }

    /// The same mapping with other flags.
    pub(crate) fn with_flags(&self, flags: VmFlags) -> Self {
        Self {
            flags,
            ..self.clone()
        }
    }

    /// The same mapping with another history.
    pub(crate) fn with_anon(&self, anon: Anon) -> Self {
        Self {
            anon,
            ..self.clone()
        }
    }

    /// The same mapping with another backing.
    pub(crate) fn with_backing(&self, backing: Backing) -> Result<Self, Errno> {
        let held = self.held.with_backing(backing)?;
        Ok(self.with_held(held))
    }

    /// The same mapping with another backing, other attributes, or both.
    pub(crate) fn with_held(&self, held: Held) -> Self {
        Self {
            held,
            ..self.clone()
        }
    }
}

/// What a mapping holds, without its range.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) flags: VmFlags,
    pub(crate) page_offset: u64,
    pub(crate) held: Held,
    pub(crate) anon: Anon,
}
