//! The memory areas of a process: `mmap`, `munmap`, `mprotect` and `fork` over the tree.
//!
//! Real address spaces also merge neighbours and keep accounts; the crate `maple-mm` does.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::sync::Arc;

use maple_tree::{Alignment, GapRequest, IndexRange, MapleTree, OutOfNodes};

const PAGE: u64 = 0x1000;
/// Where user programs live, the first 64 KiB left out.
const USER: RangeInclusive<u64> = 0x1_0000..=0x7fff_ffff_efff;

/// What is the same over all pages of an area.
#[derive(Clone)]
struct Area {
    protection: &'static str,
    name: &'static str,
}

/// Why a call was refused. Nothing has changed then.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// An address or a length that is not of whole pages, or out of bounds.
    Invalid,
    /// No room in the address space, unmapped pages, or no node.
    NoMemory,
}

impl From<OutOfNodes> for Refusal {
    fn from(_: OutOfNodes) -> Self {
        Self::NoMemory
    }
}

struct AddressSpace {
    areas: MapleTree<Arc<Area>>,
}

impl AddressSpace {
    fn new() -> Self {
        let areas = MapleTree::with_gaps();
        Self { areas }
    }

    /// Maps an area at the highest place where it fits, and returns its first address.
    fn map(&mut self, length: u64, area: Area) -> Result<u64, Refusal> {
        let length = length.checked_next_multiple_of(PAGE);
        let length = length.and_then(NonZeroU64::new).ok_or(Refusal::Invalid)?;
        let user = IndexRange::from_bounds(USER).ok_or(Refusal::Invalid)?;
        let pages = Alignment::new(PAGE).ok_or(Refusal::Invalid)?;
        let request = GapRequest::new(length).within(user).aligned(pages);
        let place = self.areas.allocate_highest(&request, Arc::new(area));
        Ok(place.map_err(|_| Refusal::NoMemory)?.first())
    }

    /// Unmaps whatever is there: an area that reaches out is cut.
    fn unmap(&mut self, start: u64, length: u64) -> Result<(), Refusal> {
        Ok(self.areas.remove(pages(start, length)?)?)
    }

    /// Changes the protection of a range, all of it mapped. All or nothing: the nodes that
    /// the stores could take are there before the first.
    fn protect(&mut self, start: u64, length: u64, new: &'static str) -> Result<(), Refusal> {
        let range = pages(start, length)?;
        let bounds = RangeInclusive::from(range);
        if self.areas.gaps(bounds.clone()).next().is_some() {
            return Err(Refusal::NoMemory);
        }
        let changed = |(whole, area): (IndexRange, &Arc<Area>)| {
            let area = Area {
                protection: new,
                ..Area::clone(area)
            };
            Some((whole.intersection(range)?, Arc::new(area)))
        };
        let parts: Vec<_> = self.areas.range(bounds).filter_map(changed).collect();
        let mut writes = self.areas.preallocate(parts.len())?;
        for (part, area) in parts {
            writes.store(part, area);
        }
        Ok(())
    }

    /// The child's address space: all nodes are shared until one side writes.
    fn fork(&self) -> Self {
        let areas = self.areas.snapshot();
        Self { areas }
    }
}

fn pages(start: u64, length: u64) -> Result<IndexRange, Refusal> {
    let end = start.checked_add(length).ok_or(Refusal::Invalid)?;
    let range = IndexRange::try_from(start..end).map_err(|_| Refusal::Invalid)?;
    let is_whole =
        start.is_multiple_of(PAGE) && length.is_multiple_of(PAGE) && USER.contains(&range.last());
    if is_whole {
        Ok(range)
    } else {
        Err(Refusal::Invalid)
    }
}

impl fmt::Display for AddressSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (range, area) in &self.areas {
            let (start, end) = (range.first(), range.last() + 1);
            writeln!(
                f,
                "  {start:012x}-{end:012x} {} {}",
                area.protection, area.name
            )?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Refusal> {
    let area = |protection, name| Area { protection, name };
    let mut parent = AddressSpace::new();
    let stack = parent.map(0x2_1000, area("rw-", "[stack]"))?;
    let library = parent.map(0x1_e000, area("r--", "libc.so"))?;
    assert_eq!(library + 0x1_e000, stack);
    // A loader maps a library whole, then makes its code executable.
    parent.protect(library + 0x4000, 0x1_2000, "r-x")?;
    print!("a program:\n{parent}");
    assert_eq!(parent.areas.len(), 4);

    let mut child = parent.fork();
    // A hole in the middle of the stack, and a buffer, for which it is too small.
    child.unmap(stack + 0x8000, 0x2000)?;
    let buffer = child.map(0x2001, area("rw-", "buffer"))?;
    assert_eq!(buffer + 0x3000, library);
    // The hole is not mapped: refused, and nothing is half-done.
    let refused = child.protect(stack, 0x1_0000, "r--");
    assert_eq!(refused, Err(Refusal::NoMemory));
    print!("its child:\n{child}");
    assert_eq!((parent.areas.len(), child.areas.len()), (4, 6));
    Ok(())
}
