//! A picture of a tree in text: nodes, pivots, gaps, occupancy.

use core::fmt;

use crate::node::{Kind, Node};
use crate::source::{HeapNodes, NodeSource};
use crate::tree::MapleTree;
use crate::validate::for_each_node;
use crate::{Entry, IndexRange};

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Returns the tree as text, one line for each node and slot: how many slots
    /// are used, what ranges they cover, the pivots and the gaps kept.
    ///
    /// For reading, not for parsing: the format may change.
    ///
    /// # Complexity
    ///
    /// O(1); writing the text is O(n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::with_gaps();
    /// tree.insert(IndexRange::new(0x10, 0x1f).unwrap(), 'x')?;
    /// tree.insert(IndexRange::new(0x40, 0x4f).unwrap(), 'y')?;
    /// let picture = tree.dump().to_string();
    /// assert!(picture.contains("leaf 3/15"), "{picture}");
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    #[doc(alias = "mt_dump")]
    #[doc(alias = "mas_dump")]
    #[doc(alias = "mas_wr_dump")]
    pub fn dump(&self) -> Dump<'_, T, S> {
        Dump { tree: self }
    }
}

/// Writes the picture that [`MapleTree::dump`] describes.
pub struct Dump<'a, T: Entry, S: NodeSource = HeapNodes> {
    tree: &'a MapleTree<T, S>,
}

impl<T: Entry, S: NodeSource> fmt::Display for Dump<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tree = self.tree;
        let (nodes, gaps) = (
            tree.node_count(),
            if tree.tracks_gaps() {
                ", gaps kept"
            } else {
                ""
            },
        );
        writeln!(
            f,
            "maple tree: {} entries, height {}, {nodes} nodes, {} bytes{gaps}",
            tree.len(),
            tree.height(),
            tree.memory_usage(),
        )?;
        let mut result = Ok(());
        for_each_node(tree.root(), |visit| {
            if result.is_ok() {
                let indent = 2 * visit.depth;
                result = match visit.range {
                    Some(range) if visit.node.is_leaf() => leaf(f, visit.node, range, indent),
                    Some(range) => branch(f, visit.node, range, indent),
                    None => writeln!(f, "{:indent$}node whose bounds do not ascend", ""),
                };
            }
        });
        result
    }
}

fn header<T>(
    f: &mut fmt::Formatter<'_>,
    node: &Node<T>,
    range: IndexRange,
    indent: usize,
) -> fmt::Result {
    let name = match node.kind() {
        Kind::Dense => "leaf",
        Kind::Sparse => "sparse leaf",
        Kind::Plain | Kind::Gaps => "branch",
    };
    let (used, slots) = (node.count(), node.kind().slots());
    write!(f, "{:indent$}{name} {used}/{slots} over {range}", "")?;
    if node.refs() > 1 {
        write!(f, ", {} owners", node.refs())?;
    }
    Ok(())
}

fn branch<T>(
    f: &mut fmt::Formatter<'_>,
    node: &Node<T>,
    range: IndexRange,
    indent: usize,
) -> fmt::Result {
    header(f, node, range, indent)?;
    write!(f, "; pivots")?;
    for slot in 0..node.count().saturating_sub(1) {
        write!(f, " {:#x}", node.pivot(slot))?;
    }
    if node.kind() == Kind::Gaps {
        write!(f, "; gaps")?;
        for slot in 0..node.count() {
            write!(f, " {:#x}", node.gap(slot))?;
        }
    }
    writeln!(f)
}

fn leaf<T>(
    f: &mut fmt::Formatter<'_>,
    node: &Node<T>,
    range: IndexRange,
    indent: usize,
) -> fmt::Result {
    header(f, node, range, indent)?;
    writeln!(f)?;
    let inner = indent + 2;
    for slot in 0..node.count() {
        if let Some(hole) = node.hole(slot) {
            writeln!(f, "{:inner$}{slot:2} gap   {hole}", "")?;
        }
        if node.entry(slot).is_some() {
            writeln!(f, "{:inner$}{slot:2} entry {}", "", node.slot_range(slot))?;
        }
    }
    Ok(())
}

impl<T: Entry, S: NodeSource> fmt::Debug for Dump<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
