//! Which frames of an arena are free: buddies behind a lock, and magazines beside.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use lock_api::{Mutex, RawMutex};

use super::buddy::{Buddy, History};
use super::near;

/// The longest run: 32 frames, a block of the buddies'. What is noted for them fills eight lines
/// of the cache, which no other thread's frames share.
const RUN_ORDER: u32 = 5;

/// With fewer frames there are no magazines: what lies in them would be too much.
const MIN_FRAMES: u32 = 1024;

/// Magazines enough that two of a few threads seldom meet at one.
const MAGAZINES: usize = 32;

/// What is alone in its lines of the cache: two, because processors fetch them in pairs.
#[repr(align(128))]
struct Apart<T>(T);

/// The free frames `0..len` of an arena.
///
/// A thread takes single frames from the magazine that its stack leads to, and gives them back
/// there, without the lock: what it takes side by side is one block of the buddies', and what it
/// gives back side by side becomes one. So threads seldom meet at the lock, and neighbours among
/// frames have the same user: had they two, each would zero memory in strides, and take from the
/// other the lines of the cache where counts of both lie.
///
/// # Invariants
///
/// - **FF1** A free frame is in one free block or in one run of a magazine, once.
///
/// Without the lock one frame at a time is moved: from a run to who takes it, or from who gives it
/// back to a run. So who holds the lock finds every frame that is free.
pub(super) struct FreeFrames<R> {
    buddies: Apart<Mutex<R, Buddy>>,
    magazines: Box<[Apart<Magazine>]>,
}

impl<R: RawMutex> FreeFrames<R> {
    /// `len` frames, all free; `None` without memory for the lists.
    pub(super) fn new(len: u32, history: History) -> Option<Self> {
        let buddies = Mutex::new(Buddy::new(len, history)?);
        let count = if len < MIN_FRAMES { 0 } else { MAGAZINES };
        let mut magazines = Vec::new();
        magazines.try_reserve_exact(count).ok()?;
        magazines.resize_with(count, || Apart(Magazine::default()));
        Some(Self {
            buddies: Apart(buddies),
            magazines: magazines.into_boxed_slice(),
        })
    }

    /// Takes a block of `1 << order` frames: its first frame. `None` only if there is none in
    /// magazines, either.
    pub(super) fn take(&self, order: u32) -> Option<(u32, History)> {
        match self.nearest() {
            Some(magazine) if order == 0 => magazine.next.take().or_else(|| self.refill(magazine)),
            _ => {
                let mut buddies = self.buddies.0.lock();
                buddies.take(order).or_else(|| {
                    self.empty_magazines(&mut buddies);
                    buddies.take(order)
                })
            }
        }
    }

    /// Gives a block back.
    pub(super) fn give(&self, first: u32, order: u32) {
        match self.nearest() {
            Some(magazine) if order == 0 => {
                if !magazine.returned.extend(first) {
                    self.hand_in(magazine, first);
                }
            }
            _ => self.buddies.0.lock().give(first, order),
        }
    }

    /// How many frames are free. While frames are taken and given back, about so many, and never
    /// more than there are.
    pub(super) fn count(&self) -> usize {
        let buddies = self.buddies.0.lock();
        let returned = |magazine: &Apart<Magazine>| magazine.0.returned.run().len as usize;
        let next = |magazine: &Apart<Magazine>| magazine.0.next.run().len as usize;
        // What was returned stays where it is while the lock is held, so a frame that is on its way
        // from `next` over a user to `returned` is not seen twice if `returned` is looked at first.
        let returned: usize = self.magazines.iter().map(returned).sum();
        buddies.count() + returned + self.magazines.iter().map(next).sum::<usize>()
    }

    /// Panics where FF1 does not hold, or B1 to B3 do not; nobody else takes or gives back now.
    #[cfg(test)]
    fn check(&self) {
        let buddies = self.buddies.0.lock();
        let mut free = buddies.free_frames();
        for Apart(Magazine { next, returned }) in &self.magazines {
            for Run { first, len, .. } in [next.run(), returned.run()] {
                for frame in &mut free[first as usize..][..len as usize] {
                    assert!(!core::mem::replace(frame, true), "FF1");
                }
            }
        }
    }

    /// The magazine of the thread that asks.
    fn nearest(&self) -> Option<&Magazine> {
        let index = near::one_of(self.magazines.len(), near::stack());
        self.magazines.get(index).map(|found| &found.0)
    }

    /// Refills a magazine from which nothing is left to take, and takes the first frame.
    #[cold]
    fn refill(&self, magazine: &Magazine) -> Option<(u32, History)> {
        let mut buddies = self.buddies.0.lock();
        // Who had the lock before may have refilled it.
        if let Some(taken) = magazine.next.take() {
            return Some(taken);
        }
        let run = match magazine.returned.exchange(Run::EMPTY) {
            Run::EMPTY => buddies.take_up_to(RUN_ORDER).map(Run::of_block),
            returned => Some(returned),
        };
        let Some(run) = run else {
            self.empty_magazines(&mut buddies);
            return buddies.take(0);
        };
        // INVARIANT: FF1: the run is in nobody's hands but ours, and `next`, which became empty,
        // is filled under the lock only.
        magazine.next.exchange(run.rest());
        Some((run.first, run.history))
    }

    /// Begins a new run of returned frames; the old one goes back to the buddies.
    #[cold]
    fn hand_in(&self, magazine: &Magazine, frame: u32) {
        // The lock comes first: nobody who holds it is to miss the old run.
        let mut buddies = self.buddies.0.lock();
        let returned = magazine.returned.exchange(Run::of_frame(frame));
        returned.give_to(&mut buddies);
    }

    /// Gives all that is in magazines back to the buddies, whose lock is held.
    #[cold]
    fn empty_magazines(&self, buddies: &mut Buddy) {
        for Apart(magazine) in &self.magazines {
            magazine.next.exchange(Run::EMPTY).give_to(buddies);
            magazine.returned.exchange(Run::EMPTY).give_to(buddies);
        }
    }
}

/// Free frames that some threads take and give back.
#[derive(Default)]
struct Magazine {
    /// What is taken next. It is filled by who holds the lock, when it is empty.
    next: Row,
    /// What was given back. It is emptied by who holds the lock.
    returned: Row,
}

/// Free frames side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u32,
    len: u32,
    history: History,
}

const LEN_MASK: u64 = (1 << 16) - 1;
const USED: u64 = 1 << 16;
const FIRST_SHIFT: u32 = 32;

impl Run {
    const EMPTY: Self = Self::unpack(0);

    const fn of_block((first, order, history): (u32, u32, History)) -> Self {
        let len = 1 << order;
        Self {
            first,
            len,
            history,
        }
    }

    /// A frame that was given back.
    const fn of_frame(frame: u32) -> Self {
        Self::of_block((frame, 0, History::Used))
    }

    /// All but the first frame.
    const fn rest(self) -> Self {
        match self.len {
            0 | 1 => Self::EMPTY,
            len => Self {
                first: self.first + 1,
                len: len - 1,
                history: self.history,
            },
        }
    }

    /// With `frame` behind, if it is the next one and in the same block.
    const fn with(self, frame: u32) -> Option<Self> {
        let is_next = self.len > 0 && frame == self.first + self.len;
        if !is_next || frame.is_multiple_of(1 << RUN_ORDER) {
            return None;
        }
        let len = self.len + 1;
        Some(Self { len, ..self })
    }

    /// Gives the frames back in blocks as large as they are aligned.
    fn give_to(self, buddies: &mut Buddy) {
        let Self { mut first, len, .. } = self;
        let end = first + len;
        while first < end {
            let order = first.trailing_zeros().min((end - first).ilog2());
            buddies.give(first, order);
            first += 1 << order;
        }
    }

    const fn pack(self) -> u64 {
        let used = match self.history {
            History::Untouched => 0,
            History::Used => USED,
        };
        (self.first as u64) << FIRST_SHIFT | used | self.len as u64
    }

    const fn unpack(packed: u64) -> Self {
        let history = if packed & USED == 0 {
            History::Untouched
        } else {
            History::Used
        };
        Self {
            first: (packed >> FIRST_SHIFT) as u32,
            len: (packed & LEN_MASK) as u32,
            history,
        }
    }
}

/// A run that several threads change at once.
///
/// All of it is one word, so whoever finds the word as it was before finds the same frames free.
#[derive(Default)]
struct Row(AtomicU64);

impl Row {
    fn run(&self) -> Run {
        // ORDERING: `Acquire` pairs with the `Release` in `extend`: who sees that a frame was given
        // back sees that it was taken before.
        Run::unpack(self.0.load(Ordering::Acquire))
    }

    /// Takes the first frame.
    fn take(&self) -> Option<(u32, History)> {
        let taken = self.0.fetch_update(
            // ORDERING: `Acquire` pairs with the `Release` in `exchange`: those who had the frame
            // are done with it. Others that took frames in between continue what was released.
            Ordering::Acquire,
            Ordering::Relaxed,
            |packed| {
                let run = Run::unpack(packed);
                (run.len > 0).then(|| run.rest().pack())
            },
        );
        let run = Run::unpack(taken.ok()?);
        Some((run.first, run.history))
    }

    /// Puts a frame behind the others: whether it is the next one.
    fn extend(&self, frame: u32) -> bool {
        let extended = self.0.fetch_update(
            // ORDERING: `Release` pairs with the `Acquire` in `exchange`: we are done with the
            // frame.
            Ordering::Release,
            Ordering::Relaxed,
            |packed| Run::unpack(packed).with(frame).map(Run::pack),
        );
        extended.is_ok()
    }

    /// Puts a run in the place of what is here, which is the caller's then.
    fn exchange(&self, run: Run) -> Run {
        // ORDERING: `Acquire` pairs with the `Release` in `extend` and here, `Release` with the
        // `Acquire` in `take` and here.
        Run::unpack(self.0.swap(run.pack(), Ordering::AcqRel))
    }
}

#[cfg(test)]
mod tests;
