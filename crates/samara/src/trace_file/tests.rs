//! Round trips, and files damaged at every position.

use super::*;
use crate::call::{Call, CallFile, CallSegment, SegmentFacts, Touch, WatcherFacts};
use crate::event::*;
use crate::process_call::{ADDRESSES, Name, ProcessCall, Ranges};
use crate::procfs::MemoryLimits;
use maple_mm::AdvisedRange;

fn limits() -> MemoryLimits {
    MemoryLimits {
        address_space: u64::MAX,
        data: 1,
        data_max: 2,
        stack: 8 << 20,
        locked: 0,
    }
}

fn start_facts() -> StartFacts {
    let vma = |start: u64, backing| VmaFacts {
        start,
        end: start + 0x1000,
        flags: "rd wr mr mw me ac".to_owned(),
        page_offset: start >> 12,
        backing,
        written: start & 0x1000 != 0,
    };
    StartFacts {
        mm: MmId(3),
        cause: Cause::Exec,
        layout: LayoutFacts {
            task_size: 0x7fff_ffff_f000,
            mmap_base: 0x7f00_0000_0000,
            legacy_base: 0x2aaa_0000_0000,
            direction: Direction::TopDown,
            start_code: 1,
            end_code: 2,
            start_data: 3,
            end_data: 4,
            start_brk: 5,
            brk: 6,
            start_stack: 7,
            gate: Gate::ExecuteOnly,
        },
        limits: limits(),
        capabilities: capability::MEMORY,
        vmas: vec![
            vma(0x1000, BackingFacts::Anonymous),
            vma(0x4000, BackingFacts::File(9)),
            vma(0x8000, BackingFacts::Special("[vdso]".to_owned())),
            vma(0xa000, BackingFacts::Named("[anon:arena]".to_owned())),
        ],
    }
}

fn system_facts() -> SystemFacts {
    SystemFacts {
        version: (6, 18),
        max_map_count: 65530,
        stack_guard_gap_pages: 256,
        mmap_min_addr: 4096,
        lsm_mmap_min_addr: 65536,
        overcommit_mode: 0,
        overcommit_ratio: 50,
        overcommit_pages: 0,
        ram_pages: 1 << 20,
        swap_pages: 0,
        hugetlb_pages: 0,
        admin_reserve_pages: 2048,
        user_reserve_pages: 4096,
        committed_pages: 12345,
    }
}

fn calls() -> Vec<Call> {
    let (addr, len, prot, flags) = (0x7000, u64::MAX, 3, 0x22);
    vec![
        Call::Mmap {
            addr,
            len,
            prot,
            flags,
            offset: 0,
            file: CallFile::Anonymous,
        },
        Call::Mmap {
            addr,
            len,
            prot,
            flags: 2,
            offset: 4096,
            file: CallFile::Open(77),
        },
        Call::Mmap {
            addr,
            len,
            prot,
            flags: 2,
            offset: 4096,
            file: CallFile::Bad,
        },
        Call::Munmap { addr, len },
        Call::Mprotect { addr, len, prot },
        Call::PkeyMprotect {
            addr,
            len,
            prot,
            pkey: -1,
        },
        Call::Mremap {
            addr,
            old_len: 1,
            new_len: 2,
            flags: 3,
            new_addr: 4,
        },
        Call::Brk { addr },
        Call::Madvise {
            addr,
            len,
            advice: -4,
        },
        Call::Mlock { addr, len },
        Call::Mlock2 {
            addr,
            len,
            flags: 1,
        },
        Call::Munlock { addr, len },
        Call::Mlockall { flags: 3 },
        Call::Munlockall,
        Call::Mseal {
            addr,
            len,
            flags: 0,
        },
        Call::SetVmaName { addr, len },
        Call::Process(ProcessCall::Personality { persona: addr }),
        Call::Process(ProcessCall::Prctl {
            option: 35,
            args: [1, addr, 0, len],
        }),
        Call::Process(ProcessCall::Addresses([addr; ADDRESSES])),
        Call::Process(ProcessCall::Advise {
            ranges: Ranges::new(&[AdvisedRange { addr, len }; 8]).unwrap(),
            advice: -1,
        }),
        Call::Process(ProcessCall::Name {
            addr,
            len,
            name: None,
        }),
        Call::Process(ProcessCall::Name {
            addr,
            len,
            name: Some(Name::new(b"\xff a\0b")),
        }),
        Call::Shmat {
            id: -1,
            addr,
            flags: 0x7000,
            segment: CallSegment::Absent,
        },
        Call::Shmat {
            id: 7,
            addr,
            flags: 0,
            segment: CallSegment::Removed,
        },
        Call::Shmat {
            id: 7,
            addr,
            flags: 0,
            segment: CallSegment::Known(SegmentFacts {
                id: 7,
                key: u32::MAX,
                bytes: 1 << 40,
                permitted: 6,
            }),
        },
        Call::Shmdt { addr },
        Call::Mbind {
            addr,
            len,
            mode: 2,
            nodes: 1,
            allowed: 3,
            flags: 4,
        },
        Call::SetHomeNode {
            addr,
            len,
            home: None,
        },
        Call::SetHomeNode {
            addr,
            len,
            home: Some(u32::MAX),
        },
        Call::RemapFilePages {
            start: addr,
            size: len,
            prot,
            page_offset: 9,
            flags,
        },
        Call::UffdRegister {
            start: addr,
            len,
            mode: 7,
            watcher: None,
        },
        Call::UffdUnregister {
            start: addr,
            len,
            watcher: Some(WatcherFacts {
                id: 12,
                features: 1 << 15,
            }),
        },
        Call::Msync {
            addr,
            len,
            flags: 4,
        },
        Call::Touch {
            addr,
            how: Touch::Read,
        },
        Call::Touch {
            addr,
            how: Touch::Write,
        },
    ]
}

fn sample() -> Vec<Event> {
    let mm = MmId(3);
    let facts = FileFacts {
        id: 9,
        device: (0xfe, 0),
        inode: 77,
        name: "/usr/lib/libc.so.6".to_owned(),
        class: FileClass::HugeAligned,
        access: access::READABLE | access::NO_EXEC,
    };
    let mut events = vec![
        Event::System(system_facts()),
        Event::Profile(ProfileFacts(0x1357)),
        Event::File(facts.clone()),
        Event::Start(Box::new(start_facts())),
        Event::State {
            mm,
            text: "one\ntwo\nthree\n".to_owned(),
        },
        Event::Limits {
            mm,
            limits: limits(),
        },
        Event::Capabilities {
            mm,
            capabilities: 1,
        },
        Event::Write { mm, addr: 0x1000 },
        Event::LowBase {
            mm,
            addr: 0x4000_1000,
        },
        Event::Base {
            mm,
            addr: 0x7fff_0000_1000,
        },
        Event::Break {
            mm,
            addr: 0x5555_0000_1001,
        },
        Event::MissingPage {
            mm,
            addr: 0x5555_0000_2000,
            is_guard: false,
        },
        Event::MissingPage {
            mm,
            addr: 0x5555_0000_3000,
            is_guard: true,
        },
        Event::SharedInode {
            mm,
            addr: 0x1000,
            facts,
        },
    ];
    events.extend(calls().into_iter().map(|call| Event::Call {
        mm,
        call,
        result: -12,
    }));
    events.extend([
        Event::State {
            mm,
            text: "one\n2\nthree\n".to_owned(),
        },
        Event::Fork {
            parent: mm,
            child: MmId(4),
        },
        Event::State {
            mm: MmId(4),
            text: "one\n2\nthree\nfour\n".to_owned(),
        },
        Event::State {
            mm: MmId(4),
            text: String::new(),
        },
        Event::NotModelled {
            mm,
            name: "shmat".to_owned(),
        },
        Event::Process {
            mm,
            facts: ProcessFacts {
                peak_pages: 1,
                locked_pages: 2,
                personality: 3,
                flags: 4,
                arguments: (5, 6),
                environment: (7, 8),
            },
        },
        Event::Details {
            mm,
            text: "VmPeak: 12 kB\n".to_owned(),
        },
        Event::File(FileFacts {
            id: 10,
            device: (0, 1),
            inode: 7,
            name: "/SYSV00000000 (deleted)".to_owned(),
            class: FileClass::SystemV(12_388),
            access: access::READABLE | access::WRITE_SEALED,
        }),
        Event::WatcherClosed { mm, id: 12 },
        Event::Flags {
            mm,
            text: "1000-2000 rd wr\n".to_owned(),
        },
        Event::Counters {
            mm,
            counters: Counters {
                total: 5,
                locked: 4,
                data: 3,
                stack: 2,
                exec: 1,
            },
        },
        Event::PredictReads,
        Event::Gone { mm },
    ]);
    events
}

fn encoded(events: &[Event]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for event in events {
        writer.event(event).unwrap();
    }
    writer.finish().unwrap()
}

fn decoded(bytes: &[u8]) -> Result<Vec<Event>, TraceError> {
    let mut reader = Reader::new(bytes)?;
    let mut events = Vec::new();
    while let Some(event) = reader.next_event()? {
        events.push(event);
    }
    Ok(events)
}

#[test]
fn what_is_written_is_read_back() {
    assert_eq!(decoded(&encoded(&sample())).unwrap(), sample());
}

#[test]
fn many_blocks_are_read_back() {
    let text = |n: u64| Event::NotModelled {
        mm: MmId(0),
        name: format!("{:x}", n * 0x9e37_79b9),
    };
    let events: Vec<Event> = (0..60_000).map(text).collect();
    let bytes = encoded(&events);
    assert_eq!(decoded(&bytes).unwrap(), events);
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = encoded(&sample());
    for end in 0..bytes.len() {
        assert!(decoded(&bytes[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn a_byte_changed_anywhere_is_refused() {
    let bytes = encoded(&sample());
    for at in 0..bytes.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= change;
            // A changed byte may be padding of the deflate stream: then nothing is lost.
            if let Ok(events) = decoded(&damaged) {
                assert_eq!(events, sample(), "byte {at} changed by {change:#x}");
            }
        }
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    let mut bytes = encoded(&sample());
    bytes.push(0);
    assert_eq!(decoded(&bytes), Err(TraceError::Trailing));
}

#[test]
fn foreign_files_are_named_as_such() {
    assert_eq!(decoded(b""), Err(TraceError::Foreign));
    assert_eq!(
        decoded(b"\x7fELF\x02\x01\x01\x00\x00\x00\x00"),
        Err(TraceError::Foreign)
    );
    let mut newer = encoded(&sample());
    newer[8] = 2;
    assert_eq!(decoded(&newer), Err(TraceError::Version(2)));
}

/// Records with a right checksum but senseless contents: a hostile file, not a damaged one.
#[test]
fn hostile_records_neither_panic_nor_allocate() {
    let raw = encoded(&sample());
    let mut reader = Reader::new(&raw[..]).unwrap();
    reader.next_event().unwrap();
    let block = reader.block.clone();
    for at in 0..block.len() {
        for change in [0x01, 0x40, 0x80, 0xff] {
            let mut damaged = block.clone();
            damaged[at] ^= change;
            let mut source = wire::Source { bytes: &damaged };
            let mut states = States::default();
            while !source.bytes.is_empty() && decode::event(&mut source, &mut states).is_ok() {}
        }
    }
}

/// Some kilobytes of file that would be many gigabytes if every fork copied its parent's state.
#[test]
fn a_fork_copies_no_state() {
    const LENGTH: usize = 8 << 20;
    let (parent, text) = (MmId(0), "a".repeat(LENGTH));
    let mut events = vec![Event::State { mm: parent, text }];
    events.extend((1..=3000).map(|n| Event::Fork {
        parent,
        child: MmId(n),
    }));
    let bytes = encoded(&events);
    assert!(bytes.len() < 64 << 10);
    let mut reader = Reader::new(&bytes[..]).unwrap();
    let mut count = 0;
    while reader.next_event().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, events.len());
    assert_eq!(
        (reader.states.texts.len(), reader.states.bytes),
        (3001, LENGTH)
    );
}

#[test]
fn what_the_states_take_is_bounded() {
    let mut states = States::default();
    let long = "a".repeat(STATE_MAX + 1);
    assert!(states.put(MmId(0), long.as_str().into()).is_err());
    let delta = |middle| StateDelta {
        kept_before: 0,
        kept_after: 0,
        middle,
    };
    assert!(states.rebuild(MmId(0), &delta(&long)).is_err());
    states.put(MmId(0), "abc".into()).unwrap();
    states.forked(MmId(0), MmId(1)).unwrap();
    states.forked(MmId(1), MmId(1)).unwrap();
    states.remove(MmId(0));
    assert_eq!(states.bytes, 3);
    states.put(MmId(1), "abcd".into()).unwrap();
    assert_eq!(states.bytes, 4);
    states.bytes = STATES_MAX;
    assert!(states.put(MmId(2), "a".into()).is_err());
    states.bytes = 4;
    for n in 1..SPACES_MAX as u32 {
        states.started(MmId(n)).unwrap();
    }
    states.forked(MmId(1), MmId(0)).unwrap();
    assert!(states.forked(MmId(1), MmId(u32::MAX)).is_err());
}
