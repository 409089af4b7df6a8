"""Progress reports of long work, a bar at a terminal and lines elsewhere; handling of signals."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator

from repro.training.loop import Fit
from repro.words.experiments import told_apart

LINE_EVERY = 60.0  # seconds between two lines where there is no terminal


def duration(seconds: float) -> str:
    """Text of a duration in seconds, minutes or hours: ``90 s``, ``2 h 05 min``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Catch Ctrl-C and SIGTERM; yield a function that returns True once one has come."""
    came: list[int] = []
    before = {}
    with contextlib.suppress(ValueError):  # not the main thread
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, lambda received, frame: came.append(received))
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Progress:
    """A bar with the time left at a terminal; elsewhere a line at least every minute."""

    def __init__(self, total: float, title: str = "training"):
        self.total = total
        self.title = title
        self.first: tuple[float, float] | None = None  # when, and how far it was then
        self.printed = time.monotonic()
        self.bar = None

    def __enter__(self) -> Progress:
        from tqdm import tqdm

        if sys.stderr.isatty():
            form = "{desc} {percentage:3.0f}%|{bar}| {elapsed} so far, {remaining} left{postfix}"
            self.bar = tqdm(total=self.total, desc=self.title, bar_format=form, leave=False)
        return self

    def __exit__(self, *error) -> None:
        if self.bar is not None:
            self.bar.close()

    def training(self, fit: Fit) -> None:
        """Show the progress of ``fit``, with the last loss and each run's last IWAE-64."""
        called = told_apart(fit.experiments)
        bounds = []
        for e, curve in zip(fit.experiments, fit.curves, strict=True):
            known = [line["iwae_64"] for line in curve if "iwae_64" in line]
            if known:
                bounds.append(f"{called[e]} {known[-1]:.2f}")
        loss = fit.losses[-1].mean().item() if fit.step else fit.curves[0][-1]["loss"]
        text = fit.note or f"loss {loss:.1f}  IWAE-64 {'  '.join(bounds) or '-'}"
        done = fit.epoch + fit.step / fit.steps_per_epoch
        if self.bar is not None:
            self._move_bar(done, text)
        else:
            far = f"epoch {done:.4g} of {self.total}"
            self._print_line(done, f"{far}  {text}", due=fit.step == 0 and not fit.note)

    def fraction(self, done: float) -> None:
        """Show that the fraction ``done`` of the work is done."""
        if self.bar is not None:
            self._move_bar(done, "")
        else:
            self._print_line(done, f"{done:.0%}  {self.title}", due=False)

    def _move_bar(self, done: float, text: str) -> None:
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(done - self.bar.n)
        self.bar.refresh()  # with its text, which changes while the bar stands still

    def _print_line(self, done: float, line: str, due: bool) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = (now, done)
        if not due and now - self.printed <= LINE_EVERY:
            return
        self.printed = now
        since, start = self.first
        if done > start:
            left = (self.total - done) * (now - since) / (done - start)
            if left:
                line += f"  {duration(left)} left"
        print(line, flush=True)
