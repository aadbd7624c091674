// The gradient of a convolution's weights, with stride 1 and padding SAME: for each tap of the kernel the product of the
// inputs that the tap meets and the upstream gradient, summed over films and positions.
//
// Films are packed side by side, position by position: what a tap reads of the inputs is then as long as what it reads of
// the upstream gradient, wherever the tap lies, and positions beyond the edge are left out instead of being padded. Rows of
// maps are packed a chunk at a time, for the cache. Each thread computes gradients of its own, in the same order however
// many threads there are, so that results do not depend on their number.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "products.h"
#include "sharing.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace radflow {

constexpr int64_t kBytesOfChunk = 8 << 20;  // that are packed, while in the last cache: few waits for other threads
constexpr int64_t kStepsOfBlock = 512;  // that all products of a thread go through while they are in its cache

// Positions [first, last) of a row.
struct Positions {
  int64_t row, first, last;
};

// Rows [first, last) of maps of `width` positions, in pieces of about kStepsOfBlock steps.
std::vector<std::vector<Positions>> Blocks(int64_t first, int64_t last, int64_t width, int64_t steps_of_position) {
  const int64_t positions = std::max<int64_t>(1, kStepsOfBlock / steps_of_position);
  std::vector<std::vector<Positions>> blocks;
  int64_t left = 0;
  for (int64_t row = first; row < last; ++row) {
    for (int64_t from = 0; from < width;) {
      if (left == 0) {
        blocks.emplace_back();
        left = positions;
      }
      const int64_t to = std::min(width, from + left);
      blocks.back().push_back({row, from, to});
      left -= to - from;
      from = to;
    }
  }
  return blocks;
}

template <typename T>
class WeightGradientOp : public OpKernel {
 public:
  explicit WeightGradientOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("size", &size_));
    OP_REQUIRES(context, size_ % 2 == 1, tensorflow::errors::InvalidArgument("size must be odd"));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &inputs = context->input(0), &upstream = context->input(1);
    bool fits = inputs.dims() == 4 && upstream.dims() == 4;
    for (int axis = 0; fits && axis < 3; ++axis) fits = inputs.dim_size(axis) == upstream.dim_size(axis);
    OP_REQUIRES(context, fits, tensorflow::errors::InvalidArgument("maps must be [n, h, w, channels] of one size"));
    Tensor* gradient = nullptr;
    const TensorShape shape({size_, size_, inputs.dim_size(3), upstream.dim_size(3)});
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &gradient));
    if (inputs.NumElements() == 0 || upstream.NumElements() == 0) {
      gradient->flat<float>().setZero();
      return;
    }
    Sum(context, Maps(inputs), Maps(upstream), gradient->flat<float>().data());
  }

 private:
  using E = typename Raw<T>::Type;
  using Step = typename Format<E>::Step;

  struct Maps {
    explicit Maps(const Tensor& maps)
        : values(Data<T>(maps)),
          films(maps.dim_size(0)),
          height(maps.dim_size(1)),
          width(maps.dim_size(2)),
          channels(maps.dim_size(3)) {}
    const E* values;
    int64_t films, height, width, channels;
  };

  // Some rows of maps, packed in panels of channels.
  struct Packed {
    Packed(int64_t channels, int64_t of_panel, int64_t stride, int64_t rows, int64_t steps_of_row)
        : of_panel(of_panel), panels(Parts(channels, of_panel)), row_size(steps_of_row * stride),
          panel_size(rows * row_size) {}
    int64_t of_panel, panels, row_size, panel_size;
    int64_t first_row = 0;
    Step* values = nullptr;
    int64_t size() const { return panels * panel_size; }
  };

  // Panels of equal size waste least where the channels are no multiple of the most that a panel may have.
  static int64_t ChannelsOfPanel(int64_t channels) {
    return Parts(channels, Parts(channels, ChosenProducts<E>().rows));
  }

  void Sum(OpKernelContext* context, const Maps& inputs, const Maps& upstream, float* gradient) const {
    const ProductKernels<E>& kernels = ChosenProducts<E>();
    const int64_t steps = Parts(inputs.films, Format<E>::kElements), steps_of_row = inputs.width * steps, edge = size_ / 2;
    const int64_t of_panel = ChannelsOfPanel(inputs.channels);
    const int64_t packed_channels = Parts(inputs.channels, of_panel) * kernels.stride +
                                    Parts(upstream.channels, kernels.filters) * kernels.filters;
    const int64_t bytes_of_row = steps_of_row * packed_channels * static_cast<int64_t>(sizeof(Step));
    const int64_t rows = std::clamp<int64_t>(kBytesOfChunk / bytes_of_row, 1, inputs.height);
    Packed left(inputs.channels, of_panel, kernels.stride, std::min(rows + 2 * edge, inputs.height), steps_of_row);
    Packed right(upstream.channels, kernels.filters, kernels.filters, rows, steps_of_row);
    Tensor memory;
    const int64_t bytes = (left.size() + right.size()) * sizeof(Step);
    OP_REQUIRES_OK(context, context->allocate_temp(tensorflow::DT_UINT8, TensorShape({bytes}), &memory));
    left.values = reinterpret_cast<Step*>(memory.flat<uint8_t>().data());
    right.values = left.values + left.size();
    for (int64_t first = 0; first < inputs.height; first += rows) {
      const int64_t last = std::min(inputs.height, first + rows);
      left.first_row = std::max<int64_t>(0, first - edge);
      right.first_row = first;
      Pack(context, inputs, std::min(inputs.height, last + edge), kernels.pack_left, &left);
      Pack(context, upstream, last, kernels.pack_right, &right);
      SumRows(context, inputs, upstream.channels, left, right, last, gradient);
    }
  }

  void Pack(OpKernelContext* context, const Maps& maps, int64_t last_row, typename ProductKernels<E>::Pack pack,
            Packed* packed) const {
    const std::vector<E> zeros(maps.channels, E{});  // the film beside the last of an odd number
    const int64_t row_size = maps.width * maps.channels, film_size = maps.height * row_size;
    Share(context, last_row - packed->first_row, maps.films * row_size, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row)
        pack(maps.values + (packed->first_row + row) * row_size, {maps.films, film_size, maps.width, maps.channels},
             packed->of_panel, packed->panel_size, zeros.data(), packed->values + row * packed->row_size);
    });
  }

  // Adds the products of the rows that are packed.
  void SumRows(OpKernelContext* context, const Maps& inputs, int64_t filters, const Packed& left, const Packed& right,
               int64_t last_row, float* gradient) const {
    const ProductKernels<E>& kernels = ChosenProducts<E>();
    const int64_t taps = size_ * size_, steps = Parts(inputs.films, Format<E>::kElements);
    std::vector<std::vector<std::vector<Run>>> runs;  // of each block and tap
    for (const auto& block : Blocks(right.first_row, last_row, inputs.width, steps)) {
      runs.emplace_back();
      for (int64_t tap = 0; tap < taps; ++tap) runs.back().push_back(RunsOf(inputs, left, right, block, tap, steps));
    }
    const int64_t steps_in_all = (last_row - right.first_row) * inputs.width * steps;
    Share(context, left.panels * right.panels * taps, 16 * steps_in_all, [&](int64_t first, int64_t last) {
      std::vector<float> tile(left.of_panel * right.of_panel);
      for (size_t block = 0; block < runs.size(); ++block) {
        for (int64_t product = first; product < last; ++product) {
          const int64_t tap = product % taps, a = product / taps % left.panels, b = product / taps / left.panels;
          const std::vector<Run>& summed = runs[block][tap];
          const int64_t channel = a * left.of_panel, filter = b * right.of_panel;
          kernels.sum_panels[left.of_panel - 1](left.values + a * left.panel_size, right.values + b * right.panel_size,
                                          summed.data(), summed.size(), tile.data());
          kernels.add(tile.data(), std::min(left.of_panel, inputs.channels - channel),
                      std::min(right.of_panel, filters - filter), filters, right.first_row == 0 && block == 0,
                      gradient + (tap * inputs.channels + channel) * filters + filter);
        }
      }
    });
  }

  // Where both operands of a tap are within the maps.
  std::vector<Run> RunsOf(const Maps& inputs, const Packed& left, const Packed& right,
                          const std::vector<Positions>& block, int64_t tap, int64_t steps) const {
    const int64_t down = tap / size_ - size_ / 2, beside = tap % size_ - size_ / 2;
    std::vector<Run> runs;
    for (const Positions& some : block) {
      const int64_t row = some.row + down;
      const int64_t first = std::max(some.first, -beside), last = std::min(some.last, inputs.width - beside);
      if (row < 0 || row >= inputs.height || first >= last) continue;
      runs.push_back({((row - left.first_row) * inputs.width + first + beside) * steps,
                      ((some.row - right.first_row) * inputs.width + first) * steps, (last - first) * steps});
    }
    return runs;
  }

  int64_t size_;
};

REGISTER_OP("RadflowWeightGradient")
    .Attr("T: {bfloat16, float}")
    .Attr("size: int >= 1")
    .Input("inputs: T")
    .Input("upstream: T")
    .Output("gradient: float")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* context) {
      tensorflow::shape_inference::ShapeHandle inputs, upstream;
      int64_t size;
      TF_RETURN_IF_ERROR(context->GetAttr("size", &size));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 4, &inputs));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 4, &upstream));
      context->set_output(0, context->MakeShape({size, size, context->Dim(inputs, 3), context->Dim(upstream, 3)}));
      return tensorflow::OkStatus();
    });

#define RADFLOW_REGISTER(T)                                                                          \
  REGISTER_KERNEL_BUILDER(                                                                           \
      Name("RadflowWeightGradient").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), WeightGradientOp<T>);
RADFLOW_REGISTER(bfloat16)
RADFLOW_REGISTER(float)

}  // namespace radflow
