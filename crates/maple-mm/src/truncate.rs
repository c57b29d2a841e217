//! A file that becomes shorter, and the address spaces that map it.

use alloc::vec::Vec;
use core::ops::Range;

use crate::abi::PAGE_SIZE;
use crate::errno::Errno;
use crate::file::FileRef;
use crate::file_pages::FilePagesRef;
use crate::page_side::{Guards, PageChange, PageSide};
use crate::space::AddressSpace;
use crate::vma::Vma;

/// How many mappings wait for one flush.
///
/// LINUX: `UNLINK_VMA_FILE_BATCH_SIZE`.
const BATCH: usize = 8;

/// Makes a file `bytes` long, and takes the pages beyond its end out of `spaces`: all those that
/// may map it. Private copies of such pages go, too; the next access is a
/// [`Fault::Bus`](crate::Fault::Bus).
///
/// A file does not know who maps it, because a fork that shares everything does not look at its
/// mappings; who owns the address spaces knows them.
///
/// # Complexity
///
/// O(n) for n mappings of all `spaces`, and O(pages) for those that go.
///
/// # Errors
///
/// [`Errno::ENOMEM`] if there is no memory to take a part of shared tables, and what
/// [`set_bytes`](crate::FilePages::set_bytes) says. Nothing has changed.
///
/// # Examples
///
/// ```
/// use maple_mm::paging::{Arena, ArenaLayout, NoTlb, X86_64};
/// use maple_mm::{
///     AddressSpace, Fault, File, FileId, FilePagesRef, FileRef, MappedPages, MemoryFile, MmapFile,
///     MmapRequest, Setup, abi::*, truncate,
/// };
/// use std::sync::Arc;
/// let arena = Arc::new(Arena::<parking_lot::RawMutex>::new(ArenaLayout::of_frames(64))?);
/// let pages = FilePagesRef::new(MemoryFile::new(Arc::clone(&arena), 8192))?;
/// let file = FileRef::with_pages(File::shared_anonymous(FileId(1))?, pages.clone())?;
///
/// let side = MappedPages::<X86_64<4>, _, _>::new(arena, NoTlb)?;
/// let mut space = AddressSpace::with_pages(Setup::default(), side);
/// let addr = space.mmap(MmapRequest {
///     flags: MAP_SHARED,
///     file: MmapFile::Open(file),
///     ..MmapRequest::anonymous(8192, PROT_READ | PROT_WRITE)
/// })?;
/// space.write(addr + 4096, b"gone")?;
/// truncate(&pages, 4096, &mut [&mut space])?;
/// let fault = space.read(addr + 4096, &mut [0]).unwrap_err().fault;
/// assert_eq!((fault, space.read(addr, &mut [0])), (Fault::Bus, Ok(())));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn truncate<P: PageSide>(
    file: &FilePagesRef,
    bytes: u64,
    spaces: &mut [&mut AddressSpace<P>],
) -> Result<(), Errno> {
    let first = bytes.div_ceil(PAGE_SIZE);
    let mut batch = Vec::new();
    batch.try_reserve_exact(BATCH).map_err(|_| Errno::ENOMEM)?;
    let mut prepared = Vec::new();
    for space in spaces.iter() {
        space.for_each_batch((file, first), &mut batch, |pages, changes| {
            prepared.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            prepared.push(pages.prepare(changes)?);
            Ok(())
        })?;
    }
    file.set_bytes(bytes)?;
    let mut prepared = prepared.into_iter();
    for space in spaces.iter() {
        space.for_each_batch((file, first), &mut batch, |pages, changes| {
            // The same batches: who has the address spaces mutably is here.
            prepared.next().map_or(Ok(()), |prepared| {
                pages.carry_out(changes, prepared);
                Ok(())
            })
        })?;
    }
    Ok(())
}

impl<P: PageSide> AddressSpace<P> {
    /// Hands out what is mapped of the pages of a file from `first` on, in batches.
    fn for_each_batch<'s>(
        &'s self,
        (file, first): (&FilePagesRef, u64),
        batch: &mut Vec<PageChange>,
        mut act: impl FnMut(&'s P, &[PageChange]) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        batch.clear();
        for (_, vma) in self.tree() {
            let pages = vma.file().and_then(FileRef::pages);
            if !pages.is_some_and(|pages| FilePagesRef::ptr_eq(pages, file)) {
                continue;
            }
            let range = from_page(vma, first);
            if range.is_empty() {
                continue;
            }
            let guards = Guards::of(vma);
            batch.push(PageChange::Discard { range, guards });
            if batch.len() == BATCH {
                act(&self.pages, batch)?;
                batch.clear();
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        act(&self.pages, batch)
    }
}

/// The addresses where a mapping has pages of its file from `first` on.
fn from_page(vma: &Vma, first: u64) -> Range<u64> {
    let kept_pages = first.saturating_sub(vma.page_offset()).min(vma.pages());
    vma.start() + kept_pages * PAGE_SIZE..vma.end()
}
