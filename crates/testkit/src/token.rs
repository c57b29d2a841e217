//! Values whose every clone and drop is entered in a ledger.
//!
//! A [`Token`] owns nothing but a number, so that a tree which drops it twice, or clones it after
//! its drop, is found out by the ledger and not by undefined behaviour.
#![expect(
    unsafe_code,
    reason = "`Entry` is an unsafe trait; `Token` promises to be one word"
)]

use maple_tree::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// A one-word value that a test can recognise.
pub trait TestValue: Entry + Clone {
    /// What makes values and accounts for them.
    type Mint: Default + Clone;

    /// Makes the value called `id`.
    fn mint(mint: &Self::Mint, id: u32) -> Self;

    /// The name the value was made under; a clone has its original's.
    fn id(&self) -> u32;

    /// How many values are alive, if the mint counts.
    fn live(_mint: &Self::Mint) -> Option<usize> {
        None
    }

    /// Every clone or drop that should not have happened.
    fn faults(_mint: &Self::Mint) -> Vec<String> {
        Vec::new()
    }
}

impl TestValue for u64 {
    type Mint = ();

    fn mint((): &(), id: u32) -> Self {
        Self::from(id)
    }

    fn id(&self) -> u32 {
        u32::try_from(*self).expect("test values are made from a u32")
    }
}

impl TestValue for Box<u32> {
    type Mint = ();

    fn mint((): &(), id: u32) -> Self {
        Self::new(id)
    }

    fn id(&self) -> u32 {
        **self
    }
}

impl TestValue for Arc<u32> {
    type Mint = ();

    fn mint((): &(), id: u32) -> Self {
        Self::new(id)
    }

    fn id(&self) -> u32 {
        **self
    }
}

impl TestValue for Token {
    type Mint = Ledger;

    fn mint(mint: &Ledger, id: u32) -> Self {
        mint.token(id)
    }

    fn id(&self) -> u32 {
        Self::id(self)
    }

    fn live(mint: &Ledger) -> Option<usize> {
        Some(mint.live())
    }

    fn faults(mint: &Ledger) -> Vec<String> {
        mint.faults()
    }
}

const SERIAL_BITS: u32 = 26;
const ID_BITS: u32 = 24;
const LEDGER_BITS: u32 = u64::BITS - SERIAL_BITS - ID_BITS;

/// The ledgers in use, by number; a free number holds `None`.
static LEDGERS: RwLock<Vec<Option<Arc<Shared>>>> = RwLock::new(Vec::new());

type Shared = Mutex<Accounts>;

#[derive(Default)]
struct Accounts {
    /// By serial number: whether the token is alive.
    alive: Vec<bool>,
    live: usize,
    clones: u64,
    clones_until_panic: Option<u64>,
    panicking_drop: Option<u32>,
    faults: Vec<String>,
}

/// Accounts for the tokens made with it.
#[derive(Clone)]
pub struct Ledger {
    number: Arc<Number>,
}

/// A place in [`LEDGERS`], given back when the last handle of the ledger goes.
struct Number {
    index: usize,
    shared: Arc<Shared>,
}

impl Drop for Number {
    fn drop(&mut self) {
        // A ledger that still has live tokens keeps its number: they must not fall into the hands
        // of its successor.
        if lock(&self.shared).live == 0 {
            let mut ledgers = LEDGERS.write().unwrap_or_else(PoisonError::into_inner);
            ledgers[self.index] = None;
        }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accounts = lock(&self.number.shared);
        write!(
            f,
            "Ledger {{ live: {}, clones: {} }}",
            accounts.live, accounts.clones
        )
    }
}

impl Ledger {
    /// Opens an empty ledger.
    ///
    /// # Panics
    ///
    /// If more ledgers are open than a token has bits for.
    #[must_use]
    pub fn new() -> Self {
        let shared = Arc::new(Shared::default());
        let mut ledgers = LEDGERS.write().unwrap_or_else(PoisonError::into_inner);
        let free = ledgers.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            ledgers.push(None);
            ledgers.len() - 1
        });
        assert!(
            index < 1 << LEDGER_BITS,
            "too many ledgers are open at once"
        );
        ledgers[index] = Some(Arc::clone(&shared));
        Self {
            number: Arc::new(Number { index, shared }),
        }
    }

    /// Makes a token called `id`.
    ///
    /// # Panics
    ///
    /// If `id` does not fit a token.
    #[must_use]
    pub fn token(&self, id: u32) -> Token {
        assert!(id < 1 << ID_BITS, "a token's id has {ID_BITS} bits");
        enter(&mut lock(&self.number.shared), self.number.index as u64, id)
    }

    /// The number of tokens that have been made or cloned, and not dropped.
    #[must_use]
    pub fn live(&self) -> usize {
        lock(&self.number.shared).live
    }

    /// The number of clones so far.
    #[must_use]
    pub fn clones(&self) -> u64 {
        lock(&self.number.shared).clones
    }

    /// Makes the clone after the next `clones` ones panic, once.
    pub fn panic_after_clones(&self, clones: u64) {
        lock(&self.number.shared).clones_until_panic = Some(clones);
    }

    /// Calls a planned panic of a clone off; says whether it was still to come.
    pub fn calm(&self) -> bool {
        lock(&self.number.shared)
            .clones_until_panic
            .take()
            .is_some()
    }

    /// Makes the next drop of a token called `id` panic, once, after the token is accounted for.
    pub fn panic_on_drop(&self, id: u32) {
        lock(&self.number.shared).panicking_drop = Some(id);
    }

    /// Every second drop and every clone of a dead token seen so far.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        lock(&self.number.shared).faults.clone()
    }

    /// Asserts that no token is alive and that none was dropped twice.
    #[track_caller]
    pub fn assert_settled(&self) {
        assert_eq!(
            self.faults(),
            Vec::<String>::new(),
            "values were mistreated"
        );
        assert_eq!(self.live(), 0, "values were leaked");
    }
}

/// A value of one word that its [`Ledger`] accounts for.
#[repr(transparent)]
pub struct Token(u64);

// SAFETY: a `Token` is a `u64`, one machine word without padding or interior mutability.
unsafe impl Entry for Token {}

impl Token {
    /// The name the token was made under; a clone has its original's.
    #[must_use]
    pub fn id(&self) -> u32 {
        ((self.0 >> SERIAL_BITS) & ((1 << ID_BITS) - 1)) as u32
    }

    /// The token's own number, which no clone of it shares.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.0 & ((1 << SERIAL_BITS) - 1)
    }

    fn ledger(&self) -> u64 {
        self.0 >> (SERIAL_BITS + ID_BITS)
    }

    /// The accounts, unless the token is a forgery or its ledger was closed before its end.
    fn shared(&self) -> Option<Arc<Shared>> {
        let ledgers = LEDGERS.read().unwrap_or_else(PoisonError::into_inner);
        ledgers.get(self.ledger() as usize)?.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token {}#{}", self.id(), self.serial())
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Clone for Token {
    fn clone(&self) -> Self {
        let shared = self
            .shared()
            .expect("cloned a token whose ledger is closed");
        let mut accounts = lock(&shared);
        if !accounts.is_alive(self.serial()) {
            accounts
                .faults
                .push(format!("{self:?} was cloned after its drop"));
        }
        if accounts.panics_now() {
            drop(accounts);
            panic!("the planned panic of a clone of {self:?}");
        }
        accounts.clones += 1;
        enter(&mut accounts, self.ledger(), self.id())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        // Not `expect`: a panic here while another one unwinds would end the test process.
        let Some(shared) = self.shared() else {
            eprintln!("{self:?} was dropped after its ledger was closed");
            return;
        };
        let mut accounts = lock(&shared);
        if !accounts.is_alive(self.serial()) {
            accounts.faults.push(format!("{self:?} was dropped twice"));
            return;
        }
        let serial = self.serial() as usize;
        accounts.alive[serial] = false;
        accounts.live -= 1;
        if accounts.panicking_drop == Some(self.id()) && !std::thread::panicking() {
            accounts.panicking_drop = None;
            drop(accounts);
            panic!("the planned panic of a drop of {self:?}");
        }
    }
}

impl Accounts {
    fn is_alive(&self, serial: u64) -> bool {
        self.alive.get(serial as usize).copied().unwrap_or(false)
    }

    fn panics_now(&mut self) -> bool {
        match self.clones_until_panic {
            Some(0) => {
                self.clones_until_panic = None;
                true
            }
            Some(left) => {
                self.clones_until_panic = Some(left - 1);
                false
            }
            None => false,
        }
    }
}

/// Opens an account for a new token.
fn enter(accounts: &mut Accounts, ledger: u64, id: u32) -> Token {
    let serial = accounts.alive.len() as u64;
    assert!(serial < 1 << SERIAL_BITS, "the ledger is full");
    accounts.alive.push(true);
    accounts.live += 1;
    Token(((ledger << ID_BITS) | u64::from(id)) << SERIAL_BITS | serial)
}

/// Locks the accounts; a planned panic may have poisoned them, and leaves them consistent.
fn lock(shared: &Shared) -> MutexGuard<'_, Accounts> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_and_drops_are_counted() {
        let ledger = Ledger::new();
        let token = ledger.token(7);
        let clone = token.clone();
        assert_eq!((clone.id(), ledger.live(), ledger.clones()), (7, 2, 1));
        assert_ne!(token.serial(), clone.serial());
        drop((token, clone));
        ledger.assert_settled();
    }

    #[test]
    fn a_second_drop_is_a_fault() {
        let ledger = Ledger::new();
        let token = ledger.token(7);
        drop(Token(token.0));
        drop(token);
        assert_eq!(ledger.faults(), ["Token 7#0 was dropped twice"]);
    }

    #[test]
    fn a_planned_panic_happens_at_the_clone_it_was_planned_for() {
        let ledger = Ledger::new();
        let token = ledger.token(7);
        ledger.panic_after_clones(1);
        let first = token.clone();
        let second = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| token.clone()));
        assert!(second.is_err());
        assert!(!ledger.calm(), "the panic has happened");
        drop((token, first));
        ledger.assert_settled();
    }
}
