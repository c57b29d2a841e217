//! From registers to meaning: what a traced system call asks for, and how it must be handled.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use libc::c_long;
use maple_mm::{AdvisedRange, abi};

use crate::call::{Call, CallFile, CallSegment};
use crate::kernel;
use crate::process_call::{ADDRESSES, NAME, Name, ProcessCall, Ranges};
use crate::ptrace::{Registers, Tid};
use crate::seccomp;

/// What a stop at the entry of a call means for the engine and the mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A call the model predicts. An `mmap` of a file and the calls on a userfaultfd name their
    /// descriptor.
    Memory(Call, Option<i32>),
    /// A new process with a copy of the address space.
    Fork,
    /// A new task that shares the address space.
    Share { thread: Sharing },
    /// A new program is to be run.
    Exec,
    /// Resource limits may change; the address space does not.
    Limits,
    /// Takes the pages of this range away, which changes no mapping: whether they were written must
    /// be asked before.
    MovesPages((u64, u64)),
    /// Makes a userfaultfd, which will watch this address space whoever uses it.
    NewWatcher,
    /// From now on the address space may be changed by what the tracer does not stop at.
    Hides(Unseen),
    /// Changes the address space in a way the model does not know.
    NotModelled(&'static str),
    /// Looks like a memory call but changes nothing of the model's.
    Harmless,
}

/// Whether a task that shares memory belongs to the same process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    Thread,
    Process,
}

/// What may change an address space without a call that the tracer stops at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// An `io_uring`, which carries out `madvise`.
    Ring,
    /// A seccomp filter with a listener: it is asked before our filter, and may let a call go on.
    Listener,
}

impl Unseen {
    /// The call that brings it about.
    pub(crate) const fn call(self) -> &'static str {
        match self {
            Self::Ring => "io_uring_setup",
            Self::Listener => "seccomp(SECCOMP_FILTER_FLAG_NEW_LISTENER)",
        }
    }

    /// What is counted where the kernel differs afterwards.
    pub(crate) const fn outcome(self) -> &'static str {
        match self {
            Self::Ring => "what an io_uring may have done",
            Self::Listener => "what a seccomp listener may have let pass",
        }
    }
}

/// What this kernel does with names for anonymous memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnonymousNames {
    Supported,
    /// `PR_SET_VMA` is always `EINVAL`.
    Absent,
}

/// Decodes a call. `tid` is the stopped thread, for what must be read from its memory.
pub(crate) fn request(tid: Tid, regs: &Registers, names: AnonymousNames) -> Request {
    let [a, b, c, d, e, f] = regs.arguments;
    let call = match regs.number as c_long {
        libc::SYS_mmap => return mmap(regs),
        libc::SYS_munmap => Call::Munmap { addr: a, len: b },
        libc::SYS_mprotect => Call::Mprotect {
            addr: a,
            len: b,
            prot: c,
        },
        // Which keys there are depends on the processor and on pkey_alloc.
        libc::SYS_pkey_mprotect if d as i32 != -1 => {
            return Request::NotModelled("pkey_mprotect(with a key)");
        }
        libc::SYS_pkey_mprotect => Call::PkeyMprotect {
            addr: a,
            len: b,
            prot: c,
            pkey: d as i32,
        },
        libc::SYS_mremap => Call::Mremap {
            addr: a,
            old_len: b,
            new_len: c,
            flags: d,
            new_addr: e,
        },
        libc::SYS_brk => Call::Brk { addr: a },
        // Succeeds or fails by what the pages are and by free memory, and changes no mapping.
        libc::SYS_madvise if c as i32 == libc::MADV_COLLAPSE => return Request::Harmless,
        libc::SYS_process_madvise => return process_madvise(tid, [a, b, c, d, e]),
        libc::SYS_madvise => Call::Madvise {
            addr: a,
            len: b,
            advice: c as i32,
        },
        libc::SYS_mlock => Call::Mlock { addr: a, len: b },
        // The flags are an `int`.
        libc::SYS_mlock2 => Call::Mlock2 {
            addr: a,
            len: b,
            flags: c & 0xffff_ffff,
        },
        libc::SYS_munlock => Call::Munlock { addr: a, len: b },
        libc::SYS_mlockall => Call::Mlockall {
            flags: a & 0xffff_ffff,
        },
        libc::SYS_munlockall => Call::Munlockall,
        libc::SYS_mseal => Call::Mseal {
            addr: a,
            len: b,
            flags: c,
        },
        libc::SYS_shmat => Call::Shmat {
            id: a as i32,
            addr: b,
            flags: c & 0xffff_ffff,
            segment: CallSegment::Absent,
        },
        libc::SYS_shmdt => Call::Shmdt { addr: a },
        libc::SYS_remap_file_pages => Call::RemapFilePages {
            start: a,
            size: b,
            prot: c,
            page_offset: d,
            flags: e,
        },
        libc::SYS_mbind => return mbind(tid, regs.arguments),
        // Which nodes there are is asked later.
        libc::SYS_set_mempolicy_home_node => Call::SetHomeNode {
            addr: a,
            len: b,
            home: u32::try_from(c).ok().filter(|_| d == 0),
        },
        libc::SYS_userfaultfd => return Request::NewWatcher,
        libc::SYS_ioctl if b as u32 == seccomp::USERFAULTFD_IOC_NEW => return Request::NewWatcher,
        libc::SYS_ioctl => return userfault_ioctl(tid, [a, b, c]),
        libc::SYS_io_uring_setup => return Request::Hides(Unseen::Ring),
        // It stops for what installs a filter only.
        libc::SYS_seccomp if b & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 => {
            return Request::Hides(Unseen::Listener);
        }
        libc::SYS_seccomp => return Request::Harmless,
        libc::SYS_fork => return Request::Fork,
        libc::SYS_vfork => {
            return Request::Share {
                thread: Sharing::Process,
            };
        }
        libc::SYS_clone => return clone_request(a),
        libc::SYS_clone3 => return clone_request(read_word(tid, a).unwrap_or(0)),
        libc::SYS_execve | libc::SYS_execveat => return Request::Exec,
        libc::SYS_setrlimit | libc::SYS_prlimit64 => return Request::Limits,
        libc::SYS_personality => Call::Process(ProcessCall::Personality { persona: a }),
        libc::SYS_prctl => return prctl(tid, [a, b, c, d, e], names),
        other => return Request::NotModelled(name_of(other)),
    };
    let _ = f;
    Request::Memory(call, None)
}

fn mmap(regs: &Registers) -> Request {
    let [addr, len, prot, flags, fd, offset] = regs.arguments;
    // The kernel takes protection and flags as unsigned long.
    let file = if crate::call::maps_a_file(flags) {
        CallFile::Bad
    } else {
        CallFile::Anonymous
    };
    let call = Call::Mmap {
        addr,
        len,
        prot,
        flags,
        offset,
        file,
    };
    if flags & libc::MAP_HUGETLB as u64 != 0 && !is_modelled_huge(flags) {
        return Request::NotModelled("mmap(MAP_HUGETLB) of pages of 1 GiB");
    }
    Request::Memory(call, (file == CallFile::Bad).then_some(fd as i32))
}

/// Whether the model knows such huge pages. Those of 1 GiB come from a pool of their own, which it
/// has not; the sizes there are none of are refused. Files have pages of their own size.
fn is_modelled_huge(flags: u64) -> bool {
    crate::call::maps_a_file(flags) || size_of_huge(flags) != 30
}

/// The size of huge pages that is asked for, as a power of two; 0 for the machine's usual one.
const fn size_of_huge(flags: u64) -> u64 {
    flags >> libc::MAP_HUGE_SHIFT & libc::MAP_HUGE_MASK as u64
}

/// Whether a new mapping is to be promised huge pages of 2 MiB: then the machine's pool decides.
pub(crate) fn takes_huge_pages(flags: u64) -> bool {
    let asked = libc::MAP_HUGETLB as u64 | libc::MAP_ANONYMOUS as u64;
    flags & (asked | libc::MAP_NORESERVE as u64) == asked && matches!(size_of_huge(flags), 0 | 21)
}

/// Reads the mask of nodes. The kernel counts its bits one too few.
fn mbind(tid: Tid, [addr, len, mode, mask, bits, flags]: [u64; 6]) -> Request {
    const MOST_BITS: u64 = 4096 * 8;
    const NO_MODE: u64 = 0xffff_ffff;
    let bits = bits.wrapping_sub(1);
    let mut nodes = 0;
    let mut mode = mode & 0xffff_ffff;
    if mask != 0 && bits > MOST_BITS {
        // LINUX: refused unread, whatever else is asked for, just as a mode that there is not.
        mode = NO_MODE;
    } else if bits != 0 && mask != 0 {
        for place in 0..bits.div_ceil(64) {
            let Some(word) = read_word(tid, mask.wrapping_add(8 * place)) else {
                return Request::NotModelled("mbind with a mask that cannot be read");
            };
            let word = word & low_bits(bits - 64 * place);
            match (place, word) {
                (0, word) => nodes = word,
                (_, 0) => {}
                _ => return Request::NotModelled("mbind to more than 64 nodes"),
            }
        }
    }
    let call = Call::Mbind {
        addr,
        len,
        mode,
        nodes,
        allowed: 0,
        flags: flags & 0xffff_ffff,
    };
    Request::Memory(call, None)
}

/// The lowest `count` bits of a word.
pub(crate) const fn low_bits(count: u64) -> u64 {
    if count >= 64 {
        u64::MAX
    } else {
        (1 << count) - 1
    }
}

/// `UFFDIO_REGISTER` and `UFFDIO_UNREGISTER`: a range, then the mode. `UFFDIO_MOVE`: to where, from
/// where, and how much.
fn userfault_ioctl(tid: Tid, [fd, operation, argument]: [u64; 3]) -> Request {
    let word = |index: u64| read_word(tid, argument.wrapping_add(8 * index));
    if operation as u32 == seccomp::UFFDIO_MOVE {
        let (Some(from), Some(len)) = (word(1), word(2)) else {
            // Refused.
            return Request::Harmless;
        };
        return Request::MovesPages((from, from.saturating_add(len)));
    }
    let (Some(start), Some(len)) = (word(0), word(1)) else {
        return Request::NotModelled("ioctl(UFFDIO_REGISTER) of what cannot be read");
    };
    let is_registered = operation as u32 == seccomp::UFFDIO_REGISTER;
    let call = if is_registered {
        let Some(mode) = word(2) else {
            return Request::NotModelled("ioctl(UFFDIO_REGISTER) of what cannot be read");
        };
        Call::UffdRegister {
            start,
            len,
            mode,
            watcher: None,
        }
    } else {
        Call::UffdUnregister {
            start,
            len,
            watcher: None,
        }
    };
    Request::Memory(call, Some(fd as i32))
}

/// Whether a call makes a task and waits until that has ended or runs another program.
pub(crate) fn waits_for_child(tid: Tid, call: &Registers) -> bool {
    let first = call.arguments[0];
    let flags = match call.number.cast_signed() {
        libc::SYS_vfork => return true,
        libc::SYS_clone => first,
        libc::SYS_clone3 => read_word(tid, first).unwrap_or(0),
        _ => return false,
    };
    flags & libc::CLONE_VFORK as u64 != 0
}

/// Whether a call runs another program.
pub(crate) const fn is_exec(call: &Registers) -> bool {
    matches!(
        call.number.cast_signed(),
        libc::SYS_execve | libc::SYS_execveat
    )
}

fn clone_request(flags: u64) -> Request {
    if flags & libc::CLONE_UNTRACED as u64 != 0 {
        // The child gets the filter, but nobody who lets its calls through.
        return Request::NotModelled("clone with CLONE_UNTRACED, whose child cannot map memory");
    }
    if flags & libc::CLONE_VM as u64 == 0 {
        return Request::Fork;
    }
    let thread = if flags & libc::CLONE_THREAD as u64 != 0 {
        Sharing::Thread
    } else {
        Sharing::Process
    };
    Request::Share { thread }
}

fn prctl(tid: Tid, [option, a, b, c, d]: [u64; 5], names: AnonymousNames) -> Request {
    // An `int`.
    let option = option as u32;
    match (option, a) {
        (abi::PR_SET_VMA, _) if names == AnonymousNames::Absent => {
            return Request::Memory(Call::SetVmaName { addr: b, len: c }, None);
        }
        (abi::PR_SET_VMA, abi::PR_SET_VMA_ANON_NAME) => return named(tid, [b, c, d]),
        (abi::PR_SET_MM, abi::PR_SET_MM_MAP) => return program_addresses(tid, [b, c, d]),
        // They concern no mapping.
        (
            abi::PR_SET_MM,
            abi::PR_SET_MM_MAP_SIZE | abi::PR_SET_MM_AUXV | abi::PR_SET_MM_EXE_FILE,
        ) => return Request::Harmless,
        _ => {}
    }
    let args = [a, b, c, d];
    Request::Memory(Call::Process(ProcessCall::Prctl { option, args }), None)
}

/// `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, addr, len, name)`.
fn named(tid: Tid, [addr, len, name]: [u64; 3]) -> Request {
    let mut name_read = None;
    if name != 0 {
        let Some(text) = read_text(tid, name) else {
            // Refused.
            return Request::Harmless;
        };
        name_read = Some(Name::new(&text));
    }
    let name = name_read;
    Request::Memory(Call::Process(ProcessCall::Name { addr, len, name }), None)
}

/// `process_madvise(pidfd, vector, count, advice, flags)`.
///
/// What a process may advise another changes no mapping.
fn process_madvise(tid: Tid, [pidfd, vector, count, advice, flags]: [u64; 5]) -> Request {
    let is_refused = flags as u32 != 0 || count > 1024 || !is_own(tid, pidfd as i32);
    // By what the pages are, as `madvise`.
    if is_refused || advice as i32 == libc::MADV_COLLAPSE {
        return Request::Harmless;
    }
    let mut bytes = vec![0; 16 * count as usize];
    if read(tid, vector, &mut bytes).is_none() {
        return Request::Harmless;
    }
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    let range = |bytes: &[u8]| AdvisedRange {
        addr: word(&bytes[..8]),
        len: word(&bytes[8..]),
    };
    let list: Vec<AdvisedRange> = bytes.chunks_exact(16).map(range).collect();
    let Some(ranges) = Ranges::new(&list) else {
        return Request::NotModelled("process_madvise of more than 8 ranges");
    };
    let advice = advice as i32;
    let call = ProcessCall::Advise { ranges, advice };
    Request::Memory(Call::Process(call), None)
}

/// Whether a pidfd of a thread stands for a task that has the same address space.
fn is_own(tid: Tid, pidfd: i32) -> bool {
    const SELF_THREAD: i32 = -10_000;
    const SELF_PROCESS: i32 = -10_001;
    if matches!(pidfd, SELF_THREAD | SELF_PROCESS) {
        return true;
    }
    let Ok(text) = std::fs::read_to_string(format!("/proc/{tid}/fdinfo/{pidfd}")) else {
        return false;
    };
    let named = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    let Some(other) = named.and_then(|named| named.trim().parse().ok()) else {
        return false;
    };
    // LINUX: that counts, not the process: one that was made with `CLONE_VM` advises its maker.
    kernel::same_memory(tid, other)
        .unwrap_or_else(|_| Path::new(&format!("/proc/{tid}/task/{other}")).exists())
}

/// `prctl(PR_SET_MM, PR_SET_MM_MAP, map, size, 0)`.
fn program_addresses(tid: Tid, [map, size, unused]: [u64; 3]) -> Request {
    const SIZE: usize = 8 * ADDRESSES + 8 + 4 + 4;
    let mut bytes = [0; SIZE];
    let is_refused = unused != 0 || size != SIZE as u64 || read(tid, map, &mut bytes).is_none();
    if is_refused {
        return Request::Harmless;
    }
    let mut words = bytes.chunks_exact(8).map(|chunk| {
        let word: [u8; 8] = chunk.try_into().unwrap_or_default();
        u64::from_le_bytes(word)
    });
    let all: [u64; ADDRESSES] = std::array::from_fn(|_| words.next().unwrap_or(0));
    // The place of an auxiliary vector, its size, and a descriptor: no vector and no file.
    let [_, extras] = [words.next().unwrap_or(0), words.next().unwrap_or(0)];
    let (auxv_size, file) = (extras as u32, (extras >> 32) as i32);
    if auxv_size != 0 || file != -1 {
        return Request::NotModelled("prctl(PR_SET_MM_MAP, with a file or an auxiliary vector)");
    }
    Request::Memory(Call::Process(ProcessCall::Addresses(all)), None)
}

fn name_of(number: c_long) -> &'static str {
    match number {
        libc::SYS_io_setup => "io_setup",
        libc::SYS_io_destroy => "io_destroy",
        libc::SYS_arch_prctl => "arch_prctl",
        seccomp::SYS_MAP_SHADOW_STACK => "map_shadow_stack",
        _ => "another call",
    }
}

/// Reads eight bytes of a stopped thread's memory.
fn read_word(tid: Tid, addr: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    read(tid, addr, &mut bytes)?;
    Some(u64::from_le_bytes(bytes))
}

/// Reads as much of a text as a name may have, and one byte more; `None` if it cannot be read up
/// to its end.
fn read_text(tid: Tid, addr: u64) -> Option<Vec<u8>> {
    const PAGE: u64 = 4096;
    let mut text = Vec::new();
    let mut at = addr;
    while text.len() < NAME && !text.contains(&0) {
        let in_page = PAGE - at % PAGE;
        let mut part = vec![0; in_page.min((NAME - text.len()) as u64) as usize];
        read(tid, at, &mut part)?;
        at = at.checked_add(part.len() as u64)?;
        text.extend(part);
    }
    Some(text)
}

/// Reads a stopped thread's memory; `None` if some of it cannot be read.
fn read(tid: Tid, addr: u64, bytes: &mut [u8]) -> Option<()> {
    let memory = File::open(format!("/proc/{tid}/mem")).ok()?;
    memory.read_exact_at(bytes, addr).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(number: c_long, arguments: [u64; 6]) -> Request {
        let regs = Registers {
            number: number as u64,
            arguments,
        };
        request(0, &regs, AnonymousNames::Absent)
    }

    #[test]
    fn clone_flags_decide_between_copy_and_share() {
        let share = |thread| Request::Share { thread };
        assert_eq!(
            decoded(libc::SYS_clone, [0x11, 0, 0, 0, 0, 0]),
            Request::Fork
        );
        assert_eq!(decoded(libc::SYS_vfork, [0; 6]), share(Sharing::Process));
        let thread = (libc::CLONE_VM | libc::CLONE_THREAD) as u64;
        assert_eq!(
            decoded(libc::SYS_clone, [thread, 0, 0, 0, 0, 0]),
            share(Sharing::Thread)
        );
    }

    #[test]
    fn what_keys_decide_is_not_modelled() {
        let keyed = |key| decoded(libc::SYS_pkey_mprotect, [0, 4096, 1, key, 0, 0]);
        let refused = Request::NotModelled("pkey_mprotect(with a key)");
        assert_eq!(keyed(0), refused);
        assert_eq!(keyed(1), refused);
        assert!(matches!(
            keyed(u64::MAX),
            Request::Memory(Call::PkeyMprotect { pkey: -1, .. }, None)
        ));
    }

    #[test]
    fn a_collapse_changes_no_mapping() {
        let collapse = libc::MADV_COLLAPSE as u64;
        let call = decoded(libc::SYS_madvise, [0, 4096, collapse, 0, 0, 0]);
        assert_eq!(call, Request::Harmless);
    }

    #[test]
    fn advice_to_oneself_is_followed_and_what_is_refused_is_not() {
        let ranges = [AdvisedRange { addr: 4096, len: 5 }; 9];
        let at = (&raw const ranges).expose_provenance() as u64;
        let us = std::process::id() as Tid;
        let call = |pidfd: i32, count, flags| {
            let pidfd = i64::from(pidfd).cast_unsigned();
            process_madvise(us, [pidfd, at, count, 4, flags])
        };
        let followed = Request::Memory(
            Call::Process(ProcessCall::Advise {
                ranges: Ranges::new(&ranges[..8]).unwrap(),
                advice: 4,
            }),
            None,
        );
        assert_eq!(call(-10_000, 8, 0), followed);
        assert_eq!(call(-10_001, 8, 0), followed);
        assert!(matches!(call(-10_000, 9, 0), Request::NotModelled(_)));
        for refused in [call(-10_000, 8, 1), call(-1, 8, 0), call(-10_000, 1025, 0)] {
            assert_eq!(refused, Request::Harmless);
        }
    }

    #[test]
    fn a_name_is_read_up_to_its_end_or_one_byte_too_many() {
        let us = std::process::id() as Tid;
        let at = |text: &[u8]| text.as_ptr().expose_provenance() as u64;
        let mut text = [b'-'; 100];
        text[..6].copy_from_slice(b"arena\0");
        assert_eq!(
            Name::new(&read_text(us, at(&text)).unwrap()),
            Name::new(b"arena")
        );
        let long = [b'x'; 100];
        assert_eq!(read_text(us, at(&long)).unwrap(), &long[..NAME]);
        assert_eq!(read_text(us, 8), None);
    }

    #[test]
    fn a_file_mapping_names_its_descriptor_and_an_anonymous_one_does_not() {
        let Request::Memory(_, fd) = decoded(libc::SYS_mmap, [0, 4096, 1, 2, 7, 0]) else {
            panic!("mmap is a memory call");
        };
        assert_eq!(fd, Some(7));
        let Request::Memory(_, fd) = decoded(libc::SYS_mmap, [0, 4096, 1, 0x22, u64::MAX, 0])
        else {
            panic!("mmap is a memory call");
        };
        assert_eq!(fd, None);
    }
}
