"""Kept documents: bit-equal after reopening, shared where they begin alike, never used when damaged or foreign."""

import multiprocessing
import os
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longleaf.engine.errors import FingerprintMismatch, SegmentDamaged
from longleaf.engine.pages.asset import AssetFolder
from longleaf.engine.pages.chain import SEGMENT_TOKENS, segment_keys
from longleaf.engine.pages.host import HostTier
from longleaf.engine.pages.store import PageStore

LONG = list(range(2 * SEGMENT_TOKENS + 100))
SMALL = 1_200_000  # bytes of four documents of this length


def contents(store, sequence):
    """All keys and values of a sequence, `[layers, 2, kv_heads, tokens, head_size]`."""
    length, layers = store.length(sequence), []
    for layer in range(store.shape.layers):
        every = torch.arange(store.shape.pages(length))[None]
        layers.append(torch.stack(store.gather(sequence, layer, every))[:, :, :length])
    return torch.stack(layers)


@pytest.fixture
def assets(tmp_path):
    return AssetFolder(tmp_path)


@pytest.fixture
def save(assets, write, fingerprint):
    def save(tokens, **settings):
        store, sequence = write(tokens)
        return assets.save(store, sequence, tokens, replace(fingerprint, **settings))

    return save


@pytest.mark.parametrize("length", [1, 16, 100, SEGMENT_TOKENS, SEGMENT_TOKENS + 1, 2 * SEGMENT_TOKENS + 100])
@pytest.mark.parametrize("host", [False, True])
def test_reopened_keys_and_values_are_bit_equal(assets, save, write, shape, fingerprint, length, host):
    tokens = LONG[:length]
    save(tokens)
    store = PageStore(shape, capacity=140, host=HostTier()) if host else PageStore(shape, run=1)
    opened = assets.open(store, tokens, fingerprint)
    assert opened.tokens == store.length(opened.sequence) == length
    assert torch.equal(contents(store, opened.sequence), contents(*write(tokens)))


def test_a_reopened_document_goes_on(assets, save, write, shape, fingerprint):
    save(LONG)
    store = PageStore(shape)
    document = assets.open(store, LONG, fingerprint).sequence
    question = store.fork(document, len(LONG))
    more = torch.randn(2, 30, 8).bfloat16()
    for layer in range(2):
        store.append(question, layer, more, more)
    before = contents(*write(LONG))
    assert torch.equal(contents(store, question)[:, :, :, : len(LONG)], before)
    assert torch.equal(contents(store, question)[1, 0, :, len(LONG) :], more)
    assert torch.equal(contents(store, document), before)


def test_pages_of_files_stay_once_they_are_read(assets, save, shape, fingerprint):
    save(LONG)
    store = PageStore(shape)
    opened = assets.open(store, LONG, fingerprint)
    assert store.resident([opened.sequence]) is None
    contents(store, opened.sequence)
    assert torch.equal(store.resident([opened.sequence]), store.paged([opened.sequence], 0).table)


def test_a_small_device_reads_a_file_again_and_again(assets, save, write, shape, fingerprint):
    save(LONG)
    store = PageStore(shape, capacity=10, run=1)
    opened = assets.open(store, LONG, fingerprint)
    wanted = contents(*write(LONG))
    for start in (0, 60, 120, 0, 60):
        pages = torch.arange(start, start + 8)[None]
        keys, _ = store.gather(opened.sequence, 1, pages)
        assert torch.equal(keys, wanted[1, 0, :, start * 16 : (start + 8) * 16])
    assert store.stats().evictions > 0


@pytest.mark.parametrize("stored", ["int8", "int4"])
def test_a_quantised_file_saved_again_is_the_same_file(assets, save, shape, fingerprint, stored, tmp_path):
    save(LONG, stored=stored)
    mark = replace(fingerprint, stored=stored)
    store = PageStore(shape)
    opened = assets.open(store, LONG, mark)
    again = AssetFolder(tmp_path / "again")
    again.save(store, opened.sequence, LONG, mark)
    for key in segment_keys(LONG, mark.digest)[:2]:
        assert again._file(key).read_bytes() == assets._file(key).read_bytes()


def test_summaries_come_back_joined(assets, write, shape, fingerprint):
    store, sequence = write(LONG)
    numbers = torch.randn(2, shape.pages(len(LONG)), 2, 16).bfloat16()
    assets.save(store, sequence, LONG, fingerprint, {"minmax": lambda pages: numbers[:, pages.start : pages.stop]})
    opened = assets.open(PageStore(shape), LONG, fingerprint)
    parts = opened.summaries["minmax"]
    for layer in range(2):
        assert torch.equal(torch.cat([part.layer(layer) for part in parts]), numbers[layer])


def test_a_changed_byte_of_a_summary_is_never_used(assets, write, shape, fingerprint):
    store, sequence = write(LONG)
    numbers = torch.randn(2, shape.pages(len(LONG)), 2, 16).bfloat16()
    assets.save(store, sequence, LONG, fingerprint, {"minmax": lambda pages: numbers[:, pages.start : pages.stop]})
    path = assets._file(segment_keys(LONG, fingerprint.digest)[0])
    place = path.read_bytes().index(numbers[1, 0].view(torch.uint8).numpy().tobytes())
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)

    part = assets.open(PageStore(shape), LONG, fingerprint).summaries["minmax"][0]
    assert torch.equal(part.layer(0), numbers[0, : part.pages])
    with pytest.raises(SegmentDamaged, match="the summaries of layer 1"):
        part.layer(1)
    assert assets.open(PageStore(shape), LONG, fingerprint).tokens == 0, "the file is gone"


def test_documents_that_begin_alike_share_files(assets, save, shape, fingerprint):
    first = save(LONG)
    size = assets.size
    edited = [*LONG[: SEGMENT_TOKENS + 5], 7, 7, 7, *LONG[SEGMENT_TOKENS + 5 :]]
    assert assets.shared_prefix(edited, fingerprint) == SEGMENT_TOKENS
    assert assets.open(PageStore(shape), edited, fingerprint).tokens == SEGMENT_TOKENS
    second = save(edited)
    assert assets.size < first.bytes + second.bytes
    assert assets.size - size < second.bytes
    assets.drop(first.name)
    assert assets.shared_prefix(edited, fingerprint) == len(edited)
    assets.drop(second.name)
    assert assets.size == 0
    assert assets.list() == []


def test_another_model_is_named(assets, save, shape, fingerprint):
    save(LONG)
    other = replace(fingerprint, model="other weights")
    with pytest.raises(FingerprintMismatch, match="model is other weights, not weights") as caught:
        assets.open(PageStore(shape), LONG, other)
    assert fingerprint.digest[:12] in str(caught.value)
    assert other.digest[:12] in str(caught.value)


@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_is_never_used(data, assets, write, shape, fingerprint):
    keys = segment_keys(LONG, fingerprint.digest)
    written, sequence = write(LONG)
    wanted = contents(written, sequence)
    if not assets.list():
        assets.save(written, sequence, LONG, fingerprint)
    path = assets._file(data.draw(st.sampled_from(keys)))
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        torn = whole[:place]
    else:
        torn = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    path.unlink()
    path.write_bytes(torn)
    store = PageStore(shape, run=1)
    opened = assets.open(store, LONG, fingerprint)
    try:
        read = contents(store, opened.sequence)
    except SegmentDamaged:
        store.drop(opened.sequence)
        opened = assets.open(store, LONG, fingerprint)
        read = contents(store, opened.sequence)
        assert opened.tokens < len(LONG)
    assert torch.equal(read, wanted[:, :, :, : opened.tokens])
    path.write_bytes(whole)


def test_the_document_used_longest_ago_goes_first(tmp_path, write, fingerprint, shape):
    assets = AssetFolder(tmp_path)
    names = []
    for first in range(3):
        tokens = [first, *LONG]
        store, sequence = write(tokens)
        names.append(assets.save(store, sequence, tokens, fingerprint).name)
    one = assets.list()[0].bytes
    for age, name in enumerate(names):
        _aged(assets, name, 1000 + age)
    assets.open(PageStore(shape), [0, *LONG], fingerprint)  # used now
    assert assets.prune(2 * one) == (names[1],)
    assert {asset.name for asset in assets.list()} == {names[0], names[2]}
    assert assets.size == 2 * one


def test_what_a_store_reads_is_not_removed(tmp_path, write, fingerprint, shape):
    assets = AssetFolder(tmp_path)
    store, sequence = write(LONG)
    kept = assets.save(store, sequence, LONG, fingerprint)
    reader = PageStore(shape)
    opened = assets.open(reader, LONG, fingerprint)
    assert assets.prune(0) == ()
    assets.drop(kept.name)
    assert assets.size == kept.bytes
    reader.drop(opened.sequence)
    assert assets.prune(0) == ()
    assert assets.size == 0


def test_two_processes_that_are_killed_leave_whole_files(tmp_path, write, shape, fingerprint):
    choose = random.Random(5)
    fork = multiprocessing.get_context("fork")
    wanted = {first: contents(*write([first, *LONG])) for first in range(1, 9)}
    for _ in range(8):
        savers = [fork.Process(target=_save_for_ever, args=(tmp_path, write, fingerprint, seed)) for seed in (1, 4)]
        for saver in savers:
            saver.start()
        savers[0].join(timeout=choose.uniform(0.05, 0.3))
        for saver in savers:
            assert saver.is_alive()
            saver.kill()
            saver.join()
        assets = AssetFolder(tmp_path)
        for first, whole in wanted.items():
            store = PageStore(shape)
            opened = assets.open(store, [first, *LONG], fingerprint)
            assert torch.equal(contents(store, opened.sequence), whole[:, :, :, : opened.tokens])
            store.drop(opened.sequence)
        assets.prune(SMALL)
        assert not list(tmp_path.glob("*.tmp"))
        assert 0 < assets.size <= SMALL
        named = {key for asset in assets.list() for key in asset.keys}
        assert {path.stem for path in tmp_path.glob("segments/*/*.kv")} <= named


def _save_for_ever(folder, write, fingerprint, seed):
    while True:
        for first in range(seed, seed + 5):
            store, sequence = write([first, *LONG])
            AssetFolder(folder, limit=SMALL).save(store, sequence, [first, *LONG], fingerprint)


def _aged(assets, name, seconds):
    os.utime(assets._document(name), (seconds, seconds))
