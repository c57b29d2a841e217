//! The `serde` feature.

use crate::{tall_tree, tree_of};
use maple_tree::{IndexRange, MapleTree, TreeSeed};
use serde_core::de::value::{Error, SeqAccessDeserializer, SeqDeserializer};
use serde_core::de::{Deserialize, DeserializeSeed, SeqAccess};
use testkit::{FailingNodes, TestNodes, assert_holds, assert_valid};

/// The error of reading `text` as a tree.
#[track_caller]
fn refusal(text: &str) -> String {
    let read = serde_json::from_str::<MapleTree<u64>>(text);
    read.unwrap_err().to_string()
}

#[test]
fn a_range_is_its_two_bounds() {
    let text = serde_json::to_string(&IndexRange::FULL).unwrap();
    assert_eq!(text, "[0,18446744073709551615]");
    assert_eq!(
        serde_json::from_str::<IndexRange>(&text).unwrap(),
        IndexRange::FULL
    );
    let read = serde_json::from_str::<IndexRange>("[5, 4]");
    let refused = read.unwrap_err().to_string();
    assert!(refused.contains("0x5..=0x4 is empty"), "{refused}");
}

#[test]
fn a_tree_is_a_sequence_of_bounds_and_values() {
    let tree = tree_of(&[(0, 4, 'A'), (5, 5, 'A'), (9, u64::MAX, 'B')]);
    let text = serde_json::to_string(&tree).unwrap();
    assert_eq!(
        text,
        "[[0,4,\"A\"],[5,5,\"A\"],[9,18446744073709551615,\"B\"]]"
    );
    let read: MapleTree<char> = serde_json::from_str(&text).unwrap();
    assert_valid(&read);
    assert!(read == tree && !read.tracks_gaps());
}

#[test]
fn trees_of_every_size_come_back() {
    for entries in [0, 1, 15, 16, 300] {
        let tree = tall_tree(entries);
        let value = serde_json::to_value(&tree).unwrap();
        let read: MapleTree<u64> = serde_json::from_value(value).unwrap();
        assert_valid(&read);
        assert!(read == tree);
    }
}

#[test]
fn the_first_wrong_item_is_named() {
    let overlapping = refusal("[[0,4,1],[6,9,2],[9,9,3]]");
    assert!(overlapping.contains("item 2, 0x9..=0x9"), "{overlapping}");
    let unsorted = refusal("[[6,9,1],[0,4,2],[20,10,3]]");
    assert!(unsorted.contains("item 1, 0x0..=0x4"), "{unsorted}");
    let empty = refusal("[[6,9,1],[20,10,2]]");
    assert!(empty.contains("item 1: the range 0x14..=0xa"), "{empty}");
    let short = refusal("[[6,9,1],[20]]");
    assert!(short.contains("invalid length 1"), "{short}");
    let other = refusal("{}");
    assert!(
        other.contains("a sequence of [first, last, value]"),
        "{other}"
    );
    assert!(refusal("[[-1,4,1]]").contains("invalid value"));
}

#[test]
fn a_seed_chooses_the_tree() {
    let mut reader = serde_json::Deserializer::from_str("[[3,4,7]]");
    let tree = TreeSeed(MapleTree::<u64>::with_gaps());
    let tree = tree.deserialize(&mut reader).unwrap();
    assert!(tree.tracks_gaps());
    assert_holds(&tree, &[(3, 4, 7)]);
    let mut reader = serde_json::Deserializer::from_str("[]");
    let refused = TreeSeed(tree).deserialize(&mut reader).unwrap_err();
    assert!(refused.to_string().contains("not empty"), "{refused}");
}

/// Three numbers, again and again, said to be without end.
struct Boastful(u64);

impl<'de> SeqAccess<'de> for Boastful {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if self.0 == 30 {
            return Ok(None);
        }
        self.0 += 10;
        let item = [self.0, self.0 + 4, 7];
        seed.deserialize(SeqDeserializer::new(item.into_iter()))
            .map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(usize::MAX)
    }
}

#[test]
fn the_promised_length_is_not_believed() {
    let reader = SeqAccessDeserializer::new(Boastful(0));
    let tree = MapleTree::<u64>::deserialize(reader).unwrap();
    assert_holds(&tree, &[(10, 14, 7), (20, 24, 7), (30, 34, 7)]);
}

#[test]
fn without_memory_the_error_says_so_and_nothing_leaks() {
    let text = serde_json::to_string(&tall_tree(300)).unwrap();
    for failing in 0.. {
        let nodes = FailingNodes::new();
        let seed = TreeSeed(MapleTree::<u64, _>::new_in(nodes.clone()));
        nodes.fail_after(Some(failing));
        let read = seed.deserialize(&mut serde_json::Deserializer::from_str(&text));
        let Err(error) = read else { break };
        assert!(error.to_string().contains("no memory"), "{error}");
        nodes.assert_settled();
    }
}
