//! Facts as the trace stores them, turned into the model's types, and back.

use std::sync::Arc;

use maple_mm::{
    AddressSpace, AnonMergeRule, Capabilities, CommitBound, Configured,
    Direction as ModelDirection, Errno, File, FileAccess, FileId, FileKind, Gate as ModelGate,
    HugePlacement, Layout, Limits, LinuxProfile, MergeAnyRule, MremapGeneration, Overcommit,
    Process, ProcessFlags, Segment, SegmentAccess, Setup, System, SystemSettings,
    UserfaultFeatures, Userfaultfd, VmFlags, Vma,
};

use crate::call::{CallSegment, WatcherFacts};
use crate::event::{
    Direction, FileClass, FileFacts, Gate, LayoutFacts, ProcessFacts, ProfileFacts, StartFacts,
    SystemFacts, access, capability,
};
use crate::kernel::KernelMapping;
use crate::procfs::MemoryLimits;

pub(crate) fn settings(facts: &SystemFacts) -> SystemSettings {
    let bound = if facts.overcommit_pages > 0 {
        CommitBound::KiB(facts.overcommit_pages.saturating_mul(4))
    } else {
        CommitBound::Percent(facts.overcommit_ratio)
    };
    let settings = fixed_settings(facts);
    let overcommit = match facts.overcommit_mode {
        1 => Overcommit::Always,
        2 => Overcommit::Never {
            // What others had promised when this was read is not ours to promise.
            limit_pages: bound
                .limit_pages(&settings)
                .saturating_sub(facts.committed_pages),
            admin_reserve_pages: facts.admin_reserve_pages,
            user_reserve_pages: facts.user_reserve_pages,
        },
        _ => Overcommit::Guess,
    };
    SystemSettings {
        overcommit,
        ..settings
    }
}

/// All but how memory is promised.
fn fixed_settings(facts: &SystemFacts) -> SystemSettings {
    SystemSettings {
        max_map_count: usize::try_from(facts.max_map_count).unwrap_or(usize::MAX),
        stack_guard_gap_pages: facts.stack_guard_gap_pages,
        mmap_min_addr: facts.mmap_min_addr,
        lsm_mmap_min_addr: facts.lsm_mmap_min_addr,
        overcommit: Overcommit::Guess,
        ram_pages: facts.ram_pages,
        swap_pages: facts.swap_pages,
        // What a read prepares is seen in the pages, so nothing is predicted of it.
        huge_pages_if_advised: Configured::No,
        // Of 512 pages each, which x86-64 has unless it is told otherwise.
        huge_pages: (facts.hugetlb_pages / 512).try_into().unwrap_or(u32::MAX),
    }
}

/// The profile nearest to the kernel the run was made on, until that was asked.
pub(crate) fn profile(facts: &SystemFacts) -> LinuxProfile {
    LinuxProfile::of_version(facts.version)
}

/// What was found out about the kernel.
pub(crate) const fn profile_facts(profile: &LinuxProfile) -> ProfileFacts {
    let bits = [
        matches!(profile.anon_merge, AnonMergeRule::EitherSide),
        profile.guard_pages.is_yes(),
        profile.guard_flag.is_yes(),
        matches!(profile.huge_placement, HugePlacement::WholeHugePages),
        matches!(profile.mremap, MremapGeneration::MultipleMappings),
        matches!(profile.merge_any, MergeAnyRule::BeforeMerge),
        profile.own_process_advice.is_yes(),
        profile.huge_page_exception.is_yes(),
        profile.transparent_huge_pages.is_yes(),
        profile.ksm.is_yes(),
        profile.soft_dirty.is_yes(),
        profile.anon_vma_name.is_yes(),
        profile.mseal.is_yes(),
        profile.memory_failure.is_yes(),
        // So that recordings without it are of kernels that have them.
        !profile.file_guards.is_yes(),
    ];
    let (mut all, mut at) = (0, 0);
    while at < bits.len() {
        all |= (bits[at] as u64) << at;
        at += 1;
    }
    ProfileFacts(all)
}

/// The profile that was found out; the name is `base`'s.
pub(crate) fn probed_profile(base: LinuxProfile, facts: &ProfileFacts) -> LinuxProfile {
    let has = |bit: u32| facts.0 >> bit & 1 != 0;
    let configured = |bit| {
        if has(bit) {
            Configured::Yes
        } else {
            Configured::No
        }
    };
    LinuxProfile {
        name: base.name,
        anon_merge: if has(0) {
            AnonMergeRule::EitherSide
        } else {
            AnonMergeRule::NeighbourMustBeWritten
        },
        guard_pages: configured(1),
        file_guards: if has(14) {
            Configured::No
        } else {
            Configured::Yes
        },
        guard_flag: configured(2),
        huge_placement: if has(3) {
            HugePlacement::WholeHugePages
        } else {
            HugePlacement::Never
        },
        mremap: if has(4) {
            MremapGeneration::MultipleMappings
        } else {
            MremapGeneration::SingleMapping
        },
        merge_any: if has(5) {
            MergeAnyRule::BeforeMerge
        } else {
            MergeAnyRule::AfterMerge
        },
        own_process_advice: configured(6),
        huge_page_exception: configured(7),
        transparent_huge_pages: configured(8),
        ksm: configured(9),
        soft_dirty: configured(10),
        anon_vma_name: configured(11),
        mseal: configured(12),
        memory_failure: configured(13),
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
        (capability::SYS_RESOURCE, Capabilities::SYS_RESOURCE),
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
        // What is known of it comes as an event of its own.
        process: Process::default(),
    }
}

/// What was asked of the whole.
pub(crate) const fn process(facts: &ProcessFacts) -> Process {
    Process {
        personality: facts.personality,
        flags: ProcessFlags::from_bits_truncate(facts.flags),
    }
}

/// The same as facts, with the counters and addresses that go with it.
pub(crate) fn process_facts(space: &AddressSpace) -> ProcessFacts {
    let (process, layout) = (space.process(), space.layout());
    let counters = space.statistics();
    ProcessFacts {
        peak_pages: counters.peak_vm,
        locked_pages: counters.locked_vm,
        personality: process.personality,
        flags: process.flags.bits(),
        arguments: (layout.arg_start, layout.arg_end),
        environment: (layout.env_start, layout.env_end),
    }
}

/// `layout` with what is known of arguments and environment.
pub(crate) fn with_arguments(layout: &Layout, facts: &ProcessFacts) -> Layout {
    Layout {
        arg_start: facts.arguments.0,
        arg_end: facts.arguments.1,
        env_start: facts.environment.0,
        env_end: facts.environment.1,
        ..layout.clone()
    }
}

const ACCESS: [(u8, FileAccess); 8] = [
    (access::READABLE, FileAccess::READ),
    (access::WRITABLE, FileAccess::WRITE),
    (access::APPEND_ONLY, FileAccess::APPEND_ONLY),
    (access::NO_EXEC, FileAccess::NO_EXEC),
    (access::WRITE_SEALED, FileAccess::WRITE_SEALED),
    (access::FILE_BELOW, FileAccess::FILE_BELOW),
    (access::NO_MMAP, FileAccess::NO_MMAP),
    (access::HOOKED, FileAccess::HOOKED),
];

pub(crate) fn file(facts: &FileFacts) -> File {
    let mut access: FileAccess = ACCESS
        .into_iter()
        .filter(|&(bit, _)| facts.access & bit != 0)
        .map(|(_, one)| one)
        .collect();
    let kind = match facts.class {
        FileClass::HugeAligned => {
            access |= FileAccess::SYNC_REFUSED;
            FileKind::Regular { huge_aligned: true }
        }
        FileClass::HugeAlignedOnly => FileKind::Regular { huge_aligned: true },
        FileClass::Plain => FileKind::Regular {
            huge_aligned: false,
        },
        FileClass::Shmem => FileKind::Shmem,
        FileClass::HugeShmem => FileKind::HugeShmem,
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
        FileKind::Regular { huge_aligned: true }
            if file.access.contains(FileAccess::SYNC_REFUSED) =>
        {
            FileClass::HugeAligned
        }
        FileKind::Regular { huge_aligned: true } => FileClass::HugeAlignedOnly,
        FileKind::Regular {
            huge_aligned: false,
        } => FileClass::Plain,
        FileKind::Shmem => FileClass::Shmem,
        FileKind::HugeShmem => FileClass::HugeShmem,
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

/// A mapping of the model as `PROCMAP_QUERY` would describe it.
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_comes_back_from_its_facts() {
        for (_, profile) in LinuxProfile::ALL {
            let facts = profile_facts(&profile);
            let other = LinuxProfile {
                name: profile.name,
                ..LinuxProfile::default()
            };
            assert_eq!(probed_profile(other, &facts), profile);
        }
    }
}
