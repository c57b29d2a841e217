//! Compares an address space's model with the kernel's: the whole text, or a neighbourhood.

use crate::engine::MmId;
use crate::facts::Handles;
use crate::kernel::KernelMapping;
use crate::mirror::Mirror;
use crate::observe;
use crate::procfs::MapLine;

/// How much was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Whole,
    Neighbourhood,
}

/// The outcome of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// Nobody uses the address space any more.
    Gone,
    /// Identical; with the whole text if that was compared.
    Same(Option<String>),
    Different {
        kernel: String,
        model: String,
        extent: Extent,
    },
}

impl Comparison {
    pub(crate) const fn is_different(&self) -> bool {
        matches!(self, Self::Different { .. })
    }
}

/// Compares the mappings that overlap or touch `near`.
pub(crate) fn neighbourhood(
    mirror: &Mirror,
    mm: MmId,
    handles: &Handles,
    near: &[(u64, u64)],
) -> Comparison {
    let (mut kernel, mut model) = (String::new(), String::new());
    for &(start, end) in near {
        let (start, end) = (start.saturating_sub(1), end.saturating_add(1));
        for mapping in observe::mappings_in(handles, start, end) {
            kernel.push_str(&line(&mapping));
        }
        for mapping in mirror.mappings_in(mm, start, end) {
            model.push_str(&line(&mapping));
        }
    }
    if kernel == model {
        Comparison::Same(None)
    } else {
        let extent = Extent::Neighbourhood;
        Comparison::Different {
            kernel,
            model,
            extent,
        }
    }
}

fn line(mapping: &KernelMapping) -> String {
    let letter = |bit: u32, letter: char, none: char| {
        if mapping.access & (1 << bit) == 0 {
            none
        } else {
            letter
        }
    };
    let access = [
        letter(0, 'r', '-'),
        letter(1, 'w', '-'),
        letter(2, 'x', '-'),
        letter(3, 's', 'p'),
    ];
    let access: String = access.into_iter().collect();
    let KernelMapping {
        start,
        end,
        offset,
        device: (major, minor),
        inode,
        ..
    } = mapping;
    format!("{start:08x}-{end:08x} {access} {offset:08x} {major:02x}:{minor:02x} {inode}\n")
}

/// The kernel's lines whose file has another name than in the model, if names are all that
/// differs.
pub(crate) fn renamed(kernel: &str, model: &str) -> Option<Vec<MapLine>> {
    let mut renamed = Vec::new();
    let (mut ours, mut theirs) = (model.lines(), kernel.lines());
    loop {
        match (theirs.next(), ours.next()) {
            (None, None) => return (!renamed.is_empty()).then_some(renamed),
            (Some(theirs), Some(ours)) if theirs == ours => {}
            (Some(theirs), Some(ours)) => {
                let (theirs, ours) = (MapLine::parse(theirs)?, MapLine::parse(ours)?);
                let same = MapLine {
                    name: ours.name.clone(),
                    ..theirs.clone()
                } == ours;
                if !same || !theirs.has_file() {
                    return None;
                }
                renamed.push(theirs);
            }
            _ => return None,
        }
    }
}

/// Whether nothing differs but where mappings that are alike touch.
pub(crate) fn differ_in_borders(kernel: &str, model: &str) -> bool {
    match (without_borders(kernel), without_borders(model)) {
        (Some(kernel), Some(model)) => kernel == model,
        _ => false,
    }
}

/// The mappings, those that touch and could be one as one.
fn without_borders(text: &str) -> Option<Vec<MapLine>> {
    let mut joined: Vec<MapLine> = Vec::new();
    for line in text.lines() {
        let line = MapLine::parse(line)?;
        match joined.last_mut() {
            Some(last) if is_continued(last, &line) => last.end = line.end,
            _ => joined.push(line),
        }
    }
    Some(joined)
}

fn is_continued(line: &MapLine, next: &MapLine) -> bool {
    let offset = if line.has_file() {
        line.offset.wrapping_add(line.end - line.start)
    } else {
        line.offset
    };
    let continued = MapLine {
        start: line.end,
        end: next.end,
        offset,
        ..line.clone()
    };
    continued == *next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_border_is_where_mappings_that_are_alike_touch() {
        let one = "1000-3000 rw-p 00000000 00:00 0 \n";
        let two = "1000-2000 rw-p 00000000 00:00 0 \n2000-3000 rw-p 00000000 00:00 0 \n";
        assert!(differ_in_borders(one, two));
        assert!(!differ_in_borders(
            one,
            &two.replace("2000-3000 rw", "2000-3000 r-")
        ));
        assert!(!differ_in_borders(
            one,
            &two.replace("2000-3000", "2000-4000")
        ));
        let file = "1000-3000 r--p 00005000 fe:00 7      /a\n";
        let pages =
            "1000-2000 r--p 00005000 fe:00 7      /a\n2000-3000 r--p 00006000 fe:00 7      /a\n";
        assert!(differ_in_borders(file, pages));
        assert!(!differ_in_borders(
            file,
            &pages.replace("6000 fe", "7000 fe")
        ));
    }

    #[test]
    fn a_deleted_file_is_a_rename_and_a_moved_mapping_is_not() {
        let text = "1000-2000 r--p 00000000 fe:00 7      /a\n2000-3000 rw-p 00000000 00:00 0 \n";
        let deleted = text.replace("/a", "/a (deleted)");
        let renamed_lines = renamed(&deleted, text).unwrap();
        assert_eq!(renamed_lines.len(), 1);
        assert_eq!(renamed_lines[0].name, "/a (deleted)");
        assert_eq!(renamed(&text.replace("2000-3000", "2000-4000"), text), None);
        assert_eq!(renamed(&text.replace(" 7 ", " 8 "), text), None);
        assert_eq!(renamed(text, text), None);
    }
}
