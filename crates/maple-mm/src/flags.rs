//! What the kernel remembers about a mapping in one word, and its two-letter names in `smaps`.

use alloc::string::String;
use core::fmt::{self, Write};

use crate::abi::{PROT_EXEC, PROT_READ, PROT_WRITE};

bitflags::bitflags! {
    /// The flags of a mapping, with the kernel's bit numbers and meaning.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::VmFlags;
    /// let flags = VmFlags::from_mnemonics("rd wr mr mw me ac ").unwrap();
    /// assert!(flags.contains(VmFlags::WRITE | VmFlags::ACCOUNT));
    /// assert_eq!(flags.mnemonics(), "rd wr mr mw me ac ");
    /// ```
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
    pub struct VmFlags: u64 {
        /// May be read now.
        const READ = 1 << 0;
        /// May be written now.
        const WRITE = 1 << 1;
        /// May be executed now.
        const EXEC = 1 << 2;
        /// Writes reach the file or other processes.
        const SHARED = 1 << 3;
        /// `READ` may be asked for.
        const MAYREAD = 1 << 4;
        /// `WRITE` may be asked for.
        const MAYWRITE = 1 << 5;
        /// `EXEC` may be asked for.
        const MAYEXEC = 1 << 6;
        /// Mapped with `MAP_SHARED`, even where the file forbids writing; printed as `s`.
        const MAYSHARE = 1 << 7;
        /// A stack: grows towards lower addresses when touched below its start.
        const GROWSDOWN = 1 << 8;
        /// `userfaultfd` handles missing pages.
        const UFFD_MISSING = 1 << 9;
        /// Page frames without page structures.
        const PFNMAP = 1 << 10;
        /// Guard pages were installed somewhere in the mapping at some time.
        const MAYBE_GUARD = 1 << 11;
        /// `userfaultfd` handles write protection.
        const UFFD_WP = 1 << 12;
        /// Pages stay in memory.
        const LOCKED = 1 << 13;
        /// Device memory.
        const IO = 1 << 14;
        /// Read from front to back.
        const SEQ_READ = 1 << 15;
        /// Read in no order.
        const RAND_READ = 1 << 16;
        /// Not given to a child.
        const DONTCOPY = 1 << 17;
        /// May not grow with `mremap`.
        const DONTEXPAND = 1 << 18;
        /// Locked pages are locked when first touched.
        const LOCKONFAULT = 1 << 19;
        /// Its pages are charged against the commit limit.
        const ACCOUNT = 1 << 20;
        /// Its pages are not to be charged.
        const NORESERVE = 1 << 21;
        /// Made of huge pages.
        const HUGETLB = 1 << 22;
        /// Page faults are synchronous (DAX).
        const SYNC = 1 << 23;
        /// Architecture's use; x86: page attribute table.
        const ARCH_1 = 1 << 24;
        /// A child sees zeroes.
        const WIPEONFORK = 1 << 25;
        /// Left out of core dumps.
        const DONTDUMP = 1 << 26;
        /// Changed since the soft-dirty bits were cleared.
        const SOFTDIRTY = 1 << 27;
        /// Page frames with and without page structures.
        const MIXEDMAP = 1 << 28;
        /// Huge pages wanted.
        const HUGEPAGE = 1 << 29;
        /// Huge pages refused.
        const NOHUGEPAGE = 1 << 30;
        /// Equal pages may be merged (KSM).
        const MERGEABLE = 1 << 31;
        /// A shadow stack.
        const SHADOW_STACK = 1 << 37;
        /// `userfaultfd` handles minor faults.
        const UFFD_MINOR = 1 << 38;
        /// Pages may vanish under memory pressure.
        const DROPPABLE = 1 << 40;
        /// Boundaries and protection are frozen.
        const SEALED = 1 << 42;
    }
}

/// Each flag `smaps` names, in the order it prints them.
const MNEMONICS: [(VmFlags, &str); 36] = [
    (VmFlags::READ, "rd"),
    (VmFlags::WRITE, "wr"),
    (VmFlags::EXEC, "ex"),
    (VmFlags::SHARED, "sh"),
    (VmFlags::MAYREAD, "mr"),
    (VmFlags::MAYWRITE, "mw"),
    (VmFlags::MAYEXEC, "me"),
    (VmFlags::MAYSHARE, "ms"),
    (VmFlags::GROWSDOWN, "gd"),
    (VmFlags::UFFD_MISSING, "um"),
    (VmFlags::PFNMAP, "pf"),
    (VmFlags::MAYBE_GUARD, "gu"),
    (VmFlags::UFFD_WP, "uw"),
    (VmFlags::LOCKED, "lo"),
    (VmFlags::IO, "io"),
    (VmFlags::SEQ_READ, "sr"),
    (VmFlags::RAND_READ, "rr"),
    (VmFlags::DONTCOPY, "dc"),
    (VmFlags::DONTEXPAND, "de"),
    (VmFlags::LOCKONFAULT, "lf"),
    (VmFlags::ACCOUNT, "ac"),
    (VmFlags::NORESERVE, "nr"),
    (VmFlags::HUGETLB, "ht"),
    (VmFlags::SYNC, "sf"),
    (VmFlags::ARCH_1, "ar"),
    (VmFlags::WIPEONFORK, "wf"),
    (VmFlags::DONTDUMP, "dd"),
    (VmFlags::SOFTDIRTY, "sd"),
    (VmFlags::MIXEDMAP, "mm"),
    (VmFlags::HUGEPAGE, "hg"),
    (VmFlags::NOHUGEPAGE, "nh"),
    (VmFlags::MERGEABLE, "mg"),
    (VmFlags::SHADOW_STACK, "ss"),
    (VmFlags::UFFD_MINOR, "ui"),
    (VmFlags::DROPPABLE, "dp"),
    (VmFlags::SEALED, "sl"),
];

impl VmFlags {
    /// What `PROT_READ`, `PROT_WRITE` and `PROT_EXEC` set.
    pub const ACCESS: Self = Self::READ.union(Self::WRITE).union(Self::EXEC);
    /// The permissions that may be asked for later.
    pub const MAY_ACCESS: Self = Self::MAYREAD.union(Self::MAYWRITE).union(Self::MAYEXEC);
    /// Both lock flags.
    pub const LOCKED_ANY: Self = Self::LOCKED.union(Self::LOCKONFAULT);
    /// All that `userfaultfd` sets.
    pub const UFFD_ANY: Self = Self::UFFD_MISSING
        .union(Self::UFFD_WP)
        .union(Self::UFFD_MINOR);
    /// Mappings that never merge and cannot be locked.
    pub const SPECIAL: Self = Self::IO
        .union(Self::DONTEXPAND)
        .union(Self::PFNMAP)
        .union(Self::MIXEDMAP);

    /// The access flags that `prot` asks for; other bits of `prot` are ignored.
    #[must_use]
    pub const fn from_protection(prot: u64) -> Self {
        Self::from_bits_retain(prot & (PROT_READ | PROT_WRITE | PROT_EXEC))
    }

    /// The `PROT_` bits of the access flags.
    pub(crate) const fn protection(self) -> u64 {
        self.access().bits()
    }

    /// Only the access flags.
    #[must_use]
    pub const fn access(self) -> Self {
        self.intersection(Self::ACCESS)
    }

    /// Whether a private mapping with these flags may hold copies of its own (`MAYWRITE`, not
    /// `SHARED`).
    #[must_use]
    pub const fn is_copy_on_write(self) -> bool {
        self.contains(Self::MAYWRITE) && !self.contains(Self::SHARED)
    }

    /// Whether new memory with these flags is charged: writable, private, not `NORESERVE`, and not
    /// of a pool of its own.
    #[must_use]
    pub const fn is_accountable(self) -> bool {
        let never = Self::NORESERVE.union(Self::SHARED).union(Self::HUGETLB);
        self.intersection(never.union(Self::WRITE)).bits() == Self::WRITE.bits()
    }

    /// Reads the words of a `VmFlags` line of `smaps` (without `VmFlags:`).
    ///
    /// # Errors
    ///
    /// The first word that is not known.
    pub fn from_mnemonics(words: &str) -> Result<Self, UnknownMnemonic> {
        let mut flags = Self::empty();
        for word in words.split_ascii_whitespace() {
            let known = MNEMONICS.iter().find(|(_, name)| *name == word);
            flags |= known.ok_or_else(|| UnknownMnemonic(word.into()))?.0;
        }
        Ok(flags)
    }

    /// The words `smaps` prints, each followed by a space.
    #[must_use]
    pub fn mnemonics(self) -> String {
        let mut words = String::new();
        // Writing to a string does not fail.
        let _: fmt::Result = self.write_mnemonics(&mut words);
        words
    }

    /// Writes the words `smaps` prints, each followed by a space.
    ///
    /// # Errors
    ///
    /// What `out` says.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::VmFlags;
    /// let mut words = String::new();
    /// (VmFlags::MAYREAD | VmFlags::READ).write_mnemonics(&mut words).unwrap();
    /// assert_eq!(words, "rd mr ");
    /// ```
    pub fn write_mnemonics(self, out: &mut dyn Write) -> fmt::Result {
        for (_, name) in MNEMONICS.iter().filter(|(flag, _)| self.contains(*flag)) {
            out.write_str(name)?;
            out.write_char(' ')?;
        }
        Ok(())
    }
}

/// A word of a `VmFlags` line that names no flag this crate knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownMnemonic(pub String);

impl fmt::Display for UnknownMnemonic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no flag of smaps this version knows; report it",
            self.0
        )
    }
}

impl core::error::Error for UnknownMnemonic {}

#[cfg(test)]
mod tests {
    use super::VmFlags;

    #[test]
    fn every_mnemonic_reads_back() {
        let all = VmFlags::all();
        assert_eq!(VmFlags::from_mnemonics(&all.mnemonics()).unwrap(), all);
    }

    #[test]
    fn unknown_mnemonic_is_named() {
        assert_eq!(VmFlags::from_mnemonics("rd zz").unwrap_err().0, "zz");
    }

    #[test]
    fn only_writable_private_reserved_memory_is_accountable() {
        assert!((VmFlags::READ | VmFlags::WRITE).is_accountable());
        assert!(!VmFlags::READ.is_accountable());
        assert!(!(VmFlags::WRITE | VmFlags::SHARED).is_accountable());
        assert!(!(VmFlags::WRITE | VmFlags::NORESERVE).is_accountable());
    }
}
