//! Every number as JSON, with what it was measured on.

use crate::runner::Cell;
use serde_json::{Value, json};

/// The whole document.
pub(crate) fn document(cells: &[Cell]) -> Value {
    json!({ "origin": origin(), "cells": cells })
}

/// What was measured, on what, and how: one line.
pub(crate) fn origin() -> String {
    format!("{}, Linux {}; `{}`", machine(), kernel(), command())
}

/// The arguments, and this program's name without the directories that lead to it.
fn command() -> String {
    let words = std::env::args().skip(1).map(|word| {
        let is_path = word.starts_with('/');
        let name = word.rsplit('/').next().unwrap_or_default();
        if is_path { name.to_owned() } else { word }
    });
    std::iter::once("concurrent".to_owned())
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

fn kernel() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    text.unwrap_or_default().trim().to_owned()
}

/// The processor, as the kernel names it.
fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("model name"));
    let mut names = names.map(|name| name.trim_start_matches(['\t', ' ', ':']).to_owned());
    let name = names.next();
    let name = name.unwrap_or_else(|| "unknown processor".to_owned());
    format!("{name}, {} CPUs", crate::measure::cpus().len())
}
