//! Labels of images by image id: what an image carries never changes under its id, so it is asked for once.
//!
//! Promises: bounded memory. Not here: asking for them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Images remembered. A host has some hundreds; beyond it all are asked for again.
const MAX_IMAGES: usize = 512;

/// What is known of images.
#[derive(Debug, Default)]
pub struct Images {
    labels: Mutex<HashMap<String, Vec<(String, String)>>>,
}

impl Images {
    /// The labels of image `id`, if they were asked for before.
    pub fn get(&self, id: &str) -> Option<Vec<(String, String)>> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Remembers the labels of image `id`, which are bounded already.
    pub fn put(&self, id: String, labels: Vec<(String, String)>) {
        let mut known = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_IMAGES {
            known.clear();
        }
        known.insert(id, labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_remembered_and_never_too_many() {
        let images = Images::default();
        for n in 0..10 * MAX_IMAGES {
            let labels = vec![("n".to_owned(), n.to_string())];
            images.put(n.to_string(), labels.clone());
            assert_eq!(images.get(&n.to_string()), Some(labels));
        }
        assert!(images.labels.lock().unwrap().len() <= MAX_IMAGES);
        assert_eq!(images.get("0"), None);
    }
}
