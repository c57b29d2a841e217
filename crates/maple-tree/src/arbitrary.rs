//! The `arbitrary` feature: ranges, gap requests and trees for fuzzing, always valid.

use core::num::NonZeroU64;

use ::arbitrary::{Arbitrary, Error, Result, Unstructured};

use crate::gap::{Alignment, GapRequest};
use crate::tree::MapleTree;
use crate::{Entry, IndexRange};

/// A distance, mostly a short one: so entries touch, lie near each other, or far apart.
fn distance(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u.arbitrary::<u8>()? {
        short @ 0..=0xbf => u64::from(short % 64),
        0xc0..=0xdf => u.arbitrary::<u16>()?.into(),
        0xe0..=0xef => u.arbitrary::<u32>()?.into(),
        _ => u.arbitrary()?,
    })
}

/// Mostly a short range, anywhere.
impl<'a> Arbitrary<'a> for IndexRange {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let first: u64 = u.arbitrary()?;
        let last = first.saturating_add(distance(u)?);
        Self::new(first, last).ok_or(Error::IncorrectFormat)
    }

    fn size_hint(_: usize) -> (usize, Option<usize>) {
        (9, Some(17))
    }
}

/// The multiples of a power of two, or what lies at an offset from them.
impl<'a> Arbitrary<'a> for Alignment {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let align = 1 << u.int_in_range(0..=63)?;
        let multiples = Self::new(align).ok_or(Error::IncorrectFormat)?;
        Ok(multiples.with_offset(distance(u)?))
    }

    fn size_hint(_: usize) -> (usize, Option<usize>) {
        (2, Some(10))
    }
}

/// Any length, within any window or none, with any alignment or none.
impl<'a> Arbitrary<'a> for GapRequest {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut request = Self::new(NonZeroU64::MIN.saturating_add(distance(u)?));
        if u.arbitrary()? {
            let (one, other): (u64, u64) = u.arbitrary()?;
            let window = IndexRange::new(one.min(other), one.max(other));
            request = request.within(window.ok_or(Error::IncorrectFormat)?);
        }
        if u.arbitrary()? {
            request = request.aligned(u.arbitrary()?);
        }
        Ok(request)
    }

    fn size_hint(_: usize) -> (usize, Option<usize>) {
        (3, Some(9 + 17 + 11))
    }
}

/// A tree of either kind, of entries that touch, lie near each other, or far apart.
///
/// Its nodes are full, as [`MapleTree::bulk_load`] leaves them.
impl<'a, T: Entry + Arbitrary<'a>> Arbitrary<'a> for MapleTree<T> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut tree = if u.arbitrary()? {
            Self::with_gaps()
        } else {
            Self::new()
        };
        let mut failed = None;
        let mut left = Some(IndexRange::FULL);
        let items = core::iter::from_fn(|| {
            next_entry(u, &mut left).unwrap_or_else(|error| {
                failed = Some(error);
                None
            })
        });
        let loaded = tree.bulk_load(items);
        match failed {
            Some(error) => Err(error),
            None => loaded.map(|()| tree).map_err(|_| Error::IncorrectFormat),
        }
    }

    fn size_hint(_: usize) -> (usize, Option<usize>) {
        (2, None)
    }
}

/// Draws the next entry, in `left`, and leaves there what lies above it; `None` ends the tree.
fn next_entry<'a, T: Arbitrary<'a>>(
    u: &mut Unstructured<'a>,
    left: &mut Option<IndexRange>,
) -> Result<Option<(IndexRange, T)>> {
    let Some(above) = *left else {
        return Ok(None);
    };
    // Bytes that have run out read as zeros: the tree ends.
    let hole = match u.arbitrary::<u8>()? {
        end if end % 16 == 0 => return Ok(None),
        touching if touching % 2 == 1 => 0,
        _ => distance(u)?,
    };
    let first = above.first().saturating_add(hole);
    let last = first.saturating_add(distance(u)?);
    *left = above.above(last);
    let range = IndexRange::new(first, last).ok_or(Error::IncorrectFormat)?;
    Ok(Some((range, u.arbitrary()?)))
}
