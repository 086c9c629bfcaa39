"""`kv`: the model reads the text once and keeps its keys and values; every question after that is the question alone.

The question stands behind the text alone, so what was computed for the text serves every question.
Where it is longer than the window, blocks of it are fetched as they are needed (InfLLM, Xiao et al., 2024,
arXiv 2402.04617), and the reply only tells where the model looks: what stands there and what search finds is read
again, as text and with the question known. What a reply's attention went to is shown beside the quotes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from longleaf.agents.call import call
from longleaf.agents.denial import denied
from longleaf.agents.errors import CapabilityMissing, RunStopped
from longleaf.agents.evidence import (
    candidates,
    covering,
    enough,
    quote,
    to_read,
    weighed,
    whole_sentences,
    within,
)
from longleaf.agents.part import chosen_documents
from longleaf.agents.prompt import broken, load
from longleaf.agents.reader import Ask, Deps, Estimate, QuoteFound, Reading, Warmed, Wording, Work
from longleaf.agents.reason import asked
from longleaf.agents.state import EvidenceState, LookedState, ReadState
from longleaf.agents.views import answered, sizes
from longleaf.engine.contract import OpenDocument, ReadsDocuments, TextRead
from longleaf.engine.errors import Stopped
from longleaf.memory.records import DocumentRecord, SourceSpan, StepRecord
from longleaf.retrieval.shelf import Shelf
from longleaf.retrieval.text import Span

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

_PROMPT = "kv"
_QUESTION_TOKENS = 256
"""Room for a question beside its answer. The same for every question, so that all are asked of what was read once."""

_TEMPLATE_TOKENS = 64
_CANDIDATES = 24
_PAGES = 16
"""Sentences of search, and pages that the model looked at most, among which quotes are sought beyond the window."""

_TOP = 3
"""Places that must hold a quote, or the answer rests on other words than those the model looked at."""


class KvState(ReadState, total=False):
    """`beyond` says that the text is longer than the window; `pages` is what the model looked at there, more of it than
    is shown."""

    beyond: bool
    pages: list[LookedState]


class Kv:
    """Reads once, answers many times. Its quotes are those of `direct`, and what the model looked at stands beside;
    beyond the window it answers from quotes as `retrieve` does."""

    name = "kv"
    about = "reads the whole text once and keeps it read: each question after that is the question alone"
    prompts = (_PROMPT, "reason")
    whole = True

    def estimate(self, ask: Ask, deps: Deps) -> Estimate:
        around = deps.engine.count(load(_PROMPT).frame(ask.question)) + _TEMPLATE_TOKENS
        tokens = deps.engine.count(Text(chosen_documents(ask, deps), deps.shelf).characters)
        note = "the text is read once; where it has been, the question alone is computed"
        calls, prompt, told = 2, 2 * (tokens + around), ask.budget.answer_tokens
        if ask.options.task == "answer" and tokens + around + _QUESTION_TOKENS + told > deps.engine.card.window:
            views = sizes(ask, deps)
            calls += len(views)
            prompt += sum(views) + len(views) * deps.engine.count(load("reason").frame(ask.question))
            told += len(views) * ask.budget.answer_tokens
        return Estimate(calls, prompt, told, note)

    def build(self, work: Work, checkpointer: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(KvState)
        graph.add_node("open", lambda state: _open(work))
        graph.add_node("answer", lambda state: _answer(state, work))
        graph.add_node("support", lambda state: _support(state, work))
        graph.add_node("find", lambda state: _find(state, work))
        graph.add_node("reason", lambda state: _reason(state, work))
        graph.add_edge(START, "open")
        graph.add_edge("open", "answer")
        graph.add_conditional_edges(
            "answer", lambda state: "find" if state.get("beyond") else "support", ["find", "support"]
        )
        graph.add_edge("support", END)
        graph.add_conditional_edges("find", lambda state: "reason" if state["found"] else END, ["reason", END])
        graph.add_edge("reason", END)
        return graph.compile(checkpointer=checkpointer, name=self.name)


def can_keep(deps: Deps) -> bool:
    """Whether the engine keeps documents open."""
    return "reads_documents" in deps.engine.card.capabilities


def opened(ask: Ask, deps: Deps) -> OpenDocument:
    """The text of a question, read or found read.

    Raises `CapabilityMissing` where the engine keeps no documents, `RunStopped`, and what `open_document` raises.
    """
    if not can_keep(deps):
        name = deps.engine.card.name
        raise CapabilityMissing(
            f"{name} keeps no document open. Use `--reader direct` or `--reader retrieve`, or a model of the Llama, "
            "Qwen, Mistral or Gemma 3 family that runs here (`longleaf models list`)."
        )
    documents = chosen_documents(ask, deps)
    kept = deps.kv if len(documents) == 1 else None  # what is kept belongs to a document, and goes when it goes
    messages = load(_PROMPT).opening("question", document=Text(documents, deps.shelf).characters)
    try:
        return cast(ReadsDocuments, deps.engine).open_document(
            messages,
            plan=ask.options.kv_policy,
            budget=ask.options.kv_budget,
            room=_QUESTION_TOKENS + ask.budget.answer_tokens,
            keeping=kept.keeping if kept else None,
            stop=deps.stop.is_set,
        )
    except Stopped as error:
        raise RunStopped("The run was stopped.") from error


def warm(ask: Ask, deps: Deps) -> Warmed:
    """Read a document now, so that its first question need not wait. Raises as `opened` does."""
    document = opened(ask, deps)
    _note(document, ask, deps)
    size = document.kept.bytes if document.kept else 0
    return Warmed(document.tokens, document.found, document.plan, document.seconds, size)


def _note(document: OpenDocument, ask: Ask, deps: Deps) -> None:
    """Write down what is kept, or that it was of use."""
    documents = chosen_documents(ask, deps)
    if deps.kv is not None and document.kept is not None and len(documents) == 1:
        deps.kv.opened(documents[0].id, deps.engine.card.name, document.kept, document.found == document.tokens)


def _open(work: Work) -> KvState:
    from langgraph.config import get_stream_writer

    deps = work.deps
    document = opened(work.ask, deps)
    _note(document, work.ask, deps)
    notes: list[str] = []
    longer = document.plan == "infllm"
    beyond = longer and work.ask.options.task == "answer"
    if longer:
        made = "is from sentences that its attention and search found" if beyond else "from blocks it looked at"
        notes.append(
            f"the text of {document.tokens:,} tokens is longer than the window of {deps.engine.card.window:,}: it was "
            f"read block by block, and the answer {made}"
        )
    if document.found < document.tokens:
        get_stream_writer()(Reading(1, 1, document.tokens - document.found))
        deps.runs.step(
            StepRecord(
                run_id=work.run_id,
                sequence=0,
                node="open",
                chunk_ids=_chunks(work),
                attempt=1,
                prompt_tokens=document.tokens,
                generated_tokens=0,
                cached_tokens=document.found,
                seconds=document.seconds,
                status="done",
                error=None,
                created_at=datetime.now(UTC),
            )
        )
    return {"notes": notes, "beyond": beyond}


def _answer(state: KvState, work: Work) -> KvState:
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    text = Text(chosen_documents(work.ask, work.deps), work.deps.shelf)
    request = asked(work, _PROMPT, document=text.characters)
    document = opened(work.ask, work.deps)
    shown = None if state.get("beyond") else lambda _, piece: emit(Wording(piece))
    done = call(work, "answer", [request], {"answer": _chunks(work)}, shown, engine=document)["answer"]
    pages = looked(done.reads, text, load(_PROMPT).place("document"), work)
    said = "" if state.get("beyond") else done.text.strip()
    return {"wording": said, "looked": pages[: work.ask.budget.quotes], "pages": pages if state.get("beyond") else []}


def _chunks(work: Work) -> tuple[str, ...]:
    documents = chosen_documents(work.ask, work.deps)
    return tuple(chunk.id for document in documents for chunk in work.deps.documents.chunks(document.id))


def _support(state: KvState, work: Work) -> KvState:
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    ask = work.ask
    said = "" if denied(state["wording"]) else state["wording"]
    hits = work.deps.search.find(f"{ask.question} {said}".strip(), ask.document_ids or None)
    evidence = candidates(hits, ask.budget.quotes)
    for item in evidence:
        emit(QuoteFound(quote(item, work.deps.shelf)))
    notes = [*state["notes"], *_apart(state["looked"], evidence, work)]
    return {"evidence": evidence, "found": bool(state["wording"] and evidence), "notes": notes}


def _find(state: KvState, work: Work) -> KvState:
    """Order what search found and what stands where the model looked by words, meaning and attention together."""
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    ask, shelf = work.ask, work.deps.shelf
    hits = work.deps.search.find(ask.question, ask.document_ids or None)
    pages = [(SourceSpan(page["document_id"], page["start"], page["end"]), page["score"]) for page in state["pages"]]
    spans = [SourceSpan(item["document_id"], item["start"], item["end"]) for item in candidates(hits, _CANDIDATES)]
    found = weighed(work, ask.question, [*spans, *(span for span, _ in pages)], _CANDIDATES + _PAGES)
    most = max((share for _, share in pages), default=0.0) or 1.0
    for item in found:
        share = max((share for span, share in pages if within(item, span)), default=0.0)
        item["score"] += share / most / 2
        item["by"] = "model" if share else "search"
    found = covering(sorted(found, key=lambda item: -item["score"]), ask.question, shelf)
    evidence = found[: ask.budget.quotes]
    speaks = enough(evidence)
    if speaks:
        for item in evidence:
            emit(QuoteFound(quote(item, shelf)))
    notes = [*state["notes"], *_apart(state["looked"], evidence, work)]
    return {
        "evidence": evidence,
        "passages": to_read(hits, ask.budget.passages),
        "found": speaks,
        "notes": notes,
    }


def _reason(state: KvState, work: Work) -> ReadState:
    answer = answered(work, state["evidence"], state["passages"])
    return {**answer, "notes": state["notes"] + answer["notes"]}


def looked(reads: Sequence[TextRead], text: Text, first: int, work: Work) -> list[LookedState]:
    """The first `_PAGES` of what a reply read, as whole sentences of the documents, the most attended first. `first` is
    where the documents' text begins in what was opened."""
    found: list[LookedState] = []
    for read in reads:
        for document_id, span in text.spans(read.start - first, read.end - first):
            whole = whole_sentences(work.deps.shelf.text(document_id), span)
            overlaps = any(
                item["document_id"] == document_id and Span(item["start"], item["end"]).overlaps(whole)
                for item in found
            )
            if not overlaps:
                found.append(LookedState(document_id=document_id, start=whole.start, end=whole.end, score=read.score))
        if len(found) >= _PAGES:
            break
    return found[:_PAGES]


def _apart(places: Sequence[LookedState], evidence: Sequence[EvidenceState], work: Work) -> list[str]:
    """A note where no quote stands in what the model looked at most."""
    if not places or not evidence:
        return []
    for place in places[:_TOP]:
        span = Span(place["start"], place["end"])
        if any(
            item["document_id"] == place["document_id"] and Span(item["start"], item["end"]).overlaps(span)
            for item in evidence
        ):
            return []
    best = places[0]
    text = work.deps.shelf.text(best["document_id"])
    words = " ".join(text.slice(Span(best["start"], best["end"])).split())
    page = text.page_at(best["start"]).number
    return [f"no quote stands where the model looked most, on page {page}: “{words[:120]}”"]


@dataclass(frozen=True)
class Text:
    """The text of several documents as a prompt holds it, and the way back from a place in it to the document's own."""

    documents: Sequence[DocumentRecord]
    shelf: Shelf

    @cached_property
    def characters(self) -> str:
        """The documents one after the other, without white space at their ends."""
        return "\n\n".join(self.shelf.text(document.id).characters.strip() for document in self.documents)

    def spans(self, start: int, end: int) -> list[tuple[str, Span]]:
        """Where characters `start` to `end` of the text, as a prompt shows it, stand in documents."""
        start, end = self._unbroken(start), self._unbroken(end)
        found: list[tuple[str, Span]] = []
        begins = 0
        for document in self.documents:
            whole = self.shelf.text(document.id).characters
            length, lead = len(whole.strip()), len(whole) - len(whole.lstrip())
            low, high = max(start, begins), min(end, begins + length)
            if low < high:
                found.append((document.id, Span(low - begins + lead, high - begins + lead)))
            begins += length + 2
        return found

    def _unbroken(self, place: int) -> int:
        """A place in the text without what was put into it to break its marks."""
        return place - bisect_right(self._breaks, place - 1)

    @cached_property
    def _breaks(self) -> list[int]:
        return [at + number for number, at in enumerate(broken(self.characters))]
