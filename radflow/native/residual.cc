// The end of a residual block: two addends, of which one or both are normalised, through ReLU in one pass; and its
// gradient in two, of which the first takes the sums that the second needs.

#include <cstdint>
#include <vector>

#include "normalized.h"
#include "pixel_loops.h"
#include "sharing.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace radflow {

using tensorflow::OpInputList;

// The addends that are normalised, with what their normalisation needs.
template <typename T>
tensorflow::Status ReadAddends(OpKernelContext* context, float epsilon, std::vector<Normalized<T>>* addends) {
  OpInputList maps, statistics, gamma, beta;
  TF_RETURN_IF_ERROR(context->input_list("maps", &maps));
  TF_RETURN_IF_ERROR(context->input_list("statistics", &statistics));
  TF_RETURN_IF_ERROR(context->input_list("gamma", &gamma));
  TF_RETURN_IF_ERROR(context->input_list("beta", &beta));
  addends->resize(maps.size());
  for (int n = 0; n < maps.size(); ++n) {
    Normalized<T>& addend = (*addends)[n];
    TF_RETURN_IF_ERROR(addend.Set(maps[n], statistics[n], gamma[n], beta[n], epsilon));
    if (maps[n].shape() != maps[0].shape() || addend.channels != addend.stride)
      return tensorflow::errors::InvalidArgument("addends must be of one shape, with gamma and beta for all channels");
  }
  return tensorflow::OkStatus();
}

// y = x * a + z * b + c for each channel, on all threads.
template <typename E, typename Combine>
void CombineAll(OpKernelContext* context, const Combine& combine, const E* x, const E* z, const std::vector<float>& a,
                const std::vector<float>& b, const std::vector<float>& c, int64_t pixels, E* y) {
  const int64_t channels = a.size();
  ShareBlocks(context, pixels, 3 * channels, [&](int64_t first, int64_t last) {
    const int64_t begin = first * kPixelsOfBlock, count = std::min(last * kPixelsOfBlock, pixels) - begin;
    const int64_t at = begin * channels;
    combine(x + at, z + at, a.data(), b.data(), c.data(), count, channels, y + at);
  });
}

template <typename T>
class ResidualOp : public OpKernel {
 public:
  explicit ResidualOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
  }

  void Compute(OpKernelContext* context) override {
    std::vector<Normalized<T>> addends;
    OP_REQUIRES_OK(context, ReadAddends(context, epsilon_, &addends));
    OpInputList shortcut;
    OP_REQUIRES_OK(context, context->input_list("shortcut", &shortcut));
    const TensorShape& shape = context->input(0).shape();
    OP_REQUIRES(context, addends.size() + shortcut.size() == 2 && (!shortcut.size() || shortcut[0].shape() == shape),
                tensorflow::errors::InvalidArgument("there must be two addends of one shape"));
    Tensor* output = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &output));
    const Normalized<T>& first = addends[0];
    std::vector<float> slope(first.channels, 1.0f), offset = first.constants.offset;
    if (!shortcut.size()) {
      slope = addends[1].constants.scale;
      for (int64_t j = 0; j < first.channels; ++j) offset[j] += addends[1].constants.offset[j];
    }
    CombineAll(context, ChosenKernels<E>().combine_relu, first.x, shortcut.size() ? Data<T>(shortcut[0]) : addends[1].x,
               first.constants.scale, slope, offset, first.pixels, Data<T>(output));
  }

 private:
  using E = typename Raw<T>::Type;
  float epsilon_;
};

template <typename T>
class ResidualGradOp : public OpKernel {
 public:
  explicit ResidualGradOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
  }

  void Compute(OpKernelContext* context) override {
    std::vector<Normalized<T>> addends;
    OP_REQUIRES_OK(context, ReadAddends(context, epsilon_, &addends));
    const Tensor &dy = context->input(0), &y = context->input(1);
    const TensorShape& shape = context->input(2).shape();
    OP_REQUIRES(context, dy.shape() == shape && y.shape() == shape,
                tensorflow::errors::InvalidArgument("dy and y must be of the shape of the addends"));
    // Where nothing else is to read them, dy, y and the first addend are written over.
    Tensor *passed = nullptr, *gradient = nullptr;
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({0}, 1, shape, &passed));
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({1, 2}, 0, shape, &gradient));
    const std::vector<E*> gradients{Data<T>(gradient), Data<T>(passed)};
    std::vector<std::vector<double>> sums;
    const E* upstream = Data<T>(dy);
    for (const Normalized<T>& addend : addends) {
      sums.push_back(Pass(context, addend, upstream, Data<T>(y), Data<T>(passed)));
      upstream = Data<T>(passed);
    }
    for (size_t n = 0; n < addends.size() && context->status().ok(); ++n)
      Write(context, addends[n], n, addends.size(), sums[n], Data<T>(passed), gradients[n]);
  }

 private:
  using E = typename Raw<T>::Type;

  // Writes what passes the ReLU; returns its sum for each channel, then that of its products with the centred addend.
  static std::vector<double> Pass(OpKernelContext* context, const Normalized<T>& addend, const E* dy, const E* y,
                                  E* passed) {
    const int64_t channels = addend.channels;
    return SumBlocks(context, addend.pixels, channels, 4 * channels,
                     [&](int64_t begin, int64_t count, float* sum, float* product) {
                       const int64_t at = begin * channels;
                       ChosenKernels<E>().pass(dy + at, y + at, addend.x + at, addend.constants.mean.data(), count,
                                               channels, passed + at, sum, product);
                     });
  }

  // dx = scale * (passed - mean of passed - (x - mean) * slope), and the gradients of gamma and beta.
  static void Write(OpKernelContext* context, const Normalized<T>& addend, int number, int addends,
                    const std::vector<double>& sums, const E* passed, E* gradient) {
    const int64_t channels = addend.channels;
    const Channels& constants = addend.constants;
    Tensor *gamma = nullptr, *beta = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(2 + number, TensorShape({channels}), &gamma));
    OP_REQUIRES_OK(context, context->allocate_output(2 + addends + number, TensorShape({channels}), &beta));
    std::vector<float> slope(channels), offset(channels);
    const double values = std::max<int64_t>(1, addend.pixels);
    for (int64_t j = 0; j < channels; ++j) {
      const double inverse = constants.inverse_deviation[j], product = sums[channels + j] * inverse;
      beta->flat<float>()(j) = static_cast<float>(sums[j]);
      gamma->flat<float>()(j) = static_cast<float>(product);
      const double per_unit = product * inverse / values;
      slope[j] = static_cast<float>(-constants.scale[j] * per_unit);
      offset[j] = static_cast<float>(constants.scale[j] * (constants.mean[j] * per_unit - sums[j] / values));
    }
    CombineAll(context, ChosenKernels<E>().combine, passed, addend.x, constants.scale, slope, offset, addend.pixels,
               gradient);
  }

  float epsilon_;
};

using tensorflow::shape_inference::InferenceContext;

REGISTER_OP("RadflowResidual")
    .Attr("T: {bfloat16, float}")
    .Attr("N: int >= 1")
    .Attr("M: int >= 0")
    .Attr("epsilon: float")
    .Input("maps: N * T")
    .Input("statistics: N * float")
    .Input("gamma: N * float")
    .Input("beta: N * float")
    .Input("shortcut: M * T")
    .Output("y: T")
    .SetShapeFn([](InferenceContext* context) {
      context->set_output(0, context->input(0));
      return tensorflow::OkStatus();
    });

REGISTER_OP("RadflowResidualGrad")
    .Attr("T: {bfloat16, float}")
    .Attr("N: int >= 1")
    .Attr("epsilon: float")
    .Input("dy: T")
    .Input("y: T")
    .Input("maps: N * T")
    .Input("statistics: N * float")
    .Input("gamma: N * float")
    .Input("beta: N * float")
    .Output("dfirst: T")
    .Output("dsecond: T")
    .Output("dgamma: N * float")
    .Output("dbeta: N * float")
    .SetShapeFn([](InferenceContext* context) {
      const int addends = (context->num_inputs() - 2) / 4;
      context->set_output(0, context->input(0));
      context->set_output(1, context->input(0));
      for (int n = 0; n < 2 * addends; ++n) context->set_output(2 + n, context->input(2 + 2 * addends + n));
      return tensorflow::OkStatus();
    });

#define RADFLOW_REGISTER(T)                                                                                     \
  REGISTER_KERNEL_BUILDER(                                                                                      \
      Name("RadflowResidual").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), ResidualOp<T>);            \
  REGISTER_KERNEL_BUILDER(                                                                                      \
      Name("RadflowResidualGrad").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), ResidualGradOp<T>);
RADFLOW_REGISTER(bfloat16)
RADFLOW_REGISTER(float)

}  // namespace radflow
