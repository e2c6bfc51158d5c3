// The official JavaScript client against a running server.
//
// Reads BASE_URL (with /v1), API_KEY and MODEL from the environment, as openai_test.py does.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

const { BASE_URL: baseURL, API_KEY: apiKey = "none", MODEL: model } = process.env;
const needsKey = process.env.NEEDS_KEY === "1";
const chats = (process.env.CHAT ?? "1") === "1";
const chatOnly = { skip: chats ? false : "the model has no chat template" };

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 120_000 });
const messages = [{ role: "user", content: "Hello, who are you?" }];

const chat = (options = {}) =>
  client.chat.completions.create({ model, messages, max_tokens: 12, temperature: 0, ...options });
const complete = (options = {}) =>
  client.completions.create({ model, prompt: "Once upon a time", max_tokens: 12, temperature: 0, ...options });

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const text = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");

test("models are listed and found", async () => {
  const ids = [];
  for await (const one of client.models.list()) ids.push(one.id);
  assert.ok(ids.includes(model));
  assert.equal((await client.models.retrieve(model)).id, model);
});

test("a streamed chat equals a whole one", chatOnly, async () => {
  const whole = await chat();
  assert.equal(whole.object, "chat.completion");
  const chunks = await collect(await chat({ stream: true, stream_options: { include_usage: true } }));
  assert.equal(chunks[0].choices[0].delta.role, "assistant");
  assert.equal(text(chunks), whole.choices[0].message.content);
  const last = chunks.at(-1);
  assert.deepEqual(last.choices, []);
  assert.equal(last.usage.completion_tokens, whole.usage.completion_tokens);
  assert.equal(chunks.at(-2).choices[0].finish_reason, whole.choices[0].finish_reason);
});

test("the client's own helper for streams understands ours", chatOnly, async () => {
  const runner = client.chat.completions.stream({ model, messages, max_tokens: 12, temperature: 0 });
  let seen = "";
  runner.on("content", (delta) => (seen += delta));
  const final = await runner.finalChatCompletion();
  assert.equal(final.choices[0].message.content, seen);
});

test("a streamed completion equals a whole one", async () => {
  const whole = await complete();
  assert.equal(whole.object, "text_completion");
  assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
  const chunks = await collect(await complete({ stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(""), whole.choices[0].text);
});

test("choices follow the seed", async () => {
  const options = { n: 3, seed: 7, temperature: 1.5 };
  const [one, two] = [await complete(options), await complete(options)];
  const texts = one.choices.map((choice) => choice.text);
  assert.deepEqual(texts, two.choices.map((choice) => choice.text));
  assert.ok(new Set(texts).size > 1);
  const alone = await complete({ seed: 9, temperature: 1.5 });
  assert.equal(alone.choices[0].text, texts[2]);
});

test("log-probabilities", chatOnly, async () => {
  // Log-probabilities are of the model's own distribution, so no penalty may move the choice.
  const answer = await chat({ logprobs: true, top_logprobs: 2, repetition_penalty: 1 });
  for (const entry of answer.choices[0].logprobs.content) {
    assert.ok(entry.logprob <= 0);
    assert.equal(entry.top_logprobs.length, 2);
    assert.equal(entry.top_logprobs[0].token, entry.token);
    assert.ok(Array.isArray(entry.bytes));
  }
  const plain = await complete({ logprobs: 1 });
  const { tokens, token_logprobs, top_logprobs, text_offset } = plain.choices[0].logprobs;
  assert.equal(tokens.length, token_logprobs.length);
  assert.equal(tokens.length, top_logprobs.length);
  assert.equal(tokens.length, text_offset.length);
});

test("a stop string ends the answer before itself", async () => {
  const whole = (await complete({ max_tokens: 24 })).choices[0].text;
  const stop = whole.slice(Math.floor(whole.length / 2)).slice(0, 3);
  const answer = await complete({ max_tokens: 24, stop });
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.equal(answer.choices[0].text, whole.split(stop)[0]);
});

test("errors are the client's own classes", async () => {
  await assert.rejects(complete({ model: "no-such-model" }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    return true;
  });
  const cases = [
    [{ temperature: 3 }, "temperature"],
    [{ max_tokens: "many" }, "max_tokens"],
    [{ suffix: "end" }, "suffix"],
    [{ no_such_field: 1 }, "no_such_field"],
  ];
  for (const [options, param] of cases) {
    await assert.rejects(complete(options), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, param);
      assert.equal(error.type, "invalid_request_error");
      return true;
    });
  }
  await assert.rejects(complete({ max_tokens: 100_000_000 }), (error) => {
    assert.equal(error.code, "context_length_exceeded");
    return true;
  });
});

test("a wrong key is refused", { skip: needsKey ? false : "the server has no keys" }, async () => {
  const other = new OpenAI({ baseURL, apiKey: "sk-skein-wrong", maxRetries: 0 });
  await assert.rejects(collect(other.models.list()), OpenAI.AuthenticationError);
});

test("a stream can be left early", async () => {
  const stream = await complete({ max_tokens: 64, stream: true, ignore_eos: true });
  for await (const chunk of stream) {
    assert.ok(chunk.id);
    break;
  }
  const abort = new AbortController();
  const second = await client.completions.create(
    { model, prompt: "Once upon a time", max_tokens: 64, stream: true, ignore_eos: true },
    { signal: abort.signal },
  );
  for await (const chunk of second) {
    assert.ok(chunk.id);
    abort.abort();
    break;
  }
  assert.ok((await complete()).choices[0]);
});
