//! Which calls are not made: those that would harm the executor, that take too much memory, or
//! whose outcome depends on single pages.

use std::collections::HashMap;

use maple_mm::{AddressSpace, AdvisedRange, Backing, FileId, FileKind, VmFlags, Vma, abi::*};

use super::target::{FILE_LEN, PROTECTED};
use crate::call::Call;
use crate::process_call::ProcessCall;

const PAGE: u64 = 4096;
/// No process has more mapped, in bytes; so no more can be touched, either.
pub(crate) const MOST_MAPPED: u64 = 64 << 20;
/// No call brings more in, in bytes.
pub(crate) const MOST_BROUGHT_IN: u64 = 24 << 20;

/// What is known of a family besides its mappings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grounds {
    /// The pages of objects that shared memory is made of, as far as they are not files of the
    /// pool.
    pub(crate) objects: HashMap<FileId, u64>,
    /// The most pages that were mapped at once to have many mappings.
    pub(crate) filled: u64,
}

/// Whether so many pages more may be mapped to have many mappings.
pub(crate) fn allows_filling(space: &AddressSpace, grounds: &Grounds, pages: u64) -> bool {
    let mapped = space.statistics().total_vm.saturating_sub(grounds.filled);
    grounds.filled == 0 || (mapped + pages) * PAGE <= MOST_MAPPED
}

/// Whether `call` may be made in an address space that stands like `space`.
pub(crate) fn allows(space: &AddressSpace, grounds: &Grounds, call: &Call) -> bool {
    is_harmless(call)
        && is_affordable(space, grounds, call)
        && !depends_on_pages(space, grounds, call)
        && !waits_for_watcher(space, call)
}

/// Whether the call keeps away from the executor's own pages.
fn is_harmless(call: &Call) -> bool {
    let target = match *call {
        Call::Mmap { addr, flags, .. } if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 => {
            Some(addr)
        }
        Call::Mremap { new_addr, .. } => Some(new_addr),
        Call::Shmat { addr, .. } if addr != 0 => Some(addr),
        _ => None,
    };
    // Lengths of explicitly huge mappings are rounded up.
    let (start, end) = (
        PROTECTED.start - HUGE_PAGE_SIZE,
        PROTECTED.end + HUGE_PAGE_SIZE,
    );
    let is_free = |&(first, behind): &(u64, u64)| behind <= start || end <= first;
    call.ranges(target).iter().all(is_free)
}

/// Whether the call stays within the memory that a process may have.
fn is_affordable(space: &AddressSpace, grounds: &Grounds, call: &Call) -> bool {
    let mapped = space.statistics().total_vm.saturating_sub(grounds.filled) * PAGE;
    let populates = |len: u64| len <= MOST_BROUGHT_IN;
    match *call {
        Call::Mmap { len, flags, .. } => {
            // What is wider than the machine's memory is refused.
            let is_refused = len >= 1 << 40;
            let brings_in = flags & (MAP_POPULATE | MAP_LOCKED) != 0
                || space.default_flags().contains(VmFlags::LOCKED);
            is_refused && !brings_in
                || mapped.saturating_add(len) <= MOST_MAPPED && (!brings_in || populates(len))
        }
        Call::Mremap { new_len, .. } => {
            new_len >= 1 << 40 || mapped.saturating_add(new_len) <= MOST_MAPPED
        }
        Call::Brk { addr } => {
            addr >= 1 << 44 && addr > space.layout().brk + (1 << 40)
                || addr.saturating_sub(space.layout().start_brk) <= 1 << 20
        }
        Call::Mlock { addr, len } | Call::Mlock2 { addr, len, .. } => {
            populates(mapped_in(space, addr, len))
        }
        Call::Madvise {
            addr,
            len,
            advice: MADV_POPULATE_READ | MADV_POPULATE_WRITE,
        } => populates(mapped_in(space, addr, len)),
        Call::Shmat { .. } => mapped < MOST_MAPPED,
        Call::Mlockall { .. } => grounds.filled == 0 && mapped <= MOST_BROUGHT_IN,
        Call::Process(ProcessCall::Advise { ranges, advice }) => {
            let all = ranges.as_slice().iter();
            let bytes: u64 = all
                .map(|range| mapped_in(space, range.addr, range.len))
                .sum();
            !brings_in(advice) || populates(bytes)
        }
        _ => true,
    }
}

/// The bytes that are mapped in a range.
fn mapped_in(space: &AddressSpace, addr: u64, len: u64) -> u64 {
    let end = addr.saturating_add(len);
    let within = |vma: &Vma| vma.end().min(end).saturating_sub(vma.start().max(addr));
    space.vmas_in(addr..end).map(|vma| within(vma)).sum()
}

/// Whether the outcome depends on single pages, which the model does not have here: bringing in
/// pages stops at the end of a file and at guard pages.
fn depends_on_pages(space: &AddressSpace, grounds: &Grounds, call: &Call) -> bool {
    let (addr, len) = match *call {
        // The kernel's copy routines refuse the first page.
        Call::Touch { addr, .. } if addr < PAGE => return true,
        Call::Touch { addr, .. } => (addr, 1),
        Call::Mlock { addr, len } | Call::Mlock2 { addr, len, .. } => (addr, len),
        Call::Madvise {
            addr,
            len,
            advice: MADV_POPULATE_READ | MADV_POPULATE_WRITE,
        } => (addr, len),
        Call::Process(ProcessCall::Advise { ranges, advice }) if brings_in(advice) => {
            let has_odd = |range: &AdvisedRange| has_odd_range(space, grounds, *range);
            return ranges.as_slice().iter().any(has_odd);
        }
        _ => return false,
    };
    has_odd_range(space, grounds, AdvisedRange { addr, len })
}

const fn brings_in(advice: i32) -> bool {
    matches!(advice, MADV_POPULATE_READ | MADV_POPULATE_WRITE)
}

/// Whether some pages of a range may be there and others not.
fn has_odd_range(space: &AddressSpace, grounds: &Grounds, range: AdvisedRange) -> bool {
    let AdvisedRange { addr, len } = range;
    // One page more on both sides, for rounding.
    let range = addr.saturating_sub(PAGE)..addr.saturating_add(len).saturating_add(PAGE);
    space.vmas_in(range).any(|vma| has_odd_pages(vma, grounds))
}

/// Whether the call brings pages in while somebody is to be told of missing ones, who never answers.
fn waits_for_watcher(space: &AddressSpace, call: &Call) -> bool {
    let may_wait = match *call {
        Call::Madvise { advice, .. } | Call::Process(ProcessCall::Advise { advice, .. }) => {
            brings_in(advice)
        }
        Call::Touch { .. }
        | Call::Mlock { .. }
        | Call::Mlock2 { .. }
        | Call::Mlockall { .. }
        | Call::Mremap { .. } => true,
        _ => false,
    };
    let waits = VmFlags::UFFD_MISSING | VmFlags::UFFD_MINOR;
    may_wait && space.vmas().any(|vma| vma.flags().intersects(waits))
}

/// Whether some pages of a mapping may be there and others not.
fn has_odd_pages(vma: &Vma, grounds: &Grounds) -> bool {
    let end_offset = vma.page_offset() + (vma.end() - vma.start()) / PAGE;
    vma.flags().contains(VmFlags::MAYBE_GUARD)
        || match vma.backing() {
            Backing::Anonymous => false,
            Backing::File(file) => {
                let pages = match file.kind {
                    FileKind::SystemV { bytes } => Some(bytes.div_ceil(PAGE)),
                    _ => grounds.objects.get(&file.id).copied(),
                };
                end_offset > pages.unwrap_or(FILE_LEN / PAGE)
            }
            Backing::Special(_) => true,
        }
}

#[cfg(test)]
mod tests {
    use maple_mm::{MmapRequest, UserfaultFeatures, Userfaultfd};

    use super::*;
    use crate::process_call::Ranges;

    #[test]
    fn what_nobody_answers_for_is_brought_in_by_no_call() {
        let mut space = AddressSpace::empty();
        let anonymous = MmapRequest::anonymous(PAGE, PROT_READ | PROT_WRITE);
        let addr = space.mmap(anonymous).unwrap();
        let range = AdvisedRange { addr, len: PAGE };
        let bringing_in = |advice| {
            let ranges = Ranges::new(&[range]).unwrap();
            let of_process = Call::Process(ProcessCall::Advise { ranges, advice });
            let len = PAGE;
            [Call::Madvise { addr, len, advice }, of_process]
        };
        let grounds = Grounds::default();
        let allowed = |space: &AddressSpace, advice| {
            let calls = bringing_in(advice);
            calls.map(|call| allows(space, &grounds, &call))
        };
        assert_eq!(allowed(&space, MADV_POPULATE_WRITE), [true; 2]);
        let watcher = Userfaultfd {
            id: 1,
            features: UserfaultFeatures::empty(),
        };
        space
            .uffd_register(watcher, addr..addr + PAGE, UFFDIO_REGISTER_MODE_MISSING)
            .unwrap();
        assert_eq!(allowed(&space, MADV_POPULATE_WRITE), [false; 2]);
        assert_eq!(allowed(&space, MADV_POPULATE_READ), [false; 2]);
        assert_eq!(allowed(&space, MADV_COLD), [true; 2]);
    }
}
