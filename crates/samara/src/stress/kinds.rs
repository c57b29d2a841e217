//! What threads do, and how often.

use serde::Serialize;

macro_rules! kinds {
    ($($(#[$meta:meta])* $variant:ident, $name:literal, $weight:literal;)*) => {
        /// What a thread does in a step.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub(super) enum Kind {
            $($(#[$meta])* #[serde(rename = $name)] $variant,)*
        }

        impl Kind {
            pub(super) const ALL: &[Self] = &[$(Self::$variant,)*];

            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// How often it is drawn.
            pub(super) const fn weight(self) -> u32 {
                match self { $(Self::$variant => $weight,)* }
            }
        }
    };
}

kinds! {
    /// `mmap` over a part of a window, or anywhere.
    Map, "mmap", 10;
    /// `munmap`
    Unmap, "munmap", 6;
    /// `mprotect`
    Protect, "mprotect", 8;
    /// `mremap` to another place.
    Move, "mremap", 5;
    /// `mremap` to another length.
    Resize, "mremap-resize", 2;
    /// `MADV_DONTNEED`
    Discard, "discard", 4;
    /// Guards laid and taken away.
    Guard, "guard", 2;
    /// A fault by itself.
    Fault, "fault", 14;
    /// Pages read and compared.
    Read, "read", 14;
    /// Words written, also over the border of two pages.
    Write, "write", 20;
    /// A word copied within the address space.
    Copy, "copy", 3;
    /// Whether a buffer may be used.
    Check, "check-range", 6;
    /// Mappings looked up.
    Look, "look-up", 6;
    /// The text of `maps`, and what it must agree with.
    Maps, "maps", 2;
    /// `fork`
    Fork, "fork", 2;
    /// The end of a child.
    End, "exit", 2;
    /// Faults, reads and writes in what another thread maps and unmaps.
    Meddle, "meddle", 24;
    /// Words raised in order.
    Climb, "climb", 10;
    /// Such words of others looked at.
    Rungs, "rungs", 6;
    /// A word in a page that all write.
    Common, "common", 14;
    /// Such a page looked at, and made anew.
    Recycle, "recycle", 3;
    /// Everything that the thread owns looked at.
    Settle, "settle", 0;
    /// The machine made, or taken apart and its books looked at.
    Books, "books", 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        let mut names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
