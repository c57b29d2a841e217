//! Process ids: handed out in a circle, so that one is not used again soon.

use std::error::Error;

use maple_tree::{AllocateErrorKind, IndexRange, MapleTree, OutOfNodes};

struct Process {
    name: &'static str,
}

/// The processes of a small system, by id.
struct Processes {
    by_id: MapleTree<Box<Process>>,
    ids: IndexRange,
    /// Where the search for a free id goes on.
    next: u64,
}

impl Processes {
    fn new(ids: IndexRange) -> Self {
        // The lowest free id above another is a gap search, logarithmic in such a tree.
        let by_id = MapleTree::with_gaps();
        let next = ids.first();
        Self { by_id, ids, next }
    }

    /// Starts a process. On error its name is handed back.
    fn start(&mut self, name: &'static str) -> Result<u64, &'static str> {
        let process = Box::new(Process { name });
        let started = self
            .by_id
            .allocate_cyclic(self.ids, &mut self.next, process);
        started.map_err(|error| {
            assert_eq!(error.kind, AllocateErrorKind::NoGap);
            error.value.name
        })
    }

    fn end(&mut self, id: u64) -> Result<Option<&'static str>, OutOfNodes> {
        Ok(self.by_id.erase(id)?.map(|(_, process)| process.name))
    }

    fn print(&self, when: &str) {
        println!("{when}:");
        for (id, process) in &self.by_id {
            println!("  {:>5} {}", id.first(), process.name);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let ids = IndexRange::new(1, 6).ok_or("ids ascend")?;
    let mut processes = Processes::new(ids);
    for name in ["init", "udevd", "sshd", "cron"] {
        processes.start(name)?;
    }
    assert_eq!(processes.end(2)?, Some("udevd"));
    assert_eq!(processes.end(2)?, None);
    // 2 is free again, but who still has it in mind should not meet a stranger.
    assert_eq!(processes.start("sh"), Ok(5));
    processes.print("after one has ended");

    assert_eq!(processes.start("make"), Ok(6));
    assert_eq!(processes.start("cc"), Ok(2)); // once round
    assert_eq!(processes.start("ld"), Err("ld")); // none is left
    processes.print("once round, and full");

    // Many ids in a row are one gap, however many: finding the next is as quick as before.
    let ids = IndexRange::new(0, u64::from(u32::MAX)).ok_or("ids ascend")?;
    let mut handles = Processes::new(ids);
    for _ in 0..10_000 {
        handles.start("handle").map_err(|_| "there are more ids")?;
    }
    for id in (0..10_000).filter(|id| id % 100 != 0) {
        handles.end(id)?;
    }
    assert_eq!(handles.start("handle"), Ok(10_000));
    let (used, bytes) = (handles.by_id.len(), handles.by_id.memory_usage());
    println!("{used} handles of ten thousand are left, in {bytes} bytes");
    assert_eq!(used, 101);
    handles.by_id.validate()?;
    Ok(())
}
