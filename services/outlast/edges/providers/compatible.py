"""Servers that speak OpenAI's chat completions: vLLM, llama.cpp, Ollama, Mistral, Groq, others."""

from typing import Final

from outlast.edges.providers.family import Family, adapted, bearer

__all__ = ["COMPATIBLE"]

COMPATIBLE: Final = Family(
    name="compatible",
    base_url=None,
    path="/chat/completions",
    embeddings="/embeddings",
    headers=bearer,
    request=adapted,
)
"""The body goes as it came: these servers differ in what they take, and only its owner knows."""
