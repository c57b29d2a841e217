//! `samara spawn` from outside: what it prints and writes, what it refuses, and that the process
//! it forks never outlives it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const STRATEGIES: [&str; 6] = [
    "store-each",
    "bulk",
    "duplicate+store",
    "duplicate+replace",
    "duplicate-with",
    "snapshot",
];

fn samara(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samara"));
    command.arg("spawn").args(arguments);
    command
}

#[track_caller]
fn ran(arguments: &[&str]) -> Output {
    let output = samara(arguments).output().expect("samara runs");
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    output
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn json(arguments: &[&str]) -> Value {
    let output = ran(&[arguments, &["--json", "-"]].concat());
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The names of the lines of a kind.
fn names(report: &Value, kind: &str) -> Vec<String> {
    let lines = report["lines"].as_array().expect("lines").iter();
    lines
        .filter(|line| line["kind"] == kind)
        .map(|line| line["name"].as_str().expect("a name").to_owned())
        .collect()
}

#[track_caller]
fn assert_points_are_sound(report: &Value) {
    for line in report["lines"].as_array().expect("lines") {
        for point in line["points"].as_array().expect("points") {
            let forks = point["forks_in_ten_seconds"].as_f64().expect("forks");
            let per_vma = point["nanoseconds_per_vma"].as_f64().expect("ns");
            let vmas = point["vmas"].as_f64().expect("mappings");
            assert!(forks > 0.0, "{line}");
            assert!((forks * per_vma * vmas / 10e9 - 1.0).abs() < 1e-6, "{line}");
            assert!(point["vmas"].as_u64() >= point["size"].as_u64(), "{line}");
            let is_measured = line["kind"] != "published";
            assert_eq!(point["spread_percent"].is_number(), is_measured, "{line}");
        }
    }
}

mod results {
    use super::*;

    #[test]
    fn the_json_has_every_line_at_every_size() {
        let report = json(&["--vmas", "21,121", "--seconds", "0.05"]);
        assert_eq!(report["sizes"], serde_json::json!([21, 121]));
        assert_eq!(report["touched_percent"], 0);
        assert_eq!(report["seconds"], 0.05);
        assert_eq!(report["checks_passed"], 12);
        assert_eq!(report["failures"], serde_json::json!([]));
        assert_eq!(report["nodes"].as_array().expect("nodes").len(), 2);
        assert_eq!(names(&report, "strategy"), STRATEGIES);
        assert_eq!(names(&report, "floor"), ["floor"]);
        assert_eq!(names(&report, "published").len(), 3);
        assert!(names(&report, "kernel").is_empty());
        for line in report["lines"].as_array().expect("lines") {
            assert_eq!(line["points"].as_array().expect("points").len(), 2);
        }
        assert_points_are_sound(&report);
    }

    #[test]
    fn the_table_goes_to_standard_output_or_aside_for_json() {
        let alone = ran(&["--vmas", "21", "--seconds", "0.01"]);
        assert!(text(&alone).contains("store-each"), "{}", text(&alone));
        assert!(text(&alone).contains("checks: 6 of 6 passed"));
        assert_eq!(errors(&alone), "");
        let beside = ran(&["--vmas", "21", "--seconds", "0.01", "--json", "-"]);
        assert!(errors(&beside).contains("checks: 6 of 6 passed"));
        assert!(text(&beside).starts_with('{'));
    }

    #[test]
    fn sizes_that_were_not_published_have_no_published_line() {
        let report = json(&["--vmas", "50", "--seconds", "0.01"]);
        assert!(names(&report, "published").is_empty());
    }

    #[test]
    fn only_the_strategies_asked_for_take_part() {
        let chosen = "duplicate-with,store-each";
        let report = json(&["--vmas=21", "--seconds=0.01", "--strategy", chosen]);
        assert_eq!(names(&report, "strategy"), ["store-each", "duplicate-with"]);
        assert_eq!(report["checks_passed"], 2);
    }

    #[test]
    fn mappings_can_be_touched() {
        for touched in ["0", "50", "100"] {
            let report = json(&["--vmas=121", "--seconds=0.01", "--touched", touched]);
            assert_eq!(report["touched_percent"].to_string(), touched);
            let ways = if touched == "0" { 6 } else { 12 };
            assert_eq!(report["checks_passed"], ways);
        }
    }

    #[test]
    fn pages_can_be_none_copied_or_shared() {
        let options = ["--vmas=21", "--seconds=0.01", "--strategy=bulk,snapshot"];
        let report = json(&[&options[..], &["--pages=share,none"]].concat());
        let expected = ["bulk", "snapshot", "bulk/share", "snapshot/share"];
        assert_eq!(names(&report, "strategy"), expected);
        let report = json(&[&options[..], &["--touched=50"]].concat());
        let expected = ["bulk/copy", "snapshot/copy", "bulk/share", "snapshot/share"];
        assert_eq!(names(&report, "strategy"), expected);
    }

    #[test]
    fn parents_can_have_much_memory_and_children_write() {
        let options = [
            "--vmas=21",
            "--seconds=0.01",
            "--resident=0,4",
            "--strategy=bulk",
        ];
        let report = json(&options);
        let resident = report["resident"].as_array().expect("lines");
        let names: Vec<_> = resident.iter().map(|line| line["name"].clone()).collect();
        let both = ["duplicate-with/copy", "snapshot/share"];
        assert_eq!(names, [both, both].concat());
        for line in resident {
            let points = line["points"].as_array().expect("points");
            assert_eq!(points.len(), 4);
            assert!(
                points
                    .iter()
                    .all(|point| point["microseconds"].as_f64() > Some(0.0))
            );
        }
        // One for the strategy, one for each of the two sizes.
        assert_eq!(report["checks_passed"], 3);
        let table = ran(&options);
        assert!(
            text(&table).contains("2 MiB per 40 MiB"),
            "{}",
            text(&table)
        );
    }

    #[test]
    fn json_and_plot_replace_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let (json, svg) = (path("forks.json"), path("forks.svg"));
        fs::write(&svg, "x".repeat(1 << 20)).expect("written");
        ran(&[
            "--vmas=21,121,821",
            "--seconds=0.01",
            "--json",
            &json,
            "--plot",
            &svg,
        ]);
        let report: Value =
            serde_json::from_str(&fs::read_to_string(json).expect("read")).expect("JSON");
        assert_points_are_sound(&report);
        let picture = fs::read_to_string(svg).expect("read");
        let document = roxmltree::Document::parse(&picture).expect("XML");
        assert_eq!(document.root_element().tag_name().name(), "svg");
        for name in STRATEGIES {
            assert!(picture.contains(name), "{name}");
        }
    }
}

mod kernel {
    use super::*;

    #[test]
    fn this_kernel_forks_a_process_with_the_same_mappings() {
        for touched in ["0", "50", "100"] {
            let options = [
                "--vmas=121,421",
                "--seconds=0.05",
                "--kernel",
                "--strategy=bulk",
            ];
            let report = json(&[&options[..], &["--touched", touched]].concat());
            assert_eq!(names(&report, "kernel"), ["this kernel"]);
            let lines = report["lines"].as_array().expect("lines").iter();
            let mut kernel = lines.filter(|line| line["kind"] == "kernel");
            let points = kernel.next().expect("a line")["points"].clone();
            assert_eq!(points[0]["vmas"], 121);
            assert_eq!(points[1]["vmas"], 421);
            assert_points_are_sound(&report);
        }
    }

    #[test]
    fn fewer_mappings_than_a_process_has_are_said_to_be_more() {
        let report = json(&["--vmas=1", "--seconds=0.01", "--kernel", "--strategy=bulk"]);
        let notes = report["notes"].to_string();
        assert!(notes.contains("where 1 were asked for"), "{notes}");
        assert_points_are_sound(&report);
    }

    #[test]
    fn more_mappings_than_the_kernel_allows_are_left_out_and_named() {
        let limit = fs::read_to_string("/proc/sys/vm/max_map_count").expect("a limit");
        let limit: u64 = limit.trim().parse().expect("a number");
        if limit >= 200_000 {
            return;
        }
        let size = (limit + 1).to_string();
        let options = [
            "--seconds=0.001",
            "--kernel",
            "--strategy=snapshot",
            "--vmas",
            &size,
        ];
        let report = json(&options);
        assert!(names(&report, "kernel").is_empty());
        let notes = report["notes"].to_string();
        assert!(notes.contains("vm.max_map_count="), "{notes}");
    }

    #[test]
    fn the_forked_process_ends_when_samara_is_killed() {
        let mut killed = samara(&["--vmas=121", "--seconds=3600", "--kernel"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("samara runs");
        let children = format!("/proc/{0}/task/{0}/children", killed.id());
        while fs::read_to_string(&children).expect("it runs").is_empty() {
            std::thread::yield_now();
        }
        killed.kill().expect("killed");
        killed.wait().expect("it ends");
        // The process it forks inherited standard error: the end comes when both are gone.
        let mut rest = String::new();
        let mut pipe = killed.stderr.take().expect("a pipe");
        pipe.read_to_string(&mut rest).expect("the end");
    }

    #[test]
    fn the_forked_process_ends_in_the_middle_of_forking_when_its_parent_is_killed() {
        let samara = env!("CARGO_BIN_EXE_samara");
        let mut shell = Command::new("sh")
            .arg("-c")
            .arg(format!("echo 900000000000 | {samara} spawn-parent 100 0"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell runs");
        let mut answers = BufReader::new(shell.stdout.take().expect("a pipe")).lines();
        let ready = answers.next().expect("a line").expect("read");
        assert_eq!(ready, "ready 100");
        shell.kill().expect("killed");
        shell.wait().expect("it ends");
        assert!(answers.next().is_none());
    }

    #[test]
    fn the_forked_process_answers_until_its_input_ends() {
        let mut parent = Command::new(env!("CARGO_BIN_EXE_samara"))
            .args(["spawn-parent", "200", "50"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut answers = BufReader::new(parent.stdout.take().expect("a pipe")).lines();
        let ready = answers.next().expect("a line").expect("read");
        assert_eq!(ready, "ready 200");
        drop(parent.stdin.take());
        assert!(answers.next().is_none());
        assert!(parent.wait().expect("it ends").success());
    }
}

mod refusals {
    use super::*;

    /// Refused with exit status 2 and a message that contains `words`, before anything is measured.
    #[track_caller]
    fn assert_refused(arguments: &[&str], words: &str) {
        let output = samara(arguments).output().expect("samara runs");
        assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
        assert!(errors(&output).contains(words), "{}", errors(&output));
        assert!(!errors(&output).contains("panicked"), "{}", errors(&output));
        assert_eq!(text(&output), "");
    }

    #[test]
    fn bad_options_are_named() {
        assert_refused(&["--vmas", "0"], "--vmas");
        assert_refused(&["--vmas", "1000001"], "1..=1000000");
        assert_refused(&["--vmas", "21,,121"], "--vmas");
        assert_refused(&["--vmas", "many"], "--vmas");
        assert_refused(&["--touched", "10"], "0, 50, 100");
        assert_refused(&["--strategy", "fastest"], "duplicate-with");
        assert_refused(&["--pages", "some"], "none, copy, share");
        assert_refused(&["--resident", "65537"], "--resident");
        for seconds in ["0", "-1", "inf", "NaN", "soon", "1e9"] {
            assert_refused(&[&format!("--seconds={seconds}")], "--seconds");
        }
    }

    #[test]
    fn files_that_cannot_be_written_are_found_before_measuring() {
        assert_refused(&["--json", "/nowhere/forks.json"], "cannot write /nowhere");
        assert_refused(&["--plot", "/nowhere/forks.svg"], "cannot write /nowhere");
    }

    #[test]
    fn results_that_would_get_lost_are_refused_before_measuring() {
        let one = std::env::temp_dir().join("samara-forks-one-file");
        let one = one.to_str().expect("a path in UTF-8");
        assert_refused(&["--json", one, "--plot", one], "the same file");
        assert_refused(&["--plot", "-"], "name a file");
    }

    #[test]
    fn help_has_an_example() {
        let output = ran(&["--help"]);
        assert!(text(&output).contains("samara spawn --kernel --json forks.json"));
    }
}
