"""``outlast init``: what it writes is right as it is, and as well with every default in it."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from outlast.cli.commands import app
from outlast.core.policy import Target
from outlast.edges.settings import Kafka, Settings, load
from outlast.edges.settings.reference import Key, every_key, literal
from outlast.edges.settings.shape import Shape
from outlast.edges.settings.template import template

DEFAULT = re.compile(r"^#(?=[a-z\[])", re.M)
WRITTEN = re.compile(r"^(?:#|# e\.g\. )?([\w.\"-]+) = ", re.M)
KEYS_WITH_EXAMPLE = [key for key in every_key() if key.example is not None]


def loaded(directory: Path, text: str, **environ: str) -> Settings:
    path = directory / "tried.toml"
    path.write_text(text)
    return load(environ, str(path))


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_it_writes_loads_without_mistakes(cwd: Path) -> None:
    done = CliRunner().invoke(app, ["init"])

    assert done.exit_code == 0, done.output
    settings = load({})
    assert settings.path == "outlast.toml"
    assert settings.kafka == Kafka()
    assert settings.catalogue.routes["chat"].targets == (Target("local", "your-model"),)
    assert list(settings.catalogue.providers) == ["local"]


def test_it_says_what_to_do_next(cwd: Path) -> None:
    here = CliRunner().invoke(app, ["init"]).output
    there = CliRunner().invoke(app, ["init", "--path", "other.toml"]).output

    assert here.startswith("wrote outlast.toml\n")
    assert "outlast topics apply" in here
    assert "outlast --config other.toml topics apply" in there
    assert max(map(len, (here + there).splitlines())) <= 80


def test_every_default_written_out_says_what_is_so_without_it(tmp_path: Path) -> None:
    as_it_is = loaded(tmp_path, template())
    families = {"deepseek", "openai", "anthropic"}

    written_out = loaded(tmp_path, DEFAULT.sub("", template()))

    providers = dict(written_out.catalogue.providers)
    assert {providers.pop(name).family for name in families} == families
    assert providers == as_it_is.catalogue.providers
    assert written_out.kafka == as_it_is.kafka
    assert written_out.catalogue.routes == as_it_is.catalogue.routes
    assert written_out.catalogue.defaults == as_it_is.catalogue.defaults


def test_every_key_stands_in_it_once() -> None:
    own, _, rest = template().partition("# The other families")
    route = rest.partition("[routes.chat]")[2]

    found = [match[1].rpartition(".")[2] for match in WRITTEN.finditer(own + route)]

    assert found == [key.name.rpartition(".")[2] for key in every_key()]


@pytest.mark.parametrize("key", KEYS_WITH_EXAMPLE, ids=lambda key: key.name)
def test_an_example_is_a_value_that_its_key_takes(key: Key) -> None:
    value: object = tomllib.loads(f"x = {literal(key.example)}")["x"]
    place = re.sub(r"<\w+>", "x", key.name)
    for part in reversed(place.split(".")):
        value = {part: value}

    assert place not in wrong_places(value)


def wrong_places(raw: object) -> list[str]:
    """The dotted keys whose values are no good; what is missing beside them is no matter."""
    try:
        Shape.model_validate(raw)
    except ValidationError as error:
        found = [each for each in error.errors() if each["type"] != "missing"]
        return [".".join(str(part) for part in each["loc"]) for each in found]
    return []


def test_it_can_be_read_in_a_terminal() -> None:
    assert max(map(len, template().splitlines())) <= 100
    assert all(key.meaning.endswith(".") for key in every_key())


def test_what_is_there_is_not_overwritten_unless_it_is_asked_for(cwd: Path) -> None:
    path = cwd / "outlast.toml"
    path.write_text("# mine\n")

    refused = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["init"])

    assert refused.exit_code == 2
    assert "outlast.toml is there already; --force overwrites it" in refused.output
    assert path.read_text() == "# mine\n"
    assert CliRunner().invoke(app, ["init", "--force"]).exit_code == 0
    assert path.read_text() == template()


def test_a_folder_is_not_said_to_be_there_already(cwd: Path) -> None:
    (cwd / "etc").mkdir()

    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["init", "--path", "etc"])

    assert done.exit_code == 2
    assert "'etc' is a directory" in done.output


def test_a_place_that_cannot_be_written_is_said_plainly(cwd: Path) -> None:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["init", "--path", "nowhere/x.toml"])

    assert done.exit_code == 2
    assert "nowhere/x.toml cannot be written: No such file or directory" in done.output
