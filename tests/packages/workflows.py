"""Reads workflows.

    workflows.py approved FILE…   every job that may write waits for the environment `release`
    workflows.py step FILE JOB    prints the first script of a job
"""

import sys

from ruamel.yaml import YAML


def read(path):
    with open(path) as file:
        return YAML(typ="safe", pure=True).load(file)


def approved(paths):
    for path in paths:
        workflow = read(path)
        for name, job in workflow["jobs"].items():
            rights = job.get("permissions", workflow.get("permissions", "write-all"))
            writes = [rights] if isinstance(rights, str) else [right for right, may in rights.items() if may == "write"]
            if writes and job.get("environment") != "release":
                sys.exit(f"workflows.py: {path}: {name} may write {writes} without an approval")


def step(path, job):
    print(next(step["run"] for step in read(path)["jobs"][job]["steps"] if "run" in step))


{"approved": lambda *paths: approved(paths), "step": step}[sys.argv[1]](*sys.argv[2:])
