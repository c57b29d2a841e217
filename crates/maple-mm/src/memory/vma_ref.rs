//! [`VmaRef`]: the counted pointer to a mapping. A cellar: owns blocks of a pool.
#![expect(
    unsafe_code,
    reason = "counts and frees the memory behind a pointer; a tree holds it as a word"
)]

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};

use maple_tree::Entry;

use super::pool::{self, Batch, Block, VmaPool};
use crate::errno::Errno;
use crate::vma::Vma;

/// What a pointer leads to: one cache line.
///
/// PERF: what `fork` reads of a mapping and what it writes of the new one is a line each.
#[repr(C, align(64))]
struct Inner {
    count: AtomicU32,
    /// Where in its chunk the block is.
    place: u32,
    vma: Vma,
}

const _: () = assert!(size_of::<Inner>() == size_of::<Block>());
const _: () = assert!(align_of::<Inner>() == align_of::<Block>());

/// A shared, immutable mapping: one word, counted, its memory from a [`VmaPool`].
///
/// # Invariants
///
/// - **VR1** `inner` leads to a block of a pool that holds a mapping; `count` is the number of
///   `VmaRef` that lead there.
///
/// # Examples
///
/// ```
/// use maple_mm::{AddressSpace, MmapRequest, VmaRef};
/// let mut space = AddressSpace::empty();
/// let addr = space.mmap(MmapRequest::anonymous(4096, 0))?;
/// let vma: VmaRef = space.vma_at(addr).unwrap().clone();
/// space.munmap(addr, 4096)?;
/// assert_eq!((vma.start(), VmaRef::count(&vma)), (addr, 1));
/// # Ok::<(), maple_mm::Errno>(())
/// ```
pub struct VmaRef {
    inner: NonNull<Inner>,
    _owns: PhantomData<Inner>,
}

// SAFETY: a `Vma` is immutable, `Send` and `Sync` (checked below); the count is atomic, and a
// pool takes blocks back on any thread.
unsafe impl Send for VmaRef {}

// SAFETY: as for `Send`: a shared reference can be cloned into a pointer.
unsafe impl Sync for VmaRef {}

const _: () = {
    const fn is_shareable<T: Send + Sync>() {}
    is_shareable::<Vma>();
};

// SAFETY: one pointer; the count is behind it, not in the word.
unsafe impl Entry for VmaRef {
    const IS_POINTER: bool = true;
}

impl VmaRef {
    /// Puts `vma` into a block of its own.
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`] if the pool has none.
    pub(crate) fn new(vma: Vma, pool: &'static VmaPool) -> Result<Self, Errno> {
        Self::new_from(vma, &mut Batch::new(pool, 1))
    }

    /// As [`new`](Self::new), from blocks that were taken together.
    #[inline]
    pub(crate) fn new_from(vma: Vma, batch: &mut Batch) -> Result<Self, Errno> {
        let (block, place) = batch.take()?;
        let inner: NonNull<Inner> = block.cast();
        let count = AtomicU32::new(1);
        // SAFETY: the block is ours, and of this size and alignment.
        unsafe { inner.write(Inner { count, place, vma }) };
        // INVARIANT: VR1, one pointer.
        Ok(Self {
            inner,
            _owns: PhantomData,
        })
    }

    /// How many pointers lead to the mapping; others may come and go meanwhile.
    #[must_use]
    pub fn count(this: &Self) -> usize {
        // Relaxed: nothing is concluded about the mapping.
        this.inner().count.load(Ordering::Relaxed) as usize
    }

    /// Whether both are the same value, not only equal.
    #[must_use]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        this.inner == other.inner
    }

    fn inner(&self) -> &Inner {
        // SAFETY: the mapping is there as long as this pointer is counted (VR1).
        unsafe { self.inner.as_ref() }
    }

    /// Ends the mapping.
    fn release(&self) {
        let place = self.inner().place;
        // SAFETY: called by the last pointer (VR1), so nobody looks at the mapping any more.
        unsafe { ptr::drop_in_place(self.inner.as_ptr()) };
        // SAFETY: both came from `Batch::take` in `new_from`, and nothing is in the block now.
        unsafe { pool::free(self.inner.cast(), place) };
    }
}

impl Deref for VmaRef {
    type Target = Vma;

    #[inline]
    fn deref(&self) -> &Vma {
        &self.inner().vma
    }
}

impl Clone for VmaRef {
    /// # Panics
    ///
    /// Beyond 2^31 pointers to one mapping.
    #[inline]
    fn clone(&self) -> Self {
        // Relaxed: whoever clones has a pointer, so the count cannot reach zero meanwhile.
        let before = self.inner().count.fetch_add(1, Ordering::Relaxed);
        if before > u32::MAX / 2 {
            self.inner().count.fetch_sub(1, Ordering::Relaxed);
            panic!("more than 2^31 references to one mapping");
        }
        Self {
            inner: self.inner,
            _owns: PhantomData,
        }
    }
}

impl Drop for VmaRef {
    #[inline]
    fn drop(&mut self) {
        let count = &self.inner().count;
        // PERF: a mapping of one owner, the usual case at exit, costs no locked instruction: who
        // holds the only pointer is the only one who could make another.
        // ORDERING: `Acquire` pairs with the `Release` of the other drops.
        if count.load(Ordering::Acquire) == 1 {
            self.release();
            return;
        }
        // ORDERING: `Release` pairs with the `Acquire` above and the one below.
        if count.fetch_sub(1, Ordering::Release) == 1 {
            // ORDERING: a load, since race detectors do not see fences.
            count.load(Ordering::Acquire);
            self.release();
        }
    }
}

impl fmt::Debug for VmaRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
