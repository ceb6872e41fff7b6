//! What calls are known by: a hash over all that decides the answer.
//!
//! It is a cryptographic one, as two calls with the same hash get the same answer: nobody may be able to make a prompt
//! that is answered with somebody else's.

use super::Scope;
use callboard_domain::llm::{
    Content, ImageSource, Message, OutputSchema, Part, Role, TextRequest, Tool, ToolCall, ToolChoice,
};
use sha2::{Digest as _, Sha256};

/// The hash of a call, or of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u8; 32]);

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Takes in fields one after the other, each so that it cannot be taken for a part of its neighbours.
#[derive(Clone)]
pub(super) struct Digest(Sha256);

impl Digest {
    /// Of something: what is hashed for another purpose never has the same hash.
    pub(super) fn of(purpose: &str) -> Self {
        Self(Sha256::new()).text(purpose)
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// A zero has two signs, and one meaning.
    fn share(self, share: f32) -> Self {
        self.number((share + 0.0).to_bits())
    }

    fn all<T>(self, values: &[T], take: impl Fn(Self, &T) -> Self) -> Self {
        values.iter().fold(self.number(u32::try_from(values.len()).unwrap_or(u32::MAX)), take)
    }

    pub(super) fn number(mut self, number: u32) -> Self {
        self.0.update(number.to_le_bytes());
        self
    }

    pub(super) fn maybe<T>(self, value: Option<T>, take: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            None => self.number(0),
            Some(value) => take(self.number(1), value),
        }
    }

    pub(super) fn finish(self) -> Fingerprint {
        Fingerprint(self.0.finalize().into())
    }
}

/// A call, but for its prompt: who asks, whom, and how.
pub(super) fn manner(digest: Digest, scope: &Scope, request: &TextRequest) -> Digest {
    let whom = (request.model.as_deref(), request.provider.as_deref());
    manner_of(digest, scope, whom, request)
}

/// The same, of whoever is asked: a model and a provider.
fn manner_of(
    digest: Digest,
    scope: &Scope,
    (model, provider): (Option<&str>, Option<&str>),
    request: &TextRequest,
) -> Digest {
    // Every field is named, so that a new one is not forgotten: it would give one call's answer to another.
    let TextRequest {
        messages: _,
        // They are what the caller of this says.
        model: _,
        provider: _,
        max_tokens,
        temperature,
        top_p,
        seed,
        presence_penalty,
        frequency_penalty,
        stop,
        json,
        schema,
        tools,
        tool_choice,
        parallel_tool_calls,
        // These do not change what is answered.
        subject: _,
        trial: _,
        timeout: _,
        idempotency_key: _,
        cache: _,
    } = request;
    digest
        .text(&scope.namespace)
        .maybe(model, Digest::text)
        .maybe(provider, Digest::text)
        .maybe(*max_tokens, Digest::number)
        .maybe(*temperature, Digest::share)
        .maybe(*top_p, Digest::share)
        .maybe(*seed, |digest, seed| digest.bytes(&seed.to_le_bytes()))
        .maybe(*presence_penalty, Digest::share)
        .maybe(*frequency_penalty, Digest::share)
        .all(stop, |digest, stop| digest.text(stop))
        .number(u32::from(*json))
        .maybe(schema.as_ref(), output)
        .all(tools, tool)
        .maybe(tool_choice.as_ref(), choice)
        .maybe(*parallel_tool_calls, |digest, may| digest.number(u32::from(may)))
}

fn output(digest: Digest, OutputSchema { name, description, schema, strict }: &OutputSchema) -> Digest {
    let digest = digest.text(name).maybe(description.as_deref(), Digest::text).text(schema);
    digest.maybe(*strict, |digest, strict| digest.number(u32::from(strict)))
}

fn tool(digest: Digest, Tool { name, description, parameters, strict }: &Tool) -> Digest {
    let digest = digest.text(name).maybe(description.as_deref(), Digest::text);
    let digest = digest.maybe(parameters.as_deref(), Digest::text);
    digest.maybe(*strict, |digest, strict| digest.number(u32::from(strict)))
}

fn choice(digest: Digest, choice: &ToolChoice) -> Digest {
    match choice {
        ToolChoice::Auto => digest.number(0),
        ToolChoice::None => digest.number(1),
        ToolChoice::Required => digest.number(2),
        ToolChoice::Named(name) => digest.number(3).text(name),
    }
}

/// What a message holds beside its text.
pub(super) fn beside_text(digest: Digest, content: &Content) -> Digest {
    digest.all(content.parts(), |digest, part| match part {
        Part::Text(text) => digest.number(0).number(size(text)),
        Part::Image(image) => {
            let digest = digest.number(1).maybe(image.detail.as_deref(), Digest::text);
            match &image.source {
                ImageSource::Url(url) => digest.number(0).text(url),
                ImageSource::Data { media_type, data } => digest.number(1).text(media_type).bytes(data),
            }
        }
        Part::ToolCall(ToolCall { id, name, arguments, signature }) => {
            let digest = digest.number(2).text(id).text(name).text(arguments);
            digest.maybe(signature.as_deref(), Digest::text)
        }
        Part::ToolResult(result) => digest.number(3).text(&result.id).number(size(&result.content)),
    })
}

/// The length of a text: where one ends among several.
fn size(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

/// What the hashes of all calls begin with. `route` says which providers there are, and their models.
pub(super) fn route(route: &str) -> Digest {
    Digest::of("callboard call 1").text(route)
}

/// A call on a [`route`]: equal ones may have the same answer.
pub(super) fn call(route: &Digest, scope: &Scope, request: &TextRequest) -> Fingerprint {
    with_messages(manner(route.clone(), scope, request), request)
}

fn with_messages(digest: Digest, request: &TextRequest) -> Fingerprint {
    let with = |digest: Digest, Message { role, content }: &Message| {
        beside_text(digest.text(speaker(*role)).text(&content.text()), content)
    };
    digest.all(&request.messages, with).finish()
}

/// What the caller of a call with an idempotency key said, whatever this node makes of it: the providers that there are now,
/// and the arm of an experiment that it was put into, may be others when the same is sent again.
pub(super) fn said(scope: &Scope, request: &TextRequest) -> Fingerprint {
    let whom = match &request.trial {
        // The arm's model and provider stand in its request. What it named was the experiment.
        Some(trial) => (Some(trial.experiment.as_str()), None),
        None => (request.model.as_deref(), request.provider.as_deref()),
    };
    with_messages(manner_of(Digest::of("callboard said 1"), scope, whom, request), request)
}

/// A caller's idempotency key, in its namespace.
///
/// For a task it stands for the attempts that follow each other without a failure. One that was lost with its node is none:
/// what was paid for before is not paid for again. But what a handler was given before it failed may be why it did: it is not
/// given the same again.
pub(super) fn key(scope: &Scope, key: &str) -> Fingerprint {
    Digest::of("callboard key 2").text(&scope.namespace).text(key).number(scope.failures).finish()
}

/// The place of an answer to a call in a cache from which something was cleared: what was is for the caller to add.
pub(super) fn place(of: Fingerprint) -> Digest {
    Digest::of("callboard place 1").bytes(&of.0)
}

pub(super) const fn speaker(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::llm::{CacheMode, Image, ToolResult, Trial};
    use proptest::prelude::*;
    use std::time::Duration;

    fn of(request: &TextRequest) -> Fingerprint {
        super::call(&route("route"), &Scope::default(), request)
    }

    fn image(url: &str) -> Part {
        Part::Image(Image { source: ImageSource::Url(url.into()), detail: None })
    }

    fn call(name: &str) -> Part {
        Part::ToolCall(ToolCall { name: name.into(), ..ToolCall::default() })
    }

    fn result(id: &str) -> Part {
        Part::ToolResult(ToolResult { id: id.into(), content: "hello".into() })
    }

    #[test]
    fn all_that_decides_the_answer_counts_and_nothing_else() {
        let base = TextRequest { temperature: Some(0.0), ..TextRequest::prompt("hello") };
        let other = |change: &dyn Fn(&mut TextRequest)| {
            let mut request = base.clone();
            change(&mut request);
            of(&request)
        };
        let same = [
            other(&|r| r.timeout = Some(Duration::from_secs(1))),
            other(&|r| r.idempotency_key = Some("k".into())),
            other(&|r| r.cache = CacheMode::Refresh),
            other(&|r| r.temperature = Some(-0.0)),
        ];
        assert!(same.iter().all(|print| *print == of(&base)));
        let different = [
            of(&base),
            other(&|r| r.messages[0].content = "hello!".into()),
            other(&|r| r.messages[0].content = Content::Parts(vec![image("a")])),
            other(&|r| r.messages[0].content = Content::Parts(vec![image("b")])),
            other(&|r| r.messages[0].content = Content::Parts(vec![Part::Text("hello".into()), image("a")])),
            other(&|r| r.messages[0].content = Content::Parts(vec![call("f")])),
            other(&|r| r.messages[0].content = Content::Parts(vec![call("g")])),
            other(&|r| r.messages[0].content = Content::Parts(vec![result("1")])),
            other(&|r| r.messages[0].content = Content::Parts(vec![result("2")])),
            other(&|r| r.top_p = Some(0.5)),
            other(&|r| r.seed = Some(1)),
            other(&|r| r.seed = Some(-1)),
            other(&|r| r.presence_penalty = Some(0.5)),
            other(&|r| r.frequency_penalty = Some(0.5)),
            other(&|r| r.stop = vec!["a".into()]),
            other(&|r| r.stop = vec!["a".into(), "b".into()]),
            other(&|r| r.schema = Some(OutputSchema { schema: "{}".into(), ..OutputSchema::default() })),
            other(&|r| r.schema = Some(OutputSchema { strict: Some(true), ..OutputSchema::default() })),
            other(&|r| r.tools = vec![Tool { name: "f".into(), ..Tool::default() }]),
            other(&|r| r.tools = vec![Tool { name: "g".into(), ..Tool::default() }]),
            other(&|r| r.tool_choice = Some(ToolChoice::Auto)),
            other(&|r| r.tool_choice = Some(ToolChoice::Named("f".into()))),
            other(&|r| r.parallel_tool_calls = Some(false)),
            other(&|r| r.parallel_tool_calls = Some(true)),
            other(&|r| r.messages[0].role = Role::System),
            other(&|r| r.messages.push(r.messages[0].clone())),
            other(&|r| r.model = Some("m".into())),
            other(&|r| r.provider = Some("m".into())),
            other(&|r| r.max_tokens = Some(0)),
            other(&|r| r.temperature = None),
            other(&|r| r.temperature = Some(0.1)),
            other(&|r| r.json = true),
            super::call(&route("another route"), &Scope::default(), &base),
            super::call(&route("route"), &Scope { namespace: "lab".into(), ..Scope::default() }, &base),
        ];
        for (i, one) in different.iter().enumerate() {
            assert!(!different[..i].contains(one), "{i}");
        }
        // Which task asks, and how often it has failed, does not change what is asked.
        let scope = Scope { kind: "k".into(), failures: 3, ..Scope::default() };
        assert_eq!(super::call(&route("route"), &scope, &base), of(&base));
    }

    #[test]
    fn what_was_said_is_the_same_in_every_arm_and_differs_where_the_caller_differs() {
        let said = |request: &TextRequest| said(&Scope::default(), request);
        let named = TextRequest { model: Some("an experiment".into()), ..TextRequest::prompt("hello") };
        let arm = |arm: &str, provider: Option<&str>| TextRequest {
            model: Some(format!("the model of {arm}")),
            provider: provider.map(Into::into),
            trial: Some(Trial { experiment: "an experiment".into(), arm: arm.into() }),
            ..named.clone()
        };
        assert_eq!(said(&arm("a", None)), said(&arm("b", Some("main"))));
        assert_eq!(said(&arm("a", None)), said(&named), "the experiment may have ended since");
        let of_another = Trial { experiment: "another".into(), arm: "a".into() };
        for other in [
            TextRequest { model: Some("m".into()), ..named.clone() },
            TextRequest { provider: Some("main".into()), ..named.clone() },
            TextRequest { temperature: Some(0.0), ..named.clone() },
            TextRequest { messages: TextRequest::prompt("hello!").messages, ..arm("a", None) },
            TextRequest { trial: Some(of_another), ..arm("a", None) },
        ] {
            assert_ne!(said(&other), said(&named), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn texts_do_not_run_into_each_other(a in "[a-z]{0,8}", b in "[a-z]{0,8}", cut in 0_usize..16) {
            let whole = format!("{a}{b}");
            let cut = cut.min(whole.len());
            let (c, d) = whole.split_at(cut);
            let pair = |one: &str, two: &str| Digest::of("t").text(one).text(two).finish();
            prop_assert_eq!(pair(&a, &b) == pair(c, d), a.len() == cut);
        }
    }
}
