"""The wording of an answer that rests on a memory: written from its checked lines or the sentences behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from longleaf.agents.call import OnToken, call
from longleaf.agents.denial import abstains
from longleaf.agents.evidence import WORTH, enough, gathered, weighed
from longleaf.agents.lines import folded, split, support, units, words
from longleaf.agents.names import named
from longleaf.agents.notebook import answer_tokens
from longleaf.agents.prompt import load
from longleaf.agents.reader import Work
from longleaf.agents.reason import asked
from longleaf.agents.state import ClaimState, EvidenceState, ReadState
from longleaf.engine.contract import Request, Sampling
from longleaf.memory.records import MemoryLine, MemoryVersionRecord, SourceSpan
from longleaf.retrieval.shelf import Shelf

_NAMED = 3
_BEHIND = 3
_LEAST_WORDS = 2


@dataclass(frozen=True, slots=True)
class Statements:
    """The sentences of a wording: claims with what supports them, and those that nothing supports."""

    claims: tuple[ClaimState, ...]
    unsupported: tuple[str, ...]

    @property
    def notes(self) -> list[str]:
        """The unsupported sentences, named."""
        if not self.unsupported:
            return []
        named = "; ".join(f'"{sentence}"' for sentence in self.unsupported[:_NAMED])
        more = f" and {len(self.unsupported) - _NAMED} more" if len(self.unsupported) > _NAMED else ""
        return [f"{len(self.unsupported)} sentences of the summary are in no source of the memory: {named}{more}"]


def telling(work: Work, evidence: Sequence[EvidenceState]) -> list[EvidenceState]:
    """The evidence that an answer may rest on: none where none speaks to the question strongly enough.

    What the model chose stays beside it with half the strength: it may be the step to the answer. The choice of a
    model that chooses nothing where nothing helps is evidence by itself; so is what a name ties to the line that leads.
    """
    chosen = [item for item in evidence if item["by"] == "model"]
    if abstains(work.deps) and chosen:
        return [item for item in evidence if item["by"] == "model" or _holds(item, WORTH)]
    if not enough(evidence, len(evidence)):
        return []
    return [item for item in evidence if _holds(item, WORTH / 2 if item["by"] == "model" else WORTH)]


def _holds(item: EvidenceState, least: float) -> bool:
    return item["confidence"] >= least or item.get("linked", False)


def recollection(work: Work, version: MemoryVersionRecord) -> str:
    """What a memory holds: the sentences behind its lines, in the order of its lines, each place once.

    The line that leads comes once more at the end, with those that a name ties to it; where there are any, lines that
    speak of other names alone are left out. A small model cannot tell which of twenty facts make one answer. Nothing
    but what the memory kept: unlike `evidence.reading`, without the sentences around.
    """
    lines, shelf = sound(version), work.deps.shelf
    together = gathered(work, lines)
    if together is None:
        return _sentences(lines, shelf)
    told = list(lines)
    if len(together.foremost) > 1:
        told = [line for place, line in enumerate(lines) if place in together.kept or not named(line.text)]
    whole = _sentences(told, shelf)
    last = _sentences([lines[place] for place in together.foremost], shelf)
    return whole if whole == last else f"{whole}\n\n{last}"


def _sentences(lines: Sequence[MemoryLine], shelf: Shelf) -> str:
    spans = dict.fromkeys(span for line in lines for span in line.spans)
    return "\n".join(unit.text for unit in units(spans, shelf))


def sound(version: MemoryVersionRecord | None) -> list[MemoryLine]:
    """The lines of a memory that its sources hold up."""
    return [line for line in version.lines if line.mark == "supported" and not line.out] if version else []


def worded(
    work: Work, node: str, request_id: str, prompt_name: str, on_token: OnToken | None = None, **slots: str
) -> str:
    """One call of the model for an answer or a summary."""
    if work.ask.options.task == "summary":
        prompt = load(prompt_name)
        sampling = Sampling(max_tokens=answer_tokens(work.ask), seed=work.ask.seed)
        request = Request(request_id, prompt.messages(question=work.ask.question, **slots), sampling, prompt.prefix)
    else:
        request = asked(work, prompt_name, request_id, **slots)
    return call(work, node, [request], on_token=on_token)[request_id].text.strip()


def statements(work: Work, wording: str, version: MemoryVersionRecord) -> Statements:
    """Each sentence of a summary against the spans behind the memory's lines."""
    deps = work.deps
    lines = sound(version)
    known = units(dict.fromkeys(span for line in lines for span in line.spans), deps.shelf)
    written = {folded(line.text): line.spans for line in lines}
    claims: list[ClaimState] = []
    lacking: list[str] = []
    for sentence in split(wording):
        if len(words(sentence)) < _LEAST_WORDS:
            continue  # a heading, or what the token limit left of a sentence
        spans: Sequence[SourceSpan] = written.get(folded(sentence)) or support(
            sentence, known, work.ask.question, deps.shelf, deps.search
        )
        if spans:
            claims.append(ClaimState(about="", text=sentence, evidence=weighed(work, sentence, spans, _BEHIND)))
        else:
            lacking.append(sentence)
    return Statements(tuple(claims), tuple(lacking))


def summarised(work: Work, wording: str, version: MemoryVersionRecord, notes: Sequence[str]) -> ReadState:
    """The end of a state with a summary: every sentence that the memory's sources hold is a claim of its own.

    Where they hold half of the wording or less, the memory's own lines are the summary.
    """
    told = statements(work, wording, version)
    found = [*notes, *told.notes]
    if len(told.claims) <= len(told.unsupported):
        wording = "\n".join(line.text for line in sound(version))
        told = statements(work, wording, version)
        found.append("half or more of the model's summary is in no source; the memory's lines stand in its place")
    best = [claim["evidence"][0] for claim in told.claims if claim["evidence"]]
    evidence = {(item["document_id"], item["start"]): item for item in reversed(best)}
    return {
        "found": bool(evidence),
        "evidence": list(evidence.values())[::-1],
        "claims": list(told.claims),
        "wording": wording,
        "notes": found,
    }
