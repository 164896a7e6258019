"""RiskMonitor: flags a training that does not go as the previous version's did, while it goes."""

from __future__ import annotations

import logging
import math
from collections import deque
from pathlib import Path
from typing import Any, Final

from didact.analysis.risk.curve import Curve, curve_of_steps, find_log, known_of, read_log
from didact.analysis.risk.during import (
    AROUND,
    BEFORE,
    Run,
    comparable,
    judge_jumps,
    judge_loss,
    judge_spikes,
)
from didact.analysis.risk.flags import MOST_ROWS, Carrier, Flag, Judged, Rows, Watched, write_risk
from didact.callbacks.forward_passes import rank, summed
from didact.callbacks.ordered_rows import order_ids, order_joints
from didact.callbacks.telemetry import Telemetry
from didact.core.errors import DataError
from didact.core.paths import Given, Place, place
from didact.models.folder import RECORD, read_json
from didact.training.telemetry import STEPS, Step, read_steps

_LOGGER = logging.getLogger(__name__)
LOOKS: Final = (0.05, 0.1, 0.25, 0.5, 1.0)  # shares of the first epoch
_SHOWN: Final = 5


class RiskMonitor(Telemetry):
    """Telemetry that judges the training while it goes on.

    ```python
    from didact.callbacks import RiskMonitor

    trainer.add_callback(RiskMonitor("outputs/v2", order="OUT"))
    ```

    In the first epoch it flags spikes of the loss at every step, jumps of the gradient's norm
    behind the joints of the order, and, at 5, 10, 25, 50 and 100 % of the epoch, a loss that is not
    what the previous version's training had at the same steps. Flags are warnings in the log as
    they come up, `flags`, and `risk.json` beside `steps.jsonl`. Losses of SFT, DPO, KTO and others
    are compared with those of the same objective and settings only.

    Args:
        previous: Folder of the previous version's training: one that Telemetry or RiskMonitor
            wrote, a run, or the output of HF Trainer, here or behind a URL. None judges spikes and
            jumps alone.
        order: Run folder, or table, of the order that is trained on, likewise: it tells joints,
            and rows.
        stop: Ends the training at the first flag; one that goes on, at the first new one.
        folder: As in `Telemetry`.

    Attributes:
        flags: What was flagged so far.

    **Cost:** Telemetry's; and a median of 40 numbers a step, 0.1 ms on one core of 2021.
    """

    def __init__(
        self,
        previous: Given | None = None,
        *,
        order: Given | None = None,
        stop: bool = False,
        folder: str | Path | None = None,
    ) -> None:
        super().__init__(folder)
        self._previous_folder = None if previous is None else place(previous)
        self._order = order
        self._stop = stop
        self._previous: Curve | None = None
        self._ids: tuple[list[str], Any, int | None] | None = None
        self._joints: tuple[int, ...] | None = None
        self._epoch_steps = 1
        self._lately: deque[Step] = deque(maxlen=BEFORE + 1)
        self._judged: list[Judged] = []
        self._cannot: list[str] = []
        self._looked_at = 0
        self._lost = False
        self._seen_share = 0.0
        self.flags: list[Flag] = []
        self._known = 0  # of them, that came up before an interruption

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Read what the previous version's training had."""
        super().on_train_begin(args, state, control, **more)
        self._lately.clear()
        self._judged, self._cannot, self.flags, self._looked_at = [], [], [], 0
        self._lost = False
        self._epoch_steps = self._facts["epoch_steps"]
        if self._order is not None:
            self._ids = order_ids(self._order)
            self._joints = order_joints(self._order)
        if self._previous_folder is not None:
            self._previous = _read_previous(self._previous_folder)
        kept = self._folder / STEPS
        if rank() == 0 and kept.stat().st_size:
            for step in read_steps(kept):  # a training that goes on: judged again
                self._judge(step)
        self._known = len(self.flags)

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """End the training where it is flagged and that was asked for; on all ranks alike."""
        super().on_step_end(args, state, control, **more)
        if self._stop and summed([float(len(self.flags) - self._known)])[0]:
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Write what was judged."""
        super().on_train_end(args, state, control, **more)
        if rank() == 0:
            found = Watched(
                self._folder.name, self._seen_share, tuple(self.flags), tuple(self._judged),
                tuple(dict.fromkeys(self._cannot)),
            )  # fmt: skip
            write_risk([found], self._folder)

    def _append(self, step: Step) -> None:
        super()._append(step)
        self._judge(step)

    def _judge(self, step: Step) -> None:
        """Judge a step of the first epoch."""
        if step.epoch not in {None, 1} or step.step > self._epoch_steps:
            return
        if self._lost:
            return
        self._seen_share = min(1.0, step.step / self._epoch_steps)
        if not math.isfinite(step.loss):
            self._lose(step)
            return
        self._note(self._spikes(step))
        if step.step - AROUND in (self._joints or ()):
            self._note(judge_jumps(self._so_far()))
        due = sum(self._seen_share >= share for share in LOOKS)
        if due > self._looked_at:
            self._looked_at = due
            self._look()

    def _lose(self, step: Step) -> None:
        """Judge nothing from here on: what was unflagged before does not make it clean."""
        why = (
            f"the loss of step {step.step} is {step.loss}; everything after it is lost: train "
            "again with a lower learning rate"
        )
        self._lost = True
        self._judged = [one for one in self._judged if one.flagged]
        self._cannot.append(why)
        _LOGGER.warning("risk: %s", why)

    def _look(self) -> None:
        """Compare the loss so far with the previous version's at the same steps."""
        if self._previous is None:
            self._cannot.append("loss: no previous version was given")
            return
        try:
            this = self._so_far()
        except DataError as error:
            self._cannot.append(f"loss: {error}")
            return
        why = comparable(this, self._previous)
        if why:
            self._cannot.append(f"loss: {why}")
            return
        looks = len(LOOKS)
        self._note(judge_loss(Run(this), [Run(self._previous)], paired=False, looks=looks))

    def _so_far(self) -> Curve:
        return read_log(self._folder / STEPS, joints=self._joints, **known_of(self._facts))

    def _spikes(self, step: Step) -> list[Judged]:
        """The loss of a step beside those of the steps before it."""
        self._lately.append(step)
        lately = curve_of_steps(tuple(self._lately), within=True, **known_of(self._facts))
        return judge_spikes(lately, first=len(lately) - 1)

    def _note(self, judged: list[Judged]) -> None:
        """Keep what was judged, and warn of what is flagged and was not before."""
        for one in judged:
            if not one.flagged:
                self._keep(one)
                continue
            if any((f.kind, f.source) == (one.kind, one.source) and f.advice == one.flag(
                Rows()).advice for f in self.flags):  # fmt: skip
                continue
            flag = one.flag(self._rows(one))
            self.flags.append(flag)
            self._judged.append(one)
            named = ", ".join(row.id for row in flag.rows.worst[:_SHOWN])
            _LOGGER.warning(
                "risk: %s%s is %.4g, expected %.4g (z %.1f)%s; %s", flag.kind,
                f" of {flag.source}" if flag.source else "", flag.seen, flag.expected, flag.z,
                f"; rows {named}" if named else "", flag.advice,
            )  # fmt: skip

    def _keep(self, one: Judged) -> None:
        """Of what is not flagged, the last of a kind and source."""
        same = [(j.kind, j.source, j.flagged) for j in self._judged]
        key = (one.kind, one.source, False)
        if key in same:
            self._judged[same.index(key)] = one
        else:
            self._judged.append(one)

    def _rows(self, one: Judged) -> Rows:
        """The rows of the step that a number is of, where the order is known."""
        if self._ids is None or not one.place:
            return Rows()
        ids, rows, size = self._ids
        if not size:
            return Rows()
        step = int(one.place.removeprefix("step "))
        chosen = slice((step - 1) * size, step * size)
        told = tuple(Carrier(int(r), i) for r, i in zip(rows[chosen], ids[chosen], strict=True))
        return Rows(len(told), told[:MOST_ROWS])


def _read_previous(folder: Place) -> Curve:
    """The first epoch of the previous version's training.

    Raises:
        DataError: The folder holds no log of one, or no first epoch.
    """
    log = find_log(folder)
    if log is None:
        raise DataError(
            f"{folder}: no steps.jsonl and no trainer_state.json; expected the folder of the "
            "previous version's training: train it with Telemetry, or leave it out"
        )
    about = read_json(log.parent / RECORD, dict) if (log.parent / RECORD).is_file() else {}
    return read_log(log, **known_of(about))
