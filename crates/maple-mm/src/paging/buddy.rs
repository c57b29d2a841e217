//! Which frames of an arena are free: a buddy allocator of blocks from 4 KiB to 2 MiB.

use alloc::vec::Vec;

use super::memory::FrameSize;

const ORDERS: usize = FrameSize::HUGE.order() as usize + 1;

/// No frame: the end of a list.
const NOBODY: u32 = u32::MAX;

/// Whether the bytes of a block are zero because nobody had it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum History {
    /// Nobody had it.
    Untouched,
    /// Some part of it was in use.
    Used,
}

/// One frame's place in a list of free blocks.
#[derive(Clone, Debug)]
struct Node {
    next: u32,
    previous: u32,
    /// The order of the free block that begins here.
    free: Option<u8>,
    history: History,
}

/// The free blocks of frames `0..len`, by order.
///
/// # Invariants
///
/// - **B1** Free blocks are aligned to their size, do not overlap, and are each in the list of
///   their order once.
/// - **B2** Of two buddies at most one is free, unless they are of the largest order.
/// - **B3** `count` frames lie in free blocks.
#[derive(Debug)]
pub(super) struct Buddy {
    nodes: Vec<Node>,
    heads: [u32; ORDERS],
    count: usize,
}

impl Buddy {
    /// `len` frames, all free; `None` without memory for the lists.
    pub(super) fn new(len: u32, history: History) -> Option<Self> {
        let mut nodes = Vec::new();
        nodes.try_reserve_exact(len as usize).ok()?;
        let node = Node {
            next: NOBODY,
            previous: NOBODY,
            free: None,
            history,
        };
        nodes.resize(len as usize, node);
        let heads = [NOBODY; ORDERS];
        let count = len as usize;
        let mut buddy = Self {
            nodes,
            heads,
            count,
        };
        buddy.free_all(len);
        Some(buddy)
    }

    /// Fills the lists from the top down, so that low frames are handed out first.
    fn free_all(&mut self, len: u32) {
        let mut end = len;
        while end > 0 {
            let order = end.trailing_zeros().min(ORDERS as u32 - 1);
            end -= 1 << order;
            self.push(end, order);
        }
    }

    /// How many frames are free.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Takes the smallest block there is, or `1 << most` frames of it if it is larger: its first
    /// frame and its order.
    pub(super) fn take_up_to(&mut self, most: u32) -> Option<(u32, u32, History)> {
        let smallest = self.heads.iter().position(|&head| head != NOBODY)? as u32;
        let order = smallest.min(most);
        let (first, history) = self.take(order)?;
        Some((first, order, history))
    }

    /// Takes a block of `1 << order` frames: its first frame.
    pub(super) fn take(&mut self, order: u32) -> Option<(u32, History)> {
        let found = (order..ORDERS as u32).find(|&order| self.heads[order as usize] != NOBODY)?;
        let first = self.heads[found as usize];
        self.unlink(first, found);
        for order in (order..found).rev() {
            // The upper half goes back: low frames are handed out first.
            self.push(first + (1 << order), order);
        }
        self.count -= 1 << order;
        let block = &mut self.nodes[first as usize..][..1 << order];
        let used = block.iter().any(|node| node.history == History::Used);
        for node in block {
            node.history = History::Used;
        }
        let history = if used {
            History::Used
        } else {
            History::Untouched
        };
        Some((first, history))
    }

    /// Gives a block back, and joins it with its buddies as far as they are free.
    pub(super) fn give(&mut self, first: u32, order: u32) {
        self.count += 1 << order;
        let (mut first, mut order) = (first, order);
        while order + 1 < ORDERS as u32 {
            let buddy = first ^ (1 << order);
            let free = self.nodes.get(buddy as usize).and_then(|node| node.free);
            if free != Some(order as u8) {
                break;
            }
            self.unlink(buddy, order);
            first &= !(1 << order);
            order += 1;
        }
        self.push(first, order);
    }

    fn push(&mut self, first: u32, order: u32) {
        let next = self.heads[order as usize];
        if let Some(node) = self.nodes.get_mut(next as usize) {
            node.previous = first;
        }
        let node = &mut self.nodes[first as usize];
        debug_assert_eq!(node.free, None, "a block was freed twice");
        node.free = Some(order as u8);
        node.next = next;
        node.previous = NOBODY;
        self.heads[order as usize] = first;
    }

    fn unlink(&mut self, first: u32, order: u32) {
        let node = &mut self.nodes[first as usize];
        node.free = None;
        let (next, previous) = (node.next, node.previous);
        if let Some(node) = self.nodes.get_mut(next as usize) {
            node.previous = previous;
        }
        match self.nodes.get_mut(previous as usize) {
            Some(node) => node.next = next,
            None => self.heads[order as usize] = next,
        }
    }

    /// How many free blocks there are of each order; panics where an invariant does not hold.
    #[cfg(test)]
    pub(super) fn free_blocks(&self) -> [usize; ORDERS] {
        self.check().0
    }

    /// Which frames are free; panics where an invariant does not hold.
    #[cfg(test)]
    pub(super) fn free_frames(&self) -> Vec<bool> {
        self.check().1
    }

    #[cfg(test)]
    fn check(&self) -> ([usize; ORDERS], Vec<bool>) {
        let mut counts = [0; ORDERS];
        let mut covered = alloc::vec![false; self.nodes.len()];
        for (order, count) in counts.iter_mut().enumerate() {
            let mut at = self.heads[order];
            while let Some(node) = self.nodes.get(at as usize) {
                assert_eq!(node.free, Some(order as u8), "B1");
                assert_eq!(at % (1 << order), 0, "B1");
                let buddy = self.nodes.get((at ^ (1 << order)) as usize);
                let both = buddy.is_some_and(|buddy| buddy.free == Some(order as u8));
                assert!(!both || order + 1 == ORDERS, "B2");
                for frame in &mut covered[at as usize..][..1 << order] {
                    assert!(!core::mem::replace(frame, true), "B1");
                }
                *count += 1;
                at = node.next;
            }
        }
        let free = covered.iter().filter(|&&free| free).count();
        assert_eq!(free, self.count, "B3");
        (counts, covered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_up_is_joined_again() {
        let mut buddy = Buddy::new(1024 + 3, History::Untouched).unwrap();
        let whole = buddy.free_blocks();
        assert_eq!(whole[9], 2);
        let blocks: Vec<_> = [0, 3, 9, 0, 1, 0]
            .map(|order| (order, buddy.take(order)))
            .into();
        buddy.free_blocks();
        for (order, taken) in blocks {
            let (first, history) = taken.unwrap();
            assert_eq!(history, History::Untouched);
            buddy.give(first, order);
            buddy.free_blocks();
        }
        assert_eq!(buddy.free_blocks(), whole);
    }

    #[test]
    fn a_block_that_was_used_in_part_is_said_to_be_used() {
        let mut buddy = Buddy::new(512, History::Untouched).unwrap();
        let (first, _) = buddy.take(0).unwrap();
        buddy.give(first, 0);
        assert_eq!(buddy.take(9), Some((0, History::Used)));
        assert_eq!(buddy.take(0), None);
    }

    #[test]
    fn a_run_is_the_smallest_block_or_a_part_of_it() {
        let mut buddy = Buddy::new(512 + 4, History::Untouched).unwrap();
        assert_eq!(buddy.take_up_to(5), Some((512, 2, History::Untouched)));
        assert_eq!(buddy.take_up_to(5), Some((0, 5, History::Untouched)));
        buddy.give(7, 0);
        assert_eq!(buddy.take_up_to(5), Some((7, 0, History::Used)));
        buddy.give(7, 0);
        assert_eq!((buddy.count(), buddy.free_blocks()[8]), (512 - 31, 1));
    }

    #[test]
    #[should_panic(expected = "B3")]
    fn a_count_that_is_wrong_is_found() {
        let mut buddy = Buddy::new(512, History::Untouched).unwrap();
        buddy.count += 1;
        buddy.free_blocks();
    }
}
