"""What comes before the first step: the size of a wheel, and how long `import optcore` takes beyond `import numpy`.

python bench/install.py            builds a wheel and prints both
python bench/install.py --check    also fails where one is above its limit
"""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = 21
MOST_BYTES = 1_000_000
MOST_MILLISECONDS = 15.0
PROGRAM = """
from time import perf_counter
start = perf_counter()
import numpy
between = perf_counter()
import optcore
print(1e3 * (between - start), 1e3 * (perf_counter() - between))
"""


def wheel_sizes():
    """Bytes of the wheel, and of each kind of file in it, compressed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, str(ROOT)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = Path(folder).glob("*.whl")
        kinds = {}
        with zipfile.ZipFile(wheel) as files:
            for entry in files.infolist():
                kind = Path(entry.filename).suffix
                kinds[kind] = kinds.get(kind, 0) + entry.compress_size
        return wheel.stat().st_size, kinds


def import_times():
    """Milliseconds of importing NumPy and of then importing optcore: the least of many processes.

    Whatever else the machine does can only add.
    """
    # As behind pip install, which compiles; the first run is not counted.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            subprocess.run(
                [sys.executable, "-c", PROGRAM], cwd=folder, env=environment, check=True, capture_output=True, text=True
            ).stdout.split()
            for _ in range(RUNS + 1)
        ]
    return [min(map(float, times)) for times in zip(*runs[1:], strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 where one is above its limit")
    check = parser.parse_args().check
    theirs, ours = import_times()
    print(f"import numpy    {theirs:7.1f} ms\nimport optcore  {ours:7.1f} ms more, {ours / theirs:.2f} of NumPy's")
    size, kinds = wheel_sizes()
    print(f"a wheel      {size:10,} bytes")
    for kind, part in sorted(kinds.items(), key=lambda item: -item[1])[:3]:
        print(f"{kind or 'others':>12} {part:10,}")
    failures = []
    if size > MOST_BYTES:
        failures.append(f"a wheel has {size:,} bytes; at most {MOST_BYTES:,} are promised")
    if ours > MOST_MILLISECONDS:
        failures.append(f"import optcore takes {ours:.1f} ms beyond NumPy; at most {MOST_MILLISECONDS} are promised")
    if check and failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
