//! Who is told before translations change: second MMUs, such as those of devices and guests.

use core::fmt;
use core::ops::Range;

/// Why translations of a range change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invalidation {
    /// The pages go away: unmapped, discarded, or the file became shorter.
    Unmapped,
    /// The pages go elsewhere (`mremap`).
    Moved,
    /// What is allowed changes (`mprotect`).
    Protected,
    /// The pages may not be written any more, because a child has them too.
    WriteProtected,
    /// One page takes the place of another, as in a copy on write.
    Replaced,
    /// The address space ends.
    Ended,
}

/// Somebody who keeps translations of an address space of his own.
///
/// Between `begin` and `end` of a range he makes no new ones for it; when `begin` returns he uses
/// none. Calls for different ranges may nest. A call that is refused is not told of, but for a
/// fork, and for a page that could not be replaced for lack of memory.
///
/// Where several threads use the address space ([`SharedAddressSpace`](crate::SharedAddressSpace)),
/// faults tell of their pages at once, and ranges that overlap may end in another order than they
/// began. He must not use that address space when told: who tells him may keep others out.
///
/// LINUX: `invalidate_range_start` and `_end` of an `mmu_notifier`. A child does not inherit it.
///
/// # Examples
///
/// ```
/// use maple_mm::{Invalidation, RangeNotifier};
/// use std::ops::Range;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// #[derive(Debug, Default)]
/// struct Counting(AtomicU64);
///
/// impl RangeNotifier for Counting {
///     fn begin(&self, _: &Range<u64>, _: Invalidation) {
///         self.0.fetch_add(1, Ordering::Relaxed);
///     }
/// }
/// ```
pub trait RangeNotifier: Send + Sync + fmt::Debug {
    /// Translations of `range` (bytes, end exclusive) are about to change.
    fn begin(&self, range: &Range<u64>, why: Invalidation);

    /// They have changed, and no processor uses the old ones.
    fn end(&self, range: &Range<u64>, why: Invalidation) {
        let _ = (range, why);
    }
}
