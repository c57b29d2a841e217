//! An entry on its way from one node to another.

use core::mem::MaybeUninit;

/// The word of an entry, while no node owns it.
///
/// It can be a second copy of a word that a lock-free reader still looks at in
/// the node it came from, so it is not a value of `T` until it has an owner. It
/// has no `Drop`: one that is lost leaks its entry.
#[must_use]
#[repr(transparent)]
pub(crate) struct Held<T>(pub(super) MaybeUninit<T>);

impl<T> Held<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(MaybeUninit::new(value))
    }

    /// The entry.
    ///
    /// # Safety
    ///
    /// - Nothing else owns it: the slot it was copied from has been given up, and
    ///   no lock-free reader can look at that any more.
    pub(crate) unsafe fn into_inner(self) -> T {
        // SAFETY: made of a value, or copied from a slot that holds one.
        unsafe { self.0.assume_init() }
    }
}
