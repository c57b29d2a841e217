//! `fork`: one pass over the tree makes the child's.

use alloc::sync::Arc;

use maple_tree::DuplicateError;

use crate::accounting::Statistics;
use crate::anon::Anon;
use crate::errno::Errno;
use crate::flags::VmFlags;
use crate::space::{AddressSpace, Offsets};
use crate::vma::Vma;

/// What the child charges, given back unless the child comes to life.
struct Charge<'a> {
    parent: &'a AddressSpace,
    pages: u64,
}

impl Charge<'_> {
    fn add(&mut self, pages: u64) -> Result<(), Errno> {
        self.parent.charge(pages)?;
        self.pages += pages;
        Ok(())
    }

    /// The child owns the pages now.
    fn keep(mut self) {
        self.pages = 0;
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.parent.system.uncharge(self.pages);
    }
}

impl AddressSpace {
    /// Makes the address space of a forked child.
    ///
    /// Mappings marked `MADV_DONTFORK` are left out, those marked `MADV_WIPEONFORK` begin
    /// unwritten, nothing is locked, and what the parent had written hangs on a chain from now on.
    ///
    /// # Complexity
    ///
    /// O(n): each mapping is copied once while the child's tree is built.
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`] if memory may not be promised twice, or for the tree. Nothing is left
    /// of the child and the parent is unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{Access, AddressSpace, Errno, MmapRequest, abi::*};
    /// let mut parent = AddressSpace::empty();
    /// let addr = parent.mmap(MmapRequest::anonymous(4096, PROT_READ | PROT_WRITE))?;
    /// parent.fault(addr, Access::Write).unwrap();
    /// let child = parent.fork()?;
    /// assert_eq!(child.vma_at(addr).unwrap().anon().chain().len(), 2);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn fork(&mut self) -> Result<Self, Errno> {
        let parent: &Self = self;
        let mut charge = Charge { parent, pages: 0 };
        let mut statistics = Statistics::default();
        let duplicate = parent.tree.duplicate_with(|_, vma| -> Result<_, Errno> {
            let Some(copy) = parent.inherited(vma) else {
                return Ok(None);
            };
            let counters = Statistics::of(copy.flags(), copy.pages());
            charge.add(counters.committed)?;
            statistics = statistics.plus(counters);
            Ok(Some(copy))
        });
        let tree = duplicate.map_err(|error| match error {
            DuplicateError::Refused(errno) => errno,
            DuplicateError::OutOfNodes => Errno::ENOMEM,
        })?;
        charge.keep();
        Ok(Self {
            system: Arc::clone(&parent.system),
            profile: parent.profile,
            layout: parent.layout.clone(),
            limits: parent.limits,
            capabilities: parent.capabilities,
            tree,
            statistics,
            // `mlockall(MCL_FUTURE)` is not inherited.
            default_flags: parent.default_flags & VmFlags::NOHUGEPAGE,
            stray_locked: 0,
            // What was moved and is wiped keeps its old offset.
            offsets: Offsets::MayBeStale,
        })
    }

    /// What the child gets of one mapping.
    fn inherited(&self, vma: &Arc<Vma>) -> Option<Arc<Vma>> {
        let flags = vma.flags();
        if flags.contains(VmFlags::DONTCOPY) {
            return None;
        }
        let unlocked = flags - VmFlags::LOCKED_ANY;
        let is_wiped = flags.contains(VmFlags::WIPEONFORK);
        if unlocked == flags && !vma.anon().is_faulted() {
            return Some(Arc::clone(vma));
        }
        let anon = if is_wiped || !vma.anon().is_faulted() {
            Anon::UNFAULTED
        } else {
            vma.anon().forked(self.system.new_anon())
        };
        Some(Arc::new(vma.with_flags(unlocked).with_anon(anon)))
    }
}
