//! How the running kernel behaves: asked by a scratch child that makes the calls, and read from
//! outside what `smaps` shows of them. A cellar: the child makes raw calls between fork and exit.

#![expect(unsafe_code, reason = "a scratch child makes raw memory calls")]

use std::os::fd::{AsRawFd, OwnedFd};

use libc::c_long;
use maple_mm::abi::{
    MADV_GUARD_INSTALL, MADV_HUGEPAGE, MADV_HWPOISON, MADV_MERGEABLE, MADV_NORMAL, MAP_ANONYMOUS,
    MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PR_SET_MEMORY_MERGE, PR_SET_THP_DISABLE, PR_SET_VMA,
    PROT_READ, PROT_WRITE,
};
use maple_mm::{
    AnonMergeRule, Configured, HugePlacement, LinuxProfile, LinuxVersion, MergeAnyRule,
    MremapGeneration,
};
use nix::unistd::ForkResult;

use crate::procfs::{self, SmapsEntry};
use crate::ptrace::Tid;

const PAGE: u64 = 4096;
const RW: u64 = PROT_READ | PROT_WRITE;
const ANON: u64 = MAP_PRIVATE | MAP_ANONYMOUS;
/// Where the child maps; far from anything that a program has.
const SCRATCH: u64 = 0x1000_0000_0000;

/// The places of the scratch mappings, each with room around it.
const fn place(index: u64) -> u64 {
    SCRATCH + index * (64 << 20)
}

const PLAIN: u64 = place(0);
const GUARDED: u64 = place(1);
const WRITTEN: u64 = place(2);
const MOVED: u64 = place(3);
const MOVED_TO: u64 = place(4);
const MERGED: u64 = place(5);
const SHARED: u64 = place(6);

/// What the calls of the child returned, negative for an error number.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Answers {
    names: i64,
    huge_page: i64,
    mergeable: i64,
    guard: i64,
    file_guard: i64,
    seal: i64,
    poison: i64,
    exception: i64,
    own_advice: i64,
    moved: i64,
    memory_merge: i64,
    lowest_hint: i64,
    huge_places: [i64; 2],
}

/// What was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probed {
    pub(crate) profile: LinuxProfile,
    /// The lowest address that a hint is given.
    pub(crate) lowest_hint: Option<u64>,
}

/// Asks the kernel, whose version is `version`. Where it cannot be asked, the version counts.
pub(crate) fn probe(version: LinuxVersion) -> Probed {
    let base = LinuxProfile::of_version(version);
    let unasked = Probed {
        profile: base,
        lowest_hint: None,
    };
    ask().map_or(unasked, |(answers, smaps)| Probed {
        profile: profile(base, &answers, &smaps),
        lowest_hint: u64::try_from(answers.lowest_hint)
            .ok()
            .filter(|addr| *addr < 16 << 20),
    })
}

/// A note on a version that no profile was made from.
pub(crate) fn note(version: LinuxVersion) -> Option<String> {
    let (major, minor) = version;
    let [oldest, newest] = [LinuxProfile::ALL[0].0, LinuxProfile::NEWEST];
    let (how, nearest) = if version > newest {
        ("newer than the newest", newest)
    } else if version < oldest {
        ("older than the oldest", oldest)
    } else {
        return None;
    };
    Some(format!(
        "Linux {major}.{minor} is {how} profile, {}.{}, which is used for what the kernel was \
         not asked",
        nearest.0, nearest.1
    ))
}

const fn configured(is_there: bool) -> Configured {
    if is_there {
        Configured::Yes
    } else {
        Configured::No
    }
}

/// `base` with what the answers say.
fn profile(base: LinuxProfile, answers: &Answers, smaps: &[SmapsEntry]) -> LinuxProfile {
    let at = |addr: u64| smaps.iter().find(|entry| entry.line.start == addr);
    let has = |addr: u64, flag: &str| {
        at(addr).is_some_and(|entry| entry.flags.split(' ').any(|word| word == flag))
    };
    let is_one = |addr: u64| at(addr).is_some_and(|entry| entry.line.end == addr + 2 * PAGE);
    let is_huge_aligned = |addr: i64| addr > 0 && addr % (2 << 20) == 0;
    LinuxProfile {
        anon_merge: if is_one(WRITTEN) {
            AnonMergeRule::EitherSide
        } else {
            AnonMergeRule::NeighbourMustBeWritten
        },
        guard_pages: configured(answers.guard == 0),
        file_guards: configured(answers.file_guard == 0),
        guard_flag: configured(has(GUARDED, "gu")),
        huge_placement: if answers.huge_places.into_iter().all(is_huge_aligned) {
            HugePlacement::WholeHugePages
        } else {
            HugePlacement::Never
        },
        mremap: if answers.moved > 0 {
            MremapGeneration::MultipleMappings
        } else {
            MremapGeneration::SingleMapping
        },
        merge_any: match answers.memory_merge {
            0 if is_one(MERGED) => MergeAnyRule::BeforeMerge,
            0 => MergeAnyRule::AfterMerge,
            // Without the option nobody can tell.
            _ => base.merge_any,
        },
        own_process_advice: configured(answers.own_advice > 0),
        huge_page_exception: configured(answers.exception == 0),
        transparent_huge_pages: configured(answers.huge_page == 0),
        ksm: configured(answers.mergeable == 0),
        soft_dirty: configured(has(PLAIN, "sd")),
        anon_vma_name: configured(answers.names == 0),
        mseal: configured(answers.seal != -i64::from(libc::ENOSYS)),
        memory_failure: configured(answers.poison == 0),
        ..base
    }
}

/// Lets a child make the calls: what they returned, and what its `smaps` says then.
fn ask() -> Option<(Answers, Vec<SmapsEntry>)> {
    let (answers_out, answers_in) = nix::unistd::pipe().ok()?;
    let (end_out, end_in) = nix::unistd::pipe().ok()?;
    // SAFETY: until it exits, the child makes raw calls only, and allocates nothing.
    let child = match unsafe { nix::unistd::fork() }.ok()? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => answer(&answers_in, [&end_out, &end_in]),
    };
    drop((answers_in, end_out));
    let answers = read_answers(&answers_out);
    let smaps = procfs::read(child.as_raw() as Tid, "smaps");
    // The child waits for this.
    drop(end_in);
    let _ = nix::sys::wait::waitpid(child, None);
    let smaps = procfs::parse_smaps(&smaps.ok()?).ok()?;
    Some((answers?, smaps))
}

const WORDS: usize = size_of::<Answers>() / 8;

fn read_answers(from: &OwnedFd) -> Option<Answers> {
    let mut bytes = [0; 8 * WORDS];
    let count = nix::unistd::read(from, &mut bytes).ok()?;
    if count != bytes.len() {
        return None;
    }
    let mut words = bytes.chunks_exact(8).map(|chunk| {
        let word: [u8; 8] = chunk.try_into().unwrap_or_default();
        i64::from_le_bytes(word)
    });
    let mut next = || words.next().unwrap_or(-1);
    Some(Answers {
        names: next(),
        huge_page: next(),
        mergeable: next(),
        guard: next(),
        file_guard: next(),
        seal: next(),
        poison: next(),
        exception: next(),
        own_advice: next(),
        moved: next(),
        memory_merge: next(),
        lowest_hint: next(),
        huge_places: [next(), next()],
    })
}

/// The child: asks, tells, and waits until it was looked at.
fn answer(to: &OwnedFd, [end_out, end_in]: [&OwnedFd; 2]) -> ! {
    let answers = make_calls();
    let at = (&raw const answers).expose_provenance() as u64;
    let fd = |fd: &OwnedFd| i64::from(fd.as_raw_fd()).cast_unsigned();
    call(
        libc::SYS_write,
        [fd(to), at, size_of::<Answers>() as u64, 0, 0, 0],
    );
    call(libc::SYS_close, [fd(end_in), 0, 0, 0, 0, 0]);
    let mut byte = 0_u8;
    let at = (&raw mut byte).expose_provenance() as u64;
    call(libc::SYS_read, [fd(end_out), at, 1, 0, 0, 0]);
    // SAFETY: ends the child at once; nothing is cleaned up twice.
    unsafe { libc::_exit(0) }
}

/// A raw call: its result, negative for an error number.
fn call(number: c_long, [a, b, c, d, e, f]: [u64; 6]) -> i64 {
    // SAFETY: the callers pass numbers, places of their own that outlive the call, and addresses
    // of the scratch area, where nothing else lies.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 {
        -i64::from(nix::errno::Errno::last_raw())
    } else {
        result
    }
}

fn map(addr: u64, pages: u64, prot: u64) -> i64 {
    let args = [addr, pages * PAGE, prot, ANON | MAP_FIXED, u64::MAX, 0];
    call(libc::SYS_mmap, args)
}

fn advise(addr: u64, advice: i32) -> i64 {
    let advice = i64::from(advice).cast_unsigned();
    call(libc::SYS_madvise, [addr, PAGE, advice, 0, 0, 0])
}

fn protect(addr: u64, prot: u64) -> i64 {
    call(libc::SYS_mprotect, [addr, PAGE, prot, 0, 0, 0])
}

fn write_to(addr: u64) {
    let pointer: *mut u8 = std::ptr::with_exposed_provenance_mut(addr as usize);
    // SAFETY: the caller has just mapped the page for writing.
    unsafe { pointer.write_volatile(1) };
}

fn prctl(option: u32, [a, b, c]: [u64; 3]) -> i64 {
    call(libc::SYS_prctl, [option.into(), a, b, c, 0, 0])
}

/// Makes all calls. Nothing depends on another, but the last two options change what follows.
fn make_calls() -> Answers {
    map(PLAIN, 2, RW);
    let huge = |len: u64| call(libc::SYS_mmap, [0, len, PROT_READ, ANON, u64::MAX, 0]);
    Answers {
        names: prctl(PR_SET_VMA, [0, 0, 0]),
        huge_page: advise(PLAIN + PAGE, MADV_HUGEPAGE),
        mergeable: advise(PLAIN + PAGE, MADV_MERGEABLE),
        guard: install_guard(),
        file_guard: install_shared_guard(),
        seal: call(libc::SYS_mseal, [PLAIN, 0, 0, 0, 0, 0]),
        // Of nothing: whoever may do it takes no page out of use.
        poison: call(libc::SYS_madvise, [PLAIN, 0, MADV_HWPOISON as u64, 0, 0, 0]),
        // A page between them moves the second off its boundary.
        huge_places: [huge(2 << 20), {
            huge(PAGE);
            huge(2 << 20)
        }],
        lowest_hint: call(libc::SYS_mmap, [PAGE, PAGE, PROT_READ, ANON, u64::MAX, 0]),
        own_advice: advise_itself(),
        moved: move_two(),
        exception: join_written(),
        memory_merge: join_marked(),
    }
}

fn install_guard() -> i64 {
    map(GUARDED, 1, RW);
    advise(GUARDED, MADV_GUARD_INSTALL)
}

/// In shared memory, which is a file's.
fn install_shared_guard() -> i64 {
    let flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED;
    call(libc::SYS_mmap, [SHARED, PAGE, RW, flags, u64::MAX, 0]);
    advise(SHARED, MADV_GUARD_INSTALL)
}

/// Gives advice that no process may give another.
fn advise_itself() -> i64 {
    let us = call(libc::SYS_getpid, [0; 6]).cast_unsigned();
    let pidfd = call(libc::SYS_pidfd_open, [us, 0, 0, 0, 0, 0]);
    let range = [PLAIN, PAGE];
    let at = range.as_ptr().expose_provenance() as u64;
    let advice = MADV_NORMAL.unsigned_abs().into();
    let args = [pidfd.cast_unsigned(), at, 1, advice, 0, 0];
    call(libc::SYS_process_madvise, args)
}

/// Moves two mappings in one call.
fn move_two() -> i64 {
    const MAY_MOVE_FIXED: u64 = 3;
    map(MOVED, 2, RW);
    protect(MOVED, PROT_READ);
    let len = 2 * PAGE;
    call(
        libc::SYS_mremap,
        [MOVED, len, len, MAY_MOVE_FIXED, MOVED_TO, 0],
    )
}

/// Makes a written page what its unwritten neighbour is. Then asks for the exception.
fn join_written() -> i64 {
    map(WRITTEN, 2, RW);
    write_to(WRITTEN + PAGE);
    protect(WRITTEN + PAGE, PROT_READ);
    protect(WRITTEN + PAGE, RW);
    prctl(PR_SET_THP_DISABLE, [1, 2, 0])
}

/// Maps a page beside a marked one.
fn join_marked() -> i64 {
    let asked = prctl(PR_SET_MEMORY_MERGE, [1, 0, 0]);
    map(MERGED, 1, RW);
    map(MERGED + PAGE, 1, RW);
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_answers_fits_its_version() {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        if !release.starts_with("6.18.") {
            return;
        }
        let probed = probe((6, 18));
        let by_version = LinuxProfile::V6_18;
        let configured = LinuxProfile {
            transparent_huge_pages: probed.profile.transparent_huge_pages,
            ksm: probed.profile.ksm,
            soft_dirty: probed.profile.soft_dirty,
            anon_vma_name: probed.profile.anon_vma_name,
            memory_failure: probed.profile.memory_failure,
            huge_placement: probed.profile.huge_placement,
            ..by_version
        };
        assert_eq!(probed.profile, configured);
        assert!(probed.lowest_hint.is_some_and(|addr| addr >= PAGE));
    }

    #[test]
    fn only_versions_outside_the_table_are_noted() {
        assert_eq!(note((6, 12)), None);
        assert_eq!(note((6, 15)), None);
        assert_eq!(note(LinuxProfile::NEWEST), None);
        assert!(
            note((7, 1))
                .unwrap()
                .contains("newer than the newest profile, 6.18")
        );
        assert!(
            note((6, 1))
                .unwrap()
                .contains("older than the oldest profile, 6.12")
        );
    }

    #[test]
    fn answers_of_an_old_kernel_are_those_of_the_oldest_profile() {
        let refused = -i64::from(libc::EINVAL);
        let answers = Answers {
            names: refused,
            guard: refused,
            file_guard: refused,
            moved: refused,
            exception: refused,
            own_advice: refused,
            huge_places: [2 << 20, 8 << 20],
            ..Answers::default()
        };
        let found = profile(LinuxProfile::V6_12, &answers, &[]);
        assert_eq!(found, LinuxProfile::V6_12);
    }
}
