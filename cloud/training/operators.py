"""What a TFLite file asks of its interpreter, read from the file."""

from __future__ import annotations

from collections.abc import Mapping

from ai_edge_litert import schema_py_generated as schema

from protos.v1.manifest_pb2 import VariantOperators

_NAMES: dict[int, str] = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def operators(model: bytes) -> list[str]:
    """The names of the operators in a TFLite file, by name; those outside the schema begin with "custom:"."""
    parsed = schema.Model.GetRootAs(model)
    return sorted({_name(parsed.OperatorCodes(index)) for index in range(parsed.OperatorCodesLength())})


def of_variants(files: Mapping[str, bytes]) -> list[VariantOperators]:
    """The operators of each variant's file."""
    return [VariantOperators(variant=variant, operators=operators(data)) for variant, data in files.items()]


def _name(code: schema.OperatorCode) -> str:
    # Two fields: the first cannot hold a number above 127, the second is 0 in files from before there was one.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    if number == schema.BuiltinOperator.CUSTOM:
        return f"custom:{(code.CustomCode() or b'').decode(errors='replace')}"
    return _NAMES.get(number, f"operator {number}")
