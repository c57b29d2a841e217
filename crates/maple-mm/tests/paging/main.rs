//! Page tables: each mechanism by itself, random operations against a plain model, and every
//! allocation refused once.

mod breaking;
mod compare;
mod fails;
mod forking;
mod freeing;
mod mapping;
mod model;
mod random;
mod support;
mod threads;
mod tlb;
