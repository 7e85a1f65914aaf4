//! The table of rules, in order of precedence, and what a rule returns.
//!
//! The order: what the user says of a container (fnscope's own labels) stands above everything. Then the platforms:
//! labels before environment before names, because labels are written by the platform, environments by the platform
//! and the tenant, and names are the weakest mark. Two platforms in one container do not happen, except that images
//! made for one are run by another (an AWS base image under Fn): the platform that runs it stands above the one that
//! the image was made for. Last, what no platform claims.

use super::{
    IdentityConfig, azure, fallback, fnproject, functions_framework, lambda, nuclio, openfaas, openwhisk, own,
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
    Match {
        /// The identity; its names are bounded and its rule is filled in by the caller.
        identity: Identity,
        /// What made it match.
        why: String,
    },
    /// Not for this rule to say.
    Pass {
        /// What was missing.
        why: String,
    },
}

/// Every rule, the first that matches decides.
pub const RULES: &[Rule] = &[
    Rule { name: "fnscope-ignore", reads: "label fnscope.ignore", decide: own::ignore },
    Rule {
        name: "fnscope-labels",
        reads: "labels fnscope.function, fnscope.namespace, fnscope.revision",
        decide: own::labels,
    },
    Rule {
        name: "openfaas-swarm",
        reads: "labels com.openfaas.function, com.docker.swarm.*",
        decide: openfaas::swarm,
    },
    Rule {
        name: "nuclio-local",
        reads: "labels nuclio.io/platform, nuclio.io/function-name, nuclio.io/namespace",
        decide: nuclio::local,
    },
    Rule {
        name: "openwhisk-name",
        reads: "container name wsk…_<n>_…, variable __OW_API_HOST",
        decide: openwhisk::name,
    },
    Rule { name: "fn-env", reads: "variables FN_FN_ID, FN_APP_ID", decide: fnproject::env },
    Rule {
        name: "localstack-lambda",
        reads: "variables LOCALSTACK_RUNTIME_ID, LOCALSTACK_FUNCTION_ACCOUNT_ID, AWS_REGION, AWS_LAMBDA_FUNCTION_NAME, \
                AWS_LAMBDA_FUNCTION_VERSION",
        decide: lambda::localstack,
    },
    Rule {
        name: "sam-local",
        reads: "labels sam.cli.container.type, sam.cli.function.name, variables AWS_SAM_LOCAL, \
                AWS_LAMBDA_FUNCTION_NAME, AWS_LAMBDA_FUNCTION_VERSION",
        decide: lambda::sam,
    },
    Rule {
        name: "serverless-offline",
        reads: "variables DOCKER_LAMBDA_STAY_OPEN, AWS_LAMBDA_FUNCTION_NAME, AWS_LAMBDA_FUNCTION_VERSION, the command",
        decide: lambda::serverless_offline,
    },
    Rule {
        name: "lambda-rie",
        reads: "variables LAMBDA_TASK_ROOT, AWS_LAMBDA_FUNCTION_NAME, AWS_LAMBDA_FUNCTION_VERSION, the entry point, \
                the image",
        decide: lambda::rie,
    },
    Rule {
        name: "azure-env",
        reads: "variables AzureWebJobsScriptRoot, WEBSITE_SITE_NAME, the image, the container name",
        decide: azure::env,
    },
    Rule {
        name: "functions-framework-env",
        reads: "variables FUNCTION_TARGET, K_SERVICE, K_REVISION",
        decide: functions_framework::env,
    },
    Rule {
        name: "compose",
        reads: "labels com.docker.compose.project, com.docker.compose.service, functions in the configuration",
        decide: fallback::compose,
    },
    Rule {
        name: "swarm",
        reads: "label com.docker.swarm.service.name, functions in the configuration",
        decide: fallback::swarm,
    },
    Rule {
        name: "container",
        reads: "container name, functions in the configuration",
        decide: fallback::container,
    },
];

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

/// The value of label `key`; an empty one says nothing.
pub(super) fn label<'a>(container: &'a Container, key: &str) -> Option<&'a str> {
    container.label(key).filter(|value| !value.is_empty())
}

/// The value of variable `key`; an empty one says nothing.
pub(super) fn env<'a>(container: &'a Container, key: &str) -> Option<&'a str> {
    container.env(key).filter(|value| !value.is_empty())
}
