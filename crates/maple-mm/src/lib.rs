//! The Linux address space as a library: mappings, the `mmap` family, fork.
//!
//! An [`AddressSpace`] takes the calls a program makes, with the numbers the program passes, and
//! answers what Linux answers: the address, the error number, which mappings split and merge,
//! and the text of `/proc/PID/maps`. It is deterministic, needs no kernel, and never panics on
//! any argument.
//!
//! What `maps` does not show decides about merging: which private mappings were written
//! ([`AddressSpace::fault`], [`AddressSpace::mark_written`]), which open file a mapping came from
//! ([`FileId`]), and what was forked ([`AddressSpace::fork`]).
//!
//! # Examples
//!
//! ```
//! use maple_mm::{AddressSpace, MmapRequest, abi::*};
//! let mut space = AddressSpace::empty();
//! let first = space.mmap(MmapRequest::anonymous(4096, PROT_READ | PROT_WRITE))?;
//! let second = space.mmap(MmapRequest::anonymous(4096, PROT_READ | PROT_WRITE))?;
//! assert_eq!(second, first - 4096);
//! assert_eq!(space.map_count(), 1);
//! # Ok::<(), maple_mm::Errno>(())
//! ```

#![no_std]

extern crate alloc;

/// Whether a rule was turned wrong on purpose: never, but in builds for the test of that.
macro_rules! planted {
    ($mistake:ident) => {{
        #[cfg(planted_mistakes)]
        let is_planted = crate::planted::is(crate::planted::Mistake::$mistake);
        #[cfg(not(planted_mistakes))]
        let is_planted = false;
        is_planted
    }};
}

pub mod abi;
mod accounting;
mod advise;
mod anon;
mod anon_names;
mod brk;
mod charge;
mod check;
mod counted;
mod counted_pages;
mod edit;
mod errno;
mod explicit_pages;
mod fault;
mod file;
mod file_pages;
mod flags;
mod fork;
mod guest;
mod held;
mod history;
mod hooks;
mod huge_file;
mod huge_pages;
mod huge_rules;
mod layout;
mod lock;
mod map;
mod mapped_pages;
mod maps;
mod memory;
mod memory_file;
mod merge;
mod modify;
mod moment;
mod notifier;
mod page_changes;
mod page_side;
pub mod paging;
mod placement;
#[cfg(planted_mistakes)]
pub mod planted;
mod policy;
mod process;
mod process_madvise;
mod profile;
mod program_addresses;
mod protect;
mod remap;
mod remap_pages;
mod savepoint;
mod seal;
mod seals;
mod shared;
mod shm;
mod smaps;
mod space;
mod system;
mod teardown;
mod touch;
mod truncate;
mod unmap;
mod userfault;
mod validate;
mod validate_pages;
mod vma;

pub use accounting::Statistics;
pub use anon::{Anon, AnonId, AnonView};
pub use check::Refused;
pub use counted::Counted;
pub use errno::Errno;
pub use fault::{Access, Fault};
pub use file::{Backing, File, FileAccess, FileId, FileKind, FileRef, MmapFile, Special};
pub use file_pages::{BusError, FilePages, FilePagesRef};
pub use flags::{UnknownMnemonic, VmFlags};
pub use fork::{ForkPlan, ForkStrategy};
pub use guest::{GuestMemory, Unfinished};
pub use history::MissingPage;
pub use hooks::MappingHooks;
pub use huge_file::HugeObject;
pub use huge_pages::{HugePages, HugeSource};
pub use layout::{Capabilities, Direction, Gate, Layout, LayoutError, Limits, VmaSpec};
pub use map::MmapRequest;
pub use mapped_pages::MappedPages;
pub use maps::{MapsLine, MapsLineError};
pub use memory::{HeapChunks, TreeNodes, VmaPool, VmaRef, VmaSource};
pub use memory_file::MemoryFile;
pub use moment::Moment;
pub use notifier::{Invalidation, RangeNotifier};
pub use page_side::{
    Alike, Guards, Inheritance, NoPages, PageChange, PageSide, PageStrategy, Touch, Touched, Usage,
};
pub use policy::BindRequest;
pub use process::{Process, ProcessFlags};
pub use process_madvise::{AdvisedRange, Adviser};
pub use profile::{
    AnonMergeRule, Configured, HugePlacement, LinuxProfile, LinuxVersion, MergeAnyRule,
    MremapGeneration,
};
pub use program_addresses::ProgramAddresses;
pub use protect::KeyedProtection;
pub use remap::MremapRequest;
pub use remap_pages::RemapPages;
pub use seals::Seals;
pub use shared::{Locked, MappingReader, SharedAddressSpace};
pub use shm::{Segment, SegmentAccess};
pub use space::{AddressSpace, Mappings, Setup};
pub use system::{CommitBound, Overcommit, System, SystemSettings};
pub use teardown::Teardown;
pub use truncate::truncate;
pub use userfault::{UserfaultFeatures, Userfaultfd};
pub use validate::Violation;
pub use vma::Vma;
