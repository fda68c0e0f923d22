//! The environment of a process, as data: what is configured by it can be tested without changing it.

use std::{collections::BTreeMap, ffi::OsString};

use super::{ConfigError, refuse};

/// Variables and their values.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
}

impl Environment {
    /// The environment of this process. Names that are not UTF-8 cannot be ours and are left out.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os();
        Self {
            variables: variables
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .collect(),
        }
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// The value of `name` even if it is empty; `None` when it is not set.
    pub(super) fn get(&self, name: &str) -> Result<Option<&str>, ConfigError> {
        let Some(value) = self.variables.get(name) else {
            return Ok(None);
        };
        match value.to_str() {
            Some(value) => Ok(Some(value)),
            // The value itself is not repeated: it may be a secret.
            None => refuse(format!("{name} is not valid UTF-8: correct or unset it")),
        }
    }

    /// The value of `name`; an empty one counts as not set.
    pub(super) fn get_filled(&self, name: &str) -> Result<Option<&str>, ConfigError> {
        Ok(self.get(name)?.filter(|value| !value.is_empty()))
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self {
            variables: variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }
}
