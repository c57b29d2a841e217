//! What stands behind a mapping: nothing, an open file, or a page the kernel gave.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use core::ops::Deref;

use crate::counted::Counted;
use crate::errno::Errno;
use crate::file_pages::FilePagesRef;
use crate::huge_pages::Promise;

bitflags::bitflags! {
    /// What an open file allows a mapping to do.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct FileAccess: u32 {
        /// Opened for reading.
        const READ = 1 << 0;
        /// Opened for writing.
        const WRITE = 1 << 1;
        /// The inode may only be appended to.
        const APPEND_ONLY = 1 << 2;
        /// On a mount without execution.
        const NO_EXEC = 1 << 3;
        /// Cannot be mapped at all (a pipe, a directory, most of `/proc`).
        const NO_MMAP = 1 << 4;
        /// In use as swap space.
        const SWAP = 1 << 5;
        /// Sealed against writing (`F_SEAL_WRITE`).
        const WRITE_SEALED = 1 << 6;
        /// Supports `MAP_SYNC`.
        const SYNC = 1 << 7;
        /// Its mappings are told of ([`MappingHooks`](crate::MappingHooks)), and never vanish in
        /// a merge.
        const HOOKED = 1 << 8;
        /// Knows `MAP_SYNC` and refuses it late, for want of DAX (ext4, xfs).
        const SYNC_REFUSED = 1 << 9;
        /// Each new mapping takes another file in its place once it is made, as overlayfs hands out
        /// the file below. So it joins no neighbour while it is made, and all that comes later
        /// (moves, changes of flags) is about the file below, whose kind is the one given here.
        const FILE_BELOW = 1 << 10;
    }
}

/// The identity of an *open file*: `dup` shares it, a second `open` does not.
///
/// Mappings of one file merge only when they come from the same open file. Numbers with the
/// highest bit set are given out by the model for shared anonymous memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

impl FileId {
    /// The bit that marks the identities the model gives out.
    pub const MODEL_BIT: u64 = 1 << 63;
}

/// What kind of file it is, as far as placement and limits depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A file of a disk file system.
    Regular {
        /// Whether the file system places mappings of 2 MiB and more on 2 MiB boundaries
        /// (ext4, xfs, btrfs, erofs and fuse do).
        huge_aligned: bool,
    },
    /// A file of tmpfs, a `memfd`, or the object behind shared anonymous memory.
    Shmem,
    /// A file of tmpfs that may have huge pages (mounted with `huge=`): large mappings of it lie so
    /// that these fit.
    HugeShmem,
    /// `/dev/zero`: a private mapping of it is anonymous memory that keeps its file.
    DevZero,
    /// A System V shared memory segment: each attach is an open file of its own.
    SystemV {
        /// Its length in bytes.
        bytes: u64,
    },
    /// Another device or pseudo file.
    Device,
}

/// A shared [`File`], and its pages where there are any: what mappings hold.
///
/// # Examples
///
/// ```
/// use maple_mm::{File, FileId, FileRef};
/// let file = FileRef::new(File::shared_anonymous(FileId(1))?)?;
/// let again = file.clone();
/// assert_eq!((again.id, FileRef::count(&file)), (FileId(1), 2));
/// assert!(file.pages().is_none());
/// # Ok::<(), maple_mm::Errno>(())
/// ```
#[derive(Clone)]
pub struct FileRef(Counted<Opened>);

/// An open file and what is in it.
struct Opened {
    file: File,
    pages: Option<FilePagesRef>,
    /// The explicitly huge pages that are kept for it.
    promise: Option<Counted<Promise>>,
}

impl FileRef {
    /// A file whose contents are not known: touching a mapping of it that has pages is a
    /// [`Fault::Bus`](crate::Fault::Bus).
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`] if there is no memory for it.
    pub fn new(file: File) -> Result<Self, Errno> {
        Self::of(file, None, None)
    }

    pub(crate) fn of(
        file: File,
        pages: Option<FilePagesRef>,
        promise: Option<Counted<Promise>>,
    ) -> Result<Self, Errno> {
        let opened = Opened {
            file,
            pages,
            promise,
        };
        Counted::new(opened).map(Self)
    }

    /// A file with these pages. Several open files may have the same.
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`] if there is no memory for it.
    pub fn with_pages(file: File, pages: FilePagesRef) -> Result<Self, Errno> {
        Self::of(file, Some(pages), None)
    }

    /// The file's pages.
    #[must_use]
    pub fn pages(&self) -> Option<&FilePagesRef> {
        self.0.pages.as_ref()
    }

    /// How many pointers lead to the file; others may come and go meanwhile.
    #[must_use]
    pub fn count(this: &Self) -> usize {
        Counted::count(&this.0)
    }

    /// Whether both lead to the same file.
    #[must_use]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        Counted::ptr_eq(&this.0, &other.0)
    }

    /// The explicitly huge pages that are kept for it.
    pub(crate) fn promise(&self) -> Option<&Promise> {
        self.0.promise.as_deref()
    }

    /// This, or a copy with what `known` has and this lacks: pages, and what is kept for it.
    pub(crate) fn with_pages_of(&self, known: &Self) -> Result<Self, Errno> {
        let lacks_pages = self.pages().is_none() && known.pages().is_some();
        let lacks_promise = self.promise().is_none() && known.promise().is_some();
        if !lacks_pages && !lacks_promise {
            return Ok(self.clone());
        }
        let pages = self.pages().or(known.pages()).cloned();
        let promise = self.0.promise.as_ref().or(known.0.promise.as_ref());
        Self::of(self.try_clone()?, pages, promise.cloned())
    }
}

impl Deref for FileRef {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0.file
    }
}

impl PartialEq for FileRef {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for FileRef {}

impl fmt::Debug for FileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// An open file, as far as its mappings show it.
///
/// # Examples
///
/// ```
/// use maple_mm::{File, FileAccess, FileId, FileKind};
/// let file = File {
///     id: FileId(3),
///     device: (0xfe, 0),
///     inode: 42,
///     name: "/usr/bin/ls".into(),
///     kind: FileKind::Regular { huge_aligned: true },
///     access: FileAccess::READ,
/// };
/// assert!(file.access.contains(FileAccess::READ));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Which open file.
    pub id: FileId,
    /// Major and minor number of the device.
    pub device: (u32, u32),
    /// The inode's number.
    pub inode: u64,
    /// The name as `/proc/PID/maps` prints it, `/dev/zero (deleted)` included.
    pub name: Box<str>,
    /// What placement and limits depend on.
    pub kind: FileKind,
    /// What it allows.
    pub access: FileAccess,
}

impl File {
    /// The object the kernel makes for `MAP_SHARED | MAP_ANONYMOUS`; its inode is not known yet.
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`] if there is no memory for the name.
    pub fn shared_anonymous(id: FileId) -> Result<Self, Errno> {
        Ok(Self {
            id,
            device: (0, 1),
            inode: 0,
            name: boxed("/dev/zero (deleted)")?,
            kind: FileKind::Shmem,
            access: FileAccess::READ | FileAccess::WRITE,
        })
    }

    /// The object the kernel makes for `MAP_HUGETLB | MAP_ANONYMOUS`; its device and inode are
    /// not known yet.
    pub(crate) fn huge_anonymous(id: FileId) -> Result<Self, Errno> {
        Ok(Self {
            device: (0, 0),
            name: boxed("/anon_hugepage (deleted)")?,
            ..Self::shared_anonymous(id)?
        })
    }

    /// A copy, or no memory for its name.
    fn try_clone(&self) -> Result<Self, Errno> {
        let name = boxed(&self.name)?;
        Ok(Self { name, ..*self })
    }

    /// The highest byte offset plus one that may be mapped.
    pub(crate) const fn max_bytes(&self) -> u64 {
        match self.kind {
            FileKind::Regular { .. }
            | FileKind::Shmem
            | FileKind::HugeShmem
            | FileKind::SystemV { .. } => i64::MAX as u64,
            FileKind::DevZero | FileKind::Device => u64::MAX,
        }
    }

    /// Whether it lies in memory alone.
    pub(crate) const fn is_shmem(&self) -> bool {
        matches!(self.kind, FileKind::Shmem | FileKind::HugeShmem)
    }

    /// Whether it is an attach of a System V segment.
    pub(crate) const fn is_segment(&self) -> bool {
        matches!(self.kind, FileKind::SystemV { .. })
    }

    /// Whether a mapping may not vanish in a merge, because its end is an event.
    pub(crate) const fn has_close(&self) -> bool {
        self.is_segment() || self.access.contains(FileAccess::HOOKED)
    }
}

/// A mapping the kernel made itself: `[vdso]`, `[vvar]`, `[vvar_vclock]`. It cannot be split.
///
/// # Examples
///
/// ```
/// use maple_mm::Special;
/// assert_eq!(Special::new("[vdso]")?.name(), "[vdso]");
/// # Ok::<(), maple_mm::Errno>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Special(Counted<Box<str>>);

impl Special {
    /// A mapping that `/proc/PID/maps` calls `name`, with its brackets.
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`] if there is no memory for the name.
    pub fn new(name: &str) -> Result<Self, Errno> {
        Ok(Self(Counted::new(boxed(name)?)?))
    }

    /// The name `/proc/PID/maps` prints, with its brackets.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// A text of its own, or no memory for it.
fn boxed(text: &str) -> Result<Box<str>, Errno> {
    let mut copy = String::new();
    copy.try_reserve_exact(text.len())
        .map_err(|_| Errno::ENOMEM)?;
    copy.push_str(text);
    // Reserved exactly, so nothing is allocated anew.
    Ok(copy.into_boxed_str())
}

/// What stands behind a mapping.
#[derive(Clone, Debug)]
pub enum Backing {
    /// Nothing: zeroes on first touch.
    Anonymous,
    /// An open file.
    File(FileRef),
    /// Pages the kernel gave.
    Special(Special),
}

impl Backing {
    /// The open file, if one stands behind the mapping.
    #[must_use]
    pub fn file(&self) -> Option<&FileRef> {
        match self {
            Self::File(file) => Some(file),
            Self::Anonymous | Self::Special(_) => None,
        }
    }

    /// Whether both are the same thing for merging: the same open file, or both anonymous.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Anonymous, Self::Anonymous) => true,
            (Self::File(left), Self::File(right)) => left.id == right.id,
            (Self::Special(left), Self::Special(right)) => left == right,
            _ => false,
        }
    }
}

/// What a caller of `mmap` passed as the file descriptor.
#[derive(Clone, Debug)]
pub enum MmapFile {
    /// `MAP_ANONYMOUS`, or no descriptor.
    None,
    /// A descriptor that is not open.
    Bad,
    /// An open file.
    Open(FileRef),
}
