//! Files that a command writes its results to.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

/// Where a result goes. It is opened before anything runs, so that a path that can't be written
/// is found in time; what it held before stays until there is a result.
#[derive(Debug)]
pub(crate) struct OutputFile {
    path: PathBuf,
    file: File,
}

impl OutputFile {
    /// Opens the file, or makes an empty one.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let path = path.to_owned();
        Ok(Self { path, file })
    }

    /// Replaces what the file holds by `value`.
    ///
    /// # Errors
    ///
    /// If it can't be written; the file holds a part then.
    pub(crate) fn write_json(self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value).context("cannot make JSON")?;
        self.write_text(&(text + "\n"))
    }

    /// Replaces what the file holds by `text`.
    ///
    /// # Errors
    ///
    /// As for [`write_json`](Self::write_json).
    pub(crate) fn write_text(mut self, text: &str) -> Result<()> {
        let mut replace = || {
            // Pipes and devices have no length.
            if self.file.metadata()?.is_file() {
                self.file.set_len(0)?;
            }
            self.file.write_all(text.as_bytes())
        };
        replace().with_context(|| format!("cannot write {}", self.path.display()))
    }
}
