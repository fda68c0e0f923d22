//! Files of settings: read, checked, and turned into the other form and back.

use std::{collections::BTreeMap, path::Path};

use crate::config::{
    Config, Environment, Values,
    convert::{env_to_yaml, yaml_to_env},
    setting::{self, Empty, SETTINGS, Setting},
    validate::validate,
};

/// A text is read as YAML and as lines of variables: whatever comes of it means the same in the other form.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    as_yaml(text);
    as_variables(text);
}

fn as_yaml(text: &str) {
    let lines = text.split(['\n', '\r']).count();
    let errors = validate(text);
    assert!(
        errors
            .iter()
            .all(|error| (1..=lines + 1).contains(&error.at.line))
    );
    let environment = [("SET", "value"), ("EMPTY", ""), ("N", "5")];
    let environment: Environment = environment.into_iter().collect();
    let file = Some((Path::new("jay.yml"), text));
    if let Ok(values) = Values::of(&environment, file) {
        let _ = Config::from_values(&values);
    }
    let Ok(variables) = yaml_to_env("jay.yml", text) else {
        return;
    };
    same_settings(file, &variables.text);
    there_and_back(&variables.text);
}

/// What a file sets is set by its variables too, as long as nothing in it depends on other variables.
fn same_settings(file: Option<(&Path, &str)>, variables: &str) {
    let Ok(by_file) = Values::of(&Environment::default(), file) else {
        return;
    };
    if file.is_some_and(|(_, text)| text.contains('$')) {
        return;
    }
    let environment: Environment = read(variables).into_iter().collect();
    let by_variables = Values::of(&environment, None).unwrap_or_else(|error| {
        panic!("a good file became bad variables: {error}\n{variables}");
    });
    for setting in SETTINGS {
        // Only YAML can say that something is off.
        let is_off = by_file.text(setting) == Some("") && setting.empty == Empty::Off;
        if !is_off {
            let texts = (by_file.text(setting), by_variables.text(setting));
            let canonical = |text: Option<&str>| text.map(|text| canonical(setting, text));
            assert_eq!(
                canonical(texts.0),
                canonical(texts.1),
                "{}",
                setting.variable
            );
        }
    }
}

/// Lines of variables become YAML that says the same: the same settings, with the same comments.
fn as_variables(text: &str) {
    let yaml = env_to_yaml("jay.env", text).text;
    let variables = yaml_to_env("jay.yml", &yaml).unwrap_or_else(|error| {
        panic!("{}: {} in\n{}", error.at, error.text, *yaml);
    });
    assert!(
        variables.warnings.is_empty(),
        "{:?} of\n{}",
        variables.warnings,
        *yaml
    );
    there_and_back(&variables.text);
}

/// Variables that came out of a conversion go through YAML and are the same again, and from then on to the letter.
fn there_and_back(variables: &str) {
    let yaml = env_to_yaml("jay.env", variables);
    let odd = |warning: &String| !warning.ends_with("kept as a string");
    assert!(
        !yaml.warnings.iter().any(odd),
        "{:?} of\n{variables}",
        yaml.warnings
    );
    let again = yaml_to_env("jay.yml", &yaml.text).unwrap_or_else(|error| {
        panic!("{}: {} in\n{}", error.at, error.text, *yaml.text);
    });
    assert!(
        again.warnings.is_empty(),
        "{:?} of\n{}",
        again.warnings,
        *yaml.text
    );
    let canonical = |text: &str| {
        let known = |(name, value): (String, String)| {
            let setting = setting::by_variable(&name).expect("only settings are converted");
            (name, self::canonical(setting, &value))
        };
        read(text).into_iter().map(known).collect::<Vec<_>>()
    };
    assert_eq!(
        canonical(variables),
        canonical(&again.text),
        "by\n{}",
        *yaml.text
    );
    assert_eq!(
        comments(variables),
        comments(&again.text),
        "by\n{}",
        *yaml.text
    );
    assert_eq!(*env_to_yaml("jay.env", &again.text).text, *yaml.text);
}

/// One form for all texts that mean the same.
fn canonical(setting: &Setting, text: &str) -> String {
    let canonical = setting.kind.canonical(text);
    canonical.unwrap_or_else(|_| text.to_owned())
}

/// The variables in lines `NAME=value` that a conversion wrote, by the shortest possible reader.
fn read(variables: &str) -> BTreeMap<String, String> {
    let lines = variables
        .split('\n')
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pairs = lines.map(|line| line.split_once('=').expect("a line sets a variable"));
    let unquoted = |value: &str| match value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
        None => value.to_owned(),
        // Two backslashes first, or what follows one would be taken for its own.
        Some(inner) => {
            let parts = inner.split(r"\\").map(|part| {
                let part = part.replace(r"\n", "\n").replace(r"\r", "\r");
                part.replace("\\\"", "\"")
            });
            parts.collect::<Vec<_>>().join("\\")
        }
    };
    pairs
        .map(|(name, value)| (name.to_owned(), unquoted(value)))
        .collect()
}

/// The comments in lines of variables, sorted, without the first.
fn comments(variables: &str) -> Vec<&str> {
    let lines = variables.split('\n').skip(1);
    let mut comments: Vec<_> = lines.filter(|line| line.starts_with('#')).collect();
    comments.sort_unstable();
    comments
}
