//! `samara spawn-parent`: the process that this kernel forks. A cellar: maps memory, and forks.
//!
//! A process of its own, fresh from `exec`, so that what `samara` itself has mapped is not
//! measured. It says `ready` and how many mappings it has, then answers each number of
//! nanoseconds on its standard input with the forks made in that time and the nanoseconds that
//! they took of the processor. It ends with its input, and with who started it: so it never
//! outlives a run, however that ends.
#![expect(unsafe_code, reason = "maps memory at fixed addresses, and forks")]

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::clock::{Burst, forks_within};
use super::plan::{self, Rights, Step};
use crate::cli::SpawnParentArgs;
use crate::means;

/// Makes the mappings, then answers until the input ends.
///
/// # Errors
///
/// If the mappings can't be made, or the kernel does not fork.
pub(crate) fn run(args: &SpawnParentArgs) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    let missing = args.vmas.saturating_sub(own_mappings()?);
    for step in plan::steps(missing, args.touched) {
        make(step).with_context(|| format!("cannot map a page at {:#x}", step.addr))?;
    }
    let mut out = io::stdout().lock();
    writeln!(out, "ready {}", own_mappings()?)?;
    out.flush()?;
    for line in io::stdin().lock().lines() {
        let time: u64 = line?.trim().parse().context("not a number of ns")?;
        let Burst {
            forks,
            processor_time,
        } = forks_within(Duration::from_nanos(time), fork_once)?;
        writeln!(out, "{forks} {}", processor_time.as_nanos())?;
        out.flush()?;
    }
    Ok(())
}

/// The mappings that this process has.
fn own_mappings() -> Result<u32> {
    let maps = File::open("/proc/self/maps").context("cannot read /proc/self/maps")?;
    let mut count = 0;
    for line in BufReader::new(maps).lines() {
        // The gate is no mapping of the process.
        count += u32::from(!line?.ends_with("[vsyscall]"));
    }
    Ok(count)
}

fn make(step: Step) -> Result<()> {
    let both = libc::PROT_READ | libc::PROT_WRITE;
    let protection = match step.rights {
        Rights::Read if !step.is_touched => libc::PROT_READ,
        Rights::Read | Rights::ReadWrite => both,
    };
    let wanted = step.addr as *mut libc::c_void;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: `MAP_FIXED_NOREPLACE` maps where nothing is, so nothing of ours is replaced.
    let mapped = unsafe { libc::mmap(wanted, plan::LEN as usize, protection, flags, -1, 0) };
    ensure!(mapped != libc::MAP_FAILED, Errno::last());
    ensure!(mapped == wanted, "the kernel does not take the address");
    if !step.is_touched {
        return Ok(());
    }
    // SAFETY: the page was just mapped, writable, and nothing else refers to it.
    unsafe { mapped.cast::<u8>().write_volatile(1) };
    if step.rights == Rights::Read {
        // SAFETY: nothing refers to the page.
        let changed = unsafe { libc::mprotect(mapped, plan::LEN as usize, libc::PROT_READ) };
        Errno::result(changed)?;
    }
    Ok(())
}

/// Makes a child that ends at once, and waits for its end.
fn fork_once() -> Result<()> {
    // SAFETY: the process has one thread; and the child calls nothing but `_exit`.
    match unsafe { fork() }.map_err(|error| means::not_started("a child", error.into()))? {
        ForkResult::Child => {
            // SAFETY: ends this process, without any of what `exit` does.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => loop {
            match waitpid(child, None) {
                Err(Errno::EINTR) => {}
                Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
                other => bail!("a child ended with {other:?}"),
            }
        },
    }
}
