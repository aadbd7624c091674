// What convolutions of normalised maps and their gradients share: products of blocks of pixels that stay in the cache.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "aligned.h"
#include "normalized.h"
#include "products.h"
#include "sharing.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace radflow {

constexpr int64_t kPixels = 8 * kMostRows;  // of a block; even, for pairs of bfloat16

// A matrix [inputs, outputs] packed as the right side of products.
template <typename E>
struct PackedMatrix {
  using Step = typename Format<E>::Step;

  PackedMatrix(const E* values, int64_t inputs, int64_t outputs)
      : steps(Parts(inputs, Format<E>::kElements)), panel_size(steps * ChosenProducts<E>().filters) {
    const int64_t filters = ChosenProducts<E>().filters;
    packed.resize(Parts(outputs, filters) * panel_size);
    const std::vector<E> zeros(outputs, E{});
    ChosenProducts<E>().pack_right(values, {inputs, outputs, 1, outputs}, filters, panel_size, zeros.data(),
                                   packed.data());
  }

  int64_t steps, panel_size;
  AlignedVector<Step> packed;
};

// Memory of a thread for a block of pixels, whose rows lie kRowElements apart.
template <typename E>
struct BlockOfRows {
  BlockOfRows() : values(kPixels * kRowElements) {}
  const typename Format<E>::Step* steps(int64_t row) const {
    return reinterpret_cast<const typename Format<E>::Step*>(values.data() + row * kRowElements);
  }
  AlignedVector<E> values;
};

// A tile of a product, or of maps: so many rows from `row` on, columns from `column` on.
struct Place {
  int64_t row, rows, column;
};

// Calls work(tile, place) for all tiles of [rows, inputs] x matrix, and fetch(place) before each is computed, for what will
// be wanted from memory.
template <typename E, typename Fetch, typename Work>
void Multiply(const BlockOfRows<E>& left, int64_t rows, const PackedMatrix<E>& right, const Fetch& fetch,
              const Work& work) {
  const ProductKernels<E>& kernels = ChosenProducts<E>();
  const Run all{0, 0, right.steps};
  std::vector<float> tile(kernels.rows * kernels.filters);
  const int64_t panels = right.packed.size() / right.panel_size;
  for (int64_t row = 0; row < rows; row += kernels.rows) {
    for (int64_t panel = 0; panel < panels; ++panel) {
      const Place place{row, std::min<int64_t>(kernels.rows, rows - row), panel * kernels.filters};
      fetch(place);
      kernels.sum_rows[place.rows - 1](left.steps(row), right.packed.data() + panel * right.panel_size, &all, 1,
                                       tile.data());
      work(tile.data(), place);
    }
  }
}

// Asks for columns [first, last) of rows that will be read soon.
template <typename E>
void FetchRows(const E* rows, int64_t count, int64_t stride, int64_t first, int64_t last) {
  for (int64_t r = 0; r < count; ++r)
    for (int64_t c = first; c < last; c += kLine / static_cast<int64_t>(sizeof(E)))
      __builtin_prefetch(rows + r * stride + c, 0, 2);  // into the second cache: the first is full of the product
}

// The kernel [1, 1, channels, filters] of a convolution of normalised maps.
template <typename E>
struct Kernel {
  template <typename T>
  tensorflow::Status Read(OpKernelContext* context, int64_t channels) {
    const Tensor* kernel = nullptr;
    TF_RETURN_IF_ERROR(context->input("kernel", &kernel));
    if (kernel->dims() != 4 || kernel->NumElements() != channels * kernel->dim_size(3) || channels > kMostChannels ||
        kernel->dim_size(3) > kMostChannels || channels % kWhole || kernel->dim_size(3) % kWhole)
      return tensorflow::errors::InvalidArgument("the kernel must be [1, 1, channels of gamma, filters], each a multiple of ",
                                                 kWhole, " and at most ", kMostChannels);
    values = Data<T>(*kernel);
    filters = kernel->dim_size(3);
    return tensorflow::OkStatus();
  }
  const E* values = nullptr;
  int64_t filters = 0;
};

}  // namespace radflow
