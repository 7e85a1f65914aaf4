//! The labels that images carry, read from containerd's content store.
//!
//! Promises: whatever an image's builder does to have its labels not be read is told as [`Carried::Refused`], which is not
//! the same as having none; an image is read once while its digest is remembered, and bounded in blobs and bytes. Not here:
//! what blobs say (`image`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tonic::Status;
use tonic::transport::Channel;

use super::api::{ASK_LIMIT, in_namespace};
use super::image::{Blob, MAX_BLOB, MAX_BLOBS, blob, labels};
use super::record::ImageOf;
use crate::identity::{Keys, kept_with};
use crate::model::Container;
use crate::runtime::engine::EngineError;
use crate::runtime::grpc::containerd::services::content::v1::ReadContentRequest;
use crate::runtime::grpc::containerd::services::content::v1::content_client::ContentClient;
use crate::runtime::grpc::containerd::services::images::v1::GetImageRequest;
use crate::runtime::grpc::containerd::services::images::v1::images_client::ImagesClient;
use crate::runtime::grpc::{MAX_ANSWER, within};
use crate::runtime::images::Images;

/// For all images of one list together.
const LIST_LIMIT: Duration = Duration::from_secs(5);

/// What an image carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// These labels.
    Labels(Vec<(String, String)>),
    /// Not to be known: it is gone, or too large, or in a shape that nobody reads. Any label may be its own.
    Refused,
    /// Not known now: nobody answered in time.
    Late,
}

/// Reads labels of images.
#[derive(Debug)]
pub struct ImageLabels {
    channel: Channel,
    known: Images,
}

/// What one list has read: each image once, and all of them within [`LIST_LIMIT`].
#[derive(Debug, Default)]
pub struct Reading {
    spent: Duration,
    carried: HashMap<(String, ImageOf), Carried>,
}

impl ImageLabels {
    /// Of images behind `channel`.
    pub fn new(channel: Channel) -> ImageLabels {
        ImageLabels { channel, known: Images::default() }
    }

    /// What `image` of `namespace` carries, cut to `keys`.
    pub async fn of(&self, namespace: &str, image: &ImageOf, keys: &Arc<Keys>) -> Carried {
        let read = tokio::time::timeout(ASK_LIMIT, self.read(namespace, image, keys)).await;
        match read.unwrap_or(Err(EngineError::Late(ASK_LIMIT.as_secs()))) {
            Ok(labels) => Carried::Labels(labels),
            Err(error @ (EngineError::Late(_) | EngineError::Absent(_))) => {
                tracing::debug!(?image, %error, "image not read in time");
                Carried::Late
            }
            Err(error) => {
                tracing::debug!(?image, %error, "image not read; labels of its containers count as its own");
                Carried::Refused
            }
        }
    }

    /// The same for a list that has read so much already.
    pub async fn of_listed(
        &self,
        namespace: &str,
        image: &ImageOf,
        keys: &Arc<Keys>,
        reading: &mut Reading,
    ) -> Carried {
        let key = (namespace.to_owned(), image.clone());
        if let Some(carried) = reading.carried.get(&key) {
            return carried.clone();
        }
        let began = Instant::now();
        let left = LIST_LIMIT.saturating_sub(reading.spent);
        let carried = tokio::time::timeout(left, self.of(namespace, image, keys)).await;
        let carried = carried.unwrap_or(Carried::Late);
        reading.spent += began.elapsed();
        reading.carried.insert(key, carried.clone());
        carried
    }

    async fn read(
        &self,
        namespace: &str,
        image: &ImageOf,
        keys: &Arc<Keys>,
    ) -> Result<Vec<(String, String)>, EngineError> {
        let target = match image {
            ImageOf::Configuration(digest) => digest.clone(),
            ImageOf::Name(name) => self.target(namespace, name).await?,
        };
        // A name may be given to another image; what has a digest never changes.
        if let Some(known) = self.known.get(&target, keys) {
            return Ok(known);
        }
        let labels = match image {
            ImageOf::Configuration(_) => self.configured(namespace, target.clone(), keys).await?,
            ImageOf::Name(_) => self.found(namespace, target.clone(), keys).await?,
        };
        self.known.put(target, labels.clone(), keys);
        Ok(labels)
    }

    /// The digest that the image called `name` leads to.
    async fn target(&self, namespace: &str, name: &str) -> Result<String, EngineError> {
        let mut client = ImagesClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let request = in_namespace(namespace, GetImageRequest { name: name.into() })?;
        let image = within(ASK_LIMIT, client.get(request)).await?.image;
        image
            .and_then(|image| image.target)
            .map(|target| target.digest)
            .ok_or_else(|| EngineError::Garbled("an image without a target".into()))
    }

    /// The labels of all that could run here behind `target`, where they are the same.
    async fn found(
        &self,
        namespace: &str,
        target: String,
        keys: &Arc<Keys>,
    ) -> Result<Vec<(String, String)>, EngineError> {
        let garbled = |what: &str| EngineError::Garbled(what.into());
        // Blobs to read, and whether an index names them: of those, what was never fetched does not run here.
        let mut wanted = VecDeque::from([(target, false)]);
        let mut read = 0;
        let mut found: Option<Vec<(String, String)>> = None;
        while let Some((digest, may_be_absent)) = wanted.pop_front() {
            read += 1;
            if read > MAX_BLOBS {
                return Err(EngineError::TooLarge("an image of too many manifests".into()));
            }
            let bytes = match self.content(namespace, digest).await {
                Err(EngineError::NoSuchContainer) if may_be_absent => continue,
                bytes => bytes?,
            };
            match blob(&bytes).ok_or_else(|| garbled("neither an index nor a manifest"))? {
                Blob::Index(digests) => wanted.extend(digests.into_iter().map(|digest| (digest, true))),
                Blob::Manifest(configuration) => {
                    let labels = self.configured(namespace, configuration, keys).await?;
                    if *found.get_or_insert_with(|| labels.clone()) != labels {
                        return Err(garbled("manifests whose labels are not the same"));
                    }
                }
            }
        }
        found.ok_or(EngineError::NoSuchContainer)
    }

    /// The labels in the configuration that has `digest`, cut to what identity reads.
    async fn configured(
        &self,
        namespace: &str,
        digest: String,
        keys: &Arc<Keys>,
    ) -> Result<Vec<(String, String)>, EngineError> {
        let bytes = self.content(namespace, digest).await?;
        let labels = labels(&bytes).ok_or_else(|| EngineError::Garbled("no configuration".into()))?;
        let of_image = Container { image_labels: labels.into_iter().collect(), ..Container::default() };
        Ok(kept_with(of_image, keys).image_labels)
    }

    async fn content(&self, namespace: &str, digest: String) -> Result<Vec<u8>, EngineError> {
        let mut client = ContentClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let request = in_namespace(namespace, ReadContentRequest { digest, offset: 0, size: 0 })?;
        let read = async {
            let mut stream = client.read(request).await?.into_inner();
            let mut bytes = Vec::new();
            while let Some(part) = stream.message().await? {
                bytes.extend(part.data);
                if bytes.len() > MAX_BLOB {
                    return Err(Status::out_of_range("a blob that is too large"));
                }
            }
            Ok(tonic::Response::new(bytes))
        };
        within(ASK_LIMIT, read).await
    }
}
