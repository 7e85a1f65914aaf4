//! Any bytes in place of what a kubelet or an API server answers, and what they make of a pod of Fission's pool.
#![no_main]

use fnscope::identity::{IdentityConfig, LATER_LABEL_ALLOW_LIST, Later, identify_later};
use fnscope::kubernetes::pods::{Event, MAX_PODS, event, list};
use fnscope::model::{Confidence, Identity};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut pods = list(bytes).map(|list| list.pods).unwrap_or_default();
    assert!(pods.len() <= MAX_PODS);
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(Event::Pod(pod) | Event::Gone(pod)) = event(line) {
            pods.push(pod);
        }
    }
    let mut current = Identity {
        function_container: true,
        platform: Some("fission".into()),
        confidence: Confidence::Prewarm,
        ..Identity::not_a_function("fuzz")
    };
    for pod in pods {
        assert!(pod.labels.iter().all(|(key, _)| LATER_LABEL_ALLOW_LIST.contains(&key.as_str())));
        let later = Later { pod_labels: pod.labels, ..Later::default() };
        if let Some(new) = identify_later(&current, &later, &IdentityConfig::default()) {
            assert!(new.function.as_ref().is_none_or(|function| function.len() <= Identity::MAX_NAME));
            current = new;
        }
    }
});
