//! Address spaces on a real processor: a guest in user mode loads, stores, pushes and executes.
//!
//! The arena is the guest's memory, the root of an address space is its CR3. Each page fault leaves
//! the guest and goes to [`AddressSpace::fault`](maple_mm::AddressSpace::fault); then the routine is
//! started again, or gets its signal. What a call changes is flushed in the guest, by a routine of
//! its kernel. Needs `/dev/kvm`; without it every case is skipped by name.
//!
//! Where the hypervisor walks the tables, because it cannot nest paging, it forgets everything at
//! each flush, whatever was asked for: a flush that is missing shows there, one that is too narrow
//! does not.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod bare;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod changes;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "../common/mod.rs"]
mod common;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod faults;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod forks;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod guest;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod host;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod huge;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod machine;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod program;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod random;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod tlb;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "../common/world.rs"]
mod world;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() {
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| name.contains(wanted));
    let refused = machine::refused();
    if refused.is_none() && machine::walker() == machine::Walker::Hypervisor {
        println!("kvm: no nested paging here: the hypervisor walks the tables, not the processor");
    }
    let groups = [
        faults::all(),
        changes::all(),
        forks::all(),
        huge::all(),
        random::all(),
        bare::all(),
    ];
    for case in groups.iter().flatten().filter(|case| is_wanted(&case.name)) {
        match &refused {
            Some(reason) => println!("skipped: kvm: {}: {reason}", case.name),
            None => {
                case.run();
                println!("kvm: {}: ok", case.name);
            }
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("skipped: kvm: the guest is an x86-64 one on Linux");
}
