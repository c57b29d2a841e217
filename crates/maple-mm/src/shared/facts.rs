//! What belongs to an address space beside its mappings, for who has no lock.

use core::array;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::accounting::Sums;
use crate::layout::{Direction, Gate, Layout};
use crate::paging::sync;
use crate::process::ProcessFlags;

/// Numbers of [`Beside`] that are words as they are.
const NUMBERS: usize = 22;

/// Words that [`Beside`] is made of: its numbers, how addresses are searched, and the switches.
const WORDS: usize = NUMBERS + 2;

/// The switches of the process.
const SWITCHES: usize = NUMBERS + 1;

/// All that a call may change and `/proc` shows, but mappings and pages, and what a fault asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beside {
    pub(crate) layout: Layout,
    pub(crate) sums: Sums,
    pub(crate) peak_vm: u64,
    pub(crate) switches: ProcessFlags,
}

impl Beside {
    fn numbers(&mut self) -> [&mut u64; NUMBERS] {
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
            direction: _,
            gate: _,
        } = &mut self.layout;
        let Sums {
            total_vm,
            data_vm,
            exec_vm,
            stack_vm,
            locked_vm,
            committed,
        } = &mut self.sums;
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
            total_vm,
            data_vm,
            exec_vm,
            stack_vm,
            locked_vm,
            committed,
            &mut self.peak_vm,
        ]
    }

    fn words(&self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        for (word, number) in words.iter_mut().zip(self.clone().numbers()) {
            *word = *number;
        }
        let direction = match self.layout.direction {
            Direction::TopDown => 0,
            Direction::BottomUp => 4,
        };
        let gate = match self.layout.gate {
            Gate::Absent => 0,
            Gate::ExecuteOnly => 1,
            Gate::Readable => 2,
        };
        words[NUMBERS] = direction | gate;
        words[SWITCHES] = self.switches.bits().into();
        words
    }

    fn of(words: &[u64; WORDS]) -> Self {
        let searches = words[NUMBERS];
        let layout = Layout {
            direction: match searches & 4 {
                0 => Direction::TopDown,
                _ => Direction::BottomUp,
            },
            gate: match searches & 3 {
                0 => Gate::Absent,
                1 => Gate::ExecuteOnly,
                _ => Gate::Readable,
            },
            ..Layout::default()
        };
        let mut beside = Self {
            layout,
            sums: Sums::default(),
            peak_vm: 0,
            switches: switches(words[SWITCHES]),
        };
        for (number, word) in beside.numbers().into_iter().zip(words) {
            *number = *word;
        }
        beside
    }
}

fn switches(word: u64) -> ProcessFlags {
    ProcessFlags::from_bits_truncate(word as u32)
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
            sync::store(word, new, Ordering::Release);
            // So that tests find who looks at some new words and some old ones.
            #[cfg(test)]
            super::tests::pause();
        }
    }

    /// To be believed if the sequence was even before, and is the same after.
    pub(super) fn load(&self) -> Beside {
        // ORDERING: `Acquire` pairs with the `Release` in `store`.
        Beside::of(&array::from_fn(|index| {
            sync::load(&self.0[index], Ordering::Acquire)
        }))
    }

    /// The switches of the process, of a moment of their own.
    pub(super) fn switches(&self) -> ProcessFlags {
        // Relaxed: nothing else is concluded from them.
        switches(self.0[SWITCHES].load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_words_come_back() {
        let mut words: [u64; WORDS] = array::from_fn(|index| index as u64 * 3 + 10);
        for searches in [0, 1, 2, 4, 5, 6] {
            words[NUMBERS] = searches;
            words[SWITCHES] = searches & ProcessFlags::all().bits() as u64;
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
