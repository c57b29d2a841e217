//! Traces programs of our own that do what real programs seldom do: threads that race in `mmap`,
//! exec from a thread, deep stacks, forks after every kind of history, refused calls.
//!
//! This file is both: run without arguments it is the test; run with a name by `samara trace` it
//! is that program. Each must exit as it says and end identical, with nothing unmodelled.

#![expect(unsafe_code, reason = "the traced programs make raw memory calls")]
#![expect(
    clippy::too_many_arguments,
    reason = "system calls have as many as they have"
)]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "they map and unmap only what they made"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a traced program is one such block"
)]

use std::os::fd::AsRawFd;
use std::process::{Command, ExitCode};
use std::ptr;
use std::thread;

use libc::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_NONE,
    PROT_READ, PROT_WRITE, c_int, c_void,
};

const PAGE: usize = 4096;
const RW: c_int = PROT_READ | PROT_WRITE;
const ANON: c_int = MAP_PRIVATE | MAP_ANONYMOUS;

mod common;
#[path = "own_programs/hidden.rs"]
mod hidden;
#[path = "own_programs/kinds.rs"]
mod kinds;
#[path = "own_programs/missing.rs"]
mod missing;

type Program = (&'static str, fn());

const PROGRAMS: &[Program] = &[
    ("merges", merges),
    ("heap", heap),
    ("deep_stack", deep_stack),
    ("moves", moves),
    ("files", files),
    ("droppable", kinds::droppable),
    ("append_only_files", kinds::append_only_files),
    ("sealed_files", kinds::sealed_files),
    ("files_for_ioctl_alone", kinds::files_for_ioctl_alone),
    ("segments", kinds::segments),
    ("another_order", kinds::another_order),
    ("watched", kinds::watched),
    ("policies", kinds::policies),
    (
        "a_mask_longer_than_a_page_is_refused",
        kinds::a_mask_longer_than_a_page_is_refused,
    ),
    ("forks", forks),
    ("threads", threads),
    ("spawns", spawns),
    ("exec_from_thread", exec_from_thread),
    ("advice", advice),
    ("locks", locks),
    ("limits", limits),
    ("refusals", refusals),
    ("low_memory", kinds::low_memory),
    ("low_memory_by_luck", kinds::low_memory_by_luck),
    ("pipes_run_nothing", kinds::pipes_run_nothing),
    ("removed_segments", kinds::removed_segments),
    ("huge", kinds::huge),
    ("huge_reads", kinds::huge_reads),
    (
        "an_empty_pool_promises_no_huge_page",
        kinds::an_empty_pool_promises_no_huge_page,
    ),
    ("limits_of_a_child", limits_of_a_child),
    ("limits_beside_calls", limits_beside_calls),
    ("many_mappings", many_mappings),
    ("killed_children", killed_children),
    ("signals", signals),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().unwrap_or_default();
    let all = [PROGRAMS, hidden::PROGRAMS, missing::PROGRAMS];
    let programs = || all.into_iter().flatten();
    if let Some((_, program)) = programs().find(|(name, _)| *name == first) {
        program();
        return ExitCode::SUCCESS;
    }
    // The test harness's own arguments (a filter, --nocapture) choose among the programs.
    let chosen = |name: &str| first.is_empty() || first.starts_with('-') || name.contains(&first);
    let failed: Vec<&str> = programs()
        .filter(|(name, _)| chosen(name) && !traces(name))
        .map(|(n, _)| *n)
        .collect();
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}

/// Whether `samara trace` finds the program identical, with nothing unmodelled, and `samara
/// replay` finds its recording identical too.
fn traces(name: &str) -> bool {
    let traced = common::trace(&[name]);
    let shown = format!("own program {name}");
    let good = traced.report(&shown, |not_modelled| {
        hidden::is_expected(name, not_modelled)
    });
    let verdict = &traced.verdict;
    // No outcome goes unseen; and texts of many mappings after each of many calls would take too
    // long.
    let is_seen = good
        && number_after(verdict, "memory calls") <= number_after(verdict, "identical at all")
        && (name != "many_mappings" || verdict.contains("of the neighbourhood of a call"));
    if good && !is_seen {
        println!("own program {name}: looked at too seldom or too closely\n{verdict}");
    }
    is_seen
}

fn number_after(text: &str, words: &str) -> u64 {
    let rest = text.split_once(words).map_or("", |(_, rest)| rest);
    let digits: String = rest
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().expect("a number")
}

fn map(len: usize, prot: c_int, flags: c_int) -> *mut u8 {
    unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, -1, 0).cast() }
}

fn map_at(at: *mut u8, len: usize, prot: c_int) -> *mut u8 {
    unsafe { libc::mmap(at.cast(), len, prot, ANON | MAP_FIXED, -1, 0).cast() }
}

fn map_file(fd: c_int, len: usize, prot: c_int, flags: c_int, offset: i64) -> *mut u8 {
    unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, fd, offset).cast() }
}

fn unmap(at: *mut u8, len: usize) -> c_int {
    unsafe { libc::munmap(at.cast(), len) }
}

fn protect(at: *mut u8, len: usize, prot: c_int) -> c_int {
    unsafe { libc::mprotect(at.cast(), len, prot) }
}

fn advise(at: *mut u8, len: usize, advice: c_int) -> c_int {
    unsafe { libc::madvise(at.cast(), len, advice) }
}

fn remap(at: *mut u8, old: usize, new: usize, flags: c_int, to: *mut u8) -> *mut u8 {
    unsafe { libc::mremap(at.cast(), old, new, flags, to.cast::<c_void>()).cast() }
}

fn page(at: *mut u8, number: usize) -> *mut u8 {
    at.wrapping_add(number * PAGE)
}

fn write(at: *mut u8) {
    unsafe { at.write_volatile(1) };
}

fn read(at: *mut u8) {
    unsafe { at.read_volatile() };
}

/// Forks, runs `child` in the child, waits.
fn in_child(child: impl FnOnce()) {
    match unsafe { libc::fork() } {
        0 => {
            child();
            unsafe { libc::_exit(0) }
        }
        pid => unsafe {
            libc::waitpid(pid, ptr::null_mut(), 0);
        },
    }
}

fn merges() {
    let base = map(32 * PAGE, RW, ANON);
    // Unwritten pieces split and merge again.
    protect(page(base, 4), 4 * PAGE, PROT_READ);
    protect(page(base, 4), 4 * PAGE, RW);
    // A written left side, an unwritten right side, and the reverse.
    write(base);
    protect(page(base, 8), 8 * PAGE, PROT_READ);
    unmap(page(base, 16), 4 * PAGE);
    map_at(page(base, 16), 4 * PAGE, RW);
    write(page(base, 24));
    unmap(page(base, 20), PAGE);
    map_at(page(base, 20), PAGE, RW);
    write(page(base, 20));
    // Two written sides with a hole that is filled.
    let other = map(3 * PAGE, PROT_NONE, ANON);
    map_at(other, PAGE, RW);
    map_at(page(other, 2), PAGE, RW);
    write(other);
    write(page(other, 2));
    map_at(page(other, 1), PAGE, RW);
    // Written, emptied, and then made read-only: the history stays.
    let emptied = map(4 * PAGE, RW, ANON);
    write(emptied);
    advise(emptied, 4 * PAGE, libc::MADV_DONTNEED);
    protect(emptied, 2 * PAGE, PROT_READ);
    protect(emptied, 4 * PAGE, PROT_READ);
    unmap(base, 32 * PAGE);
}

fn heap() {
    unsafe {
        let start = libc::sbrk(0);
        libc::sbrk(64 * PAGE as isize);
        start.cast::<u8>().write_volatile(1);
        libc::sbrk(-(32 * PAGE as isize));
        libc::sbrk(100);
        libc::sbrk(100);
        libc::brk(start.cast::<u8>().wrapping_sub(1 << 40).cast());
        libc::brk(start.cast::<u8>().wrapping_add(PAGE).cast());
        libc::sbrk(1 << 20);
        let heap = start.cast::<u8>().wrapping_add(4 * PAGE - 1);
        let aligned = heap.wrapping_sub(heap.addr() % PAGE);
        protect(aligned, PAGE, PROT_READ);
        protect(aligned, PAGE, RW);
        libc::sbrk(1 << 20);
    }
}

#[expect(
    clippy::large_stack_arrays,
    reason = "this is what the program is about"
)]
fn use_stack(depth: usize) -> u8 {
    let mut block = [0_u8; 16 * PAGE];
    block[depth * 7 % block.len()] = 1;
    let block = std::hint::black_box(&mut block);
    if depth == 0 {
        block[0]
    } else {
        use_stack(depth - 1).wrapping_add(block[1])
    }
}

fn deep_stack() {
    for depth in [4, 16, 48] {
        use_stack(depth);
        let at = map(PAGE, RW, ANON);
        in_child(|| {
            use_stack(depth + 8);
            map(PAGE, PROT_READ, ANON);
        });
        unmap(at, PAGE);
    }
    // A stack of our own.
    let own = unsafe {
        let flags = ANON | libc::MAP_GROWSDOWN;
        let room = map(600 * PAGE, PROT_NONE, ANON);
        unmap(room, 600 * PAGE);
        libc::mmap(
            page(room, 590).cast(),
            2 * PAGE,
            RW,
            flags | MAP_FIXED,
            -1,
            0,
        )
        .cast::<u8>()
    };
    write(own);
    write(own.wrapping_sub(1));
    write(own.wrapping_sub(3 * PAGE));
    map(PAGE, RW, ANON);
    in_child(|| write(own.wrapping_sub(5 * PAGE)));
    protect(own, PAGE, PROT_READ);
}

fn moves() {
    let may = libc::MREMAP_MAYMOVE;
    let fixed = may | libc::MREMAP_FIXED;
    let nowhere = ptr::null_mut();
    let mut at = map(4 * PAGE, RW, ANON);
    at = remap(at, 4 * PAGE, 64 * PAGE, may, nowhere);
    write(page(at, 10));
    at = remap(at, 64 * PAGE, 8 * PAGE, 0, nowhere);
    at = remap(at, 8 * PAGE, 600 * PAGE, may, nowhere);
    let room = map(1200 * PAGE, PROT_NONE, ANON);
    at = remap(at, 600 * PAGE, 600 * PAGE, fixed, page(room, 100));
    // Back beside its old neighbours, written and unwritten.
    let fresh = map(16 * PAGE, RW, ANON);
    write(page(fresh, 12));
    remap(page(fresh, 4), 4 * PAGE, 4 * PAGE, fixed, page(room, 4));
    remap(page(room, 4), 4 * PAGE, 4 * PAGE, fixed, page(fresh, 4));
    remap(page(fresh, 12), 2 * PAGE, 2 * PAGE, fixed, page(room, 20));
    remap(page(room, 20), 2 * PAGE, 2 * PAGE, fixed, page(fresh, 12));
    let dont_unmap = may | libc::MREMAP_DONTUNMAP;
    remap(fresh, 16 * PAGE, 16 * PAGE, dont_unmap, nowhere);
    // Refusals.
    remap(at, PAGE, 0, 0, nowhere);
    remap(at.wrapping_add(1), PAGE, PAGE, 0, nowhere);
    remap(at, PAGE, PAGE, 64, nowhere);
    remap(at, 4 * PAGE, 4 * PAGE, fixed, page(at, 2));
    remap(page(room, 1199), 2 * PAGE, 4 * PAGE, may, nowhere);
    remap(
        ptr::without_provenance_mut(PAGE),
        PAGE,
        2 * PAGE,
        may,
        nowhere,
    );
    let shared = map(4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS);
    remap(shared, 0, 4 * PAGE, may, nowhere);
    remap(shared, 2 * PAGE, 8 * PAGE, may, nowhere);
}

fn files() {
    let directory = std::env::temp_dir().join(format!("samara-files-{}", std::process::id()));
    let renamed = directory.with_extension("renamed");
    std::fs::write(&directory, vec![1_u8; 16 * PAGE]).expect("a temporary file");
    let open = || {
        std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&directory)
            .expect("it opens")
    };
    let (first, second) = (open(), open());
    let copy = first.try_clone().expect("dup");
    let (one, two, three) = (first.as_raw_fd(), second.as_raw_fd(), copy.as_raw_fd());
    let private = map_file(one, 4 * PAGE, RW, MAP_PRIVATE, 0);
    let after = page(private, 4);
    let beside = |fd, number: usize| unsafe {
        let at = page(private, number).cast();
        let offset = (number * PAGE) as i64;
        libc::mmap(at, PAGE, RW, MAP_PRIVATE | MAP_FIXED, fd, offset).cast::<u8>()
    };
    let room = map(64 * PAGE, PROT_NONE, ANON);
    unsafe { libc::mmap(room.cast(), PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, one, 0) };
    unsafe {
        libc::mmap(
            page(room, 1).cast(),
            PAGE,
            PROT_READ,
            MAP_SHARED | MAP_FIXED,
            three,
            4096,
        )
    };
    unsafe {
        libc::mmap(
            page(room, 2).cast(),
            PAGE,
            PROT_READ,
            MAP_SHARED | MAP_FIXED,
            two,
            8192,
        )
    };
    unmap(page(private, 1), 2 * PAGE);
    beside(three, 1);
    beside(two, 2);
    write(private);
    read(page(private, 3));
    protect(private, 4 * PAGE, PROT_READ);
    let _ = after;
    std::fs::rename(&directory, &renamed).expect("it can be renamed");
    map_file(one, PAGE, PROT_READ, MAP_PRIVATE, 0);
    std::fs::remove_file(&renamed).expect("it can be removed");
    map_file(two, PAGE, PROT_READ, MAP_SHARED, 0);
    drop((first, copy));
    map_file(one, PAGE, PROT_READ, MAP_PRIVATE, 0);
    map_file(two, PAGE, PROT_READ, MAP_PRIVATE, 1);
    map_file(two, 0, PROT_READ, MAP_PRIVATE, 0);
    map_file(two, PAGE, PROT_READ, 0, 0);
    map_file(9999, PAGE, PROT_READ, MAP_PRIVATE, 0);
    special_files();
}

fn special_files() {
    let zero = std::fs::File::open("/dev/zero").expect("/dev/zero");
    let at = map_file(zero.as_raw_fd(), 4 * PAGE, RW, MAP_PRIVATE, 0);
    write(at);
    map_file(zero.as_raw_fd(), 4 * PAGE, PROT_READ, MAP_SHARED, 0);
    let read_only = std::fs::File::open("/proc/self/exe").expect("our program");
    map_file(read_only.as_raw_fd(), PAGE, RW, MAP_SHARED, 0);
    let shared = map_file(read_only.as_raw_fd(), PAGE, PROT_READ, MAP_SHARED, 0);
    protect(shared, PAGE, RW);
    let directory = std::fs::File::open("/").expect("the root directory");
    map_file(directory.as_raw_fd(), PAGE, PROT_READ, MAP_PRIVATE, 0);
    let memory = unsafe { libc::memfd_create(c"samara".as_ptr(), 0) };
    unsafe { libc::ftruncate(memory, 64 * PAGE as i64) };
    let one = map_file(memory, 8 * PAGE, RW, MAP_SHARED, 0);
    unmap(page(one, 2), 2 * PAGE);
    unsafe {
        libc::mmap(
            page(one, 2).cast(),
            2 * PAGE,
            RW,
            MAP_SHARED | MAP_FIXED,
            memory,
            2 * PAGE as i64,
        )
    };
    let shared = map(8 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS);
    let other = map(8 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS);
    write(shared);
    in_child(|| {
        unmap(page(shared, 2), PAGE);
        write(other);
        protect(other, 3 * PAGE, PROT_READ);
    });
    protect(shared, 3 * PAGE, PROT_NONE);
}

fn forks() {
    let base = map(64 * PAGE, RW, ANON);
    let unwritten = map(16 * PAGE, PROT_READ, ANON);
    write(base);
    write(page(base, 40));
    let work = |offset: usize| {
        protect(page(base, offset), 2 * PAGE, PROT_READ);
        protect(page(base, offset), 2 * PAGE, RW);
        unmap(page(base, offset + 4), 2 * PAGE);
        map_at(page(base, offset + 4), 2 * PAGE, RW);
        write(page(base, offset + 4));
        protect(unwritten, 8 * PAGE, RW);
        write(unwritten);
        map(PAGE, RW, ANON);
        map(PAGE, RW, ANON);
    };
    in_child(|| {
        work(8);
        in_child(|| work(16));
        work(24);
    });
    work(32);
    advise(page(base, 2), PAGE, libc::MADV_DONTFORK);
    advise(page(base, 3), PAGE, libc::MADV_WIPEONFORK);
    unsafe { libc::mlock(page(base, 6).cast(), PAGE) };
    in_child(|| {
        work(8);
        write(page(base, 3));
        map_at(page(base, 2), PAGE, RW);
    });
    advise(page(base, 2), PAGE, libc::MADV_DOFORK);
    in_child(|| work(48));
    for _ in 0..20 {
        in_child(|| write(page(base, 50)));
    }
}

/// A cheap sequence of numbers, the same every time.
fn next(state: &mut u64) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

fn churn(seed: u64) {
    let mut state = seed;
    let room = map(64 * PAGE, PROT_NONE, ANON);
    for _ in 0..150 {
        let at = page(room, next(&mut state) % 48);
        let len = (1 + next(&mut state) % 16) * PAGE;
        match next(&mut state) % 8 {
            // Never a hole: another thread's mapping could land there and be overwritten, and what
            // was written to it meanwhile nobody could know.
            0 => {
                map_at(at, len, PROT_NONE);
                map_at(at, len, RW);
            }
            1 => {
                map_at(at, len, RW);
                write(at);
            }
            2 => _ = protect(at, len, PROT_READ),
            3 => {
                if protect(at, len, RW) == 0 {
                    write(at);
                    write(at.wrapping_add(len - 1));
                }
            }
            4 => _ = advise(at, len, libc::MADV_DONTNEED),
            5 => {
                let block = vec![1_u8; 200_000 + next(&mut state) % 400_000];
                std::hint::black_box(&block);
            }
            6 => {
                let other = map(len, RW, ANON);
                write(other);
                if state.is_multiple_of(2) {
                    unmap(other, len);
                }
            }
            _ => _ = protect(at, len, PROT_READ | PROT_EXEC),
        }
    }
}

fn threads() {
    thread::scope(|scope| {
        for seed in 1..=6 {
            scope.spawn(move || churn(seed));
        }
        scope.spawn(|| {
            for _ in 0..6 {
                in_child(|| churn(77));
            }
        });
    });
    // Threads that write while another one maps.
    let shared = map(256 * PAGE, RW, ANON).expose_provenance();
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..256 {
                write(page(ptr::with_exposed_provenance_mut(shared), number));
            }
        });
        scope.spawn(|| churn(99));
    });
}

fn spawns() {
    for _ in 0..6 {
        let status = Command::new("/bin/true").status();
        std::hint::black_box(status.is_ok());
    }
    thread::scope(|scope| {
        for seed in 0..3 {
            scope.spawn(move || {
                for _ in 0..4 {
                    std::hint::black_box(Command::new("/bin/true").status().is_ok());
                    churn(seed + 10);
                }
            });
        }
    });
    std::hint::black_box(Command::new("/no/such/program").status().is_err());
}

fn exec_from_thread() {
    let stay = thread::spawn(|| {
        loop {
            churn(5);
        }
    });
    let exec = thread::spawn(|| unsafe {
        libc::usleep(2000);
        let arguments = [c"true".as_ptr(), ptr::null()];
        libc::execv(c"/bin/true".as_ptr(), arguments.as_ptr());
        libc::_exit(1);
    });
    let _ = (stay.join(), exec.join());
}

fn advice() {
    let base = map(32 * PAGE, RW, ANON);
    write(base);
    for advice in [
        0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
    ] {
        advise(page(base, 4), 4 * PAGE, advice);
        advise(page(base, 20), 4 * PAGE, advice);
    }
    advise(base, 32 * PAGE, libc::MADV_NORMAL);
    advise(base.wrapping_add(1), PAGE, libc::MADV_NORMAL);
    advise(base, PAGE, 999);
    unmap(page(base, 10), PAGE);
    advise(base, 32 * PAGE, libc::MADV_RANDOM);
    advise(base, 32 * PAGE, libc::MADV_DONTDUMP);
    let fresh = map(16 * PAGE, RW, ANON);
    advise(page(fresh, 2), PAGE, 102);
    advise(page(fresh, 2), PAGE, 103);
    protect(fresh, 16 * PAGE, PROT_READ);
    let populated = map(8 * PAGE, RW, ANON | libc::MAP_POPULATE);
    protect(populated, 8 * PAGE, PROT_READ);
    map(8 * PAGE, PROT_READ, ANON);
}

fn locks() {
    let base = map(32 * PAGE, RW, ANON);
    unsafe {
        libc::mlock(page(base, 4).cast(), 4 * PAGE);
        libc::mlock2(page(base, 10).cast(), 4 * PAGE, 1);
        libc::mlock2(page(base, 10).cast(), 4 * PAGE, 8);
        libc::munlock(page(base, 6).cast(), 6 * PAGE);
        unmap(page(base, 20), PAGE);
        libc::mlock(page(base, 18).cast(), 4 * PAGE);
        map(4 * PAGE, RW, ANON | libc::MAP_LOCKED);
        libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT);
        map(4 * PAGE, RW, ANON);
        map(4 * PAGE, PROT_READ, ANON);
        libc::sbrk(PAGE as isize);
        in_child(|| _ = map(4 * PAGE, RW, ANON));
        libc::munlockall();
        libc::mlockall(0);
        libc::mlockall(64);
        map(4 * PAGE, RW, ANON);
    }
}

fn set_limit(resource: libc::__rlimit_resource_t, soft: u64) {
    unsafe {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        libc::getrlimit(resource, &raw mut limit);
        limit.rlim_cur = soft.min(limit.rlim_max);
        libc::setrlimit(resource, &raw const limit);
    }
}

fn limits() {
    set_limit(libc::RLIMIT_AS, 1 << 30);
    map(1 << 31, RW, ANON);
    map(1 << 31, PROT_NONE, ANON);
    map(1 << 20, RW, ANON);
    in_child(|| _ = map(1 << 30, RW, ANON));
    set_limit(libc::RLIMIT_AS, u64::MAX);
    set_limit(libc::RLIMIT_DATA, 64 << 20);
    map(128 << 20, RW, ANON);
    let read_only = map(128 << 20, PROT_READ, ANON);
    protect(read_only, 128 << 20, RW);
    protect(read_only, 1 << 20, RW);
    unsafe { libc::sbrk(128 << 20) };
    set_limit(libc::RLIMIT_DATA, u64::MAX);
    map(1 << 46, RW, ANON);
    map(1 << 46, RW, ANON | MAP_NORESERVE);
    map(1 << 50, RW, ANON | MAP_NORESERVE);
}

fn refusals() {
    let base = map(8 * PAGE, RW, ANON);
    map(0, RW, ANON);
    map(usize::MAX, RW, ANON);
    map(PAGE, RW, 0);
    map(PAGE, RW, MAP_ANONYMOUS);
    map(PAGE, RW, MAP_ANONYMOUS | 3);
    map(PAGE, RW, ANON | MAP_FIXED);
    map_at(base.wrapping_add(1), PAGE, RW);
    map_at(
        ptr::without_provenance_mut(usize::MAX & !(PAGE - 1)),
        PAGE,
        RW,
    );
    unsafe {
        let no_replace = ANON | libc::MAP_FIXED_NOREPLACE;
        libc::mmap(base.cast(), PAGE, RW, no_replace, -1, 0);
        libc::mmap(base.cast(), PAGE, RW, ANON, -1, 0);
        libc::mmap(ptr::without_provenance_mut(0x10), PAGE, RW, ANON, -1, 0);
        libc::mmap(ptr::without_provenance_mut(0x1000), PAGE, RW, ANON, -1, 0);
        libc::mmap(
            ptr::without_provenance_mut(0x7fff_ffff_f000),
            PAGE,
            RW,
            ANON,
            -1,
            0,
        );
        libc::mmap(ptr::null_mut(), PAGE, RW, ANON, -1, 17);
    }
    unmap(base.wrapping_add(1), PAGE);
    unmap(base, 0);
    unmap(base, usize::MAX);
    unmap(ptr::without_provenance_mut(1 << 62), PAGE);
    protect(base.wrapping_add(1), PAGE, RW);
    protect(base, usize::MAX, RW);
    protect(base, 0, RW);
    protect(base, PAGE, 0x7000);
    unmap(page(base, 2), PAGE);
    protect(base, 8 * PAGE, PROT_READ);
    protect(page(base, 2), PAGE, PROT_READ);
    unsafe { libc::syscall(libc::SYS_pkey_mprotect, base, PAGE, RW, -1) };
}

/// Once, the end of one thread's `setrlimit` was taken for the end of another's call.
fn limits_beside_calls() {
    thread::scope(|scope| {
        scope.spawn(|| churn(5));
        for megabytes in 0..300 {
            set_limit(libc::RLIMIT_MEMLOCK, (64 + megabytes) << 20);
        }
    });
}

fn limits_of_a_child() {
    match unsafe { libc::fork() } {
        0 => {
            thread::sleep(std::time::Duration::from_millis(20));
            map(1 << 30, RW, ANON);
            map(1 << 20, RW, ANON);
            unsafe { libc::_exit(0) }
        }
        pid => unsafe {
            let limit = libc::rlimit {
                rlim_cur: 512 << 20,
                rlim_max: libc::RLIM_INFINITY,
            };
            libc::prlimit(pid, libc::RLIMIT_AS, &raw const limit, ptr::null_mut());
            map(1 << 30, RW, ANON);
            libc::waitpid(pid, ptr::null_mut(), 0);
        },
    }
}

fn many_mappings() {
    const COUNT: usize = 2600;
    let base = map(COUNT * PAGE, RW, ANON);
    for number in (0..COUNT).step_by(2) {
        protect(page(base, number), PAGE, PROT_READ);
    }
    for number in (0..COUNT).step_by(3) {
        unmap(page(base, number), PAGE);
    }
    in_child(|| {
        for number in (1..COUNT).step_by(5) {
            protect(page(base, number), PAGE, PROT_NONE);
        }
    });
    for number in (1..200).step_by(5) {
        protect(page(base, number), PAGE, PROT_NONE);
    }
    unmap(base, COUNT * PAGE);
}

fn killed_children() {
    for delay in 0..12_u32 {
        match unsafe { libc::fork() } {
            0 => loop {
                churn(u64::from(delay));
            },
            pid => unsafe {
                libc::usleep(delay * 500);
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, ptr::null_mut(), 0);
            },
        }
    }
}

extern "C" fn on_signal(_: c_int) {
    map(PAGE, PROT_READ, ANON);
}

fn signals() {
    let handler: extern "C" fn(c_int) = on_signal;
    unsafe {
        libc::signal(libc::SIGUSR1, handler as libc::sighandler_t);
        libc::signal(libc::SIGRTMIN() + 3, handler as libc::sighandler_t);
        for _ in 0..20 {
            libc::raise(libc::SIGUSR1);
            libc::raise(libc::SIGRTMIN() + 3);
        }
        // A child that stops itself, as job control would stop it, and is continued.
        match libc::fork() {
            0 => {
                libc::raise(libc::SIGSTOP);
                map(PAGE, RW, ANON);
                libc::_exit(7);
            }
            pid => {
                let mut status = 0;
                libc::waitpid(pid, &raw mut status, libc::WUNTRACED);
                assert!(libc::WIFSTOPPED(status), "the stop must be seen");
                libc::kill(pid, libc::SIGCONT);
                libc::waitpid(pid, &raw mut status, 0);
                assert_eq!(libc::WEXITSTATUS(status), 7);
            }
        }
    }
}
