//! `Cursor` and `CursorMut`.
