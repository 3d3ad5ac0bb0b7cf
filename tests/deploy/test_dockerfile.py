"""deploy/Dockerfile where nothing can build it: read, and its own commands run without Docker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from tests.architecture.test_house import FILES
from tests.deploy import dockerfile

IMAGES = ("outlast", "local")
COPIED = [
    (stage.name, copy)
    for stage in dockerfile.stages().values()
    for copy in stage.all("COPY")
    if "from" not in copy.options
]


# --- read ---------------------------------------------------------------------------------------


def test_the_base_is_one_slim_python_of_a_pinned_version() -> None:
    stages = dockerfile.stages()
    foreign = {stage.base for stage in stages.values() if stage.base not in stages}

    assert len(foreign) == 1
    assert re.fullmatch(r"python:3\.\d+(\.\d+)?-slim-\w+", foreign.pop())


def test_the_python_of_the_image_is_one_that_outlast_is_made_for() -> None:
    (version,) = re.findall(r"^FROM python:(3\.\d+)", dockerfile.FILE.read_text(), re.MULTILINE)
    project = (dockerfile.ROOT / "pyproject.toml").read_text()

    assert f'"Programming Language :: Python :: {version}"' in project


def test_a_build_without_a_target_makes_outlast() -> None:
    assert list(dockerfile.stages())[-1] == "outlast"


@pytest.mark.parametrize("image", IMAGES)
def test_the_image_is_not_roots(image: str) -> None:
    user, _, group = dockerfile.last(image, "USER").rest.partition(":")

    # numbers, since Kubernetes' runAsNonRoot cannot look names up
    assert int(user) > 0
    assert int(group) > 0


@pytest.mark.parametrize("image", IMAGES)
def test_signals_reach_the_process_and_its_output_is_not_held_back(image: str) -> None:
    assert dockerfile.last(image, "ENTRYPOINT").exec_form
    assert all(each.exec_form for each in dockerfile.lineage(image) if each.word == "CMD")
    variables = " ".join(each.rest for each in dockerfile.lineage(image) if each.word == "ENV")
    assert "PYTHONUNBUFFERED=1" in variables


def test_the_image_of_the_stages_runs_outlast() -> None:
    assert dockerfile.entrypoint("outlast") == ["outlast"]


def test_nothing_is_fetched_but_what_a_lock_knows_by_its_hash() -> None:
    for stage in dockerfile.stages().values():
        assert not stage.all("ADD")
        for run in stage.all("RUN"):
            assert not re.search(r"\b(curl|wget|git)\b", run.rest)
            if "pip install" in run.rest:
                assert "--no-cache-dir" in run.rest
                assert "--no-deps" in run.rest
                hashed = "--require-hashes" in run.rest and "--only-binary :all:" in run.rest
                assert hashed or run.rest.endswith("--no-build-isolation .")


def test_debian_packages_leave_no_lists_and_bring_no_friends() -> None:
    runs = [run.rest for stage in dockerfile.stages().values() for run in stage.all("RUN")]
    apt = [run for run in runs if "apt-get" in run]

    assert apt
    for run in apt:
        assert "--no-install-recommends" in run
        assert run.endswith("rm -rf /var/lib/apt/lists/*")


def test_the_final_image_installs_nothing_itself() -> None:
    assert not dockerfile.stages()["outlast"].all("RUN")


def test_no_secret_is_a_build_argument_or_a_variable() -> None:
    for instruction in dockerfile.instructions(dockerfile.FILE.read_text()):
        assert instruction.word != "ARG"
        if instruction.word == "ENV":
            assert not re.search(r"KEY|TOKEN|SECRET|PASSWORD", instruction.rest)


@pytest.mark.parametrize(("stage", "copy"), COPIED)
def test_what_is_copied_exists_and_the_build_is_given_it(
    stage: str, copy: dockerfile.Instruction
) -> None:
    *sources, _ = copy.arguments
    for source in sources:
        given = [path for path in context() if PurePosixPath(path).is_relative_to(source)]
        assert given, f"{source} is not there, or .dockerignore keeps it out"


def test_the_build_is_given_what_it_copies_and_nothing_else() -> None:
    sources = {source for _, copy in COPIED for source in copy.arguments[:-1]}

    for path in context():
        assert any(PurePosixPath(path).is_relative_to(source) for source in sources), path


@pytest.mark.parametrize("path", [".env", ".git/config", ".venv/bin/python", "outlast.toml"])
def test_keys_history_and_environments_stay_outside(path: str) -> None:
    assert dockerfile.is_ignored(path)


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("a/b.py", False),
        ("a/c/__pycache__/b.pyc", True),
        ("__pycache__/b.pyc", True),
        ("d/e/f", True),
        ("d/e.lock", False),
        ("ab.py", True),
    ],
)
def test_the_last_pattern_that_fits_decides(path: str, ignored: bool) -> None:
    assert dockerfile.is_ignored(path, ["*", "!a", "!d/e.lock", "**/__pycache__"]) == ignored


def context() -> Iterator[str]:
    """What a build is given of this checkout."""
    return (path.as_posix() for path in FILES if not dockerfile.is_ignored(path.as_posix()))


# --- run ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root directory in which the stages' own COPY and RUN have been carried out."""
    root = tmp_path_factory.mktemp("image")
    for name in ("build", "outlast"):
        carry_out(root, name)
    return root


def carry_out(root: Path, name: str) -> None:
    """Every instruction of a stage that changes files, under ``root`` instead of ``/``."""
    folder = root
    for instruction in dockerfile.stages()[name].instructions:
        match instruction.word:
            case "WORKDIR":
                folder = root / instruction.rest.lstrip("/")
                folder.mkdir(parents=True, exist_ok=True)
            case "COPY" if "from" not in instruction.options:
                copy(folder, instruction.arguments)
            case "RUN":
                run(root, folder, instruction.rest)
            case _:
                pass  # changes no file


def copy(folder: Path, arguments: list[str]) -> None:
    """As COPY does: a folder's content, or a file, and only what .dockerignore lets through."""
    *sources, target = arguments
    for path in context():
        for source in sources:
            if not PurePosixPath(path).is_relative_to(source):
                continue
            inside = PurePosixPath(path).relative_to(source)
            whole = target + PurePosixPath(source).name if target.endswith("/") else target
            to = folder / whole / inside
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(dockerfile.ROOT / path, to)


def run(root: Path, folder: Path, command: str) -> None:
    """A RUN, with this Python in the place of the image's and `/opt` under ``root``.

    pip may use its cache here, so that a second run of the tests fetches nothing.
    """
    command = command.replace("--no-cache-dir ", "")
    command = command.replace("/opt/", f"{root}/opt/").replace("python -m", f"{sys.executable} -m")
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=plain(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def plain() -> dict[str, str]:
    """The environment without what belongs to this project or its Python."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OUTLAST_", "PYTHON", "VIRTUAL_ENV"))
    }


def said(built: Path, *command: str) -> str:
    """What a command of the image says, in the image's own environment alone."""
    program = built / "opt" / "outlast" / "bin" / command[0]
    done = subprocess.run(
        [program, *command[1:]],
        cwd=built,
        env={"PATH": str(program.parent), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_the_dockerfile_installs_is_outlast_whole(built: Path) -> None:
    assert said(built, "outlast", "--version").startswith("outlast ")
    assert "work" in said(built, "outlast", "run", "--help")
    assert "--host" in said(built, "python", "-m", "outlast.drill.simulator", "--help")
    schemas = "import outlast_schemas as o, pathlib as p; print(p.Path(o.__file__).parent)"
    installed = {
        path.name for path in Path(said(built, "python", "-c", schemas).strip()).rglob("*")
    }
    kept = (dockerfile.ROOT / "schemas" / "outlast_schemas").rglob("*.json")
    assert {path.name for path in kept} <= installed


def test_what_built_it_is_not_in_the_image(built: Path) -> None:
    there = "import importlib.util as u; print([n for n in {} if u.find_spec(n)])"
    tools = ["pip", "hatchling", "editables", "pathspec", "pluggy"]

    assert said(built, "python", "-c", there.format(tools)).strip() == "[]"
    assert not (built / "opt" / "outlast" / "bin" / "pip").exists()


def test_no_address_of_this_checkout_is_in_the_image(built: Path) -> None:
    packages = said(built, "python", "-c", "import outlast; print(outlast.__file__)")

    assert Path(packages.strip()).is_relative_to(built)
