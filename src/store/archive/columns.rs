//! A table's rows to a Parquet file's bytes, column by column. Not here: what the rows are.
//!
//! Values go in by piece, so that a row group of millions of rows takes the memory of its encoded pages alone.

use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};

use super::schema::Table;

/// Values handed to the encoder at a time, which is what it takes at a time.
const PIECE: usize = 1_024;

/// A finished file.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    pub(super) metadata: ParquetMetaData,
}

/// A file in the making.
pub(super) struct TableWriter {
    writer: SerializedFileWriter<Vec<u8>>,
}

impl TableWriter {
    /// An empty file of `table`, with its first `columns` columns.
    pub(super) fn new(table: Table, columns: usize) -> Result<TableWriter, ParquetError> {
        let writer = SerializedFileWriter::new(Vec::new(), table.schema(columns), table.properties())?;
        Ok(TableWriter { writer })
    }

    /// Adds a row group; `fill` gives it each column in order.
    pub(super) fn group(
        &mut self,
        fill: impl FnOnce(&mut Group<'_>) -> Result<(), ParquetError>,
    ) -> Result<(), ParquetError> {
        let mut group = Group { writer: self.writer.next_row_group()? };
        fill(&mut group)?;
        group.writer.close()?;
        Ok(())
    }

    /// The whole file.
    pub(super) fn finish(mut self) -> Result<Written, ParquetError> {
        let metadata = self.writer.finish()?;
        Ok(Written { bytes: std::mem::take(self.writer.inner_mut()), metadata })
    }
}

/// A row group in the making.
pub(super) struct Group<'a> {
    writer: SerializedRowGroupWriter<'a, Vec<u8>>,
}

impl Group<'_> {
    /// The next column, of texts that are made for it.
    pub(super) fn text(
        &mut self,
        values: impl Iterator<Item = Option<ByteArray>>,
    ) -> Result<(), ParquetError> {
        self.owned::<ByteArrayType>(values)
    }

    /// The next column, of texts that are there, of which most follow their like: those cost no count of owners.
    pub(super) fn shared<'v>(
        &mut self,
        values: impl Iterator<Item = Option<&'v ByteArray>>,
    ) -> Result<(), ParquetError> {
        self.column::<ByteArrayType, _>(values, |piece, at, value| match piece.get_mut(at) {
            Some(slot) if std::ptr::eq(slot.data(), value.data()) => {}
            Some(slot) => slot.clone_from(value),
            None => piece.push(value.clone()),
        })
    }

    /// The next column, of numbers or times of 64 bits.
    pub(super) fn int(&mut self, values: impl Iterator<Item = Option<i64>>) -> Result<(), ParquetError> {
        self.owned::<Int64Type>(values)
    }

    /// The next column, of numbers of 32 bits.
    pub(super) fn short(&mut self, values: impl Iterator<Item = Option<i32>>) -> Result<(), ParquetError> {
        self.owned::<Int32Type>(values)
    }

    /// The next column, of floating point numbers.
    pub(super) fn float(&mut self, values: impl Iterator<Item = Option<f64>>) -> Result<(), ParquetError> {
        self.owned::<DoubleType>(values)
    }

    /// The next column, of truth values.
    pub(super) fn bool(&mut self, values: impl Iterator<Item = Option<bool>>) -> Result<(), ParquetError> {
        self.owned::<BoolType>(values)
    }

    fn owned<T: DataType>(&mut self, values: impl Iterator<Item = Option<T::T>>) -> Result<(), ParquetError> {
        self.column::<T, _>(values, |piece, at, value| match piece.get_mut(at) {
            Some(slot) => *slot = value,
            None => piece.push(value),
        })
    }

    /// `put` sets a piece's value at a place, where one of the piece before may be, or which is its end.
    fn column<T: DataType, V>(
        &mut self,
        mut values: impl Iterator<Item = Option<V>>,
        put: impl Fn(&mut Vec<T::T>, usize, V),
    ) -> Result<(), ParquetError> {
        let missing = || ParquetError::General("more columns than the table has".into());
        let mut column = self.writer.next_column()?.ok_or_else(missing)?;
        let typed: &mut ColumnWriterImpl<'_, T> = column.typed::<T>();
        let nullable = typed.get_descriptor().max_def_level() > 0;
        let (mut piece, mut levels) = (Vec::<T::T>::new(), Vec::new());
        loop {
            levels.clear();
            let mut filled = 0;
            for value in values.by_ref().take(PIECE) {
                levels.push(i16::from(value.is_some()));
                if let Some(value) = value {
                    put(&mut piece, filled, value);
                    filled += 1;
                }
            }
            if levels.is_empty() {
                break;
            }
            if !nullable && filled < levels.len() {
                return Err(ParquetError::General("a null in a column that has none".into()));
            }
            let piece = piece.get(..filled).unwrap_or_default();
            typed.write_batch(piece, nullable.then_some(levels.as_slice()), None)?;
        }
        column.close()
    }
}
