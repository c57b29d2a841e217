//! What an address space shows of itself: lent, [`Shown`], or kept as it was, [`Moment`].

use core::fmt::{self, Write};

use crate::accounting::Statistics;
use crate::layout::Layout;
use crate::maps::MapsLine;
use crate::memory::VmaRef;
use crate::page_side::{PageSide, Usage};
use crate::profile::LinuxProfile;
use crate::shared::Beside;
use crate::space::{AddressSpace, Mappings};
use crate::vma::Vma;

/// All that the texts of `/proc/PID/maps` and `smaps` follow from. Not more: who has a snapshot of
/// the mappings and copies of the rest can write them without the address space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) tree: &'a Mappings,
    pub(crate) layout: &'a Layout,
    pub(crate) profile: &'a LinuxProfile,
}

/// The mappings of an address space, its layout and its counters as they were at one moment, to
/// be looked at while the address space goes on, by another thread perhaps.
///
/// Unlike [`AddressSpace::snapshot`] it is no address space: it promises no memory, no hook is
/// told of it, and nothing can be changed in it. Mappings and nodes that are gone from the address
/// space meanwhile live as long as it does.
///
/// # Examples
///
/// ```
/// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
/// let mut space = AddressSpace::empty();
/// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ))?;
/// let before = space.moment();
/// space.munmap(addr, 8192)?;
///
/// let writer = std::thread::spawn(move || {
///     let mut text = String::new();
///     before.write_maps(&mut text).map(|()| text)
/// });
/// let text = writer.join().unwrap().unwrap();
/// assert!(text.starts_with(&format!("{addr:08x}-")));
/// # Ok::<(), maple_mm::Errno>(())
/// ```
#[derive(Debug)]
pub struct Moment {
    tree: Mappings,
    layout: Layout,
    profile: LinuxProfile,
    statistics: Statistics,
}

impl<P: PageSide> AddressSpace<P> {
    /// What the address space shows of itself now, to keep.
    ///
    /// # Complexity
    ///
    /// O(1); the next write copies a path of the tree.
    ///
    /// # Examples
    ///
    /// See [`Moment`].
    #[must_use]
    pub fn moment(&self) -> Moment {
        let tree = self.tree.snapshot();
        Moment::new(tree, self.beside(), self.pages.usage(), &self.profile)
    }

    pub(crate) fn shown(&self) -> Shown<'_> {
        Shown {
            tree: &self.tree,
            layout: &self.layout,
            profile: &self.profile,
        }
    }
}

impl Moment {
    /// What was found at one moment.
    pub(crate) fn new(
        tree: Mappings,
        beside: Beside,
        usage: Usage,
        profile: &LinuxProfile,
    ) -> Self {
        Self {
            statistics: Statistics::new(&beside.sums, beside.peak_vm, usage),
            layout: beside.layout,
            tree,
            profile: *profile,
        }
    }

    /// The tree of mappings, keyed by byte addresses (inclusive): look-ups, gaps, iteration.
    #[must_use]
    pub const fn tree(&self) -> &Mappings {
        &self.tree
    }

    /// All mappings in ascending order.
    pub fn vmas(&self) -> impl DoubleEndedIterator<Item = &VmaRef> {
        self.tree.iter().map(|(_, vma)| vma)
    }

    /// Where the program's parts lay.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The counters.
    #[must_use]
    pub const fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// As [`AddressSpace::maps_line`], for one of these mappings.
    #[must_use]
    pub fn maps_line<'a>(&self, vma: &'a Vma) -> MapsLine<'a> {
        self.shown().maps_line(vma)
    }

    /// As [`AddressSpace::name_of`], for one of these mappings.
    #[must_use]
    pub fn name_of<'a>(&self, vma: &'a Vma) -> &'a str {
        self.shown().name_of(vma)
    }

    /// As [`AddressSpace::write_maps`].
    ///
    /// # Complexity
    ///
    /// O(n) for n mappings.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn write_maps(&self, out: &mut dyn Write) -> fmt::Result {
        self.shown().write_maps(out)
    }

    /// As [`AddressSpace::write_smaps`].
    ///
    /// # Complexity
    ///
    /// O(n) for n mappings.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn write_smaps(&self, out: &mut dyn Write) -> fmt::Result {
        self.shown().write_smaps(out)
    }

    /// As [`AddressSpace::write_status`].
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn write_status(&self, out: &mut dyn Write) -> fmt::Result {
        self.shown().write_status(&self.statistics, out)
    }

    const fn shown(&self) -> Shown<'_> {
        Shown {
            tree: &self.tree,
            layout: &self.layout,
            profile: &self.profile,
        }
    }
}
