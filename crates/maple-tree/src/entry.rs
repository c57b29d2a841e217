//! [`Entry`]: what a slot can hold. A cellar: its promises are `unsafe` ones.
#![expect(
    unsafe_code,
    reason = "implements the `Entry` contract for std's one-word types"
)]

use alloc::boxed::Box;
use alloc::rc::{self, Rc};
use alloc::sync::{self, Arc};
use core::num::NonZero;
use core::ptr::NonNull;

/// A value that fits one slot of the tree: one machine word at most.
///
/// A slot is eight bytes, aligned to eight; a type that does not fit is
/// refused when the program is compiled. Larger values go behind a pointer,
/// usually an [`Arc`], which is also what makes snapshots cheap.
///
/// # Safety
///
/// - A bitwise copy of a value may be read through a shared reference for as
///   long as the original is neither dropped nor handed out mutably. (This is
///   what lets a reader look at a slot without locking it. It rules out types
///   with interior mutability in the word itself, such as `Cell<u32>`; cells
///   behind the pointer are fine.)
/// - `size_of::<Self>() <= 8` and `align_of::<Self>() <= 8`.
/// - If [`IS_POINTER`](Self::IS_POINTER) is set, every value is one pointer, which
///   may be null or dangle.
///
/// # Examples
///
/// ```
/// use maple_tree::{Entry, IndexRange, MapleTree};
///
/// #[derive(Clone, Copy, PartialEq, Debug)]
/// struct Handle(u32);
///
/// // SAFETY: four bytes without interior mutability.
/// unsafe impl Entry for Handle {}
///
/// let mut tree = MapleTree::new();
/// tree.insert(IndexRange::single(7), Handle(1)).unwrap();
/// assert_eq!(tree.get(7), Some(&Handle(1)));
/// ```
pub unsafe trait Entry: Sized {
    /// Whether what is behind the word is worth fetching before a value is cloned.
    const IS_POINTER: bool = false;
}

macro_rules! words {
    ($($type:ty),*) => {$(
        // SAFETY: a plain number, at most eight bytes, without interior mutability.
        unsafe impl Entry for $type {}
    )*};
}

words!(
    (),
    bool,
    char,
    u8,
    u16,
    u32,
    u64,
    usize,
    i8,
    i16,
    i32,
    i64,
    isize,
    f32,
    f64
);

macro_rules! non_zero {
    ($($number:ty),*) => {$(
        // SAFETY: a plain number, at most eight bytes, without interior mutability.
        unsafe impl Entry for NonZero<$number> {}

        // SAFETY: zero is `None`, so this is the plain number.
        unsafe impl Entry for Option<NonZero<$number>> {}
    )*};
}

non_zero!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);

macro_rules! pointers {
    ($($pointer:ident),*) => {$(
        // SAFETY: one pointer; any interior mutability lies behind it.
        unsafe impl<T> Entry for $pointer<T> {
            const IS_POINTER: bool = true;
        }

        // SAFETY: null is `None`, so this is one pointer too.
        unsafe impl<T> Entry for Option<$pointer<T>> {
            const IS_POINTER: bool = true;
        }
    )*};
}

pointers!(Box, Rc, Arc, NonNull);

// SAFETY: one pointer; the counts behind it are not in the word.
unsafe impl<T> Entry for rc::Weak<T> {}

// SAFETY: one pointer; the counts behind it are not in the word.
unsafe impl<T> Entry for sync::Weak<T> {}

// SAFETY: a pointer to a sized type is one word, and copying it reads nothing behind it.
unsafe impl<T> Entry for *const T {}

// SAFETY: a pointer to a sized type is one word, and copying it reads nothing behind it.
unsafe impl<T> Entry for *mut T {}

// SAFETY: a shared reference to a sized type is one pointer.
unsafe impl<T> Entry for &T {}

// SAFETY: null is `None`, so this is one pointer too.
unsafe impl<T> Entry for Option<&T> {}
