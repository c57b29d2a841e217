//! The table of `docs/profiles.md`, compared with the constants.

use std::collections::BTreeMap;

use maple_mm::LinuxProfile;

const DOCUMENT: &str = include_str!("../../../docs/profiles.md");

/// The cells of each row of the table, markers and rule left out.
fn rows() -> Vec<Vec<String>> {
    let (_, rest) = DOCUMENT.split_once("<!-- profiles:begin -->\n").unwrap();
    let (table, _) = rest.split_once("<!-- profiles:end -->").unwrap();
    let cells = |line: &str| {
        let line = line.trim_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let is_row = |line: &&str| !line.starts_with("|---");
    table.lines().filter(is_row).map(cells).collect()
}

/// The behaviours of a profile by the names of their fields.
fn behaviours(profile: &LinuxProfile) -> BTreeMap<String, String> {
    let text = format!("{profile:#?}");
    let fields = text.lines().filter_map(|line| {
        let (name, value) = line.trim().trim_end_matches(',').split_once(": ")?;
        Some((name.to_owned(), value.to_owned()))
    });
    fields.filter(|(name, _)| name != "name").collect()
}

#[test]
fn the_columns_are_the_versions_that_have_a_profile() {
    let header = rows().remove(0);
    let documented = &header[1..header.len() - 2];
    let names: Vec<&str> = LinuxProfile::ALL.iter().map(|(_, p)| p.name).collect();
    assert_eq!(documented, names);
    for ((major, minor), profile) in LinuxProfile::ALL {
        assert_eq!(profile.name, format!("{major}.{minor}"));
    }
}

#[test]
fn every_behaviour_has_a_row_and_every_cell_is_the_constants() {
    let rows = rows();
    for (column, (_, profile)) in LinuxProfile::ALL.iter().enumerate() {
        let documented: BTreeMap<String, String> = rows[1..]
            .iter()
            .map(|row| (row[0].trim_matches('`').to_owned(), row[column + 1].clone()))
            .collect();
        assert_eq!(documented, behaviours(profile), "{}", profile.name);
    }
}

#[test]
fn the_version_that_introduced_a_behaviour_is_the_first_column_that_has_it() {
    let rows = rows();
    let versions = &rows[0][1..=LinuxProfile::ALL.len()];
    for row in &rows[1..] {
        let values = &row[1..=versions.len()];
        let newest = values.last().unwrap();
        let first = values.iter().position(|value| value == newest).unwrap();
        let since = &row[versions.len() + 1];
        if first > 0 {
            assert_eq!(since, &versions[first], "{}", row[0]);
        }
    }
}

#[test]
fn a_version_gets_the_newest_profile_that_is_not_newer() {
    let cases = [
        ((4, 19), LinuxProfile::V6_12),
        ((6, 12), LinuxProfile::V6_12),
        ((6, 14), LinuxProfile::V6_13),
        ((6, 15), LinuxProfile::V6_15),
        ((6, 16), LinuxProfile::V6_16),
        ((6, 17), LinuxProfile::V6_17),
        ((6, 19), LinuxProfile::V6_18),
        ((7, 0), LinuxProfile::V6_18),
    ];
    for (version, profile) in cases {
        assert_eq!(LinuxProfile::of_version(version), profile, "{version:?}");
    }
    assert_eq!(LinuxProfile::ALL.last().unwrap().0, LinuxProfile::NEWEST);
}
