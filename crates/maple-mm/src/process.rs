//! What a process asks of its address space as a whole: `personality` and switches of `prctl`.

use crate::abi::{
    PR_GET_MDWE, PR_GET_MEMORY_MERGE, PR_GET_THP_DISABLE, PR_MDWE_NO_INHERIT,
    PR_MDWE_REFUSE_EXEC_GAIN, PR_SET_MDWE, PR_SET_MEMORY_MERGE, PR_SET_MM, PR_SET_THP_DISABLE,
    PR_THP_DISABLE_EXCEPT_ADVISED, READ_IMPLIES_EXEC,
};
use crate::advise::can_share_equal_pages;
use crate::errno::Errno;
use crate::file::{Backing, FileKind};
use crate::flags::VmFlags;
use crate::page_side::PageSide;
use crate::profile::MergeAnyRule;
use crate::space::AddressSpace;

bitflags::bitflags! {
    /// The switches of `prctl` that concern the whole address space.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct ProcessFlags: u32 {
        /// What is not executable never becomes so, and nothing is both writable and executable
        /// (`PR_MDWE_REFUSE_EXEC_GAIN`).
        const REFUSE_EXEC_GAIN = 1 << 0;
        /// A child and a new program do without (`PR_MDWE_NO_INHERIT`).
        const EXEC_GAIN_NOT_INHERITED = 1 << 1;
        /// Equal pages of all mappings may be merged (`PR_SET_MEMORY_MERGE`).
        const MERGE_ANY = 1 << 2;
        /// No transparent huge pages (`PR_SET_THP_DISABLE`).
        const NO_HUGE_PAGES = 1 << 3;
        /// None but where `MADV_HUGEPAGE` asks for them (`PR_THP_DISABLE_EXCEPT_ADVISED`).
        const HUGE_PAGES_IF_ADVISED = 1 << 4;
    }
}

/// What a process has asked of its address space as a whole.
///
/// # Examples
///
/// ```
/// use maple_mm::{Process, ProcessFlags, abi::READ_IMPLIES_EXEC};
/// let process = Process {
///     personality: READ_IMPLIES_EXEC,
///     flags: ProcessFlags::MERGE_ANY,
/// };
/// assert_eq!(process.of_child(), process);
/// assert_eq!(process.of_program().personality, 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Process {
    /// What `personality` was told.
    pub personality: u32,
    /// What `prctl` was told.
    pub flags: ProcessFlags,
}

impl Process {
    /// What a forked child has of it.
    #[must_use]
    pub fn of_child(self) -> Self {
        let mut flags = self.flags;
        if flags.contains(ProcessFlags::EXEC_GAIN_NOT_INHERITED) {
            flags -= ProcessFlags::REFUSE_EXEC_GAIN | ProcessFlags::EXEC_GAIN_NOT_INHERITED;
        }
        Self { flags, ..self }
    }

    /// What a 64-bit program has of it that the process goes on with.
    #[must_use]
    pub fn of_program(self) -> Self {
        Self {
            personality: self.personality & !READ_IMPLIES_EXEC,
            ..self.of_child()
        }
    }
}

impl<P: PageSide> AddressSpace<P> {
    /// What was asked of it as a whole.
    #[must_use]
    pub const fn process(&self) -> Process {
        self.process
    }

    /// Replaces what was asked of it as a whole: what was learned from outside. No mapping
    /// changes.
    pub const fn set_process(&mut self, process: Process) {
        self.process = process;
    }

    /// Sets how the process is run and says how it was; `0xffff_ffff` only asks.
    ///
    /// `READ_IMPLIES_EXEC` counts from the next call on. `ADDR_COMPAT_LAYOUT` and its like count
    /// when a program starts, so they are remembered only.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, VmFlags, abi::*};
    /// let mut space = AddressSpace::empty();
    /// assert_eq!(space.personality(READ_IMPLIES_EXEC.into()), 0);
    /// let addr = space.mmap(MmapRequest::anonymous(4096, PROT_READ))?;
    /// assert!(space.vma_at(addr).unwrap().flags().contains(VmFlags::EXEC));
    /// # Ok::<(), maple_mm::Errno>(())
    /// ```
    pub const fn personality(&mut self, persona: u64) -> u64 {
        const ASK: u32 = 0xffff_ffff;
        let old = self.process.personality;
        let new = persona as u32;
        if new != ASK {
            self.process.personality = new;
        }
        old as u64
    }

    /// Does what `prctl` does with the options that concern mappings: `PR_SET_MDWE`,
    /// `PR_SET_MEMORY_MERGE`, `PR_SET_THP_DISABLE`, their `GET` partners, and `PR_SET_MM` for a
    /// single address. Says what the call returns.
    ///
    /// # Complexity
    ///
    /// O(1); a change of `PR_SET_MEMORY_MERGE` is O(n log n) for n mappings.
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`]: another option, a malformed argument, or one that is not used and not
    ///   0. For `PR_SET_MM` also an address or an order of addresses that makes no sense.
    /// - [`Errno::EPERM`]: what `PR_SET_MDWE` has set may not be taken back or changed;
    ///   `PR_SET_MM` needs a privilege.
    /// - [`Errno::EFAULT`]: `PR_SET_MM` of a stack, arguments or environment above all mappings.
    /// - [`Errno::ENOMEM`]: there is no memory to change all mappings.
    ///
    /// Nothing changed on error.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Errno, MmapRequest, abi::*};
    /// let mut space = AddressSpace::empty();
    /// space.prctl(PR_SET_MDWE, [PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0])?;
    /// let both = MmapRequest::anonymous(4096, PROT_WRITE | PROT_EXEC);
    /// assert_eq!(space.mmap(both), Err(Errno::EACCES));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn prctl(&mut self, option: u32, args: [u64; 4]) -> Result<u64, Errno> {
        match option {
            PR_SET_MDWE => self.set_write_exec(args),
            PR_GET_MDWE => self.asked(args).map(Self::write_exec),
            PR_SET_MEMORY_MERGE if self.profile.ksm.is_yes() => self.set_memory_merge(args),
            PR_GET_MEMORY_MERGE if self.profile.ksm.is_yes() => {
                let is_set = |space: &Self| space.process.flags.contains(ProcessFlags::MERGE_ANY);
                self.asked(args).map(|space| is_set(space).into())
            }
            PR_SET_THP_DISABLE => self.set_huge_pages_off(args),
            PR_GET_THP_DISABLE => self.asked(args).map(Self::huge_pages_off),
            PR_SET_MM => self.set_mm(args).map(|()| 0),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Itself, if a question has no arguments.
    const fn asked(&self, args: [u64; 4]) -> Result<&Self, Errno> {
        match args {
            [0, 0, 0, 0] => Ok(self),
            _ => Err(Errno::EINVAL),
        }
    }

    fn write_exec(&self) -> u64 {
        let has = |flag| self.process.flags.contains(flag);
        let bit = |flag, bit| if has(flag) { bit } else { 0 };
        bit(ProcessFlags::REFUSE_EXEC_GAIN, PR_MDWE_REFUSE_EXEC_GAIN)
            | bit(ProcessFlags::EXEC_GAIN_NOT_INHERITED, PR_MDWE_NO_INHERIT)
    }

    fn set_write_exec(&mut self, args: [u64; 4]) -> Result<u64, Errno> {
        const BOTH: u64 = PR_MDWE_REFUSE_EXEC_GAIN | PR_MDWE_NO_INHERIT;
        let [bits, 0, 0, 0] = args else {
            return Err(Errno::EINVAL);
        };
        let flags = match bits {
            0 => ProcessFlags::empty(),
            PR_MDWE_REFUSE_EXEC_GAIN => ProcessFlags::REFUSE_EXEC_GAIN,
            BOTH => ProcessFlags::REFUSE_EXEC_GAIN | ProcessFlags::EXEC_GAIN_NOT_INHERITED,
            _ => return Err(Errno::EINVAL),
        };
        let old = self.write_exec();
        if old != 0 && old != bits {
            return Err(Errno::EPERM);
        }
        self.process.flags |= flags;
        Ok(0)
    }

    const fn huge_pages_off(&self) -> u64 {
        let flags = self.process.flags;
        if flags.contains(ProcessFlags::HUGE_PAGES_IF_ADVISED) {
            1 | PR_THP_DISABLE_EXCEPT_ADVISED
        } else {
            flags.contains(ProcessFlags::NO_HUGE_PAGES) as u64
        }
    }

    fn set_huge_pages_off(&mut self, args: [u64; 4]) -> Result<u64, Errno> {
        let [is_off, exception, 0, 0] = args else {
            return Err(Errno::EINVAL);
        };
        let has_exception = self.profile.huge_page_exception.is_yes();
        let flags = match (is_off != 0, exception) {
            (false, 0) => ProcessFlags::empty(),
            (true, 0) => ProcessFlags::NO_HUGE_PAGES,
            (true, PR_THP_DISABLE_EXCEPT_ADVISED) if has_exception => {
                ProcessFlags::HUGE_PAGES_IF_ADVISED
            }
            _ => return Err(Errno::EINVAL),
        };
        let all = ProcessFlags::NO_HUGE_PAGES | ProcessFlags::HUGE_PAGES_IF_ADVISED;
        self.process.flags = (self.process.flags - all) | flags;
        Ok(0)
    }

    /// Marks all mappings whose pages may be shared, or none any more.
    ///
    /// LINUX: none of them merges for it. What is asked for again changes nothing, so what was
    /// unmarked since stays so; and what `MADV_MERGEABLE` marked stays when nothing was asked for.
    fn set_memory_merge(&mut self, args: [u64; 4]) -> Result<u64, Errno> {
        let [is_on, 0, 0, 0] = args else {
            return Err(Errno::EINVAL);
        };
        let is_on = is_on != 0;
        if is_on == self.process.flags.contains(ProcessFlags::MERGE_ANY) {
            return Ok(0);
        }
        let mut edits = self.edits();
        for vma in self.vmas() {
            let old = vma.flags();
            let new = if !is_on {
                old - VmFlags::MERGEABLE
            } else if can_share_equal_pages(old) {
                old | VmFlags::MERGEABLE
            } else {
                old
            };
            if new != old {
                edits.put(self.local(vma).with_flags(new))?;
            }
        }
        self.commit(edits)?;
        self.process.flags.set(ProcessFlags::MERGE_ANY, is_on);
        Ok(0)
    }

    /// Whether what can be read can be executed.
    pub(crate) const fn read_implies_exec(&self) -> bool {
        self.process.personality & READ_IMPLIES_EXEC != 0
    }

    /// `EACCES` if `new` flags of what had `old` ones make something executable that was not, or
    /// executable and writable, and that is refused. A new mapping has the same as both.
    pub(crate) fn check_exec_gain(&self, old: VmFlags, new: VmFlags) -> Result<(), Errno> {
        let is_refused = self.process.flags.contains(ProcessFlags::REFUSE_EXEC_GAIN)
            && new.contains(VmFlags::EXEC)
            && (new.contains(VmFlags::WRITE) || !old.contains(VmFlags::EXEC));
        if is_refused {
            Err(Errno::EACCES)
        } else {
            Ok(())
        }
    }

    /// Whether transparent huge pages are refused to the whole process.
    pub(crate) const fn refuses_huge_pages(&self) -> bool {
        self.process.flags.contains(ProcessFlags::NO_HUGE_PAGES)
    }

    /// What a new mapping's flags gain by `PR_SET_MEMORY_MERGE`.
    fn merge_any_flag(&self, flags: VmFlags) -> VmFlags {
        let is_on = self.process.flags.contains(ProcessFlags::MERGE_ANY);
        if is_on && can_share_equal_pages(flags) {
            VmFlags::MERGEABLE
        } else {
            VmFlags::empty()
        }
    }

    /// The same before a new mapping looks for neighbours to join.
    ///
    /// LINUX: 6.17 and newer do so where no driver can change the flags later.
    pub(crate) fn early_merge_any(&self, flags: VmFlags, backing: &Backing) -> VmFlags {
        let is_early =
            self.profile.merge_any == MergeAnyRule::BeforeMerge && !has_late_flags(backing);
        if is_early {
            self.merge_any_flag(flags)
        } else {
            VmFlags::empty()
        }
    }

    /// The same when it has joined them, or stands alone.
    pub(crate) fn late_merge_any(&self, flags: VmFlags, company: Company) -> VmFlags {
        // LINUX: 6.17 and newer leave what was joined as it was.
        let is_early = self.profile.merge_any == MergeAnyRule::BeforeMerge;
        if is_early && company == Company::Joined {
            VmFlags::empty()
        } else {
            self.merge_any_flag(flags)
        }
    }
}

/// Whether a new range became part of a mapping that was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    Alone,
    Joined,
}

/// Whether a driver has its say about the flags after a mapping was made.
fn has_late_flags(backing: &Backing) -> bool {
    let kind = backing.file().map(|file| file.kind);
    matches!(kind, Some(FileKind::DevZero | FileKind::Device))
}
