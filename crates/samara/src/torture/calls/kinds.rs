//! Segments attached and detached, shared files in another order, ranges watched, policies.

use maple_mm::FileKind;
use maple_mm::abi::*;

use super::{Kind, rarely};
use crate::seccomp::{UFFDIO_REGISTER, UFFDIO_UNREGISTER};
use crate::torture::chooser::{Chooser, PAGE};
use crate::torture::executor::PAYLOAD;
use crate::torture::kinds::SEGMENT_NAMES;
use crate::torture::target::Raw;

pub(super) const KINDS: &[Kind] = &[
    Kind {
        weight: 4,
        make: attached,
    },
    Kind {
        weight: 3,
        make: detached,
    },
    Kind {
        weight: 4,
        make: remapped,
    },
    Kind {
        weight: 5,
        make: watched,
    },
    Kind {
        weight: 2,
        make: released,
    },
    Kind {
        weight: 4,
        make: bound,
    },
    Kind {
        weight: 1,
        make: at_home,
    },
];

fn attached(chooser: &mut Chooser<'_>) -> Raw {
    let mut id = SEGMENT_NAMES.start + chooser.rng.below(3);
    if chooser.rng.one_in(30) {
        id = u64::from(u32::MAX);
    }
    let mut flags = rarely(
        chooser,
        &[
            (SHM_REMAP, 2),
            (SHM_RDONLY, 3),
            (SHM_EXEC, 8),
            (SHM_RND, 4),
            (1 << 10, 20),
        ],
    );
    let mut addr = chooser.addr();
    if chooser.rng.one_in(4) {
        addr = 0;
        if !chooser.rng.one_in(8) {
            flags &= !SHM_REMAP;
        }
    } else if flags & SHM_RND != 0 {
        addr = addr.wrapping_add(chooser.rng.below(PAGE));
    }
    Raw::new(libc::SYS_shmat, [id, addr, flags])
}

/// Where an attach began, as a rule.
fn detached(chooser: &mut Chooser<'_>) -> Raw {
    let begins: Vec<u64> = chooser
        .space
        .vmas()
        .filter(|vma| {
            vma.file()
                .is_some_and(|file| matches!(file.kind, FileKind::SystemV { .. }))
        })
        .map(|vma| vma.start().wrapping_sub(vma.page_offset() * PAGE))
        .collect();
    let addr = if begins.is_empty() || chooser.rng.one_in(6) {
        chooser.addr()
    } else {
        chooser.rng.pick(&begins)
    };
    Raw::new(libc::SYS_shmdt, [addr])
}

fn remapped(chooser: &mut Chooser<'_>) -> Raw {
    let shared: Vec<(u64, u64)> = chooser
        .space
        .vmas()
        .filter(|vma| vma.flags().contains(maple_mm::VmFlags::SHARED))
        .map(|vma| (vma.start(), vma.end() - vma.start()))
        .collect();
    let (mut start, mut size) = chooser.range();
    if !shared.is_empty() && !chooser.rng.one_in(6) {
        (start, size) = chooser.rng.pick(&shared);
        let pages = (size / PAGE).min(64);
        let skipped = chooser.rng.below(pages);
        start += skipped * PAGE;
        size = (1 + chooser.rng.below(pages - skipped)) * PAGE;
        size += rarely(chooser, &[(PAGE, 10), (100, 10)]);
    }
    let prot = rarely(chooser, &[(1, 30)]);
    let mut page_offset = chooser.rng.below(16);
    if chooser.rng.one_in(30) {
        page_offset = chooser
            .rng
            .pick(&[u64::MAX, 1 << 52, (1 << 51) - 2, (1 << 51) - 1]);
    }
    let flags = rarely(chooser, &[(MAP_NONBLOCK, 4), (MAP_LOCKED, 10)]);
    let arguments = [start, size, prot, page_offset, flags];
    Raw::new(libc::SYS_remap_file_pages, arguments)
}

fn watched(chooser: &mut Chooser<'_>) -> Raw {
    let (start, len) = chooser.range();
    let mode = if chooser.rng.one_in(4) {
        chooser.rng.below(9)
    } else {
        UFFDIO_REGISTER_MODE_WP
    };
    on_watcher(chooser, UFFDIO_REGISTER, [start, len, mode])
}

fn released(chooser: &mut Chooser<'_>) -> Raw {
    let (start, len) = chooser.range();
    on_watcher(chooser, UFFDIO_UNREGISTER, [start, len, 0])
}

fn bound(chooser: &mut Chooser<'_>) -> Raw {
    let (addr, len) = chooser.range();
    let usual = [
        MPOL_DEFAULT,
        MPOL_DEFAULT,
        MPOL_BIND,
        MPOL_BIND,
        MPOL_PREFERRED_MANY,
        MPOL_INTERLEAVE,
    ];
    let mut mode = chooser.rng.pick(&usual);
    let mut nodes = u64::from(mode != MPOL_DEFAULT);
    if chooser.rng.one_in(5) {
        mode = chooser.rng.below(9);
        nodes = chooser.rng.below(4);
    }
    let strange = [
        (MPOL_F_STATIC_NODES, 8),
        (MPOL_F_RELATIVE_NODES, 10),
        (MPOL_F_NUMA_BALANCING, 20),
        (1 << 12, 60),
    ];
    mode |= rarely(chooser, &strange);
    let bits = chooser.rng.pick(&[64, 64, 64, 64, 64, 2, 1]);
    let flags = rarely(chooser, &[(8, 60), (MPOL_MF_MOVE_ALL, 30)]);
    let arguments = [addr, len, mode, PAYLOAD, bits, flags];
    Raw::new(libc::SYS_mbind, arguments).with([nodes])
}

fn at_home(chooser: &mut Chooser<'_>) -> Raw {
    let (addr, len) = chooser.range();
    let flags = rarely(chooser, &[(1, 20)]);
    let arguments = [addr, len, 0, flags];
    Raw::new(libc::SYS_set_mempolicy_home_node, arguments)
}

fn on_watcher(chooser: &mut Chooser<'_>, operation: u32, payload: [u64; 3]) -> Raw {
    let descriptor = if chooser.watchers.is_empty() {
        u64::MAX
    } else {
        chooser.rng.pick(&chooser.watchers)
    };
    Raw::new(libc::SYS_ioctl, [descriptor, operation.into(), PAYLOAD]).with(payload)
}
