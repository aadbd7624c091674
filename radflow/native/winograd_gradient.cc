// The gradient of the weights of a 3x3 convolution in float32, with stride 1 and padding SAME, by the adjoint of
// Winograd's F(2x2, 3x3) (Lavin & Gray 2016, arXiv:1509.09308): 16 products of transformed inputs and upstream gradients
// for each tile of 2x2 outputs, where the definition takes 36. They are summed over tiles and transformed to nine taps.
//
// Tiles are transformed a chunk at a time, into panels of channels, and the products of some of them summed and transformed
// back while they are in the cache. Each thread computes gradients of its own, in the same order however many threads there
// are, so that results do not depend on their number.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "aligned.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "winograd.h"

namespace radflow {

constexpr int64_t kBytesOfTileChunk = 4 << 20;  // that are transformed, while in the last cache
constexpr int64_t kTilesOfChunk = 112;          // at least, or gradients are added up too often
constexpr int64_t kTilesOfBlock = 192;          // of which all planes of a panel of filters stay in the second cache

// Panels of maps that are transformed: [panels][planes][tiles][stride].
struct Panels {
  Panels(int64_t channels, int64_t of_panel, int64_t stride, int64_t tiles)
      : of_panel(of_panel), stride(stride), count(Parts(channels, of_panel)), plane(tiles * stride),
        panel(kPlanes * plane), values(count * panel) {}
  int64_t of_panel, stride, count, plane, panel;  // channels; elements
  AlignedVector<float> values;
};

// The planes of a tile whose inputs are at `pixels`: `of_panel` channels to a panel, which has room for kLanes.
template <int kLanes>
RADFLOW_INLINE void TransformInputs(const std::array<const float*, kPlanes>& pixels, int64_t channels,
                                    int64_t of_panel, int64_t plane, int64_t panel, float* to) {
  typename Lanes<kLanes>::Floats in[kPlanes], out[kPlanes];
  for (int64_t c = 0; c < channels; c += of_panel, to += panel) {
    if (const int64_t left = channels - c; left < kLanes) {
      std::memset(in, 0, sizeof(in));
      for (int i = 0; i < kPlanes; ++i) std::memcpy(&in[i], pixels[i] + c, left * sizeof(float));
    } else {
#pragma GCC unroll 16
      for (int i = 0; i < kPlanes; ++i) Lanes<kLanes>::Read(pixels[i] + c, in[i]);
    }
    TransformPixels(in, out);
#pragma GCC unroll 16
    for (int i = 0; i < kPlanes; ++i) Lanes<kLanes>::Write(out[i], to + i * plane);
  }
}

// [1 0], [1 1], [1 -1], [0 -1] times the two values.
template <typename V>
RADFLOW_INLINE void SpreadTwo(const V& a, const V& b, V* out, int out_stride) {
  out[0] = a;
  out[out_stride] = a + b;
  out[2 * out_stride] = a - b;
  out[3 * out_stride] = -b;
}

// The planes of a tile whose upstream gradients are at `pixels`: panels of 2 x kLanes filters.
template <int kLanes>
RADFLOW_INLINE void TransformUpstream(const std::array<const float*, 4>& pixels, int64_t filters, int64_t plane,
                                      int64_t panel, float* to) {
  typename Lanes<kLanes>::Floats in[4], rows[2 * kSide], out[kPlanes];
  for (int64_t f = 0; f < filters; f += kLanes) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) Lanes<kLanes>::Read(pixels[i] + f, in[i]);
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) SpreadTwo(in[j], in[2 + j], rows + j, 2);
#pragma GCC unroll 4
    for (int i = 0; i < kSide; ++i) SpreadTwo(rows[2 * i], rows[2 * i + 1], out + kSide * i, 1);
#pragma GCC unroll 16
    for (int i = 0; i < kPlanes; ++i)
      Lanes<kLanes>::Write(out[i], to + f / (2 * kLanes) * panel + i * plane + f % (2 * kLanes));
  }
}

// [1 1/2 1/2 0], [0 1/2 -1/2 0], [0 1/2 1/2 1] times the four values.
template <typename V>
RADFLOW_INLINE void GatherFour(const V* in, int stride, V* out, int out_stride) {
  const V even = 0.5f * (in[stride] + in[2 * stride]);
  out[0] = in[0] + even;
  out[out_stride] = 0.5f * (in[stride] - in[2 * stride]);
  out[2 * out_stride] = even + in[3 * stride];
}

// Adds the taps of products, [planes][rows][2 x kLanes filters], to a gradient whose taps and rows are so far apart.
template <int kLanes>
RADFLOW_INLINE void AddTaps(const float* products, int64_t rows, int64_t of_plane, int64_t tap, int64_t row,
                            bool is_first, float* gradient) {
  typename Lanes<kLanes>::Floats in[kPlanes], columns[3 * kSide], out[9], before;
  for (int64_t r = 0; r < rows; ++r) {
    for (int f = 0; f < 2 * kLanes; f += kLanes) {
#pragma GCC unroll 16
      for (int i = 0; i < kPlanes; ++i) Lanes<kLanes>::Read(products + i * of_plane + r * 2 * kLanes + f, in[i]);
#pragma GCC unroll 4
      for (int j = 0; j < kSide; ++j) GatherFour(in + j, kSide, columns + j, kSide);
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) GatherFour(columns + kSide * i, 1, out + 3 * i, 1);
#pragma GCC unroll 9
      for (int i = 0; i < 9; ++i) {
        float* to = gradient + i * tap + r * row + f;
        if (!is_first) {
          Lanes<kLanes>::Read(to, before);
          out[i] += before;
        }
        Lanes<kLanes>::Write(out[i], to);
      }
    }
  }
}

// What one instruction set computes.
struct GradientKernels {
  void (*inputs)(const std::array<const float*, kPlanes>&, int64_t, int64_t, int64_t, int64_t, float*);
  void (*upstream)(const std::array<const float*, 4>&, int64_t, int64_t, int64_t, float*);
  void (*add)(const float*, int64_t, int64_t, int64_t, int64_t, bool, float*);
};

#define RADFLOW_GRADIENT_KERNELS(NAME, TARGET, LANES, STRIDE)                                                          \
  struct NAME {                                                                                                        \
    TARGET static void Inputs(const std::array<const float*, kPlanes>& pixels, int64_t channels, int64_t of_panel,     \
                              int64_t plane, int64_t panel, float* to) {                                               \
      TransformInputs<STRIDE>(pixels, channels, of_panel, plane, panel, to);                                           \
    }                                                                                                                  \
    TARGET static void Upstream(const std::array<const float*, 4>& pixels, int64_t filters, int64_t plane,             \
                                int64_t panel, float* to) {                                                            \
      TransformUpstream<LANES>(pixels, filters, plane, panel, to);                                                     \
    }                                                                                                                  \
    TARGET static void Add(const float* products, int64_t rows, int64_t of_plane, int64_t tap, int64_t row,            \
                           bool is_first, float* gradient) {                                                           \
      AddTaps<LANES>(products, rows, of_plane, tap, row, is_first, gradient);                                          \
    }                                                                                                                  \
    static GradientKernels All() { return {Inputs, Upstream, Add}; }                                                   \
  };

RADFLOW_GRADIENT_KERNELS(PortableGradients, , 4, 8)
#if defined(__x86_64__)
RADFLOW_GRADIENT_KERNELS(Avx2Gradients, RADFLOW_AVX2, 8, 8)
RADFLOW_GRADIENT_KERNELS(Avx512Gradients, RADFLOW_AVX512, 16, 16)
#endif

const GradientKernels& ChosenGradients() {
  static const GradientKernels chosen = [] {
#if defined(__x86_64__)
    if (Uses(Instructions::kAvx512)) return Avx512Gradients::All();
    if (Uses(Instructions::kAvx2)) return Avx2Gradients::All();
#endif
    return PortableGradients::All();
  }();
  return chosen;
}

class WinogradGradientOp : public OpKernel {
 public:
  explicit WinogradGradientOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    const Tensor &inputs = context->input(0), &upstream = context->input(1);
    bool fits = inputs.dims() == 4 && upstream.dims() == 4;
    for (int axis = 0; fits && axis < 3; ++axis) fits = inputs.dim_size(axis) == upstream.dim_size(axis);
    OP_REQUIRES(context, fits, tensorflow::errors::InvalidArgument("maps must be [n, h, w, channels] of one size"));
    const int64_t channels = inputs.dim_size(3), filters = upstream.dim_size(3);
    OP_REQUIRES(context, channels % kWhole == 0 && filters % kWhole == 0,
                tensorflow::errors::InvalidArgument("channels and filters must be multiples of ", kWhole));
    Tensor* gradient = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({3, 3, channels, filters}), &gradient));
    if (inputs.NumElements() == 0) {
      gradient->flat<float>().setZero();
      return;
    }
    Sum(context, inputs, upstream, gradient->flat<float>().data());
  }

 private:
  static void Sum(OpKernelContext* context, const Tensor& inputs, const Tensor& upstream, float* gradient) {
    const ProductKernels<float>& kernels = ChosenProducts<float>();
    const Tiles tiles(inputs);
    const int64_t channels = inputs.dim_size(3), filters = upstream.dim_size(3);
    const int64_t of_panel = Parts(channels, Parts(channels, kernels.rows));
    const int64_t of_tile = kPlanes * (Parts(channels, of_panel) * kernels.stride + filters);
    const int64_t fitting = kBytesOfTileChunk / (of_tile * static_cast<int64_t>(sizeof(float)));
    const int64_t at_a_time = std::min(std::max(fitting, kTilesOfChunk), tiles.count);
    Panels left(channels, of_panel, kernels.stride, at_a_time);
    Panels right(filters, kernels.filters, kernels.filters, at_a_time);
    for (int64_t first = 0; first < tiles.count; first += at_a_time) {
      const int64_t last = std::min(first + at_a_time, tiles.count);
      Transform(context, tiles, first, last, inputs, upstream, &left, &right);
      SumTiles(context, last - first, channels, filters, left, right, first == 0, gradient);
    }
  }

  static void Transform(OpKernelContext* context, const Tiles& tiles, int64_t first, int64_t last, const Tensor& inputs,
                        const Tensor& upstream, Panels* left, Panels* right) {
    const GradientKernels& kernels = ChosenGradients();
    const int64_t channels = inputs.dim_size(3), filters = upstream.dim_size(3);
    const float *x = inputs.flat<float>().data(), *dy = upstream.flat<float>().data();
    const std::vector<float> zeros(std::max(channels, filters), 0.0f);
    Share(context, last - first, kPlanes * (channels + filters) / 2, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        kernels.inputs(tiles.Square<kSide>(x, channels, first + t, zeros.data()), channels, left->of_panel, left->plane,
                       left->panel, left->values.data() + t * left->stride);
        kernels.upstream(tiles.Square<2>(dy, filters, first + t, zeros.data()), filters, right->plane, right->panel,
                         right->values.data() + t * right->stride);
      }
    });
  }

  // Adds what so many tiles give.
  static void SumTiles(OpKernelContext* context, int64_t tiles, int64_t channels, int64_t filters, const Panels& left,
                       const Panels& right, bool is_first, float* gradient) {
    const auto sum = ChosenProducts<float>().sum_panels[left.of_panel - 1];
    const int64_t of_plane = left.of_panel * right.of_panel;
    Share(context, left.count * right.count, kPlanes * tiles * left.of_panel, [&](int64_t first, int64_t last) {
      AlignedVector<float> products(kPlanes * of_plane);
      for (int64_t block = 0; block < tiles; block += kTilesOfBlock) {
        const Run some{block, block, std::min(kTilesOfBlock, tiles - block)};
        for (int64_t pair = first; pair < last; ++pair) {
          const int64_t a = pair % left.count, b = pair / left.count;
          const int64_t channel = a * left.of_panel, filter = b * right.of_panel;
          for (int64_t plane = 0; plane < kPlanes; ++plane)
            sum(left.values.data() + a * left.panel + plane * left.plane,
                right.values.data() + b * right.panel + plane * right.plane, &some, 1,
                products.data() + plane * of_plane);
          ChosenGradients().add(products.data(), std::min(left.of_panel, channels - channel), of_plane,
                                channels * filters, filters, is_first && block == 0,
                                gradient + channel * filters + filter);
        }
      }
    });
  }
};

REGISTER_OP("RadflowWinogradGradient")
    .Input("inputs: float")
    .Input("upstream: float")
    .Output("gradient: float")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* context) {
      tensorflow::shape_inference::ShapeHandle inputs, upstream;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 4, &inputs));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 4, &upstream));
      context->set_output(0, context->MakeShape({3, 3, context->Dim(inputs, 3), context->Dim(upstream, 3)}));
      return tensorflow::OkStatus();
    });

REGISTER_KERNEL_BUILDER(Name("RadflowWinogradGradient").Device(tensorflow::DEVICE_CPU), WinogradGradientOp);

}  // namespace radflow
