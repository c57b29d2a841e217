//! The text of `/proc/PID/maps`, byte for byte, and one of its lines read back.

use core::fmt::{self, Write};

use crate::abi::PAGE_SIZE;
use crate::flags::VmFlags;
use crate::layout::Gate;
use crate::moment::Shown;
use crate::page_side::PageSide;
use crate::space::AddressSpace;
use crate::vma::Vma;

/// The column (counted from 0) up to which a line is padded before the space and the name.
const NAME_PADDING: usize = 72;
/// The kernel's gate page.
const GATE_START: u64 = 0xffff_ffff_ff60_0000;

/// One line of `/proc/PID/maps`, without its newline.
///
/// # Examples
///
/// ```
/// use maple_mm::MapsLine;
/// let text = "7ffc0000-7ffe0000 rw-p 00000000 00:00 0                                  [stack]";
/// let line = MapsLine::parse(text).unwrap();
/// assert_eq!(line.name, "[stack]");
/// assert_eq!(line.to_string(), text);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapsLine<'a> {
    /// The first byte.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
    /// `READ`, `WRITE`, `EXEC` and `MAYSHARE` (`s` instead of `p`); nothing else.
    pub flags: VmFlags,
    /// The offset into the file, in bytes.
    pub offset: u64,
    /// Major and minor number of the file's device.
    pub device: (u32, u32),
    /// The file's inode.
    pub inode: u64,
    /// What stands after the padding; empty where there is no name.
    pub name: &'a str,
}

/// Why a text is no line of `/proc/PID/maps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapsLineError {
    /// A field is missing; the name of the field.
    Missing(&'static str),
    /// A field is malformed; the name of the field.
    Malformed(&'static str),
}

impl fmt::Display for MapsLineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(field) => write!(f, "a maps line without {field}"),
            Self::Malformed(field) => write!(f, "a maps line with a malformed {field}"),
        }
    }
}

impl core::error::Error for MapsLineError {}

fn hex(text: &str, field: &'static str) -> Result<u64, MapsLineError> {
    u64::from_str_radix(text, 16).map_err(|_| MapsLineError::Malformed(field))
}

fn pair<'a>(
    text: &'a str,
    separator: char,
    field: &'static str,
) -> Result<(&'a str, &'a str), MapsLineError> {
    text.split_once(separator)
        .ok_or(MapsLineError::Missing(field))
}

fn parse_access(text: &str) -> Option<VmFlags> {
    let [read, write, exec, share] = text.as_bytes() else {
        return None;
    };
    let one = |byte: u8, letter: u8, flag: VmFlags| match byte {
        b'-' => Some(VmFlags::empty()),
        byte if byte == letter => Some(flag),
        _ => None,
    };
    let shared = match share {
        b's' => VmFlags::MAYSHARE,
        b'p' => VmFlags::empty(),
        _ => return None,
    };
    Some(
        one(*read, b'r', VmFlags::READ)?
            | one(*write, b'w', VmFlags::WRITE)?
            | one(*exec, b'x', VmFlags::EXEC)?
            | shared,
    )
}

impl<'a> MapsLine<'a> {
    /// Reads one line; a newline at its end is allowed.
    ///
    /// # Errors
    ///
    /// A [`MapsLineError`] that names the field.
    pub fn parse(line: &'a str) -> Result<Self, MapsLineError> {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let (range, rest) = pair(line, ' ', "permissions")?;
        let (access, rest) = pair(rest, ' ', "offset")?;
        let (offset, rest) = pair(rest, ' ', "device")?;
        let (device, rest) = pair(rest, ' ', "inode")?;
        // The kernel ends a line without a name in one space.
        let (inode, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let (start, end) = pair(range, '-', "end")?;
        let (major, minor) = pair(device, ':', "minor device number")?;
        let number = |text, field| {
            hex(text, field).and_then(|number| {
                u32::try_from(number).map_err(|_| MapsLineError::Malformed(field))
            })
        };
        Ok(Self {
            start: hex(start, "start")?,
            end: hex(end, "end")?,
            flags: parse_access(access).ok_or(MapsLineError::Malformed("permissions"))?,
            offset: hex(offset, "offset")?,
            device: (number(major, "device")?, number(minor, "device")?),
            inode: inode
                .parse()
                .map_err(|_| MapsLineError::Malformed("inode"))?,
            name: rest.trim_start_matches(' '),
        })
    }
}

/// What stands before the name, put together without the machinery of [`core::fmt`]: whoever
/// compares after each call makes this text more often than anything else.
struct Columns {
    bytes: [u8; Self::LONGEST],
    len: usize,
}

impl Columns {
    /// Three numbers of 16 digits, two of 8, one of 20, the access and 9 separators.
    const LONGEST: usize = 3 * 16 + 2 * 8 + 20 + 4 + 9;

    const fn new() -> Self {
        Self {
            bytes: [b' '; Self::LONGEST],
            len: 0,
        }
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    /// `number` in the given base, with zeros before it up to `least` digits.
    fn number<const BASE: u64>(&mut self, number: u64, least: usize) {
        let digits = number.checked_ilog(BASE).map_or(1, |log| log as usize + 1);
        let end = self.len + digits.max(least);
        let mut rest = number;
        for place in self.bytes[self.len..end].iter_mut().rev() {
            *place = b"0123456789abcdef"[(rest % BASE) as usize];
            rest /= BASE;
        }
        self.len = end;
    }

    fn text(&self) -> Result<&str, fmt::Error> {
        core::str::from_utf8(&self.bytes[..self.len]).map_err(|_| fmt::Error)
    }
}

impl MapsLine<'_> {
    #[inline]
    fn write(&self, out: &mut (impl Write + ?Sized)) -> fmt::Result {
        const SPACES: &str =
            "                                                                        ";
        const {
            assert!(
                SPACES.len() == NAME_PADDING,
                "as many as ever stand before a name"
            );
        };
        let columns = self.columns();
        out.write_str(columns.text()?)?;
        if self.name.is_empty() {
            return Ok(());
        }
        out.write_str(&SPACES[columns.len.min(NAME_PADDING)..])?;
        out.write_str(" ")?;
        out.write_str(self.name)
    }

    fn columns(&self) -> Columns {
        let mut columns = Columns::new();
        columns.number::<16>(self.start, 8);
        columns.byte(b'-');
        columns.number::<16>(self.end, 8);
        columns.byte(b' ');
        let access = [
            (VmFlags::READ, b'r', b'-'),
            (VmFlags::WRITE, b'w', b'-'),
            (VmFlags::EXEC, b'x', b'-'),
            (VmFlags::MAYSHARE, b's', b'p'),
        ];
        for (flag, with, without) in access {
            columns.byte(if self.flags.contains(flag) {
                with
            } else {
                without
            });
        }
        columns.byte(b' ');
        columns.number::<16>(self.offset, 8);
        columns.byte(b' ');
        columns.number::<16>(self.device.0.into(), 2);
        columns.byte(b':');
        columns.number::<16>(self.device.1.into(), 2);
        columns.byte(b' ');
        columns.number::<10>(self.inode, 1);
        columns.byte(b' ');
        columns
    }
}

impl fmt::Display for MapsLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

impl<P: PageSide> AddressSpace<P> {
    /// The line of `/proc/PID/maps` for one of this address space's mappings.
    #[must_use]
    pub fn maps_line<'a>(&self, vma: &'a Vma) -> MapsLine<'a> {
        self.shown().maps_line(vma)
    }

    /// The name a mapping has here: its own, else `[heap]` or `[stack]` by where it lies, else
    /// what its anonymous memory was called.
    #[must_use]
    pub fn name_of<'a>(&self, vma: &'a Vma) -> &'a str {
        self.shown().name_of(vma)
    }

    /// Writes the text of `/proc/PID/maps`.
    ///
    /// # Errors
    ///
    /// What `out` says.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, abi::PROT_READ};
    /// let mut space = AddressSpace::empty();
    /// let addr = space.mmap(MmapRequest::anonymous(8192, PROT_READ)).unwrap();
    /// let mut text = String::new();
    /// space.write_maps(&mut text).unwrap();
    /// assert!(text.starts_with(&format!("{addr:08x}-")));
    /// ```
    pub fn write_maps(&self, out: &mut dyn Write) -> fmt::Result {
        self.shown().write_maps(out)
    }
}

impl Shown<'_> {
    pub(crate) fn maps_line<'v>(&self, vma: &'v Vma) -> MapsLine<'v> {
        let shown = VmFlags::ACCESS | VmFlags::MAYSHARE;
        let file = vma.file();
        MapsLine {
            start: vma.start(),
            end: vma.end(),
            flags: vma.flags() & shown,
            offset: file.map_or(0, |_| vma.page_offset().wrapping_mul(PAGE_SIZE)),
            device: file.map_or((0, 0), |file| file.device),
            inode: file.map_or(0, |file| file.inode),
            name: self.name_of(vma),
        }
    }

    pub(crate) fn name_of<'v>(&self, vma: &'v Vma) -> &'v str {
        let given = vma.held().name();
        if let Some(name) = vma.name() {
            // Shared anonymous memory is called otherwise as soon as it is given a name.
            return given.unwrap_or(name);
        }
        let layout = self.layout;
        if vma.start() < layout.brk && vma.end() > layout.start_brk {
            return "[heap]";
        }
        // LINUX: a mapping that ends exactly at the initial stack pointer counts.
        if vma.start() <= layout.start_stack && vma.end() >= layout.start_stack {
            return "[stack]";
        }
        given.unwrap_or_default()
    }

    pub(crate) fn write_maps(&self, out: &mut dyn Write) -> fmt::Result {
        for (_, vma) in self.tree {
            self.maps_line(vma).write(out)?;
            out.write_char('\n')?;
        }
        self.write_gate(out)
    }

    fn write_gate(&self, out: &mut dyn Write) -> fmt::Result {
        let Some(line) = self.gate_line() else {
            return Ok(());
        };
        line.write(out)?;
        out.write_char('\n')
    }

    /// The line of the kernel's gate page, if there is one.
    pub(crate) fn gate_line(&self) -> Option<MapsLine<'static>> {
        let flags = match self.layout.gate {
            Gate::Absent => return None,
            Gate::ExecuteOnly => VmFlags::EXEC,
            Gate::Readable => VmFlags::READ | VmFlags::EXEC,
        };
        Some(MapsLine {
            start: GATE_START,
            end: GATE_START + PAGE_SIZE,
            flags,
            offset: 0,
            device: (0, 0),
            inode: 0,
            name: "[vsyscall]",
        })
    }
}
