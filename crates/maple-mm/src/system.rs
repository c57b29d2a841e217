//! What all address spaces of one machine share: its settings, memory and commit counter.

use core::sync::atomic::{AtomicU64, Ordering};

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

/// The settings of one machine.
///
/// # Examples
///
/// ```
/// use maple_mm::{System, SystemSettings};
/// let system = System::new(SystemSettings { max_map_count: 100, ..SystemSettings::default() });
/// assert_eq!(system.settings().max_map_count, 100);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
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
    settings: SystemSettings,
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
            settings,
            pool: &HEAP_POOL,
            nodes: TreeNodes::HEAP,
            hooks: None,
            committed: AtomicU64::new(0),
            next_anon: AtomicU64::new(1),
            next_file: AtomicU64::new(0),
        }
    }

    /// The settings.
    #[must_use]
    pub const fn settings(&self) -> &SystemSettings {
        &self.settings
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
        match self.settings.overcommit {
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

/// Who asks for memory, as far as the reserves depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) is_admin: bool,
    pub(crate) total_pages: u64,
}
