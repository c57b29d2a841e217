//! A table and all that is below it: going through it, and giving it up.

use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use super::arch::{Arch, Attributes, Entry, LEVELS_MOST, Leaf, LeafFlags, PageKind};
use super::memory::{PhysAddr, PhysMemory, Remaining};
use super::sync;
use super::table::Table;

/// Where a walk stands in one table.
#[derive(Clone, Copy, Debug)]
struct Step<'m> {
    table: Table<'m>,
    next: usize,
}

/// The tables of a subtree, parents before children, without recursion.
///
/// A table that is below two others is met twice.
#[derive(Debug)]
pub(super) struct Tables<'m, A, M> {
    memory: &'m M,
    /// The first table, until it was handed out.
    first: Option<Table<'m>>,
    /// Indexed by level.
    way: [Option<Step<'m>>; LEVELS_MOST],
    top: usize,
    level: usize,
    arch: PhantomData<fn() -> A>,
}

impl<'m, A: Arch, M: PhysMemory> Tables<'m, A, M> {
    /// The table at `addr`, which is one of `level`, and those below it.
    pub(super) fn below(memory: &'m M, addr: PhysAddr, level: usize) -> Self {
        Self {
            memory,
            first: Some(Table::at(memory, addr)),
            way: [None; LEVELS_MOST],
            top: level,
            level,
            arch: PhantomData,
        }
    }
}

impl<'m, A: Arch, M: PhysMemory> Iterator for Tables<'m, A, M> {
    type Item = (Table<'m>, usize);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(table) = self.first.take() {
            self.way[self.top] = Some(Step { table, next: 0 });
            return Some((table, self.top));
        }
        while self.level > 0 && self.level <= self.top {
            let step = self.way[self.level].as_mut()?;
            let found = (step.next..A::ENTRIES).find_map(|index| {
                match step.table.entry::<A>(index, self.level) {
                    Entry::Table(child, _) => Some((index, child)),
                    _ => None,
                }
            });
            let Some((index, child)) = found else {
                self.level += 1;
                continue;
            };
            step.next = index + 1;
            let table = Table::at(self.memory, child);
            let below = self.level - 1;
            if below > 0 {
                self.level = below;
                self.way[below] = Some(Step { table, next: 0 });
            }
            return Some((table, below));
        }
        None
    }
}

/// Gives up one reference to the table at `addr`, which is one of `level`. With the last one goes
/// all that the table leads to, and so on down. Says how many explicitly huge pages are free now.
///
/// No processor knows of the table any more.
pub(super) fn release<A: Arch, M: PhysMemory>(memory: &M, addr: PhysAddr, level: usize) -> u64 {
    let table = Table::at(memory, addr);
    if table.info(memory).release() == Remaining::Some {
        return 0;
    }
    let mut explicit = 0;
    let mut way: [Option<Step<'_>>; LEVELS_MOST] = [None; LEVELS_MOST];
    way[level] = Some(Step { table, next: 0 });
    let mut at = level;
    while at <= level {
        let Some(step) = way[at].as_mut() else {
            break;
        };
        if let Some(child) = release_entries::<A, M>(memory, (step, at), &mut explicit) {
            at -= 1;
            way[at] = Some(Step {
                table: child,
                next: 0,
            });
            continue;
        }
        memory.free(step.table.addr);
        at += 1;
    }
    explicit
}

/// Gives up what the entries from `step.next` on lead to, up to the first table whose last
/// reference that was: it is the caller's to take apart.
fn release_entries<'m, A: Arch, M: PhysMemory>(
    memory: &'m M,
    (step, level): (&mut Step<'m>, usize),
    explicit: &mut u64,
) -> Option<Table<'m>> {
    if step.table.tally(memory).is_empty() {
        return None;
    }
    while step.next < A::ENTRIES {
        let raw = sync::load(&step.table.words[step.next], Ordering::Acquire);
        step.next += 1;
        if raw == 0 {
            continue;
        }
        match A::decode(raw, level) {
            Entry::Empty => {}
            Entry::Leaf(leaf) => *explicit += release_leaf(memory, leaf),
            Entry::Table(child, _) => {
                let child = Table::at(memory, child);
                if child.info(memory).release() == Remaining::None {
                    return Some(child);
                }
            }
        }
    }
    None
}

/// Gives up the reference that a leaf was, as [`release_page`] does.
pub(super) fn release_leaf<M: PhysMemory>(memory: &M, leaf: Leaf) -> u64 {
    if !is_counted(leaf) {
        return 0;
    }
    note_dirty(memory, leaf);
    release_page(memory, leaf.frame)
}

/// Gives up a reference to the page that `addr` lies in. Says how many explicitly huge pages are
/// free now: one or none.
pub(crate) fn release_page<M: PhysMemory>(memory: &M, addr: PhysAddr) -> u64 {
    let info = memory.info(addr);
    // Asked before: what is free may be somebody else's at once.
    let explicit = u64::from(info.is_explicit());
    if info.release() == Remaining::Some {
        return 0;
    }
    memory.free(addr);
    explicit
}

/// Passes on to the page of a file that it was written through a leaf that is gone.
pub(super) fn note_dirty<M: PhysMemory>(memory: &M, leaf: Leaf) {
    let Attributes { kind, flags, .. } = leaf.attributes;
    let is_shared = matches!(kind, PageKind::File | PageKind::Shmem);
    if is_shared && flags.contains(LeafFlags::DIRTY) {
        memory.info(leaf.frame).set_dirty();
    }
}

/// Whether a leaf is a counted reference to its frame.
pub(super) fn is_counted(leaf: Leaf) -> bool {
    leaf.attributes.kind != PageKind::Special
}
