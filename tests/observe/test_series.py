"""The children of one metric: found by their labels, and never more than there may be."""

from prometheus_client import CollectorRegistry, Counter

from agentgate.observe.series import OTHER, Series


def series(most: int) -> tuple[Series[Counter], CollectorRegistry]:
    registry = CollectorRegistry()
    return Series(Counter("things", "", ["a", "b"], registry=registry), 2, most), registry


def counted(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    samples = [sample for metric in registry.collect() for sample in metric.samples if sample.name == "things_total"]
    return {(sample.labels["a"], sample.labels["b"]): sample.value for sample in samples}


def test_the_same_labels_are_the_same_child() -> None:
    things, registry = series(10)
    for _ in range(3):
        things.of("x", "y").inc()
    things.of("y", "x").inc()
    assert counted(registry) == {("x", "y"): 3, ("y", "x"): 1}


def test_what_comes_on_top_is_other_and_counted_within_the_cap() -> None:
    things, registry = series(4)
    for number in range(100):
        things.of("x", str(number)).inc()
    things.of("x", "0").inc()
    assert counted(registry) == {("x", "0"): 2, ("x", "1"): 1, ("x", "2"): 1, (OTHER, OTHER): 97}


def test_the_overflow_may_be_asked_for_by_name() -> None:
    things, registry = series(2)
    things.of(OTHER, OTHER).inc()
    for number in range(5):
        things.of("x", str(number)).inc()
    assert counted(registry) == {(OTHER, OTHER): 5, ("x", "0"): 1}


def test_one_series_is_enough() -> None:
    things, registry = series(1)
    for number in range(5):
        things.of("x", str(number)).inc()
    assert counted(registry) == {(OTHER, OTHER): 5}
