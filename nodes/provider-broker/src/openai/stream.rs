//! What comes back as a stream.
//!
//! It ends with `[DONE]`, which alone proves nothing: gateways send it after a stream that died.

use super::error::in_document;
use super::response::{Tokens, check_refusal};
use super::tools::Called;
use crate::wire::{Answer, Dialect, Events, document};
use callboard_domain::llm::{Error, ToolCall};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Event {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Tokens>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Called>>,
}

/// How OpenAI streams.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    /// The tools that are called, by the index and the id that the server gives them.
    calls: Vec<(u64, String)>,
}

impl Chunks {
    /// Takes a piece of a call. It belongs to the last one of its index; some servers give all calls the same index, or
    /// none, and tell them apart by their ids.
    fn call(&mut self, piece: Called, answer: &mut Answer) -> Result<(), Error> {
        let index = piece.index;
        let call = piece.into_call();
        let known = |(at, id): &(u64, String)| {
            let of_index = index.is_none_or(|index| index == *at);
            of_index && (call.id.is_empty() || call.id == *id)
        };
        // A name begins a call, but for servers that repeat it, with the id, on each piece.
        let begins = !call.name.is_empty() && call.id.is_empty() && index.is_none();
        if !begins && let Some(at) = self.calls.iter().rposition(known) {
            return answer.arguments(u32::try_from(at).unwrap_or(u32::MAX), call.arguments);
        }
        let ToolCall { id, name, .. } = &call;
        if name.is_empty() {
            return Ok(());
        }
        self.calls.push((index.unwrap_or(self.calls.len() as u64), id.clone()));
        answer.call(call).map(drop)
    }
}

impl Dialect for Chunks {
    type Framing = Events;

    fn event(&mut self, data: &[u8], answer: &mut Answer) -> Result<(), Error> {
        if data == b"[DONE]" {
            return answer.end();
        }
        let event: Event = document(data, "an event is no chunk of a completion", in_document)?;
        if let Some(model) = event.model.filter(|m| !m.is_empty()) {
            answer.model = model;
        }
        if let Some(tokens) = event.usage {
            answer.usage = tokens.into();
        }
        let Some(choice) = event.choices.and_then(|choices| choices.into_iter().next()) else {
            return Ok(());
        };
        let delta = choice.delta.unwrap_or_default();
        answer.text(delta.content.unwrap_or_default())?;
        for piece in delta.tool_calls.into_iter().flatten() {
            self.call(piece, answer)?;
        }
        check_refusal(delta.refusal.as_deref(), choice.finish_reason.as_deref())?;
        answer.finish_reason = choice.finish_reason.or_else(|| answer.finish_reason.take());
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

    /// What comes of these bytes, and why it failed if it did.
    fn read(bytes: &[u8]) -> (Vec<Chunk>, Option<ErrorKind>) {
        let (chunks, failed) = read_all::<Chunks>(bytes);
        (chunks, failed.map(|e| e.kind))
    }

    const HELLO: &str = "data: {\"model\":\"m-2\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    const FINISH: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"prompt_tokens_details\":{\"cached_tokens\":1}}}\n\n";

    fn end(usage: Usage, model: &str) -> Chunk {
        Chunk::End { usage, finish_reason: "stop".into(), model: model.into() }
    }

    #[test]
    fn a_whole_stream_is_an_answer() {
        let hi = Chunk::Delta("hi".into());
        let usage = Usage { cached_input_tokens: 1, ..Usage::of(1, 2) };
        let whole = format!("{HELLO}{FINISH}{USAGE}data: [DONE]\n\n");
        assert_eq!(read(whole.as_bytes()), (vec![hi.clone(), end(usage, "m-2")], None));
        // What comes after the end is not looked at.
        assert_eq!(
            read(format!("{whole}data: nonsense\n\n").as_bytes()),
            (vec![hi.clone(), end(usage, "m-2")], None)
        );
        // With the token counts under the names of both of OpenAI's APIs.
        let both = USAGE.replace(
            r#""usage":{"#,
            r#""usage":{"input_tokens":1,"output_tokens":2,"input_tokens_details":{"cached_tokens":1},"#,
        );
        assert_eq!(
            read(format!("{HELLO}{FINISH}{both}").as_bytes()),
            (vec![hi.clone(), end(usage, "m-2")], None)
        );
        // Without `[DONE]` and usage, but finished.
        assert_eq!(
            read(format!("{HELLO}{FINISH}").as_bytes()),
            (vec![hi, end(Usage::default(), "m-2")], None)
        );
    }

    /// The calls of a stream as `index id name arguments`, and why the model stopped.
    fn calls(pieces: &[&str]) -> (Vec<String>, String) {
        let events = pieces
            .iter()
            .map(|piece| format!("data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{piece}]}}}}]}}\n\n"));
        let stream: String = events.chain([FINISH.to_owned()]).collect();
        let (chunks, failed) = read(stream.as_bytes());
        assert_eq!(failed, None);
        let mut calls = Vec::new();
        let mut reason = String::new();
        for chunk in chunks {
            match chunk {
                Chunk::ToolCall(d) => calls.push(format!("{} {} {} {}", d.index, d.id, d.name, d.arguments)),
                Chunk::End { finish_reason, .. } => reason = finish_reason,
                Chunk::Delta(text) => panic!("{text}"),
            }
        }
        (calls, reason)
    }

    #[test]
    fn pieces_of_calls_are_put_to_their_calls() {
        let own = [
            r#"{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}"#,
            r#"{"index":0,"function":{"arguments":"{\"x\""}}"#,
            r#"{"index":0,"function":{"arguments":":1}"}}"#,
            r#"{"index":1,"id":"b","function":{"name":"g","arguments":""}}"#,
        ];
        // The last one has no arguments: it gets empty ones, for its caller will parse them.
        let expected = ["0 a f ", "0   {\"x\"", "0   :1}", "1 b g ", "1   {}"].map(str::to_owned).to_vec();
        assert_eq!(calls(&own), (expected, "tool_calls".into()));
        // All with the same index, or without any.
        let one = r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#;
        let other = r#"{"index":0,"id":"b","function":{"name":"f","arguments":"{}"}}"#;
        assert_eq!(calls(&[one, other]).0, ["0 a f {}", "1 b f {}"]);
        let none = [r#"{"function":{"name":"f","arguments":"{"}}"#, r#"{"function":{"arguments":"}"}}"#];
        assert_eq!(calls(&none).0, ["0  f {", "0   }"]);
        // With the id on each piece, and a piece of a call that never began.
        let again =
            [one, r#"{"index":0,"id":"a","function":{"name":"f","arguments":" "}}"#, r#"{"index":7}"#];
        assert_eq!(calls(&again).0, ["0 a f {}", "0    "]);
    }

    #[test]
    fn a_stream_that_is_not_whole_is_an_error() {
        let error = r#"data: {"error":{"message":"m","type":"server_error"}}"#;
        for (rest, kind) in [
            (String::new(), ErrorKind::Connection),
            ("data: [DONE]\n\n".into(), ErrorKind::Connection),
            ("data: [DONE]".into(), ErrorKind::Connection),
            ("data: {\"choi".into(), ErrorKind::Connection),
            ("data: {\"choi\n\n".into(), ErrorKind::MalformedAnswer),
            (format!("{error}\n\n"), ErrorKind::ServerFault),
            (FINISH.replace("stop", "content_filter"), ErrorKind::ContentFiltered),
        ] {
            assert_eq!(
                read(format!("{HELLO}{rest}").as_bytes()),
                (vec![Chunk::Delta("hi".into())], Some(kind)),
                "{rest}"
            );
        }
        assert_eq!(read(b"<html>").1, Some(ErrorKind::MalformedAnswer));
        assert_eq!(read(b"").1, Some(ErrorKind::MalformedAnswer));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(
            parts in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                Just(HELLO.as_bytes().to_vec()), Just(FINISH.as_bytes().to_vec()), Just(USAGE.as_bytes().to_vec()),
                Just(b"data: ".to_vec()), Just(b"data: {\"choices\":[{\"delta\":{\"content\":".to_vec()), Just(b"\n\n".to_vec()),
            ], 0..8),
        ) {
            let (chunks, failed) = read(&parts.concat());
            let ends = chunks.iter().filter(|c| matches!(c, Chunk::End { .. })).count();
            prop_assert_eq!(ends, usize::from(failed.is_none()));
            let ended = matches!(chunks.last(), Some(Chunk::End { .. }));
            prop_assert!(failed.is_some() || ended);
        }
    }
}
