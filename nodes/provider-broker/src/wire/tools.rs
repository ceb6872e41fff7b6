//! Tools on any wire: JSON passed on as it is, results put beside the calls they answer, answers that ask for tools.

use super::read::some_text;
use crate::provider::ProviderText;
use callboard_domain::limits;
use callboard_domain::llm::{Error, ErrorKind, Message, Part, ToolCall};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The arguments of a call that has none.
pub(crate) const NO_ARGUMENTS: &str = "{}";

/// JSON as it is.
///
/// # Errors
/// If it is none.
pub(crate) fn raw<'a>(what: &str, json: &'a str) -> Result<&'a RawValue, Error> {
    serde_json::from_str(json)
        .map_err(|e| Error::new(ErrorKind::InvalidRequest, format!("{what} is no JSON: {e}")))
}

/// The arguments that a model wrote, for a wire that has them as an object. What a model wrote that is none becomes
/// the one field of one, so that it can be read still.
pub(crate) fn object(arguments: &str) -> Cow<'_, RawValue> {
    let text = if arguments.trim().is_empty() { NO_ARGUMENTS } else { arguments.trim() };
    if text.starts_with('{')
        && let Ok(raw) = serde_json::from_str::<&RawValue>(text)
    {
        return Cow::Borrowed(raw);
    }
    let wrapped = serde_json::json!({ "arguments": arguments });
    // A map of texts can always be written.
    Cow::Owned(serde_json::value::to_raw_value(&wrapped).unwrap_or_default())
}

/// The name of the tool that a result comes from: of the last call with that id.
pub(crate) fn tool_name<'a>(messages: &'a [Message], id: &str) -> Option<&'a str> {
    let parts = messages.iter().rev().flat_map(|message| message.content.parts());
    let mut calls = parts.filter_map(|part| match part {
        Part::ToolCall(call) if call.id == id => Some(call.name.as_str()),
        _ => None,
    });
    calls.next()
}

/// Why a model stopped that asks for tools: some servers say `stop` all the same.
pub(crate) fn stopped(reason: String, asks: bool) -> String {
    if asks && reason == "stop" { "tool_calls".into() } else { reason }
}

/// An answer in one piece.
///
/// # Errors
/// If it says nothing, or asks for too many tools.
pub(crate) fn whole(mut answer: ProviderText) -> Result<ProviderText, Error> {
    let calls = &mut answer.tool_calls;
    check_count(calls.len())?;
    for ToolCall { arguments, .. } in calls.iter_mut() {
        if arguments.is_empty() {
            NO_ARGUMENTS.clone_into(arguments);
        }
    }
    some_text(answer.text.is_empty() && calls.is_empty(), &answer.finish_reason)?;
    answer.finish_reason = stopped(answer.finish_reason, !answer.tool_calls.is_empty());
    Ok(answer)
}

/// Whether a model asks for no more tools than it may.
pub(crate) fn check_count(calls: usize) -> Result<(), Error> {
    if calls > limits::TOOLS {
        let message = format!("the answer asks for more than {} tools", limits::TOOLS);
        return Err(Error::new(ErrorKind::MalformedAnswer, message));
    }
    Ok(())
}

/// The error of an adapter that has no word for something.
pub(crate) fn unsupported(message: &str) -> Error {
    Error::new(ErrorKind::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::llm::{Content, Role};

    #[test]
    fn arguments_become_an_object_whatever_a_model_wrote() {
        let get = |text| object(text).get().to_owned();
        assert_eq!(get(r#" {"b":1,"a":2.50} "#), r#"{"b":1,"a":2.50}"#);
        assert_eq!((get(""), get(" ")), ("{}".into(), "{}".into()));
        assert_eq!(get("[1]"), r#"{"arguments":"[1]"}"#);
        assert_eq!(get(r#"{"half"#), r#"{"arguments":"{\"half"}"#);
    }

    #[test]
    fn a_result_comes_from_the_last_call_of_its_id() {
        let call = |name: &str| {
            let call = ToolCall { id: "1".into(), name: name.into(), ..ToolCall::default() };
            Message { role: Role::Assistant, content: Content::Parts(vec![Part::ToolCall(call)]) }
        };
        let messages = [call("old"), call("new"), Message { role: Role::User, content: "x".into() }];
        assert_eq!((tool_name(&messages, "1"), tool_name(&messages, "2")), (Some("new"), None));
    }

    #[test]
    fn an_answer_must_say_something_and_not_too_much() {
        let answer = |calls: usize| ProviderText {
            tool_calls: vec![ToolCall { name: "f".into(), ..ToolCall::default() }; calls],
            finish_reason: "stop".into(),
            ..ProviderText::default()
        };
        assert_eq!(whole(answer(0)).unwrap_err().kind, ErrorKind::MalformedAnswer);
        assert_eq!(whole(answer(limits::TOOLS + 1)).unwrap_err().kind, ErrorKind::MalformedAnswer);
        let asks = whole(answer(1)).unwrap();
        assert_eq!(
            (asks.finish_reason.as_str(), asks.tool_calls[0].arguments.as_str()),
            ("tool_calls", "{}")
        );
    }
}
