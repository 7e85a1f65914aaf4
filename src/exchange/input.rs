//! Bytes of a stranger: their begin looked at without being lost, unzipped where they are zipped.
//!
//! Promises: memory for one buffer, however much comes; a gzip bomb ends in an error.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

/// So much of an input is looked at to tell its format.
const BEGIN_BYTES: usize = 64 << 10;
/// So little is enough where more does not come at once.
const ENOUGH_BYTES: usize = 4 << 10;
/// Unzipped bytes for one zipped byte; gzip reaches 1032 on zeros, profiles 20 to 100.
const MAX_RATIO: u64 = 700;
/// Unzipped bytes from which that counts.
const RATIO_FROM_BYTES: u64 = 64 << 20;

/// An input whose begin is known.
pub struct Input {
    /// Its first bytes, unzipped.
    pub begin: Vec<u8>,
    /// All of it, unzipped.
    pub all: Box<dyn BufRead>,
}

impl Input {
    /// Of `source`.
    ///
    /// # Errors
    /// If it cannot be read, or is no sound gzip although it begins like one.
    pub fn new(source: Box<dyn Read>) -> io::Result<Input> {
        let plain = Input::plain(source)?;
        if !plain.begin.starts_with(&[0x1f, 0x8b]) {
            return Ok(plain);
        }
        let taken = Rc::new(Cell::new(0));
        let counted = Counted { inner: plain.all, taken: Rc::clone(&taken) };
        Input::plain(Box::new(Unzipped {
            inner: MultiGzDecoder::new(BufReader::new(counted)),
            taken,
            given: 0,
        }))
    }

    fn plain(mut source: Box<dyn Read>) -> io::Result<Input> {
        let mut begin = vec![0; BEGIN_BYTES];
        let mut filled = 0;
        while filled < begin.len() {
            let room = begin.get_mut(filled..).unwrap_or_default();
            match source.read(room) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    if filled >= ENOUGH_BYTES && read < ENOUGH_BYTES {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        begin.truncate(filled);
        let all = Cursor::new(begin.clone()).chain(source);
        Ok(Input { begin, all: Box::new(BufReader::with_capacity(256 << 10, all)) })
    }
}

struct Counted<R> {
    inner: R,
    taken: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.taken.set(self.taken.get().saturating_add(read as u64));
        Ok(read)
    }
}

struct Unzipped<R> {
    inner: R,
    taken: Rc<Cell<u64>>,
    given: u64,
}

impl<R: Read> Read for Unzipped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer).map_err(|error| {
            let kind = if error.kind() == io::ErrorKind::UnexpectedEof {
                error.kind()
            } else {
                io::ErrorKind::InvalidData
            };
            io::Error::new(kind, format!("unzip: {error}; the gzip is damaged or cut off"))
        })?;
        self.given = self.given.saturating_add(read as u64);
        if self.given > RATIO_FROM_BYTES && self.given / MAX_RATIO > self.taken.get() {
            let what =
                format!("unzip: {} bytes make more than {}: a gzip bomb", self.taken.get(), self.given);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write as _;

    fn zip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    fn read(bytes: Vec<u8>) -> io::Result<(Vec<u8>, u64)> {
        let mut input = Input::new(Box::new(Cursor::new(bytes)))?;
        let read = io::copy(&mut input.all, &mut io::sink())?;
        Ok((input.begin, read))
    }

    #[test]
    fn zipped_and_plain_are_one() {
        let text = b"a;b 1\n".repeat(50_000);
        for bytes in [text.clone(), zip(&text), [zip(&text[..60_000]), zip(&text[60_000..])].concat()] {
            let (begin, read) = read(bytes).unwrap();
            assert_eq!((begin.len(), read), (BEGIN_BYTES, text.len() as u64));
        }
        assert_eq!(read(Vec::new()).unwrap(), (Vec::new(), 0));
    }

    #[test]
    fn damaged_cut_off_and_exploding_gzip_is_an_error() {
        let mut zipped = zip(&b"main 1\n".repeat(1_000_000));
        let cut = zipped[..zipped.len() - 9].to_vec();
        assert!(read(cut).unwrap_err().to_string().contains("cut off"));
        let middle = zipped.len() / 2;
        zipped[middle] ^= 0x55;
        assert!(read(zipped).unwrap_err().to_string().contains("damaged"));
        let error = read(zip(&vec![0; 100 << 20])).map(|(_, read)| read);
        // zlib's fast level stays below what its best reaches.
        let best = {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
            gzip.write_all(&vec![0; 100 << 20]).unwrap();
            gzip.finish().unwrap()
        };
        let bomb = read(best).unwrap_err();
        assert!(bomb.to_string().contains("gzip bomb"), "{bomb} {error:?}");
    }
}
