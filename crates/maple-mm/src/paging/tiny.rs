//! The entries of a processor that does not exist, for tests.

use super::arch::{
    Arch, Attributes, Entry, Leaf, LeafFlags, MemoryType, ProtectionKey, Writable, kind_bits,
    kind_of, writable,
};
use super::memory::{FRAME_BYTES, PhysAddr};

/// No real processor: three levels of tables with `1 << BITS` entries, so that a test reaches
/// every boundary with few pages. Its bits lie elsewhere than those of x86.
#[derive(Clone, Copy, Debug)]
pub struct Tiny<const BITS: u32>;

mod bits {
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
        let addr = PhysAddr::new(raw & bits::ADDR);
        if raw & bits::TABLE != 0 {
            return Entry::Table(addr, writable(raw & bits::WRITE != 0));
        }
        if raw & bits::LEAF == 0 {
            return Entry::Empty;
        }
        Entry::Leaf(Leaf {
            frame: addr,
            attributes: Attributes {
                kind: kind_of(raw >> bits::KIND_SHIFT),
                flags: LeafFlags::from_bits_truncate((raw >> bits::FLAGS_SHIFT) as u16 & 0xff),
                key: ProtectionKey((raw >> bits::KEY_SHIFT) as u8 & 15),
                memory_type: MemoryType((raw >> bits::TYPE_SHIFT) as u8 & 7),
            },
        })
    }

    fn encode(entry: Entry, _: usize) -> u64 {
        match entry {
            Entry::Empty => 0,
            Entry::Table(table, is) => {
                let write = if is == Writable::Yes { bits::WRITE } else { 0 };
                table.as_u64() | bits::TABLE | write
            }
            Entry::Leaf(Leaf { frame, attributes }) => {
                frame.as_u64()
                    | bits::LEAF
                    | kind_bits(attributes.kind) << bits::KIND_SHIFT
                    | u64::from(attributes.flags.bits()) << bits::FLAGS_SHIFT
                    | u64::from(attributes.key.0) << bits::KEY_SHIFT
                    | u64::from(attributes.memory_type.0) << bits::TYPE_SHIFT
            }
        }
    }
}
