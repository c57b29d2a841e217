//! What the guest needs to run: descriptor tables, handlers that leave to the host, and the
//! routines of user mode.

use std::sync::atomic::{AtomicU64, Ordering};

use maple_mm::paging::{Content, Frame, FrameSize, PageTables, PhysAddr, PhysMemory};

use crate::common::paged::{Memory, Quad};

/// Where the kernel half begins: entry 511 of the root, 510 below, then 0, 0.
const KERNEL: u64 = 0xffff_ffff_8000_0000;

pub(crate) const CODE: u64 = KERNEL;
pub(crate) const GDT: u64 = KERNEL + 0x1000;
pub(crate) const TSS: u64 = GDT + 0x100;
pub(crate) const IDT: u64 = KERNEL + 0x2000;
const STACK: u64 = KERNEL + 0x3000;
pub(crate) const STACK_TOP: u64 = STACK + 0x1000;

pub(crate) const KERNEL_CODE: u16 = 0x08;
pub(crate) const KERNEL_DATA: u16 = 0x10;
pub(crate) const USER_DATA: u16 = 0x18 | 3;
pub(crate) const USER_CODE: u16 = 0x20 | 3;
pub(crate) const TASK: u16 = 0x28;

/// Ports that the handlers write to, which leaves the guest.
pub(crate) const PAGE_FAULT: u16 = 0x14;

/// Loads CR3 from RDX unless zero, forgets RSI pages from RDI on, returns from the interrupt.
pub(crate) const RETURN: u64 = CODE;
const PAGE_FAULT_HANDLER: u64 = 0x40;
/// Of the other vectors, eight bytes each.
const OTHER_HANDLERS: u64 = 0x100;

#[rustfmt::skip]
const FORGET_AND_RETURN: [u8; 33] = [
    0x48, 0x85, 0xd2,                         // test rdx, rdx
    0x74, 0x03,                               // jz over the load
    0x0f, 0x22, 0xda,                         // mov cr3, rdx
    0x48, 0x85, 0xf6,                         // test rsi, rsi
    0x74, 0x0f,                               // jz over the loop
    0x0f, 0x01, 0x3f,                         // invlpg [rdi]
    0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, // add rdi, 4096
    0x48, 0xff, 0xce,                         // dec rsi
    0x75, 0xf1,                               // jnz to the loop
    0x48, 0xcf,                               // iretq
    0xf4, 0xf4, 0xf4,                         // hlt
];

/// The host goes on from here by [`RETURN`].
const LEAVE_BY_0X14: [u8; 3] = [0xe6, 0x14, 0xf4];

/// Tells the host which vector it was: `mov al, vector; out 0x15, al; hlt`.
const fn leave_by_0x15(vector: u8) -> [u8; 5] {
    [0xb0, vector, 0xe6, 0x15, 0xf4]
}

/// Where programs have their routines: RBX has the address, RAX the value, RCX a count.
pub(crate) const TEXT: u64 = 0x40_0000;
pub(crate) const LOAD: u64 = TEXT;
pub(crate) const STORE: u64 = TEXT + 0x20;
pub(crate) const JUMP: u64 = TEXT + 0x40;
pub(crate) const PUSH: u64 = TEXT + 0x60;
/// Reads address 0, where nothing is ever mapped: `mov rcx, [0]`. So a routine says that it is
/// through, by a means that every hypervisor has.
const THROUGH: [u8; 8] = [0x48, 0x8b, 0x0c, 0x25, 0, 0, 0, 0];
pub(crate) const THROUGH_WORD: u64 = u64::from_le_bytes(THROUGH);
/// No routine: the fetch is through at once.
pub(crate) const IDLE: u64 = 0;

#[rustfmt::skip]
const PUSH_ALL: [u8; 9] = [
    0x48, 0x89, 0xdc, // mov rsp, rbx
    0x50,             // push rax
    0x48, 0xff, 0xc9, // dec rcx
    0x75, 0xfa,       // jnz to the push
];

const ROUTINES: [(u64, &[u8]); 4] = [
    (LOAD, &[0x48, 0x8b, 0x03]),  // mov rax, [rbx]
    (STORE, &[0x48, 0x89, 0x03]), // mov [rbx], rax
    (JUMP, &[0xff, 0xe3]),        // jmp rbx
    (PUSH, &PUSH_ALL),
];

/// What a program's file has at [`TEXT`].
pub(crate) fn routines() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, routine) in ROUTINES {
        bytes.resize((at - TEXT) as usize, HALT);
        bytes.extend([routine, &THROUGH].concat());
    }
    bytes
}

const HALT: u8 = 0xf4;

/// The kernel half: its frames are freed with it.
pub(crate) struct Guest {
    memory: Memory,
    frames: Vec<Frame>,
}

const PRESENT_WRITABLE: u64 = 3;

impl Guest {
    pub(crate) fn new(memory: &Memory) -> Self {
        let frames: Vec<Frame> = (0..8).map(|_| zeroed(memory)).collect();
        let guest = Self {
            memory: Memory::clone(memory),
            frames,
        };
        let [root, directories, directory, table, code, gdt, idt, stack] = guest.parts();
        for (upper, index, lower) in [
            (root, 511, directories),
            (directories, 510, directory),
            (directory, 0, table),
            (table, 0, code),
            (table, 1, gdt),
            (table, 2, idt),
            (table, 3, stack),
        ] {
            put(memory, upper, index, lower.as_u64() | PRESENT_WRITABLE);
        }
        for (offset, bytes) in [
            (0, &FORGET_AND_RETURN[..]),
            (PAGE_FAULT_HANDLER, &LEAVE_BY_0X14),
        ] {
            put_bytes(memory, code, offset, bytes);
        }
        for vector in 0..=255 {
            let offset = OTHER_HANDLERS + u64::from(vector) * 8;
            put_bytes(memory, code, offset, &leave_by_0x15(vector));
        }
        fill_gdt(memory, gdt);
        fill_idt(memory, idt);
        guest
    }

    fn parts(&self) -> [PhysAddr; 8] {
        std::array::from_fn(|index| self.frames[index].addr())
    }

    /// A root with the kernel half and nothing else, for when no program runs.
    pub(crate) fn root(&self) -> PhysAddr {
        self.parts()[0]
    }

    /// A word of ring 0's stack.
    pub(crate) fn stack_word(&self, addr: u64) -> &AtomicU64 {
        let [.., stack] = self.parts();
        &self.memory.words(stack)[addr as usize % 4096 / 8]
    }

    /// Stores the kernel half into the root of `tables`, as a kernel does for each new one.
    pub(crate) fn enter_into(&self, tables: &PageTables<Quad, Memory>) {
        let entries = tables.kernel_entries();
        let own = &self.memory.words(self.root())[512 - entries.len()..];
        for (entry, own) in entries.iter().zip(own) {
            entry.store(own.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        for frame in self.frames.drain(..) {
            self.memory.release(frame);
        }
    }
}

fn zeroed(memory: &Memory) -> Frame {
    memory
        .allocate(FrameSize::SMALL, Content::Zeroed)
        .expect("a free frame")
}

fn put(memory: &Memory, frame: PhysAddr, index: usize, word: u64) {
    memory.words(frame)[index].store(word, Ordering::Relaxed);
}

fn put_bytes(memory: &Memory, frame: PhysAddr, offset: u64, bytes: &[u8]) {
    for (at, chunk) in bytes.chunks(8).enumerate() {
        let mut word = [HALT; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let index = offset as usize / 8 + at;
        put(memory, frame, index, u64::from_le_bytes(word));
    }
}

fn fill_gdt(memory: &Memory, gdt: PhysAddr) {
    let task = 0x67 | (TSS & 0xff_ffff) << 16 | 0x89 << 40 | (TSS >> 24 & 0xff) << 56;
    let segments = [
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
        task,
        TSS >> 32,
    ];
    for (index, segment) in segments.into_iter().enumerate() {
        put(memory, gdt, index, segment);
    }
    // RSP0 of the task: four bytes in.
    let at = (TSS - GDT) as usize / 8;
    put(memory, gdt, at, STACK_TOP << 32);
    put(memory, gdt, at + 1, STACK_TOP >> 32);
}

fn fill_idt(memory: &Memory, idt: PhysAddr) {
    for vector in 0..256 {
        let handler = match vector {
            14 => CODE + PAGE_FAULT_HANDLER,
            _ => CODE + OTHER_HANDLERS + vector as u64 * 8,
        };
        let low = handler & 0xffff
            | u64::from(KERNEL_CODE) << 16
            | 0x8e << 40
            | (handler >> 16 & 0xffff) << 48;
        put(memory, idt, vector * 2, low);
        put(memory, idt, vector * 2 + 1, handler >> 32);
    }
}
