//! Which function is at an address: asked by many threads, while modules come and go.
//!
//! A profiler's samples and a debugger's backtraces must not wait for a module to be loaded.
//! Readers here take no lock. A module is one entry, so it is seen whole or not at all.

use std::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use maple_tree::{EpochRcu, IndexRange, MapleTree, SyncMapleTree};

struct Function {
    offsets: Range<u64>,
    name: &'static str,
}

/// What was loaded, and its functions by their offset.
struct Module {
    name: String,
    base: u64,
    functions: MapleTree<&'static Function>,
}

type Modules = SyncMapleTree<Arc<Module>>;

const KERNEL: u64 = 0xffff_ffff_8000_0000;
const PLUGINS: u64 = 0x7f00_0000_0000;
/// The addresses that a module takes.
const SIZE: u64 = 0x10_0000;

/// What every module here is made of.
static FUNCTIONS: [Function; 3] = [
    Function {
        offsets: 0x100..0x180,
        name: "init",
    },
    Function {
        offsets: 0x180..0xa00,
        name: "work",
    },
    Function {
        offsets: 0xa00..0xa40,
        name: "exit",
    },
];

/// Loads a module at `base`. Whoever asks from now on finds it.
fn load(modules: &Modules, name: String, base: u64) -> Result<(), Box<dyn Error>> {
    let mut functions = MapleTree::new();
    for function in &FUNCTIONS {
        functions.insert(function.offsets.clone().try_into()?, function)?;
    }
    let range = IndexRange::try_from(base..base + SIZE)?;
    let module = Arc::new(Module {
        name,
        base,
        functions,
    });
    modules.write().insert(range, module)?;
    Ok(())
}

/// `module!function+offset`, or the bare address.
fn resolve(modules: &Modules, address: u64) -> String {
    let reader = modules.read();
    // What the reader found stays for as long as the reader, even if it is unloaded meanwhile.
    let Some(module) = reader.get(address) else {
        return format!("{address:#x}");
    };
    let offset = address - module.base;
    match module.functions.entry(offset) {
        Some((range, function)) => {
            let into = offset - range.first();
            format!("{}!{}+{into:#x}", module.name, function.name)
        }
        None => format!("{}+{offset:#x}", module.name),
    }
}

/// Loads and unloads modules in eight places, each `rounds` times.
fn churn(modules: &Modules, rounds: u64) -> Result<(), Box<dyn Error>> {
    for round in 0..rounds {
        let base = PLUGINS + round % 8 * SIZE;
        modules.write().erase(base)?;
        load(modules, format!("plugin{round}"), base)?;
    }
    Ok(())
}

/// Asks until there is nothing more to come; returns how often.
fn sample(modules: &Modules, start: u64, is_over: &AtomicBool) -> u64 {
    let mut asked = 0;
    while asked < 1000 || !is_over.load(Ordering::Relaxed) {
        // The kernel is always there, a plugin is there or not: never a part of one.
        assert_eq!(resolve(modules, KERNEL + 0x200), "kernel!work+0x80");
        let plugin = resolve(modules, PLUGINS + (start + asked) % 8 * SIZE + 0xa01);
        assert!(plugin.starts_with("0x") || plugin.ends_with("!exit+0x1"));
        asked += 2;
    }
    asked
}

fn main() -> Result<(), Box<dyn Error>> {
    static MODULES: Modules = Modules::new(EpochRcu);
    load(&MODULES, "kernel".to_owned(), KERNEL)?;
    load(&MODULES, "editor".to_owned(), PLUGINS)?;
    println!("a backtrace:");
    for address in [KERNEL + 0xa3f, KERNEL + 0xa40, PLUGINS + 0x180, 0x1234] {
        println!("  {}", resolve(&MODULES, address));
    }
    assert_eq!(resolve(&MODULES, PLUGINS + 0x180), "editor!work+0x0");

    let is_over = AtomicBool::new(false);
    let asked = thread::scope(|scope| {
        let is_over = &is_over;
        let readers = [0, 3, 5].map(|start| scope.spawn(move || sample(&MODULES, start, is_over)));
        let churned = churn(&MODULES, 2000);
        is_over.store(true, Ordering::Relaxed);
        let asked = readers.map(|reader| reader.join().expect("a sample was wrong"));
        churned.map(|()| asked.iter().sum::<u64>())
    })?;
    println!("2000 modules loaded and unloaded beside 3 readers");
    assert!(asked >= 3000);

    // Modules that were unloaded are freed once no reader looks.
    let last = MODULES.snapshot();
    MODULES.write().clear();
    MODULES.barrier();
    let holders = last.get(PLUGINS).map(Arc::strong_count);
    assert_eq!((last.len(), holders), (9, Some(1)));
    last.validate()?;
    Ok(())
}
