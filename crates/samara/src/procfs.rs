//! Reads what the kernel says about a process in `/proc`: mappings, layout, limits, rights.
//!
//! The parsers are pure; a malformed line is an error that says which.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::ptrace::{Registers, Tid};

/// One line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MapLine {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// As printed: `rw-p`.
    pub(crate) access: String,
    pub(crate) offset: u64,
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
    pub(crate) name: String,
}

impl MapLine {
    /// Parses a line without its newline.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (range, rest) = line.split_once(' ')?;
        let (access, rest) = rest.split_once(' ')?;
        let (offset, rest) = rest.split_once(' ')?;
        let (device, rest) = rest.split_once(' ')?;
        let (inode, name) = rest.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let (major, minor) = device.split_once(':')?;
        Some(Self {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            access: (access.len() == 4).then(|| access.to_owned())?,
            offset: u64::from_str_radix(offset, 16).ok()?,
            device: (
                u32::from_str_radix(major, 16).ok()?,
                u32::from_str_radix(minor, 16).ok()?,
            ),
            inode: inode.parse().ok()?,
            name: name.trim_start_matches(' ').to_owned(),
        })
    }

    /// Whether a file stands behind the mapping (the kernel prints an inode, a device or a path).
    pub(crate) fn has_file(&self) -> bool {
        self.inode != 0 || self.device != (0, 0) || self.name.starts_with('/')
    }
}

/// A mapping with the flags `smaps` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SmapsEntry {
    pub(crate) line: MapLine,
    /// The two-letter words of `VmFlags`, separated by spaces.
    pub(crate) flags: String,
}

/// Parses `/proc/PID/smaps`.
///
/// # Errors
///
/// The first mapping without a `VmFlags` line, or of pages of a size that is not modelled, or the
/// first line before any mapping.
pub(crate) fn parse_smaps(text: &str) -> Result<Vec<SmapsEntry>> {
    let mut entries: Vec<SmapsEntry> = Vec::new();
    for line in text.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let entry = entries.last_mut().context("smaps begins with VmFlags")?;
            flags.trim().clone_into(&mut entry.flags);
        } else if let Some(size) = line.strip_prefix("KernelPageSize:") {
            let size = size.trim();
            if !matches!(size, "4 kB" | "2048 kB") {
                bail!("pages of {size} are not modelled");
            }
        } else if let Some(line) = MapLine::parse(line) {
            entries.push(SmapsEntry {
                line,
                flags: String::new(),
            });
        }
    }
    if let Some(entry) = entries.iter().find(|entry| entry.flags.is_empty()) {
        bail!(
            "smaps has no VmFlags for {:#x}; this needs Linux 3.8 or newer",
            entry.line.start
        );
    }
    Ok(entries)
}

/// The addresses `/proc/PID/stat` tells of a program's layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StatLayout {
    pub(crate) start_code: u64,
    pub(crate) end_code: u64,
    pub(crate) start_stack: u64,
    pub(crate) start_data: u64,
    pub(crate) end_data: u64,
    pub(crate) start_brk: u64,
    pub(crate) arguments: (u64, u64),
    pub(crate) environment: (u64, u64),
}

/// Parses `/proc/PID/stat`. The program's name may hold anything, so fields count from its end.
///
/// # Errors
///
/// If the line is shorter than Linux 3.5 made it.
pub(crate) fn parse_stat(text: &str) -> Result<StatLayout> {
    let (_, rest) = text.rsplit_once(')').context("stat has no program name")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // The first field after the name is number 3.
    let field = |number: usize| -> Result<u64> {
        let text = fields.get(number - 3).context("stat is too short")?;
        text.parse()
            .with_context(|| format!("stat field {number} is not a number: {text}"))
    };
    Ok(StatLayout {
        start_code: field(26)?,
        end_code: field(27)?,
        start_stack: field(28)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        arguments: (field(48)?, field(49)?),
        environment: (field(50)?, field(51)?),
    })
}

/// The resource limits that concern memory, in bytes; `u64::MAX` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryLimits {
    pub(crate) address_space: u64,
    pub(crate) data: u64,
    pub(crate) data_max: u64,
    pub(crate) stack: u64,
    pub(crate) locked: u64,
}

/// Parses `/proc/PID/limits`.
///
/// # Errors
///
/// The name of a limit that is missing.
pub(crate) fn parse_limits(text: &str) -> Result<MemoryLimits> {
    let limit = |name: &str| -> Result<(u64, u64)> {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .with_context(|| format!("no line `{name}` in limits"))?;
        let mut values = line.split_whitespace().map(|word| match word {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        });
        match (values.next().flatten(), values.next().flatten()) {
            (Some(soft), Some(hard)) => Ok((soft, hard)),
            _ => bail!("`{name}` in limits has no two values"),
        }
    };
    Ok(MemoryLimits {
        address_space: limit("Max address space")?.0,
        data: limit("Max data size")?.0,
        data_max: limit("Max data size")?.1,
        stack: limit("Max stack size")?.0,
        locked: limit("Max locked memory")?.0,
    })
}

/// The effective capabilities as `/proc/PID/status` prints them.
///
/// # Errors
///
/// If there is no such line.
pub(crate) fn parse_capabilities(status: &str) -> Result<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .context("no CapEff line in status")?;
    u64::from_str_radix(line.trim(), 16).context("CapEff is not hexadecimal")
}

/// A counter of `/proc/PID/status`, in pages.
///
/// # Errors
///
/// If there is no such line.
pub(crate) fn parse_pages(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("no line `{name}` in status"))? / 4)
}

/// The call that a task sleeps in, from `/proc/TID/syscall`; `None` if it runs, or sleeps in none.
pub(crate) fn parse_call(text: &str) -> Option<Registers> {
    let mut words = text.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        let word = words.next()?.strip_prefix("0x")?;
        *argument = u64::from_str_radix(word, 16).ok()?;
    }
    Some(Registers { number, arguments })
}

/// A file of `/proc/TID/`.
pub(crate) fn path(tid: Tid, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{tid}/{file}"))
}

/// Reads a file of `/proc/TID/` as text; bytes that are not UTF-8 become `U+FFFD`, the same way
/// every time.
///
/// # Errors
///
/// What the kernel says: the process may be gone.
pub(crate) fn read(tid: Tid, file: &str) -> Result<String> {
    let path = path(tid, file);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The rest of a line of `status`.
pub(crate) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim())
}

/// As [`field`], where it is the number of a task.
pub(crate) fn number(status: &str, name: &str) -> Option<Tid> {
    field(status, name)?.parse().ok()
}

/// The process of a task; `None` if the task is gone.
pub(crate) fn process_of(tid: Tid) -> Option<Tid> {
    number(&read(tid, "status").ok()?, "Tgid:")
}

/// Who traces a task; `None` if nobody does.
pub(crate) fn tracer(tid: Tid) -> Option<Tid> {
    let status = read(tid, "status").unwrap_or_default();
    number(&status, "TracerPid:").filter(|&tracer| tracer != 0)
}

/// Whether we trace a task.
pub(crate) fn is_traced_by_us(tid: Tid) -> bool {
    tracer(tid) == Some(std::process::id() as Tid)
}

/// The threads of a process; none if it is gone.
pub(crate) fn tasks(process: Tid) -> Vec<Tid> {
    let entries = fs::read_dir(path(process, "task"));
    let entries = entries.into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).collect()
}

/// Reads a whole file that is open from its beginning into `bytes`, which may be longer afterwards;
/// gives the length of what was read.
///
/// # Errors
///
/// What the kernel says.
pub(crate) fn read_again(file: &File, bytes: &mut Vec<u8>) -> io::Result<usize> {
    /// Long enough for most texts in one go.
    const STEP: usize = 16 << 10;
    let mut at = 0;
    loop {
        if bytes.len() < at + STEP {
            bytes.resize(at + STEP, 0);
        }
        match file.read_at(&mut bytes[at..], at as u64) {
            Ok(0) => return Ok(at),
            Ok(more) => at += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads a number from a file such as `/proc/sys/vm/max_map_count`; `None` where it is absent.
pub(crate) fn sysctl(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{name}"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// A line of `/proc/meminfo`, in KiB.
pub(crate) fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_spaces_and_a_line_may_have_none() {
        let line = "7f00-8000 rw-p 00001000 fe:00 12                     /a b (deleted)";
        let parsed = MapLine::parse(line).unwrap();
        assert_eq!(
            (parsed.start, parsed.end, parsed.offset),
            (0x7f00, 0x8000, 0x1000)
        );
        assert_eq!((parsed.device, parsed.inode), ((0xfe, 0), 12));
        assert_eq!(parsed.name, "/a b (deleted)");
        assert!(parsed.has_file());
        let bare = MapLine::parse("7f00-8000 rw-p 00000000 00:00 0 ").unwrap();
        assert_eq!(bare.name, "");
        assert!(!bare.has_file());
    }

    #[test]
    fn damaged_lines_are_refused() {
        for line in [
            "",
            "x",
            "1-2",
            "1-2 rwxp 0 0:0",
            "g-h rwxp 0 0:0 0 ",
            "1-2 rwxps 0 0:0 0 ",
        ] {
            assert_eq!(MapLine::parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_sleeping_task_tells_its_call_and_a_running_one_does_not() {
        let call = parse_call("56 0x4111 0x0 0x1 0x2 0x3 0xff 0x7ffe 0x7f01\n").unwrap();
        assert_eq!(
            (call.number, call.arguments),
            (56, [0x4111, 0, 1, 2, 3, 0xff])
        );
        for text in ["running\n", "-1 0x7ffe 0x7f01\n", ""] {
            assert_eq!(parse_call(text), None, "{text}");
        }
    }

    #[test]
    fn pages_of_a_gigabyte_are_named() {
        let text = "40000000-80000000 rw-p 00000000 00:0f 7 /anon_hugepage (deleted)\n\
                    KernelPageSize:  1048576 kB\nVmFlags: rd wr mr mw me de ht\n";
        let error = parse_smaps(text).unwrap_err().to_string();
        assert_eq!(error, "pages of 1048576 kB are not modelled");
        assert!(parse_smaps(&text.replace("1048576", "2048")).is_ok());
    }

    #[test]
    fn our_own_process_can_be_read() {
        let us = std::process::id() as Tid;
        let maps = read(us, "maps").unwrap();
        assert!(maps.lines().all(|line| MapLine::parse(line).is_some()));
        let stat = parse_stat(&read(us, "stat").unwrap()).unwrap();
        assert!(stat.start_code < stat.end_code && stat.start_brk > 0);
        assert!(parse_limits(&read(us, "limits").unwrap()).unwrap().stack > 4096);
        parse_capabilities(&read(us, "status").unwrap()).unwrap();
        let smaps = parse_smaps(&read(us, "smaps").unwrap()).unwrap();
        assert!(smaps.iter().any(|entry| entry.line.name == "[stack]"));
    }
}
