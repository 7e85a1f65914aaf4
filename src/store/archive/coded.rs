//! A column of texts that are known by numbers, to its chunk of a Parquet file: a dictionary, and pages of numbers into
//! it. Pure.
//!
//! The library's own column writer takes texts, and hashes and compares each to find it in its dictionary. A sample has ten,
//! most of which are those of the sample before; the stack alone is half a kilobyte. Here a text is looked at once for a
//! row group, and a run of rows with the same is one step. How pages and metadata are told is the library's part.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;

use bytes::Bytes;
use parquet::basic::{Encoding, Type as Physical};
use parquet::column::page::{CompressedPage, Page, PageWriter as _};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, PageEncodingStats};
use parquet::file::statistics::ValueStatistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::schema::{self, DICTIONARY_BYTES};
use crate::store::varint;

/// Rows of a page, as many as the library gives one.
const PAGE_ROWS: usize = 20_000;
/// The code of a row without a text.
const NULL: u32 = u32::MAX;
/// Stands for a number that no row had yet.
const UNSEEN: u32 = NULL - 1;
/// Codes are packed so many at a time, which is also the least that a run is worth.
const GROUP: usize = 8;
/// Most groups that are packed behind one head, so that it is one byte.
const MOST_GROUPS: usize = 63;

/// The values of a column.
pub(super) struct Coded<'v> {
    /// Each text once, in the order in which rows have come to it.
    dictionary: Vec<&'v ByteArray>,
    dictionary_bytes: usize,
    /// Of each row the position of its text in the dictionary, or [`NULL`].
    codes: Vec<u32>,
}

impl<'v> Coded<'v> {
    /// Of rows with these `numbers`, which are positions in `texts`; a row whose number leads nowhere has none.
    pub(super) fn of(texts: &'v [Option<ByteArray>], numbers: impl Iterator<Item = u32>) -> Coded<'v> {
        let mut coded = Coded { dictionary: Vec::new(), dictionary_bytes: 0, codes: Vec::new() };
        let mut codes = vec![UNSEEN; texts.len()];
        // Several numbers may stand for the same text.
        let mut places: HashMap<&[u8], u32> = HashMap::new();
        for number in numbers {
            let code = match codes.get_mut(number as usize) {
                Some(code) if *code == UNSEEN => {
                    let text = texts.get(number as usize).and_then(Option::as_ref);
                    *code = text.map_or(NULL, |text| coded.code(text, &mut places));
                    *code
                }
                Some(code) => *code,
                None => NULL,
            };
            coded.codes.push(code);
        }
        coded
    }

    fn code(&mut self, text: &'v ByteArray, places: &mut HashMap<&'v [u8], u32>) -> u32 {
        match places.entry(text.data()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let code = *place.insert(self.dictionary.len() as u32);
                self.dictionary.push(text);
                self.dictionary_bytes += size_of::<u32>() + text.len();
                code
            }
        }
    }

    /// Whether its texts are more than a dictionary should hold.
    pub(super) fn is_too_much(&self) -> bool {
        self.dictionary_bytes > DICTIONARY_BYTES
    }

    /// The texts, row by row.
    pub(super) fn texts(&self) -> impl Iterator<Item = Option<&'v ByteArray>> {
        self.codes.iter().map(|code| self.dictionary.get(*code as usize).copied())
    }

    /// The chunk of the column `descr`; with the least and the greatest of its texts, if `statistics`.
    pub(super) fn chunk(
        &self,
        descr: &ColumnDescPtr,
        statistics: bool,
    ) -> Result<(Bytes, ColumnCloseResult)> {
        let nullable = descr.max_def_level() > 0;
        if descr.physical_type() != Physical::BYTE_ARRAY {
            return Err(ParquetError::General("texts in a column of something else".into()));
        }
        let nulls = self.codes.iter().filter(|code| **code == NULL).count();
        if !nullable && nulls > 0 {
            return Err(ParquetError::General("a null in a column that has none".into()));
        }
        let mut pages = Pages::new()?;
        pages.dictionary(self.plain(), self.dictionary.len())?;
        for rows in self.codes.chunks(PAGE_ROWS) {
            pages.data(self.page(rows, nullable), rows.len())?;
        }
        let (rows, bytes) = (self.codes.len(), Bytes::from(pages.sink.into_inner()?));
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
            let texts = || self.dictionary.iter().copied();
            let (least, most) =
                (texts().min_by_key(|text| text.data()), texts().max_by_key(|text| text.data()));
            let told = ValueStatistics::new(least.cloned(), most.cloned(), None, Some(nulls as u64), false);
            metadata = metadata.set_statistics(told.into());
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

    /// The dictionary: each text behind its length.
    fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::with_capacity(self.dictionary_bytes);
        for text in &self.dictionary {
            plain.extend((text.len() as u32).to_le_bytes());
            plain.extend(text.data());
        }
        plain
    }

    /// A page of the rows with these `codes`: which have a text, where not all must, and the codes of those that have.
    fn page(&self, codes: &[u32], nullable: bool) -> Vec<u8> {
        let mut page = Vec::new();
        let present: Vec<u32>;
        let mut values = codes;
        if nullable {
            let levels: Vec<u32> = codes.iter().map(|code| u32::from(*code != NULL)).collect();
            let mut told = Vec::new();
            runs(&levels, 1, &mut told);
            page.extend((told.len() as u32).to_le_bytes());
            page.extend(told);
            present = codes.iter().copied().filter(|code| *code != NULL).collect();
            values = &present;
        }
        // Codes rise as texts come up: the first pages need fewer bits.
        let width = u32::BITS - values.iter().max().map_or(u32::BITS, |most| most.leading_zeros());
        page.push(width as u8);
        runs(values, width, &mut page);
        page
    }
}

/// Appends `values` of `width` bits, in Parquet's hybrid of runs and packed groups.
fn runs(values: &[u32], width: u32, out: &mut Vec<u8>) {
    let mut packed: Vec<u32> = Vec::new();
    let mut rest = values;
    while let Some(value) = rest.first() {
        let run = rest.iter().take_while(|next| *next == value).count();
        // What is packed comes in whole groups: a run gives the last one what it lacks. All that there is, is a run however
        // short: codes of no bits are told by nothing else.
        let lacks = packed.len().next_multiple_of(GROUP) - packed.len();
        let is_run = run >= lacks + GROUP || (packed.is_empty() && run == rest.len());
        let given = if is_run { lacks } else { run };
        let (to_pack, _) = rest.split_at(given);
        packed.extend(to_pack);
        if is_run {
            pack(&packed, width, out);
            packed.clear();
            varint::put(out, ((run - given) as u64) << 1);
            let bytes = value.to_le_bytes();
            out.extend(bytes.iter().take(width.div_ceil(u8::BITS) as usize));
        }
        rest = rest.get(run..).unwrap_or_default();
    }
    pack(&packed, width, out);
}

/// Appends `values` packed, the last group filled up with zeros.
fn pack(values: &[u32], width: u32, out: &mut Vec<u8>) {
    for values in values.chunks(MOST_GROUPS * GROUP) {
        let groups = values.len().div_ceil(GROUP);
        varint::put(out, (groups as u64) << 1 | 1);
        let end = out.len() + groups * width as usize;
        let (mut bits, mut held) = (0u64, 0);
        for value in values {
            bits |= u64::from(*value) << held;
            held += width;
            while held >= u8::BITS {
                out.push(bits as u8);
                bits >>= u8::BITS;
                held -= u8::BITS;
            }
        }
        if held > 0 {
            out.push(bits as u8);
        }
        out.resize(end, 0);
    }
}

/// The pages of a chunk in the making.
struct Pages {
    sink: TrackedWrite<Vec<u8>>,
    compressor: zstd::bulk::Compressor<'static>,
    encodings: Vec<PageEncodingStats>,
    uncompressed: usize,
    /// Where the first behind the dictionary begins.
    data_at: Option<u64>,
}

impl Pages {
    fn new() -> Result<Pages> {
        let compressor = zstd::bulk::Compressor::new(schema::ZSTD_LEVEL).map_err(external)?;
        let sink = TrackedWrite::new(Vec::new());
        Ok(Pages { sink, compressor, encodings: Vec::new(), uncompressed: 0, data_at: None })
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
        let page = page(self.compressor.compress(body).map_err(external)?.into());
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
    use crate::store::archive::columns::TableWriter;
    use crate::store::archive::schema::Table;
    use parquet::column::reader::get_typed_column_reader;
    use parquet::data_type::{ByteArrayType, Int64Type};
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
        let fill = |group: &mut super::super::columns::Group<'_>| {
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
                    group.coded(texts, required().into_iter())?;
                    group.coded(texts, numbers.iter().copied())
                }
            }
        };
        file.group(fill).unwrap();
        file.finish().unwrap().bytes.into()
    }

    type Rows = (Vec<ByteArray>, Vec<i16>);

    fn read(file: &Bytes, column: usize) -> (Rows, RowGroupMetaData) {
        let reader = SerializedFileReader::new(file.clone()).unwrap();
        let group = reader.get_row_group(0).unwrap();
        let rows = usize::try_from(group.metadata().num_rows()).unwrap();
        let mut values = get_typed_column_reader::<ByteArrayType>(group.get_column_reader(column).unwrap());
        let (mut texts, mut levels) = (Vec::new(), Vec::new());
        let (records, ..) = values.read_records(rows + 1, Some(&mut levels), None, &mut texts).unwrap();
        assert_eq!(records, rows);
        let mut times = get_typed_column_reader::<Int64Type>(group.get_column_reader(0).unwrap());
        let mut read = Vec::new();
        times.read_records(rows + 1, None, None, &mut read).unwrap();
        assert_eq!(read, (0..rows as i64).collect::<Vec<_>>(), "what lies beside it");
        ((texts, levels), group.metadata().clone())
    }

    fn alike(texts: &[Option<ByteArray>], numbers: &[u32]) {
        let [coded, written] = [false, true].map(|by_library| file(texts, numbers, by_library));
        for column in [REQUIRED, OPTIONAL] {
            let ((got, got_group), (wanted, wanted_group)) = (read(&coded, column), read(&written, column));
            assert!(got == wanted, "column {column} of {} rows", numbers.len());
            let [got, wanted] = [&got_group, &wanted_group].map(|group| group.column(column));
            assert_eq!(got.statistics(), wanted.statistics());
            assert_eq!(got.encodings_mask(), wanted.encodings_mask());
            assert_eq!(got.page_encoding_stats(), wanted.page_encoding_stats());
            assert_eq!((got.num_values(), got.compression()), (wanted.num_values(), wanted.compression()));
            assert!(got.dictionary_page_offset() < Some(got.data_page_offset()));
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
    fn texts_beyond_what_a_dictionary_should_hold_are_left_to_the_library() {
        const TEXT_BYTES: usize = 1 << 20;
        let count = DICTIONARY_BYTES / TEXT_BYTES + 1;
        let long = "x".repeat(TEXT_BYTES);
        let texts: Vec<Option<ByteArray>> =
            (0..count).map(|at| Some(format!("{at} {long}").as_str().into())).collect();
        let numbers: Vec<u32> = (0..count as u32).collect();
        assert!(Coded::of(&texts, numbers.iter().copied()).is_too_much());
        assert!(!Coded::of(&texts, numbers.iter().copied().skip(2)).is_too_much());
        let ((read, _), _) = read(&file(&texts, &numbers, false), REQUIRED);
        assert!(read.into_iter().map(Some).eq(texts));
    }

    #[test]
    fn a_column_that_must_have_texts_is_refused_without() {
        let mut file = TableWriter::new(Table::Usage, 2).unwrap();
        let refused = file.group(|group| {
            group.int([Some(1)].into_iter())?;
            group.coded(&[None], [0].into_iter())
        });
        assert!(refused.unwrap_err().to_string().contains("a null in a column that has none"));
        let mut file = TableWriter::new(Table::Usage, 1).unwrap();
        let refused = file.group(|group| group.coded(&texts(1), [0].into_iter()));
        assert!(refused.unwrap_err().to_string().contains("texts in a column of something else"));
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
    }
}
