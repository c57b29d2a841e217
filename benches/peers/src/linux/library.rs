//! The library that `cargo xtask linux-peer` builds around Linux's tree: loading it and calling it.
#![expect(
    unsafe_code,
    reason = "a library loaded at run time, and calls of functions in C"
)]

use crate::data::{Area, Span};
use crate::script::Step;
use anyhow::{Context, bail, ensure};
use std::ffi::{c_int, c_void};
use std::path::Path;
use std::ptr::NonNull;
use std::rc::Rc;

/// What the library must say it speaks; raised with every change of a signature or a layout below
/// and in `xtask/src/linux_peer/driver.c`.
const ABI: u64 = 1;

/// How a tree in C is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Mode {
    /// No gap tracking, no readers without a lock.
    Plain = 0,
    /// Gap tracking, no readers without a lock: a process's tree while it forks.
    Gaps = 1,
    /// Gap tracking and readers without a lock: a process's tree.
    Rcu = 2,
}

/// The library's functions. They are not used by more than one thread: [`Library`] is not `Sync`.
struct Functions {
    new: unsafe extern "C" fn(u64) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
    duplicate: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    build: unsafe extern "C" fn(*mut c_void, *const Area, usize) -> c_int,
    bulk: unsafe extern "C" fn(*mut c_void, *const Area, usize) -> c_int,
    apply: unsafe extern "C" fn(*mut c_void, *const Step, usize) -> c_int,
    read: unsafe extern "C" fn(*mut c_void, *mut Area, usize) -> usize,
    iterate: unsafe extern "C" fn(*mut c_void) -> u64,
    look_up: unsafe extern "C" fn(*mut c_void, *const u64, usize) -> u64,
    look_up_dependent: unsafe extern "C" fn(*mut c_void, *const u64, usize, u64) -> u64,
    lowest_gap: unsafe extern "C" fn(*mut c_void, u64, u64, u64) -> u64,
    highest_gap: unsafe extern "C" fn(*mut c_void, u64, u64, u64) -> u64,
    bytes: unsafe extern "C" fn() -> u64,
}

/// The loaded library.
///
/// # Invariants
///
/// - **LIB1** The functions are those of `_code`, with the signatures of [`ABI`], and `_code` stays
///   loaded for as long as they are here.
pub(crate) struct Library {
    functions: Functions,
    _code: libloading::Library,
    /// The library's heap has no lock.
    _one_thread: std::marker::PhantomData<*const ()>,
}

impl Library {
    /// Loads the library at `path`.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let path = std::path::absolute(path)?;
        // SAFETY: the user names a library that `cargo xtask linux-peer` built; it has no
        // initialisers beyond the C library's own. That it is that one is checked next.
        let code = unsafe { libloading::Library::new(&path) };
        let code = code.with_context(|| {
            format!(
                "{}: build it with `cargo xtask linux-peer --source DIR`",
                path.display()
            )
        })?;
        // SAFETY: `peer_abi` takes nothing and returns a `uint64_t` in every version of the driver.
        let abi = unsafe { code.get::<unsafe extern "C" fn() -> u64>(b"peer_abi\0") };
        let abi = *abi.with_context(|| format!("{}: not the driver's library", path.display()))?;
        // SAFETY: as above; it only returns a constant.
        let abi = unsafe { abi() };
        ensure!(
            abi == ABI,
            "{}: of another version; build it again",
            path.display()
        );
        Ok(Self {
            // INVARIANT: LIB1: the ABI was just found to be ours, and `code` moves in beside.
            functions: Functions {
                new: symbol(&code, "peer_new")?,
                free: symbol(&code, "peer_free")?,
                duplicate: symbol(&code, "peer_duplicate")?,
                build: symbol(&code, "peer_build")?,
                bulk: symbol(&code, "peer_bulk")?,
                apply: symbol(&code, "peer_apply")?,
                read: symbol(&code, "peer_read")?,
                iterate: symbol(&code, "peer_iterate")?,
                look_up: symbol(&code, "peer_look_up")?,
                look_up_dependent: symbol(&code, "peer_look_up_dependent")?,
                lowest_gap: symbol(&code, "peer_lowest_gap")?,
                highest_gap: symbol(&code, "peer_highest_gap")?,
                bytes: symbol(&code, "peer_bytes")?,
            },
            _code: code,
            _one_thread: std::marker::PhantomData,
        })
    }

    /// Bytes of all nodes of all trees.
    pub(crate) fn bytes(&self) -> u64 {
        // SAFETY: LIB1; it reads a counter, on the only thread that can have this library.
        unsafe { (self.functions.bytes)() }
    }
}

/// The function `name`, as a plain pointer. `F` is its type in [`Functions`].
fn symbol<F: Copy>(code: &libloading::Library, name: &str) -> anyhow::Result<F> {
    // SAFETY: `F` is the field's function pointer type, whose signature is the driver's for this
    // name at the ABI that was checked before.
    let found = unsafe { code.get::<F>(name.as_bytes()) };
    Ok(*found.with_context(|| format!("the library has no `{name}`"))?)
}

/// A tree in C.
///
/// # Invariants
///
/// - **LT1** `tree` came from `library`, is not freed yet, and nothing else has it.
pub(crate) struct Tree {
    library: Rc<Library>,
    tree: NonNull<c_void>,
}

impl Tree {
    /// An empty one.
    pub(crate) fn new(library: &Rc<Library>, mode: Mode) -> anyhow::Result<Self> {
        // SAFETY: LIB1; every `Mode` is one that the driver knows.
        let tree = unsafe { (library.functions.new)(mode as u64) };
        Self::owned(library, tree)
    }

    fn owned(library: &Rc<Library>, tree: *mut c_void) -> anyhow::Result<Self> {
        let Some(tree) = NonNull::new(tree) else {
            bail!("the library is out of memory");
        };
        // INVARIANT: LT1: the library has just made it, for this owner.
        Ok(Self {
            library: Rc::clone(library),
            tree,
        })
    }

    /// A copy, node by node.
    pub(crate) fn duplicate(&self) -> anyhow::Result<Self> {
        // SAFETY: LIB1, LT1; copying changes counters of the library only, and no other thread
        // can be in it.
        let copy = unsafe { (self.library.functions.duplicate)(self.tree.as_ptr()) };
        Self::owned(&self.library, copy)
    }

    /// Stores `areas` one by one.
    pub(crate) fn build(&mut self, areas: &[Area]) -> anyhow::Result<()> {
        let build = self.library.functions.build;
        // SAFETY: LIB1, LT1; the slice is readable for its length, and `Area` is laid out as in C.
        done(unsafe { build(self.tree.as_ptr(), areas.as_ptr(), areas.len()) })
    }

    /// Fills the tree, which is empty, from ascending `areas`.
    pub(crate) fn bulk(&mut self, areas: &[Area]) -> anyhow::Result<()> {
        let bulk = self.library.functions.bulk;
        // SAFETY: LIB1, LT1; the slice is readable for its length, and `Area` is laid out as in C.
        done(unsafe { bulk(self.tree.as_ptr(), areas.as_ptr(), areas.len()) })
    }

    /// Carries `steps` out.
    pub(crate) fn apply(&mut self, steps: &[Step]) -> anyhow::Result<()> {
        let apply = self.library.functions.apply;
        // SAFETY: LIB1, LT1; the slice is readable for its length, and `Step` is laid out as in C.
        done(unsafe { apply(self.tree.as_ptr(), steps.as_ptr(), steps.len()) })
    }

    /// The first `most` entries, ascending.
    pub(crate) fn areas(&self, most: usize) -> Vec<Area> {
        let mut areas = vec![
            Area {
                first: 0,
                last: 0,
                value: 0,
            };
            most
        ];
        let read = self.library.functions.read;
        // SAFETY: LIB1, LT1; the vector is writable for `most` areas, and no more are written.
        let found = unsafe { read(self.tree.as_ptr(), areas.as_mut_ptr(), most) };
        areas.truncate(found);
        areas
    }

    /// A sum over all entries.
    pub(crate) fn iterate(&self) -> u64 {
        // SAFETY: LIB1, LT1.
        unsafe { (self.library.functions.iterate)(self.tree.as_ptr()) }
    }

    /// The sum of what `keys` hold.
    pub(crate) fn look_up(&self, keys: &[u64]) -> u64 {
        let look_up = self.library.functions.look_up;
        // SAFETY: LIB1, LT1; the slice is readable for its length.
        unsafe { look_up(self.tree.as_ptr(), keys.as_ptr(), keys.len()) }
    }

    /// What the last of `keys` holds; each key is made with the value found before, and `zero`.
    pub(crate) fn look_up_dependent(&self, keys: &[u64], zero: u64) -> u64 {
        let look_up = self.library.functions.look_up_dependent;
        // SAFETY: LIB1, LT1; the slice is readable for its length.
        unsafe { look_up(self.tree.as_ptr(), keys.as_ptr(), keys.len(), zero) }
    }

    /// As the trait `RangeMap`'s. Only of a tree that tracks gaps.
    pub(crate) fn lowest_gap(&self, window: Span, length: u64) -> Option<u64> {
        let search = self.library.functions.lowest_gap;
        // SAFETY: LIB1, LT1; on a tree without gaps it finds nothing.
        let found = unsafe { search(self.tree.as_ptr(), window.first, window.last, length) };
        (found != u64::MAX).then_some(found)
    }

    /// As the trait `RangeMap`'s. Only of a tree that tracks gaps.
    pub(crate) fn highest_gap(&self, window: Span, length: u64) -> Option<u64> {
        let search = self.library.functions.highest_gap;
        // SAFETY: LIB1, LT1; on a tree without gaps it finds nothing.
        let found = unsafe { search(self.tree.as_ptr(), window.first, window.last, length) };
        (found != u64::MAX).then_some(found)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // SAFETY: LIB1; LT1, which ends here: nothing uses the tree after this.
        unsafe { (self.library.functions.free)(self.tree.as_ptr()) }
    }
}

fn done(error: c_int) -> anyhow::Result<()> {
    ensure!(error == 0, "a write to Linux's tree failed with {error}");
    Ok(())
}
