"""Which variants a device considers, measures and takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.update import variants
from edge.update.requirements import Facts, Incompatible
from edge.update.variants import Means, Measured, Plan, Speed, Table, Unusable
from protos.v1.manifest_pb2 import (
    DELEGATE_NONE,
    Artifact,
    Expected,
    GoldenVector,
    Manifest,
    Requirements,
    TensorSpec,
    Variant,
    VariantOperators,
)

FACTS = Facts("x86_64", "1.0", frozenset({"CONV_2D"}), "a processor")
MEANS = Means(threads=2, files=2)


def variant(name: str, file: bytes = b"", **fields: object) -> Variant:
    made = Variant(name=name, artifact=Artifact(digest=file or name.encode(), size=1000), input=TensorSpec(dtype=name))
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def manifest(*of: Variant, judged: list[list[str]] | None = None, version: int = 1, floor: float = 0) -> Manifest:
    names = [[one.name for one in of]] if judged is None else judged
    return Manifest(
        model="digits",
        version=version,
        variants=of,
        golden=[GoldenVector(expected=[Expected(variant=name) for name in known]) for known in names],
        accuracy_floor=floor,
    )


def considered(made: Manifest, means: Means = MEANS, former: Table | None = None) -> list[str]:
    return [option.name for option in variants.plan(made, FACTS, means, former).options]


def problems(plan: Plan) -> dict[str, str]:
    return {row.variant: row.problem for row in plan.rows if row.problem}


@pytest.mark.parametrize(
    ("names", "judged", "expected"),
    [
        (["float32", "int8"], [["int8", "float32"]], ["int8", "float32"]),
        (["float32", "int8"], [["int8", "float32"], ["float32"]], ["float32"]),
        (["float16", "int8"], [["float16", "int8"]], ["int8", "float16"]),
        (["float16"], [["float16"]], ["float16"]),
    ],
)
def test_only_variants_that_every_golden_vector_judges_are_considered_the_preferred_first(
    names: list[str], judged: list[list[str]], expected: list[str]
) -> None:
    assert considered(manifest(*map(variant, names), judged=judged)) == expected


@pytest.mark.parametrize(("names", "judged"), [(["int8"], []), ([], [["int8"]]), (["int8"], [["float32"]])])
def test_a_version_without_a_judged_variant_is_unusable_and_says_which_it_has(
    names: list[str], judged: list[list[str]]
) -> None:
    with pytest.raises(Unusable, match="no variant can be run here: the manifest has"):
        variants.plan(manifest(*map(variant, names), judged=judged), FACTS, MEANS)


@pytest.mark.parametrize(
    ("unfit", "why"),
    [
        (variant("int8", delegate=7), "its delegate, number 7, is not known to this agent"),
        (variant("int8", threads=4), "it needs 4 threads, there are 2 here"),
        (variant("int8", accuracy=0.979), "its accuracy, 97.90%, is below the version's floor of 98.00%"),
    ],
)
def test_a_variant_that_does_not_fit_is_not_considered_and_the_table_says_why(unfit: Variant, why: str) -> None:
    plan = variants.plan(manifest(unfit, variant("float32", accuracy=0.98), floor=0.98), FACTS, MEANS)
    assert [option.name for option in plan.options] == ["float32"]
    assert problems(plan) == {"int8": why}


def test_a_variant_whose_accuracy_is_not_known_is_left_to_the_golden_vectors() -> None:
    assert considered(manifest(variant("int8"), floor=0.98)) == ["int8"]


def test_a_variant_whose_operators_are_not_known_here_leaves_the_others() -> None:
    made = manifest(variant("int8"), variant("float32"))
    made.requirements.operators.add(variant="int8", operators=["LSTM"])
    plan = variants.plan(made, FACTS, MEANS)
    assert [option.name for option in plan.options] == ["float32"]
    assert "does not know LSTM" in problems(plan)["int8"]


@pytest.mark.parametrize(
    "required",
    [
        Requirements(architectures=["armv7l"]),
        Requirements(operators=[VariantOperators(variant=name, operators=["LSTM"]) for name in ("int8", "float32")]),
    ],
)
def test_a_version_for_other_devices_is_incompatible(required: Requirements) -> None:
    made = manifest(variant("int8"), variant("float32"))
    made.requirements.CopyFrom(required)
    with pytest.raises(Incompatible, match="incompatible"):
        variants.plan(made, FACTS, MEANS)


def test_no_more_files_are_considered_than_a_device_measures_but_all_variants_of_a_file() -> None:
    made = manifest(
        variant("int8", b"1"),
        variant("float32", b"2"),
        variant("float16", b"3"),
        variant("int8-plain", b"1", delegate=DELEGATE_NONE),
    )
    assert considered(made, Means(1, files=1)) == ["int8", "int8-plain"]
    assert considered(made, Means(1, files=2)) == ["int8", "float32", "int8-plain"]
    plan = variants.plan(made, FACTS, Means(1, files=2))
    assert problems(plan) == {"float16": "not measured: this device measures 2 files of a version"}


def decided(made: Manifest, found: Mapping[str, float | str], accuracy: Mapping[str, float] | None = None) -> Table:
    """The table of a version whose variants took so many µs, or failed."""
    for one in made.variants:
        one.accuracy = (accuracy or {}).get(one.name, 0.0)
    plan = variants.plan(made, FACTS, Means(2, 9))
    told = {name: what if isinstance(what, str) else Speed(what, what) for name, what in found.items()}
    rows = variants.decided(made, told, plan)
    return Table("00", made.model, made.version, "a processor", variants.choose(rows, plan.options), rows)


def test_the_fastest_variant_is_taken() -> None:
    assert decided(manifest(variant("int8"), variant("float32")), {"int8": 120.0, "float32": 70.0}).chosen == "float32"


def test_of_variants_that_are_as_fast_the_most_accurate_is_taken() -> None:
    found = {"int8": 70.0, "float32": 72.0}
    accuracy = {"int8": 0.98, "float32": 0.99}
    assert decided(manifest(variant("int8"), variant("float32")), found, accuracy).chosen == "float32"
    assert decided(manifest(variant("int8"), variant("float32")), found).chosen == "int8"


def test_a_variant_that_fails_here_is_not_taken_and_the_table_says_why() -> None:
    table = decided(manifest(variant("int8"), variant("float32")), {"int8": "it crashed", "float32": 300.0})
    assert table.chosen == "float32"
    assert [row.problem for row in table.rows] == ["it crashed", ""]


def test_nothing_is_taken_when_all_fail() -> None:
    table = decided(manifest(variant("int8"), variant("float32")), {"int8": "it crashed", "float32": "it hung"})
    assert table.chosen == ""


def test_what_was_clearly_slower_in_the_version_before_is_not_measured_again() -> None:
    before = decided(manifest(variant("int8"), variant("float32")), {"int8": 120.0, "float32": 70.0})
    plan = variants.plan(manifest(variant("int8"), variant("float32"), version=2), FACTS, MEANS, before)
    assert [option.name for option in plan.options] == ["float32"]
    assert plan.relies_on_former
    rows = [(row.variant, row.frame_us, row.measured_in, row.problem) for row in plan.rows]
    assert rows == [("int8", 120.0, 1, ""), ("float32", 70.0, 1, "")]


def test_nor_is_it_in_the_versions_after() -> None:
    made = manifest(variant("int8"), variant("float32"))
    table = decided(made, {"int8": 120.0, "float32": 70.0})
    for version in (2, 3):
        plan = variants.plan(manifest(variant("int8"), variant("float32"), version=version), FACTS, MEANS, table)
        assert [option.name for option in plan.options] == ["float32"]
        table = replace(table, version=version, rows=plan.rows)


def test_what_was_nearly_as_fast_is_measured_again() -> None:
    before = decided(manifest(variant("int8"), variant("float32")), {"int8": 80.0, "float32": 70.0})
    assert considered(manifest(variant("int8"), variant("float32"), version=2), former=before) == ["int8", "float32"]


@pytest.mark.parametrize("changed", [{"size": 1200}, {"dtype": "other"}])
def test_another_network_is_measured_anew(changed: Mapping[str, object]) -> None:
    before = decided(manifest(variant("int8"), variant("float32")), {"int8": 120.0, "float32": 70.0})
    new = variant("int8")
    new.artifact.size = int(str(changed.get("size", new.artifact.size)))
    new.input.dtype = str(changed.get("dtype", new.input.dtype))
    assert considered(manifest(new, variant("float32"), version=2), former=before) == ["int8", "float32"]


rows = st.lists(
    st.builds(
        Measured,
        variant=st.text(min_size=1),
        threads=st.just(1),
        accuracy=st.floats(0, 1),
        form=st.just(""),
        size=st.just(1),
        single_us=st.just(1.0),
        frame_us=st.floats(0.1, 1e6),
        measured_in=st.just(1),
        problem=st.sampled_from(["", "it crashed"]),
    ),
    min_size=1,
    unique_by=lambda row: row.variant,
)


@given(rows)
def test_the_choice_is_usable_whenever_anything_is_and_no_slower_than_the_margin(rows: list[Measured]) -> None:
    options = [Variant(name=row.variant) for row in rows]
    chosen = variants.choose(rows, options)
    usable = {row.variant: row.frame_us for row in rows if not row.problem}
    if usable:
        assert usable[chosen] <= variants.AS_FAST * min(usable.values())
    else:
        assert chosen == ""


@given(rows)
def test_the_choice_does_not_change_with_what_cannot_be_run(rows: list[Measured]) -> None:
    options = [Variant(name=row.variant) for row in rows]
    broken = replace(rows[0], variant="broken one", problem="it crashed", frame_us=0.01)
    assert variants.choose([*rows, broken], [*options, Variant(name="broken one")]) == variants.choose(rows, options)
