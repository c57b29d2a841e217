//! `samara trace --pid`: seizes a process that runs already.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;

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
    let has_memory = |tid: Tid| {
        let status = procfs::read(tid, "status").unwrap_or_default();
        field(&status, "VmSize:").is_some()
    };
    if field(&status, "VmSize:").is_none() {
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
    if let Some(tracer) = number(&status, "TracerPid:").filter(|&tracer| tracer != 0) {
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
            match ptrace::seize(tid) {
                Ok(()) => members.push(Member { tid, process }),
                // Gone, or made by a task that is seized, and so seized itself.
                Err(Errno::ESRCH) => {}
                Err(Errno::EPERM) if procfs::is_traced_by_us(tid) => {
                    members.push(Member { tid, process });
                }
                Err(error) => bail!(refused(error)),
            }
        }
    }
    Ok(members.len() > before)
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
