"""Where settings come from, which wins, and what is said of one that cannot be."""

import pytest

from longleaf.errors import SettingsInvalid
from longleaf.settings import load, parse_overrides


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, environment):
    for name in ("LONGLEAF_LIBRARY", "LONGLEAF_EMBEDDER", "LONGLEAF_MODEL__NAME"):
        monkeypatch.delenv(name, raising=False)


def test_later_wins_and_the_rest_stays(tmp_path, monkeypatch):
    default = load(tmp_path).search
    (tmp_path / "library.toml").write_text("[search]\npassages = 2\ncandidates = 20\nreread = 12\n")
    assert load(tmp_path).search.passages == 2
    monkeypatch.setenv("LONGLEAF_SEARCH__PASSAGES", "3")
    monkeypatch.setenv("LONGLEAF_SEARCH__REREAD", "13")
    settings = load(tmp_path, parse_overrides(["search.passages=4"]))

    assert settings.search.passages == 4
    assert settings.search.reread == 13
    assert settings.search.candidates == 20
    assert settings.search.relevance == default.relevance
    assert load(tmp_path).search.passages == 3


def test_the_folder_is_the_argument_then_the_variable_then_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load().library == tmp_path / ".longleaf"
    monkeypatch.setenv("LONGLEAF_LIBRARY", str(tmp_path / "named"))
    assert load().library == tmp_path / "named"
    assert load("~/other").library == tmp_path / "other"


@pytest.mark.parametrize(
    ("toml", "env", "pairs", "named"),
    [
        ("[search]\npasages = 2\n", {}, [], "search.pasages"),
        ("serch = 2\n", {}, [], "serch"),
        ("", {"LONGLEAF_SEARCH__PASAGES": "2"}, [], "search.pasages"),
        ("", {"LONGLEAF_SERCH__PASSAGES": "2"}, [], "LONGLEAF_SERCH__PASSAGES"),
        ("", {}, ["search.pasages=2"], "search.pasages"),
        ("", {}, ["serch=2"], "serch"),
        ("[search]\npassages = 0\n", {}, [], "search.passages"),
        ("", {"LONGLEAF_ANSWER__TOKENS": "many"}, [], "answer.tokens"),
        ("", {}, ["search=2"], "search"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_where_settings_come_from(
    tmp_path, monkeypatch, toml, env, pairs, named
):
    (tmp_path / "library.toml").write_text(toml)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid) as refused:
        load(tmp_path, parse_overrides(pairs))
    for part in (named, "--set", "LONGLEAF_", "library.toml"):
        assert part in str(refused.value)


@pytest.mark.parametrize("content", [b"[search\n", b"\xff\xfe", b'library = "/elsewhere"\n'])
def test_a_settings_file_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "library.toml").write_bytes(content)
    with pytest.raises(SettingsInvalid, match=r"library\.toml"):
        load(tmp_path)


@pytest.mark.parametrize("pair", ["search.passages", "=3", ""])
def test_set_takes_a_key_and_a_value(pair):
    with pytest.raises(SettingsInvalid, match="KEY=VALUE"):
        parse_overrides([pair])


def test_set_reads_json_and_else_text():
    assert parse_overrides(["a.b=3", "a.c=x=y", "d=true", "e="]) == {"a": {"b": 3, "c": "x=y"}, "d": True, "e": ""}
    with pytest.raises(SettingsInvalid, match="a is given a value"):
        parse_overrides(["a=1", "a.b=2"])


def test_a_secret_is_never_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGLEAF_MODEL__API_KEY", "hush-hush")
    settings = load(tmp_path)
    assert settings.model.api_key.get_secret_value() == "hush-hush"
    for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert "hush" not in shown


def test_a_secret_is_not_in_an_error_either(tmp_path):
    with pytest.raises(SettingsInvalid) as refused:
        load(tmp_path, {"model": {"api_key": ["hush-hush"]}, "nonsense": "hush-hush"})
    assert "hush" not in str(refused.value)
    assert "hush" not in str(refused.value.__cause__)


def test_settings_cannot_be_changed(tmp_path):
    with pytest.raises(ValueError, match="frozen"):
        load(tmp_path).embedder = "other"
