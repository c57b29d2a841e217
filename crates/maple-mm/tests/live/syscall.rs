//! One raw system call: the only unsafe code of this test.
#![expect(
    unsafe_code,
    reason = "the calls under test must reach the kernel unchanged"
)]

use core::arch::asm;

/// Makes system call `number` and gives its raw result, `-errno` on error.
///
/// What it may do to this process's memory is up to the caller: the executor only passes on what
/// the driver chose outside of everything the executor itself uses.
pub(crate) fn raw(number: u64, args: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: the instruction follows the x86-64 Linux convention: number in rax, arguments in
    // rdi, rsi, rdx, r10, r8, r9, result in rax, rcx and r11 overwritten. The driver passes only
    // calls on memory that no Rust object of this process lives in, or buffers of the executor.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as i64 => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}
