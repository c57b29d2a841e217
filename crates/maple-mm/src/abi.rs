//! The numbers user space passes to the calls, for x86-64, and the page size.
//!
//! Only numbers; what they mean to a mapping is said where they are used. A test compares
//! each with `linux-raw-sys`.

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;
/// Bytes in a huge page of the first level.
pub const HUGE_PAGE_SIZE: u64 = 2 << 20;

macro_rules! constants {
    ($($(#[$group:meta])* $kind:ty { $($name:ident = $value:expr;)* })*) => {
        $($(#[doc = concat!("`", stringify!($name), "` as user space passes it.")]
        pub const $name: $kind = $value;)*)*
    };
}

constants! {
    u64 {
        PROT_NONE = 0x0;
        PROT_READ = 0x1;
        PROT_WRITE = 0x2;
        PROT_EXEC = 0x4;
        PROT_SEM = 0x8;
        PROT_GROWSDOWN = 0x0100_0000;
        PROT_GROWSUP = 0x0200_0000;
    }
    u64 {
        MAP_SHARED = 0x01;
        MAP_PRIVATE = 0x02;
        MAP_SHARED_VALIDATE = 0x03;
        MAP_DROPPABLE = 0x08;
        MAP_TYPE = 0x0f;
        MAP_FIXED = 0x10;
        MAP_ANONYMOUS = 0x20;
        MAP_32BIT = 0x40;
        MAP_ABOVE4G = 0x80;
        MAP_GROWSDOWN = 0x0100;
        MAP_DENYWRITE = 0x0800;
        MAP_EXECUTABLE = 0x1000;
        MAP_LOCKED = 0x2000;
        MAP_NORESERVE = 0x4000;
        MAP_POPULATE = 0x8000;
        MAP_NONBLOCK = 0x1_0000;
        MAP_STACK = 0x2_0000;
        MAP_HUGETLB = 0x4_0000;
        MAP_SYNC = 0x8_0000;
        MAP_FIXED_NOREPLACE = 0x10_0000;
        MAP_UNINITIALIZED = 0x400_0000;
        MAP_HUGE_SHIFT = 26;
        MAP_HUGE_MASK = 0x3f;
    }
    u64 {
        MREMAP_MAYMOVE = 1;
        MREMAP_FIXED = 2;
        MREMAP_DONTUNMAP = 4;
    }
    u64 {
        UFFDIO_REGISTER_MODE_MISSING = 1;
        UFFDIO_REGISTER_MODE_WP = 2;
        UFFDIO_REGISTER_MODE_MINOR = 4;
    }
    u64 {
        MPOL_DEFAULT = 0;
        MPOL_PREFERRED = 1;
        MPOL_BIND = 2;
        MPOL_INTERLEAVE = 3;
        MPOL_LOCAL = 4;
        MPOL_PREFERRED_MANY = 5;
        MPOL_WEIGHTED_INTERLEAVE = 6;
        MPOL_MAX = 7;
        MPOL_F_STATIC_NODES = 0x8000;
        MPOL_F_RELATIVE_NODES = 0x4000;
        MPOL_F_NUMA_BALANCING = 0x2000;
        MPOL_MF_STRICT = 1;
        MPOL_MF_MOVE = 2;
        MPOL_MF_MOVE_ALL = 4;
    }
    u64 {
        SHM_RDONLY = 0x1000;
        SHM_RND = 0x2000;
        SHM_REMAP = 0x4000;
        SHM_EXEC = 0x8000;
    }
    u64 {
        MLOCK_ONFAULT = 1;
        MCL_CURRENT = 1;
        MCL_FUTURE = 2;
        MCL_ONFAULT = 4;
        MS_ASYNC = 1;
        MS_INVALIDATE = 2;
        MS_SYNC = 4;
    }
    u32 {
        PR_SET_MM = 35;
        PR_SET_THP_DISABLE = 41;
        PR_GET_THP_DISABLE = 42;
        PR_SET_MDWE = 65;
        PR_GET_MDWE = 66;
        PR_SET_MEMORY_MERGE = 67;
        PR_GET_MEMORY_MERGE = 68;
        PR_SET_VMA = 0x5356_4d41;
        ADDR_NO_RANDOMIZE = 0x004_0000;
        MMAP_PAGE_ZERO = 0x010_0000;
        ADDR_COMPAT_LAYOUT = 0x020_0000;
        READ_IMPLIES_EXEC = 0x040_0000;
    }
    u64 {
        PR_SET_VMA_ANON_NAME = 0;
        PR_MDWE_REFUSE_EXEC_GAIN = 1;
        PR_MDWE_NO_INHERIT = 2;
        PR_THP_DISABLE_EXCEPT_ADVISED = 2;
        PR_SET_MM_START_CODE = 1;
        PR_SET_MM_END_CODE = 2;
        PR_SET_MM_START_DATA = 3;
        PR_SET_MM_END_DATA = 4;
        PR_SET_MM_START_STACK = 5;
        PR_SET_MM_START_BRK = 6;
        PR_SET_MM_BRK = 7;
        PR_SET_MM_ARG_START = 8;
        PR_SET_MM_ARG_END = 9;
        PR_SET_MM_ENV_START = 10;
        PR_SET_MM_ENV_END = 11;
        PR_SET_MM_AUXV = 12;
        PR_SET_MM_EXE_FILE = 13;
        PR_SET_MM_MAP = 14;
        PR_SET_MM_MAP_SIZE = 15;
    }
    i32 {
        MADV_NORMAL = 0;
        MADV_RANDOM = 1;
        MADV_SEQUENTIAL = 2;
        MADV_WILLNEED = 3;
        MADV_DONTNEED = 4;
        MADV_FREE = 8;
        MADV_REMOVE = 9;
        MADV_DONTFORK = 10;
        MADV_DOFORK = 11;
        MADV_MERGEABLE = 12;
        MADV_UNMERGEABLE = 13;
        MADV_HUGEPAGE = 14;
        MADV_NOHUGEPAGE = 15;
        MADV_DONTDUMP = 16;
        MADV_DODUMP = 17;
        MADV_WIPEONFORK = 18;
        MADV_KEEPONFORK = 19;
        MADV_COLD = 20;
        MADV_PAGEOUT = 21;
        MADV_POPULATE_READ = 22;
        MADV_POPULATE_WRITE = 23;
        MADV_DONTNEED_LOCKED = 24;
        MADV_COLLAPSE = 25;
        MADV_HWPOISON = 100;
        MADV_SOFT_OFFLINE = 101;
        MADV_GUARD_INSTALL = 102;
        MADV_GUARD_REMOVE = 103;
    }
}

/// Every flag a mapping of type `MAP_SHARED_VALIDATE` may carry without its file asking for more.
pub const LEGACY_MAP_MASK: u64 = MAP_SHARED
    | MAP_PRIVATE
    | MAP_FIXED
    | MAP_ANONYMOUS
    | MAP_DENYWRITE
    | MAP_EXECUTABLE
    | MAP_UNINITIALIZED
    | MAP_GROWSDOWN
    | MAP_LOCKED
    | MAP_NORESERVE
    | MAP_POPULATE
    | MAP_NONBLOCK
    | MAP_STACK
    | MAP_HUGETLB
    | MAP_32BIT
    | MAP_ABOVE4G
    | ((21 | 30) << MAP_HUGE_SHIFT);

/// `bytes` rounded down to a page boundary.
#[must_use]
pub const fn page_floor(bytes: u64) -> u64 {
    bytes & !(PAGE_SIZE - 1)
}

/// `bytes` rounded up to a page boundary; wraps to 0 as the kernel's rounding does.
#[must_use]
pub const fn page_ceil(bytes: u64) -> u64 {
    bytes.wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1)
}

/// Whether `bytes` is a multiple of the page size.
#[must_use]
pub const fn is_page_aligned(bytes: u64) -> bool {
    bytes & (PAGE_SIZE - 1) == 0
}
