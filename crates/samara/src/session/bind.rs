//! What a call's arguments stand for: descriptors, segments, userfaultfds.

use super::{Bound, Ranges, Session};
use crate::call::{Call, CallFile};
use crate::decode;
use crate::engine::{MmId, Place};
use crate::event::{Event, FileFacts};
use crate::files::Identified;
use crate::procfs;
use crate::ptrace::Tid;
use crate::segments;

impl Session {
    /// Replaces what only the process knows (a descriptor's number, an identifier) by what it
    /// stands for.
    ///
    /// # Errors
    ///
    /// Why a call with this one is not modelled.
    pub(super) fn bind(
        &mut self,
        place: Place,
        call: Call,
        fd: Option<i32>,
    ) -> Result<Bound, &'static str> {
        let mm = place.mm;
        let call = match (call, fd) {
            (Call::Mmap { .. }, Some(fd)) => self.bind_file(place, call, fd)?,
            (Call::Mmap { flags, .. }, None)
                if decode::takes_huge_pages(flags) && !self.lacks_huge_pages() =>
            {
                return Err("mmap(MAP_HUGETLB) of a pool that others take from");
            }
            (
                Call::Shmat {
                    id, addr, flags, ..
                },
                _,
            ) => {
                let segment = segments::segment(place.tid, id)?;
                Call::Shmat {
                    id,
                    addr,
                    flags,
                    segment,
                }
            }
            (Call::UffdRegister { .. } | Call::UffdUnregister { .. }, Some(fd)) => {
                return self.bind_watcher(place, call, fd);
            }
            (Call::Mbind { .. } | Call::SetHomeNode { .. }, _) => {
                segments::with_nodes(place.tid, call)?
            }
            (Call::RemapFilePages { .. } | Call::Madvise { .. }, _) => {
                self.learn_seals(&call);
                call
            }
            _ => call,
        };
        Ok(Bound { call, mm })
    }

    /// Whether the machine has no huge pages, in use or not, and makes none: then nobody is promised
    /// any. With a pool it depends on what others have been.
    fn lacks_huge_pages(&self) -> bool {
        let is_zero = |name| procfs::sysctl(name) == Some(0);
        self.system.is_some_and(|known| known.hugetlb_pages == 0)
            && is_zero("vm/nr_hugepages")
            && is_zero("vm/nr_overcommit_hugepages")
    }

    fn bind_file(&mut self, place: Place, call: Call, fd: i32) -> Result<Call, &'static str> {
        let Call::Mmap {
            addr,
            len,
            prot,
            flags,
            offset,
            ..
        } = call
        else {
            return Ok(call);
        };
        let file = match self.files.identify(place.tid, fd) {
            Identified::Bad => CallFile::Bad,
            Identified::Known(id) => {
                self.learn_seals_of(id);
                CallFile::Open(id)
            }
            Identified::New(facts) => {
                let id = facts.id;
                self.verdict.learned.files += 1;
                self.learn(&Event::File(facts));
                CallFile::Open(id)
            }
            Identified::NotModelled(why) => return Err(why),
        };
        Ok(Call::Mmap {
            addr,
            len,
            prot,
            flags,
            offset,
            file,
        })
    }

    /// Reads the seals of every file again before a call that asks for them without naming one.
    fn learn_seals(&mut self, call: &Call) {
        let asks = match *call {
            Call::RemapFilePages { .. } => true,
            Call::Madvise { advice, .. } => advice == libc::MADV_REMOVE,
            _ => false,
        };
        if asks {
            for id in self.files.in_memory() {
                self.learn_seals_of(id);
            }
        }
    }

    fn learn_seals_of(&mut self, id: u64) {
        let (Some(now), Some(known)) = (self.files.seals(id), self.mirror.file(id)) else {
            return;
        };
        let access = known.access & !crate::event::access::WRITE_SEALED | now;
        if access != known.access {
            self.verdict.learned.files += 1;
            self.learn(&Event::File(FileFacts { access, ..known }));
        }
    }

    fn bind_watcher(&mut self, place: Place, call: Call, fd: i32) -> Result<Bound, &'static str> {
        let watcher = segments::watcher(place.tid, fd)?;
        // Who inherits one watches the memory of the process that made it.
        let mm = watcher.map_or(place.mm, |watcher| {
            let maker = self.makers.get(&watcher.id).copied().unwrap_or(place.mm);
            *self.watchers.entry(watcher.id).or_insert(maker)
        });
        let call = match call {
            Call::UffdRegister {
                start, len, mode, ..
            } => Call::UffdRegister {
                start,
                len,
                mode,
                watcher,
            },
            Call::UffdUnregister { start, len, .. } => Call::UffdUnregister {
                start,
                len,
                watcher,
            },
            call => call,
        };
        Ok(Bound { call, mm })
    }

    /// Remembers who made the userfaultfd that a call has returned.
    pub(super) fn learn_maker(&mut self, place: Place, result: i64) {
        let fd = i32::try_from(result).ok();
        if let Some(id) = fd.and_then(|fd| segments::userfault_inode(place.tid, fd)) {
            self.makers.insert(id, place.mm);
        }
    }

    /// Tells the model of userfaultfds that nobody has open any more. Says whether there were any.
    pub(super) fn learn_closed(&mut self, mm: MmId) -> bool {
        let of_space = |(&id, &watched): (&u64, &MmId)| (watched == mm).then_some(id);
        let known: Vec<u64> = self.watchers.iter().filter_map(of_space).collect();
        if known.is_empty() {
            return false;
        }
        let tids: Vec<Tid> = self.spaces.values().map(|space| space.tid).collect();
        let mut learned = false;
        for id in known {
            if !segments::is_open(tids.iter().copied(), id) {
                self.watchers.remove(&id);
                learned |= self.learn_closing(mm, id);
            }
        }
        learned
    }

    /// What is no longer watched may merge, which depends on what was written. Whether it was before
    /// the end or after shows in what has become of it.
    fn learn_closing(&mut self, mm: MmId, id: u64) -> bool {
        let event = Event::WatcherClosed { mm, id };
        let watched = Ranges::Near(self.mirror.watched(mm, id));
        let Some(before) = self.mirror.save(mm) else {
            return false;
        };
        let applied = self.mirror.apply(&event);
        if applied.is_ok() && !self.compare_all(mm).is_different() {
            self.recorder.event(&event);
            return true;
        }
        self.mirror.replace(mm, before);
        self.learn_writes(mm, &watched);
        self.learn(&event)
    }
}
