//! Any bytes in place of what an agent answers that is asked for its health, and of the text that it sends.
#![no_main]

use fnscope::health::probe::{Answer, Told, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(answer)) = parse(bytes) {
        assert!((100..600).contains(&answer.status) && answer.body.len() <= bytes.len());
        check_told(&answer);
        // What is cut off within the head is awaited.
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        for cut in [0, 7, head / 2, head + 3] {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "{cut}");
        }
    }
    // Behind a head that says how long it is, whatever follows.
    let body = &bytes[..bytes.len().min(1 << 15)];
    let head = format!("HTTP/1.1 503 No\r\nContent-Type: x\r\nContent-Length: {}\r\n\r\n", body.len());
    let whole = [head.as_bytes(), body].concat();
    let answer = std::str::from_utf8(body).ok().map(|body| Answer { status: 503, body: body.into() });
    assert_eq!(parse(&whole).ok(), answer.clone().map(Some));
    assert_eq!(parse(&[&whole, bytes].concat()).ok(), answer.clone().map(Some));
    if !body.is_empty() {
        assert_eq!(parse(&whole[..whole.len() - 1]), Ok(None), "the last byte is missing");
    }
    if let Some(answer) = answer {
        check_told(&answer);
    }
});

/// What an answer tells is the same once it has been told on.
fn check_told(answer: &Answer) {
    let Some(told) = answer.told() else { return };
    let text = serde_json::to_string(&told).expect("plain data");
    assert_eq!(serde_json::from_str::<Told>(&text).ok(), Some(told.clone()));
    assert!(told.line().starts_with(&told.answer));
}
