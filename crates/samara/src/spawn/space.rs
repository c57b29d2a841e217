//! An address space of the model as a parent, with pages or without, and what is checked of it.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use maple_mm::abi::{MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE, PROT_READ, PROT_WRITE};
use maple_mm::paging::{Arena, ArenaLayout, NoTlb, PhysMemory, X86_64};
use maple_mm::{
    Access, AddressSpace, HeapChunks, MappedPages, Mappings, MmapRequest, NoPages, PageSide, Setup,
    Statistics, System, SystemSettings, VmaPool,
};

use super::parent::Way;
use super::plan::{self, Rights, Step};
use crate::cli::Touched;

/// Page tables and frames.
pub(crate) type Paged = MappedPages<X86_64<4>, Arc<Memory>, NoTlb>;
type Memory = Arena<parking_lot::RawMutex>;

/// As many pages of a child are written when it is checked, at most.
const CHECK_WRITES: usize = 4096;

/// A page side, and how what it keeps is seen.
pub(crate) trait Side: PageSide {
    /// One that is large enough for `count` mappings, `touched` of them with a page.
    fn make(count: u32, touched: u32) -> Result<Self>;

    /// Writes `value` at `addr`, as the program would.
    fn write(space: &mut AddressSpace<Self>, addr: u64, value: u64) -> Result<()>;

    /// What is at `addr`; `None` if nothing is kept.
    fn read(space: &mut AddressSpace<Self>, addr: u64) -> Result<Option<u64>>;

    /// The frames in use by all address spaces of its memory.
    fn frames_in_use(&self) -> usize;
}

impl Side for NoPages {
    fn make(_: u32, _: u32) -> Result<Self> {
        Ok(Self)
    }

    fn write(space: &mut AddressSpace<Self>, addr: u64, _: u64) -> Result<()> {
        let fault = space.fault(addr, Access::Write);
        fault.map_err(|fault| anyhow!("{fault:?} on a write"))
    }

    fn read(_: &mut AddressSpace<Self>, _: u64) -> Result<Option<u64>> {
        Ok(None)
    }

    fn frames_in_use(&self) -> usize {
        0
    }
}

impl Side for Paged {
    fn make(count: u32, touched: u32) -> Result<Self> {
        // Tables: a frame for 512 pages, of a parent and its child, and of what either unshares.
        let frames = touched + CHECK_WRITES as u32 + count / 64 + 1024;
        let memory = Memory::new(ArenaLayout::of_frames(frames))?;
        Self::new(Arc::new(memory), NoTlb).map_err(|_| anyhow!("no frame for a table"))
    }

    fn write(space: &mut AddressSpace<Self>, addr: u64, value: u64) -> Result<()> {
        let written = space.write(addr, &value.to_le_bytes());
        written.map_err(|unfinished| anyhow!("{:?} on a write", unfinished.fault))
    }

    fn read(space: &mut AddressSpace<Self>, addr: u64) -> Result<Option<u64>> {
        let mut bytes = [0; 8];
        let read = space.read(addr, &mut bytes);
        read.map_err(|unfinished| anyhow!("{:?} on a read", unfinished.fault))?;
        Ok(Some(u64::from_le_bytes(bytes)))
    }

    fn frames_in_use(&self) -> usize {
        self.tables().memory().in_use()
    }
}

/// A parent.
#[derive(Debug)]
pub(crate) struct Space<P: Side> {
    space: AddressSpace<P>,
    /// What was written, each page with its own address.
    touched: Vec<u64>,
    /// Those of them that may still be written.
    writable: Vec<u64>,
    /// As it was made.
    before: Picture,
}

/// All that can be seen of an address space but the contents of its pages, and of the machine it
/// is the only one of.
#[derive(Debug, PartialEq, Eq)]
struct Picture {
    maps: String,
    /// Which mappings were written, in order.
    written: Vec<bool>,
    counters: Statistics,
    committed: u64,
    mappings_in_memory: usize,
    frames_in_use: usize,
}

impl Picture {
    fn of<P: Side>(space: &AddressSpace<P>) -> Result<Self> {
        if let Err(violation) = space.validate() {
            bail!("invariant {violation}");
        }
        let mut maps = String::new();
        space.write_maps(&mut maps).context("maps text")?;
        Ok(Self {
            maps,
            written: space.vmas().map(|vma| vma.anon().is_faulted()).collect(),
            counters: space.statistics(),
            committed: space.system().committed(),
            mappings_in_memory: space.system().pool().in_use(),
            frames_in_use: space.page_side().frames_in_use(),
        })
    }
}

/// A pool of its own, so that what is left in it is of this parent. A machine wants one for ever;
/// an empty one keeps 64 KiB, and there is one for each size that is measured.
fn pool() -> &'static VmaPool {
    static CHUNKS: HeapChunks = HeapChunks::new(VmaPool::CHUNK_MAX);
    Box::leak(Box::new(VmaPool::new(&CHUNKS)))
}

impl<P: Side> Space<P> {
    /// A parent with `count` mappings.
    ///
    /// # Errors
    ///
    /// If they can't be made, or merged.
    pub(crate) fn make(count: u32, touched: Touched) -> Result<Self> {
        let settings = SystemSettings {
            max_map_count: count as usize + 2,
            ..SystemSettings::default()
        };
        let setup = Setup {
            system: Arc::new(System::new(settings).with_pool(pool())),
            ..Setup::default()
        };
        let pages = (0..count)
            .filter(|&number| touched.contains(number))
            .count();
        let space = AddressSpace::with_pages(setup, P::make(count, pages as u32)?);
        let mut parent = Self {
            before: Picture::of(&space)?,
            space,
            touched: Vec::with_capacity(pages),
            writable: Vec::new(),
        };
        for step in plan::steps(count, touched) {
            parent
                .take(step)
                .with_context(|| format!("cannot make the mapping at {:#x}", step.addr))?;
        }
        let made = parent.space.map_count();
        ensure!(made == count as usize, "{count} mappings became {made}");
        parent.before = Picture::of(&parent.space)?;
        Ok(parent)
    }

    fn take(&mut self, step: Step) -> Result<()> {
        let Step {
            addr,
            rights,
            is_touched,
        } = step;
        let protection = match rights {
            Rights::Read if !is_touched => PROT_READ,
            Rights::Read | Rights::ReadWrite => PROT_READ | PROT_WRITE,
        };
        self.space.mmap(MmapRequest {
            addr,
            flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
            ..MmapRequest::anonymous(plan::LEN, protection)
        })?;
        if !is_touched {
            return Ok(());
        }
        P::write(&mut self.space, addr, addr)?;
        self.touched.push(addr);
        match rights {
            Rights::Read => self.space.mprotect(addr, plan::LEN, PROT_READ)?,
            Rights::ReadWrite => self.writable.push(addr),
        }
        Ok(())
    }

    pub(crate) fn mappings(&self) -> &Mappings {
        self.space.tree()
    }

    /// Makes a child; dropping it is its exit.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    #[inline]
    pub(crate) fn fork(&mut self, way: Way) -> Result<AddressSpace<P>> {
        Ok(self.space.fork_with(way.plan(), || false)?)
    }

    /// As for [`Parent::check`](super::parent::Parent::check).
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub(crate) fn check(&mut self, way: Way) -> Result<()> {
        let mut child = self.fork(way)?;
        self.check_child(&child)?;
        self.check_contents(&mut child)?;
        let first = child.vmas().next().map(|vma| vma.start());
        child.munmap(first.context("the child is empty")?, plan::LEN)?;
        if let Err(violation) = child.validate() {
            bail!("the child after munmap: invariant {violation}");
        }
        ensure!(
            child.map_count() + 1 == self.space.map_count(),
            "the child's munmap reached the parent, or not the child"
        );
        drop(child);
        let after = Picture::of(&self.space).context("the parent")?;
        ensure!(after.maps == self.before.maps, "the parent's maps changed");
        ensure!(
            after == self.before,
            "the parent's counters changed, or something is left of the child"
        );
        Ok(())
    }

    /// Compares a child that was just made.
    fn check_child(&self, child: &AddressSpace<P>) -> Result<()> {
        let before = &self.before;
        let Picture {
            maps,
            written,
            counters,
            ..
        } = Picture::of(child).context("the child")?;
        ensure!(maps == before.maps, "the child's maps text differs");
        ensure!(
            written == before.written,
            "the child's written mappings are others than the parent's"
        );
        ensure!(
            counters == before.counters,
            "the child's counters {counters:?} are not the parent's {:?}",
            before.counters
        );
        let forked = child.vmas().map(|vma| child.anon(vma).is_forked());
        ensure!(
            forked.eq(written),
            "what was written before the fork is not marked in the child"
        );
        let (committed, twice) = (child.system().committed(), 2 * before.committed);
        ensure!(
            committed == twice,
            "{committed} pages are promised to both, not {twice}"
        );
        Ok(())
    }

    /// Reads all that was written, on both sides, after each side wrote.
    fn check_contents(&mut self, child: &mut AddressSpace<P>) -> Result<()> {
        if let Some(&first) = self.writable.first() {
            P::write(&mut self.space, first, !first)?;
        }
        for &addr in &self.touched {
            let seen = P::read(child, addr)?;
            ensure!(
                seen.is_none_or(|value| value == addr),
                "the child does not see at {addr:#x} what was written before the fork"
            );
        }
        if let Some(&first) = self.writable.first() {
            P::write(&mut self.space, first, first)?;
        }
        for &addr in self.writable.iter().take(CHECK_WRITES) {
            P::write(child, addr, !addr)?;
        }
        for &addr in &self.touched {
            let seen = P::read(&mut self.space, addr)?;
            ensure!(
                seen.is_none_or(|value| value == addr),
                "the parent does not see at {addr:#x} what it wrote"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use maple_mm::{ForkStrategy, PageStrategy};

    use super::*;

    fn way(mappings: ForkStrategy) -> Way {
        let pages = Some(PageStrategy::Share);
        Way { mappings, pages }
    }

    fn has_as_many_as_asked_for<P: Side>() {
        for (touched, expected) in [(Touched::None, 0), (Touched::Half, 12), (Touched::All, 23)] {
            let parent: Space<P> = Space::make(23, touched).unwrap();
            let written = parent.before.written.iter().filter(|&&is| is).count();
            assert_eq!(written, expected);
            assert_eq!(parent.touched.len(), expected);
        }
    }

    #[test]
    fn the_parent_has_as_many_mappings_as_asked_for_and_touched_those() {
        has_as_many_as_asked_for::<NoPages>();
        has_as_many_as_asked_for::<Paged>();
    }

    fn notices_a_wrong_child<P: Side>() {
        let mut parent: Space<P> = Space::make(21, Touched::None).unwrap();
        let mut child = parent.fork(way(ForkStrategy::Snapshot)).unwrap();
        parent.check_child(&child).unwrap();
        let start = child.vmas().next().unwrap().start();
        child.munmap(start, plan::LEN).unwrap();
        assert!(parent.check_child(&child).is_err());
        drop(child);
        parent.space.munmap(start, plan::LEN).unwrap();
        assert!(parent.check(way(ForkStrategy::Bulk)).is_err());
    }

    #[test]
    fn a_child_that_lacks_a_mapping_or_whose_parent_changed_is_noticed() {
        notices_a_wrong_child::<NoPages>();
        notices_a_wrong_child::<Paged>();
    }

    #[test]
    fn wrong_contents_of_either_side_are_noticed() {
        let mut parent: Space<Paged> = Space::make(21, Touched::All).unwrap();
        let mut child = parent.fork(way(ForkStrategy::Snapshot)).unwrap();
        let addr = parent.writable[3];
        Paged::write(&mut child, addr, 0).unwrap();
        let error = parent.check_contents(&mut child).unwrap_err();
        assert!(error.to_string().contains("the child does not see"));
        drop(child);

        let mut parent: Space<Paged> = Space::make(21, Touched::All).unwrap();
        Paged::write(&mut parent.space, addr, 0).unwrap();
        let mut child = parent.fork(way(ForkStrategy::Snapshot)).unwrap();
        Paged::write(&mut child, addr, addr).unwrap();
        let error = parent.check_contents(&mut child).unwrap_err();
        assert!(error.to_string().contains("the parent does not see"));
    }
}
