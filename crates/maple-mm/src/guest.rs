//! Reading and writing the memory of a program, with faults on the way.

use core::fmt;

use crate::counted::Counted;
use crate::fault::{Access, Fault};
use crate::mapped_pages::MappedPages;
use crate::page_side::PageSide;
use crate::paging::{Arch, Company, Interrupted, PhysMemory, TlbFlusher};
use crate::space::AddressSpace;

/// How many bytes are copied at a time.
const PIECE: usize = 256;

/// An access that a fault ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Why.
    pub fault: Fault,
    /// The first byte that was not reached.
    pub addr: u64,
    /// How many bytes were read or written before.
    pub done: usize,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, addr, done } = self;
        write!(f, "{fault}, {addr:#x}; after {done} bytes")
    }
}

impl core::error::Error for Unfinished {}

/// A page side whose pages can be read and written as far as they are there.
pub trait GuestMemory: PageSide {
    /// Reads the bytes from `addr` on.
    ///
    /// # Errors
    ///
    /// [`Interrupted`] at the first page that is not there, or may not be read.
    fn read_present(&self, addr: u64, buffer: &mut [u8]) -> Result<(), Interrupted>;

    /// Writes the bytes from `addr` on.
    ///
    /// # Errors
    ///
    /// [`Interrupted`] at the first page that is not there, or may not be written.
    fn write_present(&self, addr: u64, bytes: &[u8]) -> Result<(), Interrupted>;
}

impl<A, M, F, C> GuestMemory for MappedPages<A, M, F, C>
where
    A: Arch,
    M: PhysMemory + Clone + Send + 'static,
    F: TlbFlusher + Clone,
    C: Company<M>,
{
    fn read_present(&self, addr: u64, buffer: &mut [u8]) -> Result<(), Interrupted> {
        self.tables().read(addr, buffer)
    }

    fn write_present(&self, addr: u64, bytes: &[u8]) -> Result<(), Interrupted> {
        self.tables().write(addr, bytes)
    }
}

impl<P: GuestMemory> GuestMemory for Counted<P> {
    fn read_present(&self, addr: u64, buffer: &mut [u8]) -> Result<(), Interrupted> {
        (**self).read_present(addr, buffer)
    }

    fn write_present(&self, addr: u64, bytes: &[u8]) -> Result<(), Interrupted> {
        (**self).write_present(addr, bytes)
    }
}

impl<P: GuestMemory> AddressSpace<P> {
    /// Reads the bytes from `addr` on, as the program would: pages that are missing are brought
    /// in, and what its mappings forbid is refused.
    ///
    /// # Complexity
    ///
    /// O(bytes + pages × levels), and a fault for each page that is not there.
    ///
    /// # Errors
    ///
    /// [`Unfinished`] at the first page that may not be read; the bytes before are in `buffer`.
    ///
    /// # Examples
    ///
    /// See [`with_pages`](AddressSpace::with_pages).
    pub fn read(&mut self, addr: u64, buffer: &mut [u8]) -> Result<(), Unfinished> {
        let mut done = 0;
        while let Err(interrupted) = self.pages.read_present(at(addr, done), &mut buffer[done..]) {
            done += interrupted.done;
            self.resolve(at(addr, done), done, Access::Read)?;
        }
        Ok(())
    }

    /// Writes the bytes from `addr` on, as the program would.
    ///
    /// # Complexity
    ///
    /// As [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// [`Unfinished`] at the first page that may not be written; the bytes before are written.
    ///
    /// # Examples
    ///
    /// See [`with_pages`](AddressSpace::with_pages).
    pub fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Unfinished> {
        let mut done = 0;
        while let Err(interrupted) = self.pages.write_present(at(addr, done), &bytes[done..]) {
            done += interrupted.done;
            self.resolve(at(addr, done), done, Access::Write)?;
        }
        Ok(())
    }

    /// Copies `len` bytes within the address space. Where both overlap, the target ends up with
    /// what the source held before.
    ///
    /// # Complexity
    ///
    /// As [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// [`Unfinished`] at the first byte that may not be read or written; those before are copied.
    /// Where the target begins within the source, pieces of 256 bytes are copied from the end on,
    /// and `done` counts those at the end.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Fault, MappedPages, MmapRequest, Setup, abi::*};
    /// use maple_mm::paging::{Arena, ArenaLayout, NoTlb, X86_64};
    /// use std::sync::Arc;
    /// let arena = Arena::<parking_lot::RawMutex>::new(ArenaLayout::of_frames(64))?;
    /// let pages = MappedPages::<X86_64<4>, _, _>::new(Arc::new(arena), NoTlb)?;
    /// let mut space = AddressSpace::with_pages(Setup::default(), pages);
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ | PROT_WRITE))?;
    /// space.write(addr, b"seed")?;
    /// space.copy_within(addr, addr + 4096, 4)?;
    /// let mut seen = [0; 4];
    /// space.read(addr + 4096, &mut seen)?;
    /// assert_eq!(&seen, b"seed");
    /// let beyond = space.copy_within(addr, addr + 8190, 4).unwrap_err();
    /// assert_eq!((beyond.fault, beyond.done), (Fault::NotMapped, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn copy_within(&mut self, from: u64, to: u64, len: usize) -> Result<(), Unfinished> {
        let mut piece = [0; PIECE];
        let mut done = 0;
        let is_within = to > from && to - from < len as u64;
        while done < len {
            let count = (len - done).min(PIECE);
            let first = if is_within { len - done - count } else { done };
            let copied = self.copy_piece((at(from, first), at(to, first)), &mut piece[..count]);
            copied.map_err(|end| Unfinished {
                // What a piece lacks counts where pieces ascend: there is nothing before it else.
                done: if is_within { done } else { done + end.done },
                ..end
            })?;
            done += count;
        }
        Ok(())
    }

    /// Copies as many bytes as `piece` has, as far as they can be read and then written.
    fn copy_piece(&mut self, (from, to): (u64, u64), piece: &mut [u8]) -> Result<(), Unfinished> {
        match self.read(from, piece) {
            Ok(()) => self.write(to, piece),
            Err(end) => {
                self.write(to, &piece[..end.done])?;
                Err(end)
            }
        }
    }

    fn resolve(&mut self, addr: u64, done: usize, access: Access) -> Result<(), Unfinished> {
        self.fault(addr, access)
            .map_err(|fault| Unfinished { fault, addr, done })
    }
}

/// The byte `done` further up; the address space does not wrap around.
const fn at(addr: u64, done: usize) -> u64 {
    addr.saturating_add(done as u64)
}
