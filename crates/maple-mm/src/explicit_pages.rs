//! Faults in explicitly huge mappings: [`MappedPages`] with frames that come out of a pool.

use alloc::sync::Arc;

use crate::abi::HUGE_PAGE_SIZE;
use crate::fault::{Access, Fault};
use crate::file::FileRef;
use crate::huge_pages::{HugeSource, huge_pages_of};
use crate::mapped_pages::MappedPages;
use crate::notifier::Invalidation;
use crate::page_side::Touch;
use crate::paging::{
    Arch, Company, Content, FrameSize, LeafFlags, Mapped, NewPage, NewPrivate, OutOfFrames,
    PagingError, PhysMemory, Resolved, Sharing, TlbFlusher, Written,
};
use crate::touch::{Refused, file_page, private_page, sharing};

impl<A, M, F, C> MappedPages<A, M, F, C>
where
    A: Arch,
    M: PhysMemory + Clone + Send + 'static,
    F: TlbFlusher + Clone,
    C: Company<M>,
{
    /// Makes an explicitly huge page ready for an access.
    pub(crate) fn touch_explicit(
        &self,
        touch: &Touch<'_>,
        source: HugeSource<'_>,
    ) -> Result<(), Refused> {
        match self.tables.entry(touch.addr) {
            Some(page) if touch.access != Access::Write || page.is_writable() => Ok(()),
            Some(page) => self.write_explicit(page, (touch, source)),
            None => self.map_explicit(touch, source),
        }
    }

    /// Maps a page that is not there.
    fn map_explicit(&self, touch: &Touch<'_>, source: HugeSource<'_>) -> Result<(), Refused> {
        if A::span(1) != HUGE_PAGE_SIZE {
            return Err(Fault::Bus.into());
        }
        let start = touch.addr & !(HUGE_PAGE_SIZE - 1);
        self.huge.call_once(|| Arc::clone(source.system));
        self.tables.set_pool(source.system);
        if sharing(touch.vma) == Sharing::Shared {
            let pages = touch.vma.file().and_then(FileRef::pages);
            let pages = pages.ok_or(Fault::Bus)?;
            let frame = pages.huge_page(touch.vma.page_offset_at(start))?;
            return self.map((start, touch.live), explicit(file_page(frame, touch)));
        }
        let claim = source.claim(index(touch)).ok_or(Fault::Bus)?;
        let memory = self.tables.memory();
        let frame = memory.allocate(FrameSize::HUGE, Content::Zeroed);
        let frame = frame.map_err(|OutOfFrames| Fault::Bus)?;
        let page = explicit(private_page(frame, touch.vma));
        self.map((start, touch.live), page)?;
        claim.used();
        Ok(())
    }

    /// Writes to a page that may not be written yet: its only owner may from now on, another gets
    /// a copy.
    ///
    /// LINUX: where there is no page for the copy of who was promised one, those it forked lose
    /// theirs. Here nobody knows who they are, and the write ends in `SIGBUS`.
    fn write_explicit(
        &self,
        page: Mapped,
        (touch, source): (&Touch<'_>, HugeSource<'_>),
    ) -> Result<(), Refused> {
        let range = page.start..page.start + page.size;
        let sharing = sharing(touch.vma);
        self.change((range, Invalidation::Replaced), |tables, gather| {
            let takes_frame = tables.write_takes_frame(touch.addr, sharing, gather);
            let (claim, new_page) = match takes_frame? {
                true => {
                    let claim = source.claim(index(touch)).ok_or(Fault::Bus)?;
                    (Some(claim), NewPrivate::Allowed)
                }
                false => (None, NewPrivate::Refused),
            };
            let written = Written { sharing, new_page };
            let resolved = tables.resolve_live((touch.addr, touch.live), written, gather);
            match (resolved, claim) {
                // The tables are ready: what is missing now is a huge frame.
                (Err(PagingError::OutOfFrames), _) => Err(Fault::Bus.into()),
                (Err(error), _) => Err(error.into()),
                (Ok(Resolved::Copied), Some(claim)) => {
                    claim.used();
                    Ok(())
                }
                // Another thread let it be written just now: what was claimed is given back.
                (Ok(_), _) => Ok(()),
            }
        })
    }
}

/// Which huge page of its object is touched.
fn index(touch: &Touch<'_>) -> u64 {
    huge_pages_of(touch.vma, touch.addr..touch.addr).start
}

fn explicit(page: NewPage) -> NewPage {
    let flags = page.attributes.flags | LeafFlags::EXPLICIT;
    NewPage {
        attributes: page.attributes.with_flags(flags),
        ..page
    }
}
