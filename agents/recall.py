"""`Recall`: what is known from earlier questions, found again for a new one and shown beside its answer.

Facts lie in SQL, their vectors in a collection of their own, which is a cache. A recalled fact is shown with its
source; it never replaces reading, and its text enters no prompt.
"""

from __future__ import annotations

import logging
import re
import unicodedata
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from longleaf.agents.mention import FUNCTION_WORDS
from longleaf.agents.period import Period, period
from longleaf.agents.reader import Answer, Claim, Quote, Recalled
from longleaf.agents.support import circular, unsupported
from longleaf.memory.consistency import reconcile_facts
from longleaf.memory.documents import Documents
from longleaf.memory.errors import DocumentMissing, FactUnsupported
from longleaf.memory.facts import Facts
from longleaf.memory.questions import Questions
from longleaf.memory.records import FactRecord, QuestionRecord
from longleaf.memory.vectors import Vectors
from longleaf.retrieval.embedding import Embedder
from longleaf.retrieval.search import bm25, fuse, stemmed

logger = logging.getLogger(__name__)

ENOUGH = 0.5
"""Least relevance of a fact to a question for it to be shown: 0.7 x cosine + 0.3 x the share of the question's words
that it holds (docs/memory.md)."""

_NEAR = 32
_WORDED = 200
_ANYWHERE = "-"  # stands in the index for "no document"; Chroma's metadata know no None


@dataclass(frozen=True, slots=True)
class Recall:
    """Facts and questions with their index. For the holder of the writer lock."""

    facts: Facts
    questions: Questions
    documents: Documents
    vectors: Vectors
    embedder: Embedder

    def heal(self) -> int:
        """Bring the index back in step with SQL after a crash; returns how many facts were embedded again."""
        missing = set(reconcile_facts(self.facts, self.vectors))
        if missing:
            self._index([fact for fact in self.facts.list(superseded=True) if fact.id in missing])
        return len(missing)

    def rebuild(self) -> int:
        """Make all vectors of facts anew; returns how many."""
        self.vectors.reset()
        return self.heal()

    def add(self, fact: FactRecord, replaces: str | None = None) -> FactRecord:
        """Keep a fact, in SQL first: a crash before its vector is written is healed. Raises as `Facts.add`."""
        kept = self.facts.add(fact) if replaces is None else self.facts.supersede(replaces, fact)
        if kept.id == fact.id:
            self._index([kept])
        return kept

    def say(self, text: str, document_id: str | None = None, replaces: str | None = None) -> FactRecord:
        """Keep a user's own word, about a document or about anything; `replaces` is the fact it supersedes.

        Raises `DocumentMissing`, `FactMissing` (nothing to replace) and `FactUnsupported` (no words).
        """
        if not any(map(str.isalnum, text)):
            raise FactUnsupported(f"There is nothing to remember in {text!r}. Say it in words.")
        now = datetime.now(UTC)
        document = self.documents.get(document_id) if document_id else None
        fact = FactRecord(
            id=uuid.uuid4().hex,
            scope="document" if document else "user",
            scope_id=document.id if document else "",
            text=" ".join(text.split()),
            question="",
            key="",
            words=content(text),
            document_id=document.id if document else None,
            title=document.title if document else "",
            text_id=document.text_id if document else None,
            start=0,
            end=0,
            page=0,
            quote="",
            run_id=None,
            claim_ordinal=0,
            source="user",
            asked_at=now,
            valid_from=now,
        )
        return self.add(fact, replaces)

    def forget(self, fact: FactRecord) -> None:
        """Delete a fact, its vector and the question that found it. The run and the conversation are records of their
        own and stay."""
        self.vectors.remove([fact.id])
        self.facts.forget(fact.id)
        if fact.run_id:
            self.questions.forget([fact.run_id])

    def remember(
        self, answer: Answer, question: str, document_ids: Sequence[str], asked_at: datetime | None = None
    ) -> list[FactRecord]:
        """Keep what an answer found: one fact a claim, where a quote of it was verified, and the question itself.

        Returns the facts, those that were known before among them. An answer that was not found, or is partial, leaves
        no fact.
        """
        now = asked_at or datetime.now(UTC)
        if answer.partial:
            return []
        self.questions.add(
            QuestionRecord(
                run_id=answer.run_id,
                asked=question,
                key=normalised(question),
                words=content(question),
                document_ids=tuple(document_ids),
                answer=answer.text,
                found=answer.found,
                asked_at=now,
            )
        )
        kept = []
        for ordinal, claim in enumerate(answer.claims if answer.found else ()):
            try:
                fact = self._fact(claim, ordinal, answer, question, now)
                kept += [self.add(fact)] if fact else []
            except (DocumentMissing, FactUnsupported) as error:
                # Changed or removed while it was read: the answer stands as it was read, and nothing is kept of it.
                logger.warning("%s", error)
        return kept

    def _fact(self, claim: Claim, ordinal: int, answer: Answer, question: str, now: datetime) -> FactRecord | None:
        quote = _behind(claim)
        if quote is None:
            return None
        about = claim.about or question
        verified = [item.text for item in claim.quotes if item.status == "verified"]
        # Wording with a name or figure that no quote holds is not what was checked; the quote is. So it is with the few
        # words that answer a question on the way: out of their place they say nothing.
        poor = claim.about or circular(claim.text) or unsupported(claim.text, verified, about)
        text = quote.text if poor else claim.text
        document = self.documents.get(quote.document_id)
        return FactRecord(
            id=uuid.uuid4().hex,
            scope="document",
            scope_id=document.id,
            text=" ".join(text.split()),
            question=about,
            key=normalised(about),
            words=content(f"{about} {text} {quote.text}"),
            document_id=document.id,
            title=document.title,
            text_id=document.text_id,
            start=quote.start,
            end=quote.end,
            page=quote.page,
            quote=quote.text,
            run_id=answer.run_id,
            claim_ordinal=ordinal,
            source="model",
            asked_at=now,
            valid_from=now,
        )

    def find(
        self, question: str, document_ids: Sequence[str] = (), limit: int = 3, now: datetime | None = None
    ) -> tuple[Recalled, ...]:
        """What is known that touches a question: at most `limit`, pinned facts first, then by relevance, stale ones
        last. No `document_ids` means all documents; `now` has the user's time zone.

        What the question says of time bounds the time of asking, exactly. Superseded facts are never among them.
        """
        if limit < 1:
            return ()
        when = period(question, now or datetime.now().astimezone(), self._moment)
        if when.ours:
            return self._asked(when, limit)
        documents = list(document_ids) or None
        pinned = self.facts.recall(documents, pinned=True, limit=limit)
        ranked = _distinct([*pinned, *self._relevant(when, documents)])
        ranked.sort(key=lambda fact: (not fact.pinned, fact.stale))
        return tuple(_recalled(fact) for fact in ranked[:limit])

    def _relevant(self, when: Period, documents: Sequence[str] | None) -> list[FactRecord]:
        asked = self.embedder.embed([when.rest])[0]
        stems = content(when.rest)
        if when.bounded:
            near = self.facts.recall(documents, since=when.since, until=when.until, limit=_WORDED)
        else:
            within = None if documents is None else [*documents, _ANYWHERE]
            ids = [key for key, _ in self.vectors.search(asked, within, _NEAR)]
            near = self.facts.recall(documents, ids=ids, limit=_NEAR)
        if stems:
            near += self.facts.recall(documents, words=stems, since=when.since, until=when.until, limit=_WORDED)
        found = {fact.id: fact for fact in near}
        if not found:
            return []
        keys = list(found)
        similar = dict(zip(keys, self.vectors.vectors(keys) @ asked, strict=True))
        by_words = bm25(stems, [found[key].words for key in keys])
        rankings = [
            sorted(keys, key=lambda key: -similar[key]),
            [keys[place] for place in np.argsort(-by_words, kind="stable") if by_words[place] > 0],
        ]
        return [
            found[key]
            for key, _ in fuse(rankings)
            if 0.7 * float(similar[key]) + 0.3 * _share(stems, found[key].words) >= ENOUGH
        ]

    def _asked(self, when: Period, limit: int) -> tuple[Recalled, ...]:
        """What was asked, in order of time; with the fact it found, where that still is one."""
        stems = content(when.rest)
        asked = self.questions.recall(words=stems, since=when.since, until=when.until, order=when.order, limit=limit)
        facts = {fact.run_id: fact for fact in self.facts.recall(since=when.since, until=when.until, limit=_WORDED)}
        return tuple(_recalled(facts[item.run_id]) if item.run_id in facts else _question(item) for item in asked)

    def _moment(self, words: str) -> datetime | None:
        """When something was last asked about."""
        stems = set(content(words))
        found = self.questions.recall(words=sorted(stems)) if stems else []
        best = max(found, key=lambda item: (len(stems & set(item.words)), item.asked_at), default=None)
        return best.asked_at if best else None

    def _index(self, facts: Sequence[FactRecord]) -> None:
        vectors = self.embedder.embed([f"{fact.question} {fact.text}".strip() for fact in facts])
        documents = [fact.document_id or _ANYWHERE for fact in facts]
        self.vectors.add([fact.id for fact in facts], vectors, documents, [_ANYWHERE] * len(facts))


def normalised(question: str) -> str:
    """A question as it is compared: words and figures only, lower case."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", question).casefold()))


def content(text: str) -> tuple[str, ...]:
    """Stems of the words that carry meaning, without repeats."""
    words = (word for word in re.findall(r"\w+", text.casefold()) if word not in FUNCTION_WORDS)
    return tuple(dict.fromkeys(stemmed(" ".join(words))))


def _behind(claim: Claim) -> Quote | None:
    """The verified quote that says most of a claim, or None."""
    stems = set(content(claim.text))
    verified = [quote for quote in claim.quotes if quote.status == "verified"]
    return max(verified, key=lambda quote: len(stems & set(content(quote.text))), default=None)


def _share(stems: Sequence[str], words: Sequence[str]) -> float:
    return len(set(stems) & set(words)) / len(stems) if stems else 0.0


def _distinct(facts: Sequence[FactRecord]) -> list[FactRecord]:
    """Without those that say of the same document what one before them says."""
    kept: dict[tuple[str, str | None], FactRecord] = {}
    for fact in facts:
        kept.setdefault((normalised(fact.text), fact.document_id), fact)
    return list(kept.values())


def _recalled(fact: FactRecord) -> Recalled:
    return Recalled(
        id=fact.id,
        text=fact.text,
        question=fact.question,
        document_id=fact.document_id or "",
        title=fact.title,
        page=fact.page,
        quote=fact.quote,
        asked_at=fact.asked_at.isoformat(),
        source=fact.source,
        stale=fact.stale,
        pinned=fact.pinned,
    )


def _question(item: QuestionRecord) -> Recalled:
    """A question without a fact of its own. What it found, if anything, was superseded or forgotten: not shown."""
    return Recalled(
        id=item.run_id,
        text="" if item.found else item.answer,
        question=item.asked,
        asked_at=item.asked_at.isoformat(),
        source="question",
    )
