//! [`MemoryFile`]: a file whose pages are in memory and nowhere else.

use core::fmt;
use core::num::NonZeroU64;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use maple_tree::{IndexRange, MapleTree};
use spin::mutex::SpinMutex;

use crate::abi::PAGE_SIZE;
use crate::errno::Errno;
use crate::file_pages::{BusError, FilePages};
use crate::memory::TreeNodes;
use crate::paging::{
    Content, Frame, FrameSize, OutOfFrames, PhysAddr, PhysMemory, read_bytes, write_bytes,
};

/// The pages of a file by number: addresses of frames plus one.
type Cache = MapleTree<NonZeroU64, TreeNodes>;

/// What the lock guards.
struct Contents {
    pages: Cache,
    bytes: u64,
}

/// A file in memory, as of tmpfs: what was never written is zero.
///
/// # Examples
///
/// ```
/// use maple_mm::{BusError, FilePages, MemoryFile};
/// use maple_mm::paging::{Arena, ArenaLayout, PhysMemory};
/// use std::sync::Arc;
/// let arena = Arc::new(Arena::<parking_lot::RawMutex>::new(ArenaLayout::of_frames(64))?);
/// let file = MemoryFile::new(Arc::clone(&arena), 5000);
/// file.write(4094, b"seed")?;
/// let mut seen = [0; 5];
/// file.read(4094, &mut seen)?;
/// assert_eq!((&seen, arena.in_use()), (b"seed\0", 2));
/// assert_eq!(file.page(2), Err(BusError::BeyondEnd));
/// drop(file);
/// assert_eq!(arena.in_use(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MemoryFile<M: PhysMemory> {
    memory: M,
    contents: SpinMutex<Contents>,
    /// How often it became shorter.
    generation: AtomicU64,
}

impl<M: PhysMemory + Send> MemoryFile<M> {
    /// A file of zeroes, `bytes` long, in frames of `memory`.
    #[must_use]
    pub const fn new(memory: M, bytes: u64) -> Self {
        Self::new_in(memory, bytes, TreeNodes::HEAP)
    }

    /// As [`new`](Self::new); it keeps its pages in a tree of `nodes`.
    #[must_use]
    pub const fn new_in(memory: M, bytes: u64, nodes: TreeNodes) -> Self {
        Self {
            memory,
            contents: SpinMutex::new(Contents {
                pages: Cache::new_in(nodes),
                bytes,
            }),
            generation: AtomicU64::new(0),
        }
    }

    /// How long it is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.contents.lock().bytes
    }

    /// Reads the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`BusError::BeyondEnd`]; what precedes the end was read. [`BusError::OutOfMemory`].
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BusError> {
        self.pieces(offset, buffer.len(), |frame, at, done| {
            let len = at.len();
            read_bytes(self.memory.words(frame), at, &mut buffer[done..done + len]);
        })
    }

    /// Writes the bytes from `offset` on; the file does not become longer.
    ///
    /// # Errors
    ///
    /// [`BusError::BeyondEnd`]; what precedes the end was written. [`BusError::OutOfMemory`].
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), BusError> {
        self.pieces(offset, bytes.len(), |frame, at, done| {
            let len = at.len();
            write_bytes(self.memory.words(frame), at, &bytes[done..done + len]);
        })
    }

    fn pieces(
        &self,
        offset: u64,
        len: usize,
        mut visit: impl FnMut(PhysAddr, Range<usize>, usize),
    ) -> Result<(), BusError> {
        let mut done = 0;
        while done < len {
            let at = offset.saturating_add(done as u64);
            let left = self.bytes().checked_sub(at).filter(|left| *left > 0);
            let left = left.ok_or(BusError::BeyondEnd)?;
            let frame = self.page(at / PAGE_SIZE)?;
            let first = (at % PAGE_SIZE) as usize;
            let count = (PAGE_SIZE as usize - first)
                .min(len - done)
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            visit(frame.addr(), first..first + count, done);
            self.memory.release(frame);
            done += count;
        }
        Ok(())
    }

    /// Pages beyond the end are given up; who maps them still has them. Without memory to take
    /// them out, they are made zero and stay, out of reach.
    fn resize(&self, bytes: u64) {
        let mut contents = self.contents.lock();
        let before = core::mem::replace(&mut contents.bytes, bytes);
        if bytes >= before {
            return;
        }
        // ORDERING: `Release` pairs with the `Acquire` in `generation`: who finds the new number
        // finds the new end.
        self.generation.fetch_add(1, Ordering::Release);
        let tail = bytes % PAGE_SIZE;
        if tail != 0
            && let Some(frame) = contents.frame(bytes / PAGE_SIZE)
        {
            let words = self.memory.words(frame);
            let zeroes = [0; PAGE_SIZE as usize];
            let tail = tail as usize;
            write_bytes(words, tail..zeroes.len(), &zeroes[tail..]);
        }
        let Some(beyond) = IndexRange::new(bytes.div_ceil(PAGE_SIZE), u64::MAX) else {
            return;
        };
        let gone = contents.pages.snapshot();
        if contents.pages.remove(beyond).is_err() {
            drop(contents);
            self.zero(&gone, beyond);
            return;
        }
        drop(contents);
        for (_, word) in gone.range(beyond) {
            self.memory.release_at(addr(*word));
        }
    }

    fn zero(&self, pages: &Cache, range: IndexRange) {
        for (_, word) in pages.range(range) {
            self.memory.fill(addr(*word), FrameSize::SMALL, 0);
        }
    }
}

impl Contents {
    fn frame(&self, index: u64) -> Option<PhysAddr> {
        self.pages.get(index).map(|word| addr(*word))
    }
}

const fn addr(word: NonZeroU64) -> PhysAddr {
    PhysAddr::new(word.get() - 1)
}

impl<M: PhysMemory + Send> FilePages for MemoryFile<M> {
    fn page(&self, index: u64) -> Result<Frame, BusError> {
        if let Some(frame) = self.known(index)? {
            return Ok(frame);
        }
        // Made outside the lock: filling a page takes long.
        let new = self.memory.allocate(FrameSize::SMALL, Content::Zeroed);
        let new = new.map_err(|OutOfFrames| BusError::OutOfMemory)?;
        let mut contents = self.contents.lock();
        let is_there = index < contents.bytes.div_ceil(PAGE_SIZE);
        if !is_there || contents.frame(index).is_some() {
            // Somebody was faster.
            drop(contents);
            self.memory.release(new);
            return self.known(index)?.ok_or(BusError::BeyondEnd);
        }
        let word = NonZeroU64::MIN.saturating_add(new.addr().as_u64());
        if contents
            .pages
            .store(IndexRange::single(index), word)
            .is_err()
        {
            drop(contents);
            self.memory.release(new);
            return Err(BusError::OutOfMemory);
        }
        // The cache has the first reference.
        Ok(self.memory.share(&new)).inspect(|_| {
            let _: PhysAddr = new.into_addr();
        })
    }

    fn page_at_hand(&self, index: u64) -> Option<Frame> {
        self.known(index).ok().flatten()
    }

    /// In place, so that whoever maps the pages sees zeroes.
    fn punch(&self, range: Range<u64>) -> Result<(), Errno> {
        let pages = self.contents.lock().pages.snapshot();
        if let Some(range) = IndexRange::from_bounds(range) {
            self.zero(&pages, range);
        }
        Ok(())
    }

    fn generation(&self) -> u64 {
        // ORDERING: `Acquire`, see `resize`. A fault asks with a table locked that whoever made
        // the file shorter has locked, or will.
        self.generation.load(Ordering::Acquire)
    }

    fn set_bytes(&self, bytes: u64) -> Result<(), Errno> {
        self.resize(bytes);
        Ok(())
    }
}

impl<M: PhysMemory + Send> MemoryFile<M> {
    /// A reference to a page that is there.
    fn known(&self, index: u64) -> Result<Option<Frame>, BusError> {
        let contents = self.contents.lock();
        if index >= contents.bytes.div_ceil(PAGE_SIZE) {
            return Err(BusError::BeyondEnd);
        }
        Ok(contents.frame(index).map(|addr| {
            self.memory.info(addr).retain();
            Frame::from_counted(addr, FrameSize::SMALL)
        }))
    }
}

impl<M: PhysMemory> Drop for MemoryFile<M> {
    fn drop(&mut self) {
        for (_, word) in &self.contents.lock().pages {
            self.memory.release_at(addr(*word));
        }
    }
}

impl<M: PhysMemory> fmt::Debug for MemoryFile<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contents = self.contents.lock();
        f.debug_struct("MemoryFile")
            .field("bytes", &contents.bytes)
            .field("pages", &contents.pages.len())
            .finish_non_exhaustive()
    }
}
