//! Inputs made of others by the changes that fuzzers make: the same row of them for the same name, each time and on
//! each machine.

/// A row of changed inputs.
pub struct Changes {
    state: u64,
}

/// Numbers that parsers trip over.
const EDGES: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];
/// Characters that texts are made of.
const MARKS: &[u8] = b"0123456789abcdef -+.,:;/%=()[]{}<>\"'\\\n\t\0\xff";

impl Changes {
    /// The row of `name`.
    pub fn new(name: &str) -> Changes {
        Changes { state: u64::from(crc32fast::hash(name.as_bytes())) | 1 << 40 }
    }

    /// The next: one of `inputs`, changed in one to eight places, and `longest` bytes long at most.
    pub fn of(&mut self, inputs: &[Vec<u8>], longest: usize) -> Vec<u8> {
        let mut bytes = self.one_of(inputs).clone();
        for _ in 0..=self.below(8) {
            self.change(&mut bytes, inputs);
        }
        bytes.truncate(longest);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let some = 1 + self.below(16);
        let end = (at + some).min(bytes.len());
        match self.below(8) {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (some % 8)),
            1 => {
                let byte = self.next() as u8;
                bytes.iter_mut().skip(at).take(1).for_each(|at| *at = byte);
            }
            2 => {
                let number = EDGES[self.below(EDGES.len())].wrapping_add(self.next() % 3).to_le_bytes();
                let width = 1 << self.below(4);
                bytes.iter_mut().skip(at).zip(&number[..width]).for_each(|(to, from)| *to = *from);
            }
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            5 => {
                let mark = MARKS[self.below(MARKS.len())];
                bytes.splice(at..at, std::iter::repeat_n(mark, 1 + some % 3));
            }
            6 => {
                // The begin of one and the end of another.
                let other = self.one_of(inputs);
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                let other = self.one_of(inputs);
                let from = self.below(other.len() + 1);
                let part = &other[from..(from + some).min(other.len())];
                bytes.splice(at..end, part.iter().copied());
            }
        }
    }

    fn one_of<'a>(&mut self, inputs: &'a [Vec<u8>]) -> &'a Vec<u8> {
        &inputs[self.below(inputs.len())]
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
