"""The default models on the example: what a newcomer sees first."""

from pathlib import Path

import pytest

from longleaf import Library

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fhs-3.0.pdf"


@pytest.fixture(scope="module")
def library(models_folder, tmp_path_factory):
    if not (models_folder / "smollm2-135m-instruct").is_dir():
        pytest.skip("the default model is not here; `make test` fetches it")
    folder = tmp_path_factory.mktemp("library")
    (folder / "models").symlink_to(models_folder)
    with Library.open(folder) as opened:
        opened.add(EXAMPLE)
        yield opened


@pytest.mark.model
@pytest.mark.parametrize(
    ("question", "gold", "page"),
    [
        ("Where should add-on application software packages be installed?", "/opt", 20),
        ("What does the /boot directory contain?", "required for the boot process", 14),
    ],
)
def test_the_default_model_answers_with_quotes_from_the_page(library, question, gold, page):
    answer = library.ask(question)

    text = library.text(library.list()[0].id)
    assert answer.found
    assert answer.text
    assert any(gold in quote.text and quote.page == page for quote in answer.quotes[:3])
    assert all(text.characters[quote.start : quote.end] == quote.text for quote in answer.quotes)
    assert answer.usage.generated_tokens > 0


@pytest.mark.model
def test_what_the_document_does_not_say_is_not_found(library):
    answer = library.ask("Who won the football world cup in 1998?")

    assert (answer.found, answer.claims, answer.usage.calls) == (False, (), 0)
