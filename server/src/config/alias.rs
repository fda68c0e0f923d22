//! Variables of other stores and of AWS clients that `JAY_COMPAT_ENV=1` lets in, so that a test set-up made for
//! another store changes only its image.
//!
//! They rank as environment, below the `JAY_*` variables: above a YAML file. An access key comes from one source as a
//! whole, never an id from here and a secret from there.

use zeroize::Zeroizing;

use super::{
    ConfigError,
    environment::Environment,
    notice::Notice,
    setting::{self, Setting},
};

/// Id and secret of the access key; the first pair of which anything is set counts.
const ACCESS_KEYS: [[&str; 2]; 2] = [
    ["MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"],
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
];
/// Lists of buckets; the first that is set counts.
const BUCKETS: [&str; 2] = ["S3_BUCKET", "MINIO_DEFAULT_BUCKETS"];
/// The account that owns an access key from here, when nothing names one.
pub const ACCOUNT: &str = "default";

/// What the aliases stand for.
#[derive(Default)]
pub struct Aliases {
    /// Setting, variable that stands for it, its value.
    found: Vec<(&'static Setting, &'static str, Zeroizing<String>)>,
}

impl Aliases {
    /// Reads them from `environment` unless `JAY_*` variables there say the same.
    pub fn find(environment: &Environment, notices: &mut Vec<Notice>) -> Result<Self, ConfigError> {
        let mut aliases = Self::default();
        let seed = [
            &setting::SEED_ACCOUNT,
            &setting::SEED_ID,
            &setting::SEED_SECRET,
        ];
        let mut is_seeded = false;
        for setting in seed {
            is_seeded |= environment.get_filled(setting.variable)?.is_some();
            is_seeded |= environment
                .get_filled(&format!("{}_FILE", setting.variable))?
                .is_some();
        }
        if !is_seeded {
            aliases.find_access_key(environment)?;
        }
        for variable in BUCKETS {
            if let Some(text) = environment.get_filled(variable)? {
                let names = bucket_names(variable, text, notices);
                aliases
                    .found
                    .push((&setting::BUCKETS, variable, Zeroizing::new(names)));
                break;
            }
        }
        Ok(aliases)
    }

    fn find_access_key(&mut self, environment: &Environment) -> Result<(), ConfigError> {
        for [id, secret] in ACCESS_KEYS {
            let (id_value, secret_value) =
                (environment.get_filled(id)?, environment.get_filled(secret)?);
            if id_value.is_none() && secret_value.is_none() {
                continue;
            }
            match (id_value, secret_value) {
                (Some(id_value), Some(secret_value)) => self.found.extend([
                    (
                        &setting::SEED_ID as &Setting,
                        id,
                        Zeroizing::new(id_value.to_owned()),
                    ),
                    (
                        &setting::SEED_SECRET,
                        secret,
                        Zeroizing::new(secret_value.to_owned()),
                    ),
                ]),
                (None, _) => {
                    return super::refuse(format!(
                        "{id} is not set while {secret} is: set both or neither"
                    ));
                }
                (_, None) => {
                    return super::refuse(format!(
                        "{secret} is not set while {id} is: set both or neither"
                    ));
                }
            }
            break;
        }
        Ok(())
    }

    /// The variable that stands for `setting`, and its value.
    pub fn get(&self, setting: &Setting) -> Option<(&'static str, &str)> {
        let of_setting = |found: &&(&'static Setting, _, _)| found.0.variable == setting.variable;
        self.found
            .iter()
            .find(of_setting)
            .map(|(_, variable, value)| (*variable, value.as_str()))
    }
}

/// The names in `text`, which commas, semicolons or blanks separate; a name may be followed by `:POLICY`.
fn bucket_names(variable: &'static str, text: &str, notices: &mut Vec<Notice>) -> String {
    let mut names = Vec::new();
    for item in text
        .split([',', ';', ' ', '\t', '\n'])
        .filter(|item| !item.is_empty())
    {
        let (name, policy) = item.split_once(':').unwrap_or((item, "none"));
        if policy != "none" {
            notices.push(Notice::PolicyIgnored {
                variable,
                bucket: name.to_owned(),
            });
        }
        names.push(name);
    }
    names.join(",")
}
