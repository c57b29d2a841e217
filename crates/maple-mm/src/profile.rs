//! Where Linux versions differ visibly, as named behaviours.

/// When a range that was written may join a neighbour that was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnonMergeRule {
    /// Up to 6.15: only an unwritten range joins a written neighbour, never the reverse.
    NeighbourMustBeWritten,
    /// From 6.16: both, unless the written side came from a fork.
    EitherSide,
}

/// Which anonymous mappings go to 2 MiB boundaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePlacement {
    /// None: built without transparent huge pages.
    Never,
    /// Those without a hint whose length is a multiple of 2 MiB.
    WholeHugePages,
}

/// How `mremap` checks its limits and moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MremapGeneration {
    /// Up to 6.16: one mapping at a time; the headroom is asked for when a move begins.
    SingleMapping,
    /// From 6.17: arguments are checked before anything else, and a fixed move of unchanged
    /// length may span several mappings and holes.
    MultipleMappings,
}

/// When a new mapping gets the mark of `PR_SET_MEMORY_MERGE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeAnyRule {
    /// Up to 6.16: after it looked for neighbours to join, which it does without the mark, so
    /// that it joins none that has it.
    AfterMerge,
    /// From 6.17: before, unless a driver can change its flags later; then only if it stays alone.
    BeforeMerge,
}

/// Whether something is part of the kernel's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configured {
    /// Built in.
    Yes,
    /// Left out.
    No,
}

impl Configured {
    /// Whether it is built in.
    #[must_use]
    pub const fn is_yes(self) -> bool {
        matches!(self, Self::Yes)
    }
}

/// The behaviours of one Linux version and configuration.
///
/// # Examples
///
/// ```
/// use maple_mm::{AnonMergeRule, LinuxProfile};
/// assert_eq!(LinuxProfile::default(), LinuxProfile::V6_18);
/// assert_eq!(LinuxProfile::V6_12.anon_merge, AnonMergeRule::NeighbourMustBeWritten);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinuxProfile {
    /// The version the behaviours were observed on, for messages.
    pub name: &'static str,
    /// When written and unwritten ranges merge.
    pub anon_merge: AnonMergeRule,
    /// Whether guard pages can be installed, and mark their mapping for good (`gu`) without ever
    /// keeping it from merging.
    pub guard_flag: Configured,
    /// Which anonymous mappings go to 2 MiB boundaries.
    pub huge_placement: HugePlacement,
    /// How `mremap` checks and moves.
    pub mremap: MremapGeneration,
    /// Transparent huge pages: `MAP_STACK` refuses them, `MADV_HUGEPAGE` is known.
    pub transparent_huge_pages: Configured,
    /// Same-page merging: `MADV_MERGEABLE` is known.
    pub ksm: Configured,
    /// Soft-dirty tracking: every new mapping carries `sd`.
    pub soft_dirty: Configured,
    /// Names of anonymous mappings.
    pub anon_vma_name: Configured,
    /// When new mappings are marked by `PR_SET_MEMORY_MERGE`.
    pub merge_any: MergeAnyRule,
    /// Whether `process_madvise` about one's own memory takes all advice.
    pub own_process_advice: Configured,
    /// Whether `PR_SET_THP_DISABLE` knows an exception for what asks for huge pages.
    pub huge_page_exception: Configured,
}

impl LinuxProfile {
    /// Linux 6.12.
    pub const V6_12: Self = Self {
        name: "6.12",
        anon_merge: AnonMergeRule::NeighbourMustBeWritten,
        guard_flag: Configured::No,
        mremap: MremapGeneration::SingleMapping,
        merge_any: MergeAnyRule::AfterMerge,
        own_process_advice: Configured::No,
        huge_page_exception: Configured::No,
        ..Self::V6_18
    };

    /// Linux 6.18.
    pub const V6_18: Self = Self {
        name: "6.18",
        anon_merge: AnonMergeRule::EitherSide,
        guard_flag: Configured::Yes,
        huge_placement: HugePlacement::WholeHugePages,
        mremap: MremapGeneration::MultipleMappings,
        transparent_huge_pages: Configured::Yes,
        ksm: Configured::Yes,
        soft_dirty: Configured::No,
        anon_vma_name: Configured::No,
        merge_any: MergeAnyRule::BeforeMerge,
        own_process_advice: Configured::Yes,
        huge_page_exception: Configured::Yes,
    };
}

impl Default for LinuxProfile {
    fn default() -> Self {
        Self::V6_18
    }
}
