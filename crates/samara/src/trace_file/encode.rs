//! Writes a trace file while a program runs.

use std::io::{self, Write};

use super::wire::Sink;
use super::{BLOCK_TARGET, MAGIC, States, VERSION, hash};
use crate::call::{Call, CallFile, CallSegment, SegmentFacts, Touch, WatcherFacts};
use crate::event::{
    BackingFacts, Cause, Counters, Direction, Event, FileClass, FileFacts, Gate, LayoutFacts,
    ProcessFacts, ProfileFacts, StartFacts, SystemFacts, VmaFacts,
};
use crate::process_call::ProcessCall;
use crate::procfs::MemoryLimits;

/// Writes events; nothing is complete before [`Writer::finish`].
#[derive(Debug)]
pub(crate) struct Writer<W: Write> {
    out: W,
    block: Sink,
    blocks: u32,
    /// The checksum of all blocks' checksums.
    chain: crc32fast::Hasher,
    states: States,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    ///
    /// What the output says.
    pub(crate) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        let (block, states) = (Sink::default(), States::default());
        Ok(Self {
            out,
            block,
            blocks: 0,
            chain: crc32fast::Hasher::new(),
            states,
        })
    }

    /// Appends an event.
    ///
    /// # Errors
    ///
    /// What the output says, or that no reader would accept the file.
    pub(crate) fn event(&mut self, event: &Event) -> io::Result<()> {
        let sink = &mut self.block;
        match event {
            Event::System(facts) => system(sink, facts),
            Event::File(facts) => {
                sink.byte(2);
                file(sink, facts);
            }
            Event::Start(facts) => {
                start(sink, facts);
                self.states.started(facts.mm).map_err(io::Error::other)?;
            }
            Event::Limits { mm, limits } => {
                sink.byte(4);
                sink.number(mm.0.into());
                sink.numbers(&limit_values(limits));
            }
            Event::Capabilities { mm, capabilities } => {
                sink.byte(5);
                sink.numbers(&[mm.0.into(), *capabilities]);
            }
            Event::Write { mm, addr } => {
                sink.byte(6);
                sink.numbers(&[mm.0.into(), *addr]);
            }
            Event::LowBase { mm, addr } => {
                sink.byte(13);
                sink.numbers(&[mm.0.into(), *addr]);
            }
            Event::Base { mm, addr } => {
                sink.byte(17);
                sink.numbers(&[mm.0.into(), *addr]);
            }
            Event::Break { mm, addr } => {
                sink.byte(15);
                sink.numbers(&[mm.0.into(), *addr]);
            }
            Event::MissingPage { mm, addr, is_guard } => {
                sink.byte(if *is_guard { 18 } else { 16 });
                sink.numbers(&[mm.0.into(), *addr]);
            }
            Event::SharedInode { mm, addr, facts } => {
                sink.byte(7);
                sink.numbers(&[mm.0.into(), *addr]);
                file(sink, facts);
            }
            Event::Call {
                mm,
                call: what,
                result,
            } => {
                sink.byte(8);
                sink.number(mm.0.into());
                call(sink, what);
                sink.signed(*result);
            }
            Event::Fork { parent, child } => {
                sink.byte(9);
                sink.numbers(&[parent.0.into(), child.0.into()]);
                let forked = self.states.forked(*parent, *child);
                forked.map_err(io::Error::other)?;
            }
            Event::NotModelled { mm, name } => {
                sink.byte(10);
                sink.number(mm.0.into());
                sink.text(name);
            }
            Event::State { mm, text } => {
                sink.byte(11);
                let delta = self.states.delta(*mm, text);
                let kept = [delta.kept_before as u64, delta.kept_after as u64];
                sink.numbers(&[mm.0.into(), hash(text), kept[0], kept[1]]);
                sink.text(delta.middle);
                let kept = self.states.put(*mm, text.as_str().into());
                kept.map_err(io::Error::other)?;
            }
            Event::Profile(ProfileFacts(bits)) => {
                sink.byte(42);
                sink.number(*bits);
            }
            Event::Process { mm, facts } => {
                sink.byte(40);
                sink.number(mm.0.into());
                process(sink, facts);
            }
            Event::Details { mm, text } => {
                sink.byte(41);
                sink.number(mm.0.into());
                sink.text(text);
            }
            Event::WatcherClosed { mm, id } => {
                sink.byte(14);
                sink.numbers(&[mm.0.into(), *id]);
            }
            Event::Gone { mm } => {
                sink.byte(12);
                sink.number(mm.0.into());
                self.states.remove(*mm);
            }
            Event::Flags { mm, text } => {
                sink.byte(32);
                sink.number(mm.0.into());
                sink.text(text);
            }
            Event::Counters { mm, counters } => {
                sink.byte(33);
                sink.number(mm.0.into());
                sink.numbers(&counter_values(counters));
            }
            Event::PredictReads => sink.byte(34),
        }
        if self.block.bytes.len() >= BLOCK_TARGET {
            self.close_block()
        } else {
            Ok(())
        }
    }

    fn close_block(&mut self) -> io::Result<()> {
        let raw = std::mem::take(&mut self.block.bytes);
        if raw.is_empty() {
            return Ok(());
        }
        let packed = miniz_oxide::deflate::compress_to_vec(&raw, 9);
        let sum = crc32fast::hash(&raw);
        self.chain.update(&sum.to_le_bytes());
        self.blocks += 1;
        self.out.write_all(&(raw.len() as u32).to_le_bytes())?;
        self.out.write_all(&(packed.len() as u32).to_le_bytes())?;
        self.out.write_all(&sum.to_le_bytes())?;
        self.out.write_all(&packed)
    }

    /// Writes what is left and the end block.
    ///
    /// # Errors
    ///
    /// What the output says: then the file is incomplete, and a reader will say so.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.close_block()?;
        self.out.write_all(&0_u32.to_le_bytes())?;
        self.out.write_all(&self.blocks.to_le_bytes())?;
        self.out.write_all(&self.chain.finalize().to_le_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }
}

fn system(sink: &mut Sink, facts: &SystemFacts) {
    sink.byte(1);
    sink.numbers(&[
        facts.version.0.into(),
        facts.version.1.into(),
        facts.max_map_count,
        facts.stack_guard_gap_pages,
        facts.mmap_min_addr,
        facts.lsm_mmap_min_addr,
        facts.overcommit_mode,
        facts.overcommit_ratio,
        facts.overcommit_pages,
        facts.ram_pages,
        facts.swap_pages,
        facts.hugetlb_pages,
        facts.admin_reserve_pages,
        facts.user_reserve_pages,
        facts.committed_pages,
    ]);
}

fn file(sink: &mut Sink, facts: &FileFacts) {
    let class = match facts.class {
        FileClass::HugeAligned => 0,
        FileClass::Plain => 1,
        FileClass::Shmem => 2,
        FileClass::DevZero => 3,
        FileClass::Device => 4,
        FileClass::Unmappable => 5,
        FileClass::SystemV(_) => 6,
        FileClass::HugeAlignedOnly => 7,
        FileClass::HugeShmem => 8,
    };
    sink.byte(class);
    if let FileClass::SystemV(bytes) = facts.class {
        sink.number(bytes);
    }
    sink.byte(facts.access);
    let device = [facts.device.0.into(), facts.device.1.into()];
    sink.numbers(&[facts.id, device[0], device[1], facts.inode]);
    sink.text(&facts.name);
}

fn limit_values(limits: &MemoryLimits) -> [u64; 5] {
    [
        limits.address_space,
        limits.data,
        limits.data_max,
        limits.stack,
        limits.locked,
    ]
}

const fn counter_values(counters: &Counters) -> [u64; 5] {
    let Counters {
        total,
        locked,
        data,
        stack,
        exec,
    } = *counters;
    [total, locked, data, stack, exec]
}

fn start(sink: &mut Sink, facts: &StartFacts) {
    sink.byte(3);
    sink.number(facts.mm.0.into());
    sink.byte(match facts.cause {
        Cause::Exec => 0,
        Cause::Resync => 1,
        Cause::Join => 2,
    });
    layout(sink, &facts.layout);
    sink.numbers(&limit_values(&facts.limits));
    sink.number(facts.capabilities);
    sink.number(facts.vmas.len() as u64);
    for vma in &facts.vmas {
        self::vma(sink, vma);
    }
}

fn layout(sink: &mut Sink, layout: &LayoutFacts) {
    sink.byte(match layout.direction {
        Direction::TopDown => 0,
        Direction::BottomUp => 1,
    });
    sink.byte(match layout.gate {
        Gate::Absent => 0,
        Gate::ExecuteOnly => 1,
        Gate::Readable => 2,
    });
    sink.numbers(&[
        layout.task_size,
        layout.mmap_base,
        layout.legacy_base,
        layout.start_code,
        layout.end_code,
        layout.start_data,
        layout.end_data,
        layout.start_brk,
        layout.brk,
        layout.start_stack,
    ]);
}

fn vma(sink: &mut Sink, vma: &VmaFacts) {
    sink.numbers(&[vma.start, vma.end, vma.page_offset]);
    sink.byte(vma.written.into());
    sink.text(&vma.flags);
    match &vma.backing {
        BackingFacts::Anonymous => sink.byte(0),
        BackingFacts::File(id) => {
            sink.byte(1);
            sink.number(*id);
        }
        BackingFacts::Special(name) => {
            sink.byte(2);
            sink.text(name);
        }
        BackingFacts::Named(name) => {
            sink.byte(3);
            sink.text(name);
        }
    }
}

fn call(sink: &mut Sink, call: &Call) {
    match *call {
        Call::Mmap {
            addr,
            len,
            prot,
            flags,
            offset,
            file,
        } => {
            sink.byte(0);
            sink.numbers(&[addr, len, prot, flags, offset]);
            match file {
                CallFile::Anonymous => sink.number(0),
                CallFile::Bad => sink.number(1),
                CallFile::Open(id) => sink.numbers(&[2, id]),
            }
        }
        Call::Munmap { addr, len } => tagged(sink, 1, &[addr, len]),
        Call::Mprotect { addr, len, prot } => tagged(sink, 2, &[addr, len, prot]),
        Call::PkeyMprotect {
            addr,
            len,
            prot,
            pkey,
        } => {
            tagged(sink, 3, &[addr, len, prot]);
            sink.signed(pkey.into());
        }
        Call::Mremap {
            addr,
            old_len,
            new_len,
            flags,
            new_addr,
        } => {
            tagged(sink, 4, &[addr, old_len, new_len, flags, new_addr]);
        }
        Call::Brk { addr } => tagged(sink, 5, &[addr]),
        Call::Madvise { addr, len, advice } => {
            tagged(sink, 6, &[addr, len]);
            sink.signed(advice.into());
        }
        Call::Mlock { addr, len } => tagged(sink, 7, &[addr, len]),
        Call::Mlock2 { addr, len, flags } => tagged(sink, 8, &[addr, len, flags]),
        Call::Munlock { addr, len } => tagged(sink, 9, &[addr, len]),
        Call::Mlockall { flags } => tagged(sink, 10, &[flags]),
        Call::Munlockall => tagged(sink, 11, &[]),
        Call::SetVmaName { addr, len } => tagged(sink, 12, &[addr, len]),
        Call::Mseal { addr, len, flags } => tagged(sink, 13, &[addr, len, flags]),
        Call::Process(call) => process_call(sink, call),
        Call::Shmat {
            id,
            addr,
            flags,
            segment,
        } => {
            tagged(sink, 14, &[addr, flags]);
            sink.signed(id.into());
            self::segment(sink, segment);
        }
        Call::Shmdt { addr } => tagged(sink, 15, &[addr]),
        Call::RemapFilePages {
            start,
            size,
            prot,
            page_offset,
            flags,
        } => tagged(sink, 16, &[start, size, prot, page_offset, flags]),
        Call::UffdRegister {
            start,
            len,
            mode,
            watcher,
        } => {
            tagged(sink, 17, &[start, len, mode]);
            self::watcher(sink, watcher);
        }
        Call::UffdUnregister {
            start,
            len,
            watcher,
        } => {
            tagged(sink, 18, &[start, len]);
            self::watcher(sink, watcher);
        }
        Call::Mbind {
            addr,
            len,
            mode,
            nodes,
            allowed,
            flags,
        } => tagged(sink, 19, &[addr, len, mode, nodes, allowed, flags]),
        Call::SetHomeNode { addr, len, home } => {
            // One more than the node, so that 0 is none.
            let home = home.map_or(0, |home| u64::from(home) + 1);
            tagged(sink, 20, &[addr, len, home]);
        }
        Call::Touch { addr, how } => {
            let how = match how {
                Touch::Read => 0,
                Touch::Write => 1,
            };
            tagged(sink, 64, &[addr, how]);
        }
        Call::Msync { addr, len, flags } => tagged(sink, 65, &[addr, len, flags]),
    }
}

fn segment(sink: &mut Sink, segment: CallSegment) {
    match segment {
        CallSegment::Absent => sink.byte(0),
        CallSegment::Removed => sink.byte(1),
        CallSegment::Known(facts) => {
            let SegmentFacts {
                id,
                key,
                bytes,
                permitted,
            } = facts;
            tagged(sink, 2, &[id, key.into(), bytes, permitted.into()]);
        }
    }
}

fn watcher(sink: &mut Sink, watcher: Option<WatcherFacts>) {
    match watcher {
        None => sink.byte(0),
        Some(WatcherFacts { id, features }) => tagged(sink, 1, &[id, features]),
    }
}

fn process_call(sink: &mut Sink, call: ProcessCall) {
    match call {
        ProcessCall::Personality { persona } => tagged(sink, 40, &[persona]),
        ProcessCall::Prctl { option, args } => {
            tagged(sink, 41, &[option.into()]);
            sink.numbers(&args);
        }
        ProcessCall::Addresses(all) => tagged(sink, 42, &all),
        ProcessCall::Advise { ranges, advice } => {
            let list = ranges.as_slice();
            tagged(sink, 43, &[list.len() as u64]);
            for range in list {
                sink.numbers(&[range.addr, range.len]);
            }
            sink.signed(advice.into());
        }
        ProcessCall::Name { addr, len, name } => {
            let tag = if name.is_some() { 45 } else { 44 };
            tagged(sink, tag, &[addr, len]);
            if let Some(name) = name {
                sink.blob(name.as_bytes());
            }
        }
    }
}

fn process(sink: &mut Sink, facts: &ProcessFacts) {
    sink.numbers(&[
        facts.peak_pages,
        facts.locked_pages,
        facts.personality.into(),
        facts.flags.into(),
        facts.arguments.0,
        facts.arguments.1,
        facts.environment.0,
        facts.environment.1,
    ]);
}

fn tagged(sink: &mut Sink, tag: u8, values: &[u64]) {
    sink.byte(tag);
    sink.numbers(values);
}
