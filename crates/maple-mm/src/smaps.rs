//! The lines of `/proc/PID/smaps` and `/proc/PID/status` that follow from the mappings alone.

use core::fmt::{self, Write};

use crate::abi::{HUGE_PAGE_SIZE, PAGE_SIZE, page_ceil, page_floor};
use crate::accounting::Statistics;
use crate::flags::VmFlags;
use crate::moment::Shown;
use crate::page_side::PageSide;
use crate::space::AddressSpace;
use crate::vma::Vma;

const KIB: u64 = 1024;

/// The counters of `status`, in bytes, that need no pages.
#[derive(Clone, Copy, Debug)]
struct StatusLines {
    peak: u64,
    size: u64,
    locked: u64,
    data: u64,
    stack: u64,
    program: u64,
    libraries: u64,
}

impl<P: PageSide> AddressSpace<P> {
    /// Writes the lines of `/proc/PID/smaps` that the mappings decide: for each its line of
    /// `maps`, `Size`, `KernelPageSize`, `MMUPageSize` and `VmFlags`, as the kernel spells them.
    ///
    /// The lines between those tell of pages. `THPeligible` follows from settings for each size
    /// of page and from file systems, `ProtectionKey` from the processor; neither is written.
    ///
    /// # Complexity
    ///
    /// O(n) for n mappings.
    ///
    /// # Errors
    ///
    /// What `out` says.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// let mut text = String::new();
    /// space.write_smaps(&mut text).unwrap();
    /// assert!(text.contains("\nSize:                  8 kB\n"));
    /// assert!(text.contains("\nVmFlags: rd mr mw me \n"));
    /// ```
    pub fn write_smaps(&self, out: &mut dyn Write) -> fmt::Result {
        self.shown().write_smaps(out)
    }

    /// Writes the lines of `/proc/PID/status` that the mappings decide: `VmPeak`, `VmSize`,
    /// `VmLck`, `VmPin` (nothing is pinned), `VmData`, `VmStk`, `VmExe`, `VmLib`, in this
    /// order.
    ///
    /// # Errors
    ///
    /// What `out` says.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::*};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ | PROT_WRITE))?;
    /// space.munmap(addr, 4096)?;
    /// let mut text = String::new();
    /// space.write_status(&mut text).unwrap();
    /// assert!(text.starts_with("VmPeak:\t       8 kB\nVmSize:\t       4 kB\n"));
    /// # Ok::<(), maple_mm::Errno>(())
    /// ```
    pub fn write_status(&self, out: &mut dyn Write) -> fmt::Result {
        self.shown().write_status(&self.statistics(), out)
    }
}

impl Shown<'_> {
    pub(crate) fn write_smaps(&self, out: &mut dyn Write) -> fmt::Result {
        for (_, vma) in self.tree {
            writeln!(out, "{}", self.maps_line(vma))?;
            write_sizes(out, vma.len_bytes(), page_size_of(vma))?;
            write_flags(out, self.shown_flags(vma))?;
        }
        if let Some(gate) = self.gate_line() {
            writeln!(out, "{gate}")?;
            write_sizes(out, PAGE_SIZE, PAGE_SIZE)?;
            write_flags(out, gate.flags)?;
        }
        Ok(())
    }

    pub(crate) fn write_status(&self, sums: &Statistics, out: &mut dyn Write) -> fmt::Result {
        let lines = self.status_lines(sums);
        let pinned = 0;
        for (name, bytes) in [
            ("VmPeak", lines.peak),
            ("VmSize", lines.size),
            ("VmLck", lines.locked),
            ("VmPin", pinned),
            ("VmData", lines.data),
            ("VmStk", lines.stack),
            ("VmExe", lines.program),
            ("VmLib", lines.libraries),
        ] {
            writeln!(out, "{name}:\t{:8} kB", bytes / KIB)?;
        }
        Ok(())
    }

    fn shown_flags(&self, vma: &Vma) -> VmFlags {
        if self.profile.guard_flag.is_yes() {
            vma.flags()
        } else {
            vma.flags() - VmFlags::MAYBE_GUARD
        }
    }

    fn status_lines(&self, sums: &Statistics) -> StatusLines {
        let executable = sums.exec_vm * PAGE_SIZE;
        let layout = self.layout;
        // LINUX: what the program header calls code, but no more than is mapped executable. The
        // ends may have been set to anything (`PR_SET_MM`).
        let code = page_ceil(layout.end_code).wrapping_sub(page_floor(layout.start_code));
        let program = code.min(executable);
        StatusLines {
            peak: sums.peak_vm * PAGE_SIZE,
            size: sums.total_vm * PAGE_SIZE,
            locked: sums.locked_vm * PAGE_SIZE,
            data: sums.data_vm * PAGE_SIZE,
            stack: sums.stack_vm * PAGE_SIZE,
            program,
            libraries: executable - program,
        }
    }
}

fn write_sizes(out: &mut dyn Write, bytes: u64, page_size: u64) -> fmt::Result {
    writeln!(out, "Size:           {:8} kB", bytes / KIB)?;
    writeln!(out, "KernelPageSize: {:8} kB", page_size / KIB)?;
    writeln!(out, "MMUPageSize:    {:8} kB", page_size / KIB)
}

fn write_flags(out: &mut dyn Write, flags: VmFlags) -> fmt::Result {
    out.write_str("VmFlags: ")?;
    flags.write_mnemonics(out)?;
    out.write_char('\n')
}

/// Bytes in a page of the mapping.
fn page_size_of(vma: &Vma) -> u64 {
    if vma.flags().contains(VmFlags::HUGETLB) {
        HUGE_PAGE_SIZE
    } else {
        PAGE_SIZE
    }
}
