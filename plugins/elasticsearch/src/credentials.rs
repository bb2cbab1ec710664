//! What a request shows to be let in. A secret that stands in a file is read again when the file changes, so that it can
//! be rotated without a restart.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::HeaderValue;
use weir_plugin_sdk::Secret;

use crate::config::ElasticsearchConfig;

/// Tokens have a few kilobytes at most; a larger file is the wrong one.
const SECRET_MAX_BYTES: u64 = 64 << 10;

/// Makes the value of `Authorization`.
pub(crate) struct Credentials {
    scheme: Scheme,
    secret: SecretPlace,
}

enum Scheme {
    Basic { username: Secret },
    ApiKey,
    Bearer,
}

enum SecretPlace {
    Fixed(HeaderValue),
    File {
        path: PathBuf,
        read: Mutex<Option<(Stamp, HeaderValue)>>,
    },
}

/// What changes when a file is written or replaced.
pub(crate) type Stamp = (Option<SystemTime>, u64, u64);

impl Credentials {
    /// `None` where no credentials are configured. Errors: a secret that no header takes; without the secret.
    pub(crate) fn of(config: &ElasticsearchConfig) -> Result<Option<Self>, String> {
        let (scheme, secret, file) = if config.api_key.is_some() || config.api_key_file.is_some() {
            (Scheme::ApiKey, &config.api_key, &config.api_key_file)
        } else if config.bearer_token.is_some() || config.bearer_token_file.is_some() {
            (
                Scheme::Bearer,
                &config.bearer_token,
                &config.bearer_token_file,
            )
        } else if let Some(username) = &config.username {
            let username = username.clone();
            (
                Scheme::Basic { username },
                &config.password,
                &config.password_file,
            )
        } else {
            return Ok(None);
        };
        let secret = match (secret, file) {
            (Some(secret), _) => SecretPlace::Fixed(scheme.header(secret.expose())?),
            (None, Some(path)) => SecretPlace::File {
                path: path.into(),
                read: Mutex::default(),
            },
            (None, None) => return Ok(None),
        };
        Ok(Some(Credentials { scheme, secret }))
    }

    /// The header of a request that is sent now. Errors: the file cannot be read or holds no secret; without the secret.
    pub(crate) fn header(&self) -> Result<HeaderValue, String> {
        let (path, read) = match &self.secret {
            SecretPlace::Fixed(header) => return Ok(header.clone()),
            SecretPlace::File { path, read } => (path, read),
        };
        let failed = |what: String| format!("the secret file {} {what}", path.display());
        let metadata =
            fs::metadata(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
        let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((stamp, header)) = &*read
            && *stamp == stamp_of(&metadata)
        {
            return Ok(header.clone());
        }
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(SECRET_MAX_BYTES).read_to_string(&mut text))
            .map_err(|error| failed(format!("cannot be read: {error}")))?;
        let text = text.trim_end_matches(['\n', '\r', ' ', '\t']);
        if text.is_empty() {
            return Err(failed("is empty".to_owned()));
        }
        let header = self.scheme.header(text).map_err(failed)?;
        *read = Some((stamp_of(&metadata), header.clone()));
        Ok(header)
    }
}

pub(crate) fn stamp_of(metadata: &Metadata) -> Stamp {
    (metadata.modified().ok(), metadata.len(), metadata.ino())
}

impl Scheme {
    fn header(&self, secret: &str) -> Result<HeaderValue, String> {
        let text = match self {
            Scheme::Basic { username } => {
                let pair = format!("{}:{secret}", username.expose());
                format!("Basic {}", BASE64_STANDARD.encode(pair))
            }
            Scheme::ApiKey if secret.contains(':') => {
                format!("ApiKey {}", BASE64_STANDARD.encode(secret))
            }
            Scheme::ApiKey => format!("ApiKey {secret}"),
            Scheme::Bearer => format!("Bearer {secret}"),
        };
        let mut header = HeaderValue::try_from(text)
            .map_err(|_| "has characters that no request can carry".to_owned())?;
        header.set_sensitive(true);
        Ok(header)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::config;

    fn header(changes: Value) -> Option<String> {
        let credentials = Credentials::of(&config(changes)).expect("credentials")?;
        let header = credentials.header().expect("a header");
        assert!(header.is_sensitive() && !format!("{credentials:?}{header:?}").contains("hunter2"));
        Some(header.to_str().expect("text").to_owned())
    }

    #[test]
    fn each_kind_makes_its_header() {
        assert_eq!(header(json!({})), None);
        let basic = header(json!({ "username": "elastic", "password": "hunter2" }));
        assert_eq!(basic.as_deref(), Some("Basic ZWxhc3RpYzpodW50ZXIy"));
        for key in ["id:hunter2", "aWQ6aHVudGVyMg=="] {
            let api_key = header(json!({ "api_key": key }));
            assert_eq!(api_key.as_deref(), Some("ApiKey aWQ6aHVudGVyMg=="));
        }
        let bearer = header(json!({ "bearer_token": "hunter2" }));
        assert_eq!(bearer.as_deref(), Some("Bearer hunter2"));
    }

    #[test]
    fn case_52_a_secret_file_is_read_again_when_it_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let config = config(json!({ "bearer_token_file": path }));
        let credentials = Credentials::of(&config)
            .expect("credentials")
            .expect("some");
        assert!(
            credentials
                .header()
                .expect_err("missing")
                .contains("cannot be read")
        );
        for (text, expected) in [
            ("first\n", "Bearer first"),
            ("second, and longer", "Bearer second, and longer"),
        ] {
            fs::write(&path, text).expect("written");
            assert_eq!(credentials.header().expect("a header"), expected);
        }
        let replacement = folder.path().join("next");
        fs::write(&replacement, "third, and long too").expect("written");
        fs::rename(&replacement, &path).expect("renamed");
        assert_eq!(
            credentials.header().expect("a header"),
            "Bearer third, and long too"
        );
        fs::write(&path, "\n").expect("written");
        assert!(
            credentials
                .header()
                .expect_err("empty")
                .contains("is empty")
        );
        fs::write(&path, "hunter2\nhunter2").expect("written");
        let error = credentials.header().expect_err("two lines");
        assert!(
            error.contains("no request can carry") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
