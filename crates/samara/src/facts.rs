//! Collects from the kernel what an address space starts with, and the machine's settings.

use std::fs::{self, File};

use anyhow::{Context, Result};
use maple_mm::abi::{ADDR_COMPAT_LAYOUT, ADDR_NO_RANDOMIZE};

use crate::engine::{MmId, Place};
use crate::event::{
    BackingFacts, Cause, Direction, Gate, LayoutFacts, ProcessFacts, StartFacts, SystemFacts,
    VmaFacts, capability,
};
use crate::procfs::{self, MapLine, MemoryLimits, SmapsEntry};
use crate::ptrace::Tid;

/// The user half of the address space with four-level page tables; five levels hand out the same
/// addresses unless a hint asks for more.
const TASK_SIZE: u64 = 0x7fff_ffff_f000;
const PAGE: u64 = 4096;

/// The machine's settings.
///
/// # Errors
///
/// If `/proc` lacks what every Linux since 3.14 has.
pub(crate) fn system() -> Result<SystemFacts> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("no /proc mounted?")?;
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.trim().parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let memory = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let pages = |key: &str| procfs::meminfo(&memory, key).unwrap_or(0) / 4;
    let vm = |name: &str| procfs::sysctl(&format!("vm/{name}"));
    let huge = procfs::meminfo(&memory, "HugePages_Total").unwrap_or(0)
        * (procfs::meminfo(&memory, "Hugepagesize").unwrap_or(0) / 4);
    Ok(SystemFacts {
        version,
        max_map_count: vm("max_map_count").unwrap_or(65530),
        stack_guard_gap_pages: stack_guard_gap(),
        mmap_min_addr: vm("mmap_min_addr").unwrap_or(65536),
        // Compiled in and not shown: every distribution's kernel has this value.
        lsm_mmap_min_addr: 65536,
        overcommit_mode: vm("overcommit_memory").unwrap_or(0),
        overcommit_ratio: vm("overcommit_ratio").unwrap_or(50),
        overcommit_pages: vm("overcommit_kbytes").unwrap_or(0) / 4,
        ram_pages: pages("MemTotal:"),
        swap_pages: pages("SwapTotal:"),
        hugetlb_pages: huge,
        admin_reserve_pages: vm("admin_reserve_kbytes").unwrap_or(8192) / 4,
        user_reserve_pages: vm("user_reserve_kbytes").unwrap_or(131_072) / 4,
        committed_pages: pages("Committed_AS:"),
    })
}

/// The gap below stacks, in pages: 256 unless the kernel was booted with another.
fn stack_guard_gap() -> u64 {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    line.split_whitespace()
        .find_map(|word| word.strip_prefix("stack_guard_gap=")?.parse().ok())
        .unwrap_or(256)
}

/// The resource limits and rights of a process that concern memory.
///
/// # Errors
///
/// If the process is gone.
pub(crate) fn limits(tid: Tid) -> Result<MemoryLimits> {
    procfs::parse_limits(&procfs::read(tid, "limits")?)
}

/// The capabilities of a thread that concern memory.
///
/// # Errors
///
/// If the process is gone.
pub(crate) fn capabilities(tid: Tid) -> Result<u64> {
    Ok(procfs::parse_capabilities(&procfs::read(tid, "status")?)? & capability::MEMORY)
}

/// What is known of an address space as a whole; `flags` is what `prctl` was told, which `/proc`
/// does not tell.
///
/// # Errors
///
/// If the process is gone.
pub(crate) fn process(tid: Tid, flags: u32) -> Result<ProcessFacts> {
    let status = procfs::read(tid, "status")?;
    let stat = procfs::parse_stat(&procfs::read(tid, "stat")?)?;
    Ok(ProcessFacts {
        peak_pages: procfs::parse_pages(&status, "VmPeak:")?,
        locked_pages: procfs::parse_pages(&status, "VmLck:")?,
        personality: personality(tid),
        flags,
        arguments: stat.arguments,
        environment: stat.environment,
    })
}

/// How a thread is run; 0 where it cannot be read.
pub(crate) fn personality(tid: Tid) -> u32 {
    let persona = procfs::read(tid, "personality").unwrap_or_default();
    u32::from_str_radix(persona.trim(), 16).unwrap_or(0)
}

/// What must be told about a mapping that `/proc` does not: asked while collecting.
pub(crate) trait Memory {
    /// The identity of the open file behind a mapping.
    fn file(&mut self, place: Place, line: &MapLine) -> u64;
    /// Whether the mapping holds private data.
    fn is_written(&mut self, place: Place, line: &MapLine) -> bool;
    /// The page offset of an anonymous mapping that is known to differ from its address.
    fn page_offset(&self, mm: MmId, line: &MapLine) -> Option<u64>;
}

/// An address space right after exec.
///
/// # Errors
///
/// If the process is gone, or its `/proc` files can't be read.
pub(crate) fn at_exec(place: Place, memory: &mut impl Memory) -> Result<StartFacts> {
    let smaps = procfs::parse_smaps(&procfs::read(place.tid, "smaps")?)?;
    let limits = limits(place.tid)?;
    let layout = layout(place.tid, &smaps, &limits)?;
    collect(
        place,
        memory,
        &Known {
            cause: Cause::Exec,
            layout,
            limits,
            smaps,
        },
    )
}

/// The address space of a program that has been running for a while, and stands still.
///
/// Its break is taken for the end of the heap: within a page only a call tells it.
///
/// # Errors
///
/// If the process is gone, or its `/proc` files can't be read.
pub(crate) fn at_join(place: Place, memory: &mut impl Memory) -> Result<StartFacts> {
    let facts = at_exec(place, memory)?;
    let maps = procfs::read(place.tid, "maps")?;
    let heap = maps.lines().filter_map(MapLine::parse);
    let end = heap
        .filter(|line| line.name == "[heap]")
        .map(|line| line.end);
    let brk = end.max().unwrap_or(facts.layout.start_brk);
    Ok(StartFacts {
        cause: Cause::Join,
        layout: LayoutFacts {
            brk,
            ..facts.layout
        },
        ..facts
    })
}

/// An address space in the middle of a run; what `/proc` does not tell of its layout is known.
///
/// # Errors
///
/// If the process is gone.
pub(crate) fn at_resync(
    place: Place,
    memory: &mut impl Memory,
    layout: LayoutFacts,
) -> Result<StartFacts> {
    let smaps = smaps_of_one_moment(place.tid)?;
    let limits = limits(place.tid)?;
    let stat = procfs::parse_stat(&procfs::read(place.tid, "stat")?)?;
    collect(
        place,
        memory,
        &Known {
            cause: Cause::Resync,
            layout: LayoutFacts {
                start_code: stat.start_code,
                end_code: stat.end_code,
                start_data: stat.start_data,
                end_data: stat.end_data,
                start_brk: stat.start_brk,
                start_stack: stat.start_stack,
                ..layout
            },
            limits,
            smaps,
        },
    )
}

/// What `smaps` shows, as far as can be seen of a moment in which no other process changed it: it is
/// read in pieces.
fn smaps_of_one_moment(tid: Tid) -> Result<Vec<SmapsEntry>> {
    const TRIALS: usize = 10;
    let read = || procfs::parse_smaps(&procfs::read(tid, "smaps")?);
    let is_torn = |smaps: &[SmapsEntry]| {
        let follows = |pair: &[SmapsEntry]| pair[0].line.end <= pair[1].line.start;
        !smaps.windows(2).all(follows)
    };
    let mut smaps = read()?;
    for _ in 1..TRIALS {
        if !is_torn(&smaps) {
            break;
        }
        smaps = read()?;
    }
    Ok(smaps)
}

struct Known {
    cause: Cause,
    layout: LayoutFacts,
    limits: MemoryLimits,
    smaps: Vec<SmapsEntry>,
}

fn collect(place: Place, memory: &mut impl Memory, known: &Known) -> Result<StartFacts> {
    let vmas = known
        .smaps
        .iter()
        .filter(|entry| entry.line.name != "[vsyscall]")
        .map(|entry| vma(place, memory, entry))
        .collect();
    Ok(StartFacts {
        mm: place.mm,
        cause: known.cause,
        layout: known.layout,
        limits: known.limits,
        capabilities: capabilities(place.tid)?,
        vmas,
    })
}

fn vma(place: Place, memory: &mut impl Memory, entry: &SmapsEntry) -> VmaFacts {
    let line = &entry.line;
    let private = line.access.ends_with('p');
    let special = is_special(line);
    let page_offset = if line.has_file() {
        line.offset / PAGE
    } else if special {
        0
    } else {
        let known = memory.page_offset(place.mm, line);
        known.unwrap_or_else(|| anonymous_page_offset(line, &entry.flags))
    };
    let backing = if line.has_file() {
        BackingFacts::File(memory.file(place, line))
    } else if special {
        BackingFacts::Special(line.name.clone())
    } else if line.name.starts_with("[anon:") {
        BackingFacts::Named(line.name.clone())
    } else {
        BackingFacts::Anonymous
    };
    let written = private && !special && memory.is_written(place, line);
    let flags = entry.flags.clone();
    VmaFacts {
        start: line.start,
        end: line.end,
        flags,
        page_offset,
        backing,
        written,
    }
}

/// Whether the kernel itself made the mapping (`[vdso]`, `[vvar]`, `[uprobes]`).
fn is_special(line: &MapLine) -> bool {
    line.name.starts_with('[')
        && !line.name.starts_with("[anon")
        && !matches!(line.name.as_str(), "[heap]" | "[stack]")
}

/// Anonymous memory has its address as offset. The stack was made at the top of the address space
/// and moved down as a whole, keeping its offset.
fn anonymous_page_offset(line: &MapLine, flags: &str) -> u64 {
    if line.name == "[stack]" && flags.split(' ').any(|flag| flag == "gd") {
        (TASK_SIZE - (line.end - line.start)) / PAGE
    } else {
        line.start / PAGE
    }
}

/// The layout, from `stat` and from where the kernel has put things.
fn layout(tid: Tid, smaps: &[SmapsEntry], limits: &MemoryLimits) -> Result<LayoutFacts> {
    let stat = procfs::parse_stat(&procfs::read(tid, "stat")?)?;
    let bases = bases(smaps, limits, personality(tid));
    let gate = smaps.iter().find(|entry| entry.line.name == "[vsyscall]");
    Ok(LayoutFacts {
        task_size: TASK_SIZE,
        mmap_base: bases.mmap,
        legacy_base: bases.legacy,
        direction: bases.direction,
        start_code: stat.start_code,
        end_code: stat.end_code,
        start_data: stat.start_data,
        end_data: stat.end_data,
        start_brk: stat.start_brk,
        // At exec the heap is empty; later the model knows.
        brk: stat.start_brk,
        start_stack: stat.start_stack,
        gate: match gate.map(|entry| entry.line.access.as_str()) {
            None => Gate::Absent,
            Some(access) if access.starts_with('r') => Gate::Readable,
            Some(_) => Gate::ExecuteOnly,
        },
    })
}

struct Bases {
    mmap: u64,
    legacy: u64,
    direction: Direction,
}

/// Where mappings are handed out from.
///
/// The kernel fixes the top of that region at exec and shows it nowhere: it lies below a gap for
/// the stack (the stack limit and what randomisation may add, at least 128 MiB, at most 5/6 of
/// the address space), lowered by a random number of pages. But the first thing handed out ends
/// exactly there: the interpreter of a dynamic program, the vdso of a static one, a static-PIE
/// program itself. (If that one is aligned to more than a page it ends lower, and then the vdso,
/// which comes next, takes the room above it and ends there; where it does not fit there, the top
/// is learned from the first thing that is placed above all others.) So the top is the end of the
/// highest mapping within the window the random number allows; a program linked or loaded
/// elsewhere (`0x400000`, two thirds up) lies outside.
///
/// The base of the bottom-up region uses the same random number, which the top gives away.
fn bases(smaps: &[SmapsEntry], limits: &MemoryLimits, persona: u32) -> Bases {
    let third = (TASK_SIZE / 3).next_multiple_of(PAGE);
    let ours = || {
        smaps
            .iter()
            .map(|entry| &entry.line)
            .filter(|line| line.end <= TASK_SIZE)
    };
    let legacy_layout = persona & ADDR_COMPAT_LAYOUT != 0
        || procfs::sysctl("vm/legacy_va_layout").is_some_and(|value| value != 0);
    if legacy_layout {
        // The lowest mapping above a third of the address space is the first one handed out.
        let base = ours()
            .map(|line| line.start)
            .filter(|&start| start >= third)
            .min();
        let base = base.unwrap_or(third);
        return Bases {
            mmap: base,
            legacy: base,
            direction: Direction::BottomUp,
        };
    }
    let randomized = persona & ADDR_NO_RANDOMIZE == 0
        && procfs::sysctl("kernel/randomize_va_space").is_none_or(|value| value != 0);
    let highest = highest_base(limits.stack, randomized);
    let bits = procfs::sysctl("vm/mmap_rnd_bits").unwrap_or(28).min(32);
    let lowest = highest.saturating_sub(PAGE << bits);
    let in_window = |end: &u64| (lowest..=highest + PAGE).contains(end);
    let top = ours().map(|line| line.end).filter(in_window).max();
    let below_stack = || {
        ours()
            .filter(|line| line.name != "[stack]")
            .map(|line| line.end)
            .max()
    };
    let top = top.or_else(below_stack).unwrap_or(highest);
    let random = highest.saturating_sub(top) & !(PAGE - 1);
    Bases {
        mmap: top,
        legacy: third + random,
        direction: Direction::TopDown,
    }
}

/// The end of the top-down region if the random number is 0.
fn highest_base(stack_limit: u64, randomized: bool) -> u64 {
    // The largest gap is no whole number of pages; what is left is rounded up.
    (TASK_SIZE - stack_gap(stack_limit, randomized)).next_multiple_of(PAGE)
}

/// The bytes kept free for the stack above the top-down region.
fn stack_gap(stack_limit: u64, randomized: bool) -> u64 {
    const MIN_GAP: u64 = 128 << 20;
    let stack_random = if randomized { 0x3f_ffff * PAGE } else { 0 };
    let pad = stack_random + stack_guard_gap() * PAGE;
    let gap = stack_limit.checked_add(pad).unwrap_or(stack_limit);
    gap.clamp(MIN_GAP, TASK_SIZE / 6 * 5)
}

/// Open `/proc` files of one address space. They stay with it even when the task goes on to another
/// program. `maps` can be read as text as long as the task is there, and asked as long as anybody
/// uses the address space.
#[derive(Debug)]
pub(crate) struct Handles {
    pub(crate) maps: File,
    pub(crate) pagemap: File,
}

impl Handles {
    /// Opens them through a task that uses the address space.
    ///
    /// # Errors
    ///
    /// If the task is gone or may not be looked at.
    pub(crate) fn open(tid: Tid) -> Result<Self> {
        let open = |file: &str| {
            let path = procfs::path(tid, file);
            File::open(&path).with_context(|| format!("cannot open {}", path.display()))
        };
        Ok(Self {
            maps: open("maps")?,
            pagemap: open("pagemap")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Untouched;

    impl Memory for Untouched {
        fn file(&mut self, _: Place, line: &MapLine) -> u64 {
            line.inode
        }
        fn is_written(&mut self, _: Place, _: &MapLine) -> bool {
            false
        }
        fn page_offset(&self, _: MmId, _: &MapLine) -> Option<u64> {
            None
        }
    }

    #[test]
    fn the_highest_base_is_a_whole_page_whatever_the_stack_may_be() {
        for stack in [0, 8 << 20, (1 << 40) + 1, u64::MAX] {
            for randomized in [true, false] {
                assert_eq!(highest_base(stack, randomized) % PAGE, 0, "{stack:#x}");
            }
        }
        // A sixth of the address space, rounded up.
        assert_eq!(highest_base(u64::MAX, true), 0x1555_5555_6000);
    }

    #[test]
    fn our_own_process_yields_facts() {
        let place = Place {
            tid: std::process::id() as Tid,
            mm: MmId(0),
        };
        let facts = at_exec(place, &mut Untouched).unwrap();
        assert!(facts.layout.mmap_base > facts.layout.legacy_base);
        assert!(
            facts
                .vmas
                .windows(2)
                .all(|pair| pair[0].end <= pair[1].start)
        );
        assert!(
            facts
                .vmas
                .iter()
                .any(|vma| matches!(vma.backing, BackingFacts::File(_)))
        );
        system().unwrap();
    }
}
