//! The floor: what any eager fork has to do at least, and nothing else.

use std::hint::black_box;

use maple_mm::{Mappings, Vma, VmaRef};

/// As large as a node of the tree.
#[derive(Clone)]
#[repr(C, align(256))]
struct Node([u64; 32]);

/// As large as a mapping with its counter.
#[repr(C, align(64))]
struct Mapping {
    vma: Vma,
    counters: [u32; 2],
}

/// Copies as many nodes as a copy of the parent's tree has, and makes as many mappings from the
/// parent's, into memory that is at hand; then ends the mappings.
///
/// It does not look for anything, allocate, count references, nor write one pointer into a node.
pub(crate) struct Floor {
    nodes: Vec<Node>,
    copied_nodes: Vec<Node>,
    mappings: Vec<VmaRef>,
    copied_mappings: Vec<Mapping>,
}

impl Floor {
    pub(crate) fn of(tree: &Mappings) -> Self {
        let nodes = vec![Node([1; 32]); nodes(tree)];
        Self {
            copied_nodes: nodes.clone(),
            nodes,
            mappings: tree.iter().map(|(_, vma)| vma.clone()).collect(),
            copied_mappings: Vec::with_capacity(tree.len()),
        }
    }

    /// The number of nodes.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn run(&mut self) {
        self.copied_nodes.clone_from_slice(&self.nodes);
        black_box(&self.copied_nodes);
        let copies = self.mappings.iter().map(|vma| Mapping {
            vma: Vma::clone(vma),
            counters: [1, 0],
        });
        self.copied_mappings.extend(copies);
        black_box(&self.copied_mappings);
        self.copied_mappings.clear();
    }
}

/// The number of nodes that a copy of the tree has; the tree itself may keep more in reserve.
fn nodes(tree: &Mappings) -> usize {
    let Ok(tree) = tree.duplicate() else {
        return 0;
    };
    (tree.memory_usage() - size_of_val(&tree)) / size_of::<Node>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Touched;
    use crate::spawn::space::Space;
    use maple_mm::NoPages;

    #[test]
    fn it_copies_what_the_parent_has() {
        let parent: Space<NoPages> = Space::make(121, Touched::None).unwrap();
        let mut floor = Floor::of(parent.mappings());
        let dump = parent.mappings().dump().to_string();
        assert!(
            dump.contains(&format!(" {} nodes", floor.nodes())),
            "{dump}"
        );
        floor.run();
        assert_eq!(floor.mappings.len(), 121);
        assert_eq!(floor.copied_mappings.capacity(), 121);
        assert!(floor.copied_mappings.is_empty());
    }
}
