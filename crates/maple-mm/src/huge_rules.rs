//! When an access brings a huge page in.

use core::ops::Range;

use crate::abi::HUGE_PAGE_SIZE;
use crate::flags::VmFlags;
use crate::process::ProcessFlags;
use crate::profile::{Configured, LinuxProfile};
use crate::system::System;
use crate::vma::Vma;

/// What decides whether memory gets huge pages, beside its mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HugeRules<'s> {
    pub(crate) system: &'s System,
    pub(crate) profile: &'s LinuxProfile,
    /// What was asked of the process as a whole.
    pub(crate) switches: ProcessFlags,
}

impl HugeRules<'_> {
    /// Whether `vma` gets transparent huge pages where it has room for them.
    pub(crate) fn wants(&self, vma: &Vma) -> Configured {
        let is_wanted = vma.flags().contains(VmFlags::HUGEPAGE)
            && vma.is_anonymous()
            && self.system.settings().huge_pages_if_advised.is_yes()
            && self.profile.transparent_huge_pages.is_yes()
            && !self.switches.contains(ProcessFlags::NO_HUGE_PAGES);
        if is_wanted {
            Configured::Yes
        } else {
            Configured::No
        }
    }

    /// Whether reading `range`, which lies in `vma`, brings a page of its own in: a huge one.
    pub(crate) fn reads_own_page(&self, vma: &Vma, range: Range<u64>) -> bool {
        vma.flags().contains(VmFlags::HUGETLB) || self.reads_huge_page(vma, range)
    }

    /// Whether reading `range`, which lies in `vma`, brings a transparent huge page in.
    fn reads_huge_page(&self, vma: &Vma, range: Range<u64>) -> bool {
        let first_in_vma = vma.start().checked_next_multiple_of(HUGE_PAGE_SIZE);
        let end_in_vma = vma.end() & !(HUGE_PAGE_SIZE - 1);
        self.wants(vma).is_yes()
            && first_in_vma.is_some_and(|first| range.start.max(first) < range.end.min(end_in_vma))
    }
}
