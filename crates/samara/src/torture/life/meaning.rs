//! What a call means to the model: what the tracer's decoder says, and a little more.

use maple_mm::{AdvisedRange, abi};

use super::Life;
use crate::call::{Call, CallFile, Touch};
use crate::decode::{self, AnonymousNames, Request};
use crate::process_call::{ADDRESSES, ProcessCall, Ranges};
use crate::ptrace::Registers;
use crate::torture::target::{Purpose, Raw};

/// What a call means to the model.
pub(super) enum Meaning {
    Call(Call),
    NotModelled(&'static str),
    /// It is not about memory.
    Nothing,
}

/// A file of the pool as the model knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) purpose: Purpose,
    pub(super) descriptor: u64,
    pub(super) file: CallFile,
}

impl Life {
    /// What `raw` means to the model.
    pub(super) fn meaning(&self, raw: &Raw) -> Meaning {
        let number = raw.number.cast_signed();
        if let Some(pointing) = self.kinds.pointing(raw) {
            return pointing.map_or(Meaning::Nothing, Meaning::Call);
        }
        let [a, b, c, ..] = raw.args;
        let touch = |purpose, addr, how| {
            let known = self.files.iter().find(|known| known.descriptor == a);
            match known {
                Some(known) if known.purpose == purpose => Meaning::Call(Call::Touch { addr, how }),
                _ => Meaning::NotModelled("a call on a file of another kind"),
            }
        };
        match number {
            libc::SYS_read => return touch(Purpose::Zero, b, Touch::Write),
            libc::SYS_pwrite64 => return touch(Purpose::Memory, b, Touch::Read),
            libc::SYS_msync => {
                return Meaning::Call(Call::Msync {
                    addr: a,
                    len: b,
                    flags: c & 0xffff_ffff,
                });
            }
            _ => {}
        }
        if let Some(call) = with_payload(raw) {
            return Meaning::Call(Call::Process(call));
        }
        let registers = Registers {
            number: raw.number,
            arguments: raw.args,
        };
        match decode::request(0, &registers, AnonymousNames::Absent) {
            Request::Memory(call, None) => Meaning::Call(self.kinds.bind(call)),
            Request::Memory(call, Some(descriptor)) => Meaning::Call(self.bind(call, descriptor)),
            Request::NotModelled(name) => Meaning::NotModelled(name),
            _ => Meaning::NotModelled("a call of another kind"),
        }
    }

    /// Replaces a descriptor by the identity of its open file.
    fn bind(&self, call: Call, descriptor: i32) -> Call {
        let Call::Mmap {
            addr,
            len,
            prot,
            flags,
            offset,
            ..
        } = call
        else {
            return call;
        };
        let is_it = |known: &&Known| i32::try_from(known.descriptor) == Ok(descriptor);
        let known = self.files.iter().find(is_it);
        let file = known.map_or(CallFile::Bad, |known| known.file);
        Call::Mmap {
            addr,
            len,
            prot,
            flags,
            offset,
            file,
        }
    }
}

/// A call whose arguments lie in memory, as `calls::process` makes it.
fn with_payload(raw: &Raw) -> Option<ProcessCall> {
    let [a, b, c, d, ..] = raw.args;
    match raw.number.cast_signed() {
        libc::SYS_process_madvise => {
            let words = raw.payload.chunks_exact(2).take(c as usize);
            let list: Vec<AdvisedRange> = words
                .map(|words| AdvisedRange {
                    addr: words[0],
                    len: words[1],
                })
                .collect();
            let ranges = Ranges::new(&list)?;
            let advice = d as i32;
            Some(ProcessCall::Advise { ranges, advice })
        }
        libc::SYS_prctl if (a, b) == (abi::PR_SET_MM.into(), abi::PR_SET_MM_MAP) => {
            let (addresses, _) = raw.payload.split_first_chunk::<ADDRESSES>()?;
            Some(ProcessCall::Addresses(*addresses))
        }
        _ => None,
    }
}
