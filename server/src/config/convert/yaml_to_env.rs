//! `jay-config yaml-to-env`.

use zeroize::Zeroizing;

use super::{
    super::{
        kind::Kind,
        setting::{Empty, SETTINGS, Setting},
        yaml::{Document, Entry, Located},
    },
    Converted, comment_lines, dotenv, first_line,
};

/// Turns the YAML `text` of the file `input` into lines `NAME=value`, in the order of the table of settings.
pub fn yaml_to_env(input: &str, text: &str) -> Result<Converted, Located> {
    let document = Document::parse(text)?;
    if let Some(error) = document.bad_groups.first() {
        return Err(error.clone());
    }
    let unknown = document
        .entries
        .iter()
        .filter(|entry| entry.setting.is_none());
    let mut warnings: Vec<String> = unknown
        .map(|entry| format!("skipping unknown YAML key: {}", entry.path))
        .collect();
    let mut env = Zeroizing::new(first_line("yaml-to-env", input));
    for setting in SETTINGS {
        let Some(entry) = document.entry(setting) else {
            continue;
        };
        env.push_str(&comment_lines(&entry.comments, ""));
        let value = value(setting, entry)?;
        if value.is_empty() && setting.empty == Empty::Off {
            let line = entry.at.line;
            warnings.push(format!(
                "line {line}: an empty {} means off, which no variable can say: skipped",
                entry.path
            ));
            continue;
        }
        env.push_str(&format!(
            "{}={}\n",
            setting.variable,
            dotenv::quoted(&value)
        ));
    }
    env.push_str(&comment_lines(&document.last_comments, ""));
    Ok(Converted {
        text: env,
        warnings,
    })
}

/// What the variable of `setting` holds instead of `entry`.
fn value(setting: &Setting, entry: &Entry) -> Result<Zeroizing<String>, Located> {
    let located = |why: String| Located::new(entry.value_at, format!("{} {why}", entry.path));
    let mut literally = |text: &str| Ok(text.to_owned());
    let text: Result<String, String> = setting.kind.text_of(&entry.node, &mut literally);
    let text = Zeroizing::new(text.map_err(located)?);
    if text.contains('\0') {
        return Err(located("holds a zero byte, which no variable can".into()));
    }
    // YAML has more words for yes and no than the variable.
    let has_words = matches!(setting.kind, Kind::Flag | Kind::Proxies) && !text.is_empty();
    match has_words.then(|| setting.kind.canonical(&text)) {
        Some(Ok(canonical)) => Ok(Zeroizing::new(canonical)),
        _ => Ok(text),
    }
}
