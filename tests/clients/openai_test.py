"""The official Python client against a running server.

Reads BASE_URL (with /v1), API_KEY and MODEL from the environment. API_KEY may be any word if the
server has no keys; the tests of wrong keys run only with NEEDS_KEY=1.
"""

import json
import math
import os

import httpx
import openai
import pytest

BASE_URL = os.environ["BASE_URL"]
API_KEY = os.environ.get("API_KEY", "none")
MODEL = os.environ["MODEL"]
NEEDS_KEY = os.environ.get("NEEDS_KEY") == "1"
# Whether the model has a chat template.
CHAT = os.environ.get("CHAT", "1") == "1"

ROOT = BASE_URL.removesuffix("/").removesuffix("/v1")
HELLO = [{"role": "user", "content": "Hello, who are you?"}]
PROMPT = "Once upon a time"

chat_only = pytest.mark.skipif(not CHAT, reason="the model has no chat template")


@pytest.fixture(scope="module")
def client():
    with openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0, timeout=120) as one:
        yield one


def chat(client, **options):
    options = {"model": MODEL, "messages": HELLO, "max_tokens": 12, "temperature": 0} | options
    return client.chat.completions.create(**options)


def complete(client, **options):
    options = {"model": MODEL, "prompt": PROMPT, "max_tokens": 12, "temperature": 0} | options
    return client.completions.create(**options)


# --- models


def test_models_are_listed_and_found(client):
    models = list(client.models.list())
    assert MODEL in [model.id for model in models]
    one = client.models.retrieve(MODEL)
    assert (one.id, one.object) == (MODEL, "model")
    assert isinstance(one.created, int)


# --- chat


@chat_only
def test_chat_answers_with_usage(client):
    answer = chat(client)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL
    assert answer.system_fingerprint
    (choice,) = answer.choices
    assert choice.index == 0
    assert choice.message.role == "assistant"
    assert isinstance(choice.message.content, str)
    assert choice.finish_reason in ("stop", "length")
    assert choice.logprobs is None
    usage = answer.usage
    assert usage.prompt_tokens > 0
    assert 0 < usage.completion_tokens <= 12
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 <= usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens


@chat_only
def test_chat_streamed_and_whole_are_equal(client):
    whole = chat(client)
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    *body, last = chunks
    assert last.choices == []
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    assert last.usage.prompt_tokens == whole.usage.prompt_tokens
    assert all(chunk.usage is None for chunk in body)
    assert body[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in body)
    assert text == whole.choices[0].message.content
    reasons = [chunk.choices[0].finish_reason for chunk in body]
    assert reasons[-1] == whole.choices[0].finish_reason
    assert set(reasons[:-1]) <= {None}


@chat_only
def test_chat_stream_without_options_has_no_usage(client):
    assert all(chunk.usage is None for chunk in chat(client, stream=True))


@chat_only
def test_chat_takes_text_parts_and_other_names_of_fields(client):
    parts = [{"type": "text", "text": "Hello, "}, {"type": "text", "text": "who are you?"}]
    same = chat(client, messages=[{"role": "user", "content": parts}])
    assert same.choices[0].message.content == chat(client).choices[0].message.content
    short = chat(client, max_tokens=openai.NOT_GIVEN, max_completion_tokens=1)
    assert short.usage.completion_tokens == 1
    assert short.choices[0].finish_reason in ("stop", "length")


@chat_only
def test_chat_history_reuses_its_prefix(client):
    history = HELLO + [{"role": "assistant", "content": "I am a test."}]
    history += [{"role": "user", "content": "And what do you test, in so many words?"}]
    chat(client, messages=history)
    again = chat(client, messages=history)
    assert again.usage.prompt_tokens_details.cached_tokens > 0


@chat_only
def test_chat_logprobs(client):
    # Log-probabilities are of the model's own distribution, so no penalty may move the choice.
    plain = {"extra_body": {"repetition_penalty": 1}}
    answer = chat(client, logprobs=True, top_logprobs=3, **plain)
    entries = answer.choices[0].logprobs.content
    assert entries
    for entry in entries:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 3
        # Greedy: the chosen token is the best one.
        assert entry.top_logprobs[0].token == entry.token
        assert math.isclose(entry.top_logprobs[0].logprob, entry.logprob, abs_tol=1e-6)
        ranked = [one.logprob for one in entry.top_logprobs]
        assert ranked == sorted(ranked, reverse=True)
    raw = b"".join(bytes(entry.bytes) for entry in entries)
    shown = answer.choices[0].message.content
    assert raw.decode(errors="replace").strip() == shown.strip()
    none = chat(client, logprobs=True, **plain)
    assert all(entry.top_logprobs == [] for entry in none.choices[0].logprobs.content)
    streamed = chat(client, logprobs=True, top_logprobs=3, stream=True, **plain)
    flat = [e for c in streamed if c.choices[0].logprobs for e in c.choices[0].logprobs.content]
    assert flat == entries


@chat_only
def test_chat_choices_and_seed(client):
    options = {"n": 3, "seed": 7, "temperature": 1.5}
    one, two = chat(client, **options), chat(client, **options)
    assert [choice.index for choice in one.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in one.choices]
    assert texts == [choice.message.content for choice in two.choices]
    assert len(set(texts)) > 1
    # Choice i is what seed + i says alone.
    alone = chat(client, seed=8, temperature=1.5)
    assert alone.choices[0].message.content == texts[1]
    chunks = chat(client, stream=True, **options)
    streamed = ["", "", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts


@chat_only
def test_chat_stops_before_a_stop_string(client):
    text = chat(client, max_tokens=24).choices[0].message.content
    stop = text[len(text) // 2 :][:3]
    for given in (stop, ["@never@", stop]):
        answer = chat(client, max_tokens=24, stop=given)
        assert answer.choices[0].finish_reason == "stop"
        assert answer.choices[0].message.content == text.split(stop)[0]
        streamed = chat(client, max_tokens=24, stop=given, stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in streamed) == text.split(stop)[0]


# --- completions


def test_a_bias_forces_a_token(client):
    options = {"max_tokens": 4, "logit_bias": {"5": 100}, "extra_body": {"ignore_eos": True}}
    forced = complete(client, logprobs=0, **options)
    assert forced.usage.completion_tokens == 4
    assert len(set(forced.choices[0].logprobs.tokens)) == 1


def test_completion_streamed_and_whole_are_equal(client):
    whole = complete(client)
    assert whole.object == "text_completion"
    assert whole.id.startswith("cmpl-")
    chunks = list(complete(client, stream=True, stream_options={"include_usage": True}))
    *body, last = chunks
    assert "".join(chunk.choices[0].text for chunk in body) == whole.choices[0].text
    assert body[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.choices == [] and last.usage.total_tokens == whole.usage.total_tokens


def test_completion_takes_every_form_of_prompt(client):
    texts = [PROMPT, "A second one"]
    both = complete(client, prompt=texts, n=2, seed=3, temperature=1)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    for index, text in enumerate(texts):
        alone = complete(client, prompt=text, n=2, seed=3, temperature=1)
        expected = [choice.text for choice in alone.choices]
        assert [choice.text for choice in both.choices[2 * index : 2 * index + 2]] == expected
    ids = complete(client, prompt=[1, 2, 3])
    nested = complete(client, prompt=[[1, 2, 3], [4, 5]])
    assert ids.usage.prompt_tokens == 3
    assert nested.usage.prompt_tokens == 5
    assert nested.choices[0].text == ids.choices[0].text


def test_completion_logprobs(client):
    choice = complete(client, logprobs=2).choices[0]
    logprobs = choice.logprobs
    count = len(logprobs.tokens)
    assert count and count == len(logprobs.token_logprobs) == len(logprobs.text_offset)
    for token, logprob, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs):
        assert logprob <= 0 and 1 <= len(top) <= 3
        assert math.isclose(top[token], logprob, abs_tol=1e-6)
    assert logprobs.text_offset[0] == 0
    assert logprobs.text_offset == sorted(logprobs.text_offset)


def test_default_length_is_16(client):
    answer = complete(client, max_tokens=openai.NOT_GIVEN, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"


def test_extensions_and_harmless_fields(client):
    extra = {"top_k": 1, "min_p": 0.1, "repetition_penalty": 1.1}
    complete(client, temperature=1, user="someone", extra_body=extra)
    greedy = complete(client)
    best = complete(client, temperature=1, seed=5, extra_body={"top_k": 1})
    assert best.choices[0].text == greedy.choices[0].text


# --- errors


def body_of(error):
    return error.response.json()["error"]


def test_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        complete(client, model="no-such-model")
    assert body_of(caught.value)["code"] == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_bad_requests_name_the_field(client):
    cases = [
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"logprobs": 6}, "logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"echo": True}, "echo"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"prompt": []}, "prompt"),
        ({"extra_body": {"no_such_field": 1}}, "no_such_field"),
    ]
    for options, param in cases:
        with pytest.raises(openai.BadRequestError) as caught:
            complete(client, **options)
        error = body_of(caught.value)
        assert error["param"] == param, error
        assert error["type"] == "invalid_request_error"


@chat_only
def test_what_is_not_offered_is_refused_by_name(client):
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    cases = [
        ({"tools": [tool]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"messages": [{"role": "user", "content": [image]}]}, "messages[0].content[0].type"),
    ]
    for options, param in cases:
        with pytest.raises(openai.BadRequestError) as caught:
            chat(client, **options)
        assert body_of(caught.value)["param"] == param


def test_too_long_a_context_says_the_numbers(client):
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, max_tokens=100_000_000)
    error = body_of(caught.value)
    assert error["code"] == "context_length_exceeded"
    assert "100000000" in error["message"].replace(",", "")


@pytest.mark.skipif(not NEEDS_KEY, reason="the server has no keys")
def test_wrong_keys_are_refused():
    for key in ("sk-skein-wrong", API_KEY[:-1]):
        other = openai.OpenAI(base_url=BASE_URL, api_key=key, max_retries=0)
        with pytest.raises(openai.AuthenticationError) as caught:
            other.models.list()
        assert body_of(caught.value)["code"] == "invalid_api_key"


@pytest.mark.skipif("LIMITED_KEY" not in os.environ, reason="no key with a limit of one request")
def test_a_used_up_limit_is_told():
    limited = openai.OpenAI(base_url=BASE_URL, api_key=os.environ["LIMITED_KEY"], max_retries=0)
    complete(limited, max_tokens=1)
    with pytest.raises(openai.RateLimitError) as caught:
        complete(limited, max_tokens=1)
    assert int(caught.value.response.headers["retry-after"]) > 0


def test_plain_http_errors_have_the_same_shape():
    headers = {"Authorization": f"Bearer {API_KEY}"}
    typed = headers | {"Content-Type": "application/json"}
    with httpx.Client(timeout=60) as http:
        answers = [
            (http.get(f"{BASE_URL}/nothing", headers=headers), 404),
            (http.get(f"{BASE_URL}/completions", headers=headers), 405),
            (http.post(f"{BASE_URL}/completions", headers=typed, content=b"{"), 400),
            (http.post(f"{BASE_URL}/completions", headers=typed, content=b'"\xff"'), 400),
            (http.post(f"{BASE_URL}/completions", headers=headers, content=b"{}"), 415),
            (http.get(f"{BASE_URL}/models", headers=headers | {"Host": "evil.example"}), 403),
        ]
        for answer, status in answers:
            assert answer.status_code == status, answer.text
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


# --- life of a stream


def test_a_stream_can_be_closed_early_and_the_server_goes_on(client):
    options = {"max_tokens": 64, "extra_body": {"ignore_eos": True}}
    for _ in range(3):
        stream = complete(client, stream=True, **options)
        next(iter(stream))
        stream.close()
    assert complete(client).choices[0].text == complete(client).choices[0].text


def test_raw_stream_is_framed_as_events():
    body = {"model": MODEL, "prompt": PROMPT, "max_tokens": 4, "stream": True}
    headers = {"Authorization": f"Bearer {API_KEY}"}
    with httpx.stream("POST", f"{BASE_URL}/completions", json=body, headers=headers, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = answer.read().decode()
    events = text.split("\n\n")
    assert events[-1] == "" and events[-2] == "data: [DONE]"
    for event in events[:-2]:
        json.loads(event.removeprefix("data: "))


def test_health_and_metrics():
    headers = {"Authorization": f"Bearer {API_KEY}"}
    with httpx.Client(timeout=60) as http:
        assert http.get(f"{ROOT}/healthz").status_code == 200
        assert http.get(f"{ROOT}/readyz").status_code == 200
        metrics = http.get(f"{ROOT}/metrics", headers=headers)
        assert "skein_gateway_responses_total" in metrics.text
        assert http.get(f"{ROOT}/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
