//! A column whose values are known by numbers, to its chunk of a Parquet file: a dictionary, and pages of numbers into it.
//! Pure.
//!
//! The library's own column writer takes values, and hashes and compares each to find it in its dictionary. A sample has
//! fifteen, most of which are those of the sample before; the stack alone is half a kilobyte. Here a value is looked at once
//! for a run of rows that have it, a text once for a row group. How pages and metadata are told is the library's part.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::io;

use bytes::Bytes;
use parquet::basic::{Encoding, Type as Physical};
use parquet::column::page::{CompressedPage, Page, PageWriter as _};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, PageEncodingStats};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::runs::{Run, Runs};
use super::schema::{self, DICTIONARY_BYTES};

/// Rows of a page, as many as the library gives one.
const PAGE_ROWS: usize = 20_000;
/// The code of a row without a value.
const NULL: u32 = u32::MAX;
/// Stands for a number that no row had yet.
const UNSEEN: u32 = NULL - 1;

/// A value that a dictionary may hold.
pub(super) trait Plain: Copy + Eq + Hash + Ord {
    /// What Parquet calls its type.
    const TYPE: Physical;

    /// How many bytes it takes.
    fn bytes(&self) -> usize;

    /// Appends it.
    fn put(&self, out: &mut Vec<u8>);

    /// What is told of a chunk with these.
    fn statistics(least: Option<Self>, most: Option<Self>, nulls: u64) -> Statistics;
}

impl Plain for &[u8] {
    const TYPE: Physical = Physical::BYTE_ARRAY;

    fn bytes(&self) -> usize {
        size_of::<u32>() + self.len()
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend((self.len() as u32).to_le_bytes());
        out.extend(*self);
    }

    fn statistics(least: Option<Self>, most: Option<Self>, nulls: u64) -> Statistics {
        let text = |text: &[u8]| ByteArray::from(text.to_vec());
        ValueStatistics::new(least.map(text), most.map(text), None, Some(nulls), false).into()
    }
}

/// Numbers, which are told by their bytes.
macro_rules! plain {
    ($number:ty, $type:expr) => {
        impl Plain for $number {
            const TYPE: Physical = $type;

            fn bytes(&self) -> usize {
                size_of::<$number>()
            }

            fn put(&self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }

            fn statistics(least: Option<Self>, most: Option<Self>, nulls: u64) -> Statistics {
                let told = ValueStatistics::new(least, most, None, Some(nulls), false);
                // Old readers, which compared bytes as if they had a sign, are right about these.
                told.with_backwards_compatible_min_max(true).into()
            }
        }
    };
}

plain!(i64, Physical::INT64);
plain!(i32, Physical::INT32);

/// Where each value of a dictionary stands. Tenants choose texts: their hash has a key.
type Places<V> = HashMap<V, u32, ahash::RandomState>;

/// The values of a column.
pub(super) struct Coded<V> {
    /// Each value once, in the order in which rows have come to it.
    dictionary: Vec<V>,
    dictionary_bytes: usize,
    /// Of each row the position of its value in the dictionary, or [`NULL`].
    codes: Runs,
}

impl<'v> Coded<&'v [u8]> {
    /// Of rows with these `numbers`, which are positions in `texts`; a row whose number leads nowhere has none.
    pub(super) fn of_texts(texts: &'v [Option<ByteArray>], numbers: &Runs) -> Coded<&'v [u8]> {
        let (mut coded, mut places) = (Coded::empty(), Places::default());
        let mut codes = vec![UNSEEN; texts.len()];
        for Run { number, rows } in numbers.iter() {
            let code = match codes.get_mut(number as usize) {
                Some(code) if *code == UNSEEN => {
                    let text = texts.get(number as usize).and_then(Option::as_ref);
                    // Several numbers may stand for the same text.
                    *code = coded.code(text.map(ByteArray::data), &mut places);
                    *code
                }
                Some(code) => *code,
                None => NULL,
            };
            coded.codes.push(code, rows as usize);
        }
        coded
    }
}

impl<V: Plain> Coded<V> {
    /// Of rows with these `values`.
    pub(super) fn of(values: impl Iterator<Item = Option<V>>) -> Coded<V> {
        let (mut coded, mut places) = (Coded::empty(), Places::default());
        let mut last = None;
        for value in values {
            let code = match last {
                Some((known, code)) if known == value => code,
                _ => coded.code(value, &mut places),
            };
            last = Some((value, code));
            coded.codes.push(code, 1);
        }
        coded
    }

    fn empty() -> Coded<V> {
        Coded { dictionary: Vec::new(), dictionary_bytes: 0, codes: Runs::default() }
    }

    fn code(&mut self, value: Option<V>, places: &mut Places<V>) -> u32 {
        let Some(value) = value else { return NULL };
        match places.entry(value) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let code = *place.insert(self.dictionary.len() as u32);
                self.dictionary.push(value);
                self.dictionary_bytes += value.bytes();
                code
            }
        }
    }

    /// Whether its values are more than a dictionary should hold.
    pub(super) fn is_too_much(&self) -> bool {
        self.dictionary_bytes > DICTIONARY_BYTES
    }

    /// The chunk of the column `descr`; with the least and the greatest of its values, if `statistics`.
    pub(super) fn chunk(
        &self,
        descr: &ColumnDescPtr,
        statistics: bool,
        compressor: &mut Compressor,
    ) -> Result<(Bytes, ColumnCloseResult)> {
        let nullable = descr.max_def_level() > 0;
        if descr.physical_type() != V::TYPE {
            let (ours, theirs) = (V::TYPE, descr.physical_type());
            return Err(ParquetError::General(format!("values of {ours} in a column of {theirs}")));
        }
        let without = self.codes.iter().filter(|run| run.number == NULL);
        let nulls: u64 = without.map(|run| u64::from(run.rows)).sum();
        if !nullable && nulls > 0 {
            return Err(ParquetError::General("a null in a column that has none".into()));
        }
        let mut pages = Pages::new(compressor);
        pages.dictionary(self.plain(), self.dictionary.len())?;
        for rows in self.codes.parts(PAGE_ROWS) {
            pages.data(page(&rows, nullable), rows.rows())?;
        }
        let (rows, bytes) = (self.codes.rows(), Bytes::from(pages.sink.into_inner()?));
        let mut metadata = ColumnChunkMetaData::builder(descr.clone())
            .set_compression(schema::compression())
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
            .set_page_encoding_stats(pages.encodings)
            .set_num_values(rows as i64)
            .set_total_compressed_size(bytes.len() as i64)
            .set_total_uncompressed_size(pages.uncompressed as i64)
            .set_dictionary_page_offset(Some(0))
            .set_data_page_offset(pages.data_at.unwrap_or(bytes.len() as u64) as i64);
        if statistics {
            let values = || self.dictionary.iter().copied();
            metadata = metadata.set_statistics(V::statistics(values().min(), values().max(), nulls));
        }
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: rows as u64,
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        Ok((bytes, close))
    }

    /// The dictionary.
    fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::with_capacity(self.dictionary_bytes);
        self.dictionary.iter().for_each(|value| value.put(&mut plain));
        plain
    }
}

/// A page of rows with these `codes`: which have a value, where not all must, and the codes of those that have.
fn page(codes: &Runs, nullable: bool) -> Vec<u8> {
    let mut page = Vec::new();
    let present: Runs;
    let mut values = codes;
    if nullable {
        let is_there = |run: Run| (u32::from(run.number != NULL), run.rows as usize);
        let mut told = Vec::new();
        Runs::of_runs(codes.iter().map(is_there)).put(1, &mut told);
        page.extend((told.len() as u32).to_le_bytes());
        page.extend(told);
        let there = codes.iter().filter(|run| run.number != NULL);
        present = Runs::of_runs(there.map(|run| (run.number, run.rows as usize)));
        values = &present;
    }
    // Codes rise as values come up: the first pages need fewer bits.
    let width = u32::BITS - values.most().map_or(u32::BITS, u32::leading_zeros);
    page.push(width as u8);
    values.put(width, &mut page);
    page
}

/// Compresses pages, of as many columns as it is asked for.
pub(super) struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    /// For pages as the schema wants them.
    pub(super) fn new() -> Result<Compressor> {
        zstd::bulk::Compressor::new(schema::ZSTD_LEVEL).map(Compressor).map_err(external)
    }
}

/// The pages of a chunk in the making.
struct Pages<'c> {
    sink: TrackedWrite<Vec<u8>>,
    compressor: &'c mut Compressor,
    encodings: Vec<PageEncodingStats>,
    uncompressed: usize,
    /// Where the first behind the dictionary begins.
    data_at: Option<u64>,
}

impl Pages<'_> {
    fn new(compressor: &mut Compressor) -> Pages<'_> {
        let sink = TrackedWrite::new(Vec::new());
        Pages { sink, compressor, encodings: Vec::new(), uncompressed: 0, data_at: None }
    }

    fn dictionary(&mut self, plain: Vec<u8>, entries: usize) -> Result<()> {
        let page = |buf| Page::DictionaryPage {
            buf,
            num_values: entries as u32,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        self.write(&plain, page).map(drop)
    }

    fn data(&mut self, body: Vec<u8>, rows: usize) -> Result<()> {
        let page = |buf| Page::DataPage {
            buf,
            num_values: rows as u32,
            encoding: Encoding::RLE_DICTIONARY,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let at = self.write(&body, page)?;
        self.data_at.get_or_insert(at);
        Ok(())
    }

    /// Writes a page with this body, and returns where.
    fn write(&mut self, body: &[u8], page: impl Fn(Bytes) -> Page) -> Result<u64> {
        let page = page(self.compressor.0.compress(body).map_err(external)?.into());
        let (page_type, encoding) = (page.page_type(), page.encoding());
        match self.encodings.last_mut() {
            Some(last) if last.page_type == page_type => last.count += 1,
            _ => self.encodings.push(PageEncodingStats { page_type, encoding, count: 1 }),
        }
        let written =
            SerializedPageWriter::new(&mut self.sink).write_page(CompressedPage::new(page, body.len()))?;
        self.uncompressed += written.uncompressed_size;
        Ok(written.offset)
    }
}

fn external(error: io::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::archive::columns::{Group, TableWriter};
    use crate::store::archive::schema::{Kind, Table};
    use parquet::column::reader::get_typed_column_reader;
    use parquet::data_type::{ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
    use parquet::file::metadata::RowGroupMetaData;
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use proptest::prelude::*;

    /// Columns of the usage table: the second must have texts, the third need not.
    const REQUIRED: usize = 1;
    const OPTIONAL: usize = 2;

    /// A file of the usage table with these in both columns of texts, by the library's way or by that of this file.
    fn file(texts: &[Option<ByteArray>], numbers: &[u32], by_library: bool) -> Bytes {
        let mut file = TableWriter::new(Table::Usage, 3).unwrap();
        let text = |number: &u32| texts.get(*number as usize).cloned().flatten();
        let all = || numbers.iter().copied().filter(|number| text(number).is_some());
        let fill = |group: &mut Group<'_>| {
            let rows = numbers.len();
            group.int((0..rows).map(|row| Some(row as i64)))?;
            // Who has no text there has the first that is one.
            let first = all().next().unwrap_or(0);
            let required =
                || numbers.iter().map(|number| text(number).map_or(first, |_| *number)).collect::<Vec<u32>>();
            match by_library {
                true => {
                    group.text(required().iter().map(text))?;
                    group.text(numbers.iter().map(text))
                }
                false => {
                    group.coded(texts, &Runs::of(required().into_iter()))?;
                    group.coded(texts, &Runs::of(numbers.iter().copied()))
                }
            }
        };
        file.group(fill).unwrap();
        file.finish().unwrap().bytes.into()
    }

    type Read<T> = ((Vec<<T as DataType>::T>, Vec<i16>), RowGroupMetaData);

    fn read<T: DataType>(file: &Bytes, column: usize) -> Read<T> {
        let reader = SerializedFileReader::new(file.clone()).unwrap();
        let group = reader.get_row_group(0).unwrap();
        let rows = usize::try_from(group.metadata().num_rows()).unwrap();
        let mut values = get_typed_column_reader::<T>(group.get_column_reader(column).unwrap());
        let (mut read, mut levels) = (Vec::new(), Vec::new());
        let (records, ..) = values.read_records(rows + 1, Some(&mut levels), None, &mut read).unwrap();
        assert_eq!(records, rows);
        ((read, levels), group.metadata().clone())
    }

    fn alike(texts: &[Option<ByteArray>], numbers: &[u32]) {
        let files = [false, true].map(|by_library| file(texts, numbers, by_library));
        for file in &files {
            let ((times, _), _) = read::<Int64Type>(file, 0);
            assert_eq!(times, (0..numbers.len() as i64).collect::<Vec<_>>(), "what lies beside it");
        }
        column_alike::<ByteArrayType>(&files, REQUIRED);
        column_alike::<ByteArrayType>(&files, OPTIONAL);
    }

    /// Whether a column of two files holds the same, and the same is told of it.
    fn column_alike<T: DataType>(files: &[Bytes; 2], column: usize) {
        let [(got, got_group), (wanted, wanted_group)] = files.each_ref().map(|file| read::<T>(file, column));
        assert!(got == wanted, "column {column} of {} rows", wanted.1.len());
        let [got, wanted] = [&got_group, &wanted_group].map(|group| group.column(column));
        assert_eq!(got.statistics(), wanted.statistics());
        assert_eq!(got.encodings_mask(), wanted.encodings_mask());
        assert_eq!(got.page_encoding_stats(), wanted.page_encoding_stats());
        assert_eq!((got.num_values(), got.compression()), (wanted.num_values(), wanted.compression()));
        assert!(got.dictionary_page_offset() < Some(got.data_page_offset()));
    }

    /// A file of the samples table with these in all columns of numbers, 0 for none where there must be one, by the
    /// library's way or by that of this file.
    fn numbers_file(values: &[Option<i64>], by_library: bool) -> Bytes {
        let mut file = TableWriter::new(Table::Samples, Table::Samples.columns().len()).unwrap();
        let rows = values.len();
        let fill = |group: &mut Group<'_>| {
            for column in Table::Samples.columns() {
                let ints = values.iter().map(|value| value.or((!column.nullable).then_some(0)));
                let shorts = ints.clone().map(|value| value.map(|value| value as i32));
                match (column.kind, by_library) {
                    (Kind::Text, _) => group.coded(&texts(1), &Runs::same(0, rows))?,
                    (Kind::Float, _) => group.column::<DoubleType>(ints.map(|_| None))?,
                    (Kind::Short, true) => group.column::<Int32Type>(shorts)?,
                    (Kind::Short, false) => group.short(shorts)?,
                    (_, true) => group.column::<Int64Type>(ints)?,
                    (_, false) => group.int(ints)?,
                }
            }
            Ok(())
        };
        file.group(fill).unwrap();
        file.finish().unwrap().bytes.into()
    }

    fn numbers_alike(values: &[Option<i64>]) {
        let files = [false, true].map(|by_library| numbers_file(values, by_library));
        // All but the time, which both tell by differences.
        for (at, column) in Table::Samples.columns().iter().enumerate().skip(1) {
            match column.kind {
                Kind::Int => column_alike::<Int64Type>(&files, at),
                Kind::Short => column_alike::<Int32Type>(&files, at),
                _ => {}
            }
        }
    }

    fn texts(count: usize) -> Vec<Option<ByteArray>> {
        // Some are alike, some are none.
        (0..count).map(|at| (at % 7 != 3).then(|| format!("text {}", at / 2).as_str().into())).collect()
    }

    #[test]
    fn pages_runs_and_widths_are_as_the_library_reads_them() {
        for count in [1, 2, 3, 5, 250, 70_000] {
            let texts = texts(count);
            let rows = PAGE_ROWS as u32 * 2 + 1_000;
            let count = count as u32;
            alike(&texts, &[0]);
            alike(&texts, &(0..rows).map(|row| row % count).collect::<Vec<_>>());
            alike(&texts, &(0..rows).map(|row| row / 700 % count).collect::<Vec<_>>());
            alike(&texts, &(0..rows).map(|row| row * row / 9_000 % count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn numbers_are_as_the_library_writes_them() {
        numbers_alike(&[None]);
        numbers_alike(&[Some(7)]);
        for odd in [None, Some(137), Some(0)] {
            let codes = [vec![Some(0); 5], vec![odd], vec![Some(0); 10], vec![Some(64)]].concat();
            numbers_alike(&codes);
        }
        let rows = PAGE_ROWS as i64 * 2 + 1_000;
        numbers_alike(&(0..rows).map(|row| (row % 3 > 0).then_some(row)).collect::<Vec<_>>());
        numbers_alike(&(0..rows).map(|row| Some(row / 700)).collect::<Vec<_>>());
    }

    #[test]
    fn texts_beyond_what_a_dictionary_should_hold_are_left_to_the_library() {
        const TEXT_BYTES: usize = 1 << 20;
        let count = DICTIONARY_BYTES / TEXT_BYTES + 1;
        let long = "x".repeat(TEXT_BYTES);
        let texts: Vec<Option<ByteArray>> =
            (0..count).map(|at| Some(format!("{at} {long}").as_str().into())).collect();
        let numbers: Vec<u32> = (0..count as u32).collect();
        let is_too_much =
            |from| Coded::of_texts(&texts, &Runs::of(numbers.iter().copied().skip(from))).is_too_much();
        assert!(is_too_much(0) && !is_too_much(2));
        let ((read, _), _) = read::<ByteArrayType>(&file(&texts, &numbers, false), REQUIRED);
        assert!(read.into_iter().map(Some).eq(texts));
    }

    #[test]
    fn a_column_that_must_have_texts_is_refused_without() {
        let mut file = TableWriter::new(Table::Usage, 2).unwrap();
        let refused = file.group(|group| {
            group.int([Some(1)].into_iter())?;
            group.coded(&[None], &Runs::same(0, 1))
        });
        assert!(refused.unwrap_err().to_string().contains("a null in a column that has none"));
        let mut file = TableWriter::new(Table::Usage, 1).unwrap();
        let refused = file.group(|group| group.coded(&texts(1), &Runs::same(0, 1)));
        assert!(refused.unwrap_err().to_string().contains("values of BYTE_ARRAY in a column of INT64"));
    }

    proptest! {
        #[test]
        fn any_rows_are_as_the_library_writes_them(
            count in 1..40usize,
            runs in proptest::collection::vec((0..45u32, 1..30usize), 1..60),
        ) {
            let numbers: Vec<u32> =
                runs.iter().flat_map(|(number, run)| std::iter::repeat_n(*number, *run)).collect();
            let texts = texts(count);
            alike(&texts, &numbers);
        }

        #[test]
        fn any_numbers_are_as_the_library_writes_them(
            runs in proptest::collection::vec((proptest::option::of(-3..9i64), any::<bool>(), 1..30usize), 1..60),
        ) {
            // Some at the ends of what they may be.
            let value = |value: i64, far: bool| if far { value.wrapping_add(i64::MAX) } else { value };
            let values: Vec<Option<i64>> = runs
                .into_iter()
                .flat_map(|(own, far, rows)| std::iter::repeat_n(own.map(|own| value(own, far)), rows))
                .collect();
            numbers_alike(&values);
        }
    }
}
