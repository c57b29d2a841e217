//! The mistakes that can be planted are there, and only in builds that ask for them.
#![cfg(planted_mistakes)]

mod common;

use common::{map, page};
use maple_mm::planted::{Mistake, Rule, set};
use maple_mm::{AddressSpace, Errno, MmapRequest, abi::*};

#[test]
fn a_mistake_turns_one_rule_wrong() {
    let mut space = AddressSpace::empty();
    let top = space.layout().mmap_base;
    set(Mistake::Errno);
    assert_eq!(space.munmap(1, 4096), Err(Errno::EFAULT));
    set(Mistake::GapRule);
    let request = MmapRequest::anonymous(4096, PROT_READ);
    assert_eq!(space.mmap(request), Ok(top - 2 * PAGE_SIZE));
    set(Mistake::MergeRule);
    map(&mut space, 0, 1);
    map(&mut space, 1, 2);
    assert!(space.vma_at(page(1)).unwrap().start() == page(1));
    assert_eq!(space.munmap(1, 4096), Err(Errno::EINVAL));
}

#[test]
fn there_are_many_of_every_kind_and_each_has_a_name_of_its_own() {
    let mut names: Vec<&str> = Mistake::ALL.iter().map(|mistake| mistake.name()).collect();
    assert!(names.len() >= 25, "{}", names.len());
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Mistake::ALL.len());
    for rule in [
        Rule::Merge,
        Rule::Placement,
        Rule::Limit,
        Rule::Flag,
        Rule::Errno,
    ] {
        let of_kind = Mistake::ALL.iter().filter(|mistake| mistake.rule() == rule);
        assert!(of_kind.count() >= 5, "{rule:?}");
    }
}
