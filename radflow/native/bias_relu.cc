// Bias, ReLU and 2x2 max pooling in one pass, with a gradient that needs no more than which of the four pixels was the
// largest; and the gradient of bias and ReLU alone.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "normalized.h"
#include "sharing.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace radflow {

using tensorflow::errors::InvalidArgument;

constexpr uint8_t kNone = 4;  // instead of the number of a pixel: none of the four is above 0

// Takes the larger of two values; NaN is larger than all, since a loss that is not finite must show.
RADFLOW_INLINE void Take(float value, int32_t number, float* largest, int32_t* choice) {
  const bool is_larger = value > *largest || value != value;
  *largest = is_larger ? value : *largest;
  *choice = is_larger ? number : *choice;
}

// The largest of four pixels with bias, in two rows of maps: `pixels` of them beside each other.
template <typename E>
RADFLOW_INLINE void PoolRow(const E* upper, const E* lower, const float* bias, int64_t pixels, int64_t channels, E* y,
                            uint8_t* choices) {
  for (int64_t p = 0; p < pixels;
       ++p, upper += 2 * channels, lower += 2 * channels, y += channels, choices += channels) {
#pragma GCC ivdep  // what is written is not what is read
    for (int64_t j = 0; j < channels; ++j) {
      float largest = Load(upper + j) + bias[j];
      int32_t choice = 0;
      Take(Load(upper + channels + j) + bias[j], 1, &largest, &choice);
      Take(Load(lower + j) + bias[j], 2, &largest, &choice);
      Take(Load(lower + channels + j) + bias[j], 3, &largest, &choice);
      Store(y + j, largest <= 0.0f ? 0.0f : largest);
      choices[j] = static_cast<uint8_t>(largest <= 0.0f ? kNone : choice);
    }
  }
}

// The bits of a number where it is wanted, else those of 0: without branches, which would keep loops from being
// vectorised.
template <typename E>
RADFLOW_INLINE E Where(bool is_wanted, E value) {
  using Bits = std::conditional_t<sizeof(E) == 4, uint32_t, uint16_t>;
  Bits bits;
  std::memcpy(&bits, &value, sizeof(bits));
  bits &= -static_cast<Bits>(is_wanted);
  std::memcpy(&value, &bits, sizeof(bits));
  return value;
}

// Gives the gradient of each pooled pixel to the one of four that was the largest; adds to the sums what was given.
template <typename E>
RADFLOW_INLINE void SpreadRow(const E* dy, const uint8_t* choices, int64_t pixels, int64_t channels, E* upper, E* lower,
                              float* sum) {
  for (int64_t p = 0; p < pixels;
       ++p, upper += 2 * channels, lower += 2 * channels, dy += channels, choices += channels) {
#pragma GCC ivdep
    for (int64_t j = 0; j < channels; ++j) {
      const E upstream = dy[j], passed = Where(choices[j] < kNone, upstream);
      upper[j] = Where(choices[j] == 0, upstream);
      upper[channels + j] = Where(choices[j] == 1, upstream);
      lower[j] = Where(choices[j] == 2, upstream);
      lower[channels + j] = Where(choices[j] == 3, upstream);
      sum[j] += Load(&passed);
    }
  }
}

// What of dy passes a ReLU whose output is y, for so many pixels, and its sum. It may be written over either.
template <int kPixels, typename E>
RADFLOW_INLINE void PassSome(const E* dy, const E* y, int64_t channels, E* dx, float* sum) {
#pragma GCC ivdep
  for (int64_t j = 0; j < channels; ++j) {
    float passed = 0.0f;
    for (int q = 0; q < kPixels; ++q) {
      const E upstream = dy[q * channels + j], gradient = Load(y + q * channels + j) > 0.0f ? upstream : E{};
      dx[q * channels + j] = gradient;
      passed += Load(&gradient);
    }
    sum[j] += passed;
  }
}

template <typename E>
RADFLOW_INLINE void PassPixels(const E* dy, const E* y, int64_t pixels, int64_t channels, E* dx, float* sum) {
  int64_t p = 0;
  for (; p + kUnrolled <= pixels; p += kUnrolled)
    PassSome<kUnrolled>(dy + p * channels, y + p * channels, channels, dx + p * channels, sum);
  for (; p < pixels; ++p) PassSome<1>(dy + p * channels, y + p * channels, channels, dx + p * channels, sum);
}

template <typename E>
struct BiasReluKernels {
  void (*pool)(const E*, const E*, const float*, int64_t, int64_t, E*, uint8_t*);
  void (*spread)(const E*, const uint8_t*, int64_t, int64_t, E*, E*, float*);
  void (*pass)(const E*, const E*, int64_t, int64_t, E*, float*);
};

#define RADFLOW_BIAS_RELU_KERNELS(NAME, TARGET)                                                                        \
  template <typename E>                                                                                                \
  struct NAME {                                                                                                        \
    TARGET static void Pool(const E* upper, const E* lower, const float* bias, int64_t n, int64_t c, E* y,             \
                            uint8_t* choices) {                                                                        \
      PoolRow(upper, lower, bias, n, c, y, choices);                                                                   \
    }                                                                                                                  \
    TARGET static void Spread(const E* dy, const uint8_t* choices, int64_t n, int64_t c, E* upper, E* lower,           \
                              float* sum) {                                                                            \
      SpreadRow(dy, choices, n, c, upper, lower, sum);                                                                 \
    }                                                                                                                  \
    TARGET static void Pass(const E* dy, const E* y, int64_t n, int64_t c, E* dx, float* sum) {                        \
      PassPixels(dy, y, n, c, dx, sum);                                                                                \
    }                                                                                                                  \
    static BiasReluKernels<E> All() { return {Pool, Spread, Pass}; }                                                   \
  };

RADFLOW_BIAS_RELU_KERNELS(PortableBiasRelu, )
#if defined(__x86_64__)
RADFLOW_BIAS_RELU_KERNELS(Avx2BiasRelu, RADFLOW_AVX2)
RADFLOW_BIAS_RELU_KERNELS(Avx512BiasRelu, RADFLOW_AVX512)
#endif

template <typename E>
const BiasReluKernels<E>& ChosenBiasRelu() {
  static const BiasReluKernels<E> chosen = [] {
#if defined(__x86_64__)
    if (Uses(Instructions::kAvx512)) return Avx512BiasRelu<E>::All();
    if (Uses(Instructions::kAvx2)) return Avx2BiasRelu<E>::All();
#endif
    return PortableBiasRelu<E>::All();
  }();
  return chosen;
}

// Calls work(part, sums) on the threads, and writes the sums of all parts, float [channels], joined in order.
template <typename Work>
void WriteSums(OpKernelContext* context, int64_t parts, int64_t channels, int64_t cost, int output, const Work& work) {
  Tensor* sums = nullptr;
  OP_REQUIRES_OK(context, context->allocate_output(output, TensorShape({channels}), &sums));
  const std::vector<double> total = SumParts(context, parts, channels, cost, work);
  std::copy(total.begin(), total.end(), sums->flat<float>().data());
}

template <typename T>
class BiasReluGradOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    using E = typename Raw<T>::Type;
    const Tensor &dy = context->input(0), &y = context->input(1);
    OP_REQUIRES(context, dy.dims() == 4 && dy.shape() == y.shape(),
                InvalidArgument("dy and y must be of one shape, [n, h, w, channels]"));
    Tensor* dx = nullptr;
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({0, 1}, 0, dy.shape(), &dx));
    const int64_t channels = dy.dim_size(3), pixels = PixelsOf(dy);
    const E *upstream = Data<T>(dy), *outputs = Data<T>(y);
    E* gradient = Data<T>(dx);
    WriteSums(context, Parts(pixels, kPixelsOfBlock), channels, 2 * kPixelsOfBlock * channels, 1,
              [&](int64_t block, float* sums) {
                const int64_t begin = block * kPixelsOfBlock, at = begin * channels;
                const int64_t count = std::min(kPixelsOfBlock, pixels - begin);
                ChosenBiasRelu<E>().pass(upstream + at, outputs + at, count, channels, gradient + at, sums);
              });
  }
};

// Maps and what pooling makes of them, which leaves out a last odd row and column.
struct Pooling {
  int64_t films, height, width, channels;

  int64_t Down() const { return height / 2; }
  int64_t Across() const { return width / 2; }
  int64_t Rows() const { return films * Down(); }
  TensorShape Pooled() const { return TensorShape({films, Down(), Across(), channels}); }
  // Where the upper of the two rows that make a pooled one begins.
  int64_t Upper(int64_t row) const { return (row / Down() * height + row % Down() * 2) * width * channels; }
  int64_t Lower(int64_t row) const { return Upper(row) + width * channels; }
  int64_t PooledRow(int64_t row) const { return row * Across() * channels; }
};

template <typename T>
class BiasReluPoolOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    using E = typename Raw<T>::Type;
    const Tensor &maps = context->input(0), &bias = context->input(1);
    OP_REQUIRES(context, maps.dims() == 4 && bias.dims() == 1 && bias.dim_size(0) == maps.dim_size(3),
                InvalidArgument("maps must be [n, h, w, channels], the bias [channels]"));
    const Pooling pooling{maps.dim_size(0), maps.dim_size(1), maps.dim_size(2), maps.dim_size(3)};
    Tensor *outputs = nullptr, *chosen = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, pooling.Pooled(), &outputs));
    OP_REQUIRES_OK(context, context->allocate_output(1, pooling.Pooled(), &chosen));
    const E* x = Data<T>(maps);
    E* y = Data<T>(outputs);
    uint8_t* choices = chosen->flat<uint8_t>().data();
    Share(context, pooling.Rows(), 4 * pooling.Across() * pooling.channels, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row)
        ChosenBiasRelu<E>().pool(x + pooling.Upper(row), x + pooling.Lower(row), bias.flat<float>().data(),
                                 pooling.Across(), pooling.channels, y + pooling.PooledRow(row),
                                 choices + pooling.PooledRow(row));
    });
  }
};

template <typename T>
class BiasReluPoolGradOp : public OpKernel {
 public:
  explicit BiasReluPoolGradOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("height", &height_));
    OP_REQUIRES_OK(context, context->GetAttr("width", &width_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &dy = context->input(0), &choices = context->input(1);
    OP_REQUIRES(context, dy.dims() == 4 && dy.shape() == choices.shape() && dy.dim_size(1) == height_ / 2 &&
                             dy.dim_size(2) == width_ / 2,
                InvalidArgument("dy and choices must be of one shape, [n, height / 2, width / 2, channels]"));
    const Pooling pooling{dy.dim_size(0), height_, width_, dy.dim_size(3)};
    Tensor* gradient = nullptr;
    const TensorShape shape({pooling.films, pooling.height, pooling.width, pooling.channels});
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &gradient));
    E* dx = Data<T>(gradient);
    if (!dy.NumElements()) std::fill_n(dx, gradient->NumElements(), E{});
    WriteSums(context, pooling.Rows(), pooling.channels, 5 * pooling.Across() * pooling.channels, 1,
              [&](int64_t row, float* sums) {
                ChosenBiasRelu<E>().spread(Data<T>(dy) + pooling.PooledRow(row),
                                           choices.flat<uint8_t>().data() + pooling.PooledRow(row), pooling.Across(),
                                           pooling.channels, dx + pooling.Upper(row), dx + pooling.Lower(row), sums);
                ClearEdges(pooling, row, dx);
              });
  }

 private:
  using E = typename Raw<T>::Type;

  // What pooling leaves out has no gradient.
  static void ClearEdges(const Pooling& pooling, int64_t row, E* dx) {
    const int64_t of_row = pooling.width * pooling.channels;
    if (pooling.width % 2)
      for (const int64_t begin : {pooling.Upper(row), pooling.Lower(row)})
        std::fill_n(dx + begin + of_row - pooling.channels, pooling.channels, E{});
    if (pooling.height % 2 && (row + 1) % pooling.Down() == 0)
      std::fill_n(dx + pooling.Lower(row) + of_row, of_row, E{});
  }

  int64_t height_, width_;
};

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("RadflowBiasReluGrad")
    .Attr("T: {bfloat16, float}")
    .Input("dy: T")
    .Input("y: T")
    .Output("dx: T")
    .Output("dbias: float")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle maps;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 4, &maps));
      context->set_output(0, maps);
      context->set_output(1, context->Vector(context->Dim(maps, 3)));
      return tensorflow::OkStatus();
    });

REGISTER_OP("RadflowBiasReluPool")
    .Attr("T: {bfloat16, float}")
    .Input("maps: T")
    .Input("bias: float")
    .Output("pooled: T")
    .Output("choices: uint8")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle pooled;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 4, &pooled));
      for (const int side : {1, 2}) {
        DimensionHandle half;
        TF_RETURN_IF_ERROR(context->Divide(context->Dim(pooled, side), 2, false, &half));
        TF_RETURN_IF_ERROR(context->ReplaceDim(pooled, side, half, &pooled));
      }
      context->set_output(0, pooled);
      context->set_output(1, pooled);
      return tensorflow::OkStatus();
    });

REGISTER_OP("RadflowBiasReluPoolGrad")
    .Attr("T: {bfloat16, float}")
    .Attr("height: int >= 0")
    .Attr("width: int >= 0")
    .Input("dy: T")
    .Input("choices: uint8")
    .Output("dx: T")
    .Output("dbias: float")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle maps;
      int64_t height, width;
      TF_RETURN_IF_ERROR(context->GetAttr("height", &height));
      TF_RETURN_IF_ERROR(context->GetAttr("width", &width));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 4, &maps));
      TF_RETURN_IF_ERROR(context->ReplaceDim(maps, 1, context->MakeDim(height), &maps));
      TF_RETURN_IF_ERROR(context->ReplaceDim(maps, 2, context->MakeDim(width), &maps));
      context->set_output(0, maps);
      context->set_output(1, context->Vector(context->Dim(maps, 3)));
      return tensorflow::OkStatus();
    });

#define RADFLOW_REGISTER(T)                                                                                     \
  REGISTER_KERNEL_BUILDER(                                                                                      \
      Name("RadflowBiasReluGrad").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), BiasReluGradOp<T>);    \
  REGISTER_KERNEL_BUILDER(                                                                                      \
      Name("RadflowBiasReluPool").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), BiasReluPoolOp<T>);    \
  REGISTER_KERNEL_BUILDER(                                                                                      \
      Name("RadflowBiasReluPoolGrad").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), BiasReluPoolGradOp<T>);
RADFLOW_REGISTER(bfloat16)
RADFLOW_REGISTER(float)

}  // namespace radflow
