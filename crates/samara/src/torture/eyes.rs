//! What the kernel shows of one process, compared with the model.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use crate::engine::MmId;
use crate::event::Counters;
use crate::mirror::Mirror;
use crate::procfs;
use crate::ptrace::Tid;
use crate::verdict::{LinePair, differing_lines};

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// `maps` and the counters.
    Usual,
    /// The flags of every mapping, too.
    Whole,
}

/// Open files of one process in `/proc`.
#[derive(Debug)]
pub(crate) struct Eyes {
    maps: File,
    smaps: File,
    status: File,
}

/// What the kernel showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) maps: String,
    pub(crate) flags: Option<String>,
    pub(crate) counters: Option<Counters>,
}

impl Eyes {
    /// Opens them.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub(crate) fn open(pid: Tid) -> Result<Self> {
        let open = |name: &str| {
            let path = procfs::path(pid, name);
            File::open(&path).with_context(|| format!("cannot open {}", path.display()))
        };
        Ok(Self {
            maps: open("maps")?,
            smaps: open("smaps")?,
            status: open("status")?,
        })
    }

    /// Looks, into what was seen before.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub(crate) fn look(&self, depth: Depth, seen: &mut Seen) -> Result<()> {
        let mut bytes = std::mem::take(&mut seen.maps).into_bytes();
        read(&self.maps, &mut bytes)?;
        seen.maps = String::from_utf8(bytes).context("maps is no text")?;
        seen.flags = None;
        let mut bytes = Vec::with_capacity(64 << 10);
        if depth == Depth::Whole {
            read(&self.smaps, &mut bytes)?;
            let smaps = std::str::from_utf8(&bytes).context("smaps is no text")?;
            seen.flags = Some(flags(smaps));
        }
        read(&self.status, &mut bytes)?;
        let status = std::str::from_utf8(&bytes).context("status is no text")?;
        seen.counters = Some(counters(status).context("status lacks a counter")?);
        Ok(())
    }
}

/// Reads a whole file from its beginning.
fn read(file: &File, bytes: &mut Vec<u8>) -> io::Result<()> {
    const STEP: usize = 16 << 10;
    let mut at = 0;
    loop {
        if bytes.len() < at + STEP {
            bytes.resize(at + STEP, 0);
        }
        match file.read_at(&mut bytes[at..], at as u64)? {
            0 => break,
            more => at += more,
        }
    }
    bytes.truncate(at);
    Ok(())
}

/// The words of each mapping's `VmFlags` behind its range; those of the gate are no mapping's.
fn flags(smaps: &str) -> String {
    let mut text = String::new();
    for line in smaps.lines() {
        if let Some(words) = line.strip_prefix("VmFlags: ") {
            text.push(' ');
            text.push_str(words.trim_end());
            text.push('\n');
        } else if line
            .starts_with(|first: char| first.is_ascii_digit() || first.is_ascii_lowercase())
        {
            let range = line.split(' ').next().unwrap_or_default();
            if range.starts_with("ffffffffff") {
                break;
            }
            push_trimmed(&mut text, range);
        }
    }
    text
}

/// Pushes a range, both ends without leading zeros.
fn push_trimmed(text: &mut String, range: &str) {
    if let Some((start, end)) = range.split_once('-') {
        let trimmed = |number: &'_ str| -> usize {
            number.len() - number.trim_start_matches('0').len().max(1)
        };
        text.push_str(&start[trimmed(start)..]);
        text.push('-');
        text.push_str(&end[trimmed(end)..]);
    }
}

fn counters(status: &str) -> Option<Counters> {
    let pages = |name: &str| -> Option<u64> {
        let (_, rest) = status.split_once(name)?;
        let number = rest.trim_start().split(' ').next()?;
        Some(number.parse::<u64>().ok()? / 4)
    };
    Some(Counters {
        total: pages("VmSize:")?,
        locked: pages("VmLck:")?,
        data: pages("VmData:")?,
        stack: pages("VmStk:")?,
        exec: pages("VmExe:")? + pages("VmLib:")?,
    })
}

/// Where the model shows something else than the kernel did.
pub(crate) fn differences(seen: &Seen, mirror: &Mirror, mm: MmId) -> Vec<LinePair> {
    let model = mirror.text(mm).unwrap_or_default();
    if model != seen.maps {
        return differing_lines(&seen.maps, &model);
    }
    if let Some(kernel) = &seen.flags {
        let model = mirror.flags(mm).unwrap_or_default();
        if model != *kernel {
            return differing_lines(kernel, &model);
        }
    }
    let model = mirror.counters(mm);
    if model != seen.counters {
        let text = |counters: Option<Counters>| {
            counters.map_or_else(String::new, |counters| counters.to_string())
        };
        return differing_lines(&text(seen.counters), &text(model));
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_counters_of_our_own_process_are_read() {
        let eyes = Eyes::open(std::process::id() as Tid).unwrap();
        let mut seen = Seen::default();
        eyes.look(Depth::Whole, &mut seen).unwrap();
        let flags = seen.flags.unwrap();
        assert!(flags.lines().all(|line| line.contains(" mr")), "{flags}");
        assert!(flags.lines().count() + 1 >= seen.maps.lines().count());
        assert!(seen.counters.unwrap().total > 100);
    }
}
