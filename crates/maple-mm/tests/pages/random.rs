//! Random calls, writes, reads and forks on both sides, against a plain model of what is where.
//!
//! What is mapped is asked of the address space itself, which the kernel checks in `tests/live`;
//! the model says what is in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::common::paged::{
    Memory, REGULAR, Space, check, contents, frames, layout, opened, plans, space,
};
use crate::common::random::{Calls, portrait};
use crate::common::{BASE, memory, page};
use maple_mm::paging::{PageKind, PhysMemory};
use maple_mm::{
    AddressSpace, Errno, Fault, FilePagesRef, FileRef, ForkPlan, MmapFile, MmapRequest,
    MremapRequest, PageStrategy, Setup, VmFlags, VmaRef, abi::*, truncate,
};
use testkit::SplitMix;

/// Pages that are mapped and unmapped.
const ARENA: u64 = 64;
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

struct Side {
    space: Space,
    private: Private,
}

struct World {
    sides: Vec<Side>,
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

impl Side {
    /// What a word at `addr` is to be; an error if it cannot be accessed.
    fn expected(&self, shared: &Shared, addr: u64, access: VmFlags) -> Result<Words, Fault> {
        let vma = self.space.vma_at(addr).ok_or(Fault::NotMapped)?;
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
        let mut bytes = [0; 8];
        let read = self.space.read(addr, &mut bytes);
        let read = read.map(|()| u64::from_ne_bytes(bytes));
        assert_eq!(
            read.map_err(|end| end.fault),
            expected.map(|words| words[word]),
            "page {index}"
        );
    }

    fn write_word(&mut self, shared: &mut Shared, (index, word): (u64, usize), value: u64) {
        let addr = page(index) + OFFSETS[word];
        let expected = self.expected(shared, addr, VmFlags::WRITE);
        let written = self.space.write(addr, &value.to_ne_bytes());
        match (written, expected) {
            (Ok(()), Ok(mut words)) => {
                words[word] = value;
                let vma = self.space.vma_at(addr).expect("it was written");
                if vma.flags().contains(VmFlags::SHARED) {
                    let place = file_place(vma, addr).expect("shared memory is a file");
                    shared.words.insert(place, words);
                } else {
                    self.private.insert(index, words);
                }
            }
            (Err(end), Err(fault)) => assert_eq!(end.fault, fault, "page {index}"),
            (written, expected) => panic!("page {index}: {written:?}, not {expected:?}"),
        }
    }

    /// Forgets what is not mapped any more.
    fn forget_unmapped(&mut self) {
        let space = &self.space;
        self.private
            .retain(|index, _| space.vma_at(page(*index)).is_some());
    }
}

impl World {
    fn new(seed: u64, plan: Option<ForkPlan>) -> Self {
        let memory = frames(8192);
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
            space: space(&memory),
            private: Private::new(),
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
            5..7 => text(self.sides[which].space.munmap(addr, bytes)),
            7..10 => {
                let prots = [PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE];
                let prot = self.rng.pick(&prots);
                text(self.sides[which].space.mprotect(addr, bytes, prot))
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
                format!("{:#x}", self.sides[which].space.brk(to))
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
        let mapped = side.space.mmap(request);
        if mapped.is_ok() {
            for index in first..first + len {
                side.private.remove(&index);
            }
            let vma = side.space.vma_at(page(first)).expect("just mapped");
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
            let Some(vma) = side.space.vma_at(addr) else {
                continue;
            };
            let flags = vma.flags();
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
        ]);
        let side = &mut self.sides[which];
        let pages = first..first + len;
        let vmas: Vec<Option<VmaRef>> = pages
            .clone()
            .map(|index| side.space.vma_at(page(index)).cloned())
            .collect();
        let done = side.space.madvise(page(first), len * PAGE_SIZE, advice);
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
                MADV_FREE if vma.is_anonymous() => {
                    side.private.remove(&index);
                }
                MADV_REMOVE if flags.contains(VmFlags::SHARED | VmFlags::WRITE) => {
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
        let is_hole = |offset: u64| side.space.vma_at(page(first + offset)).is_none();
        let holes: Vec<bool> = (0..len).map(is_hole).collect();
        let moved = side.space.mremap(request);
        let outcome = format!("{moved:?}");
        match moved {
            Ok(at) if at != page(first) => {
                let kept = len.min(new_len);
                let words: Vec<_> = (0..len)
                    .map(|offset| side.private.remove(&(first + offset)))
                    .collect();
                for offset in 0..new_len {
                    if len != new_len || !holes[offset as usize] {
                        side.private.remove(&(to + offset));
                    }
                }
                for (offset, words) in words.into_iter().enumerate().take(kept as usize) {
                    let index = to + offset as u64;
                    let is_mapped = side.space.vma_at(page(index)).is_some();
                    if let Some(words) = words.filter(|_| is_mapped) {
                        side.private.insert(index, words);
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
        let tables = self.sides[which].space.page_side().tables();
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
        let child = side.space.fork_with(plan, || false).expect("memory");
        let mut private = side.private.clone();
        private.retain(|index, _| {
            let vma = side.space.vma_at(page(*index)).expect("mapped");
            let lost = VmFlags::DONTCOPY | VmFlags::WIPEONFORK;
            !vma.flags().intersects(lost)
        });
        let child = Side {
            space: child,
            private,
        };
        self.sides.push(child);
        "fork".into()
    }

    fn truncate(&mut self) -> String {
        let id = self.rng.below(FILES);
        let pages = self.rng.below(FILE_PAGES + 1);
        let spaces = self.sides.iter_mut().map(|side| &mut side.space);
        let mut spaces: Vec<_> = spaces.collect();
        let file = &self.files[id as usize].1;
        truncate(file, pages * PAGE_SIZE, &mut spaces[..]).expect("memory");
        self.shared.pages.insert(id, pages);
        self.shared
            .words
            .retain(|(file, at), _| *file != id || *at < pages);
        for side in &mut self.sides {
            let space = &side.space;
            side.private.retain(|index, _| {
                let vma = space.vma_at(page(*index)).expect("mapped");
                file_place(vma, page(*index)).is_none_or(|(file, at)| file != id || at < pages)
            });
        }
        format!("{pages} pages")
    }

    fn check(&self) {
        check(
            &self
                .sides
                .iter()
                .map(|side| &side.space)
                .collect::<Vec<_>>(),
        );
    }

    fn run(mut self, steps: u32) -> Vec<String> {
        let mut log = Vec::new();
        for step in 0..steps {
            let mut line = self.step();
            for side in &mut self.sides {
                side.forget_unmapped();
                side.space.write_maps(&mut line).expect("a string");
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
        let memory = Arc::clone(&self.memory);
        drop(self);
        assert_eq!(memory.in_use(), 0, "frames were leaked");
        log
    }
}

fn text(result: Result<(), Errno>) -> String {
    format!("{result:?}")
}

#[test]
fn random_lives_are_what_the_model_says_however_they_fork() {
    let plans = [None, Some(PageStrategy::Copy), Some(PageStrategy::Share)];
    for seed in 0..60 {
        let mut expected: Option<Vec<String>> = None;
        for pages in plans {
            let plan = pages.map(|pages| ForkPlan {
                pages,
                ..ForkPlan::default()
            });
            let run = std::panic::catch_unwind(|| World::new(seed, plan).run(500));
            let Ok(log) = run else {
                panic!("seed {seed}, {plan:?}");
            };
            let expected = expected.get_or_insert_with(|| log.clone());
            for (step, (log, expected)) in log.iter().zip(expected.iter()).enumerate() {
                assert_eq!(log, expected, "seed {seed}, {plan:?}, step {step}");
            }
        }
    }
}

/// Files with pages and without are the same to mappings, and so are address spaces.
#[test]
fn pages_change_nothing_about_mappings() {
    let mut compared = 0;
    for seed in 0..120 {
        let memory = frames(4096);
        let setup = || Setup {
            layout: layout(),
            ..Setup::default()
        };
        let mut bare = AddressSpace::from_layout(setup(), []).expect("an empty layout");
        let mut paged = space(&memory);
        let files = [1, 2, 3].map(|id| {
            let pages = contents(&memory, ARENA, 0);
            opened(id, REGULAR, &pages)
        });
        let mut calls = Calls::with_files(seed, files.to_vec());
        for step in 0..200 {
            let mut again = calls.clone();
            let expected = again.step(&mut bare);
            let seen = calls.step(&mut paged);
            // Shared memory that grew ends where it ended when it was made; only pages show that.
            let is_beyond_end = seen == "Err(Bus)" || seen == "Err(EFAULT)";
            if seen != expected && is_beyond_end {
                break;
            }
            assert_eq!(seen, expected, "seed {seed}, step {step}");
            compared += 1;
            assert_eq!(
                portrait(&paged),
                portrait(&bare),
                "seed {seed}, step {step}"
            );
            if calls.rng().one_in(30) {
                again.rng().one_in(30);
                let plan = plans().nth(calls.rng().index(12)).expect("twelve plans");
                bare = bare.fork_with(plan, || false).expect("memory");
                paged = paged.fork_with(plan, || false).expect("memory");
            }
        }
        check(&[&paged]);
    }
    assert!(compared > 120 * 150, "only {compared} calls were compared");
}
