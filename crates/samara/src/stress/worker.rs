//! One thread of a round: its steps, and what it owns at the end.

use std::sync::Arc;

use super::family::{self, Child, Words};
use super::hand::{Hand, Tally};
use super::kinds::Kind;
use super::ladder::{self, Climb};
use super::life::Life;
use super::machine::Machine;
use super::violation::{Held, Violation, broken_anywhere};
use super::{access, commons, mapping, maps, meddle};

/// The steps of a thread in a round.
pub(super) const STEPS: u32 = 2000;

struct Worker {
    hand: Hand,
    /// What it owns in the address space of all.
    own: Life,
    children: Vec<Child>,
    climb: Climb,
}

/// Makes the steps of a thread: what it did, and what it found wrong.
pub(super) fn run(machine: Arc<Machine>, thread: u8) -> (Tally, Option<Violation>) {
    let own = Life::new(Arc::clone(&machine.space), thread);
    let watch = Arc::clone(&machine.watch);
    let round = machine.round;
    let mut worker = Worker {
        hand: Hand::new(machine, thread),
        own,
        children: Vec::new(),
        climb: Climb::default(),
    };
    let held = worker.steps();
    let seat = worker.hand.seat();
    let violation = held.err().map(|broken| {
        watch.stop();
        Violation {
            what: broken.what,
            addr: broken.addr,
            who: seat.name().to_owned(),
            doing: seat.doing(),
            round,
            step: seat.step(),
        }
    });
    (worker.hand.tally, violation)
}

impl Worker {
    fn steps(&mut self) -> Held {
        for step in 0..STEPS {
            if self.hand.machine.watch.is_stopped() {
                break;
            }
            let kind = self.hand.begin(step);
            self.hand.is_about(kind);
            self.step(kind)?;
        }
        self.settle()
    }

    fn step(&mut self, kind: Kind) -> Held {
        let hand = &mut self.hand;
        match kind {
            Kind::Meddle => return meddle::meddle(hand),
            Kind::Climb => return self.climb.go_up(hand),
            Kind::Rungs => return ladder::look(hand),
            Kind::Common => return commons::write(hand),
            Kind::Recycle => return commons::recycle(hand),
            Kind::Fork => return self.fork(),
            Kind::End => return self.end_one(),
            _ => {}
        }
        // What follows is done in a child, too.
        let child = hand.rng.below(4 * self.children.len().max(1) as u64) as usize;
        let life = match self.children.get_mut(child) {
            Some(child) => &mut child.life,
            None => &mut self.own,
        };
        match kind {
            Kind::Map => mapping::map(life, hand),
            Kind::Unmap => mapping::unmap(life, hand),
            Kind::Protect => mapping::protect(life, hand),
            Kind::Move => mapping::relocate(life, hand),
            Kind::Resize => mapping::resize(life, hand),
            Kind::Discard => mapping::discard(life, hand),
            Kind::Guard => mapping::guard(life, hand),
            Kind::Fault => access::fault(life, hand),
            Kind::Read => access::read(life, hand),
            Kind::Write => access::write(life, hand),
            Kind::Copy => access::copy(life, hand),
            Kind::Check => access::check(life, hand),
            Kind::Look => maps::look(life, hand),
            _ => maps::read(life),
        }
    }

    fn fork(&mut self) -> Held {
        if let Some(child) = family::make_room(&mut self.children, &mut self.hand) {
            self.show_child();
            child.end(&mut self.hand)?;
        }
        let of_child = self.hand.rng.one_in(3);
        let born = match self.children.first_mut().filter(|_| of_child) {
            Some(child) => child.fork((&mut self.climb, &mut self.hand))?,
            None => family::fork(
                &mut self.own,
                &Words::Raised,
                (&mut self.climb, &mut self.hand),
            )?,
        };
        self.children.extend(born);
        self.show_child();
        Ok(())
    }

    fn end_one(&mut self) -> Held {
        let Some(child) = self.children.pop() else {
            return Ok(());
        };
        self.show_child();
        child.end(&mut self.hand)
    }

    /// Lets others see one of the children, or none.
    fn show_child(&self) {
        let shown = self
            .children
            .last()
            .map(|child| Arc::clone(&child.life.space));
        let place = &self.hand.machine.children[usize::from(self.hand.thread)];
        let before = std::mem::replace(&mut *place.lock(), shown);
        // It may be the last that has it, and be long about it.
        drop(before);
    }

    /// Looks at everything that the thread owns.
    fn settle(&mut self) -> Held {
        self.hand.is_about(Kind::Settle);
        let children = std::mem::take(&mut self.children);
        self.show_child();
        let mut lives: Vec<_> = children.into_iter().map(|child| child.life).collect();
        lives.push(Life {
            space: Arc::clone(&self.own.space),
            thread: self.own.thread,
            pages: std::mem::take(&mut self.own.pages),
        });
        for mut life in lives {
            maps::read(&life)?;
            let pages: Vec<u64> = life.pages.keys().copied().collect();
            for page in pages {
                life.read(page, &mut self.hand)?;
            }
        }
        if self.hand.is_wrongly_refused() {
            return broken_anywhere("memory runs out where there is plenty of everything");
        }
        Ok(())
    }
}
