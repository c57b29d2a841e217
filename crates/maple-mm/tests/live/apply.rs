//! The same call, made on the model.

use maple_mm::{
    Access, AddressSpace, Errno, File, FileAccess, FileId, FileKind, FileRef, MmapFile,
    MmapRequest, MremapRequest,
};

use crate::target::Call;

/// Numbers of the system calls.
pub(crate) mod number {
    pub(crate) const READ: u64 = 0;
    pub(crate) const MMAP: u64 = 9;
    pub(crate) const MPROTECT: u64 = 10;
    pub(crate) const MUNMAP: u64 = 11;
    pub(crate) const BRK: u64 = 12;
    pub(crate) const PWRITE: u64 = 18;
    pub(crate) const MREMAP: u64 = 25;
    pub(crate) const MSYNC: u64 = 26;
    pub(crate) const MADVISE: u64 = 28;
    pub(crate) const FORK: u64 = 57;
    pub(crate) const MLOCK: u64 = 149;
    pub(crate) const MUNLOCK: u64 = 150;
    pub(crate) const MLOCKALL: u64 = 151;
    pub(crate) const MUNLOCKALL: u64 = 152;
    pub(crate) const MLOCK2: u64 = 325;
    pub(crate) const MSEAL: u64 = 462;
}

/// The files of the executor by descriptor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files(pub(crate) Vec<(u64, FileRef)>);

impl Files {
    /// The files in the order of `executor::open_files`; names and inodes come later.
    pub(crate) fn new(descriptors: &[u64]) -> Self {
        let disk = FileKind::Regular { huge_aligned: true };
        let both = FileAccess::READ | FileAccess::WRITE;
        let kinds = [
            (0, FileKind::DevZero, both),
            (1, disk, both),
            (1, disk, both),
            (2, disk, FileAccess::READ),
            (3, disk, both),
            (4, disk, FileAccess::WRITE),
            (5, FileKind::Shmem, both),
        ];
        let file = |(id, kind, access)| {
            let (device, inode, name) = ((0, 0), 0, "".into());
            FileRef::new(File {
                id: FileId(id),
                device,
                inode,
                name,
                kind,
                access,
            })
            .expect("memory")
        };
        Self(descriptors.iter().copied().zip(kinds.map(file)).collect())
    }

    fn find(&self, descriptor: u64) -> MmapFile {
        let found = self.0.iter().find(|(number, _)| *number == descriptor);
        found.map_or(MmapFile::Bad, |(_, file)| MmapFile::Open(file.clone()))
    }
}

/// Makes `call` on the model; the result has the kernel's form.
pub(crate) fn apply(space: &mut AddressSpace, files: &Files, call: Call) -> i64 {
    let [a, b, c, d, e, _] = call.args;
    let touched = |outcome: Result<(), maple_mm::Fault>| outcome.map_or(-14, |()| 1);
    match call.number {
        number::READ => touched(space.fault(b, Access::Write)),
        number::PWRITE => touched(space.fault(b, Access::Read)),
        number::MMAP => value(space.mmap(request(files, call))),
        number::MREMAP => value(space.mremap(MremapRequest {
            addr: a,
            old_len: b,
            new_len: c,
            flags: d,
            new_addr: e,
        })),
        number::BRK => space.brk(a) as i64,
        _ => unit(apply_unit(space, call)),
    }
}

fn apply_unit(space: &mut AddressSpace, call: Call) -> Result<(), Errno> {
    let [a, b, c, ..] = call.args;
    match call.number {
        number::MPROTECT => space.mprotect(a, b, c),
        number::MUNMAP => space.munmap(a, b),
        number::MSYNC => space.msync(a, b, c),
        number::MADVISE => space.madvise(a, b, c as i32),
        number::MLOCK => space.mlock(a, b),
        number::MUNLOCK => space.munlock(a, b),
        number::MLOCKALL => space.mlockall(a),
        number::MUNLOCKALL => space.munlockall(),
        number::MLOCK2 => space.mlock2(a, b, c),
        number::MSEAL => space.mseal(a, b, c),
        number => panic!("call {number} is not part of this test"),
    }
}

fn value(result: Result<u64, Errno>) -> i64 {
    result.map_or_else(|errno| -i64::from(errno.raw()), |value| value as i64)
}

fn unit(result: Result<(), Errno>) -> i64 {
    result.map_or_else(|errno| -i64::from(errno.raw()), |()| 0)
}

/// The request a call of `mmap` makes.
pub(crate) fn request(files: &Files, call: Call) -> MmapRequest {
    let [addr, len, prot, flags, descriptor, offset] = call.args;
    MmapRequest {
        addr,
        len,
        prot,
        flags,
        file: files.find(descriptor),
        offset,
    }
}
