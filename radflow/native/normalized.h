// What operations on normalised maps share: the normalisation of the first channels of a buffer, and work on blocks of
// pixels.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "numbers.h"
#include "pixel_loops.h"
#include "sharing.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace radflow {

constexpr int64_t kPixelsOfBlock = 256;  // of one partial sum: few enough for float32

// What a channel's normalisation needs: y = max(0, x * scale + offset).
struct Channels {
  std::vector<float> scale, offset, mean, inverse_deviation;

  tensorflow::Status Set(const Tensor& statistics, const Tensor& gamma, const Tensor& beta, float epsilon) {
    const int64_t channels = gamma.NumElements();
    if (beta.NumElements() != channels || statistics.dims() != 2 || statistics.dim_size(0) != 2 ||
        statistics.dim_size(1) < channels)
      return tensorflow::errors::InvalidArgument("statistics must be [2, channels or more], gamma and beta [channels]");
    for (auto* values : {&scale, &offset, &mean, &inverse_deviation}) values->resize(channels);
    const float *means = statistics.flat<float>().data(), *variances = means + statistics.dim_size(1);
    for (int64_t j = 0; j < channels; ++j) {
      const float inverse = 1.0f / std::sqrt(variances[j] + epsilon);
      mean[j] = means[j];
      inverse_deviation[j] = inverse;
      scale[j] = gamma.flat<float>()(j) * inverse;
      offset[j] = beta.flat<float>()(j) - means[j] * scale[j];
    }
    return tensorflow::OkStatus();
  }
};

// Calls work(first block, last block) on the threads of the process.
template <typename Work>
void ShareBlocks(OpKernelContext* context, int64_t pixels, int64_t cost_of_pixel, const Work& work) {
  Share(context, Parts(pixels, kPixelsOfBlock), cost_of_pixel * kPixelsOfBlock, work);
}

inline int64_t PixelsOf(const Tensor& maps) { return maps.NumElements() / std::max<int64_t>(1, maps.dim_size(3)); }

// Sums of blocks, `values` of each, joined in the order of the blocks.
inline std::vector<double> JoinBlocks(const std::vector<float>& partial, int64_t values) {
  std::vector<double> total(values, 0.0);
  for (size_t block = 0; block < partial.size(); block += values)
    for (int64_t j = 0; j < values; ++j) total[j] += partial[block + j];
  return total;
}

// Sums of parts: work(part, sums) adds those of a part, and parts are joined in their order.
template <typename Work>
std::vector<double> SumParts(OpKernelContext* context, int64_t parts, int64_t values, int64_t cost_of_part,
                             const Work& work) {
  std::vector<float> partial(parts * values, 0.0f);
  Share(context, parts, cost_of_part, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part) work(part, partial.data() + part * values);
  });
  return JoinBlocks(partial, values);
}

// Two sums over pixels for each channel: work(first pixel, pixels, sums, other sums) adds those of a block.
template <typename Work>
std::vector<double> SumBlocks(OpKernelContext* context, int64_t pixels, int64_t channels, int64_t cost_of_pixel,
                              const Work& work) {
  return SumParts(context, Parts(pixels, kPixelsOfBlock), 2 * channels, cost_of_pixel * kPixelsOfBlock,
                  [&](int64_t block, float* sums) {
                    const int64_t begin = block * kPixelsOfBlock;
                    work(begin, std::min(kPixelsOfBlock, pixels - begin), sums, sums + channels);
                  });
}

// The first channels of a buffer with what their normalisation needs.
template <typename T>
struct Normalized {
  using E = typename Raw<T>::Type;
  const E* x = nullptr;
  int64_t pixels = 0, channels = 0, stride = 0;
  Channels constants;

  tensorflow::Status Read(OpKernelContext* context, float epsilon) {
    const Tensor *maps = nullptr, *statistics = nullptr, *gamma = nullptr, *beta = nullptr;
    TF_RETURN_IF_ERROR(context->input("maps", &maps));
    TF_RETURN_IF_ERROR(context->input("statistics", &statistics));
    TF_RETURN_IF_ERROR(context->input("gamma", &gamma));
    TF_RETURN_IF_ERROR(context->input("beta", &beta));
    return Set(*maps, *statistics, *gamma, *beta, epsilon);
  }

  tensorflow::Status Set(const Tensor& maps, const Tensor& statistics, const Tensor& gamma, const Tensor& beta,
                         float epsilon) {
    channels = gamma.NumElements();
    if (maps.dims() != 4 || channels > maps.dim_size(3))
      return tensorflow::errors::InvalidArgument("maps must be [n, h, w, channels of gamma or more]");
    x = Data<T>(maps);
    pixels = PixelsOf(maps);
    stride = maps.dim_size(3);
    return constants.Set(statistics, gamma, beta, epsilon);
  }

  // Normalises pixels, with ReLU, into rows that lie so far apart.
  void NormalizeRows(int64_t first, int64_t count, E* y, int64_t y_stride) const {
    ChosenKernels<E>().normalize(x + first * stride, constants.scale.data(), constants.offset.data(), count, channels,
                                 stride, y, y_stride);
  }
};

}  // namespace radflow
