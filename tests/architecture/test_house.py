"""The house is as agreed: what stands at the top, how long a module is, what README says."""

import ast
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from outlast_schemas.topics import DAY_MS, HOUR_MS, Topic, Topics

ROOT: Final = Path(__file__).parents[2]
TOP: Final = {
    "pyproject.toml",
    "README.md",
    "docker-compose.yml",
    "LICENSE",
    "CHANGELOG.md",
    "SECURITY.md",
    "services",
    "schemas",
    "deploy",
    "tests",
}
LONGEST: Final = 300
COLUMNS: Final = ["topic", "key", "written by", "read by", "cleanup, retention"]


def tracked() -> list[Path]:
    """All files of the repository: those of git, else of the directory it was unpacked into."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        return [
            path.relative_to(ROOT)
            for path in ROOT.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        ]
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


FILES: Final = tracked()
MODULES: Final = [
    path for path in FILES if path.suffix == ".py" and path.parts[0] in {"services", "schemas"}
]
DOCUMENTED: Final = [path for path in FILES if path.suffix == ".py"]


def test_at_the_top_stands_what_was_agreed_and_nothing_else() -> None:
    top = {path.parts[0] for path in FILES}

    assert {name for name in top if not name.startswith(".")} == TOP


def test_the_two_packages_lie_alone_in_their_roots() -> None:
    inside = {"/".join(path.parts[:2]) for path in MODULES}

    assert inside == {"services/outlast", "schemas/outlast_schemas"}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_fits_into_a_head(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("path", DOCUMENTED, ids=str)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse((ROOT / path).read_text()))


# --- README's topics ------------------------------------------------------------------------


def topic_table() -> list[list[str]]:
    """README's rows as the code has them; ``python tests/architecture/test_house.py`` prints it."""
    topics = Topics()
    rows: list[list[str]] = []
    for topic in topics.table(("<provider>",), ("default", "<name>")):
        name = f"`{topic.name}`"
        if topic.name in topics.retries[1:]:
            rows[-1][0] += f" `{topic.name.removeprefix('outlast.retry')}`"
        elif topic.name == topics.results("<name>"):
            rows[-1][0] += f", {name}"
        else:
            rows.append(
                [name, topic.key, topic.written_by, topic.read_by, f"{topic.cleanup}{_kept(topic)}"]
            )
    return rows


def _kept(topic: Topic) -> str:
    if topic.retention_ms is None:
        return ""
    days, rest = divmod(topic.retention_ms, DAY_MS)
    return f", {days} d" if not rest else f", {topic.retention_ms // HOUR_MS} h"


def as_markdown(rows: list[list[str]]) -> str:
    """The table as it stands in README."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def rows_under(heading: str, text: str) -> list[list[str]]:
    """The cells of the first Markdown table under a heading, its head first."""
    section = re.split(r"^#+ ", text.split(f"\n## {heading}\n", 1)[1], maxsplit=1, flags=re.M)[0]
    lines = [line.strip() for line in section.splitlines() if line.lstrip().startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]


def test_the_topics_in_the_readme_are_those_in_the_code() -> None:
    head, *rows = rows_under("Topics", (ROOT / "README.md").read_text())

    assert head == COLUMNS
    assert rows == topic_table()


def test_the_table_names_every_topic_once() -> None:
    rows = topic_table()
    kept = {row[0]: row[4] for row in rows}

    assert (
        rows_under("Topics", f"# x\n\n## Topics\n\n{as_markdown(rows)}\n\n## y\n| z |")[1:] == rows
    )
    assert list(kept) == [
        "`outlast.jobs`",
        "`outlast.work.<provider>`",
        "`outlast.retry.0s` `.5s` `.30s` `.2m` `.10m`",
        "`outlast.parked`",
        "`outlast.results`, `outlast.results.<name>`",
        "`outlast.dead-letters`",
        "`outlast.vitals`",
        "`outlast.lent`",
        "`outlast.health`",
        "`outlast.control`",
    ]
    assert list(kept.values()) == [
        "delete, 7 d",
        "delete, 14 d",
        "delete, 14 d",
        "delete, 14 d",
        "delete, 7 d",
        "delete, 30 d",
        "delete, 1 h",
        "delete, 1 h",
        "compact",
        "compact,delete, 30 d",
    ]


if __name__ == "__main__":
    print(as_markdown(topic_table()))  # noqa: T201
