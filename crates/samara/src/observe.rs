//! Looks at a live address space: its `maps`, which pages were written, where stacks begin.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use anyhow::Result;
use maple_mm::abi::PAGE_SIZE;
use maple_mm::{Access, AddressSpace, VmFlags, VmaRef};

use crate::call::Call;
use crate::facts::Handles;
use crate::kernel::{self, AnonymousPage, KernelMapping};
use crate::procfs::{self, MapLine};
use crate::ptrace::Tid;

/// The whole text of `maps`; empty once nobody uses the address space.
///
/// # Errors
///
/// What the kernel says.
pub(crate) fn maps_text(handles: &Handles) -> Result<String> {
    let mut bytes = Vec::new();
    let len = match procfs::read_again(&handles.maps, &mut bytes) {
        // The address space is gone.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => 0,
        read => read?,
    };
    bytes.truncate(len);
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// For each of `ranges`, which ascend, that holds private data, or was prepared for it by a read
/// that brought the huge page of zeros in, the address of a page that does.
pub(crate) fn written_pages(handles: &Handles, ranges: &[(u64, u64)]) -> Vec<u64> {
    let mut found = Vec::new();
    for row in ranges.chunk_by(|range, next| range.1 == next.0) {
        match written_in_row(handles, row) {
            Ok(pages) => found.extend(pages),
            Err(error) if is_unknown_request(&error) => {
                let by_table = |&range: &_| first_private_page_by_table(handles, range);
                found.extend(row.iter().filter_map(by_table));
            }
            // The address space is being torn down: nothing can depend on it any more.
            Err(_) => {}
        }
    }
    found
}

/// As [`written_pages`] for ranges that touch: mostly nothing is found, so all are asked for at
/// once.
fn written_in_row(handles: &Handles, row: &[(u64, u64)]) -> std::io::Result<Vec<u64>> {
    let mut found = Vec::new();
    let mut rest = row;
    while let [first, .., last] | [first @ last] = rest {
        let page = kernel::first_anonymous_page(&handles.pagemap, first.0, last.1)?;
        let Some(AnonymousPage::Prepared(addr) | AnonymousPage::Other(addr)) = page else {
            break;
        };
        let holder = rest.partition_point(|range| range.1 <= addr);
        let Some(&range) = rest.get(holder) else {
            break;
        };
        found.extend(match page {
            Some(AnonymousPage::Prepared(page)) => Some(page),
            _ => first_prepared_page(handles, range)?,
        });
        rest = &rest[holder + 1..];
    }
    Ok(found)
}

/// Where the first page says nothing: each kind of pages that does is asked for.
fn first_prepared_page(
    handles: &Handles,
    (start, end): (u64, u64),
) -> std::io::Result<Option<u64>> {
    const HUGE: u64 = 2 << 20;
    let pagemap = &handles.pagemap;
    let private = match kernel::first_present_page(pagemap, start, end)? {
        None => first_swapped_page(handles, start, end)?,
        found => found,
    };
    let has_room = start.next_multiple_of(HUGE).saturating_add(HUGE) <= end;
    if private.is_none() && has_room {
        return kernel::first_huge_zero_page(pagemap, start, end);
    }
    Ok(private)
}

/// The first page that is swapped out. Markers, which tell nothing of what is written, are passed
/// over.
fn first_swapped_page(handles: &Handles, start: u64, end: u64) -> std::io::Result<Option<u64>> {
    let mut at = start;
    while let Some((start, end)) = kernel::first_swapped_pages(&handles.pagemap, at, end)? {
        let found = first_in_table(handles, (start, end), Entry::is_private);
        if found.is_some() {
            return Ok(found);
        }
        at = end;
    }
    Ok(None)
}

/// The first page of `ranges` that is not there, or that may not be written where it was to be:
/// what a userfaultfd watches cannot be where nobody answers.
pub(crate) fn first_missing_page(
    handles: &Handles,
    ranges: &[(Access, (u64, u64))],
) -> Option<u64> {
    ranges.iter().find_map(|&(access, range)| {
        first_in_table(handles, range, |entry: Entry| {
            !entry.is_present() || access == Access::Write && entry.is_watched()
        })
    })
}

/// The first page of a range that is neither there nor swapped out, nor has a marker in its place.
pub(crate) fn first_absent_page(handles: &Handles, range: (u64, u64)) -> Option<u64> {
    first_in_table(handles, range, |entry| {
        !entry.is_present() && !entry.is_swapped()
    })
}

/// Whether there is a guard in a range.
pub(crate) fn is_guarded(handles: &Handles, range: (u64, u64)) -> bool {
    first_guard(handles, range).is_some()
}

/// The first guard of `start..end` (`MADV_GUARD_INSTALL`).
pub(crate) fn first_guard(handles: &Handles, (start, end): (u64, u64)) -> Option<u64> {
    let mut at = start;
    while let Ok(Some((start, end))) = kernel::first_swapped_pages(&handles.pagemap, at, end) {
        let found = first_in_table(handles, (start, end), Entry::is_guard);
        if found.is_some() {
            return found;
        }
        at = end;
    }
    None
}

/// Before a call that brings pages in and does not say where it could not: the guards at which
/// private memory of files begins for it, which is not prepared to be written then.
pub(crate) fn guards_met(handles: &Handles, space: &AddressSpace, call: &Call) -> Vec<u64> {
    let ranges = match call {
        Call::Mlockall { .. } => vec![(0, u64::MAX)],
        Call::Mprotect { .. } | Call::PkeyMprotect { .. } => call.ranges(None),
        _ => return Vec::new(),
    };
    let may_begin = |vma: &&VmaRef| {
        let kind = VmFlags::MAYBE_GUARD | VmFlags::SHARED;
        vma.flags() & kind == VmFlags::MAYBE_GUARD && !vma.anon().is_faulted()
    };
    let beginnings = ranges.into_iter().flat_map(|(start, end)| {
        let parts = space.vmas_in(start..end).filter(may_begin);
        parts.map(move |vma| vma.start().max(start))
    });
    beginnings
        .filter(|&addr| is_guarded(handles, (addr, addr + PAGE_SIZE)))
        .collect()
}

fn is_unknown_request(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL))
        || error.kind() == ErrorKind::Unsupported
}

/// One word of `pagemap`.
///
/// Bit 63 present, 62 swapped, 61 of a file, 58 a guard (since 6.15), 57 watched by a userfaultfd.
/// Of what is swapped the lowest five bits name the swap file, where the reader may know; the last
/// of the names is for markers, which stand in the place of pages and are none.
#[derive(Clone, Copy, Debug)]
struct Entry(u64);

impl Entry {
    const FRAME: u64 = (1 << 55) - 1;
    const MARKER: u64 = 31;

    const fn has(self, bit: u32) -> bool {
        self.0 >> bit & 1 != 0
    }

    const fn is_present(self) -> bool {
        self.has(63)
    }

    const fn is_swapped(self) -> bool {
        self.has(62)
    }

    const fn is_watched(self) -> bool {
        self.has(57)
    }

    const fn is_guard(self) -> bool {
        self.is_swapped() && self.has(58)
    }

    /// What is watched and swapped out at once looks as a marker to who may not see frames.
    const fn is_watch(self) -> bool {
        let frame = self.0 & Self::FRAME;
        self.is_swapped() && self.is_watched() && (frame == 0 || frame & 31 == Self::MARKER)
    }

    const fn is_private(self) -> bool {
        let is_marker = self.is_guard() || self.is_watch();
        (self.is_present() || self.is_swapped()) && !self.has(61) && !is_marker
    }
}

/// Before Linux 6.7. A page of zeros that was only read looks written here, unless its frame
/// number may be read and equals that of another such page; so this errs on the side of "written"
/// and the comparison decides.
fn first_private_page_by_table(handles: &Handles, range: (u64, u64)) -> Option<u64> {
    first_in_table(handles, range, Entry::is_private)
}

/// The first page of `start..end` whose word in `pagemap` is as wanted.
fn first_in_table(
    handles: &Handles,
    (start, end): (u64, u64),
    is_wanted: impl Fn(Entry) -> bool,
) -> Option<u64> {
    const PAGE: u64 = 4096;
    const CHUNK: usize = 512;
    let mut words = [0_u8; CHUNK * 8];
    let mut page = start / PAGE;
    while page < end / PAGE {
        let want = usize::try_from(end / PAGE - page)
            .unwrap_or(CHUNK)
            .min(CHUNK);
        let got = handles
            .pagemap
            .read_at(&mut words[..want * 8], page * 8)
            .ok()?
            / 8;
        for (index, word) in words[..got * 8].chunks_exact(8).enumerate() {
            let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
            if is_wanted(Entry(word)) {
                return Some((page + index as u64) * PAGE);
            }
        }
        if got == 0 {
            return None;
        }
        page += got as u64;
    }
    None
}

/// Where the mapping that holds `addr` begins.
pub(crate) fn start_of_mapping(handles: &Handles, addr: u64) -> Option<u64> {
    let mapping = mapping_at(handles, addr)?;
    (mapping.start <= addr).then_some(mapping.start)
}

/// The mapping that holds `addr`, or the next above it.
pub(crate) fn mapping_at(handles: &Handles, addr: u64) -> Option<KernelMapping> {
    match kernel::mapping_at(&handles.maps, addr) {
        Ok(found) => found,
        Err(error) if is_unknown_request(&error) => Some(mapping_in_text(handles, addr)?.0),
        Err(_) => None,
    }
}

/// As [`mapping_at`], with the mapping's name.
pub(crate) fn named_mapping_at(handles: &Handles, addr: u64) -> Option<(KernelMapping, String)> {
    match kernel::named_mapping_at(&handles.maps, addr) {
        Ok(found) => found,
        Err(error) if is_unknown_request(&error) => mapping_in_text(handles, addr),
        Err(_) => None,
    }
}

/// Before Linux 6.11: the same from the text.
fn mapping_in_text(handles: &Handles, addr: u64) -> Option<(KernelMapping, String)> {
    let text = maps_text(handles).ok()?;
    let line = text
        .lines()
        .filter_map(MapLine::parse)
        .find(|line| line.end > addr)?;
    let bits = |(bit, letter): (usize, char)| u64::from(line.access.contains(letter)) << bit;
    let mapping = KernelMapping {
        start: line.start,
        end: line.end,
        access: [(0, 'r'), (1, 'w'), (2, 'x'), (3, 's')]
            .into_iter()
            .map(bits)
            .sum(),
        offset: line.offset,
        device: line.device,
        inode: line.inode,
    };
    Some((mapping, line.name))
}

/// Whether the address space can still be looked at.
pub(crate) fn is_in_sight(handles: &Handles) -> bool {
    shows_something(&handles.maps)
}

/// Whether a task has other memory than what is looked at: its new program began unannounced.
pub(crate) fn has_other_memory(handles: &Handles, tid: Tid) -> bool {
    let own = procfs::read(tid, "maps").unwrap_or_default();
    !own.is_empty() && maps_text(handles).is_ok_and(|seen| seen != own)
}

/// Whether a task has memory still, even if we may not look at it.
pub(crate) fn has_memory(tid: Tid) -> bool {
    match File::open(procfs::path(tid, "maps")) {
        Ok(maps) => shows_something(&maps),
        Err(error) => {
            error.kind() != ErrorKind::NotFound && error.raw_os_error() != Some(libc::ESRCH)
        }
    }
}

fn shows_something(maps: &File) -> bool {
    match maps.read_at(&mut [0], 0) {
        Ok(read) => read > 0,
        Err(error) => error.raw_os_error() != Some(libc::ESRCH),
    }
}

/// The mappings that overlap `start..end`, one after the other.
pub(crate) fn mappings_in(
    handles: &Handles,
    start: u64,
    end: u64,
) -> impl Iterator<Item = KernelMapping> {
    let mut at = start;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let mapping = mapping_at(handles, at).filter(|mapping| mapping.start < end)?;
        at = mapping.end;
        Some(mapping)
    })
}
