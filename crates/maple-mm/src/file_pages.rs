//! Where the pages of files come from.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, Range};

use crate::counted::Counted;
use crate::errno::Errno;
use crate::paging::Frame;

/// Why a file has no page for a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusError {
    /// The file ends before it: `SIGBUS`.
    BeyondEnd,
    /// It could not be read: `SIGBUS`, too.
    Unreadable,
    /// There is no memory for it.
    OutOfMemory,
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeyondEnd => "the file ends before the page",
            Self::Unreadable => "the page could not be read",
            Self::OutOfMemory => "no memory for the page",
        })
    }
}

impl core::error::Error for BusError {}

/// The contents of a file as pages that can be mapped: a page cache.
///
/// The frames are of the memory that the page tables of those who map the file are made of.
/// [`MemoryFile`](crate::MemoryFile) is one that is ready to be used.
pub trait FilePages: Send + Sync + fmt::Debug {
    /// A reference to the frame of 4 KiB that holds page `index`; the same for everybody, as long
    /// as the page is part of the file.
    ///
    /// # Errors
    ///
    /// A [`BusError`].
    fn page(&self, index: u64) -> Result<Frame, BusError>;

    /// As [`page`](Self::page), if that takes neither memory nor waiting: a read fault asks it for
    /// the neighbours of the page that it brings in.
    ///
    /// `None` where the page is not at hand or not part of the file. A file that is not asked, as
    /// here, has its pages mapped one fault at a time.
    fn page_at_hand(&self, index: u64) -> Option<Frame> {
        let _ = index;
        None
    }

    /// A reference to the frame of 2 MiB that holds page `index`, counted in pages of 4 KiB, for a
    /// mapping of explicitly huge pages.
    ///
    /// # Errors
    ///
    /// [`BusError::Unreadable`] if the file has no such frames, as here; else as
    /// [`page`](Self::page).
    fn huge_page(&self, index: u64) -> Result<Frame, BusError> {
        let _ = index;
        Err(BusError::Unreadable)
    }

    /// Makes the pages of `range` (in pages) zero where they are, so that whoever maps them sees
    /// that (`MADV_REMOVE`).
    ///
    /// # Errors
    ///
    /// [`Errno::EOPNOTSUPP`] if the file cannot do that, as here.
    fn punch(&self, range: Range<u64>) -> Result<(), Errno> {
        let _ = range;
        Err(Errno::EOPNOTSUPP)
    }

    /// A number that is another once the file became shorter.
    ///
    /// A fault that brings in a page of a file which becomes shorter meanwhile finds out by it that
    /// the page may be gone. So it changes after the file has its new end, and before
    /// [`set_bytes`](Self::set_bytes) returns; who changes it does so with `Release`, who asks for
    /// it with `Acquire`. A file that never becomes shorter leaves it out.
    fn generation(&self) -> u64 {
        0
    }

    /// Makes the file `bytes` long, its mappings aside. From now on there is no page beyond its
    /// end, and the rest of the last one is zero.
    ///
    /// # Errors
    ///
    /// [`Errno::EINVAL`] if the file cannot do that, as here. Nothing has changed.
    fn set_bytes(&self, bytes: u64) -> Result<(), Errno> {
        let _ = bytes;
        Err(Errno::EINVAL)
    }
}

macro_rules! forward_to_target {
    ($handle:ty) => {
        impl<T: FilePages + ?Sized> FilePages for $handle {
            fn page(&self, index: u64) -> Result<Frame, BusError> {
                (**self).page(index)
            }

            fn page_at_hand(&self, index: u64) -> Option<Frame> {
                (**self).page_at_hand(index)
            }

            fn huge_page(&self, index: u64) -> Result<Frame, BusError> {
                (**self).huge_page(index)
            }

            fn punch(&self, range: Range<u64>) -> Result<(), Errno> {
                (**self).punch(range)
            }

            fn generation(&self) -> u64 {
                (**self).generation()
            }

            fn set_bytes(&self, bytes: u64) -> Result<(), Errno> {
                (**self).set_bytes(bytes)
            }
        }
    };
}

forward_to_target!(&T);
forward_to_target!(Arc<T>);

/// A box that was filled by [`FilePagesRef::new`]: an array of one can be had from a vector, whose
/// allocation can be refused.
impl<T: FilePages> FilePages for [T; 1] {
    fn page(&self, index: u64) -> Result<Frame, BusError> {
        self[0].page(index)
    }

    fn page_at_hand(&self, index: u64) -> Option<Frame> {
        self[0].page_at_hand(index)
    }

    fn huge_page(&self, index: u64) -> Result<Frame, BusError> {
        self[0].huge_page(index)
    }

    fn punch(&self, range: Range<u64>) -> Result<(), Errno> {
        self[0].punch(range)
    }

    fn generation(&self) -> u64 {
        self[0].generation()
    }

    fn set_bytes(&self, bytes: u64) -> Result<(), Errno> {
        self[0].set_bytes(bytes)
    }
}

/// A counted pointer to the pages of a file, whatever keeps them.
#[derive(Clone, Debug)]
pub struct FilePagesRef(Counted<Box<dyn FilePages>>);

impl FilePagesRef {
    /// Puts `pages` into memory of their own.
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`]; `pages` are dropped.
    pub fn new<T: FilePages + 'static>(pages: T) -> Result<Self, Errno> {
        let mut vec = Vec::new();
        vec.try_reserve_exact(1).map_err(|_| Errno::ENOMEM)?;
        vec.push(pages);
        let one: Box<[T; 1]> = vec
            .into_boxed_slice()
            .try_into()
            .map_err(|_| Errno::ENOMEM)?;
        Counted::new(one as Box<dyn FilePages>).map(Self)
    }

    /// Whether both lead to the same pages.
    #[must_use]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        Counted::ptr_eq(&this.0, &other.0)
    }
}

impl Deref for FilePagesRef {
    type Target = dyn FilePages;

    fn deref(&self) -> &(dyn FilePages + 'static) {
        &**self.0
    }
}
