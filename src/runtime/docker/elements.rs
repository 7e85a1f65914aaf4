//! A JSON array in pieces, as it comes over a socket, to its elements, one at a time. Pure.
//!
//! Promises: no more than one element is held, and none that is larger than is said; what is larger is left out and
//! counted; any bytes, cut anywhere, are elements or an error. Not here: whether an element is JSON.

use thiserror::Error;

/// What was read is no array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("it is no list")]
pub struct NoList;

/// An array that is being read.
#[derive(Debug)]
pub struct Elements {
    most: usize,
    place: Place,
    element: Vec<u8>,
    /// Whether it is larger than is read.
    is_too_large: bool,
    /// Brackets that are open in it.
    depth: usize,
    text: Text,
    left_out: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    /// Behind the bracket: it may be empty.
    First,
    Within,
    Behind,
}

/// Whether brackets and commas are text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    /// Behind a backslash.
    Escaped,
}

impl Elements {
    /// Nothing is read yet. Elements of more than `most` bytes are left out.
    pub fn new(most: usize) -> Elements {
        Elements {
            most,
            place: Place::Before,
            element: Vec::new(),
            is_too_large: false,
            depth: 0,
            text: Text::Outside,
            left_out: 0,
        }
    }

    /// Takes in the next piece, and returns the elements that end in it.
    ///
    /// # Errors
    /// This is no array.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Vec<Vec<u8>>, NoList> {
        let mut ended = Vec::new();
        for &byte in piece {
            let is_space = byte.is_ascii_whitespace();
            match (self.place, byte) {
                (Place::Before | Place::Behind, _) if is_space => {}
                (Place::Before, b'[') => self.place = Place::First,
                (Place::Before | Place::Behind, _) => return Err(NoList),
                (Place::First, _) if is_space => {}
                (Place::First, b']') => self.place = Place::Behind,
                (Place::First | Place::Within, _) => {
                    self.place = Place::Within;
                    self.within(byte, &mut ended)?;
                }
            }
        }
        Ok(ended)
    }

    /// It ends here. Returns how many elements were left out.
    ///
    /// # Errors
    /// There is more of it, or it was no array.
    pub fn end(self) -> Result<usize, NoList> {
        (self.place == Place::Behind).then_some(self.left_out).ok_or(NoList)
    }

    fn within(&mut self, byte: u8, ended: &mut Vec<Vec<u8>>) -> Result<(), NoList> {
        match (self.text, byte) {
            (Text::Escaped, _) | (Text::Outside, b'"') => self.text = Text::Inside,
            (Text::Inside, b'\\') => self.text = Text::Escaped,
            (Text::Inside, b'"') => self.text = Text::Outside,
            (Text::Inside, _) => {}
            (Text::Outside, b'[' | b'{') => self.depth += 1,
            (Text::Outside, b',' | b']') if self.depth == 0 => {
                if byte == b']' {
                    self.place = Place::Behind;
                }
                let element = std::mem::take(&mut self.element);
                if std::mem::take(&mut self.is_too_large) {
                    self.left_out += 1;
                } else {
                    ended.push(element);
                }
                return Ok(());
            }
            (Text::Outside, b']' | b'}') => self.depth = self.depth.checked_sub(1).ok_or(NoList)?,
            (Text::Outside, _) => {}
        }
        if self.element.len() >= self.most {
            self.is_too_large = true;
            self.element = Vec::new();
        }
        if !self.is_too_large {
            self.element.push(byte);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const MOST: usize = 64;

    /// The elements of `text` and how many were left out, fed in pieces of so many bytes.
    fn elements(text: &[u8], piece: usize) -> Result<(Vec<Vec<u8>>, usize), NoList> {
        let (mut all, mut reader) = (Vec::new(), Elements::new(MOST));
        for piece in text.chunks(piece) {
            all.extend(reader.feed(piece)?);
            assert!(reader.element.len() <= MOST);
        }
        Ok((all, reader.end()?))
    }

    #[test]
    fn an_element_that_is_too_large_hides_no_other() {
        let large = json!({ "a": ["]", "x".repeat(100), { "b": "\"," }] }).to_string();
        let text = format!(" [ {{\"c\":1}} ,{large},[2, [3]]\n,{large}] ");
        for piece in [1, 7, 1000] {
            let (all, left_out) = elements(text.as_bytes(), piece).unwrap();
            let all: Vec<Value> =
                all.iter().map(|element| serde_json::from_slice(element).unwrap()).collect();
            assert_eq!((all, left_out), (vec![json!({ "c": 1 }), json!([2, [3]])], 2));
        }
        assert_eq!(elements(b" [ ] ", 2), Ok((vec![], 0)));
        for none in ["", "{}", "[1", "[\"]", "[1}]", "[1]]", "[] 1", "null"] {
            assert_eq!(elements(none.as_bytes(), 3), Err(NoList), "{none}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "[\\PC\"\\\\\\[\\]{},]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 8, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::vec((".{0,3}", inner), 0..3)
                    .prop_map(|pairs| { Value::Object(pairs.into_iter().collect()) }),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_array_is_its_elements_however_it_is_cut(
            values in proptest::collection::vec(value(), 0..6), piece in 1..40_usize, spaced: bool,
        ) {
            let texts: Vec<String> = values.iter().map(Value::to_string).collect();
            let text = format!("[{}]", texts.join(if spaced { " , " } else { "," }));
            let (all, left_out) = elements(text.as_bytes(), piece).unwrap();
            let all: Vec<Value> = all.iter().map(|element| serde_json::from_slice(element).unwrap()).collect();
            // Spaces around one belong to it.
            let fits = |text: &&String| text.len() + 2 <= MOST;
            let sure = texts.iter().filter(fits).count();
            prop_assert_eq!(all.len() + left_out, values.len());
            prop_assert!(all.len() >= sure);
            let mut left = values.iter();
            prop_assert!(all.iter().all(|element| left.any(|value| value == element)), "in order");
        }

        #[test]
        fn any_bytes_are_elements_or_an_error(text in "[\\[\\]{},\"\\\\a1 ]{0,60}", piece in 1..9_usize) {
            if let Ok((all, left_out)) = elements(text.as_bytes(), piece) {
                prop_assert!(all.iter().all(|element| element.len() <= MOST));
                if let Ok(Value::Array(values)) = serde_json::from_str(&text) {
                    prop_assert_eq!(values.len(), all.len() + left_out);
                }
            } else {
                prop_assert!(!serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_array()));
            }
        }
    }
}
