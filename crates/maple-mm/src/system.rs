//! What all address spaces of one machine share: its settings, memory and commit counter.

use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use crate::anon::AnonId;
use crate::errno::Errno;
use crate::file::FileId;
use crate::hooks::MappingHooks;
use crate::huge_pages::{HugePages, HugePool};
use crate::memory::{HEAP_POOL, TreeNodes, VmaPool};
use crate::profile::Configured;

/// How the kernel decides whether memory may be promised (`vm.overcommit_memory`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overcommit {
    /// 0: refuse only what is larger than all memory and swap together.
    Guess,
    /// 1: never refuse.
    Always,
    /// 2: keep the sum below `limit_pages` (`CommitLimit` of `/proc/meminfo`, in pages).
    Never {
        /// The sum that may be promised, in pages.
        limit_pages: u64,
        /// Kept for the administrator (`vm.admin_reserve_kbytes`), in pages.
        admin_reserve_pages: u64,
        /// Kept so that a user can recover (`vm.user_reserve_kbytes`), in pages.
        user_reserve_pages: u64,
    },
}

/// What bounds the sum that may be promised with [`Overcommit::Never`].
///
/// # Examples
///
/// ```
/// use maple_mm::{CommitBound, SystemSettings};
/// let settings = SystemSettings { ram_pages: 1000, swap_pages: 10, ..SystemSettings::default() };
/// assert_eq!(CommitBound::Percent(50).limit_pages(&settings), 510);
/// assert_eq!(CommitBound::KiB(80).limit_pages(&settings), 30);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitBound {
    /// `vm.overcommit_ratio`: so much of memory, without what is set aside as huge pages.
    Percent(u64),
    /// `vm.overcommit_kbytes`.
    KiB(u64),
}

impl CommitBound {
    /// The bound with all swap, in pages: `CommitLimit` of `/proc/meminfo`.
    #[must_use]
    pub const fn limit_pages(self, settings: &SystemSettings) -> u64 {
        const KIB_IN_PAGE: u64 = crate::abi::PAGE_SIZE / 1024;
        const PAGES_IN_HUGE: u64 = crate::abi::HUGE_PAGE_SIZE / crate::abi::PAGE_SIZE;
        let huge = (settings.huge_pages as u64).saturating_mul(PAGES_IN_HUGE);
        let bound = match self {
            Self::Percent(ratio) => {
                settings
                    .ram_pages
                    .saturating_sub(huge)
                    .saturating_mul(ratio)
                    / 100
            }
            Self::KiB(kib) => kib / KIB_IN_PAGE,
        };
        bound.saturating_add(settings.swap_pages)
    }
}

/// The settings of one machine.
///
/// # Examples
///
/// ```
/// use maple_mm::{System, SystemSettings};
/// let system = System::new(SystemSettings { max_map_count: 100, ..SystemSettings::default() });
/// assert_eq!(system.settings().max_map_count, 100);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemSettings {
    /// `vm.max_map_count`.
    pub max_map_count: usize,
    /// The gap below stacks, in pages (boot parameter `stack_guard_gap`).
    pub stack_guard_gap_pages: u64,
    /// `vm.mmap_min_addr`, in bytes: below it a fixed mapping needs `CAP_SYS_RAWIO`.
    pub mmap_min_addr: u64,
    /// `CONFIG_LSM_MMAP_MIN_ADDR`, in bytes: hints and searches stay above both.
    pub lsm_mmap_min_addr: u64,
    /// How memory is promised.
    pub overcommit: Overcommit,
    /// Pages of memory (`MemTotal`).
    pub ram_pages: u64,
    /// Pages of swap (`SwapTotal`).
    pub swap_pages: u64,
    /// Whether memory with `MADV_HUGEPAGE` gets huge pages
    /// (`/sys/kernel/mm/transparent_hugepage/enabled` is not `never`).
    ///
    /// LINUX: with `always` other memory gets them too; the model takes that for `madvise`.
    pub huge_pages_if_advised: Configured,
    /// Pages of 2 MiB set aside for `MAP_HUGETLB` (`vm.nr_hugepages`). A memory that pages are
    /// made of should have so many; a fault that finds none ends as if the pool were empty.
    ///
    /// LINUX: they are taken out of the memory when the setting is made.
    pub huge_pages: u32,
}

impl Default for SystemSettings {
    /// The kernel's defaults, on a machine with 4 GiB and no swap.
    fn default() -> Self {
        Self {
            max_map_count: 65_530,
            stack_guard_gap_pages: 256,
            mmap_min_addr: 4096,
            lsm_mmap_min_addr: 65_536,
            overcommit: Overcommit::Guess,
            ram_pages: 1 << 20,
            swap_pages: 0,
            huge_pages_if_advised: Configured::Yes,
            huge_pages: 0,
        }
    }
}

/// One machine: settings, the pages promised so far, and the next unused identities.
#[derive(Debug)]
pub struct System {
    /// As at the start; see `tunables`.
    settings: SystemSettings,
    tunables: Tunables,
    pool: &'static VmaPool,
    nodes: TreeNodes,
    hooks: Option<&'static dyn MappingHooks>,
    committed: AtomicU64,
    huge: HugePool,
    next_anon: AtomicU64,
    next_file: AtomicU64,
}

impl System {
    /// A machine on which nothing was promised yet.
    #[must_use]
    pub const fn new(settings: SystemSettings) -> Self {
        Self {
            huge: HugePool::new(settings.huge_pages),
            tunables: Tunables::new(&settings),
            settings,
            pool: &HEAP_POOL,
            nodes: TreeNodes::HEAP,
            hooks: None,
            committed: AtomicU64::new(0),
            next_anon: AtomicU64::new(1),
            next_file: AtomicU64::new(0),
        }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> SystemSettings {
        SystemSettings {
            max_map_count: self.max_map_count(),
            overcommit: self.overcommit(),
            ..self.settings
        }
    }

    /// `vm.max_map_count`.
    pub(crate) fn max_map_count(&self) -> usize {
        self.tunables.max_map_count.load(Ordering::Relaxed)
    }

    /// How memory is promised.
    pub(crate) fn overcommit(&self) -> Overcommit {
        self.tunables.overcommit()
    }

    /// Changes `vm.max_map_count`, for all calls from now on.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Errno, MmapRequest};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(3 * 4096, 0))?;
    /// space.system().set_max_map_count(1);
    /// assert_eq!(space.munmap(addr + 4096, 4096), Err(Errno::ENOMEM));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn set_max_map_count(&self, max_map_count: usize) {
        // Relaxed, as the other settings: each is asked for on its own.
        self.tunables
            .max_map_count
            .store(max_map_count, Ordering::Relaxed);
    }

    /// Changes how memory is promised (`vm.overcommit_memory` and its companions), for all calls
    /// from now on. What was promised stays promised.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Errno, MmapRequest, Overcommit, abi::PROT_WRITE};
    /// let mut space = AddressSpace::empty();
    /// let much = || MmapRequest::anonymous(1 << 40, PROT_WRITE);
    /// assert_eq!(space.mmap(much()), Err(Errno::ENOMEM));
    /// space.system().set_overcommit(Overcommit::Always);
    /// space.mmap(much())?;
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn set_overcommit(&self, overcommit: Overcommit) {
        self.tunables.set_overcommit(overcommit);
    }

    /// The machine with its mappings in `pool`; before it is used. Without one they share a pool
    /// of the whole process on top of the global allocator.
    ///
    /// # Examples
    ///
    /// See [`VmaSource`](crate::VmaSource).
    #[must_use]
    pub const fn with_pool(mut self, pool: &'static VmaPool) -> Self {
        self.pool = pool;
        self
    }

    /// The machine with trees made of `nodes`; before it is used. Without them they share a slab
    /// of the whole process on top of the global allocator.
    ///
    /// # Examples
    ///
    /// See [`TreeNodes`].
    #[must_use]
    pub const fn with_nodes(mut self, nodes: TreeNodes) -> Self {
        self.nodes = nodes;
        self
    }

    /// What the trees of its address spaces are made of.
    #[must_use]
    pub const fn nodes(&self) -> TreeNodes {
        self.nodes
    }

    /// The machine with somebody who is told of mappings and forks; before it is used.
    ///
    /// # Examples
    ///
    /// See [`MappingHooks`].
    #[must_use]
    pub const fn with_hooks(mut self, hooks: &'static dyn MappingHooks) -> Self {
        self.hooks = Some(hooks);
        self
    }

    pub(crate) const fn hooks(&self) -> Option<&'static dyn MappingHooks> {
        self.hooks
    }

    /// Where its mappings live.
    #[must_use]
    pub const fn pool(&self) -> &'static VmaPool {
        self.pool
    }

    /// The pages promised to all address spaces of this machine.
    #[must_use]
    pub fn committed(&self) -> u64 {
        // Relaxed: a counter that orders nothing else.
        self.committed.load(Ordering::Relaxed)
    }

    /// The explicitly huge pages.
    #[must_use]
    pub fn huge_pages(&self) -> HugePages {
        self.huge.state()
    }

    pub(crate) const fn huge_pool(&self) -> &HugePool {
        &self.huge
    }

    /// The lowest address a search or a hint may give, in bytes.
    pub(crate) fn lowest_address(&self) -> u64 {
        self.settings
            .mmap_min_addr
            .max(self.settings.lsm_mmap_min_addr)
    }

    /// The gap below stacks, in bytes.
    pub(crate) fn stack_guard_gap(&self) -> u64 {
        if planted!(StackGap) {
            return 0;
        }
        self.settings
            .stack_guard_gap_pages
            .saturating_mul(crate::abi::PAGE_SIZE)
    }

    pub(crate) fn new_anon(&self) -> AnonId {
        self.new_anons(1)
    }

    /// Reserves `count` identities, and returns the first; for none, the next.
    pub(crate) fn new_anons(&self, count: u64) -> AnonId {
        // Relaxed: only uniqueness matters.
        AnonId(self.next_anon.fetch_add(count, Ordering::Relaxed))
    }

    /// Makes sure that `id`, which another machine may have given out, is not given out here.
    pub(crate) fn skip_anon(&self, id: AnonId) {
        self.next_anon
            .fetch_max(id.0.saturating_add(1), Ordering::Relaxed);
    }

    pub(crate) fn new_file(&self) -> FileId {
        // Relaxed: only uniqueness matters.
        FileId(FileId::MODEL_BIT | self.next_file.fetch_add(1, Ordering::Relaxed))
    }

    /// The identity that the next file gets, or one after it.
    pub(crate) fn next_file(&self) -> FileId {
        FileId(FileId::MODEL_BIT | self.next_file.load(Ordering::Relaxed))
    }

    /// Promises `pages` to an address space, or refuses with [`Errno::ENOMEM`].
    pub(crate) fn charge(&self, pages: u64, asker: Asker) -> Result<(), Errno> {
        let before = self.committed.fetch_add(pages, Ordering::Relaxed);
        if self.allows(before.wrapping_add(pages), pages, asker) {
            return Ok(());
        }
        self.uncharge(pages);
        Err(Errno::ENOMEM)
    }

    fn allows(&self, sum: u64, pages: u64, asker: Asker) -> bool {
        match self.overcommit() {
            Overcommit::Always => true,
            Overcommit::Guess => {
                pages
                    <= self
                        .settings
                        .ram_pages
                        .saturating_add(self.settings.swap_pages)
            }
            Overcommit::Never {
                limit_pages,
                admin_reserve_pages,
                user_reserve_pages,
            } => {
                let admin = if asker.is_admin {
                    0
                } else {
                    admin_reserve_pages
                };
                let user = user_reserve_pages.min(asker.total_pages / 32);
                sum < limit_pages.saturating_sub(admin).saturating_sub(user)
            }
        }
    }

    /// Adds `pages` without asking.
    pub(crate) fn charge_unchecked(&self, pages: u64) {
        self.committed.fetch_add(pages, Ordering::Relaxed);
    }

    /// Takes `pages` back.
    pub(crate) fn uncharge(&self, pages: u64) {
        self.committed.fetch_sub(pages, Ordering::Relaxed);
    }
}

/// The settings that may change while address spaces are in use.
///
/// Each number is a setting of its own, as in Linux: who changes several changes one after the
/// other.
#[derive(Debug)]
struct Tunables {
    max_map_count: AtomicUsize,
    /// 0, 1 and 2 as `vm.overcommit_memory` numbers them.
    overcommit: AtomicU8,
    limit_pages: AtomicU64,
    admin_reserve_pages: AtomicU64,
    user_reserve_pages: AtomicU64,
}

impl Tunables {
    const fn new(settings: &SystemSettings) -> Self {
        let (mode, [limit, admin, user]) = settings.overcommit.numbers();
        Self {
            max_map_count: AtomicUsize::new(settings.max_map_count),
            overcommit: AtomicU8::new(mode),
            limit_pages: AtomicU64::new(limit),
            admin_reserve_pages: AtomicU64::new(admin),
            user_reserve_pages: AtomicU64::new(user),
        }
    }

    fn overcommit(&self) -> Overcommit {
        match self.overcommit.load(Ordering::Relaxed) {
            0 => Overcommit::Guess,
            1 => Overcommit::Always,
            _ => Overcommit::Never {
                limit_pages: self.limit_pages.load(Ordering::Relaxed),
                admin_reserve_pages: self.admin_reserve_pages.load(Ordering::Relaxed),
                user_reserve_pages: self.user_reserve_pages.load(Ordering::Relaxed),
            },
        }
    }

    fn set_overcommit(&self, overcommit: Overcommit) {
        let (mode, [limit, admin, user]) = overcommit.numbers();
        self.limit_pages.store(limit, Ordering::Relaxed);
        self.admin_reserve_pages.store(admin, Ordering::Relaxed);
        self.user_reserve_pages.store(user, Ordering::Relaxed);
        self.overcommit.store(mode, Ordering::Relaxed);
    }
}

impl Overcommit {
    /// The mode's number, and limit, administrator's and user's reserve in pages.
    const fn numbers(self) -> (u8, [u64; 3]) {
        match self {
            Self::Guess => (0, [0; 3]),
            Self::Always => (1, [0; 3]),
            Self::Never {
                limit_pages,
                admin_reserve_pages,
                user_reserve_pages,
            } => (2, [limit_pages, admin_reserve_pages, user_reserve_pages]),
        }
    }
}

/// Who asks for memory, as far as the reserves depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) is_admin: bool,
    pub(crate) total_pages: u64,
}
