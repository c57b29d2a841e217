//! `mremap`: growing, shrinking, moving and duplicating mappings.

use crate::abi::{
    HUGE_PAGE_SIZE, MAP_FIXED, MAP_HUGETLB, MAP_SHARED, MREMAP_DONTUNMAP, MREMAP_FIXED,
    MREMAP_MAYMOVE, PAGE_SIZE, is_page_aligned, page_ceil,
};
use crate::anon::{Anon, Local};
use crate::charge::Charge;
use crate::edit::Edits;
use crate::errno::Errno;
use crate::file::{Backing, FileKind};
use crate::flags::VmFlags;
use crate::huge_pages::huge_page_ceil;
use crate::map::{NewRange, Object};
use crate::merge::{Candidate, Neighbours, merge_new};
use crate::page_side::PageSide;
use crate::paging::MoveRange;
use crate::placement::Place;
use crate::profile::MremapGeneration;
use crate::space::{AddressSpace, Offsets};
use crate::userfault::UserfaultFeatures;
use crate::vma::{Content, Vma};

/// What a program passes to `mremap`, as it passes it; bytes.
///
/// # Examples
///
/// ```
/// use maple_mm::{MremapRequest, abi::MREMAP_MAYMOVE};
/// let grow = MremapRequest {
///     addr: 0x10_0000,
///     old_len: 4096,
///     new_len: 8192,
///     flags: MREMAP_MAYMOVE,
///     new_addr: 0,
/// };
/// assert!(grow.new_len > grow.old_len);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MremapRequest {
    /// Where the old range begins.
    pub addr: u64,
    /// Its length; 0 duplicates a shared mapping.
    pub old_len: u64,
    /// The length wanted.
    pub new_len: u64,
    /// `MREMAP_` bits.
    pub flags: u64,
    /// The new address, with `MREMAP_FIXED`; a hint with `MREMAP_DONTUNMAP` alone.
    pub new_addr: u64,
}

impl MremapRequest {
    const fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    const fn names_address(&self) -> bool {
        self.has(MREMAP_FIXED | MREMAP_DONTUNMAP)
    }

    /// Pages that are added; 0 when the range shrinks.
    const fn growth(&self) -> u64 {
        self.new_len.saturating_sub(self.old_len) / PAGE_SIZE
    }

    /// The pages that move, once the tail of what shrinks is cut; none of a duplicate.
    const fn moved(&self) -> MoveRange {
        MoveRange {
            from: self.addr,
            to: self.new_addr,
            len: self.old_len,
        }
    }

    /// The same in whole huge pages, lengths rounded up.
    ///
    /// LINUX: the new address has to be one of a huge page even where it is not asked for, and
    /// explicitly huge mappings do not grow.
    fn in_huge_pages(self) -> Result<Self, Errno> {
        let rounded = Self {
            old_len: huge_page_ceil(self.old_len),
            new_len: huge_page_ceil(self.new_len),
            ..self
        };
        let is_aligned = (self.addr | self.new_addr).is_multiple_of(HUGE_PAGE_SIZE);
        if is_aligned && rounded.new_len <= rounded.old_len {
            Ok(rounded)
        } else {
            Err(Errno::EINVAL)
        }
    }

    const fn overlaps_itself(&self) -> bool {
        let old_end = self.addr.wrapping_add(self.old_len);
        let new_end = self.new_addr.wrapping_add(self.new_len);
        old_end > self.new_addr && new_end > self.addr
    }
}

impl<P: PageSide> AddressSpace<P> {
    /// Resizes, moves or duplicates the range `addr..addr + old_len` and says where it is.
    ///
    /// # Complexity
    ///
    /// O(log n), and O(m log n) for m mappings that go away or move together.
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`]: unknown or contradicting flags, addresses that are no page boundary
    ///   or out of range, a new length of 0, overlapping ranges, a private mapping duplicated, or
    ///   explicitly huge pages that would grow or be cut.
    /// - [`Errno::EFAULT`]: nothing mapped at `addr`, the range leaves its mapping, or the mapping
    ///   may not grow.
    /// - [`Errno::EPERM`]: a mapping is sealed.
    /// - [`Errno::EAGAIN`]: beyond `RLIMIT_MEMLOCK`.
    /// - [`Errno::ENOMEM`]: no room without moving, or beyond a limit.
    ///
    /// LINUX: with `MREMAP_FIXED` the target is unmapped before the last checks, and stays so. A
    /// move of several mappings (6.17 and newer) keeps what was moved before the one that refuses.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Errno, MmapRequest, MremapRequest, abi::*};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ))?;
    /// let shrunk = MremapRequest { addr, old_len: 8192, new_len: 4096, flags: 0, new_addr: 0 };
    /// assert_eq!(space.mremap(shrunk)?, addr);
    /// assert_eq!(space.statistics().total_vm, 1);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn mremap(&mut self, request: MremapRequest) -> Result<u64, Errno> {
        let request = MremapRequest {
            old_len: page_ceil(request.old_len),
            new_len: page_ceil(request.new_len),
            ..request
        };
        self.check_remap(&request)?;
        let moves_only = request.has(MREMAP_FIXED) && request.old_len == request.new_len;
        if moves_only && self.profile.mremap == MremapGeneration::MultipleMappings {
            return self.move_each(&request);
        }
        self.remap_one(&request)
    }

    fn check_remap(&self, request: &MremapRequest) -> Result<(), Errno> {
        let known = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
        let task_size = self.layout.task_size;
        let is_malformed = request.flags & !known != 0
            || !is_page_aligned(request.addr)
            || request.new_len == 0
            || request.new_len > task_size;
        if is_malformed {
            return Err(Errno::EINVAL);
        }
        if !request.names_address() {
            return Ok(());
        }
        let is_contradictory = request.new_addr > task_size - request.new_len
            || !is_page_aligned(request.new_addr)
            || !request.has(MREMAP_MAYMOVE)
            || request.has(MREMAP_DONTUNMAP) && request.old_len != request.new_len
            || request.overlaps_itself();
        if is_contradictory {
            return Err(Errno::EINVAL);
        }
        // LINUX: room for the splits at both ends of source and target, asked for in advance.
        if self.map_count() + 2 >= self.system.max_map_count().saturating_sub(3) {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    fn remap_one(&mut self, request: &MremapRequest) -> Result<u64, Errno> {
        let (vma, request) = &self.checked_source(request)?;
        if request.names_address() {
            return self.remap_to(*request);
        }
        if request.new_len == request.old_len {
            return Ok(request.addr);
        }
        if request.new_len < request.old_len {
            self.cut_tail(request)?;
            return Ok(request.addr);
        }
        self.grow(*request, vma)
    }

    /// The mapping at the old address, and what is asked in its pages.
    fn checked_source(&self, request: &MremapRequest) -> Result<(Local, MremapRequest), Errno> {
        let hole = if planted!(RemapErrno) {
            Errno::EINVAL
        } else {
            Errno::EFAULT
        };
        let vma = self.local_at(request.addr).ok_or(hole)?;
        if vma.flags().contains(VmFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        let request = if vma.flags().contains(VmFlags::HUGETLB) {
            request.in_huge_pages()?
        } else {
            *request
        };
        self.check_source(&request, &vma)?;
        Ok((vma, request))
    }

    /// Whether the mapping at the old address may do what is asked.
    fn check_source(&self, request: &MremapRequest, vma: &Vma) -> Result<(), Errno> {
        let flags = vma.flags();
        let grows = request.new_len > request.old_len;
        if !grows && !request.names_address() {
            return Ok(());
        }
        if request.old_len == 0 && !flags.intersects(VmFlags::SHARED | VmFlags::MAYSHARE) {
            return Err(Errno::EINVAL);
        }
        let is_rigid = flags.intersects(VmFlags::DONTEXPAND | VmFlags::PFNMAP);
        if request.has(MREMAP_DONTUNMAP) && is_rigid {
            return Err(Errno::EINVAL);
        }
        if request.old_len.min(request.new_len) > vma.end() - request.addr {
            return Err(Errno::EFAULT);
        }
        if grows {
            self.check_growing(request, vma)?;
        }
        Ok(())
    }

    fn check_growing(&self, request: &MremapRequest, vma: &Vma) -> Result<(), Errno> {
        let flags = vma.flags();
        let offset = vma.page_offset_at(request.addr);
        offset
            .checked_add(Self::pages(request.new_len))
            .ok_or(Errno::EINVAL)?;
        if flags.intersects(VmFlags::DONTEXPAND | VmFlags::PFNMAP) {
            return Err(Errno::EFAULT);
        }
        if flags.contains(VmFlags::LOCKED) && !self.may_lock(request.new_len - request.old_len) {
            return Err(Errno::EAGAIN);
        }
        if !self.may_expand(flags, request.growth()) {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    fn cut_tail(&mut self, request: &MremapRequest) -> Result<(), Errno> {
        let at = request
            .addr
            .checked_add(request.new_len)
            .ok_or(Errno::EINVAL)?;
        self.unmap(at, request.old_len - request.new_len)
    }

    fn grow(&mut self, request: MremapRequest, vma: &Vma) -> Result<u64, Errno> {
        let new_addr = if self.can_grow_in_place(&request, vma) {
            self.grow_in_place(&request, vma)?;
            request.addr
        } else if request.has(MREMAP_MAYMOVE) {
            self.place_and_move(request, vma)?
        } else {
            return Err(Errno::ENOMEM);
        };
        if vma.flags().contains(VmFlags::LOCKED) {
            self.populate(new_addr + request.old_len, new_addr + request.new_len);
        }
        Ok(new_addr)
    }

    fn can_grow_in_place(&self, request: &MremapRequest, vma: &Vma) -> bool {
        let delta = request.new_len - request.old_len;
        let Some(end) = vma.end().checked_add(delta) else {
            return false;
        };
        let is_free = || self.vmas_in(vma.end()..end).next().is_none();
        let whole = Place {
            addr: vma.start(),
            len: end - vma.start(),
            page_offset: 0,
            flags: MAP_FIXED,
            file: None,
        };
        !planted!(GrowInPlace)
            && vma.end() - request.addr == request.old_len
            && is_free()
            && self.place(&whole).is_ok()
    }

    fn grow_in_place(&mut self, request: &MremapRequest, vma: &Vma) -> Result<(), Errno> {
        let delta = request.new_len - request.old_len;
        let is_charged = vma.flags().contains(VmFlags::ACCOUNT);
        let pages = if is_charged { Self::pages(delta) } else { 0 };
        let content = Content {
            page_offset: vma.page_offset_at(vma.end()),
            ..vma.content()
        };
        let next = self.local_at(vma.end() + delta);
        let around = Neighbours {
            prev: Some(vma),
            next: next.as_deref(),
        };
        // LINUX: a forked mapping that grows may swallow an unwritten one behind it.
        let candidate = Candidate {
            start: vma.end(),
            end: vma.end() + delta,
            content: &content,
            is_forked: false,
        };
        let grown = merge_new(&self.profile, candidate, around).ok_or(Errno::ENOMEM)?;
        let charge = self.charge(pages)?;
        let mut edits = self.edits();
        edits.put(grown)?;
        self.commit_charged(edits, charge)
    }

    /// Moves to a named address.
    fn remap_to(&mut self, request: MremapRequest) -> Result<u64, Errno> {
        let mut request = request;
        if request.has(MREMAP_FIXED) {
            self.unmap(request.new_addr, request.new_len)?;
        }
        if self.vma_at(request.addr).is_none() {
            return Err(Errno::EFAULT);
        }
        if request.new_len < request.old_len {
            self.cut_tail(&request)?;
            request.old_len = request.new_len;
        }
        let vma = self.local_at(request.addr).ok_or(Errno::EFAULT)?;
        let pages = Self::pages(request.old_len);
        if request.has(MREMAP_DONTUNMAP) && !self.may_expand(vma.flags(), pages) {
            return Err(Errno::ENOMEM);
        }
        let new_addr = self.place_and_move(request, &vma)?;
        if request.new_len > request.old_len && vma.flags().contains(VmFlags::LOCKED) {
            self.populate(new_addr + request.old_len, new_addr + request.new_len);
        }
        Ok(new_addr)
    }

    fn place_and_move(&mut self, request: MremapRequest, vma: &Vma) -> Result<u64, Errno> {
        let is_shared = vma.flags().contains(VmFlags::MAYSHARE);
        let fixed = if request.has(MREMAP_FIXED) {
            MAP_FIXED
        } else {
            0
        };
        let huge = if vma.flags().contains(VmFlags::HUGETLB) {
            MAP_HUGETLB
        } else {
            0
        };
        let place = Place {
            addr: if request.names_address() {
                request.new_addr
            } else {
                0
            },
            len: request.new_len,
            page_offset: vma.page_offset_at(request.addr),
            flags: fixed | huge | if is_shared { MAP_SHARED } else { 0 },
            file: vma.file().map(|file| file.kind),
        };
        let new_addr = self.place(&place)?;
        self.move_vma(
            &MremapRequest {
                new_addr,
                ..request
            },
            vma,
        )?;
        Ok(new_addr)
    }

    fn move_vma(&mut self, request: &MremapRequest, vma: &Vma) -> Result<(), Errno> {
        if self.map_count() >= self.system.max_map_count().saturating_sub(3) {
            return Err(Errno::ENOMEM);
        }
        let source_end = request.addr + request.old_len;
        let is_cut = vma.start() != request.addr || vma.end() != source_end;
        if is_cut && matches!(vma.backing(), Backing::Special(_)) {
            return Err(Errno::EINVAL);
        }
        let charged = match vma.flags().contains(VmFlags::ACCOUNT) {
            false => 0,
            true if request.has(MREMAP_DONTUNMAP) => Self::pages(request.new_len),
            true => request.growth(),
        };
        let charge = self.charge(charged)?;
        if !request.has(MREMAP_DONTUNMAP) {
            let edits = self.move_edits(request, vma)?;
            return self.commit_charged(edits, charge);
        }
        self.copy_and_keep(request, vma, charge)
    }

    /// `MREMAP_DONTUNMAP`.
    fn copy_and_keep(
        &mut self,
        request: &MremapRequest,
        vma: &Vma,
        charge: Charge,
    ) -> Result<(), Errno> {
        let is_locked = vma.flags().contains(VmFlags::LOCKED);
        let added = if is_locked && !planted!(CountStray) {
            Self::pages(request.new_len)
        } else {
            0
        };
        let counted = self.tally.statistics.locked_vm + added;
        let edits = self.copy_edits(request, vma)?;
        self.commit_charged(edits, charge)?;
        // The source is unlocked and still counted; see `stray_locked`.
        self.offsets = Offsets::MayBeStale;
        self.stray_locked += counted - self.tally.statistics.locked_vm;
        self.tally.statistics.locked_vm = counted;
        Ok(())
    }

    /// The mapping at the target: part of a neighbour there, or alone.
    fn copy_of(&self, request: &MremapRequest, vma: &Vma) -> Result<Option<Vma>, Errno> {
        let new_end = request.new_addr + request.new_len;
        // Where nothing was written, offsets may begin anew, so that the copy can merge there.
        let is_unwritten = vma.is_anonymous() && !vma.anon().is_faulted();
        let page_offset = if is_unwritten {
            request.new_addr / PAGE_SIZE
        } else {
            vma.page_offset_at(request.addr)
        };
        let content = Content {
            page_offset,
            ..vma.content()
        };
        let new = NewRange {
            start: request.new_addr,
            end: new_end,
            content,
            object: Object::Known,
        };
        let copy = self
            .merged_new(&new)
            .or_else(|| Vma::new(new.start, new.end, new.content));
        // LINUX: what the copy became part of is not watched any more either.
        copy.map(|copy| copy.kept_watched(UserfaultFeatures::EVENT_REMAP))
            .transpose()
    }

    fn move_edits(&self, request: &MremapRequest, vma: &Vma) -> Result<Edits, Errno> {
        let source_end = request.addr + request.old_len;
        let mut edits = self.edits();
        let Some(copy) = self.copy_of(request, vma)? else {
            return Ok(edits);
        };
        // LINUX: an unwritten source may merge with its own copy; it is cut out of the result.
        let merged_with_itself = copy.contains(vma.start());
        if merged_with_itself {
            edits.outer_pieces(&copy, request.addr, source_end)?;
        } else if request.old_len > 0 {
            edits.outer_pieces(vma, request.addr, source_end)?;
        }
        edits.move_pages(request.moved());
        if !merged_with_itself {
            edits.put(copy)?;
        }
        if let Some(source) = Self::index_range(request.addr, source_end) {
            edits.clear(source)?;
        }
        Ok(edits)
    }

    fn copy_edits(&self, request: &MremapRequest, vma: &Vma) -> Result<Edits, Errno> {
        let mut edits = self.edits();
        let Some(copy) = self.copy_of(request, vma)? else {
            return Ok(edits);
        };
        edits.move_pages(request.moved());
        let unlocked = if planted!(DontUnmapLocked) {
            vma.flags()
        } else {
            vma.flags() - VmFlags::LOCKED_ANY
        };
        if copy.contains(vma.start()) {
            let flags = copy.flags() - VmFlags::LOCKED_ANY;
            edits.put(copy.with_flags(flags))?;
            return Ok(edits);
        }
        let is_whole = vma.start() == request.addr && vma.len_bytes() == request.old_len;
        let mut source = vma.with_flags(unlocked);
        if is_whole {
            source = source.with_anon(Anon::UNFAULTED);
        }
        edits.put(copy)?;
        edits.put(source)?;
        Ok(edits)
    }

    /// Moves every mapping of a range, distances kept.
    fn move_each(&mut self, request: &MremapRequest) -> Result<u64, Errno> {
        let end = request
            .addr
            .checked_add(request.old_len)
            .ok_or(Errno::EFAULT)?;
        let mut at = request.addr;
        let mut result = Err(Errno::EFAULT);
        while at < end {
            let Some(vma) = self.find_vma(at).filter(|vma| vma.start() < end).cloned() else {
                break;
            };
            let is_first = result.is_err();
            let (start, stop) = (vma.start().max(at), vma.end().min(end));
            let stays_single = !moves_in_company(&vma) && (!is_first || vma.end() < end);
            if stays_single || (is_first && vma.start() > at) {
                return Err(Errno::EFAULT);
            }
            let part = MremapRequest {
                addr: start,
                old_len: stop - start,
                new_len: stop - start,
                new_addr: request.new_addr + (start - request.addr),
                ..*request
            };
            let (_, part) = self.checked_source(&part)?;
            let moved = self.remap_to(part)?;
            if is_first {
                result = Ok(moved);
            }
            at = stop;
        }
        result
    }
}

/// Whether a mapping may be moved together with others.
fn moves_in_company(vma: &Vma) -> bool {
    let is_watched = vma.flags().intersects(VmFlags::UFFD_ANY);
    let places_itself = vma
        .file()
        .is_some_and(|file| file.kind == FileKind::DevZero || file.is_segment());
    !is_watched && !places_itself
}
