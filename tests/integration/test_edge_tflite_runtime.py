"""The older package of the interpreter, which is all there is on 32-bit Arm, in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny_models

ROOT = Path(__file__).parents[2]
PACKAGES = ["tflite-runtime==2.14.0", "numpy<2", "protobuf>=7.35.1,<8"]

ANSWER = """
import json, sys
from pathlib import Path
import numpy as np
from edge.inference import engine
from protos.v1.manifest_pb2 import Manifest
manifest = Manifest.FromString(Path(sys.argv[1]).read_bytes())
labels = {}
for variant in manifest.variants:
    made = engine.Engine(Path(sys.argv[2]) / variant.name, variant, manifest.preprocessing)
    made.measure()
    frames = np.stack([np.frombuffer(v.frame, np.uint8) for v in manifest.golden]).reshape(-1, *made.frame_shape)
    labels[variant.name] = made.classify(frames).label.tolist()
print(json.dumps({"interpreter": engine.Interpreter.__module__, "labels": labels}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter whose environment has tflite-runtime, and not its successor."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    environment = tmp_path_factory.mktemp("tflite") / "env"
    python = environment / "bin" / "python"
    steps = (["venv", "--python", sys.executable, str(environment)], ["pip", "install", "--python", python, *PACKAGES])
    for step in steps:
        made = subprocess.run([uv, "--quiet", *step], capture_output=True, text=True, check=False)
        if made.returncode and not os.environ.get("CI"):
            pytest.skip(f"tflite-runtime cannot be installed here: {made.stderr}")
        assert not made.returncode, made.stderr
    return python


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="tflite-runtime's last release is for Python 3.11")
def test_the_older_interpreter_answers_as_its_successor_does(python: Path, tmp_path: Path) -> None:
    weights = tiny_models.weights()
    files = {"int8": tiny_models.int8(weights), "float32": tiny_models.float32(weights)}
    (tmp_path / "manifest").write_bytes(tiny_models.manifest(files).SerializeToString())
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    run = subprocess.run(
        [python, "-c", ANSWER, str(tmp_path / "manifest"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr
    answered = json.loads(run.stdout)
    assert answered["interpreter"] == "tflite_runtime.interpreter"
    assert answered["labels"] == {"int8": [0, 1, 2, 3], "float32": [0, 1, 2, 3]}
