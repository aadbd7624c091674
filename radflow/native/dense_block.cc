// Batch normalisation with ReLU as the layers of a dense block want it. All maps of a block lie in one buffer, to which
// each layer appends its own in place; statistics of a channel are taken once, when it is appended; normalisation and
// ReLU are one pass over the first channels of the buffer; and gradients are added in place to those of the buffer.
//
// Sums over pixels are taken in blocks of a fixed size and joined in their order, so that results do not depend on the
// number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "normalized.h"
#include "pixel_loops.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace radflow {

// Mean and biased variance of each channel; of no films 0.
template <typename E>
void TakeStatistics(OpKernelContext* context, const E* x, int64_t pixels, int64_t channels, float* mean,
                    float* variance) {
  std::vector<float> shift(channels, 0.0f);  // near the mean, so that nothing cancels
  if (pixels > 0)
    for (int64_t j = 0; j < channels; ++j) shift[j] = Load(x + j);
  const std::vector<double> total =
      SumBlocks(context, pixels, channels, channels, [&](int64_t begin, int64_t count, float* sum, float* square) {
        ChosenKernels<E>().sum_pixels(x + begin * channels, shift.data(), count, channels, sum, square);
      });
  const double values = std::max<int64_t>(1, pixels);
  for (int64_t j = 0; j < channels; ++j) {
    const double centre = total[j] / values, square = total[channels + j] / values;
    mean[j] = static_cast<float>(shift[j] + centre);
    variance[j] = static_cast<float>(std::max(0.0, square - centre * centre));
  }
}

// Copies pixels of `channels` values into a buffer of `stride` values a pixel.
template <typename E>
void CopyChannels(OpKernelContext* context, const E* x, int64_t pixels, int64_t channels, int64_t stride, E* to) {
  ShareBlocks(context, pixels, channels, [&](int64_t first, int64_t last) {
    const int64_t end = std::min(last * kPixelsOfBlock, pixels);
    for (int64_t p = first * kPixelsOfBlock; p < end; ++p)
      std::memcpy(to + p * stride, x + p * channels, channels * sizeof(E));
  });
}

// A buffer of `total` channels whose first are those of the maps, and their statistics, [2, total]; all others are not
// set until they are appended.
template <typename T>
class BeginBlockOp : public OpKernel {
 public:
  explicit BeginBlockOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("total", &total_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& maps = context->input(0);
    const int64_t channels = maps.dim_size(3), pixels = PixelsOf(maps);
    OP_REQUIRES(context, maps.dims() == 4 && channels <= total_,
                tensorflow::errors::InvalidArgument("maps must be [n, h, w, channels], of at most the total"));
    TensorShape shape = maps.shape();
    shape.set_dim(3, total_);
    Tensor *statistics = nullptr, *buffer = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({2, total_}), &statistics));
    float* mean = statistics->flat<float>().data();
    TakeStatistics(context, Data<T>(maps), pixels, channels, mean, mean + total_);
    if (channels == total_) {
      context->set_output(0, maps);
      return;
    }
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &buffer));
    CopyChannels(context, Data<T>(maps), pixels, channels, total_, Data<T>(buffer));
  }

 private:
  int64_t total_;
};

// Writes maps into the buffer behind its first `filled` channels, in place where nobody else has the buffer.
template <typename T>
class AppendOp : public OpKernel {
 public:
  explicit AppendOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("filled", &filled_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &before = context->input(0), &statistics_before = context->input(1), &maps = context->input(2);
    const int64_t total = before.dim_size(3), channels = maps.dim_size(3), pixels = PixelsOf(maps);
    OP_REQUIRES(context, PixelsOf(before) == pixels && filled_ + channels <= total,
                tensorflow::errors::InvalidArgument("the buffer has other pixels, or no room for the maps"));
    Tensor *buffer = nullptr, *statistics = nullptr;
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({0}, 0, before.shape(), &buffer));
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({1}, 1, statistics_before.shape(), &statistics));
    if (!buffer->SharesBufferWith(before))
      std::memcpy(Data<T>(buffer), Data<T>(before), before.TotalBytes());
    if (!statistics->SharesBufferWith(statistics_before))
      std::memcpy(statistics->flat<float>().data(), statistics_before.flat<float>().data(),
                  statistics_before.TotalBytes());
    CopyChannels(context, Data<T>(maps), pixels, channels, total, Data<T>(buffer) + filled_);
    float* mean = statistics->flat<float>().data() + filled_;
    TakeStatistics(context, Data<T>(maps), pixels, channels, mean, mean + total);
  }

 private:
  int64_t filled_;
};

template <typename T>
class NormalizeReluOp : public OpKernel {
 public:
  explicit NormalizeReluOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
  }

  void Compute(OpKernelContext* context) override {
    using E = typename Raw<T>::Type;
    Normalized<T> maps;
    OP_REQUIRES_OK(context, maps.Read(context, epsilon_));
    TensorShape shape = context->input(0).shape();
    shape.set_dim(3, maps.channels);
    Tensor* output = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &output));
    E* y = Data<T>(output);
    ShareBlocks(context, maps.pixels, 2 * maps.channels, [&](int64_t first, int64_t last) {
      const int64_t begin = first * kPixelsOfBlock, count = std::min(last * kPixelsOfBlock, maps.pixels) - begin;
      maps.NormalizeRows(begin, count, y + begin * maps.channels, maps.channels);
    });
  }

 private:
  float epsilon_;
};

template <typename T>
class NormalizeReluGradOp : public OpKernel {
 public:
  explicit NormalizeReluGradOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
  }

  void Compute(OpKernelContext* context) override {
    Normalized<T> maps;
    OP_REQUIRES_OK(context, maps.Read(context, epsilon_));
    const Tensor* upstream = nullptr;
    OP_REQUIRES_OK(context, context->input("dy", &upstream));
    OP_REQUIRES(context, upstream->NumElements() == maps.pixels * maps.channels,
                tensorflow::errors::InvalidArgument("dy must be of the channels of gamma"));
    tensorflow::OpInputList added;
    OP_REQUIRES_OK(context, context->input_list("added", &added));
    OP_REQUIRES(context, added.size() ? added[0].shape() == context->input(1).shape() : maps.channels == maps.stride,
                tensorflow::errors::InvalidArgument("gradients of the other channels are missing"));
    const std::vector<float> sums = Sums(context, maps, Data<T>(*upstream));
    WriteParameters(context, maps, sums);
    if (context->status().ok()) WriteMaps(context, maps, Data<T>(*upstream), added, sums);
  }

 private:
  // For each channel the sum of the gradients that pass, then that of their products with the centred input.
  template <typename E = typename Raw<T>::Type>
  std::vector<float> Sums(OpKernelContext* context, const Normalized<T>& maps, const E* dy) const {
    const Channels& constants = maps.constants;
    const std::vector<double> total = SumBlocks(
        context, maps.pixels, maps.channels, 3 * maps.channels,
        [&](int64_t begin, int64_t count, float* sum, float* product) {
          ChosenKernels<E>().sum_gradients(maps.x + begin * maps.stride, dy + begin * maps.channels,
                                           constants.scale.data(), constants.offset.data(), constants.mean.data(),
                                           count, maps.channels, maps.stride, sum, product);
        });
    return std::vector<float>(total.begin(), total.end());
  }

  void WriteParameters(OpKernelContext* context, const Normalized<T>& maps, const std::vector<float>& sums) const {
    Tensor *gamma = nullptr, *beta = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({maps.channels}), &gamma));
    OP_REQUIRES_OK(context, context->allocate_output(2, TensorShape({maps.channels}), &beta));
    for (int64_t j = 0; j < maps.channels; ++j) {
      beta->flat<float>()(j) = sums[j];
      gamma->flat<float>()(j) = sums[maps.channels + j] * maps.constants.inverse_deviation[j];
    }
  }

  template <typename E = typename Raw<T>::Type>
  void WriteMaps(OpKernelContext* context, const Normalized<T>& maps, const E* dy,
                 const tensorflow::OpInputList& added, const std::vector<float>& sums) const {
    const int64_t channels = maps.channels;
    const Channels& constants = maps.constants;
    std::vector<float> mean_gradient(channels), slope(channels);
    for (int64_t j = 0; j < channels; ++j) {
      const float inverse = constants.inverse_deviation[j];
      mean_gradient[j] = sums[j] / maps.pixels;
      slope[j] = sums[channels + j] / maps.pixels * inverse * inverse;
    }
    Tensor* gradient = nullptr;
    const TensorShape& shape = context->input(1).shape();
    if (added.size())
      OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({5}, 0, shape, &gradient));
    else
      OP_REQUIRES_OK(context, context->allocate_output(0, shape, &gradient));
    const E* before = added.size() ? Data<T>(added[0]) : nullptr;
    E* dx = Data<T>(gradient);
    if (before && before != dx) std::memcpy(dx, before, added[0].TotalBytes());
    const auto write = before ? ChosenKernels<E>().add : ChosenKernels<E>().write;
    ShareBlocks(context, maps.pixels, 4 * channels, [&](int64_t first, int64_t last) {
      const int64_t begin = first * kPixelsOfBlock, count = std::min(last * kPixelsOfBlock, maps.pixels) - begin;
      const int64_t at = begin * maps.stride;
      write(maps.x + at, dy + begin * channels, dx + at, constants.scale.data(), constants.offset.data(),
            constants.mean.data(), mean_gradient.data(), slope.data(), count, channels, maps.stride, dx + at);
    });
  }

  float epsilon_;
};

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("RadflowBeginBlock")
    .Attr("T: {bfloat16, float}")
    .Attr("total: int")
    .Input("maps: T")
    .Output("block: T")
    .Output("statistics: float")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle maps;
      int64_t total;
      TF_RETURN_IF_ERROR(context->GetAttr("total", &total));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 4, &maps));
      TF_RETURN_IF_ERROR(context->ReplaceDim(maps, 3, context->MakeDim(total), &maps));
      context->set_output(0, maps);
      context->set_output(1, context->MakeShape({context->MakeDim(2), context->MakeDim(total)}));
      return tensorflow::OkStatus();
    });

REGISTER_OP("RadflowAppend")
    .Attr("T: {bfloat16, float}")
    .Attr("filled: int")
    .Input("block: T")
    .Input("statistics: float")
    .Input("maps: T")
    .Output("longer: T")
    .Output("more_statistics: float")
    .SetShapeFn([](InferenceContext* context) {
      context->set_output(0, context->input(0));
      context->set_output(1, context->input(1));
      return tensorflow::OkStatus();
    });

REGISTER_OP("RadflowNormalizeRelu")
    .Attr("T: {bfloat16, float}")
    .Attr("epsilon: float")
    .Input("maps: T")
    .Input("statistics: float")
    .Input("gamma: float")
    .Input("beta: float")
    .Output("y: T")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle maps;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 4, &maps));
      TF_RETURN_IF_ERROR(context->ReplaceDim(maps, 3, context->Dim(context->input(2), 0), &maps));
      context->set_output(0, maps);
      return tensorflow::OkStatus();
    });

REGISTER_OP("RadflowNormalizeReluGrad")
    .Attr("T: {bfloat16, float}")
    .Attr("M: int >= 0")
    .Attr("epsilon: float")
    .Input("dy: T")
    .Input("maps: T")
    .Input("statistics: float")
    .Input("gamma: float")
    .Input("beta: float")
    .Input("added: M * T")
    .Output("dmaps: T")
    .Output("dgamma: float")
    .Output("dbeta: float")
    .SetShapeFn([](InferenceContext* context) {
      context->set_output(0, context->input(1));
      context->set_output(1, context->input(3));
      context->set_output(2, context->input(4));
      return tensorflow::OkStatus();
    });

#define RADFLOW_REGISTER(T)                                                                                         \
  REGISTER_KERNEL_BUILDER(                                                                                          \
      Name("RadflowBeginBlock").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), BeginBlockOp<T>);            \
  REGISTER_KERNEL_BUILDER(Name("RadflowAppend").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), AppendOp<T>); \
  REGISTER_KERNEL_BUILDER(                                                                                          \
      Name("RadflowNormalizeRelu").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), NormalizeReluOp<T>);      \
  REGISTER_KERNEL_BUILDER(                                                                                          \
      Name("RadflowNormalizeReluGrad").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"),                       \
      NormalizeReluGradOp<T>);
RADFLOW_REGISTER(bfloat16)
RADFLOW_REGISTER(float)

}  // namespace radflow
