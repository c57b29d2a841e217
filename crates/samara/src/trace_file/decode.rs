//! Reads a trace file, trusting nothing in it.

use std::io::{ErrorKind, Read};

use maple_mm::AdvisedRange;

use super::wire::{Source, Wired};
use super::{BLOCK_MAX, MAGIC, StateDelta, States, TraceError, VERSION, hash};
use crate::call::{Call, CallFile, CallSegment, SegmentFacts, Touch, WatcherFacts};
use crate::engine::MmId;
use crate::event::{
    BackingFacts, Cause, Counters, Direction, Event, FileClass, FileFacts, Gate, LayoutFacts,
    ProcessFacts, ProfileFacts, StartFacts, SystemFacts, VmaFacts,
};
use crate::process_call::{Name, ProcessCall, RANGES, Ranges};
use crate::procfs::MemoryLimits;

/// Gives a file's events one after another.
#[derive(Debug)]
pub(crate) struct Reader<R: Read> {
    input: R,
    pub(super) block: Vec<u8>,
    at: usize,
    blocks: u32,
    chain: crc32fast::Hasher,
    pub(super) states: States,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// If this is no trace, or one of another version.
    pub(crate) fn new(mut input: R) -> Result<Self, TraceError> {
        let mut magic = [0; 8];
        match read_exactly(&mut input, &mut magic) {
            Err(TraceError::Truncated) => return Err(TraceError::Foreign),
            other => other?,
        }
        if &magic != MAGIC {
            return Err(TraceError::Foreign);
        }
        let mut version = [0; 2];
        read_exactly(&mut input, &mut version)?;
        let version = u16::from_le_bytes(version);
        if version != VERSION {
            return Err(TraceError::Version(version));
        }
        Ok(Self {
            input,
            block: Vec::new(),
            at: 0,
            blocks: 0,
            chain: crc32fast::Hasher::new(),
            states: States::default(),
            ended: false,
        })
    }

    /// The next event; `None` after the end block.
    ///
    /// # Errors
    ///
    /// What is wrong with the file. Nothing more can be read then.
    pub(crate) fn next_event(&mut self) -> Result<Option<Event>, TraceError> {
        while self.at == self.block.len() {
            if self.ended || !self.next_block()? {
                self.ended = true;
                return Ok(None);
            }
        }
        let mut source = Source {
            bytes: &self.block[self.at..],
        };
        let event = event(&mut source, &mut self.states).map_err(|what| TraceError::Damaged {
            block: self.blocks.into(),
            what,
        })?;
        self.at = self.block.len() - source.bytes.len();
        Ok(Some(event))
    }

    /// Unpacks the next block; `false` at the end block.
    fn next_block(&mut self) -> Result<bool, TraceError> {
        let mut head = [0; 12];
        read_exactly(&mut self.input, &mut head)?;
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (raw_len, packed_len, sum) = (word(0) as usize, word(4) as usize, word(8));
        let damaged = |what| TraceError::Damaged {
            block: u64::from(self.blocks) + 1,
            what,
        };
        if raw_len == 0 {
            if packed_len != self.blocks as usize || sum != self.chain.clone().finalize() {
                return Err(damaged("the end block does not match"));
            }
            let mut one = [0];
            return match read_exactly(&mut self.input, &mut one) {
                Err(TraceError::Truncated) => Ok(false),
                Err(other) => Err(other),
                Ok(()) => Err(TraceError::Trailing),
            };
        }
        // Deflate adds a few bytes to what it can't pack.
        if raw_len > BLOCK_MAX || packed_len > raw_len + raw_len / 8 + 64 {
            return Err(damaged("its size makes no sense"));
        }
        let mut packed = Vec::new();
        let got = (&mut self.input)
            .take(packed_len as u64)
            .read_to_end(&mut packed);
        if got.map_err(|error| TraceError::Read(error.to_string()))? < packed_len {
            return Err(TraceError::Truncated);
        }
        let raw = miniz_oxide::inflate::decompress_to_vec_with_limit(&packed, raw_len)
            .map_err(|_| damaged("it does not unpack"))?;
        if raw.len() != raw_len || crc32fast::hash(&raw) != sum {
            return Err(damaged("wrong checksum"));
        }
        self.chain.update(&sum.to_le_bytes());
        self.blocks += 1;
        self.block = raw;
        self.at = 0;
        Ok(true)
    }
}

fn read_exactly(input: &mut impl Read, bytes: &mut [u8]) -> Result<(), TraceError> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => TraceError::Truncated,
        _ => TraceError::Read(error.to_string()),
    })
}

pub(super) fn event(source: &mut Source<'_>, states: &mut States) -> Wired<Event> {
    Ok(match source.byte()? {
        1 => Event::System(system(source)?),
        2 => Event::File(file(source)?),
        3 => {
            let facts = start(source)?;
            states.started(facts.mm)?;
            Event::Start(Box::new(facts))
        }
        4 => Event::Limits {
            mm: mm(source)?,
            limits: limits(source)?,
        },
        5 => Event::Capabilities {
            mm: mm(source)?,
            capabilities: source.number()?,
        },
        6 => Event::Write {
            mm: mm(source)?,
            addr: source.number()?,
        },
        7 => {
            let (mm, addr) = (mm(source)?, source.number()?);
            Event::SharedInode {
                mm,
                addr,
                facts: file(source)?,
            }
        }
        8 => Event::Call {
            mm: mm(source)?,
            call: call(source)?,
            result: source.signed()?,
        },
        9 => {
            let (parent, child) = (mm(source)?, mm(source)?);
            states.forked(parent, child)?;
            Event::Fork { parent, child }
        }
        10 => Event::NotModelled {
            mm: mm(source)?,
            name: source.text()?.to_owned(),
        },
        11 => state(source, states)?,
        12 => {
            let mm = mm(source)?;
            states.remove(mm);
            Event::Gone { mm }
        }
        13 => Event::LowBase {
            mm: mm(source)?,
            addr: source.number()?,
        },
        17 => Event::Base {
            mm: mm(source)?,
            addr: source.number()?,
        },
        15 => Event::Break {
            mm: mm(source)?,
            addr: source.number()?,
        },
        kind @ (16 | 18) => Event::MissingPage {
            mm: mm(source)?,
            addr: source.number()?,
            is_guard: kind == 18,
        },
        40 => Event::Process {
            mm: mm(source)?,
            facts: process(source)?,
        },
        41 => Event::Details {
            mm: mm(source)?,
            text: source.text()?.to_owned(),
        },
        42 => Event::Profile(ProfileFacts(source.number()?)),
        14 => Event::WatcherClosed {
            mm: mm(source)?,
            id: source.number()?,
        },
        32 => Event::Flags {
            mm: mm(source)?,
            text: source.text()?.to_owned(),
        },
        33 => Event::Counters {
            mm: mm(source)?,
            counters: counters(source)?,
        },
        34 => Event::PredictReads,
        _ => return Err("an unknown record"),
    })
}

fn process(source: &mut Source<'_>) -> Wired<ProcessFacts> {
    let [peak_pages, locked_pages] = source.numbers()?;
    let (personality, flags) = (source.small()?, source.small()?);
    let [arg_start, arg_end, env_start, env_end] = source.numbers()?;
    Ok(ProcessFacts {
        peak_pages,
        locked_pages,
        personality,
        flags,
        arguments: (arg_start, arg_end),
        environment: (env_start, env_end),
    })
}

fn advise(source: &mut Source<'_>) -> Wired<ProcessCall> {
    let count = source.count()?;
    if count > RANGES {
        return Err("too many ranges");
    }
    let mut list = Vec::new();
    for _ in 0..count {
        let [addr, len] = source.numbers()?;
        list.push(AdvisedRange { addr, len });
    }
    let advice = i32::try_from(source.signed()?).map_err(|_| "a number is out of range")?;
    let ranges = Ranges::new(&list).ok_or("too many ranges")?;
    Ok(ProcessCall::Advise { ranges, advice })
}

fn mm(source: &mut Source<'_>) -> Wired<MmId> {
    source.small().map(MmId)
}

fn state(source: &mut Source<'_>, states: &mut States) -> Wired<Event> {
    let mm = mm(source)?;
    let [sum, before, after] = source.numbers()?;
    let kept = |count: u64| usize::try_from(count).map_err(|_| "a count is too large");
    let (kept_before, kept_after) = (kept(before)?, kept(after)?);
    let delta = StateDelta {
        kept_before,
        kept_after,
        middle: source.text()?,
    };
    let text = states.rebuild(mm, &delta)?;
    if hash(&text) != sum {
        return Err("a state's hash is wrong");
    }
    states.put(mm, text.as_str().into())?;
    Ok(Event::State { mm, text })
}

fn system(source: &mut Source<'_>) -> Wired<SystemFacts> {
    let version = (source.small()?, source.small()?);
    let values: [u64; 13] = source.numbers()?;
    Ok(SystemFacts {
        version,
        max_map_count: values[0],
        stack_guard_gap_pages: values[1],
        mmap_min_addr: values[2],
        lsm_mmap_min_addr: values[3],
        overcommit_mode: values[4],
        overcommit_ratio: values[5],
        overcommit_pages: values[6],
        ram_pages: values[7],
        swap_pages: values[8],
        hugetlb_pages: values[9],
        admin_reserve_pages: values[10],
        user_reserve_pages: values[11],
        committed_pages: values[12],
    })
}

fn file(source: &mut Source<'_>) -> Wired<FileFacts> {
    let class = match source.byte()? {
        0 => FileClass::HugeAligned,
        1 => FileClass::Plain,
        2 => FileClass::Shmem,
        3 => FileClass::DevZero,
        4 => FileClass::Device,
        5 => FileClass::Unmappable,
        6 => FileClass::SystemV(source.number()?),
        7 => FileClass::HugeAlignedOnly,
        8 => FileClass::HugeShmem,
        _ => return Err("an unknown kind of file"),
    };
    Ok(FileFacts {
        class,
        access: source.byte()?,
        id: source.number()?,
        device: (source.small()?, source.small()?),
        inode: source.number()?,
        name: source.text()?.to_owned(),
    })
}

fn limits(source: &mut Source<'_>) -> Wired<MemoryLimits> {
    let [address_space, data, data_max, stack, locked] = source.numbers()?;
    Ok(MemoryLimits {
        address_space,
        data,
        data_max,
        stack,
        locked,
    })
}

fn counters(source: &mut Source<'_>) -> Wired<Counters> {
    let [total, locked, data, stack, exec] = source.numbers()?;
    Ok(Counters {
        total,
        locked,
        data,
        stack,
        exec,
    })
}

fn start(source: &mut Source<'_>) -> Wired<StartFacts> {
    let mm = mm(source)?;
    let cause = match source.byte()? {
        0 => Cause::Exec,
        1 => Cause::Resync,
        2 => Cause::Join,
        _ => return Err("an unknown cause"),
    };
    let layout = layout(source)?;
    let limits = limits(source)?;
    let capabilities = source.number()?;
    let count = source.count()?;
    let mut vmas = Vec::new();
    for _ in 0..count {
        vmas.push(vma(source)?);
    }
    Ok(StartFacts {
        mm,
        cause,
        layout,
        limits,
        capabilities,
        vmas,
    })
}

fn layout(source: &mut Source<'_>) -> Wired<LayoutFacts> {
    let direction = match source.byte()? {
        0 => Direction::TopDown,
        1 => Direction::BottomUp,
        _ => return Err("an unknown direction"),
    };
    let gate = match source.byte()? {
        0 => Gate::Absent,
        1 => Gate::ExecuteOnly,
        2 => Gate::Readable,
        _ => return Err("an unknown gate"),
    };
    let values: [u64; 10] = source.numbers()?;
    Ok(LayoutFacts {
        direction,
        gate,
        task_size: values[0],
        mmap_base: values[1],
        legacy_base: values[2],
        start_code: values[3],
        end_code: values[4],
        start_data: values[5],
        end_data: values[6],
        start_brk: values[7],
        brk: values[8],
        start_stack: values[9],
    })
}

fn vma(source: &mut Source<'_>) -> Wired<VmaFacts> {
    let [start, end, page_offset] = source.numbers()?;
    let written = match source.byte()? {
        0 => false,
        1 => true,
        _ => return Err("a flag is neither 0 nor 1"),
    };
    let flags = source.text()?.to_owned();
    let backing = match source.byte()? {
        0 => BackingFacts::Anonymous,
        1 => BackingFacts::File(source.number()?),
        2 => BackingFacts::Special(source.text()?.to_owned()),
        3 => BackingFacts::Named(source.text()?.to_owned()),
        _ => return Err("an unknown backing"),
    };
    Ok(VmaFacts {
        start,
        end,
        flags,
        page_offset,
        backing,
        written,
    })
}

fn call(source: &mut Source<'_>) -> Wired<Call> {
    let tag = source.byte()?;
    let small = |value: i64| i32::try_from(value).map_err(|_| "a number is out of range");
    Ok(match tag {
        0 => {
            let [addr, len, prot, flags, offset] = source.numbers()?;
            let file = match source.number()? {
                0 => CallFile::Anonymous,
                1 => CallFile::Bad,
                2 => CallFile::Open(source.number()?),
                _ => return Err("an unknown kind of descriptor"),
            };
            Call::Mmap {
                addr,
                len,
                prot,
                flags,
                offset,
                file,
            }
        }
        2 => {
            let [addr, len, prot] = source.numbers()?;
            Call::Mprotect { addr, len, prot }
        }
        3 => {
            let [addr, len, prot] = source.numbers()?;
            Call::PkeyMprotect {
                addr,
                len,
                prot,
                pkey: small(source.signed()?)?,
            }
        }
        4 => {
            let [addr, old_len, new_len, flags, new_addr] = source.numbers()?;
            Call::Mremap {
                addr,
                old_len,
                new_len,
                flags,
                new_addr,
            }
        }
        5 => Call::Brk {
            addr: source.number()?,
        },
        6 => {
            let [addr, len] = source.numbers()?;
            Call::Madvise {
                addr,
                len,
                advice: small(source.signed()?)?,
            }
        }
        8 | 13 => {
            let [addr, len, flags] = source.numbers()?;
            if tag == 8 {
                Call::Mlock2 { addr, len, flags }
            } else {
                Call::Mseal { addr, len, flags }
            }
        }
        14 => {
            let [addr, flags] = source.numbers()?;
            Call::Shmat {
                addr,
                flags,
                id: small(source.signed()?)?,
                segment: segment(source)?,
            }
        }
        15 => Call::Shmdt {
            addr: source.number()?,
        },
        16 => {
            let [start, size, prot, page_offset, flags] = source.numbers()?;
            Call::RemapFilePages {
                start,
                size,
                prot,
                page_offset,
                flags,
            }
        }
        17 => {
            let [start, len, mode] = source.numbers()?;
            Call::UffdRegister {
                start,
                len,
                mode,
                watcher: watcher(source)?,
            }
        }
        18 => {
            let [start, len] = source.numbers()?;
            Call::UffdUnregister {
                start,
                len,
                watcher: watcher(source)?,
            }
        }
        19 => {
            let [addr, len, mode, nodes, allowed, flags] = source.numbers()?;
            Call::Mbind {
                addr,
                len,
                mode,
                nodes,
                allowed,
                flags,
            }
        }
        20 => {
            let [addr, len, home] = source.numbers()?;
            let home = home.checked_sub(1).map(u32::try_from).transpose();
            Call::SetHomeNode {
                addr,
                len,
                home: home.map_err(|_| "a number is out of range")?,
            }
        }
        10 => Call::Mlockall {
            flags: source.number()?,
        },
        11 => Call::Munlockall,
        1 | 7 | 9 | 12 => {
            let [addr, len] = source.numbers()?;
            match tag {
                1 => Call::Munmap { addr, len },
                7 => Call::Mlock { addr, len },
                9 => Call::Munlock { addr, len },
                _ => Call::SetVmaName { addr, len },
            }
        }
        40 => Call::Process(ProcessCall::Personality {
            persona: source.number()?,
        }),
        41 => Call::Process(ProcessCall::Prctl {
            option: source.small()?,
            args: source.numbers()?,
        }),
        42 => Call::Process(ProcessCall::Addresses(source.numbers()?)),
        43 => Call::Process(advise(source)?),
        44 | 45 => {
            let [addr, len] = source.numbers()?;
            let name = if tag == 45 {
                Some(Name::new(source.blob()?))
            } else {
                None
            };
            Call::Process(ProcessCall::Name { addr, len, name })
        }
        64 => {
            let [addr, how] = source.numbers()?;
            let how = match how {
                0 => Touch::Read,
                1 => Touch::Write,
                _ => return Err("an unknown way to touch memory"),
            };
            Call::Touch { addr, how }
        }
        65 => {
            let [addr, len, flags] = source.numbers()?;
            Call::Msync { addr, len, flags }
        }
        _ => return Err("an unknown call"),
    })
}

fn segment(source: &mut Source<'_>) -> Wired<CallSegment> {
    Ok(match source.byte()? {
        0 => CallSegment::Absent,
        1 => CallSegment::Removed,
        2 => CallSegment::Known(SegmentFacts {
            id: source.number()?,
            key: source.small()?,
            bytes: source.number()?,
            permitted: source.small()?,
        }),
        _ => return Err("an unknown kind of segment"),
    })
}

fn watcher(source: &mut Source<'_>) -> Wired<Option<WatcherFacts>> {
    Ok(match source.byte()? {
        0 => None,
        1 => Some(WatcherFacts {
            id: source.number()?,
            features: source.number()?,
        }),
        _ => return Err("a userfaultfd is neither there nor not"),
    })
}
