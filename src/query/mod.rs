//! Questions over the store.
