//! Server-sent events: bytes in any portions to the data of events.

use super::{EVENT_BYTES, Framing, TooLong};

/// Takes bytes, gives events. Lines end with LF, CR or both; comments and fields other than `data` are
/// skipped.
#[derive(Debug, Default)]
pub(crate) struct Events {
    line: Vec<u8>,
    /// The data of the event so far, if it has any.
    data: Option<Vec<u8>>,
    /// The last byte was a CR, so an LF belongs to it.
    after_cr: bool,
    /// The first line has been seen, so a byte order mark is no longer one.
    begun: bool,
}

impl Framing for Events {
    fn push(&mut self, mut bytes: &[u8], events: &mut Vec<Vec<u8>>) -> Result<(), TooLong> {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + part.len() > EVENT_BYTES {
                return Err(TooLong);
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { return Ok(()) };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_line(events)?;
        }
        Ok(())
    }

    /// What the end of the stream leaves: an event whose lines are whole but for the empty one, and a last
    /// line without its end if it is `[DONE]`.
    fn close(&mut self) -> Option<Vec<u8>> {
        let rest = std::mem::take(&mut self.line);
        match data_of(&rest) {
            Some(b"[DONE]") => Some(b"[DONE]".to_vec()),
            _ => self.data.take(),
        }
    }
}

impl Events {
    fn end_line(&mut self, events: &mut Vec<Vec<u8>>) -> Result<(), TooLong> {
        let mut line = self.line.as_slice();
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            events.extend(self.data.take());
        } else if let Some(data) = data_of(line) {
            match &mut self.data {
                Some(all) if all.len() + 1 + data.len() > EVENT_BYTES => return Err(TooLong),
                Some(all) => {
                    all.push(b'\n');
                    all.extend_from_slice(data);
                }
                None => self.data = Some(data.to_vec()),
            }
        }
        self.line.clear();
        Ok(())
    }
}

/// The value of a line's `data` field.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    let value = line.strip_prefix(b"data")?;
    match value {
        [] => Some(value),
        [b':', b' ', rest @ ..] | [b':', rest @ ..] => Some(rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(parts: &[&[u8]]) -> Vec<String> {
        let (mut decoder, mut events) = (Events::default(), Vec::new());
        for part in parts {
            decoder.push(part, &mut events).unwrap();
        }
        events.extend(decoder.close());
        events.into_iter().map(|e| String::from_utf8(e).unwrap()).collect()
    }

    #[test]
    fn lines_end_as_they_like_and_noise_is_skipped() {
        let text = b"\xef\xbb\xbfdata: a\n\n: comment\r\nevent: x\r\ndata:b\r\ndata: c\r\n\r\nid: 1\r\rdata:  d\r\rdata\n\ndatax: e\n\n";
        assert_eq!(decode(&[text]), ["a", "b\nc", " d", ""]);
    }

    #[test]
    fn the_end_leaves_whole_lines_only() {
        assert_eq!(decode(&[b"data: a\n"]), ["a"]);
        assert_eq!(decode(&[b"data: {\"half"]), [""; 0]);
        assert_eq!(decode(&[b"data: a\n\ndata: [DONE]"]), ["a", "[DONE]"]);
    }

    #[test]
    fn lines_and_events_have_a_limit() {
        let mut decoder = Events::default();
        let long = vec![b'x'; EVENT_BYTES];
        let mut events = Vec::new();
        assert_eq!(decoder.push(&long, &mut events), Ok(()));
        assert_eq!(decoder.push(b"x", &mut events), Err(TooLong));
        let mut decoder = Events::default();
        let line = [b"data: ".as_slice(), &vec![b'x'; EVENT_BYTES / 2], b"\n"].concat();
        assert_eq!(decoder.push(&line, &mut events), Ok(()));
        assert_eq!(decoder.push(&line, &mut events), Err(TooLong));
    }

    proptest! {
        #[test]
        fn portions_do_not_matter(text in "(data: ?[a-c\u{e4}]{0,4}|:c|x|)((\r\n|\n|\r)(data: ?[a-c\u{e4}]{0,4}|:c|x|)){0,12}", cuts in prop::collection::vec(0_usize..80, 0..6)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|c| c.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let parts: Vec<_> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(decode(&parts), decode(&[bytes]));
        }
    }
}
