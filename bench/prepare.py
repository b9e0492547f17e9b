"""Preparing a data set of the published run's size: seconds and memory, and how they grow.

    python -m bench.prepare [--scales 1 2 4]

Makes 239,357 rows (and twice, four times as many) by sampling ../shared/data: 85 % with every fifth word exchanged, so
that they are new rows, 10 % with two words exchanged and 5 % as they are, which have to be found. Each measurement is a
process of its own. The peer of the same run does far less: it loads the same file with `datasets` and collapses white
space. Prints a table and writes it to bench/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.results import write

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"
ROWS = 239_357


def make(path: Path, count: int) -> None:
    rng = random.Random(count)
    rows = [json.loads(line) for file in sorted(SHARED.glob("*.jsonl")) for line in file.open(encoding="utf-8")]
    vocabulary = [word for row in rows[::10] for word in row["output"].split()]
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            row = dict(rng.choice(rows))
            kind = rng.random()
            for column in ("input", "output") if kind < 0.95 else ():
                words = row[column].split(" ")
                for place in rng.sample(range(len(words)), len(words) // 5 if kind < 0.85 else min(2, len(words) // 9)):
                    words[place] = rng.choice(vocabulary)
                row[column] = " ".join(words)
            file.write(json.dumps(row) + "\n")


def ours(file: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    from train.data import prepare
    from train.recipe import Recipe

    tokenizer = AutoTokenizer.from_pretrained(SHARED / "gemma3_tokenizer")
    prepare(Recipe(data=(str(file),)), folder, tokenizer)


def peer(file: Path, folder: Path) -> None:
    from datasets import load_dataset

    loaded = load_dataset("json", data_files=str(file), split="train", cache_dir=str(folder))
    loaded.map(lambda row: {name: " ".join(text.split()) for name, text in row.items()}).to_parquet(
        folder / "rows.parquet"
    )


def measured(what: str, file: Path, folder: Path) -> tuple[float, float]:
    """Seconds, imports included, and gigabytes of a process of its own."""
    command = [sys.executable, "-m", "bench.prepare", "--one", what, str(file), str(folder)]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    seconds, memory = output.split()[-2:]
    return float(seconds), float(memory)


def one(what: str, file: Path, folder: Path) -> None:
    start = time.perf_counter()
    {"ours": ours, "peer": peer}[what](file, folder)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(time.perf_counter() - start, memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], *map(Path, options.one[1:]))
        return
    lines = []
    for scale in options.scales:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make(folder / "rows.jsonl", scale * ROWS)
            seconds, memory = measured("ours", folder / "rows.jsonl", folder / "run")
            peer_seconds, peer_memory = measured("peer", folder / "rows.jsonl", folder)
            report = json.loads((folder / "run" / "data" / "report.json").read_text())
        dropped = report["dropped"]
        near = sum(count for reason, count in dropped.items() if "near" in reason)
        lines.append(
            f"| {scale}× | {report['rows']:,} | {dropped['exact duplicate']:,} | {near:,} | {seconds:.1f} | {memory:.2f} "
            f"| {peer_seconds:.1f} | {peer_memory:.2f} |"
        )
        print(lines[-1], flush=True)
    head = "| scale | rows | exact duplicates | near duplicates | s | peak GB | peer s | peer peak GB |\n|" + "---|" * 8
    text = "Target at 1×: 60 s and 2 GB. The peer only loads the rows and collapses their white space.\n\n" + "\n".join(
        [head, *lines]
    )
    write("prepare", text, ["datasets", "datasketch", "transformers"])


if __name__ == "__main__":
    main()
