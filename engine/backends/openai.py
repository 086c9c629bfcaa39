"""Models behind an OpenAI-compatible server: OpenAI itself, vLLM, llama.cpp, and others."""

from __future__ import annotations

import json
import logging
import queue
import random
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from longleaf.engine.backends.openai_reply import Reply
from longleaf.engine.contract import Done, Event, Failed, Grammar, ModelCard, Request
from longleaf.engine.errors import EngineFailed, LongleafError, MissingExtra, WindowExceeded
from longleaf.engine.grammar import Check, lark
from longleaf.engine.tokens import TokenEstimate

# What a server may not know. Each is dropped for good once a server refuses it by name.
OPTIONAL = ("stream_options", "continue_final_message", "max_tokens")

Events = queue.SimpleQueue[Event]


class OpenAIEngine:
    """Calls a chat completions server, `concurrency` requests at once. Safe to share between threads.

    `timeout` is seconds without a sign of life; rate limits, server errors and lost connections are tried
    `retries` times more, each wait twice the last. A request that has streamed part of its reply is not tried
    again.

    A forced start of the reply (`Request.prefix`) is sent as an unfinished assistant turn with vLLM's
    `continue_final_message`. A server that refuses that is sent the turn alone, and a reply that repeats the
    start loses it; whether the model then really goes on from there is up to the server.

    A JSON schema is sent as OpenAI's `response_format`; a choice, a regular expression and a span as vLLM's
    `structured_outputs` (vLLM 0.11 or later; a span needs its guidance backend, which the setting "auto" takes by
    itself). Servers leave out arguments they do not know, so a reply is checked when it has come, and one that
    is not what was asked for is `Failed`, although its tokens were shown.

    Tokens are counted with `TokenEstimate`, so window checks are estimates for models with another
    vocabulary. Raises `MissingExtra` where the openai package is not installed.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        window: int | None = None,
        timeout: float = 120.0,
        retries: int = 4,
        concurrency: int = 8,
        backoff: float = 0.5,
    ) -> None:
        self._openai = _import_openai()
        self._where = _without_credentials(base_url)
        self._model = model
        self._key = api_key
        self._retries = retries
        self._backoff = backoff
        self._concurrency = max(1, concurrency)
        self._slots = threading.BoundedSemaphore(self._concurrency)
        self._tokens = TokenEstimate()
        self._refused: set[str] = set()
        self._client: Any = self._openai.OpenAI(
            base_url=base_url, api_key=api_key or "none", timeout=timeout, max_retries=0
        )
        self._card = ModelCard(
            name=model,
            backend="openai",
            window=window or 8192,
            tokenizer=self._tokens.name,
            dtype="unknown",
            capabilities=frozenset({"prefix", "seed", "grammar"}),
        )

    @property
    def card(self) -> ModelCard:
        """What is known of the model; the window is what was given, or 8,192."""
        return self._card

    def count(self, text: str) -> int:
        """Tokens of `text`, an estimate where the model's vocabulary is not cl100k_base."""
        return self._tokens.count(text)

    def close(self) -> None:
        """Close the connections. A later `generate` fails every request."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def generate(self, requests: Sequence[Request]) -> Iterator[Event]:
        """Answer a batch, streaming.

        Exactly one `Done` or `Failed` comes per request; closing the iterator stops.
        """
        todo: queue.SimpleQueue[Request] = queue.SimpleQueue()
        for request in requests:
            todo.put(request)
        events: Events = queue.SimpleQueue()
        stopped = threading.Event()
        for _ in range(min(self._concurrency, len(requests))):
            # Daemons: a server that hangs must not keep the process from ending.
            threading.Thread(target=self._work, args=(todo, events, stopped), daemon=True).start()
        try:
            open_requests = len(requests)
            while open_requests:
                event = events.get()
                open_requests -= isinstance(event, (Done, Failed))
                yield event
        finally:
            stopped.set()

    def _work(self, todo: queue.SimpleQueue[Request], events: Events, stopped: threading.Event) -> None:
        while not stopped.is_set():
            try:
                request = todo.get_nowait()
            except queue.Empty:
                return
            with self._slots:
                try:
                    self._answer(request, events, stopped)
                except LongleafError as error:
                    events.put(Failed(request.id, error, transient=getattr(error, "transient", False)))
                except Exception as error:  # a worker that dies unheard would hang its caller
                    logging.getLogger(__name__).exception("request %s failed unexpectedly", request.id)
                    events.put(Failed(request.id, EngineFailed(f"request {request.id} failed: {error!r}")))

    def _answer(self, request: Request, events: Events, stopped: threading.Event) -> None:
        prompt_tokens = self._prompt_tokens(request)
        room = self._card.window - prompt_tokens
        if room < 1:
            raise WindowExceeded(
                f"the prompt of request {request.id} has about {prompt_tokens} tokens and {self._model} is "
                f"set to hold {self._card.window}, prompt and reply together. Set the server's real window "
                "(`--set model.window=N`), or use a reader that reads in parts (`--reader retrieve`)."
            )
        grammar = request.sampling.grammar
        check = Check(grammar) if grammar is not None else None
        attempt = 0
        while not stopped.is_set():
            repeats = self._may_repeat(request)
            reply = Reply(request, prompt_tokens, self._tokens.count, repeats=repeats, check=check)
            try:
                self._stream(request, min(request.sampling.max_tokens, room), reply, events, stopped)
                return
            except self._openai.BadRequestError as error:
                if not self._drop_refused(error):
                    raise self._explain(request, error) from None
            except self._openai.APIError as error:
                failure = self._explain(request, error)
                if not failure.transient or attempt >= self._retries or reply.begun:
                    # The original may hold headers, and with them the key.
                    raise failure from None
                stopped.wait(self._pause(error, attempt))
                attempt += 1

    def _stream(
        self, request: Request, max_tokens: int, reply: Reply, events: Events, stopped: threading.Event
    ) -> None:
        client = self._client
        if client is None:
            raise EngineFailed(f"the engine of {self._model} is closed; open it again")
        with client.chat.completions.create(**self._arguments(request, max_tokens)) as stream:
            for chunk in stream:
                if stopped.is_set():
                    return
                for event in reply.accept(chunk):
                    events.put(event)
                if reply.stopped:
                    break
        for event in reply.finish():
            events.put(event)

    def _arguments(self, request: Request, max_tokens: int) -> dict[str, Any]:
        sampling = request.sampling
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        arguments: dict[str, Any] = {
            "model": self._model,
            "messages": messages,
            "stream": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_completion_tokens" if "max_tokens" in self._refused else "max_tokens": max(1, max_tokens),
        }
        if sampling.stop:
            arguments["stop"] = list(sampling.stop[:4])  # servers take four; the rest are found here
        if sampling.seed is not None:
            arguments["seed"] = sampling.seed
        if "stream_options" not in self._refused:
            arguments["stream_options"] = {"include_usage": True}
        extra: dict[str, Any] = {}
        if request.prefix:
            messages.append({"role": "assistant", "content": request.prefix})
            if "continue_final_message" not in self._refused:
                extra |= {"continue_final_message": True, "add_generation_prompt": False}
        if sampling.grammar is not None:
            standard, added = _constraint(sampling.grammar)
            arguments |= standard
            extra |= added
        return arguments | ({"extra_body": extra} if extra else {})

    def _may_repeat(self, request: Request) -> bool:
        # A reply held to a grammar cannot repeat the prefix, and may rightly begin with the same characters.
        held = request.sampling.grammar is not None
        return bool(request.prefix) and not held and "continue_final_message" in self._refused

    def _drop_refused(self, error: Any) -> bool:
        """Note an optional argument the server refused by name; whether there was a new one."""
        refused = {name for name in OPTIONAL if name in str(error)} - self._refused
        if "add_generation_prompt" in str(error) and "continue_final_message" not in self._refused:
            refused.add("continue_final_message")
        self._refused |= refused
        return bool(refused)

    def _prompt_tokens(self, request: Request) -> int:
        # Three or four tokens of frame a turn, as in OpenAI's own counting example.
        contents = sum(self.count(message.content) + 4 for message in request.messages)
        return contents + self.count(request.prefix) + 3

    def _pause(self, error: Any, attempt: int) -> float:
        response = getattr(error, "response", None)
        asked = response.headers.get("retry-after", "") if response is not None else ""
        wait = self._backoff * 2**attempt * random.uniform(0.75, 1.25)
        return min(float(asked), 60.0) if asked.replace(".", "", 1).isdigit() else wait

    def _explain(self, request: Request, error: Any) -> EngineFailed:
        """The error in words: what happened, where, and what to do. Never the key."""
        kinds = self._openai
        said = self._clean(str(error))
        where = f"request {request.id} to {self._model} at {self._where}"
        if isinstance(error, kinds.APITimeoutError):
            return EngineFailed(f"{where} got no answer in time; raise the timeout or check it", transient=True)
        if isinstance(error, kinds.APIConnectionError):
            return EngineFailed(f"{where} cannot connect ({said}); is the server running?", transient=True)
        if isinstance(error, (kinds.RateLimitError, kinds.InternalServerError)):
            return EngineFailed(f"{where} failed after {self._retries + 1} tries: {said}", transient=True)
        if isinstance(error, (kinds.AuthenticationError, kinds.PermissionDeniedError)):
            return EngineFailed(f"{where} was refused; check the API key setting. The server said: {said}")
        if isinstance(error, kinds.NotFoundError):
            return EngineFailed(f"{where}: no such model or address; check both. The server said: {said}")
        if request.sampling.grammar is not None and getattr(error, "status_code", None) in (400, 422):
            said += (
                f" (was it the {request.sampling.grammar.kind} grammar? Not every server can hold a reply to one: "
                "vLLM can, OpenAI only to a JSON schema whose objects are closed and need every key)"
            )
        # An error sent inside the stream has no status; the server broke off and may do better next time.
        return EngineFailed(f"{where} failed: {said}", transient=not isinstance(error, kinds.APIStatusError))

    def _clean(self, text: str) -> str:
        text = text.replace(self._key, "***") if self._key else text
        return text if len(text) <= 300 else text[:300] + " ..."


def _constraint(grammar: Grammar) -> tuple[dict[str, Any], dict[str, Any]]:
    """A grammar as arguments: those of OpenAI's own, and vLLM's additions."""
    if grammar.kind == "json":
        schema = {"name": "reply", "strict": True, "schema": json.loads(grammar.source)}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}, {}
    if grammar.kind == "choice":
        return {}, {"structured_outputs": {"choice": json.loads(grammar.source)}}
    if grammar.kind == "regex":
        return {}, {"structured_outputs": {"regex": grammar.source}}
    return {}, {"structured_outputs": {"grammar": lark(grammar)}}


def _import_openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise MissingExtra(
            "models behind a server need the openai package; run: pip install 'longleaf[openai]'"
        ) from error
    return openai


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
