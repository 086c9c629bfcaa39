"""Documents that the torch engine keeps open: dense answers, no second prefill, and found again, never wrongly."""

import itertools
import multiprocessing
import os
import shutil

import pytest
import torch

from longleaf.engine import Message, Request, Sampling, WindowExceeded, complete
from longleaf.engine.backends.torch import TorchEngine
from longleaf.engine.contract import Done, Failed, Keeping, ReadsDocuments, Token
from longleaf.engine.errors import EngineFailed, Stopped

TEXT = "Read this. <text>\nThe heron near the river ate a frog. The mill burned down in a dry year.\n</text>\n\nAsk:"
OPENED = (Message("system", "Be brief."), Message("user", TEXT))
ROOM = 80


def ask(question, id_="r", **sampling):
    sampling.setdefault("max_tokens", 12)
    return Request(id_, (OPENED[0], Message("user", f"{TEXT} {question}")), Sampling(**sampling))


def reply(document, request):
    (done,) = [event for event in document.generate([request]) if isinstance(event, Done)]
    return done


@pytest.fixture(scope="module")
def open_tiny(tiny_model):
    def opened(folder=None, **options):
        return TorchEngine.open(folder or tiny_model, dtype="float32", device="cpu", threads=1, **options)

    return opened


@pytest.fixture(scope="module")
def engine(open_tiny):
    return open_tiny()


@pytest.fixture
def keeping(tmp_path):
    return Keeping(tmp_path / "kv")


def test_answers_are_those_of_the_whole_prompt(engine):
    assert isinstance(engine, ReadsDocuments)
    assert "reads_documents" in engine.card.capabilities
    document = engine.open_document(OPENED, room=ROOM)
    assert document.plan == "dense"
    for question in ("What burned?", "Who ate?", "What burned?"):
        done = reply(document, ask(question))
        whole = complete(engine, ask(question))
        assert (done.text, done.stop_reason) == (whole.text, whole.stop_reason)
        assert done.usage.prompt_tokens == whole.usage.prompt_tokens
        assert done.usage.cached_tokens == document.tokens
        assert done.usage.generated_tokens == whole.usage.generated_tokens


@pytest.mark.parametrize("plan", ["quest", "page_mass"])
def test_a_plan_with_room_for_everything_answers_as_dense_attention_does(engine, plan):
    done = reply(engine.open_document(OPENED, room=ROOM, plan=plan, budget=4096), ask("What burned?"))
    assert done.text == complete(engine, ask("What burned?")).text


def test_replies_stream_and_end_as_those_of_the_engine_do(engine):
    document = engine.open_document(OPENED, room=ROOM)
    events = list(document.generate([ask("Who?", "a"), ask("What?", "b", max_tokens=3)]))
    assert [event.request_id for event in events if isinstance(event, Done)] == ["a", "b"]
    for name in "ab":
        said = "".join(event.text for event in events if isinstance(event, Token) and event.request_id == name)
        assert said == next(event.text for event in events if isinstance(event, Done) and event.request_id == name)
    whole = reply(document, ask("Who?"))
    stop = whole.text[2:4]
    assert reply(document, ask("Who?", stop=(stop,))).text == whole.text[: whole.text.index(stop)]
    drawn = ask("Who?", temperature=1.0, seed=5)
    assert reply(document, drawn).text == complete(engine, drawn).text


def test_what_was_read_lies_in_the_text(engine):
    done = reply(engine.open_document(OPENED, room=ROOM), ask("What burned?"))
    assert done.reads
    assert list(done.reads) == sorted(done.reads, key=lambda read: -read.score)
    for read in done.reads:
        assert 0 <= read.start < read.end <= len(TEXT)
        assert 0 <= read.score <= 1.001
    covered = sorted((read.start, read.end) for read in done.reads)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(covered))


def test_a_second_opening_reads_nothing(engine):
    first = engine.open_document((*OPENED[:1], Message("user", TEXT + "?")), room=ROOM)
    again = engine.open_document((*OPENED[:1], Message("user", TEXT + "?")), room=ROOM)
    assert (first is again, again.found) == (True, again.tokens)


def test_it_is_found_again_after_a_restart(open_tiny, keeping):
    before = open_tiny().open_document(OPENED, room=ROOM, keeping=keeping)
    assert (before.found, before.kept.tokens) == (0, before.tokens)
    assert (keeping.folder / before.kept.path).is_file()
    said = reply(before, ask("What burned?"))

    engine = open_tiny()
    computed = []
    engine._model.register_forward_pre_hook(
        lambda module, args, kwargs: computed.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    after = engine.open_document(OPENED, room=ROOM, keeping=keeping)
    assert (after.found, computed) == (after.tokens, [])
    again = reply(after, ask("What burned?"))
    assert (again.text, again.reads) == (said.text, said.reads)
    assert sum(computed) == again.usage.prompt_tokens - after.tokens + again.usage.generated_tokens - 1
    assert after.kept == before.kept


@pytest.mark.parametrize("stored", ["int8", "int4"])
def test_smaller_formats_are_found_too(open_tiny, tmp_path, stored):
    keeping = Keeping(tmp_path / "kv", stored=stored)
    kept = open_tiny().open_document(OPENED, room=ROOM, keeping=keeping).kept
    after = open_tiny().open_document(OPENED, room=ROOM, keeping=keeping)
    assert (after.found, after.kept.name) == (after.tokens, kept.name)
    assert reply(after, ask("What burned?")).usage.cached_tokens == after.tokens


def test_a_changed_document_shares_nothing_behind_the_change(open_tiny, keeping):
    open_tiny().open_document(OPENED, room=ROOM, keeping=keeping)
    changed = (OPENED[0], Message("user", TEXT.replace("dry", "wet")))
    assert open_tiny().open_document(changed, room=ROOM, keeping=keeping).found == 0


def test_another_model_is_not_served(open_tiny, tiny_model, keeping, tmp_path):
    from safetensors.torch import load_file, save_file

    other = shutil.copytree(tiny_model, tmp_path / "tiny-llama")
    weights = {name: value * 1.01 for name, value in load_file(other / "model.safetensors").items()}
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    mine = open_tiny().open_document(OPENED, room=ROOM, keeping=keeping)
    engine = open_tiny(other)
    theirs = engine.open_document(OPENED, room=ROOM, keeping=keeping)
    assert theirs.found == 0
    assert theirs.kept.fingerprint != mine.kept.fingerprint
    assert reply(theirs, ask("What burned?")).text == complete(engine, ask("What burned?")).text
    assert open_tiny().open_document(OPENED, room=ROOM, keeping=keeping).found == mine.tokens, "both are kept"


def segments(keeping):
    return sorted(keeping.folder.glob("segments/*/*.kv"))


@pytest.mark.parametrize("place", [-40, 20], ids=["payload", "head"])
def test_a_damaged_file_is_computed_anew(open_tiny, keeping, place):
    said = reply(open_tiny().open_document(OPENED, room=ROOM, keeping=keeping), ask("What burned?")).text
    (file,) = segments(keeping)
    content = bytearray(file.read_bytes())
    content[place] ^= 0xFF
    file.write_bytes(content)

    document = open_tiny().open_document(OPENED, room=ROOM, keeping=keeping)
    assert reply(document, ask("What burned?")).text == said
    assert open_tiny().open_document(OPENED, room=ROOM, keeping=keeping).found == document.tokens, "kept anew"


def test_a_reading_that_is_stopped_leaves_nothing(open_tiny, keeping):
    engine = open_tiny(chunk=16)
    asked = iter([False, False, True])
    with pytest.raises(Stopped):
        engine.open_document(OPENED, room=ROOM, keeping=keeping, stop=lambda: next(asked))
    assert segments(keeping) == []
    assert engine.open_document(OPENED, room=ROOM, keeping=keeping).found == 0


def test_a_text_beyond_the_window_is_read_in_blocks(engine, keeping):
    text = "<text>\n" + "The heron near the river ate a frog. " * 60 + "\n</text>\n\nAsk:"
    opened = (Message("user", text),)
    document = engine.open_document(opened, keeping=keeping)
    assert document.tokens > 4 * engine.card.window
    assert document.plan == "infllm"
    done = reply(document, Request("r", (Message("user", text + " Who?"),), Sampling(max_tokens=5)))
    assert done.usage.generated_tokens == 5
    assert all(0 <= read.start < read.end <= len(text) for read in done.reads)


def test_a_question_that_does_not_fit_is_refused(engine):
    document = engine.open_document(OPENED, room=ROOM)
    (failed,) = document.generate([ask("why " * 200)])
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, WindowExceeded)
    strange = Request("r", (Message("user", "Something else"),))
    (failed,) = document.generate([strange])
    assert isinstance(failed.error, EngineFailed)


def test_documents_are_closed_for_others_where_room_is_short(open_tiny):
    engine = open_tiny(batch_tokens=200)
    first = engine.open_document(OPENED, room=ROOM)
    engine.open_document((Message("user", TEXT + " more"),), room=ROOM)
    (failed,) = first.generate([ask("What burned?")])
    assert "ask again" in str(failed.error)
    assert engine.open_document(OPENED, room=ROOM).found == 0


def test_a_closed_engine_opens_nothing(open_tiny):
    engine = open_tiny()
    document = engine.open_document(OPENED, room=ROOM)
    engine.close()
    with pytest.raises(EngineFailed, match="closed"):
        engine.open_document(OPENED, room=ROOM)
    (failed,) = document.generate([ask("What burned?")])
    assert isinstance(failed.error, EngineFailed)


def _read(folder, model, said):
    torch.set_num_threads(1)
    engine = TorchEngine.open(model, dtype="float32", device="cpu")
    said.put(reply(engine.open_document(OPENED, room=ROOM, keeping=Keeping(folder)), ask("What burned?")).text)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_processes_may_read_at_once(tiny_model, keeping, engine):
    context = multiprocessing.get_context("fork")
    said = context.Queue()
    both = [context.Process(target=_read, args=(keeping.folder, tiny_model, said)) for _ in range(2)]
    for process in both:
        process.start()
    texts = {said.get(timeout=120) for _ in both}
    for process in both:
        process.join(60)
    assert texts == {complete(engine, ask("What burned?")).text}
    assert len(segments(keeping)) == 1
