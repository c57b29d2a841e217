//! Frames that are refused in turn with everything else.

use std::cell::RefCell;

use maple_mm::paging::{
    Content, Frame, FrameInfo, FrameSize, OutOfFrames, Parts, PhysAddr, PhysMemory, Words,
};

use crate::allocator::{asked, is_refused};
use crate::common::paged::Memory;
use crate::points::Kind;

/// Frames that are refused in turn with everything else.
#[derive(Clone)]
pub(crate) struct Scarce(pub(crate) Memory);

/// A frame that was handed out: which allocation of the act it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) at: u64,
    pub(crate) frame: PhysAddr,
}

thread_local! {
    /// As long as it has room, which it has while somebody wants to know.
    static TAKEN: RefCell<Vec<Taken>> = const { RefCell::new(Vec::new()) };
}

/// Runs `act` and says which frames it took.
pub(crate) fn noting<T>(act: impl FnOnce() -> T) -> (T, Vec<Taken>) {
    TAKEN.set(Vec::with_capacity(1 << 14));
    let result = act();
    (result, TAKEN.take())
}

impl PhysMemory for Scarce {
    fn allocate(&self, size: FrameSize, content: Content) -> Result<Frame, OutOfFrames> {
        let is_small = size == FrameSize::SMALL;
        if is_refused(if is_small {
            Kind::Frame
        } else {
            Kind::HugeFrame
        }) {
            return Err(OutOfFrames);
        }
        let frame = self.0.allocate(size, content)?;
        TAKEN.with_borrow_mut(|taken| {
            if taken.len() < taken.capacity() {
                let at = asked() - 1;
                let frame = frame.addr();
                taken.push(Taken { at, frame });
            }
        });
        Ok(frame)
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
