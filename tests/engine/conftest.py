"""A tiny random Llama with a byte-level tokenizer, made once, and an OpenAI-compatible server process."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tiny_llama import build_tokenizer, write_model


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, tokenizer):
    """Folder of a two-layer model with random weights and a window of 256 tokens."""
    return write_model(tmp_path_factory.mktemp("tiny") / "tiny-llama", tokenizer)


class Server:
    """The server process, with what it was sent."""

    def __init__(self, port):
        self.base_url = f"http://127.0.0.1:{port}/v1"
        self._control = f"http://127.0.0.1:{port}/control"

    def behave(self, **settings):
        """Forget what was received and behave as told; see `openai_server.py`."""
        body = json.dumps(settings).encode()
        urllib.request.urlopen(self._control, data=body, timeout=10).read()

    def received(self):
        return json.load(urllib.request.urlopen(self._control, timeout=10))


@pytest.fixture(scope="session")
def server():
    script = Path(__file__).parent / "openai_server.py"
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        yield Server(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
