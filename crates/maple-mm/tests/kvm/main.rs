//! Page tables on a real processor: a guest in user mode reads, writes and executes through them.
//!
//! The arena is the guest's memory, a root is its CR3. Needs `/dev/kvm`; without it every case is
//! skipped by name.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod cases;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod guest;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod machine;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod process;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod shared;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() {
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| name.contains(wanted));
    if machine::refused().is_none() && machine::walker() == machine::Walker::Hypervisor {
        println!("kvm: no nested paging here: the hypervisor walks the tables, not the processor");
    }
    let cases = cases::ALL.iter().chain(shared::ALL);
    for (name, case) in cases.filter(|(name, _)| is_wanted(name)) {
        match machine::refused() {
            Some(reason) => println!("kvm: {name}: skipped, {reason}"),
            None => {
                case();
                println!("kvm: {name}: ok");
            }
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("kvm: skipped, the guest is an x86-64 one on Linux");
}
