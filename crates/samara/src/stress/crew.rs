//! Threads started, watched, and waited for.

use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Once};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::watch::{Watch, Watchdog};
use crate::means;

/// How long nobody may stand still.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How all ended.
#[derive(Debug)]
pub(super) enum Crew<T> {
    All(Vec<T>),
    /// The names of those that stand still.
    Stuck(Vec<String>),
    /// The seat of one that panicked, and what it said.
    Panicked(usize, String),
}

/// What a thread does.
pub(super) type Task<T> = Box<dyn FnOnce() -> T + Send>;

/// Runs `tasks`, each on a thread and with a seat, from `first` on, until all end or one stands
/// still for too long, or panics. At the `deadline`, if there is one, they are asked to stop.
///
/// # Errors
///
/// If a thread cannot be started.
pub(super) fn run<T: Send + 'static>(
    (tasks, first): (Vec<Task<T>>, usize),
    watch: &Arc<Watch>,
    (deadline, patience): (Option<Instant>, Duration),
) -> Result<Crew<T>> {
    keep_panics();
    let mut threads = Vec::new();
    for (seat, task) in (first..).zip(tasks) {
        watch.seat(seat).enter();
        match thread::Builder::new().spawn(seated(task, watch, seat)) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                watch.stop();
                // Those that began end by themselves.
                threads.into_iter().for_each(|thread| drop(thread.join()));
                return Err(means::not_started("a thread", error));
            }
        }
    }
    let mut dog = Watchdog::new(watch, patience, Instant::now());
    while !threads.iter().all(JoinHandle::is_finished) {
        thread::sleep(Duration::from_millis(1));
        let now = Instant::now();
        if deadline.is_some_and(|deadline| now >= deadline) {
            watch.stop();
        }
        if let Some((seat, text)) = watch.panic() {
            return Ok(Crew::Panicked(seat, text));
        }
        let stuck = dog.stuck(now);
        if !stuck.is_empty() {
            let names = stuck.into_iter().map(str::to_owned);
            return Ok(Crew::Stuck(names.collect()));
        }
    }
    let ended = threads.into_iter().map(JoinHandle::join);
    let ended = ended.collect::<thread::Result<_>>();
    Ok(Crew::All(
        ended.unwrap_or_else(|panic| panic::resume_unwind(panic)),
    ))
}

/// A task that leaves its seat at the end.
fn seated<T>(task: Task<T>, watch: &Arc<Watch>, seat: usize) -> impl FnOnce() -> T + use<T> {
    let watch = Arc::clone(watch);
    move || {
        SEAT.set(Some((Arc::clone(&watch), seat)));
        let ended = task();
        SEAT.set(None);
        watch.seat(seat).leave();
        ended
    }
}

thread_local! {
    static SEAT: RefCell<Option<(Arc<Watch>, usize)>> = const { RefCell::new(None) };
}

/// From now on who has a seat and panics tells it and stays where it is. Unwinding would drop what
/// is broken: a second panic there would end the program before it can say what it found.
fn keep_panics() {
    static KEPT: Once = Once::new();
    KEPT.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| match SEAT.take() {
            Some((watch, seat)) => {
                watch.keep_panic(seat, message(info));
                watch.stop();
                loop {
                    thread::park();
                }
            }
            None => usual(info),
        }));
    });
}

/// What a panic says, and where.
fn message(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("without words");
    match info.location() {
        Some(place) => format!("{text}, in {}:{}", place.file(), place.line()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stress::kinds::Kind;

    fn watch() -> Arc<Watch> {
        Arc::new(Watch::new(["one", "two"].map(str::to_owned).into_iter()))
    }

    const PATIENT: (Option<Instant>, Duration) = (None, PATIENCE);

    #[test]
    fn who_waits_for_ever_is_named_with_what_it_does() {
        let watch = watch();
        let (send, receive) = std::sync::mpsc::channel::<()>();
        let stopped = Arc::clone(&watch);
        let lively = Box::new(move || {
            while !stopped.is_stopped() {
                stopped.seat(0).begin(3, Kind::Read);
                thread::yield_now();
            }
        });
        let begun = Arc::clone(&watch);
        let stuck = Box::new(move || {
            begun.seat(1).begin(5, Kind::Unmap);
            begun.seat(1).at(0x5000);
            receive.recv().unwrap_err();
        });
        let tasks: Vec<Task<()>> = vec![lively, stuck];
        let limits = (None, Duration::from_millis(300));
        let crew = run((tasks, 0), &watch, limits).expect("threads");
        assert!(matches!(crew, Crew::Stuck(names) if names == ["two"]));
        assert_eq!(watch.all()[1], "two: munmap at 0x5000, step 5");
        watch.stop();
        drop(send);
    }

    /// In a process of its own: the thread that panics stays in the hook for ever, which the one
    /// that runs the tests takes out at the end.
    #[test]
    fn a_panic_ends_the_others_and_is_told() {
        const WITHIN: &str = "SAMARA_TEST_PANICS";
        if std::env::var_os(WITHIN).is_some() {
            see_a_panic();
            std::process::exit(0);
        }
        let name = "stress::crew::tests::a_panic_ends_the_others_and_is_told";
        let mut within = std::process::Command::new(std::env::current_exe().expect("a path"));
        within
            .args(["--exact", name, "--nocapture"])
            .env(WITHIN, "1");
        let output = within.output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
    }

    fn see_a_panic() {
        let watch = watch();
        let stopped = Arc::clone(&watch);
        let other = Box::new(move || {
            while !stopped.is_stopped() {
                stopped.seat(0).at(1);
                thread::yield_now();
            }
        });
        let tasks: Vec<Task<()>> = vec![other, Box::new(|| panic!("a frame was lost"))];
        let Crew::Panicked(1, text) = run((tasks, 0), &watch, PATIENT).expect("threads") else {
            panic!("it is told");
        };
        assert!(text.starts_with("a frame was lost, in crates/"), "{text}");
        assert!(watch.is_stopped());
    }

    #[test]
    fn the_deadline_asks_all_to_stop() {
        let watch = watch();
        let stopped = Arc::clone(&watch);
        let task: Task<u32> = Box::new(move || {
            while !stopped.is_stopped() {
                stopped.seat(1).at(1);
                thread::yield_now();
            }
            7
        });
        let limits = (Some(Instant::now() + Duration::from_millis(5)), PATIENCE);
        let crew = run((vec![task], 1), &watch, limits).expect("threads");
        assert!(matches!(crew, Crew::All(ended) if ended == [7]));
    }
}
