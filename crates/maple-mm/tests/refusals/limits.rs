//! Promises refused at every mapping: the commit limit of overcommit mode 2.

use std::sync::Arc;

use maple_mm::{AddressSpace, Errno, Overcommit, Setup, System, SystemSettings, abi::*};

use crate::call::{LEN, is_at};
use crate::common::{map_as, memory, page};

/// Five adjacent mappings that become writable, two pages each, with room to promise for
/// `room` pages.
fn readable(room: u64) -> AddressSpace {
    let settings = SystemSettings {
        overcommit: Overcommit::Never {
            // The sum must stay below the limit.
            limit_pages: room + 1,
            admin_reserve_pages: 0,
            user_reserve_pages: 0,
        },
        ..SystemSettings::default()
    };
    let setup = Setup {
        system: Arc::new(System::new(settings)),
        ..Setup::default()
    };
    let mut space = AddressSpace::from_layout(setup, []).unwrap();
    for index in 0..5 {
        let prot = [PROT_READ, PROT_READ | PROT_EXEC][index as usize % 2];
        map_as(&mut space, memory(2 * index, 2 * index + 2, prot));
    }
    space
}

#[test]
fn a_commit_limit_reached_at_any_mapping_leaves_those_before_it_changed() {
    let all = PROT_READ | PROT_WRITE;
    for room in 0..=10 {
        let mut space = readable(room);
        let changed = space.mprotect(page(0), LEN, all);
        assert_eq!(changed.is_ok(), room == 10);
        assert!(changed.is_ok() || changed == Err(Errno::ENOMEM));
        // LINUX: whole mappings, one after the other.
        assert_eq!(space.statistics().committed, room / 2 * 2);
        assert_eq!(space.system().committed(), room / 2 * 2);
        space.validate().unwrap();
    }
}

type Refused = fn(&mut AddressSpace) -> Result<u64, Errno>;

#[test]
fn a_commit_limit_refuses_new_memory_and_changes_nothing() {
    for room in 0..10 {
        let calls: [Refused; 4] = [
            |space| space.mmap(memory(3, 13, PROT_READ | PROT_WRITE)),
            |space| space.mmap(memory(20, 30, PROT_READ | PROT_WRITE)),
            |space| {
                let mut shared = memory(20, 30, PROT_READ | PROT_WRITE);
                shared.flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED;
                space.mmap(shared)
            },
            |space| {
                let end = space.layout().start_brk + LEN;
                is_at(space.brk(end), end)
            },
        ];
        for act in calls {
            let mut space = readable(room);
            let before = space.statistics();
            assert_eq!(act(&mut space), Err(Errno::ENOMEM));
            assert_eq!(space.statistics(), before);
            assert_eq!(space.system().committed(), 0);
            space.validate().unwrap();
        }
    }
}
