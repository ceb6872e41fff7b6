//! What a person gives as input: text, a file, or standard input. All of it is bounded.

use crate::cli::failure::Failure;
use callboard_domain::limits;
use serde::de::IgnoredAny;
use std::io::IsTerminal;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// A task's input: JSON, `@FILE`, `-`, or what stands on standard input if that is no terminal.
pub(super) async fn task_input(given: Option<&str>) -> Result<Vec<u8>, Failure> {
    let bytes = match given {
        Some("-") => all_of(tokio::io::stdin(), "standard input").await?,
        Some(text) => match text.strip_prefix('@') {
            Some(path) => all_of(open(path).await?, path).await?,
            None => text.as_bytes().to_vec(),
        },
        None if std::io::stdin().is_terminal() => Vec::new(),
        None => all_of(tokio::io::stdin(), "standard input").await?,
    };
    let trimmed = bytes.trim_ascii();
    if trimmed.is_empty() {
        return Ok(b"{}".to_vec());
    }
    serde_json::from_slice::<IgnoredAny>(trimmed).map_err(|e| {
        let advice = if given.is_some_and(|t| !t.starts_with(['{', '@', '-'])) {
            "; for a file, write @FILE"
        } else {
            ""
        };
        Failure::Usage(format!("the input is no JSON: {e}{advice}"))
    })?;
    Ok(trimmed.to_vec())
}

/// A text: what is given, or standard input for `-`.
pub(super) async fn text(given: &str) -> Result<String, Failure> {
    let text = match given {
        "-" => String::from_utf8(all_of(tokio::io::stdin(), "standard input").await?)
            .map_err(|_| Failure::Usage("standard input is no UTF-8 text".to_owned()))?,
        given => given.to_owned(),
    };
    if text.trim().is_empty() {
        return Err(Failure::Usage("the text is empty".to_owned()));
    }
    Ok(text)
}

/// The lines of a file, or of standard input for `-`, but for empty ones.
pub(super) async fn texts(given: &str) -> Result<Vec<String>, Failure> {
    let (bytes, name) = match given {
        "-" => (all_of(tokio::io::stdin(), "standard input").await?, "standard input"),
        path => (all_of(open(path).await?, path).await?, path),
    };
    let text = String::from_utf8(bytes).map_err(|_| Failure::Usage(format!("{name} is no UTF-8 text")))?;
    let texts: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    match texts.is_empty() {
        true => Err(Failure::Usage(format!("{name} holds no text"))),
        false => Ok(texts),
    }
}

/// A file, or standard input for `-`, to be read by lines.
pub(super) async fn lines_of(given: &str) -> Result<Box<dyn AsyncBufRead + Unpin>, Failure> {
    Ok(match given {
        "-" => Box::new(BufReader::new(tokio::io::stdin())),
        path => Box::new(BufReader::new(open(path.strip_prefix('@').unwrap_or(path)).await?)),
    })
}

/// A line that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Its bytes, without the line break.
    Whole(Vec<u8>),
    /// It is longer than it may be; it was skipped.
    TooLong,
}

/// The next line, of at most `limit` bytes. None at the end.
pub(super) async fn next_line(
    reader: &mut (impl AsyncBufRead + Unpin + ?Sized),
    limit: usize,
) -> std::io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            if line.is_empty() && !too_long {
                return Ok(None);
            }
            break;
        }
        let end = available.iter().position(|b| *b == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        too_long |= line.len() + part.len() > limit;
        if !too_long {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            break;
        }
    }
    Ok(Some(if too_long { Line::TooLong } else { Line::Whole(line) }))
}

async fn open(path: &str) -> Result<tokio::fs::File, Failure> {
    tokio::fs::File::open(path).await.map_err(|e| unreadable(path, &e))
}

async fn all_of(reader: impl AsyncRead + Unpin, name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    // One byte more than may be, to tell.
    let limit = limits::INPUT_BYTES as u64 + 1;
    reader.take(limit).read_to_end(&mut bytes).await.map_err(|e| unreadable(name, &e))?;
    if bytes.len() > limits::INPUT_BYTES {
        return Err(Failure::Usage(format!(
            "{name} holds more than 1 MiB, the most a task's input may have"
        )));
    }
    Ok(bytes)
}

fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    Failure::Usage(format!("cannot read {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded_and_the_next_one_is_read_all_the_same() {
        // A small buffer, so that lines span several reads.
        let mut reader = BufReader::with_capacity(3, &b"abcdef\n\n1234567890\nxyz"[..]);
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut reader, 6).await.unwrap() {
            lines.push(line);
        }
        let whole = |text: &str| Line::Whole(text.as_bytes().to_vec());
        assert_eq!(lines, [whole("abcdef"), whole(""), Line::TooLong, whole("xyz")]);
    }

    #[tokio::test]
    async fn a_file_of_texts_has_one_a_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        std::fs::write(path, "green tea\n\n  \r\nblack tea\r\n").unwrap();
        assert_eq!(texts(path).await.unwrap(), ["green tea", "black tea"]);
        std::fs::write(path, "\n").unwrap();
        assert!(texts(path).await.unwrap_err().to_string().ends_with("holds no text"));
    }

    #[tokio::test]
    async fn input_is_checked_before_it_is_sent() {
        assert_eq!(task_input(Some(" ")).await.unwrap(), b"{}");
        assert_eq!(task_input(Some(" {\"a\":1.50} \n")).await.unwrap(), b"{\"a\":1.50}");
        let error = task_input(Some("brief.json")).await.unwrap_err();
        assert!(error.to_string().contains("write @FILE") && error.code() == 2, "{error}");
        let error = task_input(Some("@no-such-file")).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot read no-such-file"), "{error}");
    }
}
