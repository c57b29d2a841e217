//! Every number as JSON, with what it was measured on.

use crate::runner::Cell;
use benchkit::Origin;
use serde_json::{Value, json};

/// The whole document.
pub(crate) fn document(origin: &Origin, cells: &[Cell]) -> Value {
    json!({ "origin": origin.to_string(), "cells": cells })
}
