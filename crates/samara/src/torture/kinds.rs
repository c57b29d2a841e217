//! What a life has besides files: System V segments and userfaultfds.

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;

use super::executor::PAYLOAD;
use super::target::Raw;
use crate::call::{Call, CallSegment, WatcherFacts};
use crate::decode;
use crate::kernel::HeldSegment;
use crate::ptrace::Tid;
use crate::seccomp::{UFFDIO_REGISTER, UFFDIO_UNREGISTER};
use crate::segments;

/// What arguments name segments by: their identifiers differ from run to run.
pub(crate) const SEGMENT_NAMES: std::ops::Range<u64> = 0x5e60_0000..0x5e60_0003;
/// The lengths of the segments in bytes, and who may do what with them.
const SEGMENTS: [(usize, u32); 3] = [(1 << 12, 0o666), ((4 << 12) - 100, 0o777), (3 << 12, 0o444)];
/// What is agreed with each userfaultfd: a fault that would wait ends in `SIGBUS`.
const FEATURES: [u64; 3] = [1 << 7, 1 << 7, 1 << 7 | 1 << 15];

/// Makes the segments; they end with what is returned.
///
/// # Errors
///
/// What the kernel says.
pub(crate) fn hold_segments() -> Result<Vec<HeldSegment>> {
    let held = SEGMENTS.map(|(bytes, mode)| HeldSegment::new(bytes, mode));
    let held = held.into_iter().collect::<nix::Result<_>>();
    held.map_err(|error| match error {
        Errno::ENOSPC => anyhow!(
            "cannot make System V segments: there are as many as may be (`ipcs -lm`); remove some, \
             or raise kernel.shmmni and kernel.shmall"
        ),
        error => anyhow!("cannot make System V segments: {}", error.desc()),
    })
}

/// What a life has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kinds {
    segments: Vec<(i32, CallSegment)>,
    /// By descriptor. They watch the memory of the first process.
    watchers: Vec<(u64, WatcherFacts)>,
    allowed_nodes: u64,
}

impl Kinds {
    /// Looks up what the process `tid` sees of the segments, and its nodes.
    ///
    /// # Errors
    ///
    /// If that cannot be known.
    pub(crate) fn learn_segments(&mut self, tid: Tid, held: &[HeldSegment]) -> Result<()> {
        for segment in held {
            let id = segment.id();
            let known = segments::segment(tid, id).map_err(anyhow::Error::msg)?;
            ensure!(
                matches!(known, CallSegment::Known(_)),
                "a segment is not there"
            );
            self.segments.push((id, known));
        }
        let nodes = segments::allowed_nodes(tid);
        self.allowed_nodes = nodes.context("nodes of memory are not known")?;
        Ok(())
    }

    /// Has the process, which makes a call with `kernel`, make its userfaultfds. Where that is
    /// not permitted there are none.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub(crate) fn make_watchers(
        &mut self,
        mut kernel: impl FnMut(&Raw) -> Result<i64>,
    ) -> Result<()> {
        const UFFDIO_API: u64 = 0xc018_aa3f;
        for features in FEATURES {
            let flags = (libc::O_CLOEXEC | libc::O_NONBLOCK) as u64;
            let made = kernel(&Raw::new(libc::SYS_userfaultfd, [flags]))?;
            let Ok(descriptor) = u64::try_from(made) else {
                return Ok(());
            };
            let agreed = Raw::new(libc::SYS_ioctl, [descriptor, UFFDIO_API, PAYLOAD]);
            let agreed = kernel(&agreed.with([0xaa, features]))?;
            ensure!(agreed == 0, "a userfaultfd refuses what is asked");
            let facts = WatcherFacts {
                id: descriptor,
                features,
            };
            self.watchers.push((descriptor, facts));
        }
        Ok(())
    }

    /// The descriptors of the userfaultfds.
    pub(crate) fn watchers(&self) -> impl Iterator<Item = u64> {
        self.watchers.iter().map(|(descriptor, _)| *descriptor)
    }

    /// The call as the kernel gets it.
    pub(crate) fn real(&self, raw: &Raw) -> Raw {
        let mut real = *raw;
        if raw.number.cast_signed() == libc::SYS_shmat
            && let Some((id, _)) = self.segment(raw.args[0])
        {
            real.args[0] = id as u64;
        }
        real
    }

    /// The call as the model gets it.
    pub(crate) fn bind(&self, call: Call) -> Call {
        match call {
            Call::Shmat {
                id, addr, flags, ..
            } => {
                let known = self.segment(id as u64);
                Call::Shmat {
                    id,
                    addr,
                    flags,
                    segment: known.map_or(CallSegment::Absent, |(_, segment)| segment),
                }
            }
            call => call,
        }
    }

    fn segment(&self, name: u64) -> Option<(i32, CallSegment)> {
        let place = name.checked_sub(SEGMENT_NAMES.start)?;
        self.segments.get(place as usize).copied()
    }

    /// What a call means whose arguments lie in memory, if it is one.
    pub(crate) fn pointing(&self, raw: &Raw) -> Option<Option<Call>> {
        self.binding(raw).map(Some).or_else(|| self.watching(raw))
    }

    /// What a call of `mbind` means.
    fn binding(&self, raw: &Raw) -> Option<Call> {
        if raw.number.cast_signed() != libc::SYS_mbind {
            return None;
        }
        let [addr, len, mode, _, bits, flags] = raw.args;
        Some(Call::Mbind {
            addr,
            len,
            mode: mode & 0xffff_ffff,
            nodes: raw.payload[0] & decode::low_bits(bits.wrapping_sub(1)),
            allowed: self.allowed_nodes,
            flags: flags & 0xffff_ffff,
        })
    }

    /// What a call on a userfaultfd means, if it is one; `None` within for a descriptor that is
    /// none.
    fn watching(&self, raw: &Raw) -> Option<Option<Call>> {
        let call = watching(raw)?;
        let found = self
            .watchers
            .iter()
            .find(|(descriptor, _)| *descriptor == raw.args[0]);
        Some(found.map(|&(_, facts)| {
            let watcher = Some(facts);
            match call {
                Call::UffdRegister {
                    start, len, mode, ..
                } => Call::UffdRegister {
                    start,
                    len,
                    mode,
                    watcher,
                },
                Call::UffdUnregister { start, len, .. } => Call::UffdUnregister {
                    start,
                    len,
                    watcher,
                },
                call => call,
            }
        }))
    }
}

/// What a call on some userfaultfd asks for, if it is one.
pub(crate) fn watching(raw: &Raw) -> Option<Call> {
    if raw.number.cast_signed() != libc::SYS_ioctl {
        return None;
    }
    let [start, len, mode, ..] = raw.payload;
    let watcher = None;
    match raw.args[1] as u32 {
        UFFDIO_REGISTER => Some(Call::UffdRegister {
            start,
            len,
            mode,
            watcher,
        }),
        UFFDIO_UNREGISTER => Some(Call::UffdUnregister {
            start,
            len,
            watcher,
        }),
        _ => None,
    }
}
