//! Which open file a descriptor stands for, and what kind of file it is.
//!
//! Two mappings merge only if they come from one *open file*: `dup` shares it, a second `open`
//! does not. So a descriptor of ours is held for each open file some model still maps, and a new
//! mapping's file is compared with those of the same inode.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::stat::{self, FileStat, SFlag};
use nix::sys::statfs::{self, FsType};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::event::{FileClass, FileFacts, access};
use crate::kernel;
use crate::procfs::{self, MapLine};
use crate::ptrace::Tid;
use crate::segments;

/// What `maps` calls the file behind shared anonymous memory.
const SHARED_ANONYMOUS: &str = "/dev/zero (deleted)";
const HUGETLBFS: FsType = statfs::HUGETLBFS_MAGIC;
/// That of `memfd_secret`, whose mappings are locked and never dumped.
const SECRETMEM: FsType = FsType(0x5345_434d);
/// File systems whose files the kernel makes up, each with rules of its own for mapping: proc,
/// sysfs, cgroup, cgroup2, debugfs, tracefs, securityfs, pidfs, nsfs, mqueue.
const GENERATED: &[i64] = &[
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x5049_4446,
    0x6e73_6673,
    0x1980_0202,
];

/// A descriptor's meaning.
#[derive(Debug)]
pub(crate) enum Identified {
    /// Not open, or open only as a path.
    Bad,
    /// An open file seen before.
    Known(u64),
    /// One not seen before.
    New(FileFacts),
    /// One whose mapping the model does not know, or that could not be held: the reason.
    NotModelled(&'static str),
}

#[derive(Debug)]
struct Held {
    id: u64,
    descriptor: OwnedFd,
    inode: (u64, u64),
    /// Its seals may change.
    is_in_memory: bool,
}

/// The open files of all address spaces.
#[derive(Debug)]
pub(crate) struct FileTable {
    next: u64,
    held: Vec<Held>,
    /// Those whose device, inode and name the kernel's own line has told.
    confirmed: HashSet<u64>,
}

impl FileTable {
    /// No file yet; identities begin at `first`.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            next: first,
            held: Vec::new(),
            confirmed: HashSet::new(),
        }
    }

    /// Finds out what descriptor `fd` of the thread `tid` stands for, and holds it.
    pub(crate) fn identify(&mut self, tid: Tid, fd: i32) -> Identified {
        let descriptor = match kernel::copy_descriptor(tid, fd) {
            Ok(descriptor) => descriptor,
            Err(Errno::EBADF) => return Identified::Bad,
            Err(_) => return Identified::NotModelled("mmap of a file that could not be held"),
        };
        let (Ok(flags), Ok(stat)) = (
            fcntl(&descriptor, FcntlArg::F_GETFL),
            stat::fstat(&descriptor),
        ) else {
            return Identified::Bad;
        };
        let flags = OFlag::from_bits_retain(flags);
        if flags.contains(OFlag::O_PATH) {
            return Identified::Bad;
        }
        match statfs::fstatfs(&descriptor).map(|fs| fs.filesystem_type()) {
            Ok(HUGETLBFS) => return Identified::NotModelled("mmap of a hugetlbfs file"),
            Ok(SECRETMEM) => return Identified::NotModelled("mmap of a memfd_secret file"),
            _ => {}
        }
        let inode = (stat.st_dev, stat.st_ino);
        let same = |held: &&Held| {
            held.inode == inode && kernel::same_open_file(&held.descriptor, &descriptor) == Ok(true)
        };
        if let Some(held) = self.held.iter().find(same) {
            return Identified::Known(held.id);
        }
        let class = classify(&stat, &descriptor);
        if class == FileClass::Device {
            return Identified::NotModelled("mmap of a special file");
        }
        let facts = FileFacts {
            id: self.new_id(),
            device: (major(stat.st_dev), minor(stat.st_dev)),
            inode: stat.st_ino,
            name: name_of(&descriptor),
            class,
            access: access_of(flags, &descriptor),
        };
        self.held.push(Held {
            id: facts.id,
            descriptor,
            inode,
            is_in_memory: class == FileClass::Shmem,
        });
        Identified::New(facts)
    }

    /// A file the kernel opened itself, as for a program's own mappings, or that was mapped before
    /// anybody looked: seen only in a `line` of `tid`.
    pub(crate) fn unopened(&mut self, tid: Tid, line: &MapLine) -> FileFacts {
        let id = self.new_id();
        self.confirmed.insert(id);
        // The open file itself, whatever is found under its name now.
        let link = procfs::path(tid, &format!("map_files/{:x}-{:x}", line.start, line.end));
        let class = class_of_line(line, &link);
        let mut bits = access_of_link(&link);
        if class == FileClass::Shmem
            && line.name != SHARED_ANONYMOUS
            && let Ok(file) = File::open(&link)
        {
            let descriptor = OwnedFd::from(file);
            bits |= seals_of(&descriptor);
            self.held.push(Held {
                id,
                descriptor,
                inode: (
                    stat::makedev(line.device.0.into(), line.device.1.into()),
                    line.inode,
                ),
                is_in_memory: true,
            });
        }
        FileFacts {
            id,
            device: line.device,
            inode: line.inode,
            name: line.name.clone(),
            class,
            access: bits,
        }
    }

    /// What the seals of a file that is held mean now, as a bit of [`access`].
    pub(crate) fn seals(&self, id: u64) -> Option<u8> {
        let held = self.held.iter().find(|held| held.id == id)?;
        held.is_in_memory.then(|| seals_of(&held.descriptor))
    }

    /// The files in memory that are held.
    pub(crate) fn in_memory(&self) -> Vec<u64> {
        let in_memory = self.held.iter().filter(|held| held.is_in_memory);
        in_memory.map(|held| held.id).collect()
    }

    fn new_id(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Whether the kernel's own line has told who the file is: from then on only its name may
    /// change.
    pub(crate) fn is_confirmed(&self, id: u64) -> bool {
        self.confirmed.contains(&id)
    }

    /// Remembers that it has.
    pub(crate) fn confirm(&mut self, id: u64) {
        self.confirmed.insert(id);
    }

    /// Lets go of every file that is not `alive`: no model maps it any more.
    pub(crate) fn retain(&mut self, mut alive: impl FnMut(u64) -> bool) {
        self.held.retain(|held| alive(held.id));
    }
}

/// Splits a device number as the kernel encodes it for user space.
const fn major(device: u64) -> u32 {
    (((device >> 8) & 0xfff) | ((device >> 32) & !0xfff)) as u32
}

const fn minor(device: u64) -> u32 {
    ((device & 0xff) | ((device >> 12) & !0xff)) as u32
}

/// The path as `maps` prints it: only newlines are escaped.
fn name_of(descriptor: &OwnedFd) -> String {
    let link = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let path = std::fs::read_link(link).unwrap_or_default();
    path.to_string_lossy().replace('\n', "\\012")
}

fn classify(stat: &FileStat, descriptor: &OwnedFd) -> FileClass {
    const ZERO: (u32, u32) = (1, 5);
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => statfs::fstatfs(descriptor)
            .map_or(FileClass::Plain, |fs| class_of_fs(fs.filesystem_type())),
        SFlag::S_IFCHR if (major(stat.st_rdev), minor(stat.st_rdev)) == ZERO => FileClass::DevZero,
        SFlag::S_IFDIR | SFlag::S_IFIFO => FileClass::Unmappable,
        // Some sockets can be mapped, some not: each kind has its own rules.
        _ => FileClass::Device,
    }
}

/// The bit of [`access`] that the seals of a file in memory set.
fn seals_of(descriptor: &OwnedFd) -> u8 {
    let refused = SealFlag::F_SEAL_WRITE.bits() | SealFlag::F_SEAL_FUTURE_WRITE.bits();
    match fcntl(descriptor, FcntlArg::F_GET_SEALS) {
        Ok(seals) if seals & refused != 0 => access::WRITE_SEALED,
        _ => 0,
    }
}

fn class_of_line(line: &MapLine, link: &Path) -> FileClass {
    if line.name.starts_with("/SYSV") {
        FileClass::SystemV(segments::length(line.inode).unwrap_or(0))
    } else {
        class_by_name(&line.name, link)
    }
}

fn class_by_name(name: &str, link: &Path) -> FileClass {
    if name.starts_with("/memfd:") || name == SHARED_ANONYMOUS {
        return FileClass::Shmem;
    }
    // To follow the link needs a right.
    let system = statfs::statfs(link).or_else(|_| statfs::statfs(name));
    system.map_or(FileClass::Plain, |fs| class_of_fs(fs.filesystem_type()))
}

/// How a mapped file was opened.
///
/// LINUX: the permissions of the links in `map_files` say it.
fn access_of_link(link: &Path) -> u8 {
    let Ok(facts) = std::fs::symlink_metadata(link) else {
        return access::READABLE;
    };
    let bit = |permission: u32, bit: u8| {
        if facts.permissions().mode() & permission != 0 {
            bit
        } else {
            0
        }
    };
    bit(0o400, access::READABLE) | bit(0o200, access::WRITABLE)
}

fn class_of_fs(kind: FsType) -> FileClass {
    match kind {
        statfs::EXT4_SUPER_MAGIC | statfs::XFS_SUPER_MAGIC | statfs::BTRFS_SUPER_MAGIC => {
            FileClass::HugeAligned
        }
        statfs::TMPFS_MAGIC => FileClass::Shmem,
        kind if GENERATED.contains(&kind.0) => FileClass::Device,
        _ => FileClass::Plain,
    }
}

fn access_of(flags: OFlag, descriptor: &OwnedFd) -> u8 {
    let mut bits = match flags & OFlag::O_ACCMODE {
        OFlag::O_WRONLY => access::WRITABLE,
        OFlag::O_RDWR => access::READABLE | access::WRITABLE,
        _ => access::READABLE,
    };
    bits |= seals_of(descriptor);
    if fstatvfs(descriptor).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC)) {
        bits |= access::NO_EXEC;
    }
    if kernel::is_append_only(descriptor) {
        bits |= access::APPEND_ONLY;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dup_is_known_and_a_second_open_is_new() {
        let us = std::process::id() as Tid;
        let exe = std::env::current_exe().unwrap();
        let first = File::open(&exe).unwrap();
        let copy = first.try_clone().unwrap();
        let second = File::open(&exe).unwrap();
        let mut table = FileTable::new(1);
        let Identified::New(facts) = table.identify(us, first.as_raw_fd()) else {
            panic!("the first is new");
        };
        assert_eq!(facts.access & access::READABLE, access::READABLE);
        assert!(
            matches!(table.identify(us, copy.as_raw_fd()), Identified::Known(id) if id == facts.id)
        );
        assert!(matches!(
            table.identify(us, second.as_raw_fd()),
            Identified::New(_)
        ));
        assert!(matches!(table.identify(us, 1 << 20), Identified::Bad));
        table.retain(|id| id != facts.id);
        assert!(matches!(
            table.identify(us, copy.as_raw_fd()),
            Identified::New(_)
        ));
    }
}
