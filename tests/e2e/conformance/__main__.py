"""Runs every leg and prints one table: `python -m tests.e2e.conformance`. Exits 1 when a check differs that
should not."""

import sys
import tempfile
from pathlib import Path

from .legs import FEDERATION, GATEWAYS, HEAD, federation, fixture, gateway, otherwise, row, runs
from .suite import PASSED, Unavailable, install


def main() -> int:
    try:
        suite = install()
    except Unavailable as exc:
        sys.exit(f"the suite cannot be had here: {exc}")
    faults: list[str] = []
    table = [HEAD]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with fixture(folder / "fixture") as port:
            direct = runs(suite, port, folder / "direct")
            for revision, outcome in direct.items():
                table.append(row("direct", revision, outcome, outcome))
                faults += [f"direct {revision}: {failed}" for failed in outcome.failed()]
                if outcome.passed != PASSED[revision]:
                    faults.append(f"direct {revision}: {outcome.passed} checks passed, not {PASSED[revision]}")
            for leg in GATEWAYS:
                with gateway(leg, port, folder / leg) as front:
                    for revision, outcome in runs(suite, front, folder / leg).items():
                        table.append(row(leg, revision, outcome, direct[revision]))
                        faults += [f"{leg} {revision}: {line}" for line in outcome.differences(direct[revision])]
        with federation(folder / FEDERATION) as front:
            for revision, outcome in runs(suite, front, folder / FEDERATION).items():
                table.append(row(FEDERATION, revision, outcome, direct[revision]))
                other = {id for _, id, _ in outcome.other(direct[revision])}
                faults += [f"{FEDERATION} {revision}: {id}" for id in sorted(other ^ otherwise(revision))]
    sys.stdout.write("\n".join([*faults, *table, ""]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
