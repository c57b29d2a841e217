//! The second cellar: the kernel's own answers about a process, through raw ioctls and calls.
//!
//! `PAGEMAP_SCAN` (which pages were written), `PROCMAP_QUERY` (one mapping), `pidfd_getfd` and
//! `kcmp` (which open file a descriptor stands for).

#![expect(
    unsafe_code,
    reason = "ioctls and system calls that no safe crate offers"
)]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use maple_mm::{Process, ProcessFlags, abi};
use nix::errno::Errno;

use crate::ptrace::Tid;

/// `struct pm_scan_arg` of the kernel's `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct PageScan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of the kernel's `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct procmap_query` of the kernel's `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct MapQuery {
    size: u64,
    query_flags: u64,
    query_addr: u64,
    vma_start: u64,
    vma_end: u64,
    vma_flags: u64,
    vma_page_size: u64,
    vma_offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    vma_name_size: u32,
    build_id_size: u32,
    vma_name_addr: u64,
    build_id_addr: u64,
}

const PAGEMAP_SCAN: libc::Ioctl = 0xc060_6610;
const PROCMAP_QUERY: libc::Ioctl = 0xc068_6611;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;
const PAGE_IS_HUGE: u64 = 1 << 6;
const QUERY_COVERING_OR_NEXT: u64 = 0x10;

/// One mapping as `PROCMAP_QUERY` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelMapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Bits 0 to 3: readable, writable, executable, shared.
    pub(crate) access: u64,
    pub(crate) offset: u64,
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
}

/// A page that is not the page cache's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnonymousPage {
    /// It holds private data, or is of the huge page of zeros.
    Prepared(u64),
    /// The small page of zeros, or what is swapped out, or a marker in the place of a page.
    Other(u64),
}

/// The first page of `start..end` that is not the page cache's: present or swapped out. `pagemap`
/// is `/proc/PID/pagemap`.
///
/// Reading maps the huge page of zeros only after the mapping was prepared for written pages (the
/// small page of zeros asks for no preparation).
///
/// # Errors
///
/// What the kernel says; `ENOTTY` where it is older than 6.7.
pub(crate) fn first_anonymous_page(
    pagemap: &File,
    start: u64,
    end: u64,
) -> io::Result<Option<AnonymousPage>> {
    let mut scan = PageScan {
        max_pages: 1,
        category_inverted: PAGE_IS_FILE,
        category_mask: PAGE_IS_FILE,
        category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        return_mask: PAGE_IS_PRESENT | PAGE_IS_PFNZERO | PAGE_IS_HUGE,
        ..PageScan::default()
    };
    let found = first_region(pagemap, (start, end), &mut scan)?;
    Ok(found.map(|region| {
        let is = |category| region.categories & category != 0;
        if is(PAGE_IS_PRESENT) && (is(PAGE_IS_HUGE) || !is(PAGE_IS_PFNZERO)) {
            AnonymousPage::Prepared(region.start)
        } else {
            AnonymousPage::Other(region.start)
        }
    }))
}

/// The first page of `start..end` that holds private data and is present. `pagemap` is
/// `/proc/PID/pagemap`.
///
/// # Errors
///
/// What the kernel says; `ENOTTY` where it is older than 6.7.
pub(crate) fn first_present_page(pagemap: &File, start: u64, end: u64) -> io::Result<Option<u64>> {
    let mut scan = PageScan {
        max_pages: 1,
        category_inverted: PAGE_IS_FILE | PAGE_IS_PFNZERO,
        category_mask: PAGE_IS_PRESENT | PAGE_IS_FILE | PAGE_IS_PFNZERO,
        return_mask: PAGE_IS_PRESENT,
        ..PageScan::default()
    };
    let found = first_region(pagemap, (start, end), &mut scan)?;
    Ok(found.map(|region| region.start))
}

/// The first pages of `start..end`, in a row, that are swapped out or have markers in their place.
/// `pagemap` is `/proc/PID/pagemap`.
///
/// # Errors
///
/// What the kernel says; `ENOTTY` where it is older than 6.7.
pub(crate) fn first_swapped_pages(
    pagemap: &File,
    start: u64,
    end: u64,
) -> io::Result<Option<(u64, u64)>> {
    let mut scan = PageScan {
        category_inverted: PAGE_IS_FILE,
        category_mask: PAGE_IS_SWAPPED | PAGE_IS_FILE,
        return_mask: PAGE_IS_SWAPPED,
        ..PageScan::default()
    };
    let found = first_region(pagemap, (start, end), &mut scan)?;
    Ok(found.map(|region| (region.start, region.end)))
}

/// The first page of `start..end` that lies in the shared huge page of zeros. `pagemap` is
/// `/proc/PID/pagemap`.
///
/// # Errors
///
/// What the kernel says; `ENOTTY` where it is older than 6.7.
pub(crate) fn first_huge_zero_page(
    pagemap: &File,
    start: u64,
    end: u64,
) -> io::Result<Option<u64>> {
    let mut scan = PageScan {
        max_pages: 1,
        category_mask: PAGE_IS_PRESENT | PAGE_IS_HUGE | PAGE_IS_PFNZERO,
        return_mask: PAGE_IS_PRESENT,
        ..PageScan::default()
    };
    let found = first_region(pagemap, (start, end), &mut scan)?;
    Ok(found.map(|region| region.start))
}

/// The first pages of a range in the categories that `scan` names.
fn first_region(
    pagemap: &File,
    (start, end): (u64, u64),
    scan: &mut PageScan,
) -> io::Result<Option<PageRegion>> {
    let mut region = PageRegion::default();
    // The kernel writes to `region` through an address in an integer.
    let regions = (&raw mut region).expose_provenance() as u64;
    (scan.size, scan.start, scan.end) = (size_of::<PageScan>() as u64, start, end);
    (scan.regions, scan.regions_len) = (regions, 1);
    let scan = std::ptr::from_mut(scan);
    // SAFETY: `scan` is the structure this request takes, its `regions` points to one valid
    // `PageRegion` that outlives the call, and both may be written.
    let found = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, scan) };
    match Errno::result(found)? {
        0 => Ok(None),
        _ => Ok(Some(region)),
    }
}

/// The mapping that covers `addr`, or the next one above it; `None` at the end. `maps` is
/// `/proc/PID/maps`.
///
/// # Errors
///
/// What the kernel says; `ENOTTY` where it is older than 6.11.
pub(crate) fn mapping_at(maps: &File, addr: u64) -> io::Result<Option<KernelMapping>> {
    Ok(query_mapping(maps, addr, &mut [])?.map(|(mapping, _)| mapping))
}

/// As [`mapping_at`], with the mapping's name, which costs the kernel as much again.
///
/// # Errors
///
/// As [`mapping_at`].
pub(crate) fn named_mapping_at(
    maps: &File,
    addr: u64,
) -> io::Result<Option<(KernelMapping, String)>> {
    let mut name = vec![0_u8; 4096 + 64];
    let found = query_mapping(maps, addr, &mut name)?;
    Ok(found.map(|(mapping, length)| {
        // As the text has it.
        let name = String::from_utf8_lossy(&name[..length]).replace('\n', "\\012");
        (mapping, name)
    }))
}

/// The mapping, and how many bytes of `name` are its name.
fn query_mapping(
    maps: &File,
    addr: u64,
    name: &mut [u8],
) -> io::Result<Option<(KernelMapping, usize)>> {
    let name_addr = if name.is_empty() {
        0
    } else {
        name.as_mut_ptr().expose_provenance() as u64
    };
    let mut query = MapQuery {
        size: size_of::<MapQuery>() as u64,
        query_flags: QUERY_COVERING_OR_NEXT,
        query_addr: addr,
        vma_name_size: name.len() as u32,
        vma_name_addr: name_addr,
        ..MapQuery::default()
    };
    // SAFETY: `query` is the structure this request takes, and `vma_name_addr` points to
    // `vma_name_size` bytes or both are zero; all of it may be written and outlive the call.
    let result = unsafe { libc::ioctl(maps.as_raw_fd(), PROCMAP_QUERY, &raw mut query) };
    match Errno::result(result) {
        Ok(_) => {}
        Err(Errno::ENOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let named = (query.vma_name_size as usize)
        .saturating_sub(1)
        .min(name.len());
    let mapping = KernelMapping {
        start: query.vma_start,
        end: query.vma_end,
        access: query.vma_flags & 0xf,
        offset: query.vma_offset,
        device: (query.dev_major, query.dev_minor),
        inode: query.inode,
    };
    Ok(Some((mapping, named)))
}

/// A descriptor of ours for the open file behind descriptor `fd` of the thread `tid`.
///
/// # Errors
///
/// `EBADF` if the thread has no such descriptor; otherwise what the kernel says.
pub(crate) fn copy_descriptor(tid: Tid, fd: i32) -> nix::Result<OwnedFd> {
    let process = open_pidfd(tid)?;
    // SAFETY: a system call with integer arguments.
    let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) };
    owned(copy)
}

fn open_pidfd(tid: Tid) -> nix::Result<OwnedFd> {
    const PIDFD_THREAD: i32 = libc::O_EXCL;
    // SAFETY: a system call with integer arguments.
    let of_thread = unsafe { libc::syscall(libc::SYS_pidfd_open, tid, PIDFD_THREAD) };
    owned(of_thread).or_else(|_| {
        // Before 6.9 only a thread-group leader has one.
        // SAFETY: a system call with integer arguments.
        owned(unsafe { libc::syscall(libc::SYS_pidfd_open, tid, 0) })
    })
}

fn owned(result: i64) -> nix::Result<OwnedFd> {
    let fd = Errno::result(result)?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Whether two descriptors of ours stand for the same open file (not just the same inode).
///
/// # Errors
///
/// `ENOSYS` on a kernel without `kcmp`.
pub(crate) fn same_open_file(a: &OwnedFd, b: &OwnedFd) -> nix::Result<bool> {
    const KCMP_FILE: i32 = 0;
    let us = std::process::id();
    // SAFETY: a system call with integer arguments.
    let order = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            us,
            us,
            KCMP_FILE,
            a.as_raw_fd(),
            b.as_raw_fd(),
        )
    };
    Errno::result(order).map(|order| order == 0)
}

/// Whether nobody may write the file but at its end (`chattr +a`). Not said by every file system.
pub(crate) fn is_append_only(file: &OwnedFd) -> bool {
    let mut facts = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is an empty string, and `facts` has room for what is written.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            0,
            facts.as_mut_ptr(),
        )
    };
    // SAFETY: zeros are a valid value of its integers, whether or not the call wrote others.
    let facts = unsafe { facts.assume_init() };
    result == 0 && facts.stx_attributes & libc::STATX_ATTR_APPEND as u64 != 0
}

/// Whether two tasks use the same address space.
///
/// # Errors
///
/// `ESRCH` if one is gone, `EPERM` if we may not look, `ENOSYS` on a kernel without `kcmp`.
pub(crate) fn same_memory(a: Tid, b: Tid) -> nix::Result<bool> {
    const KCMP_VM: i32 = 1;
    // SAFETY: a system call with integer arguments.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, a, b, KCMP_VM, 0, 0) };
    Errno::result(order).map(|order| order == 0)
}

/// A System V segment that ends with this value and the last process that has it attached, however
/// either ends.
#[derive(Debug)]
pub(crate) struct HeldSegment {
    id: i32,
    attached: *const libc::c_void,
}

// SAFETY: the memory is never read or written, only detached, once, by whoever drops the value.
unsafe impl Send for HeldSegment {}

// SAFETY: as for `Send`: a shared reference only gives the number.
unsafe impl Sync for HeldSegment {}

impl HeldSegment {
    /// Makes one of `bytes` bytes with these permissions.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub(crate) fn new(bytes: usize, mode: u32) -> nix::Result<Self> {
        let flags = mode.cast_signed() | libc::IPC_CREAT;
        // SAFETY: a system call with integer arguments.
        let id = Errno::result(unsafe { libc::shmget(libc::IPC_PRIVATE, bytes, flags) })?;
        // SAFETY: the kernel chooses an address where nothing is.
        let attached = unsafe { libc::shmat(id, std::ptr::null(), libc::SHM_RDONLY) };
        let is_attached = attached.addr() != usize::MAX;
        // SAFETY: marks the segment that was just made; what is attached stays.
        let removed = unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
        if !is_attached {
            return Err(Errno::last());
        }
        let held = Self { id, attached };
        Errno::result(removed)?;
        Ok(held)
    }

    /// Its identifier.
    pub(crate) const fn id(&self) -> i32 {
        self.id
    }
}

impl Drop for HeldSegment {
    fn drop(&mut self) {
        // SAFETY: the address is where the segment was attached, and nothing points into it.
        let _: i32 = unsafe { libc::shmdt(self.attached) };
    }
}

/// What was asked of our own address space as a whole; a program inherits it.
pub(crate) fn own_process() -> Process {
    let ask = |option: u32| {
        // SAFETY: a prctl that takes no arguments and only answers.
        let answer = unsafe { libc::prctl(option as i32, 0, 0, 0, 0) };
        // A kernel without the option refuses: nothing was asked.
        u32::try_from(answer).unwrap_or(0)
    };
    let bit = |is_set: bool, flag| {
        if is_set { flag } else { ProcessFlags::empty() }
    };
    let (gain, huge) = (ask(abi::PR_GET_MDWE), ask(abi::PR_GET_THP_DISABLE));
    Process {
        personality: 0,
        flags: bit(gain & 1 != 0, ProcessFlags::REFUSE_EXEC_GAIN)
            | bit(gain & 2 != 0, ProcessFlags::EXEC_GAIN_NOT_INHERITED)
            | bit(ask(abi::PR_GET_MEMORY_MERGE) == 1, ProcessFlags::MERGE_ANY)
            | bit(huge == 1, ProcessFlags::NO_HUGE_PAGES)
            | bit(huge == 3, ProcessFlags::HUGE_PAGES_IF_ADVISED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_page_is_found_and_an_untouched_one_is_not() {
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let mut buffer = vec![0_u8; 64 * 4096];
        let start = (buffer.as_ptr().addr() as u64 + 4095) & !4095;
        buffer[20 * 4096] = 1;
        let page = start + 19 * 4096;
        let found = first_anonymous_page(&pagemap, page, page + 2 * 4096).unwrap();
        assert!(
            matches!(found, Some(AnonymousPage::Prepared(_))),
            "{found:?}"
        );
        std::hint::black_box(&buffer);
    }

    #[test]
    fn a_mapping_is_found_by_an_address_in_it() {
        let maps = File::open("/proc/self/maps").unwrap();
        let here = a_mapping_is_found_by_an_address_in_it as fn() as usize as u64;
        let (mapping, name) = named_mapping_at(&maps, here).unwrap().unwrap();
        assert!((mapping.start..mapping.end).contains(&here));
        assert_eq!(mapping.access & 0b101, 0b101);
        assert!(name.contains("samara"), "{name}");
        assert_eq!(mapping_at(&maps, here).unwrap(), Some(mapping));
        assert_eq!(mapping_at(&maps, u64::MAX - 4096).ok().flatten(), None);
    }

    #[test]
    fn a_duplicate_is_the_same_open_file_and_a_second_open_is_not() {
        let first: OwnedFd = File::open("/proc/self/maps").unwrap().into();
        let second: OwnedFd = File::open("/proc/self/maps").unwrap().into();
        assert_eq!(
            same_open_file(&first, &first.try_clone().unwrap()),
            Ok(true)
        );
        assert_eq!(same_open_file(&first, &second), Ok(false));
        let copy = copy_descriptor(std::process::id() as Tid, first.as_raw_fd()).unwrap();
        assert_eq!(same_open_file(&first, &copy), Ok(true));
        assert_eq!(
            copy_descriptor(std::process::id() as Tid, 1 << 20).err(),
            Some(Errno::EBADF)
        );
    }
}
