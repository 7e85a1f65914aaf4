//! AWS Lambda's local emulators: LocalStack, SAM, serverless-offline and the runtime interface emulator (RIE).
//!
//! All of them run Lambda's images, so each rule needs its emulator's own mark; `AWS_LAMBDA_FUNCTION_NAME` alone is
//! none, any test container may set it. From the most to the least special: RIE's marks are in the images of all.

use super::pod::in_pod;
use super::rules::{Verdict, env, function, label, matched, without};
use super::{IdentityConfig, image};
use crate::model::{Confidence, Container, Identity};

const NAME: &str = "AWS_LAMBDA_FUNCTION_NAME";
const VERSION: &str = "AWS_LAMBDA_FUNCTION_VERSION";
/// What every emulator takes where no version is given.
const LATEST: &str = "$LATEST";

/// LocalStack: `LOCALSTACK_RUNTIME_ID`. Its container names fold case and `_`, so the variable names the function; but
/// a function's own environment goes over the platform's, so the container's name must agree with it.
pub fn localstack(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(runtime) = env(container, "LOCALSTACK_RUNTIME_ID") else {
        return without("variable LOCALSTACK_RUNTIME_ID");
    };
    let namespace = match (env(container, "LOCALSTACK_FUNCTION_ACCOUNT_ID"), env(container, "AWS_REGION")) {
        (Some(account), Some(region)) => Some(format!("{account}/{region}")),
        (one, other) => one.or(other).map(Into::into),
    };
    let named = named(container, None);
    let folded = named.function.as_deref().unwrap_or_default().to_lowercase().replace('_', "-");
    let end = format!("-lambda-{folded}-{runtime}");
    let confirmed = container.name.as_deref().is_some_and(|name| name.ends_with(&end));
    let doubt = if confirmed { "" } else { ", but the container's name does not confirm it" };
    matched(
        Identity {
            namespace,
            function: named.function,
            revision: Some(version(container)),
            instance_name: Some(runtime.into()),
            ..function("localstack-lambda", if confirmed { named.confidence } else { Confidence::Guessed })
        },
        format!("variable LOCALSTACK_RUNTIME_ID marks it, {}{doubt}", named.why),
    )
}

/// SAM: its label since 1.145, `AWS_SAM_LOCAL=true` always. An image can carry the label, so without the variable it
/// is a guess.
pub fn sam(container: &Container, _: &IdentityConfig) -> Verdict {
    let by_label = label(container, "sam.cli.container.type") == Some("lambda");
    let by_env = env(container, "AWS_SAM_LOCAL") == Some("true");
    if !by_label && !by_env {
        return Verdict::Pass {
            why: "neither is label sam.cli.container.type lambda nor variable AWS_SAM_LOCAL true".into(),
        };
    }
    // SAM writes `unknown` where it does not know.
    let labelled = label(container, "sam.cli.function.name").filter(|name| by_label && *name != "unknown");
    let named = match labelled {
        Some(name) => Named {
            function: Some(name.into()),
            confidence: Confidence::Exact,
            why: "label sam.cli.function.name names it",
        },
        None => named(container, None),
    };
    let (confidence, mark) = match (by_label, by_env) {
        (true, true) => (named.confidence, "label sam.cli.container.type and variable AWS_SAM_LOCAL mark it"),
        (true, false) => (
            Confidence::Guessed,
            "label sam.cli.container.type marks it, but no AWS_SAM_LOCAL confirms what an image can carry",
        ),
        (false, _) => (named.confidence, "variable AWS_SAM_LOCAL marks it"),
    };
    matched(
        Identity {
            function: named.function,
            revision: Some(version(container)),
            ..function("aws-sam-local", confidence)
        },
        format!("{mark}, {}", named.why),
    )
}

/// serverless-offline: `DOCKER_LAMBDA_STAY_OPEN=1`; without a name the handler, its command, stands for it. It runs
/// Lambda's images alone.
pub fn serverless_offline(container: &Container, _: &IdentityConfig) -> Verdict {
    if env(container, "DOCKER_LAMBDA_STAY_OPEN") != Some("1") {
        return Verdict::Pass { why: "variable DOCKER_LAMBDA_STAY_OPEN is not 1".into() };
    }
    let named = named(container, container.cmd.first().map(String::as_str));
    let is_lambdas = |image: &str| {
        ["public.ecr.aws/lambda/", "lambci/lambda"].iter().any(|begin| image.starts_with(begin))
    };
    let confirmed = container.image.as_deref().is_some_and(is_lambdas);
    let doubt = if confirmed { "" } else { ", but its image is none of Lambda's" };
    matched(
        Identity {
            function: named.function,
            revision: Some(version(container)),
            ..function("aws-lambda-rie", if confirmed { named.confidence } else { Confidence::Guessed })
        },
        format!("variable DOCKER_LAMBDA_STAY_OPEN marks it, {}{doubt}", named.why),
    )
}

/// RIE: `LAMBDA_TASK_ROOT` or the entry point of AWS's base images. Without a name the image stands for the function,
/// and for its version.
pub fn rie(container: &Container, _: &IdentityConfig) -> Verdict {
    let by_env = env(container, "LAMBDA_TASK_ROOT").is_some();
    if !by_env && container.entrypoint.first().map(String::as_str) != Some("/lambda-entrypoint.sh") {
        return Verdict::Pass {
            why: "variable LAMBDA_TASK_ROOT is absent and the entry point is not /lambda-entrypoint.sh"
                .into(),
        };
    }
    let named = named(container, None);
    let revision = match named.confidence {
        Confidence::Exact => Some(version(container)),
        _ => env(container, VERSION).map(Into::into).or_else(|| image::revision(container.image.as_deref())),
    };
    let mark = if by_env { "variable LAMBDA_TASK_ROOT" } else { "entry point /lambda-entrypoint.sh" };
    matched(
        Identity {
            function: named.function,
            revision,
            ..in_pod(container, "aws-lambda-rie", named.confidence)
        },
        format!("{mark} marks it, {}", named.why),
    )
}

struct Named {
    function: Option<String>,
    confidence: Confidence,
    why: &'static str,
}

/// The function's name by its variable; else a guess: `handler`, the image, or nothing.
fn named(container: &Container, handler: Option<&str>) -> Named {
    if let Some(name) = env(container, NAME) {
        let why = "variable AWS_LAMBDA_FUNCTION_NAME names it";
        return Named { function: Some(name.into()), confidence: Confidence::Exact, why };
    }
    let by_handler = handler.filter(|handler| !handler.is_empty()).map(str::to_owned);
    let by_image = container.image.as_deref().filter(|image| !image.is_empty());
    let by_image = by_image.map(|image| format!("image:{}", image::ImageRef::new(image).repository));
    let (function, why) = match (by_handler, by_image) {
        (Some(handler), _) => (Some(handler), "without a name its handler stands for it"),
        (None, Some(image)) => (Some(image), "without a name its image stands for it"),
        (None, None) => (None, "it has neither name nor image"),
    };
    Named { function, confidence: Confidence::Guessed, why }
}

fn version(container: &Container) -> String {
    env(container, VERSION).unwrap_or(LATEST).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{NO_RULE, identify};

    #[test]
    fn each_emulator_is_known_by_its_own_mark() {
        type Case<'a> =
            (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str, Option<&'a str>, Option<&'a str>, Confidence);
        let (exact, guessed) = (Confidence::Exact, Confidence::Guessed);
        let cases: &[Case<'_>] = &[
            (
                &["AWS_SAM_LOCAL=true", "AWS_LAMBDA_FUNCTION_NAME=f"],
                &[],
                "sam-local",
                Some("f"),
                Some("$LATEST"),
                exact,
            ),
            (
                &["AWS_SAM_LOCAL=true", "AWS_LAMBDA_FUNCTION_NAME=f", "AWS_LAMBDA_FUNCTION_VERSION=3"],
                &[("sam.cli.container.type", "lambda"), ("sam.cli.function.name", "Nested/f")],
                "sam-local",
                Some("Nested/f"),
                Some("3"),
                exact,
            ),
            (
                &["AWS_LAMBDA_FUNCTION_NAME=f"],
                &[("sam.cli.container.type", "lambda"), ("sam.cli.function.name", "unknown")],
                "sam-local",
                Some("f"),
                Some("$LATEST"),
                guessed,
            ),
            (&["AWS_SAM_LOCAL=true"], &[], "sam-local", Some("image:r/i"), Some("$LATEST"), guessed),
            (
                &["DOCKER_LAMBDA_STAY_OPEN=1"],
                &[],
                "serverless-offline",
                Some("app.handler"),
                Some("$LATEST"),
                guessed,
            ),
            (
                &["LAMBDA_TASK_ROOT=/var/task", "AWS_LAMBDA_FUNCTION_NAME=f"],
                &[],
                "lambda-rie",
                Some("f"),
                Some("$LATEST"),
                exact,
            ),
            (
                &["LAMBDA_TASK_ROOT=/var/task"],
                &[],
                "lambda-rie",
                Some("image:r/i"),
                Some("image:r/i:1"),
                guessed,
            ),
            (
                &["LOCALSTACK_RUNTIME_ID=0f"],
                &[],
                "localstack-lambda",
                Some("image:r/i"),
                Some("$LATEST"),
                guessed,
            ),
            (&["AWS_LAMBDA_FUNCTION_NAME=f"], &[], NO_RULE, None, None, Confidence::None),
            (
                &["AWS_LAMBDA_FUNCTION_NAME=f"],
                &[("sam.cli.container.type", "build")],
                NO_RULE,
                None,
                None,
                Confidence::None,
            ),
        ];
        for (env, labels, rule, function, revision, confidence) in cases {
            let container = Container {
                image: Some("r/i:1".into()),
                env: env.iter().map(ToString::to_string).collect(),
                labels: labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
                cmd: vec!["app.handler".into()],
                ..Container::default()
            };
            let identity = identify(&container, &IdentityConfig::default()).identity;
            assert_eq!(
                (
                    identity.rule.as_str(),
                    identity.function.as_deref(),
                    identity.revision.as_deref(),
                    identity.confidence
                ),
                (*rule, *function, *revision, *confidence),
                "{env:?} {labels:?}"
            );
        }
    }
}
