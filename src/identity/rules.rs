//! The table of rules, in order of precedence, and what a rule returns.
//!
//! The order: first what is to be left out, then what the configuration says of a container, then fnscope's own labels.
//! Then the platforms: what a runtime's namespace or a pod says before labels, labels before names and environment,
//! because the first are out of a tenant's hands. Two platforms in one container do not happen, except that images
//! made for one are run by another (an AWS base image under Fn): the platform that runs it stands above the one that
//! the image was made for. Last, what no platform claims.

use super::{
    IdentityConfig, azure, fallback, fission, fnproject, functions_framework, knative, kubeless, lambda,
    nuclio, openfaas, openwhisk, own, pod,
};
use crate::model::{Confidence, Container, Identity};

/// A named way to tell which function a container is.
pub struct Rule {
    /// Its name, unique, as it is stored with every identity it made.
    pub name: &'static str,
    /// What it reads of a container, for people.
    pub reads: &'static str,
    /// The rule.
    pub decide: fn(&Container, &IdentityConfig) -> Verdict,
}

/// What a rule says of a container.
pub enum Verdict {
    /// This it is; no further rule is asked.
    Match(Box<Found>),
    /// Not for this rule to say.
    Pass {
        /// What was missing.
        why: String,
    },
}

/// What a rule found.
pub struct Found {
    /// The identity; its names are bounded and its rule is filled in by the caller.
    pub identity: Identity,
    /// What made it match.
    pub why: String,
    /// What kind of function a waiting container is for.
    pub runtime_kind: Option<String>,
    /// What it would be called if every container counted.
    pub fallback_name: Option<String>,
}

/// How many of [`RULES`] come before those of the configuration.
pub const BEFORE_USER_RULES: usize = 2;

/// Every rule, the first that matches decides.
pub const RULES: &[Rule] = &[
    rule("ignored", "label fnscope.ignore", own::ignored),
    rule(
        "pod-not-main",
        "labels io.kubernetes.docker.type and io.cri-containerd.kind, annotation io.kubernetes.container.type",
        pod::not_main,
    ),
    rule("pod-sidecar", "label io.kubernetes.container.name", pod::sidecar),
    rule("fnscope-labels", "labels fnscope.function, fnscope.namespace, fnscope.revision", own::labels),
    rule("faasd", "containerd namespace, its label openfaas", openfaas::faasd),
    rule(
        "knative-pod",
        "pod labels serving.knative.dev/{revision,service,configuration}, variable K_REVISION",
        knative::pod,
    ),
    rule(
        "fission-pod",
        "pod labels executorType, environmentName, functionName, functionNamespace, functionUid, \
         fission.io/function-{version,generation}",
        fission::pod,
    ),
    rule(
        "nuclio-pod",
        "pod labels nuclio.io/{class,function-name}, annotation nuclio.io/image-hash, container name, variable \
         NUCLIO_FUNCTION_NAME",
        nuclio::pod,
    ),
    rule("openfaas-pod", "pod labels faas_function, pod-template-hash, container name", openfaas::pod),
    rule(
        "kubeless-pod",
        "pod labels created-by, function, container name, variable FUNC_HANDLER",
        kubeless::pod,
    ),
    rule(
        "openwhisk-pod",
        "pod labels user-action-pod, invoker, openwhisk/{action,namespace}, container name, pod name",
        openwhisk::pod,
    ),
    rule(
        "openfaas-swarm",
        "labels com.openfaas.function, com.docker.swarm.*, container name",
        openfaas::swarm,
    ),
    rule(
        "nuclio-local",
        "labels nuclio.io/{platform,function-name,namespace}, container name",
        nuclio::local,
    ),
    rule("openwhisk-name", "container name wsk…_<n>_…, variable __OW_API_HOST", openwhisk::name),
    rule("fn-env", "variables FN_FN_ID, FN_APP_ID, container name", fnproject::env),
    rule(
        "localstack-lambda",
        "variables LOCALSTACK_RUNTIME_ID, LOCALSTACK_FUNCTION_ACCOUNT_ID, AWS_REGION, AWS_LAMBDA_FUNCTION_NAME, \
         AWS_LAMBDA_FUNCTION_VERSION, container name",
        lambda::localstack,
    ),
    rule(
        "sam-local",
        "labels sam.cli.container.type, sam.cli.function.name, variables AWS_SAM_LOCAL, AWS_LAMBDA_FUNCTION_NAME, \
         AWS_LAMBDA_FUNCTION_VERSION",
        lambda::sam,
    ),
    rule(
        "serverless-offline",
        "variables DOCKER_LAMBDA_STAY_OPEN, AWS_LAMBDA_FUNCTION_NAME, AWS_LAMBDA_FUNCTION_VERSION, the command, the \
         image",
        lambda::serverless_offline,
    ),
    rule(
        "lambda-rie",
        "variables LAMBDA_TASK_ROOT, AWS_LAMBDA_FUNCTION_NAME, AWS_LAMBDA_FUNCTION_VERSION, the entry point, the \
         image",
        lambda::rie,
    ),
    rule("azure-core-tools", "variable AzureWebJobsScriptRoot, pod label app", azure::core_tools),
    rule(
        "azure-env",
        "variables AzureWebJobsScriptRoot, WEBSITE_SITE_NAME, the image, the container name",
        azure::env,
    ),
    rule(
        "openfaas-env",
        "variables OPENFAAS_NAME, OPENFAAS_NAMESPACE, pod namespace",
        openfaas::watchdog_names,
    ),
    rule(
        "functions-framework-env",
        "variables FUNCTION_TARGET, FUNCTION_SIGNATURE_TYPE, K_SERVICE, K_REVISION",
        functions_framework::env,
    ),
    rule("knative-env", "variables K_REVISION, K_SERVICE, K_CONFIGURATION", knative::env),
    rule("openfaas-watchdog", "variable fprocess, pod namespace, container name", openfaas::watchdog),
    rule(
        "compose",
        "labels com.docker.compose.project, com.docker.compose.service, functions in the configuration",
        fallback::compose,
    ),
    rule("swarm", "label com.docker.swarm.service.name, functions in the configuration", fallback::swarm),
    rule(
        "k8s",
        "labels io.kubernetes.{pod.name,container.name}, functions in the configuration",
        fallback::kubernetes,
    ),
    rule("container", "container name, functions in the configuration", fallback::container),
];

const fn rule(
    name: &'static str,
    reads: &'static str,
    decide: fn(&Container, &IdentityConfig) -> Verdict,
) -> Rule {
    Rule { name, reads, decide }
}

/// A container that `identity` names.
pub(super) fn matched(identity: Identity, why: impl Into<String>) -> Verdict {
    Verdict::Match(Box::new(Found { identity, why: why.into(), runtime_kind: None, fallback_name: None }))
}

/// A container that waits for a function of `kind`.
pub(super) fn pool(identity: Identity, kind: Option<&str>, why: &str) -> Verdict {
    let runtime_kind = kind.map(ToOwned::to_owned);
    Verdict::Match(Box::new(Found { identity, why: why.into(), runtime_kind, fallback_name: None }))
}

/// A function of `platform`, its names still to be filled in.
pub(super) fn function(platform: &str, confidence: Confidence) -> Identity {
    Identity {
        function_container: true,
        platform: Some(platform.into()),
        confidence,
        ..Identity::not_a_function("")
    }
}

/// `key` is not there, or empty.
pub(super) fn without(key: &str) -> Verdict {
    Verdict::Pass { why: format!("{key} is absent or empty") }
}

/// The value of label `key`, but not the image's; an empty one says nothing.
pub(super) fn label<'a>(container: &'a Container, key: &str) -> Option<&'a str> {
    let of_image = |value: &str| container.image_labels.iter().any(|(k, v)| k == key && v == value);
    container.label(key).filter(|value| !value.is_empty() && !of_image(value))
}

/// The value of variable `key`; an empty one says nothing.
pub(super) fn env<'a>(container: &'a Container, key: &str) -> Option<&'a str> {
    container.env(key).filter(|value| !value.is_empty())
}
