//! Which calls are not made: those that would harm the executor, that take too much memory, or
//! that depend on pages that cannot be seen.

use std::collections::HashMap;

use maple_mm::{AddressSpace, Backing, FileId, VmFlags, Vma, VmaRef, abi::*};

use super::missing;
use super::target::PROTECTED;
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
    is_harmless(call) && is_affordable(space, grounds, call) && !depends_on_pages(space, call)
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

/// Whether the call touches pages of which nobody knows whether they can be had.
fn depends_on_pages(space: &AddressSpace, call: &Call) -> bool {
    // What is watched can be had if its object has it already.
    let watched = VmFlags::UFFD_MISSING | VmFlags::UFFD_MINOR;
    let is_unknown = |vma: &VmaRef| match vma.backing() {
        Backing::Special(_) => true,
        _ => vma.flags().intersects(watched) && !vma.is_anonymous(),
    };
    let touched = missing::touched(call);
    // The kernel's copy routines refuse the first page.
    matches!(call, Call::Touch { addr, .. } if *addr < PAGE)
        || touched
            .into_iter()
            .any(|(start, end)| space.vmas_in(start..end).any(is_unknown))
}

const fn brings_in(advice: i32) -> bool {
    matches!(advice, MADV_POPULATE_READ | MADV_POPULATE_WRITE)
}

#[cfg(test)]
mod tests {
    use maple_mm::{AdvisedRange, MmapRequest, UserfaultFeatures, Userfaultfd};

    use super::*;
    use crate::process_call::{ProcessCall, Ranges};

    #[test]
    fn what_cannot_be_seen_to_be_there_is_brought_in_by_no_call() {
        let mut space = AddressSpace::empty();
        let watcher = Userfaultfd {
            id: 1,
            features: UserfaultFeatures::empty(),
        };
        let mut watched = |request| {
            let addr = space.mmap(request).unwrap();
            let range = addr..addr + PAGE;
            space
                .uffd_register(watcher, range, UFFDIO_REGISTER_MODE_MISSING)
                .unwrap();
            addr
        };
        let writable = PROT_READ | PROT_WRITE;
        let private = watched(MmapRequest::anonymous(PAGE, writable));
        let shared = watched(MmapRequest {
            flags: MAP_SHARED | MAP_ANONYMOUS,
            ..MmapRequest::anonymous(PAGE, writable)
        });
        let grounds = Grounds::default();
        let allowed = |addr, advice| {
            let len = PAGE;
            let ranges = Ranges::new(&[AdvisedRange { addr, len }]).unwrap();
            let of_process = Call::Process(ProcessCall::Advise { ranges, advice });
            let calls = [Call::Madvise { addr, len, advice }, of_process];
            calls.map(|call| allows(&space, &grounds, &call))
        };
        for advice in [MADV_POPULATE_READ, MADV_POPULATE_WRITE] {
            assert_eq!(allowed(private, advice), [true; 2]);
            assert_eq!(allowed(shared, advice), [false; 2]);
        }
        assert_eq!(allowed(shared, MADV_COLD), [true; 2]);
    }
}
