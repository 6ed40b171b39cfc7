from pathlib import Path

import click
import pytest

from edge.foundation.settings import EdgeSettings, id_of_host
from protos.kit.settings import load
from protos.topics import NAME


def complaint(**flags: object) -> str:
    with pytest.raises(click.UsageError) as caught:
        load(EdgeSettings, flags=flags)
    return caught.value.message


def test_the_trust_file_lies_in_the_data_folder_unless_said_otherwise() -> None:
    assert load(EdgeSettings, flags={"dir": "/srv/edge"}).trust == Path("/srv/edge/trust.json")
    assert load(EdgeSettings, flags={"dir": "/srv/edge", "trust": "/etc/trust.json"}).trust == Path("/etc/trust.json")


def test_paths_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    settings = load(EdgeSettings, flags={"dir": "~/edge", "trust": "~/trust.json"})
    assert (settings.dir, settings.trust) == (Path("/home/ada/edge"), Path("/home/ada/trust.json"))


@pytest.mark.parametrize(
    ("host", "device"),
    [("edge-1", "edge-1"), ("My_Host.local", "my-host.local"), ("-pi.", "pi"), ("a" * 62 + ".example", "a" * 62)],
)
def test_a_hosts_name_becomes_a_device_id(host: str, device: str) -> None:
    assert id_of_host(host) == device
    assert NAME.fullmatch(device)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("id", "Edge 1", "is not a name"),
        ("broker", "127.0.0.1:1883", "not of the form mqtt://"),
        ("uplink", "127.0.0.1", "host:port"),
        ("uplink", "http://127.0.0.1:8081", "host:port"),
        ("uplink", "127.0.0.1:0", "host:port"),
        ("dir", "/dev/null", "not a folder"),
        ("dir", "/" + "long/" * 30, "shorter path"),
        ("labels", "site", "k=v"),
        ("threads", "0", "greater than or equal to 1"),
        ("outbox_bytes", "5", "greater than or equal to 1048576"),
        ("batch_frames", "5000", "less than or equal to 4096"),
        ("report_s", "inf", "finite"),
        ("trial_s", "-1", "greater than or equal to 0"),
        ("slots", "doors=0", "give a whole number from 1 to 1000"),
        ("measured_files", "0", "greater than or equal to 1"),
        ("log_level", "loud", "'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_the_reason(name: str, value: str, reason: str) -> None:
    message = complaint(**{name: value})
    assert f"setting {name!r} (flag --{name.replace('_', '-')})" in message
    assert reason in message


@pytest.mark.parametrize("name", ["watch_slot", "frames_slot"])
def test_a_source_can_only_be_for_a_slot_that_there_is(name: str) -> None:
    assert f"{name} is 'window', which is none of the slots: main, doors" in complaint(
        **{"slots": "main=1,doors=1", name: "window"}
    )


def test_slots_come_from_the_environment_as_from_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITTORAL_EDGE_SLOTS", "main=3,doors=1")
    assert load(EdgeSettings).slots == {"main": 3, "doors": 1}


def test_every_setting_says_what_it_is_for() -> None:
    assert all(field.description for field in EdgeSettings.model_fields.values())
