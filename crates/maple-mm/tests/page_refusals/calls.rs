//! The calls, and what they may end in without memory.

use maple_mm::{Access, Errno, MmapRequest, MremapRequest, abi::*};

use crate::common::{memory, page};
use crate::family::Paged;

const RW: u64 = PROT_READ | PROT_WRITE;

pub(crate) type Act = Box<dyn Fn(&mut Paged) -> Result<u64, Errno>>;

/// A call, what it may end in without memory, and whether it may leave something then.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) act: Act,
    pub(crate) errnos: &'static [Errno],
    pub(crate) leaves: Leaves,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaves {
    Nothing,
    /// What Linux leaves, too; or the call does not even fail.
    Something,
}

pub(crate) fn call(
    name: &'static str,
    act: impl Fn(&mut Paged) -> Result<u64, Errno> + 'static,
) -> Call {
    Call {
        name,
        act: Box::new(act),
        errnos: &[Errno::ENOMEM],
        leaves: Leaves::Nothing,
    }
}

impl Call {
    pub(crate) fn ending_in(self, errnos: &'static [Errno]) -> Self {
        Self { errnos, ..self }
    }

    pub(crate) fn leaving_something(self) -> Self {
        Self {
            leaves: Leaves::Something,
            ..self
        }
    }
}

pub(crate) fn done(result: Result<(), Errno>) -> Result<u64, Errno> {
    result.map(|()| 0)
}

pub(crate) fn is_at(result: u64, wanted: u64) -> Result<u64, Errno> {
    if result == wanted {
        Ok(result)
    } else {
        Err(Errno::ENOMEM)
    }
}

pub(crate) const LEN: u64 = 10 * PAGE_SIZE;

pub(crate) fn maps() -> Vec<Call> {
    let map = |request: MmapRequest| move |space: &mut Paged| space.mmap(request.clone());
    let shared = MmapRequest {
        flags: MAP_SHARED | MAP_ANONYMOUS,
        ..MmapRequest::anonymous(LEN, RW)
    };
    let mut populated = memory(10, 12, RW);
    populated.flags |= MAP_POPULATE;
    let unmap = |first, pages: u64| {
        move |space: &mut Paged| done(space.munmap(page(first), pages * PAGE_SIZE))
    };
    let brk = |pages: u64| {
        move |space: &mut Paged| {
            let to = space.layout().start_brk + pages * PAGE_SIZE;
            is_at(space.brk(to), to)
        }
    };
    vec![
        call("mmap anywhere", map(MmapRequest::anonymous(LEN, PROT_READ))),
        call("mmap over several", map(memory(5, 30, RW))),
        call("mmap over touched pages", map(memory(0, 1, RW))),
        call("mmap into one", map(memory(3, 6, PROT_READ))),
        call("mmap shared", map(shared)),
        call("mmap populated", map(populated)).leaving_something(),
        call("munmap in one", unmap(2, 5)),
        call("munmap of several", unmap(5, 100)),
        call("munmap of one", unmap(0, 10)),
        call("munmap of everything", unmap(0, 300)),
        call("brk up", brk(9)),
        call("brk down", brk(0)),
    ]
}

pub(crate) fn changes() -> Vec<Call> {
    let advise = |first, pages: u64, advice| {
        move |space: &mut Paged| done(space.madvise(page(first), pages * PAGE_SIZE, advice))
    };
    let protect = |first, pages: u64, prot| {
        move |space: &mut Paged| done(space.mprotect(page(first), pages * PAGE_SIZE, prot))
    };
    const AGAIN: &[Errno] = &[Errno::EAGAIN];
    const EITHER: &[Errno] = &[Errno::EAGAIN, Errno::ENOMEM];
    vec![
        call("mprotect of the middle", protect(3, 4, PROT_READ)),
        call("mprotect of one", protect(0, 10, PROT_NONE)),
        call("mprotect to run", protect(48, 10, PROT_READ | PROT_EXEC)),
        call("madvise of the middle", advise(3, 1, MADV_DONTDUMP)).ending_in(AGAIN),
        call("madvise to discard", advise(5, 3, MADV_DONTNEED)).ending_in(AGAIN),
        call("madvise to free", advise(0, 1, MADV_FREE)).ending_in(AGAIN),
        call("madvise to populate", advise(0, 10, MADV_POPULATE_WRITE)).leaving_something(),
        call("madvise to read", advise(12, 10, MADV_POPULATE_READ)).leaving_something(),
        call("madvise to guard", advise(0, 10, MADV_GUARD_INSTALL))
            .ending_in(EITHER)
            .leaving_something(),
        call("mlock", |space| done(space.mlock(page(0), LEN)))
            .ending_in(EITHER)
            .leaving_something(),
        call("mlockall", |space| done(space.mlockall(MCL_CURRENT))).leaving_something(),
    ]
}

static BYTES: [u8; 5 * 4096] = [7; 5 * 4096];

pub(crate) fn touches() -> Vec<Call> {
    let fault = |index: u64, access| {
        move |space: &mut Paged| {
            space
                .fault(page(index), access)
                .map_err(Errno::from)
                .map(|()| 0)
        }
    };
    let write = |index: u64, len: usize| {
        move |space: &mut Paged| {
            let written = space.write(page(index), &BYTES[..len]);
            written.map(|()| 0).map_err(|end| end.fault.into())
        }
    };
    use Access::{Read, Write};
    vec![
        call("a write to a page of its own", fault(0, Write)),
        call("a write to nothing", fault(1, Write)),
        call("a write to the zero page", fault(7, Write)),
        call("a first write", fault(28, Write)),
        call("a read", fault(13, Read)),
        call("a read of a file", fault(38, Read)),
        call("a private write to a file", fault(39, Write)),
        call("a private write to a page that was read", fault(43, Write)),
        call("a shared write to a file", fault(50, Write)),
        call("a write to shared memory", fault(62, Write)),
        call("a stack that grows", fault(990, Write)),
        call("bytes in one page", write(1, 100)),
        call("bytes in five pages", write(1, 5 * 4096)).leaving_something(),
        call("a copy", |space| {
            let copied = space.copy_within(page(5) + 64, page(8), 100);
            copied.map(|()| 0).map_err(|end| end.fault.into())
        })
        .leaving_something(),
    ]
}

pub(crate) fn remaps() -> Vec<Call> {
    let remap = |old_pages, new_pages, to: Option<u64>, flags| {
        move |space: &mut Paged| {
            space.mremap(MremapRequest {
                addr: page(0),
                old_len: old_pages * PAGE_SIZE,
                new_len: new_pages * PAGE_SIZE,
                flags,
                new_addr: to.map_or(0, page),
            })
        }
    };
    let straddling = |space: &mut Paged| {
        space.mremap(MremapRequest {
            addr: page(250),
            old_len: LEN,
            new_len: LEN,
            flags: MREMAP_MAYMOVE | MREMAP_FIXED,
            new_addr: page(1 << 25),
        })
    };
    let fixed = MREMAP_MAYMOVE | MREMAP_FIXED;
    let both = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
    vec![
        call("mremap in place", remap(10, 12, None, 0)),
        call("mremap to shrink", remap(10, 4, None, 0)),
        call("mremap elsewhere", remap(10, 20, None, MREMAP_MAYMOVE)),
        call("mremap of the head", remap(3, 8, None, MREMAP_MAYMOVE)),
        call("mremap far away", remap(10, 10, Some(1 << 25), fixed)),
        call("mremap over others", remap(10, 10, Some(51), fixed)).leaving_something(),
        call("mremap over two tables", straddling),
        call("mremap with both kept", remap(10, 10, None, both)),
    ]
}
