//! Programs whose calls meet pages that cannot be had: guards, the end of a file, what a
//! userfaultfd watches.

use libc::{MADV_DODUMP, MADV_DONTDUMP, MAP_FIXED, MAP_PRIVATE, PROT_NONE, PROT_READ, c_int};

use super::kinds::{UNWATCH, WATCH, userfaultfd};
use super::{ANON, PAGE, Program, RW, advise, in_child, map, map_at, page, protect, write};

pub(super) const PROGRAMS: &[Program] = &[
    ("markers_are_no_written_pages", markers_are_no_written_pages),
    (
        "locks_stop_at_a_page_that_cannot_be_had",
        locks_stop_at_a_page_that_cannot_be_had,
    ),
    (
        "what_passes_over_a_guard_prepares_nothing",
        what_passes_over_a_guard_prepares_nothing,
    ),
    (
        "the_end_of_a_file_is_no_guard",
        the_end_of_a_file_is_no_guard,
    ),
    (
        "a_watch_that_ends_shows_where_nothing_merges",
        a_watch_that_ends_shows_where_nothing_merges,
    ),
];

const GUARD_INSTALL: c_int = 102;
const GUARD_REMOVE: c_int = 103;

/// Has a userfaultfd watch pages for writes, and forbids them.
fn mark(watcher: c_int, at: *mut u8, pages: usize) {
    const UFFDIO_WRITEPROTECT: libc::Ioctl = 0xc018_aa06;
    const WP: u64 = 2;
    let (at, len) = (at.addr() as u64, (pages * PAGE) as u64);
    let (mut watch, mut forbid) = ([at, len, WP, 0], [at, len, 1]);
    unsafe { libc::ioctl(watcher, WATCH, watch.as_mut_ptr()) };
    unsafe { libc::ioctl(watcher, UFFDIO_WRITEPROTECT, forbid.as_mut_ptr()) };
}

/// A guard and the mark of a userfaultfd stand where a page would be, and are none: the mapping of a
/// file that has only those was never written, and merges like that.
pub(super) fn markers_are_no_written_pages() {
    let memory = unsafe { libc::memfd_create(c"markers".as_ptr(), 0) };
    unsafe { libc::ftruncate(memory, 64 * PAGE as i64) };
    let room = map(64 * PAGE, PROT_NONE, ANON);
    let file = |number: usize, pages: usize| unsafe {
        let (at, offset) = (page(room, number), (number * PAGE) as i64);
        let flags = MAP_PRIVATE | MAP_FIXED;
        libc::mmap(at.cast(), pages * PAGE, PROT_READ, flags, memory, offset);
        at
    };
    let guarded = file(2, 5);
    advise(guarded, 2 * PAGE, MADV_DONTDUMP);
    advise(guarded, 5 * PAGE, GUARD_INSTALL);
    advise(guarded, 2 * PAGE, MADV_DODUMP);
    let mixed = file(10, 4);
    protect(page(mixed, 1), PAGE, RW);
    write(page(mixed, 1));
    advise(mixed, PAGE, GUARD_INSTALL);
    protect(page(mixed, 1), PAGE, PROT_READ);
    advise(mixed, 4 * PAGE, GUARD_REMOVE);
    let watcher = userfaultfd(0);
    if watcher >= 0 {
        let watched = file(20, 5);
        mark(watcher, watched, 2);
        protect(page(watched, 1), PAGE, PROT_NONE);
        protect(page(watched, 1), PAGE, PROT_READ);
        let mut words = [watched.addr() as u64, 2 * PAGE as u64];
        unsafe { libc::ioctl(watcher, UNWATCH, words.as_mut_ptr()) };
    }
    // Anonymous memory is prepared for pages when it gets a guard.
    let anonymous = map_at(page(room, 40), 4 * PAGE, RW);
    advise(anonymous, PAGE, GUARD_INSTALL);
    protect(anonymous, 2 * PAGE, PROT_READ);
    in_child(|| _ = protect(room, 64 * PAGE, PROT_READ));
}

/// What is locked stays locked where a page cannot be brought in, and what lies behind that page
/// is not written.
pub(super) fn locks_stop_at_a_page_that_cannot_be_had() {
    let lock = |at: *mut u8, pages: usize, flags: libc::c_uint| unsafe {
        libc::mlock2(at.cast(), pages * PAGE, flags)
    };
    let unlock = |at: *mut u8, pages: usize| unsafe { libc::munlock(at.cast(), pages * PAGE) };
    let memory = unsafe { libc::memfd_create(c"short".as_ptr(), 0) };
    unsafe { libc::ftruncate(memory, 3 * PAGE as i64) };
    let room = map(64 * PAGE, PROT_NONE, ANON);
    let file = |number: usize, pages: usize, kind: c_int| unsafe {
        let at = page(room, number);
        libc::mmap(at.cast(), pages * PAGE, RW, kind | MAP_FIXED, memory, 0);
        at
    };
    // Behind the end of the file, the next mapping stays unwritten: read-only, it merges.
    let shared = file(2, 8, libc::MAP_SHARED);
    let behind = map_at(page(room, 10), 4 * PAGE, RW);
    lock(shared, 12, 0);
    protect(behind, 2 * PAGE, PROT_READ);
    protect(behind, 4 * PAGE, PROT_READ);
    unlock(shared, 12);
    let guarded = map_at(page(room, 20), 8 * PAGE, RW);
    advise(page(guarded, 3), PAGE, GUARD_INSTALL);
    lock(guarded, 8, 0);
    lock(guarded, 8, libc::MLOCK_ONFAULT);
    unlock(guarded, 8);
    let private = file(30, 4, MAP_PRIVATE);
    advise(private, PAGE, GUARD_INSTALL);
    lock(private, 4, 0);
    protect(private, 4 * PAGE, PROT_READ);
    unlock(private, 4);
    for advice in [libc::MADV_POPULATE_READ, libc::MADV_POPULATE_WRITE] {
        advise(guarded, 8 * PAGE, advice);
        advise(shared, 8 * PAGE, advice);
    }
    // A page that is there may not be written where nobody answers for it.
    let protected = map_at(page(room, 56), 3 * PAGE, RW);
    write(page(protected, 1));
    mark(userfaultfd(0), protected, 2);
    lock(protected, 3, 0);
    // Memory that is never locked is brought in all the same.
    const DROPPABLE: c_int = 8;
    let at = page(room, 50);
    let flags = DROPPABLE | libc::MAP_ANONYMOUS | MAP_FIXED;
    unsafe { libc::mmap(at.cast(), 4 * PAGE, RW, flags, -1, 0) };
    advise(page(at, 2), PAGE, GUARD_INSTALL);
    lock(at, 4, libc::MLOCK_ONFAULT);
    unsafe { libc::mlockall(libc::MCL_CURRENT) };
    unsafe { libc::munlockall() };
}

/// What begins with a guard is not prepared to be written by a call that goes on with the next
/// mapping: both halves merge, whatever lay between them then.
pub(super) fn what_passes_over_a_guard_prepares_nothing() {
    let memory = unsafe { libc::memfd_create(c"halves".as_ptr(), 0) };
    unsafe { libc::ftruncate(memory, 16 * PAGE as i64) };
    let lock_all = || unsafe { libc::mlockall(libc::MCL_CURRENT) };
    let bring_in: [&dyn Fn(*mut u8); 2] = [&|_| _ = lock_all(), &|halves| {
        protect(halves, 8 * PAGE, PROT_READ);
        lock_all();
        protect(halves, 8 * PAGE, RW);
    }];
    // A guard that both begin with, and one further in, before which something is written.
    for guards in [0..8, 3..5] {
        for bring_in in bring_in {
            in_child(|| {
                let room = map(16 * PAGE, PROT_NONE, ANON);
                let halves = page(room, 4);
                let flags = MAP_PRIVATE | MAP_FIXED;
                unsafe { libc::mmap(halves.cast(), 8 * PAGE, RW, flags, memory, 0) };
                advise(
                    page(halves, guards.start),
                    guards.len() * PAGE,
                    GUARD_INSTALL,
                );
                advise(halves, 4 * PAGE, MADV_DONTDUMP);
                bring_in(halves);
                advise(halves, 4 * PAGE, MADV_DODUMP);
            });
        }
    }
}

/// The end of a file is noticed after memory was prepared to be written, a guard before: what was
/// prepared apart stays apart.
pub(super) fn the_end_of_a_file_is_no_guard() {
    let memory = unsafe { libc::memfd_create(c"empty".as_ptr(), 0) };
    let room = map(8 * PAGE, PROT_NONE, ANON);
    let halves = page(room, 2);
    let flags = MAP_PRIVATE | MAP_FIXED;
    unsafe { libc::mmap(halves.cast(), 4 * PAGE, RW, flags, memory, 0) };
    advise(page(halves, 1), PAGE, GUARD_INSTALL);
    advise(page(halves, 2), 2 * PAGE, MADV_DONTDUMP);
    advise(halves, PAGE, libc::MADV_POPULATE_WRITE);
    advise(page(halves, 2), PAGE, libc::MADV_POPULATE_WRITE);
    advise(page(halves, 2), 2 * PAGE, MADV_DODUMP);
}

/// A userfaultfd that is closed last of all shows in `smaps` only.
pub(super) fn a_watch_that_ends_shows_where_nothing_merges() {
    const MISSING: u64 = 1;
    let memory = unsafe { libc::memfd_create(c"watched".as_ptr(), 0) };
    unsafe { libc::ftruncate(memory, 2 * PAGE as i64) };
    let at = super::map_file(memory, 2 * PAGE, RW, libc::MAP_SHARED, 0);
    let watcher = userfaultfd(0);
    let mut watch = [at.addr() as u64, 2 * PAGE as u64, MISSING, 0];
    unsafe { libc::ioctl(watcher, WATCH, watch.as_mut_ptr()) };
    unsafe { libc::close(watcher) };
}
