//! Faults: making a page ready for an access, alone or beside others.
//!
//! Each attempt looks at what is there, gets what is missing, and installs it. Where another
//! thread was faster the next one finds what it did.

use core::ops::Range;

use crate::abi::{PAGE_SIZE, page_floor};
use crate::fault::{Access, Fault};
use crate::file::{File, FileKind};
use crate::file_pages::{BusError, FilePagesRef};
use crate::flags::VmFlags;
use crate::mapped_pages::{MappedPages, rights};
use crate::notifier::Invalidation;
use crate::page_side::{Touch, Touched};
use crate::paging::{
    Arch, Attributes, Company, Content, Frame, FrameSize, LeafFlags, Liveness, Mapped, NewPage,
    OutOfFrames, PageKind, PagingError, PhysMemory, Sharing, TlbFlusher,
};
use crate::vma::Vma;

/// How much a read of a file maps of what is at hand around it.
///
/// LINUX: `fault_around_bytes`, unless somebody changed it under debugfs.
const AROUND_BYTES: u64 = 16 * PAGE_SIZE;

/// What a mapping leads to at one address.
enum Source<'v> {
    /// Zeroes.
    Nothing,
    File(&'v FilePagesRef),
    /// It is not known what.
    Unknown,
}

/// Why an attempt ended without a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Fault(Fault),
    /// Another thread changed what is there: the next attempt may find it done.
    Again,
    /// The mapping, or the end of the file, is not what it was.
    Stale,
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<BusError> for Refused {
    fn from(error: BusError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<OutOfFrames> for Refused {
    fn from(_: OutOfFrames) -> Self {
        Self::Fault(Fault::OutOfMemory)
    }
}

impl From<PagingError> for Refused {
    fn from(error: PagingError) -> Self {
        match error {
            PagingError::Stale => Self::Stale,
            PagingError::Occupied | PagingError::NotMapped | PagingError::NotExclusive => {
                Self::Again
            }
            error => {
                debug_assert_eq!(error, PagingError::OutOfFrames, "mappings are in order");
                Self::Fault(Fault::OutOfMemory)
            }
        }
    }
}

impl From<BusError> for Fault {
    fn from(error: BusError) -> Self {
        match error {
            BusError::OutOfMemory => Self::OutOfMemory,
            BusError::BeyondEnd | BusError::Unreadable => Self::Bus,
        }
    }
}

impl<A, M, F, C> MappedPages<A, M, F, C>
where
    A: Arch,
    M: PhysMemory + Clone + Send + 'static,
    F: TlbFlusher + Clone,
    C: Company<M>,
{
    /// Makes a page ready for an access.
    pub(crate) fn resolve(&self, touch: &Touch<'_>) -> Result<Touched, Fault> {
        loop {
            let Err(refused) = self.attempt(touch) else {
                return Ok(Touched::Ready);
            };
            if !touch.live.is_live() {
                return Ok(Touched::Stale);
            }
            if let Refused::Fault(fault) = refused {
                // Who took the last frame may have had it for the same page.
                let is_ready = || self.tables.translate(touch.addr, touch.access).is_ok();
                if C::BESIDE && fault == Fault::OutOfMemory && is_ready() {
                    return Ok(Touched::Ready);
                }
                return Err(fault);
            }
            assert!(C::BESIDE, "{refused:?}: nobody else changes what is mapped");
        }
    }

    fn attempt(&self, touch: &Touch<'_>) -> Result<(), Refused> {
        if let Some(source) = touch.explicit {
            return self.touch_explicit(touch, source);
        }
        match self.tables.entry(touch.addr) {
            Some(page) if page.is_guard() => Err(Fault::NotMapped.into()),
            Some(page) => self.touch_present(page, touch),
            None => self.touch_missing(touch),
        }
    }

    /// An access to a page that is there.
    fn touch_present(&self, page: Mapped, touch: &Touch<'_>) -> Result<(), Refused> {
        if touch.access != Access::Write || page.is_writable() {
            return Ok(());
        }
        let sharing = sharing(touch.vma);
        let range = page.start..page.start + page.size;
        let resolved = self.change((range, Invalidation::Replaced), |tables, gather| {
            tables.resolve_live((touch.addr, touch.live), sharing.into(), gather)
        });
        resolved.map(drop).map_err(Refused::from)
    }

    /// An access to a page that is not there.
    fn touch_missing(&self, touch: &Touch<'_>) -> Result<(), Refused> {
        let at = (page_floor(touch.addr), touch.live);
        match (source(touch.vma), touch.access) {
            (Source::Nothing, Access::Write) => {
                if touch.huge.is_yes() && self.map_huge(touch)? {
                    return Ok(());
                }
                let memory = self.tables.memory();
                let frame = memory.allocate(FrameSize::SMALL, Content::Zeroed)?;
                self.map(at, private_page(frame, touch.vma))
            }
            (Source::Nothing, _) => {
                let flags = rights(touch.vma.flags()) | LeafFlags::USER;
                let mut gather = self.gather();
                let mapped = self.tables.map_zero_page_live(at, flags, &mut gather);
                mapped.map_err(Refused::from)
            }
            (Source::File(pages), _) => self.map_file_page(touch, pages),
            (Source::Unknown, _) => Err(Fault::Bus.into()),
        }
    }

    /// Maps 2 MiB at once, if they lie in the mapping, nothing is there yet, and there is a frame
    /// so large: whether it did.
    fn map_huge(&self, touch: &Touch<'_>) -> Result<bool, Refused> {
        let size = A::span(1);
        let start = touch.addr & !(size - 1);
        let range = start..start + size;
        let has_room = touch.vma.start() <= start && range.end <= touch.vma.end();
        let Some(order) = FrameSize::of_order(A::INDEX_BITS) else {
            return Ok(false);
        };
        if !has_room || !self.tables.may_map_huge(range) {
            return Ok(false);
        }
        let Ok(frame) = self.tables.memory().allocate(order, Content::Zeroed) else {
            return Ok(false);
        };
        match self.map((start, touch.live), private_page(frame, touch.vma)) {
            Ok(()) => Ok(true),
            Err(Refused::Stale) => Err(Refused::Stale),
            Err(_) => Ok(false),
        }
    }

    fn map_file_page(&self, touch: &Touch<'_>, pages: &FilePagesRef) -> Result<(), Refused> {
        let addr = page_floor(touch.addr);
        // Before the page is asked for: who makes the file shorter raises it, then takes pages out.
        let generation = pages.generation();
        let is_live = || touch.live.is_live() && pages.generation() == generation;
        let live = Liveness::asked(&is_live);
        let frame = pages.page(touch.vma.page_offset_at(addr))?;
        let is_shared = touch.vma.flags().contains(VmFlags::SHARED);
        if touch.access != Access::Write {
            self.map((addr, live), file_page(frame, touch))?;
            self.map_around((addr, live), touch, pages);
            return Ok(());
        }
        if is_shared {
            return self.map((addr, live), file_page(frame, touch));
        }
        let memory = self.tables.memory();
        let copy = memory.allocate(FrameSize::SMALL, Content::Any);
        if let Ok(copy) = &copy {
            memory.copy(frame.addr(), copy.addr(), FrameSize::SMALL);
        }
        memory.release(frame);
        self.map((addr, live), private_page(copy?, touch.vma))
    }

    /// Maps what is at hand around a page that was just mapped, where nothing is yet. The table
    /// is there and not shared, so this takes no memory; what fails all the same is left out.
    fn map_around(
        &self,
        (addr, live): (u64, Liveness<'_>),
        touch: &Touch<'_>,
        pages: &FilePagesRef,
    ) {
        for around in window::<A>(addr, touch.vma).step_by(PAGE_SIZE as usize) {
            if self.tables.entry(around).is_some() {
                continue;
            }
            if let Some(frame) = pages.page_at_hand(touch.vma.page_offset_at(around)) {
                let _: Result<(), Refused> = self.map((around, live), file_page(frame, touch));
            }
        }
    }

    /// Maps a page where nothing is, or gives its frame back.
    pub(crate) fn map(&self, at: (u64, Liveness<'_>), page: NewPage) -> Result<(), Refused> {
        let mut gather = self.gather();
        self.tables
            .map_live(at, page, &mut gather)
            .map_err(|error| {
                self.tables.memory().release(error.frame);
                error.kind.into()
            })
    }
}

/// Who sees what is written to a mapping.
pub(crate) fn sharing(vma: &Vma) -> Sharing {
    if vma.flags().contains(VmFlags::SHARED) {
        Sharing::Shared
    } else {
        Sharing::Private
    }
}

fn source(vma: &Vma) -> Source<'_> {
    if vma.is_anonymous() {
        return Source::Nothing;
    }
    match vma.file().and_then(|file| file.pages()) {
        Some(pages) => Source::File(pages),
        None => Source::Unknown,
    }
}

/// A page of its own, that is about to be written.
pub(crate) fn private_page(frame: Frame, vma: &Vma) -> NewPage {
    let used = LeafFlags::ACCESSED | LeafFlags::DIRTY;
    NewPage {
        frame,
        attributes: Attributes::new(PageKind::Anon, rights(vma.flags()) | LeafFlags::USER | used),
    }
}

/// A page that all see; the first write to it is to be seen, too.
pub(crate) fn file_page(frame: Frame, touch: &Touch<'_>) -> NewPage {
    let mut flags = rights(touch.vma.flags()) | LeafFlags::USER | LeafFlags::ACCESSED;
    if touch.access == Access::Write {
        flags |= LeafFlags::DIRTY;
    } else {
        flags -= LeafFlags::WRITE;
    }
    let kind = kind(touch.vma.file().map(|file| &**file));
    NewPage {
        frame,
        attributes: Attributes::new(kind, flags),
    }
}

/// Where a read fault at `addr` looks for neighbours.
///
/// ```text
///   aligned |---------------|---------------|
///   mapping      [==================)
///   at addr          ^               from the aligned address, or where the mapping begins
///   window       [---------------)   16 pages, to the end of the mapping and of the table
/// ```
///
/// LINUX: 6.18 does so: a window that begins with its mapping has 16 pages all the same.
fn window<A: Arch>(addr: u64, vma: &Vma) -> Range<u64> {
    let table = addr & !(A::span(1) - 1);
    let aligned = addr & !(AROUND_BYTES - 1);
    let start = aligned.max(vma.start()).max(table);
    let end = (start + AROUND_BYTES)
        .min(vma.end())
        .min(table + A::span(1));
    start..end
}

const fn kind(file: Option<&File>) -> PageKind {
    match file {
        Some(File {
            kind:
                FileKind::Shmem | FileKind::HugeShmem | FileKind::SystemV { .. } | FileKind::DevZero,
            ..
        }) => PageKind::Shmem,
        _ => PageKind::File,
    }
}

#[cfg(test)]
mod tests;
