//! The memory calls of user space: what was asked, as the registers said it, and how to print it.
//!
//! Only calls the model predicts are a [`Call`]; [`crate::decode`] turns registers into one.

use std::fmt;

use maple_mm::Access;
use serde::Serialize;

use crate::process_call::ProcessCall;

/// What stood behind the file-descriptor argument of an `mmap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallFile {
    /// An anonymous mapping: the descriptor is not looked at.
    Anonymous,
    /// The descriptor is not open (or is `O_PATH`): `EBADF`.
    Bad,
    /// An open file, by the identity the session gave it.
    Open(u64),
}

/// A System V segment, as the process that attaches it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFacts {
    pub(crate) id: u64,
    pub(crate) key: u32,
    pub(crate) bytes: u64,
    /// What it may do, in the bits of a mode.
    pub(crate) permitted: u32,
}

/// What the identifier of a `shmat` led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallSegment {
    /// No segment: `EINVAL`.
    Absent,
    /// One that was removed: `EIDRM`.
    Removed,
    Known(SegmentFacts),
}

/// A userfaultfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WatcherFacts {
    /// Its inode.
    pub(crate) id: u64,
    /// What was agreed with `UFFDIO_API`.
    pub(crate) features: u64,
}

/// How a program touches a byte of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    Read,
    Write,
}

/// A memory call with the raw integers user space passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Mmap {
        addr: u64,
        len: u64,
        prot: u64,
        flags: u64,
        offset: u64,
        file: CallFile,
    },
    Munmap {
        addr: u64,
        len: u64,
    },
    Mprotect {
        addr: u64,
        len: u64,
        prot: u64,
    },
    PkeyMprotect {
        addr: u64,
        len: u64,
        prot: u64,
        pkey: i32,
    },
    Mremap {
        addr: u64,
        old_len: u64,
        new_len: u64,
        flags: u64,
        new_addr: u64,
    },
    Brk {
        addr: u64,
    },
    Madvise {
        addr: u64,
        len: u64,
        advice: i32,
    },
    Mlock {
        addr: u64,
        len: u64,
    },
    Mlock2 {
        addr: u64,
        len: u64,
        flags: u64,
    },
    Munlock {
        addr: u64,
        len: u64,
    },
    Mlockall {
        flags: u64,
    },
    Munlockall,
    Mseal {
        addr: u64,
        len: u64,
        flags: u64,
    },
    Shmat {
        id: i32,
        addr: u64,
        flags: u64,
        segment: CallSegment,
    },
    Shmdt {
        addr: u64,
    },
    RemapFilePages {
        start: u64,
        size: u64,
        prot: u64,
        page_offset: u64,
        flags: u64,
    },
    /// `ioctl(UFFDIO_REGISTER)`; without a watcher nothing was agreed yet, which is `EINVAL`.
    UffdRegister {
        start: u64,
        len: u64,
        mode: u64,
        watcher: Option<WatcherFacts>,
    },
    UffdUnregister {
        start: u64,
        len: u64,
        watcher: Option<WatcherFacts>,
    },
    Mbind {
        addr: u64,
        len: u64,
        mode: u64,
        /// The mask that was passed.
        nodes: u64,
        /// The nodes with memory that the process may use.
        allowed: u64,
        flags: u64,
    },
    /// `set_mempolicy_home_node`; without a node that there is, or with flags, it is `EINVAL`.
    SetHomeNode {
        addr: u64,
        len: u64,
        home: Option<u32>,
    },
    Msync {
        addr: u64,
        len: u64,
        flags: u64,
    },
    /// No call of its own: the kernel reads or writes a byte there for another call, which ends
    /// with 1, or with `EFAULT`.
    Touch {
        addr: u64,
        how: Touch,
    },
    /// `prctl(PR_SET_VMA, …)` on a kernel without names for anonymous memory: always `EINVAL`.
    SetVmaName {
        addr: u64,
        len: u64,
    },
    /// A call that concerns the address space as a whole.
    Process(ProcessCall),
}

/// The kinds of call a verdict counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CallKind {
    Mmap,
    Munmap,
    Mprotect,
    PkeyMprotect,
    Mremap,
    Brk,
    Madvise,
    Mlock,
    Mlock2,
    Munlock,
    Mlockall,
    Munlockall,
    Mseal,
    Shmat,
    Shmdt,
    RemapFilePages,
    Userfaultfd,
    Mbind,
    SetHomeNode,
    Msync,
    Touch,
    Prctl,
    Personality,
    ProcessMadvise,
    Fork,
    Exec,
}

impl CallKind {
    /// The system call's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Mmap => "mmap",
            Self::Munmap => "munmap",
            Self::Mprotect => "mprotect",
            Self::PkeyMprotect => "pkey_mprotect",
            Self::Mremap => "mremap",
            Self::Brk => "brk",
            Self::Madvise => "madvise",
            Self::Mlock => "mlock",
            Self::Mlock2 => "mlock2",
            Self::Munlock => "munlock",
            Self::Mlockall => "mlockall",
            Self::Munlockall => "munlockall",
            Self::Mseal => "mseal",
            Self::Shmat => "shmat",
            Self::Shmdt => "shmdt",
            Self::RemapFilePages => "remap_file_pages",
            Self::Userfaultfd => "ioctl(userfaultfd)",
            Self::Mbind => "mbind",
            Self::SetHomeNode => "set_mempolicy_home_node",
            Self::Msync => "msync",
            Self::Touch => "touch",
            Self::Prctl => "prctl",
            Self::Personality => "personality",
            Self::ProcessMadvise => "process_madvise",
            Self::Fork => "fork",
            Self::Exec => "exec",
        }
    }
}

const SHM_REMAP: u64 = 0x4000;

impl Call {
    /// Which kind the verdict counts it under.
    pub(crate) const fn kind(&self) -> CallKind {
        match self {
            Self::Mmap { .. } => CallKind::Mmap,
            Self::Munmap { .. } => CallKind::Munmap,
            Self::Mprotect { .. } => CallKind::Mprotect,
            Self::PkeyMprotect { .. } => CallKind::PkeyMprotect,
            Self::Mremap { .. } => CallKind::Mremap,
            Self::Brk { .. } => CallKind::Brk,
            Self::Madvise { .. } => CallKind::Madvise,
            Self::Mlock { .. } => CallKind::Mlock,
            Self::Mlock2 { .. } => CallKind::Mlock2,
            Self::Munlock { .. } => CallKind::Munlock,
            Self::Mlockall { .. } => CallKind::Mlockall,
            Self::Munlockall => CallKind::Munlockall,
            Self::Mseal { .. } => CallKind::Mseal,
            Self::Shmat { .. } => CallKind::Shmat,
            Self::Shmdt { .. } => CallKind::Shmdt,
            Self::RemapFilePages { .. } => CallKind::RemapFilePages,
            Self::UffdRegister { .. } | Self::UffdUnregister { .. } => CallKind::Userfaultfd,
            Self::Mbind { .. } => CallKind::Mbind,
            Self::SetHomeNode { .. } => CallKind::SetHomeNode,
            Self::Msync { .. } => CallKind::Msync,
            Self::Touch { .. } => CallKind::Touch,
            Self::SetVmaName { .. } => CallKind::Prctl,
            Self::Process(call) => call.kind(),
        }
    }

    /// How pages are brought in by advice to do so.
    pub(crate) fn populates(&self) -> Option<Access> {
        let advice = match self {
            Self::Madvise { advice, .. } => *advice,
            Self::Process(ProcessCall::Advise { advice, .. }) => *advice,
            _ => return None,
        };
        match advice {
            libc::MADV_POPULATE_READ => Some(Access::Read),
            libc::MADV_POPULATE_WRITE => Some(Access::Write),
            _ => None,
        }
    }

    /// The addresses whose VMAs (and their neighbours) can decide the outcome, `result` included
    /// where it is an address. Nothing decides a call with an empty list.
    pub(crate) fn ranges(&self, result: Option<u64>) -> Vec<(u64, u64)> {
        let span = |addr: u64, len: u64| {
            let start = addr & !0xfff;
            (
                start,
                addr.saturating_add(len).saturating_add(0xfff) & !0xfff,
            )
        };
        match *self {
            // One that is refused may have split what it was to replace.
            Self::Mmap {
                addr, len, flags, ..
            } if flags & libc::MAP_FIXED as u64 != 0 => vec![span(addr, len)],
            Self::Mmap { len, .. } => result.map(|at| span(at, len)).into_iter().collect(),
            Self::Munmap { addr, len }
            | Self::Mprotect { addr, len, .. }
            | Self::PkeyMprotect { addr, len, .. }
            | Self::Madvise { addr, len, .. }
            | Self::Mlock { addr, len }
            | Self::Mlock2 { addr, len, .. }
            | Self::Munlock { addr, len }
            | Self::Mseal { addr, len, .. }
            | Self::Msync { addr, len, .. }
            | Self::Mbind { addr, len, .. }
            | Self::SetHomeNode { addr, len, .. }
            | Self::SetVmaName { addr, len } => vec![span(addr, len)],
            Self::Mremap {
                addr,
                old_len,
                new_len,
                flags,
                new_addr,
            } => {
                // An old length of zero still looks at the VMA the address lies in.
                let old = span(addr, old_len.max(1));
                let grown = span(addr, new_len.max(old_len));
                let mut ranges = vec![old, grown];
                let is_fixed = flags & libc::MREMAP_FIXED as u64 != 0;
                ranges.extend(is_fixed.then(|| span(new_addr, new_len)));
                ranges.extend(result.map(|at| span(at, new_len)));
                ranges
            }
            Self::Brk { addr } => result
                .map(|end| span(end.min(addr), 1))
                .into_iter()
                .collect(),
            Self::Shmat {
                segment,
                addr,
                flags,
                ..
            } => {
                let bytes = match segment {
                    CallSegment::Known(facts) => facts.bytes,
                    CallSegment::Absent | CallSegment::Removed => 0,
                };
                let replaced = (flags & SHM_REMAP != 0).then_some(addr);
                let at = result.or(replaced);
                at.map(|at| span(at, bytes)).into_iter().collect()
            }
            Self::RemapFilePages { start, size, .. } => vec![span(start, size)],
            Self::UffdRegister { start, len, .. } | Self::UffdUnregister { start, len, .. } => {
                vec![span(start, len)]
            }
            Self::Process(call) => call.ranges(),
            Self::Shmdt { .. } | Self::Mlockall { .. } | Self::Munlockall => Vec::new(),
            Self::Touch { addr, .. } => vec![span(addr, 1)],
        }
    }
}

/// Names of the bits of `value`, joined by `|`; what has no name is printed in hexadecimal.
fn bits(value: u64, names: &[(u64, &str)], zero: &str) -> String {
    let mut left = value;
    let mut parts: Vec<String> = Vec::new();
    for &(bit, name) in names {
        if bit != 0 && left & bit == bit {
            parts.push(name.to_owned());
            left &= !bit;
        }
    }
    if left != 0 {
        parts.push(format!("{left:#x}"));
    }
    if parts.is_empty() {
        zero.to_owned()
    } else {
        parts.join("|")
    }
}

fn prot_names(prot: u64) -> String {
    bits(
        prot,
        &[
            (0x1, "PROT_READ"),
            (0x2, "PROT_WRITE"),
            (0x4, "PROT_EXEC"),
            (0x8, "PROT_SEM"),
            (0x0100_0000, "PROT_GROWSDOWN"),
            (0x0200_0000, "PROT_GROWSUP"),
        ],
        "PROT_NONE",
    )
}

fn map_names(flags: u64) -> String {
    let kind = match flags & 0xf {
        1 => "MAP_SHARED".to_owned(),
        2 => "MAP_PRIVATE".to_owned(),
        3 => "MAP_SHARED_VALIDATE".to_owned(),
        8 => "MAP_DROPPABLE".to_owned(),
        other => format!("{other:#x}"),
    };
    let rest = bits(
        flags & !0xf,
        &[
            (0x10, "MAP_FIXED"),
            (0x20, "MAP_ANONYMOUS"),
            (0x40, "MAP_32BIT"),
            (0x80, "MAP_ABOVE4G"),
            (0x100, "MAP_GROWSDOWN"),
            (0x800, "MAP_DENYWRITE"),
            (0x1000, "MAP_EXECUTABLE"),
            (0x2000, "MAP_LOCKED"),
            (0x4000, "MAP_NORESERVE"),
            (0x8000, "MAP_POPULATE"),
            (0x1_0000, "MAP_NONBLOCK"),
            (0x2_0000, "MAP_STACK"),
            (0x4_0000, "MAP_HUGETLB"),
            (0x8_0000, "MAP_SYNC"),
            (0x10_0000, "MAP_FIXED_NOREPLACE"),
        ],
        "",
    );
    if rest.is_empty() {
        kind
    } else {
        format!("{kind}|{rest}")
    }
}

fn mremap_names(flags: u64) -> String {
    let names = [
        (1, "MREMAP_MAYMOVE"),
        (2, "MREMAP_FIXED"),
        (4, "MREMAP_DONTUNMAP"),
    ];
    bits(flags, &names, "0")
}

fn shmat_names(flags: u64) -> String {
    let names = [
        (0x1000, "SHM_RDONLY"),
        (0x2000, "SHM_RND"),
        (SHM_REMAP, "SHM_REMAP"),
        (0x8000, "SHM_EXEC"),
    ];
    bits(flags, &names, "0")
}

fn advice_name(advice: i32) -> String {
    let name = match advice {
        0 => "MADV_NORMAL",
        1 => "MADV_RANDOM",
        2 => "MADV_SEQUENTIAL",
        3 => "MADV_WILLNEED",
        4 => "MADV_DONTNEED",
        8 => "MADV_FREE",
        9 => "MADV_REMOVE",
        10 => "MADV_DONTFORK",
        11 => "MADV_DOFORK",
        12 => "MADV_MERGEABLE",
        13 => "MADV_UNMERGEABLE",
        14 => "MADV_HUGEPAGE",
        15 => "MADV_NOHUGEPAGE",
        16 => "MADV_DONTDUMP",
        17 => "MADV_DODUMP",
        18 => "MADV_WIPEONFORK",
        19 => "MADV_KEEPONFORK",
        20 => "MADV_COLD",
        21 => "MADV_PAGEOUT",
        22 => "MADV_POPULATE_READ",
        23 => "MADV_POPULATE_WRITE",
        24 => "MADV_DONTNEED_LOCKED",
        25 => "MADV_COLLAPSE",
        102 => "MADV_GUARD_INSTALL",
        103 => "MADV_GUARD_REMOVE",
        other => return other.to_string(),
    };
    name.to_owned()
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.kind().name();
        match *self {
            Self::Mmap {
                addr,
                len,
                prot,
                flags,
                offset,
                file,
            } => {
                let (prot, flags) = (prot_names(prot), map_names(flags));
                let file = match file {
                    CallFile::Anonymous => "-1".to_owned(),
                    CallFile::Bad => "not open".to_owned(),
                    CallFile::Open(id) => format!("file #{id}"),
                };
                write!(
                    f,
                    "mmap({addr:#x}, {len:#x}, {prot}, {flags}, {file}, {offset:#x})"
                )
            }
            Self::Munmap { addr, len }
            | Self::Mlock { addr, len }
            | Self::Munlock { addr, len } => {
                write!(f, "{name}({addr:#x}, {len:#x})")
            }
            Self::Mprotect { addr, len, prot } => {
                write!(f, "mprotect({addr:#x}, {len:#x}, {})", prot_names(prot))
            }
            Self::PkeyMprotect {
                addr,
                len,
                prot,
                pkey,
            } => {
                write!(
                    f,
                    "pkey_mprotect({addr:#x}, {len:#x}, {}, {pkey})",
                    prot_names(prot)
                )
            }
            Self::Mremap {
                addr,
                old_len,
                new_len,
                flags,
                new_addr,
            } => {
                let flags = mremap_names(flags);
                write!(
                    f,
                    "mremap({addr:#x}, {old_len:#x}, {new_len:#x}, {flags}, {new_addr:#x})"
                )
            }
            Self::Brk { addr } => write!(f, "brk({addr:#x})"),
            Self::Madvise { addr, len, advice } => {
                write!(f, "madvise({addr:#x}, {len:#x}, {})", advice_name(advice))
            }
            Self::Mlock2 { addr, len, flags } => {
                let flags = bits(flags, &[(1, "MLOCK_ONFAULT")], "0");
                write!(f, "mlock2({addr:#x}, {len:#x}, {flags})")
            }
            Self::Mseal { addr, len, flags } => write!(f, "mseal({addr:#x}, {len:#x}, {flags:#x})"),
            Self::Mlockall { flags } => {
                let names = [(1, "MCL_CURRENT"), (2, "MCL_FUTURE"), (4, "MCL_ONFAULT")];
                write!(f, "mlockall({})", bits(flags, &names, "0"))
            }
            Self::Munlockall => f.write_str("munlockall()"),
            Self::Process(call) => call.fmt(f),
            Self::Shmat {
                id, addr, flags, ..
            } => write!(f, "shmat({id}, {addr:#x}, {})", shmat_names(flags)),
            Self::Shmdt { addr } => write!(f, "shmdt({addr:#x})"),
            Self::RemapFilePages {
                start,
                size,
                prot,
                page_offset,
                flags,
            } => write!(
                f,
                "remap_file_pages({start:#x}, {size:#x}, {prot:#x}, {page_offset:#x}, {flags:#x})"
            ),
            Self::UffdRegister {
                start, len, mode, ..
            } => {
                let names = [(1, "MISSING"), (2, "WP"), (4, "MINOR")];
                let mode = bits(mode, &names, "0");
                write!(f, "ioctl(UFFDIO_REGISTER, {start:#x}, {len:#x}, {mode})")
            }
            Self::Mbind {
                addr,
                len,
                mode,
                nodes,
                flags,
                ..
            } => write!(
                f,
                "mbind({addr:#x}, {len:#x}, {mode:#x}, nodes {nodes:#x}, {flags:#x})"
            ),
            Self::SetHomeNode { addr, len, home } => {
                write!(f, "{name}({addr:#x}, {len:#x}, {home:?})")
            }
            Self::UffdUnregister { start, len, .. } => {
                write!(f, "ioctl(UFFDIO_UNREGISTER, {start:#x}, {len:#x})")
            }
            Self::Msync { addr, len, flags } => {
                let names = [(1, "MS_ASYNC"), (2, "MS_INVALIDATE"), (4, "MS_SYNC")];
                write!(
                    f,
                    "msync({addr:#x}, {len:#x}, {})",
                    bits(flags, &names, "0")
                )
            }
            Self::Touch { addr, how } => write!(f, "touch({addr:#x}, {how:?})"),
            Self::SetVmaName { addr, len } => {
                write!(
                    f,
                    "prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, {addr:#x}, {len:#x})"
                )
            }
        }
    }
}

/// Prints a system call's result as strace would: an address or number, or `-1 ENOMEM`.
pub(crate) fn result_text(result: i64) -> String {
    if (-4095..0).contains(&result) {
        let code = i32::try_from(-result).unwrap_or(0);
        let name = format!("{:?}", nix::errno::Errno::from_raw(code));
        format!("-1 {name}")
    } else {
        format!("{result:#x}")
    }
}

/// Whether an `mmap` looks at its file descriptor.
pub(crate) const fn maps_a_file(flags: u64) -> bool {
    flags & libc::MAP_ANONYMOUS as u64 == 0
}
