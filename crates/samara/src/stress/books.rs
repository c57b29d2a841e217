//! The end of a round: everything is looked at once more, given up, and nothing may be left.

use std::collections::BTreeSet;
use std::sync::Arc;

use maple_mm::VmFlags;
use maple_mm::abi::PAGE_SIZE;
use maple_mm::paging::{PageKind, PhysMemory, validate_family};
use maple_tree::{EpochRcu, Rcu};

use super::kinds::Kind;
use super::machine::{Machine, NODES, POOL, Space};
use super::violation::{Broken, Held, Violation, broken, broken_anywhere};
use super::{commons, family, ladder};

/// How often one waits for what is to be freed: what takes long waits several times.
const BARRIERS: u32 = 1000;

/// Takes the machine apart, whose threads have ended.
pub(super) fn close(machine: Arc<Machine>) -> Option<Violation> {
    let watch = Arc::clone(&machine.watch);
    let (round, seat) = (machine.round, watch.seat(machine.threads.into()));
    seat.begin(0, Kind::Books);
    let held = take_apart(machine, |at| seat.at(at));
    held.err().map(|Broken { what, addr }| Violation {
        what,
        addr,
        who: seat.name().to_owned(),
        doing: seat.doing(),
        round,
        step: 0,
    })
}

fn take_apart(machine: Arc<Machine>, is_at: impl Fn(u64)) -> Held {
    ladder::check_last(&machine)?;
    commons::check_last(&machine)?;
    is_at(1);
    // Until nobody waits for a child's tables any more.
    machine.space.barrier();
    EpochRcu.barrier();
    whole(&machine.space)?;
    is_at(2);
    machine.space.lock().exit();
    machine.space.barrier();
    let left = machine.space.statistics();
    if left.total_vm != 0 || left.resident != Default::default() {
        return broken_anywhere(format!("after exit there are {left:?}"));
    }
    is_at(3);
    let (memory, system) = (Arc::clone(&machine.memory), Arc::clone(&machine.system));
    let Some(machine) = Arc::into_inner(machine) else {
        return broken_anywhere("somebody has the machine still");
    };
    machine.give_back();
    let books = || {
        [
            ("frames", memory.in_use()),
            ("mappings", POOL.in_use()),
            ("nodes", NODES.in_use()),
            ("promised pages", system.committed() as usize),
        ]
    };
    for _ in 0..BARRIERS {
        EpochRcu.barrier();
        if books().iter().all(|(_, left)| *left == 0) {
            return Ok(());
        }
    }
    let left = books().into_iter().filter(|(_, left)| *left != 0);
    let left: Vec<String> = left.map(|(what, left)| format!("{left} {what}")).collect();
    broken_anywhere(format!("{} are left over", left.join(", ")))
}

/// Mappings, pages and tables agree, and so do the counters.
fn whole(space: &Space) -> Held {
    family::counters(space)?;
    let owner = space.lock();
    if let Err(violation) = owner.validate() {
        return broken_anywhere(format!("invariant {violation}"));
    }
    let tables = owner.page_side().tables();
    let mut cached = BTreeSet::new();
    for page in tables.pages(0..1 << 47) {
        if matches!(page.leaf.attributes.kind, PageKind::File | PageKind::Shmem) {
            cached.insert(page.leaf.frame);
        }
        for addr in (page.start..page.start + page.size).step_by(PAGE_SIZE as usize) {
            let Some(vma) = owner.vma_at(addr) else {
                return broken(addr, "a page is mapped where no mapping is");
            };
            if page.is_writable() && !vma.flags().contains(VmFlags::WRITE) {
                return broken(addr, "a page may be written, and its mapping may not");
            }
        }
    }
    // An object has one reference to each of its pages.
    let held = |addr| u32::from(cached.contains(&addr));
    if let Err(violation) = validate_family(&[tables], held) {
        return broken_anywhere(format!("{violation}"));
    }
    Ok(())
}
