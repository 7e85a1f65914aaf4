//! A table's rows to a Parquet file's bytes, column by column. Not here: what the rows are.
//!
//! Values go in by piece, so that a row group of millions of rows takes the memory of its encoded pages alone.

use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::ColumnDescPtr;

use super::coded::{Coded, Compressor, Plain};
use super::runs::Runs;
use super::schema::Table;

/// Values handed to the encoder at a time.
const PIECE: usize = 8_192;

/// A finished file.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    pub(super) metadata: ParquetMetaData,
}

/// A file in the making.
pub(super) struct TableWriter {
    writer: SerializedFileWriter<Vec<u8>>,
    columns: Vec<ColumnDescPtr>,
    properties: WriterPropertiesPtr,
    compressor: Compressor,
}

impl TableWriter {
    /// An empty file of `table`, with its first `columns` columns.
    pub(super) fn new(table: Table, columns: usize) -> Result<TableWriter, ParquetError> {
        let properties = table.properties();
        let writer = SerializedFileWriter::new(Vec::new(), table.schema(columns), properties.clone())?;
        let columns = writer.schema_descr().columns().to_vec();
        Ok(TableWriter { writer, columns, properties, compressor: Compressor::new()? })
    }

    /// Adds a row group; `fill` gives it each column in order.
    pub(super) fn group(
        &mut self,
        fill: impl FnOnce(&mut Group<'_>) -> Result<(), ParquetError>,
    ) -> Result<(), ParquetError> {
        let TableWriter { writer, columns, properties, compressor } = self;
        let (writer, columns) = (writer.next_row_group()?, columns.iter());
        let mut group = Group { writer, columns, properties, compressor };
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
    /// Those that are still to come.
    columns: std::slice::Iter<'a, ColumnDescPtr>,
    properties: &'a WriterProperties,
    compressor: &'a mut Compressor,
}

impl Group<'_> {
    /// The next column, of texts.
    pub(super) fn text(
        &mut self,
        values: impl Iterator<Item = Option<ByteArray>>,
    ) -> Result<(), ParquetError> {
        self.column::<ByteArrayType>(values)
    }

    /// The next column, of those of `texts` that stand at these `numbers`.
    pub(super) fn coded(&mut self, texts: &[Option<ByteArray>], numbers: &Runs) -> Result<(), ParquetError> {
        let coded = Coded::of_texts(texts, numbers);
        if coded.is_too_much() {
            return self.text(numbers.numbers().map(|number| texts.get(number as usize).cloned().flatten()));
        }
        self.append(&coded)
    }

    /// The next column, of numbers or times of 64 bits.
    pub(super) fn int(
        &mut self,
        values: impl Iterator<Item = Option<i64>> + Clone,
    ) -> Result<(), ParquetError> {
        self.number::<Int64Type>(values)
    }

    /// The next column, of numbers of 32 bits.
    pub(super) fn short(
        &mut self,
        values: impl Iterator<Item = Option<i32>> + Clone,
    ) -> Result<(), ParquetError> {
        self.number::<Int32Type>(values)
    }

    /// The next column; values that are all different, as times are, the library tells by their differences.
    fn number<T: DataType>(
        &mut self,
        values: impl Iterator<Item = Option<T::T>> + Clone,
    ) -> Result<(), ParquetError>
    where
        T::T: Plain,
    {
        let next = self.columns.as_slice().first();
        if next.is_some_and(|descr| self.properties.dictionary_enabled(descr.path())) {
            let coded = Coded::of(values.clone());
            if !coded.is_too_much() {
                return self.append(&coded);
            }
        }
        self.column::<T>(values)
    }

    fn append<V: Plain>(&mut self, coded: &Coded<V>) -> Result<(), ParquetError> {
        let descr = self.columns.next().ok_or_else(missing)?;
        let statistics = self.properties.statistics_enabled(descr.path()) != EnabledStatistics::None;
        let (bytes, close) = coded.chunk(descr, statistics, self.compressor)?;
        self.writer.append_column(&bytes, close)
    }

    /// The next column, of floating point numbers.
    pub(super) fn float(&mut self, values: impl Iterator<Item = Option<f64>>) -> Result<(), ParquetError> {
        self.column::<DoubleType>(values)
    }

    /// The next column, of truth values.
    pub(super) fn bool(&mut self, values: impl Iterator<Item = Option<bool>>) -> Result<(), ParquetError> {
        self.column::<BoolType>(values)
    }

    /// The next column, by the library's own way.
    pub(super) fn column<T: DataType>(
        &mut self,
        mut values: impl Iterator<Item = Option<T::T>>,
    ) -> Result<(), ParquetError> {
        self.columns.next();
        let mut column = self.writer.next_column()?.ok_or_else(missing)?;
        let typed: &mut ColumnWriterImpl<'_, T> = column.typed::<T>();
        let nullable = typed.get_descriptor().max_def_level() > 0;
        let (mut piece, mut levels) = (Vec::with_capacity(PIECE), Vec::new());
        loop {
            piece.clear();
            levels.clear();
            for value in values.by_ref().take(PIECE) {
                levels.push(i16::from(value.is_some()));
                piece.extend(value);
            }
            if levels.is_empty() {
                break;
            }
            if !nullable && piece.len() < levels.len() {
                return Err(ParquetError::General("a null in a column that has none".into()));
            }
            typed.write_batch(&piece, nullable.then_some(levels.as_slice()), None)?;
        }
        column.close()
    }
}

fn missing() -> ParquetError {
    ParquetError::General("more columns than the table has".into())
}
