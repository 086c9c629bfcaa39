"""Whether a question is English, told by its small words: the rules for kinds of question know no other language."""

from __future__ import annotations

import re

_ENGLISH = frozenset(
    "the a an of to in on at by for from with and or is are was were be been do does did has have had can could may "
    "must should will would who whom whose what when where which why how this that these those it its his her their my "
    "your all any every each about list name give tell summarize summarise describe explain compare count find show i "
    "you he she they we not there than then if as into over under between".split()
)
_OTHER = {
    "German": frozenset(
        "der die das den dem des ein eine einen wer wie wo wann warum welche welcher welches ist sind war waren und "
        "nicht von zu im mit für auf wurde wird hat haben fasse bitte worum geht viele".split()
    ),
    "French": frozenset(
        "le la les un une des du est sont était qui que quoi où quand pourquoi comment quel quelle quels quelles et de "
        "dans pour sur avec combien résumez résume ce cette l d qu".split()
    ),
    "Spanish": frozenset(
        "el la los las un una es son era quién qué cuál cuándo dónde cómo cuántos cuántas por para con del y en de se "
        "resume resumen".split()
    ),
    "Italian": frozenset(
        "il lo la gli le un una è sono era chi che cosa quando dove come quanti quante perché di del della e in con "
        "per riassumi".split()
    ),
    "Portuguese": frozenset(
        "o a os as um uma é são era quem que qual quando onde como quantos por para com do da e em resuma".split()
    ),
    "Dutch": frozenset(
        "de het een is zijn was wie wat wanneer waar waarom hoe hoeveel welke en van in op met voor niet door".split()
    ),
}
_LAST_LATIN = 0x24F


def other_language(question: str) -> str:
    """The language of a question that is not English, as a name for people; empty for English."""
    letters = [character for character in question if character.isalpha()]
    if sum(ord(character) > _LAST_LATIN for character in letters) * 2 > len(letters):
        return "another script"
    if "¿" in question or "¡" in question:
        return "Spanish"
    words = re.findall(r"\w+", question.lower())
    counts = {name: sum(word in known for word in words) for name, known in _OTHER.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] > sum(word in _ENGLISH for word in words) else ""
