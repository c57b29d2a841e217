//! `fork`: one pass over the tree makes the child's.

use alloc::sync::Arc;

use maple_tree::DuplicateError;

use crate::accounting::Tally;
use crate::anon::{Anon, AnonOrigin};
use crate::errno::Errno;
use crate::flags::VmFlags;
use crate::memory::{Batch, VmaRef};
use crate::space::{AddressSpace, Offsets};
use crate::vma::Vma;

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
    /// assert!(child.anon(child.vma_at(addr).unwrap()).is_forked());
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn fork(&mut self) -> Result<Self, Errno> {
        let parent: &Self = self;
        let mut batch = Batch::new(parent.system.pool(), parent.map_count());
        let charge =
            parent.charge(parent.tally.statistics.committed - parent.tally.kept_from_child)?;
        let mut tally = Tally::default();
        let duplicate = parent.tree.duplicate_with(|_, vma| -> Result<_, Errno> {
            let Some(copy) = parent.inherited(vma) else {
                return Ok(None);
            };
            let copy = VmaRef::new_from(copy, &mut batch)?;
            tally = tally.plus(Tally::of(&copy, copy.pages()));
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
            tally,
            anon_origin: AnonOrigin::ROOT,
            // `mlockall(MCL_FUTURE)` is not inherited.
            default_flags: parent.default_flags & VmFlags::NOHUGEPAGE,
            stray_locked: 0,
            // What was moved and is wiped keeps its old offset.
            offsets: Offsets::MayBeStale,
        })
    }

    /// What the child gets of one mapping.
    fn inherited(&self, vma: &VmaRef) -> Option<Vma> {
        let flags = vma.flags();
        if flags.contains(VmFlags::DONTCOPY) {
            return None;
        }
        let unlocked = flags - VmFlags::LOCKED_ANY;
        let is_wiped = flags.contains(VmFlags::WIPEONFORK);
        let anon = if is_wiped || !vma.anon().is_faulted() {
            Anon::UNFAULTED
        } else {
            Anon::forked(self.system.new_anon())
        };
        Some(vma.with_flags(unlocked).with_anon(anon))
    }
}
