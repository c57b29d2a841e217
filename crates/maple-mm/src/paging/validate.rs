//! Every invariant of the page tables of one memory, checked.

use alloc::collections::BTreeMap;
use core::fmt;

use super::arch::{Arch, Entry, Leaf, LeafFlags, PageKind, Writable};
use super::company::{Company, State as _};
use super::memory::{PhysAddr, PhysMemory};
use super::subtree::{Tables, is_counted};
use super::table::Table;
use super::tables::PageTables;
use super::tally::{Class, Counters, Tally};

/// An invariant that does not hold: its ID and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PagingViolation {
    /// `PT1` to `PT7` or `TL1`, as listed at [`validate_family`].
    pub id: &'static str,
    /// The frame or table that is wrong.
    pub at: PhysAddr,
}

impl fmt::Display for PagingViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, at } = self;
        write!(f, "invariant {id} does not hold at {at:?}")
    }
}

impl core::error::Error for PagingViolation {}

/// References to one frame that were found, and the level it is a table of.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    references: u32,
    level: Option<usize>,
}

/// What is found in tables, each looked at once.
struct Census<'m, A: Arch, M: PhysMemory> {
    memory: &'m M,
    /// By first byte.
    frames: BTreeMap<PhysAddr, Found>,
    arch: core::marker::PhantomData<fn() -> A>,
}

/// Checks all address spaces of one memory. `held` tells how many references to a frame there
/// are besides entries: those of a page cache, and of whoever else has a [`Frame`](super::Frame).
///
/// - **PT1** An entry that leads to a table with a count above one is not writable.
/// - **PT2** A private page that its entry allows to be written has a count of one; parts of a
///   huge page that could not be taken apart are exempt.
/// - **PT3** The count of a table, and of a page, is the number of entries that lead to it, and of
///   references held elsewhere.
/// - **PT4** What is noted for a table of the entries it has is exact.
/// - **PT5** The counters of an address space are the sums over all it can reach, shared or not.
/// - **PT6** Entries lead to frames of the memory. The zero page is [`PageKind::Special`], and not
///   writable; nothing else is.
/// - **PT7** A table is met at one level only, and is nobody's page.
/// - **TL1** No entry leads to a table that was taken out.
///
/// Those that are [`Beside`](super::Beside) others are to be quiet, and nothing
/// [pending](PageTables::pending): what waits is counted.
///
/// # Complexity
///
/// O(n log n); allocates.
///
/// # Errors
///
/// The first [`PagingViolation`].
pub fn validate_family<A: Arch, M: PhysMemory, C: Company<M>>(
    spaces: &[&PageTables<A, M, C>],
    held: impl Fn(PhysAddr) -> u32,
) -> Result<(), PagingViolation> {
    let Some(first) = spaces.first() else {
        return Ok(());
    };
    let mut census = Census::<A, M> {
        memory: &first.memory,
        frames: BTreeMap::new(),
        arch: core::marker::PhantomData,
    };
    for space in spaces {
        census.refer(space.root, Some(A::LEVELS - 1))?;
        census.enter(space)?;
    }
    census.check_counts(held)?;
    spaces.iter().try_for_each(|space| space.check_sums())
}

impl<A: Arch, M: PhysMemory> Census<'_, A, M> {
    /// Looks at the root's user entries, and at each table below that was not met before.
    fn enter<C: Company<M>>(&mut self, space: &PageTables<A, M, C>) -> Result<(), PagingViolation> {
        let root = space.root_table();
        let mut queue = alloc::vec![(root, A::LEVELS - 1)];
        while let Some((table, level)) = queue.pop() {
            let is_root = table.addr == space.root;
            let entries = if is_root {
                PageTables::<A, M, C>::user_entries()
            } else {
                A::ENTRIES
            };
            if table.is_dead(self.memory) {
                return Err(violated("TL1", table.addr));
            }
            for index in 0..entries {
                let entry = table.entry::<A>(index, level);
                self.check_entry(table, entry, level)?;
                if let Entry::Table(child, _) = entry
                    && self.refer(child, Some(level - 1))? == 1
                {
                    queue.push((Table::at(self.memory, child), level - 1));
                }
            }
            let counted = Tally::counted::<A>(&table.words[..], level);
            if !is_root && counted != table.tally(self.memory) {
                return Err(violated("PT4", table.addr));
            }
        }
        Ok(())
    }

    fn check_entry(
        &mut self,
        table: Table<'_>,
        entry: Entry,
        level: usize,
    ) -> Result<(), PagingViolation> {
        match entry {
            Entry::Empty => Ok(()),
            Entry::Table(child, _) if level == 0 => Err(violated("PT7", child)),
            Entry::Table(child, _) if !self.memory.contains(child) => {
                Err(violated("PT6", table.addr))
            }
            Entry::Table(child, Writable::Yes) if self.memory.info(child).count() > 1 => {
                Err(violated("PT1", table.addr))
            }
            Entry::Table(..) => Ok(()),
            Entry::Leaf(leaf) => self.check_leaf(table, leaf, level),
        }
    }

    fn check_leaf(
        &mut self,
        table: Table<'_>,
        leaf: Leaf,
        level: usize,
    ) -> Result<(), PagingViolation> {
        let is_zero_page = leaf.frame == self.memory.zero_page();
        let is_special = leaf.attributes.kind == PageKind::Special;
        let misplaced = level > 1 || is_zero_page != is_special;
        if misplaced || !self.memory.contains(leaf.frame) || is_special && leaf.is_writable() {
            return Err(violated("PT6", table.addr));
        }
        if !is_counted(leaf) {
            return Ok(());
        }
        let info = self.memory.info(leaf.frame);
        let part = info.part();
        let pages = A::span(level) / A::span(0);
        if part.size.frames() as u64 == pages
            && leaf.attributes.kind == PageKind::Anon
            && leaf.attributes.flags.contains(LeafFlags::WRITE)
            && info.count() != 1
        {
            return Err(violated("PT2", table.addr));
        }
        // Sizes are powers of two, and frames aligned to them.
        let first = leaf.frame.as_u64() & !(part.size.bytes() - 1);
        self.refer(PhysAddr::new(first), None).map(|_| ())
    }

    /// Counts a reference: how many there are by now.
    fn refer(&mut self, addr: PhysAddr, level: Option<usize>) -> Result<u32, PagingViolation> {
        let found = self.frames.entry(addr).or_insert(Found {
            references: 0,
            level,
        });
        found.references += 1;
        if found.level == level {
            Ok(found.references)
        } else {
            Err(violated("PT7", addr))
        }
    }

    fn check_counts(&self, held: impl Fn(PhysAddr) -> u32) -> Result<(), PagingViolation> {
        for (&addr, found) in &self.frames {
            if self.memory.info(addr).count() != found.references + held(addr) {
                return Err(violated("PT3", addr));
            }
        }
        Ok(())
    }
}

impl<A: Arch, M: PhysMemory, C: Company<M>> PageTables<A, M, C> {
    /// PT5.
    pub(crate) fn check_sums(&self) -> Result<(), PagingViolation> {
        let sums = Counters::default();
        for index in 0..Self::user_entries() {
            let level = A::LEVELS - 1;
            let Entry::Table(child, _) = self.root_table().entry::<A>(index, level) else {
                continue;
            };
            for (table, level) in Tables::<A, M>::below(&self.memory, child, level - 1) {
                sums.add::<A>(Class::Table, level + 1, 1);
                for class in Class::ALL.into_iter().skip(1) {
                    sums.add::<A>(class, level, table.tally(&self.memory).count(class));
                }
            }
        }
        let same = |class| sums.get(class) == self.company.sum(class);
        if Class::ALL.into_iter().all(same) {
            Ok(())
        } else {
            Err(violated("PT5", self.root))
        }
    }
}

const fn violated(id: &'static str, at: PhysAddr) -> PagingViolation {
    PagingViolation { id, at }
}
