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
//! empty. Of the empty chunks one is kept, so that a program at the edge of a
//! chunk does not ask for one and give it back over and over.
#![expect(
    unsafe_code,
    reason = "cuts nodes out of raw chunks and finds the chunk of a node"
)]

use alloc::alloc::{Layout, alloc, dealloc};
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;

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
pub(crate) const BURST: usize = 64;

/// Nodes on their way out.
pub(crate) type Burst = ArrayVec<NonNull<NodeMemory>, BURST>;

/// Where the nodes of every [`HeapNodes`](crate::HeapNodes) come from.
pub(crate) static SLAB: Slab = Slab(SpinLock::new(Chunks::new()));

/// Chunks and the lock around them.
///
/// The global allocator is never called under the lock: it may itself use a
/// tree, or be slow.
pub(crate) struct Slab(SpinLock<Chunks>);

impl Slab {
    /// Puts `wanted` nodes into `burst`, fewer if it is full or the chunks at
    /// hand run out, none if there is no memory for another chunk.
    pub(crate) fn allocate(&self, wanted: usize, burst: &mut Burst) {
        let wanted = wanted.min(burst.remaining_capacity());
        self.0.lock().take(wanted, burst);
        // If there were some nodes, asking again for the others is the caller's.
        if wanted == 0 || !burst.is_empty() {
            return;
        }
        if let Some(chunk) = Chunk::allocate() {
            self.0.lock().adopt(chunk, wanted, burst);
        }
    }

    /// Takes nodes back. Chunks that become empty, but for one, go back to the
    /// global allocator.
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
            let mut empty: ArrayVec<Chunk, BURST> = ArrayVec::new();
            let mut chunks = self.0.lock();
            for &node in nodes {
                // SAFETY: the caller's promise, of which this is a part.
                empty.extend(unsafe { chunks.give_back(node) });
            }
            drop(chunks);
            empty.into_iter().for_each(Chunk::release);
        }
    }

    /// Returns the empty chunk that is kept to the global allocator, and how
    /// many bytes that is.
    pub(crate) fn release_reserve(&self) -> usize {
        let reserve = self.0.lock().reserve.take();
        reserve.map_or(0, |chunk| {
            chunk.release();
            CHUNK
        })
    }
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
/// - **S3** Chunks with some nodes free and some not are in the queue; the
///   reserve has none handed out; a full chunk is known by its nodes only.
struct Chunks {
    front: Option<Chunk>,
    back: Option<Chunk>,
    reserve: Option<Chunk>,
}

impl Chunks {
    const fn new() -> Self {
        Self {
            front: None,
            back: None,
            reserve: None,
        }
    }

    /// Takes up to `wanted` nodes out of the chunks at hand.
    fn take(&mut self, wanted: usize, burst: &mut Burst) {
        let wanted = burst.len() + wanted;
        while burst.len() < wanted {
            let Some(chunk) = self.current() else { return };
            self.take_from(chunk, wanted - burst.len(), burst);
        }
    }

    /// Adds a chunk without used nodes, and takes nodes from it at once, so
    /// that no empty chunk stands in the queue (S3).
    fn adopt(&mut self, chunk: Chunk, wanted: usize, burst: &mut Burst) {
        self.push_back(chunk);
        self.take_from(chunk, wanted, burst);
    }

    /// The chunk that nodes come from: the first of the queue, or the reserve.
    fn current(&mut self) -> Option<Chunk> {
        if self.front.is_none() {
            let reserve = self.reserve.take()?;
            self.push_back(reserve);
        }
        self.front
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

    /// Takes a node back. Returns its chunk if that is empty now and not kept:
    /// it is no longer this slab's.
    ///
    /// # Safety
    ///
    /// As for [`Slab::free`].
    unsafe fn give_back(&mut self, node: NonNull<NodeMemory>) -> Option<Chunk> {
        // SAFETY: the caller's promise.
        let (chunk, place) = unsafe { Chunk::of(node) };
        let header = self.header(chunk);
        header.put(place);
        match header.used {
            0 => {
                self.unlink(chunk);
                self.keep(chunk)
            }
            // It was full until now, and so in no queue.
            left if left == NODES - 1 => {
                self.push_back(chunk);
                None
            }
            _ => None,
        }
    }

    /// Keeps an empty chunk as the reserve, or hands it back if there is one.
    fn keep(&mut self, chunk: Chunk) -> Option<Chunk> {
        if self.reserve.is_some() {
            return Some(chunk);
        }
        self.reserve = Some(chunk);
        None
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
    fn release(self) {
        // SAFETY:
        // - It came from `allocate`, so from the same layout (S1).
        // - It was taken out of the queue or the reserve, and no node of it is
        //   handed out, so nothing else knows of it (S3).
        unsafe { dealloc(self.0.as_ptr().cast(), LAYOUT) }
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

/// A lock for a few dozen instructions at a time.
///
/// A thread that waits spins: without `std` there is nobody to ask for sleep.
/// Who is stopped while it holds the lock makes others wait for as long.
struct SpinLock<T> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by one thread at a time, through a `Locked`.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    const fn new(value: T) -> Self {
        Self {
            locked: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    fn lock(&self) -> Locked<'_, T> {
        // ORDERING: `Acquire` pairs with the `Release` in `drop` of the last `Locked`.
        while self.locked.swap(true, Ordering::Acquire) {
            // Reading leaves the cache line with who holds the lock.
            // ORDERING: `Relaxed`: the swap decides.
            while self.locked.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        }
        Locked(self, PhantomData)
    }
}

/// The lock, held. Dropping it, by a panic too, lets go.
///
/// Like the `&mut T` it stands for, it is shared between threads only if `T` may be.
struct Locked<'a, T>(&'a SpinLock<T>, PhantomData<&'a mut T>);

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is held, so no other thread has a reference; through
        // this `Locked` a mutable one takes `&mut self`.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held, and this `Locked` is borrowed mutably.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Locked<'_, T> {
    fn drop(&mut self) {
        // ORDERING: `Release` pairs with the `Acquire` in `lock`.
        self.0.locked.store(false, Ordering::Release);
    }
}
