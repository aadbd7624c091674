// Sums of products, compiled for several instruction sets: [rows, steps] x [steps, filters] in float32.
//
// A step is what one instruction adds the products of: in bfloat16 a pair of elements, of float32 one.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "instruction_sets.h"
#include "numbers.h"

namespace radflow {

constexpr int kMostRows = 13;         // of a tile of sums, for which there are registers
constexpr int64_t kWhole = 32, kMostChannels = 2048;  // channels and filters that fill panels, and fit into a row
constexpr int64_t kRowElements = 2080;  // from one row to the next where they are not packed: known to the compiler

// A run of steps that both operands have behind each other.
struct Run {
  int64_t left, right, steps;  // the first step of each, and how many
};

template <typename E>
struct Format;
template <>
struct Format<float> {
  using Step = float;
  static constexpr int kElements = 1;  // of a step
};
template <>
struct Format<uint16_t> {
  using Step = uint32_t;
  static constexpr int kElements = 2;
};

template <typename T, int kLanes>
struct Register {
  typedef T Type __attribute__((vector_size(kLanes * sizeof(T))));
};

// Elements as a register of float32. (Loops over arrays of them are not vectorised where what is written may be what is
// read next, and sums in arrays are kept in memory.)
template <int kLanes>
struct Lanes {
  using Floats = typename Register<float, kLanes>::Type;
  using Bits = typename Register<uint32_t, kLanes>::Type;
  using Halves = typename Register<uint16_t, kLanes>::Type;

  static RADFLOW_INLINE void Read(const float* from, Floats& to) { std::memcpy(&to, from, sizeof(to)); }
  static RADFLOW_INLINE void Read(const uint16_t* from, Floats& to) {
    Halves upper;
    std::memcpy(&upper, from, sizeof(upper));
    const Bits bits = __builtin_convertvector(upper, Bits) << 16;
    to = reinterpret_cast<Floats>(bits);
  }
  static RADFLOW_INLINE void Write(const Floats& from, float* to) { std::memcpy(to, &from, sizeof(from)); }
  static RADFLOW_INLINE void Write(const Floats& from, uint16_t* to) {  // rounded as Store does
    const Bits bits = reinterpret_cast<Bits>(from);
    const Halves upper = __builtin_convertvector((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, Halves);
    std::memcpy(to, &upper, sizeof(upper));
  }
};

struct InFloat32 {
  template <typename V>
  static RADFLOW_INLINE void MultiplyAdd(V& sum, float left, const V& right) {
    sum += left * right;
  }
  // Both of a pair one after the other, as float32: the upper half of a number is the number.
  template <typename V, typename U>
  static RADFLOW_INLINE void MultiplyAdd(V& sum, uint32_t left, const U& right) {
    sum += AsFloat(left << 16) * reinterpret_cast<V>(right << 16);
    sum += AsFloat(left & 0xffff0000u) * reinterpret_cast<V>(right & 0xffff0000u);
  }
};

#if defined(__x86_64__)
struct InBfloat16 {
  template <typename V, typename U>
  static RADFLOW_INLINE void MultiplyAdd(V& sum, uint32_t left, const U& right) {
    const U everywhere = left - U{};
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(everywhere), "v"(right));  // its intrinsic asks for one target
  }
};
#endif

template <int kLanes>
RADFLOW_INLINE void JoinElements(const float* one, const float*, float* steps) {
  std::memcpy(steps, one, kLanes * sizeof(float));
}
template <int kLanes>
RADFLOW_INLINE void JoinElements(const uint16_t* one, const uint16_t* other, uint32_t* steps) {
  using Bits = typename Register<uint32_t, kLanes>::Type;
  typename Register<uint16_t, kLanes>::Type lower, upper;
  std::memcpy(&lower, one, sizeof(lower)), std::memcpy(&upper, other, sizeof(upper));
  const Bits joined = __builtin_convertvector(lower, Bits) | __builtin_convertvector(upper, Bits) << 16;
  std::memcpy(steps, &joined, sizeof(joined));
}

// Channels of one step: `of_panel` of them to a panel, which has room for kStride.
template <typename E, int kLanes, int kStride>
RADFLOW_INLINE void PackStep(const E* one, const E* other, int64_t channels, int64_t of_panel, int64_t panel_size,
                             typename Format<E>::Step* to) {
  for (int64_t c = 0; c < channels; c += of_panel, to += panel_size) {
    const E *a = one + c, *b = other + c;
    E last[2][kStride];
    if (const int64_t left = channels - c; left < kStride) {
      std::memset(last, 0, sizeof(last));
      a = static_cast<E*>(std::memcpy(last[0], a, left * sizeof(E)));
      b = static_cast<E*>(std::memcpy(last[1], b, left * sizeof(E)));
    }
    for (int j = 0; j < kStride; j += kLanes) JoinElements<kLanes>(a + j, b + j, to + j);
  }
}

// Where the rows lie that are packed, `count` at each of some positions, `stride` elements apart, with their channels.
struct Rows {
  int64_t count, stride, positions, channels;
};

// Rows as steps: [panels][positions][steps][kStride], where `to` is in the first panel. Zeros fill an odd last pair.
template <typename E, int kLanes, int kStride>
RADFLOW_INLINE void PackRows(const E* x, const Rows& rows, int64_t of_panel, int64_t panel_size, const E* zeros,
                             typename Format<E>::Step* to) {
  constexpr int kElements = Format<E>::kElements;
  const int64_t steps = (rows.count + kElements - 1) / kElements;
  for (int64_t s = 0; s < steps; ++s) {
    const int64_t row = s * kElements;
    for (int64_t p = 0; p < rows.positions; ++p) {
      const E* one = x + row * rows.stride + p * rows.channels;
      const E* other = row + kElements <= rows.count ? one + (kElements - 1) * rows.stride : zeros;
      PackStep<E, kLanes, kStride>(one, other, rows.channels, of_panel, panel_size, to + (p * steps + s) * kStride);
    }
  }
}

// Products of kRows rows and 2 x kLanes filters, summed over runs of steps: [kRows][2 x kLanes]. On the left a step lies
// kStep further than the one before, and a row kRow further.
template <typename E, typename Math, int kLanes, int kStep, int kRow, int kRows>
RADFLOW_INLINE void SumTile(const typename Format<E>::Step* left, const typename Format<E>::Step* right,
                            const Run* runs, int64_t count, float* tile) {
  using Step = typename Format<E>::Step;
  using Steps = typename Register<Step, kLanes>::Type;
  typename Register<float, kLanes>::Type sums[kRows][2] = {};
  for (const Run* run = runs; run < runs + count; ++run) {
    const Step* a = left + run->left * kStep;
    const Step* b = right + run->right * 2 * kLanes;
    for (int64_t k = 0; k < run->steps; ++k, a += kStep, b += 2 * kLanes) {
      Steps first, second;
      std::memcpy(&first, b, sizeof(first));
      std::memcpy(&second, b + kLanes, sizeof(second));
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        Math::MultiplyAdd(sums[r][0], a[r * kRow], first);
        Math::MultiplyAdd(sums[r][1], a[r * kRow], second);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {  // by known indices, so that sums stay in registers
    std::memcpy(tile + 2 * kLanes * r, &sums[r][0], sizeof(sums[r][0]));
    std::memcpy(tile + 2 * kLanes * r + kLanes, &sums[r][1], sizeof(sums[r][1]));
  }
}

// Adds a tile, or what of it lies within a matrix whose rows are `stride` apart, to the matrix.
template <int kLanes>
RADFLOW_INLINE void AddTile(const float* tile, int64_t rows, int64_t filters, int64_t stride, bool is_first,
                            float* matrix) {
  for (int64_t r = 0; r < rows; ++r, tile += 2 * kLanes, matrix += stride) {
    if (is_first) {
      std::memcpy(matrix, tile, filters * sizeof(float));
    } else if (filters == 2 * kLanes) {
      for (int f = 0; f < 2 * kLanes; f += kLanes) {
        typename Lanes<kLanes>::Floats sum, more;
        Lanes<kLanes>::Read(matrix + f, sum), Lanes<kLanes>::Read(tile + f, more);
        Lanes<kLanes>::Write(sum + more, matrix + f);
      }
    } else {
      for (int64_t f = 0; f < filters; ++f) matrix[f] += tile[f];
    }
  }
}

// Writes a tile, and adds the distances of what is written from pixel `near` to `sum`, and their squares to `square`.
template <typename E, int kLanes>
RADFLOW_INLINE void StoreTile(const float* tile, int64_t rows, int64_t stride, E* to, const E* near, float* sum,
                              float* square) {
  typename Lanes<kLanes>::Floats value, centre, sums, squares;
  for (int f = 0; f < 2 * kLanes; f += kLanes) {
    for (int64_t r = 0; r < rows; ++r) {
      Lanes<kLanes>::Read(tile + r * 2 * kLanes + f, value);
      Lanes<kLanes>::Write(value, to + r * stride + f);
    }
    Lanes<kLanes>::Read(near + f, centre);  // which may be of these rows
    Lanes<kLanes>::Read(sum + f, sums), Lanes<kLanes>::Read(square + f, squares);
    for (int64_t r = 0; r < rows; ++r) {
      Lanes<kLanes>::Read(to + r * stride + f, value);
      value -= centre;
      sums += value;
      squares += value * value;
    }
    Lanes<kLanes>::Write(sums, sum + f), Lanes<kLanes>::Write(squares, square + f);
  }
}

// Writes what normalisation and ReLU make of a tile.
template <typename E, int kLanes>
RADFLOW_INLINE void StoreNormalizedTile(const float* tile, int64_t rows, int64_t stride, const float* scale,
                                        const float* offset, E* to) {
  typename Lanes<kLanes>::Floats value, factor, addend, zero = {};
  for (int f = 0; f < 2 * kLanes; f += kLanes) {
    Lanes<kLanes>::Read(scale + f, factor), Lanes<kLanes>::Read(offset + f, addend);
    for (int64_t r = 0; r < rows; ++r) {
      Lanes<kLanes>::Read(tile + r * 2 * kLanes + f, value);
      value = value * factor + addend;
      value = value < zero ? zero : value;  // NaN stays NaN
      Lanes<kLanes>::Write(value, to + r * stride + f);
    }
  }
}

// Maps, from the first channel of a tile on.
template <typename E>
struct TileOfMaps {
  const E* maps;  // rows `stride` apart
  int64_t stride;
  const E* normalized;  // what ReLU gave of them; rows kRowElements apart
  const float *scale, *mean;
};

// Gradients of normalised maps that ReLU lets pass: times the scale they are added to `gradient`, or are what it is; their
// sums, and those of their products with the centred maps, are added to `sum` and `product`.
template <typename E, int kLanes>
RADFLOW_INLINE void PassTile(const float* tile, int64_t rows, const TileOfMaps<E>& of, bool is_first, E* gradient,
                             float* sum, float* product) {
  typename Lanes<kLanes>::Floats scale, mean, passed, x, y, total, sums, products, zero = {};
  for (int f = 0; f < 2 * kLanes; f += kLanes) {
    Lanes<kLanes>::Read(of.scale + f, scale), Lanes<kLanes>::Read(of.mean + f, mean);
    Lanes<kLanes>::Read(sum + f, sums), Lanes<kLanes>::Read(product + f, products);
    for (int64_t r = 0; r < rows; ++r) {
      E* to = gradient + r * of.stride + f;
      Lanes<kLanes>::Read(of.maps + r * of.stride + f, x);
      Lanes<kLanes>::Read(of.normalized + r * kRowElements + f, y);
      Lanes<kLanes>::Read(tile + r * 2 * kLanes + f, passed);
      passed = y > zero ? passed : zero;
      sums += passed;
      products += passed * (x - mean);
      total = scale * passed;
      if (!is_first) {
        Lanes<kLanes>::Read(to, x);
        total += x;
      }
      Lanes<kLanes>::Write(total, to);
    }
    Lanes<kLanes>::Write(sums, sum + f), Lanes<kLanes>::Write(products, product + f);
  }
}

// What one instruction set computes of elements of type E.
template <typename E>
struct ProductKernels {
  using Step = typename Format<E>::Step;
  using Pack = void (*)(const E*, const Rows&, int64_t, int64_t, const E*, Step*);
  using Sum = void (*)(const Step*, const Step*, const Run*, int64_t, float*);
  int rows;     // the most of a tile
  int stride;   // rows that a step of a panel on the left has room for
  int filters;  // of a tile, and of a panel on the right
  Pack pack_left, pack_right;
  std::array<Sum, kMostRows> sum_panels, sum_rows;  // by rows of the tile, less one
  void (*add)(const float*, int64_t, int64_t, int64_t, bool, float*);
  void (*store)(const float*, int64_t, int64_t, E*, const E*, float*, float*);
  void (*store_normalized)(const float*, int64_t, int64_t, const float*, const float*, E*);
  void (*pass)(const float*, int64_t, const TileOfMaps<E>&, bool, E*, float*, float*);
};

#define RADFLOW_PRODUCT_KERNELS(NAME, TARGET, MATH, LANES, STRIDE, ROWS)                                               \
  template <typename E>                                                                                                \
  struct NAME {                                                                                                        \
    using Step = typename Format<E>::Step;                                                                             \
    static constexpr int kRowSteps = kRowElements / Format<E>::kElements;                                              \
    template <int kStride>                                                                                             \
    TARGET static void Pack(const E* x, const Rows& rows, int64_t of_panel, int64_t panel_size, const E* zeros,        \
                            Step* to) {                                                                                \
      PackRows<E, LANES, kStride>(x, rows, of_panel, panel_size, zeros, to);                                           \
    }                                                                                                                  \
    template <int kStep, int kRow, int kRows>                                                                          \
    TARGET static void Sum(const Step* left, const Step* right, const Run* runs, int64_t count, float* tile) {         \
      SumTile<E, MATH, LANES, kStep, kRow, kRows>(left, right, runs, count, tile);                                     \
    }                                                                                                                  \
    TARGET static void Add(const float* tile, int64_t rows, int64_t filters, int64_t stride, bool is_first,            \
                           float* matrix) {                                                                            \
      AddTile<LANES>(tile, rows, filters, stride, is_first, matrix);                                                   \
    }                                                                                                                  \
    TARGET static void Store(const float* tile, int64_t rows, int64_t stride, E* to, const E* near, float* sum,        \
                             float* square) {                                                                          \
      StoreTile<E, LANES>(tile, rows, stride, to, near, sum, square);                                                  \
    }                                                                                                                  \
    TARGET static void StoreNormalized(const float* tile, int64_t rows, int64_t stride, const float* scale,            \
                                       const float* offset, E* to) {                                                   \
      StoreNormalizedTile<E, LANES>(tile, rows, stride, scale, offset, to);                                            \
    }                                                                                                                  \
    TARGET static void Pass(const float* tile, int64_t rows, const TileOfMaps<E>& of, bool is_first, E* gradient,      \
                            float* sum, float* product) {                                                              \
      PassTile<E, LANES>(tile, rows, of, is_first, gradient, sum, product);                                            \
    }                                                                                                                  \
    template <int... kRows>                                                                                            \
    static ProductKernels<E> With(std::integer_sequence<int, kRows...>) {                                              \
      return {ROWS,                                                                                                    \
              STRIDE,                                                                                                  \
              2 * LANES,                                                                                               \
              Pack<STRIDE>,                                                                                            \
              Pack<2 * LANES>,                                                                                         \
              {Sum<STRIDE, 1, kRows + 1>...},                                                                          \
              {Sum<1, kRowSteps, kRows + 1>...},                                                                       \
              Add,                                                                                                     \
              Store,                                                                                                   \
              StoreNormalized,                                                                                         \
              Pass};                                                                                                   \
    }                                                                                                                  \
    static ProductKernels<E> All() { return With(std::make_integer_sequence<int, ROWS>()); }                           \
  };

RADFLOW_PRODUCT_KERNELS(PortableProducts, , InFloat32, 4, 8, 6)
#if defined(__x86_64__)
RADFLOW_PRODUCT_KERNELS(Avx2Products, RADFLOW_AVX2, InFloat32, 8, 8, 6)
RADFLOW_PRODUCT_KERNELS(Avx512Products, RADFLOW_AVX512, InFloat32, 16, 16, kMostRows)
RADFLOW_PRODUCT_KERNELS(Bfloat16Products, RADFLOW_AVX512_BF16, InBfloat16, 16, 16, kMostRows)
#endif

template <typename E>
const ProductKernels<E>& ChosenProducts() {
  static const ProductKernels<E> chosen = [] {
#if defined(__x86_64__)
    if constexpr (std::is_same_v<E, uint16_t>) {
      if (Uses(Instructions::kAvx512Bf16)) return Bfloat16Products<E>::All();
    }
    if (Uses(Instructions::kAvx512)) return Avx512Products<E>::All();
    if (Uses(Instructions::kAvx2)) return Avx2Products<E>::All();
#endif
    return PortableProducts<E>::All();
  }();
  return chosen;
}

}  // namespace radflow
