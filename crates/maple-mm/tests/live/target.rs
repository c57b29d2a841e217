//! A process under test, seen from outside: its calls, its `/proc` files, its model's start.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;

use maple_mm::{
    AddressSpace, Backing, Capabilities, Configured, File, FileAccess, FileId, FileKind, FileRef,
    Gate, Layout, Limits, LinuxProfile, MapsLine, Setup, Special, System, SystemSettings, VmFlags,
    VmaSpec,
};

use crate::executor::CHANNELS;

/// One system call as the executor makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) args: [u64; 6],
}

/// An executor process and the channels to it and its forks.
#[derive(Debug)]
pub(crate) struct Target {
    child: Child,
    channels: Vec<UnixStream>,
    /// In the order of `executor::open_files`.
    pub(crate) descriptors: Vec<u64>,
    socket: PathBuf,
    pub(crate) file: PathBuf,
}

impl Target {
    pub(crate) fn start(seed: u64) -> io::Result<Self> {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let name =
            |suffix: &str| directory.join(format!("live-{}-{seed:x}.{suffix}", std::process::id()));
        let (socket, file) = (name("socket"), name("file"));
        fs::File::create(&file)?.set_len(8 << 20)?;
        let listener = UnixListener::bind(&socket)?;
        let child = Command::new(std::env::current_exe()?)
            .env("MAPLE_MM_LIVE_SOCKET", &socket)
            .env("MAPLE_MM_LIVE_FILE", &file)
            .spawn()?;
        let channels: Vec<UnixStream> = (0..CHANNELS)
            .map(|_| Ok(listener.accept()?.0))
            .collect::<io::Result<_>>()?;
        let mut target = Self {
            child,
            channels,
            descriptors: Vec::new(),
            socket,
            file,
        };
        let mut list = [0_u8; 7 * 8];
        target.channels[0].read_exact(&mut list)?;
        target.descriptors = list.chunks_exact(8).map(read_word).collect();
        // The executor still grows its stack; an answer shows that it is waiting.
        target.call(
            0,
            Call {
                number: 39,
                args: [0; 6],
            },
        )?;
        Ok(target)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes a call in the process behind `channel` and gives its raw result.
    pub(crate) fn call(&mut self, channel: usize, call: Call) -> io::Result<i64> {
        let mut message = [0_u8; 56];
        let words = [call.number].into_iter().chain(call.args);
        for (bytes, word) in message.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        self.channels[channel].write_all(&message)?;
        self.answer(channel)
    }

    /// Waits for the answer of the process behind `channel`.
    pub(crate) fn answer(&mut self, channel: usize) -> io::Result<i64> {
        let mut answer = [0_u8; 8];
        self.channels[channel].read_exact(&mut answer)?;
        Ok(i64::from_le_bytes(answer))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Closing the channels ends the executor and its forks.
        self.channels.clear();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
        let _ = fs::remove_file(&self.file);
    }
}

fn read_word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

pub(crate) fn maps(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process is alive")
}

fn status_field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .expect("a status field");
    line.trim_start_matches(':').trim().to_owned()
}

fn capabilities(pid: u32) -> Capabilities {
    let bits = u64::from_str_radix(&status_field(pid, "CapEff"), 16).expect("hexadecimal");
    let mut capabilities = Capabilities::empty();
    capabilities.set(Capabilities::SYS_RAWIO, bits & 1 << 17 != 0);
    capabilities.set(Capabilities::IPC_LOCK, bits & 1 << 14 != 0);
    capabilities.set(Capabilities::SYS_ADMIN, bits & 1 << 21 != 0);
    capabilities
}

fn limits(pid: u32) -> Limits {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let value = |name: &str, column: usize| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("a limit");
        line.split_whitespace()
            .nth(column)
            .and_then(|word| word.parse().ok())
            .unwrap_or(u64::MAX)
    };
    Limits {
        address_space: value("Max address space", 0),
        data: value("Max data size", 0),
        data_max: value("Max data size", 1),
        stack: value("Max stack size", 0),
        memlock: value("Max locked memory", 0),
    }
}

fn number(path: &str) -> u64 {
    fs::read_to_string(path)
        .expect(path)
        .trim()
        .parse()
        .expect("a number")
}

pub(crate) fn settings() -> SystemSettings {
    let memory = fs::read_to_string("/proc/meminfo").expect("meminfo");
    let pages = |name: &str| {
        let line = memory
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("a field");
        line.split_whitespace()
            .next()
            .and_then(|kib| kib.parse::<u64>().ok())
            .expect("kB")
            / 4
    };
    let huge_total = memory
        .lines()
        .find_map(|line| line.strip_prefix("HugePages_Total:"))
        .and_then(|count| count.trim().parse().ok());
    let huge = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    let is_never = huge.map_or(true, |mode| mode.contains("[never]"));
    SystemSettings {
        huge_pages_if_advised: if is_never {
            Configured::No
        } else {
            Configured::Yes
        },
        huge_pages: huge_total.unwrap_or(0),
        max_map_count: number("/proc/sys/vm/max_map_count") as usize,
        mmap_min_addr: number("/proc/sys/vm/mmap_min_addr"),
        ram_pages: pages("MemTotal:"),
        swap_pages: pages("SwapTotal:"),
        ..SystemSettings::default()
    }
}

fn layout(pid: u32, maps: &str, brk: u64) -> Layout {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let after_name = stat.rsplit_once(") ").expect("a name in parentheses").1;
    let fields: Vec<u64> = after_name
        .split(' ')
        .map(|field| field.trim().parse().unwrap_or(0))
        .collect();
    // Fields are numbered from 1 in the manual; the third follows the name.
    let field = |index: usize| fields[index - 3];
    let loader = maps.lines().rfind(|line| line.contains("/ld-linux"));
    let loader = MapsLine::parse(loader.expect("a dynamic program")).expect("a line");
    let gate = maps
        .lines()
        .next_back()
        .map(|line| MapsLine::parse(line).expect("a line"));
    Layout {
        mmap_base: loader.end,
        start_code: field(26),
        end_code: field(27),
        start_stack: field(28),
        start_data: field(45),
        end_data: field(46),
        start_brk: field(47),
        brk,
        gate: match gate {
            Some(line) if line.name != "[vsyscall]" => Gate::Absent,
            Some(line) if line.flags.contains(VmFlags::READ) => Gate::Readable,
            _ => Gate::ExecuteOnly,
        },
        ..Layout::default()
    }
}

fn backing(line: &MapsLine<'_>) -> Backing {
    if line.inode != 0 || line.name.starts_with('/') {
        let file = File {
            // Every file the program starts with was opened on its own.
            id: FileId(0x1000_0000 + line.inode),
            device: line.device,
            inode: line.inode,
            name: line.name.into(),
            kind: FileKind::Regular { huge_aligned: true },
            access: FileAccess::READ,
        };
        return Backing::File(FileRef::new(file).expect("memory"));
    }
    match line.name {
        "[vdso]" | "[vvar]" | "[vvar_vclock]" => {
            Backing::Special(Special::new(line.name).expect("memory"))
        }
        _ => Backing::Anonymous,
    }
}

fn specs(pid: u32) -> Vec<VmaSpec> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("smaps");
    let mut specs: Vec<VmaSpec> = Vec::new();
    for text in smaps.lines() {
        if let Some(words) = text.strip_prefix("VmFlags:") {
            let spec = specs.last_mut().expect("flags follow a mapping");
            spec.flags = VmFlags::from_mnemonics(words).expect("known flags");
        } else if let Some(size) = text.strip_prefix("Anonymous:") {
            let spec = specs.last_mut().expect("sizes follow a mapping");
            spec.written = size.trim() != "0 kB";
        } else if let Ok(line) = MapsLine::parse(text) {
            let is_file = line.inode != 0;
            let bytes = if is_file { line.offset } else { line.start };
            specs.push(VmaSpec {
                start: line.start,
                end: line.end,
                flags: line.flags,
                page_offset: bytes / 4096,
                backing: backing(&line),
                written: false,
            });
        }
    }
    specs.retain(|spec| spec.end <= Layout::default().task_size);
    specs
}

/// A model that starts as the process stands.
pub(crate) fn model(target: &mut Target) -> AddressSpace {
    let pid = target.pid();
    let brk = target
        .call(
            0,
            Call {
                number: 12,
                args: [0; 6],
            },
        )
        .expect("an answer");
    let setup = Setup {
        system: Arc::new(System::new(settings())),
        profile: LinuxProfile::V6_18,
        layout: layout(pid, &maps(pid), brk as u64),
        limits: limits(pid),
        capabilities: capabilities(pid),
        ..Setup::default()
    };
    AddressSpace::from_layout(setup, specs(pid)).expect("the kernel's maps are well-formed")
}
