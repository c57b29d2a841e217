//! System V segments, userfaultfds and nodes of memory, as `/proc` shows them to whoever asks for another process.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::call::{Call, CallSegment, SegmentFacts, WatcherFacts};
use crate::decode;
use crate::procfs;
use crate::ptrace::Tid;

/// One line of `/proc/sysvipc/shm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    key: u32,
    id: u64,
    mode: u32,
    bytes: u64,
    owners: [u32; 2],
    groups: [u32; 2],
}

impl Row {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: usize| words.get(at)?.parse::<u32>().ok();
        Some(Self {
            // Printed with a sign.
            key: words.first()?.parse::<i32>().ok()?.cast_unsigned(),
            id: words.get(1)?.parse().ok()?,
            mode: u32::from_str_radix(words.get(2)?, 8).ok()?,
            bytes: words.get(3)?.parse().ok()?,
            owners: [number(7)?, number(9)?],
            groups: [number(8)?, number(10)?],
        })
    }

    /// The key in the segment's name, which stays when the segment is removed: then the table says
    /// 0, but whoever has it attached shows the name.
    fn named_key(&self, tid: Tid) -> Option<u32> {
        /// `SHM_DEST`: it ends with its last attach.
        const REMOVED: u32 = 0o1000;
        if self.key != 0 || self.mode & REMOVED == 0 {
            return Some(self.key);
        }
        let of_task = |tid: Tid| {
            let maps = procfs::read(tid, "maps").ok()?;
            maps.lines().find_map(|line| self.key_in(line))
        };
        of_task(tid).or_else(|| {
            let tasks = fs::read_dir("/proc").ok()?.flatten();
            let mut tids = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok());
            tids.find_map(of_task)
        })
    }

    /// The key, if a line of `maps` is about this segment.
    fn key_in(&self, line: &str) -> Option<u32> {
        let (facts, name) = line.split_once("/SYSV")?;
        let inode = facts.split_ascii_whitespace().nth(4)?;
        let is_ours = inode.parse() == Ok(self.id);
        u32::from_str_radix(name.get(..8)?, 16)
            .ok()
            .filter(|_| is_ours)
    }
}

/// What the kernel asks of whoever attaches a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asker {
    user: u32,
    groups: Vec<u32>,
    /// `CAP_IPC_OWNER`.
    is_owner_of_all: bool,
}

impl Asker {
    fn parse(status: &str) -> Option<Self> {
        const IPC_OWNER: u64 = 1 << 15;
        let words = |name: &str| -> Option<Vec<u32>> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace()
                .map(|word| word.parse().ok())
                .collect()
        };
        let mut groups = words("Groups:")?;
        groups.push(*words("Gid:")?.get(3)?);
        let capabilities = procfs::parse_capabilities(status).ok()?;
        Some(Self {
            user: *words("Uid:")?.get(1)?,
            groups,
            is_owner_of_all: capabilities & IPC_OWNER != 0,
        })
    }

    /// What it may do, in the bits of a mode.
    fn permitted(&self, row: &Row) -> u32 {
        let shift = if row.owners.contains(&self.user) {
            6
        } else if row.groups.iter().any(|group| self.groups.contains(group)) {
            3
        } else {
            0
        };
        if self.is_owner_of_all {
            7
        } else {
            row.mode >> shift & 7
        }
    }
}

fn rows() -> Option<Vec<Row>> {
    let table = fs::read_to_string("/proc/sysvipc/shm").ok()?;
    Some(table.lines().filter_map(Row::parse).collect())
}

/// What the identifier `id` leads to, asked by the thread `tid`.
///
/// # Errors
///
/// Why that cannot be known.
pub(crate) fn segment(tid: Tid, id: i32) -> Result<CallSegment, &'static str> {
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/ipc")).ok();
    if namespace(&tid.to_string()) != namespace("self") {
        return Err("shmat in another IPC namespace");
    }
    let unreadable = "shmat whose segment could not be looked up";
    let rows = rows().ok_or(unreadable)?;
    Ok(match u64::try_from(id) {
        Ok(id) => match rows.iter().find(|row| row.id == id) {
            Some(row) => {
                let key = row
                    .named_key(tid)
                    .ok_or("shmat of a removed segment whose name could not be found")?;
                let status = procfs::read(tid, "status").map_err(|_| unreadable)?;
                let asker = Asker::parse(&status).ok_or(unreadable)?;
                CallSegment::Known(SegmentFacts {
                    id: row.id,
                    key,
                    bytes: row.bytes,
                    permitted: asker.permitted(row),
                })
            }
            None => without_row(&rows, id),
        },
        Err(_) => CallSegment::Absent,
    })
}

/// An identifier is a place in a table and a count of its uses.
fn without_row(rows: &[Row], id: u64) -> CallSegment {
    const PLACES: u64 = 1 << 15;
    if rows.iter().any(|row| row.id % PLACES == id % PLACES) {
        CallSegment::Removed
    } else {
        CallSegment::Absent
    }
}

/// The length of the segment `id`, in bytes.
pub(crate) fn length(id: u64) -> Option<u64> {
    let rows = rows()?;
    rows.iter().find(|row| row.id == id).map(|row| row.bytes)
}

/// Which userfaultfd descriptor `fd` of the thread `tid` is; `None` within if nothing was agreed
/// with it yet.
///
/// # Errors
///
/// Why that cannot be known.
pub(crate) fn watcher(tid: Tid, fd: i32) -> Result<Option<WatcherFacts>, &'static str> {
    const AGREED: u64 = 1 << 31;
    const EVENT_FORK: u64 = 1 << 1;
    let unknown = "ioctl(UFFDIO_REGISTER) of a descriptor that could not be looked at";
    let id = userfault_inode(tid, fd).ok_or(unknown)?;
    let info = procfs::read(tid, &format!("fdinfo/{fd}")).map_err(|_| unknown)?;
    let features = parse_features(&info).ok_or(unknown)?;
    if features & EVENT_FORK != 0 {
        return Err("ioctl(UFFDIO_REGISTER) with UFFD_FEATURE_EVENT_FORK");
    }
    let facts = WatcherFacts {
        id,
        features: features & !AGREED,
    };
    Ok((features & AGREED != 0).then_some(facts))
}

/// `API:`, then version, features and ioctls, in hexadecimal.
fn parse_features(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix("API:"))?;
    let features = line.trim().split(':').nth(1)?;
    u64::from_str_radix(features, 16).ok()
}

/// The inode of a userfaultfd: each has its own.
pub(crate) fn userfault_inode(tid: Tid, fd: i32) -> Option<u64> {
    userfault_inode_at(&procfs::path(tid, &format!("fd/{fd}")))
}

fn userfault_inode_at(link: &Path) -> Option<u64> {
    let target = fs::read_link(link).ok()?;
    if target.to_str()? != "anon_inode:[userfaultfd]" {
        return None;
    }
    Some(fs::metadata(link).ok()?.ino())
}

/// Whether one of `tids` has a descriptor of the userfaultfd `id`.
pub(crate) fn is_open(tids: impl IntoIterator<Item = Tid>, id: u64) -> bool {
    tids.into_iter().any(|tid| {
        let Ok(links) = fs::read_dir(procfs::path(tid, "fd")) else {
            // It cannot be asked any more: nothing is concluded.
            return Path::new(&format!("/proc/{tid}/status")).exists();
        };
        links
            .filter_map(Result::ok)
            .any(|link| userfault_inode_at(&link.path()) == Some(id))
    })
}

/// A call on memory policies with the nodes that it depends on, asked by the thread `tid`.
///
/// # Errors
///
/// Why that cannot be known.
pub(crate) fn with_nodes(tid: Tid, call: Call) -> Result<Call, &'static str> {
    Ok(match call {
        Call::Mbind {
            addr,
            len,
            mode,
            nodes,
            flags,
            ..
        } => Call::Mbind {
            addr,
            len,
            mode,
            nodes,
            allowed: allowed_nodes(tid).ok_or("mbind where nodes are not known")?,
            flags,
        },
        Call::SetHomeNode { addr, len, home } => {
            let online = nodes_file("online").ok_or("mbind where nodes are not known")?;
            let is_there = |home: &u32| online.checked_shr(*home).is_some_and(|bits| bits & 1 != 0);
            Call::SetHomeNode {
                addr,
                len,
                home: home.filter(is_there),
            }
        }
        call => call,
    })
}

/// The nodes with memory that a process may use, of the first 64.
pub(crate) fn allowed_nodes(tid: Tid) -> Option<u64> {
    let status = procfs::read(tid, "status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Mems_allowed_list:"))?;
    Some(parse_nodes(line)? & nodes_file("has_memory")?)
}

fn nodes_file(name: &str) -> Option<u64> {
    parse_nodes(&fs::read_to_string(format!("/sys/devices/system/node/{name}")).ok()?)
}

/// A list such as `0-2,5`.
fn parse_nodes(list: &str) -> Option<u64> {
    let mut nodes = 0;
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let end = last.checked_add(1)?;
        nodes |= decode::low_bits(end) & !decode::low_bits(first);
    }
    Some(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "  -2  32779  1640  12388 15941 0 2 1000 100 7 8 0 0 1795305855 0 0";

    #[test]
    fn a_line_is_read_and_the_heading_is_not() {
        let row = Row::parse(LINE).unwrap();
        let (key, id, mode, bytes) = (u32::MAX - 1, 32_779, 0o1640, 12_388);
        let (owners, groups) = ([1000, 7], [100, 8]);
        let expected = Row {
            key,
            id,
            mode,
            bytes,
            owners,
            groups,
        };
        assert_eq!(row, expected);
        assert_eq!(Row::parse("key shmid perms size cpid lpid"), None);
    }

    #[test]
    fn the_nearest_relation_grants_and_a_capability_grants_all() {
        let row = Row::parse(LINE).unwrap();
        let asker = |user, group, is_owner_of_all| Asker {
            user,
            groups: vec![group],
            is_owner_of_all,
        };
        assert_eq!(asker(1000, 0, false).permitted(&row), 6);
        assert_eq!(asker(7, 100, false).permitted(&row), 6);
        assert_eq!(asker(5, 8, false).permitted(&row), 4);
        assert_eq!(asker(5, 5, false).permitted(&row), 0);
        assert_eq!(asker(5, 5, true).permitted(&row), 7);
    }

    #[test]
    fn a_place_that_was_used_again_means_removed() {
        let rows = [Row::parse(LINE).unwrap()];
        assert_eq!(without_row(&rows, 11), CallSegment::Removed);
        assert_eq!(without_row(&rows, 12), CallSegment::Absent);
    }

    #[test]
    fn features_are_the_second_field() {
        let info = "pos:\t0\npending:\t0\ntotal:\t0\nAPI:\taa:80008000:1ffff\n";
        assert_eq!(parse_features(info), Some(0x8000_8000));
        assert_eq!(parse_features("pos:\t0\n"), None);
    }

    #[test]
    fn lists_of_nodes_are_read() {
        assert_eq!(parse_nodes("0\n"), Some(1));
        assert_eq!(parse_nodes("\t0-2,5"), Some(0b10_0111));
        assert_eq!(parse_nodes("0-63"), Some(u64::MAX));
        assert_eq!(parse_nodes("\n"), Some(0));
        assert_eq!(parse_nodes("x"), None);
    }
}
