"""The router: what is asked decides who reads; what is spread over a text never goes to a few passages of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.agents.kind import Asked, asked
from longleaf.agents.language import other_language
from longleaf.agents.reader import Answer, Ask, Chosen, Options
from longleaf.agents.registry import readers
from longleaf.agents.router import Length, choose, resolve
from longleaf.agents.run import from_json, to_json
from longleaf.engine.backends.scripted import ScriptedEngine
from longleaf.engine.errors import WindowExceeded

QUESTIONS = {
    "lookup": [
        "What is the capital of Freedonia?",
        "When was the bridge built?",
        "Who wrote the preface?",
        "How many people live in Zubrow?",
        "How much is the deposit?",
        "Where do add-on packages go?",
        "What is the notice period?",
        "Which port does the server listen on by default?",
        "What does the executive summary say about costs?",
        "Who is the author of the report?",
        "what colour is the door",
        "How long is the warranty for the battery?",
        "What is the largest city of Freedonia?",
        "Why did the king leave?",
        "How do I reset the device?",
        "What was total revenue in 2020?",
        "What is the average rainfall in Zubrow?",
        "What does section 4.2 say about liability?",
        "Name the first king of Freedonia.",
        "How old was the captain?",
    ],
    "multi-hop": [
        "Where was the author of The Long Winter born?",
        "Who is the wife of the man who founded Acme?",
        "When did the mother of Joseph Ferdinand die?",
        "Who founded Acme and when did he die?",
        "What is the population of the capital of Freedonia?",
        "Who wrote The Long Winter and where was it printed?",
        "What painter came from the town where Adela Trent lived?",
        "Who directed the film that won the Golden Bear?",
        "Which doctor treated the man who was shot in Lutzen?",
        "Where is the company that Anna Berg works for headquartered?",
    ],
    "comparison": [
        "Who is older, Adela Trent or Bruno Karg?",
        "Which is cheaper, the Basic plan or the Pro plan?",
        "What are the differences between the Basic plan and the Pro plan?",
        "Compare the first offer with the second.",
        "How does the new standard differ from the old one?",
        "Are Anna Berg and Carl Lund both from Norway?",
        "Is Zubrow larger than Lutzen?",
        "What do Zubrow and Lutzen have in common?",
        "Plan A versus plan B: which has the lower fee?",
        "Did the north pay more tax than the south?",
    ],
    "aggregation": [
        "List all the farms.",
        "How many times is the king mentioned?",
        "How often does the word liberty occur?",
        "Name every character of the novel.",
        "Which countries are mentioned?",
        "What are all the exceptions to the rule?",
        "Count the references to Homer.",
        "How many different products are there?",
        "Who speaks most often?",
        "Which farm has the largest acreage?",
        "How many farms are named in total?",
        "Make a timeline of the events.",
        "In what order were the bridges built?",
        "How does her view of him change over the years?",
        "What is the total number of casualties?",
        "Give me a list of the deadlines.",
        "How many chapters mention the sea?",
        "Find all obligations of the tenant.",
        "What fraction of the farms grew wheat?",
        "Who are all the witnesses?",
    ],
    "summary": [
        "Summarize the document.",
        "Please summarise this report in five sentences.",
        "Give me an overview.",
        "What is this book about?",
        "What are the main points?",
        "What are the key findings of the study?",
        "tl;dr",
        "What is the plot of the novel?",
        "Write a short summary of chapter 3.",
        "What does the author argue?",
        "Describe the document.",
        "What happens in the story?",
        "What are the major themes of the play?",
        "Give me the gist of it.",
        "What is it about?",
    ],
    "verification": [
        "Is the tenant liable for repairs?",
        "Does the contract mention arbitration?",
        "Did the king build the bridge?",
        "Was the bridge ever repaired?",
        "Is there any mention of slavery?",
        "Is it true that the fee is refundable?",
        "Can I terminate early?",
        "The king was crowned in 1887, true or false?",
        "Are pets allowed?",
        "Has the patient any allergies?",
    ],
}
TABLE = [(question, kind) for kind, questions in QUESTIONS.items() for question in questions]
KNOWN = ("retrieve", "direct", "memory", "chain", "team", "structured", "hops", "attention")


@pytest.mark.parametrize(("question", "kind"), TABLE)
def test_a_question_is_known_for_what_it_asks(question, kind):
    assert asked(question).kind == kind


@pytest.mark.parametrize(
    ("question", "language"),
    [
        ("Was ist die Hauptstadt von Freedonien?", "German"),
        ("Quelle est la capitale de la Freedonie ?", "French"),
        ("¿Cuál es la capital de Freedonia?", "Spanish"),
        ("フリードニアの首都はどこですか？", "another script"),
        ("Какая столица Фридонии?", "another script"),
        ("Hoeveel mensen wonen er in de stad van het noorden?", "Dutch"),
        ("What is the capital of Freedonia?", ""),
        ("Zubrow?", ""),
        ("Who was Jean-Luc de la Tour?", ""),
        ("", ""),
    ],
)
def test_another_language_is_a_lookup_and_said_to_be_one(question, language):
    assert other_language(question) == language
    if language:
        assert asked(question).kind == "lookup"
        assert language in choose(asked(question), Length(10_000, 2048, False), True, KNOWN).why


THINGS = "farms kings exceptions deadlines risks obligations names places battles characters fees clauses".split()
SPREAD = [
    "List all {}.",
    "Enumerate the {}",
    "How many {} are mentioned?",
    "how many {} are there in total?",
    "Which {} are named in this book?",
    "What are all the {} of the contract?",
    "Find every {} clause in the documents, all of the {}",
    "Count the {}!",
    "Give me a complete list of {}",
    "How many times do {} occur?",
    "Which of them has the most {}?",
    "Summarize what is said of {}.",
    "Give an overview of the {}",
    "What are the main points about {}?",
    "Write a summary of the {} in the report",
    "Make a timeline of the {}",
]
LENGTHS = st.builds(Length, st.integers(1, 10**7), st.integers(256, 10**6), st.booleans())


@given(
    st.sampled_from(SPREAD),
    st.sampled_from(THINGS),
    st.sampled_from(["", "Please ", "Hello. ", "  "]),
    st.booleans(),
    LENGTHS,
    st.sets(st.sampled_from(KNOWN)).map(lambda some: some | {"retrieve", "direct"}),
    st.booleans(),
)
def test_what_is_spread_over_a_text_never_goes_to_a_few_passages(form, thing, lead, upper, length, known, capable):
    question = lead + form.replace("{}", thing)
    kind = asked(question.upper() if upper else question)
    choice = choose(kind, length, capable, known)
    assert kind.kind in ("aggregation", "summary")
    assert choice.reader not in ("retrieve", "attention", "hops")
    assert choice.reader in known
    if length.fits:
        assert choice.reader == "direct"


@given(
    st.sampled_from([question for question, _ in TABLE]) | st.text(max_size=80),
    LENGTHS,
    st.booleans(),
    st.sets(st.sampled_from(KNOWN)).map(lambda some: some | {"retrieve", "direct"}),
)
def test_a_reader_that_is_not_there_is_not_chosen_and_the_reason_is_a_sentence(question, length, capable, known):
    choice = choose(asked(question), length, capable, known)
    assert choice.reader in known
    assert choice.why.startswith("The question ")
    assert choice.why.endswith(".")
    assert "\n" not in choice.why


@pytest.mark.parametrize(
    ("kind", "fits", "reader"),
    [
        ("lookup", True, "retrieve"),
        ("lookup", False, "retrieve"),
        ("multi-hop", False, "hops"),
        ("comparison", True, "hops"),
        ("aggregation", True, "direct"),
        ("aggregation", False, "team"),
        ("summary", True, "direct"),
        ("summary", False, "memory"),
        ("verification", False, "retrieve"),
    ],
)
def test_kind_and_length_decide_the_reader(kind, fits, reader):
    assert choose(Asked(kind, "asks"), Length(5000, 2048, fits), False, KNOWN).reader == reader


def test_the_numbers_that_decided_are_in_the_reason():
    why = choose(asked("List all farms."), Length(152_000, 8192, False), False, KNOWN).why
    assert "152,000" in why
    assert "8,192" in why


def test_whether_something_is_said_anywhere_takes_a_reading_of_all():
    assert choose(asked("Is slavery ever mentioned?"), Length(9000, 2048, False), False, KNOWN).reader == "team"


def test_a_question_without_words_goes_to_attention_where_the_engine_can():
    kind = asked("Who is it?")
    length = Length(9000, 2048, False)
    assert choose(kind, length, True, KNOWN).reader == "attention"
    assert choose(kind, length, False, KNOWN).reader == "retrieve"
    assert choose(kind, length, True, ("retrieve", "direct")).reader == "retrieve"


BOOK = "The capital of Freedonia is Zubrow. It lies on the Lutz.\n\n" + "Wheat grew on the farm. " * 200


def test_auto_is_resolved_before_the_run_is_written(desk):
    desk.add(BOOK)
    working = desk.with_engine(ScriptedEngine(["Zubrow"]))
    answer = working.ask(Ask("What is the capital of Freedonia?", reader="auto"))

    first = working.events[0]
    assert isinstance(first, Chosen)
    assert (first.reader, answer.reader, answer.why) == ("retrieve", "retrieve", first.why)
    record = desk.deps.runs.get(answer.run_id)
    assert (record.reader, record.settings["why"]) == ("retrieve", first.why)
    assert from_json(to_json(answer)) == answer == from_json(record.answer)


def test_auto_is_what_is_asked_for_without_a_word():
    assert Ask("What?").reader == "auto"


def test_a_reader_that_was_named_is_not_questioned(desk):
    desk.add(BOOK)
    working = desk.with_engine(ScriptedEngine(["Zubrow"]))
    answer = working.ask(Ask("List all farms.", reader="retrieve"))
    assert (answer.reader, answer.why) == ("retrieve", "")
    assert not any(isinstance(event, Chosen) for event in working.events)
    assert "why" not in desk.deps.runs.get(answer.run_id).settings


def test_the_length_is_counted_in_the_models_own_tokens(desk):
    desk.add(BOOK)
    deps = desk.with_engine(ScriptedEngine(["x"], window=8192)).deps
    assert resolve(Ask("List all farms."), deps).reader == "direct"
    deps = desk.with_engine(ScriptedEngine(["x"], window=600)).deps
    chosen = resolve(Ask("List all farms."), deps)
    assert chosen.reader != "direct" or set(readers()) <= {"direct", "retrieve", "hops", "attention"}
    assert "600" in chosen.why


def test_a_task_of_summary_is_read_whole(desk):
    desk.add(BOOK)
    deps = desk.with_engine(ScriptedEngine(["x"])).deps
    assert resolve(Ask("What is the capital of Freedonia?", options=Options(task="summary")), deps).reader == "direct"


def test_a_run_that_auto_chose_goes_on_with_the_same_reader_and_reason(desk):
    desk.add(BOOK)
    ask = Ask("What is the capital of Freedonia?")
    events = desk.with_engine(ScriptedEngine(["Zubrow"])).stream(ask)
    assert isinstance(next(events), Chosen)
    next(events)
    events.close()
    (record,) = desk.deps.runs.list()
    answer = desk.with_engine(ScriptedEngine(["Zubrow"])).resume(record.id)
    assert isinstance(answer, Answer)
    assert (answer.reader, answer.why) == ("retrieve", record.settings["why"])


def test_a_text_that_only_direct_could_read_is_refused_rather_than_read_in_part(desk):
    """As long as no reader of whole texts is there; with one, it reads."""
    desk.add(BOOK)
    working = desk.with_engine(ScriptedEngine(["x"], window=600))
    choice = choose(asked("List all farms."), Length(1000, 600, False), False, ("retrieve", "direct"))
    assert choice.reader == "direct"
    with pytest.raises(WindowExceeded):
        working.ask(Ask("List all farms.", reader="direct"))
