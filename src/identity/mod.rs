//! Which function is it: platform rules over plain data. Pure: no I/O, the same answer for the same input.
