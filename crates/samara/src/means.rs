//! What `samara` itself needs of the limits it is run under, and what helps where they are too
//! small: without it a run would end in the middle, or take its own want of memory for a
//! difference between model and kernel.

use std::hint::black_box;
use std::io;

use anyhow::{Context, Error, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};

const MIB: usize = 1 << 20;
/// The stack of the main thread; half of it is never reached.
const STACK: u64 = 256 << 10;
/// The memory that the smallest command takes.
const LEAST: usize = MIB;
/// More than any part of the model asks for at once.
const SPARE: usize = 4 * MIB;

/// Checks what every command needs.
///
/// # Errors
///
/// If a limit is too small; the message says which, and what to do.
pub(crate) fn check() -> Result<()> {
    let (stack, _) = getrlimit(Resource::RLIMIT_STACK).context("cannot read the stack's limit")?;
    ensure!(
        stack >= STACK,
        "the stack may have {} KiB, and {} are needed: try `ulimit -s {1}` (a program to be \
         traced with less can be given it: samara trace -- sh -c 'ulimit -s {0}; exec PROGRAM')",
        stack >> 10,
        STACK >> 10,
    );
    check_memory(LEAST)
}

/// Checks that there are so many bytes to be had.
///
/// # Errors
///
/// If there are not.
pub(crate) fn check_memory(bytes: usize) -> Result<()> {
    ensure!(
        is_to_be_had(bytes),
        "{} MiB of memory are needed and not to be had: raise the limits of data and addresses \
         (`ulimit -d`, `ulimit -v`), or ask for less at a time",
        bytes.div_ceil(MIB)
    );
    Ok(())
}

/// Checks that what the model said was not said for want of memory of our own.
///
/// # Errors
///
/// If there is next to none left.
pub(crate) fn check_spare() -> Result<()> {
    ensure!(
        is_to_be_had(SPARE),
        "memory runs out, so what the model says means nothing any more: raise the limits of data \
         and addresses (`ulimit -d`, `ulimit -v`), or ask for less at a time"
    );
    Ok(())
}

fn is_to_be_had(bytes: usize) -> bool {
    let mut room: Vec<u8> = Vec::new();
    let reserved = room.try_reserve_exact(bytes);
    // Memory that nobody looks at need not be asked for.
    black_box(&room);
    reserved.is_ok()
}

/// An error in words, with what helps.
pub(crate) fn said(error: &Error) -> String {
    let remedy = remedy(error).map_or(String::new(), |remedy| format!("; {remedy}"));
    format!("{error:#}{remedy}")
}

/// What helps against an error that comes of a limit, where the error alone tells.
fn remedy(error: &Error) -> Option<&'static str> {
    let number = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref().copied().or_else(|| {
            let error = cause.downcast_ref::<io::Error>()?;
            match error.kind() {
                io::ErrorKind::OutOfMemory => Some(Errno::ENOMEM),
                _ => error.raw_os_error().map(Errno::from_raw),
            }
        })
    };
    error.chain().find_map(number).and_then(remedy_of)
}

/// The same by the error's number.
pub(crate) const fn remedy_of(error: Errno) -> Option<&'static str> {
    match error {
        Errno::EMFILE => Some("raise the limit of open files (`ulimit -n`)"),
        Errno::ENFILE => Some("the machine has no more open files to give (fs.file-max)"),
        Errno::ENOMEM => Some("raise the limits of data and addresses (`ulimit -d`, `ulimit -v`)"),
        Errno::EFBIG => Some("raise the limit of file sizes (`ulimit -f`)"),
        Errno::ENOSPC | Errno::EDQUOT => Some("make room there, or name another place"),
        _ => None,
    }
}

/// A process or a thread that could not be started, and what helps.
pub(crate) fn not_started(what: &str, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        return anyhow!(
            "cannot start {what}: {error}; raise the limits of processes (`ulimit -u`) and memory \
             (`ulimit -d`, `ulimit -v`), or ask for fewer at a time"
        );
    }
    Error::new(error).context(format!("cannot start {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_is_found_below_other_words() {
        let errno = Error::new(Errno::EMFILE).context("cannot open a file");
        assert!(remedy(&errno).unwrap().contains("ulimit -n"));
        let of_system = Error::new(io::Error::from_raw_os_error(libc::EFBIG)).context("a file");
        assert!(remedy(&of_system).unwrap().contains("ulimit -f"));
        assert_eq!(remedy(&anyhow::anyhow!("something else")), None);
    }

    #[test]
    fn memory_that_no_machine_has_is_not_to_be_had() {
        assert!(check_memory(MIB).is_ok());
        let error = check_memory(isize::MAX as usize).unwrap_err();
        assert!(error.to_string().contains("ulimit -d"), "{error}");
    }
}
