//! Forks, and children: what they show, and that neither side sees what the other writes.

use std::sync::Arc;

use maple_mm::abi::PAGE_SIZE;
use maple_mm::paging::{Mapped, PageKind, Resident};
use maple_mm::{Access, Fault};

use super::hand::Hand;
use super::ladder::{Before, Climb, Picture};
use super::life::Life;
use super::machine::Space;
use super::violation::{Held, broken, broken_anywhere};
use super::{access, mapping};

/// A thread has no more children at once.
const CHILDREN: usize = 2;

/// A child, with what its parent's thread owned at the fork.
pub(super) struct Child {
    pub(super) life: Life,
    /// The words that all raise, as they were; `None` if there was no memory to look.
    picture: Option<Picture>,
}

/// The words that all raise, in an address space that is about to fork.
pub(super) enum Words {
    /// They are raised there.
    Raised,
    /// It is a child, so they stay as they are; `None` if there was no memory to look.
    Still(Option<Picture>),
}

/// Forks an address space of the thread's, looks whether the child is one moment of it, lets both
/// sides write, and looks again.
pub(super) fn fork(
    life: &mut Life,
    words: &Words,
    (climb, hand): (&mut Climb, &mut Hand),
) -> Held<Option<Child>> {
    let before = Before::fork(hand);
    let child = match life.space.fork() {
        Ok(child) => Arc::new(child),
        Err(error) => return hand.refused(0, error).map(|()| None),
    };
    let picture = Picture::of(&child, hand)?;
    match (&picture, words) {
        (Some(picture), Words::Raised) => picture.check(&before, *climb, hand)?,
        (Some(picture), Words::Still(Some(parents))) if picture != parents => {
            return broken_anywhere("a child's child has other words than the child");
        }
        _ => {}
    }
    let mut child = Child {
        life: life.in_child(child),
        picture,
    };
    if hand.rng.one_in(2) {
        counters(&child.life.space)?;
    }
    // What is written from here on is not in the child.
    climb.go_up(hand)?;
    access::write(life, hand)?;
    access::write(life, hand)?;
    mapping::discard(life, hand)?;
    child.check(hand)?;
    Ok(Some(child))
}

impl Child {
    /// Forks it.
    pub(super) fn fork(&mut self, by: (&mut Climb, &mut Hand)) -> Held<Option<Self>> {
        let words = Words::Still(self.picture.clone());
        fork(&mut self.life, &words, by)
    }

    /// Looks whether everything is as it was at the fork, but for what the child did itself.
    pub(super) fn check(&mut self, hand: &mut Hand) -> Held {
        if let Some(picture) = &self.picture {
            picture.check_again(&self.life.space, hand)?;
        }
        for _ in 0..4 {
            access::read(&mut self.life, hand)?;
        }
        Ok(())
    }

    /// Ends it: as a process ends while others look, or by dropping it.
    pub(super) fn end(mut self, hand: &mut Hand) -> Held {
        self.check(hand)?;
        if hand.rng.one_in(2) {
            return Ok(());
        }
        self.life.space.lock().exit();
        let Some(addr) = self.life.some_page(hand) else {
            return Ok(());
        };
        for access in [Access::Read, Access::Write] {
            let met = self.life.space.fault(addr, access);
            if met != Err(Fault::NotMapped) {
                return broken(addr, format!("after exit an access is {met:?}"));
            }
        }
        let mut bytes = [0; 8];
        if self.life.space.read(addr, &mut bytes).is_ok() {
            return broken(addr, "after exit a page can be read");
        }
        Ok(())
    }
}

/// A place for one more child: the one that has to end for it.
pub(super) fn make_room(children: &mut Vec<Child>, hand: &mut Hand) -> Option<Child> {
    (children.len() >= CHILDREN).then(|| {
        let oldest = hand.rng.below(children.len() as u64) as usize;
        children.swap_remove(oldest)
    })
}

/// What is counted of the pages of an address space that nobody else uses is what there is.
pub(super) fn counters(space: &Space) -> Held {
    let owner = space.lock();
    let tables = owner.page_side().tables();
    let mut found = Resident::default();
    for page in tables.pages(0..1 << 47) {
        count(&page, &mut found);
    }
    let counted = tables.resident();
    if counted != found {
        return broken_anywhere(format!("{found:?} are mapped, and {counted:?} are counted"));
    }
    Ok(())
}

const fn count(page: &Mapped, found: &mut Resident) {
    let pages = page.size / PAGE_SIZE;
    match page.leaf.attributes.kind {
        PageKind::Anon => found.anon += pages,
        PageKind::File => found.file += pages,
        PageKind::Shmem => found.shmem += pages,
        _ => {}
    }
}
