//! [`VmaPool`]: blocks of 64 bytes, cut out of chunks. A cellar: hands out raw memory.
//!
//! `fork` makes as many mappings as the parent has, exit drops them: general-purpose allocators
//! spend more on that than the rest of both. A chunk begins with a header, and blocks follow:
//!
//! ```text
//!  0   64  128  192      256               65536
//!  |   header   | block 3 | block 4 | ...  |
//! ```
//!
//! Which blocks are free is one bit each in the header: fresh and mass-freed chunks are handed
//! out in the order of addresses, up to 64 blocks under one hold of the lock, so mappings made
//! together lie together. A block knows its place, which finds the header whatever the size of
//! the chunk.
#![expect(
    unsafe_code,
    reason = "cuts blocks out of raw chunks and finds the chunk of a block"
)]

use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use spin::mutex::SpinMutex;

use super::source::VmaSource;
use crate::errno::Errno;

/// The size of a block, and the alignment of chunks.
pub(crate) const ALIGNMENT: usize = 64;
/// Blocks that the header takes.
const HEADER_PLACES: usize = size_of::<Header>().div_ceil(ALIGNMENT);
/// Blocks of the largest chunk, the header's included.
const PLACES_MAX: usize = 1024;

/// Memory for one mapping.
#[repr(align(64))]
pub(crate) struct Block(
    #[expect(dead_code, reason = "only its size counts")] MaybeUninit<[u8; 64]>,
);

/// Memory for the mappings of one or more machines.
///
/// An empty chunk is kept as a reserve if that has no more chunks than are in use, or is the only
/// one; else it goes back to the source. [`release_reserve`](Self::release_reserve) gives the
/// reserve back as well. One mapping in use keeps its whole chunk.
///
/// A spin lock, held for a few dozen instructions, is around the chunks; so a pool does not
/// belong into interrupt handlers.
///
/// # Examples
///
/// See [`VmaSource`].
pub struct VmaPool {
    source: &'static dyn VmaSource,
    chunks: SpinMutex<Chunks>,
}

impl VmaPool {
    /// The smallest useful chunk, in bytes: the header and one mapping.
    pub const CHUNK_MIN: usize = (HEADER_PLACES + 1) * ALIGNMENT;
    /// The largest useful chunk, in bytes.
    pub const CHUNK_MAX: usize = PLACES_MAX * ALIGNMENT;

    /// A pool without chunks.
    #[must_use]
    pub const fn new(source: &'static dyn VmaSource) -> Self {
        Self {
            source,
            chunks: SpinMutex::new(Chunks::new()),
        }
    }

    /// The number of mappings in this memory.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.chunks.lock().blocks
    }

    /// Gives the empty chunks that are kept back to the source, and returns their size in bytes.
    pub fn release_reserve(&self) -> usize {
        let reserve = self.chunks.lock().take_reserve();
        self.release_all(reserve)
    }

    /// Takes up to `wanted` free blocks, at most 64 and at least one, that lie together.
    fn take(&'static self, wanted: usize) -> Result<Run, Errno> {
        if let Some(run) = self.chunks.lock().take(wanted) {
            return Ok(run);
        }
        // The source is asked without the lock: it may be slow, or keep a pool itself.
        let memory = self.source.allocate().ok_or(Errno::ENOMEM)?;
        let chunk = Chunk::begin(memory, self);
        Ok(self.chunks.lock().adopt(chunk, wanted))
    }

    /// Takes blocks of one chunk back.
    fn give_back(&self, run: &Run) {
        let mut chunks = self.chunks.lock();
        chunks.put(run);
        let excess = chunks.take_excess();
        drop(chunks);
        if excess.is_some() {
            self.release_all(excess);
        }
    }

    /// Returns `chunk` and those linked behind it, which left the lists, to the source.
    fn release_all(&self, chunk: Option<Chunk>) -> usize {
        let mut bytes = 0;
        let mut next = chunk;
        while let Some(chunk) = next {
            next = chunk.state_alone().behind;
            let memory = chunk.header().memory;
            bytes += memory.len();
            // SAFETY: it came from the source (VP1), and left the lists with no block handed out,
            // so nothing else knows of it.
            unsafe { self.source.free(memory) };
        }
        bytes
    }
}

impl fmt::Debug for VmaPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VmaPool")
            .field("in_use", &self.in_use())
            .finish_non_exhaustive()
    }
}

/// Free blocks of one word of a chunk's bits, on their way out or back.
struct Run {
    chunk: Chunk,
    word: usize,
    bits: u64,
}

/// Blocks taken from a pool for mappings to come; what is left goes back when it is dropped.
pub(crate) struct Batch {
    pool: &'static VmaPool,
    run: Option<Run>,
    /// How many are going to be wanted.
    expected: usize,
}

impl Batch {
    /// Makes ready to take about `expected` blocks from `pool`, one at a time.
    pub(crate) const fn new(pool: &'static VmaPool, expected: usize) -> Self {
        Self {
            pool,
            run: None,
            expected,
        }
    }

    /// A block and its place in its chunk. Who has it calls [`free`] in the end.
    #[inline]
    pub(crate) fn take(&mut self) -> Result<(NonNull<Block>, u32), Errno> {
        if self.run.as_ref().is_none_or(|run| run.bits == 0) {
            self.run = None;
            self.run = Some(self.pool.take(self.expected.max(1))?);
        }
        let run = self.run.as_mut().ok_or(Errno::ENOMEM)?;
        let bit = run.bits.trailing_zeros() as usize;
        run.bits &= run.bits - 1;
        self.expected = self.expected.saturating_sub(1);
        let place = 64 * run.word + bit;
        Ok((run.chunk.block(place), place as u32))
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(run) = self.run.take().filter(|run| run.bits != 0) {
            self.pool.give_back(&run);
        }
    }
}

/// Takes a block back.
///
/// # Safety
///
/// - `block` and `place` came out of [`Batch::take`] together, were not freed since, and nothing
///   uses the block any more.
#[inline]
pub(crate) unsafe fn free(block: NonNull<Block>, place: u32) {
    // SAFETY: the contract: a chunk lives while one of its blocks is handed out.
    let chunk = unsafe { Chunk::of(block, place) };
    let (word, bit) = (place as usize / 64, place % 64);
    chunk.header().pool.give_back(&Run {
        chunk,
        word,
        bits: 1 << bit,
    });
}

/// What the lock protects.
///
/// # Invariants
///
/// - **VP1** Each [`Chunk`] names memory of the pool's source that begins with a header and is the
///   pool's until `release_all` ends it; its state is reached under the lock, or by who alone
///   knows of the chunk.
/// - **VP2** A bit of `free` is set where the block is not handed out; `used` is the number of
///   those that are, and `blocks` their sum.
/// - **VP3** Chunks with some blocks free and some not are in the queue; those of the reserve have
///   none handed out; a full chunk is known by its blocks only. `used` and `reserved` count
///   them.
struct Chunks {
    front: Option<Chunk>,
    back: Option<Chunk>,
    used: usize,
    /// Linked by `behind`.
    reserve: Option<Chunk>,
    reserved: usize,
    blocks: usize,
}

impl Chunks {
    const fn new() -> Self {
        Self {
            front: None,
            back: None,
            used: 0,
            reserve: None,
            reserved: 0,
            blocks: 0,
        }
    }

    fn take(&mut self, wanted: usize) -> Option<Run> {
        if let Some(chunk) = self.front {
            return Some(self.take_from(chunk, wanted));
        }
        let chunk = self.pop_reserve()?;
        Some(self.adopt(chunk, wanted))
    }

    /// Puts a chunk without used blocks into the queue, and takes blocks from it at once.
    fn adopt(&mut self, chunk: Chunk, wanted: usize) -> Run {
        self.used += 1;
        self.push_back(chunk);
        self.take_from(chunk, wanted)
    }

    /// Takes blocks out of a chunk of the queue, which has some (VP3).
    fn take_from(&mut self, chunk: Chunk, wanted: usize) -> Run {
        let capacity = chunk.header().capacity;
        let state = self.state(chunk);
        let word = state.free.iter().position(|&free| free != 0).unwrap_or(0);
        let free = &mut state.free[word];
        let bits = lowest_bits(*free, wanted);
        *free &= !bits;
        let taken = bits.count_ones();
        state.used += taken;
        let is_full = state.used == capacity;
        self.blocks += taken as usize;
        if is_full {
            self.unlink(chunk);
        }
        Run { chunk, word, bits }
    }

    fn put(&mut self, run: &Run) {
        let &Run { chunk, word, bits } = run;
        let capacity = chunk.header().capacity;
        let state = self.state(chunk);
        debug_assert!(state.free[word] & bits == 0, "a block was freed twice");
        state.free[word] |= bits;
        let was_full = state.used == capacity;
        state.used -= bits.count_ones();
        let is_empty = state.used == 0;
        self.blocks -= bits.count_ones() as usize;
        if was_full && !is_empty {
            self.push_back(chunk);
        }
        if is_empty {
            if !was_full {
                self.unlink(chunk);
            }
            self.used -= 1;
            self.push_reserve(chunk);
        }
    }

    fn push_reserve(&mut self, chunk: Chunk) {
        let behind = self.reserve.replace(chunk);
        self.state(chunk).behind = behind;
        self.reserved += 1;
    }

    fn pop_reserve(&mut self) -> Option<Chunk> {
        let chunk = self.reserve?;
        self.reserve = self.state(chunk).behind.take();
        self.reserved -= 1;
        Some(chunk)
    }

    /// Takes what the reserve has too much of; the chunks are linked by `behind`.
    fn take_excess(&mut self) -> Option<Chunk> {
        let mut excess = None;
        while self.reserved > self.used.max(1) {
            let chunk = self.pop_reserve()?;
            self.state(chunk).behind = excess.replace(chunk);
        }
        excess
    }

    fn take_reserve(&mut self) -> Option<Chunk> {
        self.reserved = 0;
        self.reserve.take()
    }

    fn push_back(&mut self, chunk: Chunk) {
        let before = self.back.replace(chunk);
        let state = self.state(chunk);
        state.before = before;
        state.behind = None;
        match before {
            Some(before) => self.state(before).behind = Some(chunk),
            None => self.front = Some(chunk),
        }
    }

    fn unlink(&mut self, chunk: Chunk) {
        let state = self.state(chunk);
        let (before, behind) = (state.before.take(), state.behind.take());
        match before {
            Some(before) => self.state(before).behind = behind,
            None => self.front = behind,
        }
        match behind {
            Some(behind) => self.state(behind).before = before,
            None => self.back = before,
        }
    }

    fn state(&mut self, chunk: Chunk) -> &mut State {
        let state = chunk.header().state.get();
        // SAFETY: `self` is borrowed mutably, so the lock is held (VP1) and no other state is
        // borrowed for as long as the reference lives.
        unsafe { &mut *state }
    }
}

/// The lowest `wanted` bits that are set; all if there are fewer.
fn lowest_bits(free: u64, wanted: usize) -> u64 {
    if wanted >= free.count_ones() as usize {
        return free;
    }
    let mut left = free;
    for _ in 0..wanted {
        left &= left - 1;
    }
    free & !left
}

/// What a chunk begins with.
struct Header {
    pool: &'static VmaPool,
    memory: NonNull<[u8]>,
    /// How many blocks it has.
    capacity: u32,
    state: UnsafeCell<State>,
}

struct State {
    /// A bit for each place, set where the block is free; the header's own never are.
    free: [u64; PLACES_MAX / 64],
    used: u32,
    before: Option<Chunk>,
    behind: Option<Chunk>,
}

/// The name of a chunk (VP1).
#[derive(Clone, Copy)]
struct Chunk(NonNull<Header>);

// SAFETY: it is a name; what it leads to is reached as VP1 says, on any thread.
unsafe impl Send for Chunk {}

impl Chunk {
    /// Makes a chunk of memory that nothing else uses.
    fn begin(memory: NonNull<[u8]>, pool: &'static VmaPool) -> Self {
        let places = (memory.len() / ALIGNMENT).min(PLACES_MAX);
        let mut free = [0; PLACES_MAX / 64];
        for place in HEADER_PLACES..places {
            free[place / 64] |= 1 << (place % 64);
        }
        let header: NonNull<Header> = memory.cast();
        let content = Header {
            pool,
            memory,
            capacity: (places - HEADER_PLACES) as u32,
            state: UnsafeCell::new(State {
                free,
                used: 0,
                before: None,
                behind: None,
            }),
        };
        // SAFETY: the memory is ours, and larger and more aligned than a header, by the contract
        // of `VmaSource`.
        unsafe { header.write(content) };
        Self(header)
    }

    /// The chunk that `block` was cut out of.
    ///
    /// # Safety
    ///
    /// - `block` came out of a chunk that lives, from the place `place`.
    unsafe fn of(block: NonNull<Block>, place: u32) -> Self {
        // SAFETY: the block begins at `place` blocks from where its chunk begins.
        let header = unsafe { block.sub(place as usize) };
        Self(header.cast())
    }

    /// The block in `place`, which is one of the chunk's.
    fn block(self, place: usize) -> NonNull<Block> {
        let places: NonNull<Block> = self.0.cast();
        // SAFETY: the place is one of the chunk's (VP2).
        unsafe { places.add(place) }
    }

    fn header<'a>(self) -> &'a Header {
        // SAFETY: the header is there as long as the chunk is named (VP1); it is shared, and what
        // changes in it lies in a cell.
        unsafe { self.0.as_ref() }
    }

    /// The state of a chunk that left the lists.
    fn state_alone<'a>(self) -> &'a State {
        // SAFETY: called by `release_all` only, where nothing else knows of the chunk.
        unsafe { &*self.header().state.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::HeapChunks;
    use alloc::vec::Vec;

    static LARGE: VmaPool = VmaPool::new(&HeapChunks::new(VmaPool::CHUNK_MAX));
    static SMALL: VmaPool = VmaPool::new(&HeapChunks::new(0));

    fn take_many(pool: &'static VmaPool, count: usize) -> Vec<(NonNull<Block>, u32)> {
        let mut batch = Batch::new(pool, count);
        (0..count).map(|_| batch.take().unwrap()).collect()
    }

    fn free_all(blocks: Vec<(NonNull<Block>, u32)>) {
        for (block, place) in blocks {
            // SAFETY: both came out of `take`, once.
            unsafe { free(block, place) };
        }
    }

    #[test]
    fn blocks_made_together_lie_together() {
        let blocks = take_many(&LARGE, 3000);
        let neighbours = blocks
            .windows(2)
            .filter(|pair| pair[1].0.addr().get() == pair[0].0.addr().get() + ALIGNMENT);
        assert!(neighbours.count() >= 2996);
        assert_eq!(LARGE.in_use(), 3000);
        free_all(blocks);
        assert_eq!(LARGE.in_use(), 0);
        assert!(LARGE.release_reserve() > 0);
        assert_eq!(LARGE.release_reserve(), 0);
    }

    #[test]
    fn the_smallest_chunk_holds_one_block() {
        let mut blocks = take_many(&SMALL, 5);
        blocks.swap(0, 3);
        assert_eq!(SMALL.in_use(), 5);
        free_all(blocks);
        assert!(SMALL.release_reserve() <= VmaPool::CHUNK_MIN);
    }

    #[test]
    fn the_lowest_bits_are_taken() {
        assert_eq!(lowest_bits(0b1011_0100, 2), 0b1_0100);
        assert_eq!(lowest_bits(0b1011_0100, 9), 0b1011_0100);
    }
}
