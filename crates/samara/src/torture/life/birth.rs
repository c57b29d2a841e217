//! How a life begins: with a process that has nothing but what the executor needs.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};
use maple_mm::MapsLine;
use maple_mm::abi::MAP_PRIVATE;

use super::Life;
use super::meaning::Known;
use crate::call::{CallFile, result_text};
use crate::engine::{MmId, Place};
use crate::event::{Event, FileFacts, LayoutFacts};
use crate::facts::Memory;
use crate::files::{FileTable, Identified};
use crate::procfs::{self, MapLine};
use crate::ptrace::Tid;
use crate::torture::target::{PROTECTED, Pool, Raw, Target};

impl Life {
    /// Unmaps what the executor does not need: all but its two pages, the stack, and what is the
    /// kernel's own.
    pub(super) fn clear(&mut self, layout: &LayoutFacts) -> Result<()> {
        self.kernel(0, &Raw::new(libc::SYS_brk, [layout.start_brk]))?;
        let maps = procfs::read(self.sides[0].member.pid, "maps")?;
        let lines = maps.lines().filter_map(MapLine::parse);
        let is_needed = |line: &MapLine| {
            PROTECTED.contains(&line.start) || line.name.starts_with('[') && line.name != "[heap]"
        };
        for line in lines.filter(|line| !is_needed(line)) {
            let range = [line.start, line.end - line.start];
            let result = self.kernel(0, &Raw::new(libc::SYS_munmap, range))?;
            if result != 0 {
                bail!(
                    "{:#x} cannot be unmapped: {}",
                    line.start,
                    result_text(result)
                );
            }
        }
        Ok(())
    }

    /// The first process makes its userfaultfds, while it may.
    pub(super) fn learn_watchers(&mut self) -> Result<()> {
        let mut kinds = std::mem::take(&mut self.kinds);
        kinds.make_watchers(|raw| self.kernel(0, raw))?;
        self.kinds = kinds;
        Ok(())
    }

    /// Makes the pool's files known, each mapped once to see how the kernel names it.
    pub(super) fn learn_files(&mut self, pool: &Pool) -> Result<()> {
        let mut table = FileTable::new(1);
        for (index, (purpose, file)) in pool.iter().enumerate() {
            let descriptor = Target::descriptor(index);
            self.descriptors.push((purpose, descriptor));
            let file = match table.identify(std::process::id() as Tid, file.as_raw_fd()) {
                Identified::New(facts) => {
                    let facts = self.named(facts, descriptor)?;
                    self.learn(&Event::File(facts.clone()))?;
                    CallFile::Open(facts.id)
                }
                Identified::Known(id) => CallFile::Open(id),
                Identified::Bad => CallFile::Bad,
                Identified::NotModelled(why) => bail!("a file of the pool is not modelled: {why}"),
            };
            self.files.push(Known {
                purpose,
                descriptor,
                file,
            });
        }
        Ok(())
    }

    /// A file's facts with the device, the inode and the name that `maps` shows.
    fn named(&mut self, facts: FileFacts, descriptor: u64) -> Result<FileFacts> {
        let private = MAP_PRIVATE;
        let at = self.kernel(
            0,
            &Raw::new(libc::SYS_mmap, [0, 4096, 1, private, descriptor, 0]),
        )?;
        if at < 0 {
            // It is not open for reading, or can't be mapped.
            return Ok(facts);
        }
        let at = at.cast_unsigned();
        let maps = procfs::read(self.sides[0].member.pid, "maps")?;
        self.kernel(0, &Raw::new(libc::SYS_munmap, [at, 4096]))?;
        let mut lines = maps.lines().filter_map(|line| MapsLine::parse(line).ok());
        let line = lines.find(|line| line.start <= at && at < line.end);
        let line = line.context("a mapping is not in maps")?;
        Ok(FileFacts {
            device: line.device,
            inode: line.inode,
            name: line.name.to_owned(),
            ..facts
        })
    }
}

/// Answers for a process that has no files mapped and wrote what is private.
pub(super) struct Nothing;

impl Memory for Nothing {
    fn file(&mut self, _: Place, _: &MapLine) -> u64 {
        0
    }

    fn is_written(&mut self, _: Place, _: &MapLine) -> bool {
        true
    }

    fn page_offset(&self, _: MmId, _: &MapLine) -> Option<u64> {
        None
    }
}
