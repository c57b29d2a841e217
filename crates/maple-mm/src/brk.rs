//! `brk`: the heap's end.

use crate::abi::{PAGE_SIZE, page_ceil};
use crate::anon::Anon;
use crate::errno::Errno;
use crate::file::Backing;
use crate::flags::VmFlags;
use crate::map::{NewRange, Object};
use crate::merge::{Candidate, Neighbours, merge_new};
use crate::page_side::PageSide;
use crate::space::AddressSpace;
use crate::vma::{Content, Vma};

impl<P: PageSide> AddressSpace<P> {
    /// Moves the end of the heap to `addr` and says where it is afterwards: at `addr`, or where
    /// it was when the move is refused. A refusal changes nothing.
    ///
    /// # Complexity
    ///
    /// O(log n) to grow; shrinking also unmaps.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Layout, Setup};
    /// let layout = Layout { start_brk: 0x60_0000, brk: 0x60_0000, ..Layout::default() };
    /// let mut space = AddressSpace::from_layout(Setup { layout, ..Setup::default() }, []).unwrap();
    /// assert_eq!(space.brk(0), 0x60_0000);
    /// assert_eq!(space.brk(0x60_1234), 0x60_1234);
    /// assert_eq!(space.map_count(), 1);
    /// ```
    pub fn brk(&mut self, addr: u64) -> u64 {
        let old = self.layout.brk;
        if addr < self.layout.start_brk || !self.is_break_within_limit(addr) {
            return old;
        }
        let (old_end, new_end) = (page_ceil(old), page_ceil(addr));
        let outcome = if new_end == old_end {
            Ok(())
        } else if addr <= old {
            self.shrink_break(new_end, old_end)
        } else {
            self.grow_break(old_end, new_end)
        };
        if outcome.is_ok() {
            self.layout.brk = addr;
            if addr > old && self.default_flags.contains(VmFlags::LOCKED) {
                self.populate(old_end, new_end);
            }
        }
        self.layout.brk
    }

    fn is_break_within_limit(&self, addr: u64) -> bool {
        let layout = &self.layout;
        let heap = addr.wrapping_sub(layout.start_brk);
        let data = layout.end_data.wrapping_sub(layout.start_data);
        self.limits.data == u64::MAX
            || heap.wrapping_add(data) <= self.limits.data
            || planted!(LimitBreak)
    }

    /// LINUX: something must be mapped in the part that goes away, beginning below the old break.
    fn shrink_break(&mut self, new_end: u64, old_end: u64) -> Result<(), Errno> {
        let first = self.vmas_in(new_end..old_end).next();
        if first.is_none_or(|vma| vma.start() >= self.layout.brk) {
            return Err(Errno::EINVAL);
        }
        let room = self.make_room(new_end, old_end)?;
        self.commit(room.edits)
    }

    fn grow_break(&mut self, start: u64, end: u64) -> Result<(), Errno> {
        // A break in the last page rounds up to 0.
        let len = end.checked_sub(start).ok_or(Errno::ENOMEM)?;
        if end > self.layout.task_size {
            return Err(Errno::ENOMEM);
        }
        let default_flags = self.default_flags;
        if default_flags.contains(VmFlags::LOCKED) && !self.may_lock(len) {
            return Err(Errno::EAGAIN);
        }
        // One page stays free above the heap, besides the gap of a stack.
        let guard = self.system.stack_guard_gap();
        let blocked = self
            .find_vma(start)
            .is_some_and(|next| end + PAGE_SIZE > next.guarded_start(guard));
        if blocked {
            return Err(Errno::ENOMEM);
        }
        let flags =
            VmFlags::READ | VmFlags::WRITE | VmFlags::MAY_ACCESS | VmFlags::ACCOUNT | default_flags;
        let pages = Self::pages(len);
        let too_many = self.map_count() > self.system.settings().max_map_count;
        if !self.may_expand(flags, pages) || too_many {
            return Err(Errno::ENOMEM);
        }
        let charge = self.charge(pages)?;
        let content = Content {
            flags,
            page_offset: start / PAGE_SIZE,
            held: Backing::Anonymous.into(),
            anon: Anon::UNFAULTED,
        };
        let heap = self.extended_heap(NewRange {
            start,
            end,
            content,
            object: Object::Known,
        });
        let mut edits = self.edits();
        edits.put_some(heap)?;
        self.commit_charged(edits, charge)
    }

    /// The mapping below grown by the range, or the range alone.
    fn extended_heap(&self, new: NewRange) -> Option<Vma> {
        // LINUX: a growing heap never merges with what lies above it, nor with what ends where
        // the heap begins (6.18: the bss, where the break is not randomised).
        let start = self.layout.start_brk;
        let prev = self
            .vma_before(new.start)
            .filter(|vma| vma.end() > start || planted!(MergeHeap))
            .map(|vma| self.local(vma));
        let around = Neighbours {
            prev: prev.as_deref(),
            next: None,
        };
        let candidate = Candidate {
            start: new.start,
            end: new.end,
            content: &new.content,
            is_forked: false,
        };
        merge_new(&self.profile, candidate, around)
            .or_else(|| Vma::new(new.start, new.end, new.content))
    }
}
