//! The steps of a life: drawn one after another, each where things stand.

use std::collections::{BTreeSet, VecDeque};

use super::calls::Group;
use super::chooser::{Chooser, PAGE};
use super::conditions::{Conditions, Limit, RESOURCES};
use super::life::Life;
use super::mix::{Mix, Weights};
use super::reveal;
use super::rng::Rng;
use super::step::{Action, Step};
use crate::event::SystemFacts;

use nix::sys::resource::Resource;

/// Once in so many steps a mapping has to show what it was prepared for.
const REVEALED: u64 = 60;

/// Draws the steps of one life.
#[derive(Debug)]
pub(crate) struct Sequence {
    rng: Rng,
    weights: Weights,
    conditions: Conditions,
    next_child: u32,
    /// How many mappings a process may have.
    max_map_count: usize,
    /// What comes before what is drawn.
    next: VecDeque<Step>,
    /// Calls that were drawn and not made, as the model does not know them.
    pub(crate) not_modelled: BTreeSet<&'static str>,
}

impl Sequence {
    /// That of the `number`th life of a run.
    pub(crate) fn of_life((seed, number): (u64, u64), mix: Mix, system: &SystemFacts) -> Self {
        let mix = mix.of_life(number);
        let mut rng = Rng::of_life(seed, number);
        let max_map_count = usize::try_from(system.max_map_count).unwrap_or(usize::MAX);
        let full = max_map_count.saturating_sub(rng.below(8) as usize);
        let filled = (mix == Mix::Count).then_some(Step {
            by: 0,
            action: Action::Fill(full),
        });
        Self {
            next: filled.into_iter().collect(),
            conditions: Conditions::draw(&mut rng, mix),
            rng,
            weights: mix.weights(),
            next_child: 1,
            max_map_count,
            not_modelled: BTreeSet::new(),
        }
    }

    /// How the life begins.
    pub(crate) const fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// The next step of a life that stands like `life`.
    pub(crate) fn next(&mut self, life: &Life) -> Step {
        loop {
            if let Some(step) = self.next.pop_front().or_else(|| self.draw(life)) {
                return step;
            }
        }
    }

    fn draw(&mut self, life: &Life) -> Option<Step> {
        let place = self.rng.below(life.numbers().count() as u64) as usize;
        let by = life.numbers().nth(place)?;
        if self.rng.one_in(REVEALED) {
            let calls = reveal::preparation(&mut self.chooser(life, by)?)?;
            let steps = calls.into_iter().map(|raw| Step {
                by,
                action: Action::Call(raw),
            });
            self.next.extend(steps);
            return self.next.pop_front();
        }
        let Weights {
            groups,
            fork,
            exit,
            limit,
            fill,
        } = self.weights;
        let weights = groups.into_iter().chain([fork, exit, limit, fill]);
        let drawn = self.rng.weighted(weights);
        let action = match Group::ALL.get(drawn) {
            Some(&group) => Action::Call(self.call(life, by, group)?),
            None => match drawn - Group::ALL.len() {
                0 => self.fork(life)?,
                1 if by != 0 => Action::Exit,
                1 => return None,
                2 => self.limit(life, by)?,
                _ => self.fill(life)?,
            },
        };
        Some(Step { by, action })
    }

    fn call(&mut self, life: &Life, by: u32, group: Group) -> Option<super::target::Raw> {
        let raw = group.draw(&mut self.chooser(life, by)?);
        match life.would_make(by, &raw) {
            Ok(true) => Some(raw),
            Ok(false) => None,
            Err(name) => {
                self.not_modelled.insert(name);
                None
            }
        }
    }

    fn chooser<'a>(&'a mut self, life: &'a Life, by: u32) -> Option<Chooser<'a>> {
        Some(Chooser {
            rng: &mut self.rng,
            space: life.space(by)?,
            descriptors: life.descriptors(),
            watchers: life.watchers(by),
        })
    }

    fn fork(&mut self, life: &Life) -> Option<Action> {
        if !life.may_fork() {
            return None;
        }
        let child = self.next_child;
        self.next_child += 1;
        Some(Action::Fork(child))
    }

    /// Mappings up to one of the last numbers that may be.
    fn fill(&mut self, life: &Life) -> Option<Action> {
        let full = self
            .max_map_count
            .saturating_sub(self.rng.below(4) as usize);
        (life.peak_vmas() < full).then_some(Action::Fill(full))
    }

    /// A limit near what is used.
    fn limit(&mut self, life: &Life, by: u32) -> Option<Action> {
        let sums = life.space(by)?.statistics();
        let resource = self.rng.pick(&RESOURCES);
        let hard = self.conditions.hard(resource);
        let used = match resource {
            Resource::RLIMIT_MEMLOCK => sums.locked_vm,
            Resource::RLIMIT_DATA => sums.data_vm,
            Resource::RLIMIT_STACK => sums.stack_vm,
            _ => sums.total_vm,
        };
        let soft = match self.rng.below(8) {
            0 => 0,
            1..4 => hard,
            4 => (used * PAGE).wrapping_add(self.rng.below(PAGE)),
            _ => (used + self.rng.below(16)) * PAGE,
        };
        let soft = soft.min(hard);
        Some(Action::Limit(Limit {
            resource,
            soft,
            hard,
        }))
    }
}
