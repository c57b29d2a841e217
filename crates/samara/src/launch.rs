//! Finds the program to trace, and says in advance what would keep it from being traced.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;

use crate::event::capability;
use crate::facts;
use crate::means;
use crate::ptrace::{Privilege, Program, StartStep, Tid};

/// Prepares a program and its arguments as a shell would find it.
///
/// # Errors
///
/// If there is no such program, it may not be run, or it is for another machine; the message says
/// what to do.
pub(crate) fn prepare(command: &[OsString]) -> Result<Program> {
    let name = command
        .first()
        .context("no program to trace; try `samara trace -- ls`")?;
    let path = find(name)?;
    check_machine(&path)?;
    let text = |text: OsString| CString::new(text.into_vec()).context("an argument holds a NUL");
    let variable = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        name
    };
    Ok(Program {
        path: text(path.into_os_string())?,
        arguments: command.iter().cloned().map(text).collect::<Result<_>>()?,
        environment: env::vars_os()
            .map(variable)
            .map(text)
            .collect::<Result<_>>()?,
    })
}

fn find(name: &OsStr) -> Result<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match runnable(&path) {
            Ok(()) => Ok(path),
            Err(why) => bail!("cannot run {}: {why}", path.display()),
        };
    }
    let places = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let mut refused = None;
    for place in env::split_paths(&places) {
        let path = place.join(name);
        match runnable(&path) {
            Ok(()) => return Ok(path),
            Err(why) if path.exists() => refused = refused.or(Some((path, why))),
            Err(_) => {}
        }
    }
    match refused {
        Some((path, why)) => bail!("cannot run {}: {why}", path.display()),
        None => bail!(
            "no such program: {} is in no directory of PATH; give its path",
            Path::new(name).display()
        ),
    }
}

fn runnable(path: &Path) -> Result<(), String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if metadata.is_dir() {
        return Err("it is a directory".to_owned());
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err("it is not executable; try `chmod +x`".to_owned());
    }
    Ok(())
}

/// Refuses ELF files of other machines. Scripts pass: their interpreter is looked at after exec.
pub(crate) fn check_machine(path: &Path) -> Result<()> {
    const X86_64: u16 = 62;
    let mut head = [0_u8; 20];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    if read.is_err() || !head.starts_with(b"\x7fELF") {
        return Ok(());
    }
    if head[4] == 1 {
        bail!(
            "{} is a 32-bit program; samara mirrors 64-bit x86 programs only: use a 64-bit build",
            path.display()
        );
    }
    let machine = u16::from_le_bytes([head[18], head[19]]);
    if machine != X86_64 {
        bail!(
            "{} is for another machine (ELF machine {machine}, wanted {X86_64}, x86-64)",
            path.display()
        );
    }
    Ok(())
}

/// Whether a filter can be installed without giving up setuid programs.
pub(crate) fn privilege() -> Privilege {
    let us = std::process::id() as Tid;
    match facts::capabilities(us) {
        Ok(capabilities) if capabilities & capability::SYS_ADMIN != 0 => Privilege::Keep,
        _ => Privilege::NoNew,
    }
}

/// What a failed start means and what can be done.
pub(crate) fn explain(step: StartStep, error: Errno, program: &Path) -> String {
    match (step, error) {
        (StartStep::Seize, Errno::EPERM) => "not allowed to trace a process: in a container allow \
            SYS_PTRACE (docker run --cap-add SYS_PTRACE); otherwise set \
            /proc/sys/kernel/yama/ptrace_scope to 1 or less, and check that no other tracer is \
            at work"
            .to_owned(),
        (StartStep::Seize, Errno::EAGAIN) => "cannot start a process to trace: you may have no \
            more of them; raise the limit (`ulimit -u`)"
            .to_owned(),
        (StartStep::Seize, error) => {
            let remedy = means::remedy_of(error).map_or(String::new(), |it| format!("; {it}"));
            format!("cannot trace a process: {}{remedy}", error.desc())
        }
        (StartStep::Filter, error) => format!(
            "cannot install the seccomp filter that picks the memory calls ({}): the kernel needs \
             CONFIG_SECCOMP_FILTER, and a sandbox may forbid it",
            error.desc()
        ),
        (StartStep::Exec, Errno::ENOEXEC) => format!(
            "{} is neither a program nor a script that names its interpreter (`#!`)",
            program.display()
        ),
        (StartStep::Exec, Errno::ENOENT) => format!(
            "cannot run {}: its interpreter (the `#!` line, or the dynamic loader) is missing",
            program.display()
        ),
        (StartStep::Exec, error) => format!("cannot run {}: {}", program.display(), error.desc()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(program: &str) -> String {
        prepare(&[program.into()]).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_run_is_said_in_words() {
        assert!(refusal("no-such-program-at-all").contains("no such program"));
        assert!(refusal("/").contains("it is a directory"));
        assert!(refusal("/etc/passwd").contains("not executable"));
        assert!(refusal("/no/such/file").contains("cannot run /no/such/file"));
    }

    #[test]
    fn a_32_bit_program_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("old");
        let mut head = b"\x7fELF\x01\x01\x01".to_vec();
        head.resize(64, 0);
        fs::write(&path, head).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(refusal(path.to_str().unwrap()).contains("32-bit"));
    }
}
