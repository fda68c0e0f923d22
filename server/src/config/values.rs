//! The text of every setting, and where it comes from: environment, YAML file or default, in this order.
//!
//! [`super::Config`] understands the texts, `jay-config show` prints them. Each text is one that its [`Kind`] accepts.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{
    ConfigError,
    alias::{self, Aliases},
    environment::Environment,
    file::{read_file, secret_in},
    interpolate::interpolate,
    kind::{Fault, flag},
    notice::Notice,
    refuse,
    setting::{self, Empty, SETTINGS, Setting},
    yaml::{Document, Located, Position},
};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The variable of the setting, or one that stands for it.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A file that a variable names.
    SecretFile {
        /// The variable, such as `JAY_ADMIN_TOKEN_FILE`.
        variable: String,
        /// The file.
        path: PathBuf,
    },
    /// The YAML file.
    Yaml(Position),
    /// Nothing sets it.
    Default,
}

/// A setting's value.
struct Value {
    /// `None`: not set, and there is no default. Empty: off, see [`Empty::Off`].
    text: Option<Zeroizing<String>>,
    source: Source,
}

/// All values, and what was odd about them.
pub struct Values {
    /// In the order of [`SETTINGS`].
    values: Vec<Value>,
    /// The YAML file, if there is one.
    pub file: Option<PathBuf>,
    /// What was odd.
    pub notices: Vec<Notice>,
}

/// A value that was found, before its kind has seen it.
struct Candidate {
    text: Zeroizing<String>,
    source: Source,
}

impl Values {
    /// Gathers the settings of `environment` and of the YAML file `file`, or else the one that `JAY_CONFIG_FILE` names.
    pub fn load(environment: &Environment, file: Option<&Path>) -> Result<Self, ConfigError> {
        let by_variable = environment
            .get_filled(setting::CONFIG_FILE.variable)?
            .map(PathBuf::from);
        let Some(path) = file.map(Path::to_owned).or(by_variable) else {
            return Self::of(environment, None);
        };
        let text = read_file(&path, "the configuration file")?;
        Self::of(environment, Some((&path, &text)))
    }

    /// Gathers the settings of `environment` and of a YAML file, given as its path and its text.
    pub fn of(environment: &Environment, file: Option<(&Path, &str)>) -> Result<Self, ConfigError> {
        let mut notices = unknown_variables(environment);
        let aliases = match environment.get_filled(setting::COMPAT_ENV.variable)? {
            Some(text) if flag(text) == Some(true) => Aliases::find(environment, &mut notices)?,
            _ => Aliases::default(),
        };
        let yaml = match file {
            Some((path, text)) => Some(Yaml::read(path, text, environment)?),
            None => None,
        };
        let mut gathering = Gathering {
            environment,
            aliases,
            yaml,
            notices,
        };
        let values = SETTINGS
            .iter()
            .map(|setting| gathering.value(setting))
            .collect::<Result<_, _>>()?;
        let Gathering {
            aliases, notices, ..
        } = gathering;
        let mut values = Self {
            values,
            notices,
            file: file.map(|(path, _)| path.to_owned()),
        };
        values.name_account_of_alias(&aliases);
        Ok(values)
    }

    /// The value of `setting`, its default, or `None`.
    pub fn text(&self, setting: &Setting) -> Option<&str> {
        self.value(setting).text.as_deref().map(String::as_str)
    }

    /// The value of a setting that may be absent; one that is off counts as absent.
    pub fn filled(&self, setting: &Setting) -> Option<&str> {
        self.text(setting).filter(|text| !text.is_empty())
    }

    /// Where the value of `setting` comes from.
    pub fn source(&self, setting: &Setting) -> &Source {
        &self.value(setting).source
    }

    /// What to call `setting` in an error: the variable or the place that it was set by.
    pub fn name(&self, setting: &Setting) -> String {
        self.source(setting).name(setting, self.file.as_deref())
    }

    fn value(&self, setting: &Setting) -> &Value {
        let at = SETTINGS.iter().position(|s| s.variable == setting.variable);
        &self.values[at.expect("every setting is a row of the table")]
    }

    /// An access key of an alias belongs to an account of a fixed name when nothing names one.
    fn name_account_of_alias(&mut self, aliases: &Aliases) {
        let Some((variable, _)) = aliases.get(&setting::SEED_ID) else {
            return;
        };
        let at = SETTINGS
            .iter()
            .position(|s| s.variable == setting::SEED_ACCOUNT.variable);
        if let Some(account) = at.map(|at| &mut self.values[at])
            && account.text.is_none()
        {
            *account = Value {
                text: Some(Zeroizing::new(alias::ACCOUNT.to_owned())),
                source: Source::Environment {
                    variable: variable.to_owned(),
                },
            };
        }
    }
}

impl Source {
    /// What to call `setting` when its value is from here; `file` is the YAML file.
    fn name(&self, setting: &Setting, file: Option<&Path>) -> String {
        match (self, setting.key) {
            (Self::Environment { variable }, _) => variable.clone(),
            (Self::SecretFile { variable, path }, _) => format!("{variable} ({})", path.display()),
            (Self::Yaml(at), Some(key)) => {
                format!("{}:{at}: {key}", file.unwrap_or(Path::new("")).display())
            }
            _ => setting.variable.to_owned(),
        }
    }
}

/// The YAML file and what its references mean.
struct Yaml<'a> {
    path: &'a Path,
    document: Document,
    environment: &'a Environment,
}

/// A value of the wrong type, or a reference to a variable that cannot be read.
enum TextError {
    Type(String),
    Variable(ConfigError),
}

impl From<String> for TextError {
    fn from(text: String) -> Self {
        Self::Type(text)
    }
}

impl<'a> Yaml<'a> {
    /// Reads the file, and refuses what is no setting.
    fn read(path: &'a Path, text: &str, environment: &'a Environment) -> Result<Self, ConfigError> {
        let located =
            |error: Located| refuse(format!("{}:{}: {}", path.display(), error.at, error.text));
        let document = match Document::parse(text) {
            Ok(document) => document,
            Err(error) => return located(error),
        };
        match document.strangers().into_iter().next() {
            Some(error) => located(error),
            None => Ok(Self {
                path,
                document,
                environment,
            }),
        }
    }

    /// The value of `setting` with its references replaced; `None` when the file does not have it.
    fn candidate(&self, setting: &Setting) -> Result<Option<Candidate>, ConfigError> {
        let Some(entry) = self.document.entry(setting) else {
            return Ok(None);
        };
        let mut expand = |text: &str| {
            interpolate(text, |name| {
                let value = self.environment.get(name).map_err(TextError::Variable)?;
                Ok(value.map(str::to_owned))
            })
        };
        let source = Source::Yaml(entry.value_at);
        match setting.kind.text_of(&entry.node, &mut expand) {
            Ok(text) => Ok(Some(Candidate {
                text: Zeroizing::new(text),
                source,
            })),
            Err(TextError::Type(why)) => {
                refuse(format!("{} {why}", source.name(setting, Some(self.path))))
            }
            Err(TextError::Variable(error)) => refuse(format!(
                "{}: {error}",
                source.name(setting, Some(self.path))
            )),
        }
    }
}

/// The sources, while values are taken from them.
struct Gathering<'a> {
    environment: &'a Environment,
    aliases: Aliases,
    yaml: Option<Yaml<'a>>,
    notices: Vec<Notice>,
}

impl Gathering<'_> {
    fn value(&mut self, setting: &'static Setting) -> Result<Value, ConfigError> {
        let environment = self.of_environment(setting)?;
        let yaml = match &self.yaml {
            Some(yaml) => yaml.candidate(setting)?,
            None => None,
        };
        let environment = self.accept(setting, environment)?;
        let yaml = self.accept(setting, yaml)?;
        let file = self.yaml.as_ref().map(|yaml| yaml.path);
        if let (Some(over), Some(under), Some(key)) = (&environment, &yaml, setting.key)
            && !under.text.is_empty()
            && canonical(setting, &over.text) != canonical(setting, &under.text)
        {
            let variable = match &over.source {
                Source::Environment { variable } | Source::SecretFile { variable, .. } => {
                    variable.clone()
                }
                other => other.name(setting, file),
            };
            self.notices.push(Notice::Overridden {
                key,
                variable,
                yaml_value: setting.shown(&under.text).to_owned(),
                env_value: setting.shown(&over.text).to_owned(),
            });
        }
        Ok(match environment.or(yaml) {
            Some(Candidate { text, source }) => Value {
                text: Some(text),
                source,
            },
            None => Value {
                text: setting.default.map(|text| Zeroizing::new(text.to_owned())),
                source: Source::Default,
            },
        })
    }

    /// The value of the variable of `setting`, of its file, or of a variable that stands for it.
    fn of_environment(&self, setting: &Setting) -> Result<Option<Candidate>, ConfigError> {
        let variable = setting.variable.to_owned();
        let direct = match setting.empty {
            Empty::Refused => self.environment.get(&variable)?,
            _ => self.environment.get_filled(&variable)?,
        };
        let file_variable = format!("{variable}_FILE");
        let file = match setting.is_secret {
            true => self.environment.get_filled(&file_variable)?,
            false => None,
        };
        match (direct, file) {
            (Some(_), Some(_)) => refuse(format!(
                "{variable} and {file_variable} are both set: unset one of them"
            )),
            (Some(text), None) => Ok(Some(Candidate {
                text: Zeroizing::new(text.to_owned()),
                source: Source::Environment { variable },
            })),
            (None, Some(path)) => {
                let path = PathBuf::from(path);
                let text = secret_in(&path, &file_variable)?;
                let source = Source::SecretFile {
                    variable: file_variable,
                    path,
                };
                Ok(Some(Candidate { text, source }))
            }
            (None, None) => Ok(self.aliases.get(setting).map(|(variable, text)| Candidate {
                text: Zeroizing::new(text.to_owned()),
                source: Source::Environment {
                    variable: variable.to_owned(),
                },
            })),
        }
    }

    /// Hands `candidate` to the kind of its setting: what is not usable is refused, or noted and dropped.
    fn accept(
        &mut self,
        setting: &'static Setting,
        candidate: Option<Candidate>,
    ) -> Result<Option<Candidate>, ConfigError> {
        let Some(mut candidate) = candidate else {
            return Ok(None);
        };
        let from_yaml = matches!(candidate.source, Source::Yaml(_));
        if candidate.text.is_empty() && setting.empty != Empty::Refused {
            // Only YAML, and files of secrets, get here with an empty text.
            return Ok(Some(candidate).filter(|_| from_yaml && setting.empty == Empty::Off));
        }
        match setting.kind.canonical(&candidate.text) {
            Ok(canonical) => {
                if setting.kind.is_number() {
                    candidate.text = Zeroizing::new(canonical);
                }
                Ok(Some(candidate))
            }
            Err(Fault::OutOfRange(error)) => {
                self.ignore(setting, &candidate, from_yaml, error);
                Ok(None)
            }
            Err(Fault::NotANumber(error)) if !from_yaml => {
                self.ignore(setting, &candidate, from_yaml, error);
                Ok(None)
            }
            Err(fault) => {
                let file = self.yaml.as_ref().map(|yaml| yaml.path);
                refuse(format!(
                    "{} {}",
                    candidate.source.name(setting, file),
                    fault.text()
                ))
            }
        }
    }

    fn ignore(
        &mut self,
        setting: &'static Setting,
        candidate: &Candidate,
        from_yaml: bool,
        error: String,
    ) {
        let name = setting.key.filter(|_| from_yaml);
        self.notices.push(Notice::Ignored {
            name: name.unwrap_or(setting.variable),
            value: setting.shown(&candidate.text).to_owned(),
            error,
        });
    }
}

/// One form for all texts that mean the same.
fn canonical(setting: &Setting, text: &str) -> Zeroizing<String> {
    let canonical = setting.kind.canonical(text);
    Zeroizing::new(canonical.unwrap_or_else(|_| text.to_owned()))
}

fn unknown_variables(environment: &Environment) -> Vec<Notice> {
    environment
        .names()
        .filter(|name| name.starts_with("JAY_") && !setting::is_known_variable(name))
        .map(|name| Notice::UnknownVariable {
            variable: name.to_owned(),
            nearest: setting::nearest_variable(name),
        })
        .collect()
}

#[cfg(test)]
mod tests;
