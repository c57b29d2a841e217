//! Every invariant between mappings and their pages, checked.

use crate::flags::VmFlags;
use crate::mapped_pages::MappedPages;
use crate::paging::{Arch, LeafFlags, Mapped, PageKind, PhysMemory, TlbFlusher};
use crate::space::AddressSpace;
use crate::validate::Violation;
use crate::vma::Vma;

impl<A, M, F> AddressSpace<MappedPages<A, M, F>>
where
    A: Arch,
    M: PhysMemory + Clone + Send + 'static,
    F: TlbFlusher + Clone,
{
    /// Checks [`validate`](Self::validate), and that
    ///
    /// - **PG1** each page lies in a mapping;
    /// - **PG2** a private page lies in a private mapping that has an anon_vma;
    /// - **PG3** a page allows what its mapping allows; writing may be left out;
    /// - **PG4** the zero page is in anonymous memory, and a page of a file in a mapping of one;
    /// - **PG5** a mapping of explicitly huge pages has such pages, and no other has.
    ///
    /// What page tables themselves promise is checked by
    /// [`validate_family`](crate::paging::validate_family).
    ///
    /// # Complexity
    ///
    /// O(n + p log n) for n mappings and p pages.
    ///
    /// # Errors
    ///
    /// The first [`Violation`].
    pub fn validate_pages(&self) -> Result<(), Violation> {
        self.validate()?;
        for page in self.pages.tables().pages(0..A::USER_END) {
            self.check_page(page)?;
        }
        Ok(())
    }

    fn check_page(&self, page: Mapped) -> Result<(), Violation> {
        let end = page.start + page.size;
        let mut at = page.start;
        while at < end {
            let vma = self.vma_at(at).ok_or(Violation {
                id: "PG1",
                addr: at,
            })?;
            if let Some(id) = wrong(page, vma) {
                return Err(Violation { id, addr: at });
            }
            at = vma.end();
        }
        Ok(())
    }
}

fn wrong(page: Mapped, vma: &Vma) -> Option<&'static str> {
    let attributes = page.leaf.attributes;
    let flags = vma.flags();
    let allows = |right| attributes.flags.contains(right);
    let is_right = allows(LeafFlags::READ) == flags.intersects(VmFlags::ACCESS)
        && allows(LeafFlags::EXECUTE) == flags.contains(VmFlags::EXEC)
        && (flags.contains(VmFlags::WRITE) || !allows(LeafFlags::WRITE));
    let is_private = !flags.contains(VmFlags::SHARED) && vma.anon().is_faulted();
    match attributes.kind {
        PageKind::Anon if !is_private => Some("PG2"),
        PageKind::Special if !vma.is_anonymous() => Some("PG4"),
        PageKind::File | PageKind::Shmem if vma.file().is_none() => Some("PG4"),
        _ if !is_right => Some("PG3"),
        _ if allows(LeafFlags::EXPLICIT) != flags.contains(VmFlags::HUGETLB) => Some("PG5"),
        _ => None,
    }
}
