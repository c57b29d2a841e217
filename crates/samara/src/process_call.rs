//! Calls that concern an address space as a whole: `personality`, and switches of `prctl`.

use std::fmt;

use maple_mm::{AddressSpace, Errno, ProgramAddresses, abi};

use crate::call::CallKind;

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
}

/// Addresses in `struct prctl_mm_map`.
pub(crate) const ADDRESSES: usize = 11;

impl ProcessCall {
    /// Which kind the verdict counts it under.
    pub(crate) const fn kind(self) -> CallKind {
        match self {
            Self::Personality { .. } => CallKind::Personality,
            Self::Prctl { .. } | Self::Addresses(_) => CallKind::Prctl,
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
        }
    }
}
