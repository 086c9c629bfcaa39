"""LangGraph's checkpoints in the library's database, on both databases."""

import operator
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from longleaf.memory.checkpoints import delete_thread, open_checkpointer
from longleaf.memory.database import Database
from longleaf.memory.documents import Documents


@dataclass
class Known:
    value: int


@dataclass
class Stranger:
    value: int


class State(TypedDict, total=False):
    read: Annotated[list[str], operator.add]
    known: Known
    anything: Any


def graph(checkpointer, *, broken=()):
    def plan(state):
        return [Send("read", f"chunk-{number}") for number in range(4)]

    def read(chunk):
        if chunk in broken:
            raise RuntimeError(f"{chunk} failed")
        return {"read": [chunk]}

    builder = StateGraph(State)
    builder.add_node("start", lambda state: {"known": Known(7)})
    builder.add_node("read", read)
    builder.add_edge(START, "start")
    builder.add_conditional_edges("start", plan, ["read"])
    builder.add_edge("read", END)
    return builder.compile(checkpointer=checkpointer)


CONFIG = {"configurable": {"thread_id": "run-1"}}
ALL = [f"chunk-{number}" for number in range(4)]


def test_a_run_that_failed_goes_on_after_the_database_was_closed(url):
    with (
        Database.open(url) as database,
        open_checkpointer(database, [Known]) as saver,
        pytest.raises(RuntimeError, match="chunk-2"),
    ):
        graph(saver, broken={"chunk-2"}).invoke({"read": []}, CONFIG, durability="sync")
    with Database.open(url) as database, open_checkpointer(database, [Known]) as saver:
        result = graph(saver, broken=set(ALL) - {"chunk-2"}).invoke(None, CONFIG, durability="sync")

    assert sorted(result["read"]) == ALL
    assert result["known"] == Known(7)


def test_threads_are_apart_and_can_be_dropped(database):
    with open_checkpointer(database) as saver:
        other = {"configurable": {"thread_id": "run-2"}}
        for config in (CONFIG, other):
            graph(saver).invoke({"read": []}, config, durability="sync")
        delete_thread(saver, "run-1")

        assert saver.get_tuple(CONFIG) is None
        assert saver.get_tuple(other) is not None


def test_types_that_no_state_names_are_not_given_back(database):
    def strange(state):
        return {"anything": Stranger(1)}

    builder = StateGraph(State)
    builder.add_node("strange", strange)
    builder.add_edge(START, "strange")
    with open_checkpointer(database) as saver:
        compiled = builder.compile(checkpointer=saver)
        compiled.invoke({"read": []}, CONFIG, durability="sync")

        assert not isinstance(compiled.get_state(CONFIG).values["anything"], Stranger)


def test_checkpoints_and_documents_are_written_side_by_side(database, build):
    documents = Documents(database)
    with open_checkpointer(database) as saver:
        compiled = graph(saver)
        for seed in range(5):
            made = build(seed)
            compiled.invoke({"read": []}, CONFIG, durability="sync")
            documents.add(made.document, made.text, made.chunks, made.bodies)

    assert len(documents.list()) == 5


def test_opening_a_migrated_database_ignores_checkpoint_tables(url):
    with Database.open(url) as database, open_checkpointer(database):
        pass
    with Database.open(url) as database, open_checkpointer(database) as saver:
        assert saver.get_tuple(CONFIG) is None
