//! The connection to the program that is looked into.

use crate::text::clean;
use fahrenheit::AsyncUnixStream;
use fahrenheit::prelude::*;
use std::path::Path;

/// Longer answers are refused. The service sends a tenth of this at most.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A connection to a program.
pub(crate) struct Client {
    stream: AsyncUnixStream,
    /// The path of its socket, for messages.
    path: String,
}

impl Client {
    /// Connects. The error is for the user.
    pub(crate) async fn connect(path: &Path) -> Result<Client, String> {
        let name = clean(&path.to_string_lossy());
        match AsyncUnixStream::connect(path).await {
            Ok(stream) => Ok(Client { stream, path: name }),
            Err(error) => Err(format!("cannot connect to {name}: {error}")),
        }
    }

    /// Sends a request, and returns the answer without its last line. The error is for the user.
    pub(crate) async fn ask(&mut self, request: &str) -> Result<String, String> {
        const END: &[u8] = b"\nend\n";
        let path = &self.path;
        // The answer to a client that is one too many comes before its request is read, so its
        // request may fail to be sent. What is wrong is in the answer.
        let line = format!("{request}\n");
        let sent = self.stream.write_all(line.as_bytes()).await;
        let mut answer = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        while !answer.ends_with(END) {
            match self.stream.read(&mut buffer).await {
                Ok(0) => return Err(format!("{path}: the program has closed the connection")),
                Ok(n) => answer.extend_from_slice(&buffer[..n]),
                Err(error) => return Err(format!("{path}: {}", sent.err().unwrap_or(error))),
            }
            if answer.len() > MAX_ANSWER {
                return Err(format!("{path}: the answer is too long"));
            }
        }
        answer.truncate(answer.len() - END.len());
        let answer = String::from_utf8_lossy(&answer).into_owned();
        match answer.strip_prefix("error\ttext=") {
            Some(text) => Err(format!("{path}: {}", clean(text))),
            None => Ok(answer),
        }
    }
}
