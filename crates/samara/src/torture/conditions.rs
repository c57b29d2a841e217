//! Under which rights and limits a life is led.

use anyhow::{Context, Result};
use nix::sys::resource::Resource;

use super::executor::PAYLOAD;
use super::mix::Mix;
use super::rng::Rng;
use super::target::{Member, Raw, Target};

/// Nobody's user and group.
const NOBODY: u64 = 65_534;

/// Whether a process keeps the rights that this program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    Inherited,
    /// None, if there are any to give up.
    Nobody,
}

/// A resource limit, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) resource: Resource,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

impl Limit {
    /// The call that sets it.
    pub(crate) fn call(self) -> Raw {
        let arguments = [0, self.resource as u64, PAYLOAD];
        Raw::new(libc::SYS_prlimit64, arguments).with([self.soft, self.hard])
    }
}

/// How a life begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conditions {
    rights: Rights,
    limits: Vec<Limit>,
}

/// The limits that concern memory.
pub(crate) const RESOURCES: [Resource; 4] = [
    Resource::RLIMIT_MEMLOCK,
    Resource::RLIMIT_DATA,
    Resource::RLIMIT_STACK,
    Resource::RLIMIT_AS,
];

impl Conditions {
    /// Draws those of a life.
    pub(crate) fn draw(rng: &mut Rng, mix: Mix) -> Self {
        let turn = match mix {
            Mix::Limits => 2 + rng.below(4),
            Mix::Count => 0,

            _ => rng.below(4),
        };
        let [memlock, data, stack, address_space] = match turn {
            0 | 1 => {
                return Self {
                    rights: Rights::Inherited,
                    limits: Vec::new(),
                };
            }
            2 => [384 << 10, 64 << 20, 4 << 20, u64::MAX],
            3 => [40 << 10, 1 << 20, 1 << 20, 16 << 20],
            _ => [
                rng.pick(&[0, 4095, 4096, 12 << 10, 64 << 10]),
                rng.pick(&[256 << 10, 300 << 10, 1 << 20]) + rng.below(4096),
                rng.pick(&[160 << 10, 512 << 10, 1 << 20]),
                rng.pick(&[1 << 20, (1 << 20) + 1, 4 << 20, 24 << 20]),
            ],
        };
        let limits = RESOURCES
            .into_iter()
            .zip([memlock, data, stack, address_space]);
        let limit = |(resource, soft): (Resource, u64)| Limit {
            resource,
            soft,
            hard: soft.saturating_mul(2),
        };
        Self {
            rights: Rights::Nobody,
            limits: limits.map(limit).collect(),
        }
    }

    /// The hard limit of a resource.
    pub(crate) fn hard(&self, resource: Resource) -> u64 {
        let limit = self.limits.iter().find(|limit| limit.resource == resource);
        limit.map_or(u64::MAX, |limit| limit.hard)
    }

    /// Puts a fresh process under them.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub(crate) fn impose(&self, target: &mut Target, member: &Member) -> Result<()> {
        let mut call = |raw: &Raw| {
            target
                .call(member, raw)
                .context("a process to torture ended")
        };
        for limit in &self.limits {
            call(&limit.call())?;
        }
        if self.rights == Rights::Nobody {
            // Without effect where there are no privileges to give up.
            for number in [libc::SYS_setresgid, libc::SYS_setresuid] {
                call(&Raw::new(number, [NOBODY; 3]))?;
            }
        }
        Ok(())
    }
}
