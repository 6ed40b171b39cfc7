"""The cloud's chart: who runs, with what, what may reach what, what happens at an upgrade."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloud.app import DRAIN_S, ROLES
from cloud.commands import THREADS_S
from cloud.foundation.broker import MAX_PACKET_BYTES
from cloud.foundation.settings import CloudSettings
from protos.kit import settings
from tests.charts import CLOUD, MONITORED, Object, containers, named, pods, render


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    """With the values as they come."""
    return render("littoral", {})


def environment(container: Object) -> dict[str, str]:
    """The container's variables; those from Secrets as the Secrets of the README have them."""
    secrets = {
        "password": "p",
        "token": "t",
        "cloud-password": "c",
        "url": "postgresql+psycopg://littoral:p@db/littoral",
    }
    found: dict[str, str] = {}
    for variable in container["env"]:
        key = variable.get("valueFrom", {}).get("secretKeyRef", {}).get("key")
        value = secrets[key] if key else variable["value"]
        if variable["name"] == "LITTORAL_BROKER" and key:
            value = "mqtt://cloud:c@broker:1883"
        found[variable["name"]] = value.replace("$(BROKER_PASSWORD)", found.get("BROKER_PASSWORD", ""))
    return found


def loaded(container: Object, monkeypatch: pytest.MonkeyPatch) -> CloudSettings:
    """The settings that a role reads from its container's variables; a wrong name or value raises."""
    for name, value in environment(container).items():
        monkeypatch.setenv(name, value)
    return settings.load(CloudSettings)


def role(objects: list[Object], name: str) -> Object:
    (container,) = named(objects, "Deployment", f"littoral-{name}")["spec"]["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("name", sorted(ROLES))
@pytest.mark.parametrize("values", CLOUD.values(), ids=CLOUD)
def test_every_role_understands_its_settings(
    name: str, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    container = role(render("littoral", values), name)
    found = loaded(container, monkeypatch)
    assert container["args"] == ["serve", "--role", name]
    assert (found.host, found.metrics_port, found.artifacts) == ("0.0.0.0", 9090, "database")
    assert found.signing_keys == Path("/var/lib/littoral/keys" if name == "ingest" else "/var/run/littoral/keys")


def test_roles_use_the_ports_that_the_chart_names(objects: list[Object], monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(role(objects, "api"), monkeypatch)
    (api, metrics) = role(objects, "api")["ports"]
    (ingest, _) = role(objects, "ingest")["ports"]
    assert api["containerPort"] == found.api_port
    assert ingest["containerPort"] == found.ingest_port
    assert metrics["containerPort"] == found.metrics_port


def test_settings_of_the_values_reach_the_roles_as_they_were_written(monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(role(render("littoral", CLOUD["everything said"]), "ingest"), monkeypatch)
    assert found.result_days == 31
    assert found.sample_bytes == 10737418240
    assert found.drift_p == 0.01


def test_a_role_has_time_to_end_in_order(objects: list[Object]) -> None:
    for name in ROLES:
        spec = named(objects, "Deployment", f"littoral-{name}")["spec"]["template"]["spec"]
        pause = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert spec["terminationGracePeriodSeconds"] > pause + DRAIN_S + THREADS_S


def test_an_upgrade_takes_no_pod_away_before_another_is_ready(objects: list[Object]) -> None:
    for name in ROLES:
        strategy = named(objects, "Deployment", f"littoral-{name}")["spec"]["strategy"]
        assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_drain_takes_one_pod_of_each_role_at_a_time(objects: list[Object]) -> None:
    for name in ROLES:
        budget = named(objects, "PodDisruptionBudget", f"littoral-{name}")["spec"]
        deployed = named(objects, "Deployment", f"littoral-{name}")["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == deployed["selector"]


def test_pods_of_a_role_spread_over_nodes(objects: list[Object]) -> None:
    for name in ROLES:
        (spread,) = named(objects, "Deployment", f"littoral-{name}")["spec"]["template"]["spec"][
            "topologySpreadConstraints"
        ]
        assert spread["topologyKey"] == "kubernetes.io/hostname"


def test_the_number_of_pods_is_left_to_the_autoscaler_where_there_is_one() -> None:
    scaled = render("littoral", {})
    fixed = render("littoral", CLOUD["one of each"])
    for name in ("api", "ingest"):
        assert "replicas" not in named(scaled, "Deployment", f"littoral-{name}")["spec"]
        assert named(scaled, "HorizontalPodAutoscaler", f"littoral-{name}")["spec"]["minReplicas"] == 2
        assert named(fixed, "Deployment", f"littoral-{name}")["spec"]["replicas"] == 1
    assert not [found for found in fixed if found["kind"] == "HorizontalPodAutoscaler"]


@pytest.mark.parametrize(
    ("values", "hooks"),
    [
        (CLOUD["as it comes"], "pre-upgrade,pre-rollback"),
        (CLOUD["database of one's own"], "pre-install,pre-upgrade,pre-rollback"),
    ],
    ids=["bundled", "external"],
)
def test_the_database_is_migrated_before_any_pod_of_a_new_version_and_never_before_it_exists(
    values: dict[str, Any], hooks: str
) -> None:
    job = named(render("littoral", values), "Job", "littoral-migrate")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == hooks
    assert job["spec"]["template"]["spec"]["containers"][0]["args"][0] == "migrate"


def test_no_password_is_in_the_chart() -> None:
    for values in CLOUD.values():
        assert not [found for found in render("littoral", values) if found["kind"] == "Secret"]


def test_the_bundled_broker_takes_packets_as_large_as_the_embedded_one(objects: list[Object]) -> None:
    config = named(objects, "ConfigMap", "littoral-mosquitto")["data"]["mosquitto.conf"]
    assert f"max_packet_size {MAX_PACKET_BYTES}\n" in config


def test_a_change_of_the_brokers_files_starts_it_anew(objects: list[Object]) -> None:
    broker = named(objects, "StatefulSet", "littoral-mosquitto")
    assert len(broker["spec"]["template"]["metadata"]["annotations"]["littoral.dev/files"]) == 64


def test_an_upgrade_of_the_chart_alone_leaves_database_and_broker_running(objects: list[Object]) -> None:
    for name in ("mosquitto", "postgresql"):
        labels = named(objects, "StatefulSet", f"littoral-{name}")["spec"]["template"]["metadata"]["labels"]
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & labels.keys()


def test_data_outlives_the_chart(objects: list[Object]) -> None:
    for name in ("mosquitto", "postgresql"):
        spec = named(objects, "StatefulSet", f"littoral-{name}")["spec"]
        assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_all_traffic_is_refused_but_what_a_policy_names(objects: list[Object]) -> None:
    deny = named(objects, "NetworkPolicy", "littoral-deny")["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & deny.keys()
    assert all(deny["podSelector"]["matchLabels"].items() <= _labels(pod).items() for _, pod in pods(objects))


def test_the_database_answers_no_device(objects: list[Object]) -> None:
    (rule,) = named(objects, "NetworkPolicy", "littoral-postgresql")["spec"]["ingress"]
    (who,) = rule["from"]
    assert "namespaceSelector" not in who
    assert who["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "littoral"


def test_who_may_send_results_is_narrowed_without_keeping_helm_test_out() -> None:
    narrow = render("littoral", CLOUD["narrow policies"])
    (rule,) = named(narrow, "NetworkPolicy", "littoral-ingest")["spec"]["ingress"]
    own, others = rule["from"]
    assert own["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "test"
    assert others == {"ipBlock": {"cidr": "10.0.0.0/8"}}


def test_the_controller_may_do_what_it_needs_and_nothing_to_secrets_or_to_nodes(objects: list[Object]) -> None:
    rules = [
        *named(objects, "Role", "littoral-controller")["rules"],
        *named(objects, "ClusterRole", "shore-littoral-controller")["rules"],
    ]
    assert all("*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"] for rule in rules)
    touched = {resource for rule in rules for resource in rule["resources"]}
    assert "secrets" not in touched
    cluster_wide = named(objects, "ClusterRole", "shore-littoral-controller")["rules"]
    assert all(set(rule["verbs"]) == {"get", "list", "watch"} for rule in cluster_wide)


def test_without_objects_in_the_cluster_nobody_may_do_anything() -> None:
    kinds = {found["kind"] for found in render("littoral", CLOUD["no objects in the cluster"])}
    assert not kinds & {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}


def test_alerts_ask_for_metrics_that_there_are() -> None:
    rule = named(render("littoral", MONITORED), "PrometheusRule", "littoral")
    for alert in rule["spec"]["groups"][0]["rules"]:
        name = alert["expr"][alert["expr"].index("littoral_") :].partition("{")[0]
        assert name.removesuffix("_total").removesuffix("_bucket") in _metrics(), alert["alert"]


def test_training_pods_log_in_at_the_registry_by_their_account() -> None:
    account = named(render("littoral", CLOUD["everything said"]), "ServiceAccount", "littoral-training")
    assert account["imagePullSecrets"] == [{"name": "login"}]
    assert account["automountServiceAccountToken"] is False


def test_the_controller_knows_what_training_pods_run(objects: list[Object], monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(role(objects, "controller"), monkeypatch)
    assert found.cluster
    assert found.training_image == role(objects, "controller")["image"].replace("-cloud:", "-training:")
    assert found.training_account == "littoral-training"
    assert found.api == "http://littoral-api:8080"


def test_no_other_role_follows_the_cluster(objects: list[Object], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not loaded(role(objects, "api"), monkeypatch).cluster


def test_the_apis_token_is_told_to_it_and_to_training_pods_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = render("littoral", CLOUD["everything said"])
    told = {name: {one["name"]: one for one in role(objects, name)["env"]} for name in ROLES}
    assert [name for name in ROLES if "LITTORAL_API_TOKEN" in told[name]] == ["api"]
    secret = told["api"]["LITTORAL_API_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": "littoral-api", "key": "token"}
    assert loaded(role(objects, "controller"), monkeypatch).training_token == "littoral-api"


def test_every_image_can_be_named() -> None:
    values = {**CLOUD["everything said"], "postgresql": {"image": "here/pg:1"}, "mosquitto": {"image": "here/mq:1"}}
    images = {one["image"] for _, pod in pods(render("littoral", values)) for one in containers(pod)}
    assert images == {"registry.example/fleet/littoral-cloud:1.2.3", "here/pg:1", "here/mq:1"}


def _labels(pod: Object) -> dict[str, str]:
    labels: dict[str, str] = pod["metadata"]["labels"]
    return labels


def _metrics() -> set[str]:
    from prometheus_client import REGISTRY  # noqa: PLC0415 - after the modules that declare metrics

    import cloud.delivery.metrics  # noqa: PLC0415
    import cloud.uplink.metrics  # noqa: F401, PLC0415

    return {family.name for family in REGISTRY.collect()}
