//! `mmap`: its checks in Linux's order, then one new range.

use crate::abi::{
    HUGE_PAGE_SIZE, LEGACY_MAP_MASK, MAP_32BIT, MAP_ANONYMOUS, MAP_DROPPABLE, MAP_FIXED,
    MAP_FIXED_NOREPLACE, MAP_GROWSDOWN, MAP_HUGETLB, MAP_LOCKED, MAP_NONBLOCK, MAP_NORESERVE,
    MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_STACK, MAP_SYNC, MAP_TYPE,
    PAGE_SIZE, is_page_aligned, page_ceil, page_floor,
};
use crate::anon::Anon;
use crate::charge::Charge;
use crate::errno::Errno;
use crate::file::{Backing, File, FileAccess, FileKind, FileRef, MmapFile};
use crate::flags::VmFlags;
use crate::huge_pages::huge_page_ceil;
use crate::lock::is_never_locked;
use crate::merge::{Candidate, Neighbours, merge_new};
use crate::page_side::{PageSide, with_contents};
use crate::placement::Place;
use crate::process::Company;
use crate::space::AddressSpace;
use crate::system::Overcommit;
use crate::unmap::Room;
use crate::vma::{Content, Vma};

/// What a program passes to `mmap`, as it passes it.
///
/// # Examples
///
/// ```
/// use maple_mm::{MmapRequest, abi::*};
/// let at = MmapRequest {
///     addr: 0x10_0000,
///     flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
///     ..MmapRequest::anonymous(4096, PROT_READ)
/// };
/// assert_eq!(at.len, 4096);
/// ```
#[derive(Clone, Debug)]
pub struct MmapRequest {
    /// The hint, or the address with `MAP_FIXED`; bytes.
    pub addr: u64,
    /// The length in bytes.
    pub len: u64,
    /// `PROT_` bits.
    pub prot: u64,
    /// `MAP_` bits.
    pub flags: u64,
    /// The file behind the descriptor.
    pub file: MmapFile,
    /// The offset into the file, in bytes.
    pub offset: u64,
}

impl MmapRequest {
    /// Private anonymous memory wherever there is room.
    #[must_use]
    pub const fn anonymous(len: u64, prot: u64) -> Self {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS;
        Self {
            addr: 0,
            len,
            prot,
            flags,
            file: MmapFile::None,
            offset: 0,
        }
    }
}

/// A new range, decided but for its neighbours.
#[derive(Debug)]
pub(crate) struct NewRange {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) content: Content,
    pub(crate) object: Object,
}

/// Whether what stands behind a new range was made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Known,
    /// Shared memory that is promised its pages.
    New,
    /// A file that takes the opened one's place once the mapping is made.
    Below,
}

/// Which of a file's two faces a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// What was opened.
    Opened,
    /// What mappings of it have.
    Mapped,
}

impl Face {
    /// Whether mappings get another file than this one.
    fn is_replaced(self, file: &File) -> bool {
        self == Self::Opened && file.access.contains(FileAccess::FILE_BELOW)
    }

    /// The kind of the file that says where a mapping goes.
    fn kind(self, file: &File) -> FileKind {
        if self.is_replaced(file) {
            // LINUX (overlayfs, 6.18): it has no wishes, whatever the file below would like.
            FileKind::Regular {
                huge_aligned: false,
            }
        } else {
            file.kind
        }
    }
}

impl<P: PageSide> AddressSpace<P> {
    /// Maps memory or a file and says where.
    ///
    /// # Complexity
    ///
    /// O(log n + m) for m mappings that a fixed address replaces.
    ///
    /// # Errors
    ///
    /// In the order Linux checks: `EINVAL` for an offset that is no page boundary; `EBADF`;
    /// `EINVAL` for length 0; `ENOMEM` for a length that wraps; `EOVERFLOW`; `ENOMEM` beyond
    /// `max_map_count` or without room; `EINVAL`, `EPERM` for a bad fixed address; `EEXIST`;
    /// `EPERM`, `EAGAIN` for locking; what the file refuses (`EOVERFLOW`, `EOPNOTSUPP`,
    /// `EACCES`, `ETXTBSY`, `EPERM`, `ENODEV`, `EINVAL`); `EACCES` for what `PR_SET_MDWE` forbids;
    /// `EPERM` for a sealed range; `ENOMEM`
    /// beyond a limit. With `MAP_HUGETLB` first of all `EINVAL` for a size other than 2 MiB, of
    /// which there is a pool, and 1 GiB, of which there is none (`ENOMEM`); and at last `EINVAL`
    /// for an offset within a huge page, `ENOMEM` if the pool cannot promise all pages
    /// ([`SystemSettings::huge_pages`](crate::SystemSettings::huge_pages)).
    ///
    /// What was mapped before stays mapped on error, but for one case. LINUX: 6.18 leaves a hole
    /// where shared anonymous or explicitly huge memory is refused after a fixed range was emptied
    /// for it, and leaves mappings split that a fixed range had cut.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Errno, MmapRequest, abi::*};
    /// let mut space = AddressSpace::empty();
    /// let low = MmapRequest {
    ///     addr: 0x20_0000,
    ///     flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
    ///     ..MmapRequest::anonymous(4096, PROT_READ)
    /// };
    /// assert_eq!(space.mmap(low.clone())?, 0x20_0000);
    /// assert_eq!(space.mmap(low), Err(Errno::EEXIST));
    /// # Ok::<(), Errno>(())
    /// ```
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a request is made for one call"
    )]
    pub fn mmap(&mut self, request: MmapRequest) -> Result<u64, Errno> {
        if !is_page_aligned(request.offset) {
            return Err(Errno::EINVAL);
        }
        let file = self.opened(&request)?;
        self.mmap_file(&request, file.as_ref(), Face::Opened)
    }

    /// Learns from `address`, which Linux gave to `request`, where its search began: with
    /// address randomisation `MAP_32BIT` starts anywhere in 32 MiB each time.
    ///
    /// Does nothing for other requests, or when no beginning explains the address.
    ///
    /// # Complexity
    ///
    /// O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Errno, MmapRequest, abi::*};
    /// let mut space = AddressSpace::empty();
    /// let low = MmapRequest {
    ///     flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT,
    ///     ..MmapRequest::anonymous(4096, PROT_READ)
    /// };
    /// space.learn_low_base(&low, 0x4012_3000);
    /// assert_eq!(space.mmap(low)?, 0x4012_3000);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn learn_low_base(&mut self, request: &MmapRequest, address: u64) {
        let is_fixed = request.flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0;
        let Ok(file) = self.opened(request) else {
            return;
        };
        if is_fixed || request.flags & MAP_32BIT == 0 {
            return;
        }
        let Ok(place) = self.checked_place(request, file.as_ref(), Face::Opened) else {
            return;
        };
        let before = self.layout.low_base;
        // A place on huge pages lies up to one of them above what was found.
        for less in [0, HUGE_PAGE_SIZE, HUGE_PAGE_SIZE - PAGE_SIZE] {
            let base = address.saturating_sub(less);
            self.layout.low_base = base;
            if self.place(&place) == Ok(address) {
                return;
            }
        }
        self.layout.low_base = before;
    }

    /// The file a request names, or the object that it makes.
    fn opened(&self, request: &MmapRequest) -> Result<Option<FileRef>, Errno> {
        if is_explicitly_huge(request.flags) {
            return self.huge_object(request).map(Some);
        }
        if request.flags & MAP_ANONYMOUS != 0 {
            return Ok(None);
        }
        match &request.file {
            MmapFile::Open(_) if request.flags & MAP_HUGETLB != 0 => Err(Errno::EINVAL),
            MmapFile::Open(file) => Ok(Some(file.clone())),
            MmapFile::None | MmapFile::Bad => Err(Errno::EBADF),
        }
    }

    /// Maps what `request` asks for; of `file`, the one with this face.
    pub(crate) fn mmap_file(
        &mut self,
        request: &MmapRequest,
        file: Option<&FileRef>,
        face: Face,
    ) -> Result<u64, Errno> {
        let place = self.checked_place(request, file, face)?;
        let mut flags = self.initial_flags(request, file);
        let addr = self.place(&place)?;
        self.check_placed(request, addr, &place)?;
        if request.flags & MAP_LOCKED != 0 && !self.can_lock() {
            return Err(Errno::EPERM);
        }
        if flags.contains(VmFlags::LOCKED) && !self.may_lock(place.len) {
            return Err(if planted!(LockErrno) {
                Errno::ENOMEM
            } else {
                Errno::EAGAIN
            });
        }
        let is_explicit = is_explicitly_huge(request.flags);
        let page_offset = match file {
            Some(file) => {
                check_extent(file, &place)?;
                flags = file_flags((file, face), request, flags)?;
                if is_explicit {
                    flags |= VmFlags::HUGETLB | VmFlags::DONTEXPAND;
                }
                place.page_offset
            }
            None => {
                flags = anonymous_flags(request.flags, flags)?;
                if flags.contains(VmFlags::SHARED) {
                    0
                } else {
                    addr / PAGE_SIZE
                }
            }
        };
        let is_free = is_explicit || self.may_promise_freely();
        if request.flags & MAP_NORESERVE != 0 && is_free {
            flags |= VmFlags::NORESERVE;
        }
        let is_known = file.is_some_and(|file| file.kind != FileKind::DevZero);
        let object = if flags.contains(VmFlags::SHARED) && !is_known {
            Object::New
        } else if file.is_some_and(|file| face.is_replaced(file)) {
            Object::Below
        } else {
            Object::Known
        };
        let backing = self.backing_for(file, flags, place.len)?;
        let content = Content {
            flags,
            page_offset,
            held: backing.into(),
            anon: Anon::UNFAULTED,
        };
        if is_explicit && request.flags & MAP_NORESERVE == 0 {
            self.promises.expect();
        }
        self.map_region(NewRange {
            start: addr,
            end: addr + place.len,
            content,
            object,
        })?;
        let wants_pages = request.flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE;
        if wants_pages || flags.contains(VmFlags::LOCKED) {
            self.populate(addr, addr + place.len);
        }
        Ok(addr)
    }

    fn may_promise_freely(&self) -> bool {
        !matches!(self.system.overcommit(), Overcommit::Never { .. })
    }

    /// The checks before an address is chosen.
    fn checked_place(
        &self,
        request: &MmapRequest,
        file: Option<&FileRef>,
        face: Face,
    ) -> Result<Place, Errno> {
        if request.len == 0 {
            return Err(Errno::EINVAL);
        }
        let is_fixed = request.flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0;
        let addr = if is_fixed {
            request.addr
        } else {
            self.rounded_hint(request.addr)
        };
        let len = if is_explicitly_huge(request.flags) {
            huge_page_ceil(request.len)
        } else {
            page_ceil(request.len)
        };
        if len == 0 {
            // LINUX: a length in huge pages is rounded before anything is checked.
            let is_rounded_early = is_explicitly_huge(request.flags);
            return Err(if is_rounded_early {
                Errno::EINVAL
            } else {
                Errno::ENOMEM
            });
        }
        let page_offset = request.offset / PAGE_SIZE;
        page_offset
            .checked_add(len / PAGE_SIZE)
            .ok_or(Errno::EOVERFLOW)?;
        // LINUX: mmap may go one beyond the limit.
        if self.map_count() > self.system.max_map_count() {
            return Err(Errno::ENOMEM);
        }
        let flags = if is_fixed {
            request.flags | MAP_FIXED
        } else {
            request.flags
        };
        Ok(Place {
            addr,
            len,
            page_offset,
            flags,
            file: file.map(|file| face.kind(file)),
        })
    }

    fn rounded_hint(&self, hint: u64) -> u64 {
        let hint = page_floor(hint);
        let lowest = page_ceil(self.system.lowest_address());
        if hint != 0 && hint < lowest {
            lowest
        } else {
            hint
        }
    }

    /// The right to execute, where `READ_IMPLIES_EXEC` gives it to what is mapped.
    pub(crate) fn implied_exec(&self, flags: VmFlags, file: Option<&FileRef>) -> VmFlags {
        let may_run = file.is_none_or(|file| !file.access.contains(FileAccess::NO_EXEC));
        if self.read_implies_exec() && flags.contains(VmFlags::READ) && may_run {
            VmFlags::EXEC
        } else {
            VmFlags::empty()
        }
    }

    fn initial_flags(&self, request: &MmapRequest, file: Option<&FileRef>) -> VmFlags {
        let mut flags =
            VmFlags::from_protection(request.prot) | VmFlags::MAY_ACCESS | self.default_flags;
        flags |= self.implied_exec(flags, file);
        let has = |flag| request.flags & flag != 0;
        flags.set(VmFlags::GROWSDOWN, has(MAP_GROWSDOWN));
        flags.set(VmFlags::SYNC, has(MAP_SYNC));
        if has(MAP_LOCKED) {
            flags |= VmFlags::LOCKED;
        }
        if has(MAP_STACK) && !planted!(StackFlag) && self.profile.transparent_huge_pages.is_yes() {
            flags |= VmFlags::NOHUGEPAGE;
        }
        if self.profile.soft_dirty.is_yes() {
            flags |= VmFlags::SOFTDIRTY;
        }
        flags
    }

    fn check_placed(&self, request: &MmapRequest, addr: u64, place: &Place) -> Result<(), Errno> {
        let must_be_free = request.flags & MAP_FIXED_NOREPLACE != 0;
        if must_be_free
            && !planted!(NoReplace)
            && self.vmas_in(addr..addr + place.len).next().is_some()
        {
            return Err(Errno::EEXIST);
        }
        Ok(())
    }

    fn backing_for(
        &self,
        file: Option<&FileRef>,
        flags: VmFlags,
        bytes: u64,
    ) -> Result<Backing, Errno> {
        let is_shared = flags.contains(VmFlags::SHARED);
        match file {
            Some(file) if file.kind == FileKind::DevZero && is_shared => {
                self.new_shared_memory(bytes)
            }
            Some(file) => Ok(Backing::File(file.clone())),
            None if is_shared => self.new_shared_memory(bytes),
            None => Ok(Backing::Anonymous),
        }
    }

    fn new_shared_memory(&self, bytes: u64) -> Result<Backing, Errno> {
        let object = File::shared_anonymous(self.system.new_file())?;
        let contents = self.pages.shared_memory(bytes, &self.system)?;
        with_contents(object, contents).map(Backing::File)
    }

    /// Replaces what lies in the range by one new mapping, merged with its neighbours.
    pub(crate) fn map_region(&mut self, mut new: NewRange) -> Result<(), Errno> {
        self.check_exec_gain(new.content.flags, new.content.flags)?;
        let room = self.make_room(new.start, new.end)?;
        let pages = Self::pages(new.end - new.start);
        let charge = match self.check_limits(&mut new, &room, pages) {
            Ok(charge) => charge,
            Err(errno) => {
                self.split_for(new.start, new.end)?;
                return Err(errno);
            }
        };
        if let Err(errno) = self.check_backing(&new, pages) {
            drop(charge);
            self.commit(room.edits)?;
            return Err(errno);
        }
        let is_new_file = new.object == Object::Below;
        if !is_new_file {
            let backing = new.content.held.backing();
            new.content.flags |= self.early_merge_any(new.content.flags, backing);
        }
        // LINUX (overlayfs, 6.18): the neighbours have the file below already, the new range gets it
        // after it looked for neighbours with the same file.
        let merged = if is_new_file && !planted!(MergeFile) {
            None
        } else {
            self.merged_new(&new)
        };
        let company = if merged.is_some() {
            Company::Joined
        } else {
            Company::Alone
        };
        let alone = || Vma::new(new.start, new.end, new.content.clone());
        let mut edits = room.edits;
        // LINUX: what cannot be locked loses the lock after it may have merged as a locked one.
        let mapped = merged.or_else(alone).map(|vma| {
            let mut flags = vma.flags() | self.late_merge_any(vma.flags(), company);
            if is_never_locked(&vma) {
                flags -= VmFlags::LOCKED_ANY;
            }
            if flags == vma.flags() {
                vma
            } else {
                vma.with_flags(flags)
            }
        });
        edits.put_some(mapped)?;
        // What goes away was charged and pays for what comes; the rest was charged just now.
        self.commit_charged(edits, charge)
    }

    fn check_limits(&self, new: &mut NewRange, room: &Room, pages: u64) -> Result<Charge, Errno> {
        if !self.may_expand(new.content.flags, pages - room.pages) {
            return Err(Errno::ENOMEM);
        }
        if !new.content.flags.is_accountable() {
            return Ok(Charge::NONE);
        }
        new.content.flags |= VmFlags::ACCOUNT;
        self.charge(pages - room.charged_pages)
    }

    /// What the file behind a mapping refuses at last, when the range is empty already.
    ///
    /// LINUX: a new shared object keeps what it is promised as long as it lives; it is no part
    /// of an address space, so the model only asks. 6.18: a file system without DAX refuses
    /// `MAP_SYNC` here, whatever the type of the mapping.
    fn check_backing(&self, new: &NewRange, pages: u64) -> Result<(), Errno> {
        let flags = new.content.flags;
        let Some(file) = new.content.held.backing().file() else {
            return Ok(());
        };
        let refuses_sync = file.access.contains(FileAccess::SYNC_REFUSED);
        if refuses_sync && flags.contains(VmFlags::SYNC) {
            return Err(Errno::EOPNOTSUPP);
        }
        if flags.contains(VmFlags::HUGETLB) {
            let alone = Vma::new(new.start, new.end, new.content.clone());
            return alone.map_or(Ok(()), |vma| Self::keep_huge_pages(&vma));
        }
        if new.object == Object::New && !flags.contains(VmFlags::NORESERVE) {
            // Given back at once.
            drop(self.charge(pages)?);
        }
        Ok(())
    }

    /// The mapping a new range joins, if it does.
    pub(crate) fn merged_new(&self, new: &NewRange) -> Option<Vma> {
        let candidate = Candidate {
            start: new.start,
            end: new.end,
            content: &new.content,
            is_forked: new.content.anon.is_forked(),
        };
        // The mappings around the range, as they will be once it is empty.
        let prev = self.piece_below(new.start);
        let next = self.piece_above(new.end);
        let around = Neighbours {
            prev: prev.as_ref(),
            next: next.as_ref(),
        };
        merge_new(&self.profile, candidate, around)
    }

    /// What is mapped directly below `addr`, cut there.
    fn piece_below(&self, addr: u64) -> Option<Vma> {
        let below = self.local_at(addr.checked_sub(1)?)?;
        below.with_range(below.start(), addr)
    }

    /// What is mapped directly above `addr`, cut there.
    fn piece_above(&self, addr: u64) -> Option<Vma> {
        let above = self.local_at(addr)?;
        above.with_range(addr, above.end())
    }
}

/// Whether a mapping is to be made of explicitly huge pages.
const fn is_explicitly_huge(map_flags: u64) -> bool {
    let both = MAP_HUGETLB | MAP_ANONYMOUS;
    map_flags & both == both
}

/// Whether the file's offsets reach as far as the mapping.
fn check_extent(file: &File, place: &Place) -> Result<(), Errno> {
    let room = file
        .max_bytes()
        .checked_sub(place.len)
        .ok_or(Errno::EOVERFLOW)?;
    if place.page_offset > room / PAGE_SIZE {
        return Err(Errno::EOVERFLOW);
    }
    Ok(())
}

fn file_flags(
    (file, face): (&File, Face),
    request: &MmapRequest,
    flags: VmFlags,
) -> Result<VmFlags, Errno> {
    let access = file.access;
    let mut flags = flags;
    match request.flags & MAP_TYPE {
        MAP_SHARED | MAP_SHARED_VALIDATE => {
            check_known_flags((file, face), request.flags)?;
            flags = shared_file_flags(access, flags)?;
        }
        MAP_PRIVATE => {}
        _ => return Err(Errno::EINVAL),
    }
    if !access.contains(FileAccess::READ) {
        return Err(Errno::EACCES);
    }
    if access.contains(FileAccess::NO_EXEC) {
        if flags.contains(VmFlags::EXEC) {
            return Err(Errno::EPERM);
        }
        flags -= VmFlags::MAYEXEC;
    }
    if access.contains(FileAccess::NO_MMAP) {
        return Err(Errno::ENODEV);
    }
    if flags.contains(VmFlags::GROWSDOWN) {
        return Err(Errno::EINVAL);
    }
    write_sealed_flags(access, flags)
}

fn check_known_flags((file, face): (&File, Face), flags: u64) -> Result<(), Errno> {
    // LINUX: ext4 and xfs take `MAP_SYNC` here and refuse it later where there is no DAX.
    let both = FileAccess::SYNC | FileAccess::SYNC_REFUSED;
    let known = if file.access.intersects(both) && !face.is_replaced(file) {
        LEGACY_MAP_MASK | MAP_SYNC
    } else {
        LEGACY_MAP_MASK
    };
    // `MAP_SHARED` drops unknown flags; its own bits are part of `MAP_SHARED_VALIDATE`'s.
    let is_strict = flags & MAP_TYPE == MAP_SHARED_VALIDATE;
    // LINUX: NOREPLACE is not in the mask of old flags, so a strict mapping refuses it.
    if is_strict && flags & !known != 0 {
        Err(Errno::EOPNOTSUPP)
    } else {
        Ok(())
    }
}

fn shared_file_flags(access: FileAccess, flags: VmFlags) -> Result<VmFlags, Errno> {
    let is_writable = access.contains(FileAccess::WRITE);
    if flags.contains(VmFlags::WRITE) {
        if !is_writable {
            return Err(Errno::EACCES);
        }
        if access.contains(FileAccess::SWAP) {
            return Err(Errno::ETXTBSY);
        }
    }
    if access.contains(FileAccess::APPEND_ONLY) && is_writable {
        return Err(Errno::EACCES);
    }
    let shared = flags | VmFlags::SHARED | VmFlags::MAYSHARE;
    Ok(if is_writable || planted!(MayWrite) {
        shared
    } else {
        shared - (VmFlags::MAYWRITE | VmFlags::SHARED)
    })
}

fn write_sealed_flags(access: FileAccess, flags: VmFlags) -> Result<VmFlags, Errno> {
    if !access.contains(FileAccess::WRITE_SEALED) || !flags.contains(VmFlags::SHARED) {
        return Ok(flags);
    }
    if flags.contains(VmFlags::WRITE) {
        return Err(Errno::EPERM);
    }
    Ok(flags - VmFlags::MAYWRITE)
}

fn anonymous_flags(map_flags: u64, flags: VmFlags) -> Result<VmFlags, Errno> {
    let grows = flags.contains(VmFlags::GROWSDOWN);
    match map_flags & MAP_TYPE {
        MAP_SHARED if !grows => Ok(flags | VmFlags::SHARED | VmFlags::MAYSHARE),
        MAP_DROPPABLE if !grows && map_flags & (MAP_LOCKED | MAP_HUGETLB) == 0 => Ok(flags
            | VmFlags::DROPPABLE
            | VmFlags::NORESERVE
            | VmFlags::WIPEONFORK
            | VmFlags::DONTDUMP),
        MAP_PRIVATE => Ok(flags),
        _ => Err(Errno::EINVAL),
    }
}
