"""What the documentation tells people to type works."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from longleaf.settings import load

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    return [body for kind, body in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands(page, program):
    lines = [line for body in blocks(page, "console") for line in body.splitlines()]
    return [shlex.split(line[2:], comments=True)[1:] for line in lines if line.startswith(f"$ {program} ")]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page, "longleaf")], ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page, shell):
    (shell.folder / "examples").symlink_to(ROOT / "examples")
    for argv in commands(page, "longleaf"):
        done = shell(*argv)
        # 3 is "not found", which an embedder without a model says easily. `doctor` may miss something here that the
        # page's reader has; that it ran and said so is what counts.
        assert done.code in (0, 3) or argv[0] == "doctor", f"longleaf {shlex.join(argv)}: {done.err}"
        assert done.out.strip(), f"longleaf {shlex.join(argv)} printed nothing"


def test_the_readme_opens_with_the_two_commands_and_make_knows_them():
    targets = [argv[0] for argv in commands(ROOT / "README.md", "make")]
    makefile = (ROOT / "Makefile").read_text()

    assert targets[:2] == ["ask", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")], ids=lambda page: page.name)
def test_settings_in_a_page_are_settings(page, tmp_path):
    for body in blocks(page, "toml"):
        (tmp_path / "library.toml").write_text(body)
        settings = load(tmp_path)
        for section, values in tomllib.loads(body).items():
            for name, value in values.items():
                assert getattr(getattr(settings, section), name) == value


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_in_a_page_runs(page, real, tmp_path, models_folder):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    if models_folder.is_dir():
        (tmp_path / "models").symlink_to(models_folder)
    for body in blocks(page, "python"):
        done = real(code=body)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_documentation_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
