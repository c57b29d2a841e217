//! Page tables that a processor can walk, the frames they are made of, and sharing them.
//!
//! [`PageTables`] maps addresses to frames of a [`PhysMemory`], with the entries of an [`Arch`].
//! It knows nothing of mappings: which pages are allowed where is decided above it.
//!
//! - All memory comes from the [`PhysMemory`]; what needs a frame can fail with a plain error,
//!   and then what is mapped, and the counters, are as before.
//! - What is taken out goes through a [`Gather`]: unlinked, then flushed from the processors'
//!   caches, then freed.
//! - Two address spaces may share tables ([`PageTables::share_all`]) and frames
//!   ([`PageTables::copy_range`]). Each is changed and looked at by one thread at a time
//!   ([`Alone`]), or by several ([`Beside`]); those that share may be by different threads at
//!   once. The methods take `&self`, so that a handle is enough, and leave it to the caller to see
//!   to that: an address space does it by `&mut`. Who does not gets wrong contents, or a panic,
//!   and no undefined behaviour.
//!
//! # How tables are shared
//!
//! A table's frame counts the entries that lead to it. While there are two, nothing in it changes
//! but that rights to write are taken away, so whoever wants another change below makes the
//! tables on the way its own first: a copy, whose children are counted once more. So
//!
//! - **PT1** an entry that leads to a table with a count above one is not writable. What entries
//!   below say about writing is not believed: the processor honours the upper entry.
//! - **PT2** a private page that an entry allows to be written has a count of one, so has its
//!   table, if the way to it is writable; then nobody else sees the page.
//!
//! Both follow from what is done: a count goes above one in `share_all`, which takes the right to
//! write from the entries of the roots, and in copying a table, which takes it from the entries
//! of both copies: to tables always, to private pages too. The right is given back only on the
//! way down to a change, top first, to entries whose table counts one.
//!
//! # Examples
//!
//! ```
//! use maple_mm::paging::*;
//! let arena = Arena::<parking_lot::RawMutex>::new(ArenaLayout::of_frames(1024))?;
//! let mut parent = PageTables::<X86_64<4>, _>::new(&arena)?;
//! let mut gather = parent.gather(NoTlb);
//! let rights = LeafFlags::RIGHTS | LeafFlags::USER;
//! let page = NewPage {
//!     frame: arena.allocate(FrameSize::SMALL, Content::Zeroed)?,
//!     attributes: Attributes::new(PageKind::Anon, rights),
//! };
//! parent.map(0x7000, page, &mut gather).map_err(|error| error.kind)?;
//! parent.write(0x7000, b"seed")?;
//!
//! let mut child = PageTables::new(&arena)?;
//! parent.share_all(&mut child, &mut gather)?;
//! let fault = child.write(0x7000, b"leaf").unwrap_err();
//! assert_eq!(fault.done, 0);
//! child.resolve_write(0x7000, Sharing::Private, &mut gather)?;
//! child.write(0x7000, b"leaf")?;
//!
//! let mut seen = [0; 4];
//! parent.read(0x7000, &mut seen)?;
//! assert_eq!(&seen, b"seed");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
mod arch;
mod arena;
mod buddy;
mod company;
mod error;
mod fork;
mod free;
mod free_frames;
mod gather;
mod guard;
mod install;
mod iter;
mod limbo;
mod lock;
mod memory;
mod near;
mod path;
mod protect;
mod reserve;
mod resolve;
mod share;
mod shift;
mod stock;
mod stripes;
mod subtree;
#[cfg(any(loom, shuttle))]
pub mod sync;
#[cfg(not(any(loom, shuttle)))]
pub(crate) mod sync;
mod table;
mod tables;
mod tally;
mod tiny;
mod validate;
mod x86;
mod zap;

pub use access::Interrupted;
pub(crate) use access::{read_bytes, write_bytes};
pub use arch::{
    Arch, Attributes, Entry, LEVELS_MOST, Leaf, LeafFlags, MemoryType, PageKind, ProtectionKey,
    Writable,
};
pub use arena::{Arena, ArenaError, ArenaLayout};
pub use company::{Alone, Beside, Company};
pub use error::{FaultCause, MapError, PageFault, PagingError};
pub use fork::{CopyRange, Cow};
pub use free::{TableRange, TableRanges};
pub use gather::{FlushRange, Gather, NoTlb, TlbFlusher};
pub use install::Liveness;
pub use iter::Pages;
pub use memory::{
    Content, FRAME_BYTES, FRAME_WORDS, Frame, FrameInfo, FrameSize, OutOfFrames, Part, Parts,
    PhysAddr, PhysMemory, Remaining, Words,
};
pub use protect::Protection;
pub use reserve::Reserve;
pub use resolve::{NewPrivate, Resolved, Sharing, Written};
pub use shift::MoveRange;
pub(crate) use subtree::release_page;
pub use tables::{FlagChange, Mapped, NewPage, PageTables, Resident};
pub use tiny::Tiny;
pub use validate::{PagingViolation, validate_family};
pub use x86::X86_64;
pub use zap::Prepared;
