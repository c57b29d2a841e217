//! The whole program, on so little that it takes a moment.

use std::process::Command;

fn concurrent(arguments: &[&str]) -> (String, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_concurrent"))
        .args(arguments)
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (text + &errors, output.status.success())
}

#[test]
fn every_version_does_every_work_with_any_number_of_threads() {
    let json = std::env::temp_dir().join(format!("concurrent-{}.json", std::process::id()));
    let path = json
        .to_str()
        .expect("a temporary directory has a name in UTF-8");
    let (text, succeeded) = concurrent(&[
        "--quick",
        "--rounds",
        "1",
        "--threads",
        "1,3",
        "--json",
        path,
    ]);
    assert!(succeeded, "{text}");
    assert!(text.contains("### Faults on disjoint regions"), "{text}");
    assert!(text.contains("| claim | found | |"), "{text}");

    let document = std::fs::read_to_string(&json).expect("the file was written");
    std::fs::remove_file(&json).expect("the file is ours");
    let document: serde_json::Value = serde_json::from_str(&document).expect("it is JSON");
    let cells = document["cells"].as_array().expect("there are cells");
    let works: std::collections::BTreeSet<_> =
        cells.iter().map(|cell| cell["work"].as_str()).collect();
    assert_eq!(works.len(), 8);
    for work in works {
        for version in ["shared", "rwlock", "own"] {
            let of = cells.iter().filter(|cell| {
                cell["work"].as_str() == work && cell["version"].as_str() == Some(version)
            });
            let threads: std::collections::BTreeSet<_> =
                of.clone().map(|cell| cell["threads"].as_u64()).collect();
            assert_eq!(threads.len(), 2, "{work:?}, {version}");
            for cell in of {
                let rounds = cell["rounds"].as_array().expect("there are rounds");
                assert!(rounds.iter().all(serde_json::Value::is_number), "{cell}");
                assert!(!rounds.is_empty(), "{cell}");
            }
        }
    }
}

#[test]
fn no_threads_are_refused() {
    let (text, succeeded) = concurrent(&["--threads", "0"]);
    assert!(!succeeded);
    assert!(text.contains("--threads"), "{text}");
}
