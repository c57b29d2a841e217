//! A spin lock. A cellar: hands out what it guards.
#![expect(unsafe_code, reason = "hands out the value it guards")]

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// A lock for a few dozen instructions at a time; who waits spins.
pub(crate) struct SpinLock<T> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by one thread at a time, through a `Locked`.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            locked: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Locked<'_, T> {
        // ORDERING: `Acquire` pairs with the `Release` in `drop` of the last `Locked`.
        while self.locked.swap(true, Ordering::Acquire) {
            // Relaxed: the swap decides; reading leaves the line with who holds the lock.
            while self.locked.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        }
        Locked(self, PhantomData)
    }
}

/// The lock, held; shared between threads only if `T` may be.
pub(crate) struct Locked<'a, T>(&'a SpinLock<T>, PhantomData<&'a mut T>);

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is held; through this `Locked` a mutable reference takes `&mut self`.
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
    #[inline]
    fn drop(&mut self) {
        // ORDERING: `Release` pairs with the `Acquire` in `lock`.
        self.0.locked.store(false, Ordering::Release);
    }
}
