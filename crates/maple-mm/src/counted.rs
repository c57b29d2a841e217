//! [`Counted`]: shared values whose allocation can be refused. A cellar: owns raw memory.
#![expect(
    unsafe_code,
    reason = "allocates, counts and frees the memory behind a pointer"
)]

use alloc::alloc::{Layout, alloc, dealloc};
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::errno::Errno;

/// What a pointer leads to.
struct Inner<T> {
    count: AtomicUsize,
    value: T,
}

/// A shared value: an `Arc` without weak references, which says so when there is no memory.
///
/// # Invariants
///
/// - **CP1** `inner` leads to memory of the global allocator with the layout of `Inner<T>`, that
///   holds a value; `count` is the number of `Counted` that lead there.
///
/// # Examples
///
/// ```
/// use maple_mm::Counted;
/// let name = Counted::new("heap")?;
/// let again = name.clone();
/// assert_eq!((again.len(), Counted::count(&name)), (4, 2));
/// # Ok::<(), maple_mm::Errno>(())
/// ```
pub struct Counted<T> {
    inner: NonNull<Inner<T>>,
    _owns: PhantomData<Inner<T>>,
}

// SAFETY: as for `Arc`: whoever has a pointer may read the value, and the last one drops it, on
// any thread; the count is atomic.
unsafe impl<T: Send + Sync> Send for Counted<T> {}

// SAFETY: as for `Send`: a shared reference can be cloned into a pointer.
unsafe impl<T: Send + Sync> Sync for Counted<T> {}

impl<T> Counted<T> {
    /// Puts `value` into memory of its own.
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`] if there is none; the value is dropped.
    pub fn new(value: T) -> Result<Self, Errno> {
        // SAFETY: the layout is not of size zero: it holds the count.
        let memory = unsafe { alloc(Layout::new::<Inner<T>>()) };
        let inner: NonNull<Inner<T>> = NonNull::new(memory).ok_or(Errno::ENOMEM)?.cast();
        let count = AtomicUsize::new(1);
        // SAFETY: the memory is ours, and of this layout.
        unsafe { inner.write(Inner { count, value }) };
        // INVARIANT: CP1, one pointer.
        Ok(Self {
            inner,
            _owns: PhantomData,
        })
    }

    /// How many pointers lead to the value; others may come and go meanwhile.
    #[must_use]
    pub fn count(this: &Self) -> usize {
        // Relaxed: nothing is concluded about the value.
        this.inner().count.load(Ordering::Relaxed)
    }

    /// Whether both lead to the same value.
    #[must_use]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        this.inner == other.inner
    }

    fn inner(&self) -> &Inner<T> {
        // SAFETY: the value is there as long as this pointer is counted (CP1).
        unsafe { self.inner.as_ref() }
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T> Clone for Counted<T> {
    /// # Panics
    ///
    /// Beyond `isize::MAX` pointers, which only forgetting them without end can make.
    fn clone(&self) -> Self {
        // Relaxed: whoever clones has a pointer, so the count cannot reach zero meanwhile.
        let before = self.inner().count.fetch_add(1, Ordering::Relaxed);
        if before > isize::MAX as usize {
            self.inner().count.fetch_sub(1, Ordering::Relaxed);
            panic!("more references than addresses");
        }
        Self {
            inner: self.inner,
            _owns: PhantomData,
        }
    }
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        // ORDERING: `Release` pairs with the `Acquire` of whoever drops the last one.
        if self.inner().count.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        // ORDERING: `Acquire` pairs with the `Release` of all other drops; a load, since race
        // detectors do not see fences.
        self.inner().count.load(Ordering::Acquire);
        // SAFETY: this was the last pointer (CP1), so nobody looks at the value any more.
        unsafe { ptr::drop_in_place(self.inner.as_ptr()) };
        // SAFETY: the memory came from `new`, so from the same layout, and nothing is in it now.
        unsafe { dealloc(self.inner.as_ptr().cast(), Layout::new::<Inner<T>>()) };
    }
}

impl<T: fmt::Debug> fmt::Debug for Counted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Counted<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Counted<T> {}

#[cfg(test)]
mod tests {
    use super::Counted;
    use alloc::string::String;

    #[test]
    fn the_last_pointer_drops_the_value() {
        let first = Counted::new(String::from("x")).unwrap();
        let second = first.clone();
        assert!(Counted::ptr_eq(&first, &second));
        drop(first);
        assert_eq!((Counted::count(&second), second.as_str()), (1, "x"));
    }
}
