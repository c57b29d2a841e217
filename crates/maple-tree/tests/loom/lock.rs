//! [`CheckedLock`]: a lock made of the parts of whichever checker runs the test.
#![expect(unsafe_code, reason = "`RawMutex` is an unsafe trait")]

use std::sync::OnceLock;

use parking_lot::lock_api::{GuardSend, RawMutex};

use crate::sync::{Condvar, Mutex};

/// A flag that is waited for. The checker's parts are made when they are first used,
/// as they belong to a run.
pub(crate) struct CheckedLock(OnceLock<(Mutex<bool>, Condvar)>);

impl CheckedLock {
    fn parts(&self) -> &(Mutex<bool>, Condvar) {
        self.0.get_or_init(|| (Mutex::new(false), Condvar::new()))
    }
}

// SAFETY: the one who turns the flag on holds the lock until it is turned off.
unsafe impl RawMutex for CheckedLock {
    const INIT: Self = Self(OnceLock::new());

    type GuardMarker = GuardSend;

    fn lock(&self) {
        let (is_held, released) = self.parts();
        let mut is_held = is_held.lock().unwrap();
        while *is_held {
            is_held = released.wait(is_held).unwrap();
        }
        *is_held = true;
    }

    fn try_lock(&self) -> bool {
        !std::mem::replace(&mut *self.parts().0.lock().unwrap(), true)
    }

    unsafe fn unlock(&self) {
        if std::thread::panicking() {
            return;
        }
        let (is_held, released) = self.parts();
        *is_held.lock().unwrap() = false;
        released.notify_one();
    }
}
