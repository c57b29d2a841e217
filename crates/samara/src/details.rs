//! What `smaps` and `status` tell beyond `maps`, in lines that can be compared: the flags and the
//! size of the pages of each mapping, and the counters that follow from mappings.

use std::fmt::Write as _;

/// The counters of `status` that need no pages. `VmPin` is none: drivers pin what they are given (the
/// buffers of an `io_uring`, a ring of `perf`), which no call on memory tells.
const COUNTERS: [&str; 7] = [
    "VmPeak:", "VmSize:", "VmLck:", "VmData:", "VmStk:", "VmExe:", "VmLib:",
];

/// One line for each mapping of `smaps`, and one for each counter of `status`.
///
/// Both the kernel's texts and the model's go through here, so that only what both have counts.
pub(crate) fn digest(smaps: &str, status: &str) -> String {
    let mut text = String::new();
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        match first {
            "Size:" | "KernelPageSize:" | "MMUPageSize:" => {
                let _ = write!(text, " {}", words.next().unwrap_or_default());
            }
            "VmFlags:" => {
                for word in words {
                    let _ = write!(text, " {word}");
                }
                text.push('\n');
            }
            _ if !first.ends_with(':') => text.push_str(first),
            _ => {}
        }
    }
    let counters = status
        .lines()
        .filter(|line| COUNTERS.iter().any(|name| line.starts_with(name)));
    for line in counters {
        let words: Vec<&str> = line.split_whitespace().collect();
        let _ = writeln!(text, "{}", words.join(" "));
    }
    text
}

/// The range of the mapping that a line of a [`digest`] is of; `None` of a counter.
pub(crate) fn range_of(line: &str) -> Option<(u64, u64)> {
    let (start, rest) = line.split_once('-')?;
    let end = rest.split(' ').next()?;
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    Some((number(start)?, number(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_follows_from_mappings_is_kept() {
        let smaps = "\
00100000-00103000 rw-p 00000000 00:00 0 
Size:                 12 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                  12 kB
THPeligible:           0
VmFlags: rd wr mr mw me ac 
";
        let status = "Name:\tx\nVmPeak:\t      12 kB\nVmPin:\t       4 kB\nVmRSS:\t       4 kB\n";
        let expected = "00100000-00103000 12 4 4 rd wr mr mw me ac\nVmPeak: 12 kB\n";
        assert_eq!(digest(smaps, status), expected);
        let ranges: Vec<_> = expected.lines().map(range_of).collect();
        assert_eq!(ranges, [Some((0x10_0000, 0x10_3000)), None]);
    }

    #[test]
    fn our_own_process_has_a_line_for_each_mapping_and_counter() {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
        let text = digest(&read("smaps"), &read("status"));
        let counters = text.lines().filter(|line| line.starts_with("Vm")).count();
        assert_eq!(counters, COUNTERS.len());
        assert!(text.lines().any(|line| line.ends_with("gd ac")), "{text}");
    }
}
