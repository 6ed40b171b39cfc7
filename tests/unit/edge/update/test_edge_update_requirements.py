"""Which devices a version is for."""

from __future__ import annotations

import pytest

from edge.inference import operators
from edge.update import requirements
from edge.update.requirements import Facts, Incompatible
from protos.v1.manifest_pb2 import Requirements, VariantOperators

FACTS = Facts("aarch64", "0.10.1", frozenset({"CONV_2D", "ADD"}))


def operators_of(variant: str, *names: str) -> Requirements:
    return Requirements(operators=[VariantOperators(variant=variant, operators=names)])


@pytest.mark.parametrize(
    "met",
    [
        Requirements(),
        Requirements(architectures=["x86_64", "aarch64"]),
        Requirements(agent_version="0.9"),
        Requirements(agent_version="0.10.1.0"),
        operators_of("int8", "ADD"),
        operators_of("float32", "LSTM"),
    ],
)
def test_what_is_met_or_not_required_passes(met: Requirements) -> None:
    requirements.check(met, "int8", FACTS)


@pytest.mark.parametrize(
    ("unmet", "reason"),
    [
        (Requirements(architectures=["x86_64"]), "made for x86_64, this device is aarch64"),
        (Requirements(agent_version="0.11"), r"needs agent 0\.11 or newer, this is 0\.10\.1"),
        (Requirements(agent_version="1"), "needs agent 1 or newer"),
        (operators_of("int8", "ADD", "custom:Mine", "LSTM"), "does not know LSTM, custom:Mine"),
    ],
)
def test_what_the_device_lacks_is_named(unmet: Requirements, reason: str) -> None:
    with pytest.raises(Incompatible, match=f"^incompatible: .*{reason}"):
        requirements.check(unmet, "int8", FACTS)


def test_an_interpreter_that_cannot_tell_leaves_it_to_the_golden_vectors() -> None:
    requirements.check(operators_of("int8", "LSTM"), "int8", Facts("aarch64", "1", None))


def test_an_agent_that_knows_no_version_of_itself_is_not_new_enough() -> None:
    with pytest.raises(Incompatible, match="this is not installed"):
        requirements.check(Requirements(agent_version="0.1"), "int8", Facts("aarch64", "not installed", None))


def test_the_interpreter_here_knows_the_operators_of_common_networks() -> None:
    known = operators.known()
    assert known is not None
    assert known > {"CONV_2D", "FULLY_CONNECTED", "SOFTMAX", "QUANTIZE"}
    assert "NO_SUCH_OPERATOR" not in known
