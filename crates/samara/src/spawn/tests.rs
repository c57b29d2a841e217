//! A run with parents whose checks fail, and its results as text, JSON and picture.

use anyhow::bail;
use clap::Parser;
use maple_mm::{AddressSpace, ForkStrategy, Mappings};

use super::*;
use crate::cli::{Cli, Command, Touched};

fn args(options: &[&str]) -> SpawnArgs {
    let words = ["samara", "spawn"].iter().chain(options);
    match Cli::try_parse_from(words).unwrap().command {
        Some(Command::Spawn(args)) => args,
        other => panic!("{other:?}"),
    }
}

/// A parent that is what it should be under one way only.
struct Broken(AddressSpace);

impl Parent for Broken {
    fn make(_: u32, _: Touched, _: &[Way]) -> Result<Self> {
        Ok(Self(AddressSpace::empty()))
    }

    fn fork_and_exit(&mut self, _: Way) -> Result<()> {
        Ok(())
    }

    fn check(&mut self, way: Way) -> Result<()> {
        match way.mappings {
            ForkStrategy::Bulk => Ok(()),
            _ => bail!("a mapping is missing"),
        }
    }

    fn mappings(&self) -> &Mappings {
        self.0.tree()
    }
}

#[test]
fn a_failed_check_is_named_and_the_others_are_counted() {
    let args = args(&["--vmas", "21", "--seconds", "0.001"]);
    let report = measure::<Broken>(&args).unwrap();
    assert_eq!(report.checks_passed, 1);
    assert_eq!(report.failures.len(), ForkStrategy::ALL.len() - 1);
    let text = table::text(&report);
    assert!(
        text.contains("CHECK FAILED: store-each at 21 mappings: a mapping is missing"),
        "{text}"
    );
    assert!(text.contains("checks: 1 of 6 passed"), "{text}");
    assert_eq!(status(&report), Status::Diverged);
}

#[test]
fn every_check_of_the_model_passes() {
    for touched in ["0", "50", "100"] {
        let args = args(&["--vmas=1,2,33,121", "--seconds=0.001", "--touched", touched]);
        let report = measure::<Model>(&args).unwrap();
        assert_eq!(report.failures, [""; 0]);
        let ways = ForkStrategy::ALL.len() * if touched == "0" { 1 } else { 2 };
        assert_eq!(report.checks_passed, 4 * ways);
        assert_eq!(status(&report), Status::Identical);
    }
}

#[test]
fn sizes_are_sorted_and_measured_once() {
    let args = args(&["--vmas=121,21,121", "--seconds=0.001", "--strategy=bulk"]);
    let report = measure::<Model>(&args).unwrap();
    assert_eq!(report.sizes, [21, 121]);
    assert_eq!(report.nodes.len(), 2);
    // A strategy, the floor and three published lines.
    assert_eq!(report.lines.len(), 5);
    assert!(report.lines.iter().all(|line| line.points.len() == 2));
}

#[test]
fn tables_keep_to_a_hundred_characters() {
    let args = args(&["--seconds=0.001", "--strategy=snapshot"]);
    let report = measure::<Model>(&args).unwrap();
    for line in table::text(&report)
        .lines()
        .filter(|line| line.contains("k "))
    {
        assert!(line.len() <= 100, "{line}");
    }
}

#[test]
fn the_picture_is_xml_and_names_every_line() {
    for sizes in ["--vmas=21", "--vmas=1,821,6421"] {
        let report = measure::<Model>(&args(&[sizes, "--seconds=0.001"])).unwrap();
        let svg = plot::svg(&report).unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let texts: Vec<&str> = document
            .descendants()
            .filter_map(|node| node.text())
            .collect();
        for strategy in ForkStrategy::ALL {
            assert!(texts.iter().any(|text| text.trim() == strategy.name()));
        }
        for name in ["floor (only copying)", "published v4 base: bulk"] {
            assert!(texts.iter().any(|text| text.trim() == name), "{name}");
        }
    }
}

#[test]
fn memory_that_no_machine_has_is_refused_before_measuring() {
    let refused = resident::check_memory(1_000_000_000).unwrap_err();
    assert!(refused.to_string().contains("--resident 1000000000"));
    resident::check_memory(0).unwrap();
}
