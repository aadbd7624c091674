// float32 and bfloat16 as the loops read and write them: computed in float32, kept as that or as the upper half of it.

#pragma once

#include <cstdint>
#include <cstring>

#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/platform/bfloat16.h"

#define RADFLOW_INLINE inline __attribute__((always_inline))

namespace radflow {

using tensorflow::bfloat16;

RADFLOW_INLINE float AsFloat(uint32_t bits) {
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

inline float Load(const float* value) { return *value; }
inline float Load(const uint16_t* value) { return AsFloat(static_cast<uint32_t>(*value) << 16); }
inline void Store(float* place, float value) { *place = value; }
// Rounds to nearest, ties to even. NaN stays NaN, as computed or of a bfloat16: the lower bits of those are 0.
inline void Store(uint16_t* place, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  *place = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// What a number of TensorFlow's is as bits.
template <typename T>
struct Raw {
  using Type = T;
};
template <>
struct Raw<bfloat16> {
  using Type = uint16_t;
};

template <typename T>
const typename Raw<T>::Type* Data(const tensorflow::Tensor& tensor) {
  return reinterpret_cast<const typename Raw<T>::Type*>(tensor.flat<T>().data());
}
template <typename T>
typename Raw<T>::Type* Data(tensorflow::Tensor* tensor) {
  return reinterpret_cast<typename Raw<T>::Type*>(tensor->flat<T>().data());
}

}  // namespace radflow
