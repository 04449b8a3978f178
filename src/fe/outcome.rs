use crate::query::RowSet;

/// What a statement came to.
#[derive(Debug)]
pub enum Outcome {
    /// It is done.
    Done {
        /// How many rows it changed.
        affected: u64,
        /// What a client shows about it; often empty.
        info: String,
        /// What SHOW WARNINGS tells about it.
        warnings: Vec<String>,
    },
    /// It has rows.
    Rows {
        /// They come as they are made.
        rows: RowSet,
        /// What SHOW WARNINGS tells about it.
        warnings: Vec<String>,
    },
}

impl Outcome {
    /// Done, and nothing to say about it.
    pub fn done() -> Self {
        Self::Done { affected: 0, info: String::new(), warnings: Vec::new() }
    }

    /// Rows, and nothing to say about them.
    pub fn rows(rows: RowSet) -> Self {
        Self::Rows { rows, warnings: Vec::new() }
    }
}
