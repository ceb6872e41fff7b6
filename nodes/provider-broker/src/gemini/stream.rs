//! What comes back as a stream: pieces in the form of a whole answer, and no mark at the end.

use super::response::{Generated, Said, Tokens, finish_reason};
use crate::wire::{Answer, Dialect, Events, some_text};
use callboard_domain::llm::Error;

/// How Gemini streams.
#[derive(Debug, Default)]
pub(super) struct Contents {
    tokens: Tokens,
}

impl Dialect for Contents {
    type Framing = Events;

    fn event(&mut self, data: &[u8], answer: &mut Answer) -> Result<(), Error> {
        let mut generated = Generated::read(data)?;
        self.tokens.update(generated.usage_metadata.unwrap_or_default());
        answer.usage = self.tokens.into();
        let candidate = generated.candidate();
        if let Some(model) = generated.model_version.filter(|m| !m.is_empty()) {
            answer.model = model;
        }
        let Some(candidate) = candidate else { return Ok(()) };
        let Said { text, tool_calls, reason } = candidate.into_said();
        answer.text(text)?;
        for call in tool_calls {
            answer.call(call)?;
        }
        if let Some(reason) = reason {
            let reason = finish_reason(&reason)?;
            some_text(answer.is_empty(), reason)?;
            answer.finish_reason = Some(reason.into());
        }
        Ok(())
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
        let (chunks, failed) = read_all::<Contents>(bytes);
        (chunks, failed.map(|e| e.kind))
    }

    const HI: &str = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hi\"}],\"role\":\"model\"}}],\
        \"usageMetadata\":{\"promptTokenCount\":3,\"cachedContentTokenCount\":2,\"thoughtsTokenCount\":4},\"modelVersion\":\"m-2\"}\r\n\r\n";
    const FINISH: &str = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}]},\"finishReason\":\"STOP\"}],\
        \"usageMetadata\":{\"promptTokenCount\":3,\"candidatesTokenCount\":1}}\r\n\r\n";

    #[test]
    fn a_whole_stream_is_an_answer_whose_counts_are_the_last() {
        let usage = Usage { cached_input_tokens: 2, ..Usage::of(3, 5) };
        let end = Chunk::End { usage, finish_reason: "stop".into(), model: "m-2".into() };
        let hi = Chunk::Delta("hi".into());
        assert_eq!(read(format!("{HI}{FINISH}").as_bytes()), (vec![hi.clone(), end.clone()], None));
        // A piece without candidates says nothing, and what follows the reason still counts.
        let more = "data: {\"usageMetadata\":{\"totalTokenCount\":8}}\n\n";
        let stream = format!("{more}{FINISH}", FINISH = FINISH.replace("\"text\":\"\"", "\"text\":\"hi\""));
        let end = Chunk::End { usage: Usage::of(3, 1), finish_reason: "stop".into(), model: "m".into() };
        assert_eq!(read(format!("{stream}{more}").as_bytes()), (vec![hi, end], None));
    }

    #[test]
    fn tools_are_called_whole() {
        let call = |name: &str| {
            format!(
                "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"functionCall\":{{\"name\":\"{name}\",\"args\":{{}}}}}}]}}}}]}}\n\n"
            )
        };
        let (chunks, failed) = read(format!("{}{}{FINISH}", call("f"), call("g")).as_bytes());
        let calls: Vec<_> = chunks
            .iter()
            .filter_map(|chunk| match chunk {
                Chunk::ToolCall(d) => Some((d.index, d.name.as_str(), d.arguments.as_str())),
                _ => None,
            })
            .collect();
        assert_eq!((calls, failed), (vec![(0, "f", "{}"), (1, "g", "{}")], None));
        assert!(
            matches!(chunks.last(), Some(Chunk::End { finish_reason, .. }) if finish_reason == "tool_calls")
        );
    }

    #[test]
    fn a_stream_that_is_not_whole_is_an_error() {
        for (rest, kind) in [
            (String::new(), ErrorKind::Connection),
            ("data: {\"candi".into(), ErrorKind::Connection),
            ("data: {\"candi\n\n".into(), ErrorKind::MalformedAnswer),
            ("data: {\"candidates\":7}\n\n".into(), ErrorKind::MalformedAnswer),
            (
                "data: {\"error\":{\"code\":503,\"message\":\"m\",\"status\":\"UNAVAILABLE\"}}\n\n".into(),
                ErrorKind::Overloaded,
            ),
            ("data: {\"promptFeedback\":{\"blockReason\":\"OTHER\"}}\n\n".into(), ErrorKind::ContentFiltered),
            (FINISH.replace("STOP", "SAFETY"), ErrorKind::ContentFiltered),
            (FINISH.replace("STOP", "MALFORMED_RESPONSE"), ErrorKind::MalformedAnswer),
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
                prop::sample::select(vec![HI, FINISH, "data: {\"candidates\":[{", "\n\n"])
                    .prop_map(|text| text.as_bytes().to_vec()),
            ], 0..8),
        ) {
            let (chunks, failed) = read(&parts.concat());
            let ends = chunks.iter().filter(|c| matches!(c, Chunk::End { .. })).count();
            prop_assert_eq!(ends, usize::from(failed.is_none()));
        }
    }
}
