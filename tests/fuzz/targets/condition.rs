//! Conditions of `diff --fail-if`, as people type them: any text is one or an error, and any frame is meant or not.
#![no_main]

use fnscope::query::{Condition, FrameKey, Pattern};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    // A condition, a frame and a module, a line each.
    let mut lines = input.splitn(3, '\n');
    let [text, frame, module] = [(); 3].map(|()| lines.next().unwrap_or_default());
    if let Ok(condition) = text.parse::<Condition>() {
        assert!(condition.bar.is_finite());
        assert_eq!(condition.to_string().parse(), Ok(condition));
    }
    let key = FrameKey { frame: frame.into(), module: Some(module.into()) };
    if let Ok(pattern) = text.parse::<Pattern>() {
        let _ = pattern.means(&key);
    }
    if let Ok(itself) = frame.parse::<Pattern>() {
        assert!(frame != frame.trim() || itself.means(&key), "{frame:?} means itself");
    }
    let (key, _) = FrameKey::of(frame);
    assert_eq!(FrameKey::of(frame).0, key);
});
