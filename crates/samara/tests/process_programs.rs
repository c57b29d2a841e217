//! Traces programs of our own that change how their whole address space is run: `personality`,
//! the switches of `prctl`, layouts, limits.
//!
//! This file is both: run without arguments it is the test; run with a name by `samara trace` it
//! is that program. Each must exit as it says and end identical, with nothing unmodelled.

#![expect(unsafe_code, reason = "the traced programs make raw memory calls")]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "they map and unmap only what they made"
)]

mod common;

use std::ffi::CString;
use std::process::ExitCode;

use maple_mm::abi::{
    ADDR_COMPAT_LAYOUT, ADDR_NO_RANDOMIZE, MADV_MERGEABLE, MADV_UNMERGEABLE, MAP_ANONYMOUS,
    MAP_FIXED, MAP_GROWSDOWN, MAP_PRIVATE, MAP_SHARED, MMAP_PAGE_ZERO, PR_SET_MDWE,
    PR_SET_MEMORY_MERGE, PR_SET_MM, PR_SET_MM_BRK, PR_SET_MM_MAP, PR_SET_THP_DISABLE, PROT_EXEC,
    PROT_NONE, PROT_READ, PROT_WRITE, READ_IMPLIES_EXEC,
};

const PAGE: u64 = 4096;
const RW: u64 = PROT_READ | PROT_WRITE;
const ANON: u64 = MAP_PRIVATE | MAP_ANONYMOUS;
const ARENA: u64 = 0x2000_0000_0000;

type Program = (&'static str, fn());

const PROGRAMS: &[Program] = &[
    ("executable_reads", executable_reads),
    ("no_exec_gain", no_exec_gain),
    ("memory_merge", memory_merge),
    ("huge_pages_off", huge_pages_off),
    ("moved_heap", moved_heap),
    ("upward_layout", upward_layout),
    ("upward_and_fixed_layout", upward_and_fixed_layout),
    ("page_zero", page_zero),
    ("place", place),
    ("lists_of_advice", lists_of_advice),
    ("limits_on_the_way", limits_on_the_way),
    ("limits_of_a_sharer", limits_of_a_sharer),
    ("advice_of_a_sharer", advice_of_a_sharer),
    (
        "a_stack_grew_before_its_limit_was_lowered",
        a_stack_grew_before_its_limit_was_lowered,
    ),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().unwrap_or_default();
    if let Some((_, program)) = PROGRAMS.iter().find(|(name, _)| *name == first) {
        program();
        return ExitCode::SUCCESS;
    }
    // The test harness's own arguments (a filter, --nocapture) choose among the programs.
    let chosen = |name: &str| first.is_empty() || first.starts_with('-') || name.contains(&first);
    let failed: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(name, _)| chosen(name) && !traces(name))
        .map(|(name, _)| *name)
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
    let shown = format!("process program {name}");
    traced.report(&shown, |not_modelled| not_modelled == "none")
}

fn call(number: libc::c_long, args: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = args;
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

fn map_at(page: u64, pages: u64, prot: u64, flags: u64) -> i64 {
    let args = [
        ARENA + page * PAGE,
        pages * PAGE,
        prot,
        flags | MAP_FIXED,
        u64::MAX,
        0,
    ];
    call(libc::SYS_mmap, args)
}

fn map(len: u64, prot: u64, flags: u64) -> i64 {
    call(libc::SYS_mmap, [0, len, prot, flags, u64::MAX, 0])
}

fn protect(page: u64, pages: u64, prot: u64) -> i64 {
    call(
        libc::SYS_mprotect,
        [ARENA + page * PAGE, pages * PAGE, prot, 0, 0, 0],
    )
}

fn prctl(option: u32, args: [u64; 4]) -> i64 {
    let [a, b, c, d] = args;
    call(libc::SYS_prctl, [option.into(), a, b, c, d, 0])
}

fn personality(persona: u32) -> i64 {
    call(libc::SYS_personality, [persona.into(), 0, 0, 0, 0, 0])
}

fn brk(addr: u64) -> u64 {
    call(libc::SYS_brk, [addr, 0, 0, 0, 0, 0]).cast_unsigned()
}

fn in_a_child(run: fn()) {
    let child = unsafe { libc::fork() };
    if child == 0 {
        run();
        unsafe { libc::_exit(0) };
    }
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
}

/// Goes on as another of the programs.
fn become_program(name: &str) {
    let us = std::env::current_exe().expect("a path");
    let text = |text: &str| CString::new(text).expect("no NUL");
    let path = text(us.to_str().expect("UTF-8"));
    let name = text(name);
    let arguments = [path.as_ptr(), name.as_ptr(), std::ptr::null()];
    unsafe { libc::execv(path.as_ptr(), arguments.as_ptr()) };
}

/// Maps wherever there is room, in several sizes.
fn place() {
    for len in [1, 512, 512, 1, 768, 1024, 3] {
        assert!(map(len * PAGE, RW, ANON) > 0);
    }
    let hole = map(8 * PAGE, PROT_NONE, ANON).cast_unsigned();
    call(libc::SYS_munmap, [hole + PAGE, 3 * PAGE, 0, 0, 0, 0]);
    for hint in [
        hole + PAGE,
        hole + 1,
        hole + PAGE + 1,
        0x7000_0000_0123,
        0x10,
        0x8000,
    ] {
        call(libc::SYS_mmap, [hint, 2 * PAGE, RW, ANON, u64::MAX, 0]);
    }
    for _ in 0..3 {
        map(PAGE, RW, ANON | MAP_GROWSDOWN);
        map(PAGE, RW, ANON);
        map(PAGE, RW, MAP_SHARED | MAP_ANONYMOUS);
    }
    map(80 << 40, PROT_NONE, ANON);
    let moved = map(2 * PAGE, RW, ANON).cast_unsigned();
    call(libc::SYS_mremap, [moved, 2 * PAGE, 700 * PAGE, 1, 0, 0]);
    let heap = brk(0);
    brk(heap + 5 * PAGE);
    in_a_child(|| {
        map(PAGE, RW, ANON);
        map(512 * PAGE, RW, ANON);
    });
}

fn executable_reads() {
    map_at(0, 4, RW, ANON);
    personality(READ_IMPLIES_EXEC);
    for prot in [PROT_READ, RW, PROT_WRITE, PROT_NONE, PROT_EXEC] {
        map_at(10, 1, prot, ANON);
        map_at(20, 1, prot, MAP_SHARED | MAP_ANONYMOUS);
        protect(1, 1, prot);
        map(PAGE, prot, ANON | MAP_GROWSDOWN);
    }
    let heap = brk(0);
    brk(heap + 3 * PAGE);
    shared_in_other_ways();
    in_a_child(|| {
        map(PAGE, PROT_READ, ANON);
    });
    // A thread keeps its own.
    let thread = std::thread::spawn(|| {
        personality(0);
        map_at(30, 1, PROT_READ, ANON);
        protect(0, 1, PROT_READ);
        map_at(31, 1, RW, ANON);
    });
    thread.join().expect("it ends");
    map_at(40, 1, PROT_READ, ANON);
    personality(0xffff_ffff);
    become_program("place");
}

/// Attaches a segment, and maps shared memory in another order.
fn shared_in_other_ways() {
    let private = 0;
    let id = call(libc::SYS_shmget, [private, 2 * PAGE, 0o1700, 0, 0, 0]).cast_unsigned();
    for flags in [0, libc::SHM_RDONLY, libc::SHM_EXEC] {
        let flags = flags.unsigned_abs().into();
        call(libc::SYS_shmat, [id, 0, flags, 0, 0, 0]);
    }
    call(libc::SYS_shmctl, [id, 0, 0, 0, 0, 0]);
    map_at(50, 4, RW, MAP_SHARED | MAP_ANONYMOUS);
    call(
        libc::SYS_remap_file_pages,
        [ARENA + 50 * PAGE, PAGE, 0, 2, 0, 0],
    );
    protect(52, 1, PROT_READ);
    call(
        libc::SYS_remap_file_pages,
        [ARENA + 52 * PAGE, PAGE, 0, 1, 0, 0],
    );
}

fn no_exec_gain() {
    map_at(0, 1, RW | PROT_EXEC, ANON);
    map_at(2, 1, PROT_READ | PROT_EXEC, ANON);
    for bits in [2, 4, 1, 0, 3, 1] {
        prctl(PR_SET_MDWE, [bits, 0, 0, 0]);
    }
    for prot in [
        RW | PROT_EXEC,
        PROT_EXEC,
        PROT_READ | PROT_EXEC,
        RW,
        PROT_READ,
    ] {
        map_at(5, 1, prot, ANON);
        protect(0, 1, prot);
        protect(2, 1, prot);
    }
    personality(READ_IMPLIES_EXEC);
    map_at(7, 1, RW, ANON);
    map_at(7, 1, PROT_READ, ANON);
    let heap = brk(0);
    brk(heap + 3 * PAGE);
    shared_in_other_ways();
    personality(0);
    shared_in_other_ways();
    in_a_child(|| {
        assert!(map(PAGE, RW | PROT_EXEC, ANON) < 0);
    });
    in_a_child(|| become_program("place"));
    become_program("place");
}

fn memory_merge() {
    map_at(0, 3, RW, ANON);
    call(
        libc::SYS_madvise,
        [ARENA + PAGE, PAGE, MADV_MERGEABLE as u64, 0, 0, 0],
    );
    map_at(10, 1, RW, MAP_SHARED | MAP_ANONYMOUS);
    prctl(PR_SET_MEMORY_MERGE, [1, 0, 0, 0]);
    map_at(3, 1, RW, ANON);
    map_at(11, 1, RW, MAP_SHARED | MAP_ANONYMOUS);
    let zero = unsafe { libc::open(c"/dev/zero".as_ptr(), libc::O_RDWR) };
    for page in [20, 21] {
        let (at, fd) = (ARENA + page * PAGE, i64::from(zero).cast_unsigned());
        let offset = (page - 20) * PAGE;
        call(
            libc::SYS_mmap,
            [at, PAGE, RW, MAP_PRIVATE | MAP_FIXED, fd, offset],
        );
        call(
            libc::SYS_madvise,
            [at, PAGE, MADV_UNMERGEABLE as u64, 0, 0, 0],
        );
    }
    protect(1, 1, PROT_READ);
    let heap = brk(0);
    brk(heap + 3 * PAGE);
    in_a_child(|| {
        map(PAGE, RW, ANON);
        become_program("place");
    });
    prctl(PR_SET_MEMORY_MERGE, [0, 0, 0, 0]);
    prctl(PR_SET_MEMORY_MERGE, [0, 0, 0, 1]);
    map_at(4, 1, RW, ANON);
}

fn huge_pages_off() {
    for args in [
        [1, 0, 0, 0],
        [1, 2, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 0, 0],
        [7, 0, 0, 0],
    ] {
        prctl(PR_SET_THP_DISABLE, args);
    }
    place();
}

fn moved_heap() {
    let heap = brk(0);
    // Needs a privilege: refused without.
    prctl(PR_SET_MM, [PR_SET_MM_BRK, heap, 0, 0]);
    prctl(PR_SET_MM, [PR_SET_MM_BRK, 1, 0, 0]);
    let low = 0x10_0000;
    let set = |start_brk: u64, brk: u64, start_stack: u64| {
        // struct prctl_mm_map: eleven addresses, an auxiliary vector, its size and a file.
        let addresses = [
            low,
            low + 5000,
            low,
            low,
            start_brk,
            brk,
            start_stack,
            low,
            low,
            low,
            low,
        ];
        let mut words = [0_u64; 13];
        words[..11].copy_from_slice(&addresses);
        words[12] = u64::from(u32::MAX) << 32;
        let at = words.as_ptr().expose_provenance() as u64;
        prctl(
            PR_SET_MM,
            [PR_SET_MM_MAP, at, size_of_val(&words) as u64, 0],
        )
    };
    assert_eq!(set(ARENA, ARENA + 100, ARENA + 4 * PAGE), 0);
    assert!(set(ARENA, ARENA - 1, ARENA) < 0);
    map_at(4, 1, RW, ANON);
    brk(ARENA + 2 * PAGE);
    brk(ARENA + 3 * PAGE);
    brk(ARENA + PAGE);
    in_a_child(|| {
        brk(ARENA + 2 * PAGE);
    });
    set(heap, heap, ARENA);
    brk(heap + PAGE);
}

fn upward_layout() {
    personality(ADDR_COMPAT_LAYOUT);
    become_program("place");
}

fn upward_and_fixed_layout() {
    personality(ADDR_COMPAT_LAYOUT | ADDR_NO_RANDOMIZE);
    become_program("place");
}

fn page_zero() {
    personality(MMAP_PAGE_ZERO);
    become_program("place");
}

fn lists_of_advice() {
    const SELF: i64 = -10_000;
    let us = call(libc::SYS_getpid, [0; 6]).cast_unsigned();
    let pidfd = call(libc::SYS_pidfd_open, [us, 0, 0, 0, 0, 0]);
    map_at(0, 8, RW, ANON);
    map_at(10, 8, RW, ANON);
    let at = |page: u64, len: u64| [ARENA + page * PAGE, len];
    let lists: [&[[u64; 2]]; 10] = [
        &[],
        &[at(0, PAGE)],
        &[at(0, 1), at(12, PAGE + 1), at(3, 0), at(5, PAGE)],
        &[at(7, 2 * PAGE)],
        &[at(1, PAGE), at(8, PAGE), at(2, PAGE)],
        &[at(0, 0)],
        &[[1, 0]],
        &[[ARENA + 1, PAGE]],
        &[at(0, u64::MAX)],
        &[at(2, PAGE), [u64::MAX - PAGE, PAGE]],
    ];
    for fd in [pidfd, SELF, -1, 0] {
        for advice in [0_u64, 4, 8, 10, 11, 14, 15, 16, 17, 20, 23, 102, 103, 5] {
            for list in lists {
                let vector = list.as_ptr().expose_provenance() as u64;
                let count = list.len() as u64;
                let args = [fd.cast_unsigned(), vector, count, advice, 0, 0];
                call(libc::SYS_process_madvise, args);
            }
        }
    }
    call(
        libc::SYS_process_madvise,
        [SELF.cast_unsigned(), 8, 1, 4, 0, 0],
    );
    call(
        libc::SYS_process_madvise,
        [SELF.cast_unsigned(), 8, 0, 4, 1, 0],
    );
    in_a_child(|| {
        let parent = call(libc::SYS_getppid, [0; 6]).cast_unsigned();
        let pidfd = call(libc::SYS_pidfd_open, [parent, 0, 0, 0, 0, 0]).cast_unsigned();
        for advice in [4, 10, 20, 21] {
            let range = [ARENA, PAGE];
            let vector = range.as_ptr().expose_provenance() as u64;
            call(libc::SYS_process_madvise, [pidfd, vector, 1, advice, 0, 0]);
        }
    });
}

/// Sets a soft limit, of a process or (0) this one.
fn limit(pid: i64, resource: u32, soft: u64) {
    let new = [soft, u64::MAX];
    let at = new.as_ptr().expose_provenance() as u64;
    let args = [pid.cast_unsigned(), resource.into(), at, 0, 0, 0];
    call(libc::SYS_prlimit64, args);
}

fn mapped() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages = text
        .split(' ')
        .next()
        .and_then(|word| word.parse::<u64>().ok());
    pages.expect("a number") * PAGE
}

fn limits_on_the_way() {
    let tries = || {
        for pages in [1, 3, 4, 5, 9] {
            map_at(0, pages, RW, ANON);
            map_at(20, pages, RW, ANON | MAP_GROWSDOWN);
            map_at(40, pages, PROT_READ, ANON);
            protect(40, pages, RW);
            call(libc::SYS_mlock, [ARENA, pages * PAGE, 0, 0, 0, 0]);
            call(libc::SYS_munlock, [ARENA, pages * PAGE, 0, 0, 0, 0]);
            brk(brk(0) + pages * PAGE);
        }
        for page in [0, 20, 40] {
            call(
                libc::SYS_munmap,
                [ARENA + page * PAGE, 9 * PAGE, 0, 0, 0, 0],
            );
        }
    };
    tries();
    let all = mapped();
    for more in [0, 4 * PAGE, 5 * PAGE - 1] {
        limit(0, libc::RLIMIT_AS, all + more);
        tries();
    }
    limit(0, libc::RLIMIT_AS, u64::MAX);
    for data in [0, 4 * PAGE, all] {
        limit(0, libc::RLIMIT_DATA, data);
        tries();
    }
    limit(0, libc::RLIMIT_DATA, u64::MAX);
    for locked in [0, 4 * PAGE, 4 * PAGE + 1] {
        limit(0, libc::RLIMIT_MEMLOCK, locked);
        tries();
    }
    // The old call, and a limit set by another process.
    let stack = [1_u64 << 20, u64::MAX];
    let at = stack.as_ptr().expose_provenance() as u64;
    call(
        libc::SYS_setrlimit,
        [libc::RLIMIT_STACK.into(), at, 0, 0, 0, 0],
    );
    in_a_child(|| {
        let parent = call(libc::SYS_getppid, [0; 6]);
        limit(parent, libc::RLIMIT_AS, 1 << 20);
    });
    map_at(0, 1, RW, ANON);
    limit(0, libc::RLIMIT_AS, u64::MAX);
    map_at(0, 1, RW, ANON);
}

extern "C" fn limited_sharer(_: *mut libc::c_void) -> libc::c_int {
    limit(0, libc::RLIMIT_AS, 1 << 20);
    map_at(0, 1, RW, ANON);
    0
}

/// A process that shares the address space has limits of its own.
fn limits_of_a_sharer() {
    let mut stack = vec![0_u8; 256 << 10];
    let top = stack.as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let child = unsafe { libc::clone(limited_sharer, top.cast(), flags, std::ptr::null_mut()) };
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    map_at(1, 1, RW, ANON);
    assert!(mapped() > 1 << 20);
}

extern "C" fn advising_sharer(_: *mut libc::c_void) -> libc::c_int {
    let parent = call(libc::SYS_getppid, [0; 6]).cast_unsigned();
    let pidfd = call(libc::SYS_pidfd_open, [parent, 0, 0, 0, 0, 0]).cast_unsigned();
    let range = [ARENA + 2 * PAGE, 2 * PAGE];
    let vector = range.as_ptr().expose_provenance() as u64;
    const DONTFORK: u64 = 10;
    let args = [pidfd, vector, 1, DONTFORK, 0, 0];
    assert_eq!(
        call(libc::SYS_process_madvise, args),
        2 * PAGE.cast_signed()
    );
    0
}

/// A process that shares the address space may advise its maker of everything: it is its own.
fn advice_of_a_sharer() {
    map_at(0, 8, RW, ANON);
    let mut stack = vec![0_u8; 256 << 10];
    let top = stack.as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let child = unsafe { libc::clone(advising_sharer, top.cast(), flags, std::ptr::null_mut()) };
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    call(libc::SYS_munmap, [ARENA, PAGE, 0, 0, 0, 0]);
}

/// Writes to the stack 3 MiB below.
#[inline(never)]
fn use_a_deep_stack() {
    let mut deep = [0_u8; 3 << 20];
    std::hint::black_box(&mut deep);
}

/// What has grown stays, whatever the limit is later: in a child and in another program, too, and
/// where another process sets the limit.
fn a_stack_grew_before_its_limit_was_lowered() {
    in_a_child(|| {
        use_a_deep_stack();
        limit(0, libc::RLIMIT_STACK, 1 << 20);
        map(PAGE, RW, ANON);
        in_a_child(|| _ = map(PAGE, RW, ANON));
        become_program("limits_of_a_sharer");
    });
    use_a_deep_stack();
    in_a_child(|| limit(call(libc::SYS_getppid, [0; 6]), libc::RLIMIT_STACK, 1 << 20));
    map(PAGE, RW, ANON);
}
