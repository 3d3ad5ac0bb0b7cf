"""Anthropic's API in OpenAI's terms: questions there, answers back."""

import orjson
import pytest

from outlast.core.classify import classify
from outlast.core.verdict import Answered
from outlast.edges.providers.families import FAMILIES
from outlast_schemas.attempt import VerdictWord

NOW = 1_774_820_100.0


def request(**body: object) -> dict[str, object]:
    """The Messages body for this chat.completions body, a plain question at least."""
    asked = {"messages": [{"role": "user", "content": "Hi"}], **body}
    return FAMILIES["anthropic"].request(asked, "claude")


def text(value: str) -> dict[str, object]:
    """A block of text."""
    return {"type": "text", "text": value}


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, {"max_tokens": 4096}),
        ({"max_completion_tokens": 9}, {"max_tokens": 9}),
        ({"temperature": 1.7}, {"temperature": 1}),
        ({"temperature": 0.3, "top_p": 0.9}, {"temperature": 0.3, "top_p": 0.9}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"user": "u1"}, {"metadata": {"user_id": "u1"}}),
        # neither has a counterpart
        ({"n": 1, "seed": 7, "logit_bias": {}}, {"seed": None}),
        ({"response_format": {"type": "json_object"}}, {"output_config": None}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"a": 1}}}},
            {"output_config": {"format": {"type": "json_schema", "schema": {"a": 1}}}},
        ),
        (
            {"tools": [TOOL]},
            {"tools": [{"name": "add", "input_schema": {"type": "object"}}], "tool_choice": None},
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "now"}}]},
            {"tools": [{"name": "now", "input_schema": {"type": "object", "properties": {}}}]},
        ),
        ({"tools": [TOOL], "tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
        ({"tools": [TOOL], "tool_choice": "none"}, {"tool_choice": {"type": "none"}}),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "add"}}},
            {"tool_choice": {"type": "tool", "name": "add"}},
        ),
        (
            {"tools": [TOOL], "parallel_tool_calls": False},
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        ),
        # refused by Anthropic without tools
        ({"tool_choice": "auto"}, {"tool_choice": None}),
    ],
)
def test_what_anthropic_can_be_asked_is_asked_in_its_terms(
    given: dict[str, object], sent: dict[str, object]
) -> None:
    asked = request(**given)

    assert {name: asked.get(name) for name in sent} == sent


@pytest.mark.parametrize(
    ("messages", "system", "turns"),
    [
        (
            [{"role": "system", "content": "A"}, {"role": "user", "content": "Hi"}],
            "A",
            [{"role": "user", "content": [text("Hi")]}],
        ),
        # wherever they stand, there is one place for them
        (
            [
                {"role": "developer", "content": "A"},
                {"role": "user", "content": "Hi"},
                {"role": "system", "content": [text("B")]},
            ],
            "A\n\nB",
            [{"role": "user", "content": [text("Hi")]}],
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        text("See"),
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                    ],
                }
            ],
            None,
            [
                {
                    "role": "user",
                    "content": [
                        text("See"),
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"},
                        },
                        {
                            "type": "image",
                            "source": {"type": "url", "url": "https://example.org/a.png"},
                        },
                    ],
                }
            ],
        ),
        # both results must stand in the one turn after the calls
        (
            [
                {"role": "user", "content": "Sum?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "c1", "function": {"name": "add", "arguments": '{"a":1}'}},
                        {"id": "c2", "function": {"name": "add", "arguments": ""}},
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "2"},
                {"role": "tool", "tool_call_id": "c2", "content": [text("3")]},
                {"role": "user", "content": "Go on"},
            ],
            None,
            [
                {"role": "user", "content": [text("Sum?")]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
                        {"type": "tool_use", "id": "c2", "name": "add", "input": {}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "c1", "content": "2"},
                        {"type": "tool_result", "tool_use_id": "c2", "content": [text("3")]},
                        text("Go on"),
                    ],
                },
            ],
        ),
        # empty text is refused by Anthropic
        (
            [{"role": "assistant", "content": ""}, {"role": "user", "content": "Hi"}],
            None,
            [{"role": "user", "content": [text("Hi")]}],
        ),
        # arguments that a model spoilt are still an object
        (
            [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{oops"}}],
                }
            ],
            None,
            [
                {
                    "role": "assistant",
                    "content": [
                        {
                            "type": "tool_use",
                            "id": "c",
                            "name": "f",
                            "input": {"arguments": "{oops"},
                        }
                    ],
                }
            ],
        ),
    ],
)
def test_a_conversation_becomes_turns_with_the_system_apart(
    messages: list[object], system: str | None, turns: list[object]
) -> None:
    asked = request(messages=messages)

    assert (asked.get("system"), asked["messages"]) == (system, turns)


def message(stop_reason: str, *content: object, **usage: int) -> dict[str, object]:
    """An answer of Anthropic's."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": list(content),
        "stop_reason": stop_reason,
        "usage": usage,
    }


def heard(answer: object) -> dict[str, object]:
    """The answer as a chat.completion."""
    translate = FAMILIES["anthropic"].translate
    assert translate is not None
    completion = translate(answer, NOW)
    assert isinstance(completion, dict)
    return completion


def test_a_message_is_heard_as_a_chat_completion() -> None:
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 2,
        "output_tokens": 3,
    }
    answer = message("end_turn", {"type": "thinking", "thinking": "hm"}, text("Hi"), **usage)

    assert heard(answer) == {
        "id": "msg_1",
        "object": "chat.completion",
        "created": 1_774_820_100,
        "model": "claude-haiku-5-5",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi", "reasoning_content": "hm"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        # OpenAI counts cached tokens in, Anthropic does not
        "usage": {
            "prompt_tokens": 17,
            "completion_tokens": 3,
            "total_tokens": 20,
            "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2},
        },
    }


@pytest.mark.parametrize(
    ("stop_reason", "content", "finish_reason", "word"),
    [
        ("end_turn", "Hi", "stop", VerdictWord.SUCCEEDED),
        ("stop_sequence", "Hi", "stop", VerdictWord.SUCCEEDED),
        ("max_tokens", "Hi", "length", VerdictWord.SUCCEEDED),
        ("model_context_window_exceeded", "Hi", "length", VerdictWord.SUCCEEDED),
        ("refusal", "", "content_filter", VerdictWord.CONTENT_POLICY),
        # not an end: it must not pass for one
        ("pause_turn", "Hi", "pause_turn", VerdictWord.PROVIDER_DOWN),
    ],
)
def test_a_stop_reason_becomes_the_finish_reason_that_means_the_same(
    stop_reason: str, content: str, finish_reason: str, word: VerdictWord
) -> None:
    payload = heard(message(stop_reason, text(content)))
    answer = Answered(status=200, headers={}, body=orjson.dumps(payload), payload=payload)

    assert orjson.loads(answer.body)["choices"][0]["finish_reason"] == finish_reason
    assert classify("anthropic", answer, NOW).word is word


def test_a_tool_call_goes_there_and_back_unchanged() -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1, "b": [2]}}
    choices = heard(message("tool_use", text("Let me"), use))["choices"]
    assert isinstance(choices, list)
    spoken = choices[0]["message"]

    assert choices[0]["finish_reason"] == "tool_calls"
    assert spoken["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a":1,"b":[2]}'}
    assert request(messages=[spoken])["messages"] == [
        {"role": "assistant", "content": [text("Let me"), use]}
    ]


@pytest.mark.parametrize(
    "answer", [None, [], {"type": "error", "error": {"type": "api_error"}}, {"choices": []}]
)
def test_what_is_no_message_is_left_as_it_is_for_the_verdict(answer: object) -> None:
    translate = FAMILIES["anthropic"].translate
    assert translate is not None

    assert translate(answer, NOW) is answer
