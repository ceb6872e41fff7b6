// OpenAI's client of Node.js against an endpoint: prints `ok NAME` or `FAILED NAME: why` for each check.
// OPENAI_BASE_URL and OPENAI_API_KEY say where it is; FAULTS_URL makes the provider behind it fail.

import assert from "node:assert/strict";
import OpenAI from "openai";

const messages = [{ role: "user", content: "hello you" }];
const client = new OpenAI({ maxRetries: 0 });
const tools = ["weather", "time"].map((name) => ({ type: "function", function: { name, parameters: { type: "object" } } }));
const create = (more = {}, options = {}, by = client) =>
  by.chat.completions.create({ model: "gpt-x", messages, ...more }, options);

async function fault(...faults) {
  const rules = faults.map((fault) => ({ endpoint: "chat", fault }));
  const answer = await fetch(process.env.FAULTS_URL, { method: "PUT", body: JSON.stringify({ rules }) });
  assert.ok(answer.ok, await answer.text());
}

async function raises(kind, call) {
  try {
    await call();
  } catch (raised) {
    assert.equal(raised.constructor, kind, `${raised.constructor.name} instead of ${kind.name}: ${raised}`);
    return raised;
  }
  assert.fail(`nothing was raised instead of ${kind.name}`);
}

const checks = {
  async a_chat() {
    const answer = await create({ max_tokens: 9, temperature: 0.5, user: "u-1" });
    assert.equal(answer.choices[0].message.content, "fake: hello you");
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.usage.total_tokens, 5);
    assert.ok(answer._request_id);
  },
  async its_headers() {
    const { data, response } = await create({ model: "fast" }).withResponse();
    const told = ["provider", "model", "attempts"].map((name) => response.headers.get(`x-callboard-${name}`));
    assert.deepEqual(told, ["second", "small", "1"]);
    assert.equal(data.model, "small");
  },
  async a_stream() {
    const chunks = [];
    for await (const chunk of await create({ stream: true, stream_options: { include_usage: true } })) chunks.push(chunk);
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
    assert.equal(text, "fake: hello you");
    assert.equal(chunks.at(-2).choices[0].finish_reason, "stop");
    assert.deepEqual(chunks.at(-1).choices, []);
    assert.equal(chunks.at(-1).usage.total_tokens, 5);
  },
  async a_stream_that_breaks() {
    await fault({ type: "stream_cut", after_chunks: 2 });
    let seen = 0;
    const raised = await raises(OpenAI.APIError, async () => {
      for await (const _ of await create({ stream: true })) seen += 1;
    });
    assert.equal(raised.code, "provider_connection");
    assert.ok(seen >= 2);
  },
  async models() {
    const listed = [];
    for await (const model of client.models.list()) listed.push(model.id);
    assert.ok(listed.includes("fast") && listed.includes("main/fake-text"), listed.join());
    assert.equal((await client.models.retrieve("main/fake-text")).owned_by, "main");
    assert.equal((await raises(OpenAI.NotFoundError, () => client.models.retrieve("gone"))).code, "model_not_found");
  },
  async an_image() {
    const image = await client.images.generate({ model: "fake-image", prompt: "a cup of tea", size: "512x512" });
    assert.ok(image.data[0].b64_json.startsWith("iVBORw0KGgo"));
  },
  async a_wrong_key() {
    const stranger = new OpenAI({ apiKey: "cb-geheim", maxRetries: 0 });
    const raised = await raises(OpenAI.AuthenticationError, () => create({}, {}, stranger));
    assert.equal(raised.code, "invalid_api_key");
    assert.ok(!String(raised).includes("geheim"));
  },
  async tools() {
    const { message } = (await create({ tools })).choices[0];
    assert.deepEqual(message.tool_calls.map((call) => call.function.name), ["weather", "time"]);
    assert.deepEqual(JSON.parse(message.tool_calls[0].function.arguments), { said: "hello you" });
    const results = message.tool_calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: call.function.name }));
    const answer = await create({ tools, messages: [...messages, message, ...results] });
    assert.equal(answer.choices[0].message.content, "fake: weather time");
  },
  async tools_in_a_stream() {
    const { message } = (await client.chat.completions.stream({ model: "gpt-x", messages, tools }).finalChatCompletion()).choices[0];
    assert.deepEqual(message.tool_calls.map((call) => call.function.name), ["weather", "time"]);
    assert.deepEqual(JSON.parse(message.tool_calls[1].function.arguments), { said: "hello you" });
  },
  async a_schema() {
    const schema = { type: "object", properties: { fake: { type: "string" } }, required: ["fake"], additionalProperties: false };
    const response_format = { type: "json_schema", json_schema: { name: "said", schema, strict: true } };
    const answer = await create({ response_format });
    assert.deepEqual(JSON.parse(answer.choices[0].message.content), { fake: "hello you" });
  },
  async an_image_that_is_shown() {
    const image = { type: "image_url", image_url: { url: "data:image/png;base64,AQID" } };
    const answer = await create({ messages: [{ role: "user", content: [{ type: "text", text: "what?" }, image] }] });
    assert.equal(answer.choices[0].message.content, "fake: what? +1");
  },
  async embeddings() {
    const answer = await client.embeddings.create({ model: "fake-embedding", input: ["hello you", "tea"] });
    assert.deepEqual(answer.data.map((data) => [...data.embedding]), [[9, 2, 0.5, 0.5], [3, 1, 0.5, 0.5]]);
    const plain = await client.embeddings.create({ model: "fake-embedding", input: "tea", encoding_format: "float" });
    assert.deepEqual(plain.data[0].embedding, [3, 1, 0.5, 0.5]);
  },
  async a_prompt_that_is_too_long() {
    await fault({ type: "context_too_long" });
    assert.equal((await raises(OpenAI.BadRequestError, () => create())).code, "context_length_exceeded");
  },
  async a_wrong_request() {
    assert.equal((await raises(OpenAI.BadRequestError, () => create({ n: 2 }))).param, "n");
    assert.equal((await raises(OpenAI.BadRequestError, () => create({ temperature: 3 }))).param, "temperature");
  },
  async a_model_that_is_missing() {
    await fault({ type: "no_such_model" });
    assert.equal((await raises(OpenAI.NotFoundError, () => create({ model: "main/x" }))).code, "model_not_found");
  },
  async a_rate_limit() {
    await fault({ type: "rate_limit", retry_after: 3 });
    const raised = await raises(OpenAI.RateLimitError, () => create({ model: "main/x" }));
    assert.equal(raised.code, "rate_limit_exceeded");
    assert.equal(raised.headers.get("retry-after"), "3");
  },
  async a_spent_quota() {
    await fault({ type: "quota" });
    const raised = await raises(OpenAI.RateLimitError, () => create({ model: "main/x" }));
    assert.deepEqual([raised.type, raised.code], ["insufficient_quota", "insufficient_quota"]);
  },
  async an_overloaded_provider() {
    await fault({ type: "overloaded" });
    assert.equal((await raises(OpenAI.InternalServerError, () => create({ model: "main/x" }))).status, 503);
  },
};

let failed = 0;
for (const [name, run] of Object.entries(checks)) {
  await fault();
  try {
    await run();
    console.log("ok", name);
  } catch (why) {
    failed += 1;
    console.log(`FAILED ${name}: ${why}`);
  }
}
process.exit(failed > 0 ? 1 : 0);
