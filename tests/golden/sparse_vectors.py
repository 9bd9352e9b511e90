"""Golden vectors: what torch's optimizers make of row-sparse gradients, in float64.

    python tests/golden/sparse_vectors.py [file]

writes sparse.json, or the file: torch's SparseAdam, SGD and Adagrad on one table. It needs what torch_vectors.py
needs, and roots are taken as there; reading the vectors (tests/test_golden.py) needs none of it.

Design
------
- Each step names other rows, unsorted and most of them repeatedly; one step names none, one a single row five times,
  and one row is never named. The columns have magnitudes of their own.
- torch sums repeated rows in the order given (coalesce). Its SparseAdam and Adagrad do so themselves. Its SGD would
  subtract each of them by itself, so it is handed the sums.
- SparseAdam corrects the bias of the step's length and leaves eps as it is: this is eps_form="hat".
"""

import json
import random
import sys
from pathlib import Path

import numpy as np
from torch_vectors import RENAMED, STATE, VERSION, load_torch, run_with_exact_roots, write

FILE = Path(__file__).with_name("sparse.json")
SHAPE = (9, 4)
EXPONENTS = (-27, -7, 0, 5)  # of two, for each column; the first is about the eps of Adam
STEPS = 30
SNAPSHOTS = (1, 10, STEPS)
EMPTY, SINGLE, ABSENT = 7, 12, 4  # the step that names no row, the one that names a single row, the row never named

# Each case: torch's class and keywords.
CASES = {
    "sparse sgd": ("SGD", {"lr": 0.05}),
    "sparse sgd maximize": ("SGD", {"lr": 0.05, "maximize": True}),
    "sparse adagrad": ("Adagrad", {}),
    "sparse adagrad lr_decay initial_accumulator": (
        "Adagrad",
        {"lr": 0.3, "lr_decay": 0.07, "initial_accumulator_value": 0.3, "eps": 1e-4},
    ),
    "sparse adagrad maximize": ("Adagrad", {"lr": 0.1, "maximize": True}),
    "sparse adam": ("SparseAdam", {}),
    "sparse adam betas eps": ("SparseAdam", {"lr": 0.03, "betas": (0.7, 0.95), "eps": 1e-3}),
    "sparse adam maximize": ("SparseAdam", {"lr": 0.01, "maximize": True}),
}


def make_steps(generator):
    """For each step the rows, and the values of each of them."""
    named = [row for row in range(SHAPE[0]) if row != ABSENT]
    steps = []
    for t in range(1, STEPS + 1):
        count = {EMPTY: 0, SINGLE: 5}.get(t, 1 + int(12 * generator.random()))
        rows = [named[int(len(named) * generator.random())] for _ in range(count)]
        if t == SINGLE:
            rows = rows[:1] * count
        values = [[(generator.random() - 0.5) * 2.0**e for e in EXPONENTS] for _ in rows]
        steps.append({"rows": rows, "values": values})
    return steps


def run(torch, case, start, steps):
    """The table after some of the steps, and the state after the last."""
    class_name, keywords = case
    table = torch.nn.Parameter(torch.tensor(start).reshape(SHAPE))
    options = {} if class_name == "SparseAdam" else {"foreach": False, "fused": False}
    optimizer = getattr(torch.optim, class_name)([table], **keywords, **options)
    after = {}
    for t, step in enumerate(steps, start=1):
        rows = torch.tensor([step["rows"]], dtype=torch.int64)
        values = torch.tensor(step["values"]).reshape(-1, SHAPE[1])
        gradient = torch.sparse_coo_tensor(rows, values, SHAPE)
        table.grad = gradient.coalesce() if class_name == "SGD" else gradient
        optimizer.step()
        if t in SNAPSHOTS:
            after[str(t)] = [table.detach().flatten().tolist()]
    names = {**STATE, "SparseAdam": STATE["Adam"]}[class_name]
    kept = optimizer.state[table].items()
    return {"after": after, "state": [{names[key]: array.flatten().tolist() for key, array in kept if key in names}]}


def spelling(case):
    """The case in optcore's words: class and keywords."""
    class_name, keywords = case
    ours = {RENAMED.get(key, key): value for key, value in keywords.items()}
    if class_name == "SparseAdam":
        return {"class": "Adam", "keywords": {**ours, "eps_form": "hat"}, "groups": None}
    return {"class": class_name, "keywords": ours, "groups": None}


def main(path):
    torch = load_torch()
    torch.sparse.check_sparse_tensor_invariants.enable()
    generator = random.Random(0)
    start = [4.0 * generator.random() - 2.0 for _ in range(int(np.prod(SHAPE)))]
    steps = make_steps(generator)
    results = {
        name: {
            "torch": {"class": case[0], "keywords": case[1]},
            "optcore": [spelling(case)],
            **run_with_exact_roots(torch, run, case, start, steps),
        }
        for name, case in CASES.items()
    }
    rows = ",\n".join(json.dumps(step) for step in steps)
    head = {"torch": json.dumps(VERSION), "shapes": json.dumps([SHAPE]), "start": json.dumps(start)}
    write(path, {**head, "steps": f"[\n{rows}\n]"}, results)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)
