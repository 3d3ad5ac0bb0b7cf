"""docker-compose.yml where no Docker daemon can run it: what can be checked without one."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()


def test_the_image_is_the_kafka_that_the_tests_run_on() -> None:
    (image,) = re.findall(r"image: apache/kafka:([\d.]+)", COMPOSE)
    (jar,) = re.findall(r"kafka_2.13</artifactId>\s+<version>([\d.]+)<", pom())

    assert image == jar


def test_the_broker_is_reached_at_the_address_that_readme_names() -> None:
    assert re.search(
        r"KAFKA_ADVERTISED_LISTENERS:.*//localhost:\$\{OUTLAST_KAFKA_PORT:-9092\}", COMPOSE
    )
    assert re.search(r"\$\{OUTLAST_KAFKA_PORT:-9092\}:\d+", COMPOSE)


def test_no_topic_is_made_by_accident_and_data_outlives_the_container() -> None:
    assert re.search(r'KAFKA_AUTO_CREATE_TOPICS_ENABLE: "false"', COMPOSE)
    assert re.search(r"^volumes:\n  \w+", COMPOSE, re.MULTILINE)


def pom() -> str:
    """The jars' pom."""
    return (ROOT / "deploy" / "kafka" / "pom.xml").read_text()
