//! Cursors: steps on a reading cursor, and steps and writes on a writing one.

use super::read::{named, segment};
use super::{Compared, Harness, Mismatch, Pair, same};
use crate::model::{Model, ModelEntry, ModelSegment};
use crate::nodes::TestNodes;
use crate::op::Step;
use crate::token::TestValue;
use maple_tree::{CursorMut, IndexRange, StoreError, StoreErrorKind};

/// Where a cursor over the model stands.
struct Place {
    range: IndexRange,
}

impl Place {
    fn seek(&mut self, model: &Model<u32>, index: u64) -> ModelSegment<u32> {
        let segment = model.find(index);
        self.range = segment.range();
        segment
    }

    fn next(&mut self, model: &Model<u32>) -> Option<ModelSegment<u32>> {
        self.range
            .last()
            .checked_add(1)
            .map(|index| self.seek(model, index))
    }

    fn previous(&mut self, model: &Model<u32>) -> Option<ModelSegment<u32>> {
        self.range
            .first()
            .checked_sub(1)
            .map(|index| self.seek(model, index))
    }

    fn settle(&mut self, entry: Option<ModelEntry<u32>>) -> Option<ModelEntry<u32>> {
        self.range = entry.map_or(self.range, |(range, _)| range);
        entry
    }

    fn next_entry(&mut self, model: &Model<u32>) -> Option<ModelEntry<u32>> {
        self.settle(model.after(self.range.last()))
    }

    fn previous_entry(&mut self, model: &Model<u32>) -> Option<ModelEntry<u32>> {
        self.settle(model.before(self.range.first()))
    }
}

/// How a write through a cursor ended.
#[derive(PartialEq, Eq, Debug)]
enum Wrote {
    Done,
    Occupied(u32),
    OutOfNodes,
    Erased(Option<ModelEntry<u32>>),
    Replaced(Option<u32>),
}

impl Wrote {
    fn stored<T: TestValue>(result: Result<(), StoreError<T>>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(StoreError {
                kind: StoreErrorKind::OutOfNodes,
                ..
            }) => Self::OutOfNodes,
            Err(StoreError {
                kind: StoreErrorKind::Occupied,
                value,
            }) => Self::Occupied(value.id()),
        }
    }
}

impl<T: TestValue, S: TestNodes> Harness<T, S> {
    pub(super) fn cursor(&mut self, index: u64, steps: &[Step]) -> Compared {
        self.pair().read_cursor(index, steps)?;
        let failures = self.write_cursor(index, steps)?;
        if failures > 0 {
            self.after_failure()?;
        }
        Ok(())
    }

    /// All steps on a writing cursor; the first write meets failing allocations if the operation
    /// before asked for them, and is repeated. Returns how many writes failed.
    fn write_cursor(&mut self, index: u64, steps: &[Step]) -> Result<u64, Mismatch> {
        let (mint, nodes, mut fail) = (self.mint.clone(), self.nodes.clone(), self.fail_next);
        let Pair { tree, model } = self.pair_mut();
        let mut place = Place {
            range: model.find(index).range(),
        };
        let mut cursor = tree.cursor_mut(index);
        let mut failures = 0;
        for step in steps {
            if moves(step) {
                step_mut(&mut cursor, &mut place, model, step)?;
            } else {
                nodes.fail_after(fail.take());
                let mut wrote = write(&mut cursor, &mint, step);
                nodes.fail_after(None);
                if wrote == Wrote::OutOfNodes {
                    same("a failed cursor's place", &cursor.range(), &place.range)?;
                    failures += 1;
                    wrote = write(&mut cursor, &mint, step);
                }
                let expected = write_model(model, &mut place, step);
                same(
                    &format!("the outcome of cursor step `{step}`"),
                    &wrote,
                    &expected,
                )?;
            }
            let stands = model.find(place.range.first());
            same(
                &format!("the place after `{step}`"),
                &cursor.range(),
                &place.range,
            )?;
            same(
                &format!("the segment after `{step}`"),
                &segment(&cursor.segment()),
                &stands,
            )?;
        }
        Ok(failures)
    }
}

impl<T: TestValue, S: TestNodes> Pair<T, S> {
    /// The steps among `steps` that only move, on a reading cursor.
    fn read_cursor(&self, index: u64, steps: &[Step]) -> Compared {
        let model = &self.model;
        let mut cursor = self.tree.cursor(index);
        let mut place = Place {
            range: model.find(index).range(),
        };
        same(
            "the place of a new cursor",
            &segment(&cursor.segment()),
            &model.find(index),
        )?;
        for step in steps {
            let what = format!("reading cursor, `{step}`");
            match step {
                Step::Next => {
                    let found = cursor.next().map(|part| segment(&part));
                    same(&what, &found, &place.next(model))?;
                }
                Step::Previous => {
                    let found = cursor.previous().map(|part| segment(&part));
                    same(&what, &found, &place.previous(model))?;
                }
                Step::NextEntry => {
                    same(&what, &named(cursor.next_entry()), &place.next_entry(model))?;
                }
                Step::PreviousEntry => {
                    same(
                        &what,
                        &named(cursor.previous_entry()),
                        &place.previous_entry(model),
                    )?;
                }
                _ => {}
            }
            let stands = model.find(place.range.first());
            same(
                &format!("{what}: the segment after it"),
                &segment(&cursor.segment()),
                &stands,
            )?;
        }
        Ok(())
    }
}

fn moves(step: &Step) -> bool {
    use Step::{Next, NextEntry, Previous, PreviousEntry, Seek};
    matches!(step, Next | Previous | NextEntry | PreviousEntry | Seek(_))
}

fn step_mut<T: TestValue, S: TestNodes>(
    cursor: &mut CursorMut<'_, T, S>,
    place: &mut Place,
    model: &Model<u32>,
    step: &Step,
) -> Compared {
    let what = format!("cursor, `{step}`");
    match step {
        Step::Next => same(
            &what,
            &cursor.next().map(|part| segment(&part)),
            &place.next(model),
        ),
        Step::Previous => same(
            &what,
            &cursor.previous().map(|part| segment(&part)),
            &place.previous(model),
        ),
        Step::NextEntry => same(&what, &named(cursor.next_entry()), &place.next_entry(model)),
        Step::PreviousEntry => same(
            &what,
            &named(cursor.previous_entry()),
            &place.previous_entry(model),
        ),
        Step::Seek(index) => same(
            &what,
            &segment(&cursor.seek(*index)),
            &place.seek(model, *index),
        ),
        _ => Ok(()),
    }
}

/// A writing step on the tree.
fn write<T, S>(cursor: &mut CursorMut<'_, T, S>, mint: &T::Mint, step: &Step) -> Wrote
where
    T: TestValue,
    S: TestNodes,
{
    match *step {
        Step::Insert(range, value) => Wrote::stored(cursor.insert(range, T::mint(mint, value))),
        Step::Store(range, value) => Wrote::stored(cursor.store(range, T::mint(mint, value))),
        Step::Overwrite(part, value) => {
            let range = part.of(cursor.range());
            Wrote::stored(cursor.store(range, T::mint(mint, value)))
        }
        Step::Remove(range) => cursor
            .remove(range)
            .map_or(Wrote::OutOfNodes, |()| Wrote::Done),
        Step::Erase => cursor.erase().map_or(Wrote::OutOfNodes, |erased| {
            Wrote::Erased(erased.map(|(range, value)| (range, value.id())))
        }),
        Step::Set(value) => cursor.value_mut().map_or(Wrote::OutOfNodes, |place| {
            let old = place.map(|place| std::mem::replace(place, T::mint(mint, value)));
            Wrote::Replaced(old.map(|old| old.id()))
        }),
        _ => Wrote::Done,
    }
}

/// A writing step on the model.
fn write_model(model: &mut Model<u32>, place: &mut Place, step: &Step) -> Wrote {
    match *step {
        Step::Insert(range, value) if !model.insert(range, value) => Wrote::Occupied(value),
        Step::Insert(range, _) => {
            place.range = range;
            Wrote::Done
        }
        Step::Store(range, value) => store_model(model, place, range, value),
        Step::Overwrite(part, value) => {
            let range = part.of(place.range);
            store_model(model, place, range, value)
        }
        Step::Remove(range) => {
            model.remove(range);
            place.seek(model, range.first());
            Wrote::Done
        }
        Step::Erase => {
            let erased = model.erase(place.range.first());
            place.seek(model, place.range.first());
            Wrote::Erased(erased)
        }
        Step::Set(value) => Wrote::Replaced(model.set_value(place.range.first(), value)),
        _ => Wrote::Done,
    }
}

fn store_model(model: &mut Model<u32>, place: &mut Place, range: IndexRange, value: u32) -> Wrote {
    model.store(range, value);
    place.range = range;
    Wrote::Done
}
