//! Hints: what only shapes an answer. A wire that has no word for one drops it (docs/decisions, 0015), and the caller is
//! told by its name.

use callboard_domain::llm::{Part, TextRequest, ToolChoice};

/// A hint that some wire has no word for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    MaxTokens,
    Temperature,
    TopP,
    Seed,
    PresencePenalty,
    FrequencyPenalty,
    Stop,
    /// That tools are not called at once. That they may be holds anyway.
    ParallelToolCalls,
    /// That the arguments of a tool keep to its schema.
    Strict,
    /// How closely a model shall look at an image.
    Detail,
    /// Tools that need not be called.
    Tools,
    Images,
}

impl Hint {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 12] = [
        Self::MaxTokens,
        Self::Temperature,
        Self::TopP,
        Self::Seed,
        Self::PresencePenalty,
        Self::FrequencyPenalty,
        Self::Stop,
        Self::ParallelToolCalls,
        Self::Strict,
        Self::Detail,
        Self::Tools,
        Self::Images,
    ];

    /// Its name for a caller: that of OpenAI's API.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::Temperature => "temperature",
            Self::TopP => "top_p",
            Self::Seed => "seed",
            Self::PresencePenalty => "presence_penalty",
            Self::FrequencyPenalty => "frequency_penalty",
            Self::Stop => "stop",
            Self::ParallelToolCalls => "parallel_tool_calls",
            Self::Strict => "strict",
            Self::Detail => "detail",
            Self::Tools => "tools",
            Self::Images => "images",
        }
    }

    /// Whether a request gives it, and it asks for something that does not hold anyway.
    fn is_in(self, request: &TextRequest) -> bool {
        let has_tools = !request.tools.is_empty() && request.tool_choice != Some(ToolChoice::None);
        let some = |penalty: Option<f32>| penalty.is_some_and(|penalty| penalty != 0.0);
        let mut images = request
            .messages
            .iter()
            .flat_map(|message| message.content.parts())
            .filter_map(|part| if let Part::Image(image) = part { Some(image) } else { None });
        match self {
            Self::MaxTokens => request.max_tokens.is_some(),
            Self::Temperature => request.temperature.is_some(),
            Self::TopP => request.top_p.is_some_and(|share| share < 1.0),
            Self::Seed => request.seed.is_some(),
            Self::PresencePenalty => some(request.presence_penalty),
            Self::FrequencyPenalty => some(request.frequency_penalty),
            Self::Stop => !request.stop.is_empty(),
            Self::ParallelToolCalls => has_tools && request.parallel_tool_calls == Some(false),
            Self::Strict => has_tools && request.tools.iter().any(|tool| tool.strict == Some(true)),
            Self::Detail => {
                images.any(|image| image.detail.as_deref().is_some_and(|detail| detail != "auto"))
            }
            Self::Tools => has_tools,
            Self::Images => images.next().is_some(),
        }
    }
}

/// The names of those that a request gives, of the hints that a wire has no word for.
pub(crate) fn dropped(request: &TextRequest, without: impl IntoIterator<Item = Hint>) -> Vec<&'static str> {
    without.into_iter().filter(|hint| hint.is_in(request)).map(Hint::name).collect()
}

/// Tries each hint on an adapter: it is told as dropped if, and only if, it makes no difference to what is sent.
#[cfg(test)]
pub(crate) fn try_each(
    sent: impl Fn(&TextRequest) -> serde_json::Value,
    told: impl Fn(&TextRequest) -> Vec<&'static str>,
) {
    use callboard_domain::llm::{Content, Image, ImageSource, Message, Role, Tool};
    let tool = Tool { name: "f".into(), ..Tool::default() };
    let with_tools = TextRequest { tools: vec![tool.clone()], ..TextRequest::prompt("a word or two") };
    let shown = |detail: Option<&str>| {
        let source = ImageSource::Data { media_type: "image/png".into(), data: vec![1].into() };
        let image = Part::Image(Image { source, detail: detail.map(str::to_owned) });
        let content = Content::Parts(vec![Part::Text("a word or two".into()), image]);
        TextRequest { messages: vec![Message { role: Role::User, content }], ..TextRequest::default() }
    };
    let plain = TextRequest::prompt("a word or two");
    for hint in Hint::ALL {
        let (without, with) = match hint {
            Hint::MaxTokens => (plain.clone(), TextRequest { max_tokens: Some(2), ..plain.clone() }),
            Hint::Temperature => (plain.clone(), TextRequest { temperature: Some(0.5), ..plain.clone() }),
            Hint::TopP => (plain.clone(), TextRequest { top_p: Some(0.5), ..plain.clone() }),
            Hint::Seed => (plain.clone(), TextRequest { seed: Some(7), ..plain.clone() }),
            Hint::PresencePenalty => {
                (plain.clone(), TextRequest { presence_penalty: Some(0.5), ..plain.clone() })
            }
            Hint::FrequencyPenalty => {
                (plain.clone(), TextRequest { frequency_penalty: Some(0.5), ..plain.clone() })
            }
            Hint::Stop => (plain.clone(), TextRequest { stop: vec![" ".into()], ..plain.clone() }),
            Hint::ParallelToolCalls => {
                (with_tools.clone(), TextRequest { parallel_tool_calls: Some(false), ..with_tools.clone() })
            }
            Hint::Strict => {
                let tools = vec![Tool { strict: Some(true), ..tool.clone() }];
                (with_tools.clone(), TextRequest { tools, ..with_tools.clone() })
            }
            Hint::Detail => (shown(None), shown(Some("low"))),
            Hint::Tools => (plain.clone(), with_tools.clone()),
            Hint::Images => (plain.clone(), shown(None)),
        };
        let is_dropped = sent(&without) == sent(&with);
        assert_eq!(told(&with).contains(&hint.name()), is_dropped, "{hint:?}: {:?}", told(&with));
        assert!(!told(&without).contains(&hint.name()), "{hint:?}, which was not asked for");
    }
    assert_eq!(told(&plain), Vec::<&str>::new());
}
