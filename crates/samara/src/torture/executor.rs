//! `samara torture-child`: the process whose address space is tortured. A cellar: it lives in one
//! page of machine code, so that nothing else in it is needed any more.
//!
//! It is fresh from `exec`. It maps a page with a loop, a page for messages, and jumps to the
//! loop, which uses neither a stack nor any library; whoever drives it then unmaps the rest. The
//! loop reads a message from a socket, makes the system call in it, and answers with the result.
//! When a call was a fork, the child goes on with the socket that the message names for it. It
//! ends when its socket closes: so it never outlives a run, however that ends.
#![expect(
    unsafe_code,
    reason = "maps pages at fixed addresses, and gives its own memory up"
)]

use core::arch::{asm, global_asm};
use std::io::IoSliceMut;
use std::os::fd::RawFd;

use anyhow::{Context, Result, bail, ensure};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// Where the page of code lies.
pub(crate) const CODE: u64 = 0x10_0000_0000;
/// Where the page of messages lies. The page between keeps them from being neighbours.
pub(crate) const MESSAGES: u64 = CODE + 2 * PAGE;
/// The words of a message: the call's number, its arguments, the socket a forked child goes on
/// with, and memory that arguments may point to.
pub(crate) const WORDS: usize = 16;
/// Where the memory for arguments of the latest message lies.
pub(crate) const PAYLOAD: u64 = MESSAGES + 8 * 8;
/// The words of that memory.
pub(crate) const PAYLOAD_WORDS: usize = WORDS - 8;
/// The first descriptor that is handed over gets this number, and the others those behind it.
pub(crate) const FIRST_DESCRIPTOR: u32 = 3;
/// The most descriptors that are handed over.
pub(crate) const MOST_DESCRIPTORS: usize = 64;

const PAGE: u64 = 4096;

// The loop. r13 leads to the messages, r12 holds the socket; no call changes them.
global_asm!(
    ".pushsection .rodata.samara_torture,\"a\",@progbits",
    ".balign 16",
    "samara_torture_begin:",
    "2:",
    "xor eax, eax", // read
    "mov edi, r12d",
    "mov rsi, r13",
    "mov edx, 128",
    "syscall",
    "cmp rax, 128",
    "jne 9f",
    "mov rax, [r13]",
    "mov rdi, [r13 + 8]",
    "mov rsi, [r13 + 16]",
    "mov rdx, [r13 + 24]",
    "mov r10, [r13 + 32]",
    "mov r8, [r13 + 40]",
    "mov r9, [r13 + 48]",
    "syscall",
    "cmp qword ptr [r13], 57", // fork
    "jne 3f",
    "test rax, rax",
    "jnz 3f",
    "mov r12d, [r13 + 56]",
    "3:",
    "mov [r13], rax",
    "mov eax, 1", // write
    "mov edi, r12d",
    "mov rsi, r13",
    "mov edx, 8",
    "syscall",
    "cmp rax, 8",
    "je 2b",
    "9:",
    "mov eax, 231", // exit_group
    "xor edi, edi",
    "syscall",
    "ud2",
    "samara_torture_end:",
    ".popsection",
);

unsafe extern "C" {
    static samara_torture_begin: u8;
    static samara_torture_end: u8;
}

/// Takes the descriptors that come on standard input, and serves calls until that closes.
///
/// # Errors
///
/// If it cannot become what it is to be.
pub(crate) fn run() -> Result<()> {
    // What this program was started with may be open here, too.
    // SAFETY: nothing here has a descriptor but the three usual ones.
    let closed = unsafe { libc::close_range(FIRST_DESCRIPTOR, u32::MAX, 0) };
    Errno::result(closed)?;
    let descriptors = receive().context("no descriptors came")?;
    let are_in_line = (FIRST_DESCRIPTOR..)
        .zip(&descriptors)
        .all(|(wanted, &got)| i64::from(got) == i64::from(wanted));
    ensure!(
        are_in_line && !descriptors.is_empty(),
        "other descriptors came"
    );
    let writable = libc::PROT_READ | libc::PROT_WRITE;
    let code = map(CODE, writable).context("cannot map the page of code")?;
    map(MESSAGES, writable).context("cannot map the page of messages")?;
    let (begin, end) = (
        &raw const samara_torture_begin,
        &raw const samara_torture_end,
    );
    let len = end.addr() - begin.addr();
    ensure!(len as u64 <= PAGE, "the loop is longer than a page");
    // SAFETY: the loop is `len` bytes of constant data from `begin`, and `code` leads to a page
    // that was just mapped, writable, and overlaps nothing.
    unsafe { std::ptr::copy_nonoverlapping(begin, code, len) };
    let executable = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: nothing refers to the page any more.
    let protected = unsafe { libc::mprotect(code.cast(), PAGE as usize, executable) };
    Errno::result(protected)?;
    // SAFETY: nothing here waits for children, so they need not stay to be waited for.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    // SAFETY: the page at `CODE` holds the loop, which never returns: it asks for the address of
    // the messages in r13 and a descriptor in r12. What it does to this process's memory is up to
    // whoever drives it, and no code of this program runs any more.
    unsafe {
        asm!(
            "jmp {code}",
            code = in(reg) CODE,
            in("r13") MESSAGES,
            in("r12") 0_u64,
            options(noreturn),
        )
    }
}

/// Maps a page at `addr`, where nothing is.
fn map(addr: u64, protection: i32) -> Result<*mut u8> {
    let wanted = std::ptr::with_exposed_provenance_mut::<libc::c_void>(addr as usize);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: `MAP_FIXED_NOREPLACE` maps where nothing is, so nothing of ours is replaced.
    let mapped = unsafe { libc::mmap(wanted, PAGE as usize, protection, flags, -1, 0) };
    ensure!(mapped != libc::MAP_FAILED, Errno::last());
    if mapped != wanted {
        bail!("the kernel does not take the address");
    }
    Ok(mapped.cast())
}

/// The descriptors sent with the first message on standard input. They stay open.
fn receive() -> Result<Vec<RawFd>> {
    let mut byte = [0_u8; 1];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    let message = recvmsg::<()>(0, &mut parts, Some(&mut space), MsgFlags::empty())?;
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    Ok(descriptors)
}
