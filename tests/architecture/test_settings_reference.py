"""README's reference of the settings is the settings; run as a script, this prints its table."""

import re
from pathlib import Path
from typing import Final

from outlast.edges.settings.reference import every_key, rows

README: Final = Path(__file__).parents[2] / "README.md"
COLUMNS: Final = ("key", "meaning", "default")


def as_markdown() -> list[str]:
    """The lines of the table, as it stands in README."""
    return [f"| {' | '.join(cells)} |" for cells in (COLUMNS, ("---",) * 3, *rows())]


def table_in(text: str) -> list[str]:
    """The lines of the table with our columns under ``## Configuration``."""
    section = re.split(r"^## ", text.split("\n## Configuration\n", 1)[1], maxsplit=1, flags=re.M)[0]
    after = section.partition(f"{as_markdown()[0]}\n")[1:]
    return [line for line in "".join(after).partition("\n\n")[0].splitlines() if line]


def test_the_settings_in_the_readme_are_those_in_the_code() -> None:
    assert table_in(README.read_text()) == as_markdown(), (
        f"paste what `python {Path(__file__).relative_to(README.parent)}` prints"
    )


def test_the_table_is_found_where_it_stands() -> None:
    table = "\n".join(as_markdown())
    text = f"# x\n\n## Configuration\n\nText.\n\n{table}\n\nMore.\n\n## y\n\n{table}\n"

    assert table_in(text) == as_markdown()
    assert table_in("# x\n\n## Configuration\n\nNothing.\n") == []


def test_every_setting_has_its_row_and_its_meaning() -> None:
    keys = [key.name for key in every_key()]

    assert len(keys) == len(set(keys))
    assert "providers.<name>.limits.concurrency" in keys
    assert "providers.<name>.prices.<model>.input" in keys
    assert all(key.meaning for key in every_key())
    assert all(key.example is not None for key in every_key() if key.default is None)


if __name__ == "__main__":
    print("\n".join(as_markdown()))  # noqa: T201
