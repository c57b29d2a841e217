//! Joins programs of our own that run already, and lets them go: `samara trace --pid`.
//!
//! This file is both: run without arguments it is the test; run with a name it is that program,
//! which goes on until its input ends, checks its own work and says by its status how that went.
//! Each is joined several times; every time must end identical, with nothing unmodelled, and the
//! program must not notice.

#![expect(unsafe_code, reason = "the joined programs make raw memory calls")]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "they map and unmap only what they made"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a joined program is one such block"
)]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libc::{MAP_ANONYMOUS, MAP_PRIVATE, PROT_NONE, PROT_READ, PROT_WRITE, c_int};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PAGE: usize = 4096;
const RW: c_int = PROT_READ | PROT_WRITE;

type Program = (&'static str, fn());

const PROGRAMS: &[Program] = &[
    ("busy_threads", busy_threads),
    ("a_past_of_merges", a_past_of_merges),
    ("a_heap_within_a_page", a_heap_within_a_page),
    ("a_child_without_exec", a_child_without_exec),
    ("forking", forking),
    ("waiting", waiting),
    (SELDOM_CALLS, a_parent_in_vfork),
    ("files_of_before", files_of_before),
    ("devices_of_before", devices_of_before),
    (FIRST_THREAD_GONE, first_thread_gone),
];

/// Those whose calls depend on what they did before.
const HAVE_A_PAST: [&str; 2] = ["a_past_of_merges", "a_heap_within_a_page"];

const SELDOM_CALLS: &str = "a_parent_in_vfork";

/// That one cannot be joined.
const FIRST_THREAD_GONE: &str = "first_thread_gone";

/// Set when the program is to end.
static IS_OVER: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().unwrap_or_default();
    if let Some((_, program)) = PROGRAMS.iter().find(|(name, _)| *name == first) {
        thread::spawn(|| {
            let mut rest = Vec::new();
            let _ = std::io::stdin().read_to_end(&mut rest);
            IS_OVER.store(true, Ordering::Relaxed);
        });
        program();
        return ExitCode::SUCCESS;
    }
    let chosen = |name: &str| first.is_empty() || first.starts_with('-') || name.contains(&first);
    let mut failed = Vec::new();
    for (name, _) in PROGRAMS {
        if chosen(name) && *name != FIRST_THREAD_GONE && !report(name, &is_joined_unharmed(name)) {
            failed.push(*name);
        }
    }
    for (name, check) in [
        (
            "a_stopped_program_stays_stopped",
            stays_stopped as fn() -> _,
        ),
        ("nobody_is_kept_when_samara_is_killed", survives_our_death),
        ("who_cannot_be_joined_is_named", refuses),
    ] {
        if chosen(name) && !report(name, &check()) {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}

fn report(name: &str, outcome: &Result<(), String>) -> bool {
    let word = if outcome.is_ok() { "ok" } else { "FAILED" };
    println!("joined program {name} ... {word}");
    if let Err(why) = outcome {
        println!("{why}");
    }
    outcome.is_ok()
}

/// A program that runs, and has come to the place where it goes round.
struct Running(Child);

impl Running {
    fn start(name: &str) -> Self {
        let us = std::env::current_exe().expect("a test binary has a path");
        let mut child = Command::new(us)
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut ready = [0; 6];
        let out = child.stdout.as_mut().expect("piped");
        out.read_exact(&mut ready).expect("the program is ready");
        Self(child)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }

    /// Ends its input and waits for its own verdict.
    fn end(mut self) -> Result<(), String> {
        drop(self.0.stdin.take());
        let status = self.0.wait().map_err(|error| error.to_string())?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the program ended with {status}"))
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Joins the process and waits until it is traced.
fn join(pid: Pid) -> Result<Child, String> {
    let samara = Command::new(env!("CARGO_BIN_EXE_samara"))
        .args(["trace", "--pid", &pid.to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let us = format!("TracerPid:\t{}\n", samara.id());
    wait_for("the program to be traced", || status_of(pid).contains(&us))?;
    Ok(samara)
}

fn status_of(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) -> Result<(), String> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > PATIENCE {
            return Err(format!("waited in vain for {what}"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Asks for the program to be let go; the verdict must be good, and is handed back.
fn let_go(mut samara: Child) -> Result<String, String> {
    let pid = Pid::from_raw(samara.id().cast_signed());
    kill(pid, Signal::SIGINT).map_err(|error| error.to_string())?;
    let mut verdict = String::new();
    let mut out = samara.stderr.take().expect("piped");
    let read = out.read_to_string(&mut verdict);
    read.map_err(|error| error.to_string())?;
    let status = samara.wait().map_err(|error| error.to_string())?;
    let good = status.code() == Some(0)
        && verdict.contains("identical at all")
        && verdict.contains("not modelled   none")
        && verdict.contains("was let go, and runs on");
    if good { Ok(verdict) } else { Err(verdict) }
}

fn is_joined_unharmed(name: &str) -> Result<(), String> {
    const TIMES: u64 = 3;
    let program = Running::start(name);
    let mut verdict = String::new();
    for time in 0..TIMES {
        let samara = join(program.pid())?;
        // Long enough for a call of a program that seldom makes one.
        let unit = if name == SELDOM_CALLS { 700 } else { 100 };
        thread::sleep(Duration::from_millis(unit * time));
        verdict = let_go(samara)?;
        if !status_of(program.pid()).contains("TracerPid:\t0\n") {
            return Err("the program is traced still".to_owned());
        }
    }
    if HAVE_A_PAST.contains(&name) && !verdict.contains("what came before") {
        return Err(format!("nothing of the past was learned:\n{verdict}"));
    }
    if name == SELDOM_CALLS && verdict.contains("memory calls   0 ") {
        return Err(format!("none of its calls was seen:\n{verdict}"));
    }
    program.end()
}

fn stays_stopped() -> Result<(), String> {
    let program = Running::start("busy_threads");
    let is_stopped = || status_of(program.pid()).contains("State:\tT (stopped)");
    kill(program.pid(), Signal::SIGSTOP).map_err(|error| error.to_string())?;
    wait_for("the program to stop", is_stopped)?;
    let samara = join(program.pid())?;
    thread::sleep(Duration::from_millis(50));
    let_go(samara)?;
    wait_for("the program to be stopped again", is_stopped)?;
    kill(program.pid(), Signal::SIGCONT).map_err(|error| error.to_string())?;
    program.end()
}

fn survives_our_death() -> Result<(), String> {
    let program = Running::start("busy_threads");
    let mut samara = join(program.pid())?;
    thread::sleep(Duration::from_millis(100));
    samara.kill().map_err(|error| error.to_string())?;
    samara.wait().map_err(|error| error.to_string())?;
    wait_for("the program to be free", || {
        status_of(program.pid()).contains("TracerPid:\t0\n")
    })?;
    program.end()
}

fn refuses() -> Result<(), String> {
    let program = Running::start("waiting");
    let samara = join(program.pid())?;
    let refusal = |pid: &str| {
        let run = Command::new(env!("CARGO_BIN_EXE_samara"))
            .args(["trace", "--pid", pid])
            .output();
        let output = run.expect("samara runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let headless = Running::start(FIRST_THREAD_GONE);
    let ended = || status_of(headless.pid()).contains("State:\tZ");
    wait_for("the first thread to end", ended)?;
    let expected = [
        (headless.pid().to_string(), "has ended while others run on"),
        (program.pid().to_string(), "is traced already"),
        ("2147483647".to_owned(), "there is no process 2147483647"),
        ("0".to_owned(), "there is no process 0"),
    ];
    for (pid, words) in expected {
        let (status, said) = refusal(&pid);
        if status != Some(2) || !said.contains(words) {
            return Err(format!("{pid}: {status:?}, {said}"));
        }
    }
    let_go(samara)?;
    program.end()
}

/// Ends its first thread, and goes on.
fn first_thread_gone() {
    thread::spawn(|| {
        ready();
        until_over(|| ());
        std::process::exit(0);
    });
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// What was mapped before: a file that is deleted, mapped to be written, and one with seals.
fn files_of_before() {
    const MIB: usize = 1 << 20;
    let name = format!("joined-{}", std::process::id());
    let path = std::env::current_exe()
        .expect("a path")
        .with_file_name(name);
    let mut options = fs::File::options();
    let file = options.read(true).write(true).create_new(true).open(&path);
    let file = file.expect("a file");
    fs::remove_file(&path).expect("it is there");
    file.set_len(64 * MIB as u64).expect("room");
    let none = MAP_PRIVATE | MAP_ANONYMOUS;
    let room = unsafe { libc::mmap(ptr::null_mut(), 32 * MIB, PROT_NONE, none, -1, 0) };
    let map_shared = |at: *mut libc::c_void, len: usize, fd: c_int| unsafe {
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        assert_eq!(libc::mmap(at, len, RW, flags, fd, 0), at);
    };
    let (moving, turned, sealed) = (
        room.wrapping_byte_add(4 * MIB),
        room.wrapping_byte_add(16 * MIB),
        room.wrapping_byte_add(24 * MIB),
    );
    map_shared(moving, 4 * MIB, file.as_raw_fd());
    map_shared(turned, 8 * PAGE, file.as_raw_fd());
    let memory = unsafe { libc::memfd_create(c"sealed".as_ptr(), libc::MFD_ALLOW_SEALING) };
    unsafe { libc::ftruncate(memory, 8 * PAGE as i64) };
    map_shared(sealed, 8 * PAGE, memory);
    unsafe { libc::fcntl(memory, libc::F_ADD_SEALS, libc::F_SEAL_FUTURE_WRITE) };
    ready();
    until_over(|| unsafe {
        let fixed = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        let moved = libc::mremap(moving, 4 * MIB, 5 * MIB, libc::MREMAP_MAYMOVE);
        assert_ne!(moved, libc::MAP_FAILED);
        libc::mremap(moved, 5 * MIB, 4 * MIB, fixed, moving);
        for page in [5, 1] {
            let at = turned.wrapping_byte_add(PAGE);
            assert_eq!(libc::remap_file_pages(at, PAGE, 0, page, 0), 0);
        }
        assert_eq!(libc::madvise(sealed, PAGE, libc::MADV_REMOVE), -1);
    });
}

/// What was mapped of `/dev/zero`, to keep, is memory like any other.
fn devices_of_before() {
    let zero = fs::File::open("/dev/zero").expect("a device");
    let map = |prot: c_int, fd: c_int, flags: c_int| unsafe {
        let at = libc::mmap(ptr::null_mut(), 8 * PAGE, prot, flags, fd, 0);
        assert_ne!(at, libc::MAP_FAILED);
        at
    };
    let here = map(PROT_READ, zero.as_raw_fd(), MAP_PRIVATE);
    let there = map(PROT_NONE, -1, MAP_PRIVATE | MAP_ANONYMOUS);
    ready();
    until_over(|| unsafe {
        let fixed = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        for (from, to) in [(here, there), (there, here)] {
            assert_eq!(libc::mremap(from, 4 * PAGE, 4 * PAGE, fixed, to), to);
        }
    });
}

fn ready() {
    println!("ready");
    std::io::stdout().flush().expect("the test listens");
}

/// Goes round until the test ends.
fn until_over(mut round: impl FnMut()) {
    while !IS_OVER.load(Ordering::Relaxed) {
        round();
        thread::sleep(Duration::from_micros(300));
    }
}

fn map(len: usize) -> *mut u8 {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS;
    let at = unsafe { libc::mmap(ptr::null_mut(), len, RW, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED);
    at.cast()
}

fn unmap(at: *mut u8, len: usize) {
    assert_eq!(unsafe { libc::munmap(at.cast(), len) }, 0);
}

fn protect(at: *mut u8, len: usize, prot: c_int) {
    assert_eq!(unsafe { libc::mprotect(at.cast(), len, prot) }, 0);
}

/// Maps, writes, splits, grows and unmaps; what was written must be there.
fn churn(tag: u8) {
    let at = map(8 * PAGE);
    unsafe {
        at.add(PAGE).write(tag);
        protect(at.add(3 * PAGE), PAGE, PROT_READ);
        protect(at.add(3 * PAGE), PAGE, RW);
        let moved = libc::mremap(at.cast(), 8 * PAGE, 20 * PAGE, libc::MREMAP_MAYMOVE);
        assert_ne!(moved, libc::MAP_FAILED);
        assert_eq!(moved.cast::<u8>().add(PAGE).read(), tag);
        unmap(moved.cast(), 20 * PAGE);
    }
}

fn busy_threads() {
    thread::scope(|scope| {
        for tag in 1..5 {
            scope.spawn(move || until_over(|| churn(tag)));
        }
        ready();
    });
}

/// Neighbours that were written apart, were written and emptied, were moved here: what Linux joins
/// or not by a past that nothing shows.
fn a_past_of_merges() {
    let at = map(64 * PAGE);
    unsafe {
        for page in (0..64).step_by(3) {
            protect(at.add(page * PAGE), PAGE, PROT_READ);
        }
        for page in (1..64).step_by(3) {
            at.add(page * PAGE).write(1);
        }
        libc::madvise(at.cast(), 32 * PAGE, libc::MADV_DONTNEED);
        for place in [9, 21, 33] {
            let from = map(PAGE);
            from.write(7);
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            let to = at.add(place * PAGE);
            assert_ne!(
                libc::mremap(from.cast(), PAGE, PAGE, flags, to),
                libc::MAP_FAILED
            );
        }
    }
    ready();
    let mut page = 0;
    until_over(|| {
        page = (page + 7) % 64;
        let prot = [RW, PROT_READ, PROT_NONE][page % 3];
        protect(unsafe { at.add(page * PAGE) }, PAGE, prot);
        protect(unsafe { at.add((page / 2) * PAGE) }, 2 * PAGE, RW);
    });
}

/// The break may lie within a page, which only calls tell.
fn a_heap_within_a_page() {
    let brk = |by: isize| unsafe { libc::sbrk(by) };
    brk(100);
    ready();
    until_over(|| {
        // Far too much: the answer is where the break is.
        assert_eq!(brk(1 << 46), usize::MAX as *mut libc::c_void);
        brk(1000);
        brk(-1000);
    });
}

/// What it inherited it shares with a parent that it knows nothing of.
fn a_child_without_exec() {
    let at = map(16 * PAGE);
    unsafe {
        at.write(1);
        at.add(8 * PAGE).write(1);
    }
    let round = move || {
        protect(unsafe { at.add(8 * PAGE) }, 4 * PAGE, PROT_READ);
        churn(9);
        protect(unsafe { at.add(8 * PAGE) }, 4 * PAGE, RW);
        unsafe { at.add(9 * PAGE).write(2) };
    };
    match unsafe { libc::fork() } {
        0 => {
            // The thread that reads the input is the parent's: the end comes by a signal.
            loop {
                round();
            }
        }
        child => {
            ready();
            until_over(round);
            unsafe { libc::kill(child, libc::SIGKILL) };
            unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
        }
    }
}

fn forking() {
    let at = map(4 * PAGE);
    unsafe { at.write(5) };
    ready();
    until_over(|| {
        let child = unsafe { libc::fork() };
        if child == 0 {
            unsafe {
                at.write(6);
                protect(at.add(PAGE), PAGE, PROT_READ);
                libc::_exit(0);
            }
        }
        let mut status = 0;
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!((status, unsafe { at.read() }), (0, 5));
        // Shares its memory with the parent until it runs another program.
        let ended = Command::new("/bin/true").status().expect("true runs");
        assert!(ended.success());
    });
}

/// Waits most of the time for a child that shares its memory until it ends or runs another program.
fn a_parent_in_vfork() {
    extern "C" fn wait_and_leave(path: *mut libc::c_void) -> c_int {
        let path: *const libc::c_char = path.cast();
        let arguments = [path, ptr::null()];
        map(PAGE);
        unsafe { libc::usleep(50_000) };
        unsafe { libc::execv(path, arguments.as_ptr()) };
        0
    }
    let stack = map(64 * PAGE);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let paths = [c"/bin/true", c"/no/such/program"];
    ready();
    let mut round = 0;
    until_over(|| {
        round += 1;
        let path = paths[round % 2].as_ptr().cast_mut().cast();
        let child =
            unsafe { libc::clone(wait_and_leave, stack.add(64 * PAGE).cast(), flags, path) };
        assert!(child > 0);
        let mut status = 0;
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        let at = map(4 * PAGE);
        unsafe { at.write(1) };
        protect(unsafe { at.add(PAGE) }, PAGE, PROT_READ);
        unsafe { libc::munmap(at.cast(), 4 * PAGE) };
    });
}

/// Asleep in calls of several kinds, none of which may end early.
fn waiting() {
    thread::scope(|scope| {
        scope.spawn(|| {
            until_over(|| {
                let begun = Instant::now();
                let time = libc::timespec {
                    tv_sec: 0,
                    tv_nsec: 200_000_000,
                };
                assert_eq!(
                    unsafe { libc::nanosleep(&raw const time, ptr::null_mut()) },
                    0
                );
                assert!(begun.elapsed() >= Duration::from_millis(200));
            });
        });
        scope.spawn(|| {
            until_over(|| {
                let begun = Instant::now();
                assert_eq!(unsafe { libc::poll(ptr::null_mut(), 0, 150) }, 0);
                assert!(begun.elapsed() >= Duration::from_millis(150));
            });
        });
        ready();
    });
}
