//! The structures in Rust: the tree's faces, and what one would pick instead.

mod btree;
mod imbl;
mod maple;
mod maple_rcu;
mod nodit;
mod rangemap;
mod skiplist;

pub(crate) use btree::BTree;
pub(crate) use imbl::Imbl;
pub(crate) use maple::{Maple, MapleGaps};
pub(crate) use maple_rcu::{MapleRcu, RcuTree};
pub(crate) use nodit::Nodit;
pub(crate) use rangemap::RangeMapCrate;
pub(crate) use skiplist::{Skip, SkipMap};
