"""Rollouts over HTTP, and the commands against a real server."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from click.testing import CliRunner
from fastapi import FastAPI
from fastapi.testclient import TestClient
from small_fleet import World, manifest_of

from cloud.fleet import commands as fleet_commands
from cloud.fleet import routes as fleet_routes
from cloud.rollouts import commands, routes

PATH = "/api/v1/rollouts"


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    world = World(database_url)
    yield world
    world.database.close()


@pytest.fixture
def api(world: World) -> FastAPI:
    api = FastAPI()
    api.include_router(routes.router(world.rollouts, lambda: world.now_ms))
    api.include_router(fleet_routes.router(world.fleet))
    return api


@pytest.fixture
def client(api: FastAPI) -> TestClient:
    return TestClient(api)


@pytest.fixture
def address(api: FastAPI) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(api, log_level="error"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_a_rollout_is_created_with_what_was_not_said_filled_in(client: TestClient) -> None:
    created = client.post(PATH, json={"model": "digits", "version": 1})
    assert created.status_code == 201
    assert {name: value for name, value in created.json().items() if name not in {"members", "created_ms"}} == {
        "id": "r-1",
        "model": "digits",
        "version": 1,
        "slot": "default",
        "state": "running",
        "reason": "",
        "selector": {},
        "gates": {"max_failed_share": 0.0, "min_succeeded_share": 1.0, "soak_s": 0, "lease_s": 60, "timeout_s": 300},
        "waves": [
            {**dict.fromkeys(COUNTS, 0), "size": 1, "pending": 1, "state": "running"},
            {**dict.fromkeys(COUNTS, 0), "size": 4, "pending": 4, "state": "pending"},
        ],
    }
    assert created.json()["members"][0] == {
        "device": "edge-1",
        "wave": 0,
        "state": "deployed",
        "generation": 1,
        "reason": "",
    }


COUNTS = ("succeeded", "failed", "unreachable", "incompatible", "rolled_back", "held")


@pytest.mark.parametrize(
    ("body", "status", "complaint"),
    [
        ({"version": 99}, 404, "no digits 99"),
        ({"model": "cats"}, 404, "no cats 1"),
        ({"selector": {"site": "z"}}, 409, "no device has the labels site=z: there are site=a, site=b"),
        ({"waves": ["rest", "1"]}, 422, "must be the last"),
        ({"waves": ["many"]}, 422, "wave 'many' is none: write a count"),
    ],
)
def test_what_cannot_be_rolled_out_is_refused_in_a_sentence(
    client: TestClient, body: dict[str, object], status: int, complaint: str
) -> None:
    answer = client.post(PATH, json={"model": "digits", "version": 1, **body})
    assert answer.status_code == status
    assert complaint in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"version": "1"}, "version"),
        ({"version": 0}, "version"),
        ({"priority": 5}, "priority"),
        ({"gates": {"max_failed_share": 1.5}}, "max_failed_share"),
        ({"gates": {"soak": 5}}, "soak"),
        ({"gates": {"timeout_s": "NaN"}}, "timeout_s"),
        ({"waves": ["1"] * 101}, "waves"),
        ({"waves": ["1" * 17]}, "waves"),
        ({"selector": {str(number): "x" for number in range(17)}}, "selector"),
        ({"model": "x" * 64}, "model"),
    ],
)
def test_a_request_of_the_wrong_form_is_refused_with_the_place(
    client: TestClient, body: dict[str, object], place: str
) -> None:
    answer = client.post(PATH, json={"model": "digits", "version": 1, **body})
    assert answer.status_code == 422
    assert any(place in error["loc"] for error in answer.json()["detail"])


def test_a_rollout_is_paused_resumed_and_aborted(client: TestClient) -> None:
    client.post(PATH, json={"model": "digits", "version": 1})
    assert client.post(f"{PATH}/r-1/pause").json()["state"] == "paused"
    refused = client.post(f"{PATH}/r-1/pause")
    assert (refused.status_code, refused.json()["detail"]) == (
        409,
        "rollout r-1 is paused: pause is not possible now",
    )
    assert client.post(f"{PATH}/r-1/resume").json()["state"] == "running"
    assert client.post(f"{PATH}/r-1/abort").json()["state"] == "aborted"
    assert client.post(f"{PATH}/r-1/abort").status_code == 409


def test_an_unknown_rollout_is_not_found(client: TestClient) -> None:
    for answer in (client.get(f"{PATH}/r-0"), client.post(f"{PATH}/r-0/abort")):
        assert (answer.status_code, answer.json()["detail"]) == (
            404,
            "there is no rollout 'r-0'; `littoral rollout list` (GET /api/v1/rollouts) shows them",
        )


def test_the_list_is_the_same_without_members(client: TestClient, world: World) -> None:
    client.post(PATH, json={"model": "digits", "version": 1})
    world.turns(3)
    one = client.get(f"{PATH}/r-1").json()
    assert len(one.pop("members")) == 5
    assert client.get(PATH).json() == [one]


def test_devices_and_receipts_are_as_the_devices_told(client: TestClient, world: World) -> None:
    world.devices["edge-1"].refuses.add(manifest_of(2))
    world.until_end(world.create(1))
    world.until_end(world.create(2))
    world.turns(1)
    first = client.get("/api/v1/devices/edge-1").json()
    assert (first["online"], first["state"], first["generation"]) == (True, "committed", 3)
    assert client.get("/api/v1/devices", params={"limit": 1, "after": "edge-1"}).json()[0]["id"] == "edge-2"
    (refused,) = client.get("/api/v1/receipts", params={"outcome": "refused"}).json()
    assert (refused["device"], refused["version"], refused["generation"]) == ("edge-1", 2, 2)
    assert client.get("/api/v1/devices/edge-0").status_code == 404
    assert client.delete("/api/v1/devices/edge-1").status_code == 204
    assert client.get("/api/v1/devices/edge-1").status_code == 404


def run(address: str, *arguments: str) -> str:
    ended = CliRunner().invoke(commands.rollout, [*arguments, "--api", address])
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def test_commands_create_show_and_watch(address: str, world: World) -> None:
    created = json.loads(
        run(address, "create", "--model=digits", "--version=1", "--selector=site=a", "--soak=0", "--json")
    )
    assert (created["id"], created["selector"], [wave["size"] for wave in created["waves"]]) == (
        "r-1",
        {"site": "a"},
        [1, 1],
    )
    world.turns(3)
    last = json.loads(run(address, "watch", "r-1", "--json").splitlines()[-1])
    assert last["state"] == "succeeded"
    assert "r-1: digits 1, succeeded" in run(address, "show", "r-1")
    assert "r-1" in run(address, "list")
    shown = CliRunner().invoke(fleet_commands.devices, ["list", "--api", address])
    assert "edge-5" in shown.stdout
    assert json.loads(CliRunner().invoke(fleet_commands.devices, ["list", "--json", "--api", address]).stdout)


def test_watch_ends_with_1_when_the_rollout_did_not_succeed(address: str) -> None:
    run(address, "create", "--model=digits", "--version=1")
    for wish in ("pause", "resume", "abort"):
        run(address, wish, "r-1")
    ended = CliRunner().invoke(commands.rollout, ["watch", "r-1", "--api", address])
    assert ended.exit_code == 1
    assert "aborted on request" in ended.stdout


def test_a_refused_wish_is_one_sentence(address: str) -> None:
    ended = CliRunner().invoke(commands.rollout, ["abort", "r-0", "--api", address])
    assert ended.exit_code == 1
    assert (
        ended.stderr == "Error: there is no rollout 'r-0'; `littoral rollout list` (GET /api/v1/rollouts) shows them\n"
    )


def test_a_selector_without_a_value_is_wrong_usage() -> None:
    ended = CliRunner().invoke(commands.rollout, ["create", "--model=digits", "--version=1", "--selector=site"])
    assert ended.exit_code == 2
    assert "label=value" in ended.stderr


@pytest.mark.parametrize("group", [commands.rollout, fleet_commands.devices])
def test_every_subcommand_has_help_with_an_example(group: object) -> None:
    for name in group.commands:  # type: ignore[attr-defined]
        shown = CliRunner().invoke(group, [name, "--help"])  # type: ignore[arg-type]
        assert "Example" in shown.stdout
