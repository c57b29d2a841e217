//! One address space used by many threads at once, beside the same behind one lock and beside an
//! address space for each thread, in one run.
//!
//! `cargo run --release -p concurrent -- --help` says what can be chosen. Start reading at `work.rs`
//! (what is measured), then `space.rs` (what is asked of an address space) and `works/` (how it is
//! timed).

mod args;
mod crew;
mod hardware;
mod measure;
mod report;
mod runner;
mod space;
mod work;
mod works;

use anyhow::Context;
use args::Args;
use benchkit::Origin;
use clap::Parser;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let json = args.json.as_ref().map(std::fs::File::create).transpose();
    let json = json.context("the file for --json cannot be written")?;
    // Before a thread is kept on one of them.
    let has_two = benchkit::cpus().len() > 1;
    let origin = Origin::of("concurrent");
    println!("{origin}\n");
    if has_two {
        println!("{}\n", hardware::shown());
    }
    let mut cells = Vec::new();
    for work in args.works() {
        let measured = runner::run(work, &args)?;
        println!("{}", report::table(work, &measured));
        cells.extend(measured);
    }
    print!("{}", report::claims(&cells));
    if let Some(json) = json {
        serde_json::to_writer_pretty(json, &report::document(&origin, &cells))?;
    }
    Ok(())
}
