//! The model against the running kernel: a child makes random memory calls, the model makes the
//! same, and result and `/proc/PID/maps` must be identical after each.
//!
//! `MAPLE_MM_LIVE_SEED` and `MAPLE_MM_LIVE_CALLS` choose another run.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod apply;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod executor;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod generate;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod run;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod syscall;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod target;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() {
    let variable = |name: &str| std::env::var(name).ok();
    if let Some(socket) = variable("MAPLE_MM_LIVE_SOCKET") {
        executor::serve(&socket, &variable("MAPLE_MM_LIVE_FILE").expect("a file"));
    }
    let number = |name| variable(name).and_then(|text| text.parse::<u64>().ok());
    run::all(number("MAPLE_MM_LIVE_SEED"), number("MAPLE_MM_LIVE_CALLS"));
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("live: skipped, the model is compared with a kernel on Linux/x86-64 only");
}
