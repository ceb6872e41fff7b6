"""OpenAI's client of Python against an endpoint: prints `ok NAME` or `FAILED NAME: why` for each check.

OPENAI_BASE_URL and OPENAI_API_KEY say where it is; FAULTS_URL makes the provider behind it fail."""

import json
import os
import sys
import urllib.request

import openai

FAULTS = os.environ["FAULTS_URL"]
HELLO = [{"role": "user", "content": "hello you"}]
client = openai.OpenAI(max_retries=0)
checks = []


def check(run):
    checks.append(run)
    return run


def fault(*rules):
    rules = [{"endpoint": "chat", "fault": rule} for rule in rules]
    body = json.dumps({"rules": rules}).encode()
    urllib.request.urlopen(urllib.request.Request(FAULTS, body, method="PUT")).close()


def raises(error, call):
    try:
        call()
    except openai.OpenAIError as raised:
        assert type(raised) is error, f"{type(raised).__name__} instead of {error.__name__}: {raised}"
        return raised
    raise AssertionError(f"nothing was raised instead of {error.__name__}")


def chat(client=client, **more):
    return client.chat.completions.create(**{"model": "gpt-x", "messages": HELLO, **more})


@check
def a_chat():
    answer = chat(max_tokens=9, temperature=0.5, user="u-1")
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", "fake: hello you"), choice
    assert (choice.finish_reason, answer.model, answer.object) == ("stop", "gpt-x", "chat.completion"), answer
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (2, 5), answer.usage
    assert answer._request_id, "no request id"


@check
def its_headers():
    raw = client.chat.completions.with_raw_response.create(model="fast", messages=HELLO)
    told = [raw.headers[f"x-callboard-{name}"] for name in ("provider", "model", "attempts")]
    assert told == ["second", "small", "1"], told
    assert raw.parse().model == "small"


@check
def a_stream():
    stream = chat(stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "fake: hello you", text
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    assert chunks[-2].choices[0].finish_reason == "stop", chunks[-2]
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 5, chunks[-1]


@check
def a_stream_that_breaks():
    fault({"type": "stream_cut", "after_chunks": 2})
    seen = []

    def read():
        for chunk in chat(stream=True):
            seen.append(chunk)

    raised = raises(openai.APIError, read)
    assert raised.code == "provider_connection" and len(seen) >= 2, (raised.code, seen)


@check
def models():
    listed = [model.id for model in client.models.list()]
    assert "fast" in listed and "main/fake-text" in listed, listed
    assert client.models.retrieve("main/fake-text").owned_by == "main"
    assert raises(openai.NotFoundError, lambda: client.models.retrieve("gone")).code == "model_not_found"


@check
def an_image():
    image = client.images.generate(model="fake-image", prompt="a cup of tea", size="512x512")
    assert image.data[0].b64_json.startswith("iVBORw0KGgo"), image
    assert raises(openai.NotFoundError, lambda: client.images.generate(model="gone", prompt="x")).param == "model"


@check
def a_wrong_key():
    stranger = client.with_options(api_key="cb-geheim")
    raised = raises(openai.AuthenticationError, lambda: chat(stranger))
    assert raised.code == "invalid_api_key" and "geheim" not in str(raised), raised


TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("weather", "time")]


@check
def tools():
    message = chat(tools=TOOLS).choices[0].message
    calls = message.tool_calls
    assert [call.function.name for call in calls] == ["weather", "time"], calls
    assert json.loads(calls[0].function.arguments) == {"said": "hello you"}, calls
    results = [{"role": "tool", "tool_call_id": call.id, "content": call.function.name} for call in calls]
    answer = chat(messages=[*HELLO, message, *results], tools=TOOLS)
    assert answer.choices[0].message.content == "fake: weather time", answer
    one = {"type": "function", "function": {"name": "time"}}
    assert len(chat(tools=TOOLS, tool_choice=one).choices[0].message.tool_calls) == 1


@check
def tools_in_a_stream():
    with client.chat.completions.stream(model="gpt-x", messages=HELLO, tools=TOOLS) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        message = stream.get_final_completion().choices[0].message
    assert [event.name for event in done] == ["weather", "time"], done
    assert json.loads(message.tool_calls[1].function.arguments) == {"said": "hello you"}, message
    assert message.tool_calls[0].id != message.tool_calls[1].id


@check
def a_schema():
    schema = {"type": "object", "properties": {"fake": {"type": "string"}}, "required": ["fake"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "said", "schema": schema, "strict": True}}
    answer = chat(response_format=form).choices[0].message.content
    assert json.loads(answer) == {"fake": "hello you"}, answer


@check
def an_image_that_is_shown():
    parts = [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}},
    ]
    answer = chat(messages=[{"role": "user", "content": parts}]).choices[0].message.content
    assert answer == "fake: what? +1", answer


@check
def embeddings():
    # The client asks for base64 by itself and reads it.
    answer = client.embeddings.create(model="fake-embedding", input=["hello you", "tea"])
    assert [data.embedding for data in answer.data] == [[9, 2, 0.5, 0.5], [3, 1, 0.5, 0.5]], answer
    plain = client.embeddings.create(model="fake-embedding", input="tea", dimensions=2, encoding_format="float")
    assert (plain.data[0].embedding, plain.usage.total_tokens) == ([3, 1], 1), plain


@check
def a_prompt_that_is_too_long():
    fault({"type": "context_too_long"})
    assert raises(openai.BadRequestError, chat).code == "context_length_exceeded"


@check
def a_wrong_request():
    raised = raises(openai.BadRequestError, lambda: chat(n=2))
    assert (raised.param, raised.type) == ("n", "invalid_request_error"), raised.body
    raised = raises(openai.BadRequestError, lambda: chat(temperature=3))
    assert raised.param == "temperature", raised.body


@check
def a_model_that_is_missing():
    fault({"type": "no_such_model"})
    assert raises(openai.NotFoundError, lambda: chat(model="main/x")).code == "model_not_found"


@check
def a_rate_limit():
    fault({"type": "rate_limit", "retry_after": 3})
    raised = raises(openai.RateLimitError, lambda: chat(model="main/x"))
    assert raised.code == "rate_limit_exceeded", raised.body
    assert raised.response.headers["retry-after"] == "3", raised.response.headers


@check
def a_spent_quota():
    fault({"type": "quota"})
    # It is not sent again, although the client would.
    patient = client.with_options(max_retries=2)
    raised = raises(openai.RateLimitError, lambda: chat(patient, model="main/x"))
    assert (raised.type, raised.code) == ("insufficient_quota", "insufficient_quota"), raised.body
    assert raised.response.request.headers["x-stainless-retry-count"] == "0", raised.response.request.headers


@check
def an_overloaded_provider():
    fault({"type": "overloaded"})
    assert raises(openai.InternalServerError, lambda: chat(model="main/x")).status_code == 503


@check
def another_provider_answers():
    fault({"type": "quota"})
    raw = client.chat.completions.with_raw_response.create(model="gpt-x", messages=HELLO)
    assert raw.headers["x-callboard-provider"] == "second" and raw.headers["x-callboard-degraded"], raw.headers


failed = 0
for run in checks:
    fault()
    try:
        run()
        print("ok", run.__name__)
    except Exception as why:
        failed += 1
        print(f"FAILED {run.__name__}: {type(why).__name__}: {why}")
sys.exit(failed > 0)
