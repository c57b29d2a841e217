//! Every number as JSON, with what it was measured on.

use crate::args::Args;
use crate::runner::Cell;
use serde_json::{Value, json};

/// The whole document.
pub(crate) fn document(args: &Args, cells: &[Cell]) -> Value {
    let effort = args.effort();
    json!({
        "machine": machine(),
        "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "turn_nanos": effort.chunk_nanos,
        "rounds": effort.rounds,
        "linux_tree": args.c_lib.is_some(),
        "cells": cells,
    })
}

/// The processor, as the kernel names it.
fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("model name"));
    let mut names = names.map(|name| name.trim_start_matches(['\t', ' ', ':']).to_owned());
    let cpus = crate::measure::cpus().len();
    let name = names
        .next()
        .unwrap_or_else(|| "unknown processor".to_owned());
    format!("{name}, {cpus} CPUs")
}
