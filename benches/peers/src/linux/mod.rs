//! Linux's own tree as a subject: the same work, whose loops run in C.

mod library;

use crate::data::{Area, GAP};
use crate::fixture::{Age, Fixture};
use crate::measure::Chunk;
use crate::model::Model;
use crate::subject::{Places, Subject, batch_of};
use crate::work::Work;
use anyhow::ensure;
use library::{Mode, Tree};
use std::hint::black_box;
use std::rc::Rc;

pub(crate) use library::Library;

/// A tree in C of one mode.
struct Linux {
    library: Rc<Library>,
    fixture: Rc<Fixture>,
    mode: Mode,
    age: Age,
    tree: Tree,
    places: Places,
}

/// Linux's tree in each of its modes.
pub(crate) fn subjects(
    library: &Rc<Library>,
    fixture: &Rc<Fixture>,
    age: Age,
) -> anyhow::Result<Vec<Box<dyn Subject>>> {
    let subject = |mode| {
        let linux = Linux {
            library: Rc::clone(library),
            fixture: Rc::clone(fixture),
            mode,
            age,
            tree: aged(library, fixture, (mode, age))?,
            places: Places::default(),
        };
        Ok(Box::new(linux) as Box<dyn Subject>)
    };
    [Mode::Plain, Mode::Gaps, Mode::Rcu]
        .into_iter()
        .map(subject)
        .collect()
}

/// A tree of the fixture's content.
fn aged(
    library: &Rc<Library>,
    fixture: &Fixture,
    (mode, age): (Mode, Age),
) -> anyhow::Result<Tree> {
    let mut tree = Tree::new(library, mode)?;
    tree.build(fixture.order(age))?;
    if age == Age::Aged {
        tree.apply(fixture.churn.steps())?;
    }
    Ok(tree)
}

impl Linux {
    fn check_copies(&self) -> anyhow::Result<()> {
        let mut copy = self.tree.duplicate()?;
        ensure!(
            self.holds(&copy, &self.fixture.areas),
            "a copy of Linux's tree differs"
        );
        copy.apply(&self.fixture.churn.steps()[..1])?;
        let areas = &self.fixture.areas;
        ensure!(
            self.holds(&self.tree, areas),
            "a write to a copy is seen in Linux's tree"
        );
        ensure!(
            self.holds(&self.bulk()?, areas),
            "Linux's tree, bulk-built, differs"
        );
        Ok(())
    }

    /// Every step of the churn on a small set, the content compared after each.
    fn check_steps(&self) -> anyhow::Result<()> {
        let fixture = Fixture::new(self.fixture.data, 200);
        let mut tree = Tree::new(&self.library, self.mode)?;
        tree.build(&fixture.shuffled)?;
        let mut model = Model::new(&fixture.areas);
        for (number, &step) in fixture.churn.steps().iter().enumerate() {
            tree.apply(&[step])?;
            model.apply(step);
            let same = self.holds(&tree, model.areas());
            ensure!(
                same,
                "Linux's tree differs from the model after step {number}"
            );
        }
        Ok(())
    }

    fn check_searches(&self) -> anyhow::Result<()> {
        let model = Model::new(&self.fixture.areas);
        for &key in &self.fixture.keys[..4_096] {
            let found = self.tree.look_up(&[key]);
            let right = model.get(key).unwrap_or(0);
            ensure!(
                found == right,
                "Linux's tree holds {found} at {key:#x}, and should {right}"
            );
        }
        if self.mode == Mode::Plain {
            return Ok(());
        }
        let (up, down) = (self.fixture.lowest_window(), self.fixture.highest_window());
        let found = (
            self.tree.lowest_gap(up, GAP),
            self.tree.highest_gap(down, GAP),
        );
        let right = (model.lowest_gap(up, GAP), model.highest_gap(down, GAP));
        ensure!(
            found == right,
            "Linux's tree finds gaps {found:x?}, which are {right:x?}"
        );
        Ok(())
    }

    fn holds(&self, tree: &Tree, areas: &[Area]) -> bool {
        tree.areas(areas.len() + 1) == areas
    }

    fn empty(&self) -> anyhow::Result<Tree> {
        Tree::new(&self.library, self.mode)
    }

    fn built(&self, areas: &[Area]) -> anyhow::Result<Tree> {
        let mut tree = self.empty()?;
        tree.build(areas)?;
        Ok(tree)
    }

    fn bulk(&self) -> anyhow::Result<Tree> {
        let mut tree = self.empty()?;
        tree.bulk(&self.fixture.areas)?;
        Ok(tree)
    }

    fn lookups(&mut self, work: Work, reps: u64) -> Chunk {
        let zero = black_box(0);
        let mut chunk = Chunk::default();
        let mut left = reps * 64;
        while left > 0 {
            let keys = self.places.keys(&self.fixture, left as usize);
            let ops = keys.len() as u64;
            black_box(chunk.time(ops, || match work {
                Work::Lookup => self.tree.look_up(keys),
                _ => self.tree.look_up_dependent(keys, zero),
            }));
            left -= ops;
        }
        chunk
    }

    fn steps(&mut self, work: Work, reps: u64) -> Option<Chunk> {
        let mut chunk = Chunk::default();
        for _ in 0..reps.div_ceil(64) {
            let steps = self
                .places
                .steps(&self.fixture, work, reps.min(64) as usize);
            chunk
                .time(steps.len() as u64, || self.tree.apply(steps))
                .ok()?;
        }
        Some(chunk)
    }

    fn searches(&self, work: Work, reps: u64) -> Chunk {
        let (up, down) = (self.fixture.lowest_window(), self.fixture.highest_window());
        let mut chunk = Chunk::default();
        chunk.time(reps, || {
            for _ in 0..reps {
                black_box(match work {
                    Work::LowestGap => self.tree.lowest_gap(up, GAP),
                    _ => self.tree.highest_gap(down, GAP),
                });
            }
        });
        chunk
    }

    fn copies(&self, reps: u64, make: impl Fn(&Self) -> anyhow::Result<Tree>) -> Option<Chunk> {
        let batch = batch_of(self.fixture.n());
        let ops = (batch * self.fixture.n()) as u64;
        let mut made = Vec::with_capacity(batch);
        let mut chunk = Chunk::default();
        for _ in 0..reps {
            chunk.time(ops, || made.extend((0..batch).map(|_| make(self))));
            if made.iter().any(Result::is_err) {
                return None;
            }
            made.clear();
        }
        Some(chunk)
    }

    fn drops(&self, reps: u64) -> Option<Chunk> {
        let batch = batch_of(self.fixture.n());
        let mut chunk = Chunk::default();
        for _ in 0..reps {
            let built = || self.built(self.fixture.order(self.age));
            let made: Result<Vec<_>, _> = (0..batch).map(|_| built()).collect();
            let made = made.ok()?;
            chunk.time((batch * self.fixture.n()) as u64, || drop(made));
        }
        Some(chunk)
    }
}

impl Subject for Linux {
    fn name(&self) -> &'static str {
        match self.mode {
            Mode::Plain => "C",
            Mode::Gaps => "C gaps",
            Mode::Rcu => "C rcu",
        }
    }

    fn why_not(&self, work: Work) -> Option<&'static str> {
        match work {
            Work::LowestGap | Work::HighestGap if self.mode == Mode::Plain => {
                Some("it tracks no gaps, and its search needs them")
            }
            Work::Snapshot | Work::FirstWrite => Some("its nodes have one parent each"),
            Work::BesideReads | Work::BesideWrites => {
                Some("it is built here with an RCU for one thread")
            }
            _ => None,
        }
    }

    fn chunk(&mut self, work: Work, reps: u64) -> Option<Chunk> {
        if self.why_not(work).is_some() {
            return None;
        }
        match work {
            Work::Lookup | Work::LookupDependent => Some(self.lookups(work, reps)),
            Work::Next | Work::ForEach => {
                let mut chunk = Chunk::default();
                let iterate = || (0..reps).fold(0, |sum, _| sum ^ self.tree.iterate());
                black_box(chunk.time(reps * self.fixture.n() as u64, iterate));
                Some(chunk)
            }
            Work::Build => self.copies(reps, |me| me.built(&me.fixture.areas)),
            Work::BuildRandom => self.copies(reps, |me| me.built(&me.fixture.shuffled)),
            Work::Bulk => self.copies(reps, Self::bulk),
            Work::EraseRestore | Work::Overwrite => self.steps(work, reps),
            Work::LowestGap | Work::HighestGap => Some(self.searches(work, reps)),
            // Its copy counts no pointers: the values are words to it.
            Work::Duplicate | Work::DuplicateArc => self.copies(reps, |me| me.tree.duplicate()),
            Work::Drop => self.drops(reps),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), String> {
        self.verify()?;
        let checked = self.check_steps().and_then(|()| self.check_searches());
        let checked = checked.and_then(|()| self.check_copies());
        checked.map_err(|wrong| format!("{}: {wrong}", self.name()))
    }

    fn verify(&self) -> Result<(), String> {
        if self.holds(&self.tree, &self.fixture.areas) {
            return Ok(());
        }
        Err(format!("{}: the content is wrong", self.name()))
    }

    fn bytes(&self) -> Option<f64> {
        let before = self.library.bytes();
        let tree = aged(&self.library, &self.fixture, (self.mode, self.age)).ok()?;
        let after = self.library.bytes();
        drop(tree);
        Some((after - before) as f64 / self.fixture.n() as f64)
    }
}
