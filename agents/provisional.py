"""A provisional answer: from the memory of a run that is still reading, or was stopped."""

from __future__ import annotations

from dataclasses import replace
from threading import Event

from longleaf.agents.errors import NothingToRead
from longleaf.agents.evidence import remembered
from longleaf.agents.reader import Answer, Deps, Work
from longleaf.agents.run import answer_of, ask_of, stopped
from longleaf.agents.state import ReadState
from longleaf.agents.wording import recollection, sound, summarised, telling, worded


def provisional(run_id: str, deps: Deps) -> Answer:
    """An answer from what an unfinished run has read so far, marked partial. The run itself stays as it is.

    One call of the model at most, recorded as a step of the run. Raises `RunMissing`, `RunEnded` where the run is done,
    and `NothingToRead` where its reader keeps no memory or has not read its first part.
    """
    record = stopped(run_id, deps.runs)
    if deps.versions.latest(record.id) is None:
        raise NothingToRead(
            f"Run {record.id[:12]} has nothing to answer from yet: its reader `{record.reader}` keeps no memory, or "
            f"has not read its first part. `longleaf runs resume {record.id[:12]}` goes on with it."
        )
    return so_far(Work(replace(deps, stop=Event()), ask_of(record), record.id), "provisional")


def so_far(work: Work, request_id: str) -> Answer:
    """The answer, or the summary, that the newest version of a run's memory gives."""
    version = work.deps.versions.latest(work.run_id)
    state: ReadState = {"found": False, "notes": []}
    if version is not None and work.ask.options.task == "summary" and sound(version):
        lines = "\n".join(line.text for line in sound(version))
        wording = worded(work, "provisional", request_id, "memory_summary", notes=lines)
        state = summarised(work, wording, version, [])
    elif version is not None and work.ask.options.task == "answer" and (evidence := telling(work, remembered(work))):
        quotes = recollection(work, version)
        wording = worded(work, "provisional", request_id, "reason", quotes=quotes)
        state = {"found": True, "evidence": evidence, "wording": wording, "notes": []}
    return answer_of(work, dict(state), partial=True)
