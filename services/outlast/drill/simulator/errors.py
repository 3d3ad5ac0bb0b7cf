"""The errors of each family, body by body.

Texts are those of the providers' documents, their clients' sources and issue threads, as of
November 2026.
"""

from typing import Final

from outlast.drill.simulator.answers import Reply

__all__ = [
    "ANTHROPIC_ERRORS",
    "DEEPSEEK_ERRORS",
    "OPENAI_ERRORS",
    "VLLM_ERRORS",
    "invalid",
    "openai_error",
]


def openai_error(
    status: int, message: str, kind: str, code: str | None, param: str | None = None
) -> Reply:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Reply(status=status, body={"error": error})


def anthropic_error(status: int, message: str, kind: str) -> Reply:
    return Reply(
        status=status,
        body={
            "type": "error",
            "error": {"type": kind, "message": message},
            "request_id": "req_simulated",
        },
    )


def invalid(message: str) -> Reply:
    return anthropic_error(400, message, "invalid_request_error")


OPENAI_ERRORS: Final = {
    "bad_key": openai_error(
        401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key"
    ),
    "quota": openai_error(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    ),
    "throttle": openai_error(
        429, "Rate limit reached for requests", "requests", "rate_limit_exceeded"
    ),
    "throttle_tokens": openai_error(
        429, "Rate limit reached for tokens per min (TPM)", "tokens", "rate_limit_exceeded"
    ),
    "unavailable": openai_error(
        503,
        "The server is currently overloaded with other requests.",
        "service_unavailable_error",
        "server_is_overloaded",
    ),
    "reject": openai_error(
        400, "The request was marked to be rejected.", "invalid_request_error", None
    ),
    "too_long": openai_error(
        400,
        "This model's maximum context length is 128000 tokens. However, your messages resulted in "
        "128001 tokens. Please reduce the length of the messages.",
        "invalid_request_error",
        "context_length_exceeded",
        "messages",
    ),
    "no_such_path": openai_error(404, "Invalid URL", "invalid_request_error", None),
    "not_for_chat": openai_error(
        403, "You are not allowed to sample from this model", "invalid_request_error", None
    ),
    "not_for_embeddings": openai_error(
        403,
        "You are not allowed to generate embeddings from this model",
        "invalid_request_error",
        None,
    ),
}

DEEPSEEK_ERRORS: Final = {
    "bad_key": openai_error(
        401,
        "Authentication Fails, Your api key is invalid",
        "authentication_error",
        "invalid_request_error",
    ),
    "quota": openai_error(402, "Insufficient Balance", "unknown_error", "invalid_request_error"),
    "throttle": openai_error(
        429,
        "Too many requests, you may temporarily switch to alternative providers",
        "rate_limit_error",
        "rate_limit_error",
    ),
    "unavailable": openai_error(
        503,
        "Service is too busy. Please retry your request after a brief wait.",
        "service_unavailable_error",
        "service_unavailable_error",
    ),
    "reject": openai_error(
        400,
        "Invalid Format: the request was marked to be rejected",
        "invalid_request_error",
        "invalid_request_error",
    ),
    "too_long": openai_error(
        400,
        "This model's maximum context length is 131072 tokens. However, you requested 131073 "
        "tokens.",
        "invalid_request_error",
        "invalid_request_error",
    ),
    "no_such_path": Reply(
        status=404, body={"error_msg": "Not Found. Please check the configuration."}
    ),
}

ANTHROPIC_ERRORS: Final = {
    "bad_key": anthropic_error(401, "invalid x-api-key", "authentication_error"),
    "quota": anthropic_error(
        400,
        "You have reached your specified API usage limits. You will regain access on "
        "2027-01-01 at 00:00 UTC.",
        "invalid_request_error",
    ),
    "throttle": anthropic_error(
        429, "This request would exceed your rate limit", "rate_limit_error"
    ),
    "unavailable": anthropic_error(529, "Overloaded", "overloaded_error"),
    "reject": invalid("messages: the request was marked to be rejected"),
    "too_long": invalid("prompt is too long: 200001 tokens > 200000 maximum"),
    "no_such_path": anthropic_error(404, "Not Found", "not_found_error"),
}


def _vllm_error(status: int, message: str, kind: str) -> Reply:
    error = {"message": message, "type": kind, "param": None, "code": status}
    return Reply(status=status, body={"error": error})


VLLM_ERRORS: Final = {
    "bad_key": Reply(status=401, body={"error": "Unauthorized"}),
    "quota": _vllm_error(402, "Payment required", "PaymentRequiredError"),
    "throttle": _vllm_error(429, "The waiting queue is full", "TooManyRequestsError"),
    "unavailable": _vllm_error(503, "The engine is not ready", "ServiceUnavailableError"),
    "reject": _vllm_error(400, "The request was marked to be rejected", "BadRequestError"),
    "too_long": _vllm_error(
        400,
        "This model's maximum context length is 4096 tokens. However, your request has 4097 input "
        "tokens.",
        "BadRequestError",
    ),
    "no_such_path": Reply(status=404, body={"detail": "Not Found"}),
    "not_for_chat": _vllm_error(
        400, "The model does not support Chat Completions API", "BadRequestError"
    ),
    "not_for_embeddings": _vllm_error(
        400, "The model does not support Embeddings API", "BadRequestError"
    ),
}
