//! The `serde` feature: ranges and trees to and from any format of serde.

use core::fmt;
use core::marker::PhantomData;

use serde_core::de::{Deserialize, DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_core::ser::{Serialize, SerializeSeq, Serializer};

use crate::source::{HeapNodes, NodeSource};
use crate::tree::MapleTree;
use crate::{Entry, IndexRange};

/// As the two inclusive bounds, `[first, last]`.
impl Serialize for IndexRange {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        (self.first(), self.last()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for IndexRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (first, last) = Deserialize::deserialize(deserializer)?;
        Self::new(first, last).ok_or_else(|| D::Error::custom(Backwards { first, last }))
    }
}

/// As a sequence of `[first, last, value]`, the bounds inclusive, in ascending order.
///
/// Neither the kind of the tree nor where its nodes come from is part of it.
impl<T: Entry + Serialize, S: NodeSource> Serialize for MapleTree<T, S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let mut sequence = serializer.serialize_seq(Some(self.len()))?;
        for (range, value) in self {
            sequence.serialize_element(&(range.first(), range.last(), value))?;
        }
        sequence.end()
    }
}

/// A tree without gap tracking; [`TreeSeed`] makes others.
///
/// What is not in ascending order, overlaps or is empty is an error that names the
/// item.
impl<'de, T: Entry + Deserialize<'de>> Deserialize<'de> for MapleTree<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        TreeSeed(Self::new()).deserialize(deserializer)
    }
}

/// Deserialises into the tree it holds, which must be empty.
///
/// With it a tree that tracks gaps, or one with nodes of its own, can be read.
///
/// # Examples
///
/// ```
/// use maple_tree::{MapleTree, TreeSeed};
/// use serde_core::de::DeserializeSeed;
///
/// let text = "[[0, 9, \"a\"], [20, 29, \"b\"]]";
/// let mut reader = serde_json::Deserializer::from_str(text);
/// let tree = TreeSeed(MapleTree::<char>::with_gaps()).deserialize(&mut reader)?;
/// assert!(tree.tracks_gaps());
/// assert_eq!(serde_json::to_string(&tree)?, text.replace(' ', ""));
///
/// let overlapping = serde_json::from_str::<MapleTree<char>>("[[0, 9, \"a\"], [9, 29, \"b\"]]");
/// assert!(overlapping.unwrap_err().to_string().contains("item 1"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug)]
pub struct TreeSeed<T: Entry, S: NodeSource = HeapNodes>(pub MapleTree<T, S>);

impl<'de, T: Entry + Deserialize<'de>, S: NodeSource> DeserializeSeed<'de> for TreeSeed<T, S> {
    type Value = MapleTree<T, S>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Entry + Deserialize<'de>, S: NodeSource> Visitor<'de> for TreeSeed<T, S> {
    type Value = MapleTree<T, S>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence of [first, last, value] in ascending order")
    }

    // The length that `sequence` promises is not used: nothing is allocated on its word.
    fn visit_seq<A: SeqAccess<'de>>(mut self, sequence: A) -> Result<Self::Value, A::Error> {
        let mut items = Items {
            sequence,
            position: 0,
            failed: None,
            _values: PhantomData,
        };
        let loaded = self.0.bulk_load(&mut items);
        // A failure ended the items early, and what came before may have been loaded.
        if let Some(error) = items.failed {
            return Err(error);
        }
        loaded.map_err(A::Error::custom)?;
        Ok(self.0)
    }
}

/// The items of a sequence, up to the first that cannot be read.
struct Items<'de, T, A: SeqAccess<'de>> {
    sequence: A,
    position: usize,
    failed: Option<A::Error>,
    _values: PhantomData<fn(&'de ()) -> T>,
}

impl<'de, T: Deserialize<'de>, A: SeqAccess<'de>> Items<'de, T, A> {
    fn read(&mut self) -> Result<Option<(IndexRange, T)>, A::Error> {
        let Some((first, last, value)) = self.sequence.next_element()? else {
            return Ok(None);
        };
        let Some(range) = IndexRange::new(first, last) else {
            let (position, bounds) = (self.position, Backwards { first, last });
            return Err(A::Error::custom(format_args!("item {position}: {bounds}")));
        };
        self.position += 1;
        Ok(Some((range, value)))
    }
}

impl<'de, T: Deserialize<'de>, A: SeqAccess<'de>> Iterator for Items<'de, T, A> {
    type Item = (IndexRange, T);

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed.is_some() {
            return None;
        }
        self.read().unwrap_or_else(|error| {
            self.failed = Some(error);
            None
        })
    }
}

/// Bounds that hold no index.
struct Backwards {
    first: u64,
    last: u64,
}

impl fmt::Display for Backwards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        write!(
            f,
            "the range {first:#x}..={last:#x} is empty; its last index must not be below its first"
        )
    }
}
