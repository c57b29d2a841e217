//! One virtual processor whose memory is an arena.
#![expect(unsafe_code, reason = "a guest is given the arena as its memory")]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use kvm_bindings::{
    KVM_MAX_CPUID_ENTRIES, kvm_dtable, kvm_regs, kvm_segment, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use maple_mm::paging::PhysAddr;

use crate::common::paged::Memory;
use crate::guest::{self, Guest};

/// Shared by whoever uses the processor or tells it something.
pub(crate) type Processor = Rc<RefCell<Machine>>;

/// Why there can be no machine here.
pub(crate) fn refused() -> Option<String> {
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => return Some(format!("/dev/kvm cannot be opened: {error}")),
    };
    match kvm.create_vm() {
        Ok(_) => None,
        Err(error) => Some(format!("KVM_CREATE_VM: {error}")),
    }
}

/// A page fault as the processor reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) addr: u64,
    /// Bit 0: a page was there. 1: a write. 2: user mode. 4: an instruction fetch.
    pub(crate) code: u64,
}

/// How the guest left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The routine is through; RAX.
    Called(u64),
    /// It faulted. Running it again retries.
    Fault(Fault),
}

/// A routine of user mode, and what it is given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Routine {
    pub(crate) rip: u64,
    pub(crate) rax: u64,
    pub(crate) rbx: u64,
    pub(crate) rcx: u64,
}

/// What the processor is to do before it goes to user mode.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Before {
    Nothing,
    /// Loads CR3 with it: forgets all translations.
    Load(PhysAddr),
    /// Forgets the translations of `pages` pages from `start` on.
    Forget {
        start: u64,
        pages: u64,
    },
}

/// Fields go in this order: the machine, then its memory.
pub(crate) struct Machine {
    vcpu: VcpuFd,
    vm: VmFd,
    /// Who walks our tables.
    walker: Walker,
    /// Whether translations were to be forgotten since the hypervisor last forgot its own.
    is_stale: bool,
    /// What CR3 holds.
    root: PhysAddr,
    guest: Guest,
    memory: Memory,
}

/// What `iretq` takes off the stack.
const FRAME_WORDS: u64 = 5;

impl Machine {
    pub(crate) fn new(memory: &Memory) -> Self {
        let kvm = Kvm::new().expect("it was there just now");
        let vm = kvm.create_vm().expect("it was possible just now");
        vm.set_tss_address(0xfffb_d000)
            .expect("a place for KVM's own pages");
        let vcpu = vm.create_vcpu(0).expect("a processor");
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .expect("its features");
        vcpu.set_cpuid2(&cpuid).expect("these features");
        let guest = Guest::new(memory);
        let mut machine = Self {
            vcpu,
            vm,
            walker: walker(),
            is_stale: false,
            root: guest.root(),
            guest,
            memory: Memory::clone(memory),
        };
        machine.give_memory(memory.size());
        machine.enter_long_mode();
        machine
    }

    pub(crate) const fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Lets user mode run `routine` on the tables of `root`, until it leaves.
    pub(crate) fn run(&mut self, root: PhysAddr, routine: Routine) -> Exit {
        let before = if self.root == root {
            Before::Nothing
        } else {
            Before::Load(root)
        };
        self.go(routine, before)
    }

    /// Does what is to be done for translations of `root` to be forgotten. If that is not in use
    /// the processor has none: without process identifiers, loading another root forgets all.
    pub(crate) fn forget(&mut self, root: PhysAddr, how: Before) {
        self.is_stale = true;
        if self.root == root {
            let idle = Routine {
                rip: guest::IDLE,
                ..Routine::default()
            };
            let exit = self.go(idle, how);
            assert!(matches!(exit, Exit::Called(_)), "{exit:?}");
        }
    }

    /// Lets `root` go, which is to be freed.
    pub(crate) fn leave(&mut self, root: PhysAddr) {
        self.forget(root, Before::Load(self.guest.root()));
    }

    /// Sets the processor up in ring 0 with paging on; the first root is loaded by [`Self::go`].
    fn enter_long_mode(&mut self) {
        let mut system = self.vcpu.get_sregs().expect("its registers");
        let table = |base, limit| kvm_dtable {
            base,
            limit,
            ..Default::default()
        };
        system.gdt = table(guest::GDT, 0x37);
        system.idt = table(guest::IDT, 0xfff);
        system.cs = segment(guest::KERNEL_CODE, 11);
        system.cs.l = 1;
        system.cs.db = 0;
        let data = segment(guest::KERNEL_DATA, 3);
        (system.ds, system.es, system.fs, system.gs) = (data, data, data, data);
        system.ss = data;
        system.tr = segment(guest::TASK, 11);
        (system.tr.base, system.tr.limit) = (guest::TSS, 0x67);
        (system.tr.s, system.tr.g, system.tr.db) = (0, 0, 0);
        // Protected mode, x87 errors, write protection for ring 0 too, paging.
        system.cr0 = 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
        // Physical addresses of 64 bits.
        system.cr4 = 1 << 5;
        // Long mode enabled and active, no-execute.
        system.efer = 1 << 8 | 1 << 10 | 1 << 11;
        system.cr3 = self.root.as_u64();
        self.vcpu.set_sregs(&system).expect("long mode");
    }

    /// Lets ring 0 do what is to be done before, and user mode run `routine`, until it leaves.
    fn go(&mut self, routine: Routine, before: Before) -> Exit {
        let frame = [
            routine.rip,
            u64::from(guest::USER_CODE),
            2,
            0,
            u64::from(guest::USER_DATA),
        ];
        let rsp = guest::STACK_TOP - FRAME_WORDS * 8;
        for (index, word) in frame.into_iter().enumerate() {
            self.guest
                .stack_word(rsp + index as u64 * 8)
                .store(word, Ordering::Relaxed);
        }
        let (root, start, pages) = match before {
            Before::Nothing => (0, 0, 0),
            Before::Load(root) => (root.as_u64(), 0, 0),
            Before::Forget { start, pages } => (0, start, pages),
        };
        let registers = kvm_regs {
            rip: guest::RETURN,
            rsp,
            rax: routine.rax,
            rbx: routine.rbx,
            rcx: routine.rcx,
            rdx: root,
            rdi: start,
            rsi: pages,
            rflags: 2,
            ..Default::default()
        };
        self.vcpu.set_regs(&registers).expect("its registers");
        if let Before::Load(root) = before {
            self.root = root;
        }
        if self.walker == Walker::Hypervisor && std::mem::take(&mut self.is_stale) {
            // It notices what the guest writes to tables, and not what the host does; and it keeps
            // what it made of tables that are not in use. Without memory it forgets all that.
            self.give_memory(0);
            self.give_memory(self.memory.size());
        }
        self.until_exit()
    }

    fn until_exit(&mut self) -> Exit {
        let (port, value) = match self.vcpu.run().expect("the guest runs") {
            VcpuExit::IoOut(port, data) => (port, data[0]),
            other => panic!("the guest left by {other:?}"),
        };
        // The instruction is complete once the processor was asked to go on.
        self.vcpu.set_kvm_immediate_exit(1);
        let _ = self.vcpu.run();
        self.vcpu.set_kvm_immediate_exit(0);
        let registers = self.vcpu.get_regs().expect("its registers");
        if port != guest::PAGE_FAULT {
            panic!("the guest faulted with vector {value:#x}: {registers:x?}");
        }
        let addr = self.vcpu.get_sregs().expect("its registers").cr2;
        let code = self.guest.stack_word(registers.rsp).load(Ordering::Relaxed);
        match addr {
            0 => Exit::Called(registers.rax),
            _ => Exit::Fault(Fault { addr, code }),
        }
    }

    /// Makes the first `size` bytes of the arena the guest's memory: all, or nothing.
    fn give_memory(&self, size: u64) {
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: self.memory.base().as_u64(),
            memory_size: size,
            userspace_addr: self.memory.base_ptr().as_ptr() as u64,
        };
        // SAFETY:
        // - The region is within the arena's memory, and the machine holds the arena: it lets go
        //   of it after the VM (order of fields).
        // - What the guest does to it, it does to words that this program takes for atomic ones.
        unsafe { self.vm.set_user_memory_region(region) }.expect("the arena as memory");
    }
}

/// Who walks the guest's page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walker {
    /// The processor: the guest's translations are its own, and so is forgetting them.
    Processor,
    /// The hypervisor, which makes tables of its own from what it finds.
    Hypervisor,
}

/// Which of the two it is here.
pub(crate) fn walker() -> Walker {
    let nested = ["kvm_intel/parameters/ept", "kvm_amd/parameters/npt"];
    let is_on = |name: &&str| {
        let setting = std::fs::read_to_string(format!("/sys/module/{name}"));
        setting.is_ok_and(|setting| matches!(setting.trim(), "Y" | "1"))
    };
    if nested.iter().any(is_on) {
        Walker::Processor
    } else {
        Walker::Hypervisor
    }
}

fn segment(selector: u16, kind: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_: kind,
        present: 1,
        dpl: 0,
        db: 1,
        s: 1,
        l: 0,
        g: 1,
        avl: 0,
        unusable: 0,
        padding: 0,
    }
}
