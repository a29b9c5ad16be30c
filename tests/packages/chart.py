#!/usr/bin/env python3
"""Checks the Helm chart and the plain manifest of a gateway.

Every file of values in config/helm/examples is linted, and rendered by Helm's engine. Its manifests must be valid in several versions
of Kubernetes, fit together, and have a configuration with which the program starts, is found healthy by the pod's own probes, and
stops. Runs with the Python of target/packages/venv, which tests/run makes. STREAMGAUGE_BIN names the program.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

import helm_python
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
from programs import BIN, ROOT, free_port, started  # noqa: E402

CHART = ROOT / "config/helm/streamgauge"
EXAMPLES = sorted((ROOT / "config/helm/examples").glob("*.yaml"))
GATEWAY = ROOT / "config/kubernetes/gateway.yaml"
# The oldest version that the chart names and the tool knows, one in between, and the newest that the tool knows.
KUBERNETES = ["1.25", "1.33", "1.37"]
# Seconds for the records after the drain.
RECORDS = 10
KEY = "a-key-of-the-chart-tests"
URLS = {"ledger-url": "postgres://u:p@127.0.0.1:1/usage", "redis-url": "redis://127.0.0.1:1"}

failures = []


def check(name, condition, reason):
    if not condition:
        failures.append(name)
        print(f"FAILED  {name}: {reason}", flush=True)


def render(chart, values, name="gauge"):
    """The objects of a release, and its notes."""
    manifests = chart.render(values, name=name, namespace="llm")
    texts = [text for path, text in manifests.items() if path.endswith(".yaml")]
    return [item for text in texts for item in yaml.safe_load_all(text) if item]


def one(objects, *kinds):
    found = [item for item in objects if item["kind"] in kinds]
    return found[0] if len(found) == 1 else None


def validate(name, item):
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            check(f"{name}: {item['kind']} for {version}", False, error)


def check_objects(name, objects):
    """The parts fit together: labels, ports, names, folders and times."""
    workload = one(objects, "Deployment", "StatefulSet")
    pod = workload["spec"]["template"]
    container = pod["spec"]["containers"][0]
    labels = pod["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    check(name, workload["spec"]["selector"]["matchLabels"].items() <= labels, "the selector finds other pods")
    for item in objects:
        kind, spec = item["kind"], item.get("spec", {})
        if kind != "ServiceMonitor":
            validate(name, item)
        if kind == "Service":
            check(name, spec["selector"].items() <= labels, f"the Service {item['metadata']['name']} finds other pods")
            check(name, all(port["targetPort"] in ports for port in spec["ports"]), "a port of a Service is none of the pod")
        if kind == "PodDisruptionBudget":
            check(name, spec["selector"]["matchLabels"].items() <= labels, "the budget is for other pods")
        if kind == "NetworkPolicy":
            check(name, spec["podSelector"]["matchLabels"].items() <= labels, "the policy is for other pods")
            open_ports = {port["port"] for rule in spec["ingress"] for port in rule["ports"]}
            check(name, open_ports == set(ports), f"the policy opens {open_ports}, the pod has {set(ports)}")
        if kind == "HorizontalPodAutoscaler":
            target = spec["scaleTargetRef"]
            right = (target["kind"], target["name"]) == (workload["kind"], workload["metadata"]["name"])
            check(name, right and "replicas" not in workload["spec"], "the autoscaler does not decide")
        if kind == "ServiceMonitor":
            services = [other for other in objects if other["kind"] == "Service"]
            chosen = [other for other in services if spec["selector"]["matchLabels"].items() <= other["metadata"]["labels"].items()]
            named = [port["name"] for other in chosen for port in other["spec"]["ports"]]
            check(name, named == [endpoint["port"] for endpoint in spec["endpoints"]], f"it scrapes the ports {named}")
    if workload["kind"] == "StatefulSet":
        governing = [item for item in objects if item["kind"] == "Service" and item["metadata"]["name"] == workload["spec"]["serviceName"]]
        check(name, governing and governing[0]["spec"]["clusterIP"] == "None", "the pods have no names")
    check_pod(name, pod["spec"], container)
    return container


def check_pod(name, pod, container):
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    check(name, not any("subPath" in mount for mount in mounts.values()), "a file mounted by subPath never changes")
    check(name, mounts["config"]["mountPath"] == "/etc/streamgauge", "the configuration is not where the program looks")
    check(name, "/var/lib/streamgauge" in [mount["mountPath"] for mount in mounts.values()], "the ledger has no volume")
    check(name, container["securityContext"]["readOnlyRootFilesystem"] and pod["securityContext"]["runAsUser"] == 65532, "it has rights")


def configuration(objects):
    return one(objects, "ConfigMap")["data"]["streamgauge.toml"]


def environment(container):
    """The container's variables; those from Secrets have a key of this test."""
    return {entry["name"]: entry.get("value", KEY) for entry in container.get("env", [])}


def certificate(folder):
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    files = ["-keyout", folder / "tls.key", "-out", folder / "tls.crt"]
    subprocess.run([*command, "-subj", "/CN=localhost", *files], check=True, capture_output=True)


def with_secrets(name, text, container, folder):
    """The configuration with files of `folder` for those of mounted Secrets."""
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    certificate(folder)

    def file(match):
        path = pathlib.Path(match[1])
        check(name, str(path.parent) in mounts, f"{path} is in no volume")
        here = folder / path.name
        if path.suffix not in (".crt", ".key"):
            here.write_text(URLS.get(path.name, f"{KEY}-{path.name}"))
        return f'file = "{here}"'

    return re.sub(r'file = "([^"]+)"', file, text)


def check_program(name, objects, container, grace):
    """The program with the pod's configuration and environment: `check`, a start, the probes, a stop."""
    variables = environment(container)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        path = folder / "streamgauge.toml"
        path.write_text(with_secrets(name, configuration(objects), container, folder))
        options = {"cwd": folder, "env": {**variables, "STREAMGAUGE_LEDGER__PATH": str(folder / "usage.db")}}
        effective = effective_configuration(path, options)
        if effective is None:
            return
        server = effective["server"]
        expected = seconds(server["stop_delay"]) + seconds(server["drain_timeout"]) + RECORDS
        check(name, grace == expected, f"the pod is killed after {grace} s, and needs {expected} s")
        # The addresses are those of the pod, with ports that are free here.
        listen = {f"STREAMGAUGE_{table}__LISTEN": effective[table.lower()]["listen"] for table in ("SERVER", "ADMIN")}
        options["env"] |= {key: re.sub(r":\d+$", ":0", value) for key, value in listen.items()}
        said = run(f"{name}: check", ["check", "-c", path], options)
        check(f"{name}: check", "warning" not in said, said)
        admin = free_port()
        options["env"] |= {
            "STREAMGAUGE_SERVER__LISTEN": "127.0.0.1:0",
            "STREAMGAUGE_ADMIN__LISTEN": f"127.0.0.1:{admin}",
            "STREAMGAUGE_SERVER__STOP_DELAY": "0s",
            "STREAMGAUGE_CONFIG": str(path),
        }
        with started(name, [BIN, *container["args"]], admin, folder / "log", **options) as child:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                run(f"{name}: {probe}", container[probe]["exec"]["command"][1:], options)
        log = (folder / "log").read_text()
        check(f"{name}: stop", child.returncode == 0, f"status {child.returncode}\n{log}")


def effective_configuration(path, options):
    result = subprocess.run([BIN, "config", "show", "-c", path, "--format", "json"], text=True, capture_output=True, timeout=60, **options)
    if result.returncode:
        return check("config show", False, result.stdout + result.stderr)
    return json.loads(result.stdout)


def seconds(duration):
    """The seconds of a duration such as "1m30s"."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h)", duration))


def run(name, arguments, options):
    result = subprocess.run([BIN, *arguments], text=True, capture_output=True, timeout=60, **options)
    said = result.stdout + result.stderr
    check(name, result.returncode == 0, f"status {result.returncode}\n{said}")
    return said


def check_example(chart, path):
    name = path.stem
    values = yaml.safe_load(path.read_text())
    report = helm_python.lint(CHART, values, strict=True)
    # 1 is advice, such as to have an icon.
    wrong = [message for message in report["messages"] if message["severity"] > 1]
    check(f"{name}: lint", report["total_charts_linted"] == 1 and not report["errors"] and not wrong, report)
    objects = render(chart, values)
    container = check_objects(name, objects)
    grace = one(objects, "Deployment", "StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    check_program(name, objects, container, grace)
    print(f"ok      {name}: {', '.join(item['kind'] for item in objects)}", flush=True)


def pod_template(chart, values):
    return one(render(chart, values), "Deployment")["spec"]["template"]


def check_values(chart):
    """The effect of single values."""
    changed = {"config": "[upstreams.openai]\n"}
    check("rolloutOnChange = false", pod_template(chart, {}) == pod_template(chart, changed), "a change restarts the pods")
    rollout = {"rolloutOnChange": True}
    check("rolloutOnChange = true", pod_template(chart, rollout) != pod_template(chart, {**rollout, **changed}), "a change restarts no pod")
    kinds = sorted(item["kind"] for item in render(chart, {}))
    check("the defaults", kinds == ["ConfigMap", "Deployment", "Service"], kinds)
    names = {item["metadata"]["name"] for item in render(chart, {}, name="streamgauge")}
    check("a release called streamgauge", names == {"streamgauge"}, names)
    on_disk = [item["kind"] for item in render(chart, {"persistence": {"enabled": True}})]
    check("persistence", "StatefulSet" in on_disk and "Deployment" not in on_disk, on_disk)
    check_labels(chart)
    check_notes(chart)
    # Every switch at the same time, with the longest name of a release.
    switches = {
        "admin": {"expose": True},
        "serviceAccount": {"create": True},
        **{switch: {"enabled": True} for switch in ("persistence", "serviceMonitor", "podDisruptionBudget", "autoscaling", "networkPolicy")},
    }
    objects = render(chart, switches, name="a" * 53)
    check_objects("all switches", objects)
    check("all switches", len(objects) == 10, [item["kind"] for item in objects])
    check("all switches", all(len(item["metadata"]["name"]) <= 63 for item in objects), "a name is too long")


class EachKeyOnce(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, as strict parsers do."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep) for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise yaml.constructor.ConstructorError(None, None, f"a key is there twice: {keys}", node.start_mark)
        return super().construct_mapping(node, deep)


def check_labels(chart):
    """Labels of the values replace those of the chart, except the ones that find the pods."""
    labels = {"app.kubernetes.io/version": "of-mine", "app.kubernetes.io/name": "another", "team": "llm"}
    monitor = {"enabled": True, "labels": labels, "tokenSecret": {"name": "a", "key": "b"}}
    values = {"podLabels": labels, "admin": {"expose": True}, "serviceMonitor": monitor}
    manifests = chart.render(values, name="gauge", namespace="llm")
    texts = [text for path, text in manifests.items() if path.endswith(".yaml")]
    try:
        objects = [item for text in texts for item in yaml.load_all(text, EachKeyOnce) if item]
    except yaml.constructor.ConstructorError as error:
        check("labels", False, error)
        return
    found = [one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"], one(objects, "ServiceMonitor")["metadata"]["labels"]]
    for labels in found:
        named = [labels[name] for name in ("app.kubernetes.io/version", "app.kubernetes.io/name", "team")]
        check("labels", named == ["of-mine", "streamgauge", "llm"], named)
    endpoint = one(objects, "ServiceMonitor")["spec"]["endpoints"][0]
    check("serviceMonitor", endpoint["scheme"] == "https" and endpoint["authorization"], endpoint)
    plain = chart.render({**values, "serviceMonitor": {**monitor, "scheme": "http", "tokenInTheClear": True}}, name="gauge", namespace="llm")
    check("tokenInTheClear", any("scheme: http\n" in text for text in plain.values()), "the scheme is not http")


def check_notes(chart):
    """The notes name the scheme of each server."""
    for config, schemes in (
        ("[log]\n", ("http", "http")),
        ("[server.tls]\n", ("https", "http")),
        ("[server]\n  [admin.tls]\n", ("http", "https")),
    ):
        text = next(text for path, text in chart.render({"config": config}, name="gauge", namespace="llm").items() if path.endswith("NOTES.txt"))
        for scheme, rest in zip(schemes, ("gauge-streamgauge.llm:8080/v1", "127.0.0.1:9090/")):
            check(f"notes: {config!r}", f" {scheme}://{rest}" in text, text)


# Values that are refused, each with a part of the message.
REFUSED = [
    ({"replica": 2}, "replica"),
    ({"replicas": "2"}, "replicas"),
    ({"rolloutOnChange": "yes"}, "rolloutOnChange"),
    ({"port": 80}, "port"),
    ({"drainSeconds": -1}, "drainSeconds"),
    ({"image": {"repository": ""}}, "repository"),
    ({"image": {"repository": "a", "digest": "md5:1"}}, "digest"),
    ({"persistence": {"size": "10 GB"}}, "size"),
    ({"env": [{"name": "STREAMGAUGE_SERVER__DRAIN_TIMEOUT", "value": "9h"}]}, "env"),
    ({"secrets": ["Upper"]}, "secrets"),
    ({"serviceMonitor": {"enabled": True}}, "admin.expose"),
    ({"admin": {"expose": True}, "serviceMonitor": {"enabled": True, "tokenSecret": {"name": "a", "key": ""}}}, "tokenSecret"),
    (
        {"admin": {"expose": True}, "serviceMonitor": {"enabled": True, "scheme": "http", "tokenSecret": {"name": "a", "key": "b"}}},
        "in the clear",
    ),
]


def check_refusals(chart):
    for values, part in REFUSED:
        try:
            chart.validate_schema(chart.merge_values(values))
            render(chart, values)
        except helm_python.HelmError as error:
            check(f"refused: {values}", part in str(error), error)
        else:
            check(f"refused: {values}", False, "it is accepted")


def check_gateway():
    objects = list(yaml.safe_load_all(GATEWAY.read_text()))
    container = check_objects("gateway", objects)
    grace = one(objects, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    check_program("gateway", objects, container, grace)


def check_version(chart):
    package = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    versions = {chart.metadata["version"], chart.metadata["appVersion"]}
    check("version", versions == {package["version"]}, f"{versions}, and {package['version']} in Cargo.toml")
    for path in (GATEWAY, ROOT / "config/kubernetes/sidecar.yaml"):
        check("version", f"streamgauge:{package['version']}\n" in path.read_text(), f"{path.name} has another image")


def main():
    os.chdir(ROOT)
    with helm_python.Chart.load(CHART) as chart:
        check_version(chart)
        check_values(chart)
        check_refusals(chart)
        for path in EXAMPLES:
            check_example(chart, path)
    check_gateway()
    if failures:
        print(f"FAILED: chart checks: {', '.join(failures)}")
        sys.exit(1)
    print(f"chart checks: {len(EXAMPLES)} examples, {len(REFUSED)} refusals, all well")


if __name__ == "__main__":
    main()
