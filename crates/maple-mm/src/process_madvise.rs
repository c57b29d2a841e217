//! `process_madvise`: advice about several ranges, of one's own or of another process.

use crate::abi::{MADV_COLD, MADV_COLLAPSE, MADV_PAGEOUT, MADV_WILLNEED, PAGE_SIZE};
use crate::errno::Errno;
use crate::page_side::PageSide;
use crate::space::AddressSpace;

/// The most entries of a vector (`UIO_MAXIOV`).
const RANGES_MAX: usize = 1024;
/// The most bytes one call handles; the rest is not looked at.
const BYTES_MAX: u64 = i32::MAX as u64 & !(PAGE_SIZE - 1);

/// Whose address space the advice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adviser {
    /// The caller's own.
    Itself,
    /// Another process, whose caller may look at this one and has `CAP_SYS_NICE`.
    Another,
}

/// A part of an address space as a program passes it (`struct iovec`); bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct AdvisedRange {
    /// Where it begins.
    pub addr: u64,
    /// Its length.
    pub len: u64,
}

impl<P: PageSide> AddressSpace<P> {
    /// Advises about each range in order, as [`madvise`](Self::madvise) does, up to the first that
    /// is refused, and says how many bytes were advised about: lengths as passed, not rounded.
    ///
    /// # Complexity
    ///
    /// O(r + m log n) for r ranges and m mappings in them.
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`]: more than 1024 ranges, a length beyond 2^63 - 1, or advice that
    ///   another process may not give.
    /// - [`Errno::EFAULT`]: a range leaves the address space.
    /// - What `madvise` says of the first range. LINUX: what precedes a hole or a mapping that
    ///   refuses is advised.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, AdvisedRange, Adviser, MmapRequest, abi::*};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ))?;
    /// let ranges = [AdvisedRange { addr, len: 100 }, AdvisedRange { addr: 1 << 20, len: 1 }];
    /// assert_eq!(space.process_madvise(Adviser::Itself, &ranges, MADV_DONTFORK), Ok(100));
    /// assert_eq!(space.map_count(), 2);
    /// # Ok::<(), maple_mm::Errno>(())
    /// ```
    pub fn process_madvise(
        &mut self,
        adviser: Adviser,
        ranges: &[AdvisedRange],
        advice: i32,
    ) -> Result<u64, Errno> {
        self.check_ranges(ranges)?;
        let is_limited = adviser == Adviser::Another || !self.profile.own_process_advice.is_yes();
        if is_limited && !may_be_given_to_others(advice) {
            return Err(Errno::EINVAL);
        }
        let mut left = BYTES_MAX.min(sum(ranges));
        let all = left;
        for range in ranges_visited(ranges) {
            if left == 0 {
                break;
            }
            let len = range.len.min(left);
            if let Err(errno) = self.madvise(range.addr, len, advice) {
                let advised = all - left;
                return if advised == 0 {
                    Err(errno)
                } else {
                    Ok(advised)
                };
            }
            left -= len;
        }
        Ok(all)
    }

    fn check_ranges(&self, ranges: &[AdvisedRange]) -> Result<(), Errno> {
        let is_negative = |range: &AdvisedRange| range.len > i64::MAX as u64;
        if ranges.len() > RANGES_MAX || ranges.iter().any(is_negative) {
            return Err(Errno::EINVAL);
        }
        // LINUX: a single range is cut before it is looked at, several after.
        let is_single = ranges.len() == 1;
        let leaves = |range: &AdvisedRange| {
            let len = if is_single {
                range.len.min(BYTES_MAX)
            } else {
                range.len
            };
            let end = range.addr.checked_add(len);
            end.is_none_or(|end| end > self.layout.task_size)
        };
        if ranges.iter().any(leaves) {
            return Err(Errno::EFAULT);
        }
        Ok(())
    }
}

fn sum(ranges: &[AdvisedRange]) -> u64 {
    ranges
        .iter()
        .fold(0, |sum: u64, range| sum.saturating_add(range.len))
}

/// LINUX: empty ranges are passed over, but the first range is looked at even if it is empty.
fn ranges_visited(ranges: &[AdvisedRange]) -> impl Iterator<Item = &AdvisedRange> {
    let is_visited = |(index, range): &(usize, &AdvisedRange)| *index == 0 || range.len > 0;
    ranges
        .iter()
        .enumerate()
        .filter(is_visited)
        .map(|(_, range)| range)
}

/// Advice that only moves pages in and out of memory.
const fn may_be_given_to_others(advice: i32) -> bool {
    matches!(
        advice,
        MADV_COLD | MADV_PAGEOUT | MADV_WILLNEED | MADV_COLLAPSE
    )
}
