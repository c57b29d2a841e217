//! Frames set aside, for what must not fail or wait.

use core::sync::atomic::Ordering;

use super::memory::{Content, FrameSize, OutOfFrames, PhysAddr, PhysMemory};
use super::sync;

/// In the first word of a frame: there is another.
const MORE: u64 = 1;

/// Zeroed frames of 4 KiB that nobody else knows, chained through their first words.
///
/// It has no destructor, because it does not know its memory.
#[derive(Debug)]
pub(super) struct Stock {
    first: Option<PhysAddr>,
}

impl Stock {
    pub(super) const EMPTY: Self = Self { first: None };

    /// Sets one more frame aside.
    pub(super) fn fill(&mut self, memory: &impl PhysMemory) -> Result<(), OutOfFrames> {
        let frame = memory.allocate(FrameSize::SMALL, Content::Zeroed)?;
        self.put(memory, frame.into_addr());
        Ok(())
    }

    /// Sets a zeroed frame aside.
    pub(super) fn put(&mut self, memory: &impl PhysMemory, frame: PhysAddr) {
        let next = self.first.map_or(0, |next| next.as_u64() | MORE);
        // Relaxed, here and below: nobody else knows the frame.
        sync::store(&memory.words(frame)[0], next, Ordering::Relaxed);
        self.first = Some(frame);
    }

    /// Takes a zeroed frame out.
    pub(super) fn take(&mut self, memory: &impl PhysMemory) -> Option<PhysAddr> {
        let frame = self.first?;
        let next = sync::swap(&memory.words(frame)[0], 0, Ordering::Relaxed);
        self.first = (next & MORE != 0).then(|| PhysAddr::new(next).frame_start());
        Some(frame)
    }

    /// Gives all of it back.
    pub(super) fn give_back(&mut self, memory: &impl PhysMemory) {
        while let Some(frame) = self.take(memory) {
            memory.release_at(frame);
        }
    }
}
