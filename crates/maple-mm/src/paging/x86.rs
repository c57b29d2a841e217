//! The entries of x86-64.

use super::arch::{
    Arch, Attributes, Entry, Leaf, LeafFlags, MemoryType, ProtectionKey, Writable, kind_bits,
    kind_of, writable,
};
use super::memory::{FRAME_WORDS, PhysAddr};

/// x86-64: tables of 512 entries in 4 levels (`X86_64<4>`) or 5 (`X86_64<5>`).
#[derive(Clone, Copy, Debug)]
pub struct X86_64<const LEVELS: usize>;

mod bits {
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
    (LeafFlags::WRITE, bits::WRITE),
    (LeafFlags::USER, bits::USER),
    (LeafFlags::ACCESSED, bits::ACCESSED),
    (LeafFlags::DIRTY, bits::DIRTY),
    (LeafFlags::EXPLICIT, bits::EXPLICIT),
];

fn x86_leaf(raw: u64, level: usize) -> Leaf {
    let mut flags = LeafFlags::empty();
    for (flag, bit) in X86_FLAGS {
        flags.set(flag, raw & bit != 0);
    }
    let present = raw & bits::PRESENT != 0;
    flags.set(LeafFlags::READ, present);
    flags.set(LeafFlags::GLOBAL, present && raw & bits::GLOBAL != 0);
    flags.set(LeafFlags::EXECUTE, raw & bits::NO_EXECUTE == 0);
    let (pat, addr) = match level {
        0 => (bits::PAT_SMALL, bits::ADDR),
        _ => (bits::PAT_HUGE, bits::ADDR & !bits::PAT_HUGE),
    };
    let low = (raw / bits::WRITE_THROUGH) & 3;
    let index = low as u8 | u8::from(raw & pat != 0) << 2;
    Leaf {
        frame: PhysAddr::new(raw & addr),
        attributes: Attributes {
            kind: kind_of(raw >> bits::KIND_SHIFT),
            flags,
            key: ProtectionKey((raw >> bits::KEY_SHIFT) as u8 & 15),
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
        | kind_bits(kind) << bits::KIND_SHIFT
        | u64::from(key.0) << bits::KEY_SHIFT;
    for (flag, bit) in X86_FLAGS {
        if flags.contains(flag) {
            raw |= bit;
        }
    }
    raw |= match (
        flags.contains(LeafFlags::READ),
        flags.contains(LeafFlags::GLOBAL),
    ) {
        (false, _) => bits::PROTECTED,
        (true, false) => bits::PRESENT,
        (true, true) => bits::PRESENT | bits::GLOBAL,
    };
    if !flags.contains(LeafFlags::EXECUTE) {
        raw |= bits::NO_EXECUTE;
    }
    let (size, pat) = match level {
        0 => (0, bits::PAT_SMALL),
        _ => (bits::PAGE_SIZE, bits::PAT_HUGE),
    };
    raw |= size;
    for (bit, set) in [bits::WRITE_THROUGH, bits::CACHE_DISABLE, pat]
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
        let present = raw & bits::PRESENT != 0;
        if !present && raw & bits::PROTECTED == 0 {
            return Entry::Empty;
        }
        if level > 0 && raw & bits::PAGE_SIZE == 0 {
            let table = PhysAddr::new(raw & bits::ADDR);
            return Entry::Table(table, writable(raw & bits::WRITE != 0));
        }
        Entry::Leaf(x86_leaf(raw, level))
    }

    #[inline]
    fn encode(entry: Entry, level: usize) -> u64 {
        match entry {
            Entry::Empty => 0,
            Entry::Table(table, is) => {
                let write = if is == Writable::Yes { bits::WRITE } else { 0 };
                table.as_u64() | bits::PRESENT | bits::USER | write
            }
            Entry::Leaf(leaf) => x86_raw(leaf, level),
        }
    }
}

const _: () = assert!(X86_64::<5>::ENTRIES == FRAME_WORDS);
