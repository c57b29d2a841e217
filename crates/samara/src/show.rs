//! `samara show`: the tree of mappings of a live process or of a maps file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _};

use anyhow::{Context, Result, bail};
use maple_mm::{
    AddressSpace, Backing, File, FileAccess, FileId, FileKind, FileRef, Setup, VmFlags, VmaSpec,
};

use crate::procfs::MapLine;
use crate::verdict::Status;

/// Prints the tree of `what`: a process id, `self`, or a file in the format of `maps`.
///
/// # Errors
///
/// If there is no such process or file, or it can't be read as `maps`.
pub(crate) fn run(what: &str) -> Result<Status> {
    let text = read(what)?;
    let picture = picture(&text)?;
    crate::print(&picture).context("cannot write the picture")
}

/// Far more than the mappings of any process: what is longer is something else.
const LONGEST: u64 = 256 << 20;

/// What a file holds, or one byte more than [`LONGEST`] of it.
fn contents(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(LONGEST + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Text for a terminal: a file's name may hold anything.
fn printable(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

fn read(what: &str) -> Result<String> {
    let is_process = what == "self" || what.bytes().all(|byte| byte.is_ascii_digit());
    let path = if is_process {
        format!("/proc/{what}/maps")
    } else {
        what.to_owned()
    };
    let bytes = contents(&path).with_context(|| {
        if is_process {
            format!("cannot read {path}: is there a process {what}, and is it yours?")
        } else {
            format!("cannot read {path}: give a process id, `self`, or a saved maps file")
        }
    })?;
    if bytes.is_empty() {
        bail!("{path} is empty: kernel threads and zombies have no mappings");
    }
    if bytes.len() as u64 > LONGEST {
        bail!("{path} is longer than 256 MiB: that is no maps file");
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The summary and the tree.
fn picture(text: &str) -> Result<String> {
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // An editor may have removed the blank that ends a line without a name.
        let parsed = MapLine::parse(line).or_else(|| MapLine::parse(&format!("{line} ")));
        let parsed = parsed.with_context(|| {
            let start: String = line.chars().take(100).collect();
            let (number, start) = (number + 1, printable(&start));
            format!("line {number} is no line of /proc/PID/maps: {start}")
        })?;
        lines.push(parsed);
    }
    lines.retain(|line| line.name != "[vsyscall]");
    let mut files = HashMap::new();
    let specs: Vec<VmaSpec> = lines
        .iter()
        .map(|line| spec(line, &mut files))
        .collect::<Result<_>>()?;
    let space = AddressSpace::from_layout(Setup::default(), specs)
        .map_err(|error| anyhow::anyhow!("these are not the mappings of a process: {error}"))?;
    let mut picture = summary(&space, &lines);
    annotate(&mut picture, &space.tree().dump().to_string(), &lines);
    Ok(picture)
}

fn spec(line: &MapLine, files: &mut HashMap<((u32, u32), u64), FileRef>) -> Result<VmaSpec> {
    let letters = line.access.as_bytes();
    let mut flags = VmFlags::MAYREAD | VmFlags::MAYWRITE | VmFlags::MAYEXEC;
    let pairs = [
        (b'r', VmFlags::READ),
        (b'w', VmFlags::WRITE),
        (b'x', VmFlags::EXEC),
        (b's', VmFlags::SHARED | VmFlags::MAYSHARE),
    ];
    for (letter, flag) in pairs {
        if letters.contains(&letter) {
            flags |= flag;
        }
    }
    let next = FileId(files.len() as u64);
    let backing = if line.has_file() {
        let file = match files.entry((line.device, line.inode)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(FileRef::new(File {
                id: next,
                device: line.device,
                inode: line.inode,
                name: line.name.as_str().into(),
                kind: FileKind::Regular {
                    huge_aligned: false,
                },
                access: FileAccess::READ,
            })?),
        };
        Backing::File(file.clone())
    } else {
        Backing::Anonymous
    };
    let (start, end) = (line.start, line.end);
    let page_offset = if line.has_file() {
        line.offset / 4096
    } else {
        start / 4096
    };
    Ok(VmaSpec {
        start,
        end,
        flags,
        page_offset,
        backing,
        written: false,
    })
}

fn summary(space: &AddressSpace, lines: &[MapLine]) -> String {
    let mapped: u64 = lines
        .iter()
        .map(|line| line.end.saturating_sub(line.start))
        .sum();
    let gap = |pair: &[MapLine]| pair[1].start.saturating_sub(pair[0].end);
    let widest = lines.windows(2).map(gap).max().unwrap_or(0);
    let holes = lines.windows(2).filter(|pair| gap(pair) > 0).count();
    format!(
        "{} mappings, {} KiB mapped, {holes} holes between them (the widest {} KiB)\n",
        space.map_count(),
        mapped >> 10,
        widest >> 10
    )
}

/// Puts what each entry is behind its line. The picture has them in ascending order.
fn annotate(picture: &mut String, dump: &str, lines: &[MapLine]) {
    let mut entries = lines.iter();
    for line in dump.lines() {
        let is_entry = line.split_whitespace().nth(1) == Some("entry");
        match is_entry.then(|| entries.next()).flatten() {
            Some(entry) => {
                let name = printable(&entry.name);
                let _ = writeln!(picture, "{line}  {} {name}", entry.access);
            }
            None => {
                let _ = writeln!(picture, "{line}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_has_a_picture() {
        let picture = picture(&read("self").unwrap()).unwrap();
        assert!(picture.contains("[stack]"), "{picture}");
        assert!(picture.contains("mappings,"));
    }

    #[test]
    fn names_are_escaped_and_a_trailing_blank_may_be_missing() {
        let text =
            "1000-2000 rw-p 00000000 00:00 0\n3000-4000 r--p 00000000 fe:00 12 /a\x1b[31mb\n";
        let picture = picture(text).unwrap();
        assert!(picture.contains(r"/a\u{1b}[31mb"), "{picture}");
    }

    #[test]
    fn what_never_ends_is_refused() {
        let error = read("/dev/zero").unwrap_err().to_string();
        assert!(error.contains("longer than"), "{error}");
    }

    #[test]
    fn what_is_no_maps_file_is_refused() {
        assert!(
            picture("hello\n")
                .unwrap_err()
                .to_string()
                .contains("line 1")
        );
        let backwards = "2000-3000 rw-p 00000000 00:00 0 \n1000-2000 rw-p 00000000 00:00 0 \n";
        assert!(picture(backwards).is_err());
        assert!(picture("1001-2000 rw-p 00000000 00:00 0 \n").is_err());
        assert!(picture("3000-2000 rw-p 00000000 00:00 0 \n").is_err());
    }
}
