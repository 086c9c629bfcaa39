"""What a question asks for, told from its words alone. The rules are English; other languages are lookups."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from longleaf.agents.decompose import by_form, may_be_several
from longleaf.agents.language import other_language
from longleaf.agents.names import content

QuestionKind = Literal["lookup", "multi-hop", "comparison", "aggregation", "summary", "verification"]


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_BEGIN = r"(?:^|[.!?]\s+)(?:please\s+)?"
_THIS = r"(?:the|this|these|my|all)\s+(?:whole\s+|entire\s+)?"
_TEXT = (
    r"(?:documents?|texts?|books?|reports?|papers?|articles?|contracts?|stor(?:y|ies)|speech(?:es)?|novels?|files?|"
    r"essays?|manuals?|meetings?|transcripts?|interviews?|letters?|plays?|poems?|thesis|standards?|guides?|"
    r"polic(?:y|ies)|chapters?|sections?|collection|library|conversations?|films?|talks?|lectures?|study|studies|minutes)"
)
_SUMMARY = _any(
    r"\bsummari[sz](?:e|es|ed|ing)\b",
    r"\b(?:a|the|short|brief|give|write|me)\s+summar(?:y|ies)\b(?!\s+(?:say|state|mention)s?\b)",
    r"\bsummary\s+of\b|^summary",
    r"\b(?:overview|synopsis|gist|nutshell|recap|takeaways?)\b|\btl;?\s?dr\b|\bbig\s+picture\b",
    r"\bin\s+a\s+few\s+(?:words|sentences)\b",
    r"\b(?:main|key|central|principal|major|most\s+important)\s+(?:points?|ideas?|arguments?|themes?|topics?|messages?|"
    r"findings?|conclusions?|subjects?|claims?|lessons?|insights?|events?|contents?)\b",
    r"\b(?:themes?|moral|plot|thesis|storyline)\s+of\b|\bthe\s+plot\b",
    rf"\b(?:is|are|was)\s+(?:this|that|the|these|those|it|my)?\s*{_TEXT}?\s*(?:all\s+|mainly\s+|mostly\s+)?about\s*[?.]*$",
    rf"{_BEGIN}(?:describe|outline|explain|review|sketch|condense|digest)\s+{_THIS}(?:\w+\s+)?{_TEXT}\b",
    rf"\bwhat\s+(?:does|do|did)\s+{_THIS}(?:\w+\s+)?(?:authors?|{_TEXT})\s+(?:argue|conclude|cover|discuss|deal\s+with)\b",
    rf"\bwhat\s+happens\s+(?:in|over|throughout)\s+{_THIS}{_TEXT}\b",
    rf"\btell\s+me\s+(?:everything\s+)?about\s+{_THIS}(?:\w+\s+)?{_TEXT}\b",
)
_SAID = r"(?:named|mentioned|listed|discussed|cited|quoted|described|introduced|covered|defined|given)"
_MOST = r"(?:most|fewest|least|highest|lowest|largest|smallest|biggest|longest|shortest|best|worst)"
_HAS = r"(?:has|have|had|got|gets|grew|received|won|made|spoke|speaks|appears?|occurs?|paid|sold|spent|scored|reported)"
_AGGREGATION = _any(
    rf"{_BEGIN}(?:list|enumerate|count|tally|collect|gather|itemi[sz]e|extract\s+(?:all|every|each))\b",
    r"\b(?:make|give|write|compile|produce|provide)\s+(?:me\s+)?(?:a|the)\s+(?:\w+\s+)?list\b|\blist\s+(?:of\s+)?all\b",
    r"\b(?:name|find|show|give|mention|identify|state)\s+(?:me\s+)?(?:all|every|each)\b",
    r"\b(?:what|who|which)\s+(?:is|are|were)\s+(?:all|every)\b|\ball\s+(?:of\s+)?(?:the|its|their|those|these)\b",
    rf"\bhow\s+many\s+(?:times|different|distinct|of\s+(?:the|these|those|them)|{_TEXT})\b|\bhow\s+(?:often|frequently)\b",
    rf"\bhow\s+(?:many|much)\b.*\b(?:in\s+(?:total|all)|altogether|overall|taken\s+together|appear|occur|{_SAID})\b",
    rf"\bhow\s+many\b.*\b(?:(?:in|across|throughout)\s+{_THIS}{_TEXT}|does\s+{_THIS}{_TEXT}\s+\w+)\b",
    r"\b(?:total|overall|combined)\s+(?:number|count|sum|amount)\b|\bsum\s+(?:of|up)\b|\badd\s+up\b|\bnumber\s+of\s+times\b",
    r"\b(?:average|mean|median)\s+(?:of|over|across)\b|\b(?:what|which)\s+(?:share|proportion|fraction)\s+of\b",
    r"\b(?:most|least)\s+(?:often|frequent(?:ly)?|common(?:ly)?|mentioned|cited|quoted|discussed)\b",
    rf"\b(?:which|what|who)\b(?:\s+\S+){{0,3}}\s+{_HAS}\s+the\s+{_MOST}\b",
    rf"\b(?:which|what)\s+(?:\w+\s+){{1,4}}(?:are|were|is|get|gets)\s+(?:all\s+)?{_SAID}\b",
    rf"\b(?:who|what)\s+(?:is|are|were)\s+(?:all\s+)?{_SAID}\b",
    r"\btimeline\b|\bchronolog\w+\b|\bin\s+(?:what|which)\s+order\b|\b(?:order|sequence)\s+of\s+events\b",
    r"\b(?:trends?|changes?|development)\b.*\b(?:over\s+(?:time|the\s+(?:years|course))|throughout|across)\b",
    r"\b(?:change[sd]?|evolve[sd]?|develop(?:s|ed)?)\b.*\b(?:over\s+the|over\s+time|throughout|across|in\s+the\s+course)\b",
    rf"\b(?:throughout|across)\s+{_THIS}(?:\w+\s+)?{_TEXT}\b",
    rf"\b(?:each|every)\s+(?:of\s+the\s+)?(?:\w+\s+)?(?:one|{_TEXT}|character|person|party|item|entry|mention|instance|"
    r"occurrence|time|year|month|speaker|member|farm|product|country|company)\b",
    r"\b(?:inventory|breakdown|table)\s+of\b",
)
_COMPARISON = _any(
    r"\bcompare[ds]?\b|\bcomparison\b|\bcontrast\b|\bdifferences?\s+between\b|\bdiffers?\s+from\b|\bdifferent\s+from\b",
    r"\bvs\b|\bversus\b|\bin\s+common\b|\bsimilarit(?:y|ies)\b|\bthe\s+same\s+\w+\s+as\b",
    r"\b(?:more|less|fewer|\w+er)\s+(?:\w+\s+){0,2}than\b",
)
_VERIFICATION = _any(
    r"^(?:is|are|was|were|do|does|did|has|have|had|can|could|may|must|should|will|would|am)\b",
    r"\b(?:true|correct|right|false)\s*(?:or\s+(?:false|not))?\s*[?.]*$|^(?:verify|confirm|check)\b",
)
_EVERYWHERE = _any(
    r"\b(?:ever|never|anywhere|nowhere|at\s+all|every(?:one|thing)?|all|always|none|no\s+one|nobody)\b",
    rf"\bany\s+(?:mention|reference|sign|evidence|other|{_TEXT})\b",
)
_WITHIN = _any(r"(?<=\w)\s+(?:who|whom|whose|whoever|that|which|where)\s+\w")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question asks for, and by which sign, as the end of a sentence that begins with "The question".

    `everywhere` marks what only a reading of the whole text can deny; `wordless` a question without words to look up.
    """

    kind: QuestionKind
    sign: str
    everywhere: bool = False
    wordless: bool = False


def asked(question: str) -> Asked:
    """What `question` asks for. A language other than English is taken for a lookup, and the sign says so."""
    bare = " ".join(question.split())
    language = other_language(bare)
    if language:
        return Asked("lookup", f"is in {language}, whose kinds of question are not told apart, so it is looked up")
    if _SUMMARY.search(bare):
        return Asked("summary", "asks for a summary")
    if _AGGREGATION.search(bare):
        return Asked("aggregation", "asks for something that is spread over the whole text")
    return _of_several(bare) or _of_one(bare)


def _of_several(bare: str) -> Asked | None:
    """A question whose answer takes several places, each of which can be looked up."""
    plan = by_form(bare, 9)
    if _COMPARISON.search(bare) or (plan and plan.kind == "comparison"):
        return Asked("comparison", "compares things that may stand far apart")
    if plan:
        return Asked("multi-hop", f"takes {len(plan.questions)} steps to answer")
    if not _VERIFICATION.search(bare) and may_be_several(bare) and _WITHIN.search(bare):
        return Asked("multi-hop", "holds a question within the question")
    return None


def _of_one(bare: str) -> Asked:
    if _VERIFICATION.search(bare):
        if _EVERYWHERE.search(bare):
            return Asked("verification", "asks whether something is so anywhere in the text", everywhere=True)
        return Asked("verification", "asks whether something is so")
    if len(content(bare)) < 2:
        return Asked("lookup", "has hardly a word to search for", wordless=True)
    return Asked("lookup", "asks for something that stands in one place")
