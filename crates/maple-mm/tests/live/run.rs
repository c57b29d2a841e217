//! Drives a child and its model side by side and compares.

use std::collections::VecDeque;
use std::fs;

use maple_mm::{AddressSpace, Backing, File, FileId, FileKind, FileRef, MapsLine, VmFlags, abi};

use crate::apply::{Files, apply, number, request};
use crate::generate::Generator;
use crate::target::{Call, Target, maps, model};

/// What a process may use and is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    /// As this test was started; under root without limits.
    Inherited,
    /// No privileges, little to lock, little data.
    Limited,
    /// As `Limited`, and hardly any address space.
    Tight,
}

/// What was done, to be told when something diverges.
struct Log {
    seed: u64,
    lines: VecDeque<String>,
}

impl Log {
    /// Remembers one more call; only the last few, unless `MAPLE_MM_LIVE_HISTORY` is set.
    fn push(&mut self, line: String) {
        self.lines.push_back(line);
        if self.lines.len() > 12 && std::env::var_os("MAPLE_MM_LIVE_HISTORY").is_none() {
            self.lines.pop_front();
        }
    }
}

/// One process and its model.
struct Side {
    pid: u32,
    channel: usize,
    space: AddressSpace,
    files: Files,
    generator: Generator,
}

/// Runs every configuration.
pub(crate) fn all(seed: Option<u64>, calls: Option<u64>) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if !release.starts_with("6.18.") {
        println!("live: skipped, the model's profile is 6.18 and this kernel is {release}");
        return;
    }
    let calls = calls.unwrap_or(2000);
    let seeds = seed.map_or_else(|| (1..=4).collect(), |seed| vec![seed]);
    for seed in seeds {
        for rights in [Rights::Inherited, Rights::Limited, Rights::Tight] {
            let forks = run(seed, rights, calls);
            println!("live: seed {seed}, {rights:?}: {calls} calls, {forks} forks, identical");
        }
    }
}

fn restrict(target: &mut Target, rights: Rights) {
    let pid = target.pid().to_string();
    let limits = match rights {
        Rights::Inherited => return,
        Rights::Limited => [
            "--memlock=393216",
            "--data=67108864",
            "--stack=4194304",
            "--as=-1",
        ],
        Rights::Tight => [
            "--memlock=40960",
            "--data=1048576",
            "--stack=1048576",
            "--as=16777216",
        ],
    };
    let status = std::process::Command::new("prlimit")
        .args(["--pid", &pid])
        .args(limits)
        .status();
    if !status.is_ok_and(|status| status.success()) {
        println!("live: prlimit is absent, limits are as inherited");
    }
    let nobody = 65534;
    // setresgid, setresuid: without effect where the test has no privileges to give up.
    for call in [119, 117] {
        let args = [nobody, nobody, nobody, 0, 0, 0];
        let _ = target.call(0, Call { number: call, args });
    }
}

fn run(seed: u64, rights: Rights, calls: u64) -> usize {
    let mut target = Target::start(seed).expect("the executor starts");
    restrict(&mut target, rights);
    let space = model(&mut target);
    let generator = Generator::new(seed ^ ((rights as u64) << 32), &space, &target.descriptors);
    let files = Files::new(&target.descriptors);
    let side = Side {
        pid: target.pid(),
        channel: 0,
        space,
        files,
        generator,
    };
    let mut sides = vec![side];
    learn_files(&mut target, &mut sides[0]);
    let mut log = Log {
        seed,
        lines: VecDeque::new(),
    };
    check(&sides[0], &log);
    for step in 0..calls {
        let index = step as usize / 7 % sides.len();
        if sides.len() < crate::executor::CHANNELS && sides[index].generator.rng().one_in(400) {
            let channel = sides.len();
            let child = fork(&mut target, &mut sides[index], channel);
            log.push(format!("{step}: fork of {index}"));
            sides.push(child);
            check(&sides[sides.len() - 1], &log);
        }
        let side = &mut sides[index];
        let call = side.generator.call(&side.space);
        step_both(&mut target, side, call, &mut log);
        let side = &sides[index];
        if step % 16 == 0 || std::env::var_os("MAPLE_MM_LIVE_STRICT").is_some() {
            check_flags(side, &log);
        }
    }
    sides.len() - 1
}

fn step_both(target: &mut Target, side: &mut Side, call: Call, log: &mut Log) {
    let kernel = target
        .call(side.channel, call)
        .expect("the executor answers");
    if call.number == number::MMAP && kernel > 0 {
        side.space
            .learn_low_base(&request(&side.files, call), kernel as u64);
    }
    let before = side.space.snapshot();
    let ours = apply(&mut side.space, &side.files, call);
    log.push(format!("{} {} -> {kernel:#x}", side.channel, show(call)));
    if kernel != ours && !is_beyond_model(&before, call, kernel) {
        report(side, log);
        panic!("{}: kernel {kernel:#x}, model {ours:#x}", show(call));
    }
    learn_inode(side, call, kernel);
    if let Err(violation) = side.space.validate() {
        report(side, log);
        panic!("{}: {violation}", show(call));
    }
    check(side, log);
}

/// Results that depend on pages, which the model does not have: guard pages and the end of files.
fn is_beyond_model(space: &AddressSpace, call: Call, kernel: i64) -> bool {
    let [a, b, ..] = call.args;
    let has_pages = |vma: &maple_mm::VmaRef| {
        vma.flags().contains(VmFlags::MAYBE_GUARD) || !matches!(vma.backing(), Backing::Anonymous)
    };
    match call.number {
        number::READ | number::PWRITE => kernel == -14 && space.vma_at(b).is_some_and(has_pages),
        number::MLOCK | number::MLOCK2 => {
            matches!(kernel, -12 | -11) && space.vmas_in(a..a.saturating_add(b)).any(has_pages)
        }
        number::MADVISE => {
            matches!(
                call.args[2] as i32,
                abi::MADV_POPULATE_READ | abi::MADV_POPULATE_WRITE
            ) && kernel == -14
                && space.vmas_in(a..a.saturating_add(b)).any(has_pages)
        }
        _ => false,
    }
}

fn learn_inode(side: &mut Side, call: Call, result: i64) {
    if call.number != number::MMAP || result < 0 {
        return;
    }
    let at = result as u64;
    let unknown = side
        .space
        .vma_at(at)
        .and_then(|vma| vma.file())
        .filter(|file| file.id.0 & FileId::MODEL_BIT != 0 && file.inode == 0);
    let Some(file) = unknown.cloned() else { return };
    let text = maps(side.pid);
    let lines = text.lines().filter_map(|line| MapsLine::parse(line).ok());
    let mut lines = lines;
    let Some(line) = lines.find(|line| line.start <= at && at < line.end) else {
        return;
    };
    let known = File {
        inode: line.inode,
        device: line.device,
        ..(*file).clone()
    };
    side.space
        .set_file(file.id, &FileRef::new(known).expect("memory"))
        .expect("memory");
}

/// Maps each file once to learn its name, device and inode.
fn learn_files(target: &mut Target, side: &mut Side) {
    for (descriptor, file) in &mut side.files.0 {
        if !file.access.contains(maple_mm::FileAccess::READ) {
            continue;
        }
        let mapping = [0, 4096, 1, abi::MAP_PRIVATE, *descriptor, 0];
        let call = |number, args| Call { number, args };
        let at = target
            .call(0, call(number::MMAP, mapping))
            .expect("an answer") as u64;
        let text = maps(side.pid);
        let mut lines = text.lines().filter_map(|line| MapsLine::parse(line).ok());
        let line = lines
            .find(|line| line.start <= at && at < line.end)
            .expect("just mapped");
        let known = File {
            device: line.device,
            inode: line.inode,
            name: line.name.into(),
            ..(**file).clone()
        };
        *file = FileRef::new(known).expect("memory");
        target
            .call(0, call(number::MUNMAP, [at, 4096, 0, 0, 0, 0]))
            .expect("an answer");
    }
    debug_assert!(
        side.files
            .0
            .iter()
            .any(|(_, file)| file.kind == FileKind::DevZero)
    );
}

fn fork(target: &mut Target, side: &mut Side, channel: usize) -> Side {
    let call = Call {
        number: number::FORK,
        args: [channel as u64, 0, 0, 0, 0, 0],
    };
    let pid = target.call(side.channel, call).expect("an answer");
    assert_eq!(
        target.answer(channel).expect("an answer"),
        0,
        "the child answers"
    );
    let space = side.space.fork().expect("memory for a child");
    Side {
        pid: u32::try_from(pid).expect("fork succeeds"),
        channel,
        space,
        files: side.files.clone(),
        generator: side.generator.fork(),
    }
}

fn show(call: Call) -> String {
    let name = match call.number {
        number::READ => "touch-write",
        number::PWRITE => "touch-read",
        number::MMAP => "mmap",
        number::MPROTECT => "mprotect",
        number::MUNMAP => "munmap",
        number::BRK => "brk",
        number::MREMAP => "mremap",
        number::MSYNC => "msync",
        number::MADVISE => "madvise",
        number::MLOCK => "mlock",
        number::MUNLOCK => "munlock",
        number::MLOCKALL => "mlockall",
        number::MUNLOCKALL => "munlockall",
        number::MLOCK2 => "mlock2",
        number::MSEAL => "mseal",
        _ => "?",
    };
    let [a, b, c, d, e, f] = call.args;
    format!("{name}({a:#x}, {b:#x}, {c:#x}, {d:#x}, {e:#x}, {f:#x})")
}

fn text_of(space: &AddressSpace) -> String {
    let mut text = String::new();
    space
        .write_maps(&mut text)
        .expect("a string takes everything");
    text
}

fn check(side: &Side, log: &Log) {
    let (kernel, ours) = (maps(side.pid), text_of(&side.space));
    if kernel != ours {
        report(side, log);
        differences(&kernel, &ours);
        panic!("maps differ");
    }
}

fn differences(kernel: &str, ours: &str) {
    for line in kernel
        .lines()
        .filter(|line| !ours.lines().any(|other| other == *line))
    {
        eprintln!("  kernel  {line}");
    }
    for line in ours
        .lines()
        .filter(|line| !kernel.lines().any(|other| other == *line))
    {
        eprintln!("  model   {line}");
    }
}

fn check_flags(side: &Side, log: &Log) {
    let smaps = fs::read_to_string(format!("/proc/{}/smaps", side.pid)).expect("smaps");
    let kernel: Vec<&str> = smaps
        .lines()
        .filter_map(|line| line.strip_prefix("VmFlags: "))
        .collect();
    let ours: Vec<(u64, String)> = side
        .space
        .vmas()
        .map(|vma| (vma.start(), vma.flags().mnemonics()))
        .collect();
    for (kernel, (start, ours)) in kernel.iter().zip(ours) {
        if *kernel != ours {
            report(side, log);
            panic!("flags at {start:#x}: kernel {kernel}, model {ours}");
        }
    }
    check_counters(side, log);
}

fn check_counters(side: &Side, log: &Log) {
    let status = fs::read_to_string(format!("/proc/{}/status", side.pid)).expect("status");
    let statistics = side.space.statistics();
    for (name, pages) in [
        ("VmSize:", statistics.total_vm),
        ("VmLck:", statistics.locked_vm),
        ("VmData:", statistics.data_vm),
        ("VmStk:", statistics.stack_vm),
    ] {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect(name);
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("kB");
        if kib != pages * 4 {
            report(side, log);
            panic!("{name} kernel {kib} kB, model {} kB", pages * 4);
        }
    }
}

fn report(side: &Side, log: &Log) {
    eprintln!("diverged: seed {}, process {}", log.seed, side.pid);
    for line in &log.lines {
        eprintln!("  {line}");
    }
    let text = text_of(&side.space);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("/usr/lib"))
        .collect();
    eprintln!("{}", lines.join("\n"));
}
