//! What comes back as a stream: named events, whose names their data repeat.

use super::error::in_document;
use super::response::{Block, Said, Tokens, finish_reason};
use crate::wire::{Answer, Dialect, Events, document, some_text};
use callboard_domain::llm::Error;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: Start,
    },
    ContentBlockStart {
        content_block: Block,
    },
    ContentBlockDelta {
        delta: Block,
    },
    MessageDelta {
        delta: Stop,
        #[serde(default)]
        usage: Option<Tokens>,
    },
    ContentBlockStop,
    MessageStop,
    /// A ping, or what will be added.
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct Start {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    usage: Option<Tokens>,
}

#[derive(Debug, Deserialize)]
struct Stop {
    #[serde(default)]
    stop_reason: Option<String>,
}

/// How Anthropic streams.
#[derive(Debug, Default)]
pub(super) struct Messages {
    tokens: Tokens,
    /// The tool whose arguments come: blocks follow one another.
    call: Option<u32>,
}

impl Dialect for Messages {
    type Framing = Events;

    fn event(&mut self, data: &[u8], answer: &mut Answer) -> Result<(), Error> {
        match document(data, "an event is none of a message", in_document)? {
            Event::MessageStart { message } => {
                if let Some(model) = message.model.filter(|m| !m.is_empty()) {
                    answer.model = model;
                }
                self.count(message.usage, answer);
            }
            Event::ContentBlockStart { content_block: block } | Event::ContentBlockDelta { delta: block } => {
                match block.into_said() {
                    Some(Said::Text(text)) => answer.text(text)?,
                    Some(Said::Call(call)) => self.call = Some(answer.call(call)?),
                    Some(Said::Arguments(more)) => {
                        if let Some(call) = self.call {
                            answer.arguments(call, more)?;
                        }
                    }
                    None => {}
                }
            }
            Event::MessageDelta { delta, usage } => {
                self.count(usage, answer);
                if let Some(reason) = delta.stop_reason {
                    let reason = finish_reason(reason)?;
                    some_text(answer.is_empty(), &reason)?;
                    answer.finish_reason = Some(reason);
                }
            }
            Event::ContentBlockStop => self.call = None,
            Event::MessageStop => answer.end()?,
            Event::Other => {}
        }
        Ok(())
    }
}

impl Messages {
    fn count(&mut self, tokens: Option<Tokens>, answer: &mut Answer) {
        self.tokens.update(tokens.unwrap_or_default());
        answer.usage = self.tokens.into();
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
        let (chunks, failed) = read_all::<Messages>(bytes);
        (chunks, failed.map(|e| e.kind))
    }

    const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m-2\",\
        \"usage\":{\"input_tokens\":1,\"cache_read_input_tokens\":2,\"output_tokens\":1}}}\n\n";
    const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
    const THOUGHT: &str = "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\
        \"thinking\":\"hm\"}}\n\n";
    const HI: &str = "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\
        \"text\":\"hi\"}}\n\n";
    const FINISH: &str = "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\
        \"usage\":{\"input_tokens\":0,\"output_tokens\":7}}\n\n";
    const STOP: &str = "data: {\"type\":\"message_stop\",\"amazon-bedrock-invocationMetrics\":{}}\n\n";

    fn whole() -> Vec<Chunk> {
        let usage = Usage { cached_input_tokens: 2, ..Usage::of(3, 7) };
        let end = Chunk::End { usage, finish_reason: "stop".into(), model: "m-2".into() };
        vec![Chunk::Delta("hi".into()), end]
    }

    #[test]
    fn a_whole_stream_is_an_answer_whose_counts_are_the_last() {
        let new = "data: {\"type\":\"invented_tomorrow\"}\n\n";
        let stream = format!("{START}{PING}{THOUGHT}{HI}{new}{PING}{FINISH}{STOP}");
        assert_eq!(read(stream.as_bytes()), (whole(), None));
        // Finished, though the last event is missing.
        assert_eq!(read(format!("{START}{HI}{FINISH}").as_bytes()), (whole(), None));
    }

    #[test]
    fn tools_are_called_piece_by_piece() {
        let event = |data: &str| format!("data: {data}\n\n");
        let start = |index: u32, id: &str, kind: &str| {
            event(&format!(
                r#"{{"type":"content_block_start","index":{index},"content_block":{{"type":"{kind}","id":"{id}","name":"f","input":{{}}}}}}"#
            ))
        };
        let delta = |json: &str| {
            event(&format!(
                r#"{{"type":"content_block_delta","index":1,"delta":{{"type":"input_json_delta","partial_json":"{json}"}}}}"#
            ))
        };
        let stop = event(r#"{"type":"content_block_stop","index":1}"#);
        let finish = FINISH.replace("end_turn", "tool_use");
        let stream = [
            START,
            HI,
            &start(1, "a", "tool_use"),
            &delta(""),
            &delta(r#"{\"x\":"#),
            &delta("1}"),
            &stop,
            // What the provider's own tool is asked belongs to none of ours.
            &start(2, "s", "server_tool_use"),
            &delta("{}"),
            &stop,
            &start(3, "b", "tool_use"),
            &stop,
            &finish,
            STOP,
        ];
        let (chunks, failed) = read(stream.concat().as_bytes());
        let calls: Vec<_> = chunks
            .iter()
            .filter_map(|chunk| match chunk {
                Chunk::ToolCall(d) => Some((d.index, d.id.as_str(), d.name.as_str(), d.arguments.as_str())),
                _ => None,
            })
            .collect();
        let expected = [
            (0, "a", "f", ""),
            (0, "", "", r#"{"x":"#),
            (0, "", "", "1}"),
            (1, "b", "f", ""),
            (1, "", "", "{}"),
        ];
        assert_eq!((calls, failed), (expected.to_vec(), None));
        assert!(
            matches!(chunks.last(), Some(Chunk::End { finish_reason, .. }) if finish_reason == "tool_calls")
        );
    }

    #[test]
    fn a_stream_that_is_not_whole_is_an_error() {
        let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n";
        for (rest, kind) in [
            (String::new(), ErrorKind::Connection),
            (STOP.into(), ErrorKind::Connection),
            ("data: {\"type\":\"mess".into(), ErrorKind::Connection),
            ("data: {\"type\":\"mess\n\n".into(), ErrorKind::MalformedAnswer),
            ("data: {\"type\":\"message_delta\"}\n\n".into(), ErrorKind::MalformedAnswer),
            ("data: {\"delta\":{}}\n\n".into(), ErrorKind::MalformedAnswer),
            (error.into(), ErrorKind::Overloaded),
            (FINISH.replace("end_turn", "refusal"), ErrorKind::ContentFiltered),
        ] {
            let got = read(format!("{START}{HI}{rest}").as_bytes());
            assert_eq!(got, (vec![Chunk::Delta("hi".into())], Some(kind)), "{rest}");
        }
        assert_eq!(read(format!("{START}{FINISH}{STOP}").as_bytes()).1, Some(ErrorKind::MalformedAnswer));
        assert_eq!(read(b"<html>").1, Some(ErrorKind::MalformedAnswer));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(
            parts in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                prop::sample::select(vec![START, PING, HI, FINISH, STOP, "data: {\"type\":\"message_delta\",", "\n\n"])
                    .prop_map(|text| text.as_bytes().to_vec()),
            ], 0..8),
        ) {
            let (chunks, failed) = read(&parts.concat());
            let ends = chunks.iter().filter(|c| matches!(c, Chunk::End { .. })).count();
            prop_assert_eq!(ends, usize::from(failed.is_none()));
        }
    }
}
