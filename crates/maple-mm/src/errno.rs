//! The error numbers the calls of this crate return, as Linux numbers them.

use core::fmt;

/// A Linux error number.
///
/// # Examples
///
/// ```
/// use maple_mm::Errno;
/// assert_eq!(Errno::ENOMEM.raw(), 12);
/// assert_eq!(Errno::ENOMEM.name(), "ENOMEM");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(i32);

macro_rules! errnos {
    ($($name:ident = $number:literal, $meaning:literal;)*) => {
        impl Errno {
            $(#[doc = $meaning] pub const $name: Self = Self($number);)*

            /// Every error number this crate can return.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The symbolic name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($number => stringify!($name),)*
                    _ => "unknown error number",
                }
            }

            const fn meaning(self) -> &'static str {
                match self.0 {
                    $($number => $meaning,)*
                    _ => "",
                }
            }
        }
    };
}

errnos! {
    EPERM = 1, "The operation is not permitted: a seal, a privilege or a lowest address forbids it.";
    ENOENT = 2, "Nothing of the range has what is to be changed.";
    EINTR = 4, "The call was cancelled.";
    EBADF = 9, "The file descriptor is not open.";
    EAGAIN = 11, "A limit on locked memory was reached, or a resource is short for now.";
    ENOMEM = 12, "No address space, memory, mapping slot or mapped page where one is needed.";
    EACCES = 13, "The access was not granted by the file or the mapping.";
    EFAULT = 14, "The address is not mapped as the call needs it.";
    EBUSY = 16, "Locked pages cannot be invalidated, or another userfaultfd watches the range.";
    EEXIST = 17, "The range is occupied already.";
    ENODEV = 19, "The file cannot be mapped.";
    EINVAL = 22, "An argument is malformed.";
    ETXTBSY = 26, "The file is in use as swap or program text.";
    EIDRM = 43, "The shared memory segment was removed.";
    ENOSYS = 38, "The kernel has no such call.";
    EOVERFLOW = 75, "The page offset does not fit.";
    EOPNOTSUPP = 95, "A flag is not supported.";
    EHWPOISON = 133, "A page of the range has failed in hardware.";
}

impl Errno {
    /// The error a raw result of a system call stands for: one of the last 4095 numbers.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::Errno;
    /// assert_eq!(Errno::from_result(-12_i64 as u64), Some(Errno::ENOMEM));
    /// assert_eq!(Errno::from_result(0x1000), None);
    /// ```
    #[must_use]
    pub const fn from_result(result: u64) -> Option<Self> {
        let negated = result.wrapping_neg();
        if 0 < negated && negated < 4096 {
            Some(Self(negated as i32))
        } else {
            None
        }
    }

    /// The positive number, as user space sees it in `errno`.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.meaning())
    }
}

impl core::error::Error for Errno {}
