"""Taking a question apart into sub-questions: by its form where that is certain, else by the model, checked by code.

A sub-question may name an earlier one's answer as #1, #2. After MindSearch (Chen et al., 2024), whose planner makes a
graph of atomic questions, and PAI (Yao et al., 2025), which finds each property before it reasons over all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from longleaf.agents.names import content, named, names
from longleaf.retrieval.text import Span

Kind = Literal["one", "bridge", "comparison", "parts"]

REFERENCE = re.compile(r"#(\d)")
_LONGEST = 40
"""Words of a sub-question at most."""

_PLACES = "capital hometown birthplace headquarters location country city subject"
_PERSONS = (
    "author writer director founder co-founder wife husband spouse mother father son daughter brother sister president "
    "ceo chairman manager owner producer singer composer creator inventor king queen designer architect publisher "
    "editor discoverer leader child employer maker developer painter translator mayor governor successor predecessor "
    "teacher drummer guitarist bassist star landlord tenant supplier manufacturer partner client seller buyer host "
    "coach captain commander winner"
)
_RELATION = rf"(?:{'|'.join(f'{_PLACES} {_PERSONS}'.split())})"
_BE = r"(?:is|was|are|were)"
_DO = r"(?:do|does|did)"
_WH = r"(?:who|whom|whose|what|when|where|which|how|why|(?:in|on|at|from|by|for|of|to) (?:what|which|whom))"
_ASKS = rf"(?:{_WH}|{_BE}|{_DO}|has|have|had|can)\b"
_TAIL = (
    r"(?:born|die|died|dead|founded|formed|established|located|released|published|come from|from|based|buried|live|"
    r"lived|educated|headquartered|work|graduate|study|called|named|known for|famous for|made|built|win|play for)"
)
_RELATIVE = re.compile(r"(?i)(?:the|an?)\s+(?P<noun>[\w'-]+(?:\s+[\w'-]+){0,4}?)\s+(?P<word>who|that|whose)\s+")
_OF = re.compile(rf"(?i)the\s+(?P<relation>(?:[\w-]+\s+){{0,2}}?{_RELATION})\s+of\s+(?P<of>.+?)(?P<tail>\s+{_TAIL})?$")
_OWNED = re.compile(
    rf"(?P<whose>(?:\b[^\W\d_a-z][\w.&-]*\s+)*\b[^\W\d_a-z][\w.&-]*)['’]s?\s+(?P<relation>(?:[a-z-]+\s+)?{_RELATION})\b"
    rf"(?P<rest>\s+{_TAIL})$"
)
_EITHER = re.compile(r"(?i)^(?P<head>.+?)(?:,|:|;|\s[-–—])\s*(?:is it\s+)?(?P<one>[^,]+?),?\s+or\s+(?P<two>[^,]+)$")
_EITHER_FIRST = re.compile(r"(?i)^(?P<one>[^,]+?),?\s+or\s+(?P<two>[^,]+?)(?:,|:)\s*(?P<head>(?:which|who|what)\b.+)$")
_BETWEEN = re.compile(
    r"(?i)^(?:between|out of)\s+(?P<one>[^,]+?),?\s+(?:and|or)\s+(?P<two>[^,]+?),\s*(?P<head>(?:which|who|what)\b.+)$"
)
_PARTS = re.compile(rf"(?i)^(?P<first>{_ASKS}\s.+?),?\s+and\s+(?P<second>{_WH}\s.+)$")

_ORDER = r"\b(?:first|earlier|earliest|later|latest|last|older|newer|oldest|newest|most recently|before|longer ago)\b"
_PERSON_ASKED = (
    r"^(?:who|which (?:\w+ )*(?:person|man|woman|director|writer|author|actor|actress|singer|player|artist))\b"
)
_OF_EACH: tuple[tuple[str, str], ...] = (
    (r"\b(?:younger|youngest|born)\b", "When was {} born?"),
    (r"\b(?:longer life|lived (?:longer|to)|older age|live longer)\b", "When was {} born, and when did {} die?"),
    (rf"\b(?:died?)\b.*{_ORDER}", "When did {} die?"),
    (rf"\b(?:came out|come out|appeared)\b.*{_ORDER}", "When was {} released?"),
    (rf"\b(released|aired|published|formed|founded|established|created|opened|built)\b.*{_ORDER}", "When was {} VERB?"),
    (r"\b(?:taller|tallest)\b|\b(?:is|stands) (?:the )?high(?:er|est)$", "How high is {}?"),
    (r"\bis (?:the )?(?:larger|bigger|largest|biggest)$", "How large is {}?"),
    (r"\b(?:more people|more populous|larger population)\b", "How many people live in {}?"),
    (r"\b(?:cheaper|costs? (?:more|less)|more expensive)\b", "How much does {} cost?"),
    (r"\b(?:heavier|weighs? (?:more|less))\b", "How heavy is {}?"),
)
_BASE = {
    "has": "have",
    "have": "have",
    "contains": "contain",
    "had": "have",
    "won": "win",
    "wrote": "write",
    "sold": "sell",
    "made": "make",
    "released": "release",
    "published": "publish",
    "directed": "direct",
    "produced": "produce",
    "scored": "score",
    "received": "receive",
}
_ADJECTIVE = re.compile(r"\w+(?:an|ese|ish|ch)")
_SINGLE = {"are": "is", "were": "was", "do": "does", "have": "has"}


@dataclass(frozen=True, slots=True)
class Plan:
    """Sub-questions in the order they are asked. A `bridge` needs each answer for the next; the others do not."""

    kind: Kind
    questions: tuple[str, ...]


def by_form(question: str, limit: int) -> Plan | None:
    """The plan that the question's form gives away; None where it gives none, or one of over `limit` questions."""
    bare = " ".join(question.split()).rstrip(" ?.!")
    forms: tuple[Callable[[str], Plan | None], ...] = (_sentences, _either, _pair, _conjunction, _bridge)
    for form in forms:
        plan = form(bare)
        if plan is not None:
            return plan if 1 < len(plan.questions) <= limit else None
    return None


def of_reply(reply: str, question: str, limit: int) -> Plan | None:
    """The plan in a model's reply, a sub-question a line; None where it does not hold to the question.

    Each sub-question must share a word with the question or name an earlier answer, and bring in no name or figure of
    its own; one that is the question itself is no sub-question; all together must hold the question's names.
    """
    lines = [re.sub(r"^\s*(?:[-*•]|\(?\d+[.):]|[Qq]\d*[.:])\s*", "", line).strip() for line in reply.splitlines()]
    asked = [line for line in dict.fromkeys(lines) if re.match(rf"(?i){_ASKS}", line)]
    if not 2 <= len(asked) <= limit:
        return None
    known = content(question)
    for place, line in enumerate(asked):
        references = [int(number) for number in REFERENCE.findall(line)]
        words = content(REFERENCE.sub("", line))
        brought = content(" ".join([*named(line), *re.findall(r"(?<!#)\b\d+\b", line)])) - known
        if any(not 1 <= number <= place for number in references) or len(line.split()) > _LONGEST:
            return None
        if not (words & known or references) or brought or words >= known:
            return None
    if content(" ".join(named(question))) - content(" ".join(asked)):
        return None
    chained = any(REFERENCE.search(line) for line in asked)
    return Plan("bridge" if chained else "parts", tuple(_asked(line) for line in asked))


def may_be_several(question: str) -> bool:
    """Whether a question could need more than one place of the text: a clause within, several names, or its length."""
    bare = question.strip().rstrip("?")
    within = re.search(r"(?i)(?<=\w)\s+(?:who|whom|whose|whoever|that|which|where|when)\b", bare)
    return bool(within) or len(named(bare)) > 1 or len(content(bare)) > 8


def _sentences(bare: str) -> Plan | None:
    parts = [part.strip() for part in re.split(r"\?\s+", bare) if part.strip()]
    parts = [re.sub(r"(?i)^and\s+", "", part) for part in parts]
    return _joined(parts) if len(parts) > 1 and all(re.match(rf"(?i){_ASKS}", part) for part in parts) else None


def _conjunction(bare: str) -> Plan | None:
    match = _PARTS.match(bare)
    if match is None or (len(content(match["first"])) < 2 and len(match["first"].split()) < 4):
        return None
    return _joined([match["first"], match["second"]])


def _joined(parts: list[str]) -> Plan:
    """Questions beside each other. A pronoun of a later one stands for the first one's answer, or what it names."""
    first = parts[0]
    inside = named(first)
    asked = [_asked(first)]
    for part in parts[1:]:
        pronoun = re.search(r"(?i)\b(he|she|they|him|her|them|his|their|it|its)\b", part)
        if pronoun is None:
            asked.append(_asked(part))
            continue
        word = pronoun.group().casefold()
        person = word not in ("it", "its")
        if (person and re.match(r"(?i)who\b", first)) or (not inside and re.match(r"(?i)(?:who|which|what)\b", first)):
            stands = "#1"
        elif inside:
            stands = inside[-1]
        else:
            asked.append(_asked(part))
            continue
        owner = "'s" if word in ("his", "their", "its") or (word == "her" and part[pronoun.end() :].strip()) else ""
        asked.append(_asked(f"{part[: pronoun.start()]}{stands}{owner}{part[pronoun.end() :]}"))
    chained = any(REFERENCE.search(line) for line in asked)
    return Plan("bridge" if chained else "parts", tuple(asked))


def _either(bare: str) -> Plan | None:
    """ "Which is older, A or B": what is asked of each."""
    for pattern in (_BETWEEN, _EITHER_FIRST, _EITHER):
        match = pattern.match(bare)
        if match and re.match(rf"(?i){_WH}\b", match["head"]) and _alike(match["one"], match["two"]):
            entities = [re.sub(r"(?i)^either\s+", "", match[key].strip()) for key in ("one", "two")]
            return Plan("comparison", tuple(_of_each(match["head"].strip(), entity) for entity in entities))
    return None


def _alike(one: str, two: str) -> bool:
    """Whether two things are compared: both are names, or both short phrases without a verb of their own."""
    both = (one.strip(), two.strip())
    if any('"' in part and part.count('"') % 2 for part in both):
        return False
    if all(named(part) for part in both):
        return all(len(part.split()) <= 14 for part in both)
    return all(len(part.split()) <= 5 and not re.search(rf"(?i)\b(?:{_BE}|{_DO})\b", part) for part in both)


def _of_each(head: str, entity: str) -> str:
    if re.search(r"(?i)\b(?:older|oldest)\b", head) and "older age" not in head:
        return f"When was {entity} born?" if re.search(f"(?i){_PERSON_ASKED}", head) else f"From when is {entity}?"
    for pattern, asked in _OF_EACH:
        if match := re.search(pattern, head, re.IGNORECASE):
            verb = match.group(1) if match.lastindex else ""  # the question's own: the text may well have it too
            return asked.replace("VERB", verb).replace("{}", entity)
    count = re.search(
        r"(?i)\b(?P<verb>\w+)\s+(?:the\s+)?(?:more|most|fewer|fewest)\s+(?!\w+er\b)(?P<what>[\w' -]+)$", head
    )
    if count and (base := _BASE.get(count["verb"].casefold())):
        do = "does" if count["verb"].casefold() in ("has", "have", "contains") else "did"
        return f"How many {count['what']} {do} {entity} {base}?"
    state = re.match(r"(?i)(?:which|who|what)(?:\s+[\w'’-]+)*?\s+(?P<be>is|was|were|are)\s+(?P<what>.+)$", head)
    if state and not re.search(r"(?i)\b(?:more|most|less|least|\w+er|\w+est)\b", state["what"]):
        return f"{_single(state['be']).capitalize()} {entity} {state['what']}?"
    return f"{entity}: {head}?"


def _pair(bare: str) -> Plan | None:
    """ "Are A and B both …": the same of each. What is compared must be two names beside each other."""
    spans = _neighbours(bare) if re.match(rf"(?i)(?:both|to what|{_ASKS}|compare|the)\b", bare) else None
    if spans is None:
        return None
    one, two = spans
    before, after = bare[: one.start].rstrip(' "“'), bare[two.end :].lstrip(' "”')
    entities = [bare[span.start : span.end] for span in (one, two)]
    if _ADJECTIVE.fullmatch(entities[1]) and re.match(r"[a-z]", after):
        return None  # "the French and the American rock group"
    asked = _of_both(bare, before, after)
    return Plan("comparison", tuple(_asked(asked.replace("{}", entity)) for entity in entities)) if asked else None


def _of_both(bare: str, before: str, after: str) -> str | None:
    """What is asked of each of two things, with {} for it."""
    if re.search(r"(?i)\b(?:in common|differences?|differ|compare[ds]?|similar(?:ities)?)\b", bare):
        return "What is {}"
    same = re.search(r"(?i)\bthe same (?:type of |kind of |level of )?(?P<what>[\w-]+)", after)
    if same:
        where = same["what"].casefold() in ("country", "nationality")
        return "Which country is {} from" if where else f"What is the {same['what']} of {{}}"
    verb = rf"(?:{_BE}|{_DO}|has|have)"
    direct = rf"(?i)(?:(?:when|where|how old|how \w+)\s+)?{verb}(?:\s+both)?(?:\s+the)?"
    if not (re.search(r"(?i)\b(?:both|each)\b", bare) or re.fullmatch(direct, before)):
        return None
    words = [_single(word) for word in re.sub(r"(?i)\b(?:both|each)\b", " ", before).split()]
    return " ".join([*words, "{}", *re.sub(r"(?i)\b(?:both|each)\b", " ", after).split()])


def _neighbours(bare: str) -> tuple[Span, Span] | None:
    """The first two names that "and" or "or" joins."""
    for one, two in pairwise(names(bare)):
        between = bare[one.end : two.start]
        if re.fullmatch(r"[\"”]?,?\s+(?:and|or|vs\.?|versus)\s+(?:the\s+|an?\s+)?[\"“]?", between, re.IGNORECASE):
            return one, two
    return None


def _single(word: str) -> str:
    return _SINGLE.get(word.casefold(), word)


def _bridge(bare: str) -> Plan | None:
    """Innermost first: "the wife of the man who founded X" asks who founded X, and then for the wife."""
    if not re.match(rf"(?i)(?:{_ASKS}|according to|name\b|give\b|tell\b)", bare):
        return None
    questions: list[str] = []
    rest = bare
    while (step := _innermost(rest, len(questions) + 1)) is not None:
        inner, rest = step
        questions.append(inner)
    if not questions:
        return None
    if not re.fullmatch(rf"(?i)(?:who|what)\s+{_BE}\s+(?:the name of\s+)?#\d", rest):
        questions.append(_asked(rest))
    return Plan("bridge", tuple(questions))


def _innermost(bare: str, number: int) -> tuple[str, str] | None:
    """The innermost question within, and what is left once #number takes its place."""
    articles = [match.start() for match in re.finditer(r"(?i)\b(?:the|an?)\s", bare)]
    for start in reversed(articles):
        found = _relative(bare, start, number) or _nested(bare, start, number)
        if found is not None:
            return found
    return _owned(bare, number)


def _left(before: str, number: int, tail: str) -> str | None:
    """What is left of a question, None where that asks nothing or where it is not certain which words belong to it."""
    if re.search(rf"(?i)\b{_DO}\b", before) and not tail:
        return None  # its verb stands behind the part that was taken out
    if re.fullmatch(rf"(?i)(?:who|what|which)(?:\s+\w+)?\s+{_BE}|name|give|state|tell me", before) and not tail:
        return None  # "Who is the author of X" is one hop
    if (
        re.match(r"(?i)(?:when|where|how|in what|in which)\b", before)
        and re.search(rf"(?i)\b{_BE}$", before)
        and not tail
    ):
        return None
    if not tail and not content(before):
        return None
    return f"{before} #{number}{tail}"


def _relative(bare: str, start: int, number: int) -> tuple[str, str] | None:
    match = _RELATIVE.match(bare, start)
    if match is None:
        return None
    before, clause = bare[:start].strip(), bare[match.end() :]
    end = re.search(rf"(?i)\s+(?:first\s+)?{_TAIL}$", clause) if re.search(rf"(?i)\b(?:{_BE}|{_DO})$", before) else None
    tail = end.group() if end else ""
    clause = clause[: end.start()] if end else clause
    left = _left(before, number, tail)
    if left is None or not named(clause) or re.search(r"(?i)\b(?:what|which|how many|whom)\b", clause):
        return None
    noun, word = match["noun"], match["word"].casefold()
    if re.search(r"(?i)\b(?:of|in|at|by|from|for|with|and|or)\b", noun):
        return None
    if word == "whose":
        return f"Which {noun}'s {clause}?", left
    if word == "that" and names(clause)[:1] == [Span(0, names(clause)[0].end)]:
        return f"Which {noun} is it that {clause}?", left
    return f"{'Who' if noun in ('man', 'woman', 'person', 'one') else f'Which {noun}'} {clause}?", left


def _nested(bare: str, start: int, number: int) -> tuple[str, str] | None:
    match = _OF.match(bare, start)
    if match is None or not (named(match["of"]) or REFERENCE.search(match["of"])):
        return None
    left = _left(bare[:start].strip(), number, match["tail"] or "")
    if left is None or re.search(rf"[,;]|\b(?:who|that|which|and|or|{_BE}|{_DO})\b", match["of"]):
        return None
    return f"{_who(match['relation'])} is the {match['relation']} of {match['of']}?", left


def _owned(bare: str, number: int) -> tuple[str, str] | None:
    match = _OWNED.search(bare)
    if match is None or not bare[: match.start()].strip():
        return None
    relation = match["relation"]
    return (
        f"{_who(relation)} is {match['whose']}'s {relation}?",
        f"{bare[: match.start()].strip()} #{number}{match['rest']}",
    )


def _who(relation: str) -> str:
    return "What" if relation.rsplit(maxsplit=1)[-1].casefold() in _PLACES.split() else "Who"


def _asked(line: str) -> str:
    line = line.strip().rstrip("?.! ")
    return f"{line[:1].upper()}{line[1:]}?"
