//! Calls amid huge pages: these are cut where an edge lies within, and replaced by small ones
//! where there is no frame so large.

use maple_mm::{Access, abi::*};

use crate::build::HUGE;
use crate::call::AGAIN;
use crate::calls::{Call, EITHER, Move, advise, fault, lock, protect, unmap};
use crate::common::{memory, page};
use crate::family::Caller;

const RW: u64 = PROT_READ | PROT_WRITE;

fn ends<O: Caller>() -> Vec<Call<O>> {
    let over = |first, end| move |space: &mut O| space.space_mut().mmap(memory(first, end, RW));
    vec![
        Call::new("munmap in a huge page", unmap(HUGE + 100, 5)),
        Call::new("munmap of a huge page", unmap(HUGE, 512)),
        Call::new("munmap from one into the next", unmap(HUGE + 500, 100)),
        Call::new("munmap of everything", unmap(HUGE, 4000)),
        Call::new("mmap into a huge page", over(HUGE + 100, HUGE + 105)),
        Call::new("mmap over huge pages", over(HUGE + 300, HUGE + 1200)),
        Call::new(
            "discarding in a huge page",
            advise((HUGE + 100, 5), MADV_DONTNEED),
        )
        .ending_in(AGAIN),
        Call::new("discarding a huge page", advise((HUGE, 512), MADV_DONTNEED)).ending_in(AGAIN),
    ]
}

fn changes<O: Caller>() -> Vec<Call<O>> {
    let read_only = |first, pages| protect((first, pages), PROT_READ);
    vec![
        Call::new("mprotect in a huge page", read_only(HUGE + 100, 5)),
        Call::new("mprotect of a huge page", read_only(HUGE, 512)),
        Call::new("mprotect from one into the next", read_only(HUGE + 500, 50)),
        Call::new(
            "madvise in a huge page",
            advise((HUGE + 100, 5), MADV_DONTFORK),
        )
        .ending_in(AGAIN),
        Call::new(
            "madvise to populate",
            advise((HUGE + 1530, 70), MADV_POPULATE_WRITE),
        )
        .leaving_pages(),
        Call::new(
            "madvise to guard",
            advise((HUGE + 100, 5), MADV_GUARD_INSTALL),
        ),
        Call::new("mlock in a huge page", lock((HUGE + 100, 5)))
            .ending_in(EITHER)
            .leaving(lock((HUGE + 100, 5))),
    ]
}

fn touches<O: Caller>() -> Vec<Call<O>> {
    use Access::{Read, Write};
    vec![
        Call::new("a write to a huge page", fault(HUGE + 100, Write)),
        Call::new("a write to another", fault(HUGE + 900, Write)),
        Call::new("a write beside the zero page", fault(HUGE + 1031, Write)),
        Call::new("a write to the zero page", fault(HUGE + 1030, Write)),
        Call::new("a write to 2 MiB of nothing", fault(HUGE + 1600, Write)),
        Call::new("a read of 2 MiB of nothing", fault(HUGE + 1600, Read)),
        Call::new("bytes from one into the next", |space: &mut O| {
            let written = space.write(page(HUGE + 512) - 50, &[7; 100]);
            written.map(|()| 0).map_err(|end| end.fault.into())
        })
        .leaving(|space: &mut O| {
            let written = space.write(page(HUGE + 512) - 50, &[7; 50]);
            written.map(|()| 0).map_err(|end| end.fault.into())
        })
        .leaving_pages(),
    ]
}

fn moves<O: Caller>() -> Vec<Call<O>> {
    let from = |first, pages, to| {
        let moved = Move {
            first,
            pages,
            wanted: pages,
            to: Some(to),
        };
        moved.call(MREMAP_MAYMOVE)
    };
    let kept = Move {
        first: HUGE,
        pages: 512,
        wanted: 512,
        to: None,
    };
    vec![
        Call::new("mremap of a huge page", from(HUGE, 512, HUGE + 8192)),
        Call::new("mremap to where none fits", from(HUGE, 512, HUGE + 8193)),
        Call::new("mremap in a huge page", from(HUGE + 100, 5, HUGE + 8200)),
        Call::new("mremap over huge pages", from(HUGE + 3000, 10, HUGE + 508))
            .leaving(unmap(HUGE + 508, 10)),
        Call::new(
            "mremap with both kept",
            kept.call(MREMAP_MAYMOVE | MREMAP_DONTUNMAP),
        ),
    ]
}

pub(crate) fn all<O: Caller>() -> Vec<Call<O>> {
    let parts = [ends(), changes(), touches(), moves()];
    parts.into_iter().flatten().collect()
}
