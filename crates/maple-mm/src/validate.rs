//! Every invariant of an address space, checked.

use core::fmt;

use crate::abi::PAGE_SIZE;
use crate::accounting::Tally;
use crate::flags::VmFlags;
use crate::page_side::PageSide;
use crate::space::{AddressSpace, Offsets};
use crate::vma::Vma;

/// An invariant of an [`AddressSpace`] that does not hold: its ID and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `A1` to `A8` of [`AddressSpace::validate`], `PG1` to `PG6` of
    /// [`AddressSpace::validate_pages`].
    pub id: &'static str,
    /// The first byte of the mapping, or of what is wrong.
    pub addr: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {} does not hold at {:#x}", self.id, self.addr)
    }
}

impl core::error::Error for Violation {}

impl<P: PageSide> AddressSpace<P> {
    /// Checks that
    ///
    /// - **A1** the tree itself is sound, so that mappings ascend and do not overlap;
    /// - **A2** each mapping's range is the range the tree holds it at;
    /// - **A3** mappings are not empty and made of whole pages;
    /// - **A4** mappings end within the address space;
    /// - **A5** unwritten anonymous memory has its address as its offset, until a fork or
    ///   `MREMAP_DONTUNMAP` may have left an older one;
    /// - **A6** shared mappings have no anon_vma;
    /// - **A7** only locked mappings are locked on fault;
    /// - **A8** the counters are the sums over the mappings, and so is their number; what
    ///   `MREMAP_DONTUNMAP` unlocked stays counted as locked.
    ///
    /// # Complexity
    ///
    /// O(n).
    ///
    /// # Errors
    ///
    /// The first [`Violation`].
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// assert_eq!(space.validate(), Ok(()));
    /// # let _ = addr;
    /// ```
    pub fn validate(&self) -> Result<(), Violation> {
        let violated = |id, addr| Violation { id, addr };
        self.tree.validate().map_err(|_| violated("A1", 0))?;
        let mut sums = Tally::default();
        let mut end = 0;
        let mut count = 0_usize;
        for (range, vma) in self.tree() {
            if range != vma.index_range() {
                return Err(violated("A2", range.first()));
            }
            self.check_vma(vma)?;
            end = vma.end();
            count += 1;
            sums = sums.plus(Tally::of(vma, vma.pages()));
        }
        sums.statistics.locked_vm += self.stray_locked;
        if sums != self.tally || count != self.map_count() {
            return Err(violated("A8", end));
        }
        Ok(())
    }

    fn check_vma(&self, vma: &Vma) -> Result<(), Violation> {
        let flags = vma.flags();
        let is_bare = vma.backing().file().is_none() && vma.is_anonymous();
        let is_stale = self.offsets == Offsets::MayBeStale;
        let checks = [
            (
                "A3",
                vma.start() < vma.end() && vma.pages() * PAGE_SIZE == vma.len_bytes(),
            ),
            ("A4", vma.end() <= self.layout.task_size),
            (
                "A5",
                !is_bare || is_stale || vma.anon().is_faulted() || has_own_offset(vma),
            ),
            (
                "A6",
                !flags.contains(VmFlags::SHARED) || !vma.anon().is_faulted(),
            ),
            (
                "A7",
                flags.contains(VmFlags::LOCKED) || !flags.contains(VmFlags::LOCKONFAULT),
            ),
        ];
        match checks.iter().find(|(_, holds)| !holds) {
            Some((id, _)) => Err(Violation {
                id,
                addr: vma.start(),
            }),
            None => Ok(()),
        }
    }
}

fn has_own_offset(vma: &Vma) -> bool {
    vma.page_offset() == vma.start() / PAGE_SIZE
}

#[cfg(test)]
mod tests {
    use maple_tree::IndexRange;

    use crate::abi::PAGE_SIZE;
    use crate::anon::{Anon, AnonId};
    use crate::file::Backing;
    use crate::flags::VmFlags;
    use crate::memory::VmaRef;
    use crate::space::AddressSpace;
    use crate::vma::{Content, Vma};

    const START: u64 = 0x10_0000;

    fn vma(end: u64, flags: VmFlags) -> Vma {
        let page_offset = START / PAGE_SIZE;
        let (backing, anon) = (Backing::Anonymous, Anon::UNFAULTED);
        Vma::new(
            START,
            end,
            Content {
                flags,
                page_offset,
                held: backing.into(),
                anon,
            },
        )
        .unwrap()
    }

    fn one_page(flags: VmFlags) -> Vma {
        vma(START + PAGE_SIZE, flags)
    }

    /// Stores a mapping properly and says what `validate` finds.
    #[track_caller]
    fn found(vma: Vma) -> Option<&'static str> {
        let mut space = AddressSpace::empty();
        space.commit_put(vma).unwrap();
        space.validate().err().map(|violation| violation.id)
    }

    #[test]
    fn a_sound_mapping_is_accepted() {
        assert_eq!(found(one_page(VmFlags::READ)), None);
    }

    #[test]
    fn a_mapping_at_the_wrong_place_is_found() {
        let mut space = AddressSpace::empty();
        let wrong = IndexRange::new(START, START + 2 * PAGE_SIZE - 1).unwrap();
        let vma = VmaRef::new(one_page(VmFlags::READ), space.system.pool()).unwrap();
        space.tree.preallocate(1).unwrap().store(wrong, vma);
        assert_eq!(space.validate().unwrap_err().id, "A2");
    }

    #[test]
    fn a_mapping_of_half_a_page_is_found() {
        let half = one_page(VmFlags::READ).with_end_unchecked(START + PAGE_SIZE / 2);
        assert_eq!(found(half), Some("A3"));
    }

    #[test]
    fn a_mapping_beyond_the_end_is_found() {
        assert_eq!(found(vma(1 << 48, VmFlags::READ)), Some("A4"));
    }

    #[test]
    fn a_stale_offset_is_found() {
        let stale = Content {
            page_offset: 1,
            ..one_page(VmFlags::READ).content()
        };
        assert_eq!(
            found(Vma::new(START, START + PAGE_SIZE, stale).unwrap()),
            Some("A5")
        );
    }

    #[test]
    fn a_written_shared_mapping_is_found() {
        let shared = one_page(VmFlags::SHARED | VmFlags::MAYSHARE);
        assert_eq!(found(shared.with_anon(Anon::new(AnonId(1)))), Some("A6"));
    }

    #[test]
    fn locking_on_fault_without_a_lock_is_found() {
        assert_eq!(found(one_page(VmFlags::LOCKONFAULT)), Some("A7"));
    }

    #[test]
    fn a_wrong_counter_is_found() {
        let mut space = AddressSpace::empty();
        space.commit_put(one_page(VmFlags::READ)).unwrap();
        space.tally.statistics.exec_vm += 1;
        assert_eq!(space.validate().unwrap_err().id, "A8");
    }
}
