//! Framing: `magic | nonce | seq | len | crc32 | payload`, little endian. Pure; where frames lie in a file is
//! [`super::scan`]'s matter.
//!
//! The nonce is random for each journal and part of what the checksum covers. A reader that looks for the next frame
//! behind damage must not take one that is not this journal's: an old journal's, in disk blocks that a power failure
//! left at the end of this one, or one that a tenant built into a name.

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 20;
/// How every frame begins. The first byte never occurs in UTF-8.
pub(super) const MAGIC: [u8; 4] = *b"\xf5fnJ";
/// Longest payload in bytes, compressed. A longer one is neither written nor read.
pub(super) const MAX_PAYLOAD_BYTES: usize = 64 << 20;

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The journal's own number.
    pub nonce: u32,
    /// Position among the journal's frames, from 0.
    pub seq: u32,
    /// Length of the payload in bytes.
    pub len: u32,
    crc: u32,
}

impl Header {
    /// The header of `payload`; none if that is too long.
    pub(super) fn of(nonce: u32, seq: u32, payload: &[u8]) -> Option<Header> {
        let len = u32::try_from(payload.len()).ok().filter(|len| *len as usize <= MAX_PAYLOAD_BYTES)?;
        let crc = checksum(nonce, seq, len, payload);
        Some(Header { nonce, seq, len, crc })
    }

    /// Its bytes.
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let fields =
            [MAGIC].into_iter().chain([self.nonce, self.seq, self.len, self.crc].map(u32::to_le_bytes));
        bytes.chunks_exact_mut(4).zip(fields).for_each(|(to, from)| to.copy_from_slice(&from));
        bytes
    }

    /// The header `bytes` begin with; none if that is none, or promises too long a payload.
    pub(super) fn parse(bytes: &[u8]) -> Option<Header> {
        let (fields, _) = bytes.get(..HEADER_BYTES)?.as_chunks::<4>();
        let &[magic, nonce, seq, len, crc] = fields else { return None };
        let [nonce, seq, len, crc] = [nonce, seq, len, crc].map(u32::from_le_bytes);
        (magic == MAGIC && len as usize <= MAX_PAYLOAD_BYTES).then_some(Header { nonce, seq, len, crc })
    }

    /// Whether `payload` is the one this header was made for.
    pub(super) fn holds(&self, payload: &[u8]) -> bool {
        payload.len() == self.len as usize && checksum(self.nonce, self.seq, self.len, payload) == self.crc
    }
}

fn checksum(nonce: u32, seq: u32, len: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    [nonce, seq, len].iter().for_each(|field| hasher.update(&field.to_le_bytes()));
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_frame_is_read_as_it_was_written(nonce: u32, seq: u32, payload: Vec<u8>) {
            let header = Header::of(nonce, seq, &payload).unwrap();
            prop_assert_eq!(Header::parse(&header.to_bytes()), Some(header));
            prop_assert!(header.holds(&payload));
        }

        #[test]
        fn any_single_flip_is_noticed(payload in proptest::collection::vec(any::<u8>(), 1..80), bit: prop::sample::Index) {
            let mut bytes = Header::of(7, 3, &payload).unwrap().to_bytes().to_vec();
            bytes.extend_from_slice(&payload);
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let sound = Header::parse(&bytes).is_some_and(|header| header.holds(&bytes[HEADER_BYTES..]));
            prop_assert!(!sound);
        }

        #[test]
        fn any_bytes_are_a_header_or_none(bytes: Vec<u8>) {
            let _ = Header::parse(&bytes);
        }
    }

    #[test]
    fn a_lying_length_is_no_header() {
        let mut bytes = Header::of(7, 3, b"x").unwrap().to_bytes();
        bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Header::parse(&bytes), None);
    }
}
