//! What a teardown takes down: three ranges that are not the same.

use core::ops::Range;

use crate::paging::TableRange;

/// What is to be taken down, in addresses. All bounds are exclusive at their end.
///
/// ```text
///   tables.start                          tables.end
///        |      mappings: pages go here       |
///  prev) .  [==========)   [==========)  .    (next
///           |                         |
///        tree.start                tree.end
/// ```
///
/// Tables may be freed up to the neighbours that stay; pages go where mappings end; the tree
/// loses what lies between its own bounds. Taking one for another frees a table that a neighbour
/// uses, or leaks one.
///
/// LINUX: `unmap_desc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Teardown {
    /// Between the neighbours that stay; an end of 0 is the top.
    pub tables: Range<u64>,
    /// What was mapped: all pages in it go.
    pub mappings: Range<u64>,
    /// What leaves the tree.
    pub tree: Range<u64>,
}

impl Teardown {
    /// An address space that ends.
    #[must_use]
    pub const fn everything() -> Self {
        Self {
            tables: 0..0,
            mappings: 0..u64::MAX,
            tree: 0..u64::MAX,
        }
    }

    /// The pages of a range that is no longer mapped; the neighbours are not known yet.
    pub(crate) const fn of(range: Range<u64>) -> Self {
        Self {
            tables: Range { ..range },
            tree: Range { ..range },
            mappings: range,
        }
    }

    /// The page tables that may go.
    #[must_use]
    pub const fn table_range(&self) -> TableRange {
        TableRange {
            addresses: Range { ..self.mappings },
            floor: self.tables.start,
            ceiling: self.tables.end,
        }
    }
}
