"""What holds for the Dockerfiles: bases by argument, no root, labels, SIGTERM, and an end that runs nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "images"
OURS = ("cloud", "edge", "training")
USERS = {"cloud": "10001", "edge": "10001", "training": "10001", "mosquitto": "1883", "postgresql": "999"}

every_image = pytest.mark.parametrize("image", USERS)
our_images = pytest.mark.parametrize("image", OURS)


def text(image: str) -> str:
    return (FOLDER / image / "Dockerfile").read_text()


def instructions(image: str) -> list[tuple[str, str]]:
    """Of the last stage, with their arguments."""
    joined = re.sub(r"\\\n\s*", " ", text(image))
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    stages = [number for number, line in enumerate(lines) if line.startswith("FROM ")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines[stages[-1] :]]


def test_every_image_is_looked_at() -> None:
    assert {path.parent.name for path in FOLDER.glob("*/Dockerfile")} == USERS.keys()


@every_image
def test_its_base_and_its_processor_are_arguments(image: str) -> None:
    assert instructions(image)[0] == ("FROM", "--platform=${PLATFORM} ${BASE}")
    assert re.search(r"^ARG BASE=\S+", text(image), re.MULTILINE)


@every_image
def test_it_is_not_root_by_number_so_that_kubernetes_can_tell(image: str) -> None:
    users = [argument for name, argument in instructions(image) if name == "USER"]
    assert users == [f"{USERS[image]}:{USERS[image]}"]


@every_image
def test_it_says_which_version_and_revision_it_is(image: str) -> None:
    (labels,) = [argument for name, argument in instructions(image) if name == "LABEL"]
    assert 'org.opencontainers.image.version="${VERSION}"' in labels
    assert 'org.opencontainers.image.revision="${REVISION}"' in labels


@every_image
def test_it_says_by_which_signal_it_ends_in_order(image: str) -> None:
    (signal,) = [argument for name, argument in instructions(image) if name == "STOPSIGNAL"]
    assert signal == ("SIGINT" if image == "postgresql" else "SIGTERM")


@our_images
def test_its_last_stage_runs_nothing_so_that_any_machine_can_build_it_for_any_processor(image: str) -> None:
    assert "RUN" not in {name for name, _ in instructions(image)}


@our_images
def test_nothing_is_fetched_during_its_build(image: str) -> None:
    assert not re.search(r"\b(pip|apt|apt-get|curl|wget)\b", text(image))


def test_tensorflow_is_asked_for_by_the_training_image_alone() -> None:
    script = (FOLDER.parent / "scripts" / "image").read_text()
    extras = dict(re.findall(r"^    (\w+)\) fetch_packages \"\$context\" (.*) ;;$", script, re.MULTILINE))
    assert extras == {"edge": "edge", "cloud": "serve", "training": "serve training"}
