//! Which of several places a thread uses, so that it seldom meets others there.

/// What tells the thread that asks from others, nearly always: where its stack is. The same twice,
/// nearly always.
///
/// Under a model checker all threads are the same: it must find in each run what it found before,
/// and blocks tell threads apart enough.
pub(super) fn stack() -> u64 {
    if cfg!(any(loom, shuttle)) {
        return 0;
    }
    let here = 0_u8;
    // Kernels' stacks are 16 KiB and more.
    core::ptr::from_ref(&here).addr() as u64 >> 14
}

/// Mixes numbers that lie side by side, or some power of two apart, into the upper bits.
pub(super) const fn spread(number: u64) -> u64 {
    // The golden ratio.
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A number below `places`, or 0 if there are none.
pub(super) const fn one_of(places: usize, number: u64) -> usize {
    (((spread(number) >> 32) * places as u64) >> 32) as usize
}
