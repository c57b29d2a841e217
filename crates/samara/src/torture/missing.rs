//! The pages that a call will not get: guards, what lies beyond the end of a file, and what a
//! userfaultfd watches that answers with an error.

use maple_mm::{Backing, FileKind, MissingPage, VmFlags, Vma, abi::PAGE_SIZE};

use super::eyes::Eyes;
use super::guard::Grounds;
use super::target::FILE_LEN;
use crate::call::Call;
use crate::engine::MmId;
use crate::mirror::Mirror;

/// The ranges in which the call touches pages and says so if it does not get one.
pub(crate) fn touched(call: &Call) -> Vec<(u64, u64)> {
    match call {
        Call::Touch { .. } | Call::Mlock { .. } | Call::Mlock2 { .. } => call.ranges(None),
        _ if call.populates().is_some() => call.ranges(None),
        _ => Vec::new(),
    }
}

/// The first page in each mapping that `call` touches and will not get, and those it will pass over
/// without a word.
pub(crate) fn missing_pages(
    eyes: &Eyes,
    (mirror, mm): (&Mirror, MmId),
    grounds: &Grounds,
    call: &Call,
) -> Vec<MissingPage> {
    let Some(space) = mirror.space(mm) else {
        return Vec::new();
    };
    let pages = Pages { eyes, grounds };
    let mut found: Vec<_> = eyes
        .guards_met(space, call)
        .into_iter()
        .map(guard)
        .collect();
    for (start, end) in touched(call) {
        let parts = space.vmas_in(start..end);
        found.extend(parts.filter_map(|vma| {
            pages.first_missing(vma, (vma.start().max(start), vma.end().min(end)))
        }));
    }
    if let Call::Touch { addr, .. } = *call
        && let Some(stack) = space.find_vma(addr).filter(|vma| is_stack_above(vma, addr))
    {
        // It may grow down to there, watched as it is.
        let page = addr & !(PAGE_SIZE - 1);
        found.extend(pages.first_missing(stack, (page, page + PAGE_SIZE)));
    }
    found
}

const fn is_stack_above(vma: &Vma, addr: u64) -> bool {
    vma.flags().contains(VmFlags::GROWSDOWN) && !vma.contains(addr)
}

const fn guard(addr: u64) -> MissingPage {
    let is_guard = true;
    MissingPage { addr, is_guard }
}

/// What shows which pages there are.
struct Pages<'a> {
    eyes: &'a Eyes,
    grounds: &'a Grounds,
}

impl Pages<'_> {
    /// The first page of `start..end`, which lies in `vma`, that cannot be had.
    fn first_missing(&self, vma: &Vma, (start, end): (u64, u64)) -> Option<MissingPage> {
        let has = |flag| vma.flags().contains(flag);
        let may_have_guards = has(VmFlags::MAYBE_GUARD);
        let is_watched = has(VmFlags::UFFD_MISSING) && vma.is_anonymous();
        let guarded = may_have_guards.then(|| self.eyes.first_guard((start, end)));
        let absent = is_watched.then(|| self.eyes.first_absent_page((start, end)));
        let behind = first_behind(self.grounds, vma).map(|addr| addr.max(start));
        let is_guard = false;
        let others = [absent.flatten(), behind.filter(|&addr| addr < end)];
        let others = others.into_iter().flatten();
        let others = others.map(|addr| MissingPage { addr, is_guard });
        // A guard behind the end is a guard all the same.
        let all = guarded.flatten().map(guard).into_iter().chain(others);
        all.min_by_key(|page| page.addr)
    }
}

/// The address from which on a mapping has no pages of its file.
fn first_behind(grounds: &Grounds, vma: &Vma) -> Option<u64> {
    let file = match vma.backing() {
        Backing::File(file) if !vma.is_anonymous() => file,
        _ => return None,
    };
    let pages = match file.kind {
        // Its length is a whole number of huge pages.
        _ if vma.flags().contains(VmFlags::HUGETLB) => return None,
        FileKind::SystemV { bytes } => bytes.div_ceil(PAGE_SIZE),
        _ => {
            let object = grounds.objects.get(&file.id).copied();
            object.unwrap_or(FILE_LEN / PAGE_SIZE)
        }
    };
    let bytes = |pages: u64| pages.saturating_mul(PAGE_SIZE);
    let offset = vma.page_offset();
    Some(if offset <= pages {
        vma.start().saturating_add(bytes(pages - offset))
    } else {
        vma.start().saturating_sub(bytes(offset - pages))
    })
}
