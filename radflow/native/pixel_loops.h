// The loops over pixels of the operations on normalised maps, compiled for several instruction sets.
//
// Maps are [pixels, channels], a pixel every `stride` elements. Elements are computed in float32.

#pragma once

#include <cstdint>

#include "instruction_sets.h"
#include "numbers.h"

namespace radflow {

constexpr int kUnrolled = 4;  // pixels at a time, for which a channel's constants are loaded once

template <typename E>
RADFLOW_INLINE void SumPixels(const E* x, const float* shift, int64_t pixels, int64_t channels, float* sum,
                              float* square) {
  int64_t p = 0;
  for (; p + kUnrolled <= pixels; p += kUnrolled) {
    const E *a = x + p * channels, *b = a + channels, *c = b + channels, *d = c + channels;
    for (int64_t j = 0; j < channels; ++j) {
      const float e = Load(a + j) - shift[j], f = Load(b + j) - shift[j], g = Load(c + j) - shift[j],
                  h = Load(d + j) - shift[j];
      sum[j] += (e + f) + (g + h);
      square[j] += (e * e + f * f) + (g * g + h * h);
    }
  }
  for (; p < pixels; ++p) {
    for (int64_t j = 0; j < channels; ++j) {
      const float e = Load(x + p * channels + j) - shift[j];
      sum[j] += e;
      square[j] += e * e;
    }
  }
}

template <typename E>
RADFLOW_INLINE void NormalizePixels(const E* x, const float* scale, const float* offset, int64_t pixels,
                                    int64_t channels, int64_t stride, E* y, int64_t y_stride) {
  for (int64_t p = 0; p < pixels; ++p) {
    const E* from = x + p * stride;
    E* to = y + p * y_stride;
    for (int64_t j = 0; j < channels; ++j) {
      const float value = Load(from + j) * scale[j] + offset[j];
      Store(to + j, value < 0.0f ? 0.0f : value);  // NaN stays NaN: a loss that is not finite must show
    }
  }
}

// Sums over pixels of the gradient where the output is above 0, and of its product with the centred input.
template <typename E>
RADFLOW_INLINE void SumGradients(const E* x, const E* dy, const float* scale, const float* offset, const float* mean,
                                 int64_t pixels, int64_t channels, int64_t stride, float* sum, float* product) {
  int64_t p = 0;
  for (; p + kUnrolled <= pixels; p += kUnrolled) {
    const E* from = x + p * stride;
    const E* up = dy + p * channels;
    for (int64_t j = 0; j < channels; ++j) {
      float s = 0.0f, t = 0.0f;
      for (int q = 0; q < kUnrolled; ++q) {
        const float value = Load(from + q * stride + j);
        const float passed = value * scale[j] + offset[j] > 0.0f ? Load(up + q * channels + j) : 0.0f;
        s += passed;
        t += passed * (value - mean[j]);
      }
      sum[j] += s;
      product[j] += t;
    }
  }
  for (; p < pixels; ++p) {
    for (int64_t j = 0; j < channels; ++j) {
      const float value = Load(x + p * stride + j);
      const float passed = value * scale[j] + offset[j] > 0.0f ? Load(dy + p * channels + j) : 0.0f;
      sum[j] += passed;
      product[j] += passed * (value - mean[j]);
    }
  }
}

// dx = scale * (passed - mean of passed - (x - mean) * slope), added to `added` where there is one.
template <typename E, bool kAdds>
RADFLOW_INLINE void WriteGradients(const E* x, const E* dy, const E* added, const float* scale, const float* offset,
                                   const float* mean, const float* mean_gradient, const float* slope, int64_t pixels,
                                   int64_t channels, int64_t stride, E* dx) {
  for (int64_t p = 0; p < pixels; ++p) {
    const E* from = x + p * stride;
    const E* up = dy + p * channels;
    for (int64_t j = 0; j < channels; ++j) {
      const float value = Load(from + j);
      const float passed = value * scale[j] + offset[j] > 0.0f ? Load(up + j) : 0.0f;
      float gradient = scale[j] * (passed - mean_gradient[j] - (value - mean[j]) * slope[j]);
      if (kAdds) gradient += Load(added + p * stride + j);
      Store(dx + p * stride + j, gradient);
    }
  }
}

// What is linear in x, added to the gradients of its first channels.
template <typename E>
RADFLOW_INLINE void AddLinear(const E* dx, const E* x, const float* constant, const float* slope, int64_t pixels,
                              int64_t channels, int64_t stride, E* y) {
  for (int64_t p = 0; p < pixels; ++p, dx += stride, x += stride, y += channels)
    for (int64_t j = 0; j < channels; ++j) Store(y + j, Load(dx + j) + constant[j] + slope[j] * Load(x + j));
}

// The same loops compiled for several instruction sets; which is taken is decided once.
template <typename E>
struct Kernels {
  void (*sum_pixels)(const E*, const float*, int64_t, int64_t, float*, float*);
  void (*normalize)(const E*, const float*, const float*, int64_t, int64_t, int64_t, E*, int64_t);
  void (*sum_gradients)(const E*, const E*, const float*, const float*, const float*, int64_t, int64_t, int64_t, float*,
                        float*);
  void (*write)(const E*, const E*, const E*, const float*, const float*, const float*, const float*, const float*,
                int64_t, int64_t, int64_t, E*);
  void (*add)(const E*, const E*, const E*, const float*, const float*, const float*, const float*, const float*,
              int64_t, int64_t, int64_t, E*);
  void (*add_linear)(const E*, const E*, const float*, const float*, int64_t, int64_t, int64_t, E*);
};

#define RADFLOW_KERNELS(NAME, TARGET)                                                                                  \
  template <typename E>                                                                                                \
  struct NAME {                                                                                                        \
    TARGET static void Sum(const E* x, const float* shift, int64_t n, int64_t c, float* sum, float* square) {          \
      SumPixels(x, shift, n, c, sum, square);                                                                          \
    }                                                                                                                  \
    TARGET static void Normalize(const E* x, const float* scale, const float* offset, int64_t n, int64_t c, int64_t s, \
                                 E* y, int64_t t) {                                                                    \
      NormalizePixels(x, scale, offset, n, c, s, y, t);                                                                \
    }                                                                                                                  \
    TARGET static void Gradients(const E* x, const E* dy, const float* scale, const float* offset, const float* mean,  \
                                 int64_t n, int64_t c, int64_t s, float* sum, float* product) {                        \
      SumGradients(x, dy, scale, offset, mean, n, c, s, sum, product);                                                 \
    }                                                                                                                  \
    TARGET static void Write(const E* x, const E* dy, const E* added, const float* scale, const float* offset,         \
                             const float* mean, const float* mean_gradient, const float* slope, int64_t n, int64_t c,  \
                             int64_t s, E* dx) {                                                                       \
      WriteGradients<E, false>(x, dy, added, scale, offset, mean, mean_gradient, slope, n, c, s, dx);                  \
    }                                                                                                                  \
    TARGET static void Add(const E* x, const E* dy, const E* added, const float* scale, const float* offset,           \
                           const float* mean, const float* mean_gradient, const float* slope, int64_t n, int64_t c,    \
                           int64_t s, E* dx) {                                                                         \
      WriteGradients<E, true>(x, dy, added, scale, offset, mean, mean_gradient, slope, n, c, s, dx);                   \
    }                                                                                                                  \
    TARGET static void Linear(const E* dx, const E* x, const float* constant, const float* slope, int64_t n, int64_t c,\
                              int64_t s, E* y) {                                                                       \
      AddLinear(dx, x, constant, slope, n, c, s, y);                                                                   \
    }                                                                                                                  \
    static Kernels<E> All() { return {Sum, Normalize, Gradients, Write, Add, Linear}; }                                \
  };

RADFLOW_KERNELS(Portable, )
#if defined(__x86_64__)
RADFLOW_KERNELS(Avx2, RADFLOW_AVX2)
RADFLOW_KERNELS(Avx512, RADFLOW_AVX512)
#endif

template <typename E>
const Kernels<E>& ChosenKernels() {
  static const Kernels<E> chosen = [] {
#if defined(__x86_64__)
    if (Uses(Instructions::kAvx512)) return Avx512<E>::All();
    if (Uses(Instructions::kAvx2)) return Avx2<E>::All();
#endif
    return Portable<E>::All();
  }();
  return chosen;
}

}  // namespace radflow
