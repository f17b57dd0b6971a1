"""Series: the children of one Prometheus metric, found by one look-up and never more than there may be.

Whoever asks for a child gives label values out of closed sets; the cap is for when there are too many combinations.
"""

from threading import Lock
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from prometheus_client.metrics import MetricWrapperBase

OTHER: Final = "_OTHER"
"""The label of all that there is no label for, as OpenTelemetry has it."""

MAX_SERIES: Final = 200  # of one metric, in one process: a histogram has some twenty lines for each of them

_M = TypeVar("_M", bound="MetricWrapperBase")


class Series(Generic[_M]):
    """The children of `metric`. When there are `most`, what is new is counted in one whose labels are all `_OTHER`."""

    def __init__(self, metric: _M, labels: int, most: int) -> None:
        self._metric = metric
        self._most = most
        self._children: dict[tuple[str, ...], _M] = {}
        self._overflow = (OTHER,) * labels
        self._lock = Lock()  # apps may run in several threads, each with an event loop

    def of(self, *labels: str) -> _M:
        """The child with these labels."""
        child = self._children.get(labels)
        return self._new(labels) if child is None else child

    def _new(self, labels: tuple[str, ...]) -> _M:
        with self._lock:
            if len(self._children) >= self._most - (self._overflow not in self._children):
                labels = self._overflow
            child = self._children.get(labels)
            if child is None:
                child = self._children[labels] = self._metric.labels(*labels)
            return child
