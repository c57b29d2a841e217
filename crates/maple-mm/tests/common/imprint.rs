//! Numbers that change with what they stand for: thousands of comparisons take no time.

use std::hash::{Hash, Hasher};

use maple_mm::{AddressSpace, FileRef, PageSide, Statistics, VmaRef};

/// Words mixed into one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Imprint(u64);

impl Imprint {
    pub(crate) fn add(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}

impl Hasher for Imprint {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.add(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Everything about the mappings of a space that a call could change, who owns them included.
pub(crate) fn mappings<P: PageSide>(space: &AddressSpace<P>, imprint: &mut Imprint) {
    for vma in space.vmas() {
        let anon = space.anon(vma);
        for word in [
            vma.start(),
            vma.end(),
            vma.page_offset(),
            vma.flags().bits(),
        ] {
            imprint.add(word);
        }
        anon.id().hash(imprint);
        imprint.add(u64::from(anon.is_forked()) + 2 * u64::from(anon.is_singular()));
        imprint.add(VmaRef::count(vma) as u64);
        if let Some(file) = vma.file() {
            imprint.add(file.id.0);
            imprint.add(FileRef::count(file) as u64);
        }
    }
    let (layout, flags) = (space.layout(), space.default_flags());
    imprint.write(format!("{layout:?} {flags:?}").as_bytes());
    imprint.add(space.system().committed());
}

/// All counters.
pub(crate) fn counters(statistics: Statistics, imprint: &mut Imprint) {
    imprint.write(format!("{statistics:?}").as_bytes());
}
