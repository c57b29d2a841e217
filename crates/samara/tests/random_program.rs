//! Traces programs that make memory calls at random, and forks between them.
//!
//! This file is both: run without arguments it is the test; run with a seed and a number of calls
//! by `samara trace` it is that program. Each must end identical, with nothing unmodelled, and so
//! must the replay of its recording. The seeds of a run are fixed but one, which is printed.

#![expect(unsafe_code, reason = "the traced program makes raw memory calls")]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "it maps and unmaps only what it made"
)]

mod common;

use std::process::ExitCode;

use libc::c_long;
use maple_mm::abi::*;
use testkit::{SplitMix, fresh_seed};

const PAGE: u64 = 4096;
/// Where all of it happens, and how many pages that is.
const ARENA: u64 = 0x2000_0000_0000;
const PAGES: u64 = 256;
const SEGMENT_PAGES: u64 = 16;
/// How many forks deep, and how many calls a child makes.
const DEPTH: u32 = 3;
const CALLS_OF_CHILD: u64 = 60;

/// Seeds of every run, and how many calls each makes.
const FIXED: [u64; 6] = [1, 2, 3, 4, 5, 6];
const FRESH: u64 = 6;
const CALLS: u64 = 600;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = arguments
        .iter()
        .filter_map(|word| word.parse().ok())
        .collect();
    if let [seed, calls] = numbers[..] {
        Program::new(seed).run(calls);
        return ExitCode::SUCCESS;
    }
    let fresh = fresh_seed("random_program");
    let fresh = (0..FRESH).map(|number| fresh.wrapping_add(number));
    let mut failed = 0;
    for seed in FIXED.into_iter().chain(fresh) {
        failed += usize::from(!is_traced(seed));
    }
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Whether `samara trace` finds the program of a seed identical, with nothing unmodelled, and
/// `samara replay` finds its recording identical too.
fn is_traced(seed: u64) -> bool {
    let traced = common::trace(&[&seed.to_string(), &CALLS.to_string()]);
    let name = format!("random program {seed:#x}");
    traced.report(&name, |not_modelled| not_modelled == "none")
}

fn call(number: c_long, args: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = args;
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

const fn page(number: u64) -> u64 {
    ARENA + number * PAGE
}

/// A userfaultfd with these features; -1 where there is none.
fn userfaultfd(features: u64) -> i64 {
    const UFFDIO_API: u64 = 0xc018_aa3f;
    const USER_MODE_ONLY: i32 = 1;
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | USER_MODE_ONLY;
    let fd = call(libc::SYS_userfaultfd, [flags as u64, 0, 0, 0, 0, 0]);
    let api = [0xaa, features, 0_u64];
    ioctl(fd, UFFDIO_API, &api);
    fd
}

fn ioctl(fd: i64, request: u64, words: &[u64]) {
    let words = words.as_ptr().expose_provenance() as u64;
    call(libc::SYS_ioctl, [fd as u64, request, words, 0, 0, 0]);
}

/// A range of the arena.
#[derive(Clone, Copy)]
struct Place {
    at: u64,
    pages: u64,
    len: u64,
}

/// The program: what it makes its calls with.
struct Program {
    rng: SplitMix,
    /// A file in memory as long as the arena, a System V segment, two userfaultfds, a pipe.
    memory: i64,
    segment: i64,
    watchers: [i64; 2],
    pipe: [i32; 2],
    depth: u32,
}

impl Program {
    fn new(seed: u64) -> Self {
        let memory = i64::from(unsafe { libc::memfd_create(c"random".as_ptr(), 0) });
        unsafe { libc::ftruncate(memory as i32, (PAGES * PAGE) as i64) };
        let bytes = (SEGMENT_PAGES * PAGE) as usize;
        let segment = unsafe { libc::shmget(libc::IPC_PRIVATE, bytes, 0o600) };
        // Attached once it stays until nobody has it attached any more.
        unsafe { libc::shmat(segment, std::ptr::null(), 0) };
        unsafe { libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut()) };
        let mut pipe = [0; 2];
        unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_NONBLOCK) };
        let mut program = Self {
            rng: SplitMix::new(seed),
            memory,
            segment: segment.into(),
            watchers: [-1; 2],
            pipe,
            depth: 0,
        };
        program.watch_anew();
        program
    }

    fn watch_anew(&mut self) {
        const WP_ASYNC: u64 = 1 << 15;
        for fd in self.watchers {
            call(libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0]);
        }
        self.watchers = [userfaultfd(0), userfaultfd(WP_ASYNC)];
    }

    fn run(&mut self, calls: u64) {
        let room = Place {
            at: ARENA,
            pages: PAGES,
            len: PAGES * PAGE,
        };
        self.map(room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
        let mut left = calls;
        while left > 0 {
            left -= 1;
            let is_child = self.step();
            if is_child {
                left = left.min(CALLS_OF_CHILD);
            }
        }
        while unsafe { libc::wait(std::ptr::null_mut()) } > 0 {}
    }

    /// Makes a call. Says whether this is a new child.
    fn step(&mut self) -> bool {
        let place = self.place();
        match self.rng.below(28) {
            0..=3 => self.map_anonymous(place),
            4 => self.map_file(place),
            5 => _ = call(libc::SYS_munmap, [place.at, place.len, 0, 0, 0, 0]),
            6..=8 => self.protect(place),
            9..=11 => self.remap(place),
            12..=14 => self.advise(place),
            15 => self.lock(place),
            16..=18 => self.watch(place),
            19 => self.bind(place),
            20 => return self.fork(),
            21 => self.attach(place),
            22 => self.reorder(place),
            23..=25 => self.write(place.at),
            26 => self.change_heap_or_seal(place),
            _ => self.advise_many(place),
        }
        false
    }

    /// Mostly few pages, sometimes many, rarely beyond the end of the arena.
    fn place(&mut self) -> Place {
        let first = self.rng.below(PAGES);
        let most = self.rng.pick(&[6, 6, 6, 60]);
        let pages = 1 + self.rng.below(most);
        Place {
            at: page(first),
            pages,
            len: pages * PAGE,
        }
    }

    fn protection(&mut self) -> u64 {
        let all = PROT_READ | PROT_WRITE | PROT_EXEC;
        let mask = self.rng.pick(&[all, PROT_READ | PROT_WRITE]);
        self.rng.below(8) & mask
    }

    fn map(&self, place: Place, prot: u64, flags: u64) {
        let Place { at, len, .. } = place;
        let offset = at - ARENA;
        let fd = self.memory as u64;
        call(
            libc::SYS_mmap,
            [at, len, prot, flags | MAP_FIXED, fd, offset],
        );
    }

    fn map_anonymous(&mut self, place: Place) {
        let prot = self.protection();
        let kind = self.rng.pick(&[
            MAP_PRIVATE,
            MAP_PRIVATE,
            MAP_PRIVATE,
            MAP_SHARED,
            MAP_DROPPABLE,
        ]);
        let mut flags = kind | MAP_ANONYMOUS;
        for (odds, flag) in [
            (6, MAP_GROWSDOWN),
            (6, MAP_NORESERVE),
            (12, MAP_LOCKED),
            (12, MAP_POPULATE),
        ] {
            flags |= if self.rng.one_in(odds) { flag } else { 0 };
        }
        if self.rng.one_in(12) {
            // Wherever the kernel likes.
            let fd = u64::MAX;
            call(libc::SYS_mmap, [0, place.len, prot, flags, fd, 0]);
        } else {
            let fd = u64::MAX;
            let flags = flags | MAP_FIXED;
            call(libc::SYS_mmap, [place.at, place.len, prot, flags, fd, 0]);
        }
    }

    fn map_file(&mut self, place: Place) {
        let prot = self.protection();
        let kind = self.rng.pick(&[MAP_PRIVATE, MAP_SHARED]);
        let populate = self.rng.pick(&[0, 0, 0, MAP_POPULATE]);
        self.map(place, prot, kind | populate);
    }

    fn protect(&mut self, place: Place) {
        let prot = self.protection();
        call(libc::SYS_mprotect, [place.at, place.len, prot, 0, 0, 0]);
    }

    fn remap(&mut self, place: Place) {
        let to = page(self.rng.below(PAGES));
        let new_len = self.rng.pick(&[
            place.len,
            place.len,
            place.len,
            PAGE * (1 + place.pages % 20),
        ]);
        let flags = self.rng.pick(&[
            0,
            MREMAP_MAYMOVE,
            MREMAP_MAYMOVE | MREMAP_FIXED,
            MREMAP_MAYMOVE | MREMAP_FIXED,
            MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
        ]);
        let args = [place.at, place.len, new_len, flags, to, 0];
        call(libc::SYS_mremap, args);
    }

    fn advice(&mut self) -> u64 {
        let advice = self.rng.pick(&[
            MADV_NORMAL,
            MADV_RANDOM,
            MADV_SEQUENTIAL,
            MADV_WILLNEED,
            MADV_DONTNEED,
            MADV_FREE,
            MADV_REMOVE,
            MADV_DONTFORK,
            MADV_DOFORK,
            MADV_MERGEABLE,
            MADV_UNMERGEABLE,
            MADV_HUGEPAGE,
            MADV_NOHUGEPAGE,
            MADV_DONTDUMP,
            MADV_DODUMP,
            MADV_WIPEONFORK,
            MADV_KEEPONFORK,
            MADV_COLD,
            MADV_POPULATE_READ,
            MADV_POPULATE_WRITE,
            MADV_DONTNEED_LOCKED,
            MADV_GUARD_INSTALL,
            MADV_GUARD_INSTALL,
            MADV_GUARD_REMOVE,
        ]);
        advice as u64
    }

    fn advise(&mut self, place: Place) {
        let advice = self.advice();
        call(libc::SYS_madvise, [place.at, place.len, advice, 0, 0, 0]);
    }

    fn advise_many(&mut self, place: Place) {
        const SELF: i64 = -10_000;
        let advice = self.advice();
        let other = page(self.rng.below(PAGES));
        let ranges = [place.at, PAGE, other, 2 * PAGE, place.at + 2 * PAGE, PAGE];
        let ranges = ranges.as_ptr().expose_provenance() as u64;
        let args = [SELF as u64, ranges, 3, advice, 0, 0];
        call(libc::SYS_process_madvise, args);
    }

    fn lock(&mut self, place: Place) {
        let Place { at, len, .. } = place;
        match self.rng.below(12) {
            0..=2 => _ = call(libc::SYS_mlock2, [at, len, MLOCK_ONFAULT, 0, 0, 0]),
            3..=5 => _ = call(libc::SYS_mlock, [at, len, 0, 0, 0, 0]),
            6..=9 => _ = call(libc::SYS_munlock, [at, len, 0, 0, 0, 0]),
            10 => {
                let flags = self.rng.below(8);
                call(libc::SYS_mlockall, [flags, 0, 0, 0, 0, 0]);
            }
            _ => _ = call(libc::SYS_munlockall, [0; 6]),
        }
    }

    /// Only what nobody has to answer, and no marks: where a file has some, Linux 6.18 tries for ever
    /// to put guards there.
    fn watch(&mut self, place: Place) {
        const UFFDIO_REGISTER: u64 = 0xc020_aa00;
        const UFFDIO_UNREGISTER: u64 = 0x8010_aa01;
        let Place { at, len, .. } = place;
        let watcher = self.rng.pick(&self.watchers);
        match self.rng.below(20) {
            0..=9 => ioctl(
                watcher,
                UFFDIO_REGISTER,
                &[at, len, UFFDIO_REGISTER_MODE_WP, 0],
            ),
            10..=18 => ioctl(watcher, UFFDIO_UNREGISTER, &[at, len]),
            _ => self.watch_anew(),
        }
    }

    fn bind(&mut self, place: Place) {
        let nodes = 1_u64;
        let mask = (&raw const nodes).expose_provenance() as u64;
        let (mode, mask) = self
            .rng
            .pick(&[(MPOL_DEFAULT, 0), (MPOL_BIND, mask), (MPOL_BIND, 0)]);
        call(libc::SYS_mbind, [place.at, place.len, mode, mask, 64, 0]);
    }

    /// Says whether this is the child.
    fn fork(&mut self) -> bool {
        if self.depth >= DEPTH || !self.rng.one_in(4) {
            return false;
        }
        match unsafe { libc::fork() } {
            0 => {
                self.depth += 1;
                self.rng.next_u64();
                self.watch_anew();
                true
            }
            _ => {
                if self.rng.one_in(2) {
                    unsafe { libc::wait(std::ptr::null_mut()) };
                }
                false
            }
        }
    }

    fn attach(&mut self, place: Place) {
        const SHM_RDONLY: u64 = 0x1000;
        const SHM_REMAP: u64 = 0x4000;
        if self.rng.one_in(2) {
            call(libc::SYS_shmdt, [place.at, 0, 0, 0, 0, 0]);
        } else {
            let flags = self.rng.pick(&[SHM_REMAP, SHM_REMAP | SHM_RDONLY, 0]);
            let segment = self.segment as u64;
            call(libc::SYS_shmat, [segment, place.at, flags, 0, 0, 0]);
        }
    }

    fn reorder(&mut self, place: Place) {
        let offset = self.rng.below(8);
        let args = [place.at, place.len, 0, offset, 0, 0];
        call(libc::SYS_remap_file_pages, args);
    }

    /// Lets the kernel write a byte there, which is refused where the program would get a signal.
    fn write(&self, at: u64) {
        let [reader, writer] = self.pipe;
        let byte = [1_u8];
        unsafe { libc::write(writer, byte.as_ptr().cast(), 1) };
        let mut rest = [0_u8];
        if call(libc::SYS_read, [reader as u64, at, 1, 0, 0, 0]) != 1 {
            unsafe { libc::read(reader, rest.as_mut_ptr().cast(), 1) };
        }
    }

    fn change_heap_or_seal(&mut self, place: Place) {
        if self.rng.one_in(20) {
            call(libc::SYS_mseal, [place.at, PAGE, 0, 0, 0, 0]);
            return;
        }
        let end = call(libc::SYS_brk, [0; 6]) as u64;
        let end = if self.rng.one_in(2) {
            end + place.len
        } else {
            end - PAGE * self.rng.below(4)
        };
        call(libc::SYS_brk, [end, 0, 0, 0, 0, 0]);
    }
}
