use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::row::{RowConverter, Rows};

use super::rowset::{Files, Limits, RowsetOf, STEP, key_columns, key_converter};
use super::scan::{Scan, ScanSpec};
use super::store::{Staged, Store};
use crate::error::{Error, Result};
use crate::types::RowsetFile;

/// Memory that rows may hold between being drawn and written.
const HELD_BYTES: usize = 16 << 20;

/// Merges files of a tablet into new ones under the schema of `of`, in key order, numbered from `first`.
///
/// Memory is a few batches for each file and one row group. The old files stay; on an error nothing is left.
pub fn compact(
    store: &Arc<Store>,
    files: &[RowsetFile],
    of: RowsetOf,
    first: u32,
    limits: Limits,
) -> Result<Vec<(RowsetFile, Staged)>> {
    let spec = ScanSpec {
        schema: (*of.schema).clone(),
        projection: (0..of.schema.columns.len()).collect(),
        filters: Vec::new(),
        limit: None,
    };
    let keys = key_converter(&of.schema)?;
    let key_columns = key_columns(&of.schema);
    let mut output = Files::new(store.clone(), of, first, limits);
    let Some(keys) = keys else {
        for batch in Scan::new(store.clone(), files.to_vec(), spec)? {
            output.write(&batch?)?;
        }
        return output.finish();
    };
    let scans = files.iter().map(|file| Scan::new(store.clone(), vec![file.clone()], spec.clone()));
    Merge::new(scans.collect::<Result<_>>()?, keys, key_columns)?.run(&mut output)?;
    output.finish()
}

/// A merge of sorted scans. Rows are drawn in order from the batches held, and written some thousands at a time.
struct Merge {
    scans: Vec<Scan>,
    keys: RowConverter,
    key_columns: usize,
    heads: BinaryHeap<Head>,
    /// Batches that heads or drawn rows are in.
    held: Vec<RecordBatch>,
    /// Size of those that no head is in any more.
    spent_bytes: usize,
    /// Rows in order, each a batch of `held` and a row of it.
    drawn: Vec<(usize, usize)>,
}

/// The next row of one scan.
struct Head {
    scan: usize,
    batch: usize,
    rows: Rows,
    row: usize,
}

impl Merge {
    fn new(scans: Vec<Scan>, keys: RowConverter, key_columns: usize) -> Result<Self> {
        let count = scans.len();
        let heads = BinaryHeap::with_capacity(count);
        let mut merge = Self { scans, keys, heads, held: Vec::new(), key_columns, spent_bytes: 0, drawn: Vec::new() };
        for scan in 0..count {
            if let Some(head) = merge.pull(scan)? {
                merge.heads.push(head);
            }
        }
        Ok(merge)
    }

    fn run(mut self, output: &mut Files) -> Result<()> {
        while let Some(spent) = self.draw() {
            if let Some(spent) = spent {
                self.spent_bytes += self.held[spent.batch].get_array_memory_size();
                let next = self.pull(spent.scan)?;
                self.heads.extend(next);
            }
            if self.drawn.len() == STEP || self.spent_bytes > HELD_BYTES {
                self.write(output)?;
            }
        }
        self.write(output)
    }

    /// Draws the least row, and returns its head if that has no more; `None` at the end.
    fn draw(&mut self) -> Option<Option<Head>> {
        let mut head = self.heads.peek_mut()?;
        self.drawn.push((head.batch, head.row));
        head.row += 1;
        Some((head.row == head.rows.num_rows()).then(|| PeekMut::pop(head)))
    }

    /// Takes the next batch of a scan.
    fn pull(&mut self, scan: usize) -> Result<Option<Head>> {
        if let Some(batch) = self.scans[scan].next().transpose()? {
            let rows = self.keys.convert_columns(&batch.columns()[..self.key_columns]).map_err(Error::internal)?;
            self.held.push(batch);
            return Ok(Some(Head { scan, batch: self.held.len() - 1, rows, row: 0 }));
        }
        Ok(None)
    }

    /// Writes the drawn rows and lets go of the batches that no head is in.
    fn write(&mut self, output: &mut Files) -> Result<()> {
        let batches: Vec<&RecordBatch> = self.held.iter().collect();
        if !self.drawn.is_empty() {
            output.write(&interleave_record_batch(&batches, &self.drawn).map_err(Error::internal)?)?;
        }
        self.drawn.clear();
        let mut heads = std::mem::take(&mut self.heads).into_vec();
        let kept = heads.iter().map(|head| self.held[head.batch].clone()).collect();
        for (at, head) in heads.iter_mut().enumerate() {
            head.batch = at;
        }
        self.held = kept;
        self.spent_bytes = 0;
        self.heads = heads.into();
        Ok(())
    }
}

/// A [`BinaryHeap`] gives its greatest, so the order is turned round. Of equal keys the earlier file's comes first.
impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = other.rows.row(other.row).cmp(&self.rows.row(self.row));
        key.then_with(|| other.scan.cmp(&self.scan))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}
