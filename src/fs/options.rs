//! [`OpenOptions`]: how a file is opened.

use super::{File, on_pool};
use crate::sys::fd::above_stdio;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How to open a file; see [`std::fs::OpenOptions`] for what can be combined.
#[derive(Debug, Clone)]
pub struct OpenOptions(std::fs::OpenOptions);

macro_rules! options {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        impl OpenOptions {
            $(
                $(#[$doc])*
                pub fn $name(&mut self, $name: $type) -> &mut OpenOptions {
                    self.0.$name($name);
                    self
                }
            )*
        }
    };
}

options! {
    /// Sets whether the file can be read.
    read: bool;
    /// Sets whether the file can be written. Writes replace what is in the file.
    write: bool;
    /// Sets whether every write goes to the end of the file, even if another process has made the
    /// file longer in the meantime (`O_APPEND`).
    append: bool;
    /// Sets whether the file is emptied when it is opened (`O_TRUNC`).
    truncate: bool;
    /// Sets whether the file is created if it does not exist (`O_CREAT`).
    create: bool;
    /// Sets whether the file is created, with an error if it exists (`O_CREAT | O_EXCL`).
    create_new: bool;
    /// Sets the permissions of a file that is created, from which the umask is subtracted. The
    /// default is 0o666.
    mode: u32;
    /// Sets further flags for `open(2)`.
    custom_flags: i32;
}

impl OpenOptions {
    /// Opens the file.
    ///
    /// # Errors
    /// The error of `open(2)`, and `InvalidInput` for options that cannot be combined.
    ///
    /// # Cancel safety
    /// The file may have been created or emptied if the future is dropped.
    pub async fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let (options, path) = (self.0.clone(), path.as_ref().to_owned());
        let open = move || Ok(above_stdio(options.open(path)?)?);
        Ok(File::from_std(on_pool(open).await?))
    }
}

impl From<std::fs::OpenOptions> for OpenOptions {
    fn from(options: std::fs::OpenOptions) -> OpenOptions {
        OpenOptions(options)
    }
}

impl File {
    /// Returns options to open a file in other ways.
    pub fn options() -> OpenOptions {
        std::fs::OpenOptions::new().into()
    }
}
