//! How a shared leaf's entries are cloned, remembered from the first snapshot.
//!
//! Only a snapshot shares nodes, and only where `T: Clone`; but a write that
//! meets a shared leaf is written for every `T`. A cellar: the function is kept
//! as a word, so that `snapshot(&self)` can leave it behind.
#![expect(
    unsafe_code,
    reason = "turns a word back into the function it was made of"
)]

use core::marker::PhantomData;
use core::mem::transmute;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

/// The function that clones an entry, once there has been a snapshot.
pub(crate) struct CloneFn<T> {
    /// Null, or an `fn(&T) -> T`.
    function: AtomicPtr<()>,
    _clones: PhantomData<fn(&T) -> T>,
}

impl<T> CloneFn<T> {
    pub(crate) const fn unset() -> Self {
        Self {
            function: AtomicPtr::new(null_mut()),
            _clones: PhantomData,
        }
    }

    pub(crate) fn set(&self)
    where
        T: Clone,
    {
        let function: fn(&T) -> T = T::clone;
        // ORDERING: `Relaxed`: the word is all there is, and every writer stores the same.
        self.function.store(function as *mut (), Ordering::Relaxed);
    }

    /// Sets what `other` knows.
    #[cfg(feature = "rcu")]
    pub(crate) fn adopt(&self, other: &Self) {
        // ORDERING: `Relaxed`: as in `set`.
        let function = other.function.load(Ordering::Relaxed);
        if !function.is_null() {
            self.function.store(function, Ordering::Relaxed);
        }
    }

    /// The function, or `None` if nodes of this tree have never been shared.
    pub(crate) fn get(&self) -> Option<fn(&T) -> T> {
        let word = self.function.load(Ordering::Relaxed);
        if word.is_null() {
            return None;
        }
        // SAFETY: only `set` makes a word that is not null, of `T::clone` for
        // this very `T`, lifetimes included: `_clones` makes the type invariant in it.
        Some(unsafe { transmute::<*mut (), fn(&T) -> T>(word) })
    }
}
