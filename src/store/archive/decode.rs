//! One sealed file, read by column; nothing is decoded before its checksum was right.
//!
//! Not here: what the columns mean. What is wrong comes back as a [`Fault`]: where, and what.

use std::fs::File;
use std::io::{self, Cursor};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::statistics::Statistics;

use super::pages::KnownPages;
use super::schema::Table;
use super::sums::{FileSums, TAIL_BYTES, range};
use crate::store::contents::Damage;

/// Most rows of a row group that are believed; a journal holds a million samples.
const MAX_ROWS: usize = 64 << 20;

/// Why something of a file is not read.
#[derive(Debug)]
pub(super) enum Fault {
    /// The file is not there.
    Gone,
    /// The system refuses to read it.
    Io(io::Error),
    /// It is not what was written.
    Damaged {
        /// Where, in bytes.
        offset: u64,
        /// What was found.
        what: String,
    },
}

impl Fault {
    pub(super) fn damaged(offset: u64, what: impl Into<String>) -> Fault {
        Fault::Damaged { offset, what: what.into() }
    }

    fn io(error: io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::NotFound => Fault::Gone,
            io::ErrorKind::UnexpectedEof => Fault::damaged(0, "ends before what its checksums tell of"),
            _ => Fault::Io(error),
        }
    }
}

/// A column's values without its nulls, and for one that may have some, which rows have a value.
type Values<T> = (Vec<<T as DataType>::T>, Option<Vec<i16>>);

/// A sealed file, its footer checked.
#[derive(Debug)]
pub(super) struct TableFile {
    path: PathBuf,
    file: File,
    table: Table,
    sums: FileSums,
    metadata: ParquetMetaData,
}

impl TableFile {
    /// Opens the file of `table` at `path`.
    pub(super) fn open(path: &Path, table: Table, sums: &FileSums) -> Result<TableFile, Fault> {
        let file = File::open(path).map_err(Fault::io)?;
        let length = file.metadata().map_err(Fault::io)?.len();
        if length != sums.bytes {
            return Err(Fault::damaged(length, format!("is {length} bytes long, not {}", sums.bytes)));
        }
        let len = length.checked_sub(sums.footer_at).filter(|len| *len > TAIL_BYTES);
        let len = len.ok_or_else(|| Fault::damaged(sums.footer_at, "has no footer"))?;
        let footer = read(&file, sums.footer_at, len, length)?;
        if crc32fast::hash(&footer) != sums.footer {
            return Err(Fault::damaged(sums.footer_at, "its footer has another checksum"));
        }
        let thrift = footer.len().checked_sub(TAIL_BYTES as usize).and_then(|end| footer.get(..end));
        let metadata = ParquetMetaDataReader::decode_metadata(thrift.unwrap_or_default())
            .map_err(|error| Fault::damaged(sums.footer_at, error.to_string()))?;
        let sound = metadata.num_row_groups() == sums.chunks.len()
            && metadata.row_groups().iter().all(|group| {
                usize::try_from(group.num_rows()).is_ok_and(|rows| rows <= MAX_ROWS)
                    && group.columns().len() >= table.least_columns()
            });
        if !sound {
            return Err(Fault::damaged(sums.footer_at, "its footer is not that of such a table"));
        }
        Ok(TableFile { path: path.into(), file, table, sums: sums.clone(), metadata })
    }

    /// How many row groups it has.
    pub(super) fn groups(&self) -> usize {
        self.metadata.num_row_groups()
    }

    /// How many rows row group `group` has.
    pub(super) fn rows(&self, group: usize) -> usize {
        self.metadata.row_groups().get(group).and_then(|group| group.num_rows().try_into().ok()).unwrap_or(0)
    }

    /// Whether the column `name` of `group` holds nothing but nulls, as far as its footer tells.
    pub(super) fn is_null(&self, group: usize, name: &str) -> bool {
        let chunk = self.chunk(group, name);
        let nulls = chunk.and_then(|(_, chunk)| chunk.statistics()?.null_count_opt());
        nulls.is_some_and(|nulls| nulls == self.rows(group) as u64)
    }

    /// The number that is all the column `name` of `group` holds, if its footer tells of one.
    pub(super) fn only(&self, group: usize, name: &str) -> Option<i64> {
        let Some(Statistics::Int64(told)) = self.chunk(group, name)?.1.statistics() else { return None };
        told.min_opt()
            .filter(|least| told.null_count_opt() == Some(0) && told.max_opt() == Some(*least))
            .copied()
    }

    /// The texts of a column without nulls.
    pub(super) fn texts(&self, group: usize, name: &str) -> Result<Vec<ByteArray>, Fault> {
        self.whole::<ByteArrayType>(group, name)
    }

    /// The numbers of a column without nulls.
    pub(super) fn ints(&self, group: usize, name: &str) -> Result<Vec<i64>, Fault> {
        self.whole::<Int64Type>(group, name)
    }

    /// The short numbers of a column without nulls.
    pub(super) fn shorts(&self, group: usize, name: &str) -> Result<Vec<i32>, Fault> {
        self.whole::<Int32Type>(group, name)
    }

    /// The texts of a column, as owned ones.
    pub(super) fn text_options(&self, group: usize, name: &str) -> Result<Vec<Option<String>>, Fault> {
        let texts = self.options::<ByteArrayType>(group, name)?;
        texts
            .into_iter()
            .map(|text| text.map(|text| self.utf8(name, &text).map(str::to_owned)).transpose())
            .collect()
    }

    /// The numbers of a column.
    pub(super) fn int_options(&self, group: usize, name: &str) -> Result<Vec<Option<i64>>, Fault> {
        match self.only(group, name) {
            Some(value) => Ok(vec![Some(value); self.rows(group)]),
            None => self.options::<Int64Type>(group, name),
        }
    }

    /// The short numbers of a column.
    pub(super) fn short_options(&self, group: usize, name: &str) -> Result<Vec<Option<i32>>, Fault> {
        self.options::<Int32Type>(group, name)
    }

    /// The floating point numbers of a column.
    pub(super) fn float_options(&self, group: usize, name: &str) -> Result<Vec<Option<f64>>, Fault> {
        self.options::<DoubleType>(group, name)
    }

    /// The truth values of a column.
    pub(super) fn bool_options(&self, group: usize, name: &str) -> Result<Vec<Option<bool>>, Fault> {
        self.options::<BoolType>(group, name)
    }

    /// `text` of column `name` as text.
    pub(super) fn utf8<'a>(&self, name: &str, text: &'a ByteArray) -> Result<&'a str, Fault> {
        std::str::from_utf8(text.data()).map_err(|_| Fault::damaged(0, format!("column {name} is no text")))
    }

    /// `fault` as damage of this file; `missing` says what is not read because of it.
    pub(super) fn damage(&self, fault: Fault, missing: &str) -> Damage {
        damage(&self.path, fault, missing)
    }

    fn whole<T: DataType>(&self, group: usize, name: &str) -> Result<Vec<T::T>, Fault> {
        let (values, levels) = self.column::<T>(group, name)?;
        if values.len() != self.rows(group) || levels.is_some_and(|levels| levels.contains(&0)) {
            return Err(Fault::damaged(0, format!("column {name} has not a value for each row")));
        }
        Ok(values)
    }

    fn options<T: DataType>(&self, group: usize, name: &str) -> Result<Vec<Option<T::T>>, Fault> {
        // Much of what an hour could tell of its instances it has nothing of: no page is read for that.
        if self.lacks(group, name) || self.is_null(group, name) {
            return Ok((0..self.rows(group)).map(|_| None).collect());
        }
        let (values, levels) = self.column::<T>(group, name)?;
        let mut values = values.into_iter();
        let options: Vec<Option<T::T>> = match levels {
            None => values.map(Some).collect(),
            Some(levels) => {
                levels.iter().map(|level| if *level > 0 { values.next() } else { None }).collect()
            }
        };
        if options.len() != self.rows(group) {
            return Err(Fault::damaged(0, format!("column {name} has not a value for each row")));
        }
        Ok(options)
    }

    /// Whether `name` is a column that was added to the table and is not in this file: nothing in it but nulls.
    fn lacks(&self, group: usize, name: &str) -> bool {
        let at = self.table.position(name).unwrap_or(usize::MAX);
        let has = self.metadata.row_groups().get(group).map_or(0, |group| group.columns().len());
        (self.table.least_columns()..self.table.columns().len()).contains(&at) && at >= has
    }

    fn chunk(&self, group: usize, name: &str) -> Option<(usize, &ColumnChunkMetaData)> {
        let at = self.table.position(name)?;
        Some((at, self.metadata.row_groups().get(group)?.columns().get(at)?))
    }

    fn column<T: DataType>(&self, group: usize, name: &str) -> Result<Values<T>, Fault> {
        let missing = || Fault::damaged(self.sums.footer_at, format!("has no column {name}"));
        let (at, chunk) = self.chunk(group, name).ok_or_else(missing)?;
        let fits = chunk.column_type() == T::get_physical_type() && chunk.column_descr().name() == name;
        let (begin, len) = range(chunk).filter(|_| fits).ok_or_else(missing)?;
        let bytes = read(&self.file, begin, len, self.sums.bytes)?;
        let sum = self.sums.chunks.get(group).and_then(|sums| sums.get(at)).ok_or_else(missing)?;
        if crc32fast::hash(&bytes) != *sum {
            let what = format!("column {name} of row group {group} has another checksum");
            return Err(Fault::damaged(begin, what));
        }
        let rows = self.rows(group);
        let decoded = || -> Result<_, ParquetError> {
            let piece = Arc::new(Piece { begin, bytes, len: self.sums.bytes });
            let pages = SerializedPageReader::new(piece, chunk, rows, None)?;
            let descr = chunk.column_descr_ptr();
            let nullable = descr.max_def_level() > 0;
            let mut reader = ColumnReaderImpl::<T>::new(descr, Box::new(KnownPages::new(pages)));
            let (mut values, mut levels) = (Vec::new(), Vec::new());
            reader.read_records(rows, nullable.then_some(&mut levels), None, &mut values)?;
            Ok((values, nullable.then_some(levels)))
        };
        decoded().map_err(|error| Fault::damaged(begin, error.to_string()))
    }
}

/// `fault` as damage of the file at `path`.
pub(super) fn damage(path: &Path, fault: Fault, missing: &str) -> Damage {
    let (offset, what) = match fault {
        Fault::Gone => (0, "is missing".into()),
        Fault::Io(error) => (0, error.to_string()),
        Fault::Damaged { offset, what } => (offset, what),
    };
    Damage { file: path.into(), offset, what: format!("{what}: {missing}"), torn_end: false }
}

fn read(file: &File, begin: u64, len: u64, limit: u64) -> Result<Bytes, Fault> {
    let beyond = || Fault::damaged(begin, "lies beyond the end of the file");
    let end = begin.checked_add(len).filter(|end| *end <= limit).ok_or_else(beyond)?;
    let mut bytes = vec![0; usize::try_from(end - begin).map_err(|_| beyond())?];
    file.read_exact_at(&mut bytes, begin).map_err(Fault::io)?;
    Ok(bytes.into())
}

/// A checked piece of a file, which stands where it stood.
struct Piece {
    begin: u64,
    bytes: Bytes,
    len: u64,
}

impl Piece {
    fn from(&self, start: u64) -> Result<Bytes, ParquetError> {
        let at = start.checked_sub(self.begin).and_then(|at| usize::try_from(at).ok());
        let at = at.filter(|at| *at <= self.bytes.len());
        Ok(self.bytes.slice(at.ok_or_else(|| ParquetError::EOF("outside of the column".into()))?..))
    }
}

impl Length for Piece {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Piece {
    type T = Cursor<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Cursor<Bytes>> {
        self.from(start).map(Cursor::new)
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let bytes = self.from(start)?;
        if length > bytes.len() {
            return Err(ParquetError::EOF("outside of the column".into()));
        }
        Ok(bytes.slice(..length))
    }
}
