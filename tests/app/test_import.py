"""Importing Longleaf and asking for help are light."""

import pytest

import longleaf
from longleaf import agents

HEAVY = ("torch", "transformers", "chromadb", "langgraph", "sqlalchemy")


def loaded(real, code, names):
    done = real(code=f"import sys\n{code}\nsys.stderr.write(' '.join(n for n in {names!r} if n in sys.modules))")
    assert done.returncode == 0, done.stderr
    return done.stderr.split()


def test_importing_the_package_imports_nothing_heavy(real):
    assert loaded(real, "import longleaf", (*HEAVY, "pydantic", "typer", "rich")) == []


def test_help_imports_nothing_heavy(real):
    code = "from longleaf.cli import main\nsys.argv = ['longleaf', '--help']\ntry: main()\nexcept SystemExit: pass"
    assert loaded(real, code, HEAVY) == []


def test_listing_loads_neither_model_nor_index(real):
    code = "from longleaf import Library\nwith Library.open('lib') as library: library.list()"
    assert loaded(real, code, ("torch", "chromadb", "langgraph")) == []


def test_prompts_can_be_had_with_the_engine_alone(real):
    code = "from longleaf.agents.prompt import load\nfrom longleaf.agents.denial import denied\nload('reason')"
    assert loaded(real, code, (*HEAVY, "pydantic", "filelock")) == []


def test_every_name_of_the_agents_is_there():
    assert all(getattr(agents, name) is not None for name in agents.__all__)
    assert dir(agents) == agents.__all__
    with pytest.raises(AttributeError, match="nonsense"):
        _ = agents.nonsense


@pytest.mark.parametrize("name", longleaf.__all__)
def test_every_public_name_is_there(name):
    assert getattr(longleaf, name) is not None
    assert name in dir(longleaf)


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = longleaf.nonsense
