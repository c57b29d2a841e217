//! What is forked: a parent of some kind, and its child.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use maple_mm::abi::{MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE, PROT_READ, PROT_WRITE};
use maple_mm::{
    Access, AddressSpace, ForkStrategy, MmapRequest, Setup, Statistics, System, SystemSettings,
};

use super::plan::{self, Rights, Step};
use crate::cli::Touched;

/// An address space that can be forked in several ways.
pub(crate) trait Parent: Sized {
    /// What a fork makes; dropping it is its exit.
    type Child;

    /// A parent with `count` mappings.
    ///
    /// # Errors
    ///
    /// If they can't be made, or merged.
    fn make(count: u32, touched: Touched) -> Result<Self>;

    /// Makes a child.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    fn fork(&mut self, strategy: ForkStrategy) -> Result<Self::Child>;

    /// Makes one more child and checks that both are what they should be, that a change of the
    /// child does not reach the parent, and that nothing is left of the child in the end.
    ///
    /// # Errors
    ///
    /// What is wrong.
    fn check(&mut self, strategy: ForkStrategy) -> Result<()>;

    /// The tree of its mappings, for the floor.
    fn space(&self) -> &AddressSpace;
}

/// Mappings without pages.
#[derive(Debug)]
pub(crate) struct Mappings {
    space: AddressSpace,
    /// As the parent was made.
    before: Picture,
}

/// All that can be seen of an address space, and of the machine it is the only one of.
#[derive(Debug, PartialEq, Eq)]
struct Picture {
    maps: String,
    /// Which mappings were written, in order.
    written: Vec<bool>,
    counters: Statistics,
    committed: u64,
    mappings_in_memory: usize,
}

impl Picture {
    fn of(space: &AddressSpace) -> Result<Self> {
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
        })
    }
}

impl Mappings {
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
        if is_touched {
            let fault = self.space.fault(addr, Access::Write);
            fault.map_err(|fault| anyhow::anyhow!("{fault:?} on a write"))?;
            if rights == Rights::Read {
                self.space.mprotect(addr, plan::LEN, PROT_READ)?;
            }
        }
        Ok(())
    }

    /// Compares a child that was just made.
    fn check_child(&self, child: &AddressSpace) -> Result<()> {
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
}

impl Parent for Mappings {
    type Child = AddressSpace;

    fn make(count: u32, touched: Touched) -> Result<Self> {
        let settings = SystemSettings {
            max_map_count: count as usize + 2,
            ..SystemSettings::default()
        };
        let setup = Setup {
            system: Arc::new(System::new(settings)),
            ..Setup::default()
        };
        let space = AddressSpace::from_layout(setup, [])?;
        let before = Picture::of(&space)?;
        let mut parent = Self { space, before };
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

    #[inline]
    fn fork(&mut self, strategy: ForkStrategy) -> Result<AddressSpace> {
        Ok(self.space.fork_with(strategy, || false)?)
    }

    fn check(&mut self, strategy: ForkStrategy) -> Result<()> {
        let mut child = self.fork(strategy)?;
        self.check_child(&child)?;
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

    fn space(&self) -> &AddressSpace {
        &self.space
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_has_as_many_mappings_as_asked_for_and_touched_those() {
        for (touched, expected) in [(Touched::None, 0), (Touched::Half, 12), (Touched::All, 23)] {
            let parent = Mappings::make(23, touched).unwrap();
            let written = parent.before.written.iter().filter(|&&is| is).count();
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn a_child_that_lacks_a_mapping_or_whose_parent_changed_is_noticed() {
        let mut parent = Mappings::make(21, Touched::None).unwrap();
        let mut child = parent.fork(ForkStrategy::Snapshot).unwrap();
        parent.check_child(&child).unwrap();
        let start = child.vmas().next().unwrap().start();
        child.munmap(start, plan::LEN).unwrap();
        assert!(parent.check_child(&child).is_err());
        drop(child);
        parent.space.munmap(start, plan::LEN).unwrap();
        assert!(parent.check(ForkStrategy::Bulk).is_err());
    }
}
