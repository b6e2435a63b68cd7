"""The guest that the tests suspend and restore at every wait: the same idea as rust-chain, below the frames of CPython. This file
is the way from the host's call to the task's function.
"""

import json
import sys
import traceback

import wit_world
from componentize_py_types import Err
from wit_world.exports import tasks
from wit_world.imports import types

import work
from chain import chain


def echo(payload):
    return payload


DEFINITIONS = {"chain": (chain, "Waits n times from every kind of stack"), "echo": (echo, None)}
DEFINITIONS |= {name: (task, None) for name, task in work.TASKS.items()}


class Tasks(wit_world.exports.Tasks):
    def describe(self):
        described = [define(name, description) for name, (_, description) in DEFINITIONS.items()]
        return tasks.BundleDefinition("python/0.1.0", described, [], [])

    def run(self, task, payload):
        if task not in DEFINITIONS:
            raise failure(tasks.FailureReason.UNKNOWN_TASK, types.RunError_Text(f"there is no task `{task}`"))
        function, _ = DEFINITIONS[task]
        try:
            output = function(json.loads(payload.data) if payload.data else None)
        except Exception as error:
            raise failure(tasks.FailureReason.THROWN, types.RunError_Exception(described(error))) from None
        finally:
            # What is in Python's buffers would be lost with the instance.
            sys.stdout.flush()
            sys.stderr.flush()
        return types.Packet(json.dumps(output).encode(), "application/json")


def define(name, description):
    return tasks.TaskDefinition(
        id=name,
        kind=tasks.TaskKind.STANDARD,
        description=description,
        source=None,
        retry=tasks.RetryPolicy(1, 2.0, 1_000, 60_000, False, None),
        queue=None,
        concurrency_limits=[],
        machine=None,
        max_duration_ms=None,
        ttl_ms=None,
        schedule=None,
        payload_schema=None,
        hooks=tasks.Hooks(0),
    )


def failure(reason, error):
    return Err(tasks.TaskError(reason, error, tasks.RetryDecision_Policy()))


def described(error):
    causes, cause = [], error.__cause__
    while cause and len(causes) < 5:
        causes.append(link(cause))
        cause = cause.__cause__
    return types.ExceptionChain(link(error), causes)


def link(error):
    stack = "".join(traceback.format_exception(type(error), error, error.__traceback__, chain=False))
    return types.Exception(type(error).__name__, str(error), stack)
