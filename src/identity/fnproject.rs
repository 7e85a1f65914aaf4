//! Fn Project: ids in the environment, written last by the platform, so no function can forge them.

use super::rules::{Verdict, env as variable, function, without};
use super::{IdentityConfig, image};
use crate::model::{Confidence, Container, Identity};

/// `FN_FN_ID` and `FN_APP_ID`. Names are to be had from Fn's API alone.
pub fn env(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(id) = variable(container, "FN_FN_ID") else { return without("variable FN_FN_ID") };
    let Some(app) = variable(container, "FN_APP_ID") else { return without("variable FN_APP_ID") };
    Verdict::Match {
        identity: Identity {
            namespace: Some(app.into()),
            function: Some(id.into()),
            revision: image::revision(container.image.as_deref()),
            instance_name: container.name.clone(),
            ..function("fnproject", Confidence::IdsOnly)
        },
        why: "variables FN_FN_ID and FN_APP_ID hold its ids".into(),
    }
}
