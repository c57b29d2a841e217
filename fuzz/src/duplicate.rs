//! `duplicate_with` that keeps, maps, drops and refuses entries, with the ledger checked.

use crate::script::Script;
use crate::trial::STEPS_MOST;
use maple_tree::{DuplicateError, IndexRange, MapleTree, StoreErrorKind};
use std::cell::Cell;
use std::collections::VecDeque;
use testkit::{FailingNodes, Ledger, Model, TestNodes, Token, Write, assert_valid, range};

/// The most trees alive at once.
const TREES_MOST: usize = 3;

/// The most entries that a tree begins with.
const ENTRIES_MOST: u64 = 200;

type Tree = MapleTree<Token, FailingNodes>;

/// Runs a script that writes to a tree and makes duplicates of duplicates of it.
///
/// # Panics
///
/// If a duplicate differs from the mapped model, if what failed or was refused leaves a value or a
/// node behind, or if the original is no longer what it was.
pub fn duplicate(data: &[u8]) {
    let mut script = Script::new(data);
    let mut stage = Stage::new(&mut script);
    for _ in 0..STEPS_MOST {
        if script.is_over() {
            break;
        }
        stage.step(&mut script);
        stage.check();
    }
    stage.finish();
}

/// Live trees with their models, the newest last.
struct Stage {
    pairs: VecDeque<(Tree, Model<u32>)>,
    ledger: Ledger,
    nodes: FailingNodes,
}

/// What the script wants of one entry.
#[derive(Clone, Copy)]
enum Wish {
    Keep,
    Map,
    Omit,
    Refuse,
}

impl Stage {
    fn new(script: &mut Script<'_>) -> Self {
        let (ledger, nodes) = (Ledger::new(), FailingNodes::new());
        let tree = match script.below(2) {
            0 => MapleTree::with_gaps_in(nodes.clone()),
            _ => MapleTree::new_in(nodes.clone()),
        };
        let mut stage = Self {
            pairs: VecDeque::from([(tree, Model::new())]),
            ledger,
            nodes,
        };
        let entries = u64::from(script.byte()) * ENTRIES_MOST / 255;
        let width = 1 + u64::from(script.below(10));
        for place in 0..entries {
            let entry = range(10 * place, 10 * place + width - 1);
            stage.write(Write::Store(entry, script.value()));
        }
        stage
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.below(8) {
            0..4 => {
                let write = script.write(&self.newest().1);
                self.write(write);
            }
            4 => {
                let (tree, model) = self.newest();
                let copy = (tree.snapshot(), model.clone());
                self.push(copy);
            }
            _ => self.duplicate(script),
        }
    }

    fn newest(&self) -> &(Tree, Model<u32>) {
        self.pairs.back().expect("one tree is alive at least")
    }

    fn push(&mut self, pair: (Tree, Model<u32>)) {
        self.pairs.push_back(pair);
        if self.pairs.len() > TREES_MOST {
            self.pairs.pop_front();
        }
    }

    fn write(&mut self, write: Write) {
        let (tree, model) = self.pairs.back_mut().expect("one tree is alive at least");
        match write {
            Write::Insert(range, value) => {
                let stored = tree.insert(range, self.ledger.token(value));
                let kind = stored.map_err(|refused| refused.kind);
                let expected = model.insert(range, value);
                assert_eq!(kind.is_ok(), expected, "insert {range}");
                assert_ne!(kind, Err(StoreErrorKind::OutOfNodes));
            }
            Write::Store(range, value) | Write::StoreWith(range, value) => {
                tree.store(range, self.ledger.token(value))
                    .expect("nodes are there");
                model.store(range, value);
            }
            Write::Erase(index) => {
                let erased = tree.erase(index).expect("nodes are there");
                let erased = erased.map(|(range, value)| (range, value.id()));
                assert_eq!(erased, model.erase(index), "erase {index:#x}");
            }
            Write::Remove(range) | Write::RemoveWith(range) => {
                tree.remove(range).expect("nodes are there");
                model.remove(range);
            }
        }
    }

    /// Duplicates the newest tree as the script wishes, perhaps with too few nodes.
    fn duplicate(&mut self, script: &mut Script<'_>) {
        let choice = script.byte();
        let failing = choice.is_multiple_of(4).then(|| u64::from(script.byte()));
        let mut wishes: Vec<Wish> = (0..1 + script.below(12)).map(|_| wish(script)).collect();
        if (choice / 4).is_multiple_of(2) {
            // A single refusal would end most duplicates early.
            let refusals = wishes
                .iter_mut()
                .filter(|wish| matches!(wish, Wish::Refuse));
            refusals.for_each(|wish| *wish = Wish::Keep);
        }
        let before = (self.ledger.live(), self.nodes.live());
        let (result, visited) = self.attempt(&wishes, failing);

        let (_, model) = self.newest();
        let outcome = expected(model, &wishes);
        let reached = outcome
            .as_ref()
            .map_or_else(|place| place + 1, |_| model.len());
        let visits = model.entries().iter().take(reached).copied();
        let ran_out = matches!(result, Err(DuplicateError::OutOfNodes));
        assert!(
            visited
                .iter()
                .copied()
                .eq(visits.clone().take(visited.len())),
            "entries come in order, once each: {visited:x?}"
        );
        assert!(
            ran_out || visited.len() == reached,
            "{} visits",
            visited.len()
        );
        match (result, outcome) {
            (Ok(tree), Ok(model)) => {
                assert_eq!(self.ledger.live(), before.0 + model.len());
                self.push((tree, model));
                return;
            }
            (Err(DuplicateError::Refused(place)), Err(expected)) => assert_eq!(place, expected),
            (Err(DuplicateError::OutOfNodes), _) => assert!(failing.is_some(), "unprovoked"),
            (result, expected) => panic!(
                "a duplicate ended with {:?}, expected {:?}",
                result.map(|tree| tree.len()),
                expected.map(|model| model.len())
            ),
        }
        assert_eq!(
            (self.ledger.live(), self.nodes.live()),
            before,
            "left behind"
        );
    }

    /// The duplicate or its failure, and the entries that were asked about.
    #[expect(
        clippy::type_complexity,
        reason = "the result of one call, taken apart at once"
    )]
    fn attempt(
        &self,
        wishes: &[Wish],
        failing: Option<u64>,
    ) -> (Result<Tree, DuplicateError<usize>>, Vec<(IndexRange, u32)>) {
        let mut visited = Vec::new();
        self.nodes.fail_after(failing);
        let result = self.newest().0.duplicate_with(|range, value| {
            let place = visited.len();
            visited.push((range, value.id()));
            match wishes[place % wishes.len()] {
                Wish::Keep => Ok(Some(value.clone())),
                Wish::Map => Ok(Some(self.ledger.token(mapped(value.id())))),
                Wish::Omit => Ok(None),
                Wish::Refuse => Err(place),
            }
        });
        self.nodes.fail_after(None);
        (result, visited)
    }

    fn check(&self) {
        for (tree, model) in &self.pairs {
            assert_valid(tree);
            let entries = tree.iter().map(|(range, value)| (range, value.id()));
            assert!(
                entries.eq(model.entries().iter().copied()),
                "{}",
                tree.dump()
            );
        }
        let family: Vec<&Tree> = self.pairs.iter().map(|(tree, _)| tree).collect();
        assert_eq!(MapleTree::validate_family(&family), Ok(()));
        assert_eq!(self.ledger.faults(), Vec::<String>::new());
        assert_eq!(self.nodes.faults(), Vec::<String>::new());
    }

    fn finish(self) {
        drop(self.pairs);
        self.ledger.assert_settled();
        self.nodes.assert_settled();
    }
}

fn wish(script: &mut Script<'_>) -> Wish {
    match script.below(16) {
        0..6 => Wish::Keep,
        6..11 => Wish::Map,
        11..15 => Wish::Omit,
        _ => Wish::Refuse,
    }
}

/// What the copy holds, or the place of the entry that is refused.
fn expected(model: &Model<u32>, wishes: &[Wish]) -> Result<Model<u32>, usize> {
    let refused = |place: &usize| matches!(wishes[place % wishes.len()], Wish::Refuse);
    if let Some(place) = (0..model.len()).find(refused) {
        return Err(place);
    }
    let place = Cell::new(0);
    Ok(model.filter_map(|_, value| {
        let wish = wishes[place.replace(place.get() + 1) % wishes.len()];
        match wish {
            Wish::Keep => Some(value),
            Wish::Map => Some(mapped(value)),
            Wish::Omit | Wish::Refuse => None,
        }
    }))
}

/// The name of the copy of a value that is mapped; scripts store far smaller ones.
fn mapped(value: u32) -> u32 {
    (value + 1) % (1 << 24)
}
