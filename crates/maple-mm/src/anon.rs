//! Which private memory was written, and by which ancestor: the identity that merging asks for.
//!
//! Linux ties the written pages of a mapping to an *anon_vma*. Two mappings whose pages hang on
//! different ones cannot become one. A child of `fork` gets one of its own for each mapping and
//! keeps those of its ancestors in a chain; a chain longer than one link marks a mapping that
//! came from a fork.
//!
//! # Nothing to do at fork
//!
//! Identities are numbers given out in ascending order, and a child remembers the next one at
//! the moment of its fork ([`AnonOrigin`]). So a mapping in its tree whose identity is lower is
//! one it inherited, and needs no new value: it counts as forked, with an identity that no other
//! mapping has. It gets a number when the child first changes the mapping ([`Local`]).

use core::fmt;
use core::ops::Deref;

use crate::memory::VmaRef;
use crate::page_side::PageSide;
use crate::space::AddressSpace;
use crate::vma::Vma;

/// The identity of one anon_vma; below 2^63.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnonId(pub u64);

/// The anon_vma of a mapping as the mapping remembers it; none until the first private write.
///
/// How an address space sees it depends on where it was forked: [`AddressSpace::anon`].
///
/// # Invariants
///
/// - **N1** 0, or an identity, with the highest bit set if it came through a fork.
///
/// LINUX: `fork` sometimes gives the child an ancestor's anon_vma that nobody uses any more in
/// place of a new one. No other mapping of the child can have it and the chain stays longer than
/// one link, so no merge can tell; the model always takes a new one.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Anon(u64);

impl Anon {
    /// No private page was written yet.
    pub const UNFAULTED: Self = Self(0);

    const FORKED: u64 = 1 << 63;

    /// A mapping written for the first time in a process that made it itself.
    #[must_use]
    pub const fn new(id: AnonId) -> Self {
        // INVARIANT: N1, one link.
        Self(id.0 & !Self::FORKED)
    }

    /// What a forked child has: its own identity behind those of its ancestors.
    pub(crate) const fn forked(own: AnonId) -> Self {
        // INVARIANT: N1.
        Self(own.0 | Self::FORKED)
    }

    /// The identity it was stored with.
    pub(crate) fn id(self) -> Option<AnonId> {
        self.is_faulted().then_some(AnonId(self.0 & !Self::FORKED))
    }

    /// Whether a private page was written (or prepared to be).
    #[must_use]
    pub const fn is_faulted(self) -> bool {
        self.0 != 0
    }

    /// Whether the written pages may belong to an ancestor too.
    pub(crate) const fn is_forked(self) -> bool {
        self.0 & Self::FORKED != 0
    }

    /// Whether exactly one link exists, so that a neighbour may join it.
    pub(crate) const fn is_singular(self) -> bool {
        self.is_faulted() && !self.is_forked()
    }

    /// Whether both may end up in one mapping: either is unfaulted, or both are the same.
    pub(crate) fn is_compatible(self, other: Self) -> bool {
        match (self.id(), other.id()) {
            (Some(left), Some(right)) => left == right,
            _ => true,
        }
    }
}

impl fmt::Debug for Anon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id() {
            None => f.write_str("Unfaulted"),
            Some(id) if self.is_forked() => write!(f, "Forked({})", id.0),
            Some(id) => write!(f, "Faulted({})", id.0),
        }
    }
}

/// How an address space sees the written pages of one of its mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnonView {
    /// No private page was written.
    Unfaulted,
    /// Written here and never forked since; a neighbour may join it.
    Singular(AnonId),
    /// Written, then forked; changed here since.
    Forked(AnonId),
    /// Written before the fork this address space came from, and not changed since: the same as
    /// `Forked`, with an identity of its own that has no number yet.
    Inherited,
}

impl AnonView {
    /// Whether a private page was written, here or in an ancestor.
    #[must_use]
    pub const fn is_faulted(self) -> bool {
        !matches!(self, Self::Unfaulted)
    }

    /// Whether the written pages may belong to an ancestor too.
    #[must_use]
    pub const fn is_forked(self) -> bool {
        matches!(self, Self::Forked(_) | Self::Inherited)
    }

    /// Whether exactly one anon_vma stands behind it, so that a neighbour may join it.
    #[must_use]
    pub const fn is_singular(self) -> bool {
        matches!(self, Self::Singular(_))
    }

    /// The identity, if it has a number already.
    #[must_use]
    pub const fn id(self) -> Option<AnonId> {
        match self {
            Self::Singular(id) | Self::Forked(id) => Some(id),
            Self::Unfaulted | Self::Inherited => None,
        }
    }
}

/// The first identity that an address space can have made itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnonOrigin(pub(crate) AnonId);

impl AnonOrigin {
    /// Of an address space that was not forked.
    pub(crate) const ROOT: Self = Self(AnonId(0));

    /// Whether `anon` was made before the address space was.
    pub(crate) fn is_inherited(self, anon: Anon) -> bool {
        anon.id().is_some_and(|id| id < self.0)
    }
}

/// A mapping whose identity the address space may store: what every change starts from.
///
/// Made once for a mapping in one change: made twice, an inherited mapping would have two
/// identities.
#[derive(Clone, Debug)]
pub(crate) enum Local {
    /// As the tree holds it.
    Stored(VmaRef),
    /// Inherited: with an identity of its own.
    Renewed(Vma),
}

impl Deref for Local {
    type Target = Vma;

    fn deref(&self) -> &Vma {
        match self {
            Self::Stored(vma) => vma,
            Self::Renewed(vma) => vma,
        }
    }
}

impl<P: PageSide> AddressSpace<P> {
    /// How this address space sees the written pages of its mapping `vma`.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{Access, AddressSpace, AnonView, MmapRequest, abi::*};
    /// let mut parent = AddressSpace::empty();
    /// let addr = parent.mmap(MmapRequest::anonymous(4096, PROT_READ | PROT_WRITE)).unwrap();
    /// parent.fault(addr, Access::Write).unwrap();
    /// let child = parent.fork().unwrap();
    /// assert!(parent.anon(parent.vma_at(addr).unwrap()).is_singular());
    /// assert!(child.anon(child.vma_at(addr).unwrap()).is_forked());
    /// ```
    #[must_use]
    pub fn anon(&self, vma: &Vma) -> AnonView {
        let anon = vma.anon();
        match anon.id() {
            None => AnonView::Unfaulted,
            Some(_) if self.anon_origin.is_inherited(anon) => AnonView::Inherited,
            Some(id) if anon.is_forked() => AnonView::Forked(id),
            Some(id) => AnonView::Singular(id),
        }
    }

    /// What a change of `vma` starts from.
    pub(crate) fn local(&self, vma: &VmaRef) -> Local {
        match self.local_anon(vma.anon()) {
            Some(anon) => Local::Renewed(vma.with_anon(anon)),
            None => Local::Stored(vma.clone()),
        }
    }

    /// What an inherited anon_vma becomes here; `None` if it is not inherited.
    pub(crate) fn local_anon(&self, anon: Anon) -> Option<Anon> {
        self.anon_origin
            .is_inherited(anon)
            .then(|| Anon::forked(self.system.new_anon()))
    }

    /// What a change of the mapping that contains `addr` starts from.
    pub(crate) fn local_at(&self, addr: u64) -> Option<Local> {
        self.vma_at(addr).map(|vma| self.local(vma))
    }
}
