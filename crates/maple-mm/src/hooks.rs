//! Who is told when mappings begin and end, and around `fork`.

use core::fmt;

use maple_tree::IndexRange;

use crate::errno::Errno;
use crate::memory::VmaRef;
use crate::page_side::PageSide;
use crate::space::{AddressSpace, Mappings};

/// What a machine wants to be told of its address spaces.
///
/// `open` and `close` are called for mappings of files with
/// [`FileAccess::HOOKED`](crate::FileAccess::HOOKED) and of System V segments only, after the
/// change they belong to is complete; a change that is refused is not told of. Each mapping that
/// becomes part of an address space is opened once, and closed once when it stops being part of
/// it: unmapped, cut, merged, changed, or with the address space.
///
/// LINUX: `vm_ops->open` and `close`. There a mapping whose flags or bounds change is neither
/// closed nor opened; here the new value is opened, then the old one is closed, so that the
/// number of those open never falls in between.
///
/// All methods do nothing unless written.
///
/// # Examples
///
/// ```
/// use maple_mm::{AddressSpace, Errno, MappingHooks, Mappings, Setup, System, SystemSettings};
/// use std::sync::Arc;
///
/// #[derive(Debug)]
/// struct NoForks;
///
/// impl MappingHooks for NoForks {
///     fn before_fork(&self, _: &Mappings) -> Result<(), Errno> {
///         Err(Errno::EAGAIN)
///     }
/// }
///
/// let system = Arc::new(System::new(SystemSettings::default()).with_hooks(&NoForks));
/// let mut space = AddressSpace::from_layout(Setup { system, ..Setup::default() }, []).unwrap();
/// assert_eq!(space.fork().unwrap_err(), Errno::EAGAIN);
/// ```
pub trait MappingHooks: Sync + fmt::Debug {
    /// `vma` is part of one more address space.
    fn open(&self, vma: &VmaRef) {
        let _ = vma;
    }

    /// `vma` is part of one address space less.
    fn close(&self, vma: &VmaRef) {
        let _ = vma;
    }

    /// The address space of `parent` is about to fork.
    ///
    /// # Errors
    ///
    /// What the fork ends with then; nothing was done yet, and `after_fork` is not called.
    fn before_fork(&self, parent: &Mappings) -> Result<(), Errno> {
        let _ = parent;
        Ok(())
    }

    /// The fork of `parent` is over: the child is complete, its mappings open, or nothing is left.
    fn after_fork(&self, parent: &Mappings, child: Result<&Mappings, Errno>) {
        let _ = (parent, child);
    }
}

impl<P: PageSide> AddressSpace<P> {
    /// Tells of every mapping that it begins.
    pub(crate) fn open_all(&self) {
        self.tell_all(|hooks, vma| hooks.open(vma));
    }

    /// Tells of every mapping that it ends.
    pub(crate) fn close_all(&self) {
        self.tell_all(|hooks, vma| hooks.close(vma));
    }

    fn tell_all(&self, tell: impl Fn(&dyn MappingHooks, &VmaRef)) {
        if self.tally.hooked == 0 {
            return;
        }
        if let Some(hooks) = self.system.hooks() {
            for vma in self.vmas().filter(|vma| vma.has_hooks()) {
                tell(hooks, vma);
            }
        }
    }

    /// Tells of what a change in `range` began and ended; `before` is the tree before it.
    pub(crate) fn tell_change(&self, before: &Mappings, range: IndexRange) {
        let Some(hooks) = self.system.hooks() else {
            return;
        };
        for vma in only_in(&self.tree, before, range) {
            hooks.open(vma);
        }
        for vma in only_in(before, &self.tree, range) {
            hooks.close(vma);
        }
    }
}

/// The mappings with hooks that `tree` has in `range` and `other` has not.
fn only_in<'t>(
    tree: &'t Mappings,
    other: &'t Mappings,
    range: IndexRange,
) -> impl Iterator<Item = &'t VmaRef> {
    let is_there = |at: IndexRange, vma: &VmaRef| {
        other
            .entry(at.first())
            .is_some_and(|(range, there)| range == at && VmaRef::ptr_eq(there, vma))
    };
    tree.range(range)
        .filter(move |(at, vma)| vma.has_hooks() && !is_there(*at, vma))
        .map(|(_, vma)| vma)
}
