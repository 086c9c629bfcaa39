"""Follow-ups are read against the conversation, and a question that stands alone is never changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.agents.followup import Past, Resolved, resolve

# FOLLOWUPS: (question before and its answer, what is asked, what it is read as). ALONE: what must stay as it was asked.

CAPITAL = ("What is the capital of Freedonia?", "The capital of Freedonia is Zubrow.")
KING = ("When was the king crowned?", "The king was crowned in 1887.")
BRIDGE = ("Who built the bridge?", "Queen Adela built the bridge.")
PEOPLE = ("How many people lived in Zubrow in 1950?", "In 1950, 4,000 people lived in Zubrow.")
BOOT = ("What is the /boot directory for?", "This directory contains everything required for the boot process.")
ADDONS = ("Where do add-on packages go?", "Add-on packages go into /opt.")
FARMERS = ("Was the king loved by the farmers of the south?", "The farmers of the south loved him.")
AUTHOR = ("Who wrote the first chapter?", "Anna Berg wrote the first chapter.")
WARRANTY = ("How long is the warranty for the battery?", "The warranty for the battery is two years.")
COMPANY = ("When was Acme Corporation founded?", "Acme Corporation was founded on 3 May 1921 in Leeds.")
DRUG = ("What is the daily dose of ibuprofen for adults?", "Adults take at most 1,200 mg of ibuprofen a day.")
NOT_FOUND = ("What is the capital of Sylvania?", "")

FOLLOWUPS = [
    # What is left out is taken from the question before.
    (PEOPLE, "and in 1972?", "How many people lived in Zubrow in 1972?"),
    (PEOPLE, "What about 1972?", "How many people lived in Zubrow in 1972?"),
    (PEOPLE, "And in Trentin?", "How many people lived in Trentin in 1950?"),
    (CAPITAL, "and of Sylvania?", "What is the capital of Sylvania?"),
    (CAPITAL, "What about Sylvania?", "What is the capital of Sylvania?"),
    (CAPITAL, "how about Upper Sylvania", "What is the capital of Upper Sylvania?"),
    (CAPITAL, "And the currency?", "What is the currency of Freedonia?"),
    (CAPITAL, "in 1972?", "What is the capital of Freedonia in 1972?"),
    (KING, "and the queen?", "When was the queen crowned?"),
    (FARMERS, "what about the north?", "Was the king loved by the farmers of the north?"),
    (BOOT, "and /opt?", "What is /opt for?"),
    (BOOT, "and in /opt?", "What is the /opt directory for?"),
    (BOOT, "what about the /opt directory?", "What is the /opt directory for?"),
    (AUTHOR, "And the second chapter?", "Who wrote the second chapter?"),
    (WARRANTY, "and for the charger?", "How long is the warranty for the charger?"),
    (DRUG, "And for children?", "What is the daily dose of ibuprofen for children?"),
    (DRUG, "what about paracetamol?", "What is the daily dose of paracetamol for adults?"),
    (NOT_FOUND, "and of Freedonia?", "What is the capital of Freedonia?"),
    # A bare question word asks more of the same.
    (KING, "Where?", "Where was the king crowned?"),
    (KING, "and why?", "Why was the king crowned?"),
    (BRIDGE, "When?", "Who built the bridge, and when?"),
    # Pronouns stand for what was asked or answered last.
    (CAPITAL, "How many people live there?", "How many people live in Zubrow?"),
    (CAPITAL, "And its population?", "What is Zubrow's population?"),
    (CAPITAL, "On which river does it lie?", "On which river does Zubrow lie?"),
    (KING, "Who loved him?", "Who loved the king?"),
    (KING, "and who was his wife?", "Who was the king's wife?"),
    (BRIDGE, "What else did she build?", "What else did Queen Adela build?"),
    (BRIDGE, "How long is it?", "How long is the bridge?"),
    (AUTHOR, "Where does she live?", "Where does Anna Berg live?"),
    (COMPANY, "Who founded it?", "Who founded Acme Corporation?"),
    (COMPANY, "Where are its headquarters?", "Where are Acme Corporation's headquarters?"),
    (ADDONS, "Who may change them?", "Who may change add-on packages?"),
    (BOOT, "Who may write to it?", "Who may write to the /boot directory?"),
    (FARMERS, "What did they grow?", "What did the farmers of the south grow?"),
]

ALONE = [
    (CAPITAL, "What is the capital of Sylvania?"),
    (CAPITAL, "When was the king crowned?"),
    (CAPITAL, "Who is the king and when was he crowned?"),
    (KING, "Is it possible to visit the palace?"),
    (KING, "How long does it take to cross the bridge?"),
    (KING, "Are there any farms in the north?"),
    (KING, "Is there a law against bribery?"),
    (KING, "What does the report say about its authors?"),
    (KING, "Where should a user keep their files?"),
    (BOOT, "Which directory holds files that programs share?"),
    (BOOT, "What is the /usr directory and what is in it?"),
    (BOOT, "And who is the king of Freedonia?"),
    (BOOT, "population of Zubrow"),
    (BOOT, "safety instructions"),
    (BOOT, "What is this document about?"),
    (BOOT, "Summarise the second chapter."),
    (PEOPLE, "In 1972, how many people lived in Trentin?"),
    (PEOPLE, "In which year did the war end?"),
    (PEOPLE, "What happened in 1972?"),
    (PEOPLE, "How many bridges are there in Zubrow?"),
    (AUTHOR, "Why did Karl Marx leave Germany when he was young?"),
    (AUTHOR, "Does the author say that prices will rise?"),
    (AUTHOR, "What did Hamlet do with his father's sword?"),
    (WARRANTY, "What should I do if the battery is hot and it smells?"),
    (WARRANTY, "How do I reset the device to its factory settings?"),
    (WARRANTY, "What does it mean to calibrate a sensor?"),
    (COMPANY, "Which companies sold their shares in 1930?"),
    (COMPANY, "Why did the workers of Leeds strike, and what did they win?"),
    (DRUG, "What are the side effects of aspirin?"),
    (DRUG, "Can patients who take aspirin drive if they feel dizzy?"),
    (NOT_FOUND, "Who lives in the house that Jack built?"),
    (NOT_FOUND, "What is that which we call a rose?"),
    (NOT_FOUND, "Is there life on Mars?"),
]

# Not looked at while the rules were written; the first run over these read 23 of 24 rightly.
HELD_OUT_FOLLOWUPS = [
    (
        ("Who was the first president of Ruritania?", "The first president of Ruritania was Otto Falk."),
        "When did he die?",
        "When did Otto Falk die?",
    ),
    (
        ("How much rain fell in Bergen in March?", "In March 180 mm of rain fell in Bergen."),
        "and in April?",
        "How much rain fell in Bergen in April?",
    ),
    (
        ("Which port does the server listen on?", "The server listens on port 8080."),
        "And the proxy?",
        "Which port does the proxy listen on?",
    ),
    (
        ("What is the melting point of tin?", "Tin melts at 232 degrees."),
        "what about lead?",
        "What is the melting point of lead?",
    ),
    (
        ("What did the committee decide?", "The committee decided to close the mine."),
        "Why?",
        "What did the committee decide, and why?",
    ),
    (
        ("Who discovered the island?", "Captain Hale discovered the island in 1770."),
        "Who lives there?",
        "Who lives in the island?",
    ),
    (("Where is the museum?", "The museum is in Oslo."), "When does it open?", "When does the museum open?"),
    (
        ("What are the duties of the treasurer?", "The treasurer keeps the accounts."),
        "and of the secretary?",
        "What are the duties of the secretary?",
    ),
    (
        ("How many members does the club have?", "The club has 120 members."),
        "Where do they meet?",
        "Where do members meet?",
    ),
    (
        ("When did the Rhine flood Cologne?", "The Rhine flooded Cologne in 1993."),
        "and Bonn?",
        "When did the Rhine flood Bonn?",
    ),
    (
        ("What does the contract say about notice?", "Notice must be given three months before."),
        "What about holidays?",
        "What does the contract say about holidays?",
    ),
    (("Who painted the ceiling?", "Michelangelo painted the ceiling."), "How old was he?", "How old was Michelangelo?"),
]
HELD_OUT_ALONE = [
    (KING, "How did it come about that the mine was closed?"),
    (KING, "Who may sign a contract on behalf of the company?"),
    (CAPITAL, "Which of the rivers is the longest one there is?"),
    (CAPITAL, "And what did the committee decide about the mine?"),
    (BOOT, "How are they different, cats and dogs?"),
    (BOOT, "What happens when a process loses its parent?"),
    (BRIDGE, "What time is it in Oslo?"),
    (BRIDGE, "On the third day, what did the crew find?"),
    (AUTHOR, "List all the exceptions to this rule in section 4."),
    (AUTHOR, "For whom is the manual written?"),
    (DRUG, "Under what conditions may the tenant end the contract?"),
    (DRUG, "Does anyone who lends money have to register it?"),
]

NAMES = ["Zubrow", "Trentin", "Otto Falk", "the mayor", "/opt", "1972", "the north", "its", "there", "and"]


@pytest.mark.parametrize(("before", "asked", "read"), [*FOLLOWUPS, *HELD_OUT_FOLLOWUPS])
def test_a_followup_is_read_with_what_it_leaves_out(before, asked, read):
    resolved = resolve(asked, [Past(*before)])
    assert resolved.text == read
    assert resolved.rule in ("ellipsis", "pronoun")


@pytest.mark.parametrize(("before", "asked"), [*ALONE, *HELD_OUT_ALONE])
def test_a_question_that_stands_alone_stays_as_it_was_asked(before, asked):
    assert resolve(asked, [Past(*before)]) == Resolved(asked)


@pytest.mark.parametrize(("_", "asked", "read"), FOLLOWUPS)
def test_the_first_question_of_a_conversation_is_never_changed(_, asked, read):
    assert resolve(asked, []) == Resolved(asked)


def test_followups_follow_each_other():
    past = [Past("How many people lived in Zubrow in 1950?", "4,000 people lived in Zubrow.")]
    for asked, read in [
        ("and in 1972?", "How many people lived in Zubrow in 1972?"),
        ("and in Trentin?", "How many people lived in Trentin in 1972?"),
        ("Who governs it?", "Who governs Trentin?"),
    ]:
        resolved = resolve(asked, past)
        assert resolved.text == read
        past.append(Past(resolved.text, "Nobody knows."))


def test_a_pronoun_may_reach_back_over_a_turn_that_names_nothing():
    past = [Past(*KING), Past("How many?", "")]
    assert resolve("Who loved him?", past).text == "Who loved the king?"


def test_a_quote_names_what_a_poor_answer_does_not():
    turn = Past("What is the capital of Freedonia?", "it is stated there", ("The capital of Freedonia is Zubrow.",))
    assert resolve("How many people live there?", [turn]).text == "How many people live in Zubrow?"


@pytest.mark.parametrize("quote", ["opt Configuration for /opt", "The Linux kernel never looks into /opt."])
def test_what_a_question_names_itself_comes_before_what_its_answer_names(quote):
    assert resolve("Who may write to it?", [Past("What is /opt for?", "x", (quote,))]).text == "Who may write to /opt?"


def test_a_heading_names_nothing():
    turn = Past("What is the third part about?", "x", ("General Configuration of Files",))
    assert resolve("Who wrote it?", [turn]).text == "Who wrote the third part?"


def test_a_pronoun_without_anyone_it_could_stand_for_stays():
    assert resolve("Who loved her?", [Past("How long is the bridge?", "40 m.")]) == Resolved("Who loved her?")
    assert resolve("When did she die?", [Past(*KING)]).text == "When did she die?"


@given(st.lists(st.sampled_from(NAMES) | st.text(max_size=12), max_size=8).map(" ".join), st.text(max_size=60))
def test_whatever_is_typed_is_read_as_something(asked, before):
    past = [Past(before, before), Past(*KING)]
    resolved = resolve(asked, past)
    assert (resolved.text == asked) == (resolved.rule == "")
    assert bool(resolved.text.strip()) == bool(asked.strip())
