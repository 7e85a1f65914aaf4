//! Samples of a window to a profile.
