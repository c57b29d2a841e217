//! The core operations, each on small and large trees, with and without gap tracking.
//!
//! What an operation works on is made before and dropped after the count.
#![expect(missing_docs, reason = "the macros of `gungraun` make public items")]

use counts::{Fixture, Kind, PAGE, ROUNDS, range, scattered};
use gungraun::{library_benchmark, library_benchmark_group, main};
use maple_tree::{GapRequest, IndexRange, MapleTree};
use std::hint::black_box;
use std::num::NonZeroU64;

#[library_benchmark(setup = Fixture::new)]
#[bench::plain_1000(Kind::Plain, 1_000)]
#[bench::plain_51221(Kind::Plain, 51_221)]
#[bench::gaps_1000(Kind::Gaps, 1_000)]
#[bench::gaps_51221(Kind::Gaps, 51_221)]
fn lookup(fixture: Fixture) -> (Fixture, u64) {
    let mut sum = 0;
    for round in 0..ROUNDS {
        let index = range(scattered(round, fixture.entries)).last();
        sum += fixture.tree.get(black_box(index)).copied().unwrap_or(0);
    }
    (fixture, sum)
}

#[library_benchmark(setup = Fixture::new)]
#[bench::plain_1000(Kind::Plain, 1_000)]
#[bench::plain_51221(Kind::Plain, 51_221)]
#[bench::gaps_1000(Kind::Gaps, 1_000)]
#[bench::gaps_51221(Kind::Gaps, 51_221)]
fn iterate_next(fixture: Fixture) -> (Fixture, u64) {
    let mut sum = 0;
    for (range, value) in &fixture.tree {
        sum += black_box(range.first() ^ value);
    }
    (fixture, sum)
}

#[library_benchmark(setup = Fixture::new)]
#[bench::plain_1000(Kind::Plain, 1_000)]
#[bench::plain_51221(Kind::Plain, 51_221)]
#[bench::gaps_1000(Kind::Gaps, 1_000)]
#[bench::gaps_51221(Kind::Gaps, 51_221)]
fn iterate_for_each(fixture: Fixture) -> (Fixture, u64) {
    let mut sum = 0;
    fixture
        .tree
        .iter()
        .for_each(|(range, value)| sum += black_box(range.first() ^ value));
    (fixture, sum)
}

#[library_benchmark(setup = Fixture::empty)]
#[bench::plain_1000(Kind::Plain, 1_000)]
#[bench::plain_51221(Kind::Plain, 51_221)]
#[bench::gaps_1000(Kind::Gaps, 1_000)]
#[bench::gaps_51221(Kind::Gaps, 51_221)]
fn insert_ascending(mut fixture: Fixture) -> Fixture {
    for place in 0..fixture.entries {
        fixture
            .tree
            .insert(range(place), place)
            .expect("the range is vacant");
    }
    fixture
}

#[library_benchmark(setup = Fixture::empty)]
#[bench::plain_1000(Kind::Plain, 1_000)]
#[bench::plain_51221(Kind::Plain, 51_221)]
#[bench::gaps_1000(Kind::Gaps, 1_000)]
#[bench::gaps_51221(Kind::Gaps, 51_221)]
fn bulk_load(mut fixture: Fixture) -> Fixture {
    let entries = (0..fixture.entries).map(|place| (range(place), place));
    fixture
        .tree
        .bulk_load(entries)
        .expect("the entries are sorted");
    fixture
}

#[library_benchmark(setup = Fixture::new)]
#[bench::plain_1000(Kind::Plain, 1_000)]
#[bench::plain_51221(Kind::Plain, 51_221)]
#[bench::gaps_1000(Kind::Gaps, 1_000)]
#[bench::gaps_51221(Kind::Gaps, 51_221)]
fn erase_and_restore(mut fixture: Fixture) -> Fixture {
    for round in 0..ROUNDS {
        let place = scattered(round, fixture.entries);
        let erased = fixture
            .tree
            .erase(range(place).first())
            .expect("there is memory");
        let (range, value) = erased.expect("the entry is there");
        fixture.tree.store(range, value).expect("there is memory");
    }
    fixture
}

#[library_benchmark(setup = Fixture::new)]
#[bench::plain_1000(Kind::Plain, 1_000)]
#[bench::plain_51221(Kind::Plain, 51_221)]
#[bench::gaps_1000(Kind::Gaps, 1_000)]
#[bench::gaps_51221(Kind::Gaps, 51_221)]
fn overwrite(mut fixture: Fixture) -> Fixture {
    for round in 0..ROUNDS {
        let first = range(scattered(round, fixture.entries)).first() + round % 3 * PAGE;
        let last = first + (1 + round % 8) * PAGE - 1;
        let range = IndexRange::new(first, last).expect("the bounds are in order");
        fixture.tree.store(range, round).expect("there is memory");
    }
    fixture
}

#[library_benchmark(setup = Fixture::new)]
#[bench::plain_1000(Kind::Plain, 1_000)]
#[bench::plain_51221(Kind::Plain, 51_221)]
#[bench::gaps_1000(Kind::Gaps, 1_000)]
#[bench::gaps_51221(Kind::Gaps, 51_221)]
fn lowest_gap(fixture: Fixture) -> (Fixture, Option<IndexRange>) {
    // Above the first entry, no hole is as long as two pages but the last one.
    let above = IndexRange::new(range(0).first(), u64::MAX).expect("the bounds are in order");
    let length = NonZeroU64::new(2 * PAGE).expect("a page is not empty");
    let found = fixture
        .tree
        .lowest_gap(&GapRequest::new(length).within(black_box(above)));
    (fixture, found)
}

#[library_benchmark(setup = Fixture::new)]
#[bench::plain_1000(Kind::Plain, 1_000)]
#[bench::plain_51221(Kind::Plain, 51_221)]
#[bench::gaps_1000(Kind::Gaps, 1_000)]
#[bench::gaps_51221(Kind::Gaps, 51_221)]
fn duplicate(fixture: Fixture) -> (Fixture, MapleTree<u64>) {
    let copy = fixture.tree.duplicate().expect("there is memory");
    (fixture, copy)
}

#[library_benchmark(setup = Fixture::new)]
#[bench::plain_1000(Kind::Plain, 1_000)]
#[bench::plain_51221(Kind::Plain, 51_221)]
#[bench::gaps_1000(Kind::Gaps, 1_000)]
#[bench::gaps_51221(Kind::Gaps, 51_221)]
fn snapshot_and_first_write(mut fixture: Fixture) -> Fixture {
    for round in 0..ROUNDS {
        let snapshot = fixture.tree.snapshot();
        let range = range(scattered(round, fixture.entries));
        fixture.tree.store(range, round).expect("there is memory");
        drop(snapshot);
    }
    fixture
}

#[library_benchmark(setup = Fixture::new)]
#[bench::plain_1000(Kind::Plain, 1_000)]
#[bench::plain_51221(Kind::Plain, 51_221)]
#[bench::gaps_1000(Kind::Gaps, 1_000)]
#[bench::gaps_51221(Kind::Gaps, 51_221)]
fn drop_tree(fixture: Fixture) -> u64 {
    drop(fixture.tree);
    fixture.entries
}

library_benchmark_group!(
    name = core,
    benchmarks = [
        lookup,
        iterate_next,
        iterate_for_each,
        insert_ascending,
        bulk_load,
        erase_and_restore,
        overwrite,
        lowest_gap,
        duplicate,
        snapshot_and_first_write,
        drop_tree,
    ]
);

main!(library_benchmark_groups = core);
