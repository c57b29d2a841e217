//! [`HugeFile`]: the contents of shared memory that is made of explicitly huge pages.

use alloc::sync::Arc;
use core::fmt;
use core::num::NonZeroU64;
use core::ops::Range;

use maple_tree::{IndexRange, MapleTree};
use spin::mutex::SpinMutex;

use crate::abi::{HUGE_PAGE_SIZE, PAGE_SIZE};
use crate::counted::Counted;
use crate::errno::Errno;
use crate::file_pages::{BusError, FilePages};
use crate::huge_pages::{HugeSource, Promise};
use crate::memory::TreeNodes;
use crate::paging::{Content, Frame, FrameSize, OutOfFrames, PhysAddr, PhysMemory, release_page};
use crate::system::System;

/// The machine whose pool an object takes its pages from, and what that keeps for it.
#[derive(Clone, Debug)]
pub struct HugeObject {
    pub(crate) system: Arc<System>,
    pub(crate) promise: Option<Counted<Promise>>,
}

impl HugeObject {
    fn source(&self) -> HugeSource<'_> {
        HugeSource {
            system: &self.system,
            promise: self.promise.as_deref(),
        }
    }
}

/// The frames of an object by the number of the huge page: their addresses plus one.
type Cache = MapleTree<NonZeroU64, TreeNodes>;

/// What was touched of a shared mapping, for all that share it. It has no small pages.
pub(crate) struct HugeFile<M: PhysMemory> {
    memory: M,
    object: HugeObject,
    pages: SpinMutex<Cache>,
}

impl<M: PhysMemory + Send> HugeFile<M> {
    pub(crate) fn new(memory: M, object: HugeObject) -> Self {
        let nodes = object.system.nodes();
        Self {
            memory,
            object,
            pages: SpinMutex::new(Cache::new_in(nodes)),
        }
    }

    /// Makes `new` the page `index`, with a reference of its own.
    fn insert(&self, pages: &mut Cache, index: u64, new: &Frame) -> Result<(), BusError> {
        // Under the lock: who comes later finds the page instead of asking for another.
        let claim = self.object.source().claim(index);
        let claim = claim.ok_or(BusError::Unreadable)?;
        let word = NonZeroU64::MIN.saturating_add(new.addr().as_u64());
        pages
            .store(IndexRange::single(index), word)
            .map_err(|_| BusError::OutOfMemory)?;
        self.memory.info(new.addr()).set_explicit();
        claim.used();
        let _: PhysAddr = self.memory.share(new).into_addr();
        Ok(())
    }

    /// A reference to a page that is there.
    fn known(&self, pages: &Cache, index: u64) -> Option<Frame> {
        let addr = addr(*pages.get(index)?);
        self.memory.info(addr).retain();
        Some(Frame::from_counted(addr, FrameSize::HUGE))
    }
}

const fn addr(word: NonZeroU64) -> PhysAddr {
    PhysAddr::new(word.get() - 1)
}

impl<M: PhysMemory + Send> FilePages for HugeFile<M> {
    fn page(&self, _: u64) -> Result<Frame, BusError> {
        Err(BusError::Unreadable)
    }

    fn huge_page(&self, index: u64) -> Result<Frame, BusError> {
        let index = index / FrameSize::HUGE.frames() as u64;
        if let Some(frame) = self.known(&self.pages.lock(), index) {
            return Ok(frame);
        }
        // Made outside the lock: filling a page takes long.
        let new = self.memory.allocate(FrameSize::HUGE, Content::Zeroed);
        let mut pages = self.pages.lock();
        if let Some(frame) = self.known(&pages, index) {
            // Somebody was faster.
            drop(pages);
            if let Ok(new) = new {
                self.memory.release(new);
            }
            return Ok(frame);
        }
        let new = new.map_err(|OutOfFrames| BusError::Unreadable)?;
        if let Err(error) = self.insert(&mut pages, index, &new) {
            drop(pages);
            self.memory.release(new);
            return Err(error);
        }
        Ok(new)
    }

    /// In place, so that whoever maps the pages sees zeroes.
    ///
    /// LINUX: whole pages go back to the pool.
    fn punch(&self, range: Range<u64>) -> Result<(), Errno> {
        let Some(bytes) = IndexRange::from_bounds(range) else {
            return Ok(());
        };
        let pages = self.pages.lock().snapshot();
        let per_page = HUGE_PAGE_SIZE / PAGE_SIZE;
        let touched = bytes.first() / per_page..=bytes.last() / per_page;
        for (at, word) in pages.range(touched) {
            for piece in 0..per_page {
                if bytes.contains(at.first() * per_page + piece) {
                    let piece = addr(*word).plus(piece * PAGE_SIZE);
                    self.memory.fill(piece, FrameSize::SMALL, 0);
                }
            }
        }
        Ok(())
    }
}

impl<M: PhysMemory> Drop for HugeFile<M> {
    fn drop(&mut self) {
        let mut freed = 0;
        for (_, word) in self.pages.get_mut().iter() {
            freed += release_page(&self.memory, addr(*word));
        }
        self.object.system.huge_pool().put_back(freed);
    }
}

impl<M: PhysMemory> fmt::Debug for HugeFile<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HugeFile")
            .field("pages", &self.pages.lock().len())
            .finish_non_exhaustive()
    }
}
