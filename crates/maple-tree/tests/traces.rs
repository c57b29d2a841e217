//! The smallest traces of bugs that the other tests have found, so that none comes back.
//!
//! Each test says what went wrong; the trace is as the failing run printed it.

use testkit::{FailingNodes, Gaps, Token, replay};

/// Replays `trace` on both kinds of tree.
#[track_caller]
fn replay_both(trace: &str) {
    replay::<Token, FailingNodes>(Gaps::Tracked, trace);
    replay::<Token, FailingNodes>(Gaps::Untracked, trace);
}

/// A rebuild inside a reservation gave the free nodes past the usual stock back, the reserved ones
/// among them; a later reserved write found none.
#[test]
fn a_reservation_keeps_its_nodes_across_its_own_writes() {
    replay_both(
        "preallocated insert 0x11db..=0x11db 1; store-with 0x15127322a..=0x15127322b 2; \
         insert 0x105b..=0x105e 3; insert 0xc7231e9a82954b7d..=0xc7231e9a82954b7d 4; \
         insert 0x0..=0x2 5; store 0xdcd..=0xdcd 6; store-with 0x1034..=0x1034 7; \
         store-with 0xc17..=0xc18 8; store 0x1277..=0x12bc 9; insert 0x9f9..=0x9fe 10; \
         store-with 0x4da..=0x4dd 11; insert 0x3b..=0x3e 12; store 0xba7..=0xba7 13; \
         insert 0xfef..=0xfef 14; insert 0xaa9..=0xaa9 15; store-with 0x14e7..=0x1593 16",
    );
}
