//! The slab behind [`HeapNodes`](crate::HeapNodes): nodes cut out of large chunks.
//!
//! General-purpose allocators are slow at memory aligned to 256 bytes, lose
//! some beside each node, and scatter neighbours. Here a chunk of 64 KiB holds
//! a header and 255 nodes, and is aligned to its size, so that masking the
//! address of a node finds the header:
//!
//! ```text
//!  0        256      512      768                        65536
//!  | header | node 1 | node 2 | ...          | node 255  |
//! ```
//!
//! Which nodes are free is kept in the header, one bit each, rather than as a
//! chain through the free nodes: a fresh chunk is handed out in the order of
//! addresses without being touched, an old one lowest address first, a node is
//! freed without touching its memory, and one that is freed twice is noticed.
//!
//! Chunks with some nodes free stand in a queue. Nodes come from its front until
//! that chunk is full, while those behind it gather free neighbours or become
//! empty. Empty chunks are kept as a reserve, up to the number of those in use
//! and at least one: a tree that is copied and dropped over and over would
//! otherwise pay for fresh pages each time, ten times what its nodes cost.
#![expect(
    unsafe_code,
    reason = "cuts nodes out of raw chunks and finds the chunk of a node"
)]

use alloc::alloc::{Layout, alloc, dealloc};
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use arrayvec::ArrayVec;
use spin::mutex::SpinMutex;

use crate::node::NodeMemory;

/// Bytes of a chunk, and its alignment.
const CHUNK: usize = 1 << 16;
/// Places of a node's size in a chunk. The first is the header's.
const PLACES: usize = CHUNK / size_of::<NodeMemory>();
/// Nodes of a chunk.
const NODES: u32 = PLACES as u32 - 1;
const LAYOUT: Layout = match Layout::from_size_align(CHUNK, CHUNK) {
    Ok(layout) => layout,
    Err(_) => panic!("64 KiB is a size and an alignment"),
};

/// At most so many nodes pass under one hold of the lock, which bounds how long others wait.
const BURST: usize = 64;

/// Nodes on their way out.
pub(crate) type Burst = ArrayVec<NonNull<NodeMemory>, BURST>;

/// Where the nodes of every [`HeapNodes`](crate::HeapNodes) come from.
pub(crate) static SLAB: Slab = Slab(SpinMutex::new(Chunks::new()));

/// Chunks and the lock around them.
///
/// The global allocator is never called under the lock: it may itself use a
/// tree, or be slow. A thread that waits spins, for a few dozen instructions:
/// without `std` there is nobody to ask for sleep.
pub(crate) struct Slab(SpinMutex<Chunks>);

impl Slab {
    /// Puts `wanted` nodes, which is at least one, into the empty `burst`; fewer if
    /// that is full or the chunks at hand run out, none if there is no memory for
    /// another.
    ///
    /// Returning a burst would copy all of it for a single node.
    pub(crate) fn allocate(&self, wanted: usize, burst: &mut Burst) {
        debug_assert_ne!(wanted, 0, "a chunk must not be queued unused");
        let wanted = wanted.min(BURST);
        self.0.lock().take(wanted, burst);
        // Where there were some, asking again for the others is the caller's.
        if burst.is_empty()
            && let Some(chunk) = Chunk::allocate()
        {
            self.0.lock().adopt(chunk, wanted, burst);
        }
    }

    /// Takes nodes back. Empty chunks beyond the reserve go back to the global
    /// allocator.
    ///
    /// # Safety
    ///
    /// - Each node came out of [`allocate`](Self::allocate) of this slab, was
    ///   not freed since, occurs once, and nothing uses it any more.
    /// - Each pointer may access the whole chunk, as it could when it came out.
    pub(crate) unsafe fn free(&self, nodes: &[NonNull<NodeMemory>]) {
        for nodes in nodes.chunks(BURST) {
            for &node in nodes {
                forget_content(node);
            }
            let mut chunks = self.0.lock();
            for &node in nodes {
                // SAFETY: the caller's promise, of which this is a part.
                unsafe { chunks.give_back(node) };
            }
            let excess = chunks.take_excess();
            drop(chunks);
            release_all(excess);
        }
    }

    /// Returns the reserve to the global allocator, and how many bytes that is.
    pub(crate) fn release_reserve(&self) -> usize {
        let reserve = self.0.lock().take_reserve();
        release_all(reserve) * CHUNK
    }
}

/// Returns `chunk` and those linked behind it, which left the slab, to the
/// global allocator. Counts them.
fn release_all(chunk: Option<Chunk>) -> usize {
    let mut released = 0;
    let mut next = chunk;
    while let Some(chunk) = next {
        next = chunk.release();
        released += 1;
    }
    released
}

/// Makes what a node held unreadable.
///
/// This is no code at all, but a write to tools that watch memory: Miri then
/// reports a late reader, as it does where the memory itself is freed.
fn forget_content(node: NonNull<NodeMemory>) {
    let content = node.cast::<MaybeUninit<NodeMemory>>();
    // SAFETY: called from `Slab::free` only, for a node that nothing uses any more.
    unsafe { content.write(MaybeUninit::uninit()) };
}

/// What the lock protects.
///
/// # Invariants
///
/// - **S1** Each [`Chunk`] names memory of `LAYOUT` that holds a header and is
///   this slab's, until `release` ends it; its header is reached under the
///   lock, or by who alone knows of the chunk.
/// - **S2** Bit `i` of `free` is set where node `i` is not handed out; `used`
///   is the number of those that are.
/// - **S3** Chunks with some nodes free and some not are in the queue; those of
///   the reserve have none handed out; a full chunk is known by its nodes only.
///   `in_use` and `reserved` count them.
struct Chunks {
    /// The queue: the chunk that nodes come from, and the last, linked both ways.
    front: Option<Chunk>,
    back: Option<Chunk>,
    /// Chunks that are in the queue or full.
    in_use: usize,
    /// The empty chunks, the latest first, linked by `behind`.
    reserve: Option<Chunk>,
    reserved: usize,
}

impl Chunks {
    const fn new() -> Self {
        Self {
            front: None,
            back: None,
            in_use: 0,
            reserve: None,
            reserved: 0,
        }
    }

    /// Fills `burst` up to `wanted` nodes from the chunks at hand.
    fn take(&mut self, wanted: usize, burst: &mut Burst) {
        while burst.len() < wanted {
            let missing = wanted - burst.len();
            if let Some(chunk) = self.front {
                self.take_from(chunk, missing, burst);
            } else if let Some(chunk) = self.pop_reserve() {
                self.adopt(chunk, missing, burst);
            } else {
                return;
            }
        }
    }

    /// Puts a chunk without used nodes into the queue, and takes nodes from it at
    /// once, so that no empty one stands there (S3).
    fn adopt(&mut self, chunk: Chunk, wanted: usize, burst: &mut Burst) {
        self.in_use += 1;
        self.push_back(chunk);
        self.take_from(chunk, wanted, burst);
    }

    /// Takes up to `wanted` nodes, but at least one, out of a chunk of the queue.
    fn take_from(&mut self, chunk: Chunk, wanted: usize, burst: &mut Burst) {
        let header = self.header(chunk);
        for _ in 0..wanted {
            let Some(place) = header.take_lowest() else {
                break;
            };
            burst.push(chunk.node(place));
        }
        if header.used == NODES {
            self.unlink(chunk);
        }
    }

    /// Takes a node back. What became empty is in the reserve then.
    ///
    /// # Safety
    ///
    /// As for [`Slab::free`].
    unsafe fn give_back(&mut self, node: NonNull<NodeMemory>) {
        // SAFETY: the caller's promise.
        let (chunk, place) = unsafe { Chunk::of(node) };
        let header = self.header(chunk);
        header.put(place);
        match header.used {
            0 => {
                self.unlink(chunk);
                self.in_use -= 1;
                self.push_reserve(chunk);
            }
            // It was full until now, and so not in the queue.
            left if left == NODES - 1 => self.push_back(chunk),
            _ => {}
        }
    }

    fn push_reserve(&mut self, chunk: Chunk) {
        let behind = self.reserve.replace(chunk);
        self.header(chunk).behind = behind;
        self.reserved += 1;
    }

    fn pop_reserve(&mut self) -> Option<Chunk> {
        let chunk = self.reserve?;
        self.reserve = self.header(chunk).behind.take();
        self.reserved -= 1;
        Some(chunk)
    }

    /// Takes what the reserve has too much of: it keeps as many chunks as are in
    /// use, and one if none is. The chunks are linked by `behind`.
    fn take_excess(&mut self) -> Option<Chunk> {
        let mut excess = None;
        while self.reserved > self.in_use.max(1) {
            let chunk = self.pop_reserve()?;
            self.header(chunk).behind = excess.replace(chunk);
        }
        excess
    }

    /// Takes the reserve. The chunks are linked by `behind`.
    fn take_reserve(&mut self) -> Option<Chunk> {
        self.reserved = 0;
        self.reserve.take()
    }

    fn push_back(&mut self, chunk: Chunk) {
        let before = self.back.replace(chunk);
        let header = self.header(chunk);
        header.before = before;
        header.behind = None;
        match before {
            Some(before) => self.header(before).behind = Some(chunk),
            None => self.front = Some(chunk),
        }
    }

    fn unlink(&mut self, chunk: Chunk) {
        let header = self.header(chunk);
        let (before, behind) = (header.before.take(), header.behind.take());
        match before {
            Some(before) => self.header(before).behind = behind,
            None => self.front = behind,
        }
        match behind {
            Some(behind) => self.header(behind).before = before,
            None => self.back = before,
        }
    }

    fn header(&mut self, chunk: Chunk) -> &mut Header {
        let mut header = chunk.0;
        // SAFETY:
        // - The chunk is this slab's and has a header (S1).
        // - `self` is borrowed mutably for as long as the reference lives, so
        //   the lock is held and no other header is borrowed; the reference
        //   covers the header only, which no node overlaps.
        unsafe { header.as_mut() }
    }
}

/// What a chunk begins with.
struct Header {
    /// A bit for each place, set where the node is free; the header's own never is.
    free: [u64; PLACES / 64],
    used: u32,
    before: Option<Chunk>,
    behind: Option<Chunk>,
}

impl Header {
    const UNUSED: Self = {
        assert!(size_of::<Self>() <= size_of::<NodeMemory>());
        assert!(align_of::<Self>() <= CHUNK);
        let mut free = [u64::MAX; PLACES / 64];
        free[0] -= 1;
        Self {
            free,
            used: 0,
            before: None,
            behind: None,
        }
    };

    /// Hands the free node of the lowest address out.
    fn take_lowest(&mut self) -> Option<usize> {
        let word = self.free.iter().position(|&free| free != 0)?;
        let free = &mut self.free[word];
        let bit = free.trailing_zeros() as usize;
        *free &= *free - 1;
        self.used += 1;
        Some(64 * word + bit)
    }

    fn put(&mut self, place: usize) {
        let free = &mut self.free[place / 64];
        let bit = 1 << (place % 64);
        debug_assert!(*free & bit == 0, "a node was freed twice");
        *free |= bit;
        self.used -= 1;
    }
}

/// The name of a chunk (S1).
#[derive(Clone, Copy)]
struct Chunk(NonNull<Header>);

// SAFETY: it is a name; what it leads to is reached as S1 says, on any thread.
unsafe impl Send for Chunk {}

impl Chunk {
    /// A chunk from the global allocator, none of whose nodes is handed out.
    fn allocate() -> Option<Self> {
        // SAFETY: the layout is not of size zero.
        let memory = unsafe { alloc(LAYOUT) };
        let header: NonNull<Header> = NonNull::new(memory)?.cast();
        // SAFETY: the memory is ours, and larger and more aligned than a header (`UNUSED`).
        unsafe { header.write(Header::UNUSED) };
        Some(Self(header))
    }

    /// Returns the chunk to the global allocator: it was empty, and left the slab.
    /// Hands out the chunk that is linked behind it.
    fn release(self) -> Option<Self> {
        // SAFETY: the header is there (S1), and nothing else knows of the chunk.
        let behind = unsafe { self.0.as_ref() }.behind;
        // SAFETY:
        // - It came from `allocate`, so from the same layout (S1).
        // - It was taken out of the queue or the reserve, and no node of it is
        //   handed out, so nothing else knows of it (S3).
        unsafe { dealloc(self.0.as_ptr().cast(), LAYOUT) };
        behind
    }

    /// The node in `place`, which is below `PLACES`.
    fn node(self, place: usize) -> NonNull<NodeMemory> {
        let places: NonNull<NodeMemory> = self.0.cast();
        // SAFETY: a chunk is `PLACES` times as large as a node.
        unsafe { places.add(place) }
    }

    /// The chunk that `node` was cut out of, and its place there.
    ///
    /// # Safety
    ///
    /// - `node` came out of a chunk that lives, and may access all of it.
    unsafe fn of(node: NonNull<NodeMemory>) -> (Self, usize) {
        let address = node.as_ptr().addr();
        let place = (address % CHUNK) / size_of::<NodeMemory>();
        debug_assert!(place != 0, "this is no node: a header is here");
        // SAFETY: a node begins at `place` nodes from where its chunk begins, so
        // both are within the chunk.
        let header = unsafe { node.sub(place) };
        (Self(header.cast()), place)
    }
}
