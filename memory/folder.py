"""`LibraryFolder`: where the parts of a library lie on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longleaf.memory.errors import LibraryMissing


@dataclass(frozen=True, slots=True)
class LibraryFolder:
    """A library is this folder and all that is in it: copying the folder copies the library."""

    path: Path

    def __init__(self, path: Path | str) -> None:
        object.__setattr__(self, "path", Path(path).expanduser().resolve())

    @property
    def database_file(self) -> Path:
        return self.path / "longleaf.db"

    @property
    def chroma(self) -> Path:
        return self.path / "chroma"

    @property
    def kv(self) -> Path:
        return self.path / "kv"

    @property
    def models(self) -> Path:
        return self.path / "models"

    @property
    def settings_file(self) -> Path:
        return self.path / "library.toml"

    @property
    def lock_file(self) -> Path:
        return self.path / "library.lock"

    @property
    def holder_file(self) -> Path:
        """Who holds the lock; beside the lock file, which some systems let nobody read while it is held."""
        return self.path / "library.lock.json"

    def create(self) -> LibraryFolder:
        """Make the folder and its parts where they are missing. Safe to call twice.

        Raises `LibraryMissing` where a file is in the way or the place may not be written to.
        """
        for part in (self.path, self.chroma, self.kv, self.models):
            try:
                part.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise LibraryMissing(
                    f"{part} cannot be a folder: a file is in the way. Move it, or name another folder."
                ) from error
            except PermissionError as error:
                raise LibraryMissing(
                    f"{part} cannot be made: the place is not yours to write to. Name another folder."
                ) from error
        return self

    def exists(self) -> bool:
        """Whether a library was made here: it has a database of its own, or settings that name one."""
        return self.database_file.is_file() or self.settings_file.is_file()

    def require(self) -> LibraryFolder:
        """This folder, if there is a library in it; raises `LibraryMissing` otherwise."""
        if not self.exists():
            raise LibraryMissing(
                f"There is no library in {self.path}. Add a document to make one (`longleaf add FILE`), "
                "or name the folder of another."
            )
        return self

    def inside(self, *parts: str) -> Path:
        """A path under the folder. Raises `ValueError` where the parts lead out, by `..` or a link."""
        target = self.path.joinpath(*parts).resolve()
        if not target.is_relative_to(self.path):
            raise ValueError(f"{'/'.join(parts)} leads out of the library in {self.path}")
        return target
