//! What differs between processors: how many levels, and what the bits of an entry mean.

use bitflags::bitflags;

use super::memory::{FRAME_BYTES, PhysAddr};

bitflags! {
    /// What a leaf allows, and what the processor noted in it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct LeafFlags: u16 {
        /// It may be used at all. Without this bit the processor takes the page for absent, and
        /// the tables keep it (`PROT_NONE`).
        const READ = 1 << 0;
        /// It may be written.
        const WRITE = 1 << 1;
        /// It may be executed.
        const EXECUTE = 1 << 2;
        /// User mode may use it.
        const USER = 1 << 3;
        /// It was used: set by the processor.
        const ACCESSED = 1 << 4;
        /// It was written: set by the processor.
        const DIRTY = 1 << 5;
        /// The translation stays when the processor changes tables.
        const GLOBAL = 1 << 6;
        /// A huge page that was asked for as such: it is never split, and counted apart.
        const EXPLICIT = 1 << 7;
    }
}

impl LeafFlags {
    /// What [`protect`](super::PageTables::protect) changes.
    pub const RIGHTS: Self = Self::READ.union(Self::WRITE).union(Self::EXECUTE);
}

/// What a page is, which decides who else may see it and how it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageKind {
    /// Private memory: written by one address space only.
    Anon,
    /// A page of a file.
    File,
    /// A page of shared memory.
    Shmem,
    /// The zero page: neither counted nor freed, and never writable. Where user mode may not use
    /// it, a guard.
    Special,
}

/// How a processor caches a page: an index into its table of memory types, on x86 PWT, PCD and
/// PAT as bits 0, 1 and 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MemoryType(pub(super) u8);

impl MemoryType {
    /// Plain memory.
    pub const WRITE_BACK: Self = Self(0);

    /// The type with an index of three bits; `None` from 8 on.
    #[must_use]
    pub const fn new(index: u8) -> Option<Self> {
        if index < 8 { Some(Self(index)) } else { None }
    }

    /// The index.
    #[must_use]
    pub const fn index(self) -> u8 {
        self.0
    }
}

/// A protection key: four bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProtectionKey(pub(super) u8);

impl ProtectionKey {
    /// The key with a number of four bits; `None` from 16 on.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < 16 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// All that an entry says about a page but where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// What the page is.
    pub kind: PageKind,
    /// What may be done with it.
    pub flags: LeafFlags,
    /// Its protection key.
    pub key: ProtectionKey,
    /// How it is cached.
    pub memory_type: MemoryType,
}

impl Attributes {
    /// A page of `kind` with `flags`, key 0, plain memory.
    #[must_use]
    pub const fn new(kind: PageKind, flags: LeafFlags) -> Self {
        Self {
            kind,
            flags,
            key: ProtectionKey(0),
            memory_type: MemoryType(0),
        }
    }

    /// The same with other flags.
    #[must_use]
    pub const fn with_flags(self, flags: LeafFlags) -> Self {
        Self { flags, ..self }
    }
}

/// An entry that maps a page, which may be a huge one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leaf {
    /// The first byte of the page.
    pub frame: PhysAddr,
    /// The rest.
    pub attributes: Attributes,
}

impl Leaf {
    /// Whether the leaf itself allows writing; the entries above it may not.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.attributes.flags.contains(LeafFlags::WRITE)
    }

    pub(super) fn with(self, add: LeafFlags) -> Self {
        let flags = self.attributes.flags | add;
        let attributes = self.attributes.with_flags(flags);
        Self { attributes, ..self }
    }

    pub(super) fn without(self, remove: LeafFlags) -> Self {
        let flags = self.attributes.flags - remove;
        let attributes = self.attributes.with_flags(flags);
        Self { attributes, ..self }
    }
}

/// Whether an entry, and so all below it, may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Writable {
    /// As far as what is below allows.
    Yes,
    /// Whatever is below says.
    No,
}

/// What an entry of a table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// Nothing.
    Empty,
    /// A table one level down.
    Table(PhysAddr, Writable),
    /// A page.
    Leaf(Leaf),
}

/// A processor's page tables. Levels count from 0, the table whose entries map the smallest pages.
///
/// The entry zero must be [`Entry::Empty`] at every level. Bits that the processor sets by itself
/// must not make an entry mean something else than before but [`LeafFlags::ACCESSED`] and
/// [`LeafFlags::DIRTY`].
pub trait Arch: 'static {
    /// How many levels of tables there are; at least 2, at most [`LEVELS_MOST`].
    const LEVELS: usize;

    /// How many bits of an address choose an entry; at most 9.
    const INDEX_BITS: u32;

    /// The first address above user space.
    const USER_END: u64;

    /// Whether an entry that leads to a table can forbid writing to all below it.
    const UPPER_WRITE_PROTECT: bool;

    /// How many entries a table has.
    const ENTRIES: usize = 1 << Self::INDEX_BITS;

    /// What an entry of a table of `level` says.
    fn decode(raw: u64, level: usize) -> Entry;

    /// The entry of a table of `level` that says it. A [`Entry::Leaf`] is found at levels 0 and 1.
    fn encode(entry: Entry, level: usize) -> u64;

    /// How many bytes one entry of a table of `level` maps.
    #[must_use]
    fn span(level: usize) -> u64 {
        FRAME_BYTES << (Self::INDEX_BITS * level as u32)
    }

    /// Which entry of a table of `level` maps `addr`.
    #[must_use]
    fn index(addr: u64, level: usize) -> usize {
        (addr / Self::span(level)) as usize % Self::ENTRIES
    }
}

/// No processor has more levels of tables.
pub const LEVELS_MOST: usize = 5;

pub(super) const KINDS: [PageKind; 4] = [
    PageKind::Anon,
    PageKind::File,
    PageKind::Shmem,
    PageKind::Special,
];

pub(super) const fn kind_bits(kind: PageKind) -> u64 {
    match kind {
        PageKind::Anon => 0,
        PageKind::File => 1,
        PageKind::Shmem => 2,
        PageKind::Special => 3,
    }
}

pub(super) const fn kind_of(bits: u64) -> PageKind {
    KINDS[(bits & 3) as usize]
}

pub(super) const fn writable(is: bool) -> Writable {
    if is { Writable::Yes } else { Writable::No }
}

#[cfg(test)]
mod tests {
    use super::super::{Tiny, X86_64};
    use super::*;

    fn every_leaf(frame: u64) -> impl Iterator<Item = Leaf> {
        let frame = PhysAddr::new(frame);
        (0..256_u16).flat_map(move |bits| {
            KINDS
                .into_iter()
                .zip([0, 15, 5, 10])
                .flat_map(move |(kind, key)| {
                    (0..8).map(move |index| Leaf {
                        frame,
                        attributes: Attributes {
                            kind,
                            flags: LeafFlags::from_bits_truncate(bits),
                            key: ProtectionKey(key),
                            memory_type: MemoryType(index),
                        },
                    })
                })
        })
    }

    #[test]
    fn leaves_come_back_as_they_went_in() {
        for leaf in every_leaf(0x000f_1234_5660_0000) {
            for level in 0..2 {
                let raw = X86_64::<4>::encode(Entry::Leaf(leaf), level);
                let mut expected = leaf;
                if !leaf.attributes.flags.contains(LeafFlags::READ) {
                    // There is no room for it, and no use.
                    expected = leaf.without(LeafFlags::GLOBAL);
                }
                assert_eq!(X86_64::<4>::decode(raw, level), Entry::Leaf(expected));
            }
        }
        for leaf in every_leaf(0x0ab_cdef_1000) {
            let raw = Tiny::<2>::encode(Entry::Leaf(leaf), 0);
            assert_eq!(Tiny::<2>::decode(raw, 0), Entry::Leaf(leaf));
        }
    }

    #[test]
    fn the_bits_are_those_of_the_processor() {
        let flags = LeafFlags::READ | LeafFlags::WRITE | LeafFlags::USER;
        let mut attributes = Attributes::new(PageKind::Anon, flags);
        attributes.memory_type = MemoryType(4);
        attributes.key = ProtectionKey(3);
        let frame = PhysAddr::new(0x20_0000);
        let leaf = Entry::Leaf(Leaf { frame, attributes });
        let common = 1 << 63 | 3 << 59 | 0x20_0007;
        assert_eq!(X86_64::<4>::encode(leaf, 0), common | 1 << 7);
        assert_eq!(X86_64::<4>::encode(leaf, 1), common | 1 << 7 | 1 << 12);
        let table = Entry::Table(frame, Writable::Yes);
        assert_eq!(X86_64::<4>::encode(table, 3), 0x20_0007);
    }

    #[test]
    fn tables_are_told_from_leaves_and_nothing() {
        for is in [Writable::Yes, Writable::No] {
            let entry = Entry::Table(PhysAddr::new(0x7000), is);
            for level in 1..3 {
                assert_eq!(
                    X86_64::<5>::decode(X86_64::<5>::encode(entry, level), level),
                    entry
                );
                assert_eq!(
                    Tiny::<3>::decode(Tiny::<3>::encode(entry, level), level),
                    entry
                );
            }
        }
        assert_eq!(X86_64::<4>::decode(0, 0), Entry::Empty);
        assert_eq!(Tiny::<3>::decode(0, 2), Entry::Empty);
    }

    #[test]
    fn user_space_is_half_of_what_the_levels_span() {
        assert_eq!(X86_64::<4>::USER_END, 1 << 47);
        assert_eq!(X86_64::<5>::USER_END, 1 << 56);
        assert_eq!(X86_64::<4>::span(1), 2 << 20);
        assert_eq!(X86_64::<4>::index(0x7fff_ffff_ffff, 3), 255);
        assert_eq!(Tiny::<2>::USER_END, 64 * 4096);
    }
}
