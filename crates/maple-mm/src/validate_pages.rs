//! Every invariant between mappings and their pages, checked.

use crate::flags::VmFlags;
use crate::guest::GuestMemory;
use crate::paging::{LeafFlags, Mapped, PageKind};
use crate::space::AddressSpace;
use crate::validate::Violation;
use crate::vma::Vma;

impl<P: GuestMemory> AddressSpace<P> {
    /// Checks [`validate`](Self::validate), and that
    ///
    /// - **PG1** each page lies in a mapping;
    /// - **PG2** a private page lies in a private mapping that has an anon_vma;
    /// - **PG3** a page allows what its mapping allows; writing may be left out;
    /// - **PG4** the zero page is in anonymous memory, and a page of a file in a mapping of one;
    /// - **PG5** a mapping of explicitly huge pages has such pages, and no other has;
    /// - **PG6** guards are in mappings in which some were installed.
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
        for page in self.pages.present() {
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

pub(crate) fn wrong(page: Mapped, vma: &Vma) -> Option<&'static str> {
    let attributes = page.leaf.attributes;
    let flags = vma.flags();
    let allows = |right| attributes.flags.contains(right);
    let is_right = allows(LeafFlags::READ) == flags.intersects(VmFlags::ACCESS)
        && allows(LeafFlags::EXECUTE) == flags.contains(VmFlags::EXEC)
        && (flags.contains(VmFlags::WRITE) || !allows(LeafFlags::WRITE));
    if page.is_guard() {
        return (!flags.contains(VmFlags::MAYBE_GUARD)).then_some("PG6");
    }
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

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use crate::Access;
    use crate::Setup;
    use crate::abi::{
        MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PAGE_SIZE, PROT_READ, PROT_WRITE,
    };
    use crate::map::MmapRequest;
    use crate::mapped_pages::MappedPages;
    use crate::paging::{
        Arena, ArenaLayout, Attributes, Content, FrameSize, LeafFlags, NewPage, NoTlb, PageKind,
        PhysAddr, PhysMemory, X86_64,
    };
    use crate::space::AddressSpace;

    type Memory = Arc<Arena<parking_lot::RawMutex>>;
    type Space = AddressSpace<MappedPages<X86_64<4>, Memory, NoTlb>>;

    const START: u64 = 0x20_0000;
    /// The second page of the mapping, which is not there yet.
    const SECOND: u64 = START + PAGE_SIZE;
    const READ: LeafFlags = LeafFlags::READ.union(LeafFlags::USER);

    /// Two pages that may be read and written, of which the first was written.
    fn written(sharing: u64) -> (Space, Memory) {
        let (frames, base) = (1024, PhysAddr::new(0x4000_0000));
        let memory: Memory = Arc::new(Arena::new(ArenaLayout { frames, base }).unwrap());
        let side = MappedPages::new(Arc::clone(&memory), NoTlb).unwrap();
        let mut space = AddressSpace::with_pages(Setup::default(), side);
        let request = MmapRequest {
            addr: START,
            flags: sharing | MAP_ANONYMOUS | MAP_FIXED,
            ..MmapRequest::anonymous(2 * PAGE_SIZE, PROT_READ | PROT_WRITE)
        };
        space.mmap(request).unwrap();
        if sharing == MAP_PRIVATE {
            space.fault(START, Access::Write).unwrap();
        }
        assert_eq!(space.validate_pages(), Ok(()));
        (space, memory)
    }

    /// What is found where there is a page at `addr` that the mappings know nothing of.
    #[track_caller]
    fn found(sharing: u64, addr: u64, page: (PageKind, LeafFlags)) -> Option<&'static str> {
        let (mut space, memory) = written(sharing);
        let tables = &mut space.pages.tables;
        let mut gather = tables.gather(NoTlb);
        let frame = memory.allocate(FrameSize::SMALL, Content::Zeroed).unwrap();
        let attributes = Attributes::new(page.0, page.1);
        let page = NewPage { frame, attributes };
        tables.map(addr, page, &mut gather).unwrap();
        gather.finish();
        space.validate_pages().err().map(|violation| violation.id)
    }

    #[test]
    fn a_page_as_it_should_be_is_accepted() {
        assert_eq!(found(MAP_PRIVATE, SECOND, (PageKind::Anon, READ)), None);
    }

    #[test]
    fn a_page_without_a_mapping_is_found() {
        let beyond = SECOND + PAGE_SIZE;
        let found = found(MAP_PRIVATE, beyond, (PageKind::Anon, READ));
        assert_eq!(found, Some("PG1"));
    }

    #[test]
    fn a_private_page_in_shared_memory_is_found() {
        let found = found(MAP_SHARED, SECOND, (PageKind::Anon, READ));
        assert_eq!(found, Some("PG2"));
    }

    #[test]
    fn a_page_that_may_be_executed_unlike_its_mapping_is_found() {
        let right = READ | LeafFlags::EXECUTE;
        let found = found(MAP_PRIVATE, SECOND, (PageKind::Anon, right));
        assert_eq!(found, Some("PG3"));
    }

    #[test]
    fn a_page_that_may_not_be_read_unlike_its_mapping_is_found() {
        let found = found(MAP_PRIVATE, SECOND, (PageKind::Anon, LeafFlags::USER));
        assert_eq!(found, Some("PG3"));
    }

    #[test]
    fn a_page_of_a_file_in_anonymous_memory_is_found() {
        let found = found(MAP_PRIVATE, SECOND, (PageKind::File, READ));
        assert_eq!(found, Some("PG4"));
    }

    #[test]
    fn the_zero_page_in_shared_memory_is_found() {
        let (mut space, _memory) = written(MAP_SHARED);
        let tables = &mut space.pages.tables;
        let mut gather = tables.gather(NoTlb);
        tables.map_zero_page(SECOND, READ, &mut gather).unwrap();
        gather.finish();
        assert_eq!(space.validate_pages().unwrap_err().id, "PG4");
    }

    #[test]
    fn a_guard_where_none_was_installed_is_found() {
        let (mut space, _memory) = written(MAP_PRIVATE);
        let tables = &mut space.pages.tables;
        let mut gather = tables.gather(NoTlb);
        let range = SECOND..SECOND + PAGE_SIZE;
        tables.install_guards(&range, &mut gather).unwrap();
        gather.finish();
        assert_eq!(space.validate_pages().unwrap_err().id, "PG6");
    }

    #[test]
    fn a_page_of_the_huge_pool_in_an_ordinary_mapping_is_found() {
        let explicit = READ | LeafFlags::EXPLICIT;
        let found = found(MAP_PRIVATE, SECOND, (PageKind::Anon, explicit));
        assert_eq!(found, Some("PG5"));
    }
}
