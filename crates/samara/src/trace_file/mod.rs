//! The trace file: a recorded run that `samara replay` checks without a kernel.
//!
//! `docs/trace-format.md` describes it byte for byte. In short: a header with a magic and a
//! version; blocks of records, each deflated and carrying its checksum; an end block that counts
//! the blocks, so that a cut file is noticed. Records are a tag byte and LEB128 integers.
//!
//! A recorded state is the difference in lines from the previous state of the same address space
//! (a fork's child begins with its parent's), and a hash of the whole text.

mod decode;
mod encode;
mod wire;

pub(crate) use decode::Reader;
pub(crate) use encode::Writer;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::engine::MmId;
use wire::Wired;

pub(crate) const MAGIC: &[u8; 8] = b"SAMARA\r\n";
pub(crate) const VERSION: u16 = 1;
/// A block is closed once it holds this many bytes; a single record may make it longer.
const BLOCK_TARGET: usize = 128 << 10;
/// No block may unpack to more.
const BLOCK_MAX: usize = 32 << 20;
/// No state may be longer. Linux's default of 65,530 mappings takes less than half of it.
const STATE_MAX: usize = 16 << 20;
/// All states that are kept may not take more bytes together; shared ones count once.
const STATES_MAX: usize = 256 << 20;
/// No more address spaces may be alive at once.
const SPACES_MAX: usize = 1 << 16;

/// What is wrong with a trace file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TraceError {
    /// It does not begin with the magic.
    Foreign,
    /// Made by another version of the format.
    Version(u16),
    /// It ends before its end block: the recording was interrupted, or the file was cut.
    Truncated,
    /// The checksum of this block is wrong, or what is inside makes no sense.
    Damaged { block: u64, what: &'static str },
    /// Something follows the end block.
    Trailing,
    /// It could not be read at all.
    Read(String),
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str(
                "this is not a samara trace; make one with `samara trace --record FILE -- PROGRAM`",
            ),
            Self::Version(found) => write!(
                f,
                "this trace has format version {found}, this samara reads version {VERSION}; \
                 record it again with `samara trace --record`"
            ),
            Self::Truncated => f.write_str(
                "the trace ends too early: the file was cut or the recording interrupted; \
                 record it again",
            ),
            Self::Damaged { block, what } => {
                write!(
                    f,
                    "the trace is damaged in block {block} ({what}); record it again"
                )
            }
            Self::Trailing => f.write_str("the trace is followed by other bytes: damaged"),
            Self::Read(error) => write!(f, "cannot read the trace: {error}"),
        }
    }
}

impl std::error::Error for TraceError {}

/// FNV-1a of 64 bits: fixed for ever by the file format.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The last state of each address space, which the next one is a difference from. The writer and
/// the reader keep the same. A child shares its parent's text, for a fork is three bytes in a file.
#[derive(Debug, Default)]
struct States {
    texts: HashMap<MmId, Arc<str>>,
    /// What the distinct texts take.
    bytes: usize,
}

/// A state as a difference: lines kept at both ends, and what stands between.
#[derive(Debug, PartialEq, Eq)]
struct StateDelta<'a> {
    kept_before: usize,
    kept_after: usize,
    middle: &'a str,
}

impl States {
    fn previous(&self, mm: MmId) -> &str {
        self.texts.get(&mm).map_or("", |text| &**text)
    }

    /// Makes `text` the last state of `mm`, or says which limit forbids it.
    fn put(&mut self, mm: MmId, text: Arc<str>) -> Wired<()> {
        self.remove(mm);
        if self.texts.len() >= SPACES_MAX {
            return Err("more than 65536 address spaces at once");
        }
        if text.len() > STATE_MAX {
            return Err("a state is longer than 16 MiB");
        }
        if Arc::strong_count(&text) == 1 {
            if text.len() > STATES_MAX - self.bytes {
                return Err("the states of all address spaces take more than 256 MiB");
            }
            self.bytes += text.len();
        }
        self.texts.insert(mm, text);
        Ok(())
    }

    fn remove(&mut self, mm: MmId) {
        if let Some(text) = self.texts.remove(&mm)
            && Arc::strong_count(&text) == 1
        {
            self.bytes -= text.len();
        }
    }

    /// Counts an address space that may have no state yet.
    fn started(&mut self, mm: MmId) -> Wired<()> {
        if self.texts.contains_key(&mm) {
            return Ok(());
        }
        self.put(mm, Arc::default())
    }

    fn forked(&mut self, parent: MmId, child: MmId) -> Wired<()> {
        if parent == child {
            return Ok(());
        }
        let text = self.texts.get(&parent).map(Arc::clone).unwrap_or_default();
        self.put(child, text)
    }

    fn delta<'a>(&self, mm: MmId, text: &'a str) -> StateDelta<'a> {
        let old: Vec<&str> = self.previous(mm).split_inclusive('\n').collect();
        let new: Vec<&str> = text.split_inclusive('\n').collect();
        let same = |(a, b): &(&&str, &&str)| a == b;
        let before = old.iter().zip(&new).take_while(same).count();
        let room = old.len().min(new.len()) - before;
        let after = old
            .iter()
            .rev()
            .zip(new.iter().rev())
            .take(room)
            .take_while(same)
            .count();
        let bytes = |lines: &[&str]| lines.iter().map(|line| line.len()).sum::<usize>();
        let (head, tail) = (bytes(&new[..before]), bytes(&new[new.len() - after..]));
        let middle = &text[head..text.len() - tail];
        StateDelta {
            kept_before: before,
            kept_after: after,
            middle,
        }
    }

    /// The whole text of a state, if the difference fits what it is from.
    fn rebuild(&self, mm: MmId, delta: &StateDelta<'_>) -> Wired<String> {
        let old = self.previous(mm);
        let lines = || old.split_inclusive('\n');
        let kept = delta.kept_before.checked_add(delta.kept_after);
        if kept.is_none_or(|kept| kept > lines().count()) {
            return Err("a state does not follow from the one before");
        }
        let head: usize = lines().take(delta.kept_before).map(str::len).sum();
        let tail: usize = lines().rev().take(delta.kept_after).map(str::len).sum();
        if head + delta.middle.len() + tail > STATE_MAX {
            return Err("a state is longer than 16 MiB");
        }
        Ok([&old[..head], delta.middle, &old[old.len() - tail..]].concat())
    }
}

#[cfg(test)]
mod tests;
