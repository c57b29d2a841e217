//! The child: carries out one raw system call after the other, as it is told.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;

use crate::syscall::raw;

/// How many processes one executor can become by forking.
pub(crate) const CHANNELS: usize = 4;
/// Numbers in one message: the call's number and its arguments.
const WORDS: usize = 7;

const READ: u64 = 0;
const WRITE: u64 = 1;
const FORK: u64 = 57;

/// Connects to the driver and serves it until it is told to exit.
pub(crate) fn serve(socket: &str, file: &str) -> ! {
    let channels: [u64; CHANNELS] = std::array::from_fn(|_| {
        let stream = UnixStream::connect(socket).expect("the driver listens");
        u64::try_from(stream.into_raw_fd()).expect("a descriptor is not negative")
    });
    let descriptors = open_files(file);
    let list: Vec<u8> = descriptors.iter().flat_map(|fd| fd.to_le_bytes()).collect();
    raw(
        WRITE,
        [
            channels[0],
            list.as_ptr() as u64,
            list.len() as u64,
            0,
            0,
            0,
        ],
    );
    touch_stack();
    serve_channel(channels)
}

/// The files the driver maps, in the order it knows them by.
fn open_files(path: &str) -> [u64; 7] {
    let open = |path: &str, options: &OpenOptions| -> File {
        options
            .open(path)
            .unwrap_or_else(|error| panic!("cannot open {path}: {error}"))
    };
    let mut both = OpenOptions::new();
    both.read(true).write(true);
    let mut reading = OpenOptions::new();
    reading.read(true);
    let mut writing = OpenOptions::new();
    writing.write(true);
    let regular = open(path, &both);
    let duplicate = regular.try_clone().expect("dup");
    let name = c"live";
    let memory = raw(319, [name.as_ptr() as u64, 0, 0, 0, 0, 0]);
    raw(77, [memory as u64, 8 << 20, 0, 0, 0, 0]);
    let number = |file: File| file.into_raw_fd().unsigned_abs().into();
    let zero = open("/dev/zero", &both);
    debug_assert!(zero.as_raw_fd() >= 0);
    [
        number(zero),
        number(regular),
        number(duplicate),
        number(open(path, &reading)),
        number(open(path, &both)),
        number(open(path, &writing)),
        memory as u64,
    ]
}

/// Grows the stack far enough that serving never grows it again.
fn touch_stack() {
    let page = [1_u8; 256 * 1024];
    std::hint::black_box(&page);
}

fn serve_channel(channels: [u64; CHANNELS]) -> ! {
    let mut channel = channels[0];
    let mut words = [0_u64; WORDS];
    let message = size_of_val(&words) as u64;
    loop {
        let at = words.as_mut_ptr() as u64;
        if raw(READ, [channel, at, message, 0, 0, 0]) != message as i64 {
            raw(60, [1, 0, 0, 0, 0, 0]);
        }
        let [number, args @ ..] = words;
        let result = raw(number, args);
        if number == FORK && result == 0 {
            // The child answers on the channel it was given; the parent answers its own.
            channel = channels[args[0] as usize % CHANNELS];
        }
        words[0] = result as u64;
        let at = words.as_ptr() as u64;
        raw(WRITE, [channel, at, 8, 0, 0, 0]);
    }
}
