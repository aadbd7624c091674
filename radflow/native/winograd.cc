// Convolutions of 3x3 in float32, with stride 1 and padding SAME, by Winograd's F(2x2, 3x3) (Lavin & Gray 2016,
// arXiv:1509.09308): 16 products of transformed inputs and kernels for four outputs, where the definition takes 36.
//
// Tiles of 4x4 inputs, which overlap by two, are transformed some at a time, multiplied while they are in the cache, and
// transformed back to 2x2 outputs, where bias and ReLU may follow. The gradient of the inputs is the same convolution of
// the upstream gradient, by the kernel turned around. Each output is computed in the same order however many threads
// there are.

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "aligned.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "winograd.h"

namespace radflow {

using tensorflow::OpInputList;

constexpr int64_t kBytesOfTiles = 320 << 10;  // that are transformed at a time: they stay in the second cache
constexpr int64_t kFewestTiles = 48;          // at a time, for which kernels are read once

// Where each plane of a tile lies, from the tile on.
using Planes = std::array<int64_t, kPlanes>;

// [1 0 0], [1/2 1/2 1/2], [1/2 -1/2 1/2], [0 0 1] times the three values.
template <typename V>
RADFLOW_INLINE void SpreadThree(const V* in, int stride, V* out, int out_stride) {
  const V even = 0.5f * (in[0] + in[2 * stride]), odd = 0.5f * in[stride];
  out[0] = in[0];
  out[out_stride] = even + odd;
  out[2 * out_stride] = even - odd;
  out[3 * out_stride] = in[2 * stride];
}

// The planes of a tile whose inputs are at `pixels`, row by row.
template <int kLanes>
RADFLOW_INLINE void TransformInputs(const std::array<const float*, kPlanes>& pixels, int64_t channels,
                                    const Planes& planes, float* to) {
  typename Lanes<kLanes>::Floats in[kPlanes], out[kPlanes];
  for (int64_t c = 0; c < channels; c += kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kPlanes; ++i) Lanes<kLanes>::Read(pixels[i] + c, in[i]);
    TransformPixels(in, out);
#pragma GCC unroll 16
    for (int i = 0; i < kPlanes; ++i) Lanes<kLanes>::Write(out[i], to + planes[i] + c);
  }
}

// The four outputs of a tile, of which those in `to` are wanted, from its products, `plane` apart: kLanes filters. Where
// there is a bias, they meet it and ReLU.
template <int kLanes>
RADFLOW_INLINE void TransformOutputs(const float* products, int64_t plane, const float* bias,
                                     const std::array<float*, 4>& to) {
  typename Lanes<kLanes>::Floats m[kPlanes], rows[2][kSide], outputs[4], added, zero = {};
#pragma GCC unroll 16
  for (int i = 0; i < kPlanes; ++i) Lanes<kLanes>::Read(products + i * plane, m[i]);
#pragma GCC unroll 4
  for (int j = 0; j < kSide; ++j) {
    rows[0][j] = m[j] + m[kSide + j] + m[2 * kSide + j];
    rows[1][j] = m[kSide + j] - m[2 * kSide + j] - m[3 * kSide + j];
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    outputs[2 * i] = rows[i][0] + rows[i][1] + rows[i][2];
    outputs[2 * i + 1] = rows[i][1] - rows[i][2] - rows[i][3];
  }
  if (bias) {
    Lanes<kLanes>::Read(bias, added);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) outputs[i] = outputs[i] + added < zero ? zero : outputs[i] + added;  // NaN stays NaN
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    if (to[i]) Lanes<kLanes>::Write(outputs[i], to[i]);
}

// G g G' of the nine taps of a channel's filters, which lie one behind another, written as panels of kWidth filters
// that are `panel` apart, the planes `plane`.
template <int kLanes, int kWidth>
RADFLOW_INLINE void TransformTaps(const float* taps, int64_t filters, int64_t plane, int64_t panel, float* to) {
  typename Lanes<kLanes>::Floats in[9], rows[3 * kSide], out[kPlanes];
  for (int64_t f = 0; f < filters; f += kLanes) {
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) Lanes<kLanes>::Read(taps + i * filters + f, in[i]);
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) SpreadThree(in + j, 3, rows + j, 3);
#pragma GCC unroll 4
    for (int i = 0; i < kSide; ++i) SpreadThree(rows + 3 * i, 1, out + kSide * i, 1);
#pragma GCC unroll 16
    for (int i = 0; i < kPlanes; ++i) Lanes<kLanes>::Write(out[i], to + i * plane + f / kWidth * panel + f % kWidth);
  }
}

// What one instruction set computes.
struct TileKernels {
  int lanes;
  void (*inputs)(const std::array<const float*, kPlanes>&, int64_t, const Planes&, float*);
  void (*outputs)(const float*, int64_t, const float*, const std::array<float*, 4>&);
  void (*taps)(const float*, int64_t, int64_t, int64_t, float*);
};

#define RADFLOW_TILE_KERNELS(NAME, TARGET, LANES)                                                                      \
  struct NAME {                                                                                                        \
    TARGET static void Inputs(const std::array<const float*, kPlanes>& pixels, int64_t channels, const Planes& planes, \
                              float* to) {                                                                             \
      TransformInputs<LANES>(pixels, channels, planes, to);                                                            \
    }                                                                                                                  \
    TARGET static void Outputs(const float* products, int64_t plane, const float* bias,                                \
                               const std::array<float*, 4>& to) {                                                      \
      TransformOutputs<LANES>(products, plane, bias, to);                                                              \
    }                                                                                                                  \
    TARGET static void Taps(const float* taps, int64_t filters, int64_t plane, int64_t panel, float* to) {             \
      TransformTaps<LANES, 2 * LANES>(taps, filters, plane, panel, to);                                                \
    }                                                                                                                  \
    static TileKernels All() { return {LANES, Inputs, Outputs, Taps}; }                                                \
  };

RADFLOW_TILE_KERNELS(PortableTiles, , 4)
#if defined(__x86_64__)
RADFLOW_TILE_KERNELS(Avx2Tiles, RADFLOW_AVX2, 8)
RADFLOW_TILE_KERNELS(Avx512Tiles, RADFLOW_AVX512, 16)
#endif

const TileKernels& ChosenTiles() {
  static const TileKernels chosen = [] {
#if defined(__x86_64__)
    if (Uses(Instructions::kAvx512)) return Avx512Tiles::All();
    if (Uses(Instructions::kAvx2)) return Avx2Tiles::All();
#endif
    return PortableTiles::All();
  }();
  return chosen;
}

// A kernel of 3x3 transformed, packed as the right side of products: [planes][panels][channels][filters of a panel].
struct TransformedKernel {
  // Of [3, 3, channels, filters]; of a gradient from [3, 3, filters, channels], which is turned around.
  TransformedKernel(OpKernelContext* context, const float* kernel, int64_t channels, int64_t filters, bool of_gradient)
      : channels(channels), panel(channels * ChosenProducts<float>().filters), plane(channels * filters),
        packed(kPlanes * plane) {
    Share(context, Parts(channels, kTogether), 9 * kTogether * filters, [&](int64_t first, int64_t last) {
      std::vector<float> taps(kTogether * 9 * filters);
      for (int64_t c = first * kTogether; c < std::min(last * kTogether, channels); c += kTogether) {
        const int64_t some = std::min(kTogether, channels - c);
        of_gradient ? Turn(kernel + c, some, filters, taps.data()) : Gather(kernel + c * filters, some, filters, taps.data());
        for (int64_t i = 0; i < some; ++i)
          ChosenTiles().taps(taps.data() + i * 9 * filters, filters, plane, panel,
                             packed.data() + (c + i) * ChosenProducts<float>().filters);
      }
    });
  }

  static constexpr int64_t kTogether = kLine / sizeof(float);  // channels, which lie in a line of the cache
  int64_t channels, panel, plane;
  AlignedVector<float> packed;

 private:
  // Taps of some channels: [some][9][filters].
  void Gather(const float* kernel, int64_t some, int64_t filters, float* taps) const {
    for (int64_t i = 0; i < some; ++i)
      for (int tap = 0; tap < 9; ++tap)
        std::copy_n(kernel + tap * plane + i * filters, filters, taps + (i * 9 + tap) * filters);
  }

  void Turn(const float* kernel, int64_t some, int64_t filters, float* taps) const {
    for (int tap = 0; tap < 9; ++tap)
      for (int64_t f = 0; f < filters; ++f)
        for (int64_t i = 0; i < some; ++i)
          taps[(i * 9 + tap) * filters + f] = kernel[(8 - tap) * plane + f * channels + i];
  }
};

class WinogradOp : public OpKernel {
 public:
  explicit WinogradOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("of_gradient", &of_gradient_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &inputs = context->input(0), &kernel = context->input(1);
    OP_REQUIRES(context, inputs.dims() == 4 && kernel.dims() == 4 && kernel.dim_size(0) == 3 && kernel.dim_size(1) == 3,
                tensorflow::errors::InvalidArgument("inputs must be [n, h, w, channels], the kernel [3, 3, ...]"));
    const int64_t channels = kernel.dim_size(of_gradient_ ? 3 : 2), filters = kernel.dim_size(of_gradient_ ? 2 : 3);
    OP_REQUIRES(context, inputs.dim_size(3) == channels && channels % kWhole == 0 && filters % kWhole == 0 &&
                             channels <= kMostChannels,
                tensorflow::errors::InvalidArgument("channels and filters must be those of the kernel, multiples of ",
                                                    kWhole, ", and the channels at most ", kMostChannels));
    OpInputList bias;
    OP_REQUIRES_OK(context, context->input_list("bias", &bias));
    OP_REQUIRES(context, !bias.size() || (bias.size() == 1 && bias[0].shape() == TensorShape({filters})),
                tensorflow::errors::InvalidArgument("the bias must be one, [filters]"));
    TensorShape shape = inputs.shape();
    shape.set_dim(3, filters);
    Tensor* outputs = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &outputs));
    const TransformedKernel transformed(context, kernel.flat<float>().data(), channels, filters, of_gradient_);
    const float* added = bias.size() ? bias[0].flat<float>().data() : nullptr;
    TiledMaps(inputs, filters, added, outputs).Convolve(context, transformed);
  }

 private:
  // Inputs and outputs, tile by tile.
  struct TiledMaps {
    TiledMaps(const Tensor& inputs, int64_t filters, const float* bias, Tensor* outputs)
        : tiles(inputs), x(inputs.flat<float>().data()), bias(bias), y(outputs->flat<float>().data()),
          channels(inputs.dim_size(3)), filters(filters), zeros(channels, 0.0f) {}

    void Convolve(OpKernelContext* context, const TransformedKernel& kernel) const {
      const int64_t rows = ChosenProducts<float>().rows;
      const int64_t fitting = kBytesOfTiles / (kPlanes * (channels + filters) * static_cast<int64_t>(sizeof(float)));
      const int64_t at_a_time = Parts(std::max(fitting, kFewestTiles), rows) * rows;
      Share(context, Parts(tiles.count, at_a_time), at_a_time * kPlanes * channels * filters / 16,
            [&](int64_t first, int64_t last) {
              const int64_t in_row = kRowElements / channels;  // planes that lie beside each other
              AlignedVector<float> transformed(Parts(kPlanes, in_row) * at_a_time * kRowElements);
              AlignedVector<float> products(kPlanes * at_a_time * filters);
              Planes planes;
              for (int64_t i = 0; i < kPlanes; ++i)
                planes[i] = i / in_row * at_a_time * kRowElements + i % in_row * channels;
              for (int64_t block = first; block < last; ++block) {
                const int64_t begin = block * at_a_time, some = std::min(at_a_time, tiles.count - begin);
                for (int64_t t = 0; t < some; ++t) Read(begin + t, planes, transformed.data() + t * kRowElements);
                Multiply(transformed.data(), some, planes, kernel, products.data());
                for (int64_t t = 0; t < some; ++t) Write(begin + t, products.data() + t * Width(), some);
              }
            });
    }

    static int64_t Width() { return ChosenProducts<float>().filters; }

    void Read(int64_t tile, const Planes& planes, float* to) const {
      ChosenTiles().inputs(tiles.Square<kSide>(x, channels, tile, zeros.data()), channels, planes, to);
    }

    // Products of `some` tiles: [planes][panels][some][filters of a panel].
    static void Multiply(const float* transformed, int64_t some, const Planes& planes, const TransformedKernel& kernel,
                         float* products) {
      const ProductKernels<float>& kernels = ChosenProducts<float>();
      const Run all{0, 0, kernel.channels};
      const int64_t panels = kernel.plane / kernel.panel;
      for (int plane = 0; plane < kPlanes; ++plane) {
        for (int64_t row = 0; row < some; row += kernels.rows) {
          const auto sum = kernels.sum_rows[std::min<int64_t>(kernels.rows, some - row) - 1];
          for (int64_t panel = 0; panel < panels; ++panel)
            sum(transformed + planes[plane] + row * kRowElements,
                kernel.packed.data() + plane * kernel.plane + panel * kernel.panel, &all, 1,
                products + ((plane * panels + panel) * some + row) * kernels.filters);
        }
      }
    }

    void Write(int64_t tile, const float* products, int64_t some) const {
      const TileKernels& kernels = ChosenTiles();
      const int64_t panels = filters / Width();
      std::array<int64_t, 4> pixels;
      for (int i = 0; i < 4; ++i) pixels[i] = tiles.Pixel(tile, i / 2, i % 2);
      for (int64_t f = 0; f < filters; f += kernels.lanes) {
        std::array<float*, 4> to;
        for (int i = 0; i < 4; ++i) to[i] = pixels[i] < 0 ? nullptr : y + pixels[i] * filters + f;
        kernels.outputs(products + f / Width() * some * Width() + f % Width(), panels * some * Width(),
                        bias ? bias + f : nullptr, to);
      }
    }

    Tiles tiles;
    const float *x, *bias;
    float* y;
    int64_t channels, filters;
    std::vector<float> zeros;
  };

  bool of_gradient_;
};

REGISTER_OP("RadflowWinograd")
    .Attr("of_gradient: bool")
    .Attr("M: int >= 0")
    .Input("inputs: float")
    .Input("kernel: float")
    .Input("bias: M * float")
    .Output("outputs: float")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* context) {
      tensorflow::shape_inference::ShapeHandle inputs, kernel, outputs;
      bool of_gradient;
      TF_RETURN_IF_ERROR(context->GetAttr("of_gradient", &of_gradient));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 4, &inputs));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 4, &kernel));
      TF_RETURN_IF_ERROR(context->ReplaceDim(inputs, 3, context->Dim(kernel, of_gradient ? 2 : 3), &outputs));
      context->set_output(0, outputs);
      return tensorflow::OkStatus();
    });

REGISTER_KERNEL_BUILDER(Name("RadflowWinograd").Device(tensorflow::DEVICE_CPU), WinogradOp);

}  // namespace radflow
