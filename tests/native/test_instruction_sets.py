"""The same results on CPUs of other instruction sets, and the same bits with any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from native_operations import native  # noqa: F401 - a fixture

SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
from radflow.models.weight_gradient import gradient_by_own_operation
from radflow.native.bias_relu import bias_relu_gradients, pool_bias_relu, pool_bias_relu_gradients
from radflow.native.normalization import append_maps, begin_maps, normalize_relu, normalize_relu_gradients
from radflow.native.pointwise import convolve_normalized, convolve_normalized_gradients, take_gradient
from radflow.native.residual import Addend, add_normalized, add_normalized_gradients
from radflow.native.winograd import convolve_by_winograd, input_gradient_by_winograd, weight_gradient_by_winograd

tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[2]))
generator, results = np.random.default_rng(0), {}
values = [generator.normal(1, 2, (4, 30, 31, channels)) for channels in (50, 33)]
upstream, gamma, beta = generator.normal(size=(4, 30, 31, 83)), generator.normal(1, 0.3, 83), generator.normal(size=83)
kernel = generator.normal(size=(1, 1, 64, 96))
parameters = [tf.constant(each, tf.float32) for each in (gamma, beta)]
for dtype in ("float32", "bfloat16"):
    maps = append_maps(begin_maps(tf.constant(values[0], dtype), 83), tf.constant(values[1], dtype), 50)
    gradients = normalize_relu_gradients(tf.constant(upstream, dtype), maps, *parameters, 1e-5)
    outputs = [maps.statistics, normalize_relu(maps, *parameters, 1e-5), *gradients]
    outputs.append(gradient_by_own_operation(tf.constant(values[0], dtype), tf.constant(values[1], dtype), 3))
    whole = begin_maps(tf.constant(upstream[..., :64], dtype), 64)
    given = [each[:64] for each in parameters] + [tf.constant(kernel, dtype), 1e-5]
    y = convolve_normalized(whole, *given)
    gradient, *of_parameters = convolve_normalized_gradients(y.values, whole, *given)
    outputs += [y.values, y.statistics, take_gradient(gradient, whole, 0, 64), *of_parameters]
    total = add_normalized([Addend(maps, *parameters)], 1e-5, tf.constant(upstream, dtype))
    of_addends, *of_parameters = add_normalized_gradients(total, total, [Addend(maps, *parameters)], 1e-5)
    outputs += [total, *of_addends, *sum(of_parameters, [])]
    pooled, choices = pool_bias_relu(whole.values, parameters[1][:64])
    outputs += [pooled, *pool_bias_relu_gradients(pooled, choices, 30, 31), *bias_relu_gradients(total, total)]
    if dtype == "float32":
        of_3x3 = tf.constant(generator.normal(size=(3, 3, 64, 32)), dtype)
        y = convolve_by_winograd(whole.values, of_3x3, parameters[1][:32])
        outputs += [y, input_gradient_by_winograd(y, of_3x3), weight_gradient_by_winograd(whole.values, y)]
    results |= {f"{dtype}_{place}": np.asarray(output, np.float32) for place, output in enumerate(outputs)}
np.savez(sys.argv[1], **results)
"""


def results(folder: Path, most: str, threads: int) -> dict[str, np.ndarray]:
    path = folder / f"{most}-{threads}.npz"
    variables = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"} | ({"ONEDNN_MAX_CPU_ISA": most} if most else {})
    subprocess.run([sys.executable, "-c", SCRIPT, path, str(threads)], env=variables, check=True)
    with np.load(path) as kept:
        return dict(kept)


@pytest.mark.slow
@pytest.mark.usefixtures("native")
def test_instruction_sets_and_threads_change_nothing_that_matters(tmp_path: Path) -> None:
    own = results(tmp_path, "", threads=1)
    for name, value in results(tmp_path, "", threads=2).items():
        np.testing.assert_array_equal(value, own[name], err_msg=name)
    for most in ("AVX512_CORE", "AVX2", "SSE41"):
        for name, value in results(tmp_path, most, threads=1).items():
            # Sums are taken in another order, and rounding to bfloat16 may go the other way.
            tolerance = 2.0**-7 if name.startswith("bfloat16") else 1e-5
            atol = max(1e-3, tolerance * np.abs(own[name]).max())
            np.testing.assert_allclose(value, own[name], rtol=tolerance, atol=atol, err_msg=f"{most} {name}")
