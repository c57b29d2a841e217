//! The tree in a kernel: its own RCU, its own lock, its own nodes, all of it in statics.
//!
//! A table of device windows: which device answers at an address. CPUs look it up without a
//! lock while devices are plugged in and out. The modules need `core`, and a little memory for
//! each CPU; `main` plays the machine, with a thread for each.

mod arena;
mod quiescence;
mod spin;

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use maple_tree::{EmptyRange, IndexRange, RcuMapleTree, StoreError, StoreErrorKind};

use self::arena::ArenaNodes;
use self::quiescence::{CPUS, QuiescenceRcu};
use self::spin::Spin;

struct Device {
    name: &'static str,
    slot: u64,
}

type Windows = RcuMapleTree<&'static Device, QuiescenceRcu, Spin, ArenaNodes>;

static WINDOWS: Windows = RcuMapleTree::with_gaps_in(QuiescenceRcu, ArenaNodes);
static DEVICES: [Device; 3] = [device("timer", 0), device("uart", 1), device("disk", 2)];
/// How often another device answered than the one at that address.
static WRONG: AtomicU64 = AtomicU64::new(0);
/// So many addresses belong to a slot.
const WINDOW: u64 = 0x1000;

const fn device(name: &'static str, slot: u64) -> Device {
    Device { name, slot }
}

/// One of the CPUs that look devices up.
fn run_cpu(is_over: &AtomicBool) {
    quiescence::boot();
    while !is_over.load(Ordering::Relaxed) {
        for address in (0..3 * WINDOW).step_by(0x400) {
            let reader = WINDOWS.read();
            let device = reader.get(address);
            if device.is_some_and(|device| device.slot != address / WINDOW) {
                WRONG.fetch_add(1, Ordering::Relaxed);
            }
        }
        quiescence::idle();
    }
    quiescence::halt();
}

fn window(slot: u64) -> Result<IndexRange, EmptyRange> {
    IndexRange::try_from(slot * WINDOW..(slot + 1) * WINDOW)
}

/// Unplugs a device that is there, plugs in one that is not.
fn toggle(device: &'static Device) -> Result<(), Box<dyn Error>> {
    let mut windows = WINDOWS.write();
    if windows.erase(device.slot * WINDOW)?.is_none() {
        windows.insert(window(device.slot)?, device)?;
    }
    Ok(())
}

/// Stores windows, each behind a gap, until there are no more nodes; says why the last
/// was refused.
fn fill() -> Result<StoreError<&'static Device>, Box<dyn Error>> {
    for slot in (3..).step_by(2) {
        let range = window(slot)?;
        let mut refused = WINDOWS.write().insert(range, &DEVICES[0]);
        if refused.is_err() {
            // Nodes that were cut out come back once no CPU looks at them.
            WINDOWS.barrier();
            refused = WINDOWS.write().insert(range, &DEVICES[0]);
        }
        if let Err(refused) = refused {
            return Ok(refused);
        }
    }
    Err("there are more slots than nodes".into())
}

fn main() -> Result<(), Box<dyn Error>> {
    quiescence::boot();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        (1..CPUS).for_each(|_| drop(scope.spawn(|| run_cpu(&is_over))));
        for device in DEVICES.iter().cycle().take(3001) {
            // The arena is small: what was cut out fills it, and waits for the CPUs.
            while toggle(device).is_err() {
                WINDOWS.barrier();
            }
            quiescence::idle();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    println!("3001 times plugged in or out beside {} CPUs", CPUS - 1);
    for (range, device) in WINDOWS.read().iter() {
        let (first, last) = (range.first(), range.last());
        println!("  {first:#06x}..={last:#06x} {}", device.name);
    }
    assert_eq!(WINDOWS.read().iter().count(), 1);
    assert_eq!(WRONG.load(Ordering::Relaxed), 0);

    let refused = fill()?;
    assert_eq!(refused.kind, StoreErrorKind::OutOfNodes);
    let (stored, in_use) = (WINDOWS.read().iter().count(), ArenaNodes.in_use());
    println!("{stored} windows in {in_use} nodes; the next: {refused}");
    WINDOWS.write().validate()?;

    // This needs none.
    WINDOWS.write().clear();
    WINDOWS.barrier();
    println!("empty, with {} free nodes at hand", ArenaNodes.in_use());
    assert!(WINDOWS.read().is_empty() && ArenaNodes.in_use() <= 32);
    Ok(())
}
