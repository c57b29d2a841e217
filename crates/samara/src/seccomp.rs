//! The seccomp filter: which system calls stop the traced program, as a classic BPF program.
//!
//! Everything else runs at full speed. A small assembler with named labels keeps the jump
//! offsets out of sight; the program is data here and installed by [`crate::ptrace`].

use std::sync::LazyLock;

use libc::{c_long, sock_filter};

/// The tag a stop carries when a call came through a foreign entry (32-bit or x32).
pub(crate) const FOREIGN: u32 = 1;
/// The tag of an ordinary traced call.
pub(crate) const NATIVE: u32 = 2;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const X32_BIT: u32 = 0x4000_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_TRACE: u32 = 0x7ff0_0000;

/// Byte offsets in `struct seccomp_data`.
const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const fn offset_arg_low(index: u32) -> u32 {
    16 + 8 * index
}

/// Calls that always stop.
const ALWAYS: &[c_long] = &[
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_pkey_mprotect,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_process_madvise,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_mlockall,
    libc::SYS_munlockall,
    libc::SYS_mseal,
    libc::SYS_remap_file_pages,
    libc::SYS_shmat,
    libc::SYS_shmdt,
    libc::SYS_mbind,
    libc::SYS_set_mempolicy_home_node,
    libc::SYS_io_setup,
    libc::SYS_io_destroy,
    libc::SYS_io_uring_setup,
    libc::SYS_personality,
    libc::SYS_userfaultfd,
    libc::SYS_setrlimit,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_execve,
    libc::SYS_execveat,
    SYS_MAP_SHADOW_STACK,
];

/// `map_shadow_stack`, which not every libc names on x86-64.
pub(crate) const SYS_MAP_SHADOW_STACK: c_long = 453;

/// Operations of `prctl` that touch the address space.
pub(crate) const PRCTL_MEMORY: &[u32] = &[
    libc::PR_SET_VMA as u32,
    libc::PR_SET_MM as u32,
    maple_mm::abi::PR_SET_THP_DISABLE,
    maple_mm::abi::PR_SET_MDWE,
    maple_mm::abi::PR_SET_MEMORY_MERGE,
];

/// `UFFDIO_REGISTER` and `UFFDIO_UNREGISTER`: they set VMA flags, splitting and merging. What takes
/// written pages away. And what makes a userfaultfd from `/dev/userfaultfd`.
pub(crate) const USERFAULT_IOCTLS: &[u32] = &[
    UFFDIO_REGISTER,
    UFFDIO_UNREGISTER,
    UFFDIO_MOVE,
    USERFAULTFD_IOC_NEW,
];
pub(crate) const UFFDIO_MOVE: u32 = 0xc028_aa05;
pub(crate) const USERFAULTFD_IOC_NEW: u32 = 0xaa00;
pub(crate) const UFFDIO_REGISTER: u32 = 0xc020_aa00;
pub(crate) const UFFDIO_UNREGISTER: u32 = 0x8010_aa01;

/// The operation of `seccomp` that installs a filter, which may answer calls before ours sees them.
pub(crate) const NEW_FILTER: &[u32] = &[libc::SECCOMP_SET_MODE_FILTER];

/// `arch_prctl` operations that map something: the vdso variants and shadow stacks.
pub(crate) const ARCH_PRCTL_MEMORY: &[u32] = &[0x2001, 0x2002, 0x2003, 0x5001, 0x5002];

/// Where a jump goes: over the next few instructions, or to one of the ends of the program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    /// Past this many instructions; 0 is the next one.
    Over(u8),
    Allow,
    Trace,
    Foreign,
}

const NEXT: Label = Label::Over(0);

enum Step {
    Load(u32),
    JumpEqual(u32, Label, Label),
    JumpAtLeast(u32, Label, Label),
}

/// The filter: the same on every machine, so tests can run it.
pub(crate) fn program() -> Vec<sock_filter> {
    let mut steps = vec![
        Step::Load(OFFSET_ARCH),
        Step::JumpEqual(AUDIT_ARCH_X86_64, NEXT, Label::Foreign),
        Step::Load(OFFSET_NR),
        Step::JumpAtLeast(X32_BIT, Label::Foreign, NEXT),
    ];
    steps.extend(
        ALWAYS
            .iter()
            .map(|&nr| Step::JumpEqual(nr as u32, Label::Trace, NEXT)),
    );
    when_argument(&mut steps, (libc::SYS_prctl, 0), PRCTL_MEMORY);
    when_argument(&mut steps, (libc::SYS_ioctl, 1), USERFAULT_IOCTLS);
    when_argument(&mut steps, (libc::SYS_arch_prctl, 0), ARCH_PRCTL_MEMORY);
    when_argument(&mut steps, (libc::SYS_seccomp, 0), NEW_FILTER);
    when_new_limit(&mut steps);
    assemble(&steps)
}

/// Traces a call when the low half of one of its arguments is one of `values`. The accumulator
/// holds the call's number before the block; inside, it never comes back to it.
fn when_argument(steps: &mut Vec<Step>, (nr, index): (c_long, u32), values: &[u32]) {
    let block = u8::try_from(values.len() + 1).unwrap_or(u8::MAX);
    steps.push(Step::JumpEqual(nr as u32, NEXT, Label::Over(block)));
    steps.push(Step::Load(offset_arg_low(index)));
    for (at, &value) in values.iter().enumerate() {
        let otherwise = if at + 1 == values.len() {
            Label::Allow
        } else {
            NEXT
        };
        steps.push(Step::JumpEqual(value, Label::Trace, otherwise));
    }
}

/// `prlimit64` stops only when it sets a limit: its third argument is a pointer, or null.
fn when_new_limit(steps: &mut Vec<Step>) {
    steps.push(Step::JumpEqual(
        libc::SYS_prlimit64 as u32,
        NEXT,
        Label::Allow,
    ));
    steps.push(Step::Load(offset_arg_low(2)));
    steps.push(Step::JumpEqual(0, NEXT, Label::Trace));
    steps.push(Step::Load(offset_arg_low(2) + 4));
    steps.push(Step::JumpEqual(0, Label::Allow, Label::Trace));
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// Turns the steps into instructions, followed by the three ends.
fn assemble(steps: &[Step]) -> Vec<sock_filter> {
    let end = steps.len();
    // An offset counts from the instruction after the jump. The program is far shorter than the
    // 255 instructions a jump spans; the tests would see a wrong one.
    let offset = |at: usize, label: Label| match label {
        Label::Over(count) => count,
        Label::Allow => u8::try_from(end - at - 1).unwrap_or(u8::MAX),
        Label::Trace => u8::try_from(end + 1 - at - 1).unwrap_or(u8::MAX),
        Label::Foreign => u8::try_from(end + 2 - at - 1).unwrap_or(u8::MAX),
    };
    let instruction = |code: u32, jt, jf, k| sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut program: Vec<sock_filter> = steps
        .iter()
        .enumerate()
        .map(|(at, step)| match *step {
            Step::Load(from) => instruction(LOAD, 0, 0, from),
            Step::JumpEqual(k, yes, no) => instruction(EQUAL, offset(at, yes), offset(at, no), k),
            Step::JumpAtLeast(k, yes, no) => {
                instruction(AT_LEAST, offset(at, yes), offset(at, no), k)
            }
        })
        .collect();
    program.push(instruction(RETURN, 0, 0, RET_ALLOW));
    program.push(instruction(RETURN, 0, 0, RET_TRACE | NATIVE));
    program.push(instruction(RETURN, 0, 0, RET_TRACE | FOREIGN));
    program
}

/// What the filter says of a call, where the kernel does not run it: the tag, if it stops.
pub(crate) fn tag(arch: u32, nr: u64, args: &[u64; 6]) -> Option<u32> {
    static PROGRAM: LazyLock<Vec<sock_filter>> = LazyLock::new(program);
    let verdict = run(&PROGRAM, &data(arch, nr as u32, args));
    (verdict != RET_ALLOW).then_some(verdict & !RET_TRACE)
}

/// Whether a call through another entry than ours may make a task: `fork`, `clone`, `vfork`, `clone3`
/// by their numbers in 32-bit code and in x32 code.
pub(crate) const fn may_make_task(number: u64) -> bool {
    const X32: u64 = X32_BIT as u64;
    if number & X32 != 0 {
        return matches!(number ^ X32, 56..=58 | 435);
    }
    matches!(number, 2 | 120 | 190 | 435)
}

/// A `struct seccomp_data`; no step of ours looks at the address of the call.
fn data(arch: u32, nr: u32, args: &[u64; 6]) -> [u8; 64] {
    let mut memory = [0; 64];
    memory[..4].copy_from_slice(&nr.to_le_bytes());
    memory[4..8].copy_from_slice(&arch.to_le_bytes());
    for (place, arg) in memory[16..].chunks_exact_mut(8).zip(args) {
        place.copy_from_slice(&arg.to_le_bytes());
    }
    memory
}

/// Runs a filter of [`assemble`] as the kernel would. It ends: jumps lead forward.
fn run(program: &[sock_filter], memory: &[u8; 64]) -> u32 {
    let mut accumulator = 0;
    let mut at = 0;
    while let Some(step) = program.get(at) {
        at += 1;
        at += match u32::from(step.code) {
            LOAD => {
                let from = step.k as usize;
                let word = memory
                    .get(from..from + 4)
                    .and_then(|word| word.try_into().ok());
                accumulator = word.map_or(0, u32::from_le_bytes);
                0
            }
            EQUAL if accumulator == step.k => step.jt.into(),
            AT_LEAST if accumulator >= step.k => step.jt.into(),
            EQUAL | AT_LEAST => usize::from(step.jf),
            _ => return step.k,
        };
    }
    RET_ALLOW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(arch: u32, nr: i64, args: [u64; 6]) -> u32 {
        run(&program(), &data(arch, nr as u32, &args))
    }

    fn native(nr: i64, args: [u64; 6]) -> u32 {
        verdict(AUDIT_ARCH_X86_64, nr, args)
    }

    #[test]
    fn memory_calls_stop_and_others_do_not() {
        for &nr in ALWAYS {
            assert_eq!(native(nr, [0; 6]), RET_TRACE | NATIVE, "call {nr}");
        }
        for nr in [
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_futex,
            libc::SYS_exit_group,
            999,
        ] {
            assert_eq!(native(nr, [0xaa00; 6]), RET_ALLOW, "call {nr}");
        }
    }

    #[test]
    fn arguments_decide_where_only_some_operations_matter() {
        let first = |value| [value, 0, 0, 0, 0, 0];
        let second = |value| [0, value, 0, 0, 0, 0];
        let third = |value| [0, 0, value, 0, 0, 0];
        assert_eq!(
            native(libc::SYS_prctl, first(libc::PR_SET_NAME as u64)),
            RET_ALLOW
        );
        assert_eq!(native(libc::SYS_ioctl, second(0x5401)), RET_ALLOW);
        assert_eq!(native(libc::SYS_arch_prctl, first(0x1002)), RET_ALLOW);
        assert_eq!(native(libc::SYS_prlimit64, third(0)), RET_ALLOW);
        for &op in PRCTL_MEMORY {
            assert_eq!(
                native(libc::SYS_prctl, first(op.into())),
                RET_TRACE | NATIVE
            );
        }
        for &op in USERFAULT_IOCTLS {
            assert_eq!(
                native(libc::SYS_ioctl, second(op.into())),
                RET_TRACE | NATIVE
            );
        }
        assert_eq!(native(libc::SYS_seccomp, first(0)), RET_ALLOW);
        assert_eq!(native(libc::SYS_seccomp, first(1)), RET_TRACE | NATIVE);
        for &op in ARCH_PRCTL_MEMORY {
            assert_eq!(
                native(libc::SYS_arch_prctl, first(op.into())),
                RET_TRACE | NATIVE
            );
        }
        assert_eq!(
            native(libc::SYS_prlimit64, third(1 << 32)),
            RET_TRACE | NATIVE
        );
        assert_eq!(native(libc::SYS_prlimit64, third(1)), RET_TRACE | NATIVE);
    }

    #[test]
    fn tasks_are_made_under_other_numbers_through_other_entries() {
        let x32 = |nr: i64| u64::from(X32_BIT) | nr.cast_unsigned();
        for nr in [2, 120, 190, 435, x32(libc::SYS_fork), x32(libc::SYS_clone)] {
            assert!(may_make_task(nr), "call {nr:#x}");
        }
        for nr in [
            libc::SYS_fork.cast_unsigned(),
            x32(2),
            x32(libc::SYS_execve),
        ] {
            assert!(!may_make_task(nr), "call {nr:#x}");
        }
    }

    #[test]
    fn foreign_entries_always_stop() {
        assert_eq!(verdict(0x4000_0003, 4, [0; 6]), RET_TRACE | FOREIGN);
        assert_eq!(native(i64::from(X32_BIT), [0; 6]), RET_TRACE | FOREIGN);
    }
}
