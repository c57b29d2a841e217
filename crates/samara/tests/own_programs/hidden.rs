//! Programs in which calls depend on what no line of `/proc` says outright: rights given up or
//! taken back between calls, markers in the place of pages.

use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicI32, Ordering};

use libc::{MAP_FIXED, PROT_NONE, PROT_READ, PROT_WRITE, c_int};

use super::kinds::{UNWATCH, WATCH, userfaultfd};
use super::{
    ANON, PAGE, Program, RW, advise, in_child, map, map_at, page, protect, remap, unmap, write,
};

pub(super) const PROGRAMS: &[Program] = &[
    (
        "rights_given_up_count_from_the_next_call_on",
        rights_given_up_count_from_the_next_call_on,
    ),
    (
        "what_a_refused_call_splits_was_written",
        what_a_refused_call_splits_was_written,
    ),
    (
        "a_stack_that_joins_another_has_not_grown",
        a_stack_that_joins_another_has_not_grown,
    ),
    (
        "a_childs_watch_is_its_parents",
        a_childs_watch_is_its_parents,
    ),
    (
        "a_childs_watch_beside_its_parents_calls",
        a_childs_watch_beside_its_parents_calls,
    ),
    (
        "what_is_no_longer_watched_merges_as_it_was_written",
        what_is_no_longer_watched_merges_as_it_was_written,
    ),
    (
        "neighbours_were_written_in_any_order",
        neighbours_were_written_in_any_order,
    ),
    (
        "memory_outlives_the_task_that_it_began_with",
        memory_outlives_the_task_that_it_began_with,
    ),
    (
        "memory_outlives_the_program_that_it_began_with",
        memory_outlives_the_program_that_it_began_with,
    ),
    (
        "calls_of_killed_tasks_have_no_outcome",
        calls_of_killed_tasks_have_no_outcome,
    ),
    (
        "shared_memory_is_made_by_a_call_that_nobody_returns_from",
        shared_memory_is_made_by_a_call_that_nobody_returns_from,
    ),
    (
        "nobody_waits_for_the_child_of_a_killed_task",
        nobody_waits_for_the_child_of_a_killed_task,
    ),
    ("a_ring_gives_advice", a_ring_gives_advice),
    ("a_listener_lets_calls_pass", a_listener_lets_calls_pass),
    (
        "moved_pages_were_written_where_they_were",
        moved_pages_were_written_where_they_were,
    ),
    (KILLED_AS_THEY_BEGIN, programs_are_killed_as_they_begin),
    ("secret_memory", secret_memory),
    (
        "writes_beside_calls_are_counted_where_they_matter",
        writes_beside_calls_are_counted_where_they_matter,
    ),
    (
        "writes_whose_page_a_call_takes_away_are_counted",
        writes_whose_page_a_call_takes_away_are_counted,
    ),
    (
        "promises_of_writes_that_nobody_saw_are_counted",
        promises_of_writes_that_nobody_saw_are_counted,
    ),
];

const KILLED_AS_THEY_BEGIN: &str = "programs_are_killed_as_they_begin";

/// The last two of three pages share an anon_vma that the first does not: they were written from
/// both ends, and nobody looked meanwhile.
fn neighbours_were_written_in_any_order() {
    let at = map(3 * PAGE, RW, ANON);
    protect(page(at, 1), PAGE, PROT_WRITE);
    for number in [0, 2, 1] {
        write(page(at, number));
    }
    protect(page(at, 1), PAGE, RW);
    protect(at, PAGE, PROT_READ);
    protect(at, PAGE, RW);
    unmap(at, 3 * PAGE);
}

/// A process that shares all memory goes on when the first one has ended.
fn memory_outlives_the_task_that_it_began_with() {
    extern "C" fn go_on(_: *mut libc::c_void) -> c_int {
        let tracer_or_init = unsafe { libc::getppid() };
        for _ in 0..200 {
            unsafe { libc::usleep(5000) };
            if unsafe { libc::getppid() } != tracer_or_init {
                break;
            }
        }
        unsafe { libc::usleep(20_000) };
        make_some_calls();
        unsafe { libc::_exit(0) }
    }
    share_memory(go_on);
    unsafe { libc::_exit(0) }
}

/// A process that shares all memory goes on with it when the first one runs another program.
fn memory_outlives_the_program_that_it_began_with() {
    extern "C" fn go_on(_: *mut libc::c_void) -> c_int {
        for _ in 0..20 {
            make_some_calls();
            unsafe { libc::usleep(1000) };
        }
        limit_locks(4);
        let at = map(8 * PAGE, RW, ANON);
        unsafe { libc::mlock(at.cast(), 8 * PAGE) };
        unsafe { libc::_exit(0) }
    }
    share_memory(go_on);
    let arguments = [c"true".as_ptr(), std::ptr::null()];
    unsafe { libc::usleep(3000) };
    unsafe { libc::execv(c"/bin/true".as_ptr(), arguments.as_ptr()) };
}

/// Has a process run `go_on` that shares all memory.
fn share_memory(go_on: extern "C" fn(*mut libc::c_void) -> c_int) {
    let stack = map(64 * PAGE, RW, ANON);
    let flags = libc::CLONE_VM | libc::SIGCHLD;
    let top = page(stack, 64).cast();
    unsafe { libc::clone(go_on, top, flags, std::ptr::null_mut()) };
}

fn make_some_calls() {
    let at = map(4 * PAGE, RW, ANON);
    for number in 0..4 {
        write(page(at, number));
        protect(page(at, number), PAGE, PROT_READ);
    }
    unmap(at, 4 * PAGE);
}

/// Makes calls until somebody kills it; the text of its mappings takes more than one read.
extern "C" fn make_calls(_: *mut libc::c_void) -> c_int {
    for number in 0..120 {
        map(PAGE, if number % 2 == 0 { RW } else { PROT_READ }, ANON);
    }
    loop {
        let at = map(4 * PAGE, RW, ANON);
        write(at);
        protect(at, PAGE, PROT_READ);
        unmap(at, 4 * PAGE);
    }
}

/// Tasks are killed at any moment of their calls: processes with memory of their own, a thread with
/// all others, and a process that shares its memory with one that goes on.
fn calls_of_killed_tasks_have_no_outcome() {
    let nothing = std::ptr::null_mut();
    for round in 0..60_u32 {
        let kind = round % 3;
        let flags = if kind == 2 { libc::CLONE_VM } else { 0 } | libc::SIGCHLD;
        let stack = map(64 * PAGE, RW, ANON);
        let call = if kind == 1 {
            make_calls_beside
        } else {
            make_calls
        };
        let pid = unsafe { libc::clone(call, page(stack, 64).cast(), flags, nothing) };
        unsafe {
            libc::usleep(500 + 977 * round % 12_000);
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL);
        }
        unmap(stack, 64 * PAGE);
    }
}

fn new_ring(words: &mut [u32; 30]) -> c_int {
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, words.as_mut_ptr()) };
    ring as c_int
}

/// An `io_uring` carries out `madvise`, and nobody stops at that.
fn a_ring_gives_advice() {
    const MADVISE: u32 = 25;
    const ENTRIES: libc::off_t = 0x1000_0000;
    let mut words = [0; 30];
    let ring = new_ring(&mut words);
    if ring < 0 {
        return;
    }
    // Where the tail of the queue is, and its list of entries.
    let (tail, list) = (words[11] as usize / 4, words[16] as usize / 4);
    let shared = |offset| unsafe {
        let flags = libc::MAP_SHARED;
        libc::mmap(std::ptr::null_mut(), PAGE, RW, flags, ring, offset)
    };
    let (queue, entries) = (shared(0).cast::<u32>(), shared(ENTRIES).cast::<u32>());
    let advised = map(8 * PAGE, RW, ANON);
    let addr = page(advised, 2).addr() as u64;
    let entry = [
        (0, MADVISE),
        (4, addr as u32),
        (5, (addr >> 32) as u32),
        (6, 2 * PAGE as u32),
        (7, libc::MADV_DONTFORK as u32),
    ];
    for (place, word) in entry {
        unsafe { entries.add(place).write_volatile(word) };
    }
    unsafe { queue.add(list).write_volatile(0) };
    unsafe { queue.add(tail).write_volatile(1) };
    const GET_EVENTS: c_int = 1;
    unsafe { libc::syscall(libc::SYS_io_uring_enter, ring, 1, 1, GET_EVENTS, 0, 0) };
    unmap(advised, PAGE);
    unsafe { libc::close(ring) };
}

/// Who listens to a filter is asked before the tracer, which then does not see the call.
fn a_listener_lets_calls_pass() {
    static LISTENER: AtomicI32 = AtomicI32::new(-1);
    const RECEIVE: libc::Ioctl = 0xc050_2100;
    const SEND: libc::Ioctl = 0xc018_2101;
    std::thread::spawn(|| {
        loop {
            let listener = LISTENER.load(Ordering::Relaxed);
            let mut asked = [0_u64; 10];
            if unsafe { libc::ioctl(listener, RECEIVE, asked.as_mut_ptr()) } != 0 {
                std::thread::yield_now();
                continue;
            }
            let mut answer = [asked[0], 0, 1 << 32];
            unsafe { libc::ioctl(listener, SEND, answer.as_mut_ptr()) };
        }
    });
    let step = |code: u32, skip: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: skip,
        k,
    };
    let answer = libc::BPF_RET | libc::BPF_K;
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            1,
            libc::SYS_munmap as u32,
        ),
        step(answer, 0, libc::SECCOMP_RET_USER_NOTIF),
        step(answer, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    let room = map(4 * PAGE, RW, ANON);
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    let (install, flags) = (
        libc::SECCOMP_SET_MODE_FILTER,
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
    );
    let listener = unsafe { libc::syscall(libc::SYS_seccomp, install, flags, &raw const program) };
    LISTENER.store(listener as c_int, Ordering::Relaxed);
    unmap(page(room, 1), PAGE);
    map(PAGE, PROT_READ, ANON);
}

/// `UFFDIO_MOVE` leaves nothing where the pages were, which merges as written memory all the same.
fn moved_pages_were_written_where_they_were() {
    const UFFDIO_MOVE: libc::Ioctl = 0xc028_aa05;
    const MISSING: u64 = 1;
    let watcher = userfaultfd(1 << 16);
    if watcher < 0 {
        return;
    }
    let room = map(64 * PAGE, PROT_NONE, ANON);
    let from = map_at(page(room, 8), 2 * PAGE, RW);
    let to = map_at(page(room, 32), 2 * PAGE, RW);
    let len = 2 * PAGE as u64;
    let mut watch = [to.addr() as u64, len, MISSING, 0];
    unsafe { libc::ioctl(watcher, WATCH, watch.as_mut_ptr()) };
    write(from);
    write(page(from, 1));
    let mut what = [to.addr() as u64, from.addr() as u64, len, 0, 0];
    unsafe { libc::ioctl(watcher, UFFDIO_MOVE, what.as_mut_ptr()) };
    protect(from, 2 * PAGE, PROT_READ);
    map_at(page(from, 2), PAGE, PROT_READ);
    protect(to, 2 * PAGE, PROT_READ);
    map_at(page(to, 2), PAGE, PROT_READ);
}

/// A program that is killed as it begins has done nothing yet, and is not what ran before.
fn programs_are_killed_as_they_begin() {
    const ON: &str = "on";
    let us = std::env::current_exe().expect("a path");
    let again = || {
        std::process::Command::new(&us)
            .args([KILLED_AS_THEY_BEGIN, ON])
            .exec()
    };
    if std::env::args().nth(2).as_deref() == Some(ON) {
        panic!("{}", again());
    }
    for round in 0..80_u32 {
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            panic!("{}", again());
        }
        unsafe {
            libc::usleep(500 + 1237 * round % 20_000);
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
    }
}

fn fork_on() -> ! {
    loop {
        in_child(|| _ = map(PAGE, RW, ANON));
    }
}

/// A task with a fatal signal pending does not announce the child that it has just made: `SIGKILL`
/// from outside, and the end of the process by another thread.
fn nobody_waits_for_the_child_of_a_killed_task() {
    for round in 0..60_u32 {
        let pause = 1000 + 977 * round % 5000;
        let pid = unsafe { libc::fork() };
        match (pid, round % 2) {
            (0, 0) => fork_on(),
            (0, _) => {
                std::thread::spawn(|| fork_on());
                unsafe { libc::usleep(pause) };
                unsafe { libc::_exit(0) };
            }
            (_, 0) => {
                unsafe { libc::usleep(pause) };
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            _ => {}
        }
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    }
}

/// A process is killed while it brings in memory that it has mapped, and ends with it.
fn shared_memory_is_made_by_a_call_that_nobody_returns_from() {
    const BYTES: usize = 96 << 20;
    for round in 0..8_u32 {
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            map(
                BYTES,
                RW,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
            );
            unsafe { libc::pause() };
        }
        unsafe {
            libc::usleep(3000 + 3000 * round);
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
    }
}

extern "C" fn make_calls_beside(nothing: *mut libc::c_void) -> c_int {
    let thread = std::thread::spawn(|| make_calls(std::ptr::null_mut()));
    make_calls(nothing);
    thread.join().expect("it does not end")
}

fn limit_locks(pages: usize) {
    let bytes = (pages * PAGE) as libc::rlim_t;
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
}

/// Goes on as a user without rights; one that has none goes on as it is. With `saved` as the saved
/// user the rights can be taken back.
fn give_up_rights(saved: libc::uid_t) {
    const NOBODY: libc::uid_t = 65_534;
    unsafe { libc::setresuid(NOBODY, NOBODY, saved) };
}

/// What is locked may exceed its limit with a right only, which a program can give up without a
/// call on memory; it counts from the next one on, whichever that is.
pub(super) fn rights_given_up_count_from_the_next_call_on() {
    const NOBODY: libc::uid_t = 65_534;
    let lock_all = || unsafe { libc::mlockall(libc::MCL_FUTURE) };
    let brk = |by: usize| unsafe {
        let now = libc::syscall(libc::SYS_brk, 0) as usize;
        libc::syscall(libc::SYS_brk, now + by * PAGE);
    };
    let segment = unsafe { libc::shmget(libc::IPC_PRIVATE, 200 * PAGE, 0o666) };
    let low = 0x1000 as *mut u8;
    let calls: [&dyn Fn(*mut u8); 6] = [
        &|_| _ = map(200 * PAGE, RW, ANON),
        &|_| brk(200),
        &|_| _ = unsafe { libc::shmat(segment, std::ptr::null(), 0) },
        &|_| _ = map_at(low, PAGE, RW),
        &|locked| _ = remap(locked, 40 * PAGE, 150 * PAGE, libc::MREMAP_MAYMOVE, low),
        &|locked| {
            let fixed = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            remap(locked, PAGE, PAGE, fixed, low);
        },
    ];
    for call in calls {
        in_child(|| {
            limit_locks(100);
            let locked = map(40 * PAGE, RW, ANON);
            unsafe { libc::mlock(locked.cast(), 40 * PAGE) };
            lock_all();
            give_up_rights(NOBODY);
            call(locked);
        });
    }
    unsafe { libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut()) };
    in_child(|| {
        limit_locks(100);
        let stack = page(map(300 * PAGE, PROT_NONE, ANON), 290);
        let flags = ANON | MAP_FIXED | libc::MAP_GROWSDOWN | libc::MAP_LOCKED;
        unsafe { libc::mmap(stack.cast(), 2 * PAGE, RW, flags, -1, 0) };
        give_up_rights(0);
        map(200 * PAGE, RW, ANON | libc::MAP_LOCKED);
        unsafe { libc::setresuid(NOBODY, 0, 0) };
        unmap(stack.wrapping_sub(200 * PAGE), 199 * PAGE);
        write(stack.wrapping_sub(150 * PAGE));
    });
}

/// What a refused call was to replace is split all the same, and both parts were written before.
pub(super) fn what_a_refused_call_splits_was_written() {
    let segment = unsafe { libc::shmget(libc::IPC_PRIVATE, 5 * PAGE, 0o600) };
    let replacing: [&dyn Fn(*mut u8); 3] = [
        &|at| _ = map_at(at, 5 * PAGE, RW),
        &|at| {
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            remap(map(5 * PAGE, RW, ANON), 5 * PAGE, 5 * PAGE, flags, at);
        },
        &|at| _ = unsafe { libc::shmat(segment, at.cast(), libc::SHM_REMAP) },
    ];
    for replace in replacing {
        in_child(|| {
            let room = map(16 * PAGE, PROT_NONE, ANON);
            let written = map_at(page(room, 2), 4 * PAGE, RW);
            write(page(written, 1));
            unsafe { libc::syscall(libc::SYS_mseal, page(room, 8), PAGE, 0) };
            replace(page(written, 2));
            protect(page(written, 2), PAGE, PROT_READ);
        });
    }
    unsafe { libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut()) };
}

/// A stack that begins lower because it has joined what lay below has not grown, so nothing of it was
/// written.
pub(super) fn a_stack_that_joins_another_has_not_grown() {
    let stack_at = |at: *mut u8, pages: usize| unsafe {
        let flags = ANON | MAP_FIXED | libc::MAP_GROWSDOWN;
        libc::mmap(at.cast(), pages * PAGE, RW, flags, -1, 0)
    };
    let room = map(64 * PAGE, PROT_NONE, ANON);
    let watched = page(room, 10);
    stack_at(watched, 6);
    let watcher = userfaultfd(0);
    let mut words = [watched.addr() as u64, 3 * PAGE as u64, 2, 0];
    unsafe { libc::ioctl(watcher, WATCH, words.as_mut_ptr()) };
    unsafe { libc::close(watcher) };
    protect(page(watched, 1), 4 * PAGE, PROT_READ);
    let written = page(room, 30);
    stack_at(written, 6);
    write(page(written, 4));
    protect(written, 3 * PAGE, PROT_NONE);
    in_child(|| _ = protect(written, 3 * PAGE, RW));
}

/// A userfaultfd watches the memory of the process that made it, whoever uses it.
pub(super) fn a_childs_watch_is_its_parents() {
    const WP: u64 = 2;
    let watcher = userfaultfd(0);
    if watcher < 0 {
        return;
    }
    let ask = |request: libc::Ioctl, at: *mut u8, pages: usize| unsafe {
        let mut words = [at.addr() as u64, (pages * PAGE) as u64, WP, 0];
        libc::ioctl(watcher, request, words.as_mut_ptr())
    };
    let room = map_at(page(map(16 * PAGE, PROT_NONE, ANON), 4), 8 * PAGE, RW);
    in_child(|| {
        ask(WATCH, page(room, 2), 2);
        map(PAGE, RW, ANON);
    });
    ask(WATCH, page(room, 4), 2);
    protect(page(room, 3), 2 * PAGE, PROT_READ);
    protect(page(room, 3), 2 * PAGE, RW);
    in_child(|| _ = ask(UNWATCH, page(room, 5), 1));
    unsafe { libc::close(watcher) };
    map(PAGE, PROT_READ, ANON);
}

/// Nobody can tell which of two came first, where a child has its parent's memory watched during the
/// parent's calls.
pub(super) fn a_childs_watch_beside_its_parents_calls() {
    const MISSING: u64 = 1;
    let watcher = userfaultfd(0);
    if watcher < 0 {
        return;
    }
    let room = map(32 * PAGE, RW, ANON);
    let ask = |request: libc::Ioctl| unsafe {
        let mut words = [page(room, 4).addr() as u64, 4 * PAGE as u64, MISSING, 0];
        libc::ioctl(watcher, request, words.as_mut_ptr())
    };
    let child = unsafe { libc::fork() };
    for _ in 0..100 {
        if child == 0 {
            ask(WATCH);
            ask(UNWATCH);
        } else {
            protect(page(room, 16), 4 * PAGE, PROT_READ);
            protect(page(room, 16), 4 * PAGE, RW);
        }
    }
    if child == 0 {
        unsafe { libc::_exit(0) };
    }
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    map(PAGE, PROT_READ, ANON);
}

/// Whether this is what a verdict may say of what is not modelled in the program `name`.
pub(super) fn is_expected(name: &str, passed_over: &str) -> bool {
    let secret = || unsafe { libc::syscall(libc::SYS_memfd_secret, 0) } != -1;
    match name {
        // Where the child was not there yet when its maker ended.
        "nobody_waits_for_the_child_of_a_killed_task" => {
            passed_over == "none" || passed_over.starts_with("a child that was not announced ")
        }
        "a_ring_gives_advice" => {
            let ring = new_ring(&mut [0; 30]);
            let expected = "io_uring_setup 1, mmap of a special file 2, \
                            what an io_uring may have done 1";
            passed_over == if ring < 0 { "none" } else { expected }
        }
        "a_listener_lets_calls_pass" => {
            passed_over.starts_with("seccomp(SECCOMP_FILTER_FLAG_NEW_LISTENER) 1, what a seccomp ")
        }
        "a_childs_watch_beside_its_parents_calls" => {
            let is_known = |part: &str| {
                part.starts_with("ioctl(userfaultfd) for another process ")
                    || part.starts_with("a call beside ioctl(userfaultfd) of another process ")
            };
            passed_over == "none" || passed_over.split(", ").all(is_known)
        }
        "secret_memory" if secret() => passed_over == "mmap of a memfd_secret file 1",
        "writes_beside_calls_are_counted_where_they_matter"
        | "writes_whose_page_a_call_takes_away_are_counted"
        | "promises_of_writes_that_nobody_saw_are_counted" => {
            let count =
                passed_over.strip_prefix("a thread that wrote while another was in a call ");
            passed_over == "none" || count.is_some_and(|count| count.parse::<u32>().is_ok())
        }
        _ => passed_over == "none",
    }
}

/// Nobody can tell whether a thread wrote before or after another's call has split what it wrote to.
pub(super) fn writes_beside_calls_are_counted_where_they_matter() {
    let churn = || {
        for round in 0..200 {
            let len = (1 + round % 9) * PAGE;
            let at = map(len, RW, ANON);
            write(at);
            protect(at, PAGE, PROT_READ);
            if round % 3 != 0 {
                unmap(at, PAGE);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(churn);
        scope.spawn(churn);
    });
}

/// What was watched merges with what is beside it as written memory does.
pub(super) fn what_is_no_longer_watched_merges_as_it_was_written() {
    for (is_closed_first, pages) in [
        (false, [1, 5]),
        (true, [1, 5]),
        (false, [3, 3]),
        (true, [3, 3]),
    ] {
        let room = map_at(page(map(16 * PAGE, PROT_NONE, ANON), 4), 6 * PAGE, RW);
        let watcher = userfaultfd(0);
        let mut words = [page(room, 2).addr() as u64, 2 * PAGE as u64, 2, 0];
        unsafe { libc::ioctl(watcher, WATCH, words.as_mut_ptr()) };
        if is_closed_first {
            unsafe { libc::close(watcher) };
        }
        for number in pages {
            write(page(room, number));
        }
        unsafe { libc::close(watcher) };
        map(PAGE, PROT_READ, ANON);
        protect(page(room, 4), PAGE, PROT_READ);
    }
}

/// Secret memory is locked and never dumped without being asked to.
pub(super) fn secret_memory() {
    let file = unsafe { libc::syscall(libc::SYS_memfd_secret, 0) } as c_int;
    unsafe { libc::ftruncate(file, 8 * PAGE as i64) };
    super::map_file(file, 8 * PAGE, RW, libc::MAP_SHARED, 0);
    map(2 * PAGE, RW, ANON);
}

/// A write that falls between the tracer's look and the work of a call that takes its page away is
/// seen by nobody, but the mapping joins others by it later, or not.
pub(super) fn writes_whose_page_a_call_takes_away_are_counted() {
    const ROUNDS: i32 = 300;
    let (turn, done) = (&AtomicI32::new(0), &AtomicI32::new(0));
    let room = map(32 * PAGE, PROT_NONE, ANON);
    let at = |number: usize| page(room, number);
    let written = at(12).addr();
    let wait = |word: &AtomicI32, round: i32| {
        while word.load(Ordering::Acquire) != round {
            std::hint::spin_loop();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for round in 1..=ROUNDS {
                wait(turn, round);
                for _ in 0..round * 7919 % 60_000 {
                    std::hint::spin_loop();
                }
                write(std::ptr::with_exposed_provenance_mut(written));
                done.store(round, Ordering::Release);
            }
        });
        at(12).expose_provenance();
        for round in 1..=ROUNDS {
            map_at(at(0), 4 * PAGE, RW);
            write(at(0));
            map_at(at(6), 10 * PAGE, RW);
            turn.store(round, Ordering::Release);
            advise(at(12), PAGE, libc::MADV_DONTNEED);
            wait(done, round);
            advise(at(12), PAGE, libc::MADV_DONTNEED);
            map_at(at(4), 2 * PAGE, RW);
            map_at(at(0), 16 * PAGE, PROT_NONE);
        }
    });
}

/// Nor does anybody see by such a write whether memory that may not be written any more is still
/// promised: `smaps` tells at the end.
pub(super) fn promises_of_writes_that_nobody_saw_are_counted() {
    const ROUNDS: usize = 60;
    let (turn, done) = (&AtomicI32::new(0), &AtomicI32::new(0));
    let room = map(2 * ROUNDS * PAGE, PROT_NONE, ANON);
    let wait = |word: &AtomicI32, round: i32| {
        while word.load(Ordering::Acquire) != round {
            std::hint::spin_loop();
        }
    };
    let first = room.expose_provenance();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for round in 1..ROUNDS {
                wait(turn, round as i32);
                for _ in 0..round * 7919 % 60_000 {
                    std::hint::spin_loop();
                }
                write(std::ptr::with_exposed_provenance_mut(
                    first + 2 * round * PAGE,
                ));
                done.store(round as i32, Ordering::Release);
            }
        });
        for round in 1..ROUNDS {
            let at = map_at(page(room, 2 * round), PAGE, RW);
            turn.store(round as i32, Ordering::Release);
            advise(at, PAGE, libc::MADV_DONTNEED);
            wait(done, round as i32);
            advise(at, PAGE, libc::MADV_DONTNEED);
            protect(at, PAGE, PROT_READ);
        }
    });
}
