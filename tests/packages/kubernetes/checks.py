"""What tests/packages/parts/kubernetes checks of rendered manifests, besides their schema.

    checks.py settings RENDERED        prints the bridge.toml of the ConfigMap
    checks.py replicas RENDERED IMAGE  several bridges that keep nothing
    checks.py embedded RENDERED IMAGE  one bridge that keeps users and consents
    checks.py metrics  RENDERED IMAGE  several bridges, and their metrics

IMAGE is the configuration of the image, as the image has it, with its name as the first line.
"""

import json
import re
import sys
import tomllib
from urllib.parse import urlsplit

import yaml

KINDS = {
    "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy", "PodDisruptionBudget", "Service",
}  # fmt: skip
# The bridge ends the processes of a command with twice its stop_grace, whose default this is.
STOP_GRACE = 3


def check(holds, what):
    if not holds:
        sys.exit(f"tests/packages: FAILED: {what}")


def load(path):
    with open(path) as file:
        objects = [found for found in yaml.safe_load_all(file) if found]
    for found in objects:
        name = f"{found['kind']} {found['metadata']['name']}"
        check("namespace" not in found["metadata"], f"{name} is for one namespace only")
        check(found["metadata"].get("labels", {}) or found["kind"] == "ConfigMap", f"{name} has no label")
    return objects


def only(objects, kind, name="mcp-bridge"):
    found = [found for found in objects if found["kind"] == kind and found["metadata"]["name"].startswith(name)]
    check(len(found) == 1, f"there are {len(found)} of {kind} {name}")
    return found[0]


def settings(objects):
    return only(objects, "ConfigMap")["data"]["bridge.toml"]


def restricted(spec, container):
    """The Pod Security Standard `restricted`, as far as a Deployment can break it, and a root that is not written."""
    for field in ("hostNetwork", "hostPID", "hostIPC", "hostUsers", "initContainers", "ephemeralContainers"):
        check(field not in spec, f"{field} is set")
    check(len(spec["containers"]) == 1, "there is another container")
    allowed = {"configMap", "secret", "persistentVolumeClaim", "emptyDir"}
    check(all(set(volume) - {"name"} <= allowed for volume in spec["volumes"]), "a volume is of another kind")
    check(spec["securityContext"].get("runAsNonRoot") is True, "runAsNonRoot is not set")
    check(spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, "there is no seccomp profile")
    own = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    check(container["securityContext"] == own, f"the container may do more than {own}")
    check(spec["automountServiceAccountToken"] is False, "a token of the cluster is mounted")
    check(not any("hostPort" in port for port in container["ports"]), "a port of the node is taken")
    check(container["resources"]["limits"]["memory"], "memory has no limit")


def agrees_with_image(spec, container, name, image):
    user, group = map(int, image["User"].split(":"))
    context = spec["securityContext"]
    check((context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (user, group, group), "another user runs")
    check(container["image"].lower() == name, f"the image is {container['image']}, and what is made is {name}")
    check("command" not in container and "args" not in container, "it runs something else than the image does")
    port = next(port["containerPort"] for port in container["ports"] if port["name"] == "http")
    check([f"{port}/tcp"] == list(image["ExposedPorts"]), f"port {port} is not the image's")
    check(f"MCP_BRIDGE_LISTEN=0.0.0.0:{port}" in image["Env"], f"the image does not listen on {port}")
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        check(container[probe]["httpGet"] == {"path": path, "port": "http"}, f"{probe} asks for something else")


def bridge(objects, name, image):
    """What holds however many there are. Returns the Deployment's spec, its pod's, and the settings."""
    deployment = only(objects, "Deployment")["spec"]
    spec = deployment["template"]["spec"]
    container = spec["containers"][0]
    restricted(spec, container)
    agrees_with_image(spec, container, name, image)

    labels = deployment["template"]["metadata"]["labels"]
    selectors = [deployment["selector"]["matchLabels"], only(objects, "Service")["spec"]["selector"]]
    selectors.append(only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"])
    selectors += [found["spec"]["podSelector"]["matchLabels"] for found in objects if found["kind"] == "NetworkPolicy"]
    selectors += [spread["labelSelector"]["matchLabels"] for spread in spec["topologySpreadConstraints"]]
    check(all(selector.items() <= labels.items() and selector for selector in selectors), "a selector finds no pod")

    config = tomllib.loads(settings(objects))
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    check(sorted(mounts) == sorted(volume["name"] for volume in spec["volumes"]), "mounts and volumes differ")
    check(environment["MCP_BRIDGE_CONFIG"] == f"{mounts['settings']}/bridge.toml", "the settings are somewhere else")
    volume = next(volume for volume in spec["volumes"] if volume["name"] == "settings")
    check(volume["configMap"]["name"] == only(objects, "ConfigMap")["metadata"]["name"], "other settings are mounted")

    drain = int(re.fullmatch(r"(\d+)s", config["drain_timeout"])[1])
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = spec["terminationGracePeriodSeconds"]
    check(grace > pause + drain + 2 * STOP_GRACE, f"it is killed after {grace} s, before it has drained")

    service = only(objects, "Service")["spec"]["ports"]
    check([(port["name"], port["targetPort"]) for port in service] == [("http", "http")], "the Service has other ports")
    ingress = only(objects, "Ingress")["spec"]
    host = urlsplit(config["public_url"]).hostname
    check([rule["host"] for rule in ingress["rules"]] == [host], f"the Ingress is not for {host}")
    check([hosts["hosts"] for hosts in ingress["tls"]] == [[host]], f"the certificate is not for {host}")
    backend = ingress["rules"][0]["http"]["paths"][0]["backend"]["service"]
    check(backend == {"name": "mcp-bridge", "port": {"name": "http"}}, "the Ingress leads somewhere else")
    policies = [found["spec"] for found in objects if found["kind"] == "NetworkPolicy"]
    egress = {port["port"] for policy in policies for rule in policy.get("egress", []) for port in rule["ports"]}
    check(egress == {53, 443}, f"the pods may connect to the ports {egress}")
    check(all(rule["from"] for policy in policies for rule in policy["ingress"]), "everybody in the cluster may connect")
    return deployment, spec, config


def replicas(objects, name, image, more=()):
    check({found["kind"] for found in objects} == KINDS, "there are other kinds of objects")
    deployment, spec, config = bridge(objects, name, image)
    # Neither may be left to what is derived: an embedded server in each replica would know its own users only.
    check(config["auth"] in ("introspection", "jwt"), "every replica is an authorization server of its own")
    check(not any("persistentVolumeClaim" in volume for volume in spec["volumes"]), "the replicas share a volume")
    check("replicas" not in deployment, "the autoscaler's decision is undone with each change")
    scaler = only(objects, "HorizontalPodAutoscaler")["spec"]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mcp-bridge"}
    check(scaler["scaleTargetRef"] == target and scaler["minReplicas"] == 2, "there are not two at least")
    secret = next(volume["secret"] for volume in spec["volumes"] if volume["name"] == "secrets")
    check(secret == {"secretName": "mcp-bridge", "defaultMode": 0o440}, "the secret is open to others, or not there")
    path = next(m["mountPath"] for m in spec["containers"][0]["volumeMounts"] if m["name"] == "secrets")
    check(config["introspection_client_secret_file"].startswith(f"{path}/"), "the secret is somewhere else")
    variables = {variable["name"] for variable in spec["containers"][0]["env"]}
    check(variables == {"MCP_BRIDGE_CONFIG", *more}, f"it has the variables {variables}")


def embedded(objects, name, image):
    check({found["kind"] for found in objects} == KINDS - {"HorizontalPodAutoscaler"} | {"PersistentVolumeClaim"},
          "there are other kinds of objects")  # fmt: skip
    deployment, spec, config = bridge(objects, name, image)
    check(config["auth"] == "embedded", "the authorization server is another one")
    check(deployment["replicas"] == 1 and deployment["strategy"] == {"type": "Recreate"}, "there may be two at a time")
    check(only(objects, "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteOncePod"], "two may have the volume")
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    environment = {variable["name"]: variable["value"] for variable in spec["containers"][0]["env"]}
    check(environment["MCP_BRIDGE_STATE_DIR"].startswith(f"{mounts['state']}/"), "the state is not on the volume")
    check(spec["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch", "the state is opened to others at a start")
    check(set(mounts) == {"settings", "state"}, "something else is mounted")


def metrics(objects, name, image):
    replicas(objects, name, image, more=["MCP_BRIDGE_METRICS_LISTEN"])
    container = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    port = next(port["containerPort"] for port in container["ports"] if port["name"] == "metrics")
    listen = next(variable["value"] for variable in container["env"] if variable["name"] == "MCP_BRIDGE_METRICS_LISTEN")
    check(listen == f"0.0.0.0:{port}", f"metrics are not at the port {port}")
    rule = only(objects, "NetworkPolicy", "mcp-bridge-metrics")["spec"]["ingress"]
    check([found["ports"] for found in rule] == [[{"port": "metrics"}]], "the policy is about another port")


def main(what, rendered, image=None):
    objects = load(rendered)
    if what == "settings":
        print(settings(objects), end="")
        return
    with open(image) as file:
        name = file.readline().strip()
        image = json.load(file)["config"]
    {"replicas": replicas, "embedded": embedded, "metrics": metrics}[what](objects, name, image)


main(*sys.argv[1:])
