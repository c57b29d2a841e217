//! A program of the guest: an address space, and user mode that runs on its tables.

use std::cell::RefMut;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use maple_mm::{Access, AddressSpace, Fault, ForkPlan, MappedPages, MmapFile, MmapRequest, abi::*};

use crate::common::paged::{self, Memory, Space};
use crate::guest;
use crate::host::{Host, PAGE};
use crate::machine::{Exit, Fault as Trap, Machine, Processor, Routine};
use crate::tlb::{Flush, GuestTlb};
use crate::world;

pub(crate) struct Program {
    pub(crate) space: Space<Memory, GuestTlb>,
    processor: Processor,
}

/// What running a routine came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// RAX at the end, or the signal.
    pub(crate) result: Result<u64, Fault>,
    /// The codes of the faults on the way, those on the routines' own page aside.
    pub(crate) codes: Vec<u64>,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn is(&self, result: Result<u64, Fault>, codes: &[u64]) {
        assert_eq!((self.result, &self.codes[..]), (result, codes));
    }
}

const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 4;

/// No routine touches more pages.
const FAULTS_MOST: usize = 32;

impl Program {
    /// A program that has its routines mapped and nothing else.
    pub(crate) fn new(host: &Host) -> Self {
        let tlb = GuestTlb::new(&host.processor);
        let side = MappedPages::new(Memory::clone(&host.memory), tlb).expect("a frame");
        let space = AddressSpace::with_pages(host.setup(), side);
        let mut program = Self::on_processor(space, &host.processor);
        program.mmap(MmapRequest {
            addr: guest::TEXT,
            flags: MAP_PRIVATE | MAP_FIXED,
            file: MmapFile::Open(host.text.clone()),
            ..MmapRequest::anonymous(PAGE, PROT_READ | PROT_EXEC)
        });
        program
    }

    /// Makes the kernel reachable through the tables of `space`, and the processor flushed by it.
    fn on_processor(mut space: Space<Memory, GuestTlb>, processor: &Processor) -> Self {
        let tables = space.page_side().tables();
        let root = tables.root();
        processor.borrow().guest().enter_into(tables);
        space.page_side_mut().flusher_mut().belong_to(root);
        Self {
            space,
            processor: Rc::clone(processor),
        }
    }

    /// Maps what is asked for: where.
    #[track_caller]
    pub(crate) fn mmap(&mut self, request: MmapRequest) -> u64 {
        self.space.mmap(request).expect("it can be mapped")
    }

    pub(crate) fn fork(&mut self, plan: impl Into<ForkPlan>) -> Self {
        let child = self.space.fork_with(plan, || false).expect("memory");
        Self::on_processor(child, &self.processor)
    }

    /// What was flushed since the last call.
    pub(crate) fn flushes(&mut self) -> Vec<Flush> {
        self.space.page_side_mut().flusher_mut().take_log()
    }

    pub(crate) fn load(&mut self, addr: u64) -> Outcome {
        self.run(Routine {
            rip: guest::LOAD,
            rbx: addr,
            ..Routine::default()
        })
    }

    pub(crate) fn store(&mut self, addr: u64, value: u64) -> Outcome {
        self.run(Routine {
            rip: guest::STORE,
            rbx: addr,
            rax: value,
            ..Routine::default()
        })
    }

    pub(crate) fn jump(&mut self, addr: u64) -> Outcome {
        self.run(Routine {
            rip: guest::JUMP,
            rbx: addr,
            ..Routine::default()
        })
    }

    /// Pushes `value` `count` times, with the stack pointer at `top`.
    pub(crate) fn push(&mut self, top: u64, (value, count): (u64, u64)) -> Outcome {
        self.run(Routine {
            rip: guest::PUSH,
            rbx: top,
            rax: value,
            rcx: count,
        })
    }

    /// Runs a routine until it is through or gets a signal; it is started anew after each fault.
    fn run(&mut self, routine: Routine) -> Outcome {
        let root = self.space.page_side().tables().root();
        let mut codes = Vec::new();
        for _ in 0..FAULTS_MOST {
            let exit = self.machine().run(root, routine);
            let result = match exit {
                Exit::Called(value) => Some(Ok(value)),
                Exit::Fault(trap) => {
                    if trap.addr / PAGE != guest::TEXT / PAGE {
                        codes.push(trap.code);
                    }
                    self.resolve(trap).err().map(Err)
                }
            };
            if let Some(result) = result {
                return Outcome { result, codes };
            }
        }
        panic!("it faults for ever: {codes:?}");
    }

    fn machine(&self) -> RefMut<'_, Machine> {
        self.processor.borrow_mut()
    }

    fn resolve(&mut self, trap: Trap) -> Result<(), Fault> {
        let access = match trap.code & (WRITE | FETCH) {
            0 => Access::Read,
            WRITE => Access::Write,
            _ => Access::Execute,
        };
        self.space.fault(trap.addr, access)
    }

    /// Unmaps everything: nothing is counted any more, and no table is left.
    #[track_caller]
    pub(crate) fn unmap_all(&mut self) {
        let end = self.space.layout().task_size;
        self.space.munmap(0, end).expect("frames enough");
        assert_eq!(self.space.map_count(), 0);
        let left = self.space.statistics();
        assert_eq!((left.pgtables_bytes, left.total_vm), (0, 0));
        assert_eq!(left.resident, maple_mm::paging::Resident::default());
    }
}

impl Drop for Program {
    /// Its root goes; the processor must not have it then.
    fn drop(&mut self) {
        let root = self.space.page_side().tables().root();
        self.machine().leave(root);
    }
}

impl world::Program for Program {
    type Pages = paged::Side<Memory, GuestTlb>;

    fn space(&self) -> impl Deref<Target = Space<Memory, GuestTlb>> {
        &self.space
    }

    fn space_mut(&mut self) -> impl DerefMut<Target = Space<Memory, GuestTlb>> {
        &mut self.space
    }

    fn load(&mut self, addr: u64) -> Result<u64, Fault> {
        Self::load(self, addr).result
    }

    fn store(&mut self, addr: u64, word: u64) -> Result<(), Fault> {
        Self::store(self, addr, word).result.map(drop)
    }

    fn fork(&mut self, plan: ForkPlan) -> Self {
        Self::fork(self, plan)
    }

    /// Nothing waits.
    fn settle(&self) {}
}

/// Everything that must hold for these programs, the only ones there are.
#[track_caller]
pub(crate) fn check(programs: &[&Program]) {
    let spaces: Vec<_> = programs.iter().map(|program| &program.space).collect();
    paged::check(&spaces);
}
