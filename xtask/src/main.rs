//! `cargo xtask NAME`: the repository's own checks.

mod cargo;
mod ci;
mod code;
mod counts;
mod coverage;
mod documents;
mod examples;
mod fuzz;
mod heavy;
mod linux_names;
mod linux_peer;
mod miri;
mod mutants;
mod nightly;
mod no_std;
mod planted;
mod programs;
mod reasons;
mod run;
mod sanitizers;
mod sources;
mod tools;

use std::process::ExitCode;

const HELP: &str = "\
The repository's own checks.

  cargo xtask ci           every check, in order, with a table of times at the end
  cargo xtask list         the names of the checks
  cargo xtask check NAME   one check, as `cargo xtask list` names it
  cargo xtask planted      plants one mistake after another and expects samara to find it
  cargo xtask loom         the tree and page tables under loom: threads in every order
  cargo xtask shuttle      whole operations on trees and address spaces in thousands of random orders
  cargo xtask linux-peer --source DIR [OPTIONS]
                           measures the tree beside Linux's own, of the sources in DIR

With tools that not every machine has; where one is absent they say so and end well.

  cargo xtask fuzz [TARGET] [--seconds N] [--small-nodes]
                           searches with cargo-fuzz, each target for N seconds (60)
  cargo xtask tsan         the tests of threads and `samara stress` under ThreadSanitizer
                           (nightly, rust-src)
  cargo xtask asan         tests of the tree and of threads, and `samara stress`, under
                           AddressSanitizer (nightly)
  cargo xtask miri         tests of the tree under miri, those of threads with many seeds
  cargo xtask coverage     what the tests of the tree reach (cargo-llvm-cov)
  cargo xtask counts [--save]
                           instruction counts beside their baseline (valgrind, gungraun-runner)
  cargo xtask mutants [--from PASS]
                           mutations of the write pipeline that survive (cargo-mutants),
                           from the second or third pass on if those before are done
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ci"] => ci::run(ci::CHECKS),
        ["list"] => {
            ci::CHECKS
                .iter()
                .for_each(|check| println!("{}", check.name));
            ExitCode::SUCCESS
        }
        ["check", name] => one(name),
        ["loom"] => ci::conclude(heavy::loom()),
        ["shuttle"] => ci::conclude(heavy::shuttle()),
        ["planted"] => one("planted mistakes"),
        ["fuzz", words @ ..] => ci::conclude(fuzz::search(words)),
        ["tsan"] => ci::conclude(sanitizers::thread()),
        ["asan"] => ci::conclude(sanitizers::address()),
        ["counts", words @ ..] => ci::conclude(counts::counts(words)),
        ["coverage"] => ci::conclude(coverage::coverage()),
        ["mutants", words @ ..] => ci::conclude(mutants::survivors(words)),
        ["miri"] => ci::conclude(miri::full()),
        ["linux-peer", words @ ..] => ci::conclude(linux_peer::beside(words)),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("xtask: no such command: {}\n\n{HELP}", words.join(" "));
            ExitCode::from(2)
        }
    }
}

fn one(name: &str) -> ExitCode {
    match ci::CHECKS.iter().position(|check| check.name == name) {
        Some(place) => ci::run(&ci::CHECKS[place..=place]),
        None => {
            eprintln!("xtask: no check is called `{name}`; see `cargo xtask list`");
            ExitCode::from(2)
        }
    }
}
