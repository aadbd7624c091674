// The loops of weight_gradient.cc, compiled for several instruction sets.
//
// Films are packed side by side, position by position: what a tap of the kernel reads of the inputs is then as long as
// what it reads of the upstream gradient, wherever the tap lies, and positions beyond the edge are left out instead of
// being padded. A step is one film, in bfloat16 a pair of films, whose products one instruction adds.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "instruction_sets.h"
#include "numbers.h"

namespace radflow {

constexpr int kMostRows = 13;  // channels of inputs at a time, for which there are registers

// A run of steps that both operands have behind each other.
struct Run {
  int64_t inputs, upstream, steps;  // the first step of each, and how many
};

// How an element of type E is multiplied: `Step` holds that of one channel in all films of a step.
template <typename E>
struct Format;
template <>
struct Format<float> {
  using Step = float;
  static constexpr int kFilms = 1;
  static RADFLOW_INLINE Step Join(float one, float) { return one; }
};
template <>
struct Format<uint16_t> {
  using Step = uint32_t;
  static constexpr int kFilms = 2;
  static RADFLOW_INLINE Step Join(uint16_t one, uint16_t other) { return one | static_cast<uint32_t>(other) << 16; }
};

template <typename T, int kLanes>
struct Register {
  typedef T Type __attribute__((vector_size(kLanes * sizeof(T))));
};

struct InFloat32 {
  template <typename V>
  static RADFLOW_INLINE void MultiplyAdd(V& sum, float input, const V& upstream) {
    sum += input * upstream;
  }
  // Both films of a pair one after the other, as float32: the upper half of a number is the number.
  template <typename V, typename U>
  static RADFLOW_INLINE void MultiplyAdd(V& sum, uint32_t input, const U& upstream) {
    sum += AsFloat(input << 16) * reinterpret_cast<V>(upstream << 16);
    sum += AsFloat(input & 0xffff0000u) * reinterpret_cast<V>(upstream & 0xffff0000u);
  }
};

#if defined(__x86_64__)
struct InBfloat16 {
  template <typename V, typename U>
  static RADFLOW_INLINE void MultiplyAdd(V& sum, uint32_t input, const U& upstream) {
    const U everywhere = input - U{};
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(everywhere), "v"(upstream));  // its intrinsic asks for one target
  }
};
#endif

// Elements of one position: those of a step side by side, `stride` channels at a time, a panel each.
template <typename E, int kStride>
RADFLOW_INLINE void PackPosition(const E* one, const E* other, int64_t channels, int64_t of_panel, int64_t panel_size,
                                 typename Format<E>::Step* to) {
  E last[2][kStride] = {};
  for (int64_t c = 0; c < channels; c += of_panel, to += panel_size) {
    const E *a = one + c, *b = other + c;
    if (const int64_t left = channels - c; left < kStride) {
      std::memcpy(last[0], a, left * sizeof(E));
      std::memcpy(last[1], b, left * sizeof(E));
      a = last[0], b = last[1];
    }
    for (int j = 0; j < kStride; ++j) to[j] = Format<E>::Join(a[j], b[j]);
  }
}

// A row of positions of all films: [panels][positions][steps][kStride], where `to` is the first panel's row.
template <typename E, int kStride>
RADFLOW_INLINE void PackRow(const E* x, int64_t films, int64_t film_size, int64_t positions, int64_t channels,
                            int64_t of_panel, int64_t panel_size, const E* zeros, typename Format<E>::Step* to) {
  constexpr int kFilms = Format<E>::kFilms;
  const int64_t steps = (films + kFilms - 1) / kFilms;
  for (int64_t s = 0; s < steps; ++s) {
    const int64_t film = s * kFilms;
    for (int64_t p = 0; p < positions; ++p) {
      const E* one = x + film * film_size + p * channels;
      const E* other = film + kFilms <= films ? one + (kFilms - 1) * film_size : zeros;
      PackPosition<E, kStride>(one, other, channels, of_panel, panel_size, to + (p * steps + s) * kStride);
    }
  }
}

// Products of kRows channels of the inputs and 2 x kLanes filters, summed over runs of steps: [kRows][2 x kLanes].
template <typename E, typename Math, int kLanes, int kStride, int kRows>
RADFLOW_INLINE void SumTile(const typename Format<E>::Step* inputs, const typename Format<E>::Step* upstream,
                            const Run* runs, int64_t count, float* tile) {
  using Step = typename Format<E>::Step;
  using Steps = typename Register<Step, kLanes>::Type;
  typename Register<float, kLanes>::Type sums[kRows][2] = {};
  for (const Run* run = runs; run < runs + count; ++run) {
    const Step* a = inputs + run->inputs * kStride;
    const Step* b = upstream + run->upstream * 2 * kLanes;
    for (int64_t k = 0; k < run->steps; ++k, a += kStride, b += 2 * kLanes) {
      Steps left, right;
      std::memcpy(&left, b, sizeof(left));
      std::memcpy(&right, b + kLanes, sizeof(right));
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        Math::MultiplyAdd(sums[r][0], a[r], left);
        Math::MultiplyAdd(sums[r][1], a[r], right);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {  // by known indices, so that sums stay in registers
    std::memcpy(tile + 2 * kLanes * r, &sums[r][0], sizeof(sums[r][0]));
    std::memcpy(tile + 2 * kLanes * r + kLanes, &sums[r][1], sizeof(sums[r][1]));
  }
}

// Adds a tile, or what of it lies within the gradient, to the gradient.
template <int kFilters>
RADFLOW_INLINE void AddTile(const float* tile, int64_t rows, int64_t filters, int64_t stride, bool is_first,
                            float* gradient) {
  for (int64_t r = 0; r < rows; ++r, tile += kFilters, gradient += stride) {
    if (is_first) {
      std::memcpy(gradient, tile, filters * sizeof(float));
    } else if (filters == kFilters) {
      for (int f = 0; f < kFilters; ++f) gradient[f] += tile[f];
    } else {
      for (int64_t f = 0; f < filters; ++f) gradient[f] += tile[f];
    }
  }
}

// What one instruction set computes of elements of type E.
template <typename E>
struct WeightKernels {
  using Step = typename Format<E>::Step;
  using Sum = void (*)(const Step*, const Step*, const Run*, int64_t, float*);
  using Add = void (*)(const float*, int64_t, int64_t, int64_t, bool, float*);
  using Pack = void (*)(const E*, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, const E*, Step*);
  int stride;   // channels that a step of a panel of inputs has room for
  int filters;  // of a panel of the upstream gradient
  Pack pack_inputs, pack_upstream;
  std::array<Sum, kMostRows> sums;  // by channels of a panel of inputs, less one
  Add add;
  int rows;                    // the most of them
};

#define RADFLOW_WEIGHT_KERNELS(NAME, TARGET, MATH, LANES, STRIDE, ROWS)                                                \
  template <typename E>                                                                                                \
  struct NAME {                                                                                                        \
    using Step = typename Format<E>::Step;                                                                             \
    template <int kStride>                                                                                             \
    TARGET static void Pack(const E* x, int64_t films, int64_t film_size, int64_t positions, int64_t channels,         \
                            int64_t of_panel, int64_t panel_size, const E* zeros, Step* to) {                          \
      PackRow<E, kStride>(x, films, film_size, positions, channels, of_panel, panel_size, zeros, to);                  \
    }                                                                                                                  \
    template <int kRows>                                                                                               \
    TARGET static void Sum(const Step* inputs, const Step* upstream, const Run* runs, int64_t count, float* tile) {    \
      SumTile<E, MATH, LANES, STRIDE, kRows>(inputs, upstream, runs, count, tile);                                     \
    }                                                                                                                  \
    TARGET static void Add(const float* tile, int64_t rows, int64_t filters, int64_t stride, bool is_first,            \
                           float* gradient) {                                                                          \
      AddTile<2 * LANES>(tile, rows, filters, stride, is_first, gradient);                                             \
    }                                                                                                                  \
    template <int... kRows>                                                                                            \
    static WeightKernels<E> With(std::integer_sequence<int, kRows...>) {                                               \
      return {STRIDE, 2 * LANES, Pack<STRIDE>, Pack<2 * LANES>, {Sum<kRows + 1>...}, Add, ROWS};                           \
    }                                                                                                                  \
    static WeightKernels<E> All() { return With(std::make_integer_sequence<int, ROWS>()); }                            \
  };

RADFLOW_WEIGHT_KERNELS(PortableWeights, , InFloat32, 4, 8, 6)
#if defined(__x86_64__)
RADFLOW_WEIGHT_KERNELS(Avx2Weights, RADFLOW_AVX2, InFloat32, 8, 8, 6)
RADFLOW_WEIGHT_KERNELS(Avx512Weights, RADFLOW_AVX512, InFloat32, 16, 16, kMostRows)
RADFLOW_WEIGHT_KERNELS(Bfloat16Weights, RADFLOW_AVX512_BF16, InBfloat16, 16, 16, kMostRows)
#endif

template <typename E>
const WeightKernels<E>& ChosenWeightKernels() {
  static const WeightKernels<E> chosen = [] {
#if defined(__x86_64__)
    if constexpr (std::is_same_v<E, uint16_t>) {
      if (Uses(Instructions::kAvx512Bf16)) return Bfloat16Weights<E>::All();
    }
    if (Uses(Instructions::kAvx512)) return Avx512Weights<E>::All();
    if (Uses(Instructions::kAvx2)) return Avx2Weights<E>::All();
#endif
    return PortableWeights<E>::All();
  }();
  return chosen;
}

}  // namespace radflow
