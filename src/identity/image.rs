//! Image references taken apart: `[registry[:port]/]path[:tag][@digest]`.
//!
//! Not a validator: any text is some reference, and its parts never panic and never grow.

/// The parts of an image reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageRef<'a> {
    /// Registry and path. An image known by its id alone (`sha256:…`) is its own repository.
    pub repository: &'a str,
    /// Tag, without the colon.
    pub tag: Option<&'a str>,
    /// Digest, without the at sign.
    pub digest: Option<&'a str>,
}

impl<'a> ImageRef<'a> {
    /// Takes `image` apart.
    pub fn new(image: &'a str) -> ImageRef<'a> {
        if image.starts_with("sha256:") {
            return ImageRef { repository: image, tag: None, digest: None };
        }
        let (named, digest) =
            image.split_once('@').map_or((image, None), |(named, digest)| (named, Some(digest)));
        // A colon before the last slash belongs to the registry's port.
        let (repository, tag) = match named.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (named, None),
        };
        ImageRef { repository, tag, digest }
    }

    /// The last component of the path.
    pub fn base_name(&self) -> &'a str {
        self.repository.rsplit('/').next().unwrap_or(self.repository)
    }
}

/// `image` as a revision: without its digest where it has a tag; the digest alone tells two codes apart where not.
pub fn revision(image: Option<&str>) -> Option<String> {
    let image = image.filter(|image| !image.is_empty())?;
    let parts = ImageRef::new(image);
    Some(match (parts.tag, parts.digest) {
        (Some(tag), _) => format!("image:{}:{tag}", parts.repository),
        (None, Some(digest)) => format!("image:{}@{digest}", parts.repository),
        (None, None) => format!("image:{}", parts.repository),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_taken_apart_at_the_right_marks() {
        for (image, repository, tag, base, as_revision) in [
            ("myfn", "myfn", None, "myfn", "image:myfn"),
            ("myfn:1", "myfn", Some("1"), "myfn", "image:myfn:1"),
            ("host:5000/a/myfn", "host:5000/a/myfn", None, "myfn", "image:host:5000/a/myfn"),
            ("host:5000/a/myfn:2", "host:5000/a/myfn", Some("2"), "myfn", "image:host:5000/a/myfn:2"),
            ("a/f:latest@sha256:00", "a/f", Some("latest"), "f", "image:a/f:latest"),
            ("a/f@sha256:00", "a/f", None, "f", "image:a/f@sha256:00"),
            ("sha256:00ff", "sha256:00ff", None, "sha256:00ff", "image:sha256:00ff"),
            ("@:/", "", None, "", "image:@:/"),
        ] {
            let parts = ImageRef::new(image);
            assert_eq!((parts.repository, parts.tag, parts.base_name()), (repository, tag, base), "{image}");
            assert_eq!(revision(Some(image)).as_deref(), Some(as_revision), "{image}");
        }
        assert_eq!(revision(Some("")), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_some_reference(image in ".*") {
            let parts = ImageRef::new(&image);
            proptest::prop_assert!(parts.base_name().len() <= image.len());
            let _ = revision(Some(&image));
        }
    }
}
