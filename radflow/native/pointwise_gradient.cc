// The gradient of 1x1 convolutions of maps that are normalised and pass ReLU, in one pass over the maps: they are normalised
// again, and stay in the cache a block of pixels at a time.
//
// That of the maps, dx = scale * (passed - mean of passed - (x - mean) * slope) for each channel, has two parts: what ReLU
// lets pass is added to the gradient of the buffer at once; the rest is linear in x, with sums over all pixels for
// coefficients, and is the same for all convolutions that read a channel but for these. So the coefficients are added up,
// and the rest itself once, when the gradient of a channel is taken (RadflowTakeGradient).
//
// Results do not depend on the number of threads: each block of pixels has sums of its own, which are joined in order.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "pointwise.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace radflow {

constexpr int64_t kBlocksAtATime = 32;      // that several threads pack, in the last cache: few waits for each other

// Blocks that are summed to the gradient of the kernel while in a core's cache. (Measured: pairs of bfloat16 take half the
// room, and adding up what a run comes to takes more of their time.)
template <typename E>
constexpr int64_t kBlocksOfRun = Format<E>::kElements == 1 ? 2 : 8;

template <typename E>
std::vector<E> Transposed(const E* matrix, int64_t rows, int64_t columns) {
  std::vector<E> result(rows * columns);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) result[c * rows + r] = matrix[r * columns + c];
  return result;
}

template <typename T>
class PointwiseGradOp : public OpKernel {
 public:
  explicit PointwiseGradOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
  }

  void Compute(OpKernelContext* context) override {
    Work work;
    OP_REQUIRES_OK(context, work.maps.Read(context, epsilon_));
    OP_REQUIRES_OK(context, work.kernel.template Read<T>(context, work.maps.channels));
    const Tensor *upstream = nullptr, *maps = nullptr, *linear = nullptr;
    OP_REQUIRES_OK(context, context->input("dy", &upstream));
    OP_REQUIRES_OK(context, context->input("maps", &maps));
    OP_REQUIRES_OK(context, context->input("linear", &linear));
    OP_REQUIRES(context, upstream->NumElements() == work.maps.pixels * work.kernel.filters,
                tensorflow::errors::InvalidArgument("dy must be of the filters of the kernel"));
    work.dy = Data<T>(*upstream);
    tensorflow::OpInputList added;
    OP_REQUIRES_OK(context, context->input_list("added", &added));
    const bool adds = added.size() > 0;
    OP_REQUIRES(context, adds ? added[0].shape() == maps->shape() : work.maps.channels == work.maps.stride,
                tensorflow::errors::InvalidArgument("gradients of the other channels are missing"));
    Tensor *gradient = nullptr, *coefficients = nullptr, *of_kernel = nullptr;
    OP_REQUIRES_OK(context, adds ? context->forward_input_or_allocate_output({7}, 0, maps->shape(), &gradient)
                                 : context->allocate_output(0, maps->shape(), &gradient));
    if (adds && !gradient->SharesBufferWith(added[0]))
      std::memcpy(Data<T>(gradient), Data<T>(added[0]), added[0].TotalBytes());
    OP_REQUIRES_OK(context, context->allocate_output(1, linear->shape(), &coefficients));
    OP_REQUIRES_OK(context, context->allocate_output(4, TensorShape({1, 1, work.maps.channels, work.kernel.filters}),
                                                     &of_kernel));
    std::memcpy(coefficients->flat<float>().data(), linear->flat<float>().data(), linear->TotalBytes());
    of_kernel->flat<float>().setZero();
    work.gradient = Data<T>(gradient);
    work.is_first = !adds;
    work.of_kernel = of_kernel->flat<float>().data();
    const std::vector<double> sums = Pass(context, work);
    WriteParameters(context, work.maps, sums, coefficients);
  }

 private:
  using E = typename Raw<T>::Type;
  using Step = typename Format<E>::Step;

  struct Work {
    Normalized<T> maps;
    Kernel<E> kernel;
    const E* dy = nullptr;
    E* gradient = nullptr;
    bool is_first = false;
    float* of_kernel = nullptr;
  };

  // Some pixels, packed as both sides of the products that the gradient of the kernel is.
  struct Packed {
    AlignedVector<Step> left, right;
    int64_t of_panel, steps;
  };

  // Writes the gradients of maps and kernel; returns for each channel the sum of the gradients that pass, then that of
  // their products with the centred maps.
  static std::vector<double> Pass(OpKernelContext* context, const Work& work) {
    const ProductKernels<E>& kernels = ChosenProducts<E>();
    const int64_t channels = work.maps.channels, filters = work.kernel.filters, pixels = work.maps.pixels;
    const std::vector<E> transposed = Transposed(work.kernel.values, channels, filters);
    const PackedMatrix<E> matrix(transposed.data(), filters, channels);
    const int64_t panels = Parts(channels, kernels.rows), of_panel = Parts(channels, panels);
    const int64_t blocks = Parts(pixels, kPixels), threads = ThreadsOf(context);
    const int64_t wanted = threads == 1 ? 1 : std::max(kBlocksAtATime, threads);
    const int64_t at_a_time = Parts(wanted, kBlocksOfRun<E>) * kBlocksOfRun<E>;  // whole runs
    Packed packed{{}, {}, of_panel, at_a_time * kPixels / Format<E>::kElements};
    packed.left.resize(panels * packed.steps * kernels.stride);
    packed.right.resize(Parts(filters, kernels.filters) * packed.steps * kernels.filters);
    std::vector<float> partial(blocks * 2 * channels, 0.0f);
    for (int64_t begin = 0; begin < blocks; begin += at_a_time) {
      const int64_t some = std::min(at_a_time, blocks - begin);
      Share(context, some, kPixels * channels * filters / 16, [&](int64_t first, int64_t last) {
        BlockOfRows<E> normalized, upstream;
        for (int64_t block = first; block < last; ++block)
          PassBlock(work, matrix, begin + block, block, &normalized, &upstream,
                    partial.data() + (begin + block) * 2 * channels, &packed);
      });
      const int64_t of_chunk = std::min(pixels - begin * kPixels, some * kPixels);
      SumKernel(context, work, packed, Parts(of_chunk, Format<E>::kElements));
    }
    return JoinBlocks(partial, 2 * channels);
  }

  // The gradient of a block of maps, and its pixels packed as the so many-th of a chunk.
  static void PassBlock(const Work& work, const PackedMatrix<E>& matrix, int64_t block, int64_t place,
                        BlockOfRows<E>* normalized, BlockOfRows<E>* upstream, float* sums, Packed* packed) {
    const ProductKernels<E>& kernels = ChosenProducts<E>();
    const Normalized<T>& maps = work.maps;
    const int64_t channels = maps.channels, filters = work.kernel.filters;
    const int64_t begin = block * kPixels, count = std::min(kPixels, maps.pixels - begin);
    const E* dy = work.dy + begin * filters;
    const std::vector<E> zeros(std::max(channels, filters), E{});
    maps.NormalizeRows(begin, count, normalized->values.data(), kRowElements);
    const int64_t step = place * kPixels / Format<E>::kElements;
    kernels.pack_left(normalized->values.data(), {count, kRowElements, 1, channels}, packed->of_panel,
                      packed->steps * kernels.stride, zeros.data(), packed->left.data() + step * kernels.stride);
    kernels.pack_right(dy, {count, filters, 1, filters}, kernels.filters, packed->steps * kernels.filters, zeros.data(),
                       packed->right.data() + step * kernels.filters);
    for (int64_t p = 0; p < count; ++p)
      std::memcpy(upstream->values.data() + p * kRowElements, dy + p * filters, filters * sizeof(E));
    const auto fetch = [&](const Place& place) {  // this tile of the gradient, and of the next block of the maps
      const int64_t row = begin + place.row, last = place.column + kernels.filters;
      FetchRows(work.gradient + row * maps.stride, place.rows, maps.stride, place.column, last);
      if (row + kPixels + place.rows > maps.pixels) return;
      FetchRows(maps.x + (row + kPixels) * maps.stride, place.rows, maps.stride, place.column, last);
    };
    Multiply(*upstream, count, matrix, fetch, [&](const float* tile, const Place& place) {
      const int64_t at = (begin + place.row) * maps.stride + place.column;
      kernels.pass(tile, place.rows,
                   {maps.x + at, maps.stride, normalized->values.data() + place.row * kRowElements + place.column,
                    maps.constants.scale.data() + place.column, maps.constants.mean.data() + place.column},
                   work.is_first, work.gradient + at, sums + place.column, sums + channels + place.column);
    });
  }

  // Adds the products of the pixels that are packed to the gradient of the kernel.
  static void SumKernel(OpKernelContext* context, const Work& work, const Packed& packed, int64_t steps) {
    const ProductKernels<E>& kernels = ChosenProducts<E>();
    const int64_t channels = work.maps.channels, filters = work.kernel.filters;
    const int64_t panels = Parts(channels, packed.of_panel), columns = Parts(filters, kernels.filters);
    Share(context, panels * columns, 16 * steps, [&](int64_t first, int64_t last) {
      std::vector<float> tile(kernels.rows * kernels.filters);
      const int64_t of_run = kBlocksOfRun<E> * kPixels / Format<E>::kElements;
      for (int64_t step = 0; step < steps; step += of_run) {
        const Run run{step, step, std::min(of_run, steps - step)};
        for (int64_t product = first; product < last; ++product) {
          const int64_t a = product % panels, b = product / panels, channel = a * packed.of_panel;
          kernels.sum_panels[packed.of_panel - 1](packed.left.data() + a * packed.steps * kernels.stride,
                                                  packed.right.data() + b * packed.steps * kernels.filters, &run, 1,
                                                  tile.data());
          kernels.add(tile.data(), std::min(packed.of_panel, channels - channel), kernels.filters, filters, false,
                      work.of_kernel + channel * filters + b * kernels.filters);
        }
      }
    });
  }

  static void WriteParameters(OpKernelContext* context, const Normalized<T>& maps, const std::vector<double>& sums,
                              Tensor* coefficients) {
    const int64_t channels = maps.channels;
    Tensor *gamma = nullptr, *beta = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(2, TensorShape({channels}), &gamma));
    OP_REQUIRES_OK(context, context->allocate_output(3, TensorShape({channels}), &beta));
    float *constant = coefficients->flat<float>().data(), *slope = constant + coefficients->dim_size(1);
    const double values = std::max<int64_t>(1, maps.pixels);
    for (int64_t j = 0; j < channels; ++j) {
      const double inverse = maps.constants.inverse_deviation[j], product = sums[channels + j] * inverse;
      beta->flat<float>()(j) = static_cast<float>(sums[j]);
      gamma->flat<float>()(j) = static_cast<float>(product);
      const double per_unit = maps.constants.scale[j] * product * inverse / values;
      constant[j] += static_cast<float>(per_unit * maps.constants.mean[j] - maps.constants.scale[j] * sums[j] / values);
      slope[j] -= static_cast<float>(per_unit);
    }
  }

  float epsilon_;
};

// The gradients of `count` channels from `first` on, with the part of them that is linear in the maps.
template <typename T>
class TakeGradientOp : public OpKernel {
 public:
  explicit TakeGradientOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("first", &first_));
    OP_REQUIRES_OK(context, context->GetAttr("count", &count_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &gradient = context->input(0), &linear = context->input(1), &maps = context->input(2);
    const int64_t stride = maps.dim_size(3), pixels = PixelsOf(maps);
    OP_REQUIRES(context, gradient.shape() == maps.shape() && first_ + count_ <= stride && linear.dims() == 2 &&
                             linear.dim_size(1) == stride,
                tensorflow::errors::InvalidArgument("the gradient, or its linear part, is of other maps"));
    TensorShape shape = maps.shape();
    shape.set_dim(3, count_);
    Tensor* taken = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &taken));
    const float *constant = linear.flat<float>().data() + first_, *slope = constant + stride;
    const E *from = Data<T>(gradient) + first_, *x = Data<T>(maps) + first_;
    E* to = Data<T>(taken);
    ShareBlocks(context, pixels, 2 * count_, [&](int64_t first, int64_t last) {
      const int64_t begin = first * kPixelsOfBlock, some = std::min(last * kPixelsOfBlock, pixels) - begin;
      ChosenKernels<E>().add_linear(from + begin * stride, x + begin * stride, constant, slope, some, count_, stride,
                                    to + begin * count_);
    });
  }

 private:
  using E = typename Raw<T>::Type;

  int64_t first_, count_;
};

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("RadflowPointwiseGrad")
    .Attr("T: {bfloat16, float}")
    .Attr("M: int >= 0")
    .Attr("epsilon: float")
    .Input("dy: T")
    .Input("maps: T")
    .Input("statistics: float")
    .Input("gamma: float")
    .Input("beta: float")
    .Input("kernel: T")
    .Input("linear: float")
    .Input("added: M * T")
    .Output("dmaps: T")
    .Output("more_linear: float")
    .Output("dgamma: float")
    .Output("dbeta: float")
    .Output("dkernel: float")
    .SetShapeFn([](InferenceContext* context) {
      context->set_output(0, context->input(1));
      context->set_output(1, context->input(6));
      context->set_output(2, context->input(3));
      context->set_output(3, context->input(4));
      context->set_output(4, context->input(5));
      return tensorflow::OkStatus();
    });

REGISTER_OP("RadflowTakeGradient")
    .Attr("T: {bfloat16, float}")
    .Attr("first: int >= 0")
    .Attr("count: int >= 1")
    .Input("gradient: T")
    .Input("linear: float")
    .Input("maps: T")
    .Output("taken: T")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle maps;
      int64_t count;
      TF_RETURN_IF_ERROR(context->GetAttr("count", &count));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(2), 4, &maps));
      TF_RETURN_IF_ERROR(context->ReplaceDim(maps, 3, context->MakeDim(count), &maps));
      context->set_output(0, maps);
      return tensorflow::OkStatus();
    });

#define RADFLOW_REGISTER(T)                                                                                            \
  REGISTER_KERNEL_BUILDER(                                                                                             \
      Name("RadflowPointwiseGrad").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), PointwiseGradOp<T>);         \
  REGISTER_KERNEL_BUILDER(                                                                                             \
      Name("RadflowTakeGradient").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), TakeGradientOp<T>);
RADFLOW_REGISTER(bfloat16)
RADFLOW_REGISTER(float)

}  // namespace radflow
