//! A tree of a million entries, churned by ten million random writes while four
//! readers look all the while.
//!
//! The whole of it takes a minute in release mode, so it is a check of its own:
//!
//! ```text
//! cargo xtask check "million entries"
//! ```
//!
//! What runs with every other test is the same at a fiftieth of the size.
#![cfg(feature = "crossbeam")]

mod beside;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use maple_tree::{EpochRcu, IndexRange, MapleTree, RcuMapleTree};
use testkit::SplitMix;

use beside::nodes::CountedNodes;
use beside::{Progress, Stamp, Stamped, look_once};

type Tree = RcuMapleTree<Stamped, EpochRcu, parking_lot::RawMutex, CountedNodes>;

/// How many readers look.
const READERS: u64 = 4;
/// How many indices there are for each entry, on average.
const ROOM: u64 = 5;
/// All values that exist.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// How much is done.
struct Size {
    entries: u64,
    writes: u64,
}

/// What the tree should hold: for each index the number of the store that filled
/// it, or 0.
struct Model {
    numbers: Vec<u32>,
}

impl Model {
    fn new(span: u64) -> Self {
        Self {
            numbers: vec![0; span as usize],
        }
    }

    fn at(&self, index: u64) -> u32 {
        self.numbers[index as usize]
    }

    fn fill(&mut self, range: IndexRange, number: u32) {
        self.numbers[range.first() as usize..=range.last() as usize].fill(number);
    }

    /// The entry at `index`: two pieces of one store never touch.
    fn entry(&self, index: u64) -> IndexRange {
        let number = self.at(index);
        let (before, after) = self.numbers.split_at(index as usize);
        let below = before.iter().rev().take_while(|&&at| at == number).count();
        let above = after.iter().take_while(|&&at| at == number).count();
        IndexRange::new(index - below as u64, index + above as u64 - 1).unwrap()
    }

    /// The bounds and number of each entry, in order.
    fn entries(&self) -> impl Iterator<Item = (IndexRange, u32)> {
        let runs = self.numbers.chunk_by(|a, b| a == b);
        let ranges = runs.scan(0, |next, run| {
            let first = *next;
            *next += run.len() as u64;
            Some((IndexRange::new(first, *next - 1).unwrap(), run[0]))
        });
        ranges.filter(|&(_, number)| number != 0)
    }
}

/// The writer: tree and model side by side.
struct Churn<'t> {
    tree: &'t Tree,
    model: Model,
    rng: SplitMix,
    size: Size,
}

impl Churn<'_> {
    fn span(&self) -> u64 {
        self.model.numbers.len() as u64
    }

    fn range(&mut self, longest: u64) -> IndexRange {
        let first = self.rng.below(self.span());
        let last = first + self.rng.below(longest);
        IndexRange::new(first, last.min(self.span() - 1)).unwrap()
    }

    /// One random write: stores, overwrites, erases, and removes of ranges. Which,
    /// hangs on whether there are more or fewer entries than there should be.
    fn write(&mut self, number: u32) {
        let is_full = self.tree.write().len() as u64 > self.size.entries;
        match (self.rng.below(8), is_full) {
            (0..2, _) => self.overwrite(number),
            (2, _) => self.insert(number),
            (3, _) | (4..6, true) => self.erase(),
            (6, true) => self.remove(12),
            (7, true) => self.store(16, number),
            (4..7, false) => self.store(4, number),
            _ if self.rng.one_in(200) => self.remove(400),
            _ => self.remove(3),
        }
    }

    fn store(&mut self, longest: u64, number: u32) {
        let range = self.range(longest);
        let stamp = Stamp::new(number.into(), range, &ALIVE);
        self.tree.write().store(range, stamp).unwrap();
        self.model.fill(range, number);
    }

    fn overwrite(&mut self, number: u32) {
        let index = self.range(1).first();
        if self.model.at(index) == 0 {
            return self.store(2, number);
        }
        let range = self.model.entry(index);
        let stamp = Stamp::new(number.into(), range, &ALIVE);
        let mut writer = self.tree.write();
        let mut seen = 0;
        let see = |part: IndexRange, old: &Stamped| {
            old.assert_over(part);
            seen += 1;
        };
        writer.store_with(range, stamp, see).unwrap();
        assert_eq!(seen, 1, "{range} is one entry");
        drop(writer);
        self.model.fill(range, number);
    }

    fn insert(&mut self, number: u32) {
        let range = self.range(2);
        let is_vacant = (range.first()..=range.last()).all(|at| self.model.at(at) == 0);
        let stamp = Stamp::new(number.into(), range, &ALIVE);
        let inserted = self.tree.write().insert(range, stamp).is_ok();
        assert_eq!(inserted, is_vacant, "{range}");
        if inserted {
            self.model.fill(range, number);
        }
    }

    fn erase(&mut self) {
        let index = self.range(1).first();
        let erased = self.tree.write().erase(index).unwrap();
        let number = erased.as_ref().map_or(0, |(_, stamp)| stamp.number);
        assert_eq!(number, u64::from(self.model.at(index)), "{index}");
        if let Some((range, _)) = erased {
            assert_eq!(range, self.model.entry(index));
            self.model.fill(range, 0);
        }
    }

    fn remove(&mut self, longest: u64) {
        let range = self.range(longest);
        self.tree.write().remove(range).unwrap();
        self.model.fill(range, 0);
    }
}

/// A tree of as many entries as it should have, of one or two indices each.
fn filled(size: &Size, nodes: &CountedNodes) -> (Tree, Model) {
    let mut model = Model::new(size.entries * ROOM);
    let mut core = MapleTree::with_gaps_in(nodes.clone());
    for at in 0..size.entries {
        let first = at * ROOM + at % 3;
        let range = IndexRange::new(first, first + at % 2).unwrap();
        let number = at as u32 + 1;
        model.fill(range, number);
        core.insert(range, Stamp::new(number.into(), range, &ALIVE))
            .unwrap();
    }
    (Tree::from_tree(core, EpochRcu), model)
}

/// Looks until the writer is through, and counts the guards.
fn look(tree: &Tree, (span, seed): (u64, u64), progress: &Progress, guards: &AtomicU64) {
    let mut rng = SplitMix::new(seed);
    while !progress.is_over() {
        look_once(&tree.read(), span, progress, &mut rng);
        guards.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tree and model hold the same, and no value is alive but those in the tree.
fn assert_settled(tree: &Tree, model: &Model) {
    tree.write().validate().unwrap();
    let (reader, mut len) = (tree.read(), 0);
    let mut numbers = Vec::new();
    let mut found = reader.iter();
    for (range, number) in model.entries() {
        let (at, stamp) = found.next().expect("an entry is missing");
        assert_eq!((at, stamp.number), (range, number.into()));
        stamp.assert_over(range);
        numbers.push(number);
        len += 1;
    }
    assert!(found.next().is_none(), "an entry too many");
    assert_eq!(tree.write().len(), len);
    numbers.sort_unstable();
    numbers.dedup();
    let alive = ALIVE.load(Ordering::Acquire);
    assert_eq!(alive, numbers.len(), "values that nothing holds are alive");
}

fn churn(size: Size) {
    let begin = Instant::now();
    let nodes = CountedNodes::default();
    let (tree, model) = filled(&size, &nodes);
    let (progress, guards) = (Progress::default(), AtomicU64::new(0));
    let (span, built) = (size.entries * ROOM, begin.elapsed());
    let first = size.entries + 1;
    progress.finish(first - 1);
    let writes = first..first + size.writes;
    let mut churn = Churn {
        tree: &tree,
        model,
        rng: SplitMix::new(1),
        size,
    };
    thread::scope(|scope| {
        for seed in 2..2 + READERS {
            let (tree, progress, guards) = (&tree, &progress, &guards);
            scope.spawn(move || look(tree, (span, seed), progress, guards));
        }
        for number in writes {
            churn.write(number as u32);
            progress.finish(number);
        }
        progress.end();
    });
    let churned = begin.elapsed();
    tree.barrier();
    assert_settled(&tree, &churn.model);
    println!(
        "built in {built:.1?}, churned by {} writes in {:.1?} beside {} guards; {} entries",
        churn.size.writes,
        churned - built,
        guards.load(Ordering::Relaxed),
        tree.write().len(),
    );
    // With nothing outstanding, every node is in the tree, and goes with it.
    drop(tree);
    assert_eq!((nodes.out(), ALIVE.load(Ordering::Acquire)), (0, 0));
}

#[test]
fn twenty_thousand_entries_end_settled_after_churn_beside_readers() {
    let size = if cfg!(miri) {
        (60, 200)
    } else {
        (20_000, 200_000)
    };
    let (entries, writes) = size;
    churn(Size { entries, writes });
}

#[test]
#[ignore = "a minute in release mode: `cargo xtask check \"million entries\"`"]
fn a_million_entries_end_settled_after_ten_million_writes_beside_readers() {
    churn(Size {
        entries: 1_000_000,
        writes: 10_000_000,
    });
}
