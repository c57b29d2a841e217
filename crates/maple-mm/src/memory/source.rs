//! [`VmaSource`]: where a pool gets its chunks. A cellar: hands out raw memory.
#![expect(unsafe_code, reason = "allocates and frees raw chunks")]

use alloc::alloc::{Layout, alloc, dealloc};
use core::ptr::NonNull;

use super::pool::{ALIGNMENT, VmaPool};

/// Where the memory for mappings comes from. Allocation may fail; freeing may not.
///
/// A [`VmaPool`] cuts a chunk into blocks of 64 bytes, one for each mapping; the first three
/// are its own. A chunk of [`VmaPool::CHUNK_MIN`] bytes holds one mapping, so that each mapping
/// is an allocation of its own; one beyond [`VmaPool::CHUNK_MAX`] is used up to there.
///
/// # Safety
///
/// - What `allocate` returns is memory of at least [`VmaPool::CHUNK_MIN`] bytes, aligned to 64,
///   that nothing else uses until it is passed to `free`.
///
/// # Examples
///
/// ```
/// use core::ptr::NonNull;
/// use maple_mm::{AddressSpace, Errno, HeapChunks, MmapRequest, Setup, System, SystemSettings};
/// use maple_mm::{VmaPool, VmaSource};
/// use std::sync::Arc;
///
/// struct Nothing;
///
/// // SAFETY: hands nothing out.
/// unsafe impl VmaSource for Nothing {
///     fn allocate(&self) -> Option<NonNull<[u8]>> {
///         None
///     }
///     unsafe fn free(&self, _: NonNull<[u8]>) {}
/// }
///
/// static EMPTY: VmaPool = VmaPool::new(&Nothing);
///
/// let system = Arc::new(System::new(SystemSettings::default()).with_pool(&EMPTY));
/// let mut space = AddressSpace::from_layout(Setup { system, ..Setup::default() }, []).unwrap();
/// assert_eq!(space.mmap(MmapRequest::anonymous(4096, 0)), Err(Errno::ENOMEM));
/// ```
pub unsafe trait VmaSource: Sync {
    /// Returns memory for one chunk, or `None` if there is none. No lock is held meanwhile.
    fn allocate(&self) -> Option<NonNull<[u8]>>;

    /// Takes the memory of a chunk back. No lock is held meanwhile.
    ///
    /// # Safety
    ///
    /// - `chunk` came from `allocate` of this source, was not freed since, and nothing uses it any
    ///   more.
    unsafe fn free(&self, chunk: NonNull<[u8]>);
}

/// Chunks of a fixed size from the global allocator.
///
/// # Examples
///
/// ```
/// use maple_mm::{HeapChunks, VmaPool};
/// static SMALL: VmaPool = VmaPool::new(&HeapChunks::new(4096));
/// assert_eq!(SMALL.in_use(), 0);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct HeapChunks {
    bytes: usize,
}

impl HeapChunks {
    /// Chunks of `bytes`, at least [`VmaPool::CHUNK_MIN`] and at most [`VmaPool::CHUNK_MAX`].
    #[must_use]
    pub const fn new(bytes: usize) -> Self {
        let bytes = if bytes < VmaPool::CHUNK_MIN {
            VmaPool::CHUNK_MIN
        } else if bytes > VmaPool::CHUNK_MAX {
            VmaPool::CHUNK_MAX
        } else {
            bytes
        };
        Self { bytes }
    }

    const fn layout(self) -> Layout {
        match Layout::from_size_align(self.bytes, ALIGNMENT) {
            Ok(layout) => layout,
            Err(_) => panic!("at most 64 KiB, aligned to 64"),
        }
    }
}

// SAFETY: the global allocator returns memory of the layout asked for, or null; it serves and
// frees on any thread.
unsafe impl VmaSource for HeapChunks {
    fn allocate(&self) -> Option<NonNull<[u8]>> {
        let layout = self.layout();
        // SAFETY: the layout is not of size zero.
        let memory = unsafe { alloc(layout) };
        let memory = NonNull::new(memory)?;
        Some(NonNull::slice_from_raw_parts(memory, layout.size()))
    }

    unsafe fn free(&self, chunk: NonNull<[u8]>) {
        // SAFETY: it came from `allocate`, so from the same layout.
        unsafe { dealloc(chunk.as_ptr().cast(), self.layout()) }
    }
}

/// The pool of every machine that was given no other: one for the whole process.
pub(crate) static HEAP_POOL: VmaPool = VmaPool::new(&HeapChunks::new(VmaPool::CHUNK_MAX));
