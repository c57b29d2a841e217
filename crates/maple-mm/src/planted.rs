//! Mistakes planted on purpose, for the test that shows that a divergence is found.
//!
//! Exists only in builds with `--cfg planted_mistakes`. At each rule stands `planted!(Name)`, which
//! is `false` in all other builds.

use core::sync::atomic::{AtomicU8, Ordering};

/// What kind of rule a mistake turns wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// When mappings become one.
    Merge,
    /// Where mappings go.
    Placement,
    /// What may be had.
    Limit,
    /// What mappings are marked with, and who inherits it.
    Flag,
    /// Which error is told, and what is left behind then.
    Errno,
    /// What is counted.
    Counter,
    /// What threads that use one address space at once rely on: `samara stress` finds these, all
    /// others are for one thread.
    Beside,
}

macro_rules! mistakes {
    ($($(#[$meta:meta])* $variant:ident, $name:literal, $rule:ident;)*) => {
        /// A rule turned wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mistake {
            $($(#[$meta])* $variant,)*
        }

        impl Mistake {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name on a command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What kind of rule it turns wrong.
            #[must_use]
            pub const fn rule(self) -> Rule {
                match self { $(Self::$variant => Rule::$rule,)* }
            }
        }
    };
}

mistakes! {
    /// Nothing merges any more.
    MergeRule, "merge", Merge;
    /// A range joins the mapping below it whatever their offsets.
    MergeOffset, "merge-offset", Merge;
    /// Mappings of any two files join.
    MergeFile, "merge-file", Merge;
    /// Mappings join whoever wrote them.
    MergeAnon, "merge-anon", Merge;
    /// What came through a fork joins what was not written.
    MergeForked, "merge-forked", Merge;
    /// A range joins both sides though they do not fit each other.
    MergeThree, "merge-three", Merge;
    /// A growing heap joins what ends where it begins.
    MergeHeap, "merge-heap", Merge;
    /// The mark of guards is lost in a merge.
    MergeGuard, "merge-guard", Merge;
    /// What begins with a guard is prepared for written pages all the same.
    GuardAnon, "guard-anon", Merge;

    /// Searches leave one page free above what they find.
    GapRule, "gap", Placement;
    /// Stacks have no gap below them.
    StackGap, "stack-gap", Placement;
    /// Whole huge pages are not aligned.
    HugeAlign, "huge-align", Placement;
    /// A fixed mapping that must not replace replaces.
    NoReplace, "noreplace", Placement;
    /// Hints are never granted.
    Hint, "hint", Placement;
    /// `MAP_32BIT` is not heeded.
    Low, "32bit", Placement;
    /// `mremap` never grows in place.
    GrowInPlace, "grow-in-place", Placement;

    /// `RLIMIT_AS` refuses one page too early.
    LimitAddressSpace, "limit-as", Limit;
    /// `RLIMIT_DATA` holds for `brk` only.
    LimitData, "limit-data", Limit;
    /// `RLIMIT_DATA` does not hold for `brk`.
    LimitBreak, "limit-brk", Limit;
    /// `RLIMIT_MEMLOCK` refuses one page too late.
    LimitLocked, "limit-memlock", Limit;
    /// What is locked already counts twice against `RLIMIT_MEMLOCK`.
    LimitTwice, "limit-twice", Limit;
    /// `RLIMIT_STACK` does not hold.
    LimitStack, "limit-stack", Limit;

    /// A child keeps what its parent locked.
    ForkLocked, "fork-locked", Flag;
    /// A child gets what `MADV_DONTFORK` keeps from it.
    ForkAll, "fork-all", Flag;
    /// What becomes writable is not charged.
    ProtectAccount, "protect-account", Flag;
    /// `MAP_STACK` is not kept from huge pages.
    StackFlag, "stack-flag", Flag;
    /// A shared mapping of a file that is open for reading may become writable.
    MayWrite, "maywrite", Flag;
    /// `MADV_SEQUENTIAL` leaves `MADV_RANDOM` in place.
    Sequential, "sequential", Flag;
    /// `mlockall(MCL_FUTURE)` is forgotten at once.
    LockFuture, "lock-future", Flag;
    /// `MREMAP_DONTUNMAP` leaves the source locked.
    DontUnmapLocked, "dontunmap-locked", Flag;

    /// `EINVAL` of `munmap` becomes `EFAULT`.
    Errno, "errno", Errno;
    /// A lock beyond the limit makes `mmap` say `ENOMEM`.
    LockErrno, "errno-lock", Errno;
    /// `mprotect` over a hole changes nothing.
    ProtectHole, "errno-hole", Errno;
    /// `mremap` of a hole says `EINVAL`.
    RemapErrno, "errno-remap", Errno;
    /// Sealed mappings go away.
    Sealed, "sealed", Errno;
    /// `msync(MS_INVALIDATE)` does not mind locked memory.
    SyncBusy, "errno-msync", Errno;
    /// `MADV_DONTNEED` does not mind locked memory.
    DontNeedLocked, "errno-dontneed", Errno;
    /// Whoever touches, locks or populates what cannot be had is not told.
    MissingPage, "errno-missing", Errno;

    /// Writable code counts as code.
    CountCode, "count-code", Counter;
    /// `MREMAP_DONTUNMAP` of locked memory does not count it twice.
    CountStray, "count-stray", Counter;

    /// A call does not raise the sequence when it begins.
    Sequence, "sequence", Beside;
    /// A fault does not ask whether its mapping is live when it installs a page.
    Liveness, "liveness", Beside;
    /// The gate stays open.
    Gate, "gate", Beside;
}

static PLANTED: AtomicU8 = AtomicU8::new(0);

/// Turns one rule wrong, for the whole program, until another is chosen.
pub fn set(mistake: Mistake) {
    // Relaxed: set once before the calls it spoils.
    PLANTED.store(mistake as u8 + 1, Ordering::Relaxed);
}

/// Whether this rule is wrong now.
pub(crate) fn is(mistake: Mistake) -> bool {
    PLANTED.load(Ordering::Relaxed) == mistake as u8 + 1
}
