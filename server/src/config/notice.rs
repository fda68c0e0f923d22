//! What is odd about a configuration and no reason not to start: said once there is a log.

use std::fmt;

/// Something odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A value was not usable; the setting is what it was without it.
    Ignored {
        /// The variable or the YAML key.
        name: &'static str,
        /// What it held; no secret has such values.
        value: String,
        /// Why that was not usable.
        error: String,
    },
    /// A variable and the YAML file disagree, and the variable wins. Secrets are masked.
    Overridden {
        /// The YAML key.
        key: &'static str,
        /// The variable.
        variable: String,
        /// What the file says.
        yaml_value: String,
        /// What the variable says.
        env_value: String,
    },
    /// A variable that starts as ours do and is none.
    UnknownVariable {
        /// Its name.
        variable: String,
        /// The one that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A bucket of another store's variable comes with a policy, which is not applied.
    PolicyIgnored {
        /// The variable.
        variable: &'static str,
        /// The bucket.
        bucket: String,
    },
}

impl Notice {
    /// Writes it to the log: as an error when a value was ignored, else as a warning.
    pub fn log(&self) {
        match self {
            Self::Ignored { name, value, error } => {
                tracing::error!(value, err = error, "invalid {name}, keeping previous value");
            }
            Self::Overridden {
                key,
                variable,
                yaml_value,
                env_value,
            } => tracing::warn!(
                key,
                env_var = variable,
                yaml_value,
                env_value,
                "config: env var overrides YAML value"
            ),
            Self::UnknownVariable { variable, nearest } => tracing::warn!(
                env_var = variable,
                nearest = nearest.unwrap_or_default(),
                "config: unknown environment variable"
            ),
            Self::PolicyIgnored { variable, bucket } => tracing::warn!(
                env_var = variable,
                bucket,
                "config: the policy of the bucket is not applied, set it by the admin API"
            ),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ignored { name, value, error } => {
                write!(
                    f,
                    "invalid {name}, keeping previous value: {value:?} {error}"
                )
            }
            Self::Overridden { key, variable, .. } => {
                write!(f, "{variable} overrides {key} of the YAML file")
            }
            Self::UnknownVariable { variable, nearest } => match nearest {
                Some(nearest) => write!(f, "unknown variable {variable}: did you mean {nearest}?"),
                None => write!(f, "unknown variable {variable}"),
            },
            Self::PolicyIgnored { variable, bucket } => {
                write!(
                    f,
                    "{variable}: the policy of bucket {bucket} is not applied"
                )
            }
        }
    }
}
