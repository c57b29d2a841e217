//! Where a program's parts lie, what it may use, and the mappings it starts with.

use core::fmt;

use crate::file::Backing;
use crate::flags::VmFlags;

/// In which direction free addresses are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From `mmap_base` downwards: what every usual program has.
    TopDown,
    /// From `legacy_base` upwards: `ADDR_COMPAT_LAYOUT`. (LINUX: 6.18 keeps an
    /// unlimited stack's program top-down.)
    BottomUp,
}

/// The line for the kernel's gate page that ends `/proc/PID/maps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `vsyscall=none`: no line.
    Absent,
    /// `vsyscall=xonly`: `--xp`.
    ExecuteOnly,
    /// `vsyscall=emulate`: `r-xp`.
    Readable,
}

/// Where the parts of a program lie; all addresses in bytes, ends exclusive.
///
/// # Examples
///
/// ```
/// use maple_mm::Layout;
/// let layout = Layout { mmap_base: 0x7fff_0000_0000, ..Layout::default() };
/// assert_eq!(layout.task_size, 0x7fff_ffff_f000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The end of user addresses.
    pub task_size: u64,
    /// Where the downward search begins.
    pub mmap_base: u64,
    /// Where the upward search begins.
    pub legacy_base: u64,
    /// Where the upward search of `MAP_32BIT` begins.
    ///
    /// LINUX: 6.18 draws this anew for each call, up to 32 MiB above 1 GiB, unless address
    /// randomisation is off. Whoever mirrors such a process has it learned before
    /// each such call ([`learn_low_base`](crate::AddressSpace::learn_low_base)).
    pub low_base: u64,
    /// The program's code.
    pub start_code: u64,
    /// The end of the program's code.
    pub end_code: u64,
    /// The program's initialised data.
    pub start_data: u64,
    /// The end of the program's initialised data.
    pub end_data: u64,
    /// Where the heap begins.
    pub start_brk: u64,
    /// Where the heap ends now, to the byte.
    pub brk: u64,
    /// The stack pointer at the start.
    pub start_stack: u64,
    /// How free addresses are searched.
    pub direction: Direction,
    /// The gate page's line.
    pub gate: Gate,
}

impl Layout {
    /// The same, as far as it lies below `end`.
    pub(crate) fn within(self, end: u64) -> Self {
        Self {
            task_size: self.task_size.min(end),
            mmap_base: self.mmap_base.min(end),
            ..self
        }
    }
}

impl Default for Layout {
    /// An x86-64 program with nothing in it yet.
    fn default() -> Self {
        let task_size = 0x7fff_ffff_f000;
        Self {
            task_size,
            mmap_base: 0x7fff_f7ff_f000,
            legacy_base: 0x2aaa_aaaa_a000 + 0x0800_0000,
            low_base: 0x4000_0000,
            start_code: 0,
            end_code: 0,
            start_data: 0,
            end_data: 0,
            start_brk: 0,
            brk: 0,
            start_stack: 0,
            direction: Direction::TopDown,
            gate: Gate::ExecuteOnly,
        }
    }
}

/// What a process may use, in bytes; `u64::MAX` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `RLIMIT_AS`.
    pub address_space: u64,
    /// `RLIMIT_DATA`.
    pub data: u64,
    /// The hard limit of `RLIMIT_DATA`, which counts where the soft one is 0.
    pub data_max: u64,
    /// `RLIMIT_STACK`.
    pub stack: u64,
    /// `RLIMIT_MEMLOCK`.
    pub memlock: u64,
}

impl Default for Limits {
    /// Unlimited but for a stack of 8 MiB and 8 MiB of locked memory, as the kernel starts `init`.
    fn default() -> Self {
        Self {
            address_space: u64::MAX,
            data: u64::MAX,
            data_max: u64::MAX,
            stack: 8 << 20,
            memlock: 8 << 20,
        }
    }
}

bitflags::bitflags! {
    /// The privileges that matter to memory calls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Capabilities: u32 {
        /// May map below `mmap_min_addr`.
        const SYS_RAWIO = 1 << 0;
        /// May lock without limit.
        const IPC_LOCK = 1 << 1;
        /// May use the administrator's reserve.
        const SYS_ADMIN = 1 << 2;
    }
}

/// One mapping an address space starts with, as `maps` and `smaps` tell it.
#[derive(Clone, Debug)]
pub struct VmaSpec {
    /// The first byte.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
    /// All of its flags, `MAY*` and `ACCOUNT` included.
    pub flags: VmFlags,
    /// The offset in pages. For anonymous memory, which `maps` does not show, `start / 4096`.
    pub page_offset: u64,
    /// What stands behind it.
    pub backing: Backing,
    /// Whether private pages were written.
    pub written: bool,
}

/// Why an address space cannot start with the mappings it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// A range is empty, reversed or not made of whole pages.
    NotPages {
        /// Its first byte.
        start: u64,
        /// The byte after its last.
        end: u64,
    },
    /// A mapping begins before the one before it ends.
    Overlap {
        /// Its first byte.
        start: u64,
    },
    /// A mapping ends beyond the address space.
    BeyondEnd {
        /// The byte after its last.
        end: u64,
    },
    /// No memory for the tree.
    OutOfNodes,
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPages { start, end } => {
                write!(f, "{start:#x}-{end:#x} is not a range of whole pages")
            }
            Self::Overlap { start } => write!(
                f,
                "the mapping at {start:#x} begins before the one before it ends; sort them first"
            ),
            Self::BeyondEnd { end } => {
                write!(
                    f,
                    "a mapping ends at {end:#x}, beyond the address space; check task_size"
                )
            }
            Self::OutOfNodes => f.write_str("no memory for the tree of mappings"),
        }
    }
}

impl core::error::Error for LayoutError {}
