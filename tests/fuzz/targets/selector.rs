//! Names of functions and times, as people type them; names as they are shown.
#![no_main]

use fnscope::model::Timestamp;
use fnscope::query::{FunctionId, Part, Selector, When};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
enum Name<'a> {
    Null,
    Named(&'a str),
    Pool(&'a str),
}

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    parts: [Name<'a>; 4],
    now: i64,
    text: &'a str,
}

fuzz_target!(|input: Input<'_>| {
    if let Ok(selector) = input.text.parse::<Selector>() {
        assert_eq!(selector.to_string().parse(), Ok(selector));
    }
    if let Ok(when) = input.text.parse::<When>() {
        let at = when.at(Timestamp(input.now));
        assert!(!matches!(when, When::Ago(us) if us < 0), "{at}");
    }
    let [platform, namespace, function, revision] = input.parts.map(|name| match name {
        Name::Named(name) if !name.is_empty() => Part::Name(name.into()),
        Name::Pool(kind) => Part::Pool(kind.into()),
        _ => Part::Null,
    });
    let id = FunctionId { platform, namespace, function, revision };
    let text = id.to_string();
    assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text:?}");
    let selector: Selector = text.parse().expect("a name that is shown can be typed");
    assert!(selector.matches(&id), "{text:?}");
    assert_eq!(selector.to_string(), text);
});
