//! What the kernel knows and `maps` does not show: who wrote, how stacks grew, which file it is.

use super::{Ranges, Session, address};
use crate::call::Call;
use crate::compare;
use crate::engine::{MmId, Place};
use crate::event::{Event, FileFacts};
use crate::facts;
use crate::mirror::Mirror;
use crate::observe;

impl Session {
    /// Asks which of the mappings that can decide a call were written, and tells the model of
    /// those that are news. Says whether there were any.
    pub(super) fn learn_writes(&mut self, mm: MmId, ranges: &Ranges) -> bool {
        let candidates = match ranges {
            Ranges::Near(ranges) => self.mirror.unwritten_near(mm, ranges),
            Ranges::All => self.mirror.unwritten(mm),
        };
        let Some(space) = self.spaces.get(&mm) else {
            return false;
        };
        let pages = observe::written_pages(&space.handles, &candidates);
        for &addr in &pages {
            self.verdict.learned.writes += 1;
            self.learn(&Event::Write { mm, addr });
        }
        !pages.is_empty()
    }

    /// Lets the model's stacks grow to where the kernel's have. Says whether any did.
    pub(super) fn learn_stacks(&mut self, mm: MmId) -> bool {
        let Some(space) = self.spaces.get(&mm) else {
            return false;
        };
        let grown: Vec<u64> = self
            .mirror
            .stacks(mm)
            .into_iter()
            .filter_map(|(start, end)| {
                let kernel_start = observe::start_of_mapping(&space.handles, end - 1)?;
                (kernel_start < start).then_some(kernel_start)
            })
            .collect();
        for &addr in &grown {
            self.verdict.learned.stack_growths += 1;
            self.learn(&Event::Write { mm, addr });
        }
        !grown.is_empty()
    }

    /// Reads the rights of a thread again before a call that asks for them.
    pub(super) fn learn_rights(&mut self, place: Place, call: &Call) {
        const LOWEST: u64 = 1 << 20;
        let asks = match *call {
            Call::Mlock { .. } | Call::Mlock2 { .. } | Call::Mlockall { .. } => true,
            Call::Mbind { flags, .. } => flags & maple_mm::abi::MPOL_MF_MOVE_ALL != 0,
            Call::Mmap { addr, flags, .. } => {
                flags & libc::MAP_LOCKED as u64 != 0
                    || flags & libc::MAP_FIXED as u64 != 0 && addr < LOWEST
            }
            _ => false,
        };
        if !asks {
            return;
        }
        if let Ok(capabilities) = facts::capabilities(place.tid)
            && self.mirror.capabilities(place.mm) != Some(capabilities)
        {
            self.verdict.learned.limits += 1;
            self.learn(&Event::Capabilities {
                mm: place.mm,
                capabilities,
            });
        }
    }

    /// The kernel draws the start of a search below 2 GiB anew each time, up to 32 MiB above
    /// 1 GiB. The result tells as much of it as can be told.
    pub(super) fn learn_low_base(&mut self, mm: MmId, call: &Call, result: i64) {
        const HIGHEST: u64 = 0x4200_0000;
        let Call::Mmap { flags, .. } = *call else {
            return;
        };
        let low = flags & libc::MAP_32BIT as u64 != 0 && flags & libc::MAP_FIXED as u64 == 0;
        let Some(result) = address(result).filter(|_| low) else {
            return;
        };
        if let Some(base) = self.mirror.low_base(mm, call, result) {
            self.verdict.learned.limits += 1;
            let addr = base.min(HIGHEST);
            self.learn(&Event::LowBase { mm, addr });
        }
    }

    pub(super) fn learn_limits(&mut self, place: Place) {
        if let Ok(limits) = facts::limits(place.tid)
            && self.mirror.limits(place.mm) != Some(limits)
        {
            self.verdict.learned.limits += 1;
            self.learn(&Event::Limits {
                mm: place.mm,
                limits,
            });
        }
    }

    /// The kernel's own words about the file of a new mapping: identity, not prediction.
    pub(super) fn learn_identity(&mut self, mm: MmId, call: &Call, result: i64) {
        let Call::Mmap { .. } = call else { return };
        let Some(addr) = address(result) else { return };
        let Some(known) = self.mirror.file_at(mm, addr) else {
            return;
        };
        let shared_anonymous = Mirror::is_shared_anonymous(known.id);
        // Its inode is learned once: a later change would be a divergence.
        let told = if shared_anonymous {
            known.inode != 0
        } else {
            self.files.is_confirmed(known.id)
        };
        if told {
            return;
        }
        let Some(space) = self.spaces.get(&mm) else {
            return;
        };
        let Some(kernel) = observe::mapping_at(&space.handles, addr) else {
            return;
        };
        let (device, inode, name) = (kernel.device, kernel.inode, kernel.name);
        let same = (known.device, known.inode, &known.name) == (device, inode, &name);
        let facts = FileFacts {
            device,
            inode,
            name,
            ..known
        };
        if shared_anonymous {
            self.verdict.learned.files += 1;
            let event = Event::SharedInode { mm, addr, facts };
            // It speaks of a mapping that the call makes: recorded after the call.
            self.mirror.apply(&event).unwrap_or_default();
            self.late = Some(event);
            return;
        }
        self.files.confirm(facts.id);
        if !same {
            self.learn(&Event::File(facts));
        }
    }

    /// Learns names of files that were renamed or deleted, if that is all that differs.
    pub(super) fn learn_names(&mut self, mm: MmId, kernel: &str, model: &str) -> bool {
        let Some(renamed) = compare::renamed(kernel, model) else {
            return false;
        };
        let mut learned = false;
        for line in renamed {
            let Some(known) = self.mirror.file_at(mm, line.start) else {
                return false;
            };
            if known.name != line.name {
                self.verdict.learned.renames += 1;
                learned |= self.learn(&Event::File(FileFacts {
                    name: line.name,
                    ..known
                }));
            }
        }
        learned
    }
}
