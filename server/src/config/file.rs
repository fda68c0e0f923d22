//! Reading files of settings and of secrets.

use std::{fs::File, io::Read as _, path::Path};

use zeroize::Zeroizing;

use super::{ConfigError, refuse};

/// Largest file of settings, and of a secret, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The secret in the file that `variable` names, without the newline at its end.
pub fn secret_in(path: &Path, variable: &str) -> Result<Zeroizing<String>, ConfigError> {
    let text = read_file(path, &format!("the file of {variable}"))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    Ok(Zeroizing::new(line.to_owned()))
}

/// The text of the file at `path`, which errors call `what`.
pub fn read_file(path: &Path, what: &str) -> Result<Zeroizing<String>, ConfigError> {
    let shown = path.display();
    let mut text = Zeroizing::new(String::new());
    let read =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(_) if text.len() as u64 > FILE_BYTES_MAX => refuse(format!(
            "{what} {shown} is larger than {FILE_BYTES_MAX} bytes"
        )),
        Ok(_) => Ok(text),
        Err(error) => refuse(format!("{what} {shown} cannot be read: {error}")),
    }
}
