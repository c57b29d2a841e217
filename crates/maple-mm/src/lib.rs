#![no_std]
//! Under construction.

extern crate alloc;
