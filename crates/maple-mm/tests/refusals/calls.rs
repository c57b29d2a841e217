//! Every call that can need memory, and what it leaves when it gets none.

use maple_mm::{
    Access, AddressSpace, BindRequest, Errno, FileAccess, MmapRequest, MremapRequest, Segment,
    SegmentAccess, UserfaultFeatures, Userfaultfd, abi::*,
};

use crate::call::{AGAIN, LEN, done, is_at};
use crate::common::{BASE, file, memory, of_file, page};

pub(crate) type Act = crate::call::Act<AddressSpace>;
pub(crate) type Call = crate::call::Call<AddressSpace>;

fn maps() -> Vec<Call> {
    let one = file(7, FileAccess::READ);
    let anywhere = MmapRequest::anonymous(LEN, PROT_READ);
    let over = memory(5, 30, PROT_READ | PROT_WRITE);
    let middle = memory(3, 5, PROT_READ);
    let mut shared = memory(10, 12, PROT_READ);
    shared.flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED;
    let mut populated = memory(10, 12, PROT_READ | PROT_WRITE);
    populated.flags |= MAP_POPULATE;
    let of_file = of_file(&one, 10..25, 0);
    let map = |request: MmapRequest| move |space: &mut AddressSpace| space.mmap(request.clone());
    vec![
        Call::new("mmap anywhere", map(anywhere)),
        Call::new("mmap over several", map(over)),
        Call::new("mmap into one", map(middle)),
        Call::new("mmap shared", map(shared)),
        Call::new("mmap of a file", map(of_file)),
        Call::new("mmap populated", map(populated)),
        Call::new("munmap in one", |space| {
            done(space.munmap(page(2), 4 * PAGE_SIZE))
        }),
        Call::new("munmap of several", |space| {
            done(space.munmap(page(5), 25 * PAGE_SIZE))
        }),
        Call::new("munmap of one", |space| done(space.munmap(page(0), LEN))),
        Call::new("brk up", |space| {
            let to = BASE - 50 * PAGE_SIZE;
            is_at(space.brk(to), to)
        }),
        Call::new("brk down", |space| {
            let to = BASE - 62 * PAGE_SIZE;
            is_at(space.brk(to), to)
        }),
    ]
}

fn changes() -> Vec<Call> {
    let none = |_: &mut AddressSpace| Ok(0);
    let fault = |index, access| {
        move |space: &mut AddressSpace| {
            let touched = space.fault(page(index), access);
            touched.map(|()| 0).map_err(|_| Errno::ENOMEM)
        }
    };
    let lock = |index, pages| {
        move |space: &mut AddressSpace| done(space.mlock(page(index), pages * PAGE_SIZE))
    };
    let protect = |pages| {
        move |space: &mut AddressSpace| done(space.mprotect(page(0), pages * PAGE_SIZE, PROT_NONE))
    };
    let advise = |pages, advice| {
        move |space: &mut AddressSpace| done(space.madvise(page(0), pages * PAGE_SIZE, advice))
    };
    vec![
        Call::new("mprotect of the middle", |space| {
            done(space.mprotect(page(3), 2 * PAGE_SIZE, PROT_READ))
        }),
        // Split before: five mappings in ten pages.
        Call::new("mprotect of several", |space| {
            done(space.mprotect(page(0), LEN, PROT_NONE))
        })
        .leaving(protect(2))
        .leaving(protect(4))
        .leaving(protect(6))
        .leaving(protect(8)),
        Call::new("madvise of the middle", |space| {
            done(space.madvise(page(3), PAGE_SIZE, MADV_DONTDUMP))
        })
        .ending_in(AGAIN),
        Call::new("madvise of several", advise(10, MADV_DONTFORK))
            .ending_in(AGAIN)
            .leaving(advise(2, MADV_DONTFORK))
            .leaving(advise(4, MADV_DONTFORK))
            .leaving(advise(6, MADV_DONTFORK))
            .leaving(advise(8, MADV_DONTFORK)),
        Call::new("madvise to populate", advise(2, MADV_POPULATE_WRITE)),
        Call::new("madvise to guard", advise(2, MADV_GUARD_INSTALL)).leaving(none),
        Call::new("mlock of the middle", lock(27, 2)),
        Call::new("mlock of several", lock(0, 10))
            .leaving(lock(0, 2))
            .leaving(lock(0, 4))
            .leaving(lock(0, 6))
            .leaving(lock(0, 8))
            .leaving(lock(0, 10)),
        Call::new("munlock", |space| {
            done(space.munlock(page(0), 2 * PAGE_SIZE))
        }),
        Call::new("mlockall", |space| done(space.mlockall(MCL_CURRENT))).leaving_anything(),
        Call::new("munlockall", |space| done(space.munlockall())).leaving_anything(),
        Call::new("mseal", |space| done(space.mseal(page(3), PAGE_SIZE, 0))),
        Call::new("msync", |space| done(space.msync(page(0), LEN, MS_SYNC))),
        Call::new("a write", fault(12, Access::Write)),
        Call::new("a write elsewhere", fault(0, Access::Write)),
        Call::new("a stack that grows", fault(990, Access::Write)).leaving(none),
    ]
}

fn kinds() -> Vec<Call> {
    let segment = Segment {
        id: 1,
        key: 2,
        bytes: 4 * PAGE_SIZE,
        device: (0, 1),
        permitted: SegmentAccess::all(),
        pages: None,
    };
    let watcher = Userfaultfd {
        id: 1,
        features: UserfaultFeatures::empty(),
    };
    let bind = BindRequest {
        addr: page(3),
        len: PAGE_SIZE,
        mode: MPOL_BIND,
        nodes: 1,
        allowed: 1,
        flags: 0,
    };
    vec![
        Call::new("shmat", move |space: &mut AddressSpace| {
            space.shmat(Ok(&segment), page(10), SHM_REMAP)
        }),
        Call::new("registration", move |space: &mut AddressSpace| {
            done(space.uffd_register(watcher, page(3)..page(4), UFFDIO_REGISTER_MODE_WP))
        }),
        Call::new("mbind", move |space: &mut AddressSpace| {
            done(space.mbind(bind))
        }),
    ]
}

fn remaps() -> Vec<Call> {
    let remap = |old_pages, new_pages, to: Option<u64>, flags| {
        move |space: &mut AddressSpace| {
            space.mremap(MremapRequest {
                addr: page(24),
                old_len: old_pages * PAGE_SIZE,
                new_len: new_pages * PAGE_SIZE,
                flags,
                new_addr: to.map_or(0, page),
            })
        }
    };
    let fixed = MREMAP_MAYMOVE | MREMAP_FIXED;
    let cleared = |from, pages: u64| {
        move |space: &mut AddressSpace| done(space.munmap(page(from), pages * PAGE_SIZE))
    };
    vec![
        Call::new("mremap in place", remap(10, 12, None, 0)),
        Call::new("mremap to shrink", remap(10, 4, None, 0)),
        Call::new("mremap elsewhere", remap(10, 20, None, MREMAP_MAYMOVE)),
        Call::new("mremap of the head", remap(3, 8, None, MREMAP_MAYMOVE)),
        Call::new("mremap over others", remap(10, 10, Some(51), fixed)).leaving(cleared(51, 10)),
        Call::new("mremap to shrink over others", remap(8, 4, Some(51), fixed))
            .leaving(cleared(51, 4))
            .leaving(move |space| {
                cleared(51, 4)(space)?;
                cleared(28, 4)(space)
            }),
        Call::new(
            "mremap with both kept",
            remap(10, 10, None, MREMAP_MAYMOVE | MREMAP_DONTUNMAP),
        ),
    ]
}

fn bookkeeping() -> Vec<Call> {
    let other = file(1, FileAccess::READ);
    vec![
        Call::new("set_file", move |space| {
            done(space.set_file(other.id, &other))
        }),
        Call::new("mark_written", |space| {
            done(space.mark_written(page(12)..page(13)))
        }),
        Call::new("keep_history", |space| {
            let older = space.snapshot();
            done(space.keep_history(&older))
        }),
        Call::new("snapshot", |space| {
            let copy = space.snapshot();
            Ok(copy.map_count() as u64)
        }),
    ]
}

/// Every call, on what `prepare` leaves.
pub(crate) fn all() -> Vec<Call> {
    let mut calls = maps();
    calls.extend(changes());
    calls.extend(remaps());
    calls.extend(kinds());
    calls.extend(bookkeeping());
    calls
}
