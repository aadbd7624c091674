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
#pragma GCC ivdep  // sums are no maps, which may be float32 too
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

// Sums over so many pixels of the gradient where the output is above 0, and of its product with the centred input.
template <int kPixels, typename E>
RADFLOW_INLINE void SumSomeGradients(const E* x, const E* dy, const float* scale, const float* offset,
                                     const float* mean, int64_t channels, int64_t stride, float* sum, float* product) {
#pragma GCC ivdep  // sums are no maps, which may be float32 too
  for (int64_t j = 0; j < channels; ++j) {
    float s = 0.0f, t = 0.0f;
    for (int q = 0; q < kPixels; ++q) {
      const float value = Load(x + q * stride + j), gradient = Load(dy + q * channels + j);
      const float passed = value * scale[j] + offset[j] > 0.0f ? gradient : 0.0f;
      s += passed;
      t += passed * (value - mean[j]);
    }
    sum[j] += s;
    product[j] += t;
  }
}

template <typename E>
RADFLOW_INLINE void SumGradients(const E* x, const E* dy, const float* scale, const float* offset, const float* mean,
                                 int64_t pixels, int64_t channels, int64_t stride, float* sum, float* product) {
  int64_t p = 0;
  for (; p + kUnrolled <= pixels; p += kUnrolled)
    SumSomeGradients<kUnrolled>(x + p * stride, dy + p * channels, scale, offset, mean, channels, stride, sum, product);
  for (; p < pixels; ++p)
    SumSomeGradients<1>(x + p * stride, dy + p * channels, scale, offset, mean, channels, stride, sum, product);
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
      const float value = Load(from + j), upstream = Load(up + j);
      const float passed = value * scale[j] + offset[j] > 0.0f ? upstream : 0.0f;
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

// y = x * a + z * b + c for each channel, with ReLU or without.
template <typename E, bool kRelu>
RADFLOW_INLINE void CombinePixels(const E* x, const E* z, const float* a, const float* b, const float* c,
                                  int64_t pixels, int64_t channels, E* y) {
  for (int64_t p = 0; p < pixels; ++p, x += channels, z += channels, y += channels) {
    for (int64_t j = 0; j < channels; ++j) {
      const float value = Load(x + j) * a[j] + (Load(z + j) * b[j] + c[j]);
      Store(y + j, kRelu && value < 0.0f ? 0.0f : value);
    }
  }
}

// What of dy passes a ReLU whose output is y, for so many pixels; its sums, and those of its product with the centred x.
template <int kPixels, typename E>
RADFLOW_INLINE void PassSomeGradients(const E* dy, const E* y, const E* x, const float* mean, int64_t channels,
                                      E* passed, float* sum, float* product) {
  // Two loops: in one, what is written could be what is read next, and nothing would be vectorised.
  for (int64_t j = 0; j < kPixels * channels; ++j) {
    const E gradient = dy[j];
    passed[j] = Load(y + j) > 0.0f ? gradient : E{};
  }
#pragma GCC ivdep
  for (int64_t j = 0; j < channels; ++j) {
    float s = 0.0f, t = 0.0f;
    for (int q = 0; q < kPixels; ++q) {
      const float gradient = Load(passed + q * channels + j);
      s += gradient;
      t += gradient * (Load(x + q * channels + j) - mean[j]);
    }
    sum[j] += s;
    product[j] += t;
  }
}

template <typename E>
RADFLOW_INLINE void PassGradients(const E* dy, const E* y, const E* x, const float* mean, int64_t pixels,
                                  int64_t channels, E* passed, float* sum, float* product) {
  int64_t at = 0;
  for (; at + kUnrolled * channels <= pixels * channels; at += kUnrolled * channels)
    PassSomeGradients<kUnrolled>(dy + at, y + at, x + at, mean, channels, passed + at, sum, product);
  for (; at < pixels * channels; at += channels)
    PassSomeGradients<1>(dy + at, y + at, x + at, mean, channels, passed + at, sum, product);
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
  void (*combine)(const E*, const E*, const float*, const float*, const float*, int64_t, int64_t, E*);
  void (*combine_relu)(const E*, const E*, const float*, const float*, const float*, int64_t, int64_t, E*);
  void (*pass)(const E*, const E*, const E*, const float*, int64_t, int64_t, E*, float*, float*);
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
    TARGET static void Combine(const E* x, const E* z, const float* a, const float* b, const float* c, int64_t n,      \
                               int64_t k, E* y) {                                                                      \
      CombinePixels<E, false>(x, z, a, b, c, n, k, y);                                                                 \
    }                                                                                                                  \
    TARGET static void CombineRelu(const E* x, const E* z, const float* a, const float* b, const float* c, int64_t n,  \
                                   int64_t k, E* y) {                                                                  \
      CombinePixels<E, true>(x, z, a, b, c, n, k, y);                                                                  \
    }                                                                                                                  \
    TARGET static void Pass(const E* dy, const E* y, const E* x, const float* mean, int64_t n, int64_t c, E* passed,   \
                            float* sum, float* product) {                                                              \
      PassGradients(dy, y, x, mean, n, c, passed, sum, product);                                                       \
    }                                                                                                                  \
    static Kernels<E> All() {                                                                                          \
      return {Sum, Normalize, Gradients, Write, Add, Linear, Combine, CombineRelu, Pass};                              \
    }                                                                                                                  \
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
