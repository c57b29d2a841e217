//! Whether memory holds what the model says.

use maple_mm::Access;
use maple_mm::paging::{Arch, LeafFlags, Resident, validate_family};

use crate::model::{OFFSETS, Page, Space, Value, World};
use crate::support::{PAGE, Tables};

impl<'m, A: Arch> World<'m, A> {
    /// Everything is as the model says, and sound.
    pub(crate) fn check(&self) {
        let tables: Vec<_> = self
            .spaces
            .iter()
            .flatten()
            .map(|space| &space.tables)
            .collect();
        let held = |addr| u32::from(self.shmem.holds(addr) || self.file.holds(addr));
        assert_eq!(validate_family(&tables, held), Ok(()));
        for space in self.spaces.iter().flatten() {
            self.check_space(space);
        }
    }

    fn check_space(&self, space: &Space<'m, A>) {
        space.tlb.check(&space.tables);
        space.tlb.fill(&space.tables, space.pages.keys().copied());
        let mapped = space.tables.pages(0..A::USER_END);
        let found: Vec<u64> = mapped
            .flat_map(|page| (page.start..page.start + page.size).step_by(PAGE as usize))
            .collect();
        let expected: Vec<u64> = space.pages.keys().copied().collect();
        assert_eq!(found, expected, "other pages are mapped");
        let mut resident = Resident::default();
        for (&addr, page) in &space.pages {
            self.check_page(&space.tables, addr, page);
            *match page.value {
                _ if page.is_explicit => &mut resident.explicit,
                Value::Own(_) => &mut resident.anon,
                Value::Shmem(_) => &mut resident.shmem,
                Value::File(_) => &mut resident.file,
                Value::Zero => continue,
            } += 1;
        }
        assert_eq!(space.tables.resident(), resident);
    }

    fn check_page(&self, tables: &Tables<'m, A>, addr: u64, page: &Page) {
        if page.rights.is_empty() {
            assert!(tables.fetch_u64(addr).is_err(), "nobody may read {addr:#x}");
            return;
        }
        let words = OFFSETS.map(|offset| tables.fetch_u64(addr + offset));
        let expected = match page.value {
            Value::Own(words) => words,
            Value::Shmem(index) => self.shmem.words[index].get(),
            Value::File(index) => self.file.words[index].get(),
            Value::Zero => [0; 2],
        };
        assert_eq!(words, expected.map(Ok), "at {addr:#x}");
        let may = |access| tables.translate(addr, access).is_ok();
        assert!(!may(Access::Write) || page.rights.contains(LeafFlags::WRITE));
        assert_eq!(
            may(Access::Execute),
            page.rights.contains(LeafFlags::EXECUTE)
        );
    }
}
