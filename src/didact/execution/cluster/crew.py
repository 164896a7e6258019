"""The worker processes of a cluster: started when there is work, and used until the end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from didact.core.errors import ExecutionError
from didact.core.paths import Place
from didact.execution.cluster.actor import Actor
from didact.execution.cluster.connection import heard
from didact.execution.cluster.nodes import checked_nodes, working_nodes

Tell = Callable[[str], None]

_SAYS_AFTER: Final = 10.0  # seconds without a worker
_PATIENCE: Final = 600.0  # seconds after which there will be none: a cloud has given a machine
_STARTS: Final = 3  # that fail one after another
_CARRIED: Final = ("DIDACT_", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(eq=False)
class Member:
    """One worker process.

    Attributes:
        handle: The actor.
        greeting: Its answer to come, until it has started.
        node: What messages call its machine, once it has started.
        pid: Its process there.
        dead: It is gone.
    """

    handle: Any
    greeting: Any
    node: str = ""
    pid: int = 0
    dead: bool = False


@dataclass
class Crew:
    """The workers of one kind.

    Attributes:
        accelerated: Whether each has an accelerator; else each has a core.
        nodes: Nodes that have been checked, by id: what messages call them.
        members: Those that have started or are starting.
    """

    accelerated: bool
    nodes: dict[str, str]
    members: list[Member] = field(default_factory=list)
    _failed: int = 0
    _waiting_since: float | None = None
    _said: float = 0.0

    def reach(self, most: int) -> list[Member]:
        """Members, as many as asked for where there are resources; some may still be starting."""
        import ray

        self.members = [member for member in self.members if not member.dead]
        while len(self.members) < most:
            start = ray.remote(Actor).options(
                num_cpus=0 if self.accelerated else 1, num_gpus=int(self.accelerated),
                max_restarts=0, max_task_retries=0,
            )  # fmt: skip
            handle = start.remote(str(Path.cwd()), _environment(os.environ), sys.path)
            self.members.append(Member(handle, handle.hello.remote()))
        return sorted(self.members, key=lambda member: member.greeting is not None)[:most]

    def started(self, member: Member, cache_dir: Place) -> bool:
        """Take a greeting that has come; False if the worker has died instead.

        Raises:
            ConfigError: It is on a machine that differs.
            ExecutionError: Workers die one after another as they start.
        """
        import ray

        try:
            node, member.pid = heard(ray.get, member.greeting)
        except ray.exceptions.RayError as error:
            self.lose(member)
            self._failed += 1
            if self._failed >= _STARTS:
                raise ExecutionError(
                    f"workers do not start on the cluster: {_last_line(error)}; look at "
                    "'ray status', and at the logs there (/tmp/ray/session_latest/logs)"
                ) from error
            return False
        if node not in self.nodes:  # it has come since the others were checked
            self.nodes |= checked_nodes({node: working_nodes().get(node, node)}, cache_dir)
        member.greeting, member.node = None, self.nodes.get(node, node)
        self._failed, self._waiting_since = 0, None
        return True

    def answers(self, member: Member) -> bool:
        """Whether an idle worker that had started is still there; it is given up if not."""
        import ray

        try:
            heard(ray.get, member.handle.hello.remote())
        except ray.exceptions.RayError:
            self.lose(member)
            return False
        return True

    def lose(self, member: Member) -> None:
        """Give a worker up; another takes its place when there is work."""
        import ray

        member.dead = True
        with suppress(ray.exceptions.RayError, ValueError):
            ray.kill(member.handle)

    def wait(self, tell: Tell) -> None:
        """Note that nobody is there to work, and say so after a while.

        Raises:
            ExecutionError: It has been too long.
        """
        now = time.monotonic()
        if self._waiting_since is None:
            self._waiting_since, self._said = now, now + _SAYS_AFTER - 60
        waited = now - self._waiting_since
        kind = "a free accelerator" if self.accelerated else "a free core"
        if waited > _PATIENCE:
            raise ExecutionError(
                f"no machine of the cluster had {kind} for {waited / 60:.0f} min; look at "
                "'ray status': others may hold them, or machines may be gone"
            )
        if now - self._said >= 60:
            self._said = now
            tell(f"waiting for {kind} on the cluster; 'ray status' shows who holds them")


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """What of the caller's environment workers have, too."""
    return {name: value for name, value in variables.items() if name.startswith(_CARRIED)}


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()
