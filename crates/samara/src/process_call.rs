//! Calls that concern an address space as a whole, or several ranges of it: `personality`,
//! switches of `prctl`, `process_madvise`, names of anonymous memory.

use std::fmt;

use maple_mm::{AddressSpace, AdvisedRange, Adviser, Errno, ProgramAddresses, abi};

use crate::call::CallKind;

/// Addresses in `struct prctl_mm_map`.
pub(crate) const ADDRESSES: usize = 11;

/// A call as the registers said it, and what it had a structure read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessCall {
    Personality {
        persona: u64,
    },
    /// Options that take numbers only.
    Prctl {
        option: u32,
        args: [u64; 4],
    },
    /// `prctl(PR_SET_MM, PR_SET_MM_MAP)` without an auxiliary vector or a file, its addresses in
    /// the structure's order.
    Addresses([u64; ADDRESSES]),
    /// `process_madvise` about the caller's own address space.
    Advise {
        ranges: Ranges,
        advice: i32,
    },
    /// `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME)` on a kernel with names.
    Name {
        addr: u64,
        len: u64,
        name: Option<Name>,
    },
}

/// The ranges of a `process_madvise`, no more than most programs pass at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    count: usize,
    list: [AdvisedRange; RANGES],
}

/// How many ranges are followed.
pub(crate) const RANGES: usize = 8;

impl Ranges {
    /// Those of `list`; `None` if there are too many.
    pub(crate) fn new(given: &[AdvisedRange]) -> Option<Self> {
        let mut list = [AdvisedRange::default(); RANGES];
        list.get_mut(..given.len())?.copy_from_slice(given);
        let count = given.len();
        Some(Self { count, list })
    }

    pub(crate) fn as_slice(&self) -> &[AdvisedRange] {
        self.list.get(..self.count).unwrap_or_default()
    }
}

/// Bytes of a name that are looked at: one more than a name may have.
pub(crate) const NAME: usize = 80;

/// A name as it was passed, cut where it is too long in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    count: usize,
    bytes: [u8; NAME],
}

impl Name {
    /// The bytes before the first NUL, or as many as there is room for.
    pub(crate) fn new(given: &[u8]) -> Self {
        let text = given.split(|&byte| byte == 0).next().unwrap_or_default();
        let count = text.len().min(NAME);
        let mut bytes = [0; NAME];
        bytes[..count].copy_from_slice(&text[..count]);
        Self { count, bytes }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.count).unwrap_or_default()
    }
}

impl ProcessCall {
    /// Which kind the verdict counts it under.
    pub(crate) const fn kind(self) -> CallKind {
        match self {
            Self::Personality { .. } => CallKind::Personality,
            Self::Prctl { .. } | Self::Addresses(_) | Self::Name { .. } => CallKind::Prctl,
            Self::Advise { .. } => CallKind::ProcessMadvise,
        }
    }

    /// The ranges whose mappings decide the outcome.
    pub(crate) fn ranges(&self) -> Vec<(u64, u64)> {
        let page = |addr: u64| addr & !0xfff;
        let span = |addr: u64, len: u64| {
            let end = page(addr.saturating_add(len).saturating_add(0xfff));
            (page(addr), end)
        };
        match self {
            Self::Advise { ranges, .. } => {
                let one = |range: &AdvisedRange| span(range.addr, range.len);
                ranges.as_slice().iter().map(one).collect()
            }
            Self::Name { addr, len, .. } => vec![span(*addr, *len)],
            _ => Vec::new(),
        }
    }

    /// Whether it says where the parts of the program lie.
    pub(crate) const fn sets_addresses(self) -> bool {
        matches!(
            self,
            Self::Prctl {
                option: abi::PR_SET_MM,
                ..
            } | Self::Addresses(_)
        )
    }

    /// Whether it may change how much the threads of a process differ from another.
    pub(crate) const fn sets_personality(self) -> bool {
        const QUERY: u32 = 0xffff_ffff;
        matches!(self, Self::Personality { persona } if persona as u32 != QUERY)
    }

    /// Makes the call on the model: what it returns, negative for an error number.
    pub(crate) fn apply(self, space: &mut AddressSpace) -> i64 {
        let result = match self {
            Self::Personality { persona } => Ok(space.personality(persona)),
            Self::Prctl { option, args } => space.prctl(option, args),
            Self::Addresses(all) => space.set_program_addresses(&addresses(all)).map(|()| 0),
            Self::Advise { ranges, advice } => {
                space.process_madvise(Adviser::Itself, ranges.as_slice(), advice)
            }
            Self::Name { addr, len, name } => {
                let name = name.as_ref().map(Name::as_bytes);
                space.name_anonymous(addr, len, name).map(|()| 0)
            }
        };
        let negated = |errno: Errno| -i64::from(errno.raw());
        result.map_or_else(negated, u64::cast_signed)
    }
}

/// The addresses of `struct prctl_mm_map`, in its order.
const fn addresses(all: [u64; ADDRESSES]) -> ProgramAddresses {
    let [
        start_code,
        end_code,
        start_data,
        end_data,
        start_brk,
        brk,
        start_stack,
        arg_start,
        arg_end,
        env_start,
        env_end,
    ] = all;
    ProgramAddresses {
        start_code,
        end_code,
        start_data,
        end_data,
        start_brk,
        brk,
        start_stack,
        arg_start,
        arg_end,
        env_start,
        env_end,
    }
}

const fn option_name(option: u32) -> &'static str {
    match option {
        abi::PR_SET_MM => "PR_SET_MM",
        abi::PR_SET_THP_DISABLE => "PR_SET_THP_DISABLE",
        abi::PR_SET_MDWE => "PR_SET_MDWE",
        abi::PR_SET_MEMORY_MERGE => "PR_SET_MEMORY_MERGE",
        _ => "an option",
    }
}

impl fmt::Display for ProcessCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Personality { persona } => write!(f, "personality({persona:#x})"),
            Self::Prctl { option, args } => {
                let [a, b, c, d] = args;
                let name = option_name(option);
                write!(f, "prctl({name}, {a:#x}, {b:#x}, {c:#x}, {d:#x})")
            }
            Self::Addresses(all) => {
                let addresses = addresses(all);
                write!(f, "prctl(PR_SET_MM, PR_SET_MM_MAP, {addresses:x?})")
            }
            Self::Advise { ranges, advice } => {
                let one = |range: &AdvisedRange| format!("{:#x} {:#x}", range.addr, range.len);
                let list: Vec<String> = ranges.as_slice().iter().map(one).collect();
                write!(f, "process_madvise([{}], {advice})", list.join(", "))
            }
            Self::Name { addr, len, name } => {
                let name = name.as_ref().map(Name::as_bytes).unwrap_or_default();
                let name = name.escape_ascii();
                write!(
                    f,
                    "prctl(PR_SET_VMA_ANON_NAME, {addr:#x}, {len:#x}, \"{name}\")"
                )
            }
        }
    }
}
