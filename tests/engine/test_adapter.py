"""Adapters against peft itself: what it trained and saved must come out of our merge as out of its own."""

import json
import shutil

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from longleaf.engine import (
    EngineFailed,
    Message,
    ModelNotFound,
    ModelStore,
    Request,
    Sampling,
    adapter,
    complete,
    heads,
    open_engine,
)
from longleaf.engine.backends.torch import TorchEngine
from longleaf.engine.catalog import CatalogEntry

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
REQUEST = Request("a", (Message("user", "Where does the heron stand?"),), Sampling(max_tokens=12))


def base_of(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def make_adapter(folder, model, seed=0, **options):
    """A random adapter, as peft saves it; and the base merged with it by peft."""
    config = peft.LoraConfig(task_type="CAUSAL_LM", **{"r": 4, "lora_alpha": 12, "target_modules": LINEAR, **options})
    torch.manual_seed(seed)
    wrapped = peft.get_peft_model(base_of(model), config)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
    wrapped.save_pretrained(folder)
    return wrapped.merge_and_unload()


def card(folder, fingerprint):
    text = f"---\nbase_model: org/tiny\nbase_fingerprint: {fingerprint}\n---\n# A test's adapter\n"
    (folder / adapter.CARD).write_text(text)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("adapters") / "reader"
    make_adapter(folder, tiny_model)
    card(folder, adapter.fingerprint_of_base(base_of(tiny_model)))
    return folder


@pytest.fixture
def copied(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copied")


def configure(folder, **changes):
    config = json.loads((folder / adapter.CONFIG).read_text())
    (folder / adapter.CONFIG).write_text(json.dumps(config | changes))


def merged(folder, model):
    ours = base_of(model)
    adapter.merge(adapter.read(folder), ours)
    return ours


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.[12]?\.?self_attn\.(q|v)_proj"},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.up_proj": 8}, "alpha_pattern": {r"model\.layers\.0.*": 3}},
        {"layers_to_transform": [1]},
        {"target_modules": ["q_proj", "v_proj"], "lora_alpha": 1},
    ],
    ids=["plain", "all", "pattern", "rank-stabilised", "ranks", "layers", "few"],
)
def test_merged_weights_are_those_of_peft(tmp_path, tiny_model, options):
    theirs = make_adapter(tmp_path, tiny_model, **options)
    ours = merged(tmp_path, tiny_model)
    before = base_of(tiny_model).state_dict()
    expected, found = theirs.state_dict(), ours.state_dict()
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.allclose(found[name], weight, atol=1e-6, rtol=0), name
    assert sum(not torch.equal(found[name], before[name]) for name in found) >= 2
    ids = torch.arange(1, 40)[None]
    with torch.inference_mode():
        assert torch.allclose(ours(ids).logits, theirs(ids).logits, atol=1e-5)


def test_a_merge_into_bfloat16_sums_in_float32(trained, tiny_model):
    low = base_of(tiny_model).bfloat16()
    weights = {name: weight.clone() for name, weight in low.state_dict().items()}
    adapter.merge(adapter.read(trained), low)
    name = "model.layers.0.mlp.up_proj.weight"
    pair = load_file(trained / adapter.WEIGHTS)
    a, b = (pair[f"base_model.model.{name.removesuffix('.weight')}.lora_{side}.weight"] for side in "AB")
    assert torch.equal(low.state_dict()[name], (weights[name].float() + 3 * b @ a).bfloat16())


def test_the_engine_answers_as_the_merged_model(trained, tiny_model, tmp_path, tokenizer):
    merged(trained, tiny_model).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    expected = complete(TorchEngine.open(tmp_path, dtype="float32", device="cpu"), REQUEST).text
    plain = TorchEngine.open(tiny_model, dtype="float32", device="cpu")
    engine = TorchEngine.open(tiny_model, adapter=trained, dtype="float32", device="cpu")
    assert complete(engine, REQUEST).text == expected != complete(plain, REQUEST).text
    assert engine.card.name == "tiny-llama+reader"
    assert engine.card.tokenizer == plain.card.tokenizer
    assert engine.card.weights != plain.card.weights
    assert engine.card.weights.startswith(plain.card.weights)


def test_a_wrong_base_is_refused(copied, tiny_model):
    other = base_of(tiny_model)
    with torch.no_grad():
        other.model.norm.weight[0] += 0.5
    with pytest.raises(EngineFailed, match=r"does not fit this model.*fingerprint.*model\.name"):
        adapter.merge(adapter.read(copied), other)


def test_a_fingerprint_of_a_base_outlives_other_forms_of_its_weights(tiny_model):
    model = base_of(tiny_model)
    known = adapter.fingerprint_of_base(model)
    assert adapter.fingerprint_of_base(base_of(tiny_model).bfloat16()) == known
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.mul_(1.01)  # as a quantized file would have it
    assert adapter.fingerprint_of_base(model) == known
    with torch.no_grad():
        model.model.layers[0].input_layernorm.weight[0] *= 1.1
    assert adapter.fingerprint_of_base(model) != known


def test_a_base_of_another_shape_is_refused(copied, tiny_model):
    (copied / adapter.CARD).unlink()
    other = base_of(tiny_model)
    other.model.layers[1].mlp.up_proj = torch.nn.Linear(32, 80, bias=False)
    with pytest.raises(EngineFailed, match=r"layers\.1\.mlp\.up_proj is \[64, 4\] by \[4, 32\].*\[80, 32\]"):
        adapter.merge(adapter.read(copied), other)
    del other.model.layers[1]
    with pytest.raises(EngineFailed, match=r"has no layer model\.layers\.1"):
        adapter.merge(adapter.read(copied), other)


def test_nothing_is_merged_where_something_does_not_fit(copied, tiny_model):
    tensors = load_file(copied / adapter.WEIGHTS)
    del tensors["base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"]
    save_file(tensors, copied / adapter.WEIGHTS)
    model = base_of(tiny_model)
    with pytest.raises(EngineFailed, match=r"half of the pair of model\.layers\.1\.mlp\.up_proj"):
        adapter.merge(adapter.read(copied), model)
    del tensors["base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"]
    save_file(tensors, copied / adapter.WEIGHTS)
    with pytest.raises(EngineFailed, match=r"names 1 layers .* first model\.layers\.1\.mlp\.up_proj"):
        adapter.merge(adapter.read(copied), model)
    before = base_of(tiny_model).state_dict()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("size", [0, 7, 100, 5000])
def test_a_torn_file_is_an_error(copied, tiny_model, size):
    file = copied / adapter.WEIGHTS
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(EngineFailed, match=r"adapter_model\.safetensors cannot be read .*cut short"):
        TorchEngine.open(tiny_model, adapter=copied, dtype="float32", device="cpu")


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"peft_type": "LORA"}'])
def test_a_torn_configuration_is_an_error(copied, torn):
    (copied / adapter.CONFIG).write_text(torn)
    with pytest.raises(EngineFailed, match=r"adapter_config\.json cannot be read"):
        adapter.read(copied)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "bias: all"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "the kind IA3"),
        ({"peft_type": None}, "the kind None"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"alora_invocation_tokens": [1, 2]}, "aLoRA"),
    ],
)
def test_what_is_no_plain_lora_is_refused(copied, changes, named):
    configure(copied, **changes)
    with pytest.raises(EngineFailed, match=f"{named}.*merge_and_unload"):
        adapter.read(copied)


def test_a_tensor_of_another_kind_is_refused(copied, tiny_model):
    tensors = load_file(copied / adapter.WEIGHTS)
    save_file(
        {**tensors, "base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(4, 8)}, copied / adapter.WEIGHTS
    )
    with pytest.raises(EngineFailed, match="lora_embedding_A"):
        adapter.merge(adapter.read(copied), base_of(tiny_model))


def test_a_folder_without_an_adapter_is_named_before_the_base_is_loaded(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("longleaf.engine.backends.torch.load_model", lambda *_: pytest.fail("the base was loaded"))
    with pytest.raises(ModelNotFound, match=r"is no adapter: adapter_config\.json and adapter_model\.safetensors"):
        TorchEngine.open(tiny_model, adapter=tmp_path, dtype="float32", device="cpu")


def test_the_fingerprint_changes_with_weights_and_configuration(copied):
    known = adapter.fingerprint(copied)
    (copied / "README.md").write_text("Other words.")
    assert adapter.fingerprint(copied) == known
    configure(copied, lora_alpha=13)
    changed = adapter.fingerprint(copied)
    tensors = load_file(copied / adapter.WEIGHTS)
    next(iter(tensors.values()))[0, 0] += 1
    save_file(tensors, copied / adapter.WEIGHTS)
    assert len({known, changed, adapter.fingerprint(copied)}) == 3


# The setting model.adapter


def test_any_folder_takes_any_adapter(trained, tiny_model, tmp_path):
    engine = open_engine(str(tiny_model), ModelStore(tmp_path, ()), adapter=trained, device="cpu", dtype="float32")
    assert engine.card.name == "tiny-llama+reader"


@pytest.mark.parametrize(("spec", "base_url"), [("some-model", "http://127.0.0.1:9/v1"), ("scripted:Yes.", None)])
def test_what_runs_elsewhere_takes_no_adapter(trained, tmp_path, spec, base_url):
    with pytest.raises(EngineFailed, match=r"setting model\.adapter"):
        open_engine(spec, ModelStore(tmp_path, ()), adapter=trained, base_url=base_url)


# A model of the catalog that is a base with an adapter


@pytest.fixture
def store(tiny_model, trained, tmp_path):
    from longleaf.engine import manifest

    base = shutil.copytree(tiny_model, tmp_path / "models" / "tiny")
    manifest.write(manifest.describe(base, name="tiny", kind="reader", source="here", licence="MIT"), base)
    entries = (
        CatalogEntry("tiny", "reader", "MIT", 256, "org/tiny", heads=((1, 1),)),
        CatalogEntry("tiny-reader", "reader", "MIT", 256, default=True, base="tiny", adapter=trained, heads=((0, 2),)),
    )
    return ModelStore(tmp_path / "models", entries)


def test_base_and_reader_share_their_files(store, trained):
    assert store.get("tiny-reader") == store.get("tiny") == store.get("org/tiny") == store.folder / "tiny"
    assert (store.adapter("tiny"), store.adapter("tiny-reader"), store.adapter("/x")) == (None, trained, None)
    assert [path.name for path in store.folder.iterdir() if path.is_dir()] == ["tiny"]


def test_both_are_listed(store, trained):
    plain, reader = store.list()
    assert (plain.name, plain.default, reader.name, reader.default) == ("tiny", False, "tiny-reader", True)
    assert reader.source == "tiny + adapter reader"
    assert reader.size < 100_000
    assert (plain.fault, reader.fault) == (None, None)
    (plain.path / "config.json").unlink()
    assert [model.fault for model in store.list()] == ["config.json is missing"] * 2


def test_a_reader_opens_with_its_adapter(store, monkeypatch):
    monkeypatch.setattr("longleaf.engine.heads.default_catalog", lambda: store.catalog)
    plain, reader = (open_engine(name, store, dtype="float32", device="cpu") for name in ("tiny", "tiny-reader"))
    assert (plain.card.name, reader.card.name) == ("tiny", "tiny-reader")
    assert complete(plain, REQUEST).text != complete(reader, REQUEST).text
    assert plain.card.weights != reader.card.weights
    asked = [engine.score_context("Box?", ["Box 1 is red."]).heads for engine in (plain, reader)]
    assert asked == [((1, 1),), ((0, 2),)]


def test_each_keeps_its_own_calibration(store, trained):
    measured = heads.Calibration(
        "tiny-reader", heads.fingerprint(store.get("tiny"), trained), (heads.HeadScore(1, 3, 1.0, 1.0),),
        1.0, 1.0, 1, 1, 2.0, 0.1, "2026-01-01",
    )  # fmt: skip
    assert heads.save(measured, store.get("tiny-reader"), trained).parent == store.folder / "tiny"
    assert heads.load(store.get("tiny-reader"), trained) == measured
    assert heads.load(store.get("tiny")) is None
    assert heads.known_heads(store.get("tiny"), "tiny", trained) == ((1, 3),)
    assert store.list()[0].fault is None


def test_a_reader_is_removed_with_its_base(store):
    with pytest.raises(ModelNotFound, match="longleaf models remove tiny`"):
        store.remove("tiny-reader")
    store.remove("tiny")
    assert store.list() == []


def test_an_adapter_that_is_not_installed_is_said_so(store, tmp_path):
    entries = (
        store.catalog[0],
        CatalogEntry("tiny-reader", "reader", "MIT", 256, base="tiny", adapter=tmp_path / "no"),
    )
    broken = ModelStore(store.folder, entries)
    assert "reinstall" in broken.list()[1].fault
    with pytest.raises(ModelNotFound, match="is no adapter"):
        open_engine("tiny-reader", broken, dtype="float32", device="cpu")


def test_a_reader_takes_no_second_adapter(store, trained):
    with pytest.raises(EngineFailed, match=r"its base.*model\.adapter"):
        open_engine("tiny-reader", store, adapter=trained)
