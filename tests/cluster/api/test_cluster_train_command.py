"""`littoral train --on kubernetes` makes a TrainingRun and follows it; the test plays the controller."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud.cluster.entities import GROUP, RUNS, VERSION
from tests.cluster.api.objects_kit import Objects
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)


@contextmanager
def training(objects: Objects, kubeconfig: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "cloud.cli", "train", "--on", "kubernetes", "--namespace", objects.namespace]
    environment = os.environ | {"KUBECONFIG": str(kubeconfig)}
    process = subprocess.Popen(
        [*command, *more], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def made(objects: Objects) -> dict[str, Any]:
    until(lambda: len(objects.listed(RUNS)) == 1)
    return objects.listed(RUNS)[0]


def tell(objects: Objects, **status: Any) -> None:
    name = made(objects)["metadata"]["name"]
    objects.custom.patch_namespaced_custom_object_status(
        GROUP, VERSION, objects.namespace, RUNS, name, {"status": status}
    )


def test_it_asks_for_what_the_flags_say_and_ends_with_the_version(objects: Objects, kubeconfig: Path) -> None:
    flags = "--workers 2 --checkpoints /var/lib/checkpoints --data-volume mnist --data /data/mnist --model digits.2"
    flags += " --epochs 4 --seed 7 --image mine:1 --backoff-limit 3 --json"
    with training(objects, kubeconfig, *flags.split()) as command:
        run = made(objects)
        assert run["spec"] == {
            "model": "digits.2",
            "data": "/data/mnist",
            "dataVolume": {"persistentVolumeClaim": "mnist"},
            "checkpoints": {"hostPath": "/var/lib/checkpoints"},
            "epochs": 4,
            "seed": 7,
            "workers": 2,
            "image": "mine:1",
            "backoffLimit": 3,
        }
        tell(objects, phase="Running", progress="2/4", message="2 workers train", restarts=1)
        tell(objects, phase="Succeeded", version=5, message="the model is trained and registered")
        shown, told = command.communicate(timeout=60)
    assert command.returncode == 0, told
    printed = json.loads(shown)
    assert (printed["model"], printed["version"], printed["restarts"]) == ("digits.2", 5, 1)
    assert (printed["run"], printed["namespace"]) == (run["metadata"]["name"], objects.namespace)


def test_a_failure_is_its_reason_and_exit_code_1(objects: Objects, kubeconfig: Path) -> None:
    with training(objects, kubeconfig, "--epochs", "2") as command:
        tell(objects, phase="Failed", message="worker 0 ended with 65: /nowhere is no folder")
        shown, told = command.communicate(timeout=60)
    assert (command.returncode, shown) == (1, "")
    assert "failed: worker 0 ended with 65: /nowhere is no folder" in told


def test_ctrl_c_ends_the_watching_and_says_how_to_end_the_training(objects: Objects, kubeconfig: Path) -> None:
    with training(objects, kubeconfig) as command:
        name = made(objects)["metadata"]["name"]
        assert command.stderr is not None
        assert name in command.stderr.readline()  # from now on it follows
        command.send_signal(signal.SIGINT)
        _, told = command.communicate(timeout=60)
    assert command.returncode == 130
    assert f"kubectl delete trainingrun {name} -n {objects.namespace}" in " ".join(told.split())
    assert len(objects.listed(RUNS)) == 1


def test_what_the_cluster_refuses_is_one_sentence(objects: Objects, kubeconfig: Path) -> None:
    with training(objects, kubeconfig, "--workers", "2") as command:
        _, told = command.communicate(timeout=60)
    assert command.returncode == 1
    assert "several workers need checkpoints" in told
    assert "Traceback" not in told
    assert objects.listed(RUNS) == []


def test_a_run_that_is_deleted_while_it_is_followed_is_told(objects: Objects, kubeconfig: Path) -> None:
    with training(objects, kubeconfig) as command:
        objects.delete(RUNS, made(objects)["metadata"]["name"])
        _, told = command.communicate(timeout=60)
    assert command.returncode == 1
    assert "not found" in told
