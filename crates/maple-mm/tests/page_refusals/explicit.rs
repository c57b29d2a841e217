//! Explicitly huge mappings: every allocation of every call on them refused in turn. What fails
//! leaves the pool as it was, too.

use std::ops::Range;

use maple_mm::{Access, Errno, Fault, MmapRequest, MremapRequest, abi::*};

use crate::MODES;
use crate::build::{Build, Ground, Scale, map};
use crate::call::{AGAIN, done};
use crate::calls::Call;
use crate::common::paged::set;
use crate::family::{Family, Paged};
use crate::forks::{Care, fork_all};
use crate::points::{Kind, Points};

const RW: u64 = PROT_READ | PROT_WRITE;
const H: u64 = HUGE_PAGE_SIZE;
/// In tables of their own: nothing else is mapped in this GiB.
const BASE: u64 = 0x20_0000_0000;

const fn at(index: u64) -> u64 {
    BASE + index * H
}

fn request(flags: u64, pages: Range<u64>) -> MmapRequest {
    MmapRequest {
        addr: at(pages.start),
        flags: flags | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED,
        ..MmapRequest::anonymous((pages.end - pages.start) * H, RW)
    }
}

/// Private ones that are promised (0..3) or not (4..6), and shared ones (8..10), each touched in
/// its first page, with a pool of `pages`.
fn with_pool(ground: Ground, pages: u32) -> Family {
    let ground = Ground {
        huge_pages: pages,
        ..ground
    };
    let mut family = ground.family(Scale::Huge);
    for (flags, pages) in [
        (MAP_PRIVATE, 0..3),
        (MAP_PRIVATE | MAP_NORESERVE, 4..6),
        (MAP_SHARED, 8..10),
    ] {
        let first = pages.start;
        map(&mut family.space, request(flags, pages));
        set(&mut family.space, at(first) + 8, first + 1);
    }
    family
}

/// There is enough for all to be read, and so brought in.
fn explicit(ground: Ground) -> Family {
    with_pool(ground, 40)
}

/// In a child that shares all with its parent, and that is nobody's parent.
fn inherited(ground: Ground) -> Family {
    let mut family = explicit(ground);
    let child = family.space.fork().unwrap();
    let parent = std::mem::replace(&mut family.space, child);
    family.others = vec![parent];
    family
}

/// In a parent of such a child.
fn shared(ground: Ground) -> Family {
    let mut family = explicit(ground);
    let child = family.space.fork().unwrap();
    family.others = vec![child];
    family
}

fn maps() -> Vec<Call> {
    let map = |flags, pages: Range<u64>| {
        move |space: &mut Paged| space.mmap(request(flags, pages.clone()))
    };
    let unmap =
        |first, pages: u64| move |space: &mut Paged| done(space.munmap(at(first), pages * H));
    let moved = MremapRequest {
        addr: at(0),
        old_len: 2 * H,
        new_len: H,
        flags: MREMAP_MAYMOVE | MREMAP_FIXED,
        new_addr: at(5),
    };
    vec![
        Call::new("mmap", map(MAP_PRIVATE, 12..13)),
        Call::new("mmap shared", map(MAP_SHARED, 12..13)),
        Call::new(
            "mmap without a promise",
            map(MAP_PRIVATE | MAP_NORESERVE, 12..20),
        ),
        Call::new("mmap over touched pages", map(MAP_PRIVATE, 0..1)),
        Call::new("mmap populated", map(MAP_PRIVATE | MAP_POPULATE, 12..13)).leaving_anything(),
        Call::new("munmap of the first", unmap(0, 1)),
        Call::new("munmap of the middle", unmap(1, 1)),
        Call::new("munmap of several", unmap(0, 9)),
        Call::new("munmap of everything", unmap(0, 20)),
        Call::new("mremap", move |space: &mut Paged| {
            // The target is unmapped first, then what is too long, and both stay so.
            space.mremap(moved)
        })
        .leaving(unmap(5, 1))
        .leaving(move |space| {
            unmap(5, 1)(space)?;
            unmap(1, 1)(space)
        }),
    ]
}

fn changes() -> Vec<Call> {
    let advise = |first, pages: u64, advice| {
        move |space: &mut Paged| done(space.madvise(at(first), pages * H, advice))
    };
    let protect =
        |first, pages: u64| move |space: &mut Paged| done(space.mprotect(at(first), pages * H, 1));
    vec![
        Call::new("mprotect of one", protect(0, 3)),
        Call::new("mprotect of the middle", protect(1, 1)),
        Call::new("madvise to discard", advise(0, 1, MADV_DONTNEED)).ending_in(AGAIN),
        Call::new("madvise to discard all", advise(8, 2, MADV_DONTNEED)).ending_in(AGAIN),
        Call::new("madvise not to fork", advise(1, 1, MADV_DONTFORK)).ending_in(AGAIN),
    ]
}

/// What others who map the same memory see.
fn contents() -> Call {
    let zero = |space: &mut Paged| done(space.madvise(at(8), 2 * H, MADV_REMOVE));
    Call::new("madvise to make zero", zero)
}

fn touches() -> Vec<Call> {
    const EITHER: &[Errno] = &[Errno::ENOMEM, Errno::EFAULT];
    let fault = |index, access| {
        move |space: &mut Paged| {
            let touched = space.fault(at(index) + 4096, access);
            touched.map(|()| 0).map_err(Errno::from)
        }
    };
    let populate = |space: &mut Paged| done(space.madvise(at(0), 3 * H, MADV_POPULATE_WRITE));
    vec![
        Call::new("a read", fault(1, Access::Read)).ending_in(EITHER),
        Call::new("a write", fault(1, Access::Write)).ending_in(EITHER),
        Call::new("a write to what is there", fault(0, Access::Write)).ending_in(EITHER),
        Call::new("a write without a promise", fault(5, Access::Write)).ending_in(EITHER),
        // LINUX: a page of the object stays where a table for it is missing.
        Call::new("a shared write", fault(9, Access::Write))
            .ending_in(EITHER)
            .leaving_pages(),
        Call::new("a shared read", fault(9, Access::Read))
            .ending_in(EITHER)
            .leaving_pages(),
        Call::new("a shared write to what is there", fault(8, Access::Write)).ending_in(EITHER),
        Call::new("populating", populate)
            .ending_in(EITHER)
            .leaving_pages(),
    ]
}

fn fail_all(name: &str, build: Build, more: Option<Call>) -> Points {
    let calls = [maps(), changes(), touches()].into_iter().flatten();
    let calls: Vec<Call> = calls.chain(more).collect();
    crate::fail_in(&format!("explicitly huge, {name}"), build, (&calls, &MODES))
}

#[test]
fn calls_on_explicitly_huge_mappings_survive_every_refusal() {
    let tried = fail_all("alone", explicit, Some(contents()));
    tried.assert_cover(&[Kind::Node, Kind::Vma, Kind::HugeFrame, Kind::Other]);
}

#[test]
fn calls_on_inherited_huge_mappings_survive_every_refusal() {
    let tried = fail_all("inherited", inherited, None);
    tried.assert_cover(&[Kind::HugeFrame, Kind::Table]);
}

#[test]
fn calls_on_huge_mappings_amid_those_that_share_survive_every_refusal() {
    let tried = fail_all("shared", shared, None);
    tried.assert_cover(&[Kind::HugeFrame, Kind::Table]);
}

#[test]
fn forks_of_explicitly_huge_mappings_survive_every_refusal_and_cancel() {
    fork_all("explicitly huge", explicit, Care::Full);
    fork_all("explicitly huge, inherited", inherited, Care::Full);
}

/// Where the pool is empty a fault changes nothing, as without memory.
#[test]
fn an_empty_pool_changes_nothing() {
    let mut family = with_pool(Ground::new(), 9);
    for index in [1, 2, 9] {
        set(&mut family.space, at(index), 1);
    }
    family.space.mmap(request(MAP_SHARED, 12..15)).unwrap();
    let before = family.strict();
    for access in [Access::Read, Access::Write] {
        assert_eq!(family.space.fault(at(5), access), Err(Fault::Bus));
        assert_eq!(family.strict(), before);
    }
    let another = family.space.mmap(request(MAP_PRIVATE, 20..21));
    assert_eq!(another, Err(Errno::ENOMEM));
    assert_eq!(family.strict(), before);
    family.check();
}
