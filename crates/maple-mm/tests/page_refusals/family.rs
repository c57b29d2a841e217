//! Address spaces to make calls on, and what of them must not change.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::hash::Hasher;
use std::ops::Deref;
use std::sync::atomic::Ordering;

use maple_mm::paging::{Arch, Entry, PageKind, PhysAddr, PhysMemory, Resident, Words};
use maple_mm::{AddressSpace, FileRef, PageSide, Statistics, VmFlags, VmaPool, VmaRef, abi::*};

use crate::allocator::{Refuse, live, refusing};
use crate::build::Made;
use crate::common::imprint::{Imprint, counters, mappings};
use crate::common::owner::Owner;
use crate::common::paged::{Memory, Paging, Quad, Space, check};
use crate::scarce::{Scarce, Taken};

pub(crate) type Paged = Space<Scarce>;

/// Whose calls are refused.
pub(crate) trait Caller: Owner<Pages: Made> + 'static {}

impl<O: Owner<Pages: Made> + 'static> Caller for O {}

/// Whether a call that fails may leave more tables than there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    AsBefore,
    /// Those of huge pages that it had cut into small ones. (LINUX: so does the kernel.)
    OfCutPages,
}

/// An address space, and others that share with it and must not notice anything.
pub(crate) struct Family<O = Paged> {
    pub(crate) space: O,
    pub(crate) others: Vec<O>,
    pub(crate) pool: &'static VmaPool,
    pub(crate) memory: Memory,
    pub(crate) tables: Tables,
}

impl<O: Caller> Family<O> {
    fn owners(&self) -> impl Iterator<Item = &O> + Clone {
        self.others.iter().chain([&self.space])
    }

    /// The address spaces, when all is back that they gave up.
    pub(crate) fn all(&self) -> impl Iterator<Item = impl Deref<Target = AddressSpace<O::Pages>>> {
        self.owners().for_each(O::settle);
        self.owners().map(O::space)
    }

    /// Everything a refused call must leave as it was.
    pub(crate) fn strict(&self) -> String {
        let mut text = String::new();
        for space in self.all() {
            self.write_space(&space, &mut text);
            let committed = space.system().committed();
            writeln!(text, "{committed}").unwrap();
            for vma in space.vmas() {
                let file = vma.file().map(FileRef::count);
                writeln!(text, "{} {file:?}", VmaRef::count(vma)).unwrap();
            }
        }
        writeln!(text, "{}", self.pool.in_use()).unwrap();
        text
    }

    /// The others, but for who shares mappings with them.
    pub(crate) fn bystanders(&self) -> String {
        let mut text = String::new();
        for space in &self.others {
            space.settle();
            self.write_space(&space.space(), &mut text);
        }
        text
    }

    fn write_space(&self, space: &AddressSpace<O::Pages>, text: &mut String) {
        for vma in space.vmas() {
            writeln!(text, "{vma:?}").unwrap();
        }
        let statistics = self.statistics(space);
        writeln!(text, "{statistics:?} {:?}", space.layout()).unwrap();
        writeln!(text, "{:?}", space.default_flags()).unwrap();
        self.pieces(space, |addr, kind, contents| {
            writeln!(text, "{addr:x} {kind:?} {contents:x}").unwrap();
        });
    }

    /// Pages and bytes of tables.
    pub(crate) fn resident(&self) -> (Resident, u64) {
        let statistics = self.space.space().statistics();
        (statistics.resident, statistics.pgtables_bytes)
    }

    /// The counters that must not change.
    fn statistics(&self, space: &AddressSpace<O::Pages>) -> Statistics {
        let mut statistics = space.statistics();
        if self.tables == Tables::OfCutPages {
            statistics.pgtables_bytes = 0;
        }
        statistics
    }

    /// Visits each 4 KiB that is mapped, with a number that changes with each byte of it.
    fn pieces(&self, space: &AddressSpace<O::Pages>, mut visit: impl FnMut(u64, PageKind, u64)) {
        for mapped in space.page_side().tables().pages(0..1 << 47) {
            let kind = mapped.leaf.attributes.kind;
            for offset in (0..mapped.size).step_by(PAGE_SIZE as usize) {
                let words = self.memory.words(mapped.leaf.frame.plus(offset));
                visit(mapped.start + offset, kind, fingerprint(words));
            }
        }
    }

    /// What changes with all of [`strict`](Self::strict).
    pub(crate) fn imprint(&self) -> u64 {
        let mut imprint = Imprint::default();
        for space in self.all() {
            self.pieces(&space, |addr, kind, contents| {
                imprint.add(addr);
                imprint.add(kind as u64);
                imprint.add(contents);
            });
        }
        imprint.add(self.imprint_of_mappings());
        imprint.finish()
    }

    /// As [`imprint`](Self::imprint), pages aside, which are counted only.
    pub(crate) fn imprint_of_mappings(&self) -> u64 {
        let mut imprint = Imprint::default();
        for space in self.all() {
            mappings(&space, &mut imprint);
            counters(self.statistics(&space), &mut imprint);
        }
        imprint.add(self.pool.in_use() as u64);
        imprint.finish()
    }

    /// What programs see, and the counters of mappings. Reads all pages on the way.
    pub(crate) fn visible(&mut self) -> String {
        let mut text = String::new();
        let space = self.space.space();
        let mut ranges = Vec::new();
        for vma in space.vmas() {
            let (line, flags) = (space.maps_line(vma), vma.flags());
            writeln!(text, "{line} {flags:?} {}", vma.page_offset()).unwrap();
            ranges.push(vma.start()..vma.end());
        }
        let (statistics, brk) = (space.statistics(), space.layout().brk);
        let (total, data) = (statistics.total_vm, statistics.data_vm);
        let (locked, committed) = (statistics.locked_vm, statistics.committed);
        let promised = space.system().committed();
        let counters = [total, data, locked, committed, promised, brk];
        writeln!(text, "{counters:x?}").unwrap();
        drop(space);
        for range in ranges {
            for addr in range.step_by(PAGE_SIZE as usize) {
                let mut bytes = [0; 128];
                let read = self.space.read(addr, &mut bytes).is_ok();
                if !read || bytes != [0; 128] {
                    let mut imprint = Imprint::default();
                    imprint.write(&bytes);
                    writeln!(text, "{addr:x} {read} {:x}", imprint.finish()).unwrap();
                }
            }
        }
        text
    }

    /// As [`visible`](Self::visible), whether mappings that could be one are or not.
    pub(crate) fn visible_joined(&mut self) -> String {
        let mut joined: Vec<(u64, u64, VmFlags)> = Vec::new();
        let space = self.space.space();
        for vma in space.vmas() {
            match joined.last_mut() {
                Some((_, end, flags)) if (*end, *flags) == (vma.start(), vma.flags()) => {
                    *end = vma.end();
                }
                _ => joined.push((vma.start(), vma.end(), vma.flags())),
            }
        }
        let count = space.map_count();
        drop(space);
        let rest = self.visible();
        let rest: Vec<&str> = rest.lines().skip(count).collect();
        format!("{joined:x?}\n{}", rest.join("\n"))
    }

    /// Which allocations of an act were tables that are there now, `child`'s included.
    pub(crate) fn tables_among(&self, taken: &[Taken], child: Option<&O>) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        for space in self.owners().chain(child) {
            self.collect_tables(&space.space(), &mut found);
        }
        let tables = taken.iter().filter(|taken| found.contains(&taken.frame));
        tables.map(|taken| taken.at).collect()
    }

    fn collect_tables(&self, space: &AddressSpace<O::Pages>, found: &mut BTreeSet<PhysAddr>) {
        let mut left = vec![(space.page_side().tables().root(), Quad::LEVELS - 1)];
        while let Some((table, level)) = left.pop() {
            found.insert(table);
            for word in self.memory.words(table) {
                let entry = Quad::decode(word.load(Ordering::Relaxed), level);
                if let Entry::Table(below, _) = entry {
                    left.push((below, level - 1));
                }
            }
        }
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        self.check_with(None);
    }

    /// As [`check`](Self::check), with another that shares with them.
    #[track_caller]
    pub(crate) fn check_with(&self, child: Option<&O>) {
        let owners = self.owners().chain(child);
        owners.clone().for_each(O::settle);
        let spaces: Vec<_> = owners.map(O::space).collect();
        check(&spaces.iter().map(|space| &**space).collect::<Vec<_>>());
    }

    /// Ends all spaces without any memory, and checks that nothing is left.
    #[track_caller]
    pub(crate) fn end(self, alive: i64) {
        let Self {
            space,
            others,
            pool,
            memory,
            ..
        } = self;
        let system = space.space().system().clone();
        let ((), refused) = refusing(Refuse::From(0), || drop((space, others)));
        // Beside others it notes the tables it gives up; where it cannot, it waits for who looks.
        let asks_in_vain = O::Pages::BESIDE && refused.times > 0;
        assert!(asks_in_vain || refused.times == 0, "it needs memory");
        let huge = system.huge_pages();
        assert_eq!((huge.free, huge.reserved), (huge.total, 0), "of the pool");
        drop(system);
        assert_eq!(memory.in_use(), 0, "frames were leaked");
        drop(memory);
        pool.release_reserve();
        assert_eq!(pool.in_use(), 0, "mappings were leaked");
        assert_eq!(live(), alive, "memory was leaked");
    }
}

/// A number that changes with each word, and with where it is.
fn fingerprint(words: &Words) -> u64 {
    // PERF: eight sums, as each product waits for the one before.
    let mut sums = [0_u64; 8];
    for row in words.chunks_exact(sums.len()) {
        for (sum, word) in sums.iter_mut().zip(row) {
            let shifted = sum.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *sum = shifted.wrapping_add(word.load(Ordering::Relaxed));
        }
    }
    let mut imprint = Imprint::default();
    sums.iter().for_each(|sum| imprint.add(*sum));
    imprint.finish()
}
