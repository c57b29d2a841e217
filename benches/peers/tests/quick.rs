//! The whole program, on sets so small that it takes a moment.

use std::process::Command;

fn peers(arguments: &[&str]) -> (String, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_peers"))
        .args(arguments)
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (text + &errors, output.status.success())
}

#[test]
fn every_row_of_a_quick_run_has_a_number_of_ours() {
    let json = std::env::temp_dir().join(format!("peers-{}.json", std::process::id()));
    let path = json
        .to_str()
        .expect("a temporary directory has a name in UTF-8");
    let (text, succeeded) = peers(&["--quick", "--n", "1,20", "--turn", "20", "--json", path]);
    assert!(succeeded, "{text}");
    assert!(text.contains("N = 20, points data, aged"), "{text}");

    let document = std::fs::read_to_string(&json).expect("the file was written");
    std::fs::remove_file(&json).expect("the file is ours");
    let document: serde_json::Value = serde_json::from_str(&document).expect("it is JSON");
    let cells = document["cells"].as_array().expect("there are cells");
    let works: std::collections::BTreeSet<_> =
        cells.iter().map(|cell| cell["work"].as_str()).collect();
    for work in works {
        let mut of = cells.iter().filter(|cell| cell["work"].as_str() == work);
        assert!(of.any(|cell| cell["spread"].is_object()), "{work:?}");
    }
    let without = cells.iter().filter(|cell| !cell["spread"].is_object());
    for cell in without {
        assert!(cell["why_not"].is_string(), "{cell}");
    }
}

#[test]
fn the_targets_are_printed_as_a_table() {
    let options = [
        "--quick",
        "--targets",
        "--n",
        "21",
        "--data",
        "real",
        "--turn",
        "20",
    ];
    let (text, succeeded) = peers(&options);
    assert!(succeeded, "{text}");
    assert!(
        text.contains("| random lookup, independent, maple | aged |"),
        "{text}"
    );
}

#[test]
fn a_library_that_is_not_there_is_named() {
    let (text, succeeded) = peers(&["--quick", "--n", "21", "--c-lib", "no-such-library.so"]);
    assert!(!succeeded);
    assert!(text.contains("no-such-library.so: build it with"), "{text}");
}
