//! The ptrace cellar: starting a seized, filtered child, waiting for stops, letting them go.
//!
//! The only unsafe code besides [`crate::kernel`]; everything above speaks of [`Stop`]s.

#![expect(
    unsafe_code,
    reason = "fork, exec, seccomp and the raw ptrace requests nix lacks"
)]

use std::ffi::{CString, c_char, c_int, c_long, c_void};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::unistd::{ForkResult, Pid};

use crate::patience::Patience;
use crate::procfs;
use crate::seccomp;

/// A thread's kernel id.
pub(crate) type Tid = i32;

/// Why a thread stopped, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Before a call the filter chose; the tag is [`seccomp::NATIVE`] or [`seccomp::FOREIGN`].
    Entry(u32, Registers),
    /// Before a call that does not matter, where there is no filter.
    OtherCall,
    /// After a call, with its result; `None` if the thread was killed meanwhile.
    Exit(Option<i64>),
    /// A fork, vfork or clone has made the task of this id; `None` if the thread was killed before
    /// it could be asked.
    NewTask(Option<Tid>),
    /// The thread runs a new program; it was known under this id before.
    Exec(Tid),
    /// About to end, its memory still there.
    Ending,
    /// Stopped by job control with this signal, or (signal 5) a new task's or restart's stop.
    Group(i32),
    /// A signal is about to be delivered.
    Signal(i32),
    /// Ended with an exit status.
    Exited(i32),
    /// Ended by a signal.
    Killed(i32),
}

/// How far a stopped thread may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// To the next traced call or event.
    NextCall,
    /// To the end of the call it stands at, or to the entry of the next.
    CallEnd,
}

/// What the child needs, prepared before the fork: after it nothing may allocate.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) path: CString,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
}

/// Whether the filter needs `no_new_privs`, which makes setuid programs run without privilege.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// We may install a filter as we are.
    Keep,
    /// Only with `no_new_privs`.
    NoNew,
}

/// The child's first words if it fails before or at exec: the step and the errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartStep {
    Seize,
    Filter,
    Exec,
}

/// A child started and seized, waiting to be let go, and the pipe it reports a failed start on.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) tid: Tid,
    pub(crate) failure: OwnedFd,
}

/// Forks a child that becomes `program` under the filter, seized before its first instruction.
///
/// # Errors
///
/// The step that failed and why. No child is left behind.
pub(crate) fn start(
    program: &Program,
    privilege: Privilege,
) -> Result<Started, (StartStep, Errno)> {
    let at_seize = |error| (StartStep::Seize, error);
    let (go_read, go_write) = cloexec_pipe().map_err(at_seize)?;
    let (failure_read, failure_write) = cloexec_pipe().map_err(at_seize)?;
    let filter = seccomp::program();
    let argv = pointers(&program.arguments);
    let envp = pointers(&program.environment);
    // SAFETY: this process has one thread here, and the child only makes async-signal-safe calls
    // before it execs or exits.
    match unsafe { nix::unistd::fork() }.map_err(at_seize)? {
        ForkResult::Child => {
            let step = become_program(&Child {
                go: &go_read,
                path: &program.path,
                argv: &argv,
                envp: &envp,
                filter: &filter,
                privilege,
            });
            let message = [step.0 as u8, step.1 as i32 as u8];
            let _ = nix::unistd::write(&failure_write, &message);
            // SAFETY: `_exit` ends the process without running anything of ours.
            unsafe { libc::_exit(127) }
        }
        ForkResult::Parent { child } => {
            drop((go_read, failure_write));
            if let Err(error) = ptrace::seize(child, options()) {
                drop(go_write);
                let _ = nix::sys::signal::kill(child, Signal::SIGKILL);
                let _ = nix::sys::wait::waitpid(child, None);
                return Err((StartStep::Seize, error));
            }
            nix::unistd::write(&go_write, &[1]).map_err(at_seize)?;
            Ok(Started {
                tid: child.as_raw(),
                failure: failure_read,
            })
        }
    }
}

/// Reads what the child said about a failed start; `None` if it said nothing.
pub(crate) fn start_failure(started: &Started) -> Option<(StartStep, Errno)> {
    let mut message = [0_u8; 2];
    let read = nix::unistd::read(&started.failure, &mut message).ok()?;
    if read != 2 {
        return None;
    }
    let step = match message[0] {
        0 => StartStep::Seize,
        1 => StartStep::Filter,
        _ => StartStep::Exec,
    };
    Some((step, Errno::from_raw(i32::from(message[1]))))
}

/// For a program that we start: it has our filter, and does not outlive us.
fn options() -> Options {
    Options::PTRACE_O_TRACESECCOMP | Options::PTRACE_O_EXITKILL | common_options()
}

fn common_options() -> Options {
    Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACEEXIT
}

/// Begins to trace a thread that runs, and outlives us.
///
/// # Errors
///
/// `EPERM` if we may not, or another tracer does already; `ESRCH` if it is gone.
pub(crate) fn seize(tid: Tid) -> nix::Result<()> {
    ptrace::seize(Pid::from_raw(tid), common_options())
}

/// Makes a thread stop soon, wherever it is. One that was killed meanwhile is not an error.
pub(crate) fn interrupt(tid: Tid) {
    let _ = ptrace::interrupt(Pid::from_raw(tid));
}

/// Lets a stopped thread run on untraced, delivering `signal` unless it is 0.
pub(crate) fn detach(tid: Tid, signal: i32) {
    raw_request(libc::PTRACE_DETACH, tid, signal.into());
}

fn cloexec_pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// Everything the child uses between fork and exec.
struct Child<'a> {
    go: &'a OwnedFd,
    path: &'a CString,
    argv: &'a [*const c_char],
    envp: &'a [*const c_char],
    filter: &'a [libc::sock_filter],
    privilege: Privilege,
}

/// Runs in the child: waits to be seized, installs the filter, execs. Returns what failed.
fn become_program(child: &Child<'_>) -> (StartStep, Errno) {
    let mut byte = [0];
    if nix::unistd::read(child.go, &mut byte) != Ok(1) {
        return (StartStep::Seize, Errno::EPERM);
    }
    if let Err(error) = reset_signals() {
        return (StartStep::Filter, error);
    }
    if let Err(error) = install_filter(child.filter, child.privilege) {
        return (StartStep::Filter, error);
    }
    // SAFETY: path, argv and envp are null-terminated and outlive the call.
    unsafe {
        libc::execve(
            child.path.as_ptr(),
            child.argv.as_ptr(),
            child.envp.as_ptr(),
        )
    };
    (StartStep::Exec, Errno::last())
}

/// Rust ignores SIGPIPE in its own process; the traced program must not inherit that.
fn reset_signals() -> nix::Result<()> {
    // SAFETY: installs the default action, no handler runs.
    unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) }.map(drop)
}

fn install_filter(filter: &[libc::sock_filter], privilege: Privilege) -> nix::Result<()> {
    if privilege == Privilege::NoNew {
        // SAFETY: a prctl that takes plain integers.
        let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        Errno::result(result)?;
    }
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::EINVAL)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points to `len` instructions that outlive the call; the kernel copies
    // them and does not write.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    Errno::result(result).map(drop)
}

/// Lets a write past the limit of file sizes fail, which is said, instead of ending us without a
/// word. A handler and not `SIG_IGN`, as a program that we start is to find the default again; what
/// is ignored already stays so for it, too.
pub(crate) fn let_writes_past_the_limit_fail() {
    let action = SigAction::new(
        SigHandler::Handler(do_nothing),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing.
    let before = unsafe { nix::sys::signal::sigaction(Signal::SIGXFSZ, &action) };
    if let Ok(before) = before
        && matches!(before.handler(), SigHandler::SigIgn)
    {
        // SAFETY: ignoring a signal installs no handler.
        let _ = unsafe { nix::sys::signal::sigaction(Signal::SIGXFSZ, &before) };
    }
}

extern "C" fn do_nothing(_: c_int) {}

/// Ends us in words and with status 2 where the standard library aborts, as it does when memory
/// runs out where that cannot be told. A program that we start finds the default again.
pub(crate) fn abort_in_words() {
    let action = SigAction::new(
        SigHandler::Handler(say_and_end),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler makes two system calls and touches nothing.
    let _ = unsafe { nix::sys::signal::sigaction(Signal::SIGABRT, &action) };
}

extern "C" fn say_and_end(_: c_int) {
    const WORDS: &str = "samara: it cannot go on; where memory ran out, raise the limits of data \
                         and addresses (`ulimit -d`, `ulimit -v`), or ask for less at a time\n";
    end_with(WORDS);
}

/// Ends us in words and with status 2, from a handler.
fn end_with(words: &'static str) -> ! {
    // SAFETY: `words` is so many bytes that live for ever.
    unsafe { libc::write(libc::STDERR_FILENO, words.as_ptr().cast(), words.len()) };
    // SAFETY: `_exit` ends the process without running anything of ours.
    unsafe { libc::_exit(2) }
}

/// Ignores the terminal's interrupt and quit keys: they are for the traced program, which gets
/// them too, and the verdict must still be written.
pub(crate) fn leave_keys_to_the_program() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: ignoring a signal installs no handler.
        let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) };
    }
}

/// The last request to end that was not looked at yet: the signal, or 0, and who sent it.
static REQUEST: AtomicI32 = AtomicI32::new(0);
static REQUEST_BY: AtomicI32 = AtomicI32::new(0);

extern "C" fn note_request(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a record to a handler that was installed with SA_SIGINFO.
    let info = unsafe { &*info };
    // SAFETY: a sender is recorded for both signals; from the kernel itself it is 0.
    REQUEST_BY.store(unsafe { info.si_pid() }, Ordering::Relaxed);
    // ORDERING: pairs with the `Acquire` in `pass_request_on`, which then reads the sender.
    REQUEST.store(signal, Ordering::Release);
}

/// Leaves it to the traced program how to end: a request from outside goes to `program`, and one
/// that the program sends to its whole process group, which we are in, is not meant for us.
pub(crate) fn leave_requests_to_the_program(program: Tid) {
    PROGRAM.store(program, Ordering::Relaxed);
    let note = SigHandler::SigAction(note_request);
    let action = SigAction::new(note, SaFlags::SA_SIGINFO, SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to atomics.
        let _ = unsafe { nix::sys::signal::sigaction(signal, &action) };
    }
}

/// The first process of the traced program.
static PROGRAM: AtomicI32 = AtomicI32::new(0);

/// Takes requests to end for requests to let the process go that was joined. Ends a wait that
/// had begun just before one came, too.
pub(crate) fn take_requests_for_us() {
    let actions = [
        (Signal::SIGALRM, SigHandler::Handler(note_alarm)),
        (Signal::SIGINT, SigHandler::SigAction(note_own_request)),
        (Signal::SIGTERM, SigHandler::SigAction(note_own_request)),
        (Signal::SIGHUP, SigHandler::SigAction(note_own_request)),
    ];
    for (signal, handler) in actions {
        let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        // SAFETY: the handlers only store to atomics and set the alarm, which a handler may.
        let _ = unsafe { nix::sys::signal::sigaction(signal, &action) };
    }
}

extern "C" fn note_own_request(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    IS_ASKED_TO_LET_GO.store(true, Ordering::Relaxed);
    wake_in_a_second();
}

/// A wait that had begun just before the alarm gets another one.
extern "C" fn note_alarm(_: c_int) {
    const BUSY: &str = "samara: the process runs another program just now; try again\n";
    const ASKED: &str = "samara: asked to end before the process was joined\n";
    if IS_SEIZING.load(Ordering::Relaxed) {
        end_with(if is_asked_to_let_go() { ASKED } else { BUSY });
    }
    wake_in_a_second();
}

/// Whether we are in [`seizing`].
static IS_SEIZING: AtomicBool = AtomicBool::new(false);

/// Seizes, and ends us in words and with status 2 where that takes ten seconds, or one after a
/// request to end.
///
/// LINUX: to seize a task that runs another program is to wait until it does. It waits for the
/// other threads to end, and those that were seized wait for us; who waits to seize gets to its
/// handlers, and nowhere else. When we end they are let go.
pub(crate) fn seizing<T>(seize: impl FnOnce() -> T) -> T {
    const MOST: u32 = 10;
    IS_SEIZING.store(true, Ordering::Relaxed);
    nix::unistd::alarm::set(MOST);
    if is_asked_to_let_go() {
        wake_in_a_second();
    }
    let seized = seize();
    IS_SEIZING.store(false, Ordering::Relaxed);
    nix::unistd::alarm::cancel();
    if is_asked_to_let_go() {
        wake_in_a_second();
    }
    seized
}

static IS_ASKED_TO_LET_GO: AtomicBool = AtomicBool::new(false);

/// Whether somebody asked us to let the joined process go.
pub(crate) fn is_asked_to_let_go() -> bool {
    IS_ASKED_TO_LET_GO.load(Ordering::Relaxed)
}

/// Makes a [`wait`] end in a second at the latest.
pub(crate) fn wake_in_a_second() {
    nix::unistd::alarm::set(1);
}

fn pass_request_on() {
    // ORDERING: pairs with the `Release` in `note_request`.
    let signal = REQUEST.swap(0, Ordering::Acquire);
    let sender = REQUEST_BY.load(Ordering::Relaxed);
    let Ok(signal) = Signal::try_from(signal) else {
        return;
    };
    if sender != 0 && !procfs::is_traced_by_us(sender) {
        let program = Pid::from_raw(PROGRAM.load(Ordering::Relaxed));
        let _ = nix::sys::signal::kill(program, signal);
    }
}

/// Raises our own limit of open files to what is allowed: one is held per mapped file.
pub(crate) fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// How a [`wait`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Stopped(Tid, Stop),
    /// A signal for us came.
    Interrupted,
    /// No thread is traced any more.
    NoneLeft,
}

/// Waits for the next stop or end of any traced thread.
///
/// # Errors
///
/// An errno of `waitpid` other than "no children".
pub(crate) fn wait(patience: &mut Patience) -> io::Result<Waited> {
    pass_request_on();
    let mut status = 0;
    let mut look = |flags| {
        // SAFETY: `status` is a valid place for the result.
        let tid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | flags) };
        (tid, status)
    };
    let seen = (0..patience.looks())
        .map(|_| look(libc::WNOHANG))
        .find(|&(tid, _)| tid != 0);
    let (tid, status) = seen.unwrap_or_else(|| look(0));
    if tid > 0 {
        patience.note_stop();
        return Ok(Waited::Stopped(tid, decode(tid, status)));
    }
    match Errno::last() {
        Errno::EINTR => Ok(Waited::Interrupted),
        Errno::ECHILD => Ok(Waited::NoneLeft),
        error => Err(error.into()),
    }
}

fn decode(tid: Tid, status: i32) -> Stop {
    if libc::WIFEXITED(status) {
        return Stop::Exited(libc::WEXITSTATUS(status));
    }
    if libc::WIFSIGNALED(status) {
        return Stop::Killed(libc::WTERMSIG(status));
    }
    let signal = libc::WSTOPSIG(status);
    let message = || {
        ptrace::getevent(Pid::from_raw(tid))
            .ok()
            .map(|id| id as Tid)
    };
    match status >> 16 {
        0 if signal == libc::SIGTRAP | 0x80 => call_stop(tid),
        0 => Stop::Signal(signal),
        libc::PTRACE_EVENT_SECCOMP => call_stop(tid),
        libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
            Stop::NewTask(message())
        }
        libc::PTRACE_EVENT_EXEC => Stop::Exec(message().unwrap_or(tid)),
        libc::PTRACE_EVENT_EXIT => Stop::Ending,
        _ => Stop::Group(signal),
    }
}

/// What a thread stopped for at a call.
fn call_stop(tid: Tid) -> Stop {
    let Ok(info) = ptrace::syscall_info(Pid::from_raw(tid)) else {
        return Stop::Exit(None);
    };
    match info.op {
        libc::PTRACE_SYSCALL_INFO_SECCOMP => {
            // SAFETY: at a stop that a filter asked for the kernel has filled this member.
            let entry = unsafe { info.u.seccomp };
            let registers = Registers {
                number: entry.nr,
                arguments: entry.args,
            };
            Stop::Entry(entry.ret_data, registers)
        }
        libc::PTRACE_SYSCALL_INFO_ENTRY => {
            // SAFETY: at an entry the kernel has filled this member.
            let entry = unsafe { info.u.entry };
            let registers = Registers {
                number: entry.nr,
                arguments: entry.args,
            };
            let tag = seccomp::tag(info.arch, entry.nr, &entry.args);
            tag.map_or(Stop::OtherCall, |tag| Stop::Entry(tag, registers))
        }
        // SAFETY: at an exit the kernel has filled this member.
        libc::PTRACE_SYSCALL_INFO_EXIT => Stop::Exit(Some(unsafe { info.u.exit }.sval)),
        _ => Stop::Exit(None),
    }
}

/// Lets a stopped thread run, delivering `signal` unless it is 0. A thread that was killed
/// meanwhile is not an error: its end is reported by [`wait`].
pub(crate) fn resume(tid: Tid, until: Until, signal: i32) {
    let request = match until {
        Until::NextCall => libc::PTRACE_CONT,
        Until::CallEnd => libc::PTRACE_SYSCALL,
    };
    raw_request(request, tid, signal.into());
}

/// Leaves a thread in its job-control stop, as the program's user sees it, until it continues.
pub(crate) fn listen(tid: Tid) {
    raw_request(libc::PTRACE_LISTEN, tid, 0);
}

fn raw_request(request: libc::c_uint, tid: Tid, argument: c_long) {
    let nothing: *mut c_void = std::ptr::null_mut();
    // SAFETY: these requests take an integer and access no memory of ours.
    unsafe { libc::ptrace(request, tid, nothing, argument) };
}

/// The registers of a system call at its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registers {
    pub(crate) number: u64,
    pub(crate) arguments: [u64; 6],
}

/// Whether a stopped thread runs 64-bit code (its code segment says so); `None` if it was killed
/// meanwhile.
pub(crate) fn is_64_bit(tid: Tid) -> Option<bool> {
    const USER_CODE_64: u64 = 0x33;
    let registers = ptrace::getregs(Pid::from_raw(tid)).ok()?;
    Some(registers.cs == USER_CODE_64)
}

/// Kills a process at once.
pub(crate) fn kill(tid: Tid) {
    let _ = nix::sys::signal::kill(Pid::from_raw(tid), Signal::SIGKILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_gone_runs_code_of_no_width() {
        // Nobody is ever traced under this number.
        assert_eq!(is_64_bit(0), None);
    }
}
