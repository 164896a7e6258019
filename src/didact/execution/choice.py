"""Which executor a run has, by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from didact.core import binding
from didact.core.errors import ConfigError
from didact.core.paths import Place
from didact.core.pieces import ignore
from didact.core.protocols import Executor
from didact.execution import executors

Kind = Literal["threads", "processes", "serial", "ray"]


class ExecutionSettings(BaseModel):
    """Where work is done. No result depends on it, so neither a manifest nor a cache key has it.

    Attributes:
        executor: `threads` of this process; `processes`; `serial`, one item at a time; `ray`, the
            machines of a Ray cluster.
        workers: How many work at a time; one for every core when not given, on `ray` of the
            cluster. Models run on every accelerator, whatever this says.
        threads: Threads of what cannot be spread over workers, such as `zip`, in the process that
            was started; as many as workers when not given, on `ray` one for every core there.
        address: With `ray`, `host:port` of the cluster's head. `auto`: that of `RAY_ADDRESS`, else
            the cluster that `ray start` started on this machine, else one that ends with the run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    executor: Kind = "threads"
    workers: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    address: str | None = None

    @model_validator(mode="after")
    def _of_ray(self) -> ExecutionSettings:
        if self.address is not None and self.executor != "ray":
            raise ValueError(
                f"address={self.address} goes with executor=ray, not with executor={self.executor}"
            )
        if self.executor == "serial" and self.workers not in {None, 1}:
            raise ValueError(f"workers={self.workers}: executor=serial has one")
        return self

    def with_given(self, **given: Any) -> ExecutionSettings:
        """These settings, with those given that are not None.

        Raises:
            ConfigError: They do not go together.
        """
        chosen = {name: value for name, value in given.items() if value is not None}
        if chosen.get("executor", "ray") != "ray" and "address" not in chosen:
            chosen["address"] = None  # that of a config belongs to the executor it names
        merged = {**self.model_dump(), **chosen}
        if merged["address"] is not None and merged["executor"] != "ray":
            raise ConfigError(
                f"address={merged['address']} goes with executor=ray (--executor ray), not with "
                f"executor={merged['executor']}"
            )
        try:
            return ExecutionSettings.model_validate(merged)
        except ValidationError as error:
            lines = binding.explain(error, "execution", ExecutionSettings.model_fields)
            raise ConfigError("\n".join(lines)) from error

    def start(self, cache_dir: Place, tell: Callable[[str], None] = ignore) -> Executor:
        """The executor; a cluster is joined, or started.

        Args:
            cache_dir: The cache, which all machines must see.
            tell: Told of what the user should know, such as workers that died.

        Raises:
            MissingDependencyError: Ray is not installed.
            ConfigError: There is no cluster at the address; or its machines differ, or do not see
                the cache.
        """
        if self.executor == "ray":
            from didact.execution.cluster.executor import clustered

            return clustered(
                self.workers, address=self.address, threads=self.threads, cache_dir=cache_dir,
                tell=tell,
            )  # fmt: skip
        if self.executor == "serial":
            return executors.serial(threads=self.threads)
        start = executors.threads if self.executor == "threads" else executors.processes
        return start(self.workers, threads=self.threads)
