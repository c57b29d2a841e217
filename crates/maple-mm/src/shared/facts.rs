//! What belongs to an address space beside its mappings, for who has no lock.

use core::array;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::accounting::Sums;
use crate::layout::{Direction, Gate, Layout};

/// Words that [`Beside`] is made of.
const WORDS: usize = 23;

/// All that a call may change and `/proc` shows, but mappings and pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beside {
    pub(crate) layout: Layout,
    pub(crate) sums: Sums,
    pub(crate) peak_vm: u64,
}

impl Beside {
    fn words(&self) -> [u64; WORDS] {
        let Layout {
            task_size,
            mmap_base,
            legacy_base,
            low_base,
            start_code,
            end_code,
            start_data,
            end_data,
            start_brk,
            brk,
            start_stack,
            arg_start,
            arg_end,
            env_start,
            env_end,
            direction,
            gate,
        } = self.layout;
        let Sums {
            total_vm,
            data_vm,
            exec_vm,
            stack_vm,
            locked_vm,
            committed,
        } = self.sums;
        let searches = match (direction, gate) {
            (Direction::TopDown, Gate::Absent) => 0,
            (Direction::TopDown, Gate::ExecuteOnly) => 1,
            (Direction::TopDown, Gate::Readable) => 2,
            (Direction::BottomUp, Gate::Absent) => 4,
            (Direction::BottomUp, Gate::ExecuteOnly) => 5,
            (Direction::BottomUp, Gate::Readable) => 6,
        };
        [
            task_size,
            mmap_base,
            legacy_base,
            low_base,
            start_code,
            end_code,
            start_data,
            end_data,
            start_brk,
            brk,
            start_stack,
            arg_start,
            arg_end,
            env_start,
            env_end,
            searches,
            total_vm,
            data_vm,
            exec_vm,
            stack_vm,
            locked_vm,
            committed,
            self.peak_vm,
        ]
    }

    const fn of(words: &[u64; WORDS]) -> Self {
        let [
            task_size,
            mmap_base,
            legacy_base,
            low_base,
            start_code,
            end_code,
            start_data,
            end_data,
            start_brk,
            brk,
            start_stack,
            arg_start,
            arg_end,
            env_start,
            env_end,
            searches,
            total_vm,
            data_vm,
            exec_vm,
            stack_vm,
            locked_vm,
            committed,
            peak_vm,
        ] = *words;
        let direction = if searches & 4 == 0 {
            Direction::TopDown
        } else {
            Direction::BottomUp
        };
        let gate = match searches & 3 {
            0 => Gate::Absent,
            1 => Gate::ExecuteOnly,
            _ => Gate::Readable,
        };
        Self {
            layout: Layout {
                task_size,
                mmap_base,
                legacy_base,
                low_base,
                start_code,
                end_code,
                start_data,
                end_data,
                start_brk,
                brk,
                start_stack,
                arg_start,
                arg_end,
                env_start,
                env_end,
                direction,
                gate,
            },
            sums: Sums {
                total_vm,
                data_vm,
                exec_vm,
                stack_vm,
                locked_vm,
                committed,
            },
            peak_vm,
        }
    }
}

/// The words of a [`Beside`], each on its own: who reads them asks the tree's sequence before and
/// after whether they belong together.
///
/// # Invariants
///
/// - **SF1** While the sequence is even, the words are those of the owner.
#[derive(Debug)]
pub(super) struct Facts([AtomicU64; WORDS]);

impl Facts {
    pub(super) fn new(beside: &Beside) -> Self {
        Self(beside.words().map(AtomicU64::new))
    }

    /// Whether there is something to [`store`](Self::store). Only for who has the lock.
    pub(super) fn differ_from(&self, beside: &Beside) -> bool {
        let words = self.0.iter().zip(beside.words());
        // ORDERING: `Relaxed`: only who has the lock stores.
        words
            .into_iter()
            .any(|(word, new)| word.load(Ordering::Relaxed) != new)
    }

    /// To be called by who has the lock, while the sequence is odd.
    pub(super) fn store(&self, beside: &Beside) {
        for (word, new) in self.0.iter().zip(beside.words()) {
            // ORDERING: `Release` pairs with the `Acquire` in `load`: who sees a new word sees that
            // the sequence is odd, or later.
            word.store(new, Ordering::Release);
            // So that tests find who looks at some new words and some old ones.
            #[cfg(test)]
            tests::pause();
        }
    }

    /// To be believed if the sequence was even before, and is the same after.
    pub(super) fn load(&self) -> Beside {
        // ORDERING: `Acquire` pairs with the `Release` in `store`.
        Beside::of(&array::from_fn(|index| {
            self.0[index].load(Ordering::Acquire)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn pause() {
        for _ in 0..100 {
            core::hint::spin_loop();
        }
    }

    #[test]
    fn all_words_come_back() {
        let mut words: [u64; WORDS] = array::from_fn(|index| index as u64 * 3 + 10);
        for searches in [0, 1, 2, 4, 5, 6] {
            words[15] = searches;
            let beside = Beside::of(&words);
            assert_eq!(beside.words(), words);
            let facts = Facts::new(&beside);
            assert!(!facts.differ_from(&beside));
            assert_eq!(facts.load(), beside);
            for word in 0..WORDS {
                let mut others = words;
                others[word] = u64::from(searches == 0);
                let other = Beside::of(&others);
                assert!(facts.differ_from(&other), "word {word}");
                facts.store(&other);
                assert_eq!(facts.load(), other);
                facts.store(&beside);
            }
        }
    }
}
