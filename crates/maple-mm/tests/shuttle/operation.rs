//! [`Operation`]: what threads do, and what an address space on its own does in their place.

use std::ops::Range;

use maple_mm::{
    Access, AddressSpace, ForkPlan, ForkStrategy, GuestMemory, MmapRequest, Moment, PageStrategy,
    abi::*,
};
use testkit::SplitMix;

/// Where the pages begin: two of them have another table than the rest.
const BASE: u64 = 34 * PAGE_SIZE;

/// How many pages there are at most: with that many mappings a tree of small nodes has two levels.
pub(crate) const PAGES: u64 = 6;

const RIGHTS: [u64; 4] = [
    PROT_READ | PROT_WRITE,
    PROT_READ | PROT_WRITE,
    PROT_READ,
    PROT_NONE,
];

/// One whole operation. Pages are numbered.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Map(Range<u64>, u64),
    Unmap(Range<u64>),
    Protect(Range<u64>, u64),
    /// `MADV_DONTNEED`.
    Discard(Range<u64>),
    /// Forks, and writes a number to a page of the child.
    Fork(ForkPlan, u64, u64),
    Write(u64, u64),
    Read(u64),
    Fault(u64, Access),
    Check(u64, Access),
    Moment,
}

/// What an operation answered, as text.
pub(crate) type Answer = String;

/// What kinds of operations there are, on how many pages.
#[derive(Clone, Copy)]
pub(crate) struct Mix {
    pub(crate) pages: u64,
    /// One that is there twice comes twice as often.
    pub(crate) kinds: &'static [Kind],
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Map,
    Unmap,
    Protect,
    Discard,
    Fork,
    Write,
    Read,
    Fault,
    Check,
    Moment,
}

impl Mix {
    /// `number` is what is written, if it writes.
    pub(crate) fn random(&self, rng: &mut SplitMix, number: u64) -> Operation {
        let page = rng.below(self.pages);
        let pages = page..(page + 1 + rng.below(3)).min(self.pages);
        let rights = RIGHTS[rng.index(RIGHTS.len())];
        let access = [Access::Read, Access::Write][rng.index(2)];
        match self.kinds[rng.index(self.kinds.len())] {
            Kind::Map => Operation::Map(pages, rights),
            Kind::Unmap => Operation::Unmap(pages),
            Kind::Protect => Operation::Protect(pages, rights),
            Kind::Discard => Operation::Discard(pages),
            Kind::Fork => Operation::Fork(random_plan(rng), page, number),
            Kind::Write => Operation::Write(page, number),
            Kind::Read => Operation::Read(page),
            Kind::Fault => Operation::Fault(page, access),
            Kind::Check => Operation::Check(page, access),
            Kind::Moment => Operation::Moment,
        }
    }
}

impl Operation {
    /// The pages of a call that changes one after the other.
    pub(crate) fn changed(&self) -> Option<&Range<u64>> {
        match self {
            Self::Map(pages, _)
            | Self::Unmap(pages)
            | Self::Protect(pages, _)
            | Self::Discard(pages) => Some(pages),
            _ => None,
        }
    }

    /// The only page that it looks at or writes to, without the lock.
    pub(crate) const fn page(&self) -> Option<u64> {
        match *self {
            Self::Write(page, _) | Self::Read(page) => Some(page),
            Self::Fault(page, _) | Self::Check(page, _) => Some(page),
            _ => None,
        }
    }

    /// Whether it takes the lock, and not only where it has to wait.
    pub(crate) const fn is_call(&self) -> bool {
        self.page().is_none() && !matches!(self, Self::Moment)
    }

    /// Does it to an address space that nobody else changes meanwhile.
    pub(crate) fn call<P: GuestMemory>(
        &self,
        space: &mut AddressSpace<P>,
        children: &mut Vec<AddressSpace<P>>,
    ) -> Answer {
        match self {
            Self::Map(pages, rights) => {
                let request = MmapRequest::anonymous(len(pages), *rights);
                let answer = space.mmap(MmapRequest {
                    addr: addr(pages.start),
                    flags: request.flags | MAP_FIXED,
                    ..request
                });
                format!("{answer:?}")
            }
            Self::Unmap(pages) => format!("{:?}", space.munmap(addr(pages.start), len(pages))),
            Self::Protect(pages, rights) => {
                let answer = space.mprotect(addr(pages.start), len(pages), *rights);
                format!("{answer:?}")
            }
            Self::Discard(pages) => {
                let answer = space.madvise(addr(pages.start), len(pages), MADV_DONTNEED);
                format!("{answer:?}")
            }
            Self::Fork(plan, ..) => {
                let child = space.fork_with(*plan, || false);
                children.push(child.expect("memory"));
                String::new()
            }
            Self::Write(page, number) => {
                format!("{:?}", space.write(addr(*page), &number.to_ne_bytes()))
            }
            Self::Read(page) => {
                let mut bytes = [0; 8];
                let answer = space.read(addr(*page), &mut bytes);
                format!("{:?}", answer.map(|()| u64::from_ne_bytes(bytes)))
            }
            Self::Fault(page, access) => format!("{:?}", space.fault(addr(*page), *access)),
            Self::Check(page, access) => {
                format!("{:?}", space.check_range(bytes_of(*page), *access))
            }
            Self::Moment => shown(&space.moment()),
        }
    }
}

/// What is done to a child when nobody waits for it any more: `call`'s last, if it was a fork.
pub(crate) fn write_to_child<P: GuestMemory>(
    call: &Operation,
    child: &mut AddressSpace<P>,
) -> Answer {
    match call {
        Operation::Fork(_, page, number) => {
            format!("{:?}", child.write(addr(*page), &number.to_ne_bytes()))
        }
        _ => Answer::new(),
    }
}

/// What a moment shows of its mappings, and of what is counted for them.
pub(crate) fn shown(moment: &Moment) -> Answer {
    let mut text = String::new();
    moment.write_maps(&mut text).expect("text");
    let counted = moment.statistics();
    format!("{text}{} of {}", counted.total_vm, counted.peak_vm)
}

/// All that there is to see in the end: mappings, what is counted, and what every page holds.
pub(crate) fn portrait<P: GuestMemory>(space: &mut AddressSpace<P>) -> String {
    let mut text = shown(&space.moment());
    text += &format!(", {:?}", space.statistics().resident);
    for page in 0..PAGES {
        let has_mapping = space.mprotect(addr(page), PAGE_SIZE, PROT_READ);
        let mut bytes = [0; 8];
        let read = has_mapping.map(|()| space.read(addr(page), &mut bytes));
        text += &format!("; {page}: {read:?} {:x}", u64::from_ne_bytes(bytes));
    }
    text
}

pub(crate) const fn addr(page: u64) -> u64 {
    BASE + page * PAGE_SIZE
}

pub(crate) const fn bytes_of(page: u64) -> Range<u64> {
    addr(page)..addr(page + 1)
}

const fn len(pages: &Range<u64>) -> u64 {
    (pages.end - pages.start) * PAGE_SIZE
}

fn random_plan(rng: &mut SplitMix) -> ForkPlan {
    ForkPlan {
        mappings: ForkStrategy::ALL[rng.index(ForkStrategy::ALL.len())],
        pages: PageStrategy::ALL[rng.index(PageStrategy::ALL.len())],
    }
}
