//! Random calls of everything beyond plain writes, compared with the model after each.

use maple_tree::{AllocateErrorKind, GapRequest, IndexRange, MapleTree};
use std::num::NonZeroU64;
use testkit::{
    FailingNodes, Ledger, Model, ModelGapRequest, SplitMix, Token, assert_valid, fresh_seed, range,
};

/// Indices are drawn from here, half of them counted down from `u64::MAX`.
const WIDTH: u64 = 400;

/// Random calls from each seed.
const STEPS: usize = if cfg!(miri) { 25 } else { 2000 };

struct Trial {
    rng: SplitMix,
    tree: MapleTree<Token, FailingNodes>,
    model: Model<u32>,
    ledger: Ledger,
    next: u64,
}

impl Trial {
    fn index(&mut self) -> u64 {
        let index = self.rng.below(WIDTH);
        if self.rng.one_in(2) {
            u64::MAX - index
        } else {
            index
        }
    }

    fn range(&mut self) -> IndexRange {
        let first = self.index();
        let last = match self.rng.below(16) {
            0 => self.index(),
            _ => first.saturating_add(self.rng.below(12)),
        };
        range(first.min(last), first.max(last))
    }

    fn step(&mut self, values: u64) {
        let value = self.rng.below(values) as u32;
        match self.rng.below(16) {
            0..=4 => self.store_coalescing(value),
            5..=7 => self.allocate(value),
            8..=9 => self.allocate_cyclic(value),
            10..=11 => {
                let gone = self.range();
                self.tree.remove(gone).unwrap();
                self.model.remove(gone);
            }
            12 => self.retain(),
            13 => self.split_and_append(),
            14 => self.for_each_mut(),
            _ => self.overlay(),
        }
        self.check();
    }

    fn store_coalescing(&mut self, value: u32) {
        let range = self.range();
        let token = self.ledger.token(value);
        let whole = self.tree.store_coalescing(range, token).unwrap();
        let equal = |beside: Option<u64>| {
            let (entry, found) = self.model.entry(beside?)?;
            (found == value).then_some(entry)
        };
        let below = equal(range.first().checked_sub(1)).unwrap_or(range);
        let above = equal(range.last().checked_add(1)).unwrap_or(range);
        let expected = IndexRange::new(below.first(), above.last()).unwrap();
        assert_eq!(whole, expected);
        self.model.store(whole, value);
    }

    fn allocate(&mut self, value: u32) {
        let length = NonZeroU64::new(1 + self.rng.below(9)).unwrap();
        let within = self.range();
        let request = GapRequest::new(length).within(within);
        let wanted = ModelGapRequest {
            length,
            within,
            alignment: 1,
            offset: 0,
        };
        let token = self.ledger.token(value);
        let (placed, expected) = if self.rng.one_in(2) {
            let expected = self.model.lowest_gap(&wanted);
            (self.tree.allocate_lowest(&request, token), expected)
        } else {
            let expected = self.model.highest_gap(&wanted);
            (self.tree.allocate_highest(&request, token), expected)
        };
        match placed {
            Ok(place) => assert!(expected == Some(place) && self.model.insert(place, value)),
            Err(error) => {
                assert_eq!(error.kind, AllocateErrorKind::NoGap);
                assert_eq!(expected, None);
            }
        }
    }

    fn allocate_cyclic(&mut self, value: u32) {
        let (ids, token) = (self.range(), self.ledger.token(value));
        if self.rng.one_in(4) {
            self.next = self.index();
        }
        let start = if ids.contains(self.next) {
            self.next
        } else {
            ids.first()
        };
        let around = (start..=ids.last()).chain(ids.first()..start);
        let free = around.take(2000).find(|&id| self.model.entry(id).is_none());
        match self.tree.allocate_cyclic(ids, &mut self.next, token) {
            Ok(id) => {
                assert!(free.is_none_or(|free| free == id));
                assert!(self.model.insert(IndexRange::single(id), value));
                let after = if id == ids.last() {
                    ids.first()
                } else {
                    id + 1
                };
                assert_eq!(self.next, after);
            }
            Err(_) => assert_eq!(free, None),
        }
    }

    fn retain(&mut self) {
        let divisor = 2 + self.rng.below(5) as u32;
        let keeps = |value: u32| value % divisor != 1;
        self.tree.retain(|_, value| keeps(value.id())).unwrap();
        self.model = self
            .model
            .filter_map(|_, value| keeps(value).then_some(value));
    }

    fn split_and_append(&mut self) {
        let index = self.index();
        let mut high = self.tree.split_at(index).unwrap();
        assert_valid(&high);
        assert!(self.tree.last().is_none_or(|(it, _)| it.last() < index));
        assert!(high.first().is_none_or(|(it, _)| it.first() >= index));
        if let Some((cut, value)) = self.model.entry(index).filter(|(it, _)| it.first() < index) {
            self.model.store(range(index, cut.last()), value);
        }
        self.tree.append(&mut high).unwrap();
        assert!(high.is_empty());
    }

    fn for_each_mut(&mut self) {
        let bounds = self.range();
        let added = self.rng.below(3) as u32;
        let mut visited = Vec::new();
        let change = |range, value: &mut Token| {
            visited.push((range, value.id()));
            *value = self.ledger.token(value.id() + added);
        };
        self.tree.for_each_mut(bounds, change).unwrap();
        assert_eq!(visited, self.model.overlapping(bounds));
        for (range, value) in visited {
            self.model.set_value(range.first(), value + added);
        }
    }

    /// Lays the tree over a changed snapshot; each index of a piece must be as the piece says.
    fn overlay(&mut self) {
        let mut other = self.tree.snapshot();
        other.remove(self.range()).unwrap();
        other.store(self.range(), self.ledger.token(9)).unwrap();
        let mut covered = 0;
        for (piece, found) in self.tree.overlay(&other) {
            covered += 1;
            for index in [piece.first(), piece.last()] {
                assert_eq!(found.left(), self.tree.get(index));
                assert_eq!(found.right(), other.get(index));
            }
        }
        let starts = |tree: &MapleTree<Token, _>| tree.iter().count();
        assert!(covered >= starts(&self.tree).max(starts(&other)));
    }

    fn check(&self) {
        assert_valid(&self.tree);
        let entries = self.tree.iter().map(|(range, value)| (range, value.id()));
        assert!(
            entries.eq(self.model.entries().iter().copied()),
            "{:?}\n{:?}",
            self.tree,
            self.model
        );
        assert_eq!(self.ledger.live(), self.tree.len());
    }
}

/// Runs [`STEPS`] random calls; the more `values` there are the fewer entries merge.
fn run(seed: u64, values: u64) {
    println!("seed {seed:#x}, {values} values");
    let (ledger, nodes) = (Ledger::new(), FailingNodes::new());
    let mut trial = Trial {
        rng: SplitMix::new(seed),
        tree: MapleTree::with_gaps_in(nodes.clone()),
        model: Model::new(),
        ledger: ledger.clone(),
        next: 0,
    };
    for _ in 0..STEPS {
        trial.step(values);
    }
    drop(trial);
    ledger.assert_settled();
    nodes.assert_settled();
}

#[test]
fn random_calls_agree_with_the_model() {
    for seed in 1..=if cfg!(miri) { 1 } else { 6 } {
        run(seed, 3);
        run(seed, 1000);
    }
}

#[test]
fn random_calls_from_a_fresh_seed_agree_with_the_model() {
    let seed = fresh_seed("against_the_model");
    run(seed, 3);
    run(seed, 1000);
}
