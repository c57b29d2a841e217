//! What differs between processors: how many levels, and what the bits of an entry mean.

use bitflags::bitflags;

use super::memory::{FRAME_BYTES, FRAME_WORDS, PhysAddr};

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
    /// The zero page: neither counted nor freed, and never writable.
    Special,
}

/// How a processor caches a page: an index into its table of memory types, on x86 PWT, PCD and
/// PAT as bits 0, 1 and 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MemoryType(u8);

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
pub struct ProtectionKey(u8);

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

/// x86-64: tables of 512 entries in 4 levels (`X86_64<4>`) or 5 (`X86_64<5>`).
#[derive(Clone, Copy, Debug)]
pub struct X86_64<const LEVELS: usize>;

mod x86 {
    pub(super) const PRESENT: u64 = 1 << 0;
    pub(super) const WRITE: u64 = 1 << 1;
    pub(super) const USER: u64 = 1 << 2;
    pub(super) const WRITE_THROUGH: u64 = 1 << 3;
    pub(super) const CACHE_DISABLE: u64 = 1 << 4;
    pub(super) const ACCESSED: u64 = 1 << 5;
    pub(super) const DIRTY: u64 = 1 << 6;
    /// Of an entry above level 0: it maps a page.
    pub(super) const PAGE_SIZE: u64 = 1 << 7;
    pub(super) const PAT_SMALL: u64 = 1 << 7;
    pub(super) const GLOBAL: u64 = 1 << 8;
    /// Of an entry that is not present: there is a page, which nobody may use. The processor
    /// looks at no bit of such an entry.
    pub(super) const PROTECTED: u64 = 1 << 8;
    pub(super) const KIND_SHIFT: u32 = 9;
    pub(super) const EXPLICIT: u64 = 1 << 11;
    pub(super) const PAT_HUGE: u64 = 1 << 12;
    pub(super) const ADDR: u64 = 0x000f_ffff_ffff_f000;
    pub(super) const KEY_SHIFT: u32 = 59;
    pub(super) const NO_EXECUTE: u64 = 1 << 63;
}

/// Flags whose bit means the same whether the page is present or not.
const X86_FLAGS: [(LeafFlags, u64); 5] = [
    (LeafFlags::WRITE, x86::WRITE),
    (LeafFlags::USER, x86::USER),
    (LeafFlags::ACCESSED, x86::ACCESSED),
    (LeafFlags::DIRTY, x86::DIRTY),
    (LeafFlags::EXPLICIT, x86::EXPLICIT),
];

const KINDS: [PageKind; 4] = [
    PageKind::Anon,
    PageKind::File,
    PageKind::Shmem,
    PageKind::Special,
];

const fn kind_bits(kind: PageKind) -> u64 {
    match kind {
        PageKind::Anon => 0,
        PageKind::File => 1,
        PageKind::Shmem => 2,
        PageKind::Special => 3,
    }
}

const fn kind_of(bits: u64) -> PageKind {
    KINDS[(bits & 3) as usize]
}

const fn writable(is: bool) -> Writable {
    if is { Writable::Yes } else { Writable::No }
}

fn x86_leaf(raw: u64, level: usize) -> Leaf {
    let mut flags = LeafFlags::empty();
    for (flag, bit) in X86_FLAGS {
        flags.set(flag, raw & bit != 0);
    }
    let present = raw & x86::PRESENT != 0;
    flags.set(LeafFlags::READ, present);
    flags.set(LeafFlags::GLOBAL, present && raw & x86::GLOBAL != 0);
    flags.set(LeafFlags::EXECUTE, raw & x86::NO_EXECUTE == 0);
    let (pat, addr) = match level {
        0 => (x86::PAT_SMALL, x86::ADDR),
        _ => (x86::PAT_HUGE, x86::ADDR & !x86::PAT_HUGE),
    };
    let low = (raw / x86::WRITE_THROUGH) & 3;
    let index = low as u8 | u8::from(raw & pat != 0) << 2;
    Leaf {
        frame: PhysAddr::new(raw & addr),
        attributes: Attributes {
            kind: kind_of(raw >> x86::KIND_SHIFT),
            flags,
            key: ProtectionKey((raw >> x86::KEY_SHIFT) as u8 & 15),
            memory_type: MemoryType(index),
        },
    }
}

fn x86_raw(leaf: Leaf, level: usize) -> u64 {
    let Attributes {
        kind,
        flags,
        key,
        memory_type,
    } = leaf.attributes;
    let mut raw = leaf.frame.as_u64()
        | kind_bits(kind) << x86::KIND_SHIFT
        | u64::from(key.0) << x86::KEY_SHIFT;
    for (flag, bit) in X86_FLAGS {
        if flags.contains(flag) {
            raw |= bit;
        }
    }
    raw |= match (
        flags.contains(LeafFlags::READ),
        flags.contains(LeafFlags::GLOBAL),
    ) {
        (false, _) => x86::PROTECTED,
        (true, false) => x86::PRESENT,
        (true, true) => x86::PRESENT | x86::GLOBAL,
    };
    if !flags.contains(LeafFlags::EXECUTE) {
        raw |= x86::NO_EXECUTE;
    }
    let (size, pat) = match level {
        0 => (0, x86::PAT_SMALL),
        _ => (x86::PAGE_SIZE, x86::PAT_HUGE),
    };
    raw |= size;
    for (bit, set) in [x86::WRITE_THROUGH, x86::CACHE_DISABLE, pat]
        .into_iter()
        .enumerate()
    {
        if memory_type.0 >> bit & 1 != 0 {
            raw |= set;
        }
    }
    raw
}

impl<const LEVELS: usize> Arch for X86_64<LEVELS> {
    const LEVELS: usize = LEVELS;
    const INDEX_BITS: u32 = 9;
    const USER_END: u64 = 1 << (11 + 9 * LEVELS);
    const UPPER_WRITE_PROTECT: bool = true;

    #[inline]
    fn decode(raw: u64, level: usize) -> Entry {
        let present = raw & x86::PRESENT != 0;
        if !present && raw & x86::PROTECTED == 0 {
            return Entry::Empty;
        }
        if level > 0 && raw & x86::PAGE_SIZE == 0 {
            let table = PhysAddr::new(raw & x86::ADDR);
            return Entry::Table(table, writable(raw & x86::WRITE != 0));
        }
        Entry::Leaf(x86_leaf(raw, level))
    }

    #[inline]
    fn encode(entry: Entry, level: usize) -> u64 {
        match entry {
            Entry::Empty => 0,
            Entry::Table(table, is) => {
                let write = if is == Writable::Yes { x86::WRITE } else { 0 };
                table.as_u64() | x86::PRESENT | x86::USER | write
            }
            Entry::Leaf(leaf) => x86_raw(leaf, level),
        }
    }
}

/// No real processor: three levels of tables with `1 << BITS` entries, so that a test reaches
/// every boundary with few pages. Its bits lie elsewhere than those of x86.
#[derive(Clone, Copy, Debug)]
pub struct Tiny<const BITS: u32>;

mod tiny {
    pub(super) const TABLE: u64 = 1 << 1;
    pub(super) const LEAF: u64 = 1 << 2;
    pub(super) const WRITE: u64 = 1 << 3;
    pub(super) const KIND_SHIFT: u32 = 4;
    pub(super) const ADDR: u64 = 0x0000_0fff_ffff_f000;
    pub(super) const FLAGS_SHIFT: u32 = 44;
    pub(super) const KEY_SHIFT: u32 = 52;
    pub(super) const TYPE_SHIFT: u32 = 56;
}

impl<const BITS: u32> Arch for Tiny<BITS> {
    const LEVELS: usize = 3;
    const INDEX_BITS: u32 = BITS;
    const USER_END: u64 = FRAME_BYTES << (3 * BITS);
    const UPPER_WRITE_PROTECT: bool = true;

    fn decode(raw: u64, _: usize) -> Entry {
        let addr = PhysAddr::new(raw & tiny::ADDR);
        if raw & tiny::TABLE != 0 {
            return Entry::Table(addr, writable(raw & tiny::WRITE != 0));
        }
        if raw & tiny::LEAF == 0 {
            return Entry::Empty;
        }
        Entry::Leaf(Leaf {
            frame: addr,
            attributes: Attributes {
                kind: kind_of(raw >> tiny::KIND_SHIFT),
                flags: LeafFlags::from_bits_truncate((raw >> tiny::FLAGS_SHIFT) as u16 & 0xff),
                key: ProtectionKey((raw >> tiny::KEY_SHIFT) as u8 & 15),
                memory_type: MemoryType((raw >> tiny::TYPE_SHIFT) as u8 & 7),
            },
        })
    }

    fn encode(entry: Entry, _: usize) -> u64 {
        match entry {
            Entry::Empty => 0,
            Entry::Table(table, is) => {
                let write = if is == Writable::Yes { tiny::WRITE } else { 0 };
                table.as_u64() | tiny::TABLE | write
            }
            Entry::Leaf(Leaf { frame, attributes }) => {
                frame.as_u64()
                    | tiny::LEAF
                    | kind_bits(attributes.kind) << tiny::KIND_SHIFT
                    | u64::from(attributes.flags.bits()) << tiny::FLAGS_SHIFT
                    | u64::from(attributes.key.0) << tiny::KEY_SHIFT
                    | u64::from(attributes.memory_type.0) << tiny::TYPE_SHIFT
            }
        }
    }
}

const _: () = assert!(X86_64::<5>::ENTRIES == FRAME_WORDS);

#[cfg(test)]
mod tests {
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
