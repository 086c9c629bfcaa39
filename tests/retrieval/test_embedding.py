"""Embedders: unit vectors, the same alone and in a batch."""

import numpy as np
import pytest

from longleaf.retrieval.embedding import HashedWords, SentenceEmbedder

SENTENCES = [
    "The cat sleeps on the warm sofa.",
    "A kitten is napping on the couch.",
    "The central bank raised interest rates by a quarter of a point.",
    "Ja.",
    "word " * 400,
]


@pytest.fixture(scope="session")
def sentence_embedder(models_folder):
    folder = models_folder / "all-minilm-l6-v2"
    if not (folder / "config.json").is_file():
        pytest.skip(f"no sentence model in {folder}; get it with `longleaf models get all-minilm-l6-v2`")
    return SentenceEmbedder(folder, name="all-minilm-l6-v2", device="cpu")


def test_hashed_words_are_unit_vectors_and_repeatable():
    embedder = HashedWords()
    vectors = embedder.embed(SENTENCES)
    assert vectors.shape == (5, embedder.dimensions)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert (embedder.embed(SENTENCES[2:3])[0] == vectors[2]).all()
    assert embedder.embed([]).shape == (0, embedder.dimensions)


def test_hashed_words_ignore_case_and_order():
    one, two, other = HashedWords().embed(["The king sleeps", "sleeps THE king", "A red boat"])
    assert one @ two == pytest.approx(1.0)
    assert one @ other < 0.5


def test_hashed_words_count_words_and_marks():
    assert HashedWords().count(["The king, asleep.", ""]) == [5, 0]


def test_hashed_words_tell_how_far_they_are():
    told = []
    HashedWords().embed(["a", "b"], lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.model
def test_a_batch_gives_what_each_text_gives_alone(sentence_embedder):
    told = []
    together = sentence_embedder.embed(SENTENCES, lambda done, total: told.append((done, total)))
    alone = np.concatenate([sentence_embedder.embed([text]) for text in SENTENCES])

    assert np.abs(together - alone).max() < 1e-2  # bf16
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(5), abs=1e-3)
    assert together.shape == (5, sentence_embedder.dimensions)
    assert told[-1] == (5, 5)


@pytest.mark.model
def test_related_sentences_are_closer_than_unrelated_ones(sentence_embedder):
    cat, kitten, bank, *_ = sentence_embedder.embed(SENTENCES)
    assert cat @ kitten > 0.5
    assert cat @ kitten > cat @ bank + 0.3


@pytest.mark.model
def test_tokens_are_counted_without_specials_and_beyond_the_window(sentence_embedder):
    sentence_embedder.embed(["short"])
    assert sentence_embedder.count(["the cat sleeps", "", "word " * 400]) == [3, 0, 400]


@pytest.mark.model
def test_the_fingerprint_is_of_the_folders_content(sentence_embedder, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in sentence_embedder.folder.iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            (copy / file.name).write_bytes(file.read_bytes())
    (copy / "model.safetensors").write_bytes(b"other weights")
    other = SentenceEmbedder(copy, name="all-minilm-l6-v2")

    assert sentence_embedder.fingerprint.startswith("all-minilm-l6-v2:")
    assert sentence_embedder.fingerprint != other.fingerprint
