from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.agent import AgentFailed, holding
from edge.cli import main
from edge.models.service import ModelStore
from edge.update.entities import State, Target, Update
from edge.update.memory import Memory
from edge.update.tables import Tables
from edge.update.variants import Measured, Table
from edge.uplink.entities import NewBatch
from edge.uplink.outbox import Outbox
from tests import tiny_models


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("command", [[], ["run"], ["status"]])
def test_every_help_shows_an_example(command: list[str]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert "Example: littoral-edge" in " ".join(result.output.split())


def test_a_wrong_setting_is_wrong_usage_and_named(tmp_path: Path) -> None:
    result = invoke("run", "--id", "Not A Name", "--dir", str(tmp_path))
    assert result.exit_code == 2
    assert "setting 'id' (flag --id)" in result.output


def test_without_a_trust_file_the_agent_says_where_to_get_it(tmp_path: Path) -> None:
    result = invoke("run", "--id", "edge-1", "--dir", str(tmp_path))
    assert result.exit_code == 1
    assert "Copy trust.json from the cloud's data folder" in result.output


def test_the_status_of_a_folder_that_no_agent_ever_used_is_a_failure_that_names_the_flag(tmp_path: Path) -> None:
    result = invoke("status", "--dir", str(tmp_path))
    assert result.exit_code == 1
    assert "--dir" in result.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of an agent that refused version 2 and ended with 3 results and an event in its outboxes."""
    target = Target("default", "digits", 2, b"\xab" * 32, 7, issued_ms=1, expires_ms=2, rollout="")
    with holding(tmp_path, "edge-1"):
        Memory(tmp_path, "default").save(Update(State.REFUSED, target, reason="golden vectors: 8 of 8 wrong"))
        outbox = Outbox.open(tmp_path / "outbox.sqlite", 2**20)
        outbox.append([NewBatch(3, b"payload", "camera", 3)])
        outbox.close()
        events = Outbox.open(tmp_path / "events.sqlite", 2**20)
        events.append([NewBatch(1, b"event", "journal", 1)])
        events.close()
    return tmp_path


def test_the_status_of_an_agent_that_does_not_run_is_read_from_its_folder(folder: Path) -> None:
    status = json.loads(invoke("status", "--dir", str(folder), "--json").output)
    assert status == {
        "agent_running": False,
        "device": "edge-1",
        "uplink": "waiting",
        "alarms": [],
        "slot": "default",
        "others": [],
        "variant": "",
        "variants": [],
        "running": None,
        "desired": {"model": "digits", "version": 2, "manifest": "ab" * 32},
        "generation": 7,
        "state": "refused",
        "since_ms": 0,
        "reason": "golden vectors: 8 of 8 wrong",
        "chunks_total": 0,
        "chunks_present": 0,
        "outbox": {"rows": 3, "bytes": 7, "dropped": 0},
        "events": {"rows": 1, "bytes": 5, "dropped": 0},
        "telemetry": {"rows": 0, "bytes": 0, "dropped": 0},
    }


def test_reading_the_status_changes_nothing_of_the_folder_that_an_agent_relies_on(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir() if "sqlite" not in path.name}
    invoke("status", "--dir", str(folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir() if "sqlite" not in path.name} == before


def test_the_status_for_people_tells_the_reason(folder: Path) -> None:
    lines = invoke("status", "--dir", str(folder)).output.splitlines()
    assert "agent     not running" in lines
    assert "desired   digits version 2 (abababababab), generation 7" in lines
    assert "reason    golden vectors: 8 of 8 wrong" in lines
    assert "outbox    3 results, 7 bytes, 0 dropped" in lines
    assert "events    1 events, 5 bytes, 0 dropped" in lines
    assert "telemetry 0 intervals, 0 bytes, 0 dropped" in lines


def test_the_status_for_people_tells_each_slot_and_what_was_measured_of_its_variants(folder: Path) -> None:
    file = tiny_models.int8(tiny_models.weights())
    manifest = tiny_models.manifest({"int8": file, "float32": tiny_models.float32(tiny_models.weights())})
    payload = manifest.SerializeToString()
    artifact = folder / "artifact"
    artifact.write_bytes(file)
    store = ModelStore.open(folder / "models", "doors")
    store.stage(payload, "int8", artifact)
    store.begin_trial()
    store.commit()
    digest = hashlib.sha256(payload).hexdigest()
    rows = (
        Measured("int8", 1, 0.98, "", 1, 12.5, 10.0, 1),
        Measured("float32", 1, 0.97, "", 1, problem="it crashed"),
    )
    Tables(store.folder).put(Table(digest, "tiny", 1, "a processor", "int8", rows))
    Memory(folder, "doors").save(Update(State.COMMITTED))
    lines = invoke("status", "--dir", str(folder)).output.splitlines()
    after = lines[lines.index("slot      doors") :]
    assert after[1] == f"model     tiny version 1 ({digest[:12]})"
    assert "variant   int8 (in use): 10.0 µs a frame, 12.5 µs alone, measured in version 1, accuracy 98.00%" in after
    assert "variant   float32: it crashed" in after


def test_a_folder_is_held_by_one_agent_at_a_time_and_free_afterwards(tmp_path: Path) -> None:
    with holding(tmp_path, "edge-1"), pytest.raises(AgentFailed, match="device edge-1"), holding(tmp_path, "edge-2"):
        pass
    with holding(tmp_path, "edge-2"):
        pass


def test_the_agent_needs_nothing_that_only_the_cloud_has() -> None:
    absent = ("rich", "tensorflow", "keras", "fastapi", "sqlalchemy", "amqtt", "httpx", "cloud", "simulators")
    program = f"import sys; sys.modules |= dict.fromkeys({absent}); import edge.agent, edge.cli, edge.update.trial"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
