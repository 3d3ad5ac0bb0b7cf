"""The alerts: promtool finds them right, each has its test and its page, and all they ask is told.

Run as a script, this prints the table of metrics for deploy/README.md.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from outlast.edges.metrics import FAMILIES

ROOT: Final = Path(__file__).parents[2]
ALERTS: Final = ROOT / "deploy" / "alerts"
RULES: Final = ALERTS / "outlast.rules.yml"
TESTS: Final = ALERTS / "tests.yml"
RUNBOOK: Final = ROOT / "deploy" / "README.md"
OURS: Final = re.compile(r"\boutlast_\w+")
BOUND: Final = 60.0


def rules() -> list[dict[str, Any]]:
    """Every alert, in the order of the file."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it; what it has to say is in its output."""
    found = shutil.which("promtool")
    assert found, "promtool is missing: `python3 deploy/prepare.py` says how to get it"
    return subprocess.run(
        [found, *arguments], capture_output=True, text=True, check=False, timeout=BOUND
    )


def metric_rows() -> list[str]:
    """The table of metrics as the runbook has it."""
    rows = ["| metric | labels | meaning |", "| --- | --- | --- |"]
    for each in FAMILIES:
        names = " ".join(f"`{name}`" for name in each.series)
        labels = " ".join(f"`{label}`" for label in each.labels)
        rows.append(f"| {names} | {labels} | {each.meaning.removesuffix('.')} |")
    return rows


def test_promtool_finds_the_rules_right() -> None:
    done = promtool("check", "rules", str(RULES))

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules())} rules found" in done.stdout


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    done = promtool("test", "rules", str(TESTS))

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("number", range(len(rules())), ids=lambda n: f"{n}-{rules()[n]['alert']}")
@pytest.mark.parametrize("expression", ["vector(1)", "vector(1) > 1"], ids=["always", "never"])
def test_an_alert_that_does_always_or_never_fire_is_found(
    number: int, expression: str, tmp_path: Path
) -> None:
    broken = yaml.safe_load(RULES.read_text())
    broken["groups"][0]["rules"][number]["expr"] = expression
    (tmp_path / RULES.name).write_text(yaml.safe_dump(broken))
    shutil.copy(TESTS, tmp_path)

    assert promtool("test", "rules", str(tmp_path / TESTS.name)).returncode != 0


def test_every_metric_that_an_alert_asks_for_is_one_that_a_process_tells() -> None:
    told = {name for each in FAMILIES for name in each.series}
    asked = {name for rule in rules() for name in OURS.findall(rule["expr"])}

    assert asked
    assert asked <= told


def test_every_series_in_the_tests_has_the_labels_that_a_process_gives_it() -> None:
    labels = {name: {*each.labels, "instance"} for each in FAMILIES for name in each.series}
    document = yaml.safe_load(TESTS.read_text())
    series = [each["series"] for test in document["tests"] for each in test["input_series"]]

    assert series
    for each in series:
        name, _, rest = each.partition("{")
        assert set(re.findall(r"(\w+)=", rest)) <= labels[name], each


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_names_its_section_in_the_runbook_and_how_bad_it_is(rule: dict[str, Any]) -> None:
    path, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.M)

    assert ROOT / path == RUNBOOK
    assert anchor == rule["alert"].lower()
    assert [each.lower().replace(" ", "-") for each in headings].count(anchor) == 1
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert {"summary", "description"} <= rule["annotations"].keys()


@pytest.mark.parametrize("alert", dict.fromkeys(rule["alert"] for rule in rules()))
def test_a_section_says_what_it_means_what_to_look_at_and_what_to_do(alert: str) -> None:
    section = re.split(r"^#+ ", RUNBOOK.read_text().split(f"\n### {alert}\n")[1], flags=re.M)[0]

    assert [each for each in re.findall(r"^\*\*(.+?):\*\*", section, re.M)] == [
        "Means",
        "Look at",
        "Do",
    ]


def test_the_runbook_lists_the_metrics_there_are() -> None:
    assert "\n".join(metric_rows()) in RUNBOOK.read_text(), (
        f"paste what `python {Path(__file__).relative_to(ROOT)}` prints"
    )


if __name__ == "__main__":
    print("\n".join(metric_rows()))  # noqa: T201
