//! What is done in every order.

use maple_mm::Access;
use maple_mm::paging::{FRAME_BYTES, PhysMemory};

use crate::checker::Counters;
use crate::memory::Next;
use crate::stage::{Done, Stage, read};
use crate::{Model, check};

const MODEL: Model = Model {
    name: "",
    before: |_| {},
    threads: &[],
    after: |_| {},
    counters: Counters::Plain,
    next: Next::Fresh,
    preemptions: None,
};

/// A page is written before the threads begin.
#[track_caller]
fn fill(stage: &Stage, page: u64, number: u64) {
    assert_eq!(stage.write(&stage.parent, page, number), Done::Yes);
}

/// A fault on page 0, which may come too late for its mapping.
fn fault(stage: &Stage) {
    let _ = stage.fault(&stage.parent, 0);
}

/// Page 0 is written, if its mapping is there.
fn write(stage: &Stage) {
    let _ = stage.write(&stage.parent, 0, 20);
}

fn write_in_child(stage: &Stage) {
    let _ = stage.write(stage.child(), 0, 30);
}

fn assert_gone(stage: &Stage) {
    let left = stage.parent.entry(0);
    assert_eq!(left, None, "a page was left where no mapping is");
}

#[track_caller]
fn assert_pages(stage: &Stage, parent: [Option<u64>; 2], child: [Option<u64>; 2]) {
    let of = |tables| [0, 1].map(|page| read(tables, page));
    assert_eq!(
        of(&stage.parent),
        parent,
        "the parent lost what was written"
    );
    assert_eq!(of(stage.child()), child, "the child was written to");
}

pub(crate) mod unmapping {
    use super::*;

    /// The table is there, and stays: it maps page 1, too.
    pub(crate) const FAULT: Model = Model {
        name: "fault against munmap of its page",
        before: |stage| fill(stage, 1, 11),
        threads: &[|stage| stage.unmap(0, (0, 1)), fault],
        after: |stage| {
            assert_gone(stage);
            assert_eq!(read(&stage.parent, 1), Some(11));
        },
        ..MODEL
    };

    /// Nobody writes to a page that was freed.
    pub(crate) const ACCESS: Model = Model {
        name: "access against munmap of its page",
        before: |stage| fill(stage, 0, 10),
        threads: &[|stage| stage.unmap(0, (0, 0)), write],
        after: assert_gone,
        preemptions: Some(4),
        ..MODEL
    };

    /// Tables and pages are shared with a child.
    pub(crate) const COPY: Model = Model {
        name: "write fault on a shared page against its munmap",
        before: |stage| {
            fill(stage, 0, 10);
            fill(stage, 1, 11);
            stage.fork();
        },
        threads: &[|stage| stage.unmap(0, (0, 1)), write],
        after: |stage| {
            assert_gone(stage);
            assert_pages(stage, [None, Some(11)], [Some(10), Some(11)]);
        },
        preemptions: Some(3),
        ..MODEL
    };

    /// The page is the parent's alone, but may not be written yet.
    pub(crate) const PERMIT: Model = Model {
        name: "write fault on a page of one's own against mprotect",
        before: |stage| {
            fill(stage, 0, 10);
            stage.protect(0);
            stage.allow(0);
        },
        threads: &[|stage| stage.protect(0), write],
        after: |stage| {
            let allowed = stage.parent.translate(0, Access::Write);
            assert!(
                allowed.is_err(),
                "a page was left with rights that its mapping has not"
            );
        },
        preemptions: Some(4),
        ..MODEL
    };

    /// A page that went is not asked about: it may be anybody's.
    const PERMIT_GONE: Model = Model {
        name: "write fault on a page of one's own against its munmap",
        threads: &[|stage| stage.unmap(0, (0, 0)), write],
        after: assert_gone,
        preemptions: Some(2),
        ..PERMIT
    };

    /// The fault makes the table (K4).
    pub(crate) const TABLE: Model = Model {
        name: "fault that makes a table against munmap",
        threads: &[|stage| stage.unmap(0, (0, 0)), fault],
        after: assert_gone,
        preemptions: Some(4),
        ..MODEL
    };

    /// The table goes with its last page, and a page of another mapping comes (K3).
    pub(crate) const DEAD: Model = Model {
        name: "fault in a table that munmap frees",
        before: |stage| fill(stage, 0, 10),
        threads: &[
            |stage| stage.unmap(0, (0, 0)),
            |stage| assert_eq!(stage.write(&stage.parent, 1, 21), Done::Yes),
        ],
        after: |stage| {
            assert_gone(stage);
            assert_eq!(
                read(&stage.parent, 1),
                Some(21),
                "a page was lost with its table"
            );
        },
        preemptions: Some(3),
        ..MODEL
    };

    /// What the fault takes for its page may be what was the table.
    const DEAD_AND_REUSED: Model = Model {
        name: "fault in a table that munmap frees, whose frame is used again",
        next: Next::Freed,
        ..DEAD
    };

    /// All goes.
    pub(crate) const EXIT: Model = Model {
        name: "fault against exit",
        before: |stage| fill(stage, 1, 11),
        threads: &[|stage| stage.exit(&stage.parent), fault],
        after: assert_gone,
        counters: Counters::Shadowed,
        preemptions: Some(4),
        ..MODEL
    };

    #[test]
    fn a_fault_or_a_write_beside_munmap() {
        check(FAULT);
        check(ACCESS);
        check(COPY);
        check(PERMIT);
        check(PERMIT_GONE);
    }

    #[test]
    fn a_fault_that_makes_a_table_or_loses_it() {
        check(TABLE);
        check(DEAD);
        check(DEAD_AND_REUSED);
    }

    #[test]
    fn a_fault_beside_exit() {
        check(EXIT);
    }
}

pub(crate) mod forking {
    use super::*;

    /// What the child has at once it has ever after.
    fn fork_and_look(stage: &Stage) {
        let child = stage.fork();
        let look = || [0, 1].map(|page| read(child, page));
        stage.note(look());
    }

    fn assert_as_noted(stage: &Stage) {
        let now = [0, 1].map(|page| read(stage.child(), page));
        assert_eq!(Some(now), stage.noted(), "the child was written to");
    }

    /// The child has the page or not, and counts what it has.
    pub(crate) const FAULT: Model = Model {
        name: "fault against fork",
        before: |stage| fill(stage, 1, 11),
        threads: &[fork_and_look, fault],
        after: |stage| {
            assert_as_noted(stage);
            assert_eq!(read(&stage.parent, 0), Some(0), "a page was lost");
        },
        counters: Counters::Shadowed,
        ..MODEL
    };

    pub(crate) const TABLE: Model = Model {
        name: "fault that makes a table against fork",
        before: |_| {},
        threads: &[fork_and_look, fault],
        ..FAULT
    };

    /// The gate: who is inside with a right to write that a fork takes at the root.
    pub(crate) const WRITE: Model = Model {
        name: "write against fork",
        before: |stage| fill(stage, 0, 10),
        threads: &[fork_and_look, write],
        after: |stage| {
            assert_as_noted(stage);
            assert_eq!(read(&stage.parent, 0), Some(20), "a write was lost");
        },
        preemptions: Some(5),
        ..MODEL
    };

    /// Another stripe of the gate.
    pub(crate) const WRITES: Model = Model {
        name: "writes in two stripes against fork",
        before: |stage| {
            fill(stage, 0, 10);
            fill(stage, 2, 12);
        },
        threads: &[fork_and_look, write, |stage| {
            let _ = stage.write(&stage.parent, 2, 22);
        }],
        preemptions: Some(1),
        ..WRITE
    };

    /// The page is the parent's alone, but may not be written yet.
    pub(crate) const PERMIT: Model = Model {
        name: "write fault on a page of one's own against fork",
        before: |stage| {
            fill(stage, 0, 10);
            stage.protect(0);
            stage.allow(0);
        },
        ..WRITE
    };

    #[test]
    fn a_fault_beside_fork() {
        check(FAULT);
        check(TABLE);
    }

    #[test]
    fn a_write_beside_fork() {
        check(WRITE);
        check(PERMIT);
    }

    #[test]
    fn two_writes_beside_fork() {
        check(WRITES);
    }
}

pub(crate) mod faulting {
    use super::*;

    fn assert_one(stage: &Stage) {
        assert_eq!(
            stage.memory.in_use(),
            3,
            "a root, a table and a page are in use"
        );
        let left = read(&stage.parent, 0);
        assert!(left == Some(20) || left == Some(21), "a write was lost");
    }

    fn write_other(stage: &Stage) {
        assert_eq!(stage.write(&stage.parent, 0, 21), Done::Yes);
    }

    /// Both make the table, too.
    pub(crate) const TABLE: Model = Model {
        name: "two faults on one page, without a table",
        threads: &[write, write_other],
        after: assert_one,
        counters: Counters::Shadowed,
        preemptions: Some(3),
        ..MODEL
    };

    pub(crate) const PAGE: Model = Model {
        name: "two faults on one page",
        before: |stage| {
            fill(stage, 0, 10);
            stage.unmap(0, (0, 1));
            stage.allow(0);
        },
        preemptions: Some(3),
        ..TABLE
    };

    #[test]
    fn two_faults_on_one_page() {
        check(TABLE);
        check(PAGE);
    }
}

pub(crate) mod unsharing {
    use super::*;

    /// Pages 0 and 1, and a child with both.
    fn fork(stage: &Stage) {
        fill(stage, 0, 10);
        fill(stage, 1, 11);
        stage.fork();
    }

    fn resolve(stage: &Stage) {
        assert_eq!(stage.resolve(&stage.parent, 0), Done::Yes);
    }

    /// What was resolved is written, and seen by the parent only.
    fn assert_resolved(stage: &Stage, pages: &[u64]) {
        let mut parent = [Some(10), Some(11)];
        for &page in pages {
            let written = stage
                .parent
                .write(page * FRAME_BYTES, &20_u64.to_ne_bytes());
            assert_eq!(written, Ok(()), "a right to write was lost");
            parent[page as usize] = Some(20);
        }
        assert_pages(stage, parent, [Some(10), Some(11)]);
    }

    pub(crate) const TABLE: Model = Model {
        name: "two write faults in one shared table",
        before: fork,
        threads: &[resolve, |stage| {
            assert_eq!(stage.resolve(&stage.parent, 1), Done::Yes);
        }],
        after: |stage| assert_resolved(stage, &[0, 1]),
        preemptions: Some(2),
        ..MODEL
    };

    pub(crate) const PAGE: Model = Model {
        name: "two write faults on one shared page",
        threads: &[resolve, resolve],
        after: |stage| assert_resolved(stage, &[0]),
        ..TABLE
    };

    pub(crate) const SPACES: Model = Model {
        name: "write faults of parent and child on one page",
        threads: &[write, write_in_child],
        after: |stage| assert_pages(stage, [Some(20), Some(11)], [Some(30), Some(11)]),
        preemptions: Some(3),
        ..TABLE
    };

    /// Each has a table of its own already.
    pub(crate) const PAGES: Model = Model {
        name: "write faults of parent and child on one page, tables apart",
        before: |stage| {
            fork(stage);
            fill(stage, 1, 21);
        },
        after: |stage| assert_pages(stage, [Some(20), Some(21)], [Some(30), Some(11)]),
        preemptions: Some(4),
        ..SPACES
    };

    /// What is copied is given up by both meanwhile.
    pub(crate) const PIN: Model = Model {
        name: "write fault on a shared page that both give up",
        threads: &[
            |stage| {
                stage.unmap(0, (0, 1));
                stage.exit(stage.child());
            },
            write,
        ],
        after: |stage| assert_pages(stage, [None, Some(11)], [None, None]),
        preemptions: Some(3),
        ..TABLE
    };

    /// The copy may be made where the page was.
    const PIN_AND_REUSED: Model = Model {
        name: "write fault on a shared page that both give up, whose frame is used again",
        next: Next::Freed,
        preemptions: Some(2),
        ..PIN
    };

    /// The old tables and pages go with the child.
    pub(crate) const EXIT: Model = Model {
        name: "write fault of the parent against exit of the child",
        threads: &[|stage| stage.exit(stage.child()), write],
        after: |stage| assert_pages(stage, [Some(20), Some(11)], [None, None]),
        preemptions: None,
        ..TABLE
    };

    #[test]
    fn two_threads_of_one_space() {
        check(TABLE);
        check(PAGE);
    }

    #[test]
    fn one_thread_of_each_of_two() {
        check(SPACES);
        check(PAGES);
    }

    #[test]
    fn one_of_them_exits() {
        check(EXIT);
        check(PIN);
        check(PIN_AND_REUSED);
    }
}

pub(crate) mod freeing {
    use super::*;

    fn walk(stage: &Stage) {
        // What it finds is of some moment.
        if let Some(mapped) = stage.parent.entry(0) {
            assert_eq!(mapped.size, FRAME_BYTES);
        }
    }

    pub(crate) const WALKER: Model = Model {
        name: "table freed against a walker",
        before: |stage| fill(stage, 0, 10),
        threads: &[|stage| stage.unmap(0, (0, 0)), walk],
        after: assert_gone,
        ..MODEL
    };

    pub(crate) const WALKERS: Model = Model {
        name: "table freed against a walker and a reader",
        threads: &[
            |stage| stage.unmap(0, (0, 0)),
            walk,
            |stage| {
                let found = read(&stage.parent, 0);
                assert!(found.is_none_or(|found| found == 10));
            },
        ],
        preemptions: Some(2),
        ..WALKER
    };

    /// The table that goes has another owner, who goes, too.
    pub(crate) const SHARED: Model = Model {
        name: "shared table given up by both against a walker",
        before: |stage| {
            fill(stage, 0, 10);
            stage.fork();
        },
        threads: &[
            |stage| stage.unmap(0, (0, 0)),
            |stage| stage.exit(stage.child()),
            walk,
        ],
        preemptions: Some(2),
        ..WALKER
    };

    #[test]
    fn a_walker_beside_who_frees_tables() {
        check(WALKER);
        check(WALKERS);
        check(SHARED);
    }
}
