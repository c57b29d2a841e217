//! Which open file a descriptor stands for, and what kind of file it is.
//!
//! Two mappings merge only if they come from one *open file*: `dup` shares it, a second `open`
//! does not. So a descriptor of ours is held for each open file some model still maps, and a new
//! mapping's file is compared with those of the same inode.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::stat::{self, FileStat, SFlag};
use nix::sys::statfs::{self, FsType};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::event::{FileClass, FileFacts, access};
use crate::file_probe::{self, FileAnswers, Joined};
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
        let Nature {
            class,
            access: kept,
        } = classify(&stat, &descriptor);
        if class == FileClass::Device {
            return Identified::NotModelled("mmap of a special file");
        }
        let facts = FileFacts {
            id: self.new_id(),
            device: (major(stat.st_dev), minor(stat.st_dev)),
            inode: stat.st_ino,
            name: name_of(&descriptor),
            class,
            access: access_of(flags, &descriptor) | kept,
        };
        self.held.push(Held {
            id: facts.id,
            descriptor,
            inode,
            is_in_memory: matches!(class, FileClass::Shmem | FileClass::HugeShmem),
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
        let Nature {
            class,
            access: kept,
        } = nature_of_line(line, &link);
        let mut bits = access_of_link(&link) | kept & access::HOOKED;
        if matches!(class, FileClass::Shmem | FileClass::HugeShmem)
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

/// What a file's mappings are like.
struct Nature {
    class: FileClass,
    /// Bits of [`access`] that are its file system's doing.
    access: u8,
}

impl From<FileClass> for Nature {
    fn from(class: FileClass) -> Self {
        Self { class, access: 0 }
    }
}

/// What a character device is to mappings; `None` for other files.
fn class_of_device(stat: &FileStat) -> Option<FileClass> {
    const ZERO: (u32, u32) = (1, 5);
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    (kind == SFlag::S_IFCHR).then(|| {
        if (major(stat.st_rdev), minor(stat.st_rdev)) == ZERO {
            FileClass::DevZero
        } else {
            FileClass::Device
        }
    })
}

/// Whether a line is of a System V segment, and not of a file that is called so.
fn is_segment(line: &MapLine) -> bool {
    line.name.starts_with("/SYSV") && line.device.0 == 0 && line.name.ends_with(" (deleted)")
}

fn classify(stat: &FileStat, descriptor: &OwnedFd) -> Nature {
    if let Some(class) = class_of_device(stat) {
        return class.into();
    }
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => regular(descriptor),
        SFlag::S_IFDIR | SFlag::S_IFIFO => FileClass::Unmappable.into(),
        // Some sockets can be mapped, some not: each kind has its own rules.
        _ => FileClass::Device.into(),
    }
}

/// Asks the kernel, as what a file system does for mappings of its files says no list.
fn regular(descriptor: &OwnedFd) -> Nature {
    // One that does not say what it is may still be asked.
    let system = statfs::fstatfs(descriptor).map_or(FsType(0), |fs| fs.filesystem_type());
    if GENERATED.contains(&system.0) {
        return FileClass::Device.into();
    }
    match file_probe::ask(descriptor) {
        Ok(answers) => nature(system, answers),
        Err(Errno::ENODEV) => Nature {
            class: FileClass::Plain,
            access: access::NO_MMAP,
        },
        // Not open for reading: nobody gets a mapping, and the errors are the same everywhere.
        Err(Errno::EACCES) => class_of_fs(system).into(),
        // It has rules of its own.
        Err(_) => FileClass::Device.into(),
    }
}

/// What the answers mean for a file of this file system.
fn nature(system: FsType, answers: FileAnswers) -> Nature {
    let is_handed_on = match answers.joined {
        Joined::Never => system == statfs::OVERLAYFS_SUPER_MAGIC,
        Joined::Later => true,
        Joined::AtOnce | Joined::Always => false,
    };
    let is_hooked = matches!(answers.joined, Joined::Never | Joined::AtOnce);
    if answers.joined == Joined::Never && !is_handed_on {
        return FileClass::Device.into();
    }
    let is_in_memory = if is_handed_on {
        answers.is_in_memory
    } else {
        system == statfs::TMPFS_MAGIC
    };
    let bit = |is_set, bit| if is_set { bit } else { 0 };
    Nature {
        class: match (is_in_memory, answers.is_huge_aligned) {
            (true, true) => FileClass::HugeShmem,
            (true, false) => FileClass::Shmem,
            (false, true) if answers.refuses_sync => FileClass::HugeAligned,
            (false, true) => FileClass::HugeAlignedOnly,
            (false, false) => FileClass::Plain,
        },
        access: bit(is_handed_on, access::FILE_BELOW) | bit(is_hooked, access::HOOKED),
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

fn nature_of_line(line: &MapLine, link: &Path) -> Nature {
    if is_segment(line) {
        return FileClass::SystemV(segments::length(line.inode).unwrap_or(0)).into();
    }
    // Also if its file system is one in memory, as that of devices is.
    let paths = [link, Path::new(&line.name)];
    let stat = paths.into_iter().find_map(|path| stat::stat(path).ok());
    if let Some(class) = stat.and_then(|stat| class_of_device(&stat)) {
        return class.into();
    }
    // The kernel's own way to it, if we may, as the name may be another file's meanwhile.
    match open_regular(link).or_else(|| open_regular(Path::new(&line.name))) {
        Some(file) => regular(&file),
        None => class_by_name(&line.name, link).into(),
    }
}

fn open_regular(path: &Path) -> Option<OwnedFd> {
    let stat = stat::stat(path).ok()?;
    if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return None;
    }
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(flags.bits());
    options.open(path).ok().map(OwnedFd::from)
}

/// As far as the name tells.
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

/// As far as the file system is known.
fn class_of_fs(kind: FsType) -> FileClass {
    match kind {
        statfs::EXT4_SUPER_MAGIC | statfs::XFS_SUPER_MAGIC => FileClass::HugeAligned,
        statfs::BTRFS_SUPER_MAGIC => FileClass::HugeAlignedOnly,
        statfs::TMPFS_MAGIC => FileClass::Shmem,
        kind if GENERATED.contains(&kind.0) => FileClass::Device,
        _ => FileClass::Plain,
    }
}

fn access_of(flags: OFlag, descriptor: &OwnedFd) -> u8 {
    let mut bits = match flags & OFlag::O_ACCMODE {
        OFlag::O_WRONLY => access::WRITABLE,
        OFlag::O_RDWR => access::READABLE | access::WRITABLE,
        OFlag::O_RDONLY => access::READABLE,
        // 3: for `ioctl` alone.
        _ => 0,
    };
    bits |= seals_of(descriptor);
    let is_no_exec = fstatvfs(descriptor).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC));
    // Pipes and the like run no programs, which no flag of their mount says.
    let refused = || file_probe::refusal(descriptor, libc::PROT_NONE).is_some();
    let may_not_run = || file_probe::refusal(descriptor, libc::PROT_EXEC) == Some(Errno::EPERM);
    if is_no_exec || refused() && may_not_run() {
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

    #[test]
    fn a_file_with_the_name_of_a_segment_is_none() {
        let is_one = |line| is_segment(&MapLine::parse(line).unwrap());
        assert!(is_one(
            "1000-2000 rw-s 00000000 00:01 7                          /SYSV0000002a (deleted)"
        ));
        assert!(!is_one(
            "1000-2000 rw-s 00000000 fe:00 7                          /SYSV0000002a"
        ));
        assert!(!is_one(
            "1000-2000 rw-s 00000000 fe:00 7                          /SYSV0000002a (deleted)"
        ));
    }
}
