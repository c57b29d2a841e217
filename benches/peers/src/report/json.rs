//! Every number as JSON, with what it was measured on.

use crate::args::Args;
use crate::runner::Cell;
use benchkit::Origin;
use serde_json::{Value, json};

/// The whole document.
pub(crate) fn document(origin: &Origin, args: &Args, cells: &[Cell]) -> Value {
    let Origin {
        machine,
        kernel,
        command,
    } = origin;
    json!({
        "machine": machine,
        "kernel": kernel,
        "command": command,
        "linux_tree": args.c_lib.is_some(),
        "cells": cells,
    })
}
