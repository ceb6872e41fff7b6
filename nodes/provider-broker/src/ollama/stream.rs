//! What comes back as a stream: lines of JSON, the last of which is done.

use super::response::Line;
use crate::wire::{Answer, Dialect, Lines, some_text};
use callboard_domain::llm::Error;

/// How Ollama streams.
#[derive(Debug, Default)]
pub(super) struct Chat;

impl Dialect for Chat {
    type Framing = Lines;

    fn event(&mut self, data: &[u8], answer: &mut Answer) -> Result<(), Error> {
        let mut line = Line::read(data)?;
        let (text, calls) = line.said().unwrap_or_default();
        answer.text(text)?;
        for call in calls {
            answer.call(call)?;
        }
        if !line.done {
            return Ok(());
        }
        let reason = line.finish_reason();
        some_text(answer.is_empty(), &reason)?;
        answer.finish_reason = Some(reason);
        answer.usage = line.usage();
        if let Some(model) = line.model.filter(|m| !m.is_empty()) {
            answer.model = model;
        }
        answer.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Chunk;
    use crate::wire::read_all;
    use callboard_domain::llm::{ErrorKind, Usage};
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> (Vec<Chunk>, Option<ErrorKind>) {
        let (chunks, failed) = read_all::<Chat>(bytes);
        (chunks, failed.map(|e| e.kind))
    }

    const HI: &str =
        "{\"model\":\"m-2\",\"message\":{\"role\":\"assistant\",\"content\":\"hi\"},\"done\":false}\n";
    const FINISH: &str = "{\"model\":\"m-2\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done_reason\":\"stop\",\
        \"done\":true,\"prompt_eval_count\":1,\"eval_count\":2}\n";

    #[test]
    fn a_whole_stream_is_an_answer() {
        let usage = Usage::of(1, 2);
        let end = Chunk::End { usage, finish_reason: "stop".into(), model: "m-2".into() };
        let whole = vec![Chunk::Delta("hi".into()), end];
        assert_eq!(read(format!("{HI}{FINISH}").as_bytes()), (whole.clone(), None));
        assert_eq!(read(format!("{HI}{}", FINISH.trim_end()).as_bytes()), (whole.clone(), None));
        assert_eq!(read(format!("{HI}{FINISH}nonsense\n").as_bytes()), (whole, None));
    }

    #[test]
    fn a_stream_that_is_not_whole_is_an_error() {
        for (rest, kind) in [
            ("", ErrorKind::Connection),
            ("{\"model\":\"m-2\",\"do", ErrorKind::Connection),
            ("{\"model\":\"m-2\",\"do\n", ErrorKind::MalformedAnswer),
            ("{\"model\":\"m-2\"}\n", ErrorKind::MalformedAnswer),
            ("{\"error\":\"llama runner process has terminated\"}\n", ErrorKind::ServerFault),
            ("{\"error\":\"llama runner process has terminated\"}", ErrorKind::ServerFault),
        ] {
            let got = read(format!("{HI}{rest}").as_bytes());
            assert_eq!(got, (vec![Chunk::Delta("hi".into())], Some(kind)), "{rest}");
        }
        assert_eq!(read(FINISH.as_bytes()).1, Some(ErrorKind::MalformedAnswer));
        assert_eq!(read(b"<html>").1, Some(ErrorKind::MalformedAnswer));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(
            parts in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                prop::sample::select(vec![HI, FINISH, "{\"message\":{", "\n"])
                    .prop_map(|text| text.as_bytes().to_vec()),
            ], 0..8),
        ) {
            let (chunks, failed) = read(&parts.concat());
            let ends = chunks.iter().filter(|c| matches!(c, Chunk::End { .. })).count();
            prop_assert_eq!(ends, usize::from(failed.is_none()));
        }
    }
}
