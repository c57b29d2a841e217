//! Random calls on a small arena, where mappings meet, and what shows whether two spaces behave
//! the same.

use std::collections::HashMap;
use std::fmt::Write;

use maple_mm::{
    Access, AddressSpace, AnonView, Errno, FileAccess, FileId, FileRef, MmapFile, MmapRequest,
    MremapRequest, PageSide, Statistics, abi::*,
};
use testkit::SplitMix;

use super::owner::Owner;
use super::{file, page};

/// Pages of the arena.
const ARENA: u64 = 40;

/// Draws calls; the same seed draws the same ones, whatever the space answers.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    rng: SplitMix,
    files: Vec<FileRef>,
    kinds: Kinds,
}

/// What kinds of mappings and changes are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kinds {
    /// All; neighbours seldom are alike.
    Any,
    /// Private memory, readable or writable: neighbours often are alike.
    Plain,
}

impl Calls {
    pub(crate) fn new(seed: u64) -> Self {
        let both = FileAccess::READ | FileAccess::WRITE;
        let files = vec![
            file(1, both),
            file(2, both),
            file(3, both | FileAccess::HOOKED),
        ];
        Self::with_files(seed, files)
    }

    /// As `new`, of other files, of at least `ARENA + 8` pages if they have any.
    pub(crate) fn with_files(seed: u64, files: Vec<FileRef>) -> Self {
        Self {
            rng: SplitMix::new(seed),
            files,
            kinds: if seed.is_multiple_of(2) {
                Kinds::Any
            } else {
                Kinds::Plain
            },
        }
    }

    pub(crate) fn rng(&mut self) -> &mut SplitMix {
        &mut self.rng
    }

    fn pages(&mut self) -> (u64, u64) {
        let first = self.rng.below(ARENA);
        let len = 1 + self.rng.below(8);
        (page(first), len * PAGE_SIZE)
    }

    fn protection(&mut self) -> u64 {
        let all = PROT_READ | PROT_WRITE;
        if self.kinds == Kinds::Plain {
            return self.rng.pick(&[PROT_READ, all]);
        }
        self.rng
            .pick(&[PROT_NONE, PROT_READ, all, all, PROT_READ | PROT_EXEC])
    }

    /// Makes one call and returns its result as text.
    pub(crate) fn step<O: Owner>(&mut self, owner: &mut O) -> String {
        let (addr, len) = self.pages();
        let choice = match self.kinds {
            Kinds::Any => self.rng.below(20),
            Kinds::Plain => self.rng.pick(&[0, 5, 6, 6, 6, 14, 15, 19, 19]),
        };
        match choice {
            0..5 => self.map(&mut *owner.space_mut(), addr, len),
            5 => text(&owner.space_mut().munmap(addr, len)),
            6..9 => {
                let prot = self.protection();
                text(&owner.space_mut().mprotect(addr, len, prot))
            }
            9..12 => {
                let advice = self.rng.pick(&[
                    MADV_DONTFORK,
                    MADV_DOFORK,
                    MADV_WIPEONFORK,
                    MADV_KEEPONFORK,
                    MADV_DONTDUMP,
                    MADV_DODUMP,
                    MADV_POPULATE_WRITE,
                    MADV_GUARD_INSTALL,
                ]);
                text(&owner.space_mut().madvise(addr, len, advice))
            }
            12 => {
                let flags = self.rng.below(2);
                text(&owner.space_mut().mlock2(addr, len, flags))
            }
            13 => text(&owner.space_mut().munlock(addr, len)),
            14 => self.remap(&mut *owner.space_mut(), addr, len),
            15 => {
                let mut space = owner.space_mut();
                let end = space.layout().start_brk + self.rng.below(12) * PAGE_SIZE;
                format!("{:#x}", space.brk(end))
            }
            _ => {
                let access = self.rng.pick(&[Access::Write, Access::Write, Access::Read]);
                format!("{:?}", owner.fault(addr, access))
            }
        }
    }

    fn map<P: PageSide>(&mut self, space: &mut AddressSpace<P>, addr: u64, len: u64) -> String {
        let prot = self.protection();
        let kind = match self.kinds {
            Kinds::Any => self.rng.below(8),
            Kinds::Plain => 7,
        };
        let share = if self.kinds == Kinds::Any && self.rng.one_in(4) {
            MAP_SHARED
        } else {
            MAP_PRIVATE
        };
        let file = match kind {
            0..3 => MmapFile::Open(self.files[self.rng.index(self.files.len())].clone()),
            _ => MmapFile::None,
        };
        let anonymous = if kind < 3 { 0 } else { MAP_ANONYMOUS };
        let extra = match self.kinds {
            Kinds::Any => self
                .rng
                .pick(&[0, 0, 0, MAP_NORESERVE, MAP_LOCKED, MAP_POPULATE]),
            Kinds::Plain => 0,
        };
        text(&space.mmap(MmapRequest {
            addr,
            len,
            prot,
            flags: share | anonymous | extra | MAP_FIXED,
            file,
            offset: if kind < 3 { addr - page(0) } else { 0 },
        }))
    }

    fn remap<P: PageSide>(&mut self, space: &mut AddressSpace<P>, addr: u64, len: u64) -> String {
        let (new_addr, new_len) = self.pages();
        let flags = self.rng.pick(&[
            MREMAP_MAYMOVE,
            MREMAP_MAYMOVE | MREMAP_FIXED,
            MREMAP_MAYMOVE | MREMAP_FIXED,
            MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
        ]);
        let keeps_length = self.rng.one_in(2) || flags & MREMAP_DONTUNMAP != 0;
        text(&space.mremap(MremapRequest {
            addr,
            old_len: len,
            new_len: if keeps_length { len } else { new_len },
            flags,
            new_addr,
        }))
    }
}

fn text<T: std::fmt::Debug>(result: &Result<T, Errno>) -> String {
    format!("{result:?}")
}

/// Everything about a space that its behaviour can depend on, the numbers of identities replaced
/// by the order in which they appear.
pub(crate) fn portrait<P: PageSide>(space: &AddressSpace<P>) -> String {
    space.validate().unwrap();
    let mut text = String::new();
    let mut known = HashMap::new();
    for vma in space.vmas() {
        let next = known.len();
        let anon = match space.anon(vma) {
            AnonView::Unfaulted => "unwritten".to_owned(),
            AnonView::Inherited => {
                known.insert((vma.start(), true), next);
                format!("forked {next}")
            }
            AnonView::Singular(id) => format!("own {}", known.entry((id.0, false)).or_insert(next)),
            AnonView::Forked(id) => {
                format!("forked {}", known.entry((id.0, false)).or_insert(next))
            }
        };
        let (line, flags, offset) = (space.maps_line(vma), vma.flags(), vma.page_offset());
        // Objects of shared memory are numbered by the machine.
        let file = vma.file().map(|file| file.id).unwrap_or(FileId(0));
        writeln!(text, "{line} {flags:?} {offset:#x} {file:?} {anon}").unwrap();
    }
    space.write_maps(&mut text).unwrap();
    let (flags, brk) = (space.default_flags(), space.layout().brk);
    // What is counted of mappings; pages may be there or not.
    let statistics = Statistics {
        resident: maple_mm::paging::Resident::default(),
        peak_resident: 0,
        pgtables_bytes: 0,
        ..space.statistics()
    };
    writeln!(text, "{statistics:?} {flags:?} {brk:#x}").unwrap();
    text
}
