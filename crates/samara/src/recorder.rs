//! The recording side of a trace: a file, or nothing.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::event::Event;
use crate::trace_file::Writer;

/// Writes events to a trace file, if one was asked for. The first failure is kept until the end:
/// the traced program must not suffer for it.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    file: Option<(PathBuf, Writer<BufWriter<File>>)>,
    failure: Option<anyhow::Error>,
}

impl Recorder {
    /// Creates the file.
    ///
    /// # Errors
    ///
    /// If it can't be created.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let create = || Writer::new(BufWriter::new(File::create(path)?));
        let writer = create().with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self {
            file: Some((path.to_owned(), writer)),
            failure: None,
        })
    }

    /// Whether there is a file to write to.
    pub(crate) const fn is_on(&self) -> bool {
        self.file.is_some()
    }

    /// Records an event.
    pub(crate) fn event(&mut self, event: &Event) {
        if let Some((path, writer)) = &mut self.file
            && let Err(error) = writer.event(event)
        {
            let what = format!("cannot write {}", path.display());
            self.failure = Some(anyhow::Error::new(error).context(what));
            self.file = None;
        }
    }

    /// Completes the file.
    ///
    /// # Errors
    ///
    /// The first failure since it was created; the file is incomplete then.
    pub(crate) fn finish(self) -> Result<()> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        match self.file {
            None => Ok(()),
            Some((path, writer)) => {
                writer
                    .finish()
                    .with_context(|| format!("cannot write {}", path.display()))?;
                Ok(())
            }
        }
    }
}
