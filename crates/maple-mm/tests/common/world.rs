//! Random calls, writes, reads and forks of a family of programs, against a plain model of what
//! is where.
//!
//! What is mapped is asked of the address space itself, which the kernel checks in `samara torture`;
//! the model says what is in it. How a program reaches its memory is up to it: [`Program`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::common::paged::{Memory, Paging, REGULAR, check, contents, opened, plans};
use crate::common::{BASE, memory, page};
use maple_mm::paging::{Mapped, PageKind, PhysMemory};
use maple_mm::{
    AddressSpace, Errno, Fault, FilePagesRef, FileRef, ForkPlan, MmapFile, MmapRequest,
    MremapRequest, VmFlags, VmaRef, abi::*, truncate,
};
use testkit::SplitMix;

/// Whose memory the model follows.
pub(crate) trait Program: Sized {
    type Pages: Paging<Memory = Memory>;

    fn space(&self) -> impl Deref<Target = AddressSpace<Self::Pages>>;

    fn space_mut(&mut self) -> impl DerefMut<Target = AddressSpace<Self::Pages>>;

    /// Loads a word, with faults on the way.
    fn load(&mut self, addr: u64) -> Result<u64, Fault>;

    /// Stores a word.
    fn store(&mut self, addr: u64, word: u64) -> Result<(), Fault>;

    fn fork(&mut self, plan: ForkPlan) -> Self;

    /// Waits until everything is back that was given up.
    fn settle(&self);
}

/// Pages that are mapped and unmapped.
pub(crate) const ARENA: u64 = 64;
/// Where the words are that the model follows in each page.
const OFFSETS: [u64; 2] = [8, 4080];
const FILES: u64 = 2;
const FILE_PAGES: u64 = 40;

type Words = [u64; 2];

/// Where the words of shared memory are: which file, and which page of it.
type Place = (u64, u64);

/// Files and shared memory, as all see them; what is missing is zero.
#[derive(Clone, Default)]
struct Shared {
    words: BTreeMap<Place, Words>,
    /// How long each file is, in pages.
    pages: BTreeMap<u64, u64>,
}

/// Private copies, by page.
type Private = BTreeMap<u64, Words>;

struct Side<P> {
    program: P,
    private: Private,
    /// Pages that no access gets past.
    guards: BTreeSet<u64>,
}

pub(crate) struct World<P> {
    sides: Vec<Side<P>>,
    shared: Shared,
    files: Vec<(FileRef, FilePagesRef)>,
    memory: Memory,
    rng: SplitMix,
    plan: Option<ForkPlan>,
}

fn file_place(vma: &VmaRef, addr: u64) -> Option<Place> {
    let file = vma.file()?;
    let index = vma.page_offset() + (addr - vma.start()) / PAGE_SIZE;
    Some((file.id.0, index))
}

impl<P: Program> Side<P> {
    /// What a word at `addr` is to be; an error if it cannot be accessed.
    fn expected(&self, shared: &Shared, addr: u64, access: VmFlags) -> Result<Words, Fault> {
        let space = self.program.space();
        let vma = space.vma_at(addr).ok_or(Fault::NotMapped)?;
        let flags = vma.flags();
        let allowed = if access == VmFlags::READ {
            flags.intersects(VmFlags::ACCESS)
        } else {
            flags.contains(access)
        };
        if !allowed {
            return Err(Fault::NotAllowed);
        }
        let index = (addr - BASE) / PAGE_SIZE;
        if self.guards.contains(&index) {
            return Err(Fault::NotMapped);
        }
        let place = file_place(vma, addr);
        if let Some(words) = self.private.get(&index) {
            return Ok(*words);
        }
        let Some((file, at)) = place else {
            return Ok([0; 2]);
        };
        if shared.pages.get(&file).is_some_and(|pages| at >= *pages) {
            return Err(Fault::Bus);
        }
        Ok(shared.words.get(&(file, at)).copied().unwrap_or_default())
    }

    fn check_word(&mut self, shared: &Shared, index: u64, word: usize) {
        let addr = page(index) + OFFSETS[word];
        let expected = self.expected(shared, addr, VmFlags::READ);
        let read = self.program.load(addr);
        let expected = expected.map(|words| words[word]);
        assert_eq!(read, expected, "page {index}");
    }

    fn write_word(&mut self, shared: &mut Shared, (index, word): (u64, usize), value: u64) {
        let addr = page(index) + OFFSETS[word];
        let expected = self.expected(shared, addr, VmFlags::WRITE);
        let written = self.program.store(addr, value);
        match (written, expected) {
            (Ok(()), Ok(mut words)) => {
                words[word] = value;
                let space = self.program.space();
                let vma = space.vma_at(addr).expect("it was written");
                if vma.flags().contains(VmFlags::SHARED) {
                    let place = file_place(vma, addr).expect("shared memory is a file");
                    shared.words.insert(place, words);
                } else {
                    self.private.insert(index, words);
                }
            }
            (Err(seen), Err(fault)) => assert_eq!(seen, fault, "page {index}"),
            (written, expected) => panic!("page {index}: {written:?}, not {expected:?}"),
        }
    }

    /// Forgets what is not mapped any more.
    fn forget_unmapped(&mut self) {
        let space = self.program.space();
        let is_mapped = |index: u64| space.vma_at(page(index)).is_some();
        self.private.retain(|index, _| is_mapped(*index));
        self.guards.retain(|index| is_mapped(*index));
    }
}

impl<P: Program> World<P> {
    /// A world in which `program` is the only one yet, and forks as `plan` says, or each time in
    /// another way.
    pub(crate) fn new(seed: u64, plan: Option<ForkPlan>, program: P) -> Self {
        let memory = Arc::clone(program.space().page_side().tables().memory());
        let mut shared = Shared::default();
        let files = (0..FILES).map(|id| {
            let pages = contents(&memory, FILE_PAGES, 0);
            (opened(id, REGULAR, &pages), pages)
        });
        let files = files.collect();
        for id in 0..FILES {
            shared.pages.insert(id, FILE_PAGES);
        }
        let side = Side {
            program,
            private: Private::new(),
            guards: BTreeSet::new(),
        };
        Self {
            sides: vec![side],
            shared,
            files,
            memory,
            rng: SplitMix::new(seed),
            plan,
        }
    }

    fn range(&mut self) -> (u64, u64) {
        let first = self.rng.below(ARENA);
        (first, 1 + self.rng.below(12))
    }

    fn step(&mut self) -> String {
        let which = self.rng.index(self.sides.len());
        let (first, len) = self.range();
        let (addr, bytes) = (page(first), len * PAGE_SIZE);
        match self.rng.below(40) {
            0..5 => self.map(which, first, len),
            5..7 => text(self.sides[which].program.space_mut().munmap(addr, bytes)),
            7..10 => {
                let prots = [PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE];
                let prot = self.rng.pick(&prots);
                text(
                    self.sides[which]
                        .program
                        .space_mut()
                        .mprotect(addr, bytes, prot),
                )
            }
            10..14 => self.advise(which, first, len),
            14..17 => self.remap(which, first, len),
            17 => self.fork(which),
            18 if self.sides.len() > 1 => {
                self.sides.remove(which);
                "exit".into()
            }
            19 if self.rng.one_in(3) => self.truncate(),
            20 => {
                let to = page(0) - (64 - self.rng.below(8)) * PAGE_SIZE;
                format!("{:#x}", self.sides[which].program.space_mut().brk(to))
            }
            21..32 => {
                for _ in 0..4 {
                    let at = (self.rng.below(ARENA + 12), self.rng.index(2));
                    let value = self.rng.next_u64();
                    self.sides[which].write_word(&mut self.shared, at, value);
                }
                String::new()
            }
            _ => {
                for _ in 0..4 {
                    let (index, word) = (self.rng.below(ARENA + 12), self.rng.index(2));
                    self.sides[which].check_word(&self.shared, index, word);
                }
                String::new()
            }
        }
    }

    fn map(&mut self, which: usize, first: u64, len: u64) -> String {
        let prot = self
            .rng
            .pick(&[PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE]);
        let file = self.rng.index(4);
        let share = self.rng.pick(&[MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED]);
        let populate = self.rng.pick(&[0, 0, MAP_POPULATE]);
        let plain = memory(first, first + len, prot);
        let request = match self.files.get(file) {
            Some((opened, _)) => MmapRequest {
                flags: share | populate | MAP_FIXED,
                file: MmapFile::Open(opened.clone()),
                offset: self.rng.below(FILE_PAGES) * PAGE_SIZE,
                ..plain
            },
            None => MmapRequest {
                flags: share | populate | MAP_ANONYMOUS | MAP_FIXED,
                ..plain
            },
        };
        let side = &mut self.sides[which];
        let mapped = side.program.space_mut().mmap(request);
        if mapped.is_ok() {
            for index in first..first + len {
                side.private.remove(&index);
                side.guards.remove(&index);
            }
            let space = side.program.space();
            let vma = space.vma_at(page(first)).expect("just mapped");
            if let Some((file, at)) = file_place(vma, page(first))
                && file >= FILES
            {
                // Where the new object ends; a neighbour never joins it.
                self.shared.pages.insert(file, at + len);
            }
        }
        // A populated private mapping of a writable file has copies now.
        if populate != 0 && mapped.is_ok() {
            self.note_populated(which, first..first + len);
        }
        format!("{:?}", mapped.is_ok())
    }

    /// Private pages that were brought in for writing keep what they had then.
    fn note_populated(&mut self, which: usize, pages: std::ops::Range<u64>) {
        let side = &mut self.sides[which];
        for index in pages {
            let addr = page(index);
            let found = side.program.space().vma_at(addr).map(|vma| vma.flags());
            let Some(flags) = found else {
                continue;
            };
            let is_copied = flags.contains(VmFlags::WRITE) && !flags.contains(VmFlags::SHARED);
            if !is_copied {
                continue;
            }
            match side.expected(&self.shared, addr, VmFlags::READ) {
                Ok(words) => side.private.insert(index, words),
                // LINUX: populating ends at the first page that cannot be had.
                Err(_) => break,
            };
        }
    }

    fn advise(&mut self, which: usize, first: u64, len: u64) -> String {
        let advice = self.rng.pick(&[
            MADV_DONTNEED,
            MADV_DONTNEED,
            MADV_FREE,
            MADV_DONTFORK,
            MADV_DOFORK,
            MADV_WIPEONFORK,
            MADV_KEEPONFORK,
            MADV_REMOVE,
            MADV_POPULATE_WRITE,
            MADV_GUARD_INSTALL,
            MADV_GUARD_REMOVE,
        ]);
        let side = &mut self.sides[which];
        let pages = first..first + len;
        let vmas: Vec<Option<VmaRef>> = pages
            .clone()
            .map(|index| side.program.space().vma_at(page(index)).cloned())
            .collect();
        let done = side
            .program
            .space_mut()
            .madvise(page(first), len * PAGE_SIZE, advice);
        let mut populated = pages.clone();
        for (index, vma) in pages.zip(vmas) {
            let Some(vma) = vma else {
                if advice == MADV_POPULATE_WRITE {
                    populated.end = index;
                    break;
                }
                continue;
            };
            let flags = vma.flags();
            match advice {
                MADV_DONTNEED => {
                    side.private.remove(&index);
                }
                MADV_GUARD_INSTALL => {
                    side.private.remove(&index);
                    side.guards.insert(index);
                }
                MADV_GUARD_REMOVE => {
                    side.guards.remove(&index);
                }
                MADV_FREE if vma.is_anonymous() => {
                    side.private.remove(&index);
                }
                MADV_REMOVE if flags.contains(VmFlags::SHARED | VmFlags::MAYWRITE) => {
                    let place = file_place(&vma, page(index)).expect("shared memory is a file");
                    self.shared.words.remove(&place);
                }
                MADV_POPULATE_WRITE if !flags.contains(VmFlags::WRITE) => {
                    populated.end = index;
                    break;
                }
                // What precedes a mapping that refuses is advised.
                MADV_FREE | MADV_REMOVE => break,
                _ => {}
            }
        }
        if advice == MADV_POPULATE_WRITE && populated.start < populated.end {
            self.note_populated(which, populated);
        }
        format!("{done:?}")
    }

    fn remap(&mut self, which: usize, first: u64, len: u64) -> String {
        let (to, new_len) = self.range();
        let flags = self.rng.pick(&[
            MREMAP_MAYMOVE | MREMAP_FIXED,
            MREMAP_MAYMOVE | MREMAP_FIXED,
            MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
            0,
        ]);
        let new_len = if flags & MREMAP_DONTUNMAP != 0 || self.rng.one_in(2) {
            len
        } else {
            new_len
        };
        let side = &mut self.sides[which];
        let request = MremapRequest {
            addr: page(first),
            old_len: len * PAGE_SIZE,
            new_len: new_len * PAGE_SIZE,
            flags,
            new_addr: page(to),
        };
        // LINUX: mappings that move together leave alone what lies where a hole would go.
        let is_hole = |offset: u64| side.program.space().vma_at(page(first + offset)).is_none();
        let holes: Vec<bool> = (0..len).map(is_hole).collect();
        let moved = side.program.space_mut().mremap(request);
        let outcome = format!("{moved:?}");
        match moved {
            Ok(at) if at != page(first) => {
                let kept = len.min(new_len);
                let take = |offset| {
                    let words = side.private.remove(&(first + offset));
                    (words, side.guards.remove(&(first + offset)))
                };
                let taken: Vec<_> = (0..len).map(take).collect();
                for offset in 0..new_len {
                    if len != new_len || !holes[offset as usize] {
                        side.private.remove(&(to + offset));
                        side.guards.remove(&(to + offset));
                    }
                }
                for (offset, (words, is_guard)) in taken.into_iter().enumerate().take(kept as usize)
                {
                    let index = to + offset as u64;
                    let is_mapped = side.program.space().vma_at(page(index)).is_some();
                    if let Some(words) = words.filter(|_| is_mapped) {
                        side.private.insert(index, words);
                    }
                    if is_guard && is_mapped {
                        side.guards.insert(index);
                    }
                }
            }
            Ok(_) => {}
            // A fixed target is emptied before the last checks, and more may have moved.
            Err(_) if flags & MREMAP_FIXED != 0 => self.adopt(which),
            Err(_) => {}
        }
        outcome
    }

    /// The private pages there are.
    fn found(&self, which: usize) -> Private {
        let space = self.sides[which].program.space();
        let tables = space.page_side().tables();
        let mut found = Private::new();
        for mapped in tables.pages(page(0)..page(ARENA + 24)) {
            if mapped.leaf.attributes.kind == PageKind::Anon {
                let words = self.memory.words(mapped.leaf.frame);
                let word = |at: u64| words[at as usize / 8].load(Ordering::Relaxed);
                let index = (mapped.start - BASE) / PAGE_SIZE;
                found.insert(index, OFFSETS.map(word));
            }
        }
        found
    }

    /// Takes over what is mapped privately as it is: after calls that end half-way.
    fn adopt(&mut self, which: usize) {
        let found = self.found(which);
        let side = &mut self.sides[which];
        // Nothing comes from nowhere, wherever it is now.
        let mut before: Vec<Words> = side.private.values().copied().collect();
        before.sort_unstable();
        for (index, words) in &found {
            let is_known = before.binary_search(words).is_ok();
            assert!(is_known || *words == [0; 2], "page {index}: {words:x?}");
        }
        side.private = found;
        let space = side.program.space();
        let tables = space.page_side().tables();
        let guards = tables.pages(page(0)..page(ARENA + 24));
        let guards = guards.filter(Mapped::is_guard);
        side.guards = guards
            .map(|guard| (guard.start - BASE) / PAGE_SIZE)
            .collect();
    }

    /// Private pages are those of the model, but for zeroes.
    fn check_private(&self) {
        let written = |pages: &Private| -> Private {
            let mut pages = pages.clone();
            pages.retain(|_, words| *words != [0; 2]);
            pages
        };
        for (which, side) in self.sides.iter().enumerate() {
            assert_eq!(written(&self.found(which)), written(&side.private));
        }
    }

    fn fork(&mut self, which: usize) -> String {
        let drawn = plans().nth(self.rng.index(12)).expect("twelve plans");
        let plan = self.plan.unwrap_or(drawn);
        if self.sides.len() > 4 {
            return "full".into();
        }
        let side = &mut self.sides[which];
        let child = side.program.fork(plan);
        let mut private = side.private.clone();
        let mut guards = side.guards.clone();
        let space = side.program.space();
        let is_inherited = |index: u64| {
            let vma = space.vma_at(page(index)).expect("mapped");
            let lost = VmFlags::DONTCOPY | VmFlags::WIPEONFORK;
            !vma.flags().intersects(lost)
        };
        private.retain(|index, _| is_inherited(*index));
        guards.retain(|index| is_inherited(*index));
        drop(space);
        let child = Side {
            program: child,
            private,
            guards,
        };
        self.sides.push(child);
        "fork".into()
    }

    fn truncate(&mut self) -> String {
        let id = self.rng.below(FILES);
        let pages = self.rng.below(FILE_PAGES + 1);
        let spaces = self.sides.iter_mut().map(|side| side.program.space_mut());
        let mut spaces: Vec<_> = spaces.collect();
        let mut lent: Vec<_> = spaces.iter_mut().map(|space| &mut **space).collect();
        let file = &self.files[id as usize].1;
        truncate(file, pages * PAGE_SIZE, &mut lent).expect("memory");
        drop(spaces);
        self.shared.pages.insert(id, pages);
        self.shared
            .words
            .retain(|(file, at), _| *file != id || *at < pages);
        for side in &mut self.sides {
            let space = side.program.space();
            side.private.retain(|index, _| {
                let vma = space.vma_at(page(*index)).expect("mapped");
                file_place(vma, page(*index)).is_none_or(|(file, at)| file != id || at < pages)
            });
        }
        format!("{pages} pages")
    }

    fn check(&self) {
        let programs = self.sides.iter().map(|side| &side.program);
        programs.clone().for_each(P::settle);
        let spaces: Vec<_> = programs.map(P::space).collect();
        check(&spaces.iter().map(|space| &**space).collect::<Vec<_>>());
    }

    /// Makes so many steps: what each came to.
    pub(crate) fn run(mut self, steps: u32) -> Vec<String> {
        let mut log = Vec::new();
        for step in 0..steps {
            let mut line = self.step();
            for side in &mut self.sides {
                side.forget_unmapped();
                side.program
                    .space()
                    .write_maps(&mut line)
                    .expect("a string");
            }
            self.check_private();
            log.push(line);
            if step % 16 == 0 {
                self.check();
            }
        }
        for side in &mut self.sides {
            for index in 0..ARENA + 24 {
                side.check_word(&self.shared, index, 0);
                side.check_word(&self.shared, index, 1);
            }
        }
        self.check();
        log
    }
}

fn text(result: Result<(), Errno>) -> String {
    format!("{result:?}")
}
