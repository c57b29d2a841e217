//! What happens to the mirrored address spaces, one event after another.
//!
//! A live session makes events from what the kernel does, the trace file stores them, and
//! [`crate::mirror`] applies them to the model: the same code for `trace` and `replay`, so a
//! recording can't mean two things.

use std::fmt;

use crate::call::{Call, result_text};
use crate::engine::MmId;
use crate::procfs::MemoryLimits;

/// The machine's settings a model depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SystemFacts {
    /// Kernel version, major and minor.
    pub(crate) version: (u32, u32),
    pub(crate) max_map_count: u64,
    pub(crate) stack_guard_gap_pages: u64,
    pub(crate) mmap_min_addr: u64,
    pub(crate) lsm_mmap_min_addr: u64,
    /// 0 heuristic, 1 always, 2 strict.
    pub(crate) overcommit_mode: u64,
    pub(crate) overcommit_ratio: u64,
    pub(crate) overcommit_pages: u64,
    pub(crate) ram_pages: u64,
    pub(crate) swap_pages: u64,
    pub(crate) hugetlb_pages: u64,
    pub(crate) admin_reserve_pages: u64,
    pub(crate) user_reserve_pages: u64,
    pub(crate) committed_pages: u64,
}

/// What kind of file a mapping comes from, as far as placement and limits care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileClass {
    /// A regular file on a file system that places large mappings on 2 MiB and knows `MAP_SYNC`.
    HugeAligned,
    /// One on a file system that places them so and does not know it.
    HugeAlignedOnly,
    /// A regular file elsewhere.
    Plain,
    /// tmpfs, memfd, shared anonymous memory.
    Shmem,
    /// tmpfs that may have huge pages.
    HugeShmem,
    /// `/dev/zero`.
    DevZero,
    /// Another device.
    Device,
    /// Directories, pipes: they can't be mapped.
    Unmappable,
    /// A segment attached with `shmat`, of so many bytes.
    SystemV(u64),
}

/// An open file's identity and nature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileFacts {
    pub(crate) id: u64,
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
    /// As `maps` prints it.
    pub(crate) name: String,
    pub(crate) class: FileClass,
    /// Bits: 1 readable, 2 writable, 4 append-only inode, 8 on a noexec mount, 16 sealed against
    /// writing, 32 mappings get the file below, which the class is about, 64 cannot be mapped,
    /// 128 mappings of it do not vanish in a merge.
    pub(crate) access: u8,
}

/// Bits of [`FileFacts::access`].
pub(crate) mod access {
    pub(crate) const READABLE: u8 = 1;
    pub(crate) const WRITABLE: u8 = 2;
    pub(crate) const APPEND_ONLY: u8 = 4;
    pub(crate) const NO_EXEC: u8 = 8;
    pub(crate) const WRITE_SEALED: u8 = 16;
    pub(crate) const FILE_BELOW: u8 = 32;
    pub(crate) const NO_MMAP: u8 = 64;
    pub(crate) const HOOKED: u8 = 128;
}

/// What a mapping shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BackingFacts {
    Anonymous,
    /// An open file by its identity.
    File(u64),
    /// `[vdso]` and its like.
    Special(String),
    /// Anonymous memory with a name; as `maps` prints it.
    Named(String),
}

/// A mapping an address space starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VmaFacts {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// The words of `VmFlags` in smaps.
    pub(crate) flags: String,
    /// In pages.
    pub(crate) page_offset: u64,
    pub(crate) backing: BackingFacts,
    /// Whether it holds private data (has an anon_vma).
    pub(crate) written: bool,
}

/// Which way addresses are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    TopDown,
    BottomUp,
}

/// A program's layout as fixed at exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayoutFacts {
    pub(crate) task_size: u64,
    pub(crate) mmap_base: u64,
    pub(crate) legacy_base: u64,
    pub(crate) direction: Direction,
    pub(crate) start_code: u64,
    pub(crate) end_code: u64,
    pub(crate) start_data: u64,
    pub(crate) end_data: u64,
    pub(crate) start_brk: u64,
    pub(crate) brk: u64,
    pub(crate) start_stack: u64,
    /// The access column of the `[vsyscall]` line, if the kernel prints one.
    pub(crate) gate: Gate,
}

/// How the kernel shows the vsyscall page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Absent,
    ExecuteOnly,
    Readable,
}

/// Bits of a set of capabilities the model knows.
pub(crate) mod capability {
    pub(crate) const IPC_LOCK: u64 = 1 << 14;
    pub(crate) const SYS_RAWIO: u64 = 1 << 17;
    pub(crate) const SYS_ADMIN: u64 = 1 << 21;
    pub(crate) const SYS_NICE: u64 = 1 << 23;
    pub(crate) const SYS_RESOURCE: u64 = 1 << 24;
    /// All that matter.
    pub(crate) const MEMORY: u64 = IPC_LOCK | SYS_RAWIO | SYS_ADMIN | SYS_NICE | SYS_RESOURCE;
}

/// Why an address space is read from the kernel instead of being predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A new program.
    Exec,
    /// It had been running for a while when it was joined.
    Join,
    /// A call that is not modelled, or a divergence.
    Resync,
}

/// An address space as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartFacts {
    pub(crate) mm: MmId,
    pub(crate) cause: Cause,
    pub(crate) layout: LayoutFacts,
    pub(crate) limits: MemoryLimits,
    pub(crate) capabilities: u64,
    pub(crate) vmas: Vec<VmaFacts>,
}

/// How the kernel behaves, one bit for each behaviour; see [`crate::convert`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProfileFacts(pub(crate) u64);

/// What is known of an address space as a whole, beside its layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcessFacts {
    /// The most pages there ever were, and how many are locked.
    pub(crate) peak_pages: u64,
    pub(crate) locked_pages: u64,
    pub(crate) personality: u32,
    /// The bits of [`maple_mm::ProcessFlags`].
    pub(crate) flags: u32,
    /// Start and end of the arguments, and of the environment.
    pub(crate) arguments: (u64, u64),
    pub(crate) environment: (u64, u64),
}

/// What `/proc/PID/status` sums up of an address space, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    /// `VmSize`.
    pub(crate) total: u64,
    /// `VmLck`.
    pub(crate) locked: u64,
    /// `VmData`.
    pub(crate) data: u64,
    /// `VmStk`.
    pub(crate) stack: u64,
    /// `VmExe` and `VmLib`.
    pub(crate) exec: u64,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            total,
            locked,
            data,
            stack,
            exec,
        } = self;
        write!(
            f,
            "pages: total {total}, locked {locked}, data {data}, stack {stack}, code {exec}"
        )
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// At the start, or when a setting was changed.
    System(SystemFacts),
    /// What the kernel was found to do, after the first settings.
    Profile(ProfileFacts),
    /// A file becomes known, or its name changes, in every address space.
    File(FileFacts),
    Start(Box<StartFacts>),
    Limits {
        mm: MmId,
        limits: MemoryLimits,
    },
    Capabilities {
        mm: MmId,
        capabilities: u64,
    },
    /// What was learned of the whole; arguments and environment if they are known.
    Process {
        mm: MmId,
        facts: ProcessFacts,
    },
    /// A write to (or growth of the stack to) this address was seen.
    Write {
        mm: MmId,
        addr: u64,
    },
    /// The kernel drew this start for searches below 2 GiB (`MAP_32BIT`); it does so anew for each.
    LowBase {
        mm: MmId,
        addr: u64,
    },
    /// Searches from above begin here, higher than what was there at the start told.
    Base {
        mm: MmId,
        addr: u64,
    },
    /// The break of a process that was joined: within a page it shows only when it is asked for.
    Break {
        mm: MmId,
        addr: u64,
    },
    /// The next call cannot bring the page at `addr` in: a guard stands there, or it lies beyond the
    /// end of a file, or nobody answers for it.
    MissingPage {
        mm: MmId,
        addr: u64,
        is_guard: bool,
    },
    /// The shared anonymous mapping at `addr` has this inode.
    SharedInode {
        mm: MmId,
        addr: u64,
        facts: FileFacts,
    },
    Call {
        mm: MmId,
        call: Call,
        result: i64,
    },
    Fork {
        parent: MmId,
        child: MmId,
    },
    NotModelled {
        mm: MmId,
        name: String,
    },
    /// What the kernel's `maps` said at this moment.
    State {
        mm: MmId,
        text: String,
    },
    /// What the kernel's `smaps` and `status` said, as [`crate::details`] puts it.
    Details {
        mm: MmId,
        text: String,
    },
    /// Nobody has the userfaultfd `id`, which watched this address space, open any more.
    WatcherClosed {
        mm: MmId,
        id: u64,
    },
    Gone {
        mm: MmId,
    },
    /// What the kernel's `smaps` said: the words of `VmFlags` behind the start of each mapping.
    Flags {
        mm: MmId,
        text: String,
    },
    /// What the kernel's `status` said.
    Counters {
        mm: MmId,
        counters: Counters,
    },
    /// From here on each read is a call of its own, so what reads prepare can be predicted. Before
    /// the machine's settings.
    PredictReads,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(facts) => {
                let (major, minor) = facts.version;
                write!(
                    f,
                    "system Linux {major}.{minor}, {} mappings at most",
                    facts.max_map_count
                )
            }
            Self::Profile(ProfileFacts(bits)) => write!(f, "behaviours {bits:#x}"),
            Self::File(facts) => write!(f, "file #{} is {}", facts.id, facts.name),
            Self::Start(facts) => {
                let StartFacts {
                    mm, cause, vmas, ..
                } = &**facts;
                write!(
                    f,
                    "mm {}: start ({cause:?}) with {} mappings",
                    mm.0,
                    vmas.len()
                )
            }
            Self::Limits { mm, .. } => write!(f, "mm {}: limits change", mm.0),
            Self::Capabilities { mm, capabilities } => {
                write!(f, "mm {}: capabilities {capabilities:#x}", mm.0)
            }
            Self::Write { mm, addr } => write!(f, "mm {}: write seen at {addr:#x}", mm.0),
            Self::Base { mm, addr } => write!(f, "mm {}: search from above at {addr:#x}", mm.0),
            Self::LowBase { mm, addr } => write!(f, "mm {}: low search from {addr:#x}", mm.0),
            Self::Break { mm, addr } => write!(f, "mm {}: the break is {addr:#x}", mm.0),
            Self::MissingPage { mm, addr, is_guard } => {
                let why = if *is_guard { "; a guard" } else { "" };
                write!(f, "mm {}: no page can be had at {addr:#x}{why}", mm.0)
            }
            Self::SharedInode { mm, addr, facts } => {
                write!(
                    f,
                    "mm {}: shared memory at {addr:#x} has inode {}",
                    mm.0, facts.inode
                )
            }
            Self::Call { mm, call, result } => {
                write!(f, "mm {}: {call} = {}", mm.0, result_text(*result))
            }
            Self::Fork { parent, child } => write!(f, "mm {}: fork makes mm {}", parent.0, child.0),
            Self::NotModelled { mm, name } => write!(f, "mm {}: {name}, not modelled", mm.0),
            Self::State { mm, text } => {
                write!(f, "mm {}: {} mappings", mm.0, text.lines().count())
            }
            Self::Process { mm, facts } => {
                let ProcessFacts {
                    personality, flags, ..
                } = facts;
                write!(
                    f,
                    "mm {}: personality {personality:#x}, switches {flags:#x}",
                    mm.0
                )
            }
            Self::Details { mm, text } => {
                write!(f, "mm {}: {} lines of details", mm.0, text.lines().count())
            }
            Self::WatcherClosed { mm, id } => {
                write!(f, "mm {}: userfaultfd {id} is closed", mm.0)
            }
            Self::Gone { mm } => write!(f, "mm {}: gone", mm.0),
            Self::Flags { mm, text } => {
                write!(f, "mm {}: flags of {} mappings", mm.0, text.lines().count())
            }
            Self::Counters { mm, counters } => write!(f, "mm {}: {counters}", mm.0),
            Self::PredictReads => f.write_str("reads are predicted"),
        }
    }
}
