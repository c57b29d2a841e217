//! Pages that were promised and are given back unless the call that asked for them succeeds.

use alloc::sync::Arc;

use crate::system::System;

/// Promised pages that no mapping accounts for yet.
#[derive(Debug)]
pub(crate) struct Charge {
    system: Option<Arc<System>>,
    pages: u64,
}

impl Charge {
    /// Nothing was charged.
    pub(crate) const NONE: Self = Self {
        system: None,
        pages: 0,
    };

    /// Takes over `pages`, which were charged.
    pub(crate) const fn new(system: Arc<System>, pages: u64) -> Self {
        Self {
            system: Some(system),
            pages,
        }
    }

    /// Mappings account for the pages from now on. Says how many those are.
    pub(crate) fn keep(mut self) -> u64 {
        core::mem::take(&mut self.pages)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(system) = &self.system {
            system.uncharge(self.pages);
        }
    }
}
