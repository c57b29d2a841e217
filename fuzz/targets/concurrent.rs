//! The fuzz target `concurrent`: see the function of that name in the library.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| samara_fuzz::concurrent(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    samara_fuzz::replay_files(samara_fuzz::concurrent)
}
