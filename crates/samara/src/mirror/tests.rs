//! What a result tells of where searches begin.

use super::*;

fn mapped(addr: u64, flags: i32) -> Call {
    Call::Mmap {
        addr,
        len: 0x1800,
        prot: 0,
        flags: u64::from(flags.cast_unsigned()),
        offset: 0,
        file: CallFile::Anonymous,
    }
}

/// Once, a static program that ended a page below the base hid it.
#[test]
fn what_lies_above_the_base_shows_that_it_is_higher() {
    let base = 0x7f00_0000_0000;
    let layout = maple_mm::Layout {
        mmap_base: base,
        ..maple_mm::Layout::default()
    };
    let end = |call: &Call, start| end_above(&layout, call, start);
    let plain = mapped(0, libc::MAP_PRIVATE);
    assert_eq!(end(&plain, base - 0x1000), Some(base + 0x1000));
    assert_eq!(end(&plain, base - 0x2000), None);
    // What was asked for there tells nothing.
    assert_eq!(end(&mapped(base, libc::MAP_PRIVATE), base), None);
    assert_eq!(end(&mapped(base + 0x123, libc::MAP_PRIVATE), base), None);
    assert_eq!(end(&mapped(base + 0x1000, libc::MAP_HUGETLB), base), None);
    assert_eq!(end(&mapped(0x1000, libc::MAP_FIXED), base), None);
    let moved = |new_addr| Call::Mremap {
        addr: 0x1000,
        old_len: 0x1000,
        new_len: 0x1000,
        flags: (libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP) as u64,
        new_addr,
    };
    assert_eq!(end(&moved(0), base), Some(base + 0x1000));
    assert_eq!(end(&moved(base), base), None);
    // Too near to the end of the address space for any stack.
    assert_eq!(end(&plain, layout.task_size - 0x2000), None);
}
