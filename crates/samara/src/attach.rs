//! `samara trace --pid`: seizes a process that runs already.

use std::collections::BTreeSet;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;

use crate::decode;
use crate::engine::Member;
use crate::kernel;
use crate::launch;
use crate::procfs::{self, field, number};
use crate::ptrace::{self, Tid};

/// A process that was seized, and all tasks that share its memory.
#[derive(Debug)]
pub(crate) struct Seized {
    pub(crate) leader: Tid,
    pub(crate) members: Vec<Member>,
    /// Its number and name.
    pub(crate) shown: String,
}

/// How long is waited for a task that ends or runs another program.
const PATIENCE: Duration = Duration::from_secs(1);

const BUSY: &str = "it ends, or runs another program, just now; try again";

/// Seizes all tasks that use the address space of the process `pid`: its threads, and other
/// processes that share its memory. They are let go when this process ends, however that is.
///
/// # Errors
///
/// Why it cannot be traced, and what to do about it.
pub(crate) fn seize(pid: Tid) -> Result<Seized> {
    let status = procfs::read(pid, "status")
        .with_context(|| format!("there is no process {pid}; `ps` lists those that are"))?;
    let leader = number(&status, "Tgid:").unwrap_or(pid);
    let name = field(&status, "Name:").unwrap_or_default();
    if leader == std::process::id() as Tid {
        bail!("process {pid} is samara itself");
    }
    // While another thread runs another program, the first has ended for a moment.
    let is_settled = || has_memory(leader) || procfs::tasks(leader).len() < 2;
    if !(soon(is_settled) && has_memory(leader)) {
        if procfs::tasks(leader).into_iter().any(has_memory) {
            bail!(
                "the first thread of process {pid} ({name}) has ended while others run on; samara \
                 cannot join such a process, but can start one: `samara trace -- PROGRAM`"
            );
        }
        bail!(
            "process {pid} ({name}) has no memory of its own: it is a kernel thread, or has ended"
        );
    }
    if let Some(tracer) = procfs::tracer(pid) {
        bail!("process {pid} ({name}) is traced already, by process {tracer}");
    }
    launch::check_machine(&procfs::path(leader, "exe"))
        .with_context(|| format!("cannot trace process {pid} ({name})"))?;
    let mut members = Vec::new();
    let mut seen = BTreeSet::new();
    // A thread that was not seized yet may have made another one.
    while seize_new(leader, &mut seen, &mut members)
        .with_context(|| format!("cannot trace process {pid} ({name})"))?
    {}
    Ok(Seized {
        leader,
        members,
        shown: format!("process {leader} ({name})"),
    })
}

fn has_memory(tid: Tid) -> bool {
    let status = procfs::read(tid, "status").unwrap_or_default();
    field(&status, "VmSize:").is_some()
}

/// Waits until it is so, for a while: whether it is.
fn soon(is_so: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while !is_so() {
        if begin.elapsed() > PATIENCE {
            return false;
        }
        sleep(Duration::from_millis(5));
    }
    true
}

/// Whether a task is about to run another program, which waits for its threads to end.
fn runs_another(tid: Tid) -> bool {
    let call = procfs::read(tid, "syscall").unwrap_or_default();
    procfs::parse_call(&call).is_some_and(|call| decode::is_exec(&call))
}

/// Whether a task shares the memory of `leader`, and which process it belongs to.
pub(crate) fn member(leader: Tid, tid: Tid) -> Option<Member> {
    let process = procfs::process_of(tid)?;
    let shares = tid == leader || kernel::same_memory(leader, tid) == Ok(true);
    shares.then_some(Member { tid, process })
}

/// Seizes the tasks that were not there before. Says whether there were any.
fn seize_new(leader: Tid, seen: &mut BTreeSet<Tid>, members: &mut Vec<Member>) -> Result<bool> {
    let before = members.len();
    for process in processes(leader)? {
        for tid in procfs::tasks(process) {
            if !seen.insert(tid) {
                continue;
            }
            // LINUX: seizing it waits until it is done, and it waits for the threads that were
            // seized already, whose ends wait for us.
            if !soon(|| !runs_another(tid)) {
                bail!(BUSY);
            }
            match seize_task(tid) {
                Ok(()) => members.push(Member { tid, process }),
                // Gone, or made by a task that is seized, and so seized itself.
                Err(Errno::ESRCH) => {}
                Err(Errno::EPERM) if procfs::is_traced_by_us(tid) => {
                    members.push(Member { tid, process });
                }
                // LINUX: what is about to end has given its memory back, and cannot be seized.
                Err(Errno::EPERM) if kernel::same_memory(leader, tid) == Ok(false) => {}
                Err(Errno::EPERM) if !has_memory(tid) => bail!(BUSY),
                Err(error) => match procfs::tracer(tid) {
                    Some(tracer) => bail!("its task {tid} is traced already, by process {tracer}"),
                    None => bail!(refused(error)),
                },
            }
        }
    }
    Ok(members.len() > before)
}

/// Seizes a task. It may end at this moment, or take the place of one that does, which is no
/// reason to refuse it.
fn seize_task(tid: Tid) -> nix::Result<()> {
    const MOMENT: Duration = Duration::from_millis(100);
    let begin = Instant::now();
    loop {
        match ptrace::seize(tid) {
            Err(Errno::EPERM) if procfs::tracer(tid).is_none() && begin.elapsed() < MOMENT => {
                sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

/// The processes that share the memory of `leader`.
fn processes(leader: Tid) -> Result<Vec<Tid>> {
    let mut sharing = vec![leader];
    for entry in fs::read_dir("/proc").context("no /proc mounted?")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<Tid>().ok()) else {
            continue;
        };
        if pid != leader && kernel::same_memory(leader, pid) == Ok(true) {
            sharing.push(pid);
        }
    }
    Ok(sharing)
}

fn refused(error: Errno) -> String {
    match error {
        Errno::EPERM => "not allowed: it must be yours, or you must have CAP_SYS_PTRACE; set \
            /proc/sys/kernel/yama/ptrace_scope to 0 to trace processes that samara did not start"
            .to_owned(),
        error => error.desc().to_owned(),
    }
}
