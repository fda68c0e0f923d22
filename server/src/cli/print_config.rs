//! `jay print-config`: how to connect, ready to paste; also the greeting of a first start.
//!
//! The one place that shows secrets, and only on standard output, never in the log.

use std::{fmt::Write as _, io::Write as _};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;
use zeroize::Zeroizing;

use super::tls;
use crate::{config::Config, credentials::Credentials, self_signed};

/// Options of `print-config`.
#[derive(Args)]
pub struct PrintConfigArgs {
    /// As one JSON object, admin token included
    #[arg(long)]
    json: bool,
}

/// Prints how to reach the store that `config` describes.
pub fn run(args: &PrintConfigArgs, config: &Config) -> anyhow::Result<()> {
    let Some(connection) = Connection::find(config)? else {
        let data_dir = std::path::absolute(&config.data_dir).unwrap_or_default();
        let data_dir = data_dir.display();
        match &config.secrets {
            None => bail!(
                "no credentials in {data_dir}: start `jay` there first, or set JAY_SEED_TOKEN_ACCOUNT, _ID and _SECRET"
            ),
            Some(_) => bail!(
                "with configured secrets Jay makes no access key: make one by `jay-admin create-account` and \
                 `jay-admin create-token`, or set JAY_SEED_TOKEN_ACCOUNT, _ID and _SECRET"
            ),
        }
    };
    let text = match args.json {
        true => Zeroizing::new(serde_json::to_string_pretty(&connection)? + "\n"),
        false => connection.lines_to_paste(),
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("standard output could not be written")
}

/// All that a client needs.
#[derive(Serialize)]
pub struct Connection {
    endpoint_url: String,
    region: String,
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket: Option<String>,
    /// Where the native protocol is served, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    jay_url: Option<String>,
    admin_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_token: Option<Zeroizing<String>>,
    /// The file by which clients trust a self-signed certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_bundle: Option<String>,
}

impl Connection {
    /// For the access key that Jay made, else for the seed token; `None` when there is neither.
    pub fn find(config: &Config) -> anyhow::Result<Option<Self>> {
        let configured = config.admin_token.clone();
        if let Some(made) = Credentials::load(&config.data_dir)? {
            let admin_token = configured.unwrap_or_else(|| made.admin_token.clone());
            return Ok(Some(Self::new(
                config,
                made.access_key_id,
                made.secret_access_key,
                Some(made.bucket),
                Some(admin_token),
            )));
        }
        Ok(config
            .seed_token
            .clone()
            .map(|seed| Self::new(config, seed.id, seed.secret, None, configured)))
    }

    fn new(
        config: &Config,
        access_key_id: String,
        secret_access_key: Zeroizing<String>,
        bucket: Option<String>,
        admin_token: Option<Zeroizing<String>>,
    ) -> Self {
        let s3 = config.listen_addr.connect_addr();
        let path = bucket
            .as_ref()
            .map(|bucket| format!("/{bucket}"))
            .unwrap_or_default();
        let scheme = tls::scheme(config);
        let native = config.native_addr.as_ref();
        let native_scheme = if scheme == "https" { "jays" } else { "jay" };
        let made = self_signed::in_use(&config.data_dir).filter(|_| config.tls.is_none());
        let ca_bundle = made.map(|files| {
            let path = std::path::absolute(&files.cert).unwrap_or(files.cert);
            path.display().to_string()
        });
        Self {
            endpoint_url: format!("{scheme}://{s3}"),
            region: config.region_or_default().to_owned(),
            access_key_id,
            secret_access_key,
            bucket,
            jay_url: native.map(|addr| format!("{native_scheme}://{}{path}", addr.connect_addr())),
            admin_url: format!("{scheme}://{}", config.admin_addr.connect_addr()),
            admin_token,
            ca_bundle,
        }
    }

    /// The lines that make a shell a client, and what to try in it.
    pub fn lines_to_paste(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", self.access_key_id.as_str()),
            ("AWS_SECRET_ACCESS_KEY", &self.secret_access_key),
            ("AWS_DEFAULT_REGION", &self.region),
            ("AWS_ENDPOINT_URL", &self.endpoint_url),
            // A URL ends up in logs and histories: the secret stays out of it.
            ("JAY_URL", self.jay_url.as_deref().unwrap_or_default()),
            ("JAY_TOKEN_ID", &self.access_key_id),
            ("JAY_TOKEN_SECRET", &self.secret_access_key),
        ] {
            if value.is_empty() {
                continue;
            }
            // Writing into a String does not fail.
            let _ = writeln!(text, "export {name}={}", quoted(value));
        }
        if let Some(path) = &self.ca_bundle {
            // The first is for boto3 and the AWS CLI, the second for curl.
            for name in ["AWS_CA_BUNDLE", "CURL_CA_BUNDLE"] {
                let _ = writeln!(text, "export {name}={}", quoted(path));
            }
        }
        let bucket = self.bucket.as_deref().unwrap_or("my-bucket");
        let _ = write!(
            text,
            r#"
# AWS CLI
#   aws s3 ls
#   aws s3 cp README.md s3://{bucket}/
# Python, with boto3
#   import boto3
#   s3 = boto3.client("s3")
#   s3.put_object(Bucket="{bucket}", Key="hello", Body=b"world")
# curl
#   curl --fail-with-body --aws-sigv4 "aws:amz:$AWS_DEFAULT_REGION:s3" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
#        -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" -T README.md "$AWS_ENDPOINT_URL/{bucket}/README.md"
"#
        );
        text
    }
}

/// `value` as one word of a shell.
fn quoted(value: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_./:@%+,".contains(&c);
    match !value.is_empty() && value.bytes().all(plain) {
        true => value.to_owned(),
        false => format!("'{}'", value.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn lines_hold_what_clients_read() {
        let config =
            Config::from_environment(&Environment::from_iter([("JAY_LISTEN_ADDR", ":9100")]))
                .unwrap();
        let connection = Connection::new(
            &config,
            "KEY".into(),
            Zeroizing::new("it's".into()),
            Some("default".into()),
            None,
        );
        let text = connection.lines_to_paste();
        for line in [
            "export AWS_ACCESS_KEY_ID=KEY\n",
            "export AWS_SECRET_ACCESS_KEY='it'\\''s'\n",
            "export AWS_DEFAULT_REGION=us-east-1\n",
            "export AWS_ENDPOINT_URL=http://127.0.0.1:9100\n",
            "export JAY_URL=jay://127.0.0.1:4444/default\n",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{}", *text);
        }
    }
}
