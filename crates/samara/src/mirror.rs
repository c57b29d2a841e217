//! The mirrored address spaces: applies events to the model and answers questions about it.
//!
//! Nothing here looks at a kernel; `trace` and `replay` share it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use maple_mm::{
    Access, AddressSpace, Backing, BindRequest, File, FileId, FileRef, KeyedProtection,
    LinuxProfile, MissingPage, MmapFile, MmapRequest, MremapRequest, Process, RemapPages, System,
    VmFlags, VmaRef,
};

use crate::call::{Call, CallFile, Touch};
use crate::convert;
use crate::details;
use crate::engine::MmId;
use crate::event::{
    BackingFacts, Cause, Counters, Event, FileFacts, ProcessFacts, StartFacts, VmaFacts,
};
use crate::kernel::KernelMapping;
use crate::procfs::MemoryLimits;

/// An address space as it was at some moment.
#[derive(Debug)]
pub(crate) struct Saved(Box<Mirrored>);

#[derive(Debug)]
struct Mirrored {
    space: AddressSpace,
    limits: MemoryLimits,
    capabilities: u64,
    /// What the next call cannot bring in.
    missing: Vec<MissingPage>,
}

/// Where it comes from which reads prepare memory for writing (those that bring huge pages in).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reads {
    /// What is read is not known; writes are told when they matter.
    #[default]
    Seen,
    /// Each is a call, so the model knows.
    Predicted,
}

/// All address spaces of a run.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    system: Option<(Arc<System>, LinuxProfile)>,
    reads: Reads,
    files: HashMap<u64, FileRef>,
    spaces: HashMap<MmId, Box<Mirrored>>,
}

impl Mirror {
    /// Applies an event. A call's and a state's outcome is not checked here.
    ///
    /// # Errors
    ///
    /// If the event does not fit what came before: a recording made by something else.
    pub(crate) fn apply(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::System(facts) => {
                let mut settings = convert::settings(facts);
                if self.reads == Reads::Predicted {
                    settings.huge_pages_if_advised = maple_mm::Configured::Yes;
                }
                match &self.system {
                    None => {
                        let system = Arc::new(System::new(settings));
                        self.system = Some((system, convert::profile(facts)));
                    }
                    Some((system, _)) => {
                        system.set_max_map_count(settings.max_map_count);
                        system.set_overcommit(settings.overcommit);
                    }
                }
            }
            Event::Profile(facts) => {
                let (_, profile) = self.system.as_mut().context("the machine is unknown")?;
                *profile = convert::probed_profile(*profile, facts);
            }
            Event::File(facts) => self.define_file(facts)?,
            Event::Start(facts) => self.start(facts)?,
            Event::Limits { mm, limits } => {
                let mirrored = self.mirrored_mut(*mm)?;
                mirrored.limits = *limits;
                mirrored.space.set_limits(convert::limits(limits));
            }
            Event::Capabilities { mm, capabilities } => {
                let mirrored = self.mirrored_mut(*mm)?;
                mirrored.capabilities = *capabilities;
                mirrored
                    .space
                    .set_capabilities(convert::capabilities(*capabilities));
            }
            Event::LowBase { mm, addr } => {
                let space = &mut self.mirrored_mut(*mm)?.space;
                let layout = maple_mm::Layout {
                    low_base: *addr,
                    ..space.layout().clone()
                };
                space.set_layout(layout);
            }
            Event::Base { mm, addr } => {
                let space = &mut self.mirrored_mut(*mm)?.space;
                let layout = space.layout();
                // Both are drawn with one number.
                let higher = addr.saturating_sub(layout.mmap_base);
                let layout = maple_mm::Layout {
                    mmap_base: *addr,
                    legacy_base: layout.legacy_base.saturating_sub(higher),
                    ..layout.clone()
                };
                space.set_layout(layout);
            }
            Event::Break { mm, addr } => {
                let space = &mut self.mirrored_mut(*mm)?.space;
                let layout = maple_mm::Layout {
                    brk: *addr,
                    ..space.layout().clone()
                };
                space.set_layout(layout);
            }
            Event::MissingPage { mm, addr, is_guard } => {
                let (addr, is_guard) = (*addr, *is_guard);
                let missing = &mut self.mirrored_mut(*mm)?.missing;
                missing.push(MissingPage { addr, is_guard });
            }
            Event::Write { mm, addr } => self.write(*mm, *addr)?,
            Event::SharedInode { mm, addr, facts } => self.shared_inode(*mm, *addr, facts)?,
            Event::Call { mm, call, .. } => {
                self.call(*mm, call)
                    .context("a call in an unknown address space")?;
            }
            Event::Process { mm, facts } => self.process(*mm, facts)?,
            Event::Fork { parent, child } => self.fork(*parent, *child)?,
            Event::WatcherClosed { mm, id } => self.close_watcher(*mm, *id)?,
            Event::Gone { mm } => self.remove(*mm),
            Event::PredictReads => self.reads = Reads::Predicted,
            Event::NotModelled { .. }
            | Event::State { .. }
            | Event::Flags { .. }
            | Event::Details { .. }
            | Event::Counters { .. } => {}
        }
        Ok(())
    }

    fn mirrored_mut(&mut self, mm: MmId) -> Result<&mut Mirrored> {
        let mirrored = self.spaces.get_mut(&mm).map(AsMut::as_mut);
        mirrored.with_context(|| format!("address space {} is unknown", mm.0))
    }

    /// The pages promised to all address spaces.
    pub(crate) fn committed(&self) -> u64 {
        self.system
            .as_ref()
            .map_or(0, |(system, _)| system.committed())
    }

    /// The model of an address space.
    pub(crate) fn space(&self, mm: MmId) -> Option<&AddressSpace> {
        self.spaces.get(&mm).map(|mirrored| &mirrored.space)
    }

    /// Private data was seen at `addr`, or a stack that reaches down to it.
    fn write(&mut self, mm: MmId, addr: u64) -> Result<()> {
        const PAGE: u64 = 4096;
        let space = &mut self.mirrored_mut(mm)?.space;
        if space.vma_at(addr).is_some() {
            // Not as a fault: the mapping may have become read-only since it was written.
            let page = addr..addr.saturating_add(PAGE);
            space.mark_written(page).map_err(|error| anyhow!("{error}"))
        } else {
            // What the model does not believe shows up at the next comparison.
            let _ = space.fault(addr, Access::Write);
            Ok(())
        }
    }

    fn process(&mut self, mm: MmId, facts: &ProcessFacts) -> Result<()> {
        let space = &mut self.mirrored_mut(mm)?.space;
        space.set_process(convert::process(facts));
        space.keep_counters(facts.peak_pages, facts.locked_pages);
        space.set_layout(convert::with_arguments(space.layout(), facts));
        Ok(())
    }

    fn define_file(&mut self, facts: &FileFacts) -> Result<()> {
        let file = FileRef::new(convert::file(facts))?;
        let known = self.files.insert(facts.id, file.clone());
        if known.is_some_and(|known| *known != *file) {
            for mirrored in self.spaces.values_mut() {
                let set = mirrored.space.set_file(file.id, &file);
                set.map_err(|error| anyhow!("{error}"))?;
            }
        }
        Ok(())
    }

    fn close_watcher(&mut self, mm: MmId, id: u64) -> Result<()> {
        let space = &mut self.mirrored_mut(mm)?.space;
        let watcher = space
            .vmas()
            .filter_map(|vma| vma.watcher())
            .find(|watcher| watcher.id == id);
        match watcher {
            Some(watcher) => space
                .uffd_close(watcher)
                .map_err(|error| anyhow!("{error}")),
            None => Ok(()),
        }
    }

    /// The model gave the object its identity itself, so the address names it.
    fn shared_inode(&mut self, mm: MmId, addr: u64, facts: &FileFacts) -> Result<()> {
        let mirrored = self.mirrored_mut(mm)?;
        let vma = mirrored
            .space
            .vma_at(addr)
            .context("no mapping where an inode was learned")?;
        let file = vma.file().context("no file where an inode was learned")?;
        let id = file.id;
        let learned = File {
            id,
            ..convert::file(facts)
        };
        mirrored
            .space
            .set_file(id, &FileRef::new(learned)?)
            .map_err(|error| anyhow!("{error}"))
    }

    fn start(&mut self, facts: &StartFacts) -> Result<()> {
        let (system, profile) = self.system.clone().context("the machine is unknown")?;
        let vmas: Vec<_> = facts
            .vmas
            .iter()
            .map(|vma| self.vma_spec(vma))
            .collect::<Result<_>>()?;
        let setup = convert::setup(system, profile, facts);
        let mut space =
            AddressSpace::from_layout(setup, vmas).map_err(|error| anyhow!("{error}"))?;
        let older = self.spaces.remove(&facts.mm);
        if let (Cause::Resync, Some(older)) = (facts.cause, older) {
            let kept = space.keep_history(&older.space);
            kept.map_err(|error| anyhow!("{error}"))?;
        }
        for vma in &facts.vmas {
            name_again(&mut space, vma)?;
        }
        let (limits, capabilities) = (facts.limits, facts.capabilities);
        let mirrored = Mirrored {
            space,
            limits,
            capabilities,
            missing: Vec::new(),
        };
        self.spaces.insert(facts.mm, Box::new(mirrored));
        Ok(())
    }

    fn vma_spec(&self, facts: &VmaFacts) -> Result<maple_mm::VmaSpec> {
        let backing = match &facts.backing {
            // Its name is given later.
            BackingFacts::Anonymous | BackingFacts::Named(_) => Backing::Anonymous,
            BackingFacts::Special(name) => Backing::Special(maple_mm::Special::new(name)?),
            BackingFacts::File(id) => {
                let file = self
                    .files
                    .get(id)
                    .with_context(|| format!("file {id} is unknown"))?;
                Backing::File(file.clone())
            }
        };
        let flags = VmFlags::from_mnemonics(&facts.flags)
            .map_err(|error| anyhow!("unknown mapping flag in `{}`: {error:?}", facts.flags))?;
        Ok(maple_mm::VmaSpec {
            start: facts.start,
            end: facts.end,
            flags,
            page_offset: facts.page_offset,
            backing,
            written: facts.written,
        })
    }

    fn mmap_request(&self, call: &Call) -> Option<MmapRequest> {
        let Call::Mmap {
            addr,
            len,
            prot,
            flags,
            file,
            offset,
        } = *call
        else {
            return None;
        };
        Some(MmapRequest {
            addr,
            len,
            prot,
            flags,
            file: self.mmap_file(file),
            offset,
        })
    }

    /// Where a search below 2 GiB must have begun for `call` to end up at `result`.
    pub(crate) fn low_base(&self, mm: MmId, call: &Call, result: u64) -> Option<u64> {
        let request = self.mmap_request(call)?;
        let mut space = self.space(mm)?.snapshot();
        space.learn_low_base(&request, result);
        Some(space.layout().low_base)
    }

    /// Where searches from above must begin if `call` was given `start` by one, and the model believes
    /// that they begin lower.
    pub(crate) fn base_above(&self, mm: MmId, call: &Call, start: u64) -> Option<u64> {
        end_above(self.space(mm)?.layout(), call, start)
    }

    /// Carries a call out on the model: what it returns, negative for an error number.
    pub(crate) fn call(&mut self, mm: MmId, call: &Call) -> Option<i64> {
        let mirrored = self.spaces.get_mut(&mm)?;
        // It was known for this call.
        let mut missing = std::mem::take(&mut mirrored.missing);
        missing.sort_unstable();
        let missing = Some(missing).filter(|missing| !missing.is_empty());
        mirrored.space.set_missing_pages(missing.map(Arc::from));
        let result = self.carry_out(mm, call);
        if let Some(mirrored) = self.spaces.get_mut(&mm) {
            mirrored.space.set_missing_pages(None);
        }
        result
    }

    fn carry_out(&mut self, mm: MmId, call: &Call) -> Option<i64> {
        let request = self.mmap_request(call);
        let space = &mut self.spaces.get_mut(&mm)?.space;
        let address = |result: Result<u64, maple_mm::Errno>| match result {
            Ok(address) => address.cast_signed(),
            Err(error) => -i64::from(error.raw()),
        };
        let nothing = |result: Result<(), maple_mm::Errno>| address(result.map(|()| 0));
        Some(match *call {
            Call::Mmap { .. } => address(space.mmap(request?)),
            Call::Munmap { addr, len } => nothing(space.munmap(addr, len)),
            Call::Mprotect { addr, len, prot } => nothing(space.mprotect(addr, len, prot)),
            Call::PkeyMprotect {
                addr,
                len,
                prot,
                pkey,
            } => nothing(space.pkey_mprotect(addr, len, KeyedProtection { prot, key: pkey })),
            Call::Mremap {
                addr,
                old_len,
                new_len,
                flags,
                new_addr,
            } => address(space.mremap(MremapRequest {
                addr,
                old_len,
                new_len,
                flags,
                new_addr,
            })),
            Call::Brk { addr } => space.brk(addr).cast_signed(),
            Call::Madvise { addr, len, advice } => nothing(space.madvise(addr, len, advice)),
            Call::Mlock { addr, len } => nothing(space.mlock(addr, len)),
            Call::Mlock2 { addr, len, flags } => nothing(space.mlock2(addr, len, flags)),
            Call::Munlock { addr, len } => nothing(space.munlock(addr, len)),
            Call::Mlockall { flags } => nothing(space.mlockall(flags)),
            Call::Munlockall => nothing(space.munlockall()),
            Call::Mseal { addr, len, flags } => nothing(space.mseal(addr, len, flags)),
            Call::Process(call) => call.apply(space),
            Call::Shmat {
                addr,
                flags,
                segment,
                ..
            } => {
                let segment = convert::segment(segment);
                address(space.shmat(segment.as_ref().map_err(|errno| *errno), addr, flags))
            }
            Call::Shmdt { addr } => nothing(space.shmdt(addr)),
            Call::RemapFilePages {
                start,
                size,
                prot,
                page_offset,
                flags,
            } => nothing(space.remap_file_pages(RemapPages {
                start,
                size,
                prot,
                page_offset,
                flags,
            })),
            Call::UffdRegister {
                start,
                len,
                mode,
                watcher,
            } => nothing(convert::watcher(watcher).and_then(|watcher| {
                space.uffd_register(watcher, start..start.wrapping_add(len), mode)
            })),
            Call::Mbind {
                addr,
                len,
                mode,
                nodes,
                allowed,
                flags,
            } => nothing(space.mbind(BindRequest {
                addr,
                len,
                mode,
                nodes,
                allowed,
                flags,
            })),
            Call::SetHomeNode { addr, len, home } => {
                let home = home.ok_or(maple_mm::Errno::EINVAL);
                nothing(home.and_then(|home| space.set_home_node(addr, len, home)))
            }
            Call::UffdUnregister {
                start,
                len,
                watcher,
            } => nothing(convert::watcher(watcher).and_then(|watcher| {
                space.uffd_unregister(watcher, start..start.wrapping_add(len))
            })),
            Call::Msync { addr, len, flags } => nothing(space.msync(addr, len, flags)),
            Call::Touch { addr, how } => {
                let access = match how {
                    Touch::Read => Access::Read,
                    Touch::Write => Access::Write,
                };
                let touched = space.fault(addr, access).map(|()| 1);
                address(touched.map_err(|_| maple_mm::Errno::EFAULT))
            }
            Call::SetVmaName { .. } => -i64::from(maple_mm::Errno::EINVAL.raw()),
        })
    }

    fn mmap_file(&self, file: CallFile) -> MmapFile {
        match file {
            CallFile::Anonymous => MmapFile::None,
            CallFile::Bad => MmapFile::Bad,
            CallFile::Open(id) => self
                .files
                .get(&id)
                .map_or(MmapFile::Bad, |file| MmapFile::Open(file.clone())),
        }
    }

    /// Makes `child` a copy of `parent`.
    ///
    /// # Errors
    ///
    /// If the parent is unknown, or the model says that the fork fails.
    pub(crate) fn fork(&mut self, parent: MmId, child: MmId) -> Result<()> {
        let mirrored = self.mirrored_mut(parent)?;
        let (limits, capabilities) = (mirrored.limits, mirrored.capabilities);
        let space = mirrored
            .space
            .fork()
            .map_err(|error| anyhow!("the model says that this fork fails: {error}"))?;
        let mirrored = Mirrored {
            space,
            limits,
            capabilities,
            missing: Vec::new(),
        };
        self.spaces.insert(child, Box::new(mirrored));
        Ok(())
    }

    /// An address space as it is now, to come back to.
    pub(crate) fn save(&self, mm: MmId) -> Option<Saved> {
        let mirrored = self.spaces.get(&mm)?;
        Some(Saved(Box::new(Mirrored {
            space: mirrored.space.snapshot(),
            limits: mirrored.limits,
            capabilities: mirrored.capabilities,
            missing: mirrored.missing.clone(),
        })))
    }

    /// Puts `saved` in place and gives what was there.
    pub(crate) fn replace(&mut self, mm: MmId, saved: Saved) -> Option<Saved> {
        self.spaces.insert(mm, saved.0).map(Saved)
    }

    /// Forgets an address space.
    pub(crate) fn remove(&mut self, mm: MmId) {
        self.spaces.remove(&mm);
    }

    // ----- questions -------------------------------------------------------------------------

    /// The text of `maps`, as the model has it.
    pub(crate) fn text(&self, mm: MmId) -> Option<String> {
        let mut text = String::new();
        self.space(mm)?.write_maps(&mut text).ok()?;
        Some(text)
    }

    /// What `smaps` and `status` say beyond `maps`, as the model has it.
    pub(crate) fn details(&self, mm: MmId) -> Option<String> {
        let space = self.space(mm)?;
        let (mut smaps, mut status) = (String::new(), String::new());
        space.write_smaps(&mut smaps).ok()?;
        space.write_status(&mut status).ok()?;
        Some(details::digest(&smaps, &status))
    }

    /// What was asked of an address space as a whole.
    pub(crate) fn process_of(&self, mm: MmId) -> Option<Process> {
        self.space(mm).map(AddressSpace::process)
    }

    /// The counters and addresses that go with it, as the model has them.
    pub(crate) fn process_facts(&self, mm: MmId) -> Option<ProcessFacts> {
        self.space(mm).map(convert::process_facts)
    }

    /// The words of `VmFlags` of each mapping behind its start, a line each.
    pub(crate) fn flags(&self, mm: MmId) -> Option<String> {
        let mut text = String::new();
        for vma in self.space(mm)?.vmas() {
            let words = vma.flags().mnemonics();
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{:x}-{:x} {}",
                vma.start(),
                vma.end(),
                words.trim_end()
            );
        }
        Some(text)
    }

    /// The counters of an address space.
    pub(crate) fn counters(&self, mm: MmId) -> Option<Counters> {
        let sums = self.space(mm)?.statistics();
        Some(Counters {
            total: sums.total_vm,
            locked: sums.locked_vm,
            data: sums.data_vm,
            stack: sums.stack_vm,
            exec: sums.exec_vm,
        })
    }

    /// The ranges of private mappings that no write is known of.
    pub(crate) fn unwritten(&self, mm: MmId) -> Vec<(u64, u64)> {
        let Some(space) = self.space(mm) else {
            return Vec::new();
        };
        space
            .vmas()
            .filter(|vma| can_be_written(vma))
            .map(|vma| (vma.start(), vma.end()))
            .collect()
    }

    /// Those of them that overlap or touch one of `ranges`.
    pub(crate) fn unwritten_near(&self, mm: MmId, ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let Some(space) = self.space(mm) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for &(start, end) in ranges {
            let touching = start.saturating_sub(1)..end.saturating_add(1);
            for vma in space.vmas_in(touching).filter(|vma| can_be_written(vma)) {
                found.push((vma.start(), vma.end()));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The ranges that `call`, which has just been carried out, was to bring in, and whether to be
    /// read or to be written.
    pub(crate) fn brought_in(&self, mm: MmId, call: &Call) -> Vec<(Access, (u64, u64))> {
        let Some(space) = self.space(mm) else {
            return Vec::new();
        };
        let advice = call.populates();
        let lazy = match advice {
            Some(_) => VmFlags::empty(),
            None => VmFlags::LOCKONFAULT,
        };
        let never = VmFlags::IO | VmFlags::PFNMAP | lazy;
        let is_wanted = |vma: &&VmaRef| {
            !vma.flags().intersects(never) && vma.flags().intersects(VmFlags::ACCESS)
        };
        let is_written = |vma: &VmaRef| match advice {
            Some(access) => access == Access::Write,
            None => vma.flags() & (VmFlags::WRITE | VmFlags::SHARED) == VmFlags::WRITE,
        };
        let mut all = Vec::new();
        for (start, end) in call.ranges(None) {
            for vma in space.vmas_in(start..end).filter(is_wanted) {
                let access = if is_written(vma) {
                    Access::Write
                } else {
                    Access::Read
                };
                all.push((access, (vma.start().max(start), vma.end().min(end))));
            }
        }
        all
    }

    /// The ranges of mappings that grow downwards.
    pub(crate) fn stacks(&self, mm: MmId) -> Vec<(u64, u64)> {
        let vmas = self.space(mm).into_iter().flat_map(AddressSpace::vmas);
        vmas.filter_map(stack).collect()
    }

    /// Those of them that overlap or touch one of `ranges`, or are the next above it: what a stack
    /// has grown by lies in the hole below it.
    pub(crate) fn stacks_near(&self, mm: MmId, ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let Some(space) = self.space(mm) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for &(start, end) in ranges {
            let touching = space.vmas_in(start.saturating_sub(1)..end);
            let next = space.find_vma(end);
            found.extend(touching.chain(next).filter_map(stack));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The mappings that overlap `start..end`, as the kernel would describe them.
    pub(crate) fn mappings_in(
        &self,
        mm: MmId,
        start: u64,
        end: u64,
    ) -> impl Iterator<Item = KernelMapping> {
        let space = self.space(mm);
        let vmas = space.map(|space| space.vmas_in(start..end));
        vmas.into_iter().flatten().map(|vma| convert::mapping(vma))
    }

    /// The end of the heap.
    pub(crate) fn brk(&self, mm: MmId) -> Option<u64> {
        self.space(mm).map(|space| space.layout().brk)
    }

    pub(crate) fn limits(&self, mm: MmId) -> Option<MemoryLimits> {
        self.spaces.get(&mm).map(|mirrored| mirrored.limits)
    }

    pub(crate) fn capabilities(&self, mm: MmId) -> Option<u64> {
        self.spaces.get(&mm).map(|mirrored| mirrored.capabilities)
    }

    pub(crate) fn vma_count(&self, mm: MmId) -> usize {
        self.space(mm).map_or(0, AddressSpace::map_count)
    }

    fn vma_at(&self, mm: MmId, addr: u64) -> Option<&VmaRef> {
        self.space(mm)?.vma_at(addr)
    }

    /// The ranges that the userfaultfd `id` watches.
    pub(crate) fn watched(&self, mm: MmId, id: u64) -> Vec<(u64, u64)> {
        let Some(space) = self.space(mm) else {
            return Vec::new();
        };
        let is_watched = |vma: &&VmaRef| vma.watcher().is_some_and(|watcher| watcher.id == id);
        space
            .vmas()
            .filter(is_watched)
            .map(|vma| (vma.start(), vma.end()))
            .collect()
    }

    /// Whether anything is mapped at `addr`.
    pub(crate) fn is_mapped_at(&self, mm: MmId, addr: u64) -> bool {
        self.vma_at(mm, addr).is_some()
    }

    /// The open file `id`.
    pub(crate) fn file(&self, id: u64) -> Option<FileFacts> {
        self.files.get(&id).map(|file| convert::file_facts(file))
    }

    /// The file mapped at `addr`.
    pub(crate) fn file_at(&self, mm: MmId, addr: u64) -> Option<FileFacts> {
        self.vma_at(mm, addr)?
            .file()
            .map(|file| convert::file_facts(file))
    }

    /// Whether the mapping at `addr` is known to hold private data.
    pub(crate) fn is_written_at(&self, mm: MmId, addr: u64) -> bool {
        self.vma_at(mm, addr)
            .is_some_and(|vma| vma.anon().is_faulted())
    }

    /// The page offset of an anonymous mapping at `addr`.
    pub(crate) fn page_offset_at(&self, mm: MmId, addr: u64) -> Option<u64> {
        let vma = self.vma_at(mm, addr)?;
        let is_anonymous = matches!(vma.backing(), Backing::Anonymous);
        is_anonymous.then(|| vma.page_offset() + (addr - vma.start()) / 4096)
    }

    /// Whether any address space maps this open file; forgets it if not.
    pub(crate) fn is_mapped(&self, id: u64) -> bool {
        self.files
            .get(&id)
            .is_some_and(|file| FileRef::count(file) > 1)
    }

    /// Whether the model gave this identity out for shared anonymous memory.
    pub(crate) const fn is_shared_anonymous(id: u64) -> bool {
        id & FileId::MODEL_BIT != 0
    }
}

fn can_be_written(vma: &VmaRef) -> bool {
    !vma.anon().is_faulted()
        && !vma.flags().contains(VmFlags::MAYSHARE)
        && !matches!(vma.backing(), Backing::Special(_))
}

/// The range of a mapping that grows downwards.
fn stack(vma: &VmaRef) -> Option<(u64, u64)> {
    let grows = vma.flags().contains(VmFlags::GROWSDOWN);
    grows.then(|| (vma.start(), vma.end()))
}

/// Gives a mapping the name that it had when its address space was read.
fn name_again(space: &mut AddressSpace, vma: &VmaFacts) -> Result<()> {
    let BackingFacts::Named(shown) = &vma.backing else {
        return Ok(());
    };
    let name = shown
        .strip_prefix("[anon:")
        .and_then(|name| name.strip_suffix(']'));
    let name = name.context("a name without brackets")?;
    let len = vma.end.saturating_sub(vma.start);
    space
        .name_anonymous(vma.start, len, Some(name.as_bytes()))
        .map_err(|error| anyhow!("a mapping cannot be named: {error}"))
}

/// The end of what `call` was given at `start` by a search from above, if it lies above where
/// searches begin by this layout.
fn end_above(layout: &maple_mm::Layout, call: &Call, start: u64) -> Option<u64> {
    const PAGE: u64 = 4096;
    const LEAST_GAP: u64 = 128 << 20;
    // Hints of explicitly huge mappings are rounded otherwise.
    const CHOSEN: i32 = libc::MAP_FIXED | libc::MAP_32BIT | libc::MAP_HUGETLB;
    let has = |flags: u64, flag: i32| flags & u64::from(flag.cast_unsigned()) != 0;
    let len = match *call {
        Call::Mmap {
            addr, len, flags, ..
        } if addr & !(PAGE - 1) != start && !has(flags, CHOSEN) => len,
        Call::Mremap {
            addr,
            new_len,
            flags,
            new_addr,
            ..
        } if addr != start && new_addr != start && !has(flags, libc::MREMAP_FIXED) => new_len,
        _ => return None,
    };
    let end = start.checked_add(len.checked_next_multiple_of(PAGE)?)?;
    let is_above = layout.direction == maple_mm::Direction::TopDown
        && (layout.mmap_base + 1..=layout.task_size - LEAST_GAP).contains(&end);
    is_above.then_some(end)
}

#[cfg(test)]
mod tests;
