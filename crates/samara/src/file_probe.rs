//! What kind of file it is for its mappings: asked by mapping it here, for a moment. A cellar: raw
//! calls on a range of our own that nothing points into.

#![expect(unsafe_code, reason = "maps a file over reserved addresses")]

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use libc::c_long;
use nix::errno::Errno;

use crate::kernel;

const PAGE: u64 = 4096;
const HUGE_PAGE: u64 = 2 << 20;
/// Reserved, the file's two pages, reserved.
const PAGES: u64 = 4;
const FIXED: i32 = libc::MAP_PRIVATE | libc::MAP_FIXED;

/// What the kernel showed of a file's mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileAnswers {
    /// When two adjacent mappings become one.
    pub(crate) joined: Joined,
    /// Large mappings lie so that huge pages fit.
    pub(crate) is_huge_aligned: bool,
    /// `MAP_SYNC` is refused even where unknown flags are dropped.
    pub(crate) refuses_sync: bool,
    /// The file behind the mapping lies in memory alone.
    pub(crate) is_in_memory: bool,
}

/// When two adjacent mappings of a file become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// They do not: the file system hears of the end of each, or makes them special.
    Never,
    /// When the second is made, but not when they become equal later: their end is an event.
    AtOnce,
    /// Only later: each new mapping gets another file in place of the one that was opened.
    Later,
    /// Whenever they are equal.
    Always,
}

/// Maps the file, and looks.
///
/// # Errors
///
/// Why it cannot be mapped, or what kept us from looking.
pub(crate) fn ask(file: &OwnedFd) -> nix::Result<FileAnswers> {
    let maps = File::open("/proc/self/maps").map_err(|_| Errno::ENOENT)?;
    let range = Range::reserve()?;
    let [_, first, second, _] = range.pages();
    map_page(file, (first, 0), (libc::PROT_NONE, 0))?;
    map_page(file, (second, PAGE), (libc::PROT_NONE, 0))?;
    let end = |addr| {
        let found = kernel::mapping_at(&maps, addr).ok().flatten();
        found.map(|mapping| mapping.end)
    };
    let is_joined_at_once = end(first) == Some(second + PAGE);
    // The change of the second page lets it look for neighbours again.
    for page in [first, second] {
        call(libc::SYS_mprotect, [page, PAGE, 1, 0, 0])?;
    }
    let is_joined_later = end(first) == Some(second + PAGE);
    // Of different lengths, so that both cannot lie so by chance.
    let is_huge_aligned = is_moved_aligned(file, 0, 2 * HUGE_PAGE + PAGE)
        && is_moved_aligned(file, PAGE, 2 * HUGE_PAGE + 3 * PAGE);
    let synced = map_page(file, (first, 0), (libc::PROT_NONE, libc::MAP_SYNC));
    let is_mapped = map_page(file, (first, 0), (libc::PROT_NONE, 0)).is_ok();
    Ok(FileAnswers {
        joined: match (is_joined_at_once, is_joined_later) {
            (false, false) => Joined::Never,
            (true, false) => Joined::AtOnce,
            (false, true) => Joined::Later,
            (true, true) => Joined::Always,
        },
        is_huge_aligned,
        refuses_sync: synced == Err(Errno::EOPNOTSUPP),
        is_in_memory: is_mapped && can_be_watched(first),
    })
}

/// What keeps a file from being mapped, or from being mapped to run; `None` if nothing does.
pub(crate) fn refusal(file: &OwnedFd, protection: i32) -> Option<Errno> {
    let range = Range::reserve().ok()?;
    map_page(file, (range.0, 0), (protection, 0)).err()
}

/// A range of our own.
struct Range(u64);

impl Range {
    fn reserve() -> nix::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        mmap(-1, (0, PAGES * PAGE, 0), (libc::PROT_NONE, flags)).map(Self)
    }

    const fn pages(&self) -> [u64; 4] {
        let at = self.0;
        [at, at + PAGE, at + 2 * PAGE, at + 3 * PAGE]
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        // There never was a hole in it that another thread could have filled.
        let _ = call(libc::SYS_munmap, [self.0, PAGES * PAGE, 0, 0, 0]);
    }
}

fn map_page(
    file: &OwnedFd,
    (addr, offset): (u64, u64),
    (protection, flags): (i32, i32),
) -> nix::Result<()> {
    let place = (addr, PAGE, offset);
    mmap(file.as_raw_fd(), place, (protection, FIXED | flags)).map(|_| ())
}

fn mmap(
    fd: i32,
    (addr, len, offset): (u64, u64, u64),
    (protection, flags): (i32, i32),
) -> nix::Result<u64> {
    // SAFETY: a fixed address is one of a range that was reserved here and that nothing points
    // into; otherwise the kernel chooses one where nothing is.
    let at = unsafe { libc::syscall(libc::SYS_mmap, addr, len, protection, flags, fd, offset) };
    Errno::result(at).map(i64::cast_unsigned)
}

/// A call on such a range.
fn call(number: c_long, [a, b, c, d, e]: [u64; 5]) -> nix::Result<u64> {
    // SAFETY: the callers pass ranges that were reserved or mapped here, which nothing points into,
    // or descriptors, and places of their own that outlive the call.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    Errno::result(result).map(i64::cast_unsigned)
}

/// Whether a huge page of the file lies on one of memory where a mapping of `len` bytes of it from
/// `offset` on is moved to: this is up to the file that stands behind the mapping.
fn is_moved_aligned(file: &OwnedFd, offset: u64, len: u64) -> bool {
    // What stays behind is no hole.
    let how = (libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP) as u64;
    let flags = (libc::PROT_NONE, libc::MAP_PRIVATE);
    let Ok(at) = mmap(file.as_raw_fd(), (0, len, offset), flags) else {
        return false;
    };
    let moved = call(libc::SYS_mremap, [at, len, len, how, 0]);
    for place in [Ok(at), moved].into_iter().flatten() {
        let _ = call(libc::SYS_munmap, [place, len, 0, 0, 0]);
    }
    moved.is_ok_and(|moved| moved.wrapping_sub(offset).is_multiple_of(HUGE_PAGE))
}

/// Whether a userfaultfd would be told of missing pages of the file at `addr`, as it is of files in
/// memory only.
fn can_be_watched(addr: u64) -> bool {
    const USER_MODE_ONLY: u64 = 1;
    const API: u64 = 0xc018_aa3f;
    const REGISTER: u64 = 0xc020_aa00;
    const MISSING: u64 = 1;
    let flags = libc::O_CLOEXEC as u64 | USER_MODE_ONLY;
    let Ok(fd) = call(libc::SYS_userfaultfd, [flags, 0, 0, 0, 0]) else {
        return false;
    };
    let mut api = [0xaa_u64, 0, 0];
    let at = (&raw mut api).expose_provenance() as u64;
    let mut range = [addr, PAGE, MISSING, 0];
    let registered = (&raw mut range).expose_provenance() as u64;
    let can = call(libc::SYS_ioctl, [fd, API, at, 0, 0]).is_ok()
        && call(libc::SYS_ioctl, [fd, REGISTER, registered, 0, 0]).is_ok();
    let _ = call(libc::SYS_close, [fd, 0, 0, 0, 0]);
    can
}
