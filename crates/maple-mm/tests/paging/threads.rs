//! Address spaces that share tables, changed by a thread each at the same time.

use std::thread;

use crate::support::{PAGE, Tables, check, map, mark_at, memory, silent, space};
use maple_mm::paging::{PhysMemory, Sharing};
use testkit::SplitMix;

#[cfg(not(miri))]
type Quad = maple_mm::paging::X86_64<4>;
// Small tables, where every access takes a thousand times as long.
#[cfg(miri)]
type Quad = maple_mm::paging::Tiny<2>;

const HUGE: u64 = if cfg!(miri) { 4 * PAGE } else { 2 << 20 };
const REGIONS: u64 = if cfg!(miri) { 3 } else { 40 };
const ROUNDS: u64 = if cfg!(miri) { 1 } else { 50 };
const OWNERS: u64 = if cfg!(miri) { 3 } else { 4 };
const FRAMES: u32 = if cfg!(miri) { 256 } else { 16 * 1024 };

fn page(region: u64, page: u64) -> u64 {
    region * HUGE + page * PAGE
}

/// Writes its number to some pages, takes others out, and looks at all.
fn churn(tables: &mut Tables<'_, Quad>, owner: u64) {
    let mut rng = SplitMix::new(owner);
    let mut gather = silent(tables.memory());
    let mut expected: Vec<_> = (0..REGIONS * 2).map(Some).collect();
    for _ in 0..REGIONS * 2 {
        let index = rng.index(expected.len());
        let addr = page(index as u64 / 2, index as u64 % 2);
        if rng.one_in(4) {
            tables.zap(addr..addr + PAGE, &mut gather).unwrap();
            gather.flush();
            expected[index] = None;
        } else if expected[index].is_some() {
            let mark = owner << 32 | index as u64;
            let written = tables.write_with(addr, &mark.to_ne_bytes(), |tables, fault| {
                let resolved = tables.resolve_write(fault.addr, Sharing::Private, &mut gather);
                gather.flush();
                resolved.map(|_| ())
            });
            written.unwrap();
            expected[index] = Some(mark);
        }
    }
    for (index, mark) in expected.into_iter().enumerate() {
        let addr = page(index as u64 / 2, index as u64 % 2);
        assert_eq!(
            tables.fetch_u64(addr).ok(),
            mark,
            "owner {owner}, page {index}"
        );
    }
}

#[test]
fn owners_of_shared_tables_do_not_see_each_other() {
    let memory = &memory(FRAMES);
    for _ in 0..ROUNDS {
        let mut parent = space::<Quad>(memory);
        for index in 0..REGIONS * 2 {
            map(&mut parent, page(index / 2, index % 2), index);
        }
        let mut children: Vec<_> = (1..OWNERS)
            .map(|_| {
                let mut child = space(memory);
                parent.share_all(&mut child, &mut silent(&memory)).unwrap();
                child
            })
            .collect();
        let gone = children.pop().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || drop(gone));
            for (owner, tables) in children.iter_mut().chain([&mut parent]).enumerate() {
                scope.spawn(move || churn(tables, owner as u64 + 1));
            }
        });
        let all: Vec<_> = children.iter().chain([&parent]).collect();
        check(&all);
        drop((children, parent));
        assert_eq!(memory.in_use(), 0);
    }
}

#[test]
fn the_arena_serves_many_threads() {
    let memory = &memory(FRAMES);
    thread::scope(|scope| {
        for owner in 1..=OWNERS {
            let memory = &memory;
            scope.spawn(move || {
                let mut tables = space::<Quad>(memory);
                for index in 0..if cfg!(miri) { 5 } else { 500 } {
                    map(&mut tables, index * PAGE, owner);
                    assert_eq!(mark_at(&tables, index * PAGE), owner);
                    if index % 3 == 0 {
                        let range = index * PAGE..(index + 1) * PAGE;
                        tables.zap(range, &mut silent(memory)).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(memory.in_use(), 0);
}
