//! Programs that map memory of other kinds.

use std::os::fd::AsRawFd;
use std::{fs, ptr};

use libc::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_NONE,
    PROT_READ, c_int,
};

use super::{
    ANON, PAGE, RW, advise, in_child, map, map_at, map_file, page, protect, read, remap, unmap,
    write,
};

pub(super) fn droppable() {
    const DROPPABLE: c_int = 8;
    let room = map(64 * PAGE, PROT_NONE, ANON);
    let at = |number: usize, flags: c_int| unsafe {
        let at = page(room, number).cast();
        let flags = flags | MAP_ANONYMOUS | MAP_FIXED;
        libc::mmap(at, 2 * PAGE, RW, DROPPABLE | flags, -1, 0);
    };
    let huge = libc::MAP_HUGETLB | MAP_NORESERVE;
    for flags in [0, libc::MAP_LOCKED, huge, libc::MAP_GROWSDOWN] {
        at(2, flags);
    }
    write(page(room, 2));
    at(4, 0);
    unsafe { libc::mlock(page(room, 2).cast(), PAGE) };
    advise(page(room, 2), PAGE, libc::MADV_KEEPONFORK);
    in_child(|| {
        at(6, 0);
        protect(page(room, 2), 6 * PAGE, PROT_READ);
    });
    map(PAGE, RW, ANON | 0x80);
    let memory = unsafe { libc::memfd_create(c"strict".as_ptr(), 0) };
    for flag in [0, libc::MAP_SYNC as u64, 1 << 22, 1 << 40] {
        let flags = libc::MAP_SHARED_VALIDATE as u64 | flag;
        unsafe { libc::syscall(libc::SYS_mmap, 0, PAGE, PROT_READ, flags, memory, 0) };
    }
}

/// Who may write such a file may not share it. Where the attribute can't be given, the file is one
/// like any other.
pub(super) fn append_only_files() {
    const APPEND: u32 = 0x20;
    let path = std::env::temp_dir().join(format!("samara-append-{}", std::process::id()));
    fs::write(&path, vec![1; 4 * PAGE]).expect("a temporary file");
    let open = |is_writable| {
        let mut options = fs::OpenOptions::new();
        let options = options.read(true).append(is_writable);
        options.open(&path).expect("it opens")
    };
    let attributes = open(false);
    let set = |flags: u32| unsafe {
        let request = libc::FS_IOC_SETFLAGS;
        libc::ioctl(attributes.as_raw_fd(), request, &raw const flags)
    };
    if set(APPEND) != 0 {
        eprintln!("skipped: no append-only files here");
    }
    for is_writable in [false, true] {
        let file = open(is_writable);
        for (prot, flags) in [
            (PROT_READ, MAP_SHARED),
            (RW, MAP_SHARED),
            (PROT_READ, MAP_PRIVATE),
            (RW, MAP_PRIVATE),
        ] {
            map_file(file.as_raw_fd(), 2 * PAGE, prot, flags, 0);
        }
    }
    set(0);
    fs::remove_file(&path).expect("it is ours");
}

/// The fourth way to open a file lets one neither read nor write it, nor map it.
pub(super) fn files_for_ioctl_alone() {
    let path = std::env::temp_dir().join(format!("samara-ioctl-{}", std::process::id()));
    fs::write(&path, vec![1; 4 * PAGE]).expect("a temporary file");
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("no nul in it");
    let file = unsafe { libc::open(name.as_ptr(), libc::O_ACCMODE) };
    assert!(file >= 0, "it opens");
    for (prot, flags) in [
        (PROT_NONE, MAP_PRIVATE),
        (PROT_READ, MAP_PRIVATE),
        (PROT_READ, MAP_SHARED),
        (RW, MAP_SHARED),
    ] {
        map_file(file, 2 * PAGE, prot, flags, 0);
    }
    fs::remove_file(&path).expect("it is ours");
}

pub(super) fn sealed_files() {
    let memory = unsafe { libc::memfd_create(c"seals".as_ptr(), libc::MFD_ALLOW_SEALING) };
    unsafe { libc::ftruncate(memory, 64 * PAGE as i64) };
    let room = map(64 * PAGE, PROT_NONE, ANON);
    let shared = |number: usize, prot: c_int| unsafe {
        let (at, offset) = (page(room, number).cast(), (number * PAGE) as i64);
        libc::mmap(at, PAGE, prot, MAP_SHARED | MAP_FIXED, memory, offset);
    };
    shared(0, RW);
    shared(1, PROT_READ);
    let seal = |seals: c_int| unsafe { libc::fcntl(memory, libc::F_ADD_SEALS, seals) };
    seal(libc::F_SEAL_WRITE);
    seal(libc::F_SEAL_SHRINK | libc::F_SEAL_GROW);
    shared(2, RW);
    seal(libc::F_SEAL_FUTURE_WRITE);
    shared(3, RW);
    shared(3, PROT_READ);
    shared(2, PROT_READ);
    advise(room, PAGE, libc::MADV_REMOVE);
    protect(room, 4 * PAGE, RW);
    unsafe { libc::syscall(libc::SYS_remap_file_pages, room, PAGE, 0, 9, 0) };
    map_file(memory, PAGE, RW, MAP_PRIVATE, 0);
    unmap(room, 4 * PAGE);
    seal(libc::F_SEAL_WRITE);
    map_file(memory, PAGE, PROT_READ, MAP_SHARED, 0);
}

pub(super) fn segments() {
    let make = |bytes: usize| unsafe { libc::shmget(libc::IPC_PRIVATE, bytes, 0o600) };
    let (one, two) = (make(4 * PAGE - 100), make(PAGE));
    let room = map(64 * PAGE, PROT_NONE, ANON);
    let attach = |id: c_int, at: *mut u8, flags: c_int| unsafe {
        libc::shmat(id, at.cast_const().cast(), flags).cast::<u8>()
    };
    let detach = |at: *mut u8| unsafe { libc::shmdt(at.cast_const().cast()) };
    let anywhere = attach(one, ptr::null_mut(), 0);
    write(anywhere);
    attach(one, page(room, 4), 0);
    attach(one, page(room, 4), libc::SHM_REMAP);
    attach(one, page(room, 8), libc::SHM_REMAP | libc::SHM_RDONLY);
    attach(two, page(room, 12).wrapping_add(5), 0);
    attach(
        two,
        page(room, 12).wrapping_add(5),
        libc::SHM_REMAP | libc::SHM_RND,
    );
    attach(two, ptr::null_mut(), libc::SHM_REMAP);
    attach(9_999_999, ptr::null_mut(), 0);
    attach(-1, ptr::null_mut(), 0);
    protect(page(room, 5), PAGE, PROT_READ);
    protect(page(room, 8), PAGE, RW);
    in_child(|| {
        detach(page(room, 4));
        detach(anywhere);
    });
    unmap(page(room, 6), PAGE);
    detach(page(room, 5));
    detach(page(room, 4));
    let may = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    remap(page(room, 10), 2 * PAGE, 2 * PAGE, may, page(room, 20));
    detach(page(room, 8));
    detach(page(room, 20));
    detach(page(room, 18));
    unsafe { libc::shmctl(one, libc::IPC_RMID, ptr::null_mut()) };
    attach(one, ptr::null_mut(), 0);
    detach(anywhere);
    unsafe { libc::shmctl(two, libc::IPC_RMID, ptr::null_mut()) };
    detach(page(room, 12));
    attach(two, ptr::null_mut(), 0);
}

pub(super) fn another_order() {
    let memory = unsafe { libc::memfd_create(c"order".as_ptr(), 0) };
    unsafe { libc::ftruncate(memory, 64 * PAGE as i64) };
    let at = map_file(memory, 8 * PAGE, RW, MAP_SHARED, 0);
    let order = |number: usize, pages: usize, offset: usize| unsafe {
        let (at, size) = (page(at, number), pages * PAGE);
        libc::syscall(libc::SYS_remap_file_pages, at, size, 0, offset, 0);
    };
    order(1, 2, 5);
    order(1, 2, 1);
    order(4, 4, 20);
    order(2, 4, 40);
    order(6, 4, 1);
    order(0, 0, 1);
    let shared = map(4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS);
    unsafe { libc::syscall(libc::SYS_remap_file_pages, shared, PAGE, 0, 1, 0) };
    let private = map(4 * PAGE, RW, ANON);
    unsafe { libc::syscall(libc::SYS_remap_file_pages, private, PAGE, 0, 1, 0) };
    in_child(|| order(0, 1, 9));
}

/// `UFFDIO_REGISTER`.
pub(super) const WATCH: libc::Ioctl = 0xc020_aa00;
/// `UFFDIO_UNREGISTER`.
pub(super) const UNWATCH: libc::Ioctl = 0x8010_aa01;

/// A userfaultfd with these features.
pub(super) fn userfaultfd(features: u64) -> c_int {
    const UFFDIO_API: libc::Ioctl = 0xc018_aa3f;
    const USER_MODE_ONLY: c_int = 1;
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | USER_MODE_ONLY;
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) } as c_int;
    let mut api = [0xaa, features, 0_u64];
    unsafe { libc::ioctl(fd, UFFDIO_API, api.as_mut_ptr()) };
    fd
}

pub(super) fn watched() {
    let watch = |fd: c_int, at: *mut u8, pages: usize, mode: u64| unsafe {
        let mut words = [at.addr() as u64, (pages * PAGE) as u64, mode, 0];
        libc::ioctl(fd, WATCH, words.as_mut_ptr())
    };
    let release = |fd: c_int, at: *mut u8, pages: usize| unsafe {
        let mut words = [at.addr() as u64, (pages * PAGE) as u64];
        libc::ioctl(fd, UNWATCH, words.as_mut_ptr())
    };
    let (one, two) = (userfaultfd(0), userfaultfd(0));
    if one < 0 {
        // Not permitted here.
        return;
    }
    let room = map(64 * PAGE, PROT_NONE, ANON);
    map_at(room, 8 * PAGE, RW);
    watch(one, page(room, 1), 2, 1);
    watch(one, page(room, 3), 2, 1);
    watch(two, page(room, 5), 2, 2);
    watch(two, page(room, 1), 1, 1);
    watch(one, room, 1, 0);
    watch(one, room.wrapping_add(1), 1, 1);
    map_at(page(room, 8), PAGE, RW);
    protect(page(room, 1), PAGE, PROT_READ);
    protect(page(room, 1), PAGE, RW);
    release(one, page(room, 2), 1);
    let may = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    remap(page(room, 3), PAGE, PAGE, may, page(room, 20));
    in_child(|| {
        map_at(page(room, 9), PAGE, RW);
        protect(room, 4 * PAGE, PROT_READ);
    });
    unsafe { libc::close(one) };
    protect(page(room, 12), PAGE, PROT_READ);
    let never = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) } as c_int;
    watch(never, room, 1, 1);
    unsafe { libc::close(two) };
    protect(page(room, 12), PAGE, PROT_NONE);
}

pub(super) fn huge() {
    const HUGE: usize = 2 << 20;
    for len in [HUGE, HUGE + PAGE, 3 * HUGE / 2, 2 * HUGE, 64 * HUGE] {
        let at = map(len, RW, ANON);
        write(at);
        map(PAGE, RW, ANON);
        map(len, PROT_NONE, ANON | MAP_NORESERVE);
        map(len, RW, ANON | libc::MAP_STACK);
        map(len, RW, MAP_SHARED | MAP_ANONYMOUS);
    }
    let at = map(4 * HUGE, RW, ANON);
    advise(at, 4 * HUGE, libc::MADV_HUGEPAGE);
    write(at);
    unmap(at.wrapping_add(HUGE), PAGE);
    remap(at, HUGE, 3 * HUGE, libc::MREMAP_MAYMOVE, ptr::null_mut());
    let explicit = ANON | MAP_NORESERVE | libc::MAP_HUGETLB;
    let at = map(3 * HUGE, RW, explicit);
    map(PAGE, RW, explicit | libc::MAP_POPULATE);
    unmap(at.wrapping_add(HUGE), HUGE + PAGE);
    protect(at, PAGE, PROT_READ);
}

/// Huge pages are promised when they are mapped, so a machine without any refuses, and what was
/// to be replaced is gone by then. What is wrong with the request comes first.
pub(super) fn an_empty_pool_promises_no_huge_page() {
    const HUGE: usize = 2 << 20;
    let is_zero = |name: &str| {
        let setting = fs::read_to_string(format!("/proc/sys/vm/{name}"));
        setting.is_ok_and(|text| text.trim() == "0")
    };
    if !is_zero("nr_hugepages") || !is_zero("nr_overcommit_hugepages") {
        println!("skipped: this machine has huge pages, and others may take them");
        return;
    }
    let room = map(8 * HUGE, RW, ANON);
    let aligned = page(room, room.align_offset(HUGE) / PAGE);
    for size in [0, 21, 16, 22] {
        let huge = libc::MAP_HUGETLB | size << libc::MAP_HUGE_SHIFT;
        for (len, flags) in [
            (HUGE, ANON),
            (5, ANON | libc::MAP_LOCKED),
            (0, ANON),
            (1 << 46, ANON),
            (1 << 48, ANON),
            (HUGE, MAP_SHARED | MAP_ANONYMOUS),
            (HUGE, ANON | libc::MAP_GROWSDOWN),
        ] {
            map(len, RW, flags | huge);
        }
        for (at, offset) in [(page(aligned, 1), 0), (aligned, 4096), (aligned, 0)] {
            let flags = ANON | MAP_FIXED | huge;
            unsafe { libc::mmap(at.cast(), HUGE, RW, flags, -1, offset) };
        }
        let file = unsafe { libc::memfd_create(c"of small pages".as_ptr(), 0) };
        for file in [file, -1] {
            unsafe { libc::mmap(ptr::null_mut(), HUGE, RW, MAP_PRIVATE | huge, file, 0) };
        }
    }
}

/// A read of memory advised to be huge is a page of zeros, and yet marks the mapping as written.
pub(super) fn huge_reads() {
    const HUGE: usize = 2 << 20;
    let at = map(8 * HUGE, RW, ANON);
    advise(at, 8 * HUGE, libc::MADV_HUGEPAGE);
    read(at.wrapping_add(HUGE + PAGE));
    read(at.wrapping_add(3 * HUGE));
    protect(at, 4 * HUGE, PROT_READ);
    advise(at, 8 * HUGE, libc::MADV_NOHUGEPAGE);
    protect(at.wrapping_add(HUGE), HUGE, RW);
    write(at.wrapping_add(HUGE));
    in_child(|| {
        protect(at, HUGE, PROT_NONE);
        map(PAGE, PROT_READ, ANON);
    });
}

pub(super) fn policies() {
    let room = map(64 * PAGE, PROT_NONE, ANON);
    map_at(room, 8 * PAGE, RW);
    let bind = |number: usize, pages: usize, mode: u64, nodes: u64| unsafe {
        let (at, len) = (page(room, number), pages * PAGE);
        libc::syscall(libc::SYS_mbind, at, len, mode, &raw const nodes, 64, 0)
    };
    let home = |number: usize, pages: usize, node: u64| unsafe {
        let (at, len) = (page(room, number), pages * PAGE);
        libc::syscall(libc::SYS_set_mempolicy_home_node, at, len, node, 0)
    };
    bind(1, 2, 2, 1);
    bind(3, 2, 2, 1);
    bind(5, 1, 3, 1);
    bind(1, 1, 9, 1);
    bind(1, 1, 2, 1 << 40);
    bind(6, 4, 2, 1);
    write(page(room, 2));
    write(page(room, 6));
    home(1, 2, 0);
    home(1, 2, 63);
    home(5, 1, 0);
    home(7, 1, 0);
    map_at(page(room, 8), PAGE, RW);
    in_child(|| {
        bind(0, 9, 4, 0);
        bind(0, 9, 0, 0);
    });
    bind(0, 9, 0, 0);
}

/// A mask of nodes longer than a page is refused without being read, even for an empty range; but
/// one that is not there has no length.
pub(super) fn a_mask_longer_than_a_page_is_refused() {
    const PAGE_OF_BITS: u64 = 8 * PAGE as u64;
    let room = map(4 * PAGE, RW, ANON);
    let masks = map(2 * PAGE, RW, ANON);
    let bind = |mask: *mut u8, bits: u64| {
        for (len, mode) in [(PAGE, 0), (PAGE, 2), (0, 0), (0, 9)] {
            unsafe { libc::syscall(libc::SYS_mbind, room, len, mode, mask, bits, 0) };
        }
    };
    // The length in bits is one more than there are.
    bind(masks, PAGE_OF_BITS + 1);
    for mask in [masks, ptr::null_mut(), ptr::without_provenance_mut(8)] {
        for bits in [PAGE_OF_BITS + 2, 1 << 40, 0] {
            bind(mask, bits);
        }
    }
}

pub(super) fn low_memory() {
    // The last is placed on a multiple of 2 MiB.
    for pages in [1, 3, 16, 512] {
        let at = map(pages * PAGE, RW, ANON | libc::MAP_32BIT);
        write(at);
    }
}

/// The kernel draws a start for each call: some have room above them, some have none. Once, only
/// addresses told of it.
pub(super) fn low_memory_by_luck() {
    const LOW: usize = 0x4000_0000;
    let all = ptr::without_provenance_mut(LOW);
    unsafe {
        let flags = ANON | libc::MAP_FIXED_NOREPLACE | MAP_NORESERVE;
        let taken = libc::mmap(all, LOW, PROT_NONE, flags, -1, 0);
        assert_eq!(taken.addr(), LOW);
        libc::munmap(ptr::without_provenance_mut(LOW + 0x0100_0000), PAGE);
    }
    for _ in 0..12 {
        let at = map(PAGE, PROT_READ, ANON | libc::MAP_32BIT);
        if at.addr() != usize::MAX {
            unmap(at, PAGE);
        }
    }
}

/// Once, the model said `ENODEV` of what the kernel refuses with `EPERM` before that.
pub(super) fn pipes_run_nothing() {
    let mut ends = [0; 2];
    unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
    }
    for prot in [PROT_READ, PROT_EXEC] {
        map_file(ends[0], PAGE, prot, MAP_PRIVATE, 0);
    }
}

/// Once, a segment that was removed and is still attached was attached again under another name.
pub(super) fn removed_segments() {
    unsafe {
        let key = 0x7a00_0000 | libc::getpid();
        let id = libc::shmget(key, PAGE, libc::IPC_CREAT | 0o600);
        assert!(id >= 0);
        libc::shmat(id, ptr::null(), 0);
        libc::shmctl(id, libc::IPC_RMID, ptr::null_mut());
        libc::shmat(id, ptr::null(), 0);
    }
}
