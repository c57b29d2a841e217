//! The text of `/proc/PID/maps`, byte for byte, and one of its lines read back.

use core::fmt::{self, Write};

use crate::abi::PAGE_SIZE;
use crate::flags::VmFlags;
use crate::layout::Gate;
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

/// Passes text on and counts it.
struct Counting<'w, W: Write + ?Sized> {
    out: &'w mut W,
    written: usize,
}

impl<W: Write + ?Sized> Write for Counting<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.written += text.len();
        self.out.write_str(text)
    }
}

impl MapsLine<'_> {
    fn write(&self, out: &mut (impl Write + ?Sized)) -> fmt::Result {
        let letter = |flag, letter| {
            if self.flags.contains(flag) {
                letter
            } else {
                '-'
            }
        };
        let mut out = Counting { out, written: 0 };
        write!(
            out,
            "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ",
            self.start,
            self.end,
            letter(VmFlags::READ, 'r'),
            letter(VmFlags::WRITE, 'w'),
            letter(VmFlags::EXEC, 'x'),
            if self.flags.contains(VmFlags::MAYSHARE) {
                's'
            } else {
                'p'
            },
            self.offset,
            self.device.0,
            self.device.1,
            self.inode,
        )?;
        if self.name.is_empty() {
            return Ok(());
        }
        let padding = NAME_PADDING.saturating_sub(out.written);
        write!(out, "{:padding$} {}", "", self.name)
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

    /// The name a mapping has here: its own, else `[heap]` or `[stack]` by where it lies, else
    /// what its anonymous memory was called.
    #[must_use]
    pub fn name_of<'a>(&self, vma: &'a Vma) -> &'a str {
        let given = vma.held().name();
        if let Some(name) = vma.name() {
            // Shared anonymous memory is called otherwise as soon as it is given a name.
            return given.unwrap_or(name);
        }
        let layout = &self.layout;
        if vma.start() < layout.brk && vma.end() > layout.start_brk {
            return "[heap]";
        }
        // LINUX: a mapping that ends exactly at the initial stack pointer counts.
        if vma.start() <= layout.start_stack && vma.end() >= layout.start_stack {
            return "[stack]";
        }
        given.unwrap_or_default()
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
        for vma in self.vmas() {
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
