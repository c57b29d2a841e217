//! The calls, what they may end in without memory, and what they may leave then.

use maple_mm::{Access, Errno, Fault, MmapRequest, MremapRequest, abi::*};

use crate::build::{FAR, STACK};
use crate::call::{AGAIN, LEN, Leaves, done, is_at};
use crate::common::{memory, of_file, page};
use crate::family::{Caller, Paged};

const RW: u64 = PROT_READ | PROT_WRITE;

pub(crate) type Act<O = Paged> = crate::call::Act<O>;
pub(crate) type Call<O = Paged> = crate::call::Call<O>;

impl<O: Caller> Call<O> {
    /// What programs see is as before, but there are more pages, or histories.
    pub(crate) fn leaving_pages(self) -> Self {
        self.leaving(|_| Ok(0))
    }

    /// Where readers may have seen it, what `part` does stays.
    ///
    /// LINUX: it always does.
    fn leaving_if_shared(self, part: impl Fn(&mut O) -> Result<u64, Errno> + 'static) -> Self {
        if !O::IS_SHARED {
            return self;
        }
        Self {
            leaves: Leaves::Mappings,
            ..self.leaving(part)
        }
    }

    /// As there, an anon_vma, which programs do not see.
    fn leaving_anon_if_shared(self) -> Self {
        self.leaving_if_shared(|_| Ok(0))
    }
}

pub(crate) const EITHER: &[Errno] = &[Errno::EAGAIN, Errno::ENOMEM];

pub(crate) fn unmap<O: Caller>(
    first: u64,
    pages: u64,
) -> impl Fn(&mut O) -> Result<u64, Errno> + Copy {
    move |space| done(space.space_mut().munmap(page(first), pages * PAGE_SIZE))
}

pub(crate) fn protect<O: Caller>(
    (first, pages): (u64, u64),
    prot: u64,
) -> impl Fn(&mut O) -> Result<u64, Errno> + Copy {
    move |space| {
        done(
            space
                .space_mut()
                .mprotect(page(first), pages * PAGE_SIZE, prot),
        )
    }
}

pub(crate) fn advise<O: Caller>(
    (first, pages): (u64, u64),
    advice: i32,
) -> impl Fn(&mut O) -> Result<u64, Errno> + Copy {
    move |space| {
        done(
            space
                .space_mut()
                .madvise(page(first), pages * PAGE_SIZE, advice),
        )
    }
}

pub(crate) fn lock<O: Caller>(
    (first, pages): (u64, u64),
) -> impl Fn(&mut O) -> Result<u64, Errno> + Copy {
    move |space| done(space.space_mut().mlock(page(first), pages * PAGE_SIZE))
}

pub(crate) fn fault<O: Caller>(
    index: u64,
    access: Access,
) -> impl Fn(&mut O) -> Result<u64, Errno> + Copy {
    move |space| {
        let touched = space.fault(page(index), access);
        touched.map(|()| 0).map_err(Errno::from)
    }
}

/// What moves: pages `first..`, so many; so many are wanted; perhaps to a page.
#[derive(Clone, Copy)]
pub(crate) struct Move {
    pub(crate) first: u64,
    pub(crate) pages: u64,
    pub(crate) wanted: u64,
    pub(crate) to: Option<u64>,
}

impl Move {
    pub(crate) fn call<O: Caller>(
        self,
        flags: u64,
    ) -> impl Fn(&mut O) -> Result<u64, Errno> + Copy {
        move |space| {
            space.space_mut().mremap(MremapRequest {
                addr: page(self.first),
                old_len: self.pages * PAGE_SIZE,
                new_len: self.wanted * PAGE_SIZE,
                flags: flags | self.to.map_or(0, |_| MREMAP_FIXED),
                new_addr: self.to.map_or(0, page),
            })
        }
    }
}

pub(crate) fn maps<O: Caller>() -> Vec<Call<O>> {
    let map = |request: MmapRequest| move |space: &mut O| space.space_mut().mmap(request.clone());
    let shared = MmapRequest {
        flags: MAP_SHARED | MAP_ANONYMOUS,
        ..MmapRequest::anonymous(LEN, RW)
    };
    let flagged = |flags| {
        let mut request = memory(10, 12, RW);
        request.flags |= flags;
        request
    };
    let brk = |pages: u64| {
        move |space: &mut O| {
            let mut space = space.space_mut();
            let to = space.layout().start_brk + pages * PAGE_SIZE;
            is_at(space.brk(to), to)
        }
    };
    vec![
        Call::new("mmap anywhere", map(MmapRequest::anonymous(LEN, RW))),
        Call::new("mmap over several", map(memory(5, 30, RW))),
        Call::new("mmap over touched pages", map(memory(0, 1, RW))),
        Call::new("mmap into one", map(memory(3, 6, PROT_READ))),
        Call::new("mmap shared", map(shared)),
        Call::new("mmap populated", map(flagged(MAP_POPULATE))),
        Call::new("mmap locked", map(flagged(MAP_LOCKED))),
        Call::new("munmap in one", unmap(2, 5)),
        Call::new("munmap of several", unmap(5, 100)),
        Call::new("munmap of one", unmap(0, 10)),
        Call::new("munmap of everything", unmap(0, 300)),
        Call::new("brk up", brk(9)),
        Call::new("brk down", brk(0)),
    ]
}

/// Calls over five mappings in ten pages stop between any two.
fn over_five<O: Caller>(call: Call<O>, part: impl Fn(u64) -> Act<O>) -> Call<O> {
    [2, 4, 6, 8].into_iter().fold(call, |call, pages| {
        let act = part(pages);
        call.leaving(move |space| act(space))
    })
}

pub(crate) fn changes<O: Caller>() -> Vec<Call<O>> {
    vec![
        Call::new("mprotect of the middle", protect((3, 4), PROT_READ)),
        Call::new("mprotect of one", protect((0, 10), PROT_NONE)),
        Call::new("mprotect to run", protect((48, 10), PROT_READ | PROT_EXEC)),
        over_five(
            Call::new("mprotect of several", protect((120, 10), PROT_NONE)),
            |pages| Box::new(protect((120, pages), PROT_NONE)),
        ),
        over_five(
            Call::new("mprotect to let several be written", protect((72, 10), RW)),
            |pages| Box::new(protect((72, pages), RW)),
        ),
        Call::new("madvise of the middle", advise((3, 1), MADV_DONTDUMP)).ending_in(AGAIN),
        over_five(
            Call::new("madvise of several", advise((120, 10), MADV_DONTDUMP)).ending_in(AGAIN),
            |pages| Box::new(advise((120, pages), MADV_DONTDUMP)),
        ),
        Call::new("madvise to discard", advise((5, 3), MADV_DONTNEED)).ending_in(AGAIN),
        Call::new("madvise to free", advise((0, 1), MADV_FREE)).ending_in(AGAIN),
        Call::new("madvise to populate", advise((0, 10), MADV_POPULATE_WRITE)).leaving_pages(),
        Call::new("madvise to read", advise((12, 10), MADV_POPULATE_READ)).leaving_pages(),
        Call::new("madvise to guard", advise((0, 10), MADV_GUARD_INSTALL)),
        Call::new(
            "madvise to guard unwritten memory",
            advise((36, 10), MADV_GUARD_INSTALL),
        )
        .leaving_pages(),
        Call::new("madvise to unguard", advise((84, 10), MADV_GUARD_REMOVE)),
        Call::new(
            "madvise to discard around a guard",
            advise((85, 9), MADV_DONTNEED),
        )
        .ending_in(AGAIN),
        Call::new("mlock", lock((0, 10)))
            .ending_in(EITHER)
            .leaving(lock((0, 10))),
        Call::new("mlockall", |space: &mut O| {
            done(space.space_mut().mlockall(MCL_CURRENT))
        })
        .leaving_anything(),
    ]
}

static BYTES: [u8; 5 * 4096] = [7; 5 * 4096];

pub(crate) fn touches<O: Caller>() -> Vec<Call<O>> {
    let write = |index: u64, len: usize| {
        move |space: &mut O| {
            let written = space.write(page(index), &BYTES[..len]);
            written.map(|()| 0).map_err(|end| end.fault.into())
        }
    };
    use Access::{Read, Write};
    vec![
        Call::new("a write to a page of its own", fault(0, Write)),
        Call::new("a write to nothing", fault(1, Write)),
        Call::new("a write to the zero page", fault(7, Write)),
        Call::new("a first write", fault(28, Write)).leaving_anon_if_shared(),
        Call::new("a read", fault(13, Read)),
        Call::new("a read of a file", fault(38, Read)),
        Call::new("a private write to a file", fault(39, Write)).leaving_anon_if_shared(),
        Call::new("a private write to a page that was read", fault(43, Write))
            .leaving_anon_if_shared(),
        Call::new("a shared write to a file", fault(50, Write)),
        Call::new("a write to shared memory", fault(62, Write)),
        Call::new("a stack that grows", fault(STACK - 10, Write)).leaving_if_shared(
            |space: &mut O| {
                // It grows, whatever the access.
                let refused = space.fault(page(STACK - 10), Access::Execute);
                assert_eq!(refused, Err(Fault::NotAllowed));
                Ok(0)
            },
        ),
        Call::new("bytes in one page", write(1, 100)),
        (1..5)
            .fold(
                Call::new("bytes in five pages", write(1, 5 * 4096)),
                |call, pages| call.leaving(write(1, pages * 4096)),
            )
            .leaving_pages(),
        Call::new("a copy", |space: &mut O| {
            let copied = space.copy_within(page(5) + 64, page(8), 100);
            copied.map(|()| 0).map_err(|end| end.fault.into())
        })
        .leaving_pages(),
    ]
}

pub(crate) fn remaps<O: Caller>() -> Vec<Call<O>> {
    let of_first = |pages, wanted| Move {
        first: 0,
        pages,
        wanted,
        to: None,
    };
    let to = |page| Move {
        to: Some(page),
        ..of_first(10, 10)
    };
    let both = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
    let call_to_shrink = Move {
        to: Some(51),
        ..of_first(8, 4)
    };
    vec![
        Call::new("mremap in place", of_first(10, 12).call(0)),
        Call::new("mremap to shrink", of_first(10, 4).call(0)),
        Call::new("mremap elsewhere", of_first(10, 20).call(MREMAP_MAYMOVE)),
        Call::new("mremap of the head", of_first(3, 8).call(MREMAP_MAYMOVE)),
        Call::new("mremap far away", to(1 << 25).call(MREMAP_MAYMOVE)),
        Call::new("mremap over others", to(51).call(MREMAP_MAYMOVE)).leaving(unmap(51, 10)),
        Call::new(
            "mremap to shrink over others",
            call_to_shrink.call(MREMAP_MAYMOVE),
        )
        .leaving(unmap(51, 4))
        .leaving(|space| {
            unmap(51, 4)(space)?;
            unmap(4, 4)(space)
        }),
        Call::new("mremap with both kept", of_first(10, 10).call(both)),
    ]
}

/// On a mapping over two tables, which not every family has.
pub(crate) fn straddling<O: Caller>() -> Call<O> {
    let over_two = Move {
        first: 250,
        pages: 10,
        wanted: 10,
        to: Some(1 << 25),
    };
    Call::new("mremap over two tables", over_two.call(MREMAP_MAYMOVE))
}

/// Calls on files, shared and locked memory: for families of all kinds.
pub(crate) fn on_kinds<O: Caller>() -> Vec<Call<O>> {
    let grow = |first, pages| {
        let larger = Move {
            first,
            pages,
            wanted: pages + 10,
            to: None,
        };
        larger.call(MREMAP_MAYMOVE)
    };
    let again = Move {
        first: 60,
        pages: 0,
        wanted: 10,
        to: None,
    };
    let of_far = |flags: u64| {
        move |space: &mut O| {
            let mut space = space.space_mut();
            let file = space.vma_at(page(FAR)).and_then(|vma| vma.file()).cloned();
            let mut request = of_file(&file.ok_or(Errno::EBADF)?, 5..25, 0);
            request.flags |= flags;
            space.mmap(request)
        }
    };
    let shared = |space: &mut O| {
        let mut space = space.space_mut();
        let file = space.vma_at(page(FAR)).and_then(|vma| vma.file()).cloned();
        let mut request = of_file(&file.ok_or(Errno::EBADF)?, 5..25, 0);
        request.prot = RW;
        request.flags = MAP_SHARED | MAP_FIXED;
        space.mmap(request)
    };
    vec![
        Call::new("mmap of a file", of_far(0)),
        Call::new("mmap of a file, populated", of_far(MAP_POPULATE)),
        Call::new("mmap of a shared file", shared),
        Call::new("munmap in a file", unmap(38, 4)),
        Call::new("munmap in a shared file", unmap(50, 4)),
        Call::new("munmap of shared memory", unmap(60, 10)),
        Call::new("munmap in locked memory", unmap(182, 4)),
        Call::new("mprotect of a file", protect((38, 4), PROT_READ)),
        Call::new("mprotect of a shared file", protect((50, 4), PROT_READ)),
        Call::new("mprotect of locked memory", protect((182, 4), PROT_READ)),
        Call::new("mremap of a file", grow(36, 10)),
        Call::new("mremap of a shared file", grow(48, 10)),
        Call::new("mremap of locked memory", grow(180, 10)),
        Call::new("mremap to have it twice", again.call(MREMAP_MAYMOVE)),
        Call::new("a first read in a table", fault(FAR + 3, Access::Read)),
        Call::new("a first write in a table", fault(FAR + 3, Access::Write))
            .leaving_anon_if_shared(),
    ]
}
