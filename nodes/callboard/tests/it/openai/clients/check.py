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


@check
def a_wrong_request():
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    raised = raises(openai.BadRequestError, lambda: chat(tools=tools))
    assert (raised.param, raised.type) == ("tools", "invalid_request_error"), raised.body
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
