//! Names made from what a container says: text with `${…}` in it, as rules of the configuration give them.
//!
//! Known are `${label:KEY}`, `${env:KEY}`, `${image}`, `${image.repo}`, `${image.tag}` and `${name}`. A template that
//! is none keeps its fault until the configuration is checked, so that all faults are told at once.

use serde::{Deserialize, Serialize};

use super::image::ImageRef;
use super::pod;
use crate::model::Container;

/// A name with places to fill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Template {
    text: String,
    parts: Result<Vec<Part>, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Label(String),
    Env(String),
    Image,
    ImageRepo,
    ImageTag,
    Name,
}

/// What may stand in `${…}`, for people.
const KNOWN: &str = "label:KEY, env:KEY, image, image.repo, image.tag, name";

impl From<String> for Template {
    fn from(text: String) -> Template {
        Template { parts: parse(&text), text }
    }
}

impl From<Template> for String {
    fn from(template: Template) -> String {
        template.text
    }
}

impl Template {
    /// What is wrong with it, where it is none.
    pub fn fault(&self) -> Option<String> {
        match &self.parts {
            Ok(_) if self.text.is_empty() => Some("it is empty".into()),
            Ok(_) => None,
            Err(fault) => Some(format!("{:?}: {fault}", self.text)),
        }
    }

    /// The labels it reads.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.parts().iter().filter_map(|part| match part {
            Part::Label(key) => Some(key.as_str()),
            _ => None,
        })
    }

    /// The variables it reads.
    pub fn env(&self) -> impl Iterator<Item = &str> {
        self.parts().iter().filter_map(|part| match part {
            Part::Env(key) => Some(key.as_str()),
            _ => None,
        })
    }

    /// The name it makes of `container`.
    ///
    /// # Errors
    /// What `container` lacks: a name with a hole in it would be shared by strangers.
    pub fn fill(&self, container: &Container) -> Result<String, String> {
        let parts = self.parts.as_ref().map_err(Clone::clone)?;
        let image = container.image.as_deref().filter(|image| !image.is_empty());
        let image_ref = image.map(ImageRef::new);
        let mut filled = String::new();
        for part in parts {
            let (value, lacks) = match part {
                Part::Text(text) => (Some(text.as_str()), ""),
                Part::Label(key) => (pod::any_label(container, key), "label"),
                Part::Env(key) => (container.env(key), "variable"),
                Part::Image => (image, "image"),
                Part::ImageRepo => (image_ref.map(|image| image.repository), "image"),
                Part::ImageTag => (image_ref.and_then(|image| image.tag), "image tag"),
                Part::Name => (pod::given_name(container), "name"),
            };
            match (value.filter(|value| !value.is_empty()), part) {
                (Some(value), _) => filled.push_str(value),
                (None, Part::Text(_)) => {}
                (None, Part::Label(key) | Part::Env(key)) => {
                    return Err(format!("{lacks} {key} is absent or empty"));
                }
                (None, _) => return Err(format!("it has no {lacks}")),
            }
        }
        Ok(filled)
    }

    fn parts(&self) -> &[Part] {
        self.parts.as_deref().unwrap_or_default()
    }
}

fn parse(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        let (key, after) = behind.split_once('}').ok_or("`${` without `}`")?;
        parts.push(Part::Text(before.into()));
        parts.push(match key.split_once(':') {
            Some(("label", key)) if !key.is_empty() => Part::Label(key.into()),
            Some(("env", key)) if !key.is_empty() => Part::Env(key.into()),
            None if key == "image" => Part::Image,
            None if key == "image.repo" => Part::ImageRepo,
            None if key == "image.tag" => Part::ImageTag,
            None if key == "name" => Part::Name,
            _ => return Err(format!("`${{{key}}}` is unknown; known are {KNOWN}")),
        });
        rest = after;
    }
    parts.push(Part::Text(rest.into()));
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> Container {
        Container {
            name: Some("box".into()),
            image: Some("host:5000/team/fn:7".into()),
            labels: vec![("team".into(), "a".into()), ("empty".into(), String::new())],
            env: vec!["FN=f=1".into()],
            ..Container::default()
        }
    }

    #[test]
    fn places_are_filled_or_said_to_be_missing() {
        for (text, filled) in [
            ("plain", Ok("plain")),
            ("${label:team}-${env:FN}", Ok("a-f=1")),
            ("${image}", Ok("host:5000/team/fn:7")),
            ("${image.repo}@${image.tag}", Ok("host:5000/team/fn@7")),
            ("<${name}>", Ok("<box>")),
            ("$name $ {} }", Ok("$name $ {} }")),
            ("x${label:none}", Err("label none is absent or empty")),
            ("${label:empty}", Err("label empty is absent or empty")),
            ("${env:NONE}", Err("variable NONE is absent or empty")),
        ] {
            let template = Template::from(text.to_owned());
            assert_eq!(template.fault(), None, "{text}");
            assert_eq!(
                template.fill(&container()).as_deref(),
                filled.map_err(String::from).as_deref(),
                "{text}"
            );
        }
        for (text, lacks) in
            [("${name}", "no name"), ("${image}", "no image"), ("${image.tag}", "no image tag")]
        {
            let error = Template::from(text.to_owned()).fill(&Container::default()).expect_err(text);
            assert!(error.contains(lacks), "{error}");
        }
    }

    #[test]
    fn what_is_no_template_says_why() {
        for (text, says) in [
            ("", "empty"),
            ("${name", "without `}`"),
            ("${}", "unknown"),
            ("${label:}", "unknown"),
            ("${labels:x}", "label:KEY"),
            ("${image.digest}", "image.tag"),
        ] {
            let template = Template::from(text.to_owned());
            let fault = template.fault().expect(text);
            assert!(fault.contains(says), "{text}: {fault}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_template_or_a_fault(text in "(\\$\\{|\\}|label:|env:|image|name|[a-z]|.){0,12}") {
            let template = Template::from(text);
            if template.fault().is_some() && template.fill(&container()).is_ok() {
                proptest::prop_assert_eq!(template.fill(&container()), Ok(String::new()));
            }
            let _ = (template.labels().count(), template.env().count());
        }
    }
}
