//! Where a thread's stack really begins.
//!
//! Start code sets no frame pointer, so a chain that has reached it goes on through whatever the register held, and
//! reads a word or two that are no frames. What stands above a thread's first function is dropped; that a stack
//! reaches it makes the stack complete.

/// Functions that nothing calls: the C library's and the loader's start, a thread's first function, Go's.
///
/// A tenant who calls a function of his own so cuts his own stacks short, and nobody else's.
const ROOTS: [&str; 12] = [
    "_start",
    "__libc_start_main",
    "__libc_start_main_impl",
    "__libc_start_call_main",
    "_dl_start_user",
    "start_thread",
    "clone3",
    "__clone3",
    "__clone",
    "runtime.goexit",
    "runtime.mstart",
    "runtime.rt0_go",
];

/// How many of `frames`, leaf first, belong to a stack: up to its outermost root. None if it reaches no root.
pub(super) fn depth<'a>(
    frames: impl DoubleEndedIterator<Item = &'a str> + ExactSizeIterator,
) -> Option<usize> {
    frames.enumerate().rev().find(|(_, frame)| is_root(frame)).map(|(at, _)| at + 1)
}

/// Whether `frame`, in the grammar of frames, is a native one with a root's name.
fn is_root(frame: &str) -> bool {
    // Brackets of a module are escaped: a kind suffix is what stands behind the first one that closes.
    let native = |module: &str| module.find(']') == module.len().checked_sub(1);
    frame.split_once(" [").is_some_and(|(symbol, module)| ROOTS.contains(&symbol) && native(module))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_ends_at_its_outermost_root() {
        for (frames, expected) in [
            (
                vec!["leaf [a]", "main [a]", "__libc_start_call_main [a]", "garbage [a]", "[unknown]+0x0"],
                Some(3),
            ),
            (
                vec!["leaf [a]", "__libc_start_call_main [a]", "__libc_start_main_impl [a]", "_start [a]"],
                Some(4),
            ),
            (vec!["leaf [a]", "main [a]", "[unknown]+0x0"], None),
            (vec!["_start [kernel]_[k]", "main [a]"], None),
            (vec!["a::_start [a]", "_start"], None),
            (vec![], None),
        ] {
            assert_eq!(depth(frames.iter().copied()), expected, "{frames:?}");
        }
    }
}
