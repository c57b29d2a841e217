//! [`SpinLock`]: the lock of who has nothing to sleep on.
#![expect(unsafe_code, reason = "`RawMutex` is an unsafe trait")]

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::lock_api::{GuardSend, RawMutex};

/// Test and set. After some spinning it lets others run: the test may have fewer
/// processors than threads.
pub(crate) struct SpinLock(AtomicBool);

// SAFETY: the one who turns the flag on holds the lock until it is turned off.
unsafe impl RawMutex for SpinLock {
    const INIT: Self = Self(AtomicBool::new(false));

    type GuardMarker = GuardSend;

    fn lock(&self) {
        let mut spins = 0_u32;
        while !self.try_lock() {
            spins += 1;
            if spins.is_multiple_of(64) {
                thread::yield_now();
            } else {
                spin_loop();
            }
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
