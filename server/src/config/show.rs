//! `jay-config show`: the value of every setting and where it comes from, secrets masked.

use serde::Serialize;

use super::{
    setting::SETTINGS,
    values::{Source, Values},
};

/// One setting as it is in force.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// The variable.
    pub variable: &'static str,
    /// The YAML key.
    pub key: Option<&'static str>,
    /// The value, masked when it is a secret; `None` when there is none.
    pub value: Option<String>,
    /// `environment`, `secret-file`, `yaml` or `default`.
    pub source: &'static str,
    /// The variable or the place that set it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// What it is for.
    pub about: &'static str,
}

/// All settings, in the order of the table.
pub fn show(values: &Values) -> Vec<Shown> {
    let shown = SETTINGS.iter().map(|setting| {
        let file = || values.file.as_ref().map(|file| file.display().to_string());
        let (source, at) = match values.source(setting) {
            Source::Environment { variable } => ("environment", Some(variable.clone())),
            Source::SecretFile { variable, path } => (
                "secret-file",
                Some(format!("{variable} ({})", path.display())),
            ),
            Source::Yaml(at) => ("yaml", Some(format!("{}:{at}", file().unwrap_or_default()))),
            Source::Default => ("default", None),
        };
        Shown {
            variable: setting.variable,
            key: setting.key,
            value: values
                .text(setting)
                .map(|text| setting.shown(text).to_owned()),
            source,
            at,
            about: setting.about,
        }
    });
    shown.collect()
}

/// `rows` as lines for people, in columns.
pub fn table(rows: &[Shown]) -> String {
    let value = |row: &Shown| match &row.value {
        None => "-".to_owned(),
        Some(text) if text.is_empty() => "(off)".to_owned(),
        // A newline would break the table.
        Some(text) => text.escape_debug().to_string(),
    };
    let width = |of: &dyn Fn(&Shown) -> usize| rows.iter().map(of).max().unwrap_or_default();
    let names = width(&|row| row.variable.len());
    let values = width(&|row| value(row).chars().count()).min(40);
    let line = |row: &Shown| {
        let source = row.at.as_deref().unwrap_or(row.source);
        format!(
            "{:names$}  {:values$}  {source}\n",
            row.variable,
            value(row)
        )
    };
    rows.iter().map(line).collect()
}
