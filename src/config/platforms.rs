//! Where platforms tell which function a container has become: their logs, and Kubernetes' labels.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where Kubernetes puts what a pod's service account may show.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Logs of platforms that are followed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlatformLogs {
    /// Logs of OpenWhisk's invokers; the file's name may hold `*`.
    pub openwhisk: Vec<String>,
}

impl PlatformLogs {
    pub(super) fn faults(&self) -> Vec<String> {
        let is_path = |text: &str| {
            let path = Path::new(text);
            let directory = path.parent().filter(|parent| !parent.to_string_lossy().contains('*'));
            path.is_absolute() && path.file_name().is_some() && !text.ends_with('/') && directory.is_some()
        };
        let wrong = self.openwhisk.iter().filter(|text| !is_path(text));
        let fault = |text: &String| {
            format!(
                "platform_logs.openwhisk has {text:?}; give a whole path, with `*` in the file's name alone, such as \
                 \"/var/log/openwhisk/invoker*_logs.log\""
            )
        };
        wrong.map(fault).collect()
    }
}

/// Who is asked for the labels of pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KubernetesApi {
    /// Nobody.
    #[default]
    Off,
    /// The kubelet of this node, again and again.
    Kubelet,
    /// The API server, which tells of each change.
    ApiServer,
}

/// Labels of pods that change in their lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kubernetes {
    /// Who is asked.
    pub api: KubernetesApi,
    /// Where that is, such as `https://10.0.0.7:10250`; where a pod finds it unless given.
    pub url: Option<String>,
    /// Who signed its certificate: a file of certificates.
    pub ca: PathBuf,
    /// The token that is shown; no file, no token.
    pub token: PathBuf,
}

impl Default for Kubernetes {
    fn default() -> Kubernetes {
        let of_the_account = |name: &str| Path::new(SERVICE_ACCOUNT).join(name);
        Kubernetes {
            api: KubernetesApi::Off,
            url: None,
            ca: of_the_account("ca.crt"),
            token: of_the_account("token"),
        }
    }
}

impl Kubernetes {
    /// The kubelet unless told otherwise: on the node's own network.
    const KUBELET: &str = "https://127.0.0.1:10250";

    /// Where to ask, without a slash at its end; an IPv6 address of `url` is put into brackets.
    ///
    /// # Errors
    /// The API server is to be asked, and neither is it named nor does this process run in a pod.
    pub fn server(&self, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
        if let Some(url) = &self.url {
            return Ok(bracketed(url.trim_end_matches('/')));
        }
        if self.api != KubernetesApi::ApiServer {
            return Ok(Kubernetes::KUBELET.into());
        }
        let host = variable("KUBERNETES_SERVICE_HOST").filter(|host| !host.is_empty());
        let host = host.ok_or(
            "kubernetes.api is \"apiserver\", but there is no KUBERNETES_SERVICE_HOST: name it in kubernetes.url, such as \
             \"https://10.96.0.1:443\"",
        )?;
        let port = variable("KUBERNETES_SERVICE_PORT_HTTPS").or_else(|| variable("KUBERNETES_SERVICE_PORT"));
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Ok(format!("https://{host}:{}", port.as_deref().unwrap_or("443")))
    }

    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let is_url = |url: &str| {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            rest.is_some_and(|rest| {
                !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['?', '#', '@', ' '])
            })
        };
        if let Some(url) = self.url.as_deref().filter(|url| !is_url(url)) {
            faults.push(format!("kubernetes.url is {url:?}; give such as \"https://10.0.0.7:10250\""));
        }
        faults
    }
}

/// `url`, with brackets around its host where that is an IPv6 address without them: whoever puts an address into a URL by a
/// template, as a DaemonSet does, has no way to. What stands behind the last colon is the port, if the rest is an address.
fn bracketed(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.into() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_address = |host: &str| host.parse::<Ipv6Addr>().is_ok();
    match authority.rsplit_once(':') {
        Some((host, port)) if is_address(host) && port.parse::<u16>().is_ok() => {
            format!("{scheme}://[{host}]:{port}{path}")
        }
        _ if is_address(authority) => format!("{scheme}://[{authority}]{path}"),
        _ => url.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    #[test]
    fn every_key_is_read_and_checked() {
        let text = "[kubernetes]\napi = \"apiserver\"\nurl = \"https://[::1]:6443/\"\n[platform_logs]\nopenwhisk = [\"/a/b*.log\"]\n";
        let config: Config = toml::from_str(text).unwrap();
        assert!(config.faults().is_empty(), "{:?}", config.faults());
        assert_eq!(config.kubernetes.server(|_| None).as_deref(), Ok("https://[::1]:6443"));
        for (logs, urls, faults) in [
            (
                &["b.log", "/a*/b", "/", "/a/"][..],
                &["10.0.0.7", "ftp://a", "https://", "https:///a", "http://a?b"][..],
                5,
            ),
            (&[], &["http://127.0.0.1:10255"], 0),
        ] {
            let mut count = 0;
            for url in urls {
                count += Kubernetes { url: Some((*url).into()), ..Kubernetes::default() }.faults().len();
            }
            assert_eq!(count, faults, "{urls:?}");
            let logs = PlatformLogs { openwhisk: logs.iter().map(|log| (*log).into()).collect() };
            assert_eq!(logs.faults().len(), logs.openwhisk.len(), "{logs:?}");
        }
        assert!(toml::from_str::<Config>("[kubernetes]\napi = \"on\"").is_err());
    }

    #[test]
    fn an_address_of_ipv6_needs_no_brackets() {
        for (url, server) in [
            ("https://2001:db8::7:10250", "https://[2001:db8::7]:10250"),
            ("https://2001:db8::7:443/", "https://[2001:db8::7]:443"),
            ("https://1:2:3:4:5:6:7:8:10250", "https://[1:2:3:4:5:6:7:8]:10250"),
            ("https://::ffff:10.0.0.7:10250/a", "https://[::ffff:10.0.0.7]:10250/a"),
            ("https://1:2:3:4:5:6:7:8", "https://[1:2:3:4:5:6:7:8]"),
            ("https://fe80::", "https://[fe80::]"),
            ("https://[2001:db8::7]:10250", "https://[2001:db8::7]:10250"),
            ("https://10.0.0.7:10250", "https://10.0.0.7:10250"),
            ("https://node-7:10250", "https://node-7:10250"),
            ("https://node-7", "https://node-7"),
            ("https://2001:db8::7:x", "https://2001:db8::7:x"),
        ] {
            let kubernetes = Kubernetes { url: Some(url.into()), ..Kubernetes::default() };
            assert_eq!(kubernetes.server(|_| None).as_deref(), Ok(server));
            assert_eq!(kubernetes.faults(), [""; 0], "{url}");
        }
    }

    proptest! {
        #[test]
        fn a_url_is_changed_by_brackets_alone(url in "(https|http|:|/|::|[0-9a-f]{1,4}:|\\[|\\]|10250|\\PC){0,12}") {
            let changed = bracketed(&url);
            let without = |text: &str| text.replace(['[', ']'], "");
            prop_assert_eq!(without(&changed), without(&url));
            prop_assert_eq!(&bracketed(&changed), &changed);
        }
    }

    #[test]
    fn a_pod_finds_the_server_by_its_environment() {
        let asked = |api| Kubernetes { api, ..Kubernetes::default() };
        let in_pod = |host: &'static str| {
            move |name: &str| match name {
                "KUBERNETES_SERVICE_HOST" => Some(host.to_owned()),
                "KUBERNETES_SERVICE_PORT" => Some("6443".to_owned()),
                _ => None,
            }
        };
        let server = |host| asked(KubernetesApi::ApiServer).server(in_pod(host));
        assert_eq!(server("10.96.0.1").as_deref(), Ok("https://10.96.0.1:6443"));
        assert_eq!(server("fd00::1").as_deref(), Ok("https://[fd00::1]:6443"));
        assert!(asked(KubernetesApi::ApiServer).server(|_| None).unwrap_err().contains("kubernetes.url"));
        assert_eq!(asked(KubernetesApi::Kubelet).server(|_| None).as_deref(), Ok("https://127.0.0.1:10250"));
    }
}
