#!/usr/bin/env bash
# The bits on another kind of CPU: cross-compiles optcore for aarch64, runs every optimizer and schedule there under
# emulation, and compares with what this machine makes of them.
#
#   bash tests/aarch64.sh                            compares tests/support.py's digest
#   bash tests/aarch64.sh tests/test_linear.py -q    runs these tests there, too (those that start no other process)
#
# Needs Debian or Ubuntu with mmdebstrap, qemu-user-static and gcc-aarch64-linux-gnu, and a Python with optcore, Cython,
# NumPy and setuptools. Takes about two minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root site=$work/site copy=$work/copy
expected=$(python tests/support.py)

mmdebstrap --quiet --arch=arm64 --variant=extract --include=python3,libpython3.11-dev,libstdc++6 bookworm "$root"
python -m pip install -q --target "$site" --only-binary=:all: --python-version 3.11 --implementation cp \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
    numpy pytest hypothesis scikit-learn tqdm

mkdir "$copy"
cp -r setup.py pyproject.toml README.md LICENSE src optcore tests "$copy"
rm -f "$copy"/optcore/*.so
cd "$copy"
# The headers of Python there come before those of this Python.
_PYTHON_HOST_PLATFORM=linux-aarch64 SETUPTOOLS_EXT_SUFFIX=.cpython-311-aarch64-linux-gnu.so \
    CC=aarch64-linux-gnu-gcc LDSHARED="aarch64-linux-gnu-gcc -shared" \
    CFLAGS="-I$site/numpy/_core/include -I$root/usr/include/python3.11 -idirafter $root/usr/include" \
    python setup.py -q build_ext --inplace > "$work/build.log"

there() {
    qemu-aarch64-static -L "$root" -E PYTHONPATH="$copy:$site" "$root/usr/bin/python3.11" "$@"
}
found=$(there tests/support.py)
echo "aarch64     $found"
echo "$(uname -m)      $expected"
test "$found" = "$expected"
if [ $# -gt 0 ]; then
    there -m pytest -p no:cacheprovider "$@"
fi
