//! Trees whose values and nodes are accounted for, and whose allocations fail on command.

use maple_tree::{MapleTree, OutOfNodes};
use testkit::{FailingNodes, Ledger, TestNodes, Token, assert_valid, range};

/// So many entries make a tree of several levels, or one that miri can do.
pub(crate) const MANY: u32 = if cfg!(miri) { 24 } else { 300 };

pub(crate) type Counted = MapleTree<Token, FailingNodes>;

/// A tree of tokens, and the accounts of its values and nodes.
pub(crate) struct Accounts {
    pub(crate) tree: Counted,
    pub(crate) ledger: Ledger,
    pub(crate) nodes: FailingNodes,
}

impl Accounts {
    /// A tree of `entries` entries of five indices with five vacant ones behind each.
    pub(crate) fn of(entries: u32) -> Self {
        let (ledger, nodes) = (Ledger::new(), FailingNodes::new());
        let mut tree = MapleTree::with_gaps_in(nodes.clone());
        for place in 0..entries {
            let first = 10 * u64::from(place);
            tree.insert(range(first, first + 4), ledger.token(place))
                .unwrap();
        }
        Self {
            tree,
            ledger,
            nodes,
        }
    }

    /// Drops the tree; every value and every node must have come back, once.
    #[track_caller]
    pub(crate) fn settle(self) {
        drop(self.tree);
        self.ledger.assert_settled();
        self.nodes.assert_settled();
    }
}

/// Runs `act` on copies of a tree of `entries` entries with the first, then the second …
/// allocation failing, until it needs no more: a failure must leave the content alone.
#[track_caller]
pub(crate) fn fail_each(
    entries: u32,
    mut act: impl FnMut(&mut Counted, &Ledger) -> Result<(), OutOfNodes>,
) {
    let accounts = Accounts::of(entries);
    let mut failed = 0;
    // A duplicate has no stock of free nodes; a snapshot shares every node.
    for copy in [
        |tree: &Counted| tree.duplicate().unwrap(),
        Counted::snapshot,
    ] {
        for failing in 0.. {
            let mut tree = copy(&accounts.tree);
            let live = accounts.ledger.live();
            accounts.nodes.fail_after(Some(failing));
            let result = act(&mut tree, &accounts.ledger);
            accounts.nodes.fail_after(None);
            assert_valid(&tree);
            if result.is_ok() {
                break;
            }
            failed += 1;
            assert!(tree == accounts.tree, "failure {failing} changed the tree");
            assert!(
                accounts.ledger.live() >= live,
                "failure {failing} lost values"
            );
            // The same tree takes the same call once there is memory.
            assert_eq!(act(&mut tree, &accounts.ledger), Ok(()));
            assert_valid(&tree);
        }
    }
    assert!(failed > 0, "no allocation failed: the test shows nothing");
    accounts.settle();
}
