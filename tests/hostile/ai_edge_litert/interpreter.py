"""An interpreter with faults, for models of 2x2 float32 frames and four classes.

The file's text says what happens when it is loaded ("", "abort", "refuse"; "gone" aborts from the second time on; one
that is "fragile" crashes on frames that are FRAGILE); the first pixel of a frame, what happens on it. A frame without a
fault has the class of its second pixel.
"""

import os
import signal
import time
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

FRAGILE, CRASH, HANG, EAT, NAN, RAISE, SLOW = range(249, 256)


class OpResolverType(Enum):
    BUILTIN_WITHOUT_DEFAULT_DELEGATES = 3


class Interpreter:
    def __init__(self, model_path: str, num_threads: int) -> None:
        del num_threads
        text = Path(model_path).read_text()
        marker = Path(model_path).with_suffix(".loaded")
        if text == "abort" or (text == "gone" and marker.exists()):
            os.abort()
        if text == "refuse":
            raise ValueError("not a model")
        if text == "gone":
            marker.symlink_to(model_path)  # no write: a worker may not
        self._fragile = text == "fragile"
        self._frames = np.zeros((1, 2, 2), np.float32)

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"index": 0, "shape": [1, 2, 2], "dtype": np.float32, "quantization": (0.0, 0)}]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [{"index": 1, "shape": [1, 4], "dtype": np.float32, "quantization": (0.0, 0)}]

    def resize_tensor_input(self, index: int, shape: tuple[int, ...]) -> None:
        pass

    def allocate_tensors(self) -> None:
        pass

    def set_tensor(self, index: int, values: np.ndarray) -> None:
        del index
        self._frames = np.rint(values * 255).astype(int).reshape(len(values), 4)

    def invoke(self) -> None:
        for fault in set(self._frames[:, 0]):
            if fault == FRAGILE and self._fragile:
                _crash()
            if act := _ACTS.get(fault):
                act()

    def get_tensor(self, index: int) -> np.ndarray:
        del index
        scores = np.full((len(self._frames), 4), 0.1, np.float32)
        scores[np.arange(len(scores)), self._frames[:, 1] % 4] = 0.9
        scores[self._frames[:, 0] == NAN] = np.nan
        return scores


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang() -> None:
    time.sleep(3600)


def _eat() -> None:
    eaten = []
    try:
        while True:
            eaten.append(np.empty(50_000_000, np.uint8))
    except MemoryError:
        os.abort()  # as C++ does


def _raise() -> None:
    raise RuntimeError("a node failed to invoke")


def _slow() -> None:
    time.sleep(0.02)


_ACTS = {CRASH: _crash, HANG: _hang, EAT: _eat, RAISE: _raise, SLOW: _slow}
