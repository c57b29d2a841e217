//! The recording side of a trace: a file, or nothing.

use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::event::Event;
use crate::output::OutputFile;
use crate::trace_file::Writer;

/// Writes events to a trace file, if one was asked for. The first failure is kept until the end:
/// the traced program must not suffer for it.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    file: Option<(PathBuf, Writer<BufWriter<OutputFile>>)>,
    failure: Option<anyhow::Error>,
}

impl Recorder {
    /// Records into `file`, whose former contents are given up.
    pub(crate) fn new(mut file: OutputFile) -> Self {
        let path = file.path().to_owned();
        let begun = file
            .begin()
            .and_then(|()| Writer::new(BufWriter::new(file)));
        match begun {
            Ok(writer) => Self {
                file: Some((path, writer)),
                failure: None,
            },
            Err(error) => Self {
                file: None,
                failure: Some(failed(error, &path)),
            },
        }
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
            self.failure = Some(failed(error, path));
            self.file = None;
        }
    }

    /// Completes the file.
    ///
    /// # Errors
    ///
    /// The first failure since it was begun. Of a file that was there before a part is left then.
    pub(crate) fn finish(self) -> Result<()> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let Some((path, writer)) = self.file else {
            return Ok(());
        };
        let buffered = writer.finish();
        let whole = buffered.and_then(|writer| Ok(writer.into_inner()?));
        let kept = whole.and_then(OutputFile::complete);
        kept.map_err(|error| failed(error, &path))
    }
}

fn failed(error: io::Error, path: &Path) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("cannot write {}", path.display()))
}
