"""Which operators a TFLite file asks for."""

from __future__ import annotations

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from cloud.training import operators
from tests import tiny_models


def test_the_operators_of_a_file_are_read_from_it() -> None:
    assert operators.operators(tiny_models.int8(tiny_models.weights())) == ["FULLY_CONNECTED"]


def test_custom_and_unknown_operators_are_told_apart() -> None:
    model = schema.ModelT()
    model.operatorCodes = [schema.OperatorCodeT() for _ in range(3)]
    for code, number in zip(model.operatorCodes, (schema.BuiltinOperator.CUSTOM, 9999, 0), strict=True):
        code.builtinCode = number
    model.operatorCodes[0].customCode = "Mine"
    builder = flatbuffers.Builder(64)
    builder.Finish(model.Pack(builder), b"TFL3")
    assert operators.operators(bytes(builder.Output())) == ["ADD", "custom:Mine", "operator 9999"]
