//! Files that a command writes its results to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::verdict::Status;

/// Where a result goes. It is tried before anything runs, so that a path that can't be written is
/// found in time. What the file held before stays until there is a result, and a file that was not
/// there is not there until then either, however the run ends.
#[derive(Debug)]
pub(crate) struct OutputFile {
    path: PathBuf,
    /// `None` while there is none.
    file: Option<File>,
    /// Whether it is to be removed: it was made here, and holds no whole result.
    is_stray: bool,
}

impl OutputFile {
    /// Opens the file, or tries whether it can be made.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = tried(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            is_stray: false,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file, or gives up what it held before.
    ///
    /// # Errors
    ///
    /// If that can't be done.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else {
            self.file = Some(File::create(&self.path)?);
            self.is_stray = true;
            return Ok(());
        };
        // Pipes and devices have no length.
        if file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        Ok(())
    }

    fn opened(&mut self) -> io::Result<&mut File> {
        let not_begun = || io::Error::other("the file was not begun");
        self.file.as_mut().ok_or_else(not_begun)
    }

    /// Keeps the file: it holds the result.
    ///
    /// # Errors
    ///
    /// If it was removed meanwhile.
    pub(crate) fn complete(mut self) -> io::Result<()> {
        let ours = self.opened()?.metadata()?;
        if ours.is_file() && ours.nlink() == 0 {
            return Err(io::Error::other("it was removed meanwhile"));
        }
        self.is_stray = false;
        Ok(())
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
        let name = self.path.display().to_string();
        let written = self.begin().and_then(|()| self.write_all(text.as_bytes()));
        let written = written.and_then(|()| self.complete());
        written.with_context(|| format!("cannot write {name}"))
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.opened()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.opened()?.flush()
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

/// The file, if there is one that can be written; `None` if there is none and one can be made.
fn tried(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.write(true);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened.map(Some),
    }
    match options.clone().create_new(true).open(path) {
        // A link to a file that is not there, or somebody was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options.create(true).open(path).map(Some)
        }
        Err(error) => Err(error),
        Ok(_) => {
            fs::remove_file(path)?;
            Ok(None)
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
    fn a_file_is_made_only_for_a_whole_result() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("result");
        let mut file = OutputFile::create(&path).unwrap();
        assert!(!path.exists());
        file.begin().unwrap();
        file.write_all(b"half of it").unwrap();
        drop(file);
        assert!(!path.exists());
        OutputFile::create(&path).unwrap().write_text("a").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a");
    }

    #[test]
    fn a_result_in_a_file_that_was_removed_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("result");
        fs::write(&path, "before").unwrap();
        let file = OutputFile::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let error = file.write_text("a").unwrap_err();
        assert!(
            format!("{error:#}").contains("removed meanwhile"),
            "{error:#}"
        );
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
    fn a_link_to_a_file_that_is_not_there_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (
            directory.path().join("result"),
            directory.path().join("link"),
        );
        std::os::unix::fs::symlink(&path, &link).unwrap();
        OutputFile::create(&link).unwrap().write_text("a").unwrap();
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
