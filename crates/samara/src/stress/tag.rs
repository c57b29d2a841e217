//! The words that threads write: each says who wrote it, and when.

use maple_mm::abi::PAGE_SIZE;

use super::machine::Memory;

/// No run has more threads.
pub(super) const THREADS_MOST: u64 = 64;

/// Where a page has words that its owner writes, in bytes: the ends, so that an access can meet
/// two pages, and places between.
pub(super) const SLOTS: [u64; 4] = [0, 8 * 170, 8 * 341, PAGE_SIZE - 8];

/// Where others write into it, a word for each of them.
const GUESTS: u64 = 8 * 200;

/// The highest byte of a tag.
const OWNER: u64 = 0x5a;
const GUEST: u64 = 0x6b;

/// What an owner writes: its thread, the step, and which word of the step.
pub(super) const fn owners(thread: u8, step: u32, word: u16) -> u64 {
    OWNER << 56 | (thread as u64) << 48 | (step as u64) << 16 | word as u64
}

/// What a thread writes into a page of somebody else's.
pub(super) const fn guests(thread: u8, step: u32) -> u64 {
    GUEST << 56 | (thread as u64) << 48 | (step as u64) << 16
}

/// Where in any page a thread writes as a guest, in bytes.
pub(super) const fn guests_place(thread: u8) -> u64 {
    GUESTS + 8 * thread as u64
}

/// Who wrote a tag, if it is one of this kind.
const fn writer(tag: u64, kind: u64) -> Option<u64> {
    if tag >> 56 == kind {
        Some(tag >> 48 & 0xff)
    } else {
        None
    }
}

/// What is wrong with a word found at `place` of a page of `owner`, whatever was written when.
pub(super) fn wrong(word: u64, place: u64, owner: u8) -> Option<&'static str> {
    if word == 0 {
        return None;
    }
    if word == Memory::POISON {
        return Some("comes from a frame that was freed");
    }
    let guest = (place.wrapping_sub(GUESTS) / 8 < THREADS_MOST && place >= GUESTS)
        .then(|| (place - GUESTS) / 8);
    let expected = match guest {
        Some(guest) => writer(word, GUEST) == Some(guest),
        None => SLOTS.contains(&place) && writer(word, OWNER) == Some(owner.into()),
    };
    (!expected).then_some("was never written there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_has_one_writer() {
        let tag = owners(3, 70_000, 9);
        assert_eq!(wrong(tag, SLOTS[1], 3), None);
        assert!(wrong(tag, SLOTS[1], 4).is_some());
        assert!(wrong(tag, SLOTS[1] + 8, 3).is_some());
        let guest = guests(5, 1);
        assert_eq!(wrong(guest, guests_place(5), 3), None);
        assert!(wrong(guest, guests_place(6), 3).is_some());
        assert!(wrong(guest, SLOTS[0], 3).is_some());
        assert!(wrong(tag, guests_place(3), 3).is_some());
    }

    #[test]
    fn poison_and_what_is_no_tag_are_told_apart() {
        assert_eq!(wrong(0, 16, 1), None);
        let freed = wrong(Memory::POISON, 16, 1).unwrap();
        assert!(freed.contains("freed"));
        assert!(!wrong(1, 16, 1).unwrap().contains("freed"));
    }

    #[test]
    fn owners_and_guests_do_not_meet() {
        let guests = (0..THREADS_MOST as u8).map(guests_place);
        assert!(guests.clone().all(|place| place < PAGE_SIZE));
        assert!(guests.into_iter().all(|place| !SLOTS.contains(&place)));
    }
}
