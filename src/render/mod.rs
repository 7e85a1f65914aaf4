//! Answers to tables, folded text and flame graphs.
