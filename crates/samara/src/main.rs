//! Samara: mirrors a running program's address spaces and compares them with the kernel's.

mod call;
mod decode;
mod engine;
mod event;
mod kernel;
mod procfs;
mod ptrace;
mod seccomp;
mod trace_file;
fn main() {}
