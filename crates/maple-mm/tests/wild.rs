//! Bad input: whatever numbers a program passes, the answer is an errno, nothing panics, and
//! what refused calls leave behind is sound.

mod common;

use common::state;
use maple_mm::{
    Access, AddressSpace, Errno, KeyedProtection, MmapFile, MmapRequest, MremapRequest, abi::*,
};
use testkit::SplitMix;

const EDGES: [u64; 18] = [
    0,
    1,
    4095,
    4096,
    0x1_0000,
    0x10_0000,
    0x10_1000,
    0x10_2001,
    0x7fff_ffff_e000,
    0x7fff_ffff_f000,
    0x7fff_ffff_f001,
    1 << 47,
    1 << 63,
    (1 << 63) - 4096,
    u64::MAX,
    u64::MAX - 4094,
    u64::MAX - 4095,
    u64::MAX - 8191,
];

fn wild(rng: &mut SplitMix) -> u64 {
    match rng.below(4) {
        0 => rng.pick(&EDGES),
        1 => rng.next_u64(),
        2 => 0x10_0000 + rng.below(32) * PAGE_SIZE,
        _ => rng.below(16) * PAGE_SIZE,
    }
}

fn call(space: &mut AddressSpace, rng: &mut SplitMix) {
    let [a, b, c, d, e] = std::array::from_fn(|_| wild(rng));
    let flags = if rng.below(2) == 0 {
        rng.next_u64()
    } else {
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    };
    match rng.below(14) {
        0..3 => {
            let file = MmapFile::None;
            let _ = space.mmap(MmapRequest {
                addr: a,
                len: b,
                prot: c,
                flags,
                file,
                offset: d,
            });
        }
        3 => drop(space.munmap(a, b)),
        4 => drop(space.mprotect(a, b, rng.next_u64() & 7 | d & PROT_GROWSDOWN)),
        5 | 6 => {
            let flags = rng.below(9);
            let request = MremapRequest {
                addr: a,
                old_len: b,
                new_len: c,
                flags,
                new_addr: d,
            };
            let _ = space.mremap(request);
        }
        7 => drop(space.brk(a)),
        8 => drop(space.madvise(a, b, rng.below(110) as i32 - 2)),
        9 => drop(space.mlock2(a, b, rng.below(3))),
        10 => drop(space.munlock(a, b)),
        11 => drop(space.mseal(a, rng.below(3) * PAGE_SIZE, c & 1)),
        12 => drop(space.msync(a, b, c)),
        _ => {
            let access = rng.pick(&[Access::Read, Access::Write, Access::Execute]);
            let _ = space.fault(a, access);
            let _ = space.pkey_mprotect(
                a,
                b,
                KeyedProtection {
                    prot: e & 7,
                    key: c as i32,
                },
            );
        }
    }
}

#[test]
fn wild_arguments_never_panic_and_leave_a_sound_space() {
    for seed in 0..40 {
        let mut rng = SplitMix::new(seed);
        let mut space = AddressSpace::empty();
        for step in 0..500 {
            call(&mut space, &mut rng);
            if let Err(violation) = space.validate() {
                panic!("seed {seed}, step {step}: {violation}");
            }
        }
    }
}

/// Makes one call that must be refused, and checks that nothing changed.
#[track_caller]
fn refused<T: std::fmt::Debug + PartialEq>(
    errno: Errno,
    call: impl FnOnce(&mut AddressSpace) -> Result<T, Errno>,
) {
    let mut space = AddressSpace::empty();
    let fixed = |addr, len, prot| MmapRequest {
        addr,
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
        ..MmapRequest::anonymous(len, prot)
    };
    space
        .mmap(fixed(0x10_0000, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE))
        .unwrap();
    space.mmap(fixed(0x10_8000, PAGE_SIZE, PROT_READ)).unwrap();
    let before = state(&space);
    assert_eq!(call(&mut space), Err(errno));
    assert_eq!(
        state(&space),
        before,
        "a refused call changed the address space"
    );
    space.validate().unwrap();
}

#[test]
fn unaligned_addresses_are_refused() {
    let at = 0x10_0001;
    refused(Errno::EINVAL, |space| space.munmap(at, 4096));
    refused(Errno::EINVAL, |space| space.mprotect(at, 4096, PROT_READ));
    refused(Errno::EINVAL, |space| {
        space.madvise(at, 4096, MADV_DONTFORK)
    });
    refused(Errno::EINVAL, |space| space.mseal(at, 4096, 0));
    refused(Errno::EINVAL, |space| space.msync(at, 4096, MS_SYNC));
    let flags = MREMAP_MAYMOVE;
    let request = MremapRequest {
        addr: at,
        old_len: 4096,
        new_len: 8192,
        flags,
        new_addr: 0,
    };
    refused(Errno::EINVAL, |space| space.mremap(request));
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    let request = MmapRequest {
        addr: at,
        flags,
        ..MmapRequest::anonymous(4096, 3)
    };
    refused(Errno::EINVAL, |space| space.mmap(request));
    let request = MmapRequest {
        offset: 1,
        ..MmapRequest::anonymous(4096, 3)
    };
    refused(Errno::EINVAL, |space| space.mmap(request));
}

#[test]
fn lengths_that_wrap_are_refused() {
    let len = u64::MAX - 100;
    refused(Errno::EINVAL, |space| space.munmap(0x10_0000, len));
    refused(Errno::ENOMEM, |space| {
        space.mprotect(0x10_0000, len, PROT_READ)
    });
    refused(Errno::EINVAL, |space| {
        space.madvise(0x10_0000, len, MADV_DONTFORK)
    });
    refused(Errno::EINVAL, |space| space.mseal(0x10_0000, len, 0));
    refused(Errno::ENOMEM, |space| {
        space.mmap(MmapRequest::anonymous(len, PROT_READ))
    });
    let offset = u64::MAX - 4095;
    let request = MmapRequest {
        offset,
        ..MmapRequest::anonymous(4096, PROT_READ)
    };
    // 2^52 pages of offset do not wrap yet.
    let mut space = AddressSpace::empty();
    assert!(space.mmap(request).is_ok());
}

#[test]
fn ranges_beyond_the_address_space_are_refused() {
    let end = 0x7fff_ffff_f000;
    refused(Errno::EINVAL, |space| space.munmap(end, 4096));
    refused(Errno::EINVAL, |space| space.munmap(end - 4096, 8192));
    refused(Errno::ENOMEM, |space| space.mprotect(end, 4096, PROT_READ));
    refused(Errno::ENOMEM, |space| {
        space.mmap(MmapRequest::anonymous(end + 4096, PROT_READ))
    });
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    let request = MmapRequest {
        addr: end,
        flags,
        ..MmapRequest::anonymous(4096, 3)
    };
    refused(Errno::ENOMEM, |space| space.mmap(request));
}

#[test]
fn a_fixed_address_in_the_last_page_is_taken_for_an_errno() {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    let request = MmapRequest {
        addr: u64::MAX,
        flags,
        ..MmapRequest::anonymous(4096, 3)
    };
    refused(Errno::EPERM, |space| space.mmap(request));
}

#[test]
fn unknown_flags_are_refused() {
    let at = 0x10_0000;
    refused(Errno::EINVAL, |space| space.mprotect(at, 4096, 1 << 20));
    refused(Errno::EINVAL, |space| space.madvise(at, 4096, 5));
    refused(Errno::EINVAL, |space| space.mlock2(at, 4096, 2));
    refused(Errno::EINVAL, |space| space.mlockall(8));
    refused(Errno::EINVAL, |space| space.mlockall(MCL_ONFAULT));
    refused(Errno::EINVAL, |space| space.mseal(at, 4096, 1));
    refused(Errno::EINVAL, |space| {
        space.msync(at, 4096, MS_SYNC | MS_ASYNC)
    });
    let request = MremapRequest {
        addr: at,
        old_len: 4096,
        new_len: 8192,
        flags: 8,
        new_addr: 0,
    };
    refused(Errno::EINVAL, |space| space.mremap(request));
    for kind in [0, 4, 15] {
        let flags = MAP_ANONYMOUS | kind;
        let request = MmapRequest {
            flags,
            ..MmapRequest::anonymous(4096, PROT_READ)
        };
        refused(Errno::EINVAL, |space| space.mmap(request));
    }
}

#[test]
fn length_zero_is_refused_or_ignored_as_each_call_does() {
    let at = 0x10_0000;
    refused(Errno::EINVAL, |space| space.munmap(at, 0));
    refused(Errno::EINVAL, |space| {
        space.mmap(MmapRequest::anonymous(0, PROT_READ))
    });
    let mut space = AddressSpace::empty();
    assert_eq!(space.mprotect(at, 0, PROT_READ), Ok(()));
    assert_eq!(space.madvise(at, 0, MADV_DONTFORK), Ok(()));
    assert_eq!(space.mlock(at, 0), Ok(()));
    assert_eq!(space.mseal(at, 0, 0), Ok(()));
}
