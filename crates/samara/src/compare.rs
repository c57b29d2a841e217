//! Compares an address space's model with the kernel's: the whole text, or a neighbourhood.

use crate::engine::MmId;
use crate::facts::Handles;
use crate::kernel::KernelMapping;
use crate::mirror::Mirror;
use crate::observe;
use crate::procfs::MapLine;

/// The outcome of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// Nobody uses the address space any more.
    Gone,
    /// Identical; with the whole text if that was compared.
    Same(Option<String>),
    /// The whole texts.
    Different { kernel: String, model: String },
}

impl Comparison {
    pub(crate) const fn is_different(&self) -> bool {
        matches!(self, Self::Different { .. })
    }
}

/// Whether the mappings that overlap or touch `near` are the same, but for their names. Says no
/// where they are many: those are better compared as text.
pub(crate) fn is_same_near(
    mirror: &Mirror,
    mm: MmId,
    handles: &Handles,
    near: &[(u64, u64)],
) -> bool {
    neighbourhoods(near).into_iter().all(|(start, end)| {
        let kernel = observe::mappings_in(handles, start, end);
        are_few_and_same(kernel, mirror.mappings_in(mm, start, end))
    })
}

/// The ranges with what touches them, ascending and apart from each other.
fn neighbourhoods(near: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut near: Vec<_> = near
        .iter()
        .map(|&(start, end)| (start.saturating_sub(1), end.saturating_add(1)))
        .collect();
    near.sort_unstable();
    near.dedup_by(|next, last| {
        let overlap = next.0 <= last.1;
        if overlap {
            last.1 = last.1.max(next.1);
        }
        overlap
    });
    near
}

fn are_few_and_same(
    kernel: impl Iterator<Item = KernelMapping>,
    mut model: impl Iterator<Item = KernelMapping>,
) -> bool {
    const FEW: usize = 64;
    let mut kernel = kernel.enumerate();
    loop {
        match (kernel.next(), model.next()) {
            (None, None) => return true,
            (Some((index, kernel)), Some(model)) if index < FEW && kernel == model => {}
            _ => return false,
        }
    }
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

/// The mappings that are one in one of both texts and several that touch in the other, if nothing
/// else differs.
pub(crate) fn differing_borders(kernel: &str, model: &str) -> Option<Vec<(u64, u64)>> {
    if without_borders(kernel)? != without_borders(model)? {
        return None;
    }
    let ranges = |text: &str| -> Vec<(u64, u64)> {
        let lines = text.lines().filter_map(MapLine::parse);
        lines.map(|line| (line.start, line.end)).collect()
    };
    let (kernel, model) = (ranges(kernel), ranges(model));
    let only = |of: &[(u64, u64)], other: &[(u64, u64)]| -> Vec<(u64, u64)> {
        let divided = |range: &&(u64, u64)| {
            let mut starts = other.iter();
            starts.any(|&(start, _)| range.0 < start && start < range.1)
        };
        of.iter().filter(divided).copied().collect()
    };
    Some([only(&kernel, &model), only(&model, &kernel)].concat())
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

    fn mappings(count: u64) -> Vec<KernelMapping> {
        let one = |index: u64| KernelMapping {
            start: index << 12,
            end: (index + 1) << 12,
            access: index & 1,
            offset: 0,
            device: (0, 0),
            inode: 0,
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn neighbours_that_differ_lack_or_are_many_are_not_taken_for_the_same() {
        let same = |kernel: &[KernelMapping], model: &[KernelMapping]| {
            are_few_and_same(kernel.iter().cloned(), model.iter().cloned())
        };
        let (few, many) = (mappings(64), mappings(65));
        assert!(same(&few, &few) && same(&[], &[]));
        assert!(!same(&many, &many));
        assert!(!same(&few, &few[..63]) && !same(&few[..63], &few));
        let mut other = few.clone();
        other[63].access ^= 2;
        assert!(!same(&few, &other));
    }

    #[test]
    fn neighbourhoods_reach_one_byte_further_and_meet_once() {
        let near = [(0x5000, 0x6000), (0x1000, 0x2000), (0x2000, 0x3000)];
        assert_eq!(neighbourhoods(&near), [(0xfff, 0x3001), (0x4fff, 0x6001)]);
        let ends = [(0, 0x1000), (u64::MAX - 0xfff, u64::MAX)];
        assert_eq!(
            neighbourhoods(&ends),
            [(0, 0x1001), (u64::MAX - 0x1000, u64::MAX)]
        );
    }

    #[test]
    fn a_border_is_where_mappings_that_are_alike_touch() {
        let one = "1000-3000 rw-p 00000000 00:00 0 \n";
        let two = "1000-2000 rw-p 00000000 00:00 0 \n2000-3000 rw-p 00000000 00:00 0 \n";
        assert_eq!(differing_borders(one, two), Some(vec![(0x1000, 0x3000)]));
        assert_eq!(differing_borders(two, two), Some(Vec::new()));
        assert_eq!(
            differing_borders(one, &two.replace("2000-3000 rw", "2000-3000 r-")),
            None
        );
        assert_eq!(
            differing_borders(one, &two.replace("2000-3000", "2000-4000")),
            None
        );
        let file = "1000-3000 r--p 00005000 fe:00 7      /a\n";
        let pages =
            "1000-2000 r--p 00005000 fe:00 7      /a\n2000-3000 r--p 00006000 fe:00 7      /a\n";
        assert_eq!(differing_borders(file, pages), Some(vec![(0x1000, 0x3000)]));
        assert_eq!(
            differing_borders(file, &pages.replace("6000 fe", "7000 fe")),
            None
        );
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
