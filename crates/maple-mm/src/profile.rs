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
/// `docs/profiles.md` lists all of them beside each other.
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
    /// The first version that behaves so, for messages.
    pub name: &'static str,
    /// When written and unwritten ranges merge.
    pub anon_merge: AnonMergeRule,
    /// Whether guard pages can be installed. They never keep mappings from merging.
    pub guard_pages: Configured,
    /// Whether mappings of files and those that may never be written can have them, too.
    pub file_guards: Configured,
    /// Whether `smaps` shows where they were installed at some time (`gu`).
    pub guard_flag: Configured,
    /// Which anonymous mappings go to 2 MiB boundaries.
    pub huge_placement: HugePlacement,
    /// How `mremap` checks and moves.
    pub mremap: MremapGeneration,
    /// When new mappings are marked by `PR_SET_MEMORY_MERGE`.
    pub merge_any: MergeAnyRule,
    /// Whether `process_madvise` about one's own memory takes all advice.
    pub own_process_advice: Configured,
    /// Whether `PR_SET_THP_DISABLE` knows an exception for what asks for huge pages.
    pub huge_page_exception: Configured,
    /// Transparent huge pages: `MAP_STACK` refuses them, `MADV_HUGEPAGE` is known.
    pub transparent_huge_pages: Configured,
    /// Same-page merging: `MADV_MERGEABLE` is known.
    pub ksm: Configured,
    /// Soft-dirty tracking: every new mapping carries `sd`.
    pub soft_dirty: Configured,
    /// Names of anonymous mappings.
    pub anon_vma_name: Configured,
    /// Sealing (`mseal`).
    pub mseal: Configured,
    /// Pages that are taken out of use: `MADV_HWPOISON` and `MADV_SOFT_OFFLINE` are known.
    pub memory_failure: Configured,
}

/// A Linux version, major and minor.
pub type LinuxVersion = (u32, u32);

impl LinuxProfile {
    /// Linux 6.12.
    pub const V6_12: Self = Self {
        name: "6.12",
        anon_merge: AnonMergeRule::NeighbourMustBeWritten,
        guard_pages: Configured::No,
        file_guards: Configured::No,
        guard_flag: Configured::No,
        huge_placement: HugePlacement::WholeHugePages,
        mremap: MremapGeneration::SingleMapping,
        merge_any: MergeAnyRule::AfterMerge,
        own_process_advice: Configured::No,
        huge_page_exception: Configured::No,
        transparent_huge_pages: Configured::Yes,
        ksm: Configured::Yes,
        soft_dirty: Configured::No,
        anon_vma_name: Configured::No,
        mseal: Configured::Yes,
        memory_failure: Configured::Yes,
    };

    /// Linux 6.13 and 6.14: guard pages, and advice of all kinds to oneself.
    pub const V6_13: Self = Self {
        name: "6.13",
        guard_pages: Configured::Yes,
        own_process_advice: Configured::Yes,
        ..Self::V6_12
    };

    /// Linux 6.15: guard pages in files and in what may never be written.
    pub const V6_15: Self = Self {
        name: "6.15",
        file_guards: Configured::Yes,
        ..Self::V6_13
    };

    /// Linux 6.16: written and unwritten ranges merge either way.
    pub const V6_16: Self = Self {
        name: "6.16",
        anon_merge: AnonMergeRule::EitherSide,
        ..Self::V6_15
    };

    /// Linux 6.17: several mappings move at once, and memory that may be shared merges.
    pub const V6_17: Self = Self {
        name: "6.17",
        mremap: MremapGeneration::MultipleMappings,
        merge_any: MergeAnyRule::BeforeMerge,
        ..Self::V6_16
    };

    /// Linux 6.18: `smaps` shows guards, and huge pages may be refused with an exception.
    pub const V6_18: Self = Self {
        name: "6.18",
        guard_flag: Configured::Yes,
        huge_page_exception: Configured::Yes,
        ..Self::V6_17
    };

    /// Each profile with the first version that behaves so, in ascending order.
    pub const ALL: [(LinuxVersion, Self); 6] = [
        ((6, 12), Self::V6_12),
        ((6, 13), Self::V6_13),
        ((6, 15), Self::V6_15),
        ((6, 16), Self::V6_16),
        ((6, 17), Self::V6_17),
        ((6, 18), Self::V6_18),
    ];

    /// The newest version that a profile was made from.
    pub const NEWEST: LinuxVersion = (6, 18);

    /// The profile of a version: the newest one that is not newer. An older version than all gets
    /// the oldest.
    ///
    /// What depends on the configuration is a guess: who runs on a kernel should ask it.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::LinuxProfile;
    /// assert_eq!(LinuxProfile::of_version((6, 14)), LinuxProfile::V6_13);
    /// assert_eq!(LinuxProfile::of_version((7, 0)), LinuxProfile::V6_18);
    /// assert_eq!(LinuxProfile::of_version((5, 10)), LinuxProfile::V6_12);
    /// ```
    #[must_use]
    pub fn of_version(version: LinuxVersion) -> Self {
        let newest = Self::ALL.iter().rev().find(|(first, _)| *first <= version);
        newest.map_or(Self::V6_12, |(_, profile)| *profile)
    }
}

impl Default for LinuxProfile {
    fn default() -> Self {
        Self::V6_18
    }
}
