"""A soak of minutes: `python -m tests.soak`. The report goes to standard output, samples and picture into a folder."""

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

import uvloop

from .processes import open_files
from .run import Plan, Run


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    options.add_argument("--requests", type=int, default=200_000, help="of the mixed traffic (default: %(default)s)")
    options.add_argument("--minutes", type=float, default=math.inf, help="for those at most (default: no limit)")
    options.add_argument("--connections", type=int, default=48, help="of the callers (default: %(default)s)")
    options.add_argument("--streams", type=int, default=10_000, help="open at once (default: %(default)s)")
    options.add_argument("--restarts", type=int, default=5, help="of the upstream (default: %(default)s)")
    options.add_argument("--seed", type=int, default=0, help="of what happens (default: %(default)s)")
    options.add_argument("--folder", type=Path, help="for what is written (default: a new one)")
    given = options.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        given.requests,
        seconds=given.minutes * 60,
        connections=given.connections,
        streams=given.streams,
        restarts=given.restarts,
        seed=given.seed,
    )
    open_files()
    report = uvloop.run(Run(plan, folder.resolve(), lambda text: print(text, file=sys.stderr, flush=True)).run())
    print(json.dumps(report.figures, indent=2))
    print(f"{folder}: report.json, samples.csv, soak.svg")
    for fault in report.faults:
        print(f"FAULT: {fault}")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
