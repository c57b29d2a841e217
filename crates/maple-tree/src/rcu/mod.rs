//! Lock-free readers.
use core::ptr::NonNull;
use core::sync::atomic::AtomicPtr;
/// head
#[repr(C)]
#[derive(Debug)]
pub struct RcuHead {
    next: AtomicPtr<RcuHead>,
    func: Option<unsafe fn(NonNull<RcuHead>)>,
}
