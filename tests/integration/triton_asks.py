"""What `tritonclient` gets from an agent: `python -m tests.integration.triton_asks http|grpc HOST:PORT FRAMES`.

A process of its own: its generated messages have the names of ours, which one process cannot hold twice. FRAMES is a
.npy file. Writes one JSON object to standard output.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

DATATYPES = {"uint8": "UINT8", "int16": "INT16", "float32": "FP32"}


def main(transport: str, address: str, file: str) -> None:
    """Ask everything once."""
    api: Any = importlib.import_module(f"tritonclient.{transport}")
    client, frames = api.InferenceServerClient(address), np.load(file)
    told = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready("tiny"),
        "version_ready": client.is_model_ready("tiny", "7"),
        "other_ready": client.is_model_ready("other"),
        "server": _plain(client.get_server_metadata()),
        "model": _plain(client.get_model_metadata("tiny")),
        "all_outputs": _answer(client.infer("tiny", [_input(api, frames)], request_id="42")),
        "labels_alone": _answer(
            client.infer("tiny", [_input(api, frames)], outputs=[api.InferRequestedOutput("label")], model_version="7")
        ),
        "refused": {
            "other": _refusal(api, client, "other", frames),
            "shape": _refusal(api, client, "tiny", frames[:, :1]),
            "large": _refusal(api, client, "tiny", np.zeros((1 << 21, *frames.shape[1:]), frames.dtype)),
        },
    }
    if transport == "http":
        told["as_json"] = _answer(client.infer("tiny", [_input(api, frames, binary=False)], outputs=_json_outputs(api)))
        told["compressed"] = _answer(client.infer("tiny", [_input(api, frames)], request_compression_algorithm="gzip"))
    json.dump(told, sys.stdout)


def _input(api: Any, frames: np.ndarray, *, binary: bool = True) -> Any:
    made = api.InferInput("frames", list(frames.shape), DATATYPES[frames.dtype.name])
    made.set_data_from_numpy(frames, **({} if binary else {"binary_data": False}))
    return made


def _json_outputs(api: Any) -> list[Any]:
    return [api.InferRequestedOutput(name, binary_data=False) for name in ("label", "confidence")]


def _answer(found: Any) -> dict[str, Any]:
    outputs = {name: found.as_numpy(name) for name in ("label", "confidence")}
    return {"id": _plain(found.get_response())["id"]} | {
        name: None if values is None else [values.dtype.name, values.tolist()] for name, values in outputs.items()
    }


def _refusal(api: Any, client: Any, model: str, frames: np.ndarray) -> str:
    try:
        client.infer(model, [_input(api, frames)])
    except InferenceServerException as error:
        return str(error)
    return "not refused"


def _plain(message: Any) -> dict[str, Any]:
    if isinstance(message, dict):
        return {"id": ""} | message
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415 - of gRPC's answers alone

    return {"id": ""} | MessageToDict(message, preserving_proto_field_name=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
