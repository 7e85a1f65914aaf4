//! Pages as this store writes them, and no others: the reader below panics over pages that no writer makes, and a file
//! may be forged by somebody who knows its checksums.

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};

/// A reader of pages that refuses strange ones.
pub(super) struct KnownPages<R> {
    pages: R,
    has_dictionary: bool,
}

impl<R: PageReader> KnownPages<R> {
    pub(super) fn new(pages: R) -> KnownPages<R> {
        KnownPages { pages, has_dictionary: false }
    }
}

/// Says what is strange about `page`; `has_dictionary` if a dictionary came before it.
fn strange(page: &Page, has_dictionary: bool) -> Option<&'static str> {
    match page {
        Page::DictionaryPage { encoding, .. } => {
            let known = matches!(encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY) && !has_dictionary;
            (!known).then_some("a strange dictionary")
        }
        Page::DataPage { encoding, def_level_encoding, rep_level_encoding, .. } => {
            if [def_level_encoding, rep_level_encoding].into_iter().any(|levels| *levels != Encoding::RLE) {
                return Some("strange levels");
            }
            match encoding {
                Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => {
                    (!has_dictionary).then_some("no dictionary")
                }
                Encoding::PLAIN | Encoding::RLE | Encoding::DELTA_BINARY_PACKED => None,
                _ => Some("values in a strange encoding"),
            }
        }
        Page::DataPageV2 { .. } => Some("pages of another version"),
    }
}

impl<R: PageReader> PageReader for KnownPages<R> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(page) = self.pages.get_next_page()? else { return Ok(None) };
        if let Some(what) = strange(&page, self.has_dictionary) {
            return Err(ParquetError::General(format!("{what}, as no store has")));
        }
        self.has_dictionary |= matches!(page, Page::DictionaryPage { .. });
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

impl<R: PageReader> Iterator for KnownPages<R> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Result<Page>> {
        self.get_next_page().transpose()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn pages_that_no_store_has_are_refused() {
        let data = |encoding, def_level_encoding, rep_level_encoding| Page::DataPage {
            buf: Bytes::new(),
            num_values: 1,
            encoding,
            def_level_encoding,
            rep_level_encoding,
            statistics: None,
        };
        let dictionary =
            |encoding| Page::DictionaryPage { buf: Bytes::new(), num_values: 1, encoding, is_sorted: false };
        let second = Page::DataPageV2 {
            buf: Bytes::new(),
            encoding: Encoding::PLAIN,
            num_values: 1,
            num_nulls: 9,
            num_rows: 1,
            def_levels_byte_len: 7,
            rep_levels_byte_len: 7,
            is_compressed: false,
            statistics: None,
        };
        const RLE: Encoding = Encoding::RLE;
        for (page, has_dictionary, expected) in [
            (data(Encoding::PLAIN, RLE, RLE), false, None),
            (data(Encoding::DELTA_BINARY_PACKED, RLE, RLE), false, None),
            (data(Encoding::PLAIN_DICTIONARY, RLE, RLE), true, None),
            (data(Encoding::RLE_DICTIONARY, RLE, RLE), false, Some("no dictionary")),
            (data(Encoding::PLAIN, Encoding::PLAIN, RLE), false, Some("strange levels")),
            (data(Encoding::PLAIN, RLE, Encoding::DELTA_BYTE_ARRAY), false, Some("strange levels")),
            (data(Encoding::BYTE_STREAM_SPLIT, RLE, RLE), true, Some("values in a strange encoding")),
            (dictionary(Encoding::PLAIN_DICTIONARY), false, None),
            (dictionary(Encoding::PLAIN_DICTIONARY), true, Some("a strange dictionary")),
            (dictionary(Encoding::RLE), false, Some("a strange dictionary")),
            (second, true, Some("pages of another version")),
        ] {
            assert_eq!(strange(&page, has_dictionary), expected, "{page:?}");
        }
    }
}
