"""OrderGuard: fails a training whose model does not read the rows in the order they were given."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal

from transformers import TrainerCallback

from didact.callbacks.forward_passes import ForwardPasses, Pass, gathered, rank, tokenizer_of, told
from didact.callbacks.judgement import Judge, Verdict
from didact.callbacks.ordered_rows import OrderedRows, open_order
from didact.callbacks.recognition import recognize
from didact.callbacks.row_index import RowIndex, build_index
from didact.callbacks.units import token_units
from didact.core.atomic import write_text
from didact.core.errors import ConfigError, DataError, DidactError, OrderBrokenError
from didact.training.telemetry import step_of

LOG: Final = "order_log.jsonl"
VERDICT: Final = "order.json"
_LOGGER = logging.getLogger(__name__)
_TOLD: Final = 10.0  # seconds between two lines of progress
_SHOWN: Final = 4  # rows of a step in a message


class OrderGuard(TrainerCallback):
    """Compares what enters the model with the exported order, step by step.

    ```python
    from didact.callbacks import OrderGuard

    guard = OrderGuard("OUT")  # the folder of `didact run` or `didact export`
    trainer.add_callback(guard)
    ```

    A forward pre-hook reads the tokens of every pass that a gradient follows. A row is recognized
    by windows of 12 tokens of its own text, so that templates, cutting and packing do not matter;
    copies are one row. Rows without such a window are recognized by their short turns as a whole;
    of several that match any counts, and the verdict says how often. The passes of all ranks and
    micro-batches make a step; the order inside it is free. Into the trainer's `output_dir` go
    `order_log.jsonl`, a line a step, and `order.json`, the verdict.

    Args:
        order: The run folder, the export folder, or the file of rows that is trained on.
        tokenizer: The model's tokenizer; the trainer's own when None.
        action: `fail` raises at the first wrong step, before the model learns from it; `warn` logs
            it and goes on.
        columns: Your names for columns, as in `data.columns`; needed only for a bare file of rows.
        batch_size: Samples of an optimizer step over all devices. By default the order's, else the
            trainer's.

    Attributes:
        verdict: `in order`, `broken` or `cannot tell`; of the steps so far while it trains.
        seconds: CPU seconds spent here in training, without those of `index_seconds`.
        step_seconds: CPU seconds of the training steps, these included.
        index_seconds: Seconds for indexing the rows before the first step.

    Raises:
        OrderBrokenError: A step did not read what the order says. An ExecutionError.
        DataError: There are no exported rows.
        ConfigError: The trainer makes its own answers (GRPO).

    **Cost:** some 0.2 µs a token and step on the first rank, which does the work for all; see
    `row_index.build_index` for the index.
    """

    def __init__(
        self,
        order: str | Path,
        tokenizer: Any = None,
        *,
        action: Literal["fail", "warn"] = "fail",
        columns: Mapping[str, str] | None = None,
        batch_size: int | None = None,
    ) -> None:
        if action not in {"fail", "warn"}:
            raise ConfigError(f"action={action!r}; expected 'fail' or 'warn'")
        self._rows: OrderedRows = open_order(order, columns=columns, batch_size=batch_size)
        self._where, self._action = str(order), action
        self._units = None if tokenizer is None else token_units(tokenizer)
        self._passes: list[Pass] = []
        self._watch: ForwardPasses | None = None
        self._judge: Judge | None = None
        self._index: RowIndex | None = None
        self._log: Path | None = None
        self._effective = 0
        self._packing = False
        self._cpu = 0.0
        self._learning = False
        self.seconds = self.step_seconds = self.index_seconds = 0.0
        self._verdict: Verdict = "cannot tell"

    @property
    def verdict(self) -> Verdict:
        """Whether the steps so far are in order."""
        return self._verdict

    @property
    def share(self) -> float:
        """Share of the training steps' CPU seconds that is spent here."""
        return self.seconds / self.step_seconds if self.step_seconds else 0.0

    # -- events ------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Index the rows, and watch the model."""
        del control
        model = more.get("model")
        if model is None:
            raise ConfigError("the trainer has no model to watch; add OrderGuard to a Trainer")
        if hasattr(args, "num_generations"):
            raise ConfigError(
                "OrderGuard knows rows by their text; GRPO trains on answers that it makes: leave "
                "OrderGuard out, and keep shuffle_dataset: false"
            )
        if self._watch is not None:
            self._watch.remove()
        self._passes = []
        self._packing = bool(getattr(args, "packing", False))
        self._effective = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        failed: DidactError | None = None
        if rank() == 0:
            try:
                self._open(tokenizer_of(more))
                self._begin(Path(args.output_dir), state.global_step)
            except DidactError as error:
                failed = error
        failed = told(failed)
        if failed is not None:
            raise failed
        self._watch = ForwardPasses(model, self._seen)

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The clock of a step's CPU seconds starts."""
        del args, state, control, more
        self._cpu, self._learning = time.process_time(), True

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Judge the step before the model learns from it."""
        del args, control, more
        self._step(state.global_step + 1)

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Judge the step, where the trainer has no earlier event."""
        del args, control, more
        if self._passes:
            self._step(state.global_step)
        if self._learning:
            self.step_seconds += time.process_time() - self._cpu
            self._learning = False

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The verdict over all steps; rows that never came break the order."""
        del control, more
        if self._watch is not None:
            self._watch.remove()
            self._watch = None
        problem = None
        if self._judge is not None and self._log is not None:
            missing = len(self._judge.row) - self._judge.end
            stopped = args.max_steps > 0 or state.global_step < state.max_steps
            self._verdict = self._judge.verdict(0 if stopped else missing)
            said = self._sentence(missing, stopped=stopped)
            self._write_verdict(said)
            level = logging.INFO if self._verdict == "in order" else logging.WARNING
            _LOGGER.log(level, "%s", said)
            if self._verdict == "broken" and self._judge.wrong is None:
                problem = said
        self._raise(told(problem))

    # -- work --------------------------------------------------------------------------------------

    def _open(self, tokenizer: Any) -> None:
        if self._units is None and tokenizer is None:
            raise ConfigError(
                "the trainer has no processing_class; expected the tokenizer of its rows: "
                'OrderGuard("OUT", tokenizer)'
            )
        units = self._units or token_units(tokenizer)
        if self._index is None:
            began = last = time.monotonic()

            def progress(done: int) -> None:
                nonlocal last
                if time.monotonic() - last > _TOLD:
                    last = time.monotonic()
                    _LOGGER.warning("OrderGuard: %s rows indexed", f"{done:,}")

            everywhere = _template_texts(tokenizer)
            self._index = build_index(
                self._rows.turns(), units, everywhere=everywhere, progress=progress
            )
            self.index_seconds = time.monotonic() - began

    def _begin(self, folder: Path, done: int) -> None:
        assert self._index is not None  # noqa: S101 - just made
        size = self._rows.batch_size or self._effective
        self._judge = Judge(self._index.row, self._index.first, size, began=done)
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / LOG
        kept = []
        if done and self._log.is_file():
            lines = self._log.read_text("utf-8").splitlines()
            kept = [line for line in lines if step_of(line) <= done]
        write_text(self._log, "".join(line + "\n" for line in kept))

    def _seen(self, found: Pass) -> None:
        """Called by the hook before every forward pass."""
        if not found.learning or not self._learning:
            return
        began = time.thread_time()
        self._passes.append(
            Pass(found.input_ids.clone(), found.attention_mask, found.position_ids, learning=True)
        )
        self.seconds += time.thread_time() - began

    def _step(self, number: int) -> None:
        began = time.thread_time()
        own = list(chain.from_iterable(found.sequences() for found in self._passes))
        self._passes = []
        every = list(chain.from_iterable(gathered(own)))
        problem = None
        if self._judge is not None and self._index is not None and self._log is not None:
            sequences = recognize(self._index, every)
            before = self._judge.wrong, self._judge.unverified
            judged = self._judge.step(number, sequences.found, sequences)
            self._verdict = self._judge.verdict()
            line = {
                "step": number, "positions": judged.positions,
                "unrecognized": judged.unrecognized,
            }  # fmt: skip
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            if before[0] is None and self._judge.wrong is not None:
                problem = self._broken()
                self._write_verdict(problem)
            elif not before[1] and self._judge.unverified:
                _LOGGER.warning("%s", self._unverified())
        problem = told(problem)
        self.seconds += time.thread_time() - began
        self._raise(problem)

    def _raise(self, problem: str | None) -> None:
        if problem is None:
            return
        self._verdict = "broken"
        if self._action == "fail":
            if self._watch is not None:
                self._watch.remove()
            raise OrderBrokenError(problem)
        _LOGGER.warning("%s", problem)

    # -- sentences ---------------------------------------------------------------------------------

    def _rows_shown(self, positions: tuple[int, ...]) -> str:
        assert self._index is not None  # noqa: S101 - a step was judged
        shown = [
            f"{position} ({self._index.texts.excerpt(int(self._index.row[position]))!r})"
            for position in positions[:_SHOWN]
        ]
        more = f" and {len(positions) - _SHOWN} more" if len(positions) > _SHOWN else ""
        return ", ".join(shown) + more if shown else "none"

    def _broken(self) -> str:
        assert self._judge is not None and self._judge.wrong is not None  # noqa: S101, PT018
        wrong, size = self._judge.wrong, self._judge.batch_size
        why = wrong.why
        if self._packing:
            why = "packing: it puts rows together by their length; set packing: false"
        elif self._effective != size:
            why = (
                f"the trainer's steps are of {self._effective} samples, the order's of {size}: "
                "per_device_train_batch_size · gradient_accumulation_steps · devices must be "
                f"{size}"
            )
        start = (wrong.step - 1) * size
        return (
            f"step {wrong.step} did not read what the order {self._where} says: expected positions "
            f"{start}–{min(start + size, len(self._judge.row)) - 1}; missing: "  # noqa: RUF001
            f"{self._rows_shown(wrong.expected)}; seen instead: {self._rows_shown(wrong.seen)}. "
            f"Most likely {why}"
        )

    def _unverified(self) -> str:
        assert self._judge is not None and self._judge.first_unverified  # noqa: S101, PT018
        step, known, count = self._judge.first_unverified
        return (
            f"cannot verify the order of step {step}: {known} of {count} sequences are rows of "
            f"{self._where}; expected 95 % or more: is it the order of this training, with this "
            "tokenizer?"
        )

    def _sentence(self, missing: int, *, stopped: bool) -> str:
        judge = self._judge
        assert judge is not None  # noqa: S101 - called after training
        if judge.wrong is not None:
            return self._broken()
        if self._verdict == "broken":
            first = self._rows_shown(tuple(range(judge.end, min(judge.end + 1, len(judge.row)))))
            return (
                f"the training ended before the order {self._where}: its last {missing} rows, from "
                f"position {first}, never entered the model; expected all {len(judge.row)}: set "
                "dataloader_drop_last: false, and no limit on samples"
            )
        count = judge.judged + judge.unverified
        if self._verdict == "cannot tell":
            first = f"; {self._unverified()}" if judge.first_unverified else ""
            return f"cannot verify the order of {judge.unverified} of {count} steps{first}"
        notes = f"the order is kept: {judge.judged} steps"
        if judge.began:
            notes += f", from step {judge.began + 1}"
        if stopped and missing:
            notes += f"; the training stopped before the last {missing} rows"
        if judge.ambiguous:
            notes += (
                f"; {judge.ambiguous} sequences match several rows that nothing tells apart, any "
                "of which counts"
            )
        return notes

    def _write_verdict(self, said: str) -> None:
        judge = self._judge
        assert judge is not None and self._log is not None  # noqa: S101, PT018
        verdict: dict[str, Any] = {
            "verdict": judge.verdict() if self._verdict != "broken" else "broken",
            "said": said,
            "order": self._where,
            "batch_size": judge.batch_size,
            "first_step": judge.began + 1,
            "in_order": judge.judged,
            "unverified": judge.unverified,
            "ambiguous": judge.ambiguous,
            "wrong_step": None if judge.wrong is None else judge.wrong.step,
            "share_of_cpu_seconds": round(self.share, 6),
        }
        write_text(self._log.with_name(VERDICT), json.dumps(verdict, ensure_ascii=False) + "\n")


def _template_texts(tokenizer: Any) -> list[str]:
    """What a chat template adds to every conversation, as a default system prompt."""
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    if not getattr(tokenizer, "chat_template", None):
        return []
    from jinja2.exceptions import TemplateError

    from didact.models.chat_template import done_with, rendered

    asked = [{"role": "user", "content": "?"}]
    said = [{"role": "assistant", "content": "!"}]
    out = []
    try:
        for messages, opened in ((asked, True), (asked + said, False)):
            with suppress(TemplateError):  # it refuses such a conversation
                out.append(rendered(tokenizer, messages, prompt=opened))
    except DataError as error:  # the training may do without it
        _LOGGER.warning("OrderGuard leaves the chat template out of account: %s", error)
    finally:
        done_with(tokenizer)
    return out
