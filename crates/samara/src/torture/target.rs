//! The tortured processes seen from outside: one that was started, and those it forked.

use std::ffi::CStr;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{FcntlArg, SealFlag, fcntl, posix_fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::executor::{FIRST_DESCRIPTOR, MESSAGES, MOST_DESCRIPTORS, PAYLOAD_WORDS, WORDS};
use super::kinds;
use crate::decode::{self, AnonymousNames, Request};
use crate::kernel::HeldSegment;
use crate::means;
use crate::ptrace::{Registers, Tid};

/// How many processes one family may have at once.
const MOST_PROCESSES: usize = 4;
/// How many a family may have one after another: each has a socket of its own, as one that ends
/// might still read what its successor is told.
const SOCKETS: usize = 32;
/// However long a call takes, no answer for so long means that there is none.
const PATIENCE: Duration = Duration::from_secs(60);
/// The length of each file that can be mapped.
pub(crate) const FILE_LEN: u64 = FILE_MIB << 20;
const FILE_MIB: u64 = 8;

/// A system call as the executor makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Raw {
    pub(crate) number: u64,
    pub(crate) args: [u64; 6],
    /// Memory that arguments may point to: it lies at `executor::PAYLOAD` during the call.
    pub(crate) payload: [u64; PAYLOAD_WORDS],
}

impl Raw {
    /// A call with up to six arguments, the others being 0.
    pub(crate) fn new<const N: usize>(number: i64, arguments: [u64; N]) -> Self {
        let mut args = [0; 6];
        args[..N].copy_from_slice(&arguments);
        Self {
            number: number.cast_unsigned(),
            args,
            payload: [0; PAYLOAD_WORDS],
        }
    }

    /// `madvise`.
    pub(crate) fn advise(addr: u64, len: u64, advice: i32) -> Self {
        // As a program passes an `int`.
        let advice = u64::from(advice.cast_unsigned());
        Self::new(libc::SYS_madvise, [addr, len, advice])
    }

    /// The same with memory to point to.
    pub(crate) fn with<const N: usize>(mut self, payload: [u64; N]) -> Self {
        self.payload[..N].copy_from_slice(&payload);
        self
    }
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registers = Registers {
            number: self.number,
            arguments: self.args,
        };
        let [a, b, c, d, e, f6] = self.args;
        if let Some(call) = kinds::watching(self) {
            return write!(f, "{call} of descriptor {a}");
        }
        match decode::request(0, &registers, AnonymousNames::Absent) {
            Request::Memory(call, Some(descriptor)) => {
                write!(f, "{call} of descriptor {descriptor}")
            }
            Request::Memory(call, None) => call.fmt(f),
            _ => match self.number.cast_signed() {
                libc::SYS_read => write!(f, "read({a}, {b:#x}, {c:#x})"),
                libc::SYS_pwrite64 => write!(f, "pwrite64({a}, {b:#x}, {c:#x}, {d:#x})"),
                libc::SYS_msync => write!(f, "msync({a:#x}, {b:#x}, {c:#x})"),
                other => write!(
                    f,
                    "call {other}({a:#x}, {b:#x}, {c:#x}, {d:#x}, {e:#x}, {f6:#x})"
                ),
            },
        }
    }
}

/// What a descriptor of the pool is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `/dev/zero`: reading from it writes memory.
    Zero,
    /// A file in memory: writing to it reads memory.
    Memory,
    /// Any other that may be mapped, or not.
    Other,
}

/// Open files of ours that the executor gets.
#[derive(Debug)]
pub(crate) struct Pool {
    files: Vec<(Purpose, OwnedFd)>,
    segments: Vec<HeldSegment>,
}

impl Pool {
    /// Opens them. Nothing is left of them in the file system.
    ///
    /// # Errors
    ///
    /// If there is no directory for temporary files, or no room in it; if limits leave no room.
    pub(crate) fn open() -> Result<Self> {
        const AGAIN: &str = "cannot open a file once more";
        let both = || OpenOptions::new().read(true).write(true).clone();
        let regular = unlinked_file()?;
        let again =
            |options: &OpenOptions| options.open(format!("/proc/self/fd/{}", regular.as_raw_fd()));
        let memory = file_in_memory(c"torture", MFdFlags::MFD_CLOEXEC)?;
        let zero = both().open("/dev/zero").context("cannot open /dev/zero")?;
        let (reading, writing) = (
            again(OpenOptions::new().read(true)).context(AGAIN)?,
            again(OpenOptions::new().write(true)).context(AGAIN)?,
        );
        let second = again(&both()).context(AGAIN)?;
        let duplicate = regular.try_clone().context(AGAIN)?;
        let directory = File::open("/").context("cannot open /")?;
        let sealed = sealed_file()?;
        let other = [
            regular, duplicate, reading, second, writing, directory, sealed,
        ];
        let mut files = vec![
            (Purpose::Zero, zero.into()),
            (Purpose::Memory, memory.into()),
        ];
        files.extend(other.map(|file| (Purpose::Other, file.into())));
        let segments = kinds::hold_segments()?;
        Ok(Self { files, segments })
    }

    /// The System V segments.
    pub(crate) fn segments(&self) -> &[HeldSegment] {
        &self.segments
    }

    /// What each is good for, and its descriptor here.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Purpose, &OwnedFd)> {
        self.files.iter().map(|(purpose, file)| (*purpose, file))
    }
}

/// A file in memory.
fn file_in_memory(name: &CStr, flags: MFdFlags) -> Result<File> {
    let made = || -> io::Result<File> {
        let file = File::from(memfd_create(name, flags)?);
        file.set_len(FILE_LEN)?;
        Ok(file)
    };
    made().with_context(|| format!("cannot make a file of {FILE_MIB} MiB in memory"))
}

/// A file in memory that may not be written through new mappings.
fn sealed_file() -> Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = file_in_memory(c"sealed", flags)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_FUTURE_WRITE))?;
    Ok(file)
}

/// A file on a disk that has no name any more. The disk has room for all of it: otherwise a page
/// could not be written later, and the kernel would refuse what the model says it does.
fn unlinked_file() -> Result<File> {
    let directory = std::env::temp_dir();
    let path = directory.join(format!("samara-torture-{}", std::process::id()));
    let shown = directory.display();
    // Threads of one run take turns in a moment; another process has another number.
    static NAMES: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    let _held = NAMES.lock();
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).open(&path);
    let file = file.with_context(|| {
        format!("cannot create a file in {shown} (another directory can be named by TMPDIR)")
    })?;
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    posix_fallocate(&file, 0, FILE_LEN.cast_signed()).with_context(|| {
        format!(
            "cannot reserve {FILE_MIB} MiB in {shown} (another directory can be named by TMPDIR)"
        )
    })?;
    Ok(file)
}

/// A process of the family: who it is, and the socket to it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) pid: Tid,
    channel: usize,
}

/// A family of processes.
#[derive(Debug)]
pub(crate) struct Target {
    child: Child,
    sockets: Vec<UnixStream>,
    /// The first socket that was not answered yet.
    unused: usize,
    alive: usize,
}

impl Target {
    /// Starts a process and hands the pool over. It has all its own mappings still.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub(crate) fn start(pool: &Pool) -> Result<(Self, Member)> {
        let pairs = (0..SOCKETS).map(|_| UnixStream::pair());
        let pairs: io::Result<Vec<_>> = pairs.collect();
        let pairs = pairs.context("cannot make the sockets to a process to torture")?;
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        for our in &ours {
            our.set_read_timeout(Some(PATIENCE))?;
        }
        // Nothing of the environment and the place of this program shall move its stack.
        let child = Command::new("/proc/self/exe")
            .arg("torture-child")
            .env_clear()
            // What the C library leaves with the kernel would be looked for after it is gone.
            .env("GLIBC_TUNABLES", "glibc.pthread.rseq=0")
            .current_dir("/")
            // What a terminal sends to us is not for it.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs[0].try_clone()?)))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| means::not_started("a process to torture", error))?;
        // From here on it ends with this value.
        let pid = child.id();
        let mut target = Self {
            child,
            sockets: ours,
            unused: 1,
            alive: 1,
        };
        let mut handed: Vec<i32> = theirs.iter().map(AsRawFd::as_raw_fd).collect();
        handed.extend(pool.iter().map(|(_, file)| file.as_raw_fd()));
        ensure!(handed.len() <= MOST_DESCRIPTORS, "too many descriptors");
        let rights = [ControlMessage::ScmRights(&handed)];
        let socket = target.sockets[0].as_raw_fd();
        let word = [IoSlice::new(b"!")];
        sendmsg::<()>(socket, &word, &rights, MsgFlags::empty(), None)
            .context("cannot hand files to a process to torture")?;
        // While these are open here nobody would hear that the process ended.
        drop(theirs);
        let member = Member {
            pid: Tid::try_from(pid).context("a process id is no number")?,
            channel: 0,
        };
        // An answer shows that it is in its loop.
        let answer = target.call(&member, &Raw::new(libc::SYS_getpid, []));
        let answer = answer.context("a process to torture ended at once; it may have said why")?;
        ensure!(
            answer == i64::from(member.pid),
            "the process to torture does not know itself"
        );
        Ok((target, member))
    }

    /// The executor's descriptor of the pool's file number `index`.
    pub(crate) fn descriptor(index: usize) -> u64 {
        // The sockets come first.
        u64::from(FIRST_DESCRIPTOR) + (SOCKETS + index) as u64
    }

    /// Makes a call in `member` and gives its raw result.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub(crate) fn call(&mut self, member: &Member, raw: &Raw) -> io::Result<i64> {
        self.send(member.channel, raw, 0)?;
        self.answer(member.channel)
    }

    /// Makes a few calls in `member` one after another; their raw results.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub(crate) fn calls(&mut self, member: &Member, raws: &[Raw]) -> io::Result<Vec<i64>> {
        for raw in raws {
            self.send(member.channel, raw, 0)?;
        }
        raws.iter().map(|_| self.answer(member.channel)).collect()
    }

    fn send(&mut self, channel: usize, raw: &Raw, of_child: u64) -> io::Result<()> {
        let mut message = [0_u8; WORDS * 8];
        let words = [raw.number].into_iter().chain(raw.args).chain([of_child]);
        let words = words.chain(raw.payload);
        for (bytes, word) in message.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        self.sockets[channel].write_all(&message)
    }

    fn answer(&mut self, channel: usize) -> io::Result<i64> {
        let mut answer = [0_u8; 8];
        self.sockets[channel].read_exact(&mut answer)?;
        Ok(i64::from_le_bytes(answer))
    }

    /// Whether there may be one more process.
    pub(crate) const fn may_fork(&self) -> bool {
        self.alive < MOST_PROCESSES && self.unused < SOCKETS
    }

    /// Forks `member`: the child, or the result of a fork that the kernel refused; `None` where
    /// there may be no more processes.
    ///
    /// # Errors
    ///
    /// If a process is gone.
    pub(crate) fn fork(&mut self, member: &Member) -> io::Result<Option<Result<Member, i64>>> {
        if !self.may_fork() {
            return Ok(None);
        }
        let channel = self.unused;
        let of_child = u64::from(FIRST_DESCRIPTOR) + channel as u64;
        self.send(member.channel, &Raw::new(libc::SYS_fork, []), of_child)?;
        let result = self.answer(member.channel)?;
        match Tid::try_from(result) {
            Ok(pid) if pid > 0 => {
                // The child's own answer: it is in its loop.
                self.answer(channel)?;
                self.unused += 1;
                self.alive += 1;
                Ok(Some(Ok(Member { pid, channel })))
            }
            _ => Ok(Some(Err(result))),
        }
    }

    /// Ends `member`.
    ///
    /// # Errors
    ///
    /// If it is gone already.
    pub(crate) fn end(&mut self, member: &Member) -> io::Result<()> {
        self.send(member.channel, &Raw::new(libc::SYS_exit_group, []), 0)?;
        self.alive -= 1;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Without their sockets the executor and its children end.
        self.sockets.clear();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The ranges of the executor's own pages, which no call may change.
pub(crate) const PROTECTED: std::ops::Range<u64> = super::executor::CODE..MESSAGES + 4096;
