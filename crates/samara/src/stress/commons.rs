//! Pages that all threads write, a word each: of faults on one page at once none loses a write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use maple_mm::abi::{MADV_DONTNEED, MAP_FIXED, PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE};
use maple_mm::{Access, Errno, Fault, MmapRequest, Unfinished};
use parking_lot::RwLock;

use super::hand::Hand;
use super::life::{differs, word};
use super::machine::Machine;
use super::violation::{Held, broken};

const WRITABLE: u64 = PROT_READ | PROT_WRITE;

/// Whether the page can be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Usable,
    /// There was no memory to map it again.
    Away,
}

/// One of the pages. Who writes shares the lock with other writers, so that they meet in the same
/// fault; who makes the page anew has it alone.
pub(super) struct Common {
    addr: u64,
    state: RwLock<State>,
    /// What each thread wrote last.
    words: Vec<AtomicU64>,
}

impl Common {
    pub(super) fn new(addr: u64, threads: u8) -> Self {
        Self {
            addr,
            state: RwLock::new(State::Usable),
            words: (0..threads).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Writes the thread's word a few times, and looks at what it was.
    fn write(&self, hand: &mut Hand) -> Held {
        let state = self.state.read();
        if *state == State::Away {
            return Ok(());
        }
        let own = &self.words[usize::from(hand.thread)];
        let addr = self.addr + 8 * u64::from(hand.thread);
        hand.at(addr);
        for _ in 0..3 {
            let tag = hand.tag();
            let space = &hand.machine.space;
            if let Err(end) = space.write(addr, &tag.to_ne_bytes()) {
                return only_memory(end, hand);
            }
            own.store(tag, Ordering::Relaxed);
            let mut bytes = [0; 8];
            if let Err(end) = space.read(addr, &mut bytes) {
                return only_memory(end, hand);
            }
            let found = u64::from_ne_bytes(bytes);
            if found != tag {
                return differs(addr, found, tag);
            }
        }
        Ok(())
    }

    /// Looks at all words, when nobody else does anything with the page.
    fn check(&self, machine: &Machine, may_be_empty: MayBeEmpty) -> Result<Held, Unfinished> {
        let mut bytes = [0; PAGE_SIZE as usize];
        machine.space.read(self.addr, &mut bytes)?;
        let is_empty = bytes.iter().all(|byte| *byte == 0);
        if may_be_empty == MayBeEmpty::Yes && is_empty {
            self.forget();
        }
        for place in (0..PAGE_SIZE).step_by(8) {
            let own = self.words.get(place as usize / 8);
            let expected = own.map_or(0, |word| word.load(Ordering::Relaxed));
            let found = word(&bytes, place);
            if found != expected {
                return Ok(differs(self.addr + place, found, expected));
            }
        }
        Ok(Ok(()))
    }

    fn forget(&self) {
        for word in &self.words {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Makes the page anew in one of several ways.
    fn recycle(&self, hand: &mut Hand) -> Held {
        let Some(mut state) = self.state.try_write() else {
            return Ok(());
        };
        hand.aim(&(self.addr..self.addr + PAGE_SIZE));
        if *state == State::Usable {
            match self.check(&hand.machine, MayBeEmpty::No) {
                Ok(held) => held?,
                Err(end) => return only_memory(end, hand),
            }
        }
        match (*state, hand.rng.below(4)) {
            (State::Usable, 0) => self.discard(hand),
            (State::Usable, 1) => self.unmap(&mut state, hand),
            (State::Usable, 2) => self.bar(&mut state, hand),
            _ => self.map(&mut state, hand),
        }
    }

    /// Gives what is in the page up.
    fn discard(&self, hand: &mut Hand) -> Held {
        let mut space = hand.machine.space.lock();
        let advised = space.madvise(self.addr, PAGE_SIZE, MADV_DONTNEED);
        drop(space);
        self.emptied(advised, hand)
    }

    /// Takes the page away, and maps it again.
    fn unmap(&self, state: &mut State, hand: &mut Hand) -> Held {
        let unmapped = hand.machine.space.lock().munmap(self.addr, PAGE_SIZE);
        if let Err(error) = unmapped {
            return hand.refused(self.addr, error);
        }
        self.forget();
        *state = State::Away;
        self.is_refused(hand, Fault::NotMapped)?;
        self.map(state, hand)
    }

    /// Bars the page for a moment.
    fn bar(&self, state: &mut State, hand: &mut Hand) -> Held {
        let protect = |hand: &Hand, prot| {
            let mut space = hand.machine.space.lock();
            space.mprotect(self.addr, PAGE_SIZE, prot)
        };
        if let Err(error) = protect(hand, PROT_NONE) {
            return hand.refused(self.addr, error);
        }
        self.is_refused(hand, Fault::NotAllowed)?;
        if let Err(error) = protect(hand, WRITABLE) {
            *state = State::Away;
            return hand.refused(self.addr, error);
        }
        Ok(())
    }

    /// Maps it, over what there may be. If there is no memory, that stays.
    fn map(&self, state: &mut State, hand: &mut Hand) -> Held {
        let mapped = hand.machine.space.lock().mmap(MmapRequest {
            addr: self.addr,
            flags: MmapRequest::anonymous(0, 0).flags | MAP_FIXED,
            ..MmapRequest::anonymous(PAGE_SIZE, WRITABLE)
        });
        if let Err(error) = mapped {
            return hand.refused(self.addr, error);
        }
        *state = State::Usable;
        self.forget();
        Ok(())
    }

    /// An access must be refused now.
    fn is_refused(&self, hand: &Hand, expected: Fault) -> Held {
        let space = &hand.machine.space;
        let mut bytes = [0; 8];
        let read = space.read(self.addr, &mut bytes).map_err(|end| end.fault);
        let fault = space.fault(self.addr, Access::Write);
        for met in [read, fault] {
            if met != Err(expected) {
                let what = format!("an access is {met:?}, and has to be {expected:?}");
                return broken(self.addr, what);
            }
        }
        Ok(())
    }

    /// After the page was given up, or not for want of memory.
    fn emptied(&self, advised: Result<(), Errno>, hand: &mut Hand) -> Held {
        let may_be_empty = match advised {
            Ok(()) => {
                self.forget();
                MayBeEmpty::No
            }
            Err(error) => {
                hand.refused(self.addr, error)?;
                MayBeEmpty::Yes
            }
        };
        match self.check(&hand.machine, may_be_empty) {
            Ok(held) => held,
            Err(end) => only_memory(end, hand),
        }
    }
}

/// Whether a page may be empty although words were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MayBeEmpty {
    No,
    Yes,
}

fn only_memory(end: Unfinished, hand: &mut Hand) -> Held {
    if end.fault != Fault::OutOfMemory {
        return broken(
            end.addr,
            format!("what may be used is refused ({:?})", end.fault),
        );
    }
    hand.lacks_memory();
    Ok(())
}

fn some(hand: &mut Hand) -> usize {
    hand.rng.below(hand.machine.commons.len() as u64) as usize
}

pub(super) fn write(hand: &mut Hand) -> Held {
    let machine = Arc::clone(&hand.machine);
    machine.commons[some(hand)].write(hand)
}

pub(super) fn recycle(hand: &mut Hand) -> Held {
    let machine = Arc::clone(&hand.machine);
    machine.commons[some(hand)].recycle(hand)
}

/// When nobody writes any more: no word is lost.
pub(super) fn check_last(machine: &Machine) -> Held {
    for common in &machine.commons {
        if *common.state.read() == State::Away {
            continue;
        }
        match common.check(machine, MayBeEmpty::No) {
            Ok(held) => held?,
            Err(end) if end.fault == Fault::OutOfMemory => {}
            Err(end) => return broken(end.addr, format!("it is refused ({:?})", end.fault)),
        }
    }
    Ok(())
}
