//! Facts as the trace stores them, turned into the model's types, and back.

use std::sync::Arc;

use maple_mm::{
    AnonMergeRule, Capabilities, Configured, Direction as ModelDirection, Errno, File, FileAccess,
    FileId, FileKind, Gate as ModelGate, Layout, Limits, LinuxProfile, Overcommit, Segment,
    SegmentAccess, Setup, System, SystemSettings, UserfaultFeatures, Userfaultfd, VmFlags, Vma,
};

use crate::call::{CallSegment, WatcherFacts};
use crate::event::{
    Direction, FileClass, FileFacts, Gate, LayoutFacts, StartFacts, SystemFacts, access, capability,
};
use crate::kernel::KernelMapping;
use crate::procfs::MemoryLimits;

pub(crate) fn settings(facts: &SystemFacts) -> SystemSettings {
    let limit_pages = if facts.overcommit_pages > 0 {
        facts.overcommit_pages
    } else {
        facts
            .ram_pages
            .saturating_sub(facts.hugetlb_pages)
            .saturating_mul(facts.overcommit_ratio)
            / 100
    };
    SystemSettings {
        max_map_count: usize::try_from(facts.max_map_count).unwrap_or(usize::MAX),
        stack_guard_gap_pages: facts.stack_guard_gap_pages,
        mmap_min_addr: facts.mmap_min_addr,
        lsm_mmap_min_addr: facts.lsm_mmap_min_addr,
        overcommit: match facts.overcommit_mode {
            1 => Overcommit::Always,
            2 => Overcommit::Never {
                // What others had promised when the run began is not ours to promise.
                limit_pages: limit_pages
                    .saturating_add(facts.swap_pages)
                    .saturating_sub(facts.committed_pages),
                admin_reserve_pages: facts.admin_reserve_pages,
                user_reserve_pages: facts.user_reserve_pages,
            },
            _ => Overcommit::Guess,
        },
        ram_pages: facts.ram_pages,
        swap_pages: facts.swap_pages,
        // What a read prepares is seen in the pages, so nothing is predicted of it.
        huge_pages_if_advised: Configured::No,
        // Of 512 pages each, which x86-64 has unless it is told otherwise.
        huge_pages: (facts.hugetlb_pages / 512).try_into().unwrap_or(u32::MAX),
    }
}

/// The profile nearest to the kernel the run was made on.
pub(crate) fn profile(facts: &SystemFacts) -> LinuxProfile {
    match facts.version {
        version if version < (6, 16) => LinuxProfile::V6_12,
        version if version < (6, 17) => LinuxProfile {
            anon_merge: AnonMergeRule::EitherSide,
            ..LinuxProfile::V6_12
        },
        _ => LinuxProfile::V6_18,
    }
}

pub(crate) fn limits(facts: &MemoryLimits) -> Limits {
    Limits {
        address_space: facts.address_space,
        data: facts.data,
        data_max: facts.data_max,
        stack: facts.stack,
        memlock: facts.locked,
    }
}

pub(crate) fn capabilities(bits: u64) -> Capabilities {
    let pairs = [
        (capability::SYS_RAWIO, Capabilities::SYS_RAWIO),
        (capability::IPC_LOCK, Capabilities::IPC_LOCK),
        (capability::SYS_ADMIN, Capabilities::SYS_ADMIN),
        (capability::SYS_NICE, Capabilities::SYS_NICE),
    ];
    pairs
        .into_iter()
        .filter(|&(bit, _)| bits & bit != 0)
        .map(|(_, capability)| capability)
        .collect()
}

fn layout(facts: &LayoutFacts) -> Layout {
    Layout {
        task_size: facts.task_size,
        mmap_base: facts.mmap_base,
        legacy_base: facts.legacy_base,
        start_code: facts.start_code,
        end_code: facts.end_code,
        start_data: facts.start_data,
        end_data: facts.end_data,
        start_brk: facts.start_brk,
        brk: facts.brk,
        start_stack: facts.start_stack,
        direction: match facts.direction {
            Direction::TopDown => ModelDirection::TopDown,
            Direction::BottomUp => ModelDirection::BottomUp,
        },
        gate: match facts.gate {
            Gate::Absent => ModelGate::Absent,
            Gate::ExecuteOnly => ModelGate::ExecuteOnly,
            Gate::Readable => ModelGate::Readable,
        },
        ..Layout::default()
    }
}

/// What an address space starts with, apart from its mappings.
pub(crate) fn setup(system: Arc<System>, profile: LinuxProfile, facts: &StartFacts) -> Setup {
    Setup {
        system,
        profile,
        layout: layout(&facts.layout),
        limits: limits(&facts.limits),
        capabilities: capabilities(facts.capabilities),
    }
}

const ACCESS: [(u8, FileAccess); 5] = [
    (access::READABLE, FileAccess::READ),
    (access::WRITABLE, FileAccess::WRITE),
    (access::APPEND_ONLY, FileAccess::APPEND_ONLY),
    (access::NO_EXEC, FileAccess::NO_EXEC),
    (access::WRITE_SEALED, FileAccess::WRITE_SEALED),
];

pub(crate) fn file(facts: &FileFacts) -> File {
    let mut access: FileAccess = ACCESS
        .into_iter()
        .filter(|&(bit, _)| facts.access & bit != 0)
        .map(|(_, one)| one)
        .collect();
    let kind = match facts.class {
        FileClass::HugeAligned => FileKind::Regular { huge_aligned: true },
        FileClass::Plain => FileKind::Regular {
            huge_aligned: false,
        },
        FileClass::Shmem => FileKind::Shmem,
        FileClass::DevZero => FileKind::DevZero,
        FileClass::SystemV(bytes) => FileKind::SystemV { bytes },
        FileClass::Device => FileKind::Device,
        FileClass::Unmappable => {
            access |= FileAccess::NO_MMAP;
            FileKind::Device
        }
    };
    File {
        id: FileId(facts.id),
        device: facts.device,
        inode: facts.inode,
        name: facts.name.as_str().into(),
        kind,
        access,
    }
}

pub(crate) fn file_facts(file: &File) -> FileFacts {
    let class = match file.kind {
        FileKind::Regular { huge_aligned: true } => FileClass::HugeAligned,
        FileKind::Regular {
            huge_aligned: false,
        } => FileClass::Plain,
        FileKind::Shmem => FileClass::Shmem,
        FileKind::DevZero => FileClass::DevZero,
        FileKind::SystemV { bytes } => FileClass::SystemV(bytes),
        FileKind::Device if file.access.contains(FileAccess::NO_MMAP) => FileClass::Unmappable,
        FileKind::Device => FileClass::Device,
    };
    let one = |(bit, access)| if file.access.contains(access) { bit } else { 0 };
    FileFacts {
        id: file.id.0,
        device: file.device,
        inode: file.inode,
        name: file.name.to_string(),
        class,
        access: ACCESS.into_iter().map(one).fold(0, |all, bit| all | bit),
    }
}

/// What `shmat` attaches.
pub(crate) fn segment(facts: CallSegment) -> Result<Segment, Errno> {
    // That of all shared memory the kernel makes itself.
    const DEVICE: (u32, u32) = (0, 1);
    match facts {
        CallSegment::Absent => Err(Errno::EINVAL),
        CallSegment::Removed => Err(Errno::EIDRM),
        CallSegment::Known(facts) => Ok(Segment {
            id: u32::try_from(facts.id).map_err(|_| Errno::EINVAL)?,
            key: facts.key,
            bytes: facts.bytes,
            device: DEVICE,
            permitted: SegmentAccess::from_bits_truncate(facts.permitted),
            pages: None,
        }),
    }
}

/// Who watches, or `EINVAL` before anything was agreed.
pub(crate) fn watcher(facts: Option<WatcherFacts>) -> Result<Userfaultfd, Errno> {
    let facts = facts.ok_or(Errno::EINVAL)?;
    Ok(Userfaultfd {
        id: facts.id,
        features: UserfaultFeatures::from_bits_truncate(facts.features),
    })
}

/// A mapping of the model as `PROCMAP_QUERY` would describe it, names of heap and stack left out.
pub(crate) fn mapping(vma: &Vma) -> KernelMapping {
    let bit = |flag: VmFlags, bit: u32| u64::from(vma.flags().contains(flag)) << bit;
    let file = vma.file();
    KernelMapping {
        start: vma.start(),
        end: vma.end(),
        access: bit(VmFlags::READ, 0)
            | bit(VmFlags::WRITE, 1)
            | bit(VmFlags::EXEC, 2)
            | bit(VmFlags::MAYSHARE, 3),
        offset: file.map_or(0, |_| vma.page_offset().wrapping_mul(4096)),
        device: file.map_or((0, 0), |file| file.device),
        inode: file.map_or(0, |file| file.inode),
        name: vma.name().unwrap_or_default().to_owned(),
    }
}
