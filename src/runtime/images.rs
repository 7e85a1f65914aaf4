//! Labels of images by image id: what an image carries never changes under its id, so it is asked for once.
//!
//! Promises: bounded memory; labels that were cut to other keys than those asked with are not known. Not here: asking
//! for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::identity::Keys;

/// Images remembered. A host has some hundreds; beyond it all are asked for again.
const MAX_IMAGES: usize = 512;

/// What is known of images.
#[derive(Debug, Default)]
pub struct Images(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// What the labels were cut to.
    keys: Arc<Keys>,
    labels: HashMap<String, Vec<(String, String)>>,
}

impl Images {
    /// The labels of image `id` cut to `keys`, if they were asked for before.
    pub fn get(&self, id: &str, keys: &Arc<Keys>) -> Option<Vec<(String, String)>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.labels.get(id).filter(|_| Arc::ptr_eq(&known.keys, keys)).cloned()
    }

    /// Remembers the labels of image `id`, which are bounded already, cut to `keys`.
    pub fn put(&self, id: String, labels: Vec<(String, String)>, keys: &Arc<Keys>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&known.keys, keys) || known.labels.len() >= MAX_IMAGES {
            *known = Known { keys: keys.clone(), labels: HashMap::new() };
        }
        known.labels.insert(id, labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_remembered_and_never_too_many() {
        let (images, keys) = (Images::default(), Arc::default());
        for n in 0..10 * MAX_IMAGES {
            let labels = vec![("n".to_owned(), n.to_string())];
            images.put(n.to_string(), labels.clone(), &keys);
            assert_eq!(images.get(&n.to_string(), &keys), Some(labels));
        }
        assert!(images.0.lock().unwrap().labels.len() <= MAX_IMAGES);
        assert_eq!(images.get("0", &keys), None);
    }

    #[test]
    fn other_keys_ask_anew() {
        let (images, keys, others) = (Images::default(), Arc::default(), Arc::default());
        images.put("a".into(), Vec::new(), &keys);
        assert_eq!((images.get("a", &keys), images.get("a", &others)), (Some(Vec::new()), None));
        images.put("b".into(), Vec::new(), &others);
        assert_eq!((images.get("a", &others), images.get("b", &others)), (None, Some(Vec::new())));
    }
}
