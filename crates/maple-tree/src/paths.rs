//! Counts which ways through the write code were taken, for tests only.
//!
//! Built with `--cfg small_nodes`; otherwise [`reached`] is nothing.

macro_rules! paths {
    ($($variant:ident => $name:literal,)*) => {
        /// A way through the write code.
        #[derive(Clone, Copy)]
        pub(crate) enum Path { $($variant,)* }

        #[cfg(small_nodes)]
        const NAMES: &[&str] = &[$($name,)*];
    };
}

paths! {
    NothingToDo => "nothing to do",
    FirstLeaf => "first leaf",
    ExactFit => "exact fit",
    Appended => "appended to the last leaf",
    OneLeaf => "one leaf, in place",
    Shortened => "one leaf, ends earlier",
    TurnsDense => "one leaf, dense from now on",
    TurnsSparse => "one leaf, sparse from now on",
    CopiedOnWrite => "node copied on write",
    LeafRewritten => "leaf rewritten alone",
    LeafSplit => "leaf split",
    LeavesJoined => "leaves joined into one or none",
    LeavesSpanned => "leaves spanned, several left",
    LeafWithRightSibling => "leaf rebuilt with right sibling",
    LeafWithLeftSibling => "leaf rebuilt with left sibling",
    LeafWithRightCousin => "leaf rebuilt with right cousin",
    LeafWithLeftCousin => "leaf rebuilt with left cousin",
    BranchSplit => "branch split",
    BranchesJoined => "branches joined into one",
    BranchesSpanned => "branches spanned, several left",
    BranchWithRightSibling => "branch rebuilt with right sibling",
    BranchWithLeftSibling => "branch rebuilt with left sibling",
    BranchWithRightCousin => "branch rebuilt with right cousin",
    Converges => "new nodes fit below a branch",
    RootGrows => "root grows a level",
    RootShrinks => "root shrinks",
    Emptied => "tree emptied",
}

#[cfg(small_nodes)]
static COUNTS: [core::sync::atomic::AtomicU64; NAMES.len()] =
    [const { core::sync::atomic::AtomicU64::new(0) }; NAMES.len()];

/// Notes that `path` was taken.
#[inline]
pub(crate) fn reached(path: Path) {
    #[cfg(small_nodes)]
    COUNTS[path as usize].fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    #[cfg(not(small_nodes))]
    let _ = path;
}

/// Sets all counts to zero.
#[cfg(small_nodes)]
pub fn reset() {
    for count in &COUNTS {
        count.store(0, core::sync::atomic::Ordering::Relaxed);
    }
}

/// How often each way through the write code was taken since [`reset`].
#[cfg(small_nodes)]
#[must_use]
pub fn report() -> alloc::vec::Vec<(&'static str, u64)> {
    let counts = COUNTS
        .iter()
        .map(|count| count.load(core::sync::atomic::Ordering::Relaxed));
    NAMES.iter().copied().zip(counts).collect()
}
