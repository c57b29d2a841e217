//! Every allocation refused once: what is mapped stays as it was, and nothing leaks.

use crate::random::{Frames, seeds};
use crate::support::{PAGE, Tables, check, map, mark_at, memory, silent, space};
use maple_mm::paging::{
    CopyRange, Cow, MoveRange, PageTables, PagingError, PhysMemory, Protection, Sharing, Tiny,
    X86_64,
};

/// Each operation of random runs, with no allocation granted at first, then one more each time.
#[test]
fn random_operations_survive_every_failure() {
    let tiny = seeds::<Tiny<2>>(1000..1030, 200, Frames::OneMoreEachTime);
    let real = seeds::<X86_64<4>>(1100..1104, 80, Frames::OneMoreEachTime);
    testkit::report(&format!("{tiny} + {real} refused allocations survived"));
    assert!(std::env::var_os("MAPLE_MM_PAGING_SEED").is_some() || tiny > 1000 && real > 200);
}

type Quad = X86_64<4>;
const HUGE: u64 = 2 << 20;
const GIGA: u64 = 1 << 30;

/// Pages around every boundary of tables, in tables that another address space shares.
fn family(memory: &crate::support::Memory) -> [Tables<'_, Quad>; 2] {
    let mut parent = space::<Quad>(memory);
    for base in [HUGE, GIGA, 512 * GIGA] {
        for addr in [base - PAGE, base] {
            map(&mut parent, addr, addr);
        }
    }
    let mut child = space(memory);
    parent.share_all(&mut child, &mut silent(&memory)).unwrap();
    [parent, child]
}

/// Grants one more allocation each time until `operation` succeeds; how many it took.
fn every_failure(
    operation: impl Fn(&mut Tables<'_, Quad>, &mut Tables<'_, Quad>) -> Result<(), PagingError>,
) -> u64 {
    for granted in 0.. {
        let memory = &memory(256);
        let [mut parent, mut child] = family(memory);
        let before = [&parent, &child].map(|side| (side.resident(), side.pgtables_bytes()));
        memory.fail_after(Some(granted));
        let done = operation(&mut parent, &mut child);
        memory.fail_after(None);
        check(&[&parent, &child]);
        let is_done = done.is_ok();
        if !is_done {
            assert_eq!(done, Err(PagingError::OutOfFrames));
            let after = [&parent, &child].map(|side| (side.resident(), side.pgtables_bytes()));
            assert_eq!(after, before);
            for base in [HUGE, GIGA, 512 * GIGA] {
                assert_eq!(mark_at(&parent, base), base);
                assert_eq!(mark_at(&child, base - PAGE), base - PAGE);
            }
        }
        drop((parent, child));
        assert_eq!(memory.in_use(), 0);
        if is_done {
            return granted;
        }
    }
    unreachable!("it succeeds with enough frames");
}

#[test]
fn a_zap_of_a_part_needs_two_tables_a_level_at_most() {
    let needed = every_failure(|_, child| {
        child.zap(HUGE - PAGE..512 * GIGA + PAGE, &mut silent(child.memory()))
    });
    assert_eq!(needed, 6);
}

#[test]
fn a_prepared_zap_cannot_fail() {
    let memory = &memory(256);
    let [parent, child] = family(memory);
    let mut gather = silent(&memory);
    let prepared = child.prepare_zap(HUGE - PAGE..GIGA, &mut gather).unwrap();
    memory.fail_after(Some(0));
    child.zap_prepared(prepared, &mut gather);
    gather.finish();
    assert_eq!(child.resident().anon, 3);
    check(&[&parent, &child]);
}

#[test]
#[should_panic(expected = "the tables were shared since")]
fn a_zap_that_was_prepared_before_a_fork_is_refused() {
    let memory = &memory(256);
    let [_, child] = family(memory);
    let mut gather = silent(&memory);
    let prepared = child.prepare_zap(HUGE - PAGE..GIGA, &mut gather).unwrap();
    let mut grandchild = space(memory);
    child.share_all(&mut grandchild, &mut gather).unwrap();
    child.zap_prepared(prepared, &mut gather);
}

/// The child shares its tables with another one, and has nothing in the range yet.
#[test]
fn a_copy_into_shared_tables_that_fails_leaves_them_alone() {
    for granted in 0..4 {
        let memory = &memory(256);
        let [mut parent, mut child] = family(memory);
        let mut grandchild = space(memory);
        child
            .share_all(&mut grandchild, &mut silent(&memory))
            .unwrap();
        map(&mut parent, 5 * HUGE, 5);
        map(&mut parent, 6 * HUGE, 6);
        let range = CopyRange {
            addresses: 5 * HUGE..6 * HUGE + PAGE,
            cow: Cow::Private,
        };
        let before = (child.resident(), child.pgtables_bytes());
        memory.fail_after(Some(granted));
        let copied = parent.copy_range(&mut child, &range, &mut silent(&memory));
        memory.fail_after(None);
        assert_eq!(copied, Err(PagingError::OutOfFrames), "{granted}");
        assert_eq!((child.resident(), child.pgtables_bytes()), before);
        check(&[&parent, &child, &grandchild]);
    }
}

#[test]
fn protecting_and_moving_and_copying_and_writing() {
    let protection = Protection {
        rights: maple_mm::paging::LeafFlags::READ,
        key: None,
    };
    let protect = every_failure(|_, child| {
        child.protect(0..600 * GIGA, protection, &mut silent(child.memory()))
    });
    let range = MoveRange {
        from: HUGE - PAGE,
        to: 700 * GIGA + PAGE,
        len: 600 * GIGA,
    };
    let shift = every_failure(|_, child| child.move_range(range, &mut silent(child.memory())));
    let copy = every_failure(|parent, _| {
        let mut copy = PageTables::new(*parent.memory())?;
        let range = CopyRange {
            addresses: 0..600 * GIGA,
            cow: Cow::Private,
        };
        let mut gather = silent(parent.memory());
        let copied = parent.copy_range(&mut copy, &range, &mut gather);
        if copied.is_err() {
            assert_eq!((copy.resident().anon, copy.pgtables_bytes()), (0, 0));
        }
        copied
    });
    let write = every_failure(|_, child| {
        let mut gather = silent(child.memory());
        child
            .resolve_write(GIGA, Sharing::Private, &mut gather)
            .map(|_| ())
    });
    testkit::report(&format!(
        "allocations: protect {protect}, move {shift}, copy {copy}, write {write}"
    ));
    // Three levels of shared tables and the page.
    assert_eq!(write, 4);
}

#[test]
fn a_move_that_was_prepared_cannot_fail() {
    let memory = &memory(256);
    let [parent, child] = family(memory);
    let mut gather = silent(&memory);
    let range = MoveRange {
        from: GIGA - PAGE,
        to: 700 * GIGA + PAGE,
        len: 2 * PAGE,
    };
    child.prepare_move(range, &mut gather).unwrap();
    memory.fail_after(Some(0));
    child.move_range(range, &mut gather).unwrap();
    gather.finish();
    assert_eq!(mark_at(&child, 700 * GIGA + 2 * PAGE), GIGA);
    check(&[&parent, &child]);
}
