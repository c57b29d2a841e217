//! What the kernel shows of one process, compared with the model.

use std::fs::File;

use anyhow::{Context, Result};
use maple_mm::AddressSpace;

use crate::call::Call;
use crate::compare;
use crate::engine::MmId;
use crate::event::Counters;
use crate::facts::Handles;
use crate::mirror::Mirror;
use crate::observe;
use crate::procfs;
use crate::ptrace::Tid;
use crate::verdict::{LinePair, differing_lines};

/// How much is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The mappings around these ranges, or all where those differ, and the counters.
    Near(Vec<(u64, u64)>),
    /// All of `maps`, and the counters.
    Maps,
    /// The flags of every mapping, too.
    Whole,
}

/// Open files of one process in `/proc`.
#[derive(Debug)]
pub(crate) struct Eyes {
    handles: Handles,
    smaps: File,
    status: File,
}

/// What the kernel showed, as far as it was looked at.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) maps: Option<String>,
    pub(crate) flags: Option<String>,
    pub(crate) counters: Option<Counters>,
    /// Memory to read into.
    bytes: Vec<u8>,
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
            handles: Handles::open(pid)?,
            smaps: open("smaps")?,
            status: open("status")?,
        })
    }

    /// The guards that a call will meet without a word of it; `space` is the model of the process.
    pub(crate) fn guards_met(&self, space: &AddressSpace, call: &Call) -> Vec<u64> {
        observe::guards_met(&self.handles, space, call)
    }

    /// The first guard of a range.
    pub(crate) fn first_guard(&self, range: (u64, u64)) -> Option<u64> {
        observe::first_guard(&self.handles, range)
    }

    /// The first page of a range that is not there.
    pub(crate) fn first_absent_page(&self, range: (u64, u64)) -> Option<u64> {
        observe::first_absent_page(&self.handles, range)
    }

    /// Looks, and gives where the model of the process shows something else.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub(crate) fn compare(
        &self,
        depth: &Depth,
        (mirror, mm): (&Mirror, MmId),
        seen: &mut Seen,
    ) -> Result<Vec<LinePair>> {
        (seen.maps, seen.flags, seen.counters) = (None, None, None);
        match depth {
            Depth::Near(near) if compare::is_same_near(mirror, mm, &self.handles, near) => {}
            Depth::Near(_) | Depth::Maps => {
                let maps = read(&self.handles.maps, &mut seen.bytes)?;
                seen.maps = Some(maps.to_owned());
            }
            Depth::Whole => {
                let (maps, flags) = both(read(&self.smaps, &mut seen.bytes)?);
                (seen.maps, seen.flags) = (Some(maps), Some(flags));
            }
        }
        let status = read(&self.status, &mut seen.bytes)?;
        seen.counters = Some(counters(status).context("status lacks a counter")?);
        Ok(differences(seen, mirror, mm))
    }
}

/// Reads a whole file from its beginning.
fn read<'a>(file: &File, bytes: &'a mut Vec<u8>) -> Result<&'a str> {
    let len = procfs::read_again(file, bytes);
    let len = len.context("a process to torture cannot be looked at")?;
    std::str::from_utf8(&bytes[..len]).context("what the kernel shows is no text")
}

/// What `maps` would show, and the words of each mapping's `VmFlags` behind its range, from
/// `smaps`. The gate is no mapping, and has no flags here.
fn both(smaps: &str) -> (String, String) {
    const WORDS: &str = "VmFlags: ";
    let (mut maps, mut flags) = (
        String::with_capacity(8 << 10),
        String::with_capacity(4 << 10),
    );
    let mut rest = smaps;
    // The lines between are as long in each mapping, unless a number is very large.
    let mut usual = 0;
    while let Some(head) = rest.find('\n') {
        maps.push_str(&rest[..=head]);
        let range = rest.split(' ').next().unwrap_or_default();
        rest = &rest[head + 1..];
        let is_there = rest
            .get(usual..)
            .is_some_and(|rest| rest.starts_with(WORDS));
        if !is_there {
            let Some(found) = rest.find(WORDS) else { break };
            usual = found;
        }
        let words = &rest[usual + WORDS.len()..];
        let end = words.find('\n').unwrap_or(words.len());
        if !range.starts_with("ffffffffff") {
            push_trimmed(&mut flags, range);
            flags.push(' ');
            flags.push_str(words[..end].trim_end());
            flags.push('\n');
        }
        rest = words.get(end + 1..).unwrap_or_default();
    }
    (maps, flags)
}

/// Pushes a range, both ends without leading zeros.
fn push_trimmed(text: &mut String, range: &str) {
    if let Some((start, end)) = range.split_once('-') {
        let trimmed =
            |number: &str| -> usize { number.len() - number.trim_start_matches('0').len().max(1) };
        text.push_str(&start[trimmed(start)..]);
        text.push('-');
        text.push_str(&end[trimmed(end)..]);
    }
}

fn counters(status: &str) -> Option<Counters> {
    // In the order in which they stand.
    let mut rest = status;
    let mut pages = |name: &str| -> Option<u64> {
        rest = rest.split_once(name)?.1;
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
fn differences(seen: &Seen, mirror: &Mirror, mm: MmId) -> Vec<LinePair> {
    if let Some(kernel) = &seen.maps {
        let model = mirror.text(mm).unwrap_or_default();
        if model != *kernel {
            return differing_lines(kernel, &model);
        }
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
    fn smaps_tells_what_maps_tells_and_flags() {
        let eyes = Eyes::open(std::process::id() as Tid).unwrap();
        let mut bytes = Vec::new();
        let smaps = read(&eyes.smaps, &mut bytes).unwrap();
        let (maps, flags) = both(smaps);
        let heads = || {
            smaps
                .lines()
                .filter(|line| line.contains('-') && !line.contains("kB"))
        };
        assert_eq!(
            maps.lines().collect::<Vec<_>>(),
            heads().collect::<Vec<_>>()
        );
        assert!(flags.lines().all(|line| line.contains(" mr")), "{flags}");
        assert!(flags.lines().count() + 1 >= maps.lines().count());
    }

    #[test]
    fn lines_of_another_length_are_found() {
        let smaps = "1-2 r\nSize: 4 kB\nVmFlags: rd mr \n02-003 w\nSize: 40000 kB\nVmFlags: wr \n";
        let (maps, flags) = both(smaps);
        assert_eq!(maps, "1-2 r\n02-003 w\n");
        assert_eq!(flags, "1-2 rd mr\n2-3 wr\n");
    }

    #[test]
    fn counters_of_our_own_process_are_read() {
        let status = procfs::read(std::process::id() as Tid, "status").unwrap();
        assert!(counters(&status).unwrap().total > 100);
    }
}
