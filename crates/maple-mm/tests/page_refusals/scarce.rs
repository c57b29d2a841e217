//! Frames that are refused in turn with everything else.

use maple_mm::paging::{
    Content, Frame, FrameInfo, FrameSize, OutOfFrames, Parts, PhysAddr, PhysMemory, Words,
};

use crate::allocator::is_refused;
use crate::common::paged::Memory;

/// Frames that are refused in turn with everything else.
#[derive(Clone)]
pub(crate) struct Scarce(pub(crate) Memory);

impl PhysMemory for Scarce {
    fn allocate(&self, size: FrameSize, content: Content) -> Result<Frame, OutOfFrames> {
        if is_refused() {
            return Err(OutOfFrames);
        }
        self.0.allocate(size, content)
    }

    fn free(&self, addr: PhysAddr) {
        self.0.free(addr);
    }

    fn words(&self, addr: PhysAddr) -> &Words {
        self.0.words(addr)
    }

    fn info(&self, addr: PhysAddr) -> &FrameInfo {
        self.0.info(addr)
    }

    fn zero_page(&self) -> PhysAddr {
        self.0.zero_page()
    }

    fn contains(&self, addr: PhysAddr) -> bool {
        self.0.contains(addr)
    }

    fn in_use(&self) -> usize {
        self.0.in_use()
    }

    fn split(&self, addr: PhysAddr) -> Parts {
        self.0.split(addr)
    }
}
