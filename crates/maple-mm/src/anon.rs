//! Which private memory was written, and by which ancestor: the identity that merging asks for.
//!
//! Linux ties the written pages of a mapping to an *anon_vma*. Two mappings whose pages hang on
//! different ones cannot become one. A child of `fork` gets one of its own and keeps those of its
//! ancestors in a chain; a chain longer than one link marks a mapping that came from a fork.

use alloc::sync::Arc;

/// The identity of one anon_vma.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnonId(pub u64);

/// The anon_vma of a mapping and those of its ancestors; empty until the first private write.
///
/// # Invariants
///
/// - **N1** the chain, where there is one, is not empty; the mapping's own identity comes last.
///
/// LINUX: `fork` sometimes gives the child an ancestor's anon_vma that nobody uses any more in
/// place of a new one. No other mapping of the child can have it and the chain stays longer than
/// one link, so no merge can tell; the model always takes a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anon(Option<Arc<[AnonId]>>);

impl Anon {
    /// No private page was written yet.
    pub const UNFAULTED: Self = Self(None);

    /// A mapping written for the first time in a process that made it itself.
    #[must_use]
    pub fn new(id: AnonId) -> Self {
        // INVARIANT: N1, one link.
        Self(Some(Arc::new([id])))
    }

    /// The chain a forked child gets: its ancestors' and then its own.
    pub(crate) fn forked(&self, own: AnonId) -> Self {
        // INVARIANT: N1, `own` is last; an unfaulted parent gives an unfaulted child.
        Self(
            self.0
                .as_ref()
                .map(|chain| chain.iter().copied().chain([own]).collect()),
        )
    }

    /// The mapping's own identity.
    #[must_use]
    pub fn id(&self) -> Option<AnonId> {
        self.chain().last().copied()
    }

    /// Ancestors first, the mapping's own identity last.
    #[must_use]
    pub fn chain(&self) -> &[AnonId] {
        self.0.as_deref().unwrap_or(&[])
    }

    /// Whether a private page was written (or prepared to be).
    #[must_use]
    pub const fn is_faulted(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the written pages may belong to an ancestor too.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        self.chain().len() > 1
    }

    /// Whether exactly one link exists, so that a neighbour may join it.
    #[must_use]
    pub fn is_singular(&self) -> bool {
        self.chain().len() == 1
    }

    /// Whether both may end up in one mapping: either is unfaulted, or both are the same.
    #[must_use]
    pub fn is_compatible(&self, other: &Self) -> bool {
        match (self.id(), other.id()) {
            (Some(left), Some(right)) => left == right,
            _ => true,
        }
    }
}
