//! How many samples were lost: the store's estimate, which the archive keeps too.

pub use crate::store::loss::rates;
