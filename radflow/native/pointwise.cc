// The 1x1 convolution of maps that are normalised and pass ReLU, in one pass over the maps: what is normalised stays in
// the cache, a block of pixels at a time, and is kept nowhere else. Statistics of what comes out do not depend on the
// number of threads: each block has its own, which are joined in order.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "pointwise.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace radflow {

// Computes the convolution of normalised maps: finish_tile(tile, its place among all pixels) for each tile, and
// finish_block(block, its first pixel, pixels) once all tiles of a block are.
template <typename T, typename E, typename FinishTile, typename FinishBlock>
void ConvolveNormalized(OpKernelContext* context, const Normalized<T>& maps, const Kernel<E>& kernel,
                        const FinishTile& finish_tile, const FinishBlock& finish_block) {
  const PackedMatrix<E> matrix(kernel.values, maps.channels, kernel.filters);
  const int64_t filters = kernel.filters, width = ChosenProducts<E>().filters;
  Share(context, Parts(maps.pixels, kPixels), kPixels * maps.channels * filters / 16, [&](int64_t first, int64_t last) {
    BlockOfRows<E> rows;
    for (int64_t block = first; block < last; ++block) {
      const int64_t begin = block * kPixels, count = std::min(kPixels, maps.pixels - begin);
      maps.NormalizeRows(begin, count, rows.values.data(), kRowElements);
      const auto fetch = [&](const Place& place) {  // as large a part of the next block as this is of the product
        if (begin + kPixels + place.row + place.rows > maps.pixels) return;
        const int64_t from = place.column * maps.channels / filters, to = from + width * maps.channels / filters;
        FetchRows(maps.x + (begin + kPixels + place.row) * maps.stride, place.rows, maps.stride, from, to);
      };
      Multiply(rows, count, matrix, fetch, [&](const float* tile, const Place& place) {
        finish_tile(tile, Place{begin + place.row, place.rows, place.column});
      });
      finish_block(block, begin, count);
    }
  });
}

template <typename T>
class PointwiseOp : public OpKernel {
 public:
  explicit PointwiseOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
  }

  void Compute(OpKernelContext* context) override {
    Normalized<T> maps;
    OP_REQUIRES_OK(context, maps.Read(context, epsilon_));
    Kernel<E> kernel;
    OP_REQUIRES_OK(context, kernel.template Read<T>(context, maps.channels));
    TensorShape shape = context->input(0).shape();
    shape.set_dim(3, kernel.filters);
    Tensor *output = nullptr, *statistics = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &output));
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({2, kernel.filters}), &statistics));
    const int64_t filters = kernel.filters;
    std::vector<float> moments(Parts(maps.pixels, kPixels) * 2 * filters, 0.0f);
    E* y = Data<T>(output);
    ConvolveNormalized(
        context, maps, kernel,
        [&](const float* tile, const Place& place) {
          const int64_t block = place.row / kPixels;
          const E* near = y + block * kPixels * filters + place.column;  // the block's first pixel: nothing cancels
          float* sums = moments.data() + block * 2 * filters + place.column;
          ChosenProducts<E>().store(tile, place.rows, filters, y + place.row * filters + place.column, near, sums,
                                    sums + filters);
        },
        [&](int64_t block, int64_t begin, int64_t count) {
          CentreMoments(y + begin * filters, count, filters, moments.data() + block * 2 * filters);
        });
    JoinMoments(moments, maps.pixels, filters, statistics->flat<float>().data());
  }

 private:
  using E = typename Raw<T>::Type;

  // Means of a block's pixels, and sums of squared distances from them, of what is summed from pixel `near`.
  static void CentreMoments(const E* near, int64_t pixels, int64_t channels, float* moments) {
    for (int64_t j = 0; j < channels; ++j) {
      const float sum = moments[j], centre = sum / pixels;
      moments[j] = Load(near + j) + centre;
      moments[channels + j] -= sum * centre;
    }
  }

  // Means and biased variances of all pixels (Chan, Golub & LeVeque 1983, doi:10.1080/00031305.1983.10483115).
  static void JoinMoments(const std::vector<float>& moments, int64_t pixels, int64_t channels, float* statistics) {
    std::vector<double> mean(channels, 0.0), squares(channels, 0.0);
    for (int64_t begin = 0; begin < pixels; begin += kPixels) {
      const float* of_block = moments.data() + begin / kPixels * 2 * channels;
      const double count = std::min(kPixels, pixels - begin), share = count / (begin + count);
      for (int64_t j = 0; j < channels; ++j) {
        const double distance = of_block[j] - mean[j];
        mean[j] += distance * share;
        squares[j] += of_block[channels + j] + distance * distance * begin * share;
      }
    }
    for (int64_t j = 0; j < channels; ++j) {
      statistics[j] = static_cast<float>(mean[j]);
      statistics[channels + j] = static_cast<float>(std::max(0.0, squares[j] / std::max<int64_t>(1, pixels)));
    }
  }

  float epsilon_;
};

// The same with a second normalisation behind it, by statistics that are known, and ReLU.
template <typename T>
class PointwiseNormalizedOp : public OpKernel {
 public:
  explicit PointwiseNormalizedOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
    OP_REQUIRES_OK(context, context->GetAttr("y_epsilon", &y_epsilon_));
  }

  void Compute(OpKernelContext* context) override {
    Normalized<T> maps;
    OP_REQUIRES_OK(context, maps.Read(context, epsilon_));
    Kernel<E> kernel;
    OP_REQUIRES_OK(context, kernel.template Read<T>(context, maps.channels));
    const int64_t filters = kernel.filters;
    const Tensor& gamma = context->input(6);
    OP_REQUIRES(context, gamma.NumElements() == filters,
                tensorflow::errors::InvalidArgument("y_gamma must be of the filters of the kernel"));
    Channels following;
    OP_REQUIRES_OK(context, following.Set(context->input(5), gamma, context->input(7), y_epsilon_));
    TensorShape shape = context->input(0).shape();
    shape.set_dim(3, filters);
    Tensor* output = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &output));
    E* y = Data<T>(output);
    ConvolveNormalized(
        context, maps, kernel,
        [&](const float* tile, const Place& place) {
          ChosenProducts<E>().store_normalized(tile, place.rows, filters, following.scale.data() + place.column,
                                               following.offset.data() + place.column,
                                               y + place.row * filters + place.column);
        },
        [](int64_t, int64_t, int64_t) {});
  }

 private:
  using E = typename Raw<T>::Type;

  float epsilon_, y_epsilon_;
};

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("RadflowPointwise")
    .Attr("T: {bfloat16, float}")
    .Attr("epsilon: float")
    .Input("maps: T")
    .Input("statistics: float")
    .Input("gamma: float")
    .Input("beta: float")
    .Input("kernel: T")
    .Output("y: T")
    .Output("y_statistics: float")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle maps, kernel;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 4, &maps));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(4), 4, &kernel));
      TF_RETURN_IF_ERROR(context->ReplaceDim(maps, 3, context->Dim(kernel, 3), &maps));
      context->set_output(0, maps);
      context->set_output(1, context->MakeShape({context->MakeDim(2), context->Dim(kernel, 3)}));
      return tensorflow::OkStatus();
    });

REGISTER_OP("RadflowPointwiseNormalized")
    .Attr("T: {bfloat16, float}")
    .Attr("epsilon: float")
    .Attr("y_epsilon: float")
    .Input("maps: T")
    .Input("statistics: float")
    .Input("gamma: float")
    .Input("beta: float")
    .Input("kernel: T")
    .Input("y_statistics: float")
    .Input("y_gamma: float")
    .Input("y_beta: float")
    .Output("y: T")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle maps, kernel;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 4, &maps));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(4), 4, &kernel));
      TF_RETURN_IF_ERROR(context->ReplaceDim(maps, 3, context->Dim(kernel, 3), &maps));
      context->set_output(0, maps);
      return tensorflow::OkStatus();
    });

#define RADFLOW_REGISTER(T)                                                                                            \
  REGISTER_KERNEL_BUILDER(                                                                                             \
      Name("RadflowPointwise").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), PointwiseOp<T>);                 \
  REGISTER_KERNEL_BUILDER(                                                                                             \
      Name("RadflowPointwiseNormalized").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"),                        \
      PointwiseNormalizedOp<T>);
RADFLOW_REGISTER(bfloat16)
RADFLOW_REGISTER(float)

}  // namespace radflow
