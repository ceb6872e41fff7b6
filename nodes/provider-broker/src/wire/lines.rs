//! Newline-delimited JSON: bytes in any portions to lines.

use super::{EVENT_BYTES, Framing, TooLong};
use serde::de::IgnoredAny;

/// Takes bytes, gives lines without their ends. Empty lines are skipped.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
}

impl Framing for Lines {
    fn push(&mut self, mut bytes: &[u8], events: &mut Vec<Vec<u8>>) -> Result<(), TooLong> {
        loop {
            let end = bytes.iter().position(|b| *b == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + part.len() > EVENT_BYTES {
                return Err(TooLong);
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { return Ok(()) };
            bytes = &bytes[end + 1..];
            if self.line.trim_ascii().is_empty() {
                self.line.clear();
            } else {
                events.push(std::mem::take(&mut self.line));
            }
        }
    }

    /// A last line without its end, if it is a whole object: a part of one never is.
    fn close(&mut self) -> Option<Vec<u8>> {
        let rest = std::mem::take(&mut self.line);
        let whole =
            rest.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(&rest).is_ok();
        whole.then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(parts: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut events) = (Lines::default(), Vec::new());
        for part in parts {
            lines.push(part, &mut events).unwrap();
        }
        events.extend(lines.close());
        events.into_iter().map(|e| String::from_utf8(e).unwrap()).collect()
    }

    #[test]
    fn lines_come_whole_in_whatever_portions() {
        assert_eq!(decode(&[b"{\"a\"", b":1}\n\n \r\n{", b"}", b"\r\n"]), ["{\"a\":1}", "{}\r"]);
    }

    #[test]
    fn a_last_line_without_its_end_counts_if_it_is_whole() {
        assert_eq!(decode(&[b"{}\n{\"a\":1}"]), ["{}", "{\"a\":1}"]);
        assert_eq!(decode(&[b"{}\n{\"a\":1"]), ["{}"]);
        assert_eq!(decode(&[b"{}\n1"]), ["{}"]);
    }

    #[test]
    fn a_line_has_a_limit() {
        let (mut lines, mut events) = (Lines::default(), Vec::new());
        assert_eq!(lines.push(&vec![b'x'; EVENT_BYTES], &mut events), Ok(()));
        assert_eq!(lines.push(b"x", &mut events), Err(TooLong));
    }
}
