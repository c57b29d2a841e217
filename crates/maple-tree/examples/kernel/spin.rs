//! A lock to spin on, for `lock_api`.
#![expect(unsafe_code, reason = "promises that the lock excludes")]

use core::sync::atomic::{AtomicBool, Ordering};

pub(crate) struct Spin(AtomicBool);

// SAFETY: who changed the word from `false` to `true` holds the lock.
unsafe impl lock_api::RawMutex for Spin {
    const INIT: Self = Self(AtomicBool::new(false));
    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        while !self.try_lock() {
            core::hint::spin_loop();
        }
    }

    fn try_lock(&self) -> bool {
        // ORDERING: `Acquire` pairs with the `Release` in `unlock`.
        !self.0.swap(true, Ordering::Acquire)
    }

    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}
