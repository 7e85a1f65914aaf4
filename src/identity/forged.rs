//! What images and tenants may say of themselves, and how little it helps them. Each row is a container that claims to
//! be somebody else's function by what an image can carry; beside it, what the platform's own would have too.

use super::{IdentityConfig, Later, NO_RULE, config::Functions, identify, identify_later};
use crate::model::{Confidence, Container, Identity, Pod};

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn pairs(pairs: Pairs<'_>) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn docker(name: &str, labels: Pairs<'_>, env: &[&str]) -> Container {
    Container {
        runtime: "docker".into(),
        id: "77".into(),
        name: Some(name.into()),
        image: Some("evil/image:1".into()),
        labels: pairs(labels),
        env: env.iter().map(ToString::to_string).collect(),
        ..Container::default()
    }
}

/// What a process of an action's loop is told.
fn child(action: &str, namespace: &str) -> Later {
    let env = [("__OW_ACTION_NAME", action), ("__OW_NAMESPACE", namespace), ("__OW_ACTION_VERSION", "0.0.3")];
    Later { env: pairs(&env), ..Later::default() }
}

fn of(container: &Container) -> Identity {
    identify(container, &IdentityConfig::default()).identity
}

#[test]
fn labels_alone_name_no_function_of_a_platform() {
    let none: &[Pairs<'_>] = &[
        &[("com.openfaas.function", "victim"), ("function", "true")],
        &[("nuclio.io/function-name", "victim"), ("nuclio.io/namespace", "theirs")],
        &[("nuclio.io/class", "function"), ("nuclio.io/function-name", "victim")],
        &[("faas_function", "victim")],
        &[("serving.knative.dev/revision", "victim-1"), ("serving.knative.dev/service", "victim")],
        &[("executorType", "newdeploy"), ("functionName", "victim"), ("functionUid", "1")],
        &[("created-by", "kubeless"), ("function", "victim")],
        &[("user-action-pod", "true"), ("openwhisk/action", "victim"), ("openwhisk/namespace", "theirs")],
        &[("sam.cli.function.name", "victim")],
    ];
    for labels in none {
        assert_eq!(of(&docker("sleepy_bose", labels, &[])).rule, NO_RULE, "{labels:?}");
        // Nor with the kubelet's labels, which on Docker an image can carry too.
        let more =
            [labels, &[("io.kubernetes.pod.name", "p"), ("io.kubernetes.container.name", "victim")][..]]
                .concat();
        assert!(!of(&docker("sleepy_bose", &more, &[])).function_container, "{labels:?}");
    }
}

#[test]
fn without_the_mark_that_no_image_has_a_name_is_a_guess() {
    let swarm = [
        ("com.openfaas.function", "f"),
        ("com.docker.swarm.service.name", "f"),
        ("com.docker.swarm.task.name", "f.1.x"),
    ];
    let nuclio =
        [("nuclio.io/platform", "local"), ("nuclio.io/function-name", "f"), ("nuclio.io/namespace", "n")];
    let sam = [("sam.cli.container.type", "lambda"), ("sam.cli.function.name", "f")];
    let localstack = ["LOCALSTACK_RUNTIME_ID=00ff", "AWS_LAMBDA_FUNCTION_NAME=My_f"];
    let fn_ids = ["FN_FN_ID=1", "FN_APP_ID=2"];
    let cases = [
        (docker("f.1.x", &swarm, &[]), docker("sleepy_bose", &swarm, &[]), Confidence::Exact),
        (docker("nuclio-n-f", &nuclio, &[]), docker("sleepy_bose", &nuclio, &[]), Confidence::Exact),
        (docker("a", &sam, &["AWS_SAM_LOCAL=true"]), docker("a", &sam, &[]), Confidence::Exact),
        (
            docker("main-lambda-my-f-00ff", &[], &localstack),
            docker("main-lambda-own-00ff", &[], &localstack),
            Confidence::Exact,
        ),
        (
            docker("01KA7D8Q5RNG8G00GZJ0000001", &[], &fn_ids),
            docker("sleepy_bose", &[], &fn_ids),
            Confidence::IdsOnly,
        ),
        (
            docker("wsk0_1_guest_f", &[], &["__OW_API_HOST=x"]),
            docker("wsk0_1_guest_f", &[], &[]),
            Confidence::Lossy,
        ),
        (
            docker("a", &[], &["FUNCTION_TARGET=t", "K_SERVICE=f", "K_REVISION=f-1"]),
            docker("a", &[], &["FUNCTION_TARGET=t", "K_SERVICE=f"]),
            Confidence::Exact,
        ),
    ];
    for (sure, doubtful, confidence) in cases {
        assert_eq!(of(&sure).confidence, confidence, "{sure:?}");
        assert_eq!(of(&doubtful).confidence, Confidence::Guessed, "{doubtful:?}");
        assert_eq!(of(&doubtful).function, of(&sure).function, "{doubtful:?}");
    }
    for env in [&["K_REVISION=f-1", "K_SERVICE=f"][..], &["OPENFAAS_NAME=f", "OPENFAAS_NAMESPACE=theirs"]] {
        assert_eq!(of(&docker("a", &[], env)).confidence, Confidence::Guessed, "{env:?}");
    }
}

#[test]
fn a_label_that_the_image_carries_is_not_the_platforms() {
    for (labels, name) in [
        (&[("fnscope.function", "victim")][..], "a"),
        (&[("com.openfaas.function", "victim"), ("com.docker.swarm.task.name", "victim.1.x")], "victim.1.x"),
        (&[("nuclio.io/platform", "local"), ("nuclio.io/function-name", "victim")], "a"),
        (&[("sam.cli.container.type", "lambda"), ("sam.cli.function.name", "victim")], "a"),
    ] {
        let open = docker(name, labels, &[]);
        assert!(of(&open).function_container, "{labels:?}");
        let known = Container { image_labels: pairs(labels), ..open };
        assert!(!of(&known).function_container, "{labels:?}");
    }
}

fn in_pod(called: &str, labels: Pairs<'_>, env: &[&str]) -> Container {
    let pod = Pod { name: "p".into(), namespace: "own".into(), labels: pairs(labels), ..Pod::default() };
    let mine = [("io.kubernetes.container.name", called)];
    Container { runtime: "containerd".into(), pod: Some(pod), ..docker("x", &mine, env) }
}

#[test]
fn a_pod_speaks_for_the_container_of_its_function_alone() {
    let knative = [("serving.knative.dev/revision", "f-1"), ("serving.knative.dev/service", "f")];
    for (container, platform) in [
        (in_pod("other", &[("faas_function", "f")], &[]), "openfaas"),
        (in_pod("queue-proxy", &knative, &["K_REVISION=f-1"]), "knative"),
        (in_pod("istio-proxy", &[("faas_function", "istio-proxy")], &[]), "openfaas"),
        (in_pod("fetcher", &[("executorType", "poolmgr"), ("environmentName", "fetcher")], &[]), "fission"),
        (in_pod("other", &[("executorType", "newdeploy"), ("functionName", "f")], &[]), "fission"),
        (
            in_pod("other", &[("nuclio.io/class", "function"), ("nuclio.io/function-name", "f")], &[]),
            "nuclio",
        ),
        (in_pod("other", &[("created-by", "kubeless"), ("function", "f")], &[]), "kubeless"),
        (in_pod("other", &[("user-action-pod", "true")], &[]), "openwhisk"),
        (Container { sandbox: true, ..in_pod("f", &[("faas_function", "f")], &[]) }, "openfaas"),
    ] {
        let identity = of(&container);
        assert_eq!(
            (identity.function_container, identity.platform.as_deref()),
            (false, Some(platform)),
            "{container:?}"
        );
    }
    // A pod is in its own namespace, whatever is said in it.
    let env = ["OPENFAAS_NAME=f", "OPENFAAS_NAMESPACE=theirs"];
    assert!(!of(&in_pod("f", &[], &env)).function_container);
    let unconfirmed = of(&in_pod("f", &knative, &[]));
    assert_eq!(
        (unconfirmed.confidence, unconfirmed.namespace.as_deref()),
        (Confidence::Guessed, Some("own"))
    );
}

#[test]
fn namespaces_are_allowed_and_denied() {
    let text = "allow_namespaces = [\"team-*\"]\ndeny_namespaces = [\"*-test\"]";
    let config: IdentityConfig = toml::from_str(text).expect("it is TOML");
    for (namespace, rule) in [
        ("team-a", "fnscope-labels"),
        ("team-test", "deny-namespaces"),
        ("b", "allow-namespaces"),
        ("", "allow-namespaces"),
    ] {
        let labels = [("fnscope.function", "f"), ("fnscope.namespace", namespace)];
        let answer = identify(&docker("a", &labels, &[]), &config);
        assert_eq!(
            (answer.identity.rule.as_str(), answer.identity.function_container),
            (rule, rule == "fnscope-labels")
        );
        assert!(answer.looked_at.last().is_some_and(|last| last.matched && last.rule == rule));
    }
    // What waits for its function is judged when it has one.
    let waiting = identify(&docker("wsk0_1_prewarm_go", &[], &["__OW_API_HOST=x"]), &config).identity;
    assert_eq!(waiting.confidence, Confidence::Prewarm);
    let env = pairs(&[("__OW_ACTION_NAME", "/guest/f"), ("__OW_NAMESPACE", "guest")]);
    let later =
        identify_later(&waiting, &Later { env, ..Later::default() }, &config).expect("it is another now");
    assert_eq!((later.rule.as_str(), later.function_container), ("allow-namespaces", false));
}

#[test]
fn a_function_that_is_learned_later_is_learned_once() {
    let host = ["__OW_API_HOST=x"];
    let waiting = of(&docker("wsk0_1_prewarm_go", &[], &host));
    let cold = of(&docker("wsk0_1_guest_hellov2", &[], &host));
    let plain = of(&docker("a", &[("fnscope.function", "f")], &[]));
    let config = IdentityConfig::default();
    for (current, action, namespace, expected) in [
        (&waiting, "/guest/hello", "guest", Some("hello")),
        (&waiting, "/guest/utils/hello", "guest", Some("utils/hello")),
        (&waiting, "/whisk.system/utils/echo", "guest", Some("/whisk.system/utils/echo")),
        (&cold, "/guest/my-pkg/hello.v2", "guest", Some("my-pkg/hello.v2")),
        (&cold, "/theirs/victim", "theirs", None),
        (&plain, "/guest/hello", "guest", None),
        (&waiting, "hello", "guest", None),
        (&waiting, "/guest/../hello", "guest", None),
        (&waiting, "/guest/a\nb", "guest", None),
        (&waiting, "/guest/\u{1b}[31m", "guest", None),
        (&waiting, "/guest/a/b/c", "guest", None),
        (&waiting, "/guest/hello", "gu\nest", None),
    ] {
        let later = identify_later(current, &child(action, namespace), &config);
        assert_eq!(later.as_ref().and_then(|l| l.function.as_deref()), expected, "{action}");
        let Some(later) = later else { continue };
        // The platform's own name agrees, or nobody but its tenant has said so.
        let sure =
            if current.confidence == Confidence::Prewarm { Confidence::Guessed } else { Confidence::Exact };
        assert_eq!((later.revision.as_deref(), later.confidence), (Some("0.0.3"), sure));
        assert_eq!(identify_later(&later, &child("/theirs/victim", "theirs"), &config), None, "{action}");
    }
    let pool = [("executorType", "poolmgr"), ("environmentName", "node")];
    let waiting = of(&in_pod("node", &pool, &[]));
    assert_eq!(waiting.confidence, Confidence::Prewarm);
    let patched = |labels| Later { pod_labels: pairs(labels), ..Later::default() };
    let given = patched(&[("functionName", "f"), ("functionNamespace", "n"), ("functionUid", "1")]);
    let later = identify_later(&waiting, &given, &config).expect("it has its function");
    assert_eq!((later.namespace.as_deref(), later.function.as_deref()), (Some("n"), Some("f")));
    assert_eq!(later.instance_name, waiting.instance_name);
    assert_eq!(identify_later(&later, &given, &config), None);
    assert_eq!(identify_later(&waiting, &patched(&[("managed", "true")]), &config), None);
}

#[test]
fn what_a_child_says_of_a_stem_cell_is_its_platforms_to_correct() {
    let config = IdentityConfig::default();
    let waiting = of(&docker("wsk0_1_prewarm_nodejs20", &[], &["__OW_API_HOST=x"]));
    let invoked = |path: &str| Later { invoked: Some(path.into()), ..Later::default() };
    let labelled = |namespace: &str, action: &str| Later {
        pod_labels: pairs(&[("openwhisk/action", action), ("openwhisk/namespace", namespace)]),
        ..Later::default()
    };
    let guessed = identify_later(&waiting, &child("/victim/f", "victim"), &config).expect("a guess");
    assert_eq!((guessed.confidence, guessed.rule.as_str()), (Confidence::Guessed, Identity::OPENWHISK_CHILD));
    assert!(guessed.is_childs_word() && !guessed.is_told_by_children(), "the first word stays");
    for other in [child("/victim/g", "victim"), child("/theirs/f", "theirs")] {
        assert_eq!(identify_later(&guessed, &other, &config), None);
    }
    for (word, rule) in
        [(invoked("/theirs/f"), "openwhisk-log"), (labelled("theirs", "f"), "openwhisk-labels")]
    {
        let sure = identify_later(&guessed, &word, &config).expect("the platform's word");
        assert_eq!((sure.namespace.as_deref(), sure.function.as_deref()), (Some("theirs"), Some("f")));
        assert_eq!((sure.confidence, sure.rule.as_str()), (Confidence::Exact, rule));
        assert_eq!(sure.revision, None, "it was the other's");
        assert_eq!(identify_later(&sure, &child("/victim/f", "victim"), &config), None);
        // From then on it is the platform's own: a second is one beside it.
        let both = identify_later(&sure, &invoked("/theirs/g"), &config).expect("it is both");
        assert_eq!(both.confidence, Confidence::Ambiguous);
    }
    // What the platform confirms keeps the revision, which it does not tell.
    for word in [invoked("/victim/f"), labelled("victim", "f")] {
        let sure = identify_later(&guessed, &word, &config).expect("it is sure now");
        assert_eq!((sure.function.as_deref(), sure.revision.as_deref()), (Some("f"), Some("0.0.3")));
        assert_eq!(sure.confidence, Confidence::Exact);
    }
}

#[test]
fn the_invokers_log_names_what_no_process_is_told_and_nothing_against_a_name() {
    let host = ["__OW_API_HOST=x"];
    let config = IdentityConfig::default();
    let invoked = |path: &str| Later { invoked: Some(path.into()), ..Later::default() };
    let pod_labels = [("user-action-pod", "true"), ("invoker", "invoker0")];
    let pod = of(&in_pod("user-action", &pod_labels, &[]));
    assert_eq!((pod.platform.as_deref(), pod.confidence), (Some("openwhisk"), Confidence::Prewarm));
    let waiting = of(&docker("wsk0_1_prewarm_nodejs20", &[], &host));
    let cold = of(&docker("wsk0_1_guest_hello", &[], &host));
    let fission = of(&in_pod("node", &[("executorType", "poolmgr"), ("environmentName", "node")], &[]));
    for (current, path, expected) in [
        (&waiting, "/guest/hello", Some("hello")),
        (&pod, "/guest/utils/hello", Some("utils/hello")),
        (&cold, "/guest/utils/hello", Some("utils/hello")),
        (&cold, "/guest/other", None),
        (&fission, "/guest/hello", None),
        (&waiting, "/guest/\u{1b}[31m", None),
        (&waiting, "guest", None),
    ] {
        let later = identify_later(current, &invoked(path), &config);
        assert_eq!(later.and_then(|later| later.function).as_deref(), expected, "{path}");
    }
    // Its pod's name is cut where it is too long; as far as it goes it must agree.
    let name = format!("wskowdev-invoker-00-12-guest-{}", "a".repeat(34));
    let mut long = of(&in_pod("user-action", &pod_labels, &[]));
    long.instance_name = Some(name.clone());
    long.confidence = Confidence::Lossy;
    (long.namespace, long.function) = (Some("guest".into()), Some("a".repeat(34)));
    let path = format!("/guest/{}b", "a".repeat(34));
    assert!(name.len() == 63 && identify_later(&long, &invoked(&path), &config).is_some());
    assert_eq!(identify_later(&long, &invoked("/guest/ab"), &config), None);
}

#[test]
fn a_container_that_serves_several_functions_is_nobodys() {
    let config = IdentityConfig::default();
    let host = ["__OW_API_HOST=x"];
    let invoked = |path: &str| Later { invoked: Some(path.into()), ..Later::default() };
    let patched = |labels: &[(&str, &str)]| Later { pod_labels: pairs(labels), ..Later::default() };
    let served = |name| Later { env: pairs(&[("HTTP_X-FISSION-FUNCTION-NAME", name)]), ..Later::default() };
    let openwhisk = of(&docker("wsk0_1_prewarm_nodejs20", &[], &host));
    let fission = of(&in_pod("node", &[("executorType", "poolmgr"), ("environmentName", "node")], &[]));
    let labelled = |name| patched(&[("functionName", name), ("functionUid", "1")]);
    for (waiting, first, second, third) in [
        (&openwhisk, invoked("/guest/one"), invoked("/guest/two"), invoked("/guest/one")),
        (&fission, labelled("one"), labelled("two"), labelled("one")),
        (&fission, served("one"), served("two"), served("one")),
    ] {
        let one = identify_later(waiting, &first, &config).expect("its first function");
        assert_eq!((one.function.as_deref(), one.function_container), (Some("one"), true));
        assert_eq!(identify_later(&one, &first, &config), None, "told again");
        let both = identify_later(&one, &second, &config).expect("it is both");
        assert_eq!((both.function.as_deref(), both.confidence), (None, Confidence::Ambiguous));
        assert_eq!((&both.platform, &both.instance_name), (&waiting.platform, &waiting.instance_name));
        assert_eq!(identify_later(&both, &third, &config), None, "for good");
    }
    // What a process says is a guess until the platform says so, and nothing against the platform.
    let guessed = identify_later(&fission, &served("mine"), &config).expect("a guess");
    assert_eq!(guessed.confidence, Confidence::Guessed);
    let sure = identify_later(&guessed, &labelled("theirs"), &config).expect("the platform's word");
    assert_eq!((sure.function.as_deref(), sure.confidence), (Some("theirs"), Confidence::Exact));
    assert_eq!(identify_later(&sure, &served("victim"), &config), None);
    // Neither can its processes make it several for good.
    let both = identify_later(&guessed, &served("other"), &config).expect("it is both, they say");
    assert!(both.confidence == Confidence::Ambiguous && both.is_childs_word() && !both.is_told_by_children());
    let sure = identify_later(&both, &labelled("mine"), &config).expect("the platform's word");
    assert_eq!((sure.function.as_deref(), sure.confidence), (Some("mine"), Confidence::Exact));
    let truly = identify_later(&sure, &labelled("two"), &config).expect("the platform's word");
    assert_eq!(truly.confidence, Confidence::Ambiguous);
    assert_eq!(identify_later(&truly, &labelled("mine"), &config), None, "for good");
    // A guess by labels is the platform's, too.
    let unconfirmed = patched(&[("functionName", "mine")]);
    let doubtful = identify_later(&fission, &unconfirmed, &config).expect("a guess");
    assert_eq!((doubtful.confidence, doubtful.is_told_by_children()), (Confidence::Guessed, false));
    assert_eq!(identify_later(&doubtful, &served("victim"), &config), None);
}

#[test]
fn a_container_of_fns_is_named_by_its_processes_where_its_runtime_tells_no_environment() {
    let all = IdentityConfig { functions: Functions::All, ..IdentityConfig::default() };
    let told = |pairs_: &[(&str, &str)]| Later { env: pairs(pairs_), ..Later::default() };
    let ids =
        told(&[("FN_FN_ID", "01KA7CXYZ0NG8G00GZJ0000004"), ("FN_APP_ID", "01KA7CXYZ0NG8G00GZJ0000003")]);
    for (name, expected) in [("01KA7D0000NG8G00GZJ0000042", Some(Confidence::IdsOnly)), ("mine", None)] {
        let current = identify(&docker(name, &[], &[]), &all).identity;
        assert_eq!(current.confidence, Confidence::Fallback);
        let later = identify_later(&current, &ids, &all);
        assert_eq!(later.map(|later| later.confidence), expected, "{name}");
        assert_eq!(identify_later(&current, &told(&[("FN_FN_ID", "x")]), &all), None);
    }
}

#[test]
fn hostile_text_stays_a_bounded_name() {
    let all = IdentityConfig { functions: Functions::All, ..IdentityConfig::default() };
    for name in
        ["../../etc/passwd", "two\nlines", "\u{1b}[31mred", &"n".repeat(64 << 10), &"ä".repeat(32 << 10)]
    {
        let labels = [("fnscope.function", name), ("fnscope.namespace", name), ("fnscope.revision", name)];
        let identity = identify(&docker(name, &labels, &[]), &all).identity;
        for got in [identity.function, identity.namespace, identity.revision] {
            let got = got.expect("it is named");
            assert!(got.len() <= Identity::MAX_NAME && name.starts_with(&got));
        }
        let rules: IdentityConfig =
            toml::from_str("[[rules]]\ncontainer = \"*\"\nfunction = \"${name}/${label:fnscope.function}\"")
                .expect("it is TOML");
        let identity = identify(&docker(name, &labels, &[]), &rules).identity;
        assert!(identity.function.is_some_and(|got| got.len() <= Identity::MAX_NAME));
    }
}
