//! SELECT: DataFusion tables over tablets.

mod rows;

pub use rows::{Origin, ResultColumn, RowSet};
