//! Reading and writing the memory of a program, with faults on the way.

use core::fmt;

use crate::counted::Counted;
use crate::fault::{Access, Fault};
use crate::mapped_pages::MappedPages;
use crate::page_side::PageSide;
use crate::paging::{
    Arch, Company, Interrupted, Mapped, PageFault, PhysAddr, PhysMemory, TlbFlusher,
};
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

    /// Where the byte at `addr` is.
    ///
    /// # Errors
    ///
    /// [`PageFault`] if its page is not there, or may not be used so.
    fn translate_present(&self, addr: u64, access: Access) -> Result<PhysAddr, PageFault>;

    /// The pages that are there, ascending.
    fn present(&self) -> impl Iterator<Item = Mapped>;
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

    fn translate_present(&self, addr: u64, access: Access) -> Result<PhysAddr, PageFault> {
        self.tables().translate(addr, access)
    }

    fn present(&self) -> impl Iterator<Item = Mapped> {
        self.tables().pages(0..A::USER_END)
    }
}

impl<P: GuestMemory> GuestMemory for Counted<P> {
    fn read_present(&self, addr: u64, buffer: &mut [u8]) -> Result<(), Interrupted> {
        (**self).read_present(addr, buffer)
    }

    fn write_present(&self, addr: u64, bytes: &[u8]) -> Result<(), Interrupted> {
        (**self).write_present(addr, bytes)
    }

    fn translate_present(&self, addr: u64, access: Access) -> Result<PhysAddr, PageFault> {
        (**self).translate_present(addr, access)
    }

    fn present(&self) -> impl Iterator<Item = Mapped> {
        (**self).present()
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
        read(self, addr, buffer)
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
        write(self, addr, bytes)
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
        copy_within(self, (from, to), len)
    }

    /// Where the byte at `addr` is in memory, for an access that its page then allows.
    ///
    /// # Complexity
    ///
    /// O(levels), and a fault if the page is not there.
    ///
    /// # Errors
    ///
    /// [`Fault`], as [`fault`](Self::fault).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{Access, AddressSpace, Fault, MappedPages, MmapRequest, Setup, abi::*};
    /// use maple_mm::paging::{Arena, ArenaLayout, NoTlb, X86_64};
    /// use std::sync::Arc;
    /// let arena = Arena::<parking_lot::RawMutex>::new(ArenaLayout::of_frames(64))?;
    /// let pages = MappedPages::<X86_64<4>, _, _>::new(Arc::new(arena), NoTlb)?;
    /// let mut space = AddressSpace::with_pages(Setup::default(), pages);
    /// let addr = space.mmap(MmapRequest::anonymous(4096, PROT_READ | PROT_WRITE))?;
    /// let zeroes = space.translate(addr + 8, Access::Read)?;
    /// let own = space.translate(addr + 8, Access::Write)?;
    /// assert!(zeroes != own && own.as_u64() % 4096 == 8);
    /// assert_eq!(space.translate(addr, Access::Execute), Err(Fault::NotAllowed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn translate(&mut self, addr: u64, access: Access) -> Result<PhysAddr, Fault> {
        translate(self, addr, access)
    }
}

/// Who uses memory as its program does: an address space, alone or shared.
pub(crate) trait Guest {
    type Pages: GuestMemory;

    fn pages(&self) -> &Self::Pages;

    /// Makes the page at `addr` ready.
    fn resolve(&mut self, addr: u64, access: Access) -> Result<(), Fault>;
}

impl<P: GuestMemory> Guest for AddressSpace<P> {
    type Pages = P;

    fn pages(&self) -> &P {
        &self.pages
    }

    fn resolve(&mut self, addr: u64, access: Access) -> Result<(), Fault> {
        self.fault(addr, access)
    }
}

pub(crate) fn read(guest: &mut impl Guest, addr: u64, buffer: &mut [u8]) -> Result<(), Unfinished> {
    let mut done = 0;
    while let Err(interrupted) = guest
        .pages()
        .read_present(at(addr, done), &mut buffer[done..])
    {
        done += interrupted.done;
        resolve(guest, (addr, Access::Read), done)?;
    }
    Ok(())
}

pub(crate) fn write(guest: &mut impl Guest, addr: u64, bytes: &[u8]) -> Result<(), Unfinished> {
    let mut done = 0;
    while let Err(interrupted) = guest.pages().write_present(at(addr, done), &bytes[done..]) {
        done += interrupted.done;
        resolve(guest, (addr, Access::Write), done)?;
    }
    Ok(())
}

fn resolve(
    guest: &mut impl Guest,
    (addr, access): (u64, Access),
    done: usize,
) -> Result<(), Unfinished> {
    let addr = at(addr, done);
    guest
        .resolve(addr, access)
        .map_err(|fault| Unfinished { fault, addr, done })
}

pub(crate) fn translate(
    guest: &mut impl Guest,
    addr: u64,
    access: Access,
) -> Result<PhysAddr, Fault> {
    loop {
        match guest.pages().translate_present(addr, access) {
            Ok(found) => return Ok(found),
            Err(_) => guest.resolve(addr, access)?,
        }
    }
}

pub(crate) fn copy_within(
    guest: &mut impl Guest,
    (from, to): (u64, u64),
    len: usize,
) -> Result<(), Unfinished> {
    let mut piece = [0; PIECE];
    let mut done = 0;
    let is_within = to > from && to - from < len as u64;
    while done < len {
        let count = (len - done).min(PIECE);
        let first = if is_within { len - done - count } else { done };
        let copied = copy_piece(guest, (at(from, first), at(to, first)), &mut piece[..count]);
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
fn copy_piece(
    guest: &mut impl Guest,
    (from, to): (u64, u64),
    piece: &mut [u8],
) -> Result<(), Unfinished> {
    match read(guest, from, piece) {
        Ok(()) => write(guest, to, piece),
        Err(end) => {
            write(guest, to, &piece[..end.done])?;
            Err(end)
        }
    }
}

/// The byte `done` further up; the address space does not wrap around.
const fn at(addr: u64, done: usize) -> u64 {
    addr.saturating_add(done as u64)
}
