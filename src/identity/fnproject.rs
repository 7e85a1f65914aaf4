//! Fn Project: ids in the environment, written last by the platform, so no function of Fn's can forge them.

use super::rules::{Verdict, env as variable, function, matched, without};
use super::{IdentityConfig, image};
use crate::model::{Confidence, Container, Identity};

/// Length of the ids that Fn makes, and calls its containers by.
const ID_LEN: usize = 26;

/// `FN_FN_ID` and `FN_APP_ID`. Names are to be had from Fn's API alone. A stranger's image can set both; the name of a
/// container, an id of Fn's, it cannot.
pub fn env(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(id) = variable(container, "FN_FN_ID") else { return without("variable FN_FN_ID") };
    let Some(app) = variable(container, "FN_APP_ID") else { return without("variable FN_APP_ID") };
    let (confidence, why) = if is_id(container.name.as_deref()) {
        (
            Confidence::IdsOnly,
            "variables FN_FN_ID and FN_APP_ID hold its ids, the container's name is one too",
        )
    } else {
        (
            Confidence::Guessed,
            "variables FN_FN_ID and FN_APP_ID hold its ids, but an image can set them and the container's name is \
             none of Fn's",
        )
    };
    matched(
        Identity {
            namespace: Some(app.into()),
            function: Some(id.into()),
            revision: image::revision(container.image.as_deref()),
            instance_name: container.name.clone(),
            ..function("fnproject", confidence)
        },
        why,
    )
}

/// Whether a container's name is an id as Fn makes them.
pub(super) fn is_id(name: Option<&str>) -> bool {
    name.is_some_and(|name| name.len() == ID_LEN && name.bytes().all(|b| b.is_ascii_alphanumeric()))
}
