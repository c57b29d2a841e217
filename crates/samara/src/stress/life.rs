//! [`Life`]: what a thread owns in an address space, and what must be found there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use maple_mm::abi::{PAGE_SIZE, PROT_EXEC, PROT_WRITE};
use maple_mm::{Access, Fault, Unfinished};

use super::hand::Hand;
use super::machine::{Memory, Space};
use super::places;
use super::tag::{self, SLOTS};
use super::violation::{Held, broken};

/// What is in the words of a page that its owner writes.
pub(super) type Words = [u64; SLOTS.len()];

/// A page that a thread owns.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) prot: u64,
    pub(super) is_guard: bool,
    /// A call that should have emptied it ended half-way.
    pub(super) may_be_empty: bool,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Private(Words),
    /// Of a shared object, which children have, too: its words, and which of its pages.
    Shared(Rc<RefCell<Vec<Words>>>, usize),
}

impl Page {
    pub(super) const fn zero(prot: u64) -> Self {
        Self {
            prot,
            is_guard: false,
            may_be_empty: false,
            content: Content::Private([0; SLOTS.len()]),
        }
    }

    /// The pages of a new shared object.
    pub(super) fn shared(prot: u64, pages: usize) -> impl Iterator<Item = Self> {
        let object = Rc::new(RefCell::new(vec![[0; SLOTS.len()]; pages]));
        (0..pages).map(move |index| Self {
            content: Content::Shared(Rc::clone(&object), index),
            ..Self::zero(prot)
        })
    }

    pub(super) const fn is_shared(&self) -> bool {
        matches!(self.content, Content::Shared(..))
    }

    pub(super) fn words(&self) -> Words {
        match &self.content {
            Content::Private(words) => *words,
            Content::Shared(object, index) => object.borrow()[*index],
        }
    }

    pub(super) fn set(&mut self, slot: usize, word: u64) {
        match &mut self.content {
            Content::Private(words) => words[slot] = word,
            Content::Shared(object, index) => object.borrow_mut()[*index][slot] = word,
        }
    }

    /// What is private is given up.
    pub(super) const fn empty(&mut self) {
        if let Content::Private(words) = &mut self.content {
            *words = [0; SLOTS.len()];
        }
    }

    /// What an access to the page comes to.
    const fn expected(&self, access: Access) -> Result<(), Fault> {
        if !allows(self.prot, access) {
            return Err(Fault::NotAllowed);
        }
        if self.is_guard {
            return Err(Fault::NotMapped);
        }
        Ok(())
    }
}

/// x86: what may be written or executed may be read.
pub(super) const fn allows(prot: u64, access: Access) -> bool {
    match access {
        Access::Read => prot != 0,
        Access::Write => prot & PROT_WRITE != 0,
        Access::Execute => prot & PROT_EXEC != 0,
    }
}

/// What a thread owns in one address space.
pub(super) struct Life {
    pub(super) space: Arc<Space>,
    pub(super) thread: u8,
    pub(super) pages: BTreeMap<u64, Page>,
}

impl Life {
    pub(super) const fn new(space: Arc<Space>, thread: u8) -> Self {
        let pages = BTreeMap::new();
        Self {
            space,
            thread,
            pages,
        }
    }

    /// The same pages in a child.
    pub(super) fn in_child(&self, space: Arc<Space>) -> Self {
        Self {
            space,
            thread: self.thread,
            pages: self.pages.clone(),
        }
    }

    pub(super) fn windows(&self) -> [Range<u64>; 2] {
        places::windows(self.thread)
    }

    /// One of the thread's windows: mostly the one that neighbours are beside.
    pub(super) fn window(&self, hand: &mut Hand) -> Range<u64> {
        let [near, far] = self.windows();
        if hand.rng.one_in(3) { far } else { near }
    }

    /// How many pages lie outside the windows.
    pub(super) fn floating(&self) -> u64 {
        let windows = self.windows();
        let inside = |addr: &u64| windows.iter().any(|window| window.contains(addr));
        let outside = self.pages.keys().filter(|addr| !inside(addr));
        outside.count() as u64
    }

    /// A page that the thread owns.
    pub(super) fn some_page(&self, hand: &mut Hand) -> Option<u64> {
        let window = match hand.rng.below(4) {
            0 => 0..u64::MAX,
            1 => self.windows()[1].clone(),
            _ => self.windows()[0].clone(),
        };
        let from =
            window.start + hand.rng.below((window.end - window.start) / PAGE_SIZE) * PAGE_SIZE;
        let above = self.pages.range(from..).next();
        above
            .or_else(|| self.pages.iter().next())
            .map(|page| *page.0)
    }

    /// Pages in a row, up to `most`, from one of them on.
    pub(super) fn row(&self, first: u64, most: u64) -> Range<u64> {
        let next = |addr: &u64| Some(*addr + PAGE_SIZE);
        let row = std::iter::successors(Some(first), next).take(most as usize);
        let len = row.take_while(|addr| self.pages.contains_key(addr)).count();
        first..first + len as u64 * PAGE_SIZE
    }

    /// A random row of pages.
    pub(super) fn some_row(&self, hand: &mut Hand, most: u64) -> Option<Range<u64>> {
        let first = self.some_page(hand)?;
        let most = 1 + hand.rng.below(most);
        Some(self.row(first, most))
    }

    /// What an access at `addr` comes to: the address is in a page of the thread's, or in one of
    /// its windows.
    pub(super) fn expected(&self, addr: u64, access: Access) -> Result<(), Fault> {
        let page = self.pages.get(&page_of(addr)).ok_or(Fault::NotMapped)?;
        page.expected(access)
    }

    /// Makes an access at `addr` through `fault`, and looks whether it ends as it must: whether
    /// the page is there then.
    pub(super) fn fault(&self, addr: u64, access: Access, hand: &mut Hand) -> Held<bool> {
        hand.at(addr);
        let expected = self.expected(addr, access);
        let met = self.space.fault(addr, access);
        compare(addr, access, (expected, met), hand)
    }

    /// Reads a whole page, and looks whether it holds what it must: whether it could be read.
    pub(super) fn read(&mut self, page: u64, hand: &mut Hand) -> Held<bool> {
        hand.at(page);
        let mut bytes = [0; PAGE_SIZE as usize];
        let met = self.space.read(page, &mut bytes);
        let expected = self.expected(page, Access::Read);
        let met = met.map_err(|end: Unfinished| end.fault);
        if !compare(page, Access::Read, (expected, met), hand)? {
            return Ok(false);
        }
        self.check(page, &bytes).map(|()| true)
    }

    /// Looks whether `bytes`, which were found in a page, are what it must hold.
    fn check(&mut self, addr: u64, bytes: &[u8; PAGE_SIZE as usize]) -> Held {
        let thread = self.thread;
        let Some(page) = self.pages.get_mut(&addr) else {
            return Ok(());
        };
        if std::mem::take(&mut page.may_be_empty) {
            let is_empty = SLOTS.iter().all(|place| word(bytes, *place) == 0);
            if is_empty {
                page.empty();
            }
        }
        let expected = page.words();
        for place in (0..PAGE_SIZE).step_by(8) {
            let found = word(bytes, place);
            let slot = SLOTS.iter().position(|slot| *slot == place);
            match slot {
                Some(slot) if found == expected[slot] => {}
                Some(slot) => return differs(addr + place, found, expected[slot]),
                None => {
                    if let Some(wrong) = tag::wrong(found, place, thread) {
                        return broken(addr + place, format!("the word {found:#x} {wrong}"));
                    }
                }
            }
        }
        Ok(())
    }
}

/// A word is not what its owner wrote.
pub(super) fn differs<T>(addr: u64, found: u64, expected: u64) -> Held<T> {
    let why = if found == Memory::POISON {
        ", as frames have that were freed"
    } else {
        ""
    };
    broken(
        addr,
        format!("the word is {found:#x}{why}, and what was written is {expected:#x}"),
    )
}

/// Whether an access ended as it had to: whether it was made. Only memory may be missing.
pub(super) fn compare(
    addr: u64,
    access: Access,
    (expected, met): (Result<(), Fault>, Result<(), Fault>),
    hand: &mut Hand,
) -> Held<bool> {
    if expected.is_ok() && met == Err(Fault::OutOfMemory) {
        hand.lacks_memory();
        return Ok(false);
    }
    if expected != met {
        let access = format!("{access:?}").to_lowercase();
        let (met, expected) = (in_words(met), in_words(expected));
        return broken(
            addr,
            format!("{access}: {met}, where it has to be {expected}"),
        );
    }
    Ok(met.is_ok())
}

fn in_words(result: Result<(), Fault>) -> String {
    match result {
        Ok(()) => "allowed".to_owned(),
        Err(fault) => format!("refused ({fault:?})"),
    }
}

pub(super) const fn page_of(addr: u64) -> u64 {
    addr & !(PAGE_SIZE - 1)
}

/// The word at `place` of a page.
pub(super) fn word(bytes: &[u8], place: u64) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    u64::from_ne_bytes(words[place as usize / 8])
}
