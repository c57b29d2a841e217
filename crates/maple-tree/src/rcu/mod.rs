//! [`Rcu`]: how to wait until nobody looks any more, and the tree that needs it.
//!
//! A cellar: an implementation promises that memory is not freed too early.
#![expect(unsafe_code, reason = "the contract of reclamation")]

#[cfg(feature = "crossbeam")]
mod epoch;
#[cfg(feature = "rcu")]
mod face;
mod list;
#[cfg(feature = "rcu")]
mod local;
#[cfg(feature = "rcu")]
mod publish;
#[cfg(feature = "rcu")]
mod published;
#[cfg(feature = "rcu")]
mod reader;
#[cfg(feature = "rcu")]
mod retire;
#[cfg(feature = "rcu")]
mod tree;
#[cfg(feature = "rcu")]
mod writer;

use alloc::sync::Arc;
use core::ptr::NonNull;

#[cfg(feature = "crossbeam")]
pub use epoch::EpochRcu;
pub use list::{RcuHead, RcuList};
#[cfg(feature = "rcu")]
pub use local::{LocalGuard, LocalRcu};
#[cfg(feature = "rcu")]
pub use publish::Publisher;
#[cfg(feature = "rcu")]
pub use published::Published;
#[cfg(feature = "rcu")]
pub use reader::Reader;
#[cfg(feature = "rcu")]
pub use tree::RcuMapleTree;
#[cfg(feature = "rcu")]
pub use writer::{Writer, WriterCursor, WriterPreallocation};

/// A tree read through [`EpochRcu`] and written under a `parking_lot` lock.
#[cfg(feature = "crossbeam")]
pub type SyncMapleTree<T> = RcuMapleTree<T, EpochRcu, parking_lot::RawMutex>;

/// Read-copy-update: readers enter without waiting, and what is cut out of the
/// tree is freed when all who may look at it have left.
///
/// The tree brings no such scheme of its own. A kernel plugs in what it has;
/// `EpochRcu` (feature `crossbeam`) is one for programs with threads, and
/// `LocalRcu` one for a single thread.
///
/// ```text
///  reader    read_lock ------- looks ------- drops its guard
///  writer        cuts out, call_rcu ........ waits for nobody
///  rcu                      |  every guard from before ...  | free
/// ```
///
/// An implementation needs no memory: what waits brings an [`RcuHead`], and an
/// [`RcuList`] keeps heads in line. The example `kernel` of the repository has a whole
/// one, by quiescent states, in about a hundred lines.
///
/// # Safety
///
/// - A function given to [`call_rcu`](Self::call_rcu) runs only after every guard
///   that existed at the time of the call is gone.
/// - What a thread did before it dropped a guard happens before that function runs.
/// - What a thread did before the call happens before it, too.
/// - Dropping the implementation does not drop the functions that have not run:
///   they still run, or never do.
///
/// # Examples
///
/// The shape of a kernel's:
///
/// ```
/// use core::ptr::NonNull;
/// use maple_tree::{Rcu, RcuHead};
///
/// # mod kernel {
/// #     use maple_tree::RcuHead;
/// #     use core::ptr::NonNull;
/// #     pub struct Guard;
/// #     pub fn rcu_read_lock() -> Guard { Guard }
/// #     pub unsafe fn call_rcu(_: NonNull<RcuHead>, _: unsafe fn(NonNull<RcuHead>)) {}
/// #     pub fn synchronize_rcu() {}
/// #     pub fn rcu_barrier() {}
/// # }
/// struct KernelRcu;
///
/// // SAFETY: what the kernel's RCU promises.
/// unsafe impl Rcu for KernelRcu {
///     type Guard<'a> = kernel::Guard;
///     fn read_lock(&self) -> kernel::Guard {
///         kernel::rcu_read_lock()
///     }
///     unsafe fn call_rcu(&self, head: NonNull<RcuHead>, free: unsafe fn(NonNull<RcuHead>)) {
///         // SAFETY: the contract.
///         unsafe { kernel::call_rcu(head, free) }
///     }
///     fn synchronize(&self) {
///         kernel::synchronize_rcu();
///     }
///     fn barrier(&self) {
///         kernel::rcu_barrier();
///     }
/// }
/// ```
pub unsafe trait Rcu {
    /// What a reader holds while it looks. Not `Send` where that matters to the
    /// implementation.
    type Guard<'a>
    where
        Self: 'a;

    /// Enters. Never blocks on a writer; may be nested.
    fn read_lock(&self) -> Self::Guard<'_>;

    /// Has `free(head)` called once every guard that exists now is gone. Cannot
    /// fail. The memory at `head` is the implementation's until then.
    ///
    /// It may be called under the tree's lock.
    ///
    /// # Safety
    ///
    /// - `head` is valid for writes and stays so until `free` is called, which may
    ///   be on any thread.
    /// - Calling `free(head)` once, when the guards are gone, is sound.
    unsafe fn call_rcu(&self, head: NonNull<RcuHead>, free: unsafe fn(NonNull<RcuHead>));

    /// Waits until every guard that exists now is gone. Not to be called by who
    /// holds one.
    fn synchronize(&self);

    /// Waits until all functions passed to [`call_rcu`](Self::call_rcu) so far have
    /// run. Not to be called by who holds a guard.
    fn barrier(&self);
}

/// One for several trees, which readers of one hold up for all. Where an `Rcu` is owned
/// (`Publisher::open`) it is a `&'static`, or an [`Arc`].
// SAFETY: what it refers to promises it.
unsafe impl<R: Rcu> Rcu for &R {
    type Guard<'a>
        = R::Guard<'a>
    where
        Self: 'a;

    #[inline]
    fn read_lock(&self) -> Self::Guard<'_> {
        R::read_lock(self)
    }

    unsafe fn call_rcu(&self, head: NonNull<RcuHead>, free: unsafe fn(NonNull<RcuHead>)) {
        // SAFETY: the contract.
        unsafe { R::call_rcu(self, head, free) };
    }

    fn synchronize(&self) {
        R::synchronize(self);
    }

    fn barrier(&self) {
        R::barrier(self);
    }
}

/// As of a reference.
// SAFETY: what it refers to promises it; that it may be dropped, too.
unsafe impl<R: Rcu> Rcu for Arc<R> {
    type Guard<'a>
        = R::Guard<'a>
    where
        Self: 'a;

    #[inline]
    fn read_lock(&self) -> Self::Guard<'_> {
        R::read_lock(self)
    }

    unsafe fn call_rcu(&self, head: NonNull<RcuHead>, free: unsafe fn(NonNull<RcuHead>)) {
        // SAFETY: the contract.
        unsafe { R::call_rcu(self, head, free) };
    }

    fn synchronize(&self) {
        R::synchronize(self);
    }

    fn barrier(&self) {
        R::barrier(self);
    }
}
