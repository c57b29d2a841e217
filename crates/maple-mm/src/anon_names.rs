//! Names of anonymous memory: `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME)`.

use alloc::boxed::Box;
use alloc::string::String;

use crate::abi::{is_page_aligned, page_ceil};
use crate::counted::Counted;
use crate::errno::Errno;
use crate::file::FileKind;
use crate::held::Attributes;
use crate::modify::{Change, Holes, Part};
use crate::page_side::PageSide;
use crate::space::AddressSpace;
use crate::vma::Vma;

/// The longest name, in bytes, without the NUL that ends it.
const LONGEST: usize = 79;

/// A name as `/proc/PID/maps` prints it, brackets included.
pub(crate) type ShownName = Counted<Box<str>>;

impl<P: PageSide> AddressSpace<P> {
    /// Names the anonymous memory of `addr..addr + len`, or takes its name away.
    ///
    /// A name keeps neighbours of other names apart, and is shown as `[anon:NAME]`, of shared
    /// memory as `[anon_shmem:NAME]`. What is split, moved or forked keeps it; new memory has
    /// none.
    ///
    /// # Complexity
    ///
    /// O(m log n) for m mappings in the range.
    ///
    /// # Errors
    ///
    /// - [`Errno::EINVAL`]: a kernel without such names; a name longer than 79 bytes, or with a
    ///   byte that is not printable or one of ``\`$[]``; an `addr` that is no page boundary, or a
    ///   range that wraps.
    /// - [`Errno::EBADF`]: a file stands behind a mapping; what precedes is named.
    /// - [`Errno::EAGAIN`]: `max_map_count` is reached; what precedes is named.
    /// - [`Errno::ENOMEM`]: a hole, and what is mapped around it is named all the same; or there
    ///   is no memory for the name.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Configured, LinuxProfile, MmapRequest, Setup, abi::PROT_READ};
    /// let profile = LinuxProfile {
    ///     anon_vma_name: Configured::Yes,
    ///     ..LinuxProfile::V6_18
    /// };
    /// let setup = Setup { profile, ..Setup::default() };
    /// let mut space = AddressSpace::from_layout(setup, []).unwrap();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ))?;
    /// space.name_anonymous(addr, 4096, Some(b"arena"))?;
    /// assert_eq!(space.name_of(space.vma_at(addr).unwrap()), "[anon:arena]");
    /// assert_eq!(space.map_count(), 2);
    /// # Ok::<(), maple_mm::Errno>(())
    /// ```
    pub fn name_anonymous(
        &mut self,
        addr: u64,
        len: u64,
        name: Option<&[u8]>,
    ) -> Result<(), Errno> {
        if !self.profile.anon_vma_name.is_yes() {
            return Err(Errno::EINVAL);
        }
        let names = name.map(Names::new).transpose()?;
        let rounded = page_ceil(len);
        if !is_page_aligned(addr) || len != 0 && rounded == 0 {
            return Err(Errno::EINVAL);
        }
        let end = addr.checked_add(rounded).ok_or(Errno::EINVAL)?;
        let holes = self.walk(addr..end, |space, part| {
            space.name_part(part, names.as_ref())
        })?;
        if holes == Holes::Some {
            Err(Errno::ENOMEM)
        } else {
            Ok(())
        }
    }

    fn name_part(&mut self, part: Part, names: Option<&Names>) -> Result<(), Errno> {
        let is_shared = is_shared_anonymous(&part.vma);
        if part.vma.file().is_some() && !is_shared {
            return Err(Errno::EBADF);
        }
        let name = names.map(|names| {
            let name = if is_shared {
                &names.shared
            } else {
                &names.private
            };
            name.clone()
        });
        if part.vma.attributes().name == name {
            return Ok(());
        }
        // LINUX: the limit on mappings shows as EAGAIN here.
        self.modify(part.named(name)?).map_err(|errno| match errno {
            Errno::ENOMEM => Errno::EAGAIN,
            errno => errno,
        })
    }
}

/// One name, in both ways it can be shown.
struct Names {
    private: ShownName,
    shared: ShownName,
}

impl Names {
    fn new(name: &[u8]) -> Result<Self, Errno> {
        let name = core::str::from_utf8(name).map_err(|_| Errno::EINVAL)?;
        let may_hold = |byte: u8| {
            let is_printable = matches!(byte, b' '..=b'~');
            is_printable && !matches!(byte, b'\\' | b'`' | b'$' | b'[' | b']')
        };
        if name.len() > LONGEST || !name.bytes().all(may_hold) {
            return Err(Errno::EINVAL);
        }
        Ok(Self {
            private: shown("[anon:", name)?,
            shared: shown("[anon_shmem:", name)?,
        })
    }
}

fn shown(kind: &str, name: &str) -> Result<ShownName, Errno> {
    let mut text = String::new();
    text.try_reserve_exact(kind.len() + name.len() + 1)
        .map_err(|_| Errno::ENOMEM)?;
    text.push_str(kind);
    text.push_str(name);
    text.push(']');
    // Reserved exactly, so nothing is allocated anew.
    Counted::new(text.into_boxed_str())
}

/// Whether the kernel made the object behind it for `MAP_SHARED | MAP_ANONYMOUS`.
fn is_shared_anonymous(vma: &Vma) -> bool {
    vma.file()
        .is_some_and(|file| file.kind == FileKind::Shmem && &*file.name == "/dev/zero (deleted)")
}

impl Part {
    fn named(self, name: Option<ShownName>) -> Result<Change, Errno> {
        let attributes = Attributes {
            name,
            ..self.vma.attributes()
        };
        let held = self.vma.held().with_attributes(attributes)?;
        let flags = self.vma.flags();
        Ok(Change {
            held: Some(held),
            ..self.with_flags(flags)
        })
    }
}
