"""What each answer of each family means: a row for every body the providers are known to send."""

import pytest

from outlast.core.classify import classify
from outlast.core.classify.statuses import word_of_status
from outlast.core.verdict import Cut, MaybeExecuted, NotSent, Outcome
from outlast_schemas.attempt import VerdictWord as W
from tests.core.error_bodies import HTML, NOW, answered, anthropic, completion, gemini, openai


@pytest.mark.parametrize(
    ("family", "status", "body", "word"),
    [
        # DeepSeek
        ("deepseek", 400, openai("Invalid Format", "invalid_request_error"), W.JOB_REJECTED),
        # type and code say invalid_request_error, only the text tells
        (
            "deepseek",
            400,
            openai("Content Exists Risk", "invalid_request_error", "invalid_request_error"),
            W.CONTENT_POLICY,
        ),
        ("deepseek", 400, openai("Model Not Exist", "invalid_request_error"), W.MISROUTED),
        (
            "deepseek",
            400,
            openai("This model's maximum context length is 1048576 tokens. However, …"),
            W.CONTEXT_TOO_LONG,
        ),
        (
            "deepseek",
            402,
            openai("Insufficient Balance", "unknown_error", "invalid_request_error"),
            W.ACCOUNT_BLOCKED,
        ),
        ("deepseek", 401, openai("Authentication Fails"), W.ACCOUNT_BLOCKED),
        ("deepseek", 429, openai("… temporarily switch to alternative …"), W.RETRY_LATER),
        ("deepseek", 500, openai("Server Error"), W.PROVIDER_DOWN),
        ("deepseek", 503, openai("Server Overloaded"), W.PROVIDER_DOWN),
        # OpenAI: four meanings of a 429
        ("openai", 429, openai("…", "tokens", "rate_limit_exceeded"), W.RETRY_LATER),
        ("openai", 429, openai("…", "insufficient_quota", "insufficient_quota"), W.ACCOUNT_BLOCKED),
        # the code is new to the client, the type is not
        ("openai", 429, openai("…", "insufficient_quota", "brand_new"), W.ACCOUNT_BLOCKED),
        ("openai", 429, openai("…", None, "project_spend_limit_exceeded"), W.ACCOUNT_BLOCKED),
        # larger than the whole window: its rate_limit code lies, waiting never helps
        (
            "openai",
            429,
            openai("Request too large for gpt-x on TPM", "tokens", "rate_limit_exceeded"),
            W.CONTEXT_TOO_LONG,
        ),
        ("openai", 429, {"status": "come back later"}, W.RETRY_LATER),
        ("openai", 401, openai("…", "invalid_request_error", "invalid_api_key"), W.ACCOUNT_BLOCKED),
        ("openai", 404, openai("…", None, "model_not_found"), W.MISROUTED),
        ("openai", 400, openai("…", None, "context_length_exceeded"), W.CONTEXT_TOO_LONG),
        ("openai", 400, openai("…", None, "content_policy_violation"), W.CONTENT_POLICY),
        (
            "openai",
            400,
            openai("Invalid prompt: … as potentially violating our usage policy."),
            W.CONTENT_POLICY,
        ),
        ("openai", 400, openai("…", None, "unsupported_parameter"), W.JOB_REJECTED),
        # a string too long is the job's fault, not the context's
        (
            "openai",
            400,
            openai("… prompt is too long …", None, "string_above_max_length"),
            W.JOB_REJECTED,
        ),
        (
            "openai",
            503,
            openai("…", "service_unavailable_error", "server_is_overloaded"),
            W.PROVIDER_DOWN,
        ),
        ("openai", 500, openai("…", "server_error"), W.PROVIDER_DOWN),
        ("openai", 502, {"error": {"code": 502, "type": "cf_bad_gateway"}}, W.PROVIDER_DOWN),
        # Anthropic
        ("anthropic", 400, anthropic("invalid_request_error"), W.JOB_REJECTED),
        (
            "anthropic",
            400,
            anthropic("invalid_request_error", "prompt is too long: 200001 tokens > 200000"),
            W.CONTEXT_TOO_LONG,
        ),
        # no money, in a 400
        (
            "anthropic",
            400,
            anthropic("invalid_request_error", "You have reached your specified API usage limits."),
            W.ACCOUNT_BLOCKED,
        ),
        (
            "anthropic",
            400,
            anthropic("invalid_request_error", "…", "organization_on_hold"),
            W.ACCOUNT_BLOCKED,
        ),
        ("anthropic", 401, anthropic("authentication_error"), W.ACCOUNT_BLOCKED),
        ("anthropic", 403, anthropic("permission_error"), W.ACCOUNT_BLOCKED),
        ("anthropic", 404, anthropic("not_found_error"), W.MISROUTED),
        ("anthropic", 400, anthropic("request_body_timeout"), W.RETRY_LATER),
        ("anthropic", 409, anthropic("conflict_error"), W.RETRY_LATER),
        ("anthropic", 413, anthropic("request_too_large"), W.JOB_REJECTED),
        ("anthropic", 429, anthropic("rate_limit_error"), W.RETRY_LATER),
        (
            "anthropic",
            429,
            anthropic("rate_limit_error", "…", "enforced_spend_limit_reached"),
            W.ACCOUNT_BLOCKED,
        ),
        ("anthropic", 500, anthropic("api_error"), W.PROVIDER_DOWN),
        ("anthropic", 504, anthropic("timeout_error"), W.AMBIGUOUS),
        ("anthropic", 529, anthropic("overloaded_error"), W.PROVIDER_DOWN),
        # an error event of a stream, read as a whole answer
        ("anthropic", 200, anthropic("overloaded_error"), W.PROVIDER_DOWN),
        # vLLM, SGLang, llama.cpp, Ollama
        ("compatible", 400, openai("…", "BadRequestError", 400), W.JOB_REJECTED),
        (
            "compatible",
            400,
            {"object": "error", "message": "This model's maximum context length is 4096 tokens."},
            W.CONTEXT_TOO_LONG,
        ),
        (
            "compatible",
            400,
            openai("The input (9 tokens) is longer than the model's context length (8 tokens)."),
            W.CONTEXT_TOO_LONG,
        ),
        ("compatible", 400, openai("…", "exceed_context_size_error", 400), W.CONTEXT_TOO_LONG),
        ("compatible", 404, openai("…", "NotFoundError", 404), W.MISROUTED),
        ("compatible", 503, openai("Loading model", "unavailable_error", 503), W.PROVIDER_DOWN),
        # an image for a model without eyes is the job's fault, whatever the status says
        (
            "compatible",
            500,
            openai("image input is not supported, you may need to provide the mmproj"),
            W.JOB_REJECTED,
        ),
        ("compatible", 503, {"error": "server busy, please try again."}, W.PROVIDER_DOWN),
        # Mistral, Groq, Together, DashScope, Kimi, Azure, OpenRouter
        ("compatible", 401, {"detail": "Unauthorized"}, W.ACCOUNT_BLOCKED),
        (
            "compatible",
            422,
            {"object": "error", "message": {"detail": [{"type": "extra_forbidden"}]}},
            W.JOB_REJECTED,
        ),
        ("compatible", 429, {"message": "Service tier capacity exceeded"}, W.RETRY_LATER),
        ("compatible", 424, openai("…"), W.PROVIDER_DOWN),
        ("compatible", 498, openai("…", None, "capacity_exceeded"), W.RETRY_LATER),
        ("compatible", 413, openai("Request too large for model"), W.CONTEXT_TOO_LONG),
        ("compatible", 403, openai("inputs + max_new_tokens must be <= 8193"), W.CONTEXT_TOO_LONG),
        ("compatible", 400, openai("Access denied", "Arrearage", "Arrearage"), W.ACCOUNT_BLOCKED),
        ("compatible", 400, openai("…", None, "data_inspection_failed"), W.CONTENT_POLICY),
        ("compatible", 429, openai("…", "exceeded_current_quota_error"), W.ACCOUNT_BLOCKED),
        ("compatible", 429, openai("…", "engine_overloaded_error"), W.PROVIDER_DOWN),
        ("compatible", 429, openai("…", "rate_limit_reached_error"), W.RETRY_LATER),
        ("compatible", 429, openai("System is experiencing high demand"), W.PROVIDER_DOWN),
        (
            "compatible",
            400,
            {"error": {"code": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
            W.CONTENT_POLICY,
        ),
        ("compatible", 403, {"error": {"code": 403, "message": "was flagged"}}, W.CONTENT_POLICY),
        ("compatible", 402, {"error": {"code": 402, "message": "credits"}}, W.ACCOUNT_BLOCKED),
        # the budget is only lent to our own calls in flight
        (
            "compatible",
            402,
            {"error": {"code": 402, "metadata": {"limit_source": "openrouter_in_flight_budget"}}},
            W.RETRY_LATER,
        ),
        ("compatible", 200, {"error": {"code": 502, "message": "upstream"}}, W.PROVIDER_DOWN),
        ("compatible", 200, {"error": {"code": 429, "message": "upstream"}}, W.RETRY_LATER),
        # Gemini
        ("compatible", 429, gemini(429, "RESOURCE_EXHAUSTED"), W.RETRY_LATER),
        (
            "compatible",
            429,
            gemini(429, "RESOURCE_EXHAUSTED", reason="MODEL_CAPACITY_EXHAUSTED"),
            W.PROVIDER_DOWN,
        ),
        (
            "compatible",
            400,
            gemini(400, "INVALID_ARGUMENT", reason="API_KEY_INVALID"),
            W.ACCOUNT_BLOCKED,
        ),
        ("compatible", 400, gemini(400, "FAILED_PRECONDITION"), W.ACCOUNT_BLOCKED),
        ("compatible", 400, gemini(400, "INVALID_ARGUMENT"), W.JOB_REJECTED),
        (
            "compatible",
            400,
            gemini(400, "INVALID_ARGUMENT", "… exceeds the maximum number of tokens allowed"),
            W.CONTEXT_TOO_LONG,
        ),
        ("compatible", 504, gemini(504, "DEADLINE_EXCEEDED"), W.AMBIGUOUS),
        # embeddings: an input that is too long, by whoever says so
        (
            "openai",
            400,
            openai("Invalid 'input': maximum context length is 8192 tokens."),
            W.CONTEXT_TOO_LONG,
        ),
        (
            "openai",
            400,
            openai("Invalid 'input[429]': maximum input length is 8192 tokens."),
            W.CONTEXT_TOO_LONG,
        ),
        (
            "compatible",
            500,
            openai("input (518 tokens) is too large to process. increase …", "server_error", 500),
            W.CONTEXT_TOO_LONG,
        ),
        (
            "compatible",
            413,
            {"error": "Input validation error: `inputs` must have less than 512 tokens."},
            W.CONTEXT_TOO_LONG,
        ),
        (
            "compatible",
            400,
            openai("the input length exceeds the context length", "api_error"),
            W.CONTEXT_TOO_LONG,
        ),
        # a model asked for what it is not for: the account is good, the job is good elsewhere
        ("openai", 403, openai("You are not allowed to sample from this model"), W.MISROUTED),
        (
            "openai",
            403,
            openai("You are not allowed to generate embeddings from this model"),
            W.MISROUTED,
        ),
        ("openai", 403, openai("Country not supported"), W.ACCOUNT_BLOCKED),
        ("compatible", 400, openai("The model does not support Embeddings API"), W.MISROUTED),
        ("compatible", 400, {"error": '"bge-m3" does not support chat'}, W.MISROUTED),
        (
            "compatible",
            501,
            openai("This server does not support completions. Start it without `--embeddings`"),
            W.MISROUTED,
        ),
        (
            "compatible",
            400,
            openai("… cannot be used with the chat/completions endpoint. …", None, 400),
            W.MISROUTED,
        ),
        (
            "compatible",
            400,
            openai("The chatCompletion operation does not work …", None, "OperationNotSupported"),
            W.MISROUTED,
        ),
        ("compatible", 400, openai("top_k cannot be used with the greedy sampler"), W.JOB_REJECTED),
        # DeepSeek has no such path
        ("deepseek", 404, {"error_msg": "Not Found. Please check the configuration."}, W.MISROUTED),
        # what nobody has seen yet
        ("openai", 418, openai("…"), W.JOB_REJECTED),
        ("openai", 507, openai("…"), W.PROVIDER_DOWN),
        ("openai", 307, "", W.MISROUTED),
        ("of-no-known-family", 503, openai("…"), W.PROVIDER_DOWN),
    ],
)
def test_an_error_means_what_its_body_says_and_only_then_what_its_status_says(
    family: str, status: int, body: object, word: W
) -> None:
    verdict = classify(family, answered(status, body), NOW)

    assert (verdict.word, verdict.status) == (word, status)
    assert verdict.served is None


@pytest.mark.parametrize(
    ("status", "body", "headers", "word"),
    [
        (502, "<html><title>502 Bad Gateway</title></html>", HTML, W.PROVIDER_DOWN),
        (520, "<!DOCTYPE html>…", {}, W.PROVIDER_DOWN),
        (524, "error code: 524", {}, W.PROVIDER_DOWN),
        (530, "<html>1.2.3.4</html>", HTML, W.PROVIDER_DOWN),
        # a firewall's page, not the account's 403
        (403, "<html><title>Attention Required!</title></html>", HTML, W.PROVIDER_DOWN),
        (200, "<html>maintenance</html>", HTML, W.PROVIDER_DOWN),
        # the gateway had passed it on
        (504, "<html><title>504 Gateway Time-out</title></html>", HTML, W.AMBIGUOUS),
        # the page is a proxy's, but it speaks of the job's size
        (413, "<html><title>413 Too Large</title></html>", HTML, W.JOB_REJECTED),
        (503, "upstream connect error", {"content-type": "text/plain"}, W.PROVIDER_DOWN),
    ],
)
def test_a_web_page_where_json_belongs_means_that_the_provider_was_not_reached(
    status: int, body: str, headers: dict[str, str], word: W
) -> None:
    assert classify("openai", answered(status, body, headers), NOW).word is word


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (completion("stop", content="Hi"), W.SUCCEEDED),
        (completion("tool_calls", content=None, tool_calls=[{"id": "1"}]), W.SUCCEEDED),
        (completion("stop", content=None, refusal="I can't."), W.SUCCEEDED),
        # the job's own limit, spent on reasoning; and every one-token probe of such a model
        (completion("length", content=""), W.SUCCEEDED),
        (completion("content_filter", content="half"), W.SUCCEEDED),
        (completion("content_filter", content=None), W.CONTENT_POLICY),
        ({**completion("stop", content="Hi"), "error": None}, W.SUCCEEDED),
        (completion("stop", content=""), W.PROVIDER_DOWN),
        (completion("error", content="half"), W.PROVIDER_DOWN),
        (completion("insufficient_system_resource", content="half"), W.PROVIDER_DOWN),
        (completion("aborted", content="half"), W.PROVIDER_DOWN),
        (completion(None, content="half"), W.PROVIDER_DOWN),
        (completion("pause_turn", content="half"), W.PROVIDER_DOWN),
        ({"choices": []}, W.PROVIDER_DOWN),
        ({"choices": [None]}, W.PROVIDER_DOWN),
        ([], W.PROVIDER_DOWN),
        ({"error": {"message": "?"}}, W.PROVIDER_DOWN),
        # accepted, maybe run and billed, and nothing came of it
        ("", W.AMBIGUOUS),
        ("\n\n\n", W.AMBIGUOUS),
        ('{"choices": [{"mess', W.AMBIGUOUS),
    ],
)
def test_a_200_is_a_success_only_with_an_answer_in_it(body: object, word: W) -> None:
    verdict = classify("deepseek", answered(200, body), NOW)

    assert verdict.word is word
    assert verdict.evidence is (word in (W.PROVIDER_DOWN, W.AMBIGUOUS))


@pytest.mark.parametrize(
    ("outcome", "word", "evidence"),
    [
        (NotSent(note="refused"), W.PROVIDER_DOWN, True),
        (MaybeExecuted(note="reset"), W.AMBIGUOUS, True),
        (Cut(clock="first_token", note="…"), W.AMBIGUOUS, True),
        (Cut(clock="total", note="…"), W.AMBIGUOUS, True),
        # the job's deadline says nothing about the provider
        (Cut(clock="deadline", note="…"), W.AMBIGUOUS, False),
    ],
)
def test_without_an_answer_it_counts_whether_the_request_had_left(
    outcome: Outcome, word: W, evidence: bool
) -> None:
    verdict = classify("openai", outcome, NOW)

    assert (verdict.word, verdict.evidence) == (word, evidence)


@pytest.mark.parametrize("status", range(100, 600))
def test_every_status_has_a_verdict_and_none_is_a_success(status: int) -> None:
    words = {word_of_status(status, is_html=page) for page in (True, False)}

    assert W.SUCCEEDED not in words
