//! Reading files of settings and of secrets.

use std::{fs::File, io::Read as _, path::Path};

use zeroize::Zeroizing;

use super::{ConfigError, refuse};

/// Largest file of settings, and of a secret, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The secret in the file that `variable` names, without the newline at its end.
pub fn secret_in(path: &Path, variable: &str) -> Result<Zeroizing<String>, ConfigError> {
    // What is no whole path may be the secret itself, put in the place of its file: it is not repeated.
    let what = match path.is_absolute() {
        true => format!("the file of {variable} {}", path.display()),
        false => format!("the file of {variable}, which is not named by its whole path,"),
    };
    let text = read(path, &what)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    Ok(Zeroizing::new(line.to_owned()))
}

/// The text of the file at `path`, which errors call `what`.
pub fn read_file(path: &Path, what: &str) -> Result<Zeroizing<String>, ConfigError> {
    read(path, &format!("{what} {}", path.display()))
}

fn read(path: &Path, what: &str) -> Result<Zeroizing<String>, ConfigError> {
    let mut text = Zeroizing::new(String::new());
    let read =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(_) if text.len() as u64 > FILE_BYTES_MAX => {
            refuse(format!("{what} is larger than {FILE_BYTES_MAX} bytes"))
        }
        Ok(_) => Ok(text),
        Err(error) => refuse(format!("{what} cannot be read: {error}")),
    }
}
