//! What is forked, in which ways.

use anyhow::{Context, Result};
use maple_mm::{ForkPlan, ForkStrategy, Mappings, NoPages, PageStrategy};

use super::space::{Paged, Space};
use crate::cli::{Pages, SpawnArgs, Touched};

/// A way to fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) mappings: ForkStrategy,
    /// `None` where there are no pages.
    pub(crate) pages: Option<PageStrategy>,
}

impl Way {
    /// The ways that were asked for.
    pub(crate) fn all(args: &SpawnArgs) -> Vec<Self> {
        let asked_pages = match (&args.pages[..], args.touched) {
            ([], Touched::None) => &[Pages::None][..],
            ([], Touched::Half | Touched::All) => &[Pages::Copy, Pages::Share],
            (asked, _) => asked,
        };
        let mut ways = Vec::new();
        for pages in [Pages::None, Pages::Copy, Pages::Share] {
            for mappings in ForkStrategy::ALL {
                let is_asked = args.strategy.is_empty() || args.strategy.contains(&mappings);
                if is_asked && asked_pages.contains(&pages) {
                    let pages = match pages {
                        Pages::None => None,
                        Pages::Copy => Some(PageStrategy::Copy),
                        Pages::Share => Some(PageStrategy::Share),
                    };
                    ways.push(Self { mappings, pages });
                }
            }
        }
        ways
    }

    /// For tables.
    pub(crate) fn name(self) -> String {
        match self.pages {
            None => self.mappings.name().to_owned(),
            Some(pages) => format!("{}/{}", self.mappings.name(), pages.name()),
        }
    }

    /// For an address space, which does not look at the pages if it has none.
    pub(crate) fn plan(self) -> ForkPlan {
        ForkPlan {
            mappings: self.mappings,
            pages: self.pages.unwrap_or_default(),
        }
    }
}

/// Something that can be forked in several ways.
pub(crate) trait Parent: Sized {
    /// A parent with `count` mappings, ready for `ways`.
    ///
    /// # Errors
    ///
    /// If they can't be made, or merged.
    fn make(count: u32, touched: Touched, ways: &[Way]) -> Result<Self>;

    /// Makes a child, and drops it: its exit.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    fn fork_and_exit(&mut self, way: Way) -> Result<()>;

    /// Makes one more child and checks that both are what they should be, that a change of one
    /// does not reach the other, and that nothing is left of the child in the end.
    ///
    /// # Errors
    ///
    /// What is wrong.
    fn check(&mut self, way: Way) -> Result<()>;

    /// Its mappings, for the floor.
    fn mappings(&self) -> &Mappings;
}

/// Address spaces of the model with the same mappings.
#[derive(Debug)]
pub(crate) struct Model {
    bare: Space<NoPages>,
    /// Only where a way asks for pages.
    paged: Option<Space<Paged>>,
}

impl Model {
    fn paged(&mut self) -> Result<&mut Space<Paged>> {
        self.paged.as_mut().context("made without pages")
    }
}

impl Parent for Model {
    fn make(count: u32, touched: Touched, ways: &[Way]) -> Result<Self> {
        let has_pages = ways.iter().any(|way| way.pages.is_some());
        Ok(Self {
            bare: Space::make(count, touched)?,
            paged: has_pages.then(|| Space::make(count, touched)).transpose()?,
        })
    }

    #[inline]
    fn fork_and_exit(&mut self, way: Way) -> Result<()> {
        match way.pages {
            None => self.bare.fork(way).map(drop),
            Some(_) => self.paged()?.fork(way).map(drop),
        }
    }

    fn check(&mut self, way: Way) -> Result<()> {
        match way.pages {
            None => self.bare.check(way),
            Some(_) => self.paged()?.check(way),
        }
    }

    fn mappings(&self) -> &Mappings {
        self.bare.mappings()
    }
}
