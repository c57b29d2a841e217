//! What an address space asks of whoever keeps its pages: [`PageSide`], and nobody: [`NoPages`].

use core::fmt;
use core::ops::Range;

use crate::errno::Errno;
use crate::fault::{Access, Fault};
use crate::file::FileRef;
use crate::file_pages::FilePagesRef;
use crate::flags::VmFlags;
use crate::huge_file::HugeObject;
use crate::huge_pages::HugeSource;
use crate::paging::{Liveness, MoveRange, Resident};
use crate::profile::Configured;
use crate::space::Mappings;
use crate::system::System;
use crate::teardown::Teardown;
use crate::vma::Vma;

/// What the mappings of an address space lead to.
///
/// The address space decides what is mapped and what is allowed; its page side keeps pages and
/// tables in line with that. [`NoPages`] keeps none; [`MappedPages`](crate::MappedPages) is made
/// of page tables and frames.
///
/// All is asked for by `&self`, so that a page side can be reached from the address space and
/// from elsewhere. An address space asks for one thing at a time: its own methods that change
/// pages take `&mut`. Where there may be others [beside](Self::BESIDE) it,
/// [`touch`](Self::touch), [`usage`](Self::usage) and the makers of objects may be called by any
/// thread, readers of the `Rcu` included. All else is for the one who may change mappings, who is
/// no reader meanwhile: it may wait for those.
pub trait PageSide: Sized + fmt::Debug {
    /// Whether there are pages at all. If not, nothing below is asked for.
    const HAS_PAGES: bool;

    /// Whether pages are touched while another thread changes mappings, or touches pages itself.
    const BESIDE: bool;

    /// Where the addresses end that pages can be at, exclusive.
    const ADDRESSES_END: u64;

    /// What was set aside for changes, until they are made or given up.
    type Prepared<'a>: fmt::Debug
    where
        Self: 'a;

    /// Does all of `changes` that can fail, for one [`carry_out`](Self::carry_out) that follows
    /// at once, or for none. No page and no right changes, and no counter but that of tables
    /// where a huge page had to be split.
    ///
    /// Where there are faults beside the one who changes mappings, they go on, but for pages that
    /// move and guards.
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`] without frames. Nothing has changed.
    fn prepare(&self, changes: &[PageChange]) -> Result<Self::Prepared<'_>, Errno>;

    /// Makes the changes that were prepared. The mappings have changed already: who faults from
    /// now on finds the new ones.
    fn carry_out(&self, changes: &[PageChange], prepared: Self::Prepared<'_>);

    /// Makes a page ready for an access that its mapping allows.
    ///
    /// # Errors
    ///
    /// [`Fault::OutOfMemory`], or [`Fault::Bus`] where a mapping leads to nothing, or to an
    /// explicitly huge page of which there is none left. Nothing has changed.
    fn touch(&self, touch: &Touch<'_>) -> Result<Touched, Fault>;

    /// Whether a guard stands at `addr` (`MADV_GUARD_INSTALL`).
    fn is_guarded(&self, addr: u64) -> bool;

    /// The page side of a forked child.
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`] without frames, [`Errno::EINTR`] when cancelled. Nothing is left of the
    /// child, and no page here has changed.
    fn fork(&self, inheritance: Inheritance<'_>) -> Result<Self, Errno>;

    /// The contents of a new object of shared memory, `bytes` long; `None` where nobody asks.
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`].
    fn shared_memory(&self, bytes: u64, system: &System) -> Result<Option<FilePagesRef>, Errno>;

    /// The contents of a new object of shared memory made of explicitly huge pages; `None` where
    /// nobody asks.
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`].
    fn huge_memory(&self, object: HugeObject) -> Result<Option<FilePagesRef>, Errno>;

    /// What is in use.
    fn usage(&self) -> Usage;

    /// Waits a little for who changes mappings; asked again until there is a moment between two
    /// calls, and told how often it was before. With pages, as their memory does it
    /// ([`PhysMemory::relax`](crate::paging::PhysMemory::relax)).
    fn relax(&self, spins: u32) {
        let _ = spins;
        core::hint::spin_loop();
    }

    /// Waits until all is free that was taken out and that others may have been on the way to.
    /// Not to be called by who is on the way to something.
    fn barrier(&self) {}

    /// Gives everything up. Cannot fail, and needs no memory.
    fn tear_down(&self, teardown: &Teardown);
}

/// A change to what is mapped, as its pages see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageChange {
    /// The pages go to other addresses, where none are.
    Move(MoveRange),
    /// The pages go away, and tables that nobody needs any more.
    Clear(Teardown),
    /// The pages go away; what is mapped stays (`madvise`, a file that became shorter).
    Discard {
        /// `start..end`.
        range: Range<u64>,
        /// Whether there may be guards, which stay.
        guards: Guards,
    },
    /// The pages make place for guards: no access gets past them.
    Guard(Range<u64>),
    /// The guards go away; pages between them stay.
    Unguard(Range<u64>),
    /// The mapping of the range has these flags from now on.
    Protect {
        /// `start..end`.
        range: Range<u64>,
        /// The new flags.
        flags: VmFlags,
    },
}

/// Whether a range may have guards (`MADV_GUARD_INSTALL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guards {
    /// It has none.
    None,
    /// Some were installed in its mapping once.
    Perhaps,
}

impl Guards {
    pub(crate) const fn of(vma: &Vma) -> Self {
        if vma.flags().contains(VmFlags::MAYBE_GUARD) {
            Self::Perhaps
        } else {
            Self::None
        }
    }
}

/// An access to one byte of a mapping that allows it.
#[derive(Clone, Copy, Debug)]
pub struct Touch<'v> {
    /// The mapping.
    pub vma: &'v Vma,
    /// The byte.
    pub addr: u64,
    /// How it is touched.
    pub access: Access,
    /// Whether a huge page may be used.
    pub huge: Configured,
    /// Where pages come from if the mapping is made of explicitly huge ones.
    pub explicit: Option<HugeSource<'v>>,
    /// Whether the mapping is the one at its address still. Who may change mappings is
    /// [sure](Liveness::SURE).
    pub live: Liveness<'v>,
}

/// What became of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Touched {
    /// A page is there that allows it.
    Ready,
    /// The mapping is not [live](Touch::live) any more, and nothing has changed: it is to be
    /// looked up again.
    Stale,
}

/// How `fork` gives a child its pages.
///
/// Both end in the same contents. What is resident may differ until both have touched the same:
/// a copy leaves out what faults can rebuild, as Linux does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PageStrategy {
    /// An entry for each page of written private memory.
    ///
    /// LINUX: `copy_page_range`.
    Copy,
    /// Both lead to the same tables, which are copied when either side changes something below.
    /// Where the processor cannot forbid writing from the top: as [`Copy`](Self::Copy).
    #[default]
    Share,
}

impl PageStrategy {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Copy, Self::Share];

    /// A short name for tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Share => "share",
        }
    }
}

/// Whether a child gets all mappings as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alike {
    /// All, but that what is locked is not locked there.
    All,
    /// Some are left out or wiped.
    Some,
}

/// What a page side is asked for at fork.
pub struct Inheritance<'a> {
    /// The mappings of the parent.
    pub mappings: &'a Mappings,
    /// How.
    pub strategy: PageStrategy,
    /// Whether there is any `DONTCOPY` or `WIPEONFORK`.
    pub alike: Alike,
    /// Asked between mappings.
    pub is_cancelled: &'a mut dyn FnMut() -> bool,
}

impl fmt::Debug for Inheritance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inheritance")
            .field("strategy", &self.strategy)
            .field("alike", &self.alike)
            .finish_non_exhaustive()
    }
}

/// What a page side has in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Pages that are there.
    pub resident: Resident,
    /// The most that ever were, explicitly huge ones aside.
    pub peak_resident: u64,
    /// Bytes of tables below the root.
    pub pgtables_bytes: u64,
}

/// Mappings lead to nothing: an address space that answers what is mapped, and costs no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoPages;

impl PageSide for NoPages {
    const HAS_PAGES: bool = false;

    const BESIDE: bool = true;

    const ADDRESSES_END: u64 = u64::MAX;

    type Prepared<'a> = ();

    fn prepare(&self, _: &[PageChange]) -> Result<(), Errno> {
        Ok(())
    }

    fn carry_out(&self, _: &[PageChange], (): ()) {}

    fn touch(&self, _: &Touch<'_>) -> Result<Touched, Fault> {
        Ok(Touched::Ready)
    }

    fn is_guarded(&self, _: u64) -> bool {
        false
    }

    fn fork(&self, _: Inheritance<'_>) -> Result<Self, Errno> {
        Ok(Self)
    }

    fn shared_memory(&self, _: u64, _: &System) -> Result<Option<FilePagesRef>, Errno> {
        Ok(None)
    }

    fn huge_memory(&self, _: HugeObject) -> Result<Option<FilePagesRef>, Errno> {
        Ok(None)
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn tear_down(&self, _: &Teardown) {}
}

/// The file of shared memory with what the page side keeps for it.
pub(crate) fn with_contents(
    file: crate::file::File,
    pages: Option<FilePagesRef>,
) -> Result<FileRef, Errno> {
    match pages {
        Some(pages) => FileRef::with_pages(file, pages),
        None => FileRef::new(file),
    }
}
