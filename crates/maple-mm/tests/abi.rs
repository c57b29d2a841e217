//! The numbers user space passes, compared with the kernel's headers.

use linux_raw_sys::{errno, general as kernel};
use maple_mm::{Errno, abi};

macro_rules! same {
    ($($name:ident)*) => {
        $(assert_eq!(abi::$name as u64, u64::from(kernel::$name), stringify!($name));)*
    };
}

#[test]
fn constants_are_the_kernels() {
    same!(PROT_NONE PROT_READ PROT_WRITE PROT_EXEC PROT_SEM PROT_GROWSDOWN PROT_GROWSUP);
    same!(MAP_SHARED MAP_PRIVATE MAP_SHARED_VALIDATE MAP_DROPPABLE MAP_TYPE MAP_FIXED);
    same!(MAP_ANONYMOUS MAP_32BIT MAP_ABOVE4G MAP_GROWSDOWN MAP_DENYWRITE MAP_EXECUTABLE);
    same!(MAP_LOCKED MAP_NORESERVE MAP_POPULATE MAP_NONBLOCK MAP_STACK MAP_HUGETLB MAP_SYNC);
    same!(MAP_FIXED_NOREPLACE MAP_UNINITIALIZED MAP_HUGE_SHIFT MAP_HUGE_MASK);
    same!(MREMAP_MAYMOVE MREMAP_FIXED MREMAP_DONTUNMAP);
    same!(MLOCK_ONFAULT MCL_CURRENT MCL_FUTURE MCL_ONFAULT MS_ASYNC MS_INVALIDATE MS_SYNC);
    same!(UFFDIO_REGISTER_MODE_MISSING UFFDIO_REGISTER_MODE_WP UFFDIO_REGISTER_MODE_MINOR);
    same!(MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED MADV_DONTNEED MADV_FREE);
    same!(MADV_REMOVE MADV_DONTFORK MADV_DOFORK MADV_MERGEABLE MADV_UNMERGEABLE MADV_HUGEPAGE);
    same!(MADV_NOHUGEPAGE MADV_DONTDUMP MADV_DODUMP MADV_WIPEONFORK MADV_KEEPONFORK MADV_COLD);
    same!(MADV_PAGEOUT MADV_POPULATE_READ MADV_POPULATE_WRITE MADV_DONTNEED_LOCKED);
    same!(MADV_COLLAPSE MADV_HWPOISON MADV_SOFT_OFFLINE MADV_GUARD_INSTALL MADV_GUARD_REMOVE);
}

macro_rules! same_errno {
    ($($name:ident)*) => {{
        $(
            assert_eq!(Errno::$name.raw() as u32, errno::$name, stringify!($name));
            assert_eq!(Errno::$name.name(), stringify!($name));
        )*
        [$(Errno::$name),*].len()
    }};
}

#[test]
fn errnos_are_the_kernels() {
    let compared = same_errno!(
        EPERM ENOENT EINTR EBADF EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST ENODEV EINVAL ETXTBSY ENOSYS EIDRM EOVERFLOW
        EOPNOTSUPP EHWPOISON
    );
    assert_eq!(compared, Errno::ALL.len());
}
