//! Files that a command writes its results to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::verdict::Status;

/// Where a result goes. It is opened before anything runs, so that a path that can't be written
/// is found in time; what it held before stays until there is a result, and a file that was made
/// for a result that never came is removed.
#[derive(Debug)]
pub(crate) struct OutputFile {
    path: PathBuf,
    file: File,
    /// Whether it is to be removed: it was made here, and holds no whole result.
    is_stray: bool,
}

impl OutputFile {
    /// Opens the file, or makes an empty one.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true);
        let opened = match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                options.open(path).map(|file| (file, false))
            }
            made => made.map(|file| (file, true)),
        };
        let (file, is_stray) =
            opened.with_context(|| format!("cannot write {}", path.display()))?;
        let path = path.to_owned();
        Ok(Self {
            path,
            file,
            is_stray,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives up what the file held before.
    ///
    /// # Errors
    ///
    /// If that can't be done.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        // Pipes and devices have no length.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        Ok(())
    }

    /// Keeps the file: it holds the result.
    pub(crate) fn complete(mut self) {
        self.is_stray = false;
    }

    /// Replaces what the file holds by `value`.
    ///
    /// # Errors
    ///
    /// If it can't be written; a file that was there before holds a part then.
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
        let written = self.begin().and_then(|()| self.write_all(text.as_bytes()));
        written.with_context(|| format!("cannot write {}", self.path.display()))?;
        self.complete();
        Ok(())
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if self.is_stray {
            // If it is gone already, so much the better.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Refuses two options that name the same file: one result would overwrite the other.
///
/// # Errors
///
/// If they do.
pub(crate) fn ensure_distinct(
    (option, path): (&str, Option<&Path>),
    (other, other_path): (&str, Option<&Path>),
) -> Result<()> {
    ensure!(
        path.is_none() || path != other_path,
        "{option} and {other} name the same file; give each its own"
    );
    Ok(())
}

/// The status of a command whose results have been written, or not: what could not be is said on
/// standard error. A divergence stays one; anything else did not do what it was asked to.
pub(crate) fn concluded<const N: usize>(status: Status, written: [Result<()>; N]) -> Status {
    let mut concluded = status;
    for error in written.into_iter().filter_map(Result::err) {
        crate::complain(&error);
        if status != Status::Diverged {
            concluded = Status::CouldNotRun;
        }
    }
    concluded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_made_for_a_result_that_never_came_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("result");
        drop(OutputFile::create(&path).unwrap());
        assert!(!path.exists());
        OutputFile::create(&path).unwrap().write_text("a").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a");
    }

    #[test]
    fn what_a_file_held_stays_until_there_is_a_result() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("result");
        fs::write(&path, "before").unwrap();
        drop(OutputFile::create(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        OutputFile::create(&path).unwrap().write_text("a").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a");
    }

    #[test]
    fn a_divergence_stays_one_when_it_cannot_be_written() {
        let failed = || Err(anyhow::anyhow!("cannot write"));
        assert_eq!(
            concluded(Status::Diverged, [Ok(()), failed()]),
            Status::Diverged
        );
        assert_eq!(
            concluded(Status::Identical, [failed()]),
            Status::CouldNotRun
        );
        assert_eq!(concluded(Status::Identical, [Ok(())]), Status::Identical);
    }
}
