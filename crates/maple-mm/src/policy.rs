//! Memory policies of mappings: `mbind` and `set_mempolicy_home_node`. Only what mappings show of
//! them: neighbours with different policies stay apart; where pages lie is not modelled.

use crate::abi::{
    MPOL_BIND, MPOL_DEFAULT, MPOL_F_NUMA_BALANCING, MPOL_F_RELATIVE_NODES, MPOL_F_STATIC_NODES,
    MPOL_LOCAL, MPOL_MAX, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, MPOL_MF_STRICT, MPOL_PREFERRED,
    MPOL_PREFERRED_MANY, is_page_aligned, page_ceil,
};
use crate::errno::Errno;
use crate::held::Attributes;
use crate::layout::Capabilities;
use crate::modify::{Change, Part};
use crate::page_side::PageSide;
use crate::space::AddressSpace;

/// What a program passes to `mbind`, its mask of nodes read.
///
/// # Examples
///
/// ```
/// use maple_mm::{AddressSpace, BindRequest, Errno, MmapRequest, abi::*};
/// let mut space = AddressSpace::empty();
/// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ))?;
/// let bind = BindRequest { addr, len: 4096, mode: MPOL_BIND, nodes: 1, allowed: 1, flags: 0 };
/// space.mbind(bind)?;
/// assert_eq!(space.map_count(), 2);
/// space.mbind(BindRequest { len: 8192, ..bind })?;
/// assert_eq!(space.map_count(), 1);
/// # Ok::<(), Errno>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindRequest {
    /// Where the range begins, in bytes.
    pub addr: u64,
    /// Its length in bytes; rounded up to pages.
    pub len: u64,
    /// `MPOL_` mode, with `MPOL_F_` bits.
    pub mode: u64,
    /// The first 64 nodes of the mask that was passed; 0 for none.
    pub nodes: u64,
    /// The nodes with memory that the process may use.
    pub allowed: u64,
    /// `MPOL_MF_` bits.
    pub flags: u64,
}

/// The policy of a mapping. Two are the same where all of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Policy {
    mode: u64,
    flags: u64,
    /// As they take effect.
    nodes: u64,
    /// As they were passed, where they are to be understood anew when what is allowed changes.
    passed: u64,
    home: Option<u32>,
}

impl<P: PageSide> AddressSpace<P> {
    /// Gives every page of a range a memory policy; `MPOL_DEFAULT` takes it away.
    ///
    /// # Complexity
    ///
    /// O(m log n) for m mappings in the range.
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`]: unknown or contradicting modes and flags, nodes where none or other
    ///   ones may be, an `addr` that is no page boundary, a range that wraps, or a mapping of the
    ///   kernel's that would be cut.
    /// - [`Errno::EPERM`]: `MPOL_MF_MOVE_ALL` without the privilege.
    /// - [`Errno::EFAULT`]: a hole; with `MPOL_DEFAULT` only if nothing is mapped at all.
    /// - [`Errno::ENOMEM`]: `max_map_count` is reached; what precedes has the policy.
    ///
    /// But for the last nothing changed on error. LINUX: `MPOL_MF_STRICT` also looks where the
    /// pages lie (`EIO`).
    ///
    /// # Examples
    ///
    /// See [`BindRequest`].
    pub fn mbind(&mut self, request: BindRequest) -> Result<(), Errno> {
        let mode = checked_mode(request.mode)?;
        let known = MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL;
        if request.flags & !known != 0 {
            return Err(Errno::EINVAL);
        }
        let moves_all = request.flags & MPOL_MF_MOVE_ALL != 0;
        if moves_all && !self.capabilities.contains(Capabilities::SYS_NICE) {
            return Err(Errno::EPERM);
        }
        let Some(range) = policy_range(request.addr, request.len)? else {
            return Ok(());
        };
        let policy = new_policy(&request)?;
        self.check_mapped(&range, mode)?;
        self.walk(range, |space, part| {
            if part.vma.attributes().policy == policy {
                return Ok(());
            }
            space.modify(part.with_policy(policy)?)
        })?;
        Ok(())
    }

    /// Names the node whose neighbours are asked first, for every part of the range that has a
    /// policy. `online` are the nodes there are.
    ///
    /// # Complexity
    ///
    /// O(m log n) for m mappings in the range.
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`]: any flag, an `addr` that is no page boundary, a range that wraps.
    /// - [`Errno::ENOENT`]: no mapping of the range has a policy.
    /// - [`Errno::EOPNOTSUPP`]: one has a policy that is neither `MPOL_BIND` nor
    ///   `MPOL_PREFERRED_MANY`. LINUX: those before it have the node.
    /// - [`Errno::ENOMEM`]: `max_map_count` is reached; those before have the node.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Errno};
    /// let refused = AddressSpace::empty().set_home_node(0x1_0000, 4096, 0);
    /// assert_eq!(refused, Err(Errno::ENOENT));
    /// ```
    pub fn set_home_node(&mut self, addr: u64, len: u64, home: u32) -> Result<(), Errno> {
        let Some(range) = policy_range(addr, len)? else {
            return Ok(());
        };
        let mut found = Err(Errno::ENOENT);
        self.walk(range, |space, part| {
            let Some(policy) = part.vma.attributes().policy else {
                return Ok(());
            };
            if !matches!(policy.mode, MPOL_BIND | MPOL_PREFERRED_MANY) {
                return Err(Errno::EOPNOTSUPP);
            }
            found = Ok(());
            let with_home = Policy {
                home: Some(home),
                ..policy
            };
            if with_home == policy {
                return Ok(());
            }
            space.modify(part.with_policy(Some(with_home))?)
        })?;
        found
    }

    /// Whether what a policy is set for is mapped.
    fn check_mapped(&self, range: &core::ops::Range<u64>, mode: u64) -> Result<(), Errno> {
        let mut reached = range.start;
        let mut is_whole = true;
        for vma in self.vmas_in(range.clone()) {
            is_whole &= vma.start() <= reached;
            reached = vma.end();
        }
        let is_empty = reached == range.start;
        is_whole &= range.end <= reached;
        if is_empty || (mode != MPOL_DEFAULT && !is_whole) {
            Err(Errno::EFAULT)
        } else {
            Ok(())
        }
    }
}

impl Part {
    fn with_policy(self, policy: Option<Policy>) -> Result<Change, Errno> {
        let attributes = Attributes {
            policy,
            ..self.vma.attributes()
        };
        let held = self.vma.held().with_attributes(attributes)?;
        let flags = self.vma.flags();
        Ok(Change {
            held: Some(held),
            ..self.with_flags(flags)
        })
    }
}

const MODE_FLAGS: u64 = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES | MPOL_F_NUMA_BALANCING;

/// The mode without its flags.
fn checked_mode(mode: u64) -> Result<u64, Errno> {
    let (flags, mode) = (mode & MODE_FLAGS, mode & !MODE_FLAGS);
    let both = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES;
    let balances = flags & MPOL_F_NUMA_BALANCING != 0;
    let is_refused = mode >= MPOL_MAX
        || flags & both == both
        || balances && !matches!(mode, MPOL_BIND | MPOL_PREFERRED_MANY);
    if is_refused {
        Err(Errno::EINVAL)
    } else {
        Ok(mode)
    }
}

/// The range, or `None` for an empty one.
fn policy_range(addr: u64, len: u64) -> Result<Option<core::ops::Range<u64>>, Errno> {
    if !is_page_aligned(addr) {
        return Err(Errno::EINVAL);
    }
    // LINUX: a length in the last page wraps to nothing.
    let end = addr.wrapping_add(page_ceil(len));
    match end.cmp(&addr) {
        core::cmp::Ordering::Less => Err(Errno::EINVAL),
        core::cmp::Ordering::Equal => Ok(None),
        core::cmp::Ordering::Greater => Ok(Some(addr..end)),
    }
}

/// The policy a request makes; `None` for the default.
fn new_policy(request: &BindRequest) -> Result<Option<Policy>, Errno> {
    let (flags, mode) = (request.mode & MODE_FLAGS, request.mode & !MODE_FLAGS);
    let (is_static, is_relative) = (
        flags & MPOL_F_STATIC_NODES != 0,
        flags & MPOL_F_RELATIVE_NODES != 0,
    );
    let is_empty = request.nodes == 0;
    let local = Policy {
        mode: MPOL_LOCAL,
        flags,
        nodes: 0,
        passed: 0,
        home: None,
    };
    let is_local = match mode {
        MPOL_DEFAULT if is_empty => return Ok(None),
        MPOL_DEFAULT => return Err(Errno::EINVAL),
        MPOL_PREFERRED => is_empty,
        MPOL_LOCAL if is_empty => true,
        MPOL_LOCAL => return Err(Errno::EINVAL),
        _ if is_empty => return Err(Errno::EINVAL),
        _ => false,
    };
    if is_local {
        return if is_static || is_relative {
            Err(Errno::EINVAL)
        } else {
            Ok(Some(local))
        };
    }
    let mut nodes = if is_relative {
        folded(request.nodes, request.allowed)
    } else {
        request.nodes & request.allowed
    };
    if mode == MPOL_PREFERRED {
        nodes &= nodes.wrapping_neg();
    }
    if nodes == 0 {
        return Err(Errno::EINVAL);
    }
    let passed = if is_static || is_relative {
        request.nodes
    } else {
        0
    };
    Ok(Some(Policy {
        mode,
        nodes,
        passed,
        ..local
    }))
}

/// Nodes by their place among those allowed, counted round.
fn folded(nodes: u64, allowed: u64) -> u64 {
    let count = allowed.count_ones();
    let places = (0..u64::BITS).filter(|place| nodes >> place & 1 != 0);
    places
        .filter_map(|place| nth_bit(allowed, place.checked_rem(count)?))
        .fold(0, |all, bit| all | bit)
}

fn nth_bit(bits: u64, place: u32) -> Option<u64> {
    let ones = (0..u64::BITS).filter(|bit| bits >> bit & 1 != 0);
    ones.map(|bit| 1 << bit).nth(place as usize)
}

#[cfg(test)]
mod tests {
    use super::folded;

    #[test]
    fn relative_nodes_count_round_among_the_allowed() {
        assert_eq!(folded(0b1, 0b1100), 0b100);
        assert_eq!(folded(0b110, 0b1100), 0b1100);
        assert_eq!(folded(0b111, 0), 0);
    }
}
