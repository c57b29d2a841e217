//! What stands behind a mapping, and what few mappings have besides.

use crate::anon_names::ShownName;
use crate::counted::Counted;
use crate::errno::Errno;
use crate::file::Backing;
use crate::policy::Policy;
use crate::userfault::Userfaultfd;

/// What few mappings have, each of which keeps neighbours apart.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Attributes {
    /// Who is told of its faults.
    pub(crate) watch: Option<Userfaultfd>,
    /// What its anonymous memory is called.
    pub(crate) name: Option<ShownName>,
    /// On which nodes its pages are to lie.
    pub(crate) policy: Option<Policy>,
}

impl Attributes {
    const NONE: Self = Self {
        watch: None,
        name: None,
        policy: None,
    };
}

/// A backing with attributes.
#[derive(Debug)]
pub(crate) struct Rare {
    backing: Backing,
    attributes: Attributes,
}

/// A backing, with attributes where there are any.
///
/// PERF: nearly all mappings have none, so they take no place in a [`Vma`](crate::Vma), which is
/// as large as without them.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    /// Nothing besides.
    Plain(Backing),
    /// Both, together in memory of their own.
    Rare(Counted<Rare>),
}

const _: () = assert!(size_of::<Held>() == size_of::<Backing>());

impl From<Backing> for Held {
    fn from(backing: Backing) -> Self {
        Self::Plain(backing)
    }
}

impl Held {
    /// Both together.
    ///
    /// - `ENOMEM`: there is no memory for them; never where there are no attributes.
    fn new(backing: Backing, attributes: Attributes) -> Result<Self, Errno> {
        if attributes == Attributes::NONE {
            return Ok(Self::Plain(backing));
        }
        let rare = Rare {
            backing,
            attributes,
        };
        Counted::new(rare).map(Self::Rare)
    }

    pub(crate) fn backing(&self) -> &Backing {
        match self {
            Self::Plain(backing) => backing,
            Self::Rare(rare) => &rare.backing,
        }
    }

    /// What its anonymous memory is called.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Plain(_) => None,
            Self::Rare(rare) => rare.attributes.name.as_deref().map(|name| &**name),
        }
    }

    pub(crate) fn attributes(&self) -> Attributes {
        match self {
            Self::Plain(_) => Attributes::NONE,
            Self::Rare(rare) => rare.attributes.clone(),
        }
    }

    /// The same backing with other attributes.
    pub(crate) fn with_attributes(&self, attributes: Attributes) -> Result<Self, Errno> {
        if attributes == self.attributes() {
            return Ok(self.clone());
        }
        Self::new(self.backing().clone(), attributes)
    }

    /// The same attributes with another backing.
    pub(crate) fn with_backing(&self, backing: Backing) -> Result<Self, Errno> {
        Self::new(backing, self.attributes())
    }

    /// Whether both are the same for merging.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let has_same_attributes = match (self, other) {
            (Self::Plain(_), Self::Plain(_)) => true,
            (Self::Rare(left), Self::Rare(right)) => left.attributes == right.attributes,
            // What has none is plain.
            _ => false,
        };
        has_same_attributes && self.backing().is_same(other.backing())
    }
}
