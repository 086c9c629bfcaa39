"""One typed tree of settings, each with a default that works.

Later wins: defaults, `library.toml` in the library's folder, `LONGLEAF_*` variables (`LONGLEAF_SEARCH__PASSAGES=8`),
arguments (`--set search.passages=8`).
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from longleaf.engine.catalog import DEFAULT_READER
from longleaf.errors import SettingsInvalid


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(_Section):
    name: str = Field(
        DEFAULT_READER,
        description="A name from `longleaf models list`, a folder, a GGUF file, a hub id, or a server's model.",
    )
    adapter: Annotated[Path, AfterValidator(Path.expanduser)] | None = Field(
        None, description="A folder with a LoRA adapter as peft saves it, to be merged into a model that runs here."
    )
    base_url: str | None = Field(None, description="An OpenAI-compatible server, such as http://127.0.0.1:8000/v1.")
    api_key: SecretStr | None = Field(None, description="Key for that server. Better kept in LONGLEAF_MODEL__API_KEY.")
    window: int | None = Field(None, ge=256, description="Tokens of the window, where the model does not say.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto measures which is faster here.")
    device: str = Field("auto", description="auto, cpu or cuda.")


class ChunkSettings(_Section):
    tokens: int = Field(210, ge=16, description="Tokens of a chunk, counted by the embedder.")
    overlap: int = Field(32, ge=0, description="Tokens of the chunk before that lead a chunk in.")
    least: int = Field(60, ge=0, description="A heading ends a chunk that has at least this many tokens.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.overlap >= self.tokens or self.least > self.tokens:
            raise ValueError(
                f"overlap ({self.overlap}) must be below tokens ({self.tokens}), least ({self.least}) within"
            )
        return self


class SearchSettings(_Section):
    candidates: int = Field(30, ge=1, description="Passages taken by words and by vectors each.")
    reread: int = Field(16, ge=1, description="Candidates ranked again by their sentences.")
    passages: int = Field(5, ge=1, description="Passages kept for the reader.")
    relevance: float = Field(0.9, gt=0, le=1, description="Weight of relevance against novelty; 1 turns novelty off.")
    ef_search: int = Field(400, ge=10, description="HNSW search width: higher finds more, slower.")


class ReadSettings(_Section):
    """How readers of whole documents go about it."""

    part_tokens: int = Field(1024, ge=64, description="Tokens of a part, by the reading model's count.")
    memory_tokens: int = Field(256, ge=16, description="Tokens carried from part to part at most.")
    members: int = Field(8, ge=1, description="Parts read at once by a team.")
    depth: int = Field(2, ge=1, description="How deep a search over clarifying questions goes.")
    branches: int = Field(3, ge=1, description="Clarifying questions a level.")
    hops: int = Field(3, ge=1, description="Questions that one question is taken apart into, at most.")
    gate: bool = Field(False, description="Skip parts that search finds nothing in; coverage lists them.")
    stop_when_sure: bool = Field(False, description="Stop reading once the answer stays; coverage says so.")
    provisional_every: int = Field(0, ge=0, description="A provisional answer after every so many parts; 0 for none.")
    rerank: bool = Field(False, description="Order what search found by the model's own attention.")
    templates: bool = Field(False, description="Reuse ways of thinking that answered earlier questions.")
    demonstrations: int = Field(0, ge=0, le=5, description="Examples the model makes for itself from the text.")
    overwrite: Literal["guarded", "plain"] = Field(
        "guarded", description="guarded: code checks and fills the memory; plain: the model's reply is the memory."
    )
    copy_spans: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Hold an answer to words that stand together in the text; auto: where a model was taught to.",
    )
    kv_policy: Literal["dense", "quest", "page_mass"] = Field(
        "dense", description="How a reply reads a text that is kept: all of it, or pages chosen by quest or page_mass."
    )
    kv_budget: int = Field(512, ge=64, description="Tokens of a kept text that a step reads, where pages are chosen.")
    memory_schema: str = Field("auto", description="Schema of a structured memory; auto chooses one by the question.")


class AnswerSettings(_Section):
    reader: str = Field("auto", description="Who reads; auto chooses by the question, and says why.")
    quotes: int = Field(5, ge=1, description="Quotes shown at most.")
    tokens: int = Field(96, ge=1, description="Tokens of the model's wording at most.")
    seed: int = Field(0, description="Seed of the model's draws.")


class MemorySettings(_Section):
    """What is kept across questions."""

    remember: bool = Field(True, description="Keep answers as facts, and questions in conversations.")
    recall: int = Field(3, ge=0, description="Known facts shown beside an answer at most; 0 for none.")
    history_tokens: int = Field(
        1024, ge=64, description="A conversation's history in view; longer ones are summarised."
    )


class KvSettings(_Section):
    """What is kept of documents that were read, so that they need not be read again."""

    keep: bool = Field(True, description="Keep what the reader kv computed of a document as files of the library.")
    size_limit: float = Field(20.0, gt=0, description="GB at most; what was used longest ago goes for the next.")
    format: Literal["auto", "exact", "int8", "int4"] = Field(
        "auto", description="Numbers' format; auto: exact where a text fits the window, int8 where it is longer."
    )


class Settings(BaseSettings):
    """All settings. `load` makes one."""

    model_config = SettingsConfigDict(
        env_prefix="LONGLEAF_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        validate_default=True,
        hide_input_in_errors=True,  # it may be a key
    )

    library: Path = Field(Path("~/.longleaf"), description="The library's folder.")
    database: str | None = Field(None, description="postgresql://… instead of the library's own SQLite file.")
    chroma: str | None = Field(None, description="URL of a Chroma server instead of the library's own index.")
    embedder: str = Field("all-minilm-l6-v2", description="A sentence model: name, folder or hub id; or hashed-words.")
    model: ModelSettings = ModelSettings()
    chunk: ChunkSettings = ChunkSettings()
    search: SearchSettings = SearchSettings()
    read: ReadSettings = ReadSettings()
    answer: AnswerSettings = AnswerSettings()
    memory: MemorySettings = MemorySettings()
    kv: KvSettings = KvSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        given = init_settings()
        return (
            init_settings,
            env_settings,
            _TomlFile(settings_cls, Path(given["library"]).expanduser() / "library.toml"),
        )


class _TomlFile(PydanticBaseSettingsSource):
    def __init__(self, settings_cls: type[BaseSettings], file: Path) -> None:
        super().__init__(settings_cls)
        self._file = file

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        if not self._file.is_file():
            return {}
        try:
            values = tomllib.loads(self._file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsInvalid(f"{self._file} is not valid TOML: {error}. Correct it or remove it.") from error
        if "library" in values:
            raise SettingsInvalid(f"{self._file} sets `library`, which is the folder it lies in. Remove the line.")
        return values


def load(library: Path | str | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings for a library. `overrides` is a nested mapping that wins over everything else.

    Raises `SettingsInvalid`.
    """
    folder = Path(library or os.environ.get("LONGLEAF_LIBRARY") or "~/.longleaf").expanduser()
    origin = f"It comes from --set, a LONGLEAF_ variable or {folder / 'library.toml'}."
    if strangers := _unknown_variables():
        raise SettingsInvalid(f"A setting cannot be used: {', '.join(strangers)}: there is no such section. {origin}")
    try:
        return Settings(**{**(overrides or {}), "library": folder})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise SettingsInvalid(f"A setting cannot be used: {faults}. {origin}") from error


def _unknown_variables() -> list[str]:
    """Variables that can only be meant for a section, and name none: pydantic-settings passes over these."""
    sections = {name.upper() for name in Settings.model_fields}
    given = (name for name in os.environ if name.upper().startswith("LONGLEAF_") and "__" in name)
    return sorted(name for name in given if name.upper().removeprefix("LONGLEAF_").partition("__")[0] not in sections)


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """`["search.passages=8"]` as a nested mapping. Values are JSON where they can be, else text."""
    result: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise SettingsInvalid(f"--set takes KEY=VALUE, such as search.passages=8; got {pair!r}.")
        place = result
        *outer, last = key.strip().split(".")
        for name in outer:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise SettingsInvalid(f"--set {pair!r}: {name} is given a value of its own too.")
        try:
            place[last] = json.loads(value)
        except json.JSONDecodeError:
            place[last] = value
    return result
