//! For those who know Linux's maple tree: each of its functions, and what to call here.
//!
//! The names on the left are those of `include/linux/maple_tree.h` in Linux 6.12; *new*
//! marks what came later. Each of them finds an item on the right when typed into the search of
//! this documentation, or this page where there is none. The module holds nothing else.
//!
//! # What differs throughout
//!
//! - **`NULL` is not an entry.** A store puts a value in; what takes one out is called
//!   [`erase`](MapleTree::erase) or [`remove`](MapleTree::remove). Every word is a valid
//!   value: there are no reserved ones, no zero entry, no `xa_mk_value`.
//! - **Values are owned.** What is overwritten is dropped, what is cut in two is cloned.
//!   [`store_with`](MapleTree::store_with) shows it first.
//! - **A range that is not one cannot be made**: [`IndexRange::new`] returns `None` where
//!   Linux returns `-EINVAL`.
//! - **An error changes nothing.** `-ENOMEM` is [`OutOfNodes`], `-EEXIST` is
//!   [`Occupied`](StoreErrorKind::Occupied), `-EBUSY` is [`NoGap`](AllocateErrorKind::NoGap).
//!   There is no state to retry with: free memory, and call again.
//! - **No locks inside a [`MapleTree`].** `&mut` is the write lock, `&` the read lock; a
//!   [snapshot](MapleTree::snapshot) is a view of one moment that needs neither. The tree
//!   that readers look at while it is written is another type, `RcuMapleTree` (feature
//!   `rcu`): its `write` takes the lock and returns a handle with the writing methods, its
//!   `read` takes none and returns one with the look-ups.
//! - **Gap searches work on every tree**; on one made by
//!   [`with_gaps`](MapleTree::with_gaps) they are logarithmic.
//!
//! # The simple interface
//!
//! | Linux | here | what to know |
//! |---|---|---|
//! | `mtree_load` | [`get`](MapleTree::get) | |
//! | `mtree_store`, `mtree_store_range` | [`store`](MapleTree::store) | one index: [`IndexRange::single`] |
//! | `mtree_insert`, `mtree_insert_range` | [`insert`](MapleTree::insert) | |
//! | `mtree_erase` | [`erase`](MapleTree::erase) | also returns the bounds |
//! | `mtree_alloc_range` | [`allocate_lowest`](MapleTree::allocate_lowest) | size, window and alignment are a [`GapRequest`] |
//! | `mtree_alloc_rrange` | [`allocate_highest`](MapleTree::allocate_highest) | |
//! | `mtree_alloc_cyclic` | [`allocate_cyclic`](MapleTree::allocate_cyclic) | `next` goes on at the lowest id by itself; there is no flag for that |
//! | `mtree_dup`, `__mt_dup` | [`duplicate`](MapleTree::duplicate) | clones the values; [`duplicate_with`](MapleTree::duplicate_with) maps them in the same pass, [`snapshot`](MapleTree::snapshot) shares the nodes |
//! | `mtree_destroy`, `__mt_destroy` | dropping the [`MapleTree`], or [`clear`](MapleTree::clear) | drops the values too |
//! | `mtree_empty` | [`is_empty`](MapleTree::is_empty) | |
//! | `mt_find` | [`at_or_after`](MapleTree::at_or_after) | for a limit, [`range`](MapleTree::range) and `next` |
//! | `mt_find_after` | [`range`](MapleTree::range) | the iterator knows where it stands, so it does not wrap |
//! | `mt_next` | [`after`](MapleTree::after) | |
//! | `mt_prev` | [`before`](MapleTree::before) | |
//! | `mt_for_each` | [`iter`](MapleTree::iter), [`range`](MapleTree::range) | |
//!
//! # The advanced interface: finding
//!
//! A `ma_state` is a [`Cursor`], or a [`CursorMut`] to write with. It stands on an entry
//! or a gap, always, and a step that finds nothing leaves it where it is: so there are no
//! overflow, underflow and pause states.
//!
//! | Linux | here | what to know |
//! |---|---|---|
//! | `MA_STATE`, `mas_init` | [`cursor`](MapleTree::cursor), [`cursor_mut`](MapleTree::cursor_mut) | |
//! | `mas_set`, `mas_set_range`, `__mas_set_range`, `mas_reset` | [`CursorMut::seek`]; a new [`cursor`](MapleTree::cursor) | ranges are given to the write, not kept |
//! | `mas_walk` | [`find`](MapleTree::find), [`Cursor::segment`] | |
//! | `mas_find`, `mas_for_each` | [`range`](MapleTree::range) | |
//! | `mas_find_rev`, `mas_for_each_rev` (*new*) | [`range`](MapleTree::range), then `rev` | |
//! | `mas_find_range` | [`segments`](MapleTree::segments), [`Cursor::next`] | |
//! | `mas_find_range_rev` | [`segments`](MapleTree::segments), then `rev` | |
//! | `mas_next` | [`Cursor::next_entry`] | |
//! | `mas_next_range` | [`Cursor::next`] | |
//! | `mas_prev` | [`Cursor::previous_entry`] | |
//! | `mas_prev_range` | [`Cursor::previous`] | |
//! | `mas_empty_area` | [`lowest_gap`](MapleTree::lowest_gap) | |
//! | `mas_empty_area_rev` | [`highest_gap`](MapleTree::highest_gap) | |
//! | `mas_pause` | none | a borrow cannot outlive its lock; look the place up again |
//! | `mas_is_active`, `mas_is_err`, `MA_ERROR` | none | a cursor stands somewhere, and errors are returned |
//!
//! # The advanced interface: writing
//!
//! | Linux | here | what to know |
//! |---|---|---|
//! | `mas_store`, `mas_store_gfp` | [`store`](MapleTree::store), [`CursorMut::store`] | for the old content, [`store_with`](MapleTree::store_with) |
//! | the same, of NULL | [`remove`](MapleTree::remove), [`CursorMut::remove`] | |
//! | `mas_erase` | [`erase`](MapleTree::erase), [`CursorMut::erase`] | |
//! | `mas_alloc_cyclic` | [`allocate_cyclic`](MapleTree::allocate_cyclic) | |
//! | `mas_preallocate` | [`preallocate`](MapleTree::preallocate) | for a number of writes of any kind, anywhere |
//! | `mas_store_prealloc` | [`Preallocation::store`] | |
//! | `mas_destroy` | dropping the [`Preallocation`] | |
//! | `mas_nomem`, `mas_nomem_nofail` (*new*) | none | a write that runs out of nodes has done nothing; call it again |
//! | `mas_expected_entries` | [`from_sorted`](MapleTree::from_sorted), [`bulk_load`](MapleTree::bulk_load) | no number is needed, and every node comes out full |
//! | `MA_WR_STATE`, `MA_TOPIARY` | none | |
//!
//! # Making trees, flags and locks
//!
//! | Linux | here | what to know |
//! |---|---|---|
//! | `mt_init`, `MTREE_INIT`, `DEFINE_MTREE` | [`new`](MapleTree::new) | it is `const` |
//! | `mt_init_flags` with `MT_FLAGS_ALLOC_RANGE` | [`with_gaps`](MapleTree::with_gaps) | |
//! | `MTREE_INIT_EXT`, `mt_external_lock`, `mt_set_external_lock`, `mt_on_stack` | none | put a [`MapleTree`] into a lock of your choice, or a `Publisher`, whose readers take none; `RcuMapleTree` takes any of `lock_api` |
//! | `mtree_lock`, `mtree_lock_nested`, `mas_lock`, `mas_lock_nested`, `mas_lock_irqsave` | `RcuMapleTree::write`, or your lock | |
//! | `mtree_unlock`, `mas_unlock`, `mas_unlock_irqrestore` | dropping the `Writer`, or your guard | |
//! | `mt_lock_is_held`, `mt_write_lock_is_held` | none | the compiler checks the borrow |
//! | `mt_set_in_rcu` | `RcuMapleTree::from_tree` | |
//! | `mt_clear_in_rcu` | `RcuMapleTree::into_tree` | |
//! | `mt_in_rcu` | none | it is the type of the tree |
//! | `mt_height` | [`height`](MapleTree::height) | |
//! | `maple_tree_init` | none | nodes come from a [`NodeSource`]: [`new_in`](MapleTree::new_in), [`with_gaps_in`](MapleTree::with_gaps_in) |
//!
//! # Debugging
//!
//! | Linux | here | what to know |
//! |---|---|---|
//! | `mt_validate` | [`validate`](MapleTree::validate) | always there; trees that share nodes: [`validate_family`](MapleTree::validate_family) |
//! | `mt_dump`, `mas_dump`, `mas_wr_dump` | [`dump`](MapleTree::dump) | |
//! | `MT_BUG_ON`, `MAS_BUG_ON`, `MAS_WR_BUG_ON`, `MT_WARN_ON`, `MAS_WARN_ON`, `MAS_WR_WARN_ON` | none | `assert!` on what `validate` returns |
//! | `mt_cache_shrink`, `mt_get_alloc_size`, `mt_nr_allocated`, `mt_nr_tallocated`, `mt_zero_nr_tallocated` | [`memory_usage`](MapleTree::memory_usage); a [`NodeSource`] that counts | |
//! | `mt_set_non_kernel`, `mt_set_callback`, `mt_set_private` | a [`NodeSource`] that fails | |
//! | `maple_tree_tests_run`, `maple_tree_tests_passed` | `cargo test` | |
//!
//! # What Linux has no function for
//!
//! [`snapshot`](MapleTree::snapshot), [`duplicate_with`](MapleTree::duplicate_with),
//! [`overlay`](MapleTree::overlay), [`retain`](MapleTree::retain),
//! [`split_at`](MapleTree::split_at), [`append`](MapleTree::append),
//! [`store_coalescing`](MapleTree::store_coalescing), [`slot`](MapleTree::slot),
//! [`for_each_mut`](MapleTree::for_each_mut).

// What has no item here leads to this page.
#![doc(alias = "mas_pause")]
#![doc(alias = "mas_is_active")]
#![doc(alias = "mas_is_err")]
#![doc(alias = "MA_ERROR")]
#![doc(alias = "mas_nomem")]
#![doc(alias = "mas_nomem_nofail")]
#![doc(alias = "MA_WR_STATE")]
#![doc(alias = "MA_TOPIARY")]
#![doc(alias = "MTREE_INIT_EXT")]
#![doc(alias = "mt_external_lock")]
#![doc(alias = "mt_set_external_lock")]
#![doc(alias = "mt_on_stack")]
#![doc(alias = "mt_lock_is_held")]
#![doc(alias = "mt_write_lock_is_held")]
#![doc(alias = "mt_in_rcu")]
#![doc(alias = "maple_tree_init")]
#![doc(alias = "MT_BUG_ON")]
#![doc(alias = "MAS_BUG_ON")]
#![doc(alias = "MAS_WR_BUG_ON")]
#![doc(alias = "MT_WARN_ON")]
#![doc(alias = "MAS_WARN_ON")]
#![doc(alias = "MAS_WR_WARN_ON")]
#![doc(alias = "maple_tree_tests_run")]
#![doc(alias = "maple_tree_tests_passed")]

#[expect(unused_imports, reason = "the links of the table lead to them")]
use crate::{
    AllocateErrorKind, Cursor, CursorMut, GapRequest, IndexRange, MapleTree, NodeSource,
    OutOfNodes, Preallocation, StoreErrorKind,
};
